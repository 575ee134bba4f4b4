"""Baselines that cannot take part, and why: told in the report, not failed."""

from __future__ import annotations

from importlib.util import find_spec


class Absent(Exception):
    """A baseline cannot take part; the message says why."""


def need(*modules: str) -> None:
    """Raise Absent, with what to install, where a module is not installed."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise Absent(f"not installed: {', '.join(missing)} (pip install 'yanma[bench]')")
