"""Gradients as nodes: against backpropagation, finite differences and autograd, to any order."""

from __future__ import annotations

import inspect
import math
import warnings
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operation_samples import SAMPLES, Sample

import mfcore as mf
import mfops_basic as ops
from mfcore.errors import (
    BackwardError,
    ForwardError,
    GradientError,
    NotDifferentiableError,
    NotTraceableError,
)
from mfcore.gradient_operations import BackwardOf, evaluate
from mfops_nn import MSE, CrossEntropy, Dropout, Linear, Sigmoid

pytestmark = pytest.mark.usefixtures("core_packs")


def run(nodes: list[mf.Node], feeds: dict[Any, Any], training: bool = False) -> list[np.ndarray]:
    session = mf.Session(nodes, engine="mfcore.reference", seed=3)
    used = {node: value for node, value in feeds.items() if node in session.graph}
    result = session.run(used, training=training)
    return [np.asarray(result[node]) for node in nodes]


def reference(
    cost: mf.Node, wrt: list[mf.Node], feeds: dict[Any, Any], **options: Any
) -> list[Any]:
    result = mf.Session(cost, engine="mfcore.reference", seed=3).run(feeds, training=True)
    gradients = result.backward(cost, wrt=wrt, **options)
    return [gradients[node] for node in wrt]


# Every operation, with shapes known, known but for their sizes, and unknown

DECLARED: dict[str, Any] = {
    "declared": lambda x: mf.Input(shape=x.shape, dtype=x.dtype),
    "of any size": lambda x: mf.Input(shape=(None,) * x.ndim, dtype=x.dtype),
    "undeclared": lambda x: mf.Input(),
}
DIFFERENTIABLE = [pytest.param(s, id=str(s)) for s in SAMPLES if s.differentiable]


@pytest.mark.parametrize("declared", DECLARED)
@pytest.mark.parametrize("sample", DIFFERENTIABLE)
def test_gradients_are_those_of_backpropagation_and_second_ones_those_of_differences(
    sample: Sample, declared: str
) -> None:
    nodes = [DECLARED[declared](x) for x in sample.inputs]
    feeds = dict(zip(nodes, sample.inputs, strict=True))
    node = sample.operation(*nodes, **sample.hyperparameters)
    wrt = [nodes[k] for k in sample.differentiable]
    rng = np.random.default_rng(1)
    weights = rng.normal(size=np.shape(run([node], feeds, training=True)[0]))
    directions = [rng.normal(size=feeds[x].shape) for x in wrt]
    cost = (node * node * weights).sum()

    first = mf.gradient(node, wrt, grad=weights)
    slopes = mf.gradient(cost, wrt)
    products = mf.hvp(cost, wrt, directions)

    expected = reference(node, wrt, feeds, grad=weights)
    for mine, theirs in zip(run(first, feeds, training=True), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-14)
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    step = 1e-5
    moved = [
        run(slopes, {**feeds, **{x: feeds[x] + s * d for x, d in zip(wrt, directions, strict=True)}}, True)
        for s in (step, -step)
    ]  # fmt: skip
    for product, above, below in zip(run(products, feeds, True), *moved, strict=True):
        np.testing.assert_allclose(product, (above - below) / (2 * step), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("declared", DECLARED)
@pytest.mark.parametrize("sample", DIFFERENTIABLE)
def test_gradients_of_float32_are_float32(sample: Sample, declared: str) -> None:
    inputs = [x.astype(np.float32) if x.dtype.kind == "f" else x for x in sample.inputs]
    nodes = [DECLARED[declared](x) for x in inputs]
    node = sample.operation(*nodes, **sample.hyperparameters)
    wrt = [nodes[k] for k in sample.differentiable]

    found = run(mf.gradient(node.sum(), wrt), dict(zip(nodes, inputs, strict=True)), True)

    expected = reference(node.sum(), wrt, dict(zip(nodes, inputs, strict=True)))
    for k, mine, theirs in zip(sample.differentiable, found, expected, strict=True):
        assert (mine.shape, mine.dtype) == (inputs[k].shape, np.float32)
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


# Random graphs, to the second order, against autograd

UNARY = [np.tanh, np.sin, np.exp, lambda x: x * x, lambda x: -x, lambda x: x.T]
BINARY = [
    lambda x, y: x + y,
    lambda x, y: x * y,
    lambda x, y: x - y * 0.5,
    lambda x, y: x / (y * y + 1.0),
    lambda x, y: x @ y.T,
]
SHAPES = [(3, 3), (1, 3), (3, 1), (3,), ()]


@st.composite
def programs(draw: Any) -> Any:
    """Return shapes of two leaves, and a program of steps that combine what there is so far."""
    shapes = draw(st.tuples(st.sampled_from(SHAPES), st.sampled_from(SHAPES)))
    steps = [
        (
            draw(st.sampled_from(range(len(UNARY) + len(BINARY)))),
            draw(st.integers(0, 9)),
            draw(st.integers(0, 9)),
        )
        for _ in range(draw(st.integers(1, 6)))
    ]
    return shapes, steps, draw(st.integers(0, 99))


def interpret(steps: Any, leaves: Any, numpy: Any, shapes: Any) -> Any:
    """Run a program; a step that does not fit the shapes adds instead."""
    values, known = list(leaves), [np.zeros(s) for s in shapes]
    for which, i, j in steps:
        x, y = values[i % len(values)], values[j % len(values)]
        a, b = known[i % len(known)], known[j % len(known)]
        if which < len(UNARY):
            step = UNARY[which]
            if step in (np.tanh, np.sin, np.exp):
                function = getattr(numpy, step.__name__)
                values.append(function(x * 0.5))
            else:
                values.append(step(x))
            known.append(a.T if which == len(UNARY) - 1 else a)
            continue
        step = BINARY[which - len(UNARY)]
        if which == len(UNARY) + len(BINARY) - 1 and not (
            a.ndim == b.ndim == 2 and a.shape[1] == b.shape[1]
        ):
            step = BINARY[0]
        values.append(step(x, y))
        known.append(step(a, b))
    return numpy.sum(values[-1] * values[-1]) + numpy.sum(numpy.tanh(values[-1]))


@given(programs(), st.sampled_from(sorted(DECLARED)))
def test_first_and_second_derivatives_of_random_graphs_agree_with_autograd(
    program: Any, declared: str
) -> None:
    shapes, steps, seed = program
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=s) * 0.5 for s in shapes]
    directions = [rng.normal(size=s) for s in shapes]
    nodes = [DECLARED[declared](x) for x in arrays]
    if any(x.ndim == 0 for x in arrays) and declared == "undeclared":
        nodes = [DECLARED["declared"](x) for x in arrays]  # autograd's own .T of a float
    cost = interpret(steps, nodes, np, shapes)

    gradients = mf.gradient(cost, nodes)
    products = mf.hvp(cost, nodes, directions)

    def function(*leaves: Any) -> Any:
        return interpret(steps, leaves, anp, shapes)

    def slope(*leaves: Any) -> Any:
        pairs = zip(autograd.grad(function, (0, 1))(*leaves), directions, strict=True)
        return sum(anp.sum(g * d) for g, d in pairs)

    found = run([*gradients, *products], dict(zip(nodes, arrays, strict=True)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # autograd's own: an output that does not depend on it
        expected = [
            *autograd.grad(function, (0, 1))(*arrays),
            *autograd.grad(slope, (0, 1))(*arrays),
        ]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-9)


def test_jacobians_agree_with_autograd() -> None:
    rng = np.random.default_rng(0)
    W, x = rng.normal(size=(3, 4)), rng.normal(size=4)
    nodes = mf.Parameter(W), mf.Input(shape=(4,))

    found = mf.jacobian(np.tanh(nodes[0] @ nodes[1]), nodes)

    of_W, of_x = run(found, {nodes[1]: x})
    np.testing.assert_allclose(
        of_W, autograd.jacobian(lambda W: anp.tanh(anp.dot(W, x)))(W), rtol=1e-10, atol=1e-14
    )
    np.testing.assert_allclose(
        of_x, autograd.jacobian(lambda x: anp.tanh(anp.dot(W, x)))(x), rtol=1e-10
    )


def test_the_jacobian_of_a_matrix_has_its_axes_first() -> None:
    x = mf.Parameter(np.arange(1.0, 4.0))

    (J,) = run([mf.jacobian(x[:, None] * x, x)], {})

    expected = autograd.jacobian(lambda x: x[:, None] * x)(np.arange(1.0, 4.0))
    np.testing.assert_array_equal(J, expected)


def test_the_jacobian_of_a_scalar_is_its_gradient() -> None:
    x = mf.Parameter([1.0, 2.0])

    assert run([mf.jacobian((x * x).sum(), x)], {})[0].tolist() == [2, 4]


def test_a_hessian_is_the_jacobian_of_a_gradient() -> None:
    x = mf.Parameter([1.0, 2.0])

    (hessian,) = run([mf.jacobian(mf.gradient((x * x * x).sum() * x[0], x), x)], {})

    expected = autograd.hessian(lambda x: anp.sum(x**3) * x[0])(np.array([1.0, 2.0]))
    np.testing.assert_allclose(hessian, expected)


@pytest.mark.parametrize("declared", DECLARED)
def test_derivatives_of_any_order(declared: str) -> None:
    x = DECLARED[declared](np.zeros(2))
    y = np.mean(x**5)
    orders = [y]
    for _ in range(4):
        orders.append(mf.gradient(orders[-1], x).sum())

    values = run(orders, {x: [1.0, 2.0]})

    powers = [sum(math.perm(5, k) * v ** (5 - k) for v in (1, 2)) / 2 for k in range(5)]
    np.testing.assert_allclose(values, powers)


# What a gradient is of, and by


def test_the_same_node_twice_counts_twice() -> None:
    x = mf.Input("x")
    y = x * x

    slope = mf.gradient(y + y, x)
    curvature = mf.gradient(slope, x)

    assert [float(v) for v in run([slope, curvature], {x: 3.0})] == [12, 4]


def test_by_one_node_it_is_one_node_and_by_several_a_list() -> None:
    x, y = mf.Input("x"), mf.Input("y")

    assert isinstance(mf.gradient(x * y, x), mf.Node)
    assert [type(g) for g in (mf.gradient(x * y, [y, x]), mf.gradient(x, (x,)))] == [list, list]
    assert [float(v) for v in run(mf.gradient(x * y, [y, x, y]), {x: 2.0, y: 5.0})] == [2, 5, 2]


def test_by_a_node_within_the_graph_and_by_the_cost_itself() -> None:
    x = mf.Input("x")
    y = x * 3.0
    z = y * y

    assert [float(v) for v in run(mf.gradient(z, [y, z, x]), {x: 2.0})] == [12, 1, 36]


@pytest.mark.parametrize("declared", DECLARED)
def test_what_the_cost_does_not_depend_on_gets_zeros_of_its_shape(declared: str) -> None:
    x, other = mf.Parameter(1.0), DECLARED[declared](np.ones((2, 3), np.float32))
    step = np.greater(other, 0).sum()

    for cost in (x * 2.0, x * step):
        (zeros,) = run([mf.gradient(cost, other)], {other: np.ones((2, 3), np.float32)})

        assert (zeros.shape, zeros.dtype, zeros.any()) == ((2, 3), np.float32, False)


@pytest.mark.parametrize("declared", DECLARED)
def test_broadcast_axes_are_summed_back(declared: str) -> None:
    x, b = DECLARED[declared](np.ones((4, 3))), DECLARED[declared](np.ones((1, 3)))

    (found,) = run([mf.gradient((x * b).sum(), b)], {x: np.ones((4, 3)), b: np.ones((1, 3))})

    np.testing.assert_array_equal(found, np.full((1, 3), 4.0))


def test_gradients_have_the_shape_that_their_node_is_known_to_have() -> None:
    X, W = mf.Input(shape=(None, 3), dtype=np.float32), mf.Parameter(np.ones((3, 2), np.float32))

    of_X, of_W = mf.gradient(np.tanh(X @ W).sum(), [X, W])

    assert (of_X.shape, of_X.dtype) == ((None, 3), np.float32)
    assert (of_W.shape, of_W.dtype) == ((3, 2), np.float32)


def test_no_node_is_added_where_shapes_are_known() -> None:
    x, W = mf.Parameter(np.ones((4, 3))), mf.Parameter(np.ones((3, 2)))

    nodes = mf.Graph(*mf.gradient(Sigmoid(x @ W).mean(), [x, W])).nodes

    assert not {"SumTo", "BroadcastLike", "BackwardOf", "Seed"} & {type(n).__name__ for n in nodes}


def test_gradients_are_trained_on_like_any_node() -> None:
    # A penalty on the slope in the input: its gradient needs a second derivative.
    X, y = mf.Input("X", shape=(None, 3)), mf.Input("y", shape=(None, 1))
    rng = np.random.default_rng(0)
    W, V = mf.Parameter(rng.normal(size=(3, 4))), mf.Parameter(rng.normal(size=(4, 1)))
    output = np.tanh(X @ W) @ V
    slope = mf.gradient(output.sum(), X)
    cost = MSE(y, output) + 0.1 * np.mean(slope * slope)
    feeds = {X: rng.normal(size=(6, 3)), y: rng.normal(size=(6, 1))}

    found = reference(cost, [W, V], feeds)

    def penalised(W: Any, V: Any) -> Any:
        def model(X: Any) -> Any:
            return anp.dot(anp.tanh(anp.dot(X, W)), V)

        slopes = autograd.elementwise_grad(model)(feeds[X])
        return anp.mean((feeds[y] - model(feeds[X])) ** 2) + 0.1 * anp.mean(slopes**2)

    expected = autograd.grad(penalised, (0, 1))(W.value, V.value)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9)


@pytest.mark.parametrize("declared", DECLARED)
def test_a_random_draw_is_the_same_in_the_gradient(declared: str) -> None:
    array = np.arange(1.0, 9.0)
    x = DECLARED[declared](array)
    y = Dropout(x, rate=0.5)
    cost = (y * y).sum()

    slope = mf.gradient(cost, x)
    product = mf.hvp(cost, x, np.ones(8))

    value, first, second = run([y, slope, product], {x: array}, training=True)
    scale = value / array
    assert 0 < np.count_nonzero(scale) < 8
    np.testing.assert_allclose(first, 2 * array * scale**2)
    np.testing.assert_allclose(second, 2 * scale**2)


@pytest.mark.parametrize("shape", [(None, 3), None])
def test_what_an_operation_saved_is_used_again_in_a_run(shape: Any) -> None:
    logits, classes = mf.Input(shape=shape), mf.Input(shape=shape and (None,))
    cost = CrossEntropy(classes, logits)
    slope = mf.gradient(cost, logits)
    calls = []
    original = mf.spec_of(CrossEntropy).forward

    def counting(targets: Any, logits: Any) -> Any:
        calls.append(1)
        return original(targets, logits)

    spec = mf.spec_of(CrossEntropy)
    object.__setattr__(spec, "forward", counting)
    try:
        run([cost, slope], {logits: np.eye(3), classes: np.array([0, 1, 1])})
    finally:
        object.__setattr__(spec, "forward", original)

    assert len(calls) == 1


def test_graphs_may_be_deep() -> None:
    x = mf.Input("x")
    y = x
    for _ in range(10_000):
        y = y + x * 1e-4

    assert float(run([mf.gradient(y, x)], {x: 1.0})[0]) == pytest.approx(2.0)


def test_a_graph_is_evaluated_on_arrays_on_nodes_and_on_shapes() -> None:
    from mfcore.abstract import Abstract

    X, W = mf.Input(), mf.Input()
    y = mf.apply(ops.Add, (X @ W).sum(axis=1), 2.0, 1.0)
    arrays = {X: np.ones((4, 3), np.float32), W: np.ones((3, 2), np.float32)}

    (value,) = evaluate([y], arrays)
    (node,) = evaluate([y], {X: mf.Constant(arrays[X]), W: mf.Constant(arrays[W])})
    (shape,) = evaluate([y], {n: Abstract(a.shape, a.dtype) for n, a in arrays.items()})

    assert (value.tolist(), value.dtype) == ([9] * 4, np.float32)
    np.testing.assert_array_equal(run([node], {})[0], value)
    assert (shape.shape, shape.dtype) == ((4,), np.float32)
    with pytest.raises(NotTraceableError, match="no value"):
        evaluate([y], {X: arrays[X]})


# Third-party operations in plain NumPy


def made(forward: Any, backward: Any = None, **options: Any) -> type[mf.Node]:
    body: dict[str, Any] = {
        "__annotations__": {"x": mf.Node},
        "__module__": "somepack.layers",
        "forward": staticmethod(forward),
    }
    if backward is not None:
        body["backward"] = staticmethod(backward)
    return mf.operation(**options)(type("Made", (mf.Node,), body))


PLAIN: dict[str, Any] = {
    "methods": (
        lambda x: (x.reshape(-1) ** 3).sum(),
        lambda grad, x: ((3 * x.ravel() ** 2 * grad).reshape(x.shape).copy(),),
    ),
    "shapes": (
        lambda x: np.square(x).sum() / x.shape[0],
        lambda grad, x: (np.full_like(x, 2 / len(x)) * x * grad * np.ones_like(x),),
    ),
    "comparison by value": (
        lambda x: np.where(x == 0, 0, x * np.abs(x)).sum(),
        lambda grad, x: (2 * grad * np.abs(x) * (x != 0) * ((x > 0) | (x < 0)),),
    ),
    "dot, reduce, astype": (
        lambda x: np.dot(x, x),
        lambda grad, x: ((grad * np.add.reduce(np.stack([x, x]))).astype(x.dtype),),
    ),
    "saved": (
        lambda x: ((x * x * x).sum(), {"square": [x * x]}["square"]),
        lambda grad, saved: (3 * grad * saved[0],),
    ),
    "zeros": (
        lambda x: x[0] ** 2,
        lambda grad, x: (np.concatenate([2 * grad * x[:1], np.zeros_like(x[1:])]),),
    ),
}


@pytest.mark.parametrize("declared", DECLARED)
@pytest.mark.parametrize("name", PLAIN)
def test_plain_numpy_code_of_third_parties_differentiates_twice(name: str, declared: str) -> None:
    array = np.array([0.5, -2.0, 1.5])
    x = DECLARED[declared](array)
    cost = made(*PLAIN[name])(x)
    direction = np.array([1.0, 2.0, 3.0])

    slope, product = mf.gradient(cost, x), mf.hvp(cost, x, direction)

    np.testing.assert_allclose(run([slope], {x: array})[0], reference(cost, [x], {x: array})[0])
    step = 1e-6
    above, below = (
        reference(cost, [x], {x: array + s * direction})[0] for s in (step, -step)
    )  # fmt: skip
    np.testing.assert_allclose(
        run([product], {x: array})[0], (above - below) / (2 * step), rtol=1e-6, atol=1e-7
    )


def _branching(grad: Any, x: Any) -> Any:
    if x[0] > 0:
        return (grad * x,)
    return (-grad * x,)


def _foreign(grad: Any, x: Any) -> Any:
    scale = math.exp(x[0])
    return (grad * x * scale,)


def _writing(grad: Any, x: Any) -> Any:
    result = np.zeros_like(x)
    result[0] = grad
    return (result,)


def _undeclared(grad: Any, x: Any) -> Any:
    return (grad * np.arctan2(x, 1.0),)


@pytest.mark.parametrize("backward", [_branching, _foreign, _writing, _undeclared])
def test_a_backward_that_cannot_be_read_is_an_error_that_names_the_line(backward: Any) -> None:
    node = made(lambda x: x * 1.0, backward)(mf.Parameter([1.0, 2.0]))

    with pytest.raises(NotTraceableError) as caught:
        mf.gradient(node.sum(), node.inputs[0])

    message = str(caught.value)
    at = backward.__code__.co_firstlineno + 1 + (backward is _writing)
    source = inspect.getsource(backward).splitlines()[at - backward.__code__.co_firstlineno]
    assert "somepack.Made" in message
    assert "cannot be read on nodes" in message
    assert f"at {__file__}:{at}: {source.strip()}" in message
    assert "np.where" in message
    assert "run.gradients" in message


def test_a_backward_that_cannot_be_read_still_gives_gradients_in_a_run_where_shapes_are_unknown():
    x = mf.Input()
    node = made(lambda x: x * 1.0, lambda grad, x: _branching(grad, np.reshape(x, x.shape)))(x)

    slope = mf.gradient(node.sum(), x)

    assert run([slope], {x: [-1.0, 2.0]})[0].tolist() == [1, -2]
    with pytest.raises(BackwardError, match="needs the truth"):
        reference(slope.sum(), [x], {x: [-1.0, 2.0]})


# What has no gradient

x, P = mf.Input("x"), mf.Parameter([1.0, 2.0])
REFUSED: dict[str, Any] = {
    "a constant": (lambda: mf.gradient(P.sum(), mf.Constant(1.0)), GradientError, "is a constant"),
    "no node": (lambda: mf.gradient(P.sum(), [1.0]), GradientError, "of nodes by nodes"),
    "cost that is no node": (lambda: mf.gradient(2.0, P), GradientError, "float 2.0"),
    "no scalar": (lambda: mf.gradient(P * 2, P), GradientError, r"has shape \(2,\): only a scalar"),
    "grad of another shape": (
        lambda: mf.gradient(P * 2, P, grad=np.ones(3)), GradientError, r"grad has shape \(3,\)"),
    "vector of another shape": (
        lambda: mf.hvp((P * P).sum(), P, np.ones(3)), GradientError, r"a vector has shape \(3,\)"),
    "fewer vectors": (
        lambda: mf.hvp((P * P).sum(), [P, P], [np.ones(2)]), GradientError, "2 nodes, but 1 vectors"),
    "output of unknown shape": (lambda: mf.jacobian(x * 2, x), GradientError, "is not known"),
    "output of any size": (
        lambda: mf.jacobian(mf.Input(shape=(None,)) * P[0], P), GradientError, r"\(None,\)"),
    "output of no elements": (lambda: mf.jacobian(P[:0], P), GradientError, "no elements"),
    "no backward": (
        lambda: mf.gradient(made(lambda x: x.sum())(P), P), NotDifferentiableError, "no backward"),
    "too many gradients": (
        lambda: mf.gradient(made(lambda x: x.sum(), lambda grad, x: (grad, x))(P), P),
        BackwardError, "returned 2 gradients for 1 inputs"),
    "gradient of a wrong shape": (
        lambda: mf.gradient(made(lambda x: x.sum(), lambda grad: (grad,))(P), P),
        BackwardError, r"gradient of shape \(\) for its input 'x' of shape \(2,\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_gradient_is_an_error_when_it_is_asked_for(name: str) -> None:
    ask, error, message = REFUSED[name]

    with pytest.raises(error, match=message):
        ask()


def test_what_turns_out_to_be_no_scalar_is_an_error_of_the_run() -> None:
    with pytest.raises(ForwardError, match="only a scalar has a gradient"):
        run([mf.gradient(x * 2, x)], {x: np.ones(3)})


def test_a_gradient_of_a_wrong_shape_is_an_error_of_the_run() -> None:
    node = made(lambda x: x.sum(), lambda grad, x: (np.reshape(x, x.shape)[:1] * grad,))(x)

    with pytest.raises(ForwardError, match=r"gradient of shape \(1,\) for its input 'x'"):
        run([mf.gradient(node, x)], {x: np.ones(3)})


def test_the_fallback_is_used_only_where_shapes_are_unknown() -> None:
    for shape, used in (((4, 3), False), ((None, 3), True)):
        X = mf.Input(shape=shape)
        cost = MSE(np.ones((4, 1)), Linear(X, np.ones((3, 1)), 0.0))

        nodes = mf.Graph(mf.gradient(cost, X)).nodes

        assert any(isinstance(n, BackwardOf) for n in nodes) == used


# Documentation


def test_the_page_on_gradients_says_what_its_programs_print(page_of_programs: Any) -> None:
    blocks = page_of_programs("docs/gradients.md")

    assert len(blocks) == 4
    for printed, said in blocks:
        assert printed == said
