"""The elementwise loss and its gradients as one would write them by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.harness import Run

TILE = 16384
"""Elements of a tile: seven float32 buffers of it stay in a core's second-level cache."""

PIECE, PART = 16384, 65536
"""Elements of what numba's loops take through the cache at once, and of a thread's share.

Shorter pieces fit the first-level cache, but memory is read fastest in long runs."""


def numpy_plain(arrays: list[np.ndarray]) -> Run:
    a, b, c, d, e = arrays

    def run() -> list[Any]:
        s = 1 / (1 + np.exp(-(a * b + c)))
        difference = s * d - e
        loss = np.mean(difference**2)
        grad = difference * np.float32(2 / a.size)
        grad_z = grad * d * (s * (1 - s))
        return [loss, grad_z * b, grad_z * a, grad_z, grad * s]

    return run


def steps(
    a: Any, b: Any, c: Any, d: Any, e: Any, ga: Any, gb: Any, gc: Any, gd: Any,
    s: Any, difference: Any, scale: Any, one: Any,
) -> Any:  # fmt: skip
    """Compute a piece, and return its sum of squares."""
    np.multiply(a, b, s)
    np.add(s, c, s)
    np.negative(s, s)
    np.exp(s, s)
    np.add(s, one, s)
    np.reciprocal(s, s)
    np.multiply(s, d, difference)
    np.subtract(difference, e, difference)
    total = difference.dot(difference)
    np.multiply(difference, scale, difference)
    np.multiply(difference, s, gd)
    np.multiply(difference, d, difference)
    np.multiply(difference, s, difference)
    np.subtract(one, s, s)
    np.multiply(difference, s, gc)
    np.multiply(gc, b, ga)
    np.multiply(gc, a, gb)
    return total


def numpy_whole(arrays: list[np.ndarray]) -> Run:
    """Whole arrays into buffers that are made once."""
    size = arrays[0].size
    gradients = [np.empty_like(array) for array in arrays[:4]]
    buffers = [np.empty_like(arrays[0]) for _ in range(2)]
    scale, one = np.array(2 / size, np.float32), np.array(1, np.float32)

    def run() -> list[Any]:
        return [steps(*arrays, *gradients, *buffers, scale, one) / size, *gradients]

    return run


def numpy_tiled(arrays: list[np.ndarray]) -> Run:
    """Piece by piece, so that what lies between stays in the cache; on one thread."""
    size = arrays[0].size
    gradients = [np.empty_like(array) for array in arrays[:4]]
    buffers = [np.empty(TILE, np.float32) for _ in range(2)]
    scale, one = np.array(2 / size, np.float32), np.array(1, np.float32)
    pieces = []
    for start in range(0, size, TILE):
        piece = [array[start : start + TILE] for array in [*arrays, *gradients]]
        pieces.append((*piece, *(buffer[: piece[0].size] for buffer in buffers)))

    def run() -> list[Any]:
        total = 0.0
        for piece in pieces:
            total += float(steps(*piece, scale, one))
        return [np.float32(total / size), *gradients]

    return run


def vectorising_exp() -> Any:
    """Return float32's exponential as a compiled function that LLVM can vectorise.

    ``exp(x) = 2**n * exp(r)`` with ``n`` the integer nearest to ``x / ln(2)``: the Taylor series
    of ``exp(r)``, of which r**6 is the last term that float32 feels, and n put into the exponent.
    """
    from llvmlite import ir
    from numba import njit, types
    from numba.extending import intrinsic

    @intrinsic
    def as_float(_context, _bits):  # type: ignore
        def bitcast(_context, builder, _signature, arguments):  # type: ignore
            return builder.bitcast(arguments[0], ir.FloatType())

        return types.float32(types.int32), bitcast

    f = np.float32
    log2_e, one, limit = f(1.44269504), f(1), f(87.3)
    shift = f(127.5)  # the bias of float32's exponents, and a half to round
    ln2_high, ln2_low = f(0.693359375), f(-2.12194440e-4)
    c2, c3, c4, c5, c6 = f(1 / 2), f(1 / 6), f(1 / 24), f(1 / 120), f(1 / 720)

    @njit(fastmath=True)
    def exp(x):  # type: ignore
        x = min(max(x, -limit), limit)
        biased = np.int32(x * log2_e + shift)
        n = f(biased - np.int32(127))
        r = x - n * ln2_high - n * ln2_low
        y = one + r * (one + r * (c2 + r * (c3 + r * (c4 + r * (c5 + r * c6)))))
        return y * as_float(np.int32(biased << np.int32(23)))

    return exp


def numba_fused(arrays: list[np.ndarray]) -> Run:
    """Loops that are fused and run on all threads."""
    from numba import njit, prange

    f, one, two = np.float32, np.float32(1), np.float32(2)
    exp = vectorising_exp()

    # LLVM vectorises a loop only if few arrays might overlap those it writes: so several loops,
    # over pieces that stay in the cache.
    @njit(fastmath=True, error_model="numpy")
    def piece(a, b, c, d, e, ga, gb, gc, gd, s, grad, scale):  # type: ignore
        size = a.size
        for i in range(size):
            s[i] = one / (one + exp(-(a[i] * b[i] + c[i])))
        total = f(0)
        for i in range(size):
            difference = s[i] * d[i] - e[i]
            total += difference * difference
            grad[i] = difference * scale
        for i in range(size):
            gd[i] = grad[i] * s[i]
            gc[i] = grad[i] * d[i] * (s[i] * (one - s[i]))
        for i in range(size):
            ga[i] = gc[i] * b[i]
            gb[i] = gc[i] * a[i]
        return total

    @njit(fastmath=True, error_model="numpy", parallel=True)
    def both(a, b, c, d, e, ga, gb, gc, gd):  # type: ignore
        size = a.size
        scale = two / f(size)
        sums = np.zeros((size + PART - 1) // PART, np.float64)
        for part in prange(sums.size):
            s, grad = np.empty(PIECE, np.float32), np.empty(PIECE, np.float32)
            stop = min(part * PART + PART, size)
            for low in range(part * PART, stop, PIECE):
                high = min(low + PIECE, stop)
                sums[part] += piece(
                    a[low:high], b[low:high], c[low:high], d[low:high], e[low:high],
                    ga[low:high], gb[low:high], gc[low:high], gd[low:high], s, grad, scale,
                )  # fmt: skip
        return sums.sum() / size

    gradients = [np.empty_like(array) for array in arrays[:4]]
    return lambda: [np.float32(both(*arrays, *gradients)), *gradients]
