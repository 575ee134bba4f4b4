"""Which kernel multiplies matrices faster on this machine: measured once, in a fraction of a second, and remembered.

The choice is kept in a file, so that every process on one machine takes the same kernels and computes the same bits.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS, IN, OUT = 2048, 384, 1536
_DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Kernels:
    """The faster kernel for each of two products (`torch` or `onednn`), with both speeds in GFLOP/s."""

    forward: str
    weight_gradient: str
    gflops: dict[str, float]
    reason: str

    def __str__(self) -> str:
        speeds = ", ".join(f"{name} {speed:.0f}" for name, speed in self.gflops.items())
        return f"forward {self.forward}, weight gradient {self.weight_gradient}: {self.reason}" + (
            f" (GFLOP/s: {speeds})" if speeds else ""
        )


@lru_cache(maxsize=16)
def fastest(dtype: torch.dtype, device: torch.device) -> Kernels:
    """The kernels for a dtype: from the file of an earlier measurement, or measured now."""
    if device.type != "cpu":
        return Kernels("torch", "torch", {}, f"the choice is between CPU kernels, and this is {device.type}")
    if dtype not in _DTYPES:
        return Kernels("torch", "torch", {}, f"oneDNN is used for float32 and bfloat16, and this is {dtype}")
    if not has_onednn(dtype, device):
        return Kernels("torch", "torch", {}, "this torch has no oneDNN product")
    return _remembered(dtype) or _measured_and_kept(dtype)


def has_onednn(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether oneDNN's product can be called by itself for a dtype and device."""
    is_there = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
    return device.type == "cpu" and dtype in _DTYPES and is_there


def cache_file(dtype: torch.dtype) -> Path:
    """Where the choice is kept; the name tells torch, chip, instruction set and threads apart."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    parts = (
        torch.__version__,
        _chip(),
        torch.backends.cpu.get_cpu_capability(),
        f"{torch.get_num_threads()}t",
        dtype,
    )
    name = "-".join(str(part) for part in parts)
    return (
        root / "yanma" / "kernels" / ("".join(c if c.isalnum() or c in "-." else "_" for c in name) + ".json")
    )


def _remembered(dtype: torch.dtype) -> Kernels | None:
    try:
        return Kernels(**json.loads(cache_file(dtype).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _measured_and_kept(dtype: torch.dtype) -> Kernels:
    kernels = _measure(dtype)
    path = cache_file(dtype)
    with contextlib.suppress(OSError):  # a read-only home: measured anew by each process
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(asdict(kernels)))
        beside.replace(path)
    return kernels


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
    gflops = _race(contest)
    forward = "onednn" if gflops["forward onednn"] > gflops["forward torch"] else "torch"
    # With torch's forward, torch's own autograd computes the gradients.
    wins = gflops["gradient onednn"] > gflops["gradient torch"]
    gradient = "onednn" if forward == "onednn" and wins else "torch"
    return Kernels(forward, gradient, gflops, "the faster as measured on this machine")


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


def _chip() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
