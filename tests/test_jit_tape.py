"""Graphs of scalars from a tape: they agree with the reference engine, bit for bit where they can."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mfcore as mf
from mfcore.errors import EngineError, NotDifferentiableError, ObservedEngineWarning
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
    return (
        program_for(mf.Graph(graph) if isinstance(graph, mf.Node) else graph, Taped()) is not None
    )


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


def random_means(count, rng, leaves=5, window=None, dtype=np.float64):
    """Return the last of many nodes, each a mean of two before it, and the sum of the ends."""
    nodes = [mf.Parameter(dtype(v)) for v in rng.uniform(0.5, 1.5, leaves)]
    read = set()
    for _ in range(count):
        first = 0 if window is None else max(0, len(nodes) - window)
        x, y = (nodes[i] for i in rng.integers(first, len(nodes), 2))
        read |= {x, y}
        nodes.append(Add(x, y) * 0.5 if rng.random() < 0.5 else Mul(x, y, 2.0) / Add(x, y))
    return Add(nodes[-1], *[node for node in nodes[:-1] if node not in read])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("window", [None, 40, 3])
def test_exact_arithmetic_agrees_to_the_last_bit_in_wide_and_deep_graphs(window, dtype):
    graph = mf.Graph(random_means(2000, np.random.default_rng(0), window=window, dtype=dtype))
    runs = [mf.Session(graph, engine=e).run() for e in (Taped(), REFERENCE)]
    nodes = [node for node in graph if not isinstance(node, mf.Constant)]
    found, expected = (run.backward(wrt=nodes) for run in runs)
    for node in nodes:
        assert runs[0][node].dtype == found[node].dtype == dtype
        assert runs[0][node].tobytes() == runs[1][node].tobytes()
        assert found[node].tobytes() == expected[node].tobytes()


def test_a_node_used_twice_and_a_long_chain_need_no_recursion():
    x = mf.Parameter(0.5)
    node = x
    for _ in range(5000):
        node = Mul(node, node) + 0.25
    runs = [mf.Session(node, engine=e).run() for e in (Taped(), REFERENCE)]
    assert runs[0][node] == runs[1][node]
    assert runs[0].gradients[x] == runs[1].gradients[x]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [0.0, -0.0, np.inf, -np.inf, np.nan, 1e308, -2.0])
def test_what_is_not_finite_and_signed_zeros_come_out_as_from_the_reference(value):
    x = mf.Input("x")
    y = mf.Parameter(-0.0)
    nodes = [
        Divide(1.0, x), x * y, x - x, Log(x), Sqrt(x), Power(x, 0.5), Maximum(x, y), Minimum(y, x),
        Where(Greater(x, y), x, y), Equal(x, x), Exp(x), Sigmoid(x), ReLU(x), Abs(x), Sign(x),
    ]  # fmt: skip
    graph = mf.Graph(nodes)
    assert is_taped(graph)
    runs = [mf.Session(graph, engine=e).run({x: value}) for e in (Taped(), REFERENCE)]
    for node in nodes:
        np.testing.assert_allclose(runs[0][node], runs[1][node], rtol=1e-12)
        assert np.signbit(runs[0][node]) == np.signbit(runs[1][node]) or np.isnan(runs[1][node])
        for leaf in (x, y):
            found, expected = (run.backward(node, wrt=[leaf])[leaf] for run in runs)
            np.testing.assert_allclose(found, expected, rtol=1e-12)
            assert np.signbit(found) == np.signbit(expected) or np.isnan(expected)


def test_gradients_of_interior_nodes_of_other_outputs_and_of_a_given_seed():
    x, y = mf.Input("x"), mf.Parameter(3.0)
    a = x * y
    b = a + x
    c = Exp(b) * a
    graph = mf.Graph(c, b, Log(y))
    feeds = {x: 0.25}
    runs = [mf.Session(graph, engine=e).run(feeds) for e in (Taped(), REFERENCE)]
    for of in (c, b, a, y):
        for grad in (1.0, -2.5):
            found, expected = (run.backward(of, wrt=[x, y, a, b], grad=grad) for run in runs)
            for node in (x, y, a, b):
                np.testing.assert_allclose(found[node], expected[node], rtol=1e-14)
    again = runs[0].backward(c, wrt=[x])
    np.testing.assert_allclose(again[y], runs[1].backward(c)[y], rtol=1e-14)


@pytest.mark.parametrize("optimizer", [SGD(0.05, momentum=0.9), Adam(0.02), SGD(0.1)], ids=repr)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_training_steps_agree_with_the_reference_and_mix_with_runs(optimizer, dtype):
    rng = np.random.default_rng(1)
    x = mf.Input("x")
    weights = [mf.Parameter(dtype(v)) for v in rng.normal(size=6)]
    hidden = [Tanh(x * w + v) for w, v in zip(weights[:3], weights[3:], strict=True)]
    unused = mf.Parameter(dtype(7.0))
    cost = Square(Add(*hidden) - 0.5)
    graph = mf.Graph(cost, unused * 2)
    sessions = [mf.Session(graph, engine=e) for e in (Taped(), REFERENCE)]
    rtol = TOLERANCES[dtype]
    for step in range(6):
        feeds = {x: dtype(0.3 * step)}
        losses = [s.step(feeds, optimizer, cost=cost) for s in sessions]
        np.testing.assert_allclose(*losses, rtol=rtol, atol=rtol)
        if step == 2:
            for s in sessions:
                s[weights[0]] = 0.125
        runs = [s.run(feeds) for s in sessions]
        np.testing.assert_allclose(runs[0][cost], runs[1][cost], rtol=rtol, atol=rtol)
    for weight in (*weights, unused):
        assert sessions[0][weight].dtype == dtype
        np.testing.assert_allclose(sessions[0][weight], sessions[1][weight], rtol=rtol, atol=rtol)
    assert sessions[0][unused] == 7.0
    assert type(sessions[0].program).__name__ == "TapeProgram"


@mf.optimizer
class Normalised:
    """Its update depends on the whole parameter, so that parameters cannot be put in a row."""

    rate: float = 0.1

    @staticmethod
    def update(parameter, gradient, rate):
        return parameter - rate * gradient / np.sqrt(np.sum(gradient * gradient))


def test_updates_of_parameters_as_a_whole_and_on_a_schedule():
    x, y = mf.Parameter(1.0), mf.Parameter(2.0)
    cost = Square(x) + Square(y) * 3.0
    for optimizer in (Normalised(), SGD(lambda step: 0.1 / (step + 1))):
        sessions = [mf.Session(cost, engine=e) for e in (Taped(), REFERENCE)]
        for _ in range(3):
            losses = [s.step({}, optimizer) for s in sessions]
            np.testing.assert_allclose(*losses, rtol=1e-14)
        for parameter in (x, y):
            np.testing.assert_allclose(*[s[parameter] for s in sessions], rtol=1e-14)


def test_epochs_of_a_graph_without_inputs():
    x = mf.Parameter(1.0)
    cost = Square(x - 3.0)
    sessions = [mf.Session(cost, engine=e) for e in (Taped(), REFERENCE)]
    losses = [s.epoch({}, SGD(0.1), np.empty((5, 0), int)) for s in sessions]
    np.testing.assert_allclose(*losses, rtol=1e-14)
    assert sessions[0].steps == 5


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_epochs_stop_where_the_loss_is_not_finite():
    x = mf.Parameter(3.0)
    cost = Square(Square(x))
    sessions = [mf.Session(cost, engine=e) for e in (Taped(), REFERENCE)]
    rows = np.empty((100, 0), int)
    losses = [s.epoch({}, SGD(10.0), rows, stop_when_not_finite=True) for s in sessions]
    np.testing.assert_allclose(*losses, rtol=1e-12)
    assert len(losses[0]) < 100


def test_the_same_bits_again_and_in_two_threads():
    graph = mf.Graph(Tanh(random_means(300, np.random.default_rng(2), window=50)))

    def trained(results):
        session = mf.Session(graph, engine=Taped())
        losses = [session.step({}, Adam(0.01)) for _ in range(5)]
        results.append((losses, [session[p].tobytes() for p in graph.parameters]))

    results = []
    trained(results)
    threads = [threading.Thread(target=trained, args=(results,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert results[0] == results[1] == results[2]


def test_observed_runs_and_steps_go_to_the_reference_engine():
    x, y = mf.Input("x"), mf.Parameter(2.0)
    cost = Square(x * y)
    seen = []

    class Listener:
        @mf.hookimpl
        def mf_forward_finish(self, node, value, run):
            seen.append((node, float(value), float(run[node])))

    session = mf.Session(cost, engine=Taped())
    with mf.tracing(Listener()), pytest.warns(ObservedEngineWarning, match="reference engine"):
        run = session.run({x: 3.0})
        gradient = run.gradients[y]
    assert [value for _, value, _ in seen] == [shown for _, _, shown in seen]
    assert seen[-1][1] == 36.0
    assert gradient == 36.0
    assert session.run({x: 3.0}).gradients[y] == 36.0
    unobserved = session.run({x: 3.0})
    with mf.tracing(Listener()):
        assert unobserved.gradients[y] == 36.0
    assert session.run({x: 1.0})[cost] == 4.0


def test_integers_run_on_the_reference_engine_and_say_so():
    x, y, z = mf.Input("x"), mf.Input("y"), mf.Input("z")
    f = (x + y) * z
    session = mf.Session(f, engine=Taped())
    run = session.run({x: -2, y: 5, z: -4})
    assert run[f] == -12
    assert run[f].dtype == np.int64
    assert run.gradients[x] == -4
    assert run.engine == "reference"
    assert "int64" in run.engine.reason
    run = session.run({x: -2.0, y: 5.0, z: -4.0})
    assert run[f] == -12.0
    assert run.engine == "taped"


def test_steps_on_integers_beside_floats_are_those_of_the_reference_engine():
    x, y = mf.Input("x"), mf.Parameter(2.0)
    cost = Square(x * y)
    sessions = [mf.Session(cost, engine=e) for e in (Taped(), REFERENCE)]
    for fed in (3, 3.0, 2):
        losses = [s.step({x: fed}, SGD(0.01, momentum=0.5)) for s in sessions]
        np.testing.assert_allclose(*losses, rtol=1e-15)
    np.testing.assert_allclose(sessions[0][y], sessions[1][y], rtol=1e-15)


def test_undeclared_inputs_may_turn_out_to_be_arrays():
    x, y = mf.Input("x"), mf.Parameter(2.0)
    cost = Sum(Square(x * y))
    assert is_taped(cost)
    sessions = [mf.Session(cost, engine=e) for e in (Taped(), REFERENCE)]
    rows = np.arange(6.0).reshape(3, 2)
    for fed in (rows, 3.0, rows[:1]):
        runs = [s.run({x: fed}) for s in sessions]
        assert runs[0][cost] == runs[1][cost]
        np.testing.assert_allclose(runs[0].gradients[y], runs[1].gradients[y], rtol=1e-14)
    losses = [s.step({x: rows}, SGD(0.01)) for s in sessions]
    assert losses[0] == losses[1]


def test_a_gradient_that_has_to_pass_an_operation_without_backward_is_an_error():
    x, y = mf.Input("x"), mf.Parameter(2.0)
    stop = Opaque(y)
    cost = x * stop + x * x
    run = mf.Session(cost, engine=Taped()).run({x: 1.5})
    assert run.backward(wrt=[x])[x] == 7.0
    assert run.backward(wrt=[stop])[stop] == 1.5
    with pytest.raises(NotDifferentiableError, match="opaque_1.*no backward"):
        run.backward(wrt=[y])
    with pytest.raises(NotDifferentiableError, match="opaque_1.*no backward"):
        mf.Session(cost, engine=Taped()).step({x: 1.5}, SGD(0.1))


def test_constants_and_what_is_made_of_nothing_else():
    two, half = mf.Constant(2.0), mf.Constant(np.float64(0.5))
    x = mf.Input("x")
    both = two * half + two
    yes = Greater(two, half)
    f = Where(yes, x * both, x) + 3
    graph = mf.Graph(f)
    assert is_taped(graph)
    runs = [mf.Session(graph, engine=e).run({x: 1.25}) for e in (Taped(), REFERENCE)]
    for node in graph:
        assert runs[0][node] == runs[1][node]
        assert runs[0][node].dtype == runs[1][node].dtype
    assert runs[0].gradients[x] == runs[1].gradients[x] == 3.0


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda x: x * mf.Parameter(np.ones(2)), "a parameter that is an array"),
        (lambda x: x * mf.Constant(np.ones(2)), "a constant that is an array"),
        (lambda x: Reshape(x, shape=(1,)), "a result that is an array"),
        (lambda x: x * mf.Parameter(np.float32(1)) * mf.Parameter(1.0), "two dtypes"),
        (lambda x: x * mf.Parameter(np.float16(1)), "a dtype without a tape"),
        (lambda x: mf.Parameter(np.float32(1)) * mf.Constant(np.float64(1)) * x, "wider constant"),
        (lambda x: Greater(x, 0.0) * 2 + x, "whole numbers made of truth values"),
        (lambda x: Dropout(x * mf.Parameter(1.0), rate=0.5), "random numbers"),
        (lambda x: mf.Input("rows", shape=(None, 3)) * x, "an input declared as an array"),
        (lambda x: mf.Input("count", shape=(), dtype=np.int64) * x, "an input declared an integer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_graphs_are_declined(build, reason):
    assert not is_taped(build(mf.Input("x")))


def test_a_loss_of_single_numbers_is_read_as_elementwise():
    x, y = mf.Input("x", shape=(), dtype=np.float32), mf.Parameter(np.float32(2))
    cost = MSE(x, y)
    assert is_taped(cost)
    runs = [mf.Session(cost, engine=e).run({x: 0.5}) for e in (Taped(), REFERENCE)]
    assert runs[0][cost] == runs[1][cost]
    assert runs[0].gradients[y] == runs[1].gradients[y]


def test_templates_are_read_once_for_each_way_of_application():
    graph = mf.Graph(random_means(200, np.random.default_rng(3), window=20))
    program = program_for(graph, Taped())
    (tape,) = program._tapes.values()
    # A sum of two, a sum of all ends, products of two and three with a constant, a quotient.
    assert len(tape.scalars.templates) == 5
    assert f"{len(graph)} scalars of float64" in tape.text()


def test_a_function_of_scalars_runs_from_a_tape_in_any_number_of_threads():
    x, y = mf.Input("x"), mf.Input("y")
    w = mf.Parameter(3.0)
    outputs = [Tanh(x * w) + y, Less(x, y), w]
    f, expected = (mf.function([y, x], outputs, engine=e) for e in (Taped(), REFERENCE))
    assert f.explain(1.0, 2.0).startswith("7 scalars of float64")
    for arguments in ((0.5, 0.25), (np.float64(-1.0), 2.0), (1, 2), (np.ones(3), np.arange(3.0))):
        for found, wanted in zip(f(*arguments), expected(*arguments), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-14)
            assert found.dtype == wanted.dtype
    results = {}
    arguments = [(0.01 * i, 0.5) for i in range(200)]

    def call(name):
        results[name] = [f(*a) for a in arguments]

    threads = [threading.Thread(target=call, args=(name,)) for name in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] == [f(*a) for a in arguments]


def test_a_program_from_a_tape_tells_what_it_does_and_needs_before_it_runs():
    x, w = mf.Input("x"), mf.Parameter(3.0)
    session = mf.Session(Square(x * w), engine=Taped())
    step = session.compile({x: ()}, Adam(0.1))
    assert "a training step with Adam on the engine 'taped'" in step.explain()
    assert "1 times square; backward multiply, multiply" in step.explain()
    use = step.memory()
    assert (use.inputs, use.parameters, use.states) == (8, 8, 16)
    # Values and gradients of four nodes, and what is between, are 8 bytes each.
    assert use.buffers > 2 * 4 * 8
    run = session.compile({x: ()})
    assert "a run on the engine 'taped'" in run.explain()
    assert run.memory().buffers < use.buffers
    with pytest.raises(EngineError, match="no steps to time"):
        run.profile([1.0])
