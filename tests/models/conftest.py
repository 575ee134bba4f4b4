"""Tests of models neither read nor write the kernel choices of the machine's user."""

from collections.abc import Iterator

import pytest

from yanma.models import kernels


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        kernels.chosen.cache_clear()
        yield
    kernels.chosen.cache_clear()
