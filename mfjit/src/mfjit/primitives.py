"""Operations that engines have instructions of their own for, by qualified name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mfcore.errors import NotTraceableError
from mfjit.builder import Builder
from mfjit.indexing import place
from mfjit.ir import Shape, Value
from mfjit.rules import axes_of
from mfops_basic.windows import Pair, output_size, padding_of


def _one_hot(b: Builder, indices: Value, *, depth: int, dtype: np.dtype[Any]) -> Value:
    return b.one_hot(indices, depth, dtype)


def _index_add(b: Builder, x: Value, *, index: tuple[Any, ...], shape: Shape) -> Value:
    found = place(b, x, index, shape)
    if found is None:
        raise NotTraceableError("an index with several arrays has no instruction")
    return found


def _take_add(b: Builder, x: Value, indices: Value, *, axis: int | None, shape: Shape) -> Value:
    if axis is None:
        flat = b.take_add(x, indices, 0, (math.prod(shape),))
        return b.reshape(flat, shape)
    return b.take_add(x, indices, axes_of(axis, len(shape))[0], shape)


def _correlate2d(b: Builder, x: Value, W: Value, *, stride: Pair, padding: Any) -> Value:
    _fit(x.ndim == 4 and W.ndim == 4 and x.shape[1] == W.shape[1])
    image, kernel = (x.shape[2], x.shape[3]), (W.shape[2], W.shape[3])
    (top, _), (left, _) = padding_of(image, kernel, stride, padding)
    shape = (x.shape[0], W.shape[0], *output_size(image, kernel, stride, padding))
    return b.kernel("conv2d", _same(b, x, W), shape, stride=stride, pads=(top, left))


def _conv2d_input_gradient(
    b: Builder, upstream: Value, W: Value, *, image_size: Pair, stride: Pair, padding: Any
) -> Value:
    kernel = (W.shape[2], W.shape[3])
    places = output_size(image_size, kernel, stride, padding)
    _fit(upstream.ndim == 4 and upstream.shape[1:] == (W.shape[0], *places))
    (top, _), (left, _) = padding_of(image_size, kernel, stride, padding)
    shape = (upstream.shape[0], W.shape[1], *image_size)
    args = _same(b, upstream, W)
    return b.kernel("conv2d_input_gradient", args, shape, stride=stride, pads=(top, left))


def _conv2d_weight_gradient(
    b: Builder, x: Value, upstream: Value, *, kernel_size: Pair, stride: Pair, padding: Any
) -> Value:
    image = (x.shape[2], x.shape[3])
    places = output_size(image, kernel_size, stride, padding)
    _fit(upstream.shape[0] == x.shape[0] and upstream.shape[2:] == places)
    (top, _), (left, _) = padding_of(image, kernel_size, stride, padding)
    shape = (upstream.shape[1], x.shape[1], *kernel_size)
    args = _same(b, x, upstream)
    return b.kernel("conv2d_weight_gradient", args, shape, stride=stride, pads=(top, left))


def _max_pool2d(
    b: Builder, x: Value, *, kernel_size: Pair, stride: Pair | None, padding: Any
) -> Value:
    _fit(x.ndim == 4 and x.dtype.kind == "f")
    image, step = (x.shape[2], x.shape[3]), stride or kernel_size
    (top, _), (left, _) = padding_of(image, kernel_size, step, padding)
    shape = (*x.shape[:2], *output_size(image, kernel_size, step, padding))
    return b.kernel("max_pool2d", (x,), shape, size=kernel_size, stride=step, pads=(top, left))


def _max_pool2d_gradient(
    b: Builder,
    upstream: Value,
    x: Value,
    pooled: Value,
    *,
    kernel_size: Pair,
    stride: Pair | None,
    padding: Any,
) -> Value:
    _fit(x.ndim == 4 and upstream.shape == pooled.shape)
    step = stride or kernel_size
    (top, _), (left, _) = padding_of((x.shape[2], x.shape[3]), kernel_size, step, padding)
    args = _same(b, upstream, x, pooled)
    return b.kernel(
        "max_pool2d_gradient", args, x.shape, size=kernel_size, stride=step, pads=(top, left)
    )


def _fit(holds: bool) -> None:
    """Leave what does not fit to the operation's own function, which says so.

    Raises
    ------
    NotTraceableError
        If it does not.
    """
    if not holds:
        raise NotTraceableError("the shapes do not fit")


def _same(b: Builder, *values: Value) -> tuple[Value, ...]:
    """Return values in one float dtype, that of their sum."""
    dtype = np.result_type(*[value.dtype for value in values])
    _fit(dtype.kind == "f")
    return tuple([b.cast(value, dtype) for value in values])


PRIMITIVES: dict[str, Callable[..., Value]] = {
    "mfops_basic.OneHot": _one_hot,
    "mfops_basic.IndexAdd": _index_add,
    "mfops_basic.TakeAdd": _take_add,
    "mfops_nn.Correlate2D": _correlate2d,
    "mfops_nn.Conv2DInputGradient": _conv2d_input_gradient,
    "mfops_nn.Conv2DWeightGradient": _conv2d_weight_gradient,
    "mfops_nn.MaxPool2D": _max_pool2d,
    "mfops_nn.MaxPool2DGradient": _max_pool2d_gradient,
}
"""What an operation is, given the builder, its inputs and, by name, its hyperparameters."""
