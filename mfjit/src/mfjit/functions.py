"""NumPy's functions on traced values: emitted by their rules, or called as they are.

A function without a rule is called as it is when the program runs (``call``), which only the
numpy engine does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mfcore.errors import NotTraceableError
from mfjit.builder import Builder
from mfjit.ir import ELEMENTWISE, LOGICAL, Value
from mfjit.reading import Traced
from mfjit.rules import NoRule, Rule, reduced
from mfjit.rules_of_products import PRODUCTS
from mfjit.rules_of_shapes import SHAPES
from mfjit.rules_of_sums import SUMS

RULES = {**SUMS, **PRODUCTS, **SHAPES}
"""The rule of each NumPy function that is no ufunc."""

_BITWISE = {"bitwise_and": "logical_and", "bitwise_or": "logical_or",
            "bitwise_xor": "logical_xor", "invert": "logical_not"}  # fmt: skip
_REDUCED_UFUNCS = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min",
                   "logical_and": "all", "logical_or": "any"}  # fmt: skip


def lower_call(
    traced: Traced, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Emit a NumPy function's call on traced values; return its result, traced.

    Raises
    ------
    NotTraceableError
        If it writes into an argument, or depends on elements.
    ValueError, TypeError
        As NumPy would, where shapes or dtypes do not fit.
    """
    if kwargs.get("out") is not None:
        raise NotTraceableError(
            f"{_name(function)} was asked to write into an array (out=); return a new one"
        )
    kwargs = {k: v for k, v in kwargs.items() if k != "out"}
    if isinstance(function, np.ufunc) and not kwargs:
        return _lower_ufunc(traced, function, args)
    rule = _rule(function)
    if rule is not None:
        try:
            result = rule(traced.builder, *_bare(args), **_bare(kwargs))
        except NoRule:
            pass
        else:
            return _wrapped(traced, result)
    return _wrapped(traced, _call(traced.builder, function, _bare(args), _bare(kwargs)))


def _lower_ufunc(traced: Traced, ufunc: np.ufunc, args: tuple[Any, ...]) -> Any:
    builder, name = traced.builder, ufunc.__name__
    weak = all(isinstance(a, (bool, int, float)) or getattr(a, "weak", False) for a in args)
    if name in _BITWISE and all(_dtype_of(a) == np.bool_ for a in args):
        name = _BITWISE[name]
    if name == "fabs":
        name = "absolute"
    if name == "positive":
        return args[0]
    if name == "matmul":
        return traced.like(builder.matmul(*[builder.value(a) for a in _bare(args)]))
    if name not in ELEMENTWISE:
        return _wrapped(traced, _call(builder, ufunc, _bare(args), {}))
    operands = [a if weak or not getattr(a, "weak", False) else _Weak(a.value) for a in args]
    if any(isinstance(a, _Weak) for a in operands):
        return traced.like(_beside_weak(builder, name, operands))
    result = builder.elementwise(name, *_bare(tuple(operands)))
    return traced.like(result, weak and name not in LOGICAL and result.dtype == np.float64)


class _Weak:
    """A traced number among arrays."""

    def __init__(self, value: Value) -> None:
        self.value = value


def _beside_weak(builder: Builder, name: str, operands: Sequence[Any]) -> Value:
    """Emit an elementwise instruction of arrays and numbers that adapt to their dtype."""
    ufunc: Any = getattr(np, name)
    kinds = [float if isinstance(a, (_Weak, float)) else _dtype_of(a) for a in operands]
    resolved = ufunc.resolve_dtypes((*kinds, None))
    cast_operands = [
        builder.cast(a.value, dtype) if isinstance(a, _Weak) else a
        for a, dtype in zip(operands, resolved, strict=False)
    ]
    return builder.elementwise(name, *_bare(tuple(cast_operands)))


def _dtype_of(operand: Any) -> Any:
    if type(operand) in (int, float):
        return type(operand)
    return operand.dtype if hasattr(operand, "dtype") else np.asarray(operand).dtype


def _bare(arguments: Any) -> Any:
    """Return arguments with lowered values in place of traced ones, in containers too."""
    if isinstance(arguments, Traced):
        return arguments.value
    if isinstance(arguments, tuple):
        return tuple([_bare(a) for a in arguments])
    if isinstance(arguments, list):
        return [_bare(a) for a in arguments]
    if isinstance(arguments, Mapping):
        return {k: _bare(v) for k, v in arguments.items()}
    return arguments


def _wrapped(traced: Traced, result: Any) -> Any:
    if isinstance(result, Value):
        return traced.like(result)
    if isinstance(result, (tuple, list)):
        return type(result)([_wrapped(traced, part) for part in result])
    return result


def _rule(function: Any) -> Rule | None:
    owner = getattr(function, "__self__", None)
    if isinstance(owner, np.ufunc):
        return _method_rule(owner, function.__name__)
    if isinstance(function, np.ufunc):
        return _ufunc_with_options(function)
    return RULES.get(function)


def _method_rule(ufunc: np.ufunc, method: str) -> Rule | None:
    name = ufunc.__name__
    if method == "reduce" and name in _REDUCED_UFUNCS:
        op = _REDUCED_UFUNCS[name]

        def reduce(b: Builder, x: Any, axis: Any = 0, dtype: Any = None, **options: Any) -> Value:
            keepdims = options.pop("keepdims", False)
            if any(v not in (None, np._NoValue) for v in options.values()):
                raise NoRule
            return reduced(b, op, x, axis, keepdims, dtype)

        return reduce
    if method == "outer" and name in ELEMENTWISE:

        def outer(b: Builder, x: Any, y: Any) -> Value:
            x, y = b.value(x), b.value(y)
            return b.elementwise(name, b.reshape(x, x.shape + (1,) * y.ndim), y)

        return outer
    return None


def _ufunc_with_options(ufunc: np.ufunc) -> Rule | None:
    def rule(b: Builder, *args: Any, dtype: Any = None, **options: Any) -> Value:
        if options.pop("where", True) is not True or ufunc.__name__ not in ELEMENTWISE:
            raise NoRule
        if dtype is not None:
            args = tuple([b.cast(b.value(a), dtype) for a in args])
        return b.elementwise(ufunc.__name__, *args)

    return rule


def _call(b: Builder, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Emit a call of the function as it is; its result's shape is found on arrays of ones."""
    values: list[Value] = []

    def slot(argument: Any) -> Any:
        if isinstance(argument, Value):
            values.append(argument)
            return Slot(len(values) - 1)
        if isinstance(argument, (tuple, list)):
            return type(argument)([slot(a) for a in argument])
        return argument

    arguments = (slot(args), {k: slot(v) for k, v in kwargs.items()})
    return emit_call(b, function, arguments, values)


class Slot:
    """The place of a lowered value among the arguments of a ``call``."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


def filled(arguments: Any, arrays: Sequence[Any]) -> Any:
    """Return the arguments of a ``call`` with arrays in their places."""
    if isinstance(arguments, Slot):
        return arrays[arguments.index]
    if isinstance(arguments, (tuple, list)):
        return type(arguments)([filled(a, arrays) for a in arguments])
    if isinstance(arguments, dict):
        return {k: filled(v, arrays) for k, v in arguments.items()}
    return arguments


def emit_call(
    b: Builder, function: Any, arguments: Any, values: Sequence[Value], why: str = ""
) -> Any:
    """Emit a ``call``; return its value, or a tuple of ``item`` values.

    ``why`` says, to people, why there is no other way.

    Raises
    ------
    NotTraceableError
        If the function cannot be called on arrays of ones, so that its result is unknown, or
        returns nothing: what it writes into an argument would be lost.
    """
    # A copy each: what writes into its argument is found out by the caller's own checks.
    ones = [np.ones(value.shape, value.dtype)[()] for value in values]
    args, kwargs = filled(arguments, ones)
    try:
        with np.errstate(all="ignore"):
            result = function(*args, **kwargs)
    except Exception as error:
        raise NotTraceableError(
            f"{_name(function)} has no rule for engines, and the shape of its result could "
            f"not be found by calling it: {error}"
        ) from error
    if result is None:
        raise NotTraceableError(
            f"{_name(function)} returns nothing: it writes into an array, which cannot be read off"
        )
    if not why:
        why = f"{b.where or b.origin} calls {_name(function)}, for which there is no rule"
    how = {"function": function, "arguments": arguments, "why": why}
    if not isinstance(result, (tuple, list)):
        array = np.asarray(result)
        return b.call(values, array.shape, array.dtype, **how)
    whole = b.call(values, (), np.float64, **how)
    return tuple(
        [
            Value("item", (whole,), {"index": i}, part.shape, part.dtype, b.origin)
            for i, part in enumerate(map(np.asarray, result))
        ]
    )


def _name(function: Any) -> str:
    owner = getattr(function, "__self__", None)
    prefix = f"{owner.__name__}." if isinstance(owner, np.ufunc) else ""
    module = (getattr(function, "__module__", "") or "").replace("numpy", "np", 1)
    name = getattr(function, "__name__", repr(function))
    return f"np.{prefix}{name}" if prefix or isinstance(function, np.ufunc) else f"{module}.{name}"
