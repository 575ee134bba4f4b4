"""This machine: its processor and packages; the process's memory: what the allocator gives back and oneDNN keeps."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # numbers of glibc's malloc.h
_KEEP_BYTES = 2**30


def keep_buffers() -> bool:
    """Let glibc keep freed buffers up to 1 GiB instead of giving each back to the system; True where that was done.

    Otherwise every step asks for its large buffers anew, and the system hands them over page by page.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES) and mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES))


def give_back() -> None:
    """Hand what is kept back to the system after all, where others need the memory now."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # not glibc
            ctypes.CDLL(None).malloc_trim(0)


def bound_kernel_caches() -> None:
    """Let oneDNN keep 64 kernels instead of 1024, unless the environment says how many.

    Call it before the first product.

    It keeps one for each number of rows that it has met, 1 to 3 MB each, and packs differ in their rows: a process
    would grow by a gigabyte or two. Making a kernel anew costs no time that could be measured.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "64")


def peak_mib() -> float | None:
    """The most memory that this process has held so far, in MiB; None where the system does not tell (not Linux).

    `resource.getrusage` would count what the parent held before it started this process.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) / 1024


@cache
def chip() -> str:
    """The name, with family and model where the system tells them: some names say little."""
    facts: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    if "model name" not in facts:
        return platform.processor() or platform.machine()
    return f"{facts['model name']} (family {facts.get('cpu family')}, model {facts.get('model')})"


def installed(*packages: str) -> dict[str, str]:
    """Versions of those that are; yanma itself is not where it is run from a checkout."""
    found = {}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
