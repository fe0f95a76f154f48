"""Algebra of elementwise instructions, where it changes no result beyond rounding.

What NaN, infinities or signed zeros would show is never done: ``x * 0`` and ``x - x`` stay.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mfjit.ir import ELEMENTWISE, Shape, Value

if TYPE_CHECKING:
    from mfjit.builder import Builder

_BOOL = np.dtype(np.bool_)


def simpler(
    builder: Builder, op: str, args: tuple[Value, ...], shape: Shape, dtype: np.dtype[Any]
) -> Value | None:
    """Return what is simpler than an elementwise instruction and means the same.

    Parameters
    ----------
    builder : Builder
        Where the simpler instructions are emitted.
    op : str
        The instruction.
    args : tuple of Value
        Its operands, which broadcast to ``shape``; of the dtypes that the instruction takes.
    shape, dtype
        Those of its result.

    Returns
    -------
    Value or None
        ``None`` where nothing is simpler.
    """
    x = args[0]
    if op == "negative" and x.op == "negative":
        return x.args[0]
    if op == "where" and x.op == "literal":
        return builder.broadcast_to(args[1] if x.attributes["value"] else args[2], shape)
    if len(args) != 2:
        return None
    y = args[1]
    if op in ("add", "multiply") and x.op == "literal" and y.op != "literal":
        return builder.emit(op, (y, x), dtype)  # the number second
    found = None
    if x.shape == shape and y.op == "literal" and not isinstance(y.attributes["value"], bool):
        found = _with_number(builder, op, x, y, dtype)
    if found is None and dtype.kind == "f":
        found = _of_floats(builder, op, x, y, dtype)
    if found is None and op == "multiply" and x is y and dtype != _BOOL:
        return builder.emit("square", (x,), dtype)
    return found


def _with_number(
    builder: Builder, op: str, x: Value, y: Value, dtype: np.dtype[Any]
) -> Value | None:
    """Simplify an instruction whose second operand is a number."""
    number = y.attributes["value"]
    floats = dtype.kind == "f"
    if (op in ("multiply", "divide", "power") and number == 1) or _is_neutral(op, number):
        return x
    if op == "power" and number == 2:
        return builder.emit("square", (x,), dtype)
    worth = _power_of_two(number) or (floats and x.ndim)  # a single number gains nothing
    if op == "divide" and worth and _invertible(number, dtype):
        return builder.emit("multiply", (x, builder.literal(1 / number, dtype)), dtype)
    if op == "multiply" and floats:
        if number == -1:
            return builder.emit("negative", (x,), dtype)
        if x.op == "negative":
            return builder.emit(op, (x.args[0], builder.literal(-number, dtype)), dtype)
        if x.op == "multiply" and x.args[1].op == "literal":
            both = builder.emit(op, (x.args[1], y), dtype)
            if _invertible(both.attributes["value"], dtype):
                return builder.emit(op, (x.args[0], both), dtype)
    return None


def _of_floats(builder: Builder, op: str, x: Value, y: Value, dtype: np.dtype[Any]) -> Value | None:
    """Simplify an instruction on floats, whatever its second operand is."""
    if op == "divide" and x.ndim and y.op != "literal" and _of_settings(y):
        inverse = builder.emit("divide", (builder.literal(1, dtype), y), dtype)
        return builder.emit("multiply", (x, inverse), dtype)
    if op == "add" and y.op == "negative":
        return builder.emit("subtract", (x, y.args[0]), dtype)
    if op == "subtract" and y.op == "negative":
        return builder.emit("add", (x, y.args[0]), dtype)
    return None


def _is_neutral(op: str, number: float) -> bool:
    """Whether adding or subtracting a number changes nothing, not even the sign of a zero."""
    if number != 0:
        return False
    if isinstance(number, int):
        return op in ("add", "subtract")
    return op == ("add" if math.copysign(1.0, number) < 0 else "subtract")


def _power_of_two(number: float) -> bool:
    return number != 0 and math.isfinite(number) and abs(math.frexp(number)[0]) == 0.5


def _invertible(number: float, dtype: np.dtype[Any]) -> bool:
    """Whether a number has an inverse that loses nothing but its last bit."""
    tiny = float(np.finfo(dtype).tiny)
    return tiny <= abs(number) <= 1 / tiny


def _of_settings(value: Value) -> bool:
    """Whether a number depends on nothing but settings, which optimizers keep in bounds."""
    if value.ndim or value.op in ("input", "parameter", "state"):
        return False
    return value.op in ELEMENTWISE | {"literal", "setting"} and all(map(_of_settings, value.args))
