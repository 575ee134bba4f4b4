"""Plots are matplotlib's, which is not there everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import Unsupported

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure_class(who_needs: str, otherwise: str = "") -> type[Figure]:
    """matplotlib's figure, which belongs to no window, so nothing is left to close.

    Raises Unsupported where it is missing: `who_needs` the package, and what can be had without it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        install = "pip install matplotlib (or the extra `plot`)"
        raise Unsupported(f"{who_needs} the package matplotlib: {install}{otherwise}") from error
    return Figure
