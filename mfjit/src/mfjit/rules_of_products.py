"""Rules of NumPy's products: dot, outer, tensordot, and Einstein's sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mfjit.builder import Builder
from mfjit.ir import Value
from mfjit.rules import NoRule, RuleTable, axes_of

PRODUCTS = RuleTable()


@PRODUCTS.of(np.dot)
def _dot(b: Builder, a: Any, b_: Any, out: Any = None) -> Value:
    x, y = b.value(a), b.value(b_)
    if not x.ndim or not y.ndim:
        return b.elementwise("multiply", x, y)
    if y.ndim > 2:
        raise NoRule
    return b.matmul(x, y)


@PRODUCTS.of(np.vdot)
def _vdot(b: Builder, a: Any, b_: Any) -> Value:
    return b.matmul(b.reshape(b.value(a), (-1,)), b.reshape(b.value(b_), (-1,)))


@PRODUCTS.of(np.outer)
def _outer(b: Builder, a: Any, b_: Any, out: Any = None) -> Value:
    x, y = b.value(a), b.value(b_)
    return b.elementwise("multiply", b.reshape(x, (-1, 1)), b.reshape(y, (1, -1)))


@PRODUCTS.of(np.tensordot)
def _tensordot(b: Builder, a: Any, b_: Any, axes: Any = 2) -> Value:
    x, y = b.value(a), b.value(b_)
    if isinstance(axes, int):
        left, right = tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes))
    else:
        left, right = axes_of(axes[0], x.ndim), axes_of(axes[1], y.ndim)
    if len(left) != len(right) or any(
        x.shape[i] != y.shape[j] for i, j in zip(left, right, strict=True)
    ):
        raise ValueError(f"tensordot: shapes {x.shape} and {y.shape} do not fit over {axes}")
    rows = [i for i in range(x.ndim) if i not in left]
    columns = [j for j in range(y.ndim) if j not in right]
    inner = math.prod(x.shape[i] for i in left)
    shape = [x.shape[i] for i in rows] + [y.shape[j] for j in columns]
    count = math.prod(x.shape[i] for i in rows)
    flat_x = b.reshape(b.transpose(x, [*rows, *left]), (count, inner))
    columns_count = math.prod(y.shape[j] for j in columns)
    flat_y = b.reshape(b.transpose(y, [*right, *columns]), (inner, columns_count))
    return b.reshape(b.matmul(flat_x, flat_y), shape)


@PRODUCTS.of(np.einsum)
def _einsum(b: Builder, *operands: Any, **options: Any) -> Value:
    if not isinstance(operands[0], str) or options.get("out") is not None:
        raise NoRule
    return einsum(b, operands[0].replace(" ", ""), [b.value(x) for x in operands[1:]])


def einsum(b: Builder, subscripts: str, values: Sequence[Value]) -> Value:
    """Emit Einstein's sum, from left to right: a product of matrices for each pair."""
    if "." in subscripts:
        raise NoRule
    left, arrow, output = subscripts.partition("->")
    terms = left.split(",")
    if len(terms) != len(values) or any(
        len(set(term)) != len(term) or len(term) != x.ndim
        for term, x in zip(terms, values, strict=False)
    ):
        raise NoRule  # diagonals, or what NumPy has to complain about
    if not arrow:
        letters = left.replace(",", "")
        output = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    term, x = terms[0], values[0]
    for i, (other, y) in enumerate(zip(terms[1:], values[1:], strict=True)):
        wanted = set(output).union(*terms[i + 2 :])
        term, x = _contracted(b, term, x, other, y, wanted)
    axes = [i for i, c in enumerate(term) if c not in output]
    x = b.reduce("sum", x, axes, x.dtype) if axes else x
    term = "".join(c for c in term if c in output)
    return b.transpose(x, [term.index(c) for c in output])


def _contracted(
    b: Builder, term: str, x: Value, other: str, y: Value, wanted: set[str]
) -> tuple[str, Value]:
    """Multiply two operands, and sum over what nobody wants any more."""
    for letters, mine in ((term, other), (other, term)):
        alone = [i for i, c in enumerate(letters) if c not in wanted and c not in mine]
        if alone and letters is term:
            x, term = b.reduce("sum", x, alone, x.dtype), _without(term, alone)
        elif alone:
            y, other = b.reduce("sum", y, alone, y.dtype), _without(other, alone)
    shared = [c for c in term if c in other]
    batch = [c for c in shared if c in wanted]
    summed = [c for c in shared if c not in wanted]
    rows = [c for c in term if c not in other]
    columns = [c for c in other if c not in term]
    sizes = dict(zip(term, x.shape, strict=True)) | dict(zip(other, y.shape, strict=True))
    left = b.transpose(x, [term.index(c) for c in batch + rows + summed])
    right = b.transpose(y, [other.index(c) for c in batch + summed + columns])
    lengths = [math.prod(sizes[c] for c in part) for part in (rows, summed, columns)]
    outer = [sizes[c] for c in batch]
    if not summed:
        product = b.elementwise(
            "multiply",
            b.reshape(left, [*outer, lengths[0], 1]),
            b.reshape(right, [*outer, 1, lengths[2]]),
        )
    else:
        product = b.matmul(
            b.reshape(left, [*outer, lengths[0], lengths[1]]),
            b.reshape(right, [*outer, lengths[1], lengths[2]]),
        )
    result = "".join(batch + rows + columns)
    return result, b.reshape(product, [sizes[c] for c in result])


def _without(term: str, axes: Sequence[int]) -> str:
    return "".join(c for i, c in enumerate(term) if i not in axes)
