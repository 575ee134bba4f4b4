"""Side-by-side measurements; no time is reported before parity.

workloads     texts                           contestants_*  who computes them, and how
parts         who meets whom                  floor          the least time there is
parity        are the results the model's     measure        times, taken in turns
run           bench(settings)                 compare        side_by_side, training_side_by_side
report, page  what was found
"""

from .compare import Comparison, side_by_side, training_side_by_side
from .parity import ParityError
from .settings import PARTS, WORKLOADS, Settings

__all__ = [
    "PARTS",
    "WORKLOADS",
    "Comparison",
    "ParityError",
    "Settings",
    "side_by_side",
    "training_side_by_side",
]
