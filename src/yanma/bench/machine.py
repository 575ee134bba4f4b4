"""Where and with what was measured."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch

from ..machine import chip
from ..models.kernels import fastest

PACKAGES = ("yanma", "torch", "transformers", "sentence-transformers", "onnxruntime", "ctranslate2", "numpy")


@dataclass(frozen=True)
class Machine:
    """What the numbers hold for."""

    date: str
    device: str
    cores: int
    threads: int
    instructions: str
    system: str
    python: str
    versions: dict[str, str]
    """Of the packages that took part; those not installed are missing."""
    kernels: dict[str, str]
    """Which product yanma takes for each precision, and why."""


def here() -> Machine:
    """This machine, now."""
    cpu = torch.device("cpu")
    return Machine(
        date=datetime.now(UTC).date().isoformat(),
        device=chip(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions={name: found for name in PACKAGES if (found := _version(name)) is not None},
        kernels={"fp32": str(fastest(torch.float32, cpu)), "bf16": str(fastest(torch.bfloat16, cpu))},
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
