"""pytest plugin of scripts/peer_tests.py: each model that a test sets up is unpadded, and what came of it is recorded.

    pytest -p peer_plugin --record FILE              record only
    pytest -p peer_plugin --record FILE --unpadded   the same, with unpadded models

A test sets a model up by `to`, `train` or `eval`, which `from_pretrained` calls too; there the outermost model that
`unpad` knows is unpadded. Where a test then chooses an attention by `set_attn_implementation`, it has the stock model.
"""

from __future__ import annotations

import functools
import json
import linecache
import random
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

import yanma
from yanma.models import interface
from yanma.models.known import recognise
from yanma.models.sentence import is_sentence_model
from yanma.models.unpad import is_unpadded_one
from yanma.models.wrapped import inner_models, is_peft_model

YANMA = str(Path(yanma.__file__).parent)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("peers")
    group.addoption("--record", type=Path, help="file to write outcomes to, one JSON object a line")
    group.addoption("--unpadded", action="store_true", help="unpad the models that tests set up")


def pytest_configure(config: pytest.Config) -> None:
    record = config.getoption("record")
    if record is not None:
        unpadding = Unpadding() if config.getoption("unpadded") else None
        config.pluginmanager.register(Recorder(record, unpadding))


class Recorder:
    """Writes a line for each test: its outcome, what its failures say, and whether unpadded models were in it."""

    def __init__(self, path: Path, unpadding: Unpadding | None) -> None:
        self.path, self.unpadding = path, unpadding
        self.outcomes: dict[str, set[str]] = defaultdict(set)
        self.failures: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_setup(self) -> None:
        random.seed(0)
        torch.manual_seed(0)
        if self.unpadding is not None:
            self.unpadding.count = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self.seconds[item.nodeid] += report.duration if report.when == "call" else 0
        self.outcomes[item.nodeid].add(report.outcome)
        if report.failed and call.excinfo is not None:
            self.failures[item.nodeid].append(said(call.excinfo.value))
        return report

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        seen = self.outcomes.pop(nodeid, {"skipped"})
        outcome = next(outcome for outcome in ("failed", "skipped", "passed") if outcome in seen)
        count = 0 if self.unpadding is None else self.unpadding.count
        failures = self.failures.pop(nodeid, [])
        with self.path.open("a", encoding="utf-8") as file:
            record = {"test": nodeid, "outcome": outcome, "unpadded": count, "failures": failures}
            file.write(json.dumps(record | {"seconds": round(self.seconds.pop(nodeid, 0), 1)}) + "\n")


def said(error: BaseException) -> dict[str, Any]:
    """What a failure says, and whether it is yanma that refuses: there, or in what it came of."""
    for cause in causes(error):
        # A test that runs in another process fails with the other's traceback as its message.
        _, name, message = str(cause).rpartition("yanma.errors.Unsupported: ")
        if name:
            return {"refused": True, "says": message.splitlines()[0]}
        if isinstance(cause, ValueError) and is_raised_in(cause, YANMA):
            return {"refused": True, "says": str(cause)}
    return {"refused": False, "says": f"{type(error).__name__}: {error}"[:2000]}


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and those that it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_raised_in(error: BaseException, folder: str) -> bool:
    """Whether a file in that folder raised an exception by a statement, and it did not befall it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    path = trace.tb_frame.f_code.co_filename
    return path.startswith(folder) and linecache.getline(path, trace.tb_lineno).lstrip().startswith("raise ")


class Unpadding:
    """Patches torch's `to` and `train` and transformers' `set_attn_implementation` for as long as the process lives."""

    def __init__(self) -> None:
        self.count = 0
        self.depth = 0
        self.chose_attention: WeakSet[nn.Module] = WeakSet()
        for name in ("to", "train"):
            setattr(nn.Module, name, self.then_unpad(getattr(nn.Module, name)))
        forwards: Any = import_module("yanma.models.unpad")  # by its name there is the function
        forwards.run_with = self.counted(forwards.run_with)
        chosen = self.restored_first(PreTrainedModel.set_attn_implementation)
        PreTrainedModel.set_attn_implementation = chosen  # type: ignore[method-assign]

    def counted(self, run_with: Callable[..., Any]) -> Callable[..., Any]:
        """Count forwards too: many tests are given a copy of a model that was unpadded before them."""

        @functools.wraps(run_with)
        def called(*args: Any) -> Any:
            self.count += 1
            return run_with(*args)

        return called

    def then_unpad(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(stock)
        def called(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            self.depth += 1  # train calls itself for what is within
            try:
                result = stock(module, *args, **kwargs)
            finally:
                self.depth -= 1
            if self.depth == 0:
                self.unpad(module)
            return result

        return called

    def restored_first(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(stock)
        def called(model: PreTrainedModel, implementation: Any, *args: Any, **kwargs: Any) -> Any:
            if implementation != interface.NAME and is_unpadded_one(model):
                yanma.restore(model)
                self.chose_attention.add(model)
            return stock(model, implementation, *args, **kwargs)

        return called

    def unpad(self, module: nn.Module) -> None:
        """Unpad a module that `unpad` knows; what it refuses of such a module fails the test."""
        if not self.wanted(module):
            return
        for part in module.modules():
            if is_unpadded_one(part) and part not in inner_models(module):
                yanma.restore(part)  # it was set up before it became a part
        if not yanma.models.api.is_unpadded(module):
            self.count += 1
        yanma.unpad(module)

    def wanted(self, module: nn.Module) -> bool:
        is_wrapper = is_sentence_model(module) or is_peft_model(module)
        if not (is_wrapper or isinstance(module, PreTrainedModel)):
            return False
        try:
            inner = inner_models(module)
            for model in inner:
                recognise(model)
        except yanma.Unsupported:
            return False
        is_part = hasattr(type(module), "_yanma_stock") and not is_unpadded_one(module)
        return bool(inner) and not is_part and not self.chose_attention.intersection(inner)
