"""What is written in, below and behind a box of the picture: one node's words."""

from __future__ import annotations

import inspect
import re
import reprlib
import unicodedata
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import attrs
import numpy as np

import mfcore as mf
from mftrace.format import format_array

NAME, LINE, LABEL = 34, 44, 30
"""Columns that a name, a line of a box and a line beside an edge may take."""

SHOWN = 6
"""Elements up to which an array is shown in full."""


def clean(text: str) -> str:
    """Return text with each control character, or one that turns the direction, made visible."""
    return "".join(
        " " if c in "\t\n\r" else "\N{REPLACEMENT CHARACTER}" if _unprintable(c) else c
        for c in text
    )


def _unprintable(character: str) -> bool:
    return (
        unicodedata.category(character) in ("Cc", "Cs", "Cn")
        or "\u202a" <= character <= "\u202e"
        or "\u2066" <= character <= "\u2069"
    )


def columns(text: str) -> int:
    """Return how many columns of a terminal, or of a monospaced font, a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def short(text: str, limit: int) -> str:
    """Return a text on one line, its middle left out where it is longer than ``limit``."""
    text = clean(text)
    if columns(text) <= limit:
        return text
    head, tail = "", ""
    while columns(head) < limit * 2 // 3:
        head += text[len(head)]
    while columns(tail) < limit - columns(head) - 2:
        tail = text[-1 - len(tail)] + tail
    return f"{head}…{tail}"


def kind_of(node: mf.Node) -> str:
    """Return what a node is: ``input``, ``parameter``, ``constant`` or ``operation``."""
    return type(node).__name__.lower() if node.__operation__ is None else "operation"


def type_text(shape: Any, dtype: Any) -> str:
    """Return shape and dtype as ``float64[?, 13]``, what is not known as ``?`` or left out."""
    axes = "" if shape is None else ", ".join("?" if axis is None else str(axis) for axis in shape)
    if shape is None:
        return "" if dtype is None else f"{dtype}[…]"
    if not shape:
        return "scalar" if dtype is None else str(dtype)
    return f"{'' if dtype is None else dtype}[{axes}]"


def declared_type(node: mf.Node) -> str:
    """Return what is known of a node's value before a run."""
    shape, dtype = mf.shape_of(node), mf.dtype_of(node)
    if isinstance(node, mf.Input):
        shape, dtype = node.shape, node.dtype
    return type_text(shape, dtype)


def value_lines(value: Any) -> list[str]:
    """Return a value for the side of an edge: its type and, if it is small, its numbers."""
    array = np.asarray(value)
    kind = type_text(array.shape, array.dtype)
    if array.size > SHOWN or not array.size:
        return [kind]
    lines = format_array(array, precision=4).splitlines()
    if len(lines) > 4 or max(map(len, lines)) > LABEL:
        return [kind]
    return [f"{lines[0]}  {kind}"] if not array.ndim else [kind, *lines]


def gradient_text(gradient: Any) -> str:
    """Return a gradient on one line: its numbers if they are few, else its Euclidean norm."""
    array = np.asarray(gradient)
    if array.size <= SHOWN:
        text = " ".join(line.strip() for line in format_array(array, precision=4).splitlines())
        if columns(text) <= LABEL:
            return text
    scale = float(np.max(np.abs(array), initial=0.0))
    if not 0 < scale < np.inf:  # all zero, or not finite
        return f"norm {format_array(scale, precision=4)}"
    norm = scale * float(np.linalg.norm((array / scale).ravel()))
    return f"norm {format_array(norm, precision=4)}"


def call_text(graph: mf.Graph, node: mf.Node) -> str:
    """Return an operation as it could have been written: ``Linear(X, W1, b1)``."""
    spec = mf.spec_of(node)
    operation: Any = type(node)
    names = [graph.name(source) for source in node.inputs[:5]]
    arguments = [short(name, 16) for name in names[:4]] + ["…"] * (len(names) > 4)
    for field, default in defaults_of(operation).items():
        value = getattr(node, field)
        if repr(value) != default:
            arguments.append(f"{field}={_argument(value)}")
    return f"{spec.name}({', '.join(arguments)})"


def _argument(value: Any) -> str:
    if isinstance(value, type):
        return value.__name__
    return str(value) if isinstance(value, np.dtype) else reprlib.repr(value)


@lru_cache
def defaults_of(operation: type[Any]) -> dict[str, str]:
    """Return each hyperparameter's default as text, ``""`` for none."""
    defaults = {}
    for name in mf.spec_of(operation).hyperparameters:
        default: Any = attrs.fields_dict(operation)[name].default
        if hasattr(default, "factory") and not default.takes_self:
            default = default.factory()
        defaults[name] = "" if default is attrs.NOTHING else repr(default)
    return defaults


@lru_cache
def formula(operation: type[Any]) -> str:
    """Return the formula in the first sentence of an operation's docstring; ``""`` without one."""
    first = (inspect.getdoc(operation) or "").split("\n\n", maxsplit=1)[0].replace("\n", " ")
    found = re.search(r"``(.+?)``", first)
    if found is None or mf.spec_of(operation).variadic:
        return ""
    text = found[1]
    # A formula calculates: a lone name, or a part of an array, is none.
    return text if re.search(r"\s[-+*/@<>=]|^-|\w\(", text) else ""


def tooltip(graph: mf.Graph, node: mf.Node, value: Any = None, gradient: Any = None) -> str:
    """Return all that there is to say of a node, one thing a line."""
    file, line = node.site
    name, kind = clean(graph.name(node)), node.qualified_name()
    pack, _, operation = kind.partition(".")
    lines = [short(name, 200)]
    if node.__operation__ is None:
        lines.append(f"{operation.lower()} (of {pack})")
    else:
        lines.append(f"operation {operation} of the pack {pack}")
        spec = mf.spec_of(node)
        fields = spec.input_names(len(node.inputs))
        for field, source in list(zip(fields, node.inputs))[:8]:
            lines.append(f"  {field} = {short(graph.name(source), 60)}")
        if len(node.inputs) > 8:
            lines.append(f"  and {len(node.inputs) - 8} more inputs")
    lines.append(f"{declared_type(node) or 'shape and dtype not known before a run'}")
    if value is not None:
        lines.append(f"value {format_array(value, limit=16)}")
    if gradient is not None:
        lines.append(f"gradient {format_array(gradient, limit=16)}")
    lines.append(f"built at {clean(PurePath(file).name)}:{line}")
    return "\n".join(lines)
