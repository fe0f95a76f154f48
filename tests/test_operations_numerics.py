"""Values at the edges: huge, tiny, infinite, tied, empty and wrong inputs; NumPy's own syntax."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import mfcore as mf
from mfcore.errors import ForwardError, NodeUseError, UndeclaredFunctionError
from mfops_basic import Add, Concatenate, Max, Maximum, Mul, OneHot, Power, Sum
from mfops_nn import MSE, BinaryCrossEntropy, CrossEntropy, Dropout, ReLU, Sigmoid, Softmax


def value_of(node: mf.Node, **feeds: Any) -> Any:
    return mf.Session(node).run(feeds)[node]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_sigmoid_does_not_overflow_for_any_float(kind: type) -> None:
    largest = np.finfo(kind).max
    x = np.array([-np.inf, -largest, -1, 0, 1, largest, np.inf, np.nan], kind)

    value = Sigmoid.forward(x)

    assert value.dtype == kind
    np.testing.assert_allclose(value[[0, 1]], 0, atol=np.finfo(kind).tiny)
    np.testing.assert_array_equal(value[[3, 5, 6]], np.array([0.5, 1, 1], kind))
    assert np.isnan(value[7])


def test_sigmoid_is_accurate_in_both_tails() -> None:
    x = np.array([-700.0, -300.0, -37.0, 37.0])

    value = Sigmoid.forward(x)

    np.testing.assert_allclose(value[:3], np.exp(x[:3]), rtol=1e-13)
    assert value[3] == 1 / (1 + np.exp(-37.0))


def test_softmax_and_cross_entropy_bear_huge_logits() -> None:
    logits = np.array([[1e4, -1e4, 0.0]])

    loss, _ = CrossEntropy.forward(np.array([1]), logits)

    np.testing.assert_array_equal(Softmax.forward(logits, -1), [[1, 0, 0]])
    assert loss == 2e4


def test_binary_cross_entropy_bears_huge_logits() -> None:
    targets, logits = np.array([0.0, 1.0]), np.array([1e308, -1e308])

    assert BinaryCrossEntropy.forward(np.array([1.0, 0.0]), logits) == 0
    assert BinaryCrossEntropy.forward(targets, logits / 2) == 5e307


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (np.array([0, 3]), "class index 3 is no whole number from 0 to 2"),
        (np.array([0, -1]), "class index -1"),
        (np.array([0.5, 1.0]), "class index 0.5"),
        (np.array([0, 1, 2]), "neither as class indices"),
        (np.zeros((2, 2)), "neither as class indices"),
    ],
)
def test_cross_entropy_names_targets_that_do_not_fit(targets: np.ndarray, says: str) -> None:
    t, z = mf.Input("t"), mf.Input("z")

    with pytest.raises(ForwardError, match=says):
        value_of(CrossEntropy(t, z), t=targets, z=np.zeros((2, 3)))


def test_mse_of_different_sizes_names_both_shapes() -> None:
    y, a = mf.Input("y"), mf.Input("a")

    with pytest.raises(ForwardError, match=r"shape \(3,\) and predictions of shape \(2, 2\)"):
        value_of(MSE(y, a), y=np.zeros(3), a=np.zeros((2, 2)))


def test_mse_averages_over_all_columns() -> None:
    y, a = mf.Input("y"), mf.Input("a")
    run = mf.Session(MSE(y, a)).run({y: np.zeros((2, 3)), a: np.full((2, 3), 3.0)})

    assert run["mse_1"] == 9
    np.testing.assert_array_equal(run.gradients[a], np.ones((2, 3)))
    np.testing.assert_array_equal(run.gradients[y], -np.ones((2, 3)))


def test_ties_share_the_gradient() -> None:
    x, y = mf.Input("x"), mf.Input("y")
    both = mf.Session(Maximum(x, y)).run({x: 2.0, y: 2.0})
    largest = mf.Session(Max(x)).run({x: [1.0, 5.0, 5.0]})

    assert (both.gradients[x], both.gradients[y]) == (0.5, 0.5)
    np.testing.assert_array_equal(largest.gradients[x], [0, 0.5, 0.5])


def test_zero_to_the_power_zero_has_no_slope() -> None:
    x = mf.Input("x")
    run = mf.Session(Power(x, 0)).run({x: 0.0})

    assert run["power_1"] == 1
    assert run.gradients[x] == 0


def test_relu_has_no_slope_at_zero() -> None:
    x = mf.Input("x")

    gradient = mf.Session(ReLU(x).sum()).run({x: [-1.0, 0.0, 2.0]}).gradients[x]

    np.testing.assert_array_equal(gradient, [0, 0, 1])


class TestDropout:
    x = mf.Input("x")
    node = Dropout(x, rate=0.25)

    def test_outside_training_it_does_nothing(self) -> None:
        data = np.arange(6.0)

        np.testing.assert_array_equal(value_of(self.node, x=data), data)

    def test_while_training_it_drops_some_and_scales_the_others(self) -> None:
        run = mf.Session(self.node, seed=0).run({self.x: np.ones(10_000)}, training=True)

        value = run[self.node]
        assert set(np.unique(value)) == {0, 1 / 0.75}
        assert abs(np.mean(value == 0) - 0.25) < 0.02
        np.testing.assert_array_equal(
            run.backward(grad=np.ones(10_000), wrt=[self.x])[self.x], value
        )

    def test_the_same_seed_drops_the_same(self) -> None:
        first, second = (
            mf.Session(self.node, seed=5).run({self.x: np.ones(50)}, training=True)[self.node]
            for _ in range(2)
        )

        np.testing.assert_array_equal(first, second)

    @pytest.mark.parametrize("rate", [-0.1, 1.0, 2, "half", True, np.nan])
    def test_a_rate_that_is_no_probability_is_refused(self, rate: Any) -> None:
        with pytest.raises(NodeUseError, match="rate must be a number from 0 to below 1"):
            Dropout(self.x, rate=rate)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("operation", [Add, Mul])
def test_the_same_node_given_several_times_gets_the_sum_of_its_shares(
    operation: type, count: int
) -> None:
    x = mf.Input("x")
    run = mf.Session(operation(*[x] * count)).run({x: 3.0})

    assert run.gradients[x] == (count if operation is Add else count * 3.0 ** (count - 1))


@pytest.mark.parametrize("scalar", [2, 2.0, True])
@pytest.mark.parametrize(
    "apply",
    [
        operator.add,
        operator.sub,
        operator.mul,
        operator.truediv,
        operator.pow,
        np.maximum,
        np.where,
    ],
)
def test_a_python_number_keeps_float32(apply: Any, scalar: Any) -> None:
    x = mf.Input("x")
    data = np.array([1.0, 4.0], np.float32)
    arguments = (x > 1, x, scalar) if apply is np.where else (x, scalar)

    node = apply(*arguments)

    value = value_of(node, x=data)
    assert value.dtype == np.float32


NUMPY_CALLS: dict[str, Any] = {
    "x + y": lambda x, y: x + y,
    "1 - x": lambda x, y: 1 - x,
    "array * x": lambda x, y: np.array([1.0, 2.0, 3.0]) * x,
    "x / y": lambda x, y: x / y,
    "2 ** x": lambda x, y: 2**x,
    "-x": lambda x, y: -x,
    "abs(x)": lambda x, y: abs(x),
    "x @ y.T": lambda x, y: x @ y.T,
    "array @ x.T": lambda x, y: np.ones((4, 3)) @ x.T,
    "x < y": lambda x, y: x < y,
    "np.equal": np.equal,
    "np.exp": lambda x, y: np.exp(x),
    "np.log1p": lambda x, y: np.log1p(abs(x)),
    "np.tanh": lambda x, y: np.tanh(x),
    "np.sum": lambda x, y: np.sum(x, axis=0),
    "np.sum keepdims": lambda x, y: np.sum(x, axis=(0, 1), keepdims=True),
    "np.mean": lambda x, y: np.mean(x, 1),
    "np.max": lambda x, y: np.max(x, axis=-1),
    "np.amin": lambda x, y: np.amin(x),
    "np.where": lambda x, y: np.where(x > y, x, 0),
    "np.maximum": np.maximum,
    "np.concatenate": lambda x, y: np.concatenate([x, y], axis=1),
    "np.stack": lambda x, y: np.stack((x, y), axis=-1),
    "np.transpose": lambda x, y: np.transpose(x, (1, 0)),
    "np.swapaxes": lambda x, y: np.swapaxes(x, 0, 1),
    "np.reshape": lambda x, y: np.reshape(x, (3, 2)),
    "np.broadcast_to": lambda x, y: np.broadcast_to(x, (2, 2, 3)),
    "np.expand_dims": lambda x, y: np.expand_dims(x, 1),
    "np.squeeze": lambda x, y: np.squeeze(x[:1]),
    "np.take": lambda x, y: np.take(x, [0, 0, 2], axis=1),
    "x[1:, ::2]": lambda x, y: x[1:, ::2],
    "x[..., None, -1]": lambda x, y: x[..., None, -1],
    "x[[1, 1]]": lambda x, y: x[[1, 1]],
    "x.T": lambda x, y: x.T,
    "x.reshape": lambda x, y: x.reshape(-1, 2),
    "x.sum": lambda x, y: x.sum(axis=1, keepdims=True),
    "x.mean": lambda x, y: x.mean(),
    "x.max": lambda x, y: x.max(axis=0),
    "x.min": lambda x, y: x.min(),
    "x.transpose": lambda x, y: x.transpose(1, 0),
}


@pytest.mark.parametrize("call", NUMPY_CALLS.values(), ids=NUMPY_CALLS.keys())
def test_numpy_s_syntax_means_on_nodes_what_it_means_on_arrays(call: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    x, y = mf.Input("x"), mf.Input("y")

    node = call(x, y)

    run = mf.Session([node, x + y]).run({x: a, y: b})
    np.testing.assert_allclose(run[node], call(a, b), rtol=1e-14)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (np.fft.fft, "np.fft.fft"),
        (np.cumsum, "np.cumsum"),
        (np.arctan, "np.arctan"),
        (np.add.reduce, "np.add.reduce"),
        (lambda x: np.sum(x, dtype=float), "dtype="),
        (lambda x: np.exp(x, where=[True]), "where="),
        (lambda x: np.reshape(x, 3, order="F"), "order="),
        (lambda x: np.where(x > 0), "np.where on nodes needs condition, x, y"),
    ],
)
def test_what_nobody_declared_is_an_error_that_names_it(call: Any, named: str) -> None:
    with pytest.raises(UndeclaredFunctionError, match=named):
        call(mf.Input("x"))


def test_operations_used_directly_refuse_wrong_hyperparameters() -> None:
    x = mf.Input("x")

    with pytest.raises(NodeUseError, match="axis"):
        Sum(x, axis="rows")
    with pytest.raises(NodeUseError, match="keepdims must be bool"):
        Sum(x, keepdims=1)
    with pytest.raises(NodeUseError, match="at least one input"):
        Concatenate()
    with pytest.raises(NodeUseError, match="depth must be int"):
        OneHot(x, depth=2.5)


shapes = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3, min_side=0)


@given(shapes=shapes, seed=st.integers(0, 1000), data=st.data())
def test_broadcasting_is_numpy_s_and_gradients_come_back_in_each_shape(
    shapes: hnp.BroadcastableShapes, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=shape) for shape in shapes.input_shapes)
    function = data.draw(st.sampled_from([np.add, np.subtract, np.multiply, np.maximum]))
    x, y = mf.Input("x"), mf.Input("y")
    node = function(x, y)

    run = mf.Session(node).run({x: a, y: b})

    np.testing.assert_array_equal(run[node], function(a, b))
    grads = run.backward(wrt=[x, y], grad=np.ones(shapes.result_shape))
    assert np.shape(grads[x]) == a.shape
    assert np.shape(grads[y]) == b.shape
