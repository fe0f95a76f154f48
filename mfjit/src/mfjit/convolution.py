"""Convolution and pooling as compiled functions on contiguous arrays, for the numba engine.

Nothing here allocates: results and a workspace are given. The rows of a workspace belong to
one thread each, and there are as many threads as rows. Images are shared out among them in
order, so that the same number of threads gives the same bits.

The functions are short and call parts (see ``parallel_parts``): before what calls them is
loaded from a cache, ``prepare`` must have been called for each.
"""

from __future__ import annotations

from typing import Any

from numba import njit

import mfjit.convolution_parts  # noqa: F401  declares the parts
from mfjit.convolution_tiles import CHANNELS, PLACES, SLACK
from mfjit.parallel_parts import call_parallel, call_part, data_address, on_stack, part_address

Shape = tuple[int, ...]

_GROUP = 768
"""For how many positions the sums of a weights' gradient are worth keeping in registers."""


def _planes(channels: int, kernel: Shape, count: Shape, stride: int) -> int:
    """Return how many elements the shifted copies of an image have."""
    rows = count[0] + kernel[0] - 1 if stride == 1 else count[0] * kernel[0]
    return channels * kernel[1] * rows * count[1]


def _packed(out_channels: int, places: int) -> int:
    return -(-out_channels // CHANNELS) * CHANNELS * (places + 1)


def conv2d_workspace(W: Shape, out: Shape, stride: tuple[int, int], threads: int) -> Shape:
    """Return the shape of the workspace of ``conv2d``, given shapes."""
    o, c, *kernel = W
    planes = _planes(c, tuple(kernel), out[2:], stride[0])
    return threads, planes + _packed(o, c * kernel[0] * kernel[1]) + SLACK


def conv2d_input_gradient_workspace(W: Shape, out: Shape, threads: int) -> Shape:
    """Return the shape of the workspace of ``conv2d_input_gradient``; ``out`` is the images'."""
    o, c, *kernel = W
    planes = _planes(o, tuple(kernel), out[2:], 1)
    return threads, planes + _packed(c, o * kernel[0] * kernel[1]) + SLACK


def conv2d_weight_gradient_workspace(
    W: Shape, grad: Shape, stride: tuple[int, int], threads: int
) -> Shape:
    """Return the shape of the workspace of ``conv2d_weight_gradient``."""
    o, c, *kernel = W
    places = -(-c * kernel[0] * kernel[1] // PLACES) * PLACES
    planes = _planes(c, tuple(kernel), grad[2:], stride[0])
    images = min(-(-_GROUP // max(grad[2] * grad[3], 1)), max(-(-grad[0] // threads), 1))
    return threads, images * planes + _packed(o, places) + SLACK


@njit  # type: ignore[untyped-decorator]
def conv2d(
    x: Any, W: Any, b: Any, out: Any, stride_h: int, stride_w: int, pad_h: int, pad_w: int,
    rectify: bool, workspace: Any,
) -> None:  # fmt: skip
    """Write the convolution of images into ``out``.

    Parameters
    ----------
    x : array
        ``(n, c, h, w)`` images; this and all other arrays are contiguous and of one dtype,
        float32 or float64.
    W : array
        ``(o, c, kh, kw)`` weights.
    b : array
        ``(o,)`` biases, or of size 0 for none.
    out : array
        ``(n, o, rows, columns)``.
    stride_h, stride_w, pad_h, pad_w : int
        How far windows are apart, and how many zeros are above and at the left. Those below
        and at the right follow from the shape of ``out``.
    rectify : bool
        Whether to replace what is negative by 0.
    workspace : array
        Of the shape that ``conv2d_workspace`` gives; what is in it does not matter.
    """
    n, c, h, w = x.shape
    o, _, kh, kw = W.shape
    threads, room = workspace.shape
    integers = on_stack(
        (
            n, c, h, w, o, kh, kw, out.shape[2], out.shape[3], stride_h, stride_w, pad_h, pad_w,
            b.size > 0, rectify, threads, room,
        )
    )  # fmt: skip
    call_parallel(
        part_address("conv2d", x), data_address(x), data_address(W), data_address(b),
        data_address(out), data_address(workspace), integers, threads,
    )  # fmt: skip


@njit  # type: ignore[untyped-decorator]
def conv2d_input_gradient(
    grad: Any, W: Any, out: Any, stride_h: int, stride_w: int, pad_h: int, pad_w: int,
    workspace: Any,
) -> None:  # fmt: skip
    """Write the gradient of ``conv2d`` at its images into ``out``.

    It is a convolution of ``grad``, spread by the stride, with the flipped weights.

    Parameters
    ----------
    grad : array
        ``(n, o, rows, columns)``.
    W : array
        ``(o, c, kh, kw)`` weights.
    out : array
        ``(n, c, h, w)``.
    stride_h, stride_w, pad_h, pad_w : int
        As those of ``conv2d``.
    workspace : array
        Of the shape that ``conv2d_input_gradient_workspace`` gives.
    """
    n, c, h, w = out.shape
    o, _, kh, kw = W.shape
    threads, room = workspace.shape
    integers = on_stack(
        (
            n, c, h, w, o, kh, kw, grad.shape[2], grad.shape[3], stride_h, stride_w, pad_h, pad_w,
            threads, room,
        )
    )  # fmt: skip
    call_parallel(
        part_address("conv2d_input_gradient", W), data_address(grad), data_address(W), 0,
        data_address(out), data_address(workspace), integers, threads,
    )  # fmt: skip


@njit  # type: ignore[untyped-decorator]
def conv2d_weight_gradient(
    x: Any, grad: Any, out: Any, bias: Any, stride_h: int, stride_w: int, pad_h: int, pad_w: int,
    workspace: Any,
) -> None:  # fmt: skip
    """Write the gradients of ``conv2d`` at its weights and biases into ``out`` and ``bias``.

    Parameters
    ----------
    x : array
        ``(n, c, h, w)`` images.
    grad : array
        ``(n, o, rows, columns)``.
    out : array
        ``(o, c, kh, kw)``.
    bias : array
        ``(o,)``, or of size 0 if the biases' gradient is not wanted.
    stride_h, stride_w, pad_h, pad_w : int
        As those of ``conv2d``.
    workspace : array
        Of the shape that ``conv2d_weight_gradient_workspace`` gives.
    """
    n, c, h, w = x.shape
    o, _, kh, kw = out.shape
    rows, columns = grad.shape[2:]
    threads, room = workspace.shape
    lines = rows + kh - 1 if stride_h == 1 else kh * rows
    sums = -(-o // CHANNELS) * CHANNELS * (-(-c * kh * kw // PLACES) * PLACES + 1)
    group = max((room - sums - SLACK) // max(c * kw * lines * columns, 1), 1)
    part = part_address("conv2d_weight_gradient", x)
    integers = on_stack(
        (
            n, c, h, w, o, kh, kw, rows, columns, stride_h, stride_w, pad_h, pad_w,
            bias.size > 0, group, threads, room,
        )
    )  # fmt: skip
    call_parallel(
        part, data_address(x), data_address(grad), data_address(bias), data_address(out),
        data_address(workspace), integers, threads,
    )  # fmt: skip
    call_part(
        part, data_address(x), data_address(grad), data_address(bias), data_address(out),
        data_address(workspace), integers, -1,
    )  # fmt: skip


@njit  # type: ignore[untyped-decorator]
def max_pool2d(
    x: Any, out: Any, size_h: int, size_w: int, stride_h: int, stride_w: int, pad_h: int,
    pad_w: int, threads: int,
) -> None:  # fmt: skip
    """Write the largest element of each window into ``out``; NaN where a window has one.

    Parameters
    ----------
    x : array
        ``(n, c, h, w)`` images, contiguous.
    out : array
        ``(n, c, rows, columns)``.
    size_h, size_w, stride_h, stride_w, pad_h, pad_w : int
        Size and distance of the windows, and how much padding is above and at the left.
    threads : int
        On how many threads to run.
    """
    n, c, h, w = x.shape
    rows, columns = out.shape[2:]
    squares = size_h == 2 and size_w == 2 and stride_h == 2 and stride_w == 2
    squares = squares and pad_h == 0 and pad_w == 0 and 2 * rows <= h and 2 * columns <= w
    integers = on_stack(
        (
            n * c, h, w, rows, columns, size_h, size_w, stride_h, stride_w, pad_h, pad_w, squares,
            threads,
        )
    )  # fmt: skip
    call_parallel(
        part_address("max_pool2d", x), data_address(x), 0, 0, data_address(out), 0, integers,
        threads,
    )  # fmt: skip


@njit  # type: ignore[untyped-decorator]
def max_pool2d_gradient(
    grad: Any, x: Any, pooled: Any, out: Any, size_h: int, size_w: int, stride_h: int,
    stride_w: int, pad_h: int, pad_w: int, rectified: bool, threads: int,
) -> None:  # fmt: skip
    """Write the gradient of ``max_pool2d`` into ``out``: the first largest element gets it.

    Parameters
    ----------
    grad, pooled : array
        ``(n, c, rows, columns)``: the gradient at what ``max_pool2d`` gave, and that itself.
    x, out : array
        ``(n, c, h, w)``.
    size_h, size_w, stride_h, stride_w, pad_h, pad_w : int
        As those of ``max_pool2d``.
    rectified : bool
        Whether ``x`` is the result of a ReLU, and ``out`` the gradient before that.
    threads : int
        On how many threads to run.
    """
    n, c, h, w = x.shape
    rows, columns = grad.shape[2:]
    squares = size_h == 2 and size_w == 2 and stride_h == 2 and stride_w == 2
    squares = squares and pad_h == 0 and pad_w == 0 and 2 * rows <= h and 2 * columns <= w
    integers = on_stack(
        (
            n * c, h, w, rows, columns, size_h, size_w, stride_h, stride_w, pad_h, pad_w, squares,
            threads, rectified,
        )
    )  # fmt: skip
    call_parallel(
        part_address("max_pool2d_gradient", x), data_address(grad), data_address(x),
        data_address(pooled), data_address(out), 0, integers, threads,
    )  # fmt: skip
