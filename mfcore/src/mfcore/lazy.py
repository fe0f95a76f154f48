"""Packages whose names are imported when they are first used, so that importing them costs little.

For the ``__init__`` of a pack with many modules::

    if TYPE_CHECKING:
        from mfpack.layers import Dense

    __all__ = ["Dense"]

    lazy_names(__name__, {"mfpack.layers": ["Dense"]})
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any


def lazy_names(package: str, homes: Mapping[str, Iterable[str]]) -> None:
    """Let the names of a package be imported from their modules when they are first used.

    Parameters
    ----------
    package : str
        The package's ``__name__``; to be called while it is imported.
    homes : mapping from str to iterable of str
        By module: the names that are found there.
    """
    module = sys.modules[package]
    vars(module)["_homes"] = {name: home for home, names in homes.items() for name in names}
    module.__class__ = _LazyPackage


class _LazyPackage(ModuleType):
    _homes: dict[str, str]

    def __getattr__(self, name: str) -> Any:
        from importlib import import_module

        if name in self._homes:
            value = getattr(import_module(self._homes[name]), name)
            vars(self)[name] = value
            return value
        module = f"{self.__name__}.{name}"
        if module in self._homes.values():
            return import_module(module)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        # Python sets an attribute whenever it imports a submodule: of one that shares its
        # name with a name of the package, such as ``mfoptim.fit``, the latter is kept.
        if isinstance(value, ModuleType) and name in self._homes:
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *self._homes})
