"""What holds for all tests: no network, no deadline of Hypothesis, and tests marked `gpu` need one."""

import os
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import settings

# huggingface_hub reads this when it is first imported; processes that tests start inherit it.
os.environ["HF_HUB_OFFLINE"] = "1"

# The first call of a torch function may take long, and so does any on a busy machine.
settings.register_profile("without-deadline", deadline=None)
settings.load_profile("without-deadline")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def own_accelerator() -> Iterator[None]:
    """accelerate keeps one precision a process: that of a test begins and ends with it."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Exit code, stdout and stderr of a command."""
    from yanma import cli

    def started(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return caught.value.code, printed.out, printed.err

    return started
