"""Pooling of images, laid out as (batch, channels, height, width), and flattening them."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from mfcore import Array, Node, apply, hyperparameter, operation
from mfops_basic import IndexAdd
from mfops_basic.windows import Pair, as_padding, as_sizes, output_size, padding_of
from mfops_nn.convolution import Conv2DInputGradient, images, padded, windows


def _as_stride(value: Any) -> Pair | None:
    return None if value is None else as_sizes(value)


def _layout(
    x: Array, size: Pair, stride: Pair | None, padding: Pair | str
) -> tuple[Pair, Pair, tuple[Pair, Pair]]:
    """Return the stride, how many windows there are, and the padding on each side.

    Raises
    ------
    ValueError
        If a window could lie in the padding alone, or is larger than the padded image.
    """
    height, width = images(x)[2:]
    stride = stride or size
    if not isinstance(padding, str) and (padding[0] >= size[0] or padding[1] >= size[1]):
        raise ValueError(f"padding {padding} must be smaller than the window's size {size}")
    count = output_size((height, width), size, stride, padding)
    return stride, count, padding_of((height, width), size, stride, padding)


def _with_lowest_around(x: Array, pads: tuple[Pair, Pair]) -> Any:
    """Return images with numbers around them that are the largest of no window."""
    if not any(map(any, pads)) or x.dtype.kind == "b":
        return padded(x, pads)
    h, w = x.shape[2:]
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    around = np.pad(np.zeros((h, w), x.dtype), pads, constant_values=lowest)
    return padded(x, pads) + around


def _first_of_largest(
    x: Array, pooled: Array, size: Pair, stride: Pair | None, padding: Pair | str
) -> tuple[list[tuple[tuple[Any, ...], Any]], tuple[Pair, Pair]]:
    """Return, for each place in a window, its index and whether the largest is found there.

    That is the first place, row by row and inside the image, whose element is not less than
    the largest.
    """
    stride, count, pads = _layout(x, size, stride, padding)
    source = _with_lowest_around(x, pads)
    h, w = x.shape[2:]
    inside = np.pad(np.ones((h, w), bool), pads)
    found: Any = False
    places = []
    for index in windows(size, stride, count):
        here = np.logical_not(np.less(source[index], pooled))
        if not np.all(inside):
            here = np.logical_and(here, inside[index[2:]])
        places.append((index, np.logical_and(here, np.logical_not(found))))
        found = np.logical_or(found, here)
    return places, pads


def _inside(x: Array, pads: tuple[Pair, Pair], size: Pair) -> Any:
    return x[:, :, pads[0][0] : pads[0][0] + size[0], pads[1][0] : pads[1][0] + size[1]]


@operation
class MaxPool2D(Node):
    """The largest element of each window of each channel.

    Of equal largest elements the first, row by row, gets the gradient. Where an element is
    NaN so is the result, and the window's first element gets the gradient.

    Parameters
    ----------
    x : Node
        ``(n, c, h, w)`` images.
    kernel_size : int or pair of int, optional
        Height and width of the windows; 2 by default.
    stride : int or pair of int, optional
        How far windows are apart; by default their size, so that they lie side by side.
    padding : int, pair of int, "same" or "valid", optional
        As that of ``Conv2D``, but smaller than the windows; it is the largest of none.

    Examples
    --------
    >>> import numpy as np
    >>> MaxPool2D.forward(np.arange(16.0).reshape(1, 1, 4, 4), (2, 2), None, "valid")
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """

    x: Node
    kernel_size: Pair = hyperparameter(default=(2, 2), converter=as_sizes)
    stride: Pair | None = hyperparameter(default=None, converter=_as_stride)
    padding: Pair | str = hyperparameter(default=(0, 0), converter=as_padding)

    @staticmethod
    def forward(x: Array, kernel_size: Pair, stride: Pair | None, padding: Pair | str) -> Any:
        stride, count, pads = _layout(x, kernel_size, stride, padding)
        source = _with_lowest_around(x, pads)
        first, *others = (source[index] for index in windows(kernel_size, stride, count))
        # A window of one element must not give a view of x.
        largest = first
        for other in others or [first]:
            largest = np.maximum(largest, other)
        return largest

    @staticmethod
    def shape_and_dtype(
        x: Array, kernel_size: Pair, stride: Pair | None, padding: Pair | str
    ) -> Any:
        _, count, _ = _layout(x, kernel_size, stride, padding)
        return (*x.shape[:2], *count), x.dtype

    @staticmethod
    def backward(
        grad: Array,
        x: Array,
        value: Array,
        kernel_size: Pair,
        stride: Pair | None,
        padding: Pair | str,
    ) -> tuple[Any, ...]:
        options = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
        return (apply(MaxPool2DGradient, grad, x, value, **options),)


@operation
class MaxPool2DGradient(Node):
    """The way back from ``MaxPool2D``: each window's gradient goes to its largest element.

    Parameters
    ----------
    upstream : Node
        ``(n, c, rows, columns)``, the gradient at what ``MaxPool2D`` gives.
    x : Node
        ``(n, c, h, w)`` images. The result has their shape.
    pooled : Node
        What ``MaxPool2D`` gives for them.
    kernel_size, stride, padding
        As those of ``MaxPool2D``.
    """

    upstream: Node
    x: Node
    pooled: Node
    kernel_size: Pair = hyperparameter(default=(2, 2), converter=as_sizes)
    stride: Pair | None = hyperparameter(default=None, converter=_as_stride)
    padding: Pair | str = hyperparameter(default=(0, 0), converter=as_padding)

    expected_failures: ClassVar[dict[str, str]] = {
        "gradients": "x and pooled belong together: moved apart, no element is the largest",
    }

    @staticmethod
    def samples(rng: np.random.Generator) -> Any:
        batches = [rng.normal(size=(n, 1, 4, 6)) for n in (2, 0)]
        pooled = [MaxPool2D.forward(x, (2, 2), None, (0, 0)) for x in batches]
        return [(rng.normal(size=y.shape), x, y) for x, y in zip(batches, pooled, strict=True)]

    @staticmethod
    def forward(
        upstream: Array,
        x: Array,
        pooled: Array,
        kernel_size: Pair,
        stride: Pair | None,
        padding: Pair | str,
    ) -> Any:
        places, pads = _first_of_largest(x, pooled, kernel_size, stride, padding)
        n, c, h, w = x.shape
        shape = (n, c, h + sum(pads[0]), w + sum(pads[1]))
        total: Any = 0
        for index, first in places:
            total = total + apply(IndexAdd, np.where(first, upstream, 0), index=index, shape=shape)
        return _inside(total, pads, (h, w))

    @staticmethod
    def shape_and_dtype(
        upstream: Array,
        x: Array,
        pooled: Array,
        kernel_size: Pair,
        stride: Pair | None,
        padding: Pair | str,
    ) -> Any:
        _, count, _ = _layout(x, kernel_size, stride, padding)
        shape = (*x.shape[:2], *count)
        if np.broadcast_shapes(shape, upstream.shape, pooled.shape) != shape:
            raise ValueError(
                f"gradients of shape {upstream.shape} and largest elements of shape "
                f"{pooled.shape} do not fit: the pooled images have the shape {shape}"
            )
        return x.shape, np.result_type(upstream.dtype, 0)

    @staticmethod
    def backward(
        grad: Array,
        x: Array,
        pooled: Array,
        kernel_size: Pair,
        stride: Pair | None,
        padding: Pair | str,
    ) -> tuple[Any, ...]:
        places, pads = _first_of_largest(x, pooled, kernel_size, stride, padding)
        source = padded(grad, pads)
        total: Any = 0
        for index, first in places:
            total = total + np.where(first, source[index], 0)
        # Where the largest elements are does not change between the steps.
        return total, None, None


@operation
class AvgPool2D(Node):
    """The mean of each window of each channel; the zeros of padding count.

    Parameters
    ----------
    x : Node
        ``(n, c, h, w)`` images.
    kernel_size : int or pair of int, optional
        Height and width of the windows; 2 by default.
    stride : int or pair of int, optional
        How far windows are apart; by default their size, so that they lie side by side.
    padding : int, pair of int, "same" or "valid", optional
        As that of ``Conv2D``, but smaller than the windows.

    Examples
    --------
    >>> import numpy as np
    >>> AvgPool2D.forward(np.arange(16.0).reshape(1, 1, 4, 4), (2, 2), None, "valid")
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """

    x: Node
    kernel_size: Pair = hyperparameter(default=(2, 2), converter=as_sizes)
    stride: Pair | None = hyperparameter(default=None, converter=_as_stride)
    padding: Pair | str = hyperparameter(default=(0, 0), converter=as_padding)

    @staticmethod
    def forward(x: Array, kernel_size: Pair, stride: Pair | None, padding: Pair | str) -> Any:
        stride, count, pads = _layout(x, kernel_size, stride, padding)
        source = padded(x, pads)
        return np.mean(np.stack([source[i] for i in windows(kernel_size, stride, count)]), axis=0)

    @staticmethod
    def shape_and_dtype(
        x: Array, kernel_size: Pair, stride: Pair | None, padding: Pair | str
    ) -> Any:
        _, count, _ = _layout(x, kernel_size, stride, padding)
        return (*x.shape[:2], *count), np.mean(np.zeros(1, x.dtype)).dtype

    @staticmethod
    def backward(
        grad: Array, x: Array, kernel_size: Pair, stride: Pair | None, padding: Pair | str
    ) -> tuple[Any, ...]:
        n, c, h, w = x.shape
        # A mean is a convolution of each channel by itself, with equal weights.
        total = apply(
            Conv2DInputGradient,
            np.reshape(grad, (n * c, 1, *grad.shape[2:])),
            np.full((1, 1, *kernel_size), 1 / math.prod(kernel_size), grad.dtype),
            image_size=(h, w),
            stride=stride or kernel_size,
            padding=padding,
        )
        return (np.reshape(total, (n, c, h, w)),)


@operation
class Flatten(Node):
    """Each element of a batch as one row: ``(n, ...)`` becomes ``(n, k)``. A view where it can be.

    Parameters
    ----------
    x : Node
        ``(n, ...)``, of at least one axis.

    Examples
    --------
    >>> import numpy as np
    >>> Flatten.forward(np.zeros((2, 3, 4))).shape
    (2, 12)
    """

    x: Node

    views = True

    @staticmethod
    def forward(x: Array) -> Any:
        if not x.shape:
            raise ValueError("x needs an axis of a batch, but is a single number")
        return np.reshape(x, (x.shape[0], math.prod(x.shape[1:])))

    @staticmethod
    def backward(grad: Array, x: Array) -> tuple[Any, ...]:
        return (np.reshape(grad, x.shape),)
