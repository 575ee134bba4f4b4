"""What `torch.autocast` does to the arguments of a product or of attention, for those that have ways of their own."""

from __future__ import annotations

import torch
from torch import Tensor


def as_cast(x: Tensor) -> Tensor:
    """`x` in autocast's dtype where autocast is on for its device; integers and float64 as they are, as with torch.

    >>> x = torch.ones(2)
    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     as_cast(x).dtype, as_cast(x.double()).dtype
    (torch.bfloat16, torch.float64)
    """
    kind = x.device.type
    if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
        return x
    if not x.is_floating_point() or x.dtype == torch.float64:
        return x
    return x.to(torch.get_autocast_dtype(kind))
