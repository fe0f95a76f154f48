"""Graphs of scalars from a tape: they agree with the reference engine, bit for bit where they can."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mfcore as mf
from mfcore.errors import NotDifferentiableError, ObservedEngineWarning
from mfjit.engines import NumbaEngine
from mfjit.tape import program_for
from mfops_basic import (
    Abs,
    Add,
    Cos,
    Divide,
    Equal,
    Exp,
    Expm1,
    Greater,
    Less,
    Log,
    Log1p,
    LogicalAnd,
    LogicalNot,
    LogicalOr,
    Maximum,
    Minimum,
    Mul,
    Negative,
    NotEqual,
    Power,
    Reshape,
    Sign,
    Sin,
    Sqrt,
    Square,
    Subtract,
    Sum,
    Tanh,
    Where,
)
from mfops_nn import MSE, Dropout, ReLU, Sigmoid
from mfoptim import SGD, Adam

REFERENCE = "mfcore.reference"
UNARY = [Negative, Square, Exp, Expm1, Log, Log1p, Sin, Cos, Tanh, Abs, Sign, Sqrt, Sigmoid, ReLU]
BINARY = [Subtract, Divide, Power, Maximum, Minimum]
VARIADIC = [Add, Mul]
COMPARISONS = [Less, Greater, Equal, NotEqual]
TOLERANCES = {np.float64: 1e-10, np.float32: 2e-4}
NUMBERS = [-1.5, -0.3, 0.4, 0.75, 1.0, 1.2, 2.0]


class Taped(NumbaEngine):
    """Runs from a tape, however small the graph."""

    name = "taped"

    def compile(self, graph):
        program = program_for(graph, self)
        return super().compile(graph) if program is None else program


def is_taped(graph):
    return program_for(mf.Graph(graph) if isinstance(graph, mf.Node) else graph, Taped()) is not None


@mf.operation
class Shifted(mf.Node):
    """Has a hyperparameter, saves an array, and its backward is more than a product."""

    x: mf.Node
    shift: float = 0.5

    @staticmethod
    def forward(x, shift):
        shifted = x + shift
        return np.tanh(shifted) * shifted, shifted

    @staticmethod
    def backward(grad, saved):
        tanh = np.tanh(saved)
        return (grad * (tanh + saved * (1 - tanh * tanh)),)


@mf.operation
class Opaque(mf.Node):
    """Is not differentiable."""

    x: mf.Node

    @staticmethod
    def forward(x):
        return x * 2.0


@pytest.fixture(scope="module", autouse=True)
def _one_interpreter_for_all():
    """Compile once what all graphs here need, instead of a part of it for each."""
    for dtype in (np.float64, np.float32):
        x, y = (mf.Parameter(dtype(v)) for v in (0.5, 2.0))
        truths = [c(x, y) for c in COMPARISONS]
        truths += [LogicalAnd(*truths[:2]), LogicalOr(*truths[:2]), LogicalNot(truths[0])]
        nodes = [c(x) for c in UNARY] + [c(x, y) for c in BINARY] + [Mul(x, y, x), Shifted(x)]
        nodes += [Where(truths[0], x, y), Where(x, x, y)]
        assert is_taped(mf.Graph(Add(*nodes), *truths))


@st.composite
def scalar_graphs(draw):
    """Return a graph, its feeds, and its dtype."""
    dtype = draw(st.sampled_from([np.float64, np.float32]))
    number = st.sampled_from(NUMBERS)
    inputs = [mf.Input(f"x{i}") for i in range(draw(st.integers(1, 3)))]
    nodes = [*inputs]
    for i in range(draw(st.integers(0, 3))):
        nodes.append(mf.Parameter(dtype(draw(number)), name=f"p{i}"))
    truths = []

    def some():
        if draw(st.integers(0, 7)) == 0:
            value = draw(st.sampled_from([2, -1.25, 0.5, dtype(0.75), 1]))
            return mf.Constant(value)
        return draw(st.sampled_from(nodes))

    def known():
        return draw(st.sampled_from(nodes))

    for _ in range(draw(st.integers(1, 25))):
        kind = draw(st.sampled_from(["unary", "binary", "variadic", "truth", "where", "shifted"]))
        if kind == "unary":
            nodes.append(draw(st.sampled_from(UNARY))(known()))
        elif kind == "binary":
            pair = [some(), known()]
            nodes.append(draw(st.sampled_from(BINARY))(*draw(st.permutations(pair))))
        elif kind == "variadic":
            terms = [known(), *[some() for _ in range(draw(st.integers(0, 3)))]]
            nodes.append(draw(st.sampled_from(VARIADIC))(*draw(st.permutations(terms))))
        elif kind == "shifted":
            nodes.append(Shifted(known(), shift=draw(st.sampled_from([0.5, 1, -2.0]))))
        elif kind == "where" and truths:
            nodes.append(Where(draw(st.sampled_from(truths)), known(), some()))
        elif truths and draw(st.booleans()):
            pair = [draw(st.sampled_from(truths)) for _ in range(2)]
            truths.append(draw(st.sampled_from([LogicalAnd, LogicalOr]))(*pair))
            truths.append(LogicalNot(truths[-1]))
        else:
            truths.append(draw(st.sampled_from(COMPARISONS))(known(), some()))
    graph = mf.Graph(Add(*nodes), *truths, nodes[-1])
    feeds = {x: dtype(draw(number)) for x in graph.inputs}
    return graph, feeds, dtype


def assert_alike(found, expected, dtype):
    assert np.asarray(found).dtype == np.asarray(expected).dtype
    rtol = TOLERANCES[dtype]
    if np.isnan(expected) or np.isinf(expected):
        np.testing.assert_array_equal(found, expected)
        return
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)


@settings(max_examples=150, deadline=None)
@given(scalar_graphs())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_random_graphs_agree_with_the_reference_in_every_node_and_gradient(drawn):
    graph, feeds, dtype = drawn
    assert is_taped(graph)
    run = mf.Session(graph, engine=Taped()).run(feeds)
    expected = mf.Session(graph, engine=REFERENCE).run(feeds)
    values = [expected[node] for node in graph]
    for node, value in zip(graph, values, strict=True):
        assert_alike(run[node], value, dtype)
    if not all(abs(float(value)) < 1e4 for value in values):
        return  # the sums of what overflows, or is about to, are not to be compared
    wrt = [node for node in graph if not isinstance(node, mf.Constant)]
    for of in (graph.outputs[0], graph.outputs[-1]):
        gradients, wanted = run.backward(of, wrt=wrt), expected.backward(of, wrt=wrt)
        largest = max(abs(float(wanted[node])) for node in wrt)
        for node in wrt:
            if np.isfinite(largest) and largest < 1e4:
                assert_alike(gradients[node], wanted[node], dtype)
    assert run.engine == "taped"
    assert run.engine.reason == ""
