"""As tests of models: their own kernel choices, one thread."""

from models.conftest import one_thread, own_cache

__all__ = ["one_thread", "own_cache"]
