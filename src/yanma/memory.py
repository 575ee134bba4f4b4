"""Settings of the C library's allocator for long runs."""

from __future__ import annotations

import ctypes
import sys

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
