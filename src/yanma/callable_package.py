"""Packages that can be called, as the function that they are named after.

`yanma.attention` is the function that nearly everyone wants, and the package that holds it beside its relatives. A name
has one value, and `import yanma.attention as A` reads it from `yanma`: were it the function, there would be no way to
the package. So it is the package, and calling it calls the function.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package of which a function has the package's own name: `sys.modules[__name__].__class__ = CallablePackage`."""

    @property
    def _function(self) -> Callable[..., Any]:
        found: Callable[..., Any] = vars(self)[self.__name__.rpartition(".")[2]]
        return found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and copied by its name, as functions are."""
        return importlib.import_module, (self.__name__,)
