"""Lowering reads every operation, its gradients and optimizers into primitives, rightly."""

from __future__ import annotations

import numpy as np
import pytest
from lowered_interpreter import interpret
from naive_kernels import KERNELS
from naming import without_address
from operation_samples import SAMPLES

import mfcore as mf
from mfcore.graph import Graph
from mfjit.builder import Builder
from mfjit.parameters import FlatParameters
from mfjit.training import _reader, lower_training
from mfops_basic import Sum
from mfops_nn import MSE, Linear, Sigmoid
from mfoptim import SGD, AdaGrad, Adam, RMSProp


def kinds_of(arrays):
    return [(np.shape(a), np.asarray(a).dtype) for a in arrays]


def lowered_gradients(graph, arrays, of, wrt):
    builder = Builder()
    flat = FlatParameters(graph)
    reader = _reader(graph, builder, kinds_of(arrays), flat, training=True)
    gradients = reader.gradients(of, wrt)
    zeros = [np.zeros_like(a) for a in arrays]
    found = [g for g in gradients if g is not None]
    lowered = builder.finish([reader.value(of), *found])
    return lowered, [g is not None for g in gradients], zeros


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_every_operation_and_its_gradients_agree_with_the_reference(sample, dtype):
    arrays = [x.astype(dtype) if x.dtype == np.float64 else x for x in sample.inputs]
    nodes = [mf.Input(f"x{i}") for i in range(len(arrays))]
    node = sample.operation(*nodes, **sample.hyperparameters)
    reference = mf.Session(node, engine="mfcore.reference", seed=3).run(
        dict(zip(nodes, arrays)), training=True
    )
    weights = np.random.default_rng(1).normal(size=np.shape(reference[node]))
    cost = Sum(node * weights.astype(dtype))
    graph = Graph(cost)
    run = mf.Session(graph, engine="mfcore.reference", seed=3).run(
        dict(zip(nodes, arrays)), training=True
    )
    ordered = [arrays[nodes.index(n)] for n in graph.inputs]
    wrt = [nodes[i] for i in sample.differentiable]
    lowered, there, _ = lowered_gradients(graph, ordered, cost, wrt)
    outputs, _, _ = interpret(
        lowered, inputs=ordered, rng=np.random.default_rng(3), kernels=KERNELS
    )
    tolerance = 1e-12 if dtype == np.float64 else 2e-5
    np.testing.assert_allclose(outputs[0], run[cost], rtol=tolerance, atol=tolerance)
    assert outputs[0].dtype == run[cost].dtype
    gradients = iter(outputs[1:])
    for n, reached in zip(wrt, there, strict=True):
        expected = run.backward(wrt=[n])[n]
        got = next(gradients) if reached else np.zeros(expected.shape, expected.dtype)
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


OPTIMIZERS = [
    SGD(0.1),
    SGD(lambda step: 0.1 / (step + 1), momentum=0.9, nesterov=True, weight_decay=0.01),
    Adam(0.05),
    Adam(0.05, weight_decay=0.1),
    RMSProp(0.01),
    AdaGrad(0.1),
]


def network(rng, dtype):
    X, y = mf.Input("X"), mf.Input("y")
    shapes = [(4, 5), (5,), (5, 1), (1,)]
    W1, b1, W2, b2 = (mf.Parameter(rng.normal(size=s).astype(dtype)) for s in shapes)
    return mf.Graph(MSE(y, Linear(Sigmoid(Linear(X, W1, b1)), W2, b2))), X, y


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "settings"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=without_address)
def test_training_steps_agree_with_the_reference(optimizer, dtype, fixed):
    rng = np.random.default_rng(5)
    graph, X, y = network(rng, dtype)
    feeds = {X: rng.normal(size=(7, 4)).astype(dtype), y: rng.normal(size=(7, 1)).astype(dtype)}
    arrays = [feeds[n] for n in graph.inputs]
    session = mf.Session(graph, engine="mfcore.reference")
    program = lower_training(graph, kinds_of(arrays), graph.outputs[0], optimizer, fixed=fixed)
    assert program.updated
    parameters = program.flat.gathered([p.value for p in graph.parameters])
    states = [np.zeros(s.shape, s.dtype) for s in program.lowered.states]
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    for step in range(3):
        given = {"step": step + 1}
        for name in program.settings:
            if name != "step":
                value = getattr(optimizer, name)
                given[name] = value(step) if callable(value) else value
        settings = [np.float64(given[name]) for name in program.settings]
        outputs, parameters, states = interpret(
            program.lowered, arrays, parameters, states, settings
        )
        loss = session.step(feeds, optimizer)
        np.testing.assert_allclose(outputs[0], loss, rtol=tolerance)
        for got, node in zip(program.flat.views(parameters), graph.parameters, strict=True):
            assert got.dtype == dtype
            np.testing.assert_allclose(got, session[node], rtol=tolerance, atol=tolerance)
