"""Convolution of images, laid out as (batch, channels, height, width).

Windows are read as strided slices and convolution is one matrix product over them (im2col,
Chellapilla, Puri and Simard 2006). Convolution is linear in the image and in the weights, so
its two gradients are convolutions again (Dumoulin and Visin 2016, "A guide to convolution
arithmetic for deep learning"), and each of the three has the other two as its gradients.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mfcore import Array, Node, apply, hyperparameter, operation
from mfcore.domain import Domain, one_of, real
from mfops_basic import IndexAdd
from mfops_basic.windows import (
    Pair,
    as_image_size,
    as_padding,
    as_sizes,
    output_size,
    padding_of,
)


def images(x: Array, what: str = "x") -> tuple[int, ...]:
    """Return the shape of a batch of images.

    Raises
    ------
    ValueError
        If there are not four axes.
    """
    shape: tuple[int, ...] = x.shape
    if len(shape) != 4:
        raise ValueError(
            f"{what} must have the axes (batch, channels, height, width), but has shape {shape}"
        )
    return shape


def _checked(x: Array, W: Array) -> tuple[int, ...]:
    """Return the shape of a batch of images that weights fit.

    Raises
    ------
    ValueError
        If they do not.
    """
    shape = images(x)
    if len(W.shape) != 4 or W.shape[1] != shape[1]:
        raise ValueError(
            f"weights of shape {W.shape} do not fit images of shape {x.shape}: they need the "
            f"axes (out channels, in channels, height, width) with {shape[1]} in channels"
        )
    return shape


def padded(x: Array, pads: tuple[Pair, Pair]) -> Any:
    """Return images with rows and columns of zeros around them."""
    (top, bottom), (left, right) = pads
    if not (top or bottom or left or right):
        return x
    n, c, h, w = x.shape
    inside = (slice(None), slice(None), slice(top, top + h), slice(left, left + w))
    return apply(IndexAdd, x, index=inside, shape=(n, c, h + top + bottom, w + left + right))


def windows(kernel: Pair, stride: Pair, count: Pair, start: Pair = (0, 0)) -> list[tuple[Any, ...]]:
    """Return an index for each place in a window, row by row: that place in all windows."""
    rows, columns = ((n - 1) * s + 1 for n, s in zip(count, stride, strict=True))
    return [
        (slice(None), slice(None), slice(i, i + rows, stride[0]), slice(j, j + columns, stride[1]))
        for i in range(start[0], start[0] + kernel[0])
        for j in range(start[1], start[1] + kernel[1])
    ]


def _fit(upstream: Array, channels: int, count: Pair) -> None:
    """Check the shape of a gradient.

    Raises
    ------
    ValueError
        If it is not the shape of what the gradient is of.
    """
    if images(upstream, "upstream")[1:] != (channels, *count):
        raise ValueError(
            f"a gradient of shape {upstream.shape} does not fit: the convolution has the "
            f"shape {(upstream.shape[0], channels, *count)}"
        )


def _check_biases(b: Array, W: Array) -> None:
    """Check the shape of biases.

    Raises
    ------
    ValueError
        If there is not one for each out channel.
    """
    if b.shape != W.shape[:1]:
        raise ValueError(
            f"biases of shape {b.shape} do not fit weights of shape {W.shape}: they need "
            f"shape ({W.shape[0]},)"
        )


def _columns(x: Array, kernel: Pair, stride: Pair, padding: Pair | str) -> tuple[Any, Pair]:
    """Return windows as columns ``(n, c * kh * kw, rows * columns)``, and how many there are."""
    n, c, *size = x.shape
    count = output_size((size[0], size[1]), kernel, stride, padding)
    source = padded(x, padding_of((size[0], size[1]), kernel, stride, padding))
    parts = [source[index] for index in windows(kernel, stride, count)]
    places = c * math.prod(kernel)
    return np.reshape(np.stack(parts, axis=2), (n, places, math.prod(count))), count


@operation
class Correlate2D(Node):
    """Convolution of neural networks, without bias: each window times the weights, summed.

    ``value[n, o, i, j] = sum(W[o] * x[n, :, i*s : i*s + kh, j*s : j*s + kw])`` of the padded
    ``x``. Mathematics calls it cross-correlation: the weights are not flipped.

    Parameters
    ----------
    x : Node
        ``(n, c, h, w)`` images.
    W : Node
        ``(o, c, kh, kw)`` weights.
    stride, padding
        As those of ``Conv2D``.

    Examples
    --------
    >>> import numpy as np
    >>> x, W = np.arange(9.0).reshape(1, 1, 3, 3), np.ones((1, 1, 2, 2))
    >>> Correlate2D.forward(x, W, (1, 1), "valid")
    array([[[[ 8., 12.],
             [20., 24.]]]])
    """

    x: Node
    W: Node
    stride: Pair = hyperparameter(default=(1, 1), converter=as_sizes)
    padding: Pair | str = hyperparameter(default=(0, 0), converter=as_padding)

    domain = Domain(
        x=real("n, c, 4, 5"),
        W=real("o, c, 2, 3"),
        stride=one_of(1, 2, (2, 1)),
        padding=one_of(0, (1, 0), "same"),
    )

    @staticmethod
    def forward(x: Array, W: Array, stride: Pair, padding: Pair | str) -> Any:
        n, c = _checked(x, W)[:2]
        o, kernel = W.shape[0], W.shape[2:]
        columns, count = _columns(x, kernel, stride, padding)
        product = np.matmul(np.reshape(W, (o, c * math.prod(kernel))), columns)
        return np.reshape(product, (n, o, *count))

    @staticmethod
    def shape_and_dtype(x: Array, W: Array, stride: Pair, padding: Pair | str) -> Any:
        n, _, height, width = _checked(x, W)
        count = output_size((height, width), (W.shape[2], W.shape[3]), stride, padding)
        return (n, W.shape[0], *count), np.result_type(x.dtype, W.dtype)

    @staticmethod
    def backward(
        grad: Array, x: Array, W: Array, stride: Pair, padding: Pair | str, wanted: Any
    ) -> tuple[Any, ...]:
        options = {"stride": stride, "padding": padding}
        return (
            apply(Conv2DInputGradient, grad, W, image_size=x.shape[2:], **options)
            if wanted.x
            else None,
            apply(Conv2DWeightGradient, x, grad, kernel_size=W.shape[2:], **options)
            if wanted.W
            else None,
        )


@operation
class Conv2DInputGradient(Node):
    """The way back from ``Correlate2D`` to its images; transposed convolution.

    Each element of ``upstream`` adds its multiple of the weights to the window that it came from.

    Parameters
    ----------
    upstream : Node
        ``(n, o, rows, columns)``, the gradient at what ``Correlate2D`` gives.
    W : Node
        ``(o, c, kh, kw)`` weights.
    image_size : pair of int
        Height and width of the images. The result is ``(n, c, *image_size)``.
    stride, padding
        As those of ``Conv2D``.
    """

    upstream: Node
    W: Node
    image_size: Pair = hyperparameter(converter=as_image_size)
    stride: Pair = hyperparameter(default=(1, 1), converter=as_sizes)
    padding: Pair | str = hyperparameter(default=(0, 0), converter=as_padding)

    @staticmethod
    def samples(rng: np.random.Generator) -> Any:
        weights = rng.normal(size=(4, 3, 3, 2))
        return [
            ((rng.normal(size=(2, 4, 3, 4)), weights), {"image_size": 5}),
            ((rng.normal(size=(2, 4, 5, 5)), weights), {"image_size": 5, "padding": "same"}),
        ]

    @staticmethod
    def forward(
        upstream: Array, W: Array, image_size: Pair, stride: Pair, padding: Pair | str
    ) -> Any:
        o, _, *kernel = W.shape
        _fit(upstream, o, output_size(image_size, (kernel[0], kernel[1]), stride, padding))
        (top, bottom), (left, right) = padding_of(
            image_size, (kernel[0], kernel[1]), stride, padding
        )
        # Apart as the windows were, and with room for the weights to reach over every edge.
        rows, columns = (k - 1 for k in kernel)
        spread = apply(
            IndexAdd,
            upstream,
            index=windows((1, 1), stride, upstream.shape[2:], (rows, columns))[0],
            shape=(
                *upstream.shape[:2],
                top + image_size[0] + bottom + rows,
                left + image_size[1] + right + columns,
            ),
        )
        needed = spread[
            :, :, top : top + image_size[0] + rows, left : left + image_size[1] + columns
        ]
        flipped = np.transpose(W[:, :, ::-1, ::-1], (1, 0, 2, 3))
        return apply(Correlate2D, needed, flipped)

    @staticmethod
    def shape_and_dtype(
        upstream: Array, W: Array, image_size: Pair, stride: Pair, padding: Pair | str
    ) -> Any:
        o, c, *kernel = images(W, "W")
        _fit(upstream, o, output_size(image_size, (kernel[0], kernel[1]), stride, padding))
        return (upstream.shape[0], c, *image_size), np.result_type(upstream.dtype, W.dtype)

    @staticmethod
    def backward(
        grad: Array, upstream: Array, W: Array, stride: Pair, padding: Pair | str, wanted: Any
    ) -> tuple[Any, ...]:
        options = {"stride": stride, "padding": padding}
        return (
            apply(Correlate2D, grad, W, **options) if wanted.upstream else None,
            apply(Conv2DWeightGradient, grad, upstream, kernel_size=W.shape[2:], **options)
            if wanted.W
            else None,
        )


@operation
class Conv2DWeightGradient(Node):
    """The way back from ``Correlate2D`` to its weights: each window times what became of it.

    Parameters
    ----------
    x : Node
        ``(n, c, h, w)`` images.
    upstream : Node
        ``(n, o, rows, columns)``, the gradient at what ``Correlate2D`` gives.
    kernel_size : pair of int
        Height and width of the weights. The result is ``(o, c, *kernel_size)``.
    stride, padding
        As those of ``Conv2D``.
    """

    x: Node
    upstream: Node
    kernel_size: Pair = hyperparameter(converter=as_sizes)
    stride: Pair = hyperparameter(default=(1, 1), converter=as_sizes)
    padding: Pair | str = hyperparameter(default=(0, 0), converter=as_padding)

    @staticmethod
    def samples(rng: np.random.Generator) -> Any:
        x = rng.normal(size=(2, 3, 5, 6))
        return [
            ((x, rng.normal(size=(2, 4, 3, 5))), {"kernel_size": (3, 2)}),
            ((x, rng.normal(size=(2, 4, 2, 3))), {"kernel_size": (3, 2), "stride": 2}),
        ]

    @staticmethod
    def forward(
        x: Array, upstream: Array, kernel_size: Pair, stride: Pair, padding: Pair | str
    ) -> Any:
        n, c = images(x)[:2]
        o = images(upstream, "upstream")[1]
        columns, count = _columns(x, kernel_size, stride, padding)
        _fit(upstream, o, count)
        rows = np.reshape(upstream, (n, o, math.prod(count)))
        products = np.matmul(rows, np.swapaxes(columns, 1, 2))
        return np.reshape(np.sum(products, axis=0), (o, c, *kernel_size))

    @staticmethod
    def shape_and_dtype(
        x: Array, upstream: Array, kernel_size: Pair, stride: Pair, padding: Pair | str
    ) -> Any:
        n, c, height, width = images(x)
        o = images(upstream, "upstream")[1]
        _fit(upstream, o, output_size((height, width), kernel_size, stride, padding))
        if upstream.shape[0] != n:
            raise ValueError(f"{n} images have no gradients of shape {upstream.shape}")
        product = np.result_type(x.dtype, upstream.dtype)
        return (o, c, *kernel_size), np.zeros(0, product).sum().dtype

    @staticmethod
    def backward(
        grad: Array, x: Array, upstream: Array, stride: Pair, padding: Pair | str, wanted: Any
    ) -> tuple[Any, ...]:
        options = {"stride": stride, "padding": padding}
        return (
            apply(Conv2DInputGradient, upstream, grad, image_size=x.shape[2:], **options)
            if wanted.x
            else None,
            apply(Correlate2D, x, grad, **options) if wanted.upstream else None,
        )


@operation
class Conv2D(Node):
    """Convolution of images as neural networks mean it, with a bias for each out channel.

    ``Correlate2D(x, W) + b``, ``b`` along the axis of channels.

    Parameters
    ----------
    x : Node
        ``(n, c, h, w)`` images.
    W : Node
        ``(o, c, kh, kw)`` weights.
    b : Node
        ``(o,)`` biases.
    stride : int or pair of int, optional
        How far windows are apart, in height and width; 1 by default.
    padding : int, pair of int, "same" or "valid", optional
        Rows and columns of zeros on every side of the images, in height and width; none by
        default, which is "valid". With "same" the result has ``ceil(h / stride)`` rows and
        ``ceil(w / stride)`` columns; where that takes an odd number of zeros, the larger half is
        below and at the right.

    Examples
    --------
    >>> import mfcore as mf
    >>> import numpy as np
    >>> x, W = mf.Input("x"), mf.Parameter(np.ones((1, 1, 3, 3)), name="W")
    >>> image = Conv2D(x, W, mf.Parameter([0.5]), padding="same")
    >>> run = mf.Session(image).run({x: np.ones((1, 1, 3, 4))})
    >>> run[image]
    array([[[[4.5, 6.5, 6.5, 4.5],
             [6.5, 9.5, 9.5, 6.5],
             [4.5, 6.5, 6.5, 4.5]]]])
    """

    x: Node
    W: Node
    b: Node
    stride: Pair = hyperparameter(default=(1, 1), converter=as_sizes)
    padding: Pair | str = hyperparameter(default=(0, 0), converter=as_padding)

    domain = Domain(
        x=real("n, c, 4, 5"),
        W=real("o, c, 2, 3"),
        b=real("o"),
        stride=one_of(1, 2, (2, 1)),
        padding=one_of(0, (1, 0), "same"),
    )

    @staticmethod
    def forward(x: Array, W: Array, b: Array, stride: Pair, padding: Pair | str) -> Any:
        product = apply(Correlate2D, x, W, stride=stride, padding=padding)
        _check_biases(b, W)
        return product + np.reshape(b, (W.shape[0], 1, 1))

    @staticmethod
    def shape_and_dtype(x: Array, W: Array, b: Array, stride: Pair, padding: Pair | str) -> Any:
        shape, dtype = Correlate2D.shape_and_dtype(x, W, stride, padding)
        _check_biases(b, W)
        return shape, np.result_type(dtype, b.dtype)

    @staticmethod
    def backward(
        grad: Array, x: Array, W: Array, stride: Pair, padding: Pair | str, wanted: Any
    ) -> tuple[Any, ...]:
        return (
            *Correlate2D.backward(grad, x, W, stride, padding, wanted),
            np.sum(grad, axis=(0, 2, 3)) if wanted.b else None,
        )
