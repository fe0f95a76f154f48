"""Rules: what a NumPy function means in primitives, by function.

A rule takes the builder and the function's own arguments, with lowered values in the place of
arrays. ``rules_of_sums``, ``rules_of_products`` and ``rules_of_shapes`` hold them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from mfjit.builder import Builder
from mfjit.ir import Value

Rule: TypeAlias = Callable[..., Any]


class RuleTable(dict[Any, Rule]):
    """Rules by function."""

    def of(self, *functions: Any) -> Callable[[Rule], Rule]:
        """Return a decorator that makes a rule that of these functions."""

        def add(rule: Rule) -> Rule:
            self.update(dict.fromkeys(functions, rule))
            return rule

        return add


class NoRule(Exception):
    """A rule does not cover these arguments."""


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """Return an axis argument as axes from 0; all of them for ``None``.

    Raises
    ------
    ValueError
        If an axis is out of range.
    """
    if axis is None:
        return tuple(range(ndim))
    axes = [operator.index(a) for a in (axis if isinstance(axis, (tuple, list)) else (axis,))]
    for a in axes:
        if not -ndim <= a < ndim:
            raise ValueError(f"axis {a} is out of bounds for array of dimension {ndim}")
    return tuple([a % ndim for a in axes])


def given(value: Any) -> bool:
    """Whether an optional argument of a NumPy function was given."""
    return value is not None and value is not np._NoValue


def reduced(b: Builder, op: str, x: Any, axis: Any, keepdims: Any, dtype: Any = None) -> Value:
    """Emit a reduction as NumPy's functions have it, with ``axis`` and ``keepdims``."""
    x = b.value(x)
    axes = axes_of(axis, x.ndim)
    result = b.reduce(op, x, axes, dtype if given(dtype) else None)
    if given(keepdims) and keepdims:
        return b.reshape(result, [1 if a in axes else n for a, n in enumerate(x.shape)])
    return result
