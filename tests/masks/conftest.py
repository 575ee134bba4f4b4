"""Hypothesis without a deadline: the first call of a torch function may take long."""

from hypothesis import settings

settings.register_profile("without-deadline", deadline=None)
settings.load_profile("without-deadline")
