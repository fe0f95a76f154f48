"""Convolution and pooling as NumPy calls into given arrays, for the numpy engine.

The functions are called as those of ``convolution`` are, but for their workspaces. None
allocates more than views: what is not contiguous is copied before it is reckoned with, because
NumPy's arithmetic allocates buffers for it and its copying does not. Images are taken in groups
whose windows, written out as columns (im2col, Chellapilla, Puri and Simard 2006), stay in the
cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Pair = tuple[int, int]

_GROUP = 1 << 18
"""About how many elements the columns of a group of images have."""


def _sizes(n: int, c: int, o: int, kernel: Shape, count: Shape, covered: Shape) -> list[Shape]:
    """Return the shapes of what a workspace holds.

    These are padded images, their columns with a row of ones behind, weights with a column of
    biases behind, and such products for each image and for a group.
    """
    places, positions = c * kernel[0] * kernel[1] + 1, count[0] * count[1]
    images = max(min(n, _GROUP // max(places * positions, 1)), 1)
    return [
        (images, c, *covered),
        (images, places, positions),
        (o, places),
        (images, o, places),
        (o, places),
    ]


def _covered(size: Shape, kernel: Shape, count: Shape, stride: Shape, padding: Shape) -> Shape:
    """Return height and width of an image with all that its windows cover around it."""
    rows, columns = (
        max(n + p, (m - 1) * s + k)
        for n, p, m, s, k in zip(size, padding, count, stride, kernel, strict=True)
    )
    return rows, columns


def _around(size: Shape, kernel: Shape) -> Shape:
    """Return height and width of an image which weights, flipped, reach over every edge of."""
    return size[0] + kernel[0] - 1, size[1] + kernel[1] - 1


def conv2d_workspace(x: Shape, W: Shape, out: Shape, stride: Pair, padding: Pair) -> int:
    """Return how many elements the workspace of ``conv2d`` has, given shapes.

    That of ``conv2d_weight_gradient`` has as many; ``out`` is then the shape of its ``grad``.
    """
    o, c, *kernel = W
    covered = _covered(x[2:], tuple(kernel), out[2:], stride, padding)
    return sum(math.prod(s) for s in _sizes(x[0], c, o, tuple(kernel), out[2:], covered))


def conv2d_input_gradient_workspace(W: Shape, out: Shape) -> int:
    """Return how many elements the workspace of ``conv2d_input_gradient`` has."""
    o, c, *kernel = W
    covered = _around(out[2:], tuple(kernel))
    return sum(math.prod(s) for s in _sizes(out[0], o, c, tuple(kernel), out[2:], covered))


class _Windows:
    """Views into a workspace, for images whose windows are written out as columns."""

    def __init__(
        self, n: int, c: int, o: int, kernel: Shape, count: Shape, stride: Shape, covered: Shape,
        workspace: Array,
    ) -> None:  # fmt: skip
        views = []
        start = 0
        for shape in _sizes(n, c, o, kernel, count, covered):
            stop = start + math.prod(shape)
            views.append(workspace[start:stop].reshape(shape))
            start = stop
        self.padded, self.columns, self.weights, self.products, self.product = views
        self.n, self.images = n, self.padded.shape[0]
        self.columns[:, -1] = 1
        self.parts: list[tuple[Array, Array]] = []
        rows, columns = ((m - 1) * s + 1 for m, s in zip(count, stride, strict=True))
        by_place = self.columns[:, :-1].reshape(self.images, c, *kernel, *count)
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                elements = self.padded[:, :, i : i + rows : stride[0], j : j + columns : stride[1]]
                self.parts.append((elements, by_place[:, :, i, j]))

    def groups(self) -> Iterator[tuple[slice, slice]]:
        """Yield which images are taken at once, and which places of the workspace they take."""
        for start in range(0, self.n, self.images):
            stop = min(start + self.images, self.n)
            yield slice(start, stop), slice(0, stop - start)

    def write_columns(self, taken: slice) -> None:
        """Write the columns of the padded images."""
        for elements, columns in self.parts:
            np.copyto(columns[taken], elements[taken])

    def multiply(self, taken: slice, out: Array) -> Array:
        """Write weights times columns into ``out``, and return it as a matrix for each image."""
        product = out.reshape(out.shape[0], out.shape[1], self.columns.shape[2])
        np.matmul(self.weights, self.columns[taken], out=product)
        return product


def _windows_of(x: Array, W: Array, out: Array, stride: Pair, padding: Pair, space: Array) -> Any:
    n, c, h, w = x.shape
    o, _, *kernel = W.shape
    covered = _covered((h, w), tuple(kernel), out.shape[2:], stride, padding)
    windows = _Windows(n, c, o, tuple(kernel), out.shape[2:], stride, covered, space)
    windows.padded.fill(0)
    top, left = padding
    return windows, windows.padded[:, :, top : top + h, left : left + w]


def conv2d(
    x: Array, W: Array, b: Array, out: Array, stride_h: int, stride_w: int, pad_h: int,
    pad_w: int, rectify: bool, workspace: Array,
) -> None:  # fmt: skip
    """Write the convolution of images into ``out``; see ``convolution.conv2d``.

    ``workspace`` has one axis, as long as ``conv2d_workspace`` says.
    """
    windows, inside = _windows_of(x, W, out, (stride_h, stride_w), (pad_h, pad_w), workspace)
    np.copyto(windows.weights[:, :-1], W.reshape(W.shape[0], -1))
    np.copyto(windows.weights[:, -1], b if b.size else 0)
    for images, taken in windows.groups():
        np.copyto(inside[taken], x[images])
        windows.write_columns(taken)
        product = windows.multiply(taken, out[images])
        if rectify:
            np.maximum(product, 0, out=product)


def conv2d_input_gradient(
    grad: Array, W: Array, out: Array, stride_h: int, stride_w: int, pad_h: int, pad_w: int,
    workspace: Array,
) -> None:  # fmt: skip
    """Write the gradient at the images into ``out``; see ``convolution.conv2d_input_gradient``.

    ``workspace`` has one axis, as long as ``conv2d_input_gradient_workspace`` says.
    """
    o, c, *kernel = W.shape
    size, stride, padding = out.shape[2:], (stride_h, stride_w), (pad_h, pad_w)
    around = _around(size, tuple(kernel))
    windows = _Windows(out.shape[0], o, c, tuple(kernel), size, (1, 1), around, workspace)
    np.copyto(windows.weights[:, :-1].reshape(c, o, *kernel), W[:, :, ::-1, ::-1].swapaxes(0, 1))
    windows.weights[:, -1] = 0
    windows.padded.fill(0)
    # A row of the gradient that is further from the edge than weights reach is left out.
    rows, columns = (
        _spread(around[a], kernel[a] - 1 - padding[a], stride[a], grad.shape[2 + a])
        for a in range(2)
    )
    inside = windows.padded[:, :, rows[0], columns[0]]
    for images, taken in windows.groups():
        np.copyto(inside[taken], grad[images, :, rows[1], columns[1]])
        windows.write_columns(taken)
        windows.multiply(taken, out[images])


def _spread(size: int, first: int, step: int, count: int) -> tuple[slice, slice]:
    """Return where ``count`` elements come to lie, and which of them lie within ``size``."""
    skipped = max(-(first // step), 0)
    last = max(min((size - 1 - first) // step + 1, count), skipped)
    start = first + skipped * step
    return slice(start, start + max((last - skipped - 1) * step + 1, 0), step), slice(skipped, last)


def conv2d_weight_gradient(
    x: Array, grad: Array, out: Array, bias: Array, stride_h: int, stride_w: int, pad_h: int,
    pad_w: int, workspace: Array,
) -> None:  # fmt: skip
    """Write the gradients at weights and biases; see ``convolution.conv2d_weight_gradient``.

    ``workspace`` has one axis, as long as ``conv2d_workspace`` says.
    """
    windows, inside = _windows_of(x, out, grad, (stride_h, stride_w), (pad_h, pad_w), workspace)
    total, product = windows.weights, windows.product
    total.fill(0)
    for images, taken in windows.groups():
        np.copyto(inside[taken], x[images])
        windows.write_columns(taken)
        slopes = grad[images].reshape(taken.stop, out.shape[0], windows.columns.shape[2])
        products = windows.products[taken]
        # The row of ones gives the gradient of the biases.
        np.matmul(slopes, windows.columns[taken].swapaxes(1, 2), out=products)
        np.add.reduce(products, axis=0, out=product)
        np.add(total, product, out=total)
    np.copyto(out.reshape(out.shape[0], -1), total[:, :-1])
    if bias.size:
        np.copyto(bias, total[:, -1])


def _places(
    size: Shape, count: Shape, kernel: Shape, stride: Shape, padding: Shape
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Yield, for each place in a window, the images' elements there and whose windows' they are.

    Windows that have that place in the padding are left out.
    """
    rows, columns = (
        [_spread(n, i - p, s, m) for i in range(k)]
        for n, m, k, s, p in zip(size, count, kernel, stride, padding, strict=True)
    )
    every = slice(None)
    for from_rows, to_rows in rows:
        for from_columns, to_columns in columns:
            yield (every, every, from_rows, from_columns), (every, every, to_rows, to_columns)


def max_pool2d(
    x: Array, out: Array, size_h: int, size_w: int, stride_h: int, stride_w: int, pad_h: int,
    pad_w: int, workspace: Array,
) -> None:  # fmt: skip
    """Write the largest element of each window into ``out``; see ``convolution.max_pool2d``.

    ``workspace`` has one axis of ``out.size`` elements.
    """
    kernel, stride, padding = (size_h, size_w), (stride_h, stride_w), (pad_h, pad_w)
    lowest = -np.inf if out.dtype.kind == "f" else np.iinfo(out.dtype).min
    out.fill(lowest)
    here = workspace.reshape(out.shape)
    here.fill(lowest)
    for elements, windows in _places(x.shape[2:], out.shape[2:], kernel, stride, padding):
        if pad_h or pad_w:
            here.fill(lowest)
        np.copyto(here[windows], x[elements])
        np.maximum(out, here, out=out)


def max_pool2d_gradient(
    grad: Array, x: Array, pooled: Array, out: Array, size_h: int, size_w: int, stride_h: int,
    stride_w: int, pad_h: int, pad_w: int, rectified: bool, workspace: Array, masks: Array,
) -> None:  # fmt: skip
    """Write the gradient of ``max_pool2d`` into ``out``; see ``convolution.max_pool2d_gradient``.

    ``workspace`` is of shape ``(2, pooled.size)``, ``masks`` are bools of shape
    ``(3, pooled.size)``.
    """
    kernel, stride, padding = (size_h, size_w), (stride_h, stride_w), (pad_h, pad_w)
    here, there = (row.reshape(pooled.shape) for row in workspace)
    found, taken, first = (row.reshape(pooled.shape) for row in masks)
    apart = stride_h >= size_h and stride_w >= size_w
    out.fill(0)
    here.fill(0)
    if rectified:  # as if a window of nothing positive had been dealt with
        np.greater(pooled, 0, out=found)
        np.logical_not(found, out=found)
    else:
        found.fill(False)
    for elements, windows in _places(x.shape[2:], grad.shape[2:], kernel, stride, padding):
        np.copyto(here[windows], x[elements])
        np.less(here, pooled, out=taken)
        np.logical_or(taken, found, out=taken)
        np.logical_not(taken, out=taken)
        first.fill(False)
        np.copyto(first[windows], taken[windows])
        np.logical_or(found, first, out=found)
        if apart:
            np.copyto(out[elements], grad[windows], where=first[windows])
            continue
        there.fill(0)
        np.copyto(there, grad, where=first)
        here.fill(0)
        np.copyto(here[windows], out[elements])
        np.add(here, there, out=here)
        np.copyto(out[elements], here[windows])
