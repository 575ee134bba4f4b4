"""What holds for all tests: no network, no deadline of Hypothesis, and tests marked `gpu` need one."""

import os

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
