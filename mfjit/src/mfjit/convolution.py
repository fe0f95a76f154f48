"""Convolution and pooling as compiled functions on contiguous arrays, for the numba engine.

Nothing here allocates: results and a workspace are given. The rows of a workspace belong to
one thread each, and there are as many threads as rows. Images are shared out among them in
order, so that the same number of threads gives the same bits.

A convolution is a product of its weights with shifted copies of an image, one for each column
of a window. In such copies, whose rows are as long as the result's, all windows' elements at
one place lie one behind the other, for any padding; the windows' rows are shifts by one row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from mfjit.convolution_tiles import (
    CHANNELS,
    PLACES,
    REGISTER_BYTES,
    SLACK,
    VECTORS,
    copy_row,

    narrow_product_tile,
    product_tile,
    row_sum,
    square_gradient,
    square_largest,
    weight_tile,
)

Shape = tuple[int, ...]

_GROUP = 1024
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


@njit(cache=True)  # type: ignore[untyped-decorator]
def _lay_out(
    x: Any, start: Any, size: Any, planes: Any, to: Any, kernel: Any, count: Any, stride: Any,
    padding: Any, spread: Any,
) -> None:  # fmt: skip
    """Write the shifted copies of an image, whose elements are ``spread`` apart with zeros between.

    They are ordered by channel, column of the window, row.
    """
    channels, h, w = size
    kh, kw = kernel
    rows, width = count
    lines = rows + kh - 1 if stride[0] == 1 else rows * kh
    plain = stride[1] == 1 and spread[1] == 1
    for channel in range(channels):
        image = start + channel * h * w
        for j in range(kw):
            left = j - padding[1]
            first = min(max(-left, 0), width)
            stop = max(min(width, w - left), first)
            for line in range(lines):
                y = line - padding[0]
                if stride[0] != 1:
                    y = line % rows * stride[0] + line // rows - padding[0]
                if y < 0 or y > (h - 1) * spread[0] or y % spread[0] != 0:
                    for t in range(width):
                        planes[to + t] = 0
                elif plain:
                    for t in range(first):
                        planes[to + t] = 0
                    source = image + y // spread[0] * w + left + first
                    copy_row(x, source, planes, to + first, stop - first)
                    for t in range(stop, width):
                        planes[to + t] = 0
                else:
                    source = image + y // spread[0] * w
                    for t in range(width):
                        at = t * stride[1] + left
                        inside = at >= 0 and at <= (w - 1) * spread[1] and at % spread[1] == 0
                        planes[to + t] = x[source + at // spread[1]] if inside else 0
                to += width


@njit(cache=True)  # type: ignore[untyped-decorator]
def _multiply(
    planes: Any, packed: Any, channels: Any, places: Any, outer: Any, outer_step: Any, inner: Any,
    inner_step: Any, out: Any, at: Any, positions: Any, rectify: Any,
) -> None:  # fmt: skip
    """Multiply weights, packed behind the planes, with the planes of one image."""
    wide = VECTORS * (REGISTER_BYTES // out.itemsize)
    narrow = (REGISTER_BYTES // out.itemsize)
    for first in range(0, channels, CHANNELS):
        weights = packed + first * (places + 1)
        p = 0
        while p < positions:
            to = at + first * positions + p
            rest = positions - p
            if rest > wide - narrow:
                product_tile(
                    planes, p, planes, weights, out, to, positions, outer, outer_step, inner,
                    inner_step, channels - first, rest, rectify,
                )  # fmt: skip
                p += wide
            else:
                narrow_product_tile(
                    planes, p, planes, weights, out, to, positions, outer, outer_step, inner,
                    inner_step, channels - first, rest, rectify,
                )  # fmt: skip
                p += narrow


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
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
    rows, columns = out.shape[2:]
    pixels, result = x.reshape(x.size), out.reshape(out.size)
    places, positions = c * kh * kw, rows * columns
    inner_step = columns if stride_h == 1 else positions
    outer_step = (rows + kh - 1) * columns if stride_h == 1 else kh * positions
    packed = c * kw * outer_step
    threads = workspace.shape[0]
    for thread in prange(threads):
        own = workspace[thread]
        for m in range(-(-o // CHANNELS) * CHANNELS):
            to = packed + m // CHANNELS * CHANNELS * (places + 1) + m % CHANNELS
            own[to] = b[m] if m < o and b.size > 0 else 0
            for channel in range(c):
                for j in range(kw):
                    for i in range(kh):
                        to += CHANNELS
                        own[to] = W[m, channel, i, j] if m < o else 0
        for image in range(thread * n // threads, (thread + 1) * n // threads):
            _lay_out(
                pixels, image * c * h * w, (c, h, w), own, 0, (kh, kw), (rows, columns),
                (stride_h, stride_w), (pad_h, pad_w), (1, 1),
            )  # fmt: skip
            _multiply(
                own, packed, o, places, c * kw, outer_step, kh, inner_step,
                result, image * o * positions, positions, rectify,
            )  # fmt: skip


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
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
    n, o, rows, columns = grad.shape
    _, c, kh, kw = W.shape
    h, w = out.shape[2:]
    slopes, result = grad.reshape(grad.size), out.reshape(out.size)
    places, outer_step = o * kh * kw, (h + kh - 1) * w
    packed = o * kw * outer_step
    threads = workspace.shape[0]
    for thread in prange(threads):
        own = workspace[thread]
        for m in range(-(-c // CHANNELS) * CHANNELS):
            to = packed + m // CHANNELS * CHANNELS * (places + 1) + m % CHANNELS
            own[to] = 0
            for channel in range(o):
                for j in range(kw):
                    for i in range(kh):
                        to += CHANNELS
                        own[to] = W[channel, m, kh - 1 - i, kw - 1 - j] if m < c else 0
        for image in range(thread * n // threads, (thread + 1) * n // threads):
            _lay_out(
                slopes, image * o * rows * columns, (o, rows, columns), own, 0, (kh, kw), (h, w),
                (1, 1), (kh - 1 - pad_h, kw - 1 - pad_w), (stride_h, stride_w),
            )  # fmt: skip
            _multiply(
                own, packed, c, places, o * kw, outer_step, kh, w,
                result, image * c * h * w, h * w, False,
            )  # fmt: skip


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
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
    pixels, slopes = x.reshape(x.size), grad.reshape(grad.size)
    places, positions = c * kh * kw, rows * columns
    lines = -(-places // PLACES) * PLACES
    inner_step = columns if stride_h == 1 else positions
    outer_step = (rows + kh - 1) * columns if stride_h == 1 else kh * positions
    planes = c * kw * outer_step
    blocks = -(-o // CHANNELS)
    sums = blocks * CHANNELS * (lines + 1)
    threads, room = workspace.shape
    group = max((room - sums - SLACK) // max(planes, 1), 1)
    for thread in prange(threads):
        own = workspace[thread]
        for at in range(sums):
            own[at] = 0
        last = (thread + 1) * n // threads
        for start in range(thread * n // threads, last, group):
            images = min(group, last - start)
            for image in range(images):
                _lay_out(
                    pixels, (start + image) * c * h * w, (c, h, w), own, sums + image * planes,
                    (kh, kw), (rows, columns), (stride_h, stride_w), (pad_h, pad_w), (1, 1),
                )  # fmt: skip
            for block in range(blocks):
                first = block * CHANNELS
                to = first * (lines + 1)
                slope = (start * o + first) * positions
                for line in range(0, lines, PLACES):
                    # What is behind the last place repeats it, and is read by nobody.
                    k0, k1, k2 = line, min(line + 1, places - 1), min(line + 2, places - 1)
                    weight_tile(
                        own,
                        sums + k0 // kh * outer_step + k0 % kh * inner_step,
                        sums + k1 // kh * outer_step + k1 % kh * inner_step,
                        sums + k2 // kh * outer_step + k2 % kh * inner_step,
                        planes, slopes, slope, o * positions, positions, images, positions,
                        min(CHANNELS, o - first), own, to + line * CHANNELS,
                        to + (line + 1) * CHANNELS, to + (line + 2) * CHANNELS,
                    )  # fmt: skip
                if bias.size > 0:
                    for m in range(min(CHANNELS, o - first)):
                        for image in range(images):
                            own[to + lines * CHANNELS + m] += row_sum(
                                slopes, slope + (image * o + m) * positions, positions
                            )
    for m in range(o):
        at = m // CHANNELS * CHANNELS * (lines + 1) + m % CHANNELS
        for channel in range(c):
            for j in range(kw):
                for i in range(kh):
                    total = workspace[0, at]
                    for thread in range(1, threads):
                        total += workspace[thread, at]
                    out[m, channel, i, j] = total
                    at += CHANNELS
        if bias.size > 0:
            at = m // CHANNELS * CHANNELS * (lines + 1) + lines * CHANNELS + m % CHANNELS
            total = workspace[0, at]
            for thread in range(1, threads):
                total += workspace[thread, at]
            bias[m] = total


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def max_pool2d(
    x: Any, out: Any, size_h: int, size_w: int, stride_h: int, stride_w: int, pad_h: int,
    pad_w: int,
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
    """
    n, c, h, w = x.shape
    rows, columns = out.shape[2:]
    pixels, result = x.reshape(x.size), out.reshape(out.size)
    squares = size_h == 2 and size_w == 2 and stride_h == 2 and stride_w == 2
    squares = squares and pad_h == 0 and pad_w == 0 and 2 * rows <= h and 2 * columns <= w
    for image in prange(n):
        for channel in range(image * c, (image + 1) * c):
            for r in range(rows):
                to = (channel * rows + r) * columns
                if squares:
                    upper = (channel * h + 2 * r) * w
                    square_largest(pixels, upper, upper + w, result, to, columns)
                    continue
                top = max(r * stride_h - pad_h, 0)
                bottom = min(r * stride_h - pad_h + size_h, h)
                for s in range(columns):
                    left = max(s * stride_w - pad_w, 0)
                    right = min(s * stride_w - pad_w + size_w, w)
                    largest = pixels[(channel * h + top) * w + left]
                    for y in range(top, bottom):
                        for at in range((channel * h + y) * w + left, (channel * h + y) * w + right):
                            if not pixels[at] <= largest:
                                largest = pixels[at]
                    result[to + s] = largest


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def max_pool2d_gradient(
    grad: Any, x: Any, pooled: Any, out: Any, size_h: int, size_w: int, stride_h: int,
    stride_w: int, pad_h: int, pad_w: int, rectified: bool,
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
    """
    n, c, h, w = x.shape
    rows, columns = grad.shape[2:]
    pixels, result = x.reshape(x.size), out.reshape(out.size)
    largest, slopes = pooled.reshape(pooled.size), grad.reshape(grad.size)
    squares = size_h == 2 and size_w == 2 and stride_h == 2 and stride_w == 2
    squares = squares and pad_h == 0 and pad_w == 0 and 2 * rows <= h and 2 * columns <= w
    for image in prange(n):
        for channel in range(image * c, (image + 1) * c):
            if not squares or 2 * rows < h or 2 * columns < w:
                for at in range(channel * h * w, (channel + 1) * h * w):
                    result[at] = 0
            for r in range(rows):
                at = (channel * rows + r) * columns
                if squares:
                    upper = (channel * h + 2 * r) * w
                    square_gradient(
                        pixels, upper, upper + w, largest, slopes, at, result, columns, rectified
                    )
                    continue
                top = max(r * stride_h - pad_h, 0)
                bottom = min(r * stride_h - pad_h + size_h, h)
                for s in range(columns):
                    left = max(s * stride_w - pad_w, 0)
                    right = min(s * stride_w - pad_w + size_w, w)
                    value = largest[at + s]
                    place = -1
                    for y in range(top, bottom):
                        for p in range((channel * h + y) * w + left, (channel * h + y) * w + right):
                            if place < 0 and not pixels[p] < value:
                                place = p
                    if not rectified or value > 0:
                        result[place] += slopes[at + s]
