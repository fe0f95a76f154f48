"""The long parts of convolution and pooling, each for one thread's share of the images.

A convolution is a product of its weights with shifted copies of an image, one for each column
of a window. In such copies, whose rows are as long as the result's, all windows' elements at
one place lie one behind the other, for any padding; the windows' rows are shifts by one row.

What the arrays and integers are is said by the functions of ``convolution``, which call these.
"""

# ruff: noqa: PLR0912  one long function compiles in less time than two

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit

from mfjit.convolution_tiles import (
    CHANNELS,
    PLACES,
    REGISTER_BYTES,
    VECTORS,
    copy_rows,
    narrow_product_tile,
    product_tile,
    row_sum,
    square_gradient,
    square_largest,
    weight_tile,
)
from mfjit.parallel_parts import part


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def _lay_out(
    x: Any, start: Any, size: Any, planes: Any, to: Any, kernel: Any, count: Any, stride: Any,
    padding: Any, spread: Any,
) -> None:  # fmt: skip
    """Write the shifted copies of an image, whose elements are ``spread`` apart with zeros between.

    They are ordered by channel, column of the window, row. The rows of a window are one shift
    apart where the stride is 1, else each has copies of its own. Only one of ``stride`` and
    ``spread`` may differ from 1.
    """
    channels, h, w = size
    kh, kw = kernel
    rows, width = count
    groups, lines = (1, rows + kh - 1) if stride[0] == 1 else (kh, rows)
    apart = spread[0] != 1 or spread[1] != 1
    if apart:
        for at in range(to, to + channels * kw * lines * width):
            planes[at] = 0
    for channel in range(channels):
        image = start + channel * h * w
        for j in range(kw):
            left = j - padding[1]
            if apart:
                for y in range(h):
                    line = y * spread[0] + padding[0]
                    if 0 <= line < lines:
                        for x_column in range(w):
                            t = x_column * spread[1] - left
                            if 0 <= t < width:
                                planes[to + line * width + t] = x[image + y * w + x_column]
                to += lines * width
                continue
            first = min(max(-left, 0), width)
            stop = max(min(width, w - left), first)
            for i in range(groups):
                top = i - padding[0]
                before = min(max((stride[0] - 1 - top) // stride[0], 0), lines)
                after = max(min((h - 1 - top) // stride[0] + 1, lines), before)
                for at in range(to, to + before * width):
                    planes[at] = 0
                for at in range(to + after * width, to + lines * width):
                    planes[at] = 0
                source = image + (top + before * stride[0]) * w + left
                if stride[1] == 1:
                    copy_rows(
                        x, source, stride[0] * w, planes, to + before * width, width,
                        after - before, first, stop,
                    )  # fmt: skip
                else:
                    for line in range(before, after):
                        for t in range(width):
                            at = t * stride[1]
                            inside = 0 <= at + left < w
                            planes[to + line * width + t] = x[source + at] if inside else 0
                        source += stride[0] * w
                to += lines * width


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def _multiply(
    planes: Any, packed: Any, channels: Any, places: Any, outer: Any, outer_step: Any, inner: Any,
    inner_step: Any, out: Any, at: Any, positions: Any, rectify: Any,
) -> None:  # fmt: skip
    """Multiply weights, packed behind the planes, with the planes of one image."""
    wide = VECTORS * (REGISTER_BYTES // out.itemsize)
    narrow = REGISTER_BYTES // out.itemsize
    for first in range(0, channels, CHANNELS):
        weights = packed + first * (places + 1)
        p = 0
        while p < positions:
            to = at + first * positions + p
            rest = positions - p
            if rest > wide - narrow:
                product_tile(
                    planes, p, planes, weights, out, to, positions, outer, outer_step, inner,
                    inner_step, channels - first, rest, rectify != 0,
                )  # fmt: skip
                p += wide
            else:
                narrow_product_tile(
                    planes, p, planes, weights, out, to, positions, outer, outer_step, inner,
                    inner_step, channels - first, rest, rectify != 0,
                )  # fmt: skip
                p += narrow


@part
def conv2d(
    x_at: Any, W_at: Any, b_at: Any, out_at: Any, workspace_at: Any, integers: Any, thread: int
) -> None:
    """Convolve a thread's images with the weights, which each thread packs for itself."""
    n, c, h, w = integers[0], integers[1], integers[2], integers[3]
    o, kh, kw, rows, columns = integers[4], integers[5], integers[6], integers[7], integers[8]
    stride, padding = (integers[9], integers[10]), (integers[11], integers[12])
    biased, rectify, threads, room = integers[13], integers[14], integers[15], integers[16]
    places, positions = c * kh * kw, rows * columns
    x, W = carray(x_at, n * c * h * w), carray(W_at, (o, c, kh, kw))
    b, out = carray(b_at, o), carray(out_at, n * o * positions)
    own = carray(workspace_at, (threads, room))[thread]
    one = np.intp(1)  # of the same type in all calls, so that what is called is compiled once
    inner_step = columns if stride[0] == 1 else positions
    outer_step = (rows + kh - 1) * columns if stride[0] == 1 else kh * positions
    packed = c * kw * outer_step
    for m in range(-(-o // CHANNELS) * CHANNELS):
        to = packed + m // CHANNELS * CHANNELS * (places + 1) + m % CHANNELS
        own[to] = b[m] if m < o and biased else 0
        for channel in range(c):
            for j in range(kw):
                for i in range(kh):
                    to += CHANNELS
                    own[to] = W[m, channel, i, j] if m < o else 0
    for image in range(thread * n // threads, (thread + 1) * n // threads):
        _lay_out(
            x, image * c * h * w, (c, h, w), own, one - one, (kh, kw), (rows, columns), stride,
            padding, (one, one),
        )  # fmt: skip
        _multiply(
            own, packed, o, places, c * kw, outer_step, kh, inner_step, out,
            image * o * positions, positions, rectify,
        )  # fmt: skip


@part
def conv2d_input_gradient(
    grad_at: Any, W_at: Any, _: Any, out_at: Any, workspace_at: Any, integers: Any, thread: int
) -> None:
    """Convolve a thread's gradients, spread by the stride, with the flipped weights."""
    n, c, h, w = integers[0], integers[1], integers[2], integers[3]
    o, kh, kw, rows, columns = integers[4], integers[5], integers[6], integers[7], integers[8]
    stride, padding = (integers[9], integers[10]), (integers[11], integers[12])
    threads, room = integers[13], integers[14]
    grad, W = carray(grad_at, n * o * rows * columns), carray(W_at, (o, c, kh, kw))
    out = carray(out_at, n * c * h * w)
    own = carray(workspace_at, (threads, room))[thread]
    one = np.intp(1)
    places, outer_step = o * kh * kw, (h + kh - 1) * w
    packed = o * kw * outer_step
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
            grad, image * o * rows * columns, (o, rows, columns), own, one - one, (kh, kw), (h, w),
            (one, one), (kh - 1 - padding[0], kw - 1 - padding[1]), stride,
        )  # fmt: skip
        _multiply(
            own, packed, c, places, o * kw, outer_step, kh, w, out, image * c * h * w, h * w,
            one - one,
        )  # fmt: skip


@part
def conv2d_weight_gradient(
    x_at: Any, grad_at: Any, bias_at: Any, out_at: Any, workspace_at: Any, integers: Any,
    thread: int,
) -> None:  # fmt: skip
    """Sum the gradients of a thread's images in its workspace; thread -1 adds up all threads'."""
    n, c, h, w = integers[0], integers[1], integers[2], integers[3]
    o, kh, kw, rows, columns = integers[4], integers[5], integers[6], integers[7], integers[8]
    stride, padding = (integers[9], integers[10]), (integers[11], integers[12])
    biased, group, threads, room = integers[13], integers[14], integers[15], integers[16]
    places, positions = c * kh * kw, rows * columns
    x, grad = carray(x_at, n * c * h * w), carray(grad_at, n * o * positions)
    lines = -(-places // PLACES) * PLACES
    step = CHANNELS * (lines + 1)
    workspace = carray(workspace_at, (threads, room))
    if thread < 0:
        out, bias = carray(out_at, o * places), carray(bias_at, o)
        for m in range(o):
            at = m // CHANNELS * step + m % CHANNELS
            for place in range(places):
                total = workspace[0, at + place * CHANNELS]
                for other in range(1, threads):
                    total += workspace[other, at + place * CHANNELS]
                k = place // kh  # of channels and columns; out has rows before columns
                out[((m * c + k // kw) * kh + place % kh) * kw + k % kw] = total
            if biased:
                total = workspace[0, at + lines * CHANNELS]
                for other in range(1, threads):
                    total += workspace[other, at + lines * CHANNELS]
                bias[m] = total
        return
    one = np.intp(1)  # of the same type in all calls, so that what is called is compiled once
    inner_step = columns if stride[0] == 1 else positions
    outer_step = (rows + kh - 1) * columns if stride[0] == 1 else kh * positions
    planes = c * kw * outer_step
    sums = -(-o // CHANNELS) * step
    own = workspace[thread]
    for at in range(sums):
        own[at] = 0
    last = (thread + 1) * n // threads
    for start in range(thread * n // threads, last, group):
        images = min(group, last - start)
        for image in range(images):
            _lay_out(
                x, (start + image) * c * h * w, (c, h, w), own, sums + image * planes, (kh, kw),
                (rows, columns), stride, padding, (one, one),
            )  # fmt: skip
        for first in range(0, o, CHANNELS):
            to = first // CHANNELS * step
            slope = (start * o + first) * positions
            for line in range(0, lines, PLACES):
                # What is behind the last place repeats it, and is read by nobody.
                k0, k1, k2 = line, min(line + 1, places - 1), min(line + 2, places - 1)
                weight_tile(
                    own,
                    sums + k0 // kh * outer_step + k0 % kh * inner_step,
                    sums + k1 // kh * outer_step + k1 % kh * inner_step,
                    sums + k2 // kh * outer_step + k2 % kh * inner_step,
                    planes, grad, slope, o * positions, positions, images, positions,
                    o - first, own, to + line * CHANNELS, to + (line + 1) * CHANNELS,
                    to + (line + 2) * CHANNELS,
                )  # fmt: skip
            if biased:
                for m in range(min(CHANNELS, o - first)):
                    for image in range(images):
                        own[to + lines * CHANNELS + m] += row_sum(
                            grad, slope + (image * o + m) * positions, positions
                        )


@part
def max_pool2d(
    x_at: Any, _b: Any, _c: Any, out_at: Any, _workspace: Any, integers: Any, thread: int
) -> None:
    """Pool a thread's channels."""
    channels, h, w, rows, columns = (
        integers[0], integers[1], integers[2], integers[3], integers[4],
    )  # fmt: skip
    size, stride = (integers[5], integers[6]), (integers[7], integers[8])
    padding, squares, threads = (integers[9], integers[10]), integers[11], integers[12]
    x, out = carray(x_at, channels * h * w), carray(out_at, channels * rows * columns)
    for channel in range(thread * channels // threads, (thread + 1) * channels // threads):
        for r in range(rows):
            to = (channel * rows + r) * columns
            if squares:
                upper = (channel * h + 2 * r) * w
                square_largest(x, upper, upper + w, out, to, columns)
                continue
            top = max(r * stride[0] - padding[0], 0)
            bottom = min(r * stride[0] - padding[0] + size[0], h)
            for s in range(columns):
                left = max(s * stride[1] - padding[1], 0)
                right = min(s * stride[1] - padding[1] + size[1], w)
                largest = x[(channel * h + top) * w + left]
                for y in range(top, bottom):
                    for at in range((channel * h + y) * w + left, (channel * h + y) * w + right):
                        if x[at] > largest or x[at] != x[at]:
                            largest = x[at]
                out[to + s] = largest


@part
def max_pool2d_gradient(
    grad_at: Any, x_at: Any, pooled_at: Any, out_at: Any, _workspace: Any, integers: Any,
    thread: int,
) -> None:  # fmt: skip
    """Write the gradients of a thread's channels."""
    channels, h, w, rows, columns = (
        integers[0], integers[1], integers[2], integers[3], integers[4],
    )  # fmt: skip
    size, stride = (integers[5], integers[6]), (integers[7], integers[8])
    padding, squares, threads = (integers[9], integers[10]), integers[11], integers[12]
    rectified = integers[13] != 0
    x, out = carray(x_at, channels * h * w), carray(out_at, channels * h * w)
    grad = carray(grad_at, channels * rows * columns)
    pooled = carray(pooled_at, channels * rows * columns)
    for channel in range(thread * channels // threads, (thread + 1) * channels // threads):
        if not squares or 2 * rows < h or 2 * columns < w:
            for at in range(channel * h * w, (channel + 1) * h * w):
                out[at] = 0
        for r in range(rows):
            to = (channel * rows + r) * columns
            if squares:
                upper = (channel * h + 2 * r) * w
                square_gradient(x, upper, upper + w, pooled, grad, to, out, columns, rectified)
                continue
            top = max(r * stride[0] - padding[0], 0)
            bottom = min(r * stride[0] - padding[0] + size[0], h)
            for s in range(columns):
                left = max(s * stride[1] - padding[1], 0)
                right = min(s * stride[1] - padding[1] + size[1], w)
                value = pooled[to + s]
                if rectified and not value > 0:
                    continue
                place = -1
                for y in range(top, bottom):
                    for at in range((channel * h + y) * w + left, (channel * h + y) * w + right):
                        if place < 0 and not x[at] < value:
                            place = at
                out[place] += grad[to + s]
