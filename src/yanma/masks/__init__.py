"""Who may read whom: mask expressions.

>>> print((documents([3, 2]) & causal()).show())
#....
##...
###..
...#.
...##
"""

from .algebra import (
    And,
    Documents,
    Full,
    Not,
    Or,
    Window,
    causal,
    documents,
    full,
    window,
)
from .flat import Dense, Function, Padding, from_dense, from_mask_mod, padding
from .intervals import Intervals
from .mask import Mask
from .patterns import Blocks, RandomBlocks, RandomDrop, blocks, random_blocks, random_drop
from .per_document import DocumentMask
from .positions import (
    Chunked,
    Dilated,
    GlobalTokens,
    Prefix,
    Strided,
    chunked,
    dilated,
    global_tokens,
    prefix,
    strided,
)
from .structure import Segments, Tree, Visible, segments, tree, visible

__all__ = [
    "And",
    "Blocks",
    "Chunked",
    "Dense",
    "Dilated",
    "DocumentMask",
    "Documents",
    "Full",
    "Function",
    "GlobalTokens",
    "Intervals",
    "Mask",
    "Not",
    "Or",
    "Padding",
    "Prefix",
    "RandomBlocks",
    "RandomDrop",
    "Segments",
    "Strided",
    "Tree",
    "Visible",
    "Window",
    "blocks",
    "causal",
    "chunked",
    "dilated",
    "documents",
    "from_dense",
    "from_mask_mod",
    "full",
    "global_tokens",
    "padding",
    "prefix",
    "random_blocks",
    "random_drop",
    "segments",
    "strided",
    "tree",
    "visible",
    "window",
]
