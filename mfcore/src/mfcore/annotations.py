"""Reading the annotations of a class: which fields are inputs, and what the others may hold."""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mfcore.errors import NodeUseError, type_name
from mfcore.node import Node


def annotations_of(cls: type) -> Mapping[str, Any]:
    """Return the annotations of a class, evaluated where that is possible.

    One that names something imported for type checkers only stays a string.
    """
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base in (object, Node):
            continue
        namespace = getattr(sys.modules.get(base.__module__), "__dict__", {})
        for name, hint in _own_annotations(base).items():
            if isinstance(hint, typing.ForwardRef):
                hint = hint.__forward_arg__
            if isinstance(hint, str):
                try:
                    hint = eval(hint, namespace, {base.__name__: base})
                except Exception:  # whatever an expression may raise: it is only a hint
                    pass
            hints[name] = hint
    return hints


def _own_annotations(cls: type) -> Mapping[str, Any]:
    if sys.version_info >= (3, 14):
        from annotationlib import Format, get_annotations

        return get_annotations(cls, format=Format.FORWARDREF)
    own: Mapping[str, Any] = vars(cls).get("__annotations__", {})
    return own


def input_kind(hint: Any) -> str | None:
    """Return what an annotation says of a field: ``"node"``, ``"variadic"`` or no input."""
    if hint is Node:
        return "node"
    if typing.get_origin(hint) is tuple and typing.get_args(hint) == (Node, ...):
        return "variadic"
    if isinstance(hint, str):
        text = hint.replace(" ", "")
        if text.rpartition(".")[2] == "Node":
            return "node"
        if text.startswith("tuple[") and text.endswith("Node,...]"):
            return "variadic"
    return None


def holds_nodes(hint: Any) -> bool:
    """Whether an annotation that is no input's speaks of nodes: ``Node | None``, ``list[Node]``."""
    if isinstance(hint, type) and not typing.get_origin(hint):
        return issubclass(hint, Node)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType, list, tuple, Sequence, Iterable):
        return any(holds_nodes(part) for part in typing.get_args(hint))
    return False


def type_validator(hint: Any, name: str) -> Callable[[Any, Any, Any], None] | None:
    """Return an attrs validator for an annotation made of plain classes, else ``None``.

    It raises ``NodeUseError`` for a value of another class; ``name`` is the field's, for that.
    """
    accepted = _accepted_types(hint)
    if accepted is None:
        return None

    def validate(owner: Any, _attribute: Any, value: Any) -> None:
        if isinstance(value, accepted) and (bool in accepted or not isinstance(value, bool)):
            return
        expected = getattr(hint, "__name__", str(hint))
        raise NodeUseError(
            f"{type(owner).__name__}: {name} must be {expected}, not {type_name(value)} {value!r}"
        )

    return validate


def _accepted_types(hint: Any) -> tuple[type, ...] | None:
    if hint is None or hint is type(None):
        return (type(None),)
    if hint is float:
        return (float, int, np.floating, np.integer)
    if hint is int:
        return (int, np.integer)
    if hint is bool:
        return (bool, np.bool_)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [_accepted_types(part) for part in typing.get_args(hint)]
        if any(part is None for part in parts):
            return None
        return tuple(cls for part in parts if part is not None for cls in part)
    origin = typing.get_origin(hint) or hint
    if not isinstance(origin, type) or origin is object:
        return None
    try:
        isinstance(None, origin)
    except TypeError:  # Any, and protocols that cannot be checked at run time
        return None
    return (origin,)
