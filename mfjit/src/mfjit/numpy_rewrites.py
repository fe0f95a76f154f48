"""Rewriting a lowered program into the instructions that NumPy runs fastest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from mfjit.fuse import Group
from mfjit.ir import ELEMENTWISE, Lowered, Shape, Value
from mfjit.layout import Layout
from mfjit.numpy_scaling import scaled_gradients

Rule: TypeAlias = Callable[[Value, tuple[Value, ...]], Value | None]

NUMPY_ELEMENTWISE = ELEMENTWISE | {"mask", "masked", "expand"}
"""What fuses into loops here.

``mask`` (of a bool): an integer as wide as the result, 1 where it is true, else 0.
``masked`` (x, mask): the bits of x times the mask: x or 0, exact for NaN and infinities.
``expand`` (x): x, repeated to the result's shape and laid out without gaps.
"""

_NEED_ARRAYS = frozenset({"maximum", "minimum", "fmax", "fmin"})
"""Ufuncs that take several times as long where one operand is a number."""

TILED_BYTES = 1 << 18
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
    lowered = rewritten(scaled_gradients(lowered), outer_products)
    lowered = rewritten(lowered, Factors(lowered))
    return rewritten(lowered, Picks(lowered))


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


class Factors:
    """``x * s / y * t``, where s and t are numbers, as ``x * (s * t) / y``: one pass less."""

    def __init__(self, lowered: Lowered) -> None:
        self.readers = lowered.consumers()
        self.kept = {*lowered.outputs, *(new for _, new in lowered.updates)}

    def __call__(self, value: Value, args: tuple[Value, ...]) -> Value | None:
        """Return what replaces a value."""
        if value.op != "multiply" or value.dtype.kind != "f" or not value.shape:
            return None
        quotient, factor = args
        if quotient.op != "divide" or factor.shape or not self._alone(value.args[0]):
            return None
        product, divisor = quotient.args
        if product.op != "multiply" or product.args[1].shape or not product.args[0].shape:
            return None
        if product.shape != value.shape or not self._alone(value.args[0].args[0]):
            return None
        both = Value("multiply", (product.args[1], factor), {}, (), value.dtype, value.origin)
        product = Value(
            "multiply", (product.args[0], both), {}, value.shape, value.dtype, value.origin
        )
        return Value("divide", (product, divisor), {}, value.shape, value.dtype, value.origin)

    def _alone(self, value: Value) -> bool:
        return len(self.readers[value]) == 1 and value not in self.kept


class Picks:
    """The logarithm of a class's share, out of those of all classes.

    ``sum(hot * where(hot == 0, 0, x), -1)``, where ``hot`` is ``one_hot(i)``, becomes
    ``pick(x, i)``: ``x[n, i[n]]``. What x subtracts in each row is subtracted afterwards.
    """

    def __init__(self, lowered: Lowered) -> None:
        self.readers = lowered.consumers()

    def __call__(self, value: Value, args: tuple[Value, ...]) -> Value | None:
        """Return what replaces a value."""
        if value.op != "sum" or value.attributes["axes"] != (args[0].ndim - 1,):
            return None
        product = args[0]
        if product.op != "multiply":
            return None
        hot, counted = product.args if product.args[0].op == "one_hot" else product.args[::-1]
        if hot.op != "one_hot" or counted.op != "where" or counted.shape != hot.shape:
            return None
        absent, zero, x = counted.args
        if x.shape != hot.shape or not _is_zero(zero) or absent.op != "equal":
            return None
        if absent.args[0] is not hot or not _is_zero(absent.args[1]):
            return None
        return self._pick(x, hot)

    def _pick(self, x: Value, hot: Value) -> Value:
        indices = hot.args[0]
        if x.op == "subtract" and x.args[0].shape == x.shape:
            row = x.args[1]
            if row.shape == (*x.shape[:-1], 1):
                shape = indices.shape
                less = Value("reshape", (row,), {"shape": shape}, shape, x.dtype, x.origin)
                args = self._pick(x.args[0], hot), less
                return Value("subtract", args, {}, shape, x.dtype, x.origin)
        return Value("pick", (x, indices), {}, indices.shape, x.dtype, x.origin)


def simplified(
    lowered: Lowered, groups: list[Group], places: dict[Value, Layout]
) -> tuple[Lowered, list[Group]]:
    """Write loops so that each instruction is one call of a ufunc in its simplest loop.

    Operands that a ufunc would broadcast or walk with strides are copied beforehand: it would
    copy them into buffers that it allocates, at three times the cost. ``where(condition, x, 0)``
    becomes a product of bits; ``copyto(where=)`` takes 5 times as long. Copies and masks are
    made in the loop that reads them, so that they can be a tile at a time.
    """
    rule = _Simplification(groups, places)
    found: dict[Value, Value] = {}
    result = rewritten(lowered, rule, found)
    moved = [
        Group(
            group.kind,
            group.shape,
            [new for v in group.values for new in (*rule.ahead.get(v, ()), found[v])],
            [found[value] for value in group.outputs],
        )
        for group in groups
    ]
    return result, moved


class _Simplification:
    """The rule of ``simplified``.

    Attributes
    ----------
    ahead : dict of Value to list of Value
        What is to be computed in a value's loop before it.
    """

    def __init__(self, groups: list[Group], places: dict[Value, Layout]) -> None:
        self.places = places
        self.group_of = {value: id(group) for group in groups for value in group.values}
        self.ahead: dict[Value, list[Value]] = {}
        self.made: dict[tuple[Any, ...], Value] = {}

    def __call__(self, value: Value, args: tuple[Value, ...]) -> Value | None:
        if value.op not in NUMPY_ELEMENTWISE or value.op == "cast":
            return None
        if value.op == "where":
            condition, x, y = args
            if _is_zero(y) and value.dtype.kind == "f" and value.dtype.itemsize in _WORDS:
                x = self._operand(value, value.args[1], x)
                mask = self._before(value, "mask", condition, _WORDS[value.dtype.itemsize])
                return Value("masked", (x, mask), {}, value.shape, value.dtype, value.origin)
            given = [self._operand(value, *pair) for pair in zip(value.args[:2], args)]
            return _with_args(value, (*given, y))
        return _with_args(
            value, tuple([self._operand(value, *pair) for pair in zip(value.args, args)])
        )

    def _operand(self, value: Value, old: Value, arg: Value) -> Value:
        if arg.size == value.size and self.places[old].contiguous(arg.shape):
            return arg
        if arg.size == 1:
            small = value.nbytes <= TILED_BYTES
            if value.op not in _NEED_ARRAYS or (small and arg.op != "literal"):
                return arg
            if small:
                return self._repeated(arg, value.shape)
        return self._before(value, "expand", arg, arg.dtype)

    def _before(self, value: Value, op: str, arg: Value, dtype: np.dtype[Any]) -> Value:
        """Return an instruction that the value's loop is to do before it."""
        key = (op, arg, self.group_of[value], value.shape, dtype)
        if key not in self.made:
            self.made[key] = Value(op, (arg,), {}, value.shape, dtype, value.origin)
            self.ahead.setdefault(value, []).append(self.made[key])
        return self.made[key]

    def _repeated(self, literal: Value, shape: Shape) -> Value:
        key = ("constant", literal, shape)
        if key not in self.made:
            array = np.full(shape, literal.attributes["value"], literal.dtype)
            self.made[key] = Value("constant", (), {"value": array}, shape, array.dtype)
        return self.made[key]


def _is_zero(value: Value) -> bool:
    if value.op != "literal":
        return False
    number = np.asarray(value.attributes["value"], value.dtype)
    return not number.tobytes().strip(b"\0")
