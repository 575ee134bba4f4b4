"""What tests of both commands that train begin with."""

import pytest


@pytest.fixture
def flags(settings):
    """A short run's settings as they are typed."""

    def make(*args, **more):
        given = {name: value for name, value in settings(*args, **more).items() if value is not None}
        return [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]

    return make
