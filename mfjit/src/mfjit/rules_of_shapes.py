"""Rules of NumPy's functions that arrange, join, index and fill arrays."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from mfjit.builder import Builder, full_slices
from mfjit.indexing import getitem
from mfjit.ir import Value
from mfjit.rules import NoRule, Rule, RuleTable, axes_of, given

SHAPES = RuleTable()


@SHAPES.of(np.reshape)
def _reshape(b: Builder, a: Any, shape: Any = None, order: str = "C", **options: Any) -> Value:
    if order != "C" or shape is None:
        raise NoRule
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    return b.reshape(b.value(a), [operator.index(size) for size in sizes])


@SHAPES.of(np.ravel)
def _ravel(b: Builder, a: Any, order: str = "C") -> Value:
    if order != "C":
        raise NoRule
    return b.reshape(b.value(a), (-1,))


@SHAPES.of(np.transpose, np.permute_dims)
def _transpose(b: Builder, a: Any, axes: Any = None) -> Value:
    x = b.value(a)
    return b.transpose(x, None if axes is None else axes_of(axes, x.ndim))


@SHAPES.of(np.matrix_transpose)
def _matrix_transpose(b: Builder, x: Any) -> Value:
    y = b.value(x)
    return b.transpose(y, [*range(y.ndim - 2), y.ndim - 1, y.ndim - 2])


@SHAPES.of(np.swapaxes)
def _swapaxes(b: Builder, a: Any, axis1: int, axis2: int) -> Value:
    x = b.value(a)
    i, j = axes_of((axis1, axis2), x.ndim)
    order = list(range(x.ndim))
    order[i], order[j] = order[j], order[i]
    return b.transpose(x, order)


@SHAPES.of(np.moveaxis)
def _moveaxis(b: Builder, a: Any, source: Any, destination: Any) -> Value:
    x = b.value(a)
    moved, target = axes_of(source, x.ndim), axes_of(destination, x.ndim)
    order = [i for i in range(x.ndim) if i not in moved]
    for place, axis in sorted(zip(target, moved, strict=True)):
        order.insert(place, axis)
    return b.transpose(x, order)


@SHAPES.of(np.expand_dims)
def _expand_dims(b: Builder, a: Any, axis: Any) -> Value:
    x = b.value(a)
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    places = axes_of(axis, x.ndim + count)
    sizes = iter(x.shape)
    shape = [1 if i in places else next(sizes) for i in range(x.ndim + count)]
    return b.reshape(x, shape)


@SHAPES.of(np.squeeze)
def _squeeze(b: Builder, a: Any, axis: Any = None) -> Value:
    x = b.value(a)
    if axis is None:
        return b.reshape(x, [n for n in x.shape if n != 1])
    axes = axes_of(axis, x.ndim)
    if any(x.shape[i] != 1 for i in axes):
        raise ValueError(f"cannot squeeze axes {axes} of shape {x.shape}: not of length one")
    return b.reshape(x, [n for i, n in enumerate(x.shape) if i not in axes])


@SHAPES.of(np.broadcast_to)
def _broadcast_to(b: Builder, array: Any, shape: Any, subok: bool = False) -> Value:
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    return b.broadcast_to(b.value(array), [operator.index(size) for size in sizes])


@SHAPES.of(np.concatenate)
def _concatenate(b: Builder, arrays: Any, axis: Any = 0, **options: Any) -> Value:
    if any(given(v) for k, v in options.items() if k != "casting"):
        raise NoRule
    parts = [b.value(x) for x in arrays]
    if axis is None:
        return b.concatenate([b.reshape(x, (-1,)) for x in parts], 0)
    return b.concatenate(parts, axes_of(axis, parts[0].ndim)[0])


@SHAPES.of(np.stack)
def _stack(b: Builder, arrays: Any, axis: int = 0, **options: Any) -> Value:
    if any(given(v) for k, v in options.items() if k != "casting"):
        raise NoRule
    parts = [_expand_dims(b, x, axis) for x in arrays]
    return b.concatenate(parts, axes_of(axis, parts[0].ndim)[0])


@SHAPES.of(np.take)
def _take(
    b: Builder, a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise"
) -> Value:
    x, chosen = b.value(a), b.value(indices)
    if mode != "raise" or chosen.dtype.kind not in "iu":
        raise NoRule
    if axis is None:
        return b.take(b.reshape(x, (-1,)), chosen, 0)
    return b.take(x, chosen, axes_of(axis, x.ndim)[0])


@SHAPES.of(operator.getitem)
def _getitem(b: Builder, x: Any, index: Any) -> Value:
    result = getitem(b, b.value(x), index)
    if result is None:
        raise NoRule
    return result


@SHAPES.of(np.zeros_like, np.ones_like, np.full_like)
def _full_like(b: Builder, a: Any, fill_value: Any, dtype: Any = None, **options: Any) -> Value:
    shape = options.get("shape")
    x = b.value(a)
    kind = np.dtype(dtype) if dtype is not None else x.dtype
    value = b.cast(b.value(fill_value), kind)
    return b.broadcast_to(value, x.shape if shape is None else shape)


SHAPES.of(np.zeros_like)(lambda b, a, dtype=None, **o: _full_like(b, a, 0, dtype, **o))
SHAPES.of(np.ones_like)(lambda b, a, dtype=None, **o: _full_like(b, a, 1, dtype, **o))
SHAPES.of(np.copy)(lambda b, a, *_args, **_options: b.value(a))
SHAPES.of(np.shape)(lambda b, a: b.value(a).shape)
SHAPES.of(np.ndim)(lambda b, a: b.value(a).ndim)
SHAPES.of(np.size)(
    lambda b, a, axis=None: b.value(a).size if axis is None else b.value(a).shape[axis]
)
SHAPES.of(np.result_type)(lambda b, *xs: np.result_type(*[getattr(x, "dtype", x) for x in xs]))


@SHAPES.of(np.flip)
def _flip(b: Builder, m: Any, axis: Any = None) -> Value:
    x = b.value(m)
    axes = axes_of(axis, x.ndim)
    slices = [
        (size - 1, -1, -1) if i in axes and size else part
        for i, (size, part) in enumerate(zip(x.shape, full_slices(x.shape), strict=True))
    ]
    return b.slice(x, tuple(slices))


@SHAPES.of(np.diff)
def _diff(b: Builder, a: Any, n: int = 1, axis: int = -1, **options: Any) -> Value:
    if options or n != 1:
        raise NoRule
    x = b.value(a)
    place = axes_of(axis, x.ndim)[0]
    size = x.shape[place]

    def part(start: int, stop: int) -> Value:
        return b.slice(
            x,
            tuple((start, stop, 1) if i == place else (0, k, 1) for i, k in enumerate(x.shape)),
        )

    return b.elementwise("subtract", part(1, size), part(0, max(size - 1, 0)))


@SHAPES.of(np.pad)
def _pad(b: Builder, array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Value:
    x = b.value(array)
    if mode != "constant" or options.get("constant_values", 0) != 0:
        raise NoRule
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()
    shape = tuple(n + before + after for n, (before, after) in zip(x.shape, widths, strict=True))
    slices = tuple((w[0], w[0] + n, 1) for n, w in zip(x.shape, widths, strict=True))
    return b.place(x, slices, shape)


@SHAPES.of(np.repeat)
def _repeat(b: Builder, a: Any, repeats: Any, axis: Any = None) -> Value:
    x = b.value(a)
    if not isinstance(repeats, (int, np.integer)):
        raise NoRule
    if axis is None:
        x, axis = b.reshape(x, (-1,)), 0
    repeats, place = int(repeats), axes_of(axis, x.ndim)[0]
    before, size, after = x.shape[:place], x.shape[place], x.shape[place + 1 :]
    spread = b.broadcast_to(
        b.reshape(x, (*before, size, 1, *after)), (*before, size, repeats, *after)
    )
    return b.reshape(spread, (*before, size * repeats, *after))


def _triangle(function: Any) -> Rule:
    def rule(b: Builder, m: Any, k: int = 0) -> Value:
        x = b.value(m)
        mask = function(np.ones(x.shape[-2:], np.bool_), k)
        return b.elementwise("where", mask, x, b.literal(0, x.dtype))

    return rule


SHAPES.of(np.triu)(_triangle(np.triu))
SHAPES.of(np.tril)(_triangle(np.tril))


@SHAPES.of(np.round, np.around)
def _round(b: Builder, a: Any, decimals: int = 0, _out: Any = None) -> Value:
    if decimals != 0:
        raise NoRule
    return b.elementwise("rint", a)


def _size(x: Value, axis: int | None) -> int:
    return x.size if axis is None else x.shape[axis]
