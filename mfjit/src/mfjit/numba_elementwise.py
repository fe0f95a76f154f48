"""Elementwise instructions as expressions of the source that numba compiles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mfjit.errors import CannotCompile
from mfjit.ir import COMPARISONS, Value

SUPPORTED_DTYPES = frozenset(
    np.dtype(name)
    for name in (
        "float64", "float32", "bool",
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    )
)  # fmt: skip

_INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/",
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=",
    "equal": "==", "not_equal": "!=",
    "logical_and": "&", "logical_or": "|", "logical_xor": "!=",
}  # fmt: skip

_MATH = {
    "sqrt": "sqrt", "exp": "exp", "expm1": "expm1", "log": "log", "log2": "log2",
    "log10": "log10", "log1p": "log1p", "sin": "sin", "cos": "cos", "tan": "tan",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "sinh": "sinh", "cosh": "cosh",
    "tanh": "tanh", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
    "arctan2": "atan2", "hypot": "hypot", "copysign": "copysign",
}  # fmt: skip
"""Functions of ``math``, which numba has for both widths of floats."""

VECTORISED = frozenset(
    {"exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "sinh", "cosh", "tanh"}
)
"""What ``mfjit.elementary`` has functions for that vectorise."""

_UFUNCS = frozenset({"exp2", "floor_divide", "remainder", "logaddexp", "cbrt"})
"""Left to numba's own scalar versions of NumPy's ufuncs."""

_ROUNDINGS = frozenset({"floor", "ceil", "trunc", "rint"})

_COSTS = {"divide": 4, "sqrt": 4, "power": 30, "floor_divide": 8, "remainder": 8, "where": 1}


class Literals:
    """Numbers of the source: those that Python's own literals have no dtype for get names."""

    def __init__(self) -> None:
        self.names: dict[tuple[bytes, str], str] = {}
        self.numbers: list[tuple[str, str]] = []

    def text(self, number: Any, dtype: np.dtype[Any]) -> str:
        """Return what stands for a number of a dtype."""
        scalar = np.asarray(number).astype(dtype)[()]
        if dtype == np.bool_:
            return str(bool(scalar))
        if dtype == np.float64 and math.isfinite(scalar):
            return f"({float(scalar)!r})"
        if dtype == np.int64:
            return f"({int(scalar)})"
        key = (scalar.tobytes(), dtype.name)
        if key not in self.names:
            self.names[key] = f"k{len(self.names)}"
            number = f'float("{float(scalar)}")' if dtype.kind == "f" else repr(int(scalar))
            self.numbers.append((self.names[key], f"np.{dtype.name}({number})"))
        return self.names[key]


def cast(text: str, source: np.dtype[Any], target: np.dtype[Any]) -> str:
    """Return a conversion."""
    if source == target:
        return text
    if target == np.bool_:
        return f"({text} != 0)"
    return f"np.{target.name}({text})"


def expression(  # noqa: PLR0912 - a table of cases
    value: Value, args: list[str], literals: Literals, functions: set[str]
) -> str:
    """Return an elementwise instruction as an expression of its arguments' texts.

    Parameters
    ----------
    value : Value
        The instruction.
    args : list of str
        Names or literals; they may be repeated in the expression.
    literals : Literals
        Where numbers get their names.
    functions : set of str
        Where the functions of ``mfjit.elementary`` that it calls are put.

    Raises
    ------
    CannotCompile
        If there is no code for it.
    """
    op, dtype = value.op, value.args[-1].dtype
    x = args[0]
    integer = dtype.kind in "iu"
    if op == "cast":
        return cast(x, dtype, value.dtype)
    if op == "where":
        return f"select({x}, {args[1]}, {args[2]})"
    if op == "logical_not":
        return f"(not {_truth(x, dtype)})"
    if op in ("logical_and", "logical_or", "logical_xor"):
        y = _truth(args[1], dtype)
        return f"({_truth(x, dtype)} {_INFIX[op]} {y})"
    if dtype == np.bool_:
        text = _on_booleans(op, args)
    elif op in COMPARISONS:
        return f"({x} {_INFIX[op]} {args[1]})"
    elif op in VECTORISED and dtype.kind == "f":
        functions.add(f"{op}_f{8 * dtype.itemsize}")
        return f"{op}_f{8 * dtype.itemsize}({x})"
    elif op in _INFIX:
        text = f"({x} {_INFIX[op]} {args[1]})"
    elif op in ("maximum", "minimum", "fmax", "fmin"):
        return _choice(value, args)
    elif op == "negative":
        text = f"(-{x})"
    elif op == "absolute":
        text = x if dtype.kind == "u" else f"abs({x})"
    elif op == "sign":
        one, zero = literals.text(1, dtype), literals.text(0, dtype)
        least = "" if dtype.kind == "u" else literals.text(-1, dtype)
        # The sum makes 0.0 of -0.0, as NumPy does, and leaves NaN.
        below = f"select({x} < {zero}, {least}, {x} + {zero})" if least else zero
        text = f"select({x} > {zero}, {one}, {below})"
    elif op == "square":
        text = f"({x} * {x})"
    elif op == "reciprocal" and not integer:
        text = f"({literals.text(1, dtype)} / {x})"
    elif op in ("isnan", "isinf", "isfinite", "signbit"):
        return _predicate(op, x, dtype, literals)
    elif op in _ROUNDINGS:
        text = x if integer else f"{op}({x})"
    elif op == "power" and (not integer or _natural(value.args[1])):
        text = f"({x} ** {args[1]})"
    elif op in _MATH and not integer:
        text = f"math.{_MATH[op]}({', '.join(args)})"
    elif op == "floor_divide" and not integer:
        text = f"floor_divide({x}, {args[1]})"
    elif op in _UFUNCS:
        text = f"np.{op}({', '.join(args)})"
    else:
        text = None
    if text is None:
        raise CannotCompile(
            f"{op} of {dtype.name} at {value.origin or 'an unnamed node'}: "
            "the numba engine has no code for it"
        )
    # Python's rules for mixed widths differ from NumPy's: integers have to be cut back.
    return f"np.{value.dtype.name}({text})" if integer else text


def _natural(exponent: Value) -> bool:
    """Whether an exponent is a known number that NumPy raises integers to."""
    return exponent.op == "literal" and exponent.attributes["value"] >= 0


def _truth(x: str, dtype: np.dtype[Any]) -> str:
    return x if dtype == np.bool_ else f"({x} != 0)"


def _on_booleans(op: str, args: list[str]) -> str | None:
    x, y = args[0], args[-1]
    return {
        "add": f"({x} | {y})",
        "multiply": f"({x} & {y})",
        "maximum": f"({x} | {y})",
        "minimum": f"({x} & {y})",
        "fmax": f"({x} | {y})",
        "fmin": f"({x} & {y})",
        "equal": f"({x} == {y})",
        "not_equal": f"({x} != {y})",
        "less": f"((not {x}) & {y})",
        "less_equal": f"((not {x}) | {y})",
        "greater": f"({x} & (not {y}))",
        "greater_equal": f"({x} | (not {y}))",
        "absolute": x,
        "isnan": "False",
        "isinf": "False",
        "isfinite": "True",
    }.get(op)


def _choice(value: Value, args: list[str]) -> str:
    x, y = args
    better = "<=" if value.op in ("maximum", "fmax") else ">="
    if value.args[1].dtype.kind != "f":
        return f"select({x} {better} {y}, {y}, {x})"
    literal = value.args[1].attributes.get("value") if value.args[1].op == "literal" else None
    if value.op in ("fmax", "fmin"):
        return f"select(({x} {better} {y}) | ({x} != {x}), {y}, {x})"
    if literal is not None and not math.isnan(literal):  # one comparison suffices
        return f"select({x} {better} {y}, {y}, {x})"
    return f"select(({x} {better} {y}) | ({y} != {y}), {y}, {x})"


def _predicate(op: str, x: str, dtype: np.dtype[Any], literals: Literals) -> str:
    if dtype.kind != "f":
        zero = literals.text(0, dtype)
        return {"isnan": "False", "isinf": "False", "isfinite": "True"}.get(op, f"({x} < {zero})")
    infinity = literals.text(np.inf, dtype)
    return {
        "isnan": f"({x} != {x})",
        "isinf": f"(abs({x}) == {infinity})",
        "isfinite": f"(abs({x}) < {infinity})",
        "signbit": f"(math.copysign({literals.text(1, dtype)}, {x}) < {literals.text(0, dtype)})",
    }[op]


def flops(value: Value) -> int:
    """Return the operations that one element of an elementwise instruction takes, roughly."""
    if value.op in _MATH or value.op in _UFUNCS:
        return 20
    return _COSTS.get(value.op, 1)
