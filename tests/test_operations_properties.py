"""Laws that hold for every input: expression trees, linearity, exact tails."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import mfcore as mf
from mfops_nn import CrossEntropy, Sigmoid, Softmax

law = settings(deadline=None, derandomize=True, max_examples=60)

UNARY = {
    "tanh": "np.tanh({})",
    "sin": "np.sin({})",
    "cos": "np.cos({})",
    "square": "np.square(np.tanh({}))",
    "exp": "np.exp(np.sin({}))",
    "expm1": "np.expm1(np.cos({}))",
    "log1p": "np.log1p(np.square(np.sin({})))",
    "sqrt": "np.sqrt(1.5 + np.sin({}))",
    "negative": "-({})",
    "power": "(2.0 + np.sin({})) ** 3",
    "mean": "(({0}) - np.mean({0}, axis=-1, keepdims=True))",
    "sum": "np.sum({}, axis=0)",
    "max": "np.max({}, axis=-1, keepdims=True)",
    "where": "np.where(np.greater({0}, 0.1), {0}, 0.5)",
    "last row": "({})[-1:]",
}
BINARY = {
    "add": "({} + {})",
    "subtract": "({} - {})",
    "multiply": "({} * {})",
    "divide": "({} / (2.0 + np.square({})))",
    "power": "(1.5 + np.sin({})) ** np.cos({})",
    "maximum": "np.maximum({}, {} + 0.3)",
    "minimum": "np.minimum({}, {} - 0.3)",
}
EXPRESSIONS = st.recursive(
    st.sampled_from(["x", "y", "z", "2.0"]),
    lambda parts: st.one_of(
        st.builds(lambda form, a: form.format(a), st.sampled_from(list(UNARY.values())), parts),
        st.builds(
            lambda form, a, b: form.format(a, b),
            st.sampled_from(list(BINARY.values())),
            parts,
            parts,
        ),
    ),
    max_leaves=6,
)


@given(inner=EXPRESSIONS, seed=st.integers(0, 10_000))
@law
def test_random_expressions_agree_with_autograd(inner: str, seed: int) -> None:
    # Every input takes part and gives the expression axes, whatever was drawn.
    code = compile(
        f"np.sum((x + y * z) * ({inner.replace('2.0', '(2.0 + 0 * (x + y))')}))", "", "eval"
    )
    rng = np.random.default_rng(seed)
    data = [rng.normal(size=shape) for shape in [(2, 3), (3,), ()]]
    nodes = [mf.Input(name) for name in "xyz"]

    def value(numpy: Any, x: Any, y: Any, z: Any) -> Any:
        # x + 0 z and so on: z alone has no axis to reduce.
        return eval(code, {"np": numpy, "x": x, "y": y + 0 * x, "z": z + 0 * x})

    node = value(np, *nodes)
    run = mf.Session(node).run(dict(zip(nodes, data, strict=True)))

    np.testing.assert_allclose(run[node], value(np, *data), rtol=1e-12, atol=1e-12)
    for k, n in enumerate(nodes):
        expected = autograd.grad(lambda *arrays: value(anp, *arrays), k)(*data)
        np.testing.assert_allclose(run.gradients[n], expected, rtol=1e-8, atol=1e-8)


@given(
    shapes=hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3, min_side=0),
    seed=st.integers(0, 1000),
)
@law
def test_the_gradient_of_a_sum_is_the_sum_of_the_gradients(
    shapes: hnp.BroadcastableShapes, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    data = [rng.normal(size=shape) for shape in shapes.input_shapes]
    nodes = [mf.Input(name) for name in "xyz"]
    feeds = dict(zip(nodes, data, strict=True))
    x, y, z = nodes
    f, g = np.sum(x * y - z), np.sum(np.tanh(z) * x * y)

    together = mf.Session(f + g).run(feeds).backward(wrt=nodes)

    alone = [mf.Session(part).run(feeds).backward(wrt=nodes) for part in (f, g)]
    for n in nodes:
        assert together[n].shape == feeds[n].shape
        np.testing.assert_allclose(together[n], alone[0][n] + alone[1][n], atol=1e-12)


@given(
    shapes=hnp.mutually_broadcastable_shapes(
        signature="(n,k),(k,m)->(n,m)", max_dims=2, max_side=3
    ),
    seed=st.integers(0, 1000),
)
@law
def test_batched_matrix_products_broadcast_as_numpy_s(
    shapes: hnp.BroadcastableShapes, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=shape) for shape in shapes.input_shapes)
    x, y = mf.Input("x"), mf.Input("y")
    node = x @ y
    weights = rng.normal(size=shapes.result_shape)
    run = mf.Session(node).run({x: a, y: b})

    found = run.backward(wrt=[x, y], grad=weights)

    np.testing.assert_array_equal(run[node], a @ b)
    # <weights, a @ b> is linear in a and in b: each gradient meets its own input in it.
    product = np.sum(weights * (a @ b))
    np.testing.assert_allclose(np.sum(found[x] * a), product, atol=1e-9)
    np.testing.assert_allclose(np.sum(found[y] * b), product, atol=1e-9)
    assert (found[x].shape, found[y].shape) == (a.shape, b.shape)


@given(data=st.data(), shape=hnp.array_shapes(max_dims=3, max_side=4))
@law
def test_any_basic_index_gives_numpy_s_elements_and_its_gradient_marks_them(
    data: st.DataObject, shape: tuple[int, ...]
) -> None:
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    array = np.arange(np.prod(shape), dtype=float).reshape(shape)
    x = mf.Input("x")
    node = x[index]
    run = mf.Session(node).run({x: array})
    marked = np.zeros(shape)
    marked[index] = 1

    found = run.backward(wrt=[x], grad=np.ones(np.shape(array[index])))[x]

    np.testing.assert_array_equal(run[node], array[index])
    np.testing.assert_array_equal(found, marked)


def exact_sigmoid(x: float) -> Decimal:
    with localcontext() as context:
        context.prec = 60
        context.Emin = -(10**6)
        return 1 / (1 + (-Decimal(x)).exp())


@pytest.mark.parametrize(
    ("kind", "lowest"), [(np.float64, -708), (np.float32, -87), (np.float16, -9)]
)
def test_sigmoid_is_exact_to_a_few_roundings_in_both_tails(kind: type, lowest: int) -> None:
    precision = float(np.finfo(kind).eps)

    @given(x=st.floats(lowest, 800 if kind is np.float64 else 90, width=16))
    @law
    def check(x: float) -> None:
        value, exact = Sigmoid.forward(np.array([x], kind))[0], exact_sigmoid(x)

        assert value.dtype == kind
        assert abs((Decimal(float(value)) - exact) / exact) <= 4 * precision

    check()


@given(x=hnp.arrays(float, (3, 4), elements=st.floats(-1e4, 1e4)), shift=st.integers(-1000, 1000))
@law
def test_softmax_sums_to_one_and_a_shift_changes_nothing(x: np.ndarray, shift: int) -> None:
    shares = Softmax.forward(x, -1)

    assert np.all(shares >= 0)
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-14)
    np.testing.assert_allclose(Softmax.forward(x + shift, -1), shares, rtol=1e-8, atol=1e-12)


@given(logits=hnp.arrays(float, (3, 4), elements=st.floats(-1e4, 1e4)), seed=st.integers(0, 99))
@law
def test_the_slopes_of_cross_entropy_sum_to_zero_in_each_row(logits: np.ndarray, seed: int) -> None:
    t, z = mf.Input("t"), mf.Input("z")
    classes = np.random.default_rng(seed).integers(0, 4, 3)
    node = CrossEntropy(t, z)

    run = mf.Session(node).run({t: classes, z: logits})

    assert run[node] >= 0
    np.testing.assert_allclose(run.gradients[z].sum(axis=-1), 0, atol=1e-15)
    assert np.all(run.gradients[z][np.arange(3), classes] <= 0)
