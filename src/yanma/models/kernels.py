"""Which kernel multiplies matrices faster on this machine: measured once, in a fraction of a second, and remembered.

The choice is kept in a file, so that every process on one machine takes the same kernels and computes the same bits;
of processes that measure at the same time, the first to write decides for all.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..machine import chip

ROWS, IN, OUT = 2048, 384, 1536
_DTYPES = (torch.float32, torch.bfloat16)
_TIE = 0.03
"""Speeds closer than this share are a tie: which of them is the faster may change from one measurement to the next."""


@dataclass(frozen=True)
class Kernels:
    """The faster kernel for each of two products (`torch` or `onednn`), with both speeds in GFLOP/s."""

    forward: str
    weight_gradient: str
    gflops: dict[str, float]
    reason: str
    measured: str = ""
    """When, in UTC; "" where nothing had to be measured."""

    def __str__(self) -> str:
        speeds = ", ".join(f"{name} {speed:.0f}" for name, speed in self.gflops.items())
        when = f"; {self.measured}" if self.measured else ""
        return f"forward {self.forward}, weight gradient {self.weight_gradient}: {self.reason}" + (
            f" (GFLOP/s: {speeds}{when})" if speeds else ""
        )


def fastest(dtype: torch.dtype, device: torch.device) -> Kernels:
    """The kernels for a dtype and torch's number of threads: from an earlier measurement's file, or measured now."""
    return chosen(dtype, device, torch.get_num_threads())


@lru_cache(maxsize=64)
def chosen(dtype: torch.dtype, device: torch.device, threads: int) -> Kernels:
    """What `fastest` gives while torch has this number of threads."""
    if device.type != "cpu":
        return Kernels("torch", "torch", {}, f"the choice is between CPU kernels, and this is {device.type}")
    if dtype not in _DTYPES:
        return Kernels("torch", "torch", {}, f"oneDNN is used for float32 and bfloat16, and this is {dtype}")
    if not has_onednn(dtype, device):
        return Kernels("torch", "torch", {}, "this torch has no oneDNN product")
    return _remembered(dtype) or _measured_and_kept(dtype)


@lru_cache(maxsize=64)
def has_onednn(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether oneDNN's product can be called by itself for a dtype and device."""
    is_there = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
    return device.type == "cpu" and dtype in _DTYPES and is_there


def cache_file(dtype: torch.dtype) -> Path:
    """Where the choice is kept; the name tells torch, chip, instruction set and threads apart."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    parts = (
        torch.__version__,
        chip(),
        torch.backends.cpu.get_cpu_capability(),
        f"{torch.get_num_threads()}t",
        dtype,
    )
    name = "-".join(str(part) for part in parts)
    return (
        root / "yanma" / "kernels" / ("".join(c if c.isalnum() or c in "-." else "_" for c in name) + ".json")
    )


def _remembered(dtype: torch.dtype) -> Kernels | None:
    return _read(cache_file(dtype))


def _read(path: Path) -> Kernels | None:
    try:
        return Kernels(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _measured_and_kept(dtype: torch.dtype) -> Kernels:
    measured = replace(_measure(dtype), measured=f"{datetime.now(UTC):%Y-%m-%d %H:%M}")
    with contextlib.suppress(OSError):  # a read-only home: measured anew by each process
        _keep(measured, cache_file(dtype))
    return _remembered(dtype) or measured


def _keep(kernels: Kernels, path: Path) -> None:
    """Write the file, whole, unless another process was faster to write one that can be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    try:
        beside.write_text(json.dumps(asdict(kernels)))
        try:
            os.link(beside, path)
        except OSError:  # there is a file, or this file system has no links
            if _read(path) is None:
                beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@torch.no_grad()
def _measure(dtype: torch.dtype) -> Kernels:
    rows, weight, grad = (
        torch.ones(ROWS, IN, dtype=dtype),
        torch.ones(OUT, IN, dtype=dtype),
        torch.ones(ROWS, OUT, dtype=dtype),
    )
    product = torch.ops.mkldnn._linear_pointwise

    def onednn(a: Tensor, b: Tensor) -> Tensor:
        out: Tensor = product(a, b, None, "none", [], "")
        return out

    contest = {
        "forward torch": lambda: F.linear(rows, weight),
        "forward onednn": lambda: onednn(rows, weight),
        "gradient torch": lambda: grad.t() @ rows,
        "gradient onednn": lambda: onednn(grad.t(), rows.t()),
    }
    return _decided(_race(contest))


def _decided(gflops: dict[str, float]) -> Kernels:
    """The faster of each pair; of two alike, oneDNN for the forward: its rows do not depend on how many there are."""
    ours, theirs = gflops["forward onednn"], gflops["forward torch"]
    forward = "onednn" if ours > theirs * (1 - _TIE) else "torch"
    # With torch's forward, torch's own autograd computes the gradients.
    wins = gflops["gradient onednn"] > gflops["gradient torch"]
    gradient = "onednn" if forward == "onednn" and wins else "torch"
    reason = "the faster as measured on this machine"
    if abs(ours - theirs) < _TIE * theirs:
        reason = f"as fast as torch's within {_TIE:.0%}, and its rows do not depend on the batch".replace(
            "%", " %"
        )
    return Kernels(forward, gradient, gflops, reason)


def _race(contest: dict[str, Callable[[], Tensor]]) -> dict[str, float]:
    """GFLOP/s of each, the best of eight, taken in turns so that a slow moment of the machine hits all alike."""
    best = dict.fromkeys(contest, float("inf"))
    for turn in range(10):
        for name, run in contest.items():
            start = time.perf_counter()
            run()
            if turn >= 2:
                best[name] = min(best[name], time.perf_counter() - start)
    return {name: 2 * ROWS * IN * OUT / seconds / 1e9 for name, seconds in best.items()}
