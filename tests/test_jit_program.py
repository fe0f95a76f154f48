"""A compiling engine in sessions and fit: what does not depend on how programs are executed."""

from __future__ import annotations

import numpy as np
import pytest
from lowered_interpreter import interpret

import mfcore as mf
from mfcore.errors import ForwardError, ObservedEngineWarning
from mfjit.errors import CannotLower
from mfjit.program import CompilingEngine
from mfops_nn import MSE, CrossEntropy, Dropout, Linear, Sigmoid
from mfoptim import SGD, Adam, fit


class InterpretedExecutable:
    memory = 0

    def __init__(self, lowered):
        self.lowered = lowered

    def bind(self, parameters, states):
        return InterpretedBound(self.lowered, parameters, states)

    def explain(self):
        return self.lowered.text()


class InterpretedBound:
    def __init__(self, lowered, parameters, states):
        self.lowered, self.parameters, self.states = lowered, parameters, states

    def step(self, inputs, settings, rng):
        outputs, parameters, states = interpret(
            self.lowered, inputs, self.parameters, self.states, settings, rng
        )
        for old, new in zip([*self.parameters, *self.states], [*parameters, *states], strict=True):
            old[...] = new
        return outputs

    def epoch(self, arrays, rows, settings, rng, stop_when_not_finite):
        losses = []
        for chosen, given in zip(rows, settings, strict=True):
            losses.append(float(self.step([a[chosen] for a in arrays], list(given), rng)[0]))
            if stop_when_not_finite and not np.isfinite(losses[-1]):
                break
        return np.array(losses)


class Interpreting(CompilingEngine):
    """Lowers as the compiled engines do, and interprets what comes out."""

    name = "interpreting"

    def executable(self, lowered):
        return InterpretedExecutable(lowered)


class Strict(Interpreting):
    strict = True
    fixed_hyperparameters = False


def network(rng, dtype=np.float64):
    X, y = mf.Input("X"), mf.Input("y")
    shapes = [(4, 5), (5,), (5, 1), (1,)]
    W1, b1, W2, b2 = (mf.Parameter(rng.normal(size=s).astype(dtype)) for s in shapes)
    hidden = Sigmoid(Linear(X, W1, b1))
    return mf.Graph(MSE(y, Linear(hidden, W2, b2))), X, y, hidden


def rows_of(rng, count=20, dtype=np.float64):
    return rng.normal(size=(count, 4)).astype(dtype), rng.normal(size=(count, 1)).astype(dtype)


@pytest.fixture(params=[Interpreting, Strict], ids=["fixed", "settings"])
def engine(request):
    return request.param()


def test_a_run_agrees_with_the_reference_in_every_node_and_gradient(engine):
    rng = np.random.default_rng(0)
    graph, X, y, hidden = network(rng)
    a, b = rows_of(rng)
    run = mf.Session(graph, engine=engine).run({X: a, y: b})
    expected = mf.Session(graph, engine="mfcore.reference").run({X: a, y: b})
    for node in graph:
        np.testing.assert_allclose(run[node], expected[node], rtol=1e-13)
    for node in (*graph.parameters, X, hidden):
        np.testing.assert_allclose(run.gradients[node], expected.gradients[node], rtol=1e-12)
    assert run.engine == "interpreting"
    assert run.engine.reason == ""


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), Adam(0.01)], ids=repr)
def test_steps_runs_and_changed_parameters_mix(engine, optimizer):
    rng = np.random.default_rng(1)
    graph, X, y, _ = network(rng)
    a, b = rows_of(rng)
    sessions = [mf.Session(graph, engine=e) for e in (engine, "mfcore.reference")]
    for count in (20, 7, 20):
        feeds = {X: a[:count], y: b[:count]}
        losses = [s.step(feeds, optimizer) for s in sessions]
        np.testing.assert_allclose(*losses, rtol=1e-12)
        before = sessions[0].run(feeds)
        kept = before[graph.parameters[0]].copy()
        for s in sessions:
            s[graph.parameters[1]] = s[graph.parameters[1]] + 0.5
            s.step(feeds, optimizer)
        np.testing.assert_array_equal(before[graph.parameters[0]], kept)
    for p in graph.parameters:
        np.testing.assert_allclose(sessions[0][p], sessions[1][p], rtol=1e-10)
    assert sessions[0].steps == sessions[1].steps == 6


def test_observed_steps_go_to_the_reference_engine_and_return(engine):
    rng = np.random.default_rng(2)
    graph, X, y, _ = network(rng)
    a, b = rows_of(rng)
    optimizer = Adam(0.01)
    sessions = [mf.Session(graph, engine=e) for e in (engine, "mfcore.reference")]

    class Listener:
        seen = 0

        @mf.hookimpl
        def mf_backward_finish(self, node):
            self.seen += 1

    listener = Listener()
    for s in sessions:
        for _ in range(2):
            s.step({X: a, y: b}, optimizer)
    with mf.tracing(listener), pytest.warns(ObservedEngineWarning, match="reference engine"):
        sessions[0].step({X: a, y: b}, optimizer)
    seen = listener.seen
    assert seen > 0
    with mf.tracing(listener):  # said once
        sessions[0].step({X: a, y: b}, optimizer)
    assert listener.seen == 2 * seen
    losses = [sessions[0].step({X: a, y: b}, optimizer)]
    assert listener.seen == 2 * seen
    for _ in range(3):
        loss = sessions[1].step({X: a, y: b}, optimizer)
    np.testing.assert_allclose(losses[0], loss, rtol=1e-12)


def test_epochs_are_steps_on_gathered_rows(engine):
    rng = np.random.default_rng(3)
    graph, X, _, _ = network(rng)
    a, b = rows_of(rng, 50)
    rows = rng.integers(0, 50, (130, 6))
    sessions = [mf.Session(graph, engine=e) for e in (engine, "mfcore.reference")]
    optimizer = SGD(lambda step: 0.1 / (1 + step), momentum=0.5)
    losses = [s.epoch({X: a, "y": b}, optimizer, rows) for s in sessions]
    assert losses[0].shape == (130,)
    np.testing.assert_allclose(*losses, rtol=1e-11)
    assert sessions[0].steps == 130


@pytest.mark.parametrize("sampling", ["shuffle", "resample"])
def test_fit_gives_the_history_of_the_reference(engine, sampling):
    rng = np.random.default_rng(4)
    graph, X, y, _ = network(rng)
    a, b = rows_of(rng, 23)
    histories = [
        fit(graph, {X: a, y: b}, Adam(0.01), epochs=4, batch_size=5, seed=7, sampling=sampling,
            engine=e, validation_split=0.2)
        for e in (engine, "mfcore.reference")
    ]  # fmt: skip
    np.testing.assert_allclose(histories[0].loss, histories[1].loss, rtol=1e-11)
    np.testing.assert_allclose(
        histories[0].validation_loss, histories[1].validation_loss, rtol=1e-11
    )
    assert histories[0].steps == histories[1].steps


def test_divergence_is_found_at_the_same_step(engine):
    rng = np.random.default_rng(5)
    graph, X, y, _ = network(rng)
    a, b = rows_of(rng, 30)
    messages = []
    for e in (engine, "mfcore.reference"):
        with pytest.warns(mf.errors.DivergenceWarning):
            history = fit(graph, {X: a, y: b}, SGD(1e8), epochs=9, batch_size=3, seed=1, engine=e)
        messages.append(history.stopped.message)
        assert history.session[graph.parameters[0]].any()
    assert messages[0] == messages[1]


def test_dropout_draws_what_the_reference_draws(engine):
    rng = np.random.default_rng(6)
    X, y = mf.Input("X"), mf.Input("y")
    W = mf.Parameter(rng.normal(size=(4, 1)))
    graph = mf.Graph(MSE(y, Dropout(X, rate=0.5) @ W))
    a, b = rows_of(rng)
    sessions = [mf.Session(graph, engine=e, seed=9) for e in (engine, "mfcore.reference")]
    runs = [s.run({X: a, y: b}, training=True) for s in sessions]
    np.testing.assert_allclose(*[r.gradients[W] for r in runs], rtol=1e-13)
    np.testing.assert_allclose(*[r["dropout_1"] for r in runs])
    losses = [[s.step({X: a, y: b}, SGD(0.1)) for _ in range(4)] for s in sessions]
    np.testing.assert_allclose(*losses, rtol=1e-12)


def test_gradients_as_nodes_are_lowered_as_any_graph(engine):
    rng = np.random.default_rng(10)
    graph, X, y, hidden = network(rng)  # of undeclared shapes: read in the run
    dropped = MSE(y, Dropout(hidden, rate=0.3) @ np.ones((5, 1)))
    a, b = rows_of(rng)
    cost = graph.outputs[0] + dropped
    W1 = graph.parameters[0]
    first = mf.gradient(cost, W1)
    second = mf.hvp(cost, W1, np.ones((4, 5)))
    total = (first * first).sum() + second.sum()
    sessions = [mf.Session(total, engine=e, seed=1) for e in (engine, "mfcore.reference")]
    runs = [s.run({X: a, y: b}, training=True) for s in sessions]
    np.testing.assert_allclose(runs[0][total], runs[1][total], rtol=1e-10)
    np.testing.assert_allclose(runs[0].gradients[W1], runs[1].gradients[W1], rtol=1e-9)
    assert runs[0].engine == "interpreting"


@mf.operation
class Branching(mf.Node):
    """What cannot be read: it looks at its elements."""

    x: mf.Node

    @staticmethod
    def forward(x):
        return x * 2.0 if float(x.sum()) > 0 else x * 3.0

    @staticmethod
    def backward(grad, x):
        return (grad * (2.0 if float(x.sum()) > 0 else 3.0),)


def test_what_cannot_be_read_is_called_as_it_is():
    rng = np.random.default_rng(7)
    X, y = mf.Input("X"), mf.Input("y")
    W = mf.Parameter(rng.normal(size=(4, 1)))
    graph = mf.Graph(MSE(y, Branching(X @ W)))
    a, b = rows_of(rng)
    sessions = [mf.Session(graph, engine=e) for e in (Interpreting(), "mfcore.reference")]
    for sign in (1, -1):
        losses = [[s.step({X: sign * a, y: b}, SGD(0.1)) for _ in range(3)] for s in sessions]
        np.testing.assert_allclose(*losses, rtol=1e-12)
    assert sessions[0].run({X: a, y: b}).engine == "interpreting"


@mf.operation
class Unreadable(mf.Node):
    """Its random numbers are of a kind that no engine draws."""

    x: mf.Node

    @staticmethod
    def forward(x, rng):
        return x + rng.poisson(3.0, x.shape)

    @staticmethod
    def backward(grad):
        return (grad,)


def test_what_cannot_be_lowered_runs_on_the_reference_engine_and_says_why():
    x = mf.Input("x")
    w = mf.Parameter(np.ones(3))
    graph = mf.Graph((Unreadable(x) * w).sum())
    session = mf.Session(graph, engine=Interpreting(), seed=0)
    run = session.run({x: np.ones(3)})
    assert run.engine == "reference"
    assert "Unreadable" in run.engine.reason
    assert "rng.poisson" in run.engine.reason
    assert np.isfinite(session.step({x: np.ones(3)}, SGD(0.1)))
    with pytest.raises(CannotLower, match=r"unreadable_1 .*Unreadable.*rng\.poisson"):
        mf.Session(graph, engine=Strict(), seed=0).run({x: np.ones(3)})
    with pytest.raises(CannotLower, match="Unreadable"):
        mf.Session(graph, engine=Strict(), seed=0).step({x: np.ones(3)}, SGD(0.1))


def test_errors_name_the_node_and_leave_everything_as_it_was(engine):
    rng = np.random.default_rng(8)
    X, y = mf.Input("X"), mf.Input("y")
    W = mf.Parameter(rng.normal(size=(4, 3)))
    graph = mf.Graph(CrossEntropy(y, X @ W))
    session = mf.Session(graph, engine=engine)
    a = rng.normal(size=(6, 4))
    good, bad = np.zeros(6, int), np.full(6, 3)
    session.step({X: a, y: good}, Adam(0.1))
    before = session[W]
    for feeds in ({X: a, y: bad}, {X: a[:, :3], y: good}):
        with pytest.raises(ForwardError, match=r"built at .*test_jit_program\.py:\d+"):
            session.step(feeds, Adam(0.1))
        with pytest.raises(ForwardError, match=r"built at .*test_jit_program\.py:\d+"):
            session.run(feeds)
    np.testing.assert_array_equal(session[W], before)
    with pytest.raises(ForwardError, match="class index 3"):
        session.epoch({X: a, y: bad}, Adam(0.1), [[0, 1]])


def test_an_optimizer_that_branches_on_the_step_updates_as_it_is(engine):
    @mf.optimizer
    class Alternating:
        rate: float = 0.1

        @staticmethod
        def update(parameter, gradient, step, rate):
            return parameter - rate * gradient if step % 2 else parameter + rate * gradient

    rng = np.random.default_rng(9)
    graph, X, y, _ = network(rng)
    a, b = rows_of(rng)
    sessions = [mf.Session(graph, engine=e) for e in (engine, "mfcore.reference")]
    losses = [s.epoch({X: a, y: b}, Alternating(), [[0, 1, 2]] * 5) for s in sessions]
    np.testing.assert_allclose(*losses, rtol=1e-12)


def test_parameters_that_nothing_reaches_stay(engine):
    x = mf.Input("x")
    used, unused = mf.Parameter(np.ones(3)), mf.Parameter(np.ones(2))
    still = mf.Parameter(np.full(3, 2.0))
    graph = mf.Graph((x * used).sum(), unused * 2, np.sign(still * x).sum())
    sessions = [mf.Session(graph, engine=e) for e in (engine, "mfcore.reference")]
    for s in sessions:
        for _ in range(3):
            s.step({x: np.ones(3)}, Adam(0.1), cost=graph.outputs[0])
    for p in (used, unused, still):
        np.testing.assert_allclose(sessions[0][p], sessions[1][p], rtol=1e-12)


@pytest.mark.parametrize("name", ["mfcore.reference", "mfjit.numpy", "mfjit.numba", "interpreting"])
def test_a_stepper_trains_on_the_rows_that_it_is_given(name):
    rng = np.random.default_rng(11)
    graph, X, y, _ = network(rng)
    a, b = rows_of(rng, 40)
    rows = rng.integers(0, 40, (6, 5))
    chosen = Interpreting() if name == "interpreting" else name
    sessions = [mf.Session(graph, engine=chosen), mf.Session(graph, engine="mfcore.reference")]
    optimizer = Adam(0.01)
    step = sessions[0].stepper({X: a, y: b}, optimizer)
    losses = [step(chosen_rows) for chosen_rows in rows]
    expected = sessions[1].epoch({X: a, y: b}, optimizer, rows)
    np.testing.assert_allclose(losses, expected, rtol=1e-11)
    assert sessions[0].steps == 6
    before = sessions[0].parameters
    for wrong in ([0, 40, 1, 2, 3], [-1, 0, 1, 2, 3]):
        with pytest.raises((IndexError, mf.errors.ExecutionError)):
            step(wrong)
    for parameter, value in before.items():
        np.testing.assert_array_equal(sessions[0][parameter], value)
    assert np.isfinite(step([1, 2]))  # a batch of another size
    assert np.isfinite(sessions[0].step({X: a[:5], y: b[:5]}, optimizer))
    assert np.isfinite(step(rows[0]))


def test_runs_are_freed_when_nobody_holds_them():
    import gc
    import weakref

    x = mf.Input("x")
    gc.disable()
    try:
        run = mf.Session((x * x).sum()).run({x: np.ones(3)})
        gradients = run.gradients
        assert gradients[x][0] == 2.0
        alive = weakref.ref(run)
        del run
        assert alive() is None
        np.testing.assert_array_equal(gradients[x], [2.0, 2.0, 2.0])
    finally:
        gc.enable()
