"""What a pack must keep to: what its hooks return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from mfcore.discovery import KINDS
from mfcore.errors import DefinitionError

if TYPE_CHECKING:
    import pluggy


def collect(hook_of: pluggy.HookRelay, name: str) -> dict[str, dict[str, Any]]:
    """Ask one plugin, alone, for all that it provides; raise if anything of it is wrong."""
    provides: dict[str, dict[str, Any]] = {}
    for kind, hook in KINDS.items():
        classes: dict[str, Any] = {}
        for returned in getattr(hook_of, hook)():
            for cls in returned:
                check_provided(kind, cls, name)
                label = label_of(kind, cls)
                if classes.setdefault(label, cls) is not cls:
                    raise DefinitionError(f"pack {name} provides two {kind}s named {label!r}")
        provides[kind] = classes
    return provides


_BY_CLASS_NAME = ("operation", "optimizer", "schedule")


def label_of(kind: str, cls: Any) -> str:
    """Return the name under which a class is provided."""
    name: str = cls.__name__ if kind in _BY_CLASS_NAME else cls.name
    return name


def check_provided(kind: str, cls: Any, name: str) -> None:
    """Raise ``DefinitionError`` unless a class of the pack ``name`` is what its kind asks for."""
    if kind == "operation":
        from mfcore.node import Node

        right = isinstance(cls, type) and issubclass(cls, Node) and cls.__operation__ is not None
        what = "a class decorated with @operation"
    elif kind == "optimizer":
        right = isinstance(cls, type) and "__optimizer__" in vars(cls)
        what = "a class decorated with @optimizer"
    elif kind == "schedule":
        right = isinstance(cls, type) and attrs.has(cls) and _can_be_called(cls)
        what = "a class decorated with @attrs.frozen that has a method `__call__(step)`"
    elif kind == "engine":
        from mfcore.engine import Engine

        right = isinstance(cls, type) and issubclass(cls, Engine) and bool(getattr(cls, "name", ""))
        what = "a subclass of mfcore.Engine with a name"
    elif kind == "drawer":
        right = (
            isinstance(cls, type)
            and isinstance(getattr(cls, "name", None), str)
            and isinstance(getattr(cls, "suffixes", None), tuple)
            and callable(getattr(cls, "draw", None))
        )
        what = "a class with class attributes `name` and `suffixes` (a tuple) and a method `draw`"
    else:
        right = isinstance(cls, type) and isinstance(getattr(cls, "name", None), str)
        what = "a class with a class attribute `name`"
    if not right:
        raise DefinitionError(f"pack {name}: {KINDS[kind]} returned {cls!r}, which is not {what}")


def _can_be_called(cls: type) -> bool:
    """Whether the instances of a class can be called; every class itself can."""
    return any("__call__" in vars(base) for base in cls.__mro__)
