"""Numbers of a function under compilation, with Python's operators: what formulas are read on.

A formula written on :class:`Number` emits LLVM instructions as it runs, much as one written on
nodes builds a graph. That costs numba no type inference, so a long polynomial compiles in
about a millisecond, and one text serves both widths of float.

No formula branches: conditions select between numbers, so that LLVM turns a loop over a
formula into vector instructions, and no formula calls a function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped, unused-ignore]

from mfjit.elementary_constants import Constants

_EXACT = ("arcp",)
"""Flags of what must be rounded as it is written.

numba gives a function's `fastmath` flags to every instruction that has none of its own, and
compensated sums do not survive most of them. This one only speaks of divisions, where it
is not used.
"""
_EXACT_DIVISION = ("contract",)  # says nothing about divisions
_FUSED = ("contract",)

LLVM_FLOAT = {"d": ir.DoubleType(), "f": ir.FloatType()}
LLVM_INTEGER = {"d": ir.IntType(64), "f": ir.IntType(32)}

Operand: TypeAlias = "Number | float"


class Condition:
    """A truth value per element.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Where instructions go.
    value : llvmlite.ir.Value
        Of LLVM's type ``i1``.
    """

    __slots__ = ("builder", "value")

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value


class Integer:
    """The bits of a float, or a whole number of the same width; arithmetic wraps around.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Where instructions go.
    value : llvmlite.ir.Value
        Of the integer type as wide as the float.
    constants : Constants
        The format of the float.
    """

    __slots__ = ("builder", "constants", "value")

    def __init__(self, builder: Any, value: Any, constants: Constants) -> None:
        self.builder = builder
        self.value = value
        self.constants = constants

    def _new(self, instruction: Callable[[Any, Any], Any], other: Integer | int) -> Integer:
        operand = other.value if isinstance(other, Integer) else ir.Constant(self.value.type, other)
        return Integer(self.builder, instruction(self.value, operand), self.constants)

    def __add__(self, other: Integer | int) -> Integer:
        return self._new(self.builder.add, other)

    def __sub__(self, other: Integer | int) -> Integer:
        return self._new(self.builder.sub, other)

    def __neg__(self) -> Integer:
        return Integer(self.builder, self.builder.neg(self.value), self.constants)

    def __and__(self, other: Integer | int) -> Integer:
        return self._new(self.builder.and_, other)

    def __or__(self, other: Integer | int) -> Integer:
        return self._new(self.builder.or_, other)

    def __xor__(self, other: Integer | int) -> Integer:
        return self._new(self.builder.xor, other)

    def __lshift__(self, other: int) -> Integer:
        return self._new(self.builder.shl, other)

    def __rshift__(self, other: int) -> Integer:
        """Shift zeros in from the left."""
        return self._new(self.builder.lshr, other)

    def at_least_zero(self) -> Integer:
        """Zero where this is negative as a signed number, else itself."""
        zero = ir.Constant(self.value.type, 0)
        is_negative = self.builder.icmp_signed("<", self.value, zero)
        value = self.builder.select(is_negative, zero, self.value)
        return Integer(self.builder, value, self.constants)

    def is_zero(self) -> Condition:
        """Whether no bit is set."""
        zero = ir.Constant(self.value.type, 0)
        return Condition(self.builder, self.builder.icmp_signed("==", self.value, zero))

    def number(self) -> Number:
        """The float that has these bits."""
        kind = LLVM_FLOAT[self.constants.char]
        return Number(self.builder, self.builder.bitcast(self.value, kind), self.constants)


class Number:
    """A float64 or a float32.

    Python's operators are single, correctly rounded operations, whatever the `fastmath` of
    the function around them; comparisons are false for NaN. Python numbers beside a
    ``Number`` are rounded to its format.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Where instructions go.
    value : llvmlite.ir.Value
        Of LLVM's type ``double`` or ``float``.
    constants : Constants
        Of that format.
    """

    __slots__ = ("builder", "constants", "value")

    def __init__(self, builder: Any, value: Any, constants: Constants) -> None:
        self.builder = builder
        self.value = value
        self.constants = constants

    def constant(self, number: float) -> Number:
        """A number known beforehand, in this one's format."""
        return Number(self.builder, ir.Constant(self.value.type, number), self.constants)

    def _operand(self, other: Operand) -> Any:
        return (other if isinstance(other, Number) else self.constant(other)).value

    def _new(
        self,
        instruction: Callable[..., Any],
        first: Operand,
        second: Operand,
        flags: tuple[str, ...] = _EXACT,
    ) -> Number:
        value = instruction(self._operand(first), self._operand(second), flags=flags)
        return Number(self.builder, value, self.constants)

    def __add__(self, other: Operand) -> Number:
        return self._new(self.builder.fadd, self, other)

    __radd__ = __add__

    def __sub__(self, other: Operand) -> Number:
        return self._new(self.builder.fsub, self, other)

    def __rsub__(self, other: Operand) -> Number:
        return self._new(self.builder.fsub, other, self)

    def __mul__(self, other: Operand) -> Number:
        return self._new(self.builder.fmul, self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> Number:
        return self._new(self.builder.fdiv, self, other, _EXACT_DIVISION)

    def __rtruediv__(self, other: Operand) -> Number:
        return self._new(self.builder.fdiv, other, self, _EXACT_DIVISION)

    def __neg__(self) -> Number:
        return Number(self.builder, self.builder.fneg(self.value), self.constants)

    def __abs__(self) -> Number:
        return (self.bits() & ~self.constants.sign_bit).number()

    def _compare(self, comparison: str, other: Operand) -> Condition:
        value = self.builder.fcmp_ordered(
            comparison, self.value, self._operand(other), flags=_EXACT
        )
        return Condition(self.builder, value)

    def __lt__(self, other: Operand) -> Condition:
        return self._compare("<", other)

    def __gt__(self, other: Operand) -> Condition:
        return self._compare(">", other)

    def is_equal(self, other: Operand) -> Condition:
        """Whether the numbers are equal; Python keeps ``==`` for objects."""
        return self._compare("==", other)

    def bits(self) -> Integer:
        """The float's bits."""
        kind = LLVM_INTEGER[self.constants.char]
        return Integer(self.builder, self.builder.bitcast(self.value, kind), self.constants)

    def with_sign_of(self, other: Number) -> Number:
        """Give a number that is not negative the sign of another one."""
        return (self.bits() | (other.bits() & self.constants.sign_bit)).number()


def select(condition: Condition, chosen: Number, otherwise: Operand) -> Number:
    """One of two numbers; both have been computed."""
    value = chosen.builder.select(condition.value, chosen.value, chosen._operand(otherwise))
    return Number(chosen.builder, value, chosen.constants)


def multiply_add(x: Number, y: Operand, z: Operand) -> Number:
    """``x * y + z``, rounded once where the processor can, else twice."""
    return x._new(x.builder.fadd, x._new(x.builder.fmul, x, y, _FUSED), z, _FUSED)


def polynomial(x: Number, coefficients: Sequence[float]) -> Number:
    """The sum of ``coefficients[k] * x**k``, terms of even and of odd degree apart.

    Two Horner schemes in the square of `x` wait half as long for their own results as one
    in `x` (Knuth, The Art of Computer Programming, volume 2, section 4.6.4).

    Parameters
    ----------
    x : Number
        The variable.
    coefficients : sequence of float
        At least three.

    Returns
    -------
    Number
        The value.
    """
    square = x * x
    odd = _horner(square, coefficients[1::2])
    return multiply_add(odd, x, _horner(square, coefficients[0::2]))


def _horner(x: Number, coefficients: Sequence[float]) -> Number:
    total = x.constant(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = multiply_add(total, x, coefficient)
    return total


def two_sum(x: Number, y: Number) -> tuple[Number, Number]:
    """The rounded sum of two numbers and its error: ``x + y`` exactly (Knuth's TwoSum)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def fast_two_sum(x: Number, y: Number) -> tuple[Number, Number]:
    """The same where `x` is zero or at least as large as `y` (Dekker's Fast2Sum)."""
    total = x + y
    return total, y - (total - x)


def nearest_integer(x: Number) -> tuple[Number, Integer]:
    """The integer nearest to a small number, as a float, and modulo a power of two in bits.

    Adding 1.5 * 2**(p - 1), p bits being the precision, leaves no bits for a fraction, and
    the integer in the last ones (Muller, Elementary Functions, 3rd edition, section 11.2).
    """
    shifted = x + x.constants.rounding_shift
    return shifted - x.constants.rounding_shift, shifted.bits()


def power_of_two(exponent: Integer) -> Number:
    """Two to a power in the range of normal numbers; only its last bits are read."""
    constants = exponent.constants
    return ((exponent << constants.fraction_bits) + constants.bits_of_one).number()


def table_entry(name: str, entries: Sequence[float], index: Integer) -> Number:
    """A number from a table of constants.

    Parameters
    ----------
    name : str
        Of the table; the same for the same entries.
    entries : sequence of float
        The table.
    index : Integer
        Which entry; it must be one.

    Returns
    -------
    Number
        The entry.
    """
    builder, constants = index.builder, index.constants
    kind = ir.ArrayType(LLVM_FLOAT[constants.char], len(entries))
    module = builder.module
    if name in module.globals:
        table = module.globals[name]
    else:
        table = ir.GlobalVariable(module, kind, name)
        table.linkage = "internal"
        table.global_constant = True
        table.initializer = ir.Constant(kind, np.asarray(entries, constants.char).tolist())
    zero = ir.Constant(index.value.type, 0)
    address = builder.gep(table, [zero, index.value], inbounds=True)
    return Number(builder, builder.load(address), constants)
