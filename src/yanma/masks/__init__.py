"""Who may read whom: mask expressions.

>>> print((documents([3, 2]) & causal()).show())
#....
##...
###..
...#.
...##
"""

from .tree import (
    And,
    Dense,
    Documents,
    Full,
    Mask,
    Not,
    Or,
    Padding,
    Window,
    causal,
    documents,
    from_dense,
    full,
    padding,
    window,
)

__all__ = [
    "And",
    "Dense",
    "Documents",
    "Full",
    "Mask",
    "Not",
    "Or",
    "Padding",
    "Window",
    "causal",
    "documents",
    "from_dense",
    "full",
    "padding",
    "window",
]
