"""Stops of a process at chosen moments."""

import os
import shutil
from pathlib import Path


def kill_at(monkeypatch, first: int) -> list[int]:
    """Let every flush, move and removal from the `first`-th on raise; the list counts them."""
    calls: list[int] = []

    def counted(genuine):
        def maybe(*args, **kwargs):
            calls.append(1)
            if len(calls) >= first:
                raise SystemExit
            return genuine(*args, **kwargs)

        return maybe

    for place, name in [
        (os, "fsync"),
        (Path, "replace"),
        (Path, "unlink"),
        (Path, "rmdir"),
        (shutil, "rmtree"),
    ]:
        monkeypatch.setattr(place, name, counted(getattr(place, name)))
    return calls
