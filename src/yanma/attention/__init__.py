"""attention(): one function, several exact backends, and explain() for which of them was chosen and why."""

from .api import BACKENDS, Backend, Choice, attention, explain
from .problem import Cost, Problem

__all__ = ["BACKENDS", "Backend", "Choice", "Cost", "Problem", "attention", "explain"]
