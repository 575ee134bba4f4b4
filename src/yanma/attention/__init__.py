"""attention(): one function, several exact backends, and explain() for which of them was chosen and why.

Beside it masks that depend on content: `adaptive_attention`, and `AdaptiveSpan`, which learns its windows.
"""

import sys

from ..callable_package import CallablePackage
from .adaptive import Selection, adaptive_attention, threshold, topk_keys
from .api import BACKENDS, Backend, Choice, attention, explain
from .problem import Cost, Problem
from .span import AdaptiveSpan

__all__ = [
    "BACKENDS",
    "AdaptiveSpan",
    "Backend",
    "Choice",
    "Cost",
    "Problem",
    "Selection",
    "adaptive_attention",
    "attention",
    "explain",
    "threshold",
    "topk_keys",
]

sys.modules[__name__].__class__ = CallablePackage
