"""Convolution and pooling: against loops as the definition has them, and at their edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mfcore as mf
from mfcore.errors import ForwardError, NodeUseError
from mfops_basic.windows import output_size, padding_of
from mfops_nn import (
    MSE,
    AvgPool2D,
    Conv2D,
    Conv2DInputGradient,
    Conv2DWeightGradient,
    Correlate2D,
    CrossEntropy,
    Flatten,
    Linear,
    MaxPool2D,
    MaxPool2DGradient,
    ReLU,
)

law = settings(deadline=None, derandomize=True, max_examples=60)
sides = st.integers(1, 6)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an image's and a window's size, and a stride and padding that fit them."""
    size, kernel, stride = draw(st.tuples(sides, sides)), draw(pairs), draw(pairs)
    padding = draw(st.one_of(st.just("same"), st.tuples(st.integers(0, 2), st.integers(0, 2))))
    if padding != "same":  # as much as the window needs, and less than the window
        padding = tuple(
            max(min(p, k - 1), -((n - k) // 2))
            for n, k, p in zip(size, kernel, padding, strict=True)
        )
    return {"size": size, "kernel": kernel, "stride": stride, "padding": padding}


def padded(x: np.ndarray, layout: dict[str, Any], fill: float = 0.0) -> np.ndarray:
    pads = padding_of(**layout)
    return np.pad(x, ((0, 0), (0, 0), *pads), constant_values=fill)


def looped(x: np.ndarray, layout: dict[str, Any], function: Any, fill: float = 0.0) -> np.ndarray:
    """Return what a function makes of each window ``(n, c, kh, kw)``, along the last two axes."""
    (kh, kw), (sh, sw) = layout["kernel"], layout["stride"]
    source = padded(x, layout, fill)
    rows = range(0, source.shape[2] - kh + 1, sh)
    columns = range(0, source.shape[3] - kw + 1, sw)
    found = [[function(source[:, :, i : i + kh, j : j + kw]) for j in columns] for i in rows]
    return np.moveaxis(np.array(found), (0, 1), (-2, -1))


def options(layout: dict[str, Any]) -> dict[str, Any]:
    return {"stride": layout["stride"], "padding": layout["padding"]}


@given(layout=layouts(), channels=pairs, n=st.integers(0, 2), seed=st.integers(0, 99))
@law
def test_convolution_is_the_sum_over_each_window(
    layout: dict[str, Any], channels: tuple[int, int], n: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, channels[0], *layout["size"]))
    W = rng.normal(size=(channels[1], channels[0], *layout["kernel"]))

    value = mf.apply(Correlate2D, x, W, **options(layout))

    expected = looped(x, layout, lambda window: np.tensordot(window, W, ((1, 2, 3), (1, 2, 3))))
    np.testing.assert_allclose(value, expected, atol=1e-12)
    assert value.shape[2:] == output_size(**layout)
    if layout["padding"] == "same":
        ceiling = [-(-n // s) for n, s in zip(layout["size"], layout["stride"], strict=True)]
        assert list(value.shape[2:]) == ceiling


@given(layout=layouts(), channels=pairs, seed=st.integers(0, 99))
@law
def test_the_gradients_of_convolution_are_its_adjoints(
    layout: dict[str, Any], channels: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, channels[0], *layout["size"]))
    W = rng.normal(size=(channels[1], channels[0], *layout["kernel"]))
    value = mf.apply(Correlate2D, x, W, **options(layout))
    u = rng.normal(size=value.shape)

    to_x = mf.apply(Conv2DInputGradient, u, W, image_size=layout["size"], **options(layout))
    to_W = mf.apply(Conv2DWeightGradient, x, u, kernel_size=layout["kernel"], **options(layout))

    assert (to_x.shape, to_W.shape) == (x.shape, W.shape)
    np.testing.assert_allclose(np.sum(to_x * x), np.sum(value * u), atol=1e-10)
    np.testing.assert_allclose(np.sum(to_W * W), np.sum(value * u), atol=1e-10)


@given(layout=layouts(), seed=st.integers(0, 99), dtype=st.sampled_from([np.float32, np.int64]))
@law
def test_pooling_is_the_maximum_and_the_mean_of_each_window(
    layout: dict[str, Any], seed: int, dtype: type
) -> None:
    x = np.random.default_rng(seed).integers(-9, 0, (2, 3, *layout["size"])).astype(dtype)
    chosen = {"kernel_size": layout["kernel"], **options(layout)}

    largest = mf.apply(MaxPool2D, x, **chosen)
    mean = mf.apply(AvgPool2D, x, **chosen)

    assert largest.dtype == dtype
    exact = looped(x.astype(float), layout, lambda w: np.max(w, axis=(2, 3)), -np.inf)
    np.testing.assert_array_equal(largest, exact)
    np.testing.assert_allclose(mean, looped(x, layout, lambda w: w.mean(axis=(2, 3))), rtol=1e-6)


@given(layout=layouts(), seed=st.integers(0, 99))
@law
def test_the_first_of_tied_elements_gets_the_whole_gradient(
    layout: dict[str, Any], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (2, 2, *layout["size"])).astype(float)
    chosen = {"kernel_size": layout["kernel"], **options(layout)}
    pooled = mf.apply(MaxPool2D, x, **chosen)
    u = rng.normal(size=pooled.shape)

    found = mf.apply(MaxPool2DGradient, u, x, pooled, **chosen)

    source = padded(x, layout, -np.inf)
    expected = np.zeros_like(source)
    (kh, kw), (sh, sw) = layout["kernel"], layout["stride"]
    for a, b, i, j in np.ndindex(*pooled.shape):
        window = source[a, b, i * sh : i * sh + kh, j * sw : j * sw + kw]
        p, q = np.unravel_index(np.argmax(window), window.shape)
        expected[a, b, i * sh + p, j * sw + q] += u[a, b, i, j]
    (top, _), (left, _) = padding_of(**layout)
    h, w = layout["size"]
    np.testing.assert_allclose(found, expected[:, :, top : top + h, left : left + w], atol=1e-12)


def test_padding_is_the_largest_of_no_window_even_of_nothing_but_minus_infinity() -> None:
    x = np.full((1, 1, 2, 2), -np.inf)

    pooled = mf.apply(MaxPool2D, x, kernel_size=(2, 2), stride=(1, 1), padding=(1, 1))
    found = mf.apply(
        MaxPool2DGradient,
        np.ones((1, 1, 3, 3)),
        x,
        pooled,
        kernel_size=(2, 2),
        stride=(1, 1),
        padding=(1, 1),
    )

    np.testing.assert_array_equal(pooled, np.full((1, 1, 3, 3), -np.inf))
    np.testing.assert_array_equal(found, [[[[4, 2], [2, 1]]]])


def test_an_element_that_is_nan_makes_its_windows_nan_and_no_other() -> None:
    x = np.zeros((1, 1, 2, 4))
    x[0, 0, 1, 1] = np.nan

    pooled = MaxPool2D.forward(x, (2, 2), None, (0, 0))
    (found,) = MaxPool2D.backward(np.ones((1, 1, 1, 2)), x, pooled, (2, 2), None, (0, 0))

    np.testing.assert_array_equal(pooled, [[[[np.nan, 0.0]]]])
    np.testing.assert_array_equal(found, [[[[1, 0, 1, 0], [0, 0, 0, 0]]]])


def test_pooling_bools_says_whether_any_is_true() -> None:
    x = np.array([[[[False, True], [False, False]]]])

    pooled = mf.apply(MaxPool2D, x, kernel_size=(2, 2), stride=(1, 1), padding="same")

    np.testing.assert_array_equal(pooled, [[[[True, True], [False, False]]]])


x, W = mf.Input("x"), mf.Input("W")


@pytest.mark.parametrize(
    ("node", "shapes", "says"),
    [
        (Conv2D(x, W, np.zeros(2)), [(1, 3, 4, 4), (2, 4, 3, 3)], "with 3 in channels"),
        (Conv2D(x, W, np.zeros(2)), [(1, 3, 4, 4), (2, 3, 3)], r"weights of shape \(2, 3, 3\)"),
        (Conv2D(x, W, np.zeros(2)), [(3, 4, 4), (2, 3, 3, 3)], r"has shape \(3, 4, 4\)"),
        (Conv2D(x, W, np.zeros(2)), [(1, 3, 2, 4), (2, 3, 3, 3)], "3 x 3 is larger than the image"),
        (Conv2D(x, W, np.zeros(2)), [(1, 3, 4, 4), (2, 3, 0, 1)], "0 x 1 holds nothing"),
        (Conv2D(x, W, np.zeros(3)), [(1, 3, 4, 4), (2, 3, 3, 3)], r"biases of shape \(3,\)"),
        (
            Conv2DWeightGradient(x, W, kernel_size=3),
            [(1, 3, 4, 4), (1, 2, 3, 3)],
            r"the convolution has the shape \(1, 2, 2, 2\)",
        ),
        (
            Conv2DInputGradient(x, W, image_size=4),
            [(1, 2, 3, 3), (2, 3, 3, 3)],
            r"the convolution has the shape \(1, 2, 2, 2\)",
        ),
        (MaxPool2D(x), [(1, 3, 1, 4)], "2 x 2 is larger than the image of 1 x 4"),
        (MaxPool2D(x), [(3, 4, 4)], r"has shape \(3, 4, 4\)"),
        (AvgPool2D(x, padding=2), [(1, 3, 4, 4)], "must be smaller than the window"),
        (Flatten(x), [()], "needs an axis of a batch"),
    ],
)
def test_shapes_that_do_not_fit_are_named(node: mf.Node, shapes: list[Any], says: str) -> None:
    feeds = {name: np.zeros(shape) for name, shape in zip([x, W], shapes, strict=False)}

    with pytest.raises(ForwardError, match=says):
        mf.Session(node).run(feeds)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Conv2D(x, W, 0, stride=0), "a size or stride is an integer from 1"),
        (lambda: Conv2D(x, W, 0, stride=(1, 2, 3)), "not \\(1, 2, 3\\)"),
        (lambda: Conv2D(x, W, 0, stride=1.5), "a size or stride is an integer from 1"),
        (lambda: Conv2D(x, W, 0, padding=-1), "padding is an integer from 0"),
        (lambda: Conv2D(x, W, 0, padding="full"), "'same' or 'valid', not 'full'"),
        (lambda: Conv2D(x, W, 0, padding=True), "padding is an integer from 0"),
        (lambda: MaxPool2D(x, kernel_size=0), "a size or stride is an integer from 1"),
        (lambda: Conv2DInputGradient(x, W, image_size=2.5), "an image has a height and a width"),
    ],
)
def test_a_wrong_hyperparameter_is_refused_when_it_is_given(build: Any, says: str) -> None:
    with pytest.raises(NodeUseError, match=says):
        build()


def test_a_convolutional_network_learns_whether_a_bar_lies_or_stands() -> None:
    rng = np.random.default_rng(0)
    images = 0.1 * rng.normal(size=(40, 1, 8, 8)).astype(np.float32)
    stands = np.arange(40) % 2
    for image, upright, place in zip(images, stands, rng.integers(0, 8, 40), strict=True):
        image[0][(slice(None), place) if upright else (place, slice(None))] += 1
    pixels, classes = mf.Input("pixels"), mf.Input("classes")
    parameters = [
        mf.Parameter(rng.normal(size=shape).astype(np.float32) * 0.4)
        for shape in [(4, 1, 3, 3), (4,), (4, 4, 3, 3), (4,), (16, 2), (2,)]
    ]
    W1, b1, W2, b2, W3, b3 = parameters
    hidden = MaxPool2D(ReLU(Conv2D(pixels, W1, b1, padding="same")))
    hidden = MaxPool2D(ReLU(Conv2D(hidden, W2, b2, padding=1)))
    cost = CrossEntropy(classes, Linear(Flatten(hidden), W3, b3))
    session = mf.Session(cost)

    losses = []
    for _ in range(60):
        run = session.run({pixels: images, classes: stands})
        losses.append(float(run[cost]))
        for parameter in parameters:
            assert run.gradients[parameter].dtype == np.float32
            session[parameter] = session[parameter] - 0.3 * run.gradients[parameter]

    assert losses[-1] < 0.1 < losses[0]


def test_the_gradients_themselves_have_gradients() -> None:
    rng = np.random.default_rng(0)
    images = mf.Input("images", shape=(2, 2, 6, 5))
    W = mf.Parameter(rng.normal(size=(3, 2, 3, 2)), name="W")
    b = mf.Parameter(rng.normal(size=3), name="b")
    hidden = np.tanh(Conv2D(images, W, b, stride=(1, 2), padding=1))
    cost = np.sum(np.square(AvgPool2D(MaxPool2D(hidden, kernel_size=2, stride=1))))
    to_images, to_W = mf.gradient(cost, [images, W])
    node = np.sum(np.sin(to_images)) + np.sum(np.square(to_W))
    session = mf.Session(node)
    data, direction = rng.normal(size=(2, 2, 2, 6, 5))
    along = rng.normal(size=(3, 2, 3, 2))
    start = session[W]

    def value(step: float) -> float:
        session[W] = start + step * along
        return float(session.run({images: data + step * direction})[node])

    measured = (value(1e-6) - value(-1e-6)) / 2e-6
    session[W] = start
    found = session.run({images: data}).backward(wrt=[images, W])

    slope = np.sum(found[images] * direction) + np.sum(found[W] * along)
    np.testing.assert_allclose(slope, measured, rtol=1e-6)


def test_a_pooled_image_is_a_node_like_any_other_to_what_asks_for_its_shape() -> None:
    images = mf.Input("images", shape=(2, 1, 4, 6))
    pooled = MaxPool2D(images)
    (slope,) = mf.gradient(MSE(np.zeros((2, 1, 2, 3)), pooled), [images])
    data = np.arange(48.0).reshape(2, 1, 4, 6)

    found = mf.Session(slope).run({images: data})[slope]

    assert (pooled.shape, pooled.size) == ((2, 1, 2, 3), 12)
    expected = np.zeros(data.shape)
    expected[:, :, 1::2, 1::2] = data[:, :, 1::2, 1::2] / 6
    np.testing.assert_allclose(found, expected)
