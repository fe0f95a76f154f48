"""Where the mathematics ends: NaN, infinities, nothing at all, small integers, bools, ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mfcore as mf
from mfcore.errors import ForwardError, NodeUseError
from mfops_basic import (
    Add,
    Expm1,
    Index,
    Max,
    Maximum,
    Mean,
    Min,
    Minimum,
    Mul,
    OneHot,
    Power,
    Reshape,
    Sign,
    Sqrt,
    Square,
    Sum,
    Tanh,
    Where,
)
from mfops_nn import (
    MSE,
    BinaryCrossEntropy,
    CrossEntropy,
    Dropout,
    Linear,
    ReLU,
    Sigmoid,
    Softmax,
)

nan, inf = np.nan, np.inf
x, y = mf.Input("x"), mf.Input("y")


def run(node: mf.Node, *values: Any, engine: str | None = None, **options: Any) -> mf.Run:
    feeds = dict(zip([x, y], [np.asarray(v) for v in values], strict=False))
    return mf.Session(node, engine=engine, seed=0).run(feeds, **options)


def gradients(node: mf.Node, *values: Any) -> list[np.ndarray]:
    result = run(node, *values)
    wrt = [x, y][: len(values)]
    found = result.backward(wrt=wrt, grad=np.ones(np.shape(result[node])))
    return [found[n] for n in wrt]


# Powers


@pytest.mark.parametrize(
    ("base", "exponent", "of_base", "of_exponent"),
    [
        (2.0, 3.0, 12.0, 8 * np.log(2)),
        (-2.0, 3.0, 12.0, 0.0),
        (-2.0, -1.0, -0.25, 0.0),
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 1.0, 1.0, 0.0),
        (0.0, 2.0, 0.0, 0.0),
        (-3.0, 0.0, 0.0, 0.0),
        (1.0, 5.0, 5.0, 0.0),
    ],
)
def test_power_has_the_slopes_that_its_docstring_states(
    base: float, exponent: float, of_base: float, of_exponent: float
) -> None:
    slopes = gradients(Power(x, y), [base], [exponent])

    np.testing.assert_allclose(np.ravel(slopes), [of_base, of_exponent], rtol=1e-15)


def test_power_has_numpy_s_infinite_slope_where_a_root_meets_zero() -> None:
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        slope = gradients(Power(x, 0.5), [0.0])[0]

    np.testing.assert_array_equal(slope, [inf])


def test_power_of_integers_has_a_slope_with_fractions() -> None:
    np.testing.assert_array_equal(gradients(Power(x, 2), [3, 0])[0], [6.0, 0.0])
    np.testing.assert_array_equal(gradients(Power(x, 0), [3, 0])[0], [0.0, 0.0])


@pytest.mark.parametrize("exponent", [2, 2.0, 0.5, 0, -1])
def test_power_by_a_python_number_computes_its_slope_in_float32(exponent: float) -> None:
    base = np.array([0.5, 2.0], np.float32)

    of_base, _ = Power.backward(
        np.float32(1), base, exponent, base**exponent, mf.spec_of(Power).wanted([True, False])
    )

    assert of_base.dtype == np.float32


def test_the_root_of_zero_has_an_infinite_slope_and_numpy_s_warning() -> None:
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert gradients(Sqrt(x), 0.0) == [inf]


def test_the_slope_of_expm1_is_exact_far_below_zero() -> None:
    points = np.array([-1e-3, -10.0, -40.0, -700.0])

    np.testing.assert_array_equal(gradients(Expm1(x), points)[0], np.exp(points))


# NaN and ties


@pytest.mark.parametrize("operation", [Max, Min])
def test_an_extreme_gives_its_gradient_to_nan_where_nan_is_the_result(operation: Any) -> None:
    result = run(operation(x, axis=1), [[1.0, nan, 3.0], [2.0, 2.0, 2.0]])

    assert np.isnan(result[result.session.graph.outputs[0]][0])
    np.testing.assert_allclose(result.backward(wrt=[x], grad=[3.0, 3.0])[x], [[0, 3, 0], [1, 1, 1]])


@pytest.mark.parametrize("operation", [Maximum, Minimum])
@pytest.mark.parametrize("pair", [(1.0, 1.0), (nan, 1.0), (1.0, nan), (inf, inf), (0.0, -0.0)])
def test_where_neither_is_chosen_each_gets_half(operation: Any, pair: Any) -> None:
    np.testing.assert_array_equal(gradients(operation(x, y), *pair), [0.5, 0.5])


def test_where_one_is_chosen_it_gets_everything() -> None:
    np.testing.assert_array_equal(
        gradients(Maximum(x, y), [1.0, -inf], [2.0, 0.0]), [[0] * 2, [1] * 2]
    )
    np.testing.assert_array_equal(
        gradients(Minimum(x, y), [1.0, -inf], [2.0, 0.0]), [[1] * 2, [0] * 2]
    )


def test_ties_over_several_axes_share_equally() -> None:
    data = np.array([[[1.0, 5.0], [5.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]])

    found = gradients(Max(x, axis=(0, -1)), data)[0]

    np.testing.assert_array_equal(found, [[[0, 1], [1, 0]], [[0, 0], [0, 0]]])


@pytest.mark.parametrize("operation", [ReLU, Tanh, Sigmoid, Softmax])
def test_nan_stays_nan_without_a_warning(operation: Any) -> None:
    result = run(operation(x), [nan, 1.0])

    assert np.isnan(result[result.session.graph.outputs[0]][0])


def test_where_lets_no_gradient_through_what_it_did_not_choose() -> None:
    mask, data = np.array([True, False]), np.array([4.0, -1.0])
    guarded = Where(y, np.sqrt(np.where(y, x, 1.0)), 0.0)

    np.testing.assert_array_equal(gradients(guarded, data, mask)[0], [0.25, 0])


# Operations that are steps


@pytest.mark.parametrize(
    "node",
    [Sign(x), x > y, np.equal(x, y), np.logical_and(x, y), ~x, np.not_equal(x, 0)],
    ids=lambda node: type(node).__name__,
)
def test_no_gradient_passes_a_step_and_what_was_asked_for_is_zero(node: mf.Node) -> None:
    total = (node * y).sum()

    of_x, of_y = gradients(total, [1.0, -2.0, 0.0], [1.0, 2.0, 3.0])

    np.testing.assert_array_equal(of_x, np.zeros(3))
    assert of_y.shape == (3,)


# Integers and bools


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, bool])
@pytest.mark.parametrize("operation", [Sigmoid, Softmax], ids=lambda o: o.__name__)
def test_activations_of_integers_do_not_wrap_around(operation: Any, dtype: Any) -> None:
    data = np.array([0, 1, 100, 120]).astype(dtype)

    node = operation(x)

    np.testing.assert_array_equal(run(node, data)[node], run(node, data.astype(float))[node])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, bool])
def test_losses_of_integers_do_not_wrap_around(dtype: Any) -> None:
    targets, scores = np.array([0, 1, 1]).astype(dtype), np.array([1, 0, 100]).astype(dtype)
    squares, binary = MSE(x, y), BinaryCrossEntropy(x, y)
    for node in (squares, binary):
        found = run(node, targets, scores)
        expected = run(node, targets.astype(float), scores.astype(float))

        np.testing.assert_allclose(found[node], expected[node], rtol=1e-15)
        np.testing.assert_allclose(found.gradients[y], expected.gradients[y], rtol=1e-15)
    many = CrossEntropy(x, y)
    np.testing.assert_allclose(
        run(many, 1, scores)[many], run(many, 1, scores.astype(float))[many], rtol=1e-15
    )


@pytest.mark.parametrize("operation", [Square, np.log1p])
def test_the_slope_at_small_integers_does_not_wrap_around(operation: Any) -> None:
    data = np.array([100, 127], np.int8)

    with np.errstate(over="ignore"):
        found = gradients(operation(x), data)[0]

    expected = 2.0 * data.astype(float) if operation is Square else 1 / (1 + data.astype(float))
    np.testing.assert_allclose(found, expected)


def test_a_mask_can_be_added_multiplied_and_counted() -> None:
    data = np.array([1.0, -2.0, 3.0])

    np.testing.assert_array_equal(gradients((x > 0) * x, data)[0], [1, 0, 1])
    np.testing.assert_array_equal(gradients((x > 0) + x, data)[0], [1, 1, 1])
    node = Add(x > 0, x > -5, 1)
    np.testing.assert_array_equal(run(node, data)[node], [2, 2, 2])


@pytest.mark.parametrize("operation", [Add, Mul])
@pytest.mark.parametrize("data", [[True, False], [-0.0, nan], [1, 2]], ids=str)
def test_one_term_alone_is_a_copy_of_it(operation: Any, data: Any) -> None:
    data = np.array(data)

    value = operation.forward(data)

    np.testing.assert_array_equal(value, data)
    np.testing.assert_array_equal(np.signbit(value * 1.0), np.signbit(data * 1.0))
    assert not np.may_share_memory(value, data)


# Nothing at all


def test_the_sum_of_nothing_is_zero_and_the_product_of_empty_matrices_too() -> None:
    node = Sum(x, axis=0)

    np.testing.assert_array_equal(run(node, np.ones((0, 3)))[node], np.zeros(3))
    np.testing.assert_array_equal(gradients(node, np.ones((0, 3)))[0], np.ones((0, 3)))


LOSSES_OF_NOTHING = {
    "Mean": (Mean(x), [np.ones(0)]),
    "MSE": (MSE(x, y), [np.ones((0, 2)), np.ones((0, 2))]),
    "CrossEntropy": (CrossEntropy(x, y), [np.ones(0, int), np.ones((0, 3))]),
    "BinaryCrossEntropy": (BinaryCrossEntropy(x, y), [np.ones(0), np.ones(0)]),
}


@pytest.mark.parametrize(("node", "data"), LOSSES_OF_NOTHING.values(), ids=LOSSES_OF_NOTHING.keys())
def test_the_mean_of_nothing_is_nan_with_numpy_s_warning(node: mf.Node, data: Any) -> None:
    with pytest.warns(RuntimeWarning) as caught:
        result = run(node, *data, engine="mfcore.reference")

    assert any("invalid value" in str(warning.message) for warning in caught)
    assert np.isnan(result[node])
    last = [x, y][len(data) - 1]
    assert result.backward(wrt=[last])[last].shape == data[-1].shape


@pytest.mark.parametrize("operation", [Max, Min])
def test_an_extreme_of_nothing_is_numpy_s_error(operation: Any) -> None:
    with pytest.raises(ForwardError, match="zero-size array to reduction operation"):
        run(operation(x), np.ones(0))


# Losses


def test_logits_of_minus_infinity_exclude_classes() -> None:
    logits = np.array([[0.0, -inf, 0.0]])
    for targets in (np.array([0]), np.array([[1.0, 0.0, 0.0]])):
        node = CrossEntropy(x, y)

        result = run(node, targets, logits)

        np.testing.assert_allclose(result[node], np.log(2))
        np.testing.assert_allclose(result.backward(wrt=[y])[y], [[-0.5, 0, 0.5]])


@pytest.mark.parametrize("targets", [np.array([1, 0]), np.eye(2)[[1, 0]].astype(np.float32)])
def test_cross_entropy_of_float32_logits_is_float32(targets: np.ndarray) -> None:
    logits = np.array([[0.5, -1.0], [3.0, 2.0]], np.float32)
    node = CrossEntropy(x, y)
    result = run(node, targets, logits)

    assert result[node].dtype == np.float32
    assert result.backward(wrt=[y])[y].dtype == np.float32


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, np.float64, np.float32, bool])
def test_classes_may_be_of_any_dtype_that_holds_whole_numbers(dtype: Any) -> None:
    logits = np.array([[1.0, 2.0], [0.5, -1.0], [0.0, 3.0]])
    classes = np.array([1, 0, 1])
    node = CrossEntropy(x, y)

    found, expected = (
        run(node, classes.astype(dtype), logits),
        run(node, np.eye(2)[classes], logits),
    )

    np.testing.assert_allclose(found[node], expected[node], rtol=1e-15)
    np.testing.assert_allclose(found.backward(wrt=[y])[y], expected.backward(wrt=[y])[y])
    np.testing.assert_array_equal(found.backward(wrt=[x])[x], np.zeros(3))


@pytest.mark.parametrize("bad", [3, -1, 0.5, nan, inf])
def test_what_is_no_class_is_named(bad: float) -> None:
    with pytest.raises(ForwardError, match=rf"class index {bad} is no whole number from 0 to 2"):
        run(OneHot(x, depth=3), [0, bad, 1])


def test_cross_entropy_of_a_single_number_says_what_is_missing() -> None:
    with pytest.raises(ForwardError, match="logits need an axis of classes"):
        run(CrossEntropy(x, y), 0, 1.0)


@pytest.mark.parametrize("loss", [MSE, BinaryCrossEntropy])
def test_a_vector_of_targets_fits_a_column_of_predictions(loss: Any) -> None:
    targets, scores = np.array([0, 1, 1]), np.array([[0.5], [-1.0], [2.0]])
    node = loss(x, y)

    result = run(node, targets, scores)
    flat = run(node, targets, scores[:, 0])

    assert result[node] == flat[node]
    np.testing.assert_array_equal(result.gradients[y], flat.gradients[y][:, None])
    assert result.gradients[x].shape == (3,)


def test_binary_cross_entropy_of_different_sizes_names_both_shapes() -> None:
    with pytest.raises(ForwardError, match=r"shape \(2,\) and logits of shape \(3, 1\)"):
        run(BinaryCrossEntropy(x, y), [0, 1], np.zeros((3, 1)))


@pytest.mark.parametrize(
    ("target", "logit", "loss", "slope"),
    [
        (1.0, 1e4, 0.0, 0.0),
        (0.0, 1e4, 1e4, 1.0),
        (1.0, -1e4, 1e4, -1.0),
        (0.0, -1e4, 0.0, 0.0),
        (1.0, 40.0, np.exp(-40.0), -np.exp(-40.0)),
        (0.0, -40.0, np.exp(-40.0), np.exp(-40.0)),
    ],
)
def test_binary_cross_entropy_is_exact_far_from_zero(
    target: float, logit: float, loss: float, slope: float
) -> None:
    node = BinaryCrossEntropy(x, y)
    result = run(node, target, logit)

    np.testing.assert_allclose(result[node], loss, rtol=1e-14)
    # 1 - sigmoid(40) is a difference of numbers near 1: exact to their spacing, no further.
    np.testing.assert_allclose(result.gradients[y], slope, rtol=1e-14, atol=1.2e-16)


def test_losses_take_python_numbers() -> None:
    for node, size in [(MSE(0.5, y), 1), (MSE(y, 2), 1), (BinaryCrossEntropy(1, y), 1)]:
        assert np.isfinite(mf.Session(node).run({y: np.ones(size)})[node])
    node = CrossEntropy(1, y)
    np.testing.assert_allclose(mf.Session(node).run({y: np.zeros(2)})[node], np.log(2))


# Layers


@pytest.mark.parametrize("b", [0.0, 2, np.float32(1), np.ones(2), np.ones((1, 2)), np.ones((3, 1))])
def test_the_biases_of_linear_may_be_anything_that_broadcasts(b: Any) -> None:
    X, W = np.arange(12.0).reshape(3, 4), np.ones((4, 2))
    node = Linear(x, y, b)

    result = run(node, X, W)

    np.testing.assert_array_equal(result[node], X @ W + b)
    np.testing.assert_array_equal(result.backward(grad=np.ones((3, 2)))[x], np.full((3, 4), 2.0))


def test_dropout_at_rate_zero_changes_nothing_while_training() -> None:
    node = Dropout(x, rate=0)
    data = np.arange(4.0)

    result = run(node, data, training=True)

    np.testing.assert_array_equal(result[node], data)
    np.testing.assert_array_equal(result.backward(grad=data)[x], data)


def test_dropout_draws_anew_at_each_run() -> None:
    node = Dropout(x)
    session = mf.Session(node, seed=1)
    feeds = {x: np.ones(64)}

    first, second = (session.run(feeds, training=True)[node] for _ in range(2))

    assert not np.array_equal(first, second)


@pytest.mark.parametrize("rate", [np.float32(0.5), np.float64(0.5), 0.5])
def test_dropout_keeps_float32_whatever_number_the_rate_is(rate: Any) -> None:
    node = Dropout(x, rate=rate)
    result = run(node, np.ones(8, np.float32), training=True)

    assert result[node].dtype == np.float32
    assert result.backward(grad=np.ones(8))[x].dtype == np.float32


# Wrong hyperparameters


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Reshape(x, shape=(2.5,)), r"a shape is an integer or a tuple of them"),
        (lambda: Sum(x, axis=1.0), "an axis is an integer or a tuple of them, not 1.0"),
        (lambda: np.expand_dims(x, "0"), "an axis is an integer"),
        (lambda: x[1.5], "an index holds integers, slices"),
        (lambda: Index(x, index="a"), "an index holds integers, slices"),
        (lambda: Dropout(x, rate="0.5"), "rate must be a number"),
        (lambda: Softmax(x, axis=None), "axis must be int"),
    ],
)
def test_a_hyperparameter_of_the_wrong_kind_is_refused_when_it_is_given(
    build: Any, says: str
) -> None:
    with pytest.raises(NodeUseError, match=says):
        build()
