"""The kernels of convolution and pooling, compiled and in NumPy, against the operations."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest

import mfcore as mf
import mfops_nn as nn
from mfjit import convolution, convolution_numpy
from mfops_basic.windows import output_size, padding_of

THREADS = 2


@attrs.frozen
class Layout:
    """Shapes of one convolution, and how its windows lie."""

    x: tuple[int, ...]
    W: tuple[int, ...]
    stride: tuple[int, int] = (1, 1)
    padding: Any = (0, 0)

    @property
    def options(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding}

    @property
    def before(self) -> tuple[int, int]:
        (top, _), (left, _) = padding_of(self.x[2:], self.W[2:], self.stride, self.padding)
        return top, left

    @property
    def out(self) -> tuple[int, ...]:
        count = output_size(self.x[2:], self.W[2:], self.stride, self.padding)
        return (self.x[0], self.W[0], *count)


LAYOUTS = [
    Layout((4, 1, 28, 28), (16, 1, 3, 3), padding="same"),
    Layout((5, 16, 14, 14), (32, 16, 3, 3), padding=(1, 1)),
    Layout((3, 3, 9, 8), (5, 3, 3, 2), stride=(2, 1), padding=(2, 1)),
    Layout((3, 3, 9, 8), (9, 3, 2, 3), stride=(2, 3), padding="same"),
    Layout((2, 2, 5, 5), (4, 2, 3, 2), stride=(1, 3), padding=(3, 0)),
    Layout((2, 3, 7, 40), (17, 3, 5, 5), padding=(6, 5)),
    Layout((9, 4, 7, 7), (10, 4, 1, 1)),
    Layout((1, 1, 1, 1), (1, 1, 1, 1)),
    Layout((0, 2, 3, 3), (2, 2, 2, 2)),
    Layout((3, 2, 2, 2), (3, 2, 4, 4), padding="same"),
]
POOLS = [
    Layout((3, 16, 28, 28), (1, 1, 2, 2), stride=(2, 2)),
    Layout((2, 2, 9, 37), (1, 1, 2, 2), stride=(2, 2)),
    Layout((2, 2, 5, 5), (1, 1, 2, 2), stride=(2, 2), padding="same"),
    Layout((2, 3, 9, 8), (1, 1, 3, 2), stride=(2, 1), padding=(1, 1)),
    Layout((2, 1, 7, 7), (1, 1, 2, 3), stride=(3, 4), padding=(1, 2)),
    Layout((0, 1, 4, 4), (1, 1, 2, 2), stride=(2, 2)),
]
KINDS = ["numba", "numpy"]
DTYPES = [np.float32, np.float64]


def data(shape: tuple[int, ...], dtype: type, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def unset(shape: Any, dtype: type) -> np.ndarray:
    """An array whose contents must not matter."""
    return np.full(shape, np.nan, dtype)


def convolve(kind: str, layout: Layout, x: Any, W: Any, b: Any, rectify: bool = False) -> Any:
    out = unset(layout.out, x.dtype)
    where = (*layout.stride, *layout.before)
    if kind == "numba":
        shape = convolution.conv2d_workspace(layout.W, layout.out, layout.stride, THREADS)
        convolution.conv2d(x, W, b, out, *where, rectify, unset(shape, x.dtype))
    else:
        convolution_numpy.conv2d(x, W, b, out, *where, rectify, numpy_workspace(layout, x.dtype))
    return out


def numpy_workspace(layout: Layout, dtype: Any) -> np.ndarray:
    size = convolution_numpy.conv2d_workspace(
        layout.x, layout.W, layout.out, layout.stride, layout.before
    )
    return unset(size, dtype)


def input_gradient(kind: str, layout: Layout, grad: Any, W: Any, threads: int = THREADS) -> Any:
    out = unset(layout.x, grad.dtype)
    where = (*layout.stride, *layout.before)
    if kind == "numba":
        shape = convolution.conv2d_input_gradient_workspace(layout.W, layout.x, threads)
        convolution.conv2d_input_gradient(grad, W, out, *where, unset(shape, grad.dtype))
    else:
        size = convolution_numpy.conv2d_input_gradient_workspace(layout.W, layout.x)
        workspace = unset(size, grad.dtype)
        convolution_numpy.conv2d_input_gradient(grad, W, out, *where, workspace)
    return out


def weight_gradient(
    kind: str, layout: Layout, x: Any, grad: Any, biases: int, threads: int = THREADS
) -> Any:
    out, bias = unset(layout.W, x.dtype), unset(biases, x.dtype)
    where = (*layout.stride, *layout.before)
    if kind == "numba":
        shape = convolution.conv2d_weight_gradient_workspace(
            layout.W, layout.out, layout.stride, threads
        )
        workspace = unset(shape, x.dtype)
        convolution.conv2d_weight_gradient(x, grad, out, bias, *where, workspace)
    else:
        workspace = numpy_workspace(layout, x.dtype)
        convolution_numpy.conv2d_weight_gradient(x, grad, out, bias, *where, workspace)
    return out, bias


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    accuracy = 2e-6 if found.dtype == np.float32 else 1e-14
    np.testing.assert_allclose(found, expected, rtol=0, atol=8 * accuracy * scale)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_convolution_is_that_of_the_operation(kind: str, dtype: type, layout: Layout) -> None:
    x, W, b = data(layout.x, dtype), data(layout.W, dtype, 1), data(layout.W[:1], dtype, 2)
    expected = mf.apply(nn.Conv2D, x, W, b, **layout.options)
    without = mf.apply(nn.Correlate2D, x, W, **layout.options)

    close(convolve(kind, layout, x, W, b), expected)
    close(convolve(kind, layout, x, W, b, rectify=True), np.maximum(expected, 0))
    close(convolve(kind, layout, x, W, b[:0]), without)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_convolution_are_those_of_the_operation(
    kind: str, dtype: type, layout: Layout
) -> None:
    x, W, grad = data(layout.x, dtype), data(layout.W, dtype, 1), data(layout.out, dtype, 2)
    to_x = mf.apply(nn.Conv2DInputGradient, grad, W, image_size=layout.x[2:], **layout.options)
    to_W = mf.apply(nn.Conv2DWeightGradient, x, grad, kernel_size=layout.W[2:], **layout.options)

    weights, biases = weight_gradient(kind, layout, x, grad, layout.W[0])

    close(input_gradient(kind, layout, grad, W), to_x)
    close(weights, to_W)
    close(biases, grad.sum(axis=(0, 2, 3)))
    np.testing.assert_array_equal(weight_gradient(kind, layout, x, grad, 0)[0], weights)


@pytest.mark.parametrize("layout", POOLS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rectified", [False, True])
def test_pooling_and_its_gradient_are_those_of_the_operations(
    kind: str, dtype: type, layout: Layout, rectified: bool
) -> None:
    # Small whole numbers, so that there are ties.
    x = np.random.default_rng(0).integers(-2, 3, layout.x).astype(dtype)
    if rectified:
        x = np.maximum(x, 0)
    chosen = {"kernel_size": layout.W[2:], **layout.options}
    expected = mf.apply(nn.MaxPool2D, x, **chosen)
    grad = data(expected.shape, dtype)
    slopes = mf.apply(nn.MaxPool2DGradient, grad, x, expected, **chosen)

    pooled, found = unset(expected.shape, dtype), unset(layout.x, dtype)
    where = (*layout.W[2:], *layout.stride, *layout.before)
    if kind == "numba":
        convolution.max_pool2d(x, pooled, *where, THREADS)
        convolution.max_pool2d_gradient(grad, x, pooled, found, *where, rectified, THREADS)
    else:
        convolution_numpy.max_pool2d(x, pooled, *where, unset(pooled.size, dtype))
        workspace, masks = unset((2, pooled.size), dtype), np.ones((3, pooled.size), bool)
        convolution_numpy.max_pool2d_gradient(
            grad, x, pooled, found, *where, rectified, workspace, masks
        )

    np.testing.assert_array_equal(pooled, expected)
    close(found, slopes * (x > 0) if rectified else slopes)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_nan_in_a_window_is_its_largest_element(kind: str, size: int) -> None:
    for place in np.ndindex(size, size):
        x = np.zeros((1, 1, size, 2 * size))
        x[(0, 0, *place)] = np.nan
        pooled, found = np.zeros((1, 1, 1, 2)), unset(x.shape, np.float64)
        expected = mf.apply(nn.MaxPool2D, x, kernel_size=(size, size))
        where = (size, size, size, size, 0, 0)
        grad = np.ones(pooled.shape)

        if kind == "numba":
            convolution.max_pool2d(x, pooled, *where, 1)
            convolution.max_pool2d_gradient(grad, x, pooled, found, *where, False, 1)
        else:
            workspace, masks = np.empty((2, 2)), np.empty((3, 2), bool)
            convolution_numpy.max_pool2d(x, pooled, *where, workspace[0])
            convolution_numpy.max_pool2d_gradient(
                grad, x, pooled, found, *where, False, workspace, masks
            )

        np.testing.assert_array_equal(pooled, expected)
        slopes = mf.apply(nn.MaxPool2DGradient, grad, x, expected, kernel_size=(size, size))
        np.testing.assert_array_equal(found, slopes)


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_any_number_of_threads_gives_the_result_and_the_same_bits_again(threads: int) -> None:
    layout = LAYOUTS[1]
    x, W = data(layout.x, np.float32), data(layout.W, np.float32, 1)
    grad = data(layout.out, np.float32, 2)

    first, second = (
        (
            weight_gradient("numba", layout, x, grad, 32, threads),
            input_gradient("numba", layout, grad, W, threads),
        )
        for _ in range(2)
    )

    close(first[0][0], weight_gradient("numpy", layout, x, grad, 32)[0])
    close(first[1], input_gradient("numpy", layout, grad, W))
    assert first[0][0].tobytes() == second[0][0].tobytes()
    assert first[0][1].tobytes() == second[0][1].tobytes()
    assert first[1].tobytes() == second[1].tobytes()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
def test_the_numpy_kernels_allocate_views_only(stride: int, padding: int) -> None:
    both = {"stride": (stride, stride), "padding": (padding, padding)}
    layout = Layout((8, 8, 17, 16), (8, 8, 3, 3), **both)
    pool = Layout(layout.x, (1, 1, 2, 2), **both)
    pooled = np.empty((8, 8, *pool.out[2:]), np.float32)
    x, W, grad = (data(shape, np.float32) for shape in (layout.x, layout.W, layout.out))
    back, to_W, to_b = np.empty_like(x), np.empty_like(W), np.empty(8, np.float32)
    workspace = numpy_workspace(layout, np.float32)
    size = convolution_numpy.conv2d_input_gradient_workspace(layout.W, layout.x)
    spread = np.empty(size, np.float32)
    copies, masks = np.empty((2, pooled.size), np.float32), np.empty((3, pooled.size), bool)
    where = (stride, stride, padding, padding)
    kernels = [
        lambda: convolution_numpy.conv2d(x, W, to_b, grad, *where, True, workspace),
        lambda: convolution_numpy.conv2d_input_gradient(grad, W, back, *where, spread),
        lambda: convolution_numpy.conv2d_weight_gradient(x, grad, to_W, to_b, *where, workspace),
        lambda: convolution_numpy.max_pool2d(x, pooled, 2, 2, *where, copies[0]),
        lambda: convolution_numpy.max_pool2d_gradient(
            pooled, x, pooled, back, 2, 2, *where, True, copies, masks
        ),
    ]

    # Python's own objects for the views of all places of a window are a few thousand bytes.
    for kernel, allowed in zip(kernels, [8000, 8000, 8000, 4000, 4000], strict=True):
        # What a kernel needs it needs each time; what Python's free lists lack, only at first.
        peak = min(peak_of(kernel) for _ in range(5))
        assert peak < allowed < pooled.nbytes


def peak_of(kernel: Callable[[], object]) -> int:
    """Return the bytes that a call allocates at most at one time."""
    kernel()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kernel()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def test_code_loaded_from_a_cache_finds_the_parts_that_were_prepared(tmp_path: Any) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import numpy as np
            from numba import njit
            from mfjit import convolution
            from mfjit.parallel_parts import prepare

            @njit(cache=True)
            def main(x, out):
                convolution.max_pool2d(x, out, 2, 2, 2, 2, 0, 0, 2)

            prepare("max_pool2d", "float32")
            out = np.empty((1, 1, 1, 2), np.float32)
            main(np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4), out)
            print(out.ravel().tolist(), sum(main.stats.cache_hits.values()))
            """
        ),
        encoding="utf-8",
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    printed = [
        subprocess.run(
            [sys.executable, program], env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    ]

    assert printed == ["[5.0, 7.0] 0", "[5.0, 7.0] 1"]
