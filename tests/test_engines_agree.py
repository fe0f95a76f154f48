"""Every engine gives what the reference engine gives: operations, random graphs, training."""

from __future__ import annotations

import math
import warnings
from random import Random

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from autograd.scipy.special import expit
from finite_differences import assert_gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from operation_samples import SAMPLES
from random_graphs import Grower, random_graphs
from random_operations import RULES
from test_jit_numpy import as_if_large

import mfcore as mf
import mfops_basic as basic
import mfops_nn as nn
from mfoptim import SGD, AdaGrad, Adam, ExponentialDecay, RMSProp, fit

REFERENCE, NUMPY, NUMBA = "mfcore.reference", "mfjit.numpy", "mfjit.numba"
TOLERANCE = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 2e-4}


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(params=[NUMPY, NUMBA], ids=["numpy", "numba"])
def engine(request):
    if request.param == NUMBA:
        pytest.importorskip("numba")
    return request.param


def assert_close(found, expected, dtype=None):
    """Compare values that may differ by rounding, and shapes and dtypes, which may not."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if found.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected)
        return
    tolerance = TOLERANCE[np.dtype(dtype or found.dtype)]
    size = max(1.0, float(np.abs(expected).max(initial=0, where=np.isfinite(expected))))
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * size)


def ran_on(run, engine):
    return run.engine == engine.split(".")[1]


# Every operation


def in_dtype(sample, dtype):
    return [x.astype(dtype) if x.dtype == np.float64 else x for x in sample.inputs]


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_an_operation_and_its_gradients_on_numpy(sample, dtype):
    nodes = [mf.Input() for _ in sample.inputs]
    node = sample.operation(*nodes, **sample.hyperparameters)
    feeds = dict(zip(nodes, in_dtype(sample, dtype), strict=True))
    wrt = [nodes[k] for k in sample.differentiable]

    runs = [
        mf.Session(node, engine=e, seed=3).run(feeds, training=True) for e in (REFERENCE, NUMPY)
    ]

    assert ran_on(runs[1], NUMPY)
    assert_close(runs[1][node], runs[0][node])
    weights = np.random.default_rng(1).normal(size=np.shape(runs[0][node]))
    expected, found = (run.backward(node, wrt=wrt, grad=weights) for run in runs)
    for x in wrt:
        assert_close(found[x], expected[x])


PARTS = 12
"""Programs to compile: numba takes longer for one of twice the length than for two."""


def one_of_each_operation():
    """Return samples of every operation, the last of each: they have axes and hyperparameters."""
    last = {sample.operation: sample for sample in SAMPLES}
    filled = {s.operation: s for s in SAMPLES if all(x.size for x in s.inputs)}
    return list((last | filled).values())


@pytest.mark.parametrize("part", range(PARTS))
def test_some_operations_and_their_gradients_in_one_program_on_numba(part):
    pytest.importorskip("numba")
    dtype = np.float32 if part % 2 else np.float64
    feeds, outputs, weighted, wrt = {}, [], [], []
    rng = np.random.default_rng(1)
    for sample in one_of_each_operation()[part::PARTS]:
        nodes = [mf.Input() for _ in sample.inputs]
        feeds.update(zip(nodes, in_dtype(sample, dtype), strict=True))
        node = sample.operation(*nodes, **sample.hyperparameters)
        outputs.append(node)
        value = mf.Session(node, engine=REFERENCE).run({x: feeds[x] for x in nodes})[node]
        weighted.append(basic.Sum(node * rng.normal(size=value.shape).astype(dtype)))
        wrt += [nodes[k] for k in sample.differentiable]
    cost = basic.Add(*weighted)
    graph = mf.Graph(*outputs, cost, *mf.gradient(cost, wrt))
    plain = mf.Session(mf.Graph(*outputs, cost), engine=REFERENCE, seed=3)
    expected = plain.run(feeds, training=True)

    run = mf.Session(graph, engine=NUMBA, seed=3).run(feeds, training=True)

    for node in outputs:
        assert_close(run[node], expected[node], dtype)
    gradients = expected.backward(cost, wrt=wrt)
    for x, node in zip(wrt, graph.outputs[len(outputs) + 1 :], strict=True):
        assert_close(run[node], gradients[x], dtype)


# Random graphs


def test_graphs_are_drawn_from_every_operation_of_the_packs():
    provided = {getattr(basic, name) for name in basic.OPERATIONS}
    provided |= {getattr(nn, name) for name in nn.OPERATIONS}
    assert set(RULES) == provided

    drawn = set()
    for seed in range(100):
        grower = Grower(Random(seed), np.float64)
        for operation in RULES:
            grower.grow(operation)
        drawn |= {type(node) for node in grower.finish(0).graph}
    assert drawn >= provided


def computed(drawn, engine):
    run = mf.Session(drawn.graph, engine=engine, seed=5).run(drawn.feeds, training=True)
    assert ran_on(run, engine), run.engine.reason
    gradients = run.backward(drawn.cost, wrt=drawn.leaves)
    return [*(run[x] for x in drawn.graph.outputs), *(gradients[x] for x in drawn.leaves)]


def assert_agrees(drawn, engine):
    for found, expected in zip(computed(drawn, engine), computed(drawn, REFERENCE), strict=True):
        assert_close(found, expected, drawn.dtype)


@settings(max_examples=150)
@given(drawn=random_graphs())
def test_random_graphs_and_their_gradients_on_numpy(drawn):
    assert_agrees(drawn, NUMPY)


@settings(max_examples=150)
@given(drawn=random_graphs())
def test_random_graphs_on_numpy_as_if_their_arrays_were_large(drawn):
    with pytest.MonkeyPatch.context() as patch:
        as_if_large(patch)
        assert_agrees(drawn, NUMPY)


@settings(max_examples=4)
@given(drawn=random_graphs(nodes=10))
def test_random_graphs_and_their_gradients_on_numba(drawn):
    pytest.importorskip("numba")
    assert_agrees(drawn, NUMBA)


@settings(max_examples=60)
@given(drawn=random_graphs(dtype=np.float64, smooth=True))
def test_gradients_of_random_graphs_are_limits_of_differences(drawn):
    session = mf.Session(drawn.graph, engine=NUMPY)
    leaves = [x for x in drawn.leaves if value_of(drawn, x).dtype.kind == "f"]
    arrays = [value_of(drawn, x) for x in leaves]
    gradients = session.run(drawn.feeds).backward(drawn.cost, wrt=leaves)

    def cost(*values):
        feeds = dict(drawn.feeds)
        for leaf, value in zip(leaves, values, strict=True):
            if isinstance(leaf, mf.Input):
                feeds[leaf] = value
            else:
                session[leaf] = value
        return session.run(feeds)[drawn.cost]

    assert_gradients(
        *(cost, arrays, [gradients[x] for x in leaves], np.ones(())),
        wrt=range(len(leaves)),
        tolerance=2e-5,
    )


def value_of(drawn, leaf):
    return drawn.feeds[leaf] if isinstance(leaf, mf.Input) else leaf.value


PEERS = {
    basic.Add: lambda *xs: sum(xs[1:], xs[0]),
    basic.Mul: lambda *xs: math.prod(xs[1:], start=xs[0]),
    basic.Subtract: anp.subtract,
    basic.Negative: anp.negative,
    basic.Square: anp.square,
    basic.Sin: anp.sin,
    basic.Cos: anp.cos,
    basic.Tanh: anp.tanh,
    basic.Exp: anp.exp,
    basic.Expm1: anp.expm1,
    basic.Abs: anp.abs,
    basic.Maximum: anp.maximum,
    basic.Minimum: anp.minimum,
    basic.MatMul: anp.matmul,
    basic.Sum: anp.sum,
    basic.Max: anp.max,
    basic.Transpose: anp.transpose,
    basic.SwapAxes: anp.swapaxes,
    basic.Reshape: anp.reshape,
    basic.ExpandDims: anp.expand_dims,
    basic.Index: lambda x, index: x[tuple(np.asarray(i) if np.ndim(i) else i for i in index)],
    basic.Concatenate: lambda *xs, axis: anp.concatenate(xs, axis=axis),
    basic.Stack: lambda *xs, axis: anp.stack(xs, axis=axis),
    nn.Sigmoid: expit,
    nn.ReLU: lambda x: anp.maximum(x, 0.0),
    nn.Linear: lambda X, W, b: anp.dot(X, W) + b,
}
"""Operations in autograd's NumPy; hyperparameters by name."""


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1 << 30),
    operations=st.lists(st.sampled_from(list(PEERS)), min_size=4, max_size=12),
)
def test_gradients_of_random_graphs_agree_with_autograd(seed, operations):
    grower = Grower(Random(seed), np.float64, smooth=True)
    for operation in operations:
        grower.grow(operation)
    drawn = grower.finish(2)
    leaves = [x for x in drawn.leaves if value_of(drawn, x).dtype.kind == "f"]

    def cost(values):
        known = dict(zip(leaves, values, strict=True))
        for node in drawn.graph:
            if node.__operation__ is not None:
                fields = {n: getattr(node, n) for n in node.__operation__.hyperparameters}
                known[node] = PEERS[type(node)](*[known[x] for x in node.inputs], **fields)
            elif node not in known:
                known[node] = drawn.feeds.get(node, getattr(node, "value", None))
        return known[drawn.cost]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # autograd's own, on NumPy 2
        expected = autograd.grad(cost)([value_of(drawn, x) for x in leaves])
    run = mf.Session(drawn.graph, engine=NUMPY).run(drawn.feeds)
    found = run.backward(drawn.cost, wrt=leaves)
    for leaf, gradient in zip(leaves, expected, strict=True):
        assert_close(found[leaf], np.asarray(gradient))


# Training

OPTIMIZERS = [
    SGD(0.1),
    SGD(ExponentialDecay(0.1, 0.9, 2), momentum=0.9, nesterov=True, weight_decay=0.01),
    Adam(0.05, weight_decay=0.1),
    RMSProp(0.01),
    AdaGrad(lambda step: 0.1 / (1 + step)),
]


def random_network(seed, dtype=np.float64):
    """Return a graph of a few layers whose weights some layers share, and its data."""
    random, rng = Random(seed), np.random.default_rng(seed)

    def parameter(*shape):
        return mf.Parameter((rng.normal(size=shape) / 2).astype(dtype))

    X, y = mf.Input("X"), mf.Input("y")
    width = random.choice([1, 3, 5])
    W, hidden = parameter(width, width), nn.Linear(X, parameter(4, width), parameter(width))
    for _ in range(random.choice([1, 2])):
        activation = random.choice([nn.Sigmoid, basic.Tanh, nn.ReLU, basic.Sin])
        hidden = activation(hidden @ W) + random.choice([hidden, parameter(1, width), 0.5])
    if random.random() < 0.5:
        hidden = nn.Dropout(hidden, rate=0.25)
    X_data = rng.normal(size=(23, 4)).astype(dtype)
    if random.random() < 0.5:
        cost = nn.CrossEntropy(y, nn.Linear(hidden, parameter(width, 3), parameter(3)))
        return mf.Graph(cost), {X: X_data, y: rng.integers(0, 3, 23)}
    cost = nn.MSE(y, hidden @ parameter(width, 1)) + basic.Mean(basic.Square(W)) * 0.1
    return mf.Graph(cost), {X: X_data, y: rng.normal(size=(23, 1)).astype(dtype)}


def assert_training_agrees(seed, optimizer, engine, dtype):
    graph, data = random_network(seed, dtype)
    rows = np.random.default_rng(seed).integers(0, 23, (6, 5))
    losses, sessions = [], []
    for e in (REFERENCE, engine):
        session = mf.Session(graph, engine=e, seed=seed)
        done = session.epoch(data, optimizer, rows)
        feeds = {x: array[:7] for x, array in data.items()}
        more = [session.step(feeds, optimizer) for _ in range(2)]
        losses.append(np.array([*done, *more]))
        sessions.append(session)
    tolerance = {np.float64: 1e-9, np.float32: 1e-3}[dtype]
    np.testing.assert_allclose(losses[1], losses[0], rtol=tolerance)
    for p in graph.parameters:
        assert sessions[1][p].dtype == dtype
        np.testing.assert_allclose(sessions[1][p], sessions[0][p], rtol=tolerance, atol=tolerance)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    optimizer=st.sampled_from(OPTIMIZERS),
    dtype=st.sampled_from([np.float64, np.float32]),
)
def test_training_random_networks_on_numpy(seed, optimizer, dtype):
    assert_training_agrees(seed, optimizer, NUMPY, dtype)


@pytest.mark.parametrize("place", range(len(OPTIMIZERS)))
def test_training_random_networks_on_numba(place):
    pytest.importorskip("numba")
    dtype = np.float32 if place == 2 else np.float64
    assert_training_agrees(place, OPTIMIZERS[place], NUMBA, dtype)


@pytest.mark.parametrize("sampling", ["shuffle", "resample"])
def test_fit_gives_the_history_of_the_reference(engine, sampling):
    graph, data = random_network(3)
    histories = [
        fit(graph, data, Adam(0.01), epochs=3, batch_size=5, seed=7, sampling=sampling, engine=e,
            validation_split=0.2)
        for e in (REFERENCE, engine)
    ]  # fmt: skip
    assert histories[0].steps == histories[1].steps
    np.testing.assert_allclose(histories[1].loss, histories[0].loss, rtol=1e-10)
    np.testing.assert_allclose(
        histories[1].validation_loss, histories[0].validation_loss, rtol=1e-10
    )
    for p in graph.parameters:
        np.testing.assert_allclose(
            histories[1].session[p], histories[0].session[p], rtol=1e-9, atol=1e-12
        )
