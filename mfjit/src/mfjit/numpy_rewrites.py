"""Rewriting a lowered program into the instructions that NumPy runs fastest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from mfjit.fuse import Group
from mfjit.ir import ELEMENTWISE, Lowered, Shape, Value
from mfjit.layout import Layout

Rule: TypeAlias = Callable[[Value, tuple[Value, ...]], Value | None]

NUMPY_ELEMENTWISE = ELEMENTWISE | {"mask", "masked", "expand"}
"""What fuses into loops here.

``mask`` (of a bool): an integer as wide as the result, 1 where it is true, else 0.
``masked`` (x, mask): the bits of x times the mask: x or 0, exact for NaN and infinities.
``expand`` (x): x, repeated to the result's shape and laid out without gaps.
"""

_NEED_ARRAYS = frozenset({"maximum", "minimum", "fmax", "fmin"})
"""Ufuncs that take several times as long where one operand is a number."""

TILED_BYTES = 1 << 17
"""Loops over more bytes than this per operand run tile by tile, others array by array."""

_WORDS: dict[int, np.dtype[Any]] = {4: np.dtype(np.int32), 8: np.dtype(np.int64)}


def rewritten(lowered: Lowered, rule: Rule, found: dict[Value, Value] | None = None) -> Lowered:
    """Return the program with values replaced.

    ``rule(value, args)`` sees each value with the arguments that it has by then, and returns
    what replaces it, or ``None``. What each value became is added to ``found``.
    """
    found = {} if found is None else found
    for value in lowered.values:
        args = tuple([found[arg] for arg in value.args])
        result = rule(value, args)
        if result is None:
            result = _with_args(value, args)
        found[value] = result
    return Lowered(
        inputs=lowered.inputs,
        parameters=lowered.parameters,
        states=lowered.states,
        settings=lowered.settings,
        outputs=[found[value] for value in lowered.outputs],
        updates=[(leaf, found[new]) for leaf, new in lowered.updates],
    )


def _with_args(value: Value, args: tuple[Value, ...]) -> Value:
    if args == value.args:
        return value
    return Value(value.op, args, value.attributes, value.shape, value.dtype, value.origin)


def for_numpy(lowered: Lowered) -> Lowered:
    """Return the program that the numpy engine runs."""
    lowered = rewritten(lowered, Masking())
    return rewritten(lowered, outer_products)


class Masking:
    """``where(condition, x, 0)`` as a product of bits; ``copyto(where=)`` takes 5 times as long."""

    def __init__(self) -> None:
        self.masks: dict[tuple[Value, int], Value] = {}

    def __call__(self, value: Value, args: tuple[Value, ...]) -> Value | None:
        """Return what replaces a value."""
        width = value.dtype.itemsize
        if value.op != "where" or value.dtype.kind != "f" or width not in _WORDS:
            return None
        condition, x, other = args
        if not _is_zero(other) or condition.shape != value.shape:
            return None
        key = (condition, width)
        if key not in self.masks:
            self.masks[key] = Value(
                "mask", (condition,), {}, condition.shape, _WORDS[width], value.origin
            )
        return Value("masked", (x, self.masks[key]), {}, value.shape, value.dtype, value.origin)


def outer_products(value: Value, args: tuple[Value, ...]) -> Value | None:
    """Write a small product of a column and a row as a ``matmul``: one call that broadcasts."""
    if value.op != "multiply" or value.ndim != 2 or value.dtype.char not in "fd":
        return None
    rows, columns = value.shape
    if rows < 2 or columns < 2 or value.nbytes > TILED_BYTES:
        return None
    x, y = args
    if x.shape == (1, columns):
        x, y = y, x
    if x.shape != (rows, 1) or y.shape != (1, columns):
        return None
    return Value("matmul", (x, y), {}, value.shape, value.dtype, value.origin)


def expanded(
    lowered: Lowered, groups: list[Group], places: dict[Value, Layout]
) -> tuple[Lowered, list[Group]]:
    """Copy operands beforehand that a ufunc would broadcast or walk with strides.

    Outside its simplest loops a ufunc copies such operands into buffers that it allocates, at
    three times the cost of an assignment and a simple loop. The copy runs in the loop that
    reads it, so that it can be a tile at a time.
    """
    group_of = {value: group for group in groups for value in group.values}
    ahead: dict[Value, list[Value]] = {}
    copies: dict[tuple[Value, int, Shape], Value] = {}
    constants: dict[tuple[Value, Shape], Value] = {}

    def repeated(literal: Value, shape: Shape) -> Value:
        if (literal, shape) not in constants:
            array = np.full(shape, literal.attributes["value"], literal.dtype)
            constants[literal, shape] = Value("constant", (), {"value": array}, shape, array.dtype)
        return constants[literal, shape]

    def rule(value: Value, args: tuple[Value, ...]) -> Value | None:
        if value.op not in NUMPY_ELEMENTWISE or value.op in ("cast", "mask"):
            return None
        given = list(args)
        for i, (arg, old) in enumerate(zip(args, value.args, strict=True)):
            simple = arg.size == value.size and places[old].contiguous(arg.shape)
            if simple or (value.op == "where" and i == 2):
                continue
            if arg.size == 1:
                if value.op not in _NEED_ARRAYS or (
                    arg.op != "literal" and value.nbytes <= TILED_BYTES
                ):
                    continue
                if value.nbytes <= TILED_BYTES:
                    given[i] = repeated(arg, value.shape)
                    continue
            key = (arg, id(group_of[value]), value.shape)
            if key not in copies:
                copies[key] = Value("expand", (arg,), {}, value.shape, arg.dtype, value.origin)
                ahead.setdefault(value, []).append(copies[key])
            given[i] = copies[key]
        return _with_args(value, tuple(given))

    found: dict[Value, Value] = {}
    result = rewritten(lowered, rule, found)
    moved = [
        Group(
            group.kind,
            group.shape,
            [new for value in group.values for new in (*ahead.get(value, ()), found[value])],
            [found[value] for value in group.outputs],
        )
        for group in groups
    ]
    return result, moved


def _is_zero(value: Value) -> bool:
    if value.op != "literal":
        return False
    number = np.asarray(value.attributes["value"], value.dtype)
    return not number.tobytes().strip(b"\0")
