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
from .flex import block_mask, mask_mod
from .intervals import Intervals
from .lowerings import Counts, Varlen, additive, column_intervals, count, varlen
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
from .text import ParseError, parse
from .tiles import BlockLists, BlockStructure, block_structure

__all__ = [
    "And",
    "BlockLists",
    "BlockStructure",
    "Blocks",
    "Chunked",
    "Counts",
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
    "ParseError",
    "Prefix",
    "RandomBlocks",
    "RandomDrop",
    "Segments",
    "Strided",
    "Tree",
    "Varlen",
    "Visible",
    "Window",
    "additive",
    "block_mask",
    "block_structure",
    "blocks",
    "causal",
    "chunked",
    "column_intervals",
    "count",
    "dilated",
    "documents",
    "from_dense",
    "from_mask_mod",
    "full",
    "global_tokens",
    "mask_mod",
    "padding",
    "parse",
    "prefix",
    "random_blocks",
    "random_drop",
    "segments",
    "strided",
    "tree",
    "varlen",
    "visible",
    "window",
]
