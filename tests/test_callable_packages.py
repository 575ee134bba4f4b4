"""Every spelling of `attention` and `audit` gives what it says: a call, or a package. mypy checks this file too."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import sys
from types import ModuleType
from typing import Any, assert_type

import pytest
import torch
from torch import Tensor

import yanma
import yanma.attention as attention_package
import yanma.attention.adaptive as adaptive
import yanma.audit as audit_package
from yanma import attention, audit
from yanma.attention import attention as attention_function
from yanma.audit import Audit
from yanma.audit import audit as audit_function
from yanma.masks import causal

PACKAGES = ["attention", "audit"]


def qkv() -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = torch.arange(120.0).view(3, 5, 2, 4).sin()
    return q, k, v


def mean(documents: list[list[int]]) -> list[Tensor]:
    return [torch.tensor(document).double().mean() for document in documents]


def test_attention_is_called_by_any_of_its_names() -> None:
    called = attention_function(*qkv(), causal())
    assert_type(yanma.attention(*qkv(), causal()), Tensor)
    assert_type(attention_package.attention(*qkv(), causal()), Tensor)
    assert torch.equal(yanma.attention(*qkv(), causal()), called)
    assert torch.equal(attention(*qkv(), causal()), called)
    assert torch.equal(attention_package.attention(*qkv(), causal()), called)


def test_an_audit_is_called_by_any_of_its_names() -> None:
    documents = [[5, 6, 7], [8, 9]]
    assert_type(yanma.audit(mean, documents), Audit)
    said = str(audit_function(mean, documents))
    assert str(yanma.audit(mean, documents)) == said == str(audit(mean, documents))
    assert str(audit_package.audit(mean, documents)) == said


def test_a_package_is_imported_by_its_name_with_all_that_stands_in_it() -> None:
    assert attention_package.topk_keys is adaptive.topk_keys
    assert attention_package.explain is sys.modules["yanma.attention.api"].explain
    assert audit_package.every_way is sys.modules["yanma.audit.report"].every_way


@pytest.mark.parametrize("name", PACKAGES)
def test_the_package_of_the_import_system_is_the_one_that_is_called(name: str) -> None:
    package: Any = importlib.import_module(f"yanma.{name}")
    assert package is getattr(yanma, name) and isinstance(package, ModuleType) and callable(package)
    assert all(hasattr(package, public) for public in package.__all__)
    function = getattr(package, name)
    assert inspect.isfunction(function) and inspect.signature(package) == inspect.signature(function)


@pytest.mark.parametrize("name", PACKAGES)
def test_what_is_called_is_pickled_and_copied_by_its_name(name: str) -> None:
    called = getattr(yanma, name)
    assert pickle.loads(pickle.dumps(called)) is called
    assert copy.deepcopy(called) is called


def test_errors_are_the_functions() -> None:
    unknown: Any = {"heads": 2}
    with pytest.raises(TypeError, match=r"^attention\(\) got an unexpected keyword argument 'heads'"):
        yanma.attention(*qkv(), **unknown)
