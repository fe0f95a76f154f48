"""Rules of NumPy's reductions, choices and casts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mfcore.errors import NotTraceableError
from mfcore.syntax import cast
from mfjit.builder import Builder
from mfjit.ir import Value
from mfjit.rules import NoRule, Rule, RuleTable, axes_of, given, reduced

SUMS = RuleTable()


def _reduction(op: str) -> Rule:
    def rule(b: Builder, a: Any, axis: Any = None, dtype: Any = None, out: Any = None,
             keepdims: Any = None, initial: Any = None, where: Any = None) -> Value:  # fmt: skip
        if given(initial) or (given(where) and where is not True):
            raise NoRule
        return reduced(b, op, a, axis, keepdims, dtype)

    return rule


def _extreme(op: str) -> Rule:
    def rule(b: Builder, a: Any, axis: Any = None, out: Any = None, keepdims: Any = None,
             initial: Any = None, where: Any = None) -> Value:  # fmt: skip
        if given(initial) or (given(where) and where is not True):
            raise NoRule
        return reduced(b, op, a, axis, keepdims)

    return rule


def _argument(op: str) -> Rule:
    def rule(b: Builder, a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = None) -> Any:
        x = b.value(a)
        if axis is None:
            flat = b.reduce(op, b.reshape(x, (-1,)), (0,))
            return b.reshape(flat, (1,) * x.ndim) if given(keepdims) and keepdims else flat
        return reduced(b, op, x, axis, keepdims)

    return rule


SUMS.of(np.sum)(_reduction("sum"))
SUMS.of(np.prod)(_reduction("prod"))
for _functions, _op in (((np.max, np.amax), "max"), ((np.min, np.amin), "min"),
                        ((np.any,), "any"), ((np.all,), "all")):  # fmt: skip
    SUMS.of(*_functions)(_extreme(_op))
SUMS.of(np.argmax)(_argument("argmax"))
SUMS.of(np.argmin)(_argument("argmin"))


def _count(x: Value, axes: tuple[int, ...]) -> int:
    return math.prod(x.shape[a] for a in axes)


@SUMS.of(np.mean)
def _mean(b: Builder, a: Any, axis: Any = None, dtype: Any = None, out: Any = None,
          keepdims: Any = None, *, where: Any = None) -> Value:  # fmt: skip
    if given(where) and where is not True:
        raise NoRule
    x = b.value(a)
    if x.dtype.kind != "f":
        x = b.cast(x, np.float64)
    total = reduced(b, "sum", x, axis, keepdims, dtype)
    return b.elementwise("divide", total, _count(x, axes_of(axis, x.ndim)))


def _deviations(b: Builder, x: Value, axis: Any) -> Value:
    return b.elementwise("subtract", x, _mean(b, x, axis, keepdims=True))


@SUMS.of(np.var)
def _var(b: Builder, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: int = 0,
         keepdims: Any = None, **options: Any) -> Value:  # fmt: skip
    if any(given(v) and v is not True for v in options.values()) or given(dtype):
        raise NoRule
    x = b.value(a)
    squares = b.elementwise("square", _deviations(b, x, axis))
    total = reduced(b, "sum", squares, axis, keepdims)
    return b.elementwise("divide", total, max(_count(x, axes_of(axis, x.ndim)) - ddof, 0))


@SUMS.of(np.std)
def _std(b: Builder, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: int = 0,
         keepdims: Any = None, **options: Any) -> Value:  # fmt: skip
    return b.elementwise("sqrt", _var(b, a, axis, dtype, out, ddof, keepdims, **options))


@SUMS.of(np.linalg.norm)
def _norm(b: Builder, x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Value:
    y = b.value(x)
    if ord is not None and not (ord == 2 and (y.ndim == 1 or isinstance(axis, int))):
        raise NoRule
    if y.dtype.kind != "f":
        y = b.cast(y, np.float64)
    total = reduced(b, "sum", b.elementwise("multiply", y, y), axis, keepdims)
    return b.elementwise("sqrt", total)


@SUMS.of(np.where)
def _where(b: Builder, condition: Any, *xy: Any) -> Value:
    if len(xy) != 2:
        raise NotTraceableError("np.where with a condition only depends on elements")
    return b.elementwise("where", condition, *xy)


@SUMS.of(np.clip)
def _clip(b: Builder, a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *,
          min: Any = None, max: Any = None, **_options: Any) -> Value:  # fmt: skip
    result = a
    low = a_min if given(a_min) else min
    high = a_max if given(a_max) else max
    if given(low):
        result = b.elementwise("maximum", result, low)
    if given(high):
        result = b.elementwise("minimum", result, high)
    return b.value(result)


@SUMS.of(cast)
def _cast(b: Builder, x: Any, dtype: Any) -> Value:
    return b.cast(b.value(x), dtype)
