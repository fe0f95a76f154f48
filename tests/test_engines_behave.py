"""What holds on every engine beside results: interrupts, threads, hooks, errors, NaN, choices."""

from __future__ import annotations

import _thread
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import mfcore as mf
from mfcore.errors import DivergenceWarning, ForwardError, ObservedEngineWarning
from mfjit.errors import CannotLower
from mfops_nn import MSE, CrossEntropy, Dropout, Linear, Sigmoid
from mfoptim import SGD, Adam, fit

REFERENCE, NUMPY, NUMBA, AUTO = (
    "mfcore.reference",
    "mfjit.numpy",
    "mfjit.numba",
    "mfjit.auto",
)


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(params=[NUMPY, NUMBA], ids=["numpy", "numba"])
def engine(request):
    if request.param == NUMBA:
        pytest.importorskip("numba")
    return request.param


def network(seed=0, wide=5, dropout=0.0):
    """Return a graph of a small network, and data."""
    rng = np.random.default_rng(seed)
    X, y = mf.Input("X"), mf.Input("y")
    W1, b1 = mf.Parameter(rng.normal(size=(4, wide)), name="W1"), mf.Parameter(np.zeros(wide))
    W2, b2 = mf.Parameter(rng.normal(size=(wide, 1))), mf.Parameter(np.zeros(1))
    hidden = Sigmoid(Linear(X, W1, b1))
    if dropout:
        hidden = Dropout(hidden, rate=dropout)
    data = {X: rng.normal(size=(24, 4)), y: rng.normal(size=(24, 1))}
    return mf.Graph(MSE(y, Linear(hidden, W2, b2))), data


def trained(graph, data, engine, rows, optimizer=None, seed=1):
    session = mf.Session(graph, engine=engine, seed=seed)
    losses = session.epoch(data, optimizer or Adam(0.01), rows)
    return losses, [session[p].copy() for p in graph.parameters]


def assert_same_bits(found, expected):
    assert found[0].tobytes() == expected[0].tobytes()
    for a, b in zip(found[1], expected[1], strict=True):
        assert a.tobytes() == b.tobytes()


# The same bits, in any thread


def test_the_same_seed_gives_the_same_bits(engine):
    graph, data = network(dropout=0.3)
    rows = np.random.default_rng(0).integers(0, 24, (50, 6))
    assert_same_bits(trained(graph, data, engine, rows), trained(graph, data, engine, rows))


def test_sessions_in_threads_give_what_they_give_alone(engine):
    graph, data = network(dropout=0.3)
    rows = [np.random.default_rng(k).integers(0, 24, (200, 6)) for k in range(2)]
    alone = [trained(graph, data, engine, rows[k], seed=k) for k in range(2)]

    start = threading.Barrier(2)

    def train(k):
        start.wait()
        return [trained(graph, data, engine, rows[k], seed=k) for _ in range(3)]

    with ThreadPoolExecutor(2) as pool:
        for expected, repeated in zip(alone, pool.map(train, range(2)), strict=True):
            for found in repeated:
                assert_same_bits(found, expected)


def test_graphs_and_nodes_hold_no_state_of_runs(engine):
    graph, data = network()
    before = [p.value.tobytes() for p in graph.parameters]
    nodes = [repr(vars(type(node)).keys()) for node in graph]
    trained(graph, data, engine, [[0, 1, 2, 3, 4, 5]] * 3)
    assert [p.value.tobytes() for p in graph.parameters] == before
    assert [repr(vars(type(node)).keys()) for node in graph] == nodes
    first, second = (mf.Session(graph, engine=engine).run(data)[graph.outputs[0]] for _ in range(2))
    assert first == second


def test_dropout_draws_what_the_reference_draws(engine):
    graph, data = network(dropout=0.4)
    dropped = next(node for node in graph if isinstance(node, Dropout))
    both = mf.Graph(dropped, graph.outputs[0])
    sessions = [mf.Session(both, engine=e, seed=9) for e in (engine, REFERENCE)]
    for _ in range(2):
        runs = [s.run(data, training=True) for s in sessions]
        np.testing.assert_array_equal(*[run[dropped] == 0 for run in runs])
        gradients = [run.backward(graph.outputs[0])[graph.parameters[0]] for run in runs]
        np.testing.assert_allclose(*gradients, rtol=1e-12)


# Ctrl-C


@pytest.mark.usefixtures("interrupts_arrive")
def test_ctrl_c_ends_a_compiled_epoch_between_two_steps(engine):
    graph, _ = network(wide=200)
    X, y = graph.inputs if graph.inputs[0].name == "X" else graph.inputs[::-1]
    rng = np.random.default_rng(0)
    data = {X: rng.normal(size=(1000, 4)), y: rng.normal(size=(1000, 1))}
    rows = rng.integers(0, 1000, (100_000, 250))
    optimizer = SGD(1e-4)
    session = mf.Session(graph, engine=engine)
    session.epoch(data, optimizer, rows[:1])  # compiles

    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        session.epoch(data, optimizer, rows[1:])
    timer.join()

    assert session.steps < 50_000
    again = mf.Session(graph, engine=engine)
    again.epoch(data, SGD(1e-4), rows[: session.steps])
    for p in graph.parameters:
        assert session[p].tobytes() == again[p].tobytes()
    assert np.isfinite(session.epoch(data, optimizer, rows[:2])).all()


@pytest.mark.usefixtures("interrupts_arrive")
def test_fit_returns_its_history_when_interrupted_and_goes_on(engine):
    graph, data = network()
    timer = threading.Timer(0.5, _thread.interrupt_main)
    timer.start()
    history = fit(graph, data, SGD(1e-3), epochs=200_000, batch_size=6, seed=0, engine=engine)
    timer.join()

    assert history.stopped.reason == "interrupted"
    assert len(history.loss) == len(history.seconds) < 200_000
    assert 4 * len(history.loss) <= history.steps <= 4 * len(history.loss) + 4
    assert history.session.steps == history.steps
    more = fit(graph, data, SGD(1e-3), epochs=2, batch_size=6, seed=0, session=history.session)
    assert more.stopped.reason == "finished"
    assert more.steps == 8


# NaN and infinities


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_data_that_are_not_finite_give_what_the_reference_gives(engine, value):
    graph, data = network()
    X = next(node for node in graph.inputs if node.name == "X")
    spoilt = data[X].copy()
    spoilt[3, 1] = value
    feeds = {**data, X: spoilt}
    with np.errstate(all="ignore"):
        runs = [mf.Session(graph, engine=e).run(feeds) for e in (engine, REFERENCE)]
        np.testing.assert_allclose(*[run[graph.outputs[0]] for run in runs], rtol=1e-12)
        for p in graph.parameters:
            np.testing.assert_allclose(*[run.gradients[p] for run in runs], rtol=1e-11)


@pytest.mark.parametrize("rate", [1e160, 1e300])
def test_divergence_is_reported_as_on_the_reference(engine, rate):
    graph, data = network()
    stopped = []
    for e in (engine, REFERENCE):
        with pytest.warns(DivergenceWarning):
            history = fit(graph, data, SGD(rate), epochs=99, batch_size=6, seed=1, engine=e)
        stopped.append((history.stopped, history.steps, history.loss))
        for p in graph.parameters:
            np.testing.assert_array_equal(history.session[p], p.value)
    assert stopped[0] == stopped[1]
    assert stopped[0][0].reason == "diverged"


SPECIAL = np.array([-0.0, 0.0, 1e-300, 1e300, -2.0, np.inf, -np.inf, np.nan])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + 0.0,
        lambda x: x + (-0.0),
        lambda x: x - 0.0,
        lambda x: x - (-0.0),
        lambda x: x * 1e200 * 1e200,
        lambda x: x * 1e-200 * 1e-200,
        lambda x: x / 5e-324,
        lambda x: x * 0.0,
        lambda x: x - x,
        lambda x: np.negative(-x) * -1.0,
        lambda x: (x > 0) * (x > 0),
    ],
)
def test_simplifying_keeps_the_signs_of_zeros_and_what_is_not_finite(function):
    x = mf.Input()
    results = []
    with np.errstate(all="ignore"):
        for e in (NUMPY, REFERENCE):
            node = function(x)
            value = mf.Session(node, engine=e).run({x: SPECIAL})[node]
            results.append((value, np.signbit(value)[~np.isnan(value)]))
    for found, expected in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


# Hooks


class Listener:
    def __init__(self):
        self.nodes = []

    @mf.hookimpl
    def mf_forward_finish(self, node):
        self.nodes.append(node)


def test_observed_runs_go_to_the_reference_engine_which_is_said_once(engine):
    graph, data = network()
    session, plain = (mf.Session(graph, engine=e) for e in (engine, REFERENCE))
    optimizer, listener = Adam(0.01), Listener()
    losses = [[], []]
    for k, s in enumerate((session, plain)):
        losses[k].append(s.step(data, optimizer))
    with mf.tracing(listener):
        with pytest.warns(ObservedEngineWarning):
            losses[0].append(session.step(data, optimizer))
        losses[0].append(session.step(data, optimizer))
        run = session.run(data)
    assert len(listener.nodes) == 3 * len(graph)
    assert run.engine == "reference"
    assert "cannot be observed" in run.engine.reason
    assert run[graph.outputs[0]] == plain_value(graph, data, session)
    losses[0].append(session.step(data, optimizer))
    assert len(listener.nodes) == 3 * len(graph)
    assert session.run(data).engine == engine.split(".")[1]
    losses[1] += [plain.step(data, optimizer) for _ in range(3)]
    np.testing.assert_allclose(*losses, rtol=1e-11)


def plain_value(graph, data, session):
    """Return the cost on the reference engine, with a session's parameters."""
    plain = mf.Session(graph, engine=REFERENCE)
    for p in graph.parameters:
        plain[p] = session[p]
    return plain.run(data)[graph.outputs[0]]


# Errors


def test_an_error_names_node_and_line_and_leaves_everything_as_it_was(engine):
    rng = np.random.default_rng(0)
    X, y, W = mf.Input("X"), mf.Input("y"), mf.Parameter(rng.normal(size=(4, 3)))
    graph = mf.Graph(CrossEntropy(y, X @ W))
    optimizer, data = Adam(0.1), {X: rng.normal(size=(12, 4)), y: np.zeros(12, int)}
    session, undisturbed = (mf.Session(graph, engine=engine) for _ in range(2))
    rows = np.arange(12).reshape(3, 4)
    losses = [s.epoch(data, optimizer, rows) for s in (session, undisturbed)]
    before, steps = session[W].copy(), session.steps
    bad = {**data, y: np.array([0] * 11 + [3])}

    with pytest.raises(ForwardError, match=r"built at .*test_engines_behave\.py:\d+.*\n*.*class"):
        session.run(bad)
    with pytest.raises(ForwardError, match=r"class index 3"):
        session.step(bad, optimizer)
    with pytest.raises(ForwardError, match=r"mat_mul_1 .*test_engines_behave\.py:\d+"):
        session.step({**data, X: np.ones((12, 3))}, optimizer)

    assert session.steps == steps
    assert session[W].tobytes() == before.tobytes()
    losses = [s.epoch(data, optimizer, rows) for s in (session, undisturbed)]
    assert losses[0].tobytes() == losses[1].tobytes()


def test_an_error_in_an_epoch_leaves_the_steps_before_it_done(engine):
    rng = np.random.default_rng(0)
    X, y, W = mf.Input("X"), mf.Input("y"), mf.Parameter(rng.normal(size=(4, 3)))
    graph = mf.Graph(CrossEntropy(y, X @ W))
    classes = np.zeros(12, int)
    classes[9] = -1
    data = {X: rng.normal(size=(12, 4)), y: classes}
    session, shorter = (mf.Session(graph, engine=engine) for _ in range(2))
    rows = np.arange(12).reshape(3, 4)
    with pytest.raises(ForwardError, match="class index -1"):
        session.epoch(data, SGD(0.1), rows)
    shorter.epoch(data, SGD(0.1), rows[:2])
    assert session.steps == 2
    np.testing.assert_allclose(session[W], shorter[W], rtol=1e-13)


# Which engine runs


def test_a_run_says_which_engine_it_was(engine):
    graph, data = network()
    run = mf.Session(graph, engine=engine).run(data)
    assert run.engine == engine.split(".")[1]
    assert run.engine.reason == ""


def test_auto_compiles_where_many_steps_are_planned():
    pytest.importorskip("numba")
    graph, data = network()
    names = []
    for planned in (3, 10_000_000):
        session = mf.Session(graph, engine=AUTO)
        session.epoch(data, SGD(0.01), [[0, 1, 2]] * 3, planned=planned)
        names.append(session.trains_on)
        run = session.run(data)
        assert run.engine == "numpy"
        assert run.engine.reason
    assert names == ["numpy", "numba"]
    assert "3 steps are planned" in names[0].reason
    assert "10000000 steps are planned" in names[1].reason


@mf.operation
class Drawing(mf.Node):
    """Random numbers of a kind that no engine draws."""

    x: mf.Node

    @staticmethod
    def forward(x, rng):
        return x + rng.poisson(3.0, x.shape)

    @staticmethod
    def backward(grad):
        return (grad,)


@pytest.mark.parametrize("name", [NUMPY, AUTO])
def test_what_cannot_be_lowered_runs_on_the_reference_engine_and_why_is_said(name):
    x, w = mf.Input("x"), mf.Parameter(np.ones(3))
    graph = mf.Graph((Drawing(x) * w).sum())
    sessions = [mf.Session(graph, engine=e, seed=0) for e in (name, REFERENCE)]
    runs = [s.run({x: np.ones(3)}) for s in sessions]
    assert runs[0].engine == "reference"
    assert "Drawing" in runs[0].engine.reason
    assert "rng.poisson" in runs[0].engine.reason
    assert runs[0][graph.outputs[0]] == runs[1][graph.outputs[0]]
    losses = [[s.step({x: np.ones(3)}, SGD(0.1)) for _ in range(3)] for s in sessions]
    assert losses[0] == losses[1]


def test_what_cannot_be_lowered_is_refused_by_numba():
    pytest.importorskip("numba")
    x = mf.Input("x")
    with pytest.raises(CannotLower, match=r"Drawing, built at .*behave\.py:\d+.*rng\.poisson"):
        mf.Session(Drawing(x).sum(), engine=NUMBA).run({x: np.ones(3)})


# Functions on numba


def test_a_function_on_numba_serves_threads_and_any_number_of_rows():
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    X, W, b = mf.Input("X"), mf.Parameter(rng.normal(size=(4, 3))), mf.Parameter(np.ones(3))
    a = Sigmoid(Linear(X, W, b))
    predict = mf.function(X, a, engine=NUMBA)
    batches = [rng.normal(size=(n, 4)) for n in (1, 0, 7, 50)]
    session = mf.Session(a, engine=REFERENCE)
    expected = [session.run({X: rows})[a] for rows in batches]
    for rows, value in zip(batches, expected, strict=True):
        np.testing.assert_allclose(predict(rows), value, rtol=1e-13)
    alone = [predict(rows) for rows in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, value in zip(pool.map(predict, batches * 25), alone * 25, strict=True):
            np.testing.assert_array_equal(found, value)
    with pytest.raises(ForwardError, match=r"linear_1 .*test_engines_behave\.py"):
        predict(np.ones((2, 3)))


def test_a_function_on_numba_compiles_for_few_signatures_and_serves_all():
    pytest.importorskip("numba")
    x = mf.Input("x")
    double = mf.function(x, x * 2.0 + 1.0, engine=NUMBA)
    for n in range(12):
        np.testing.assert_array_equal(double(np.arange(float(n))), 2.0 * np.arange(n) + 1.0)
