"""Tracing: who listens changes nothing, a listener that fails is detached, nobody pays for none."""

from __future__ import annotations

import ast
import inspect
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naming import without_address
from plain_optimizers import Momentum

import mfcore as mf
import mfops_basic as ops
from mfcore import plugins, reference, run, session
from mfcore.errors import DetachedTracerWarning, StopRun, UnknownNameError
from mfcore.plugins import Observers
from mfcore.registry import Registry, observers
from mfops_nn import MSE, CrossEntropy, Dropout, Linear, ReLU, Sigmoid, Softmax

pytestmark = pytest.mark.usefixtures("core_packs")


def listener(hook, action):
    """Return a tracer whose one hook calls ``action``."""

    class Tracer:
        pass

    setattr(Tracer, hook, mf.hookimpl(lambda self: action()))
    return Tracer()


ALL = [hook for hooks in plugins.RUN_HOOKS.values() for hook in hooks]


def everything():
    """Return a tracer that implements every run hook and counts what it hears."""

    class Everything:
        heard = 0

    def note(self):
        self.heard += 1

    for hook in ALL:
        setattr(Everything, hook, mf.hookimpl(note))
    return Everything()


# Observed and unobserved runs give the same bits


def bits(array):
    array = np.asarray(array)
    return array.dtype, array.shape, array.tobytes()


def outcome(graph, feeds, steps=3):
    """All that a session computes, to the bit."""
    one = mf.Session(graph, seed=5)
    result = one.run(feeds, training=True)
    gradients = result.backward(wrt=[*one.graph.inputs, *one.graph.parameters])
    values = [bits(result[node]) for node in one.graph]
    slopes = [bits(gradients[node]) for node in gradients]
    optimizer = Momentum(0.01)
    losses = [one.step(feeds, optimizer) for _ in range(steps if one.graph.parameters else 0)]
    return values, slopes, losses, [bits(value) for value in one.parameters.values()]


def same_observed(graph, feeds):
    alone = outcome(graph, feeds)
    tracer = everything()
    with mf.tracing(tracer):
        observed = outcome(graph, feeds)
    assert tracer.heard > len(graph)
    return alone == observed


@st.composite
def networks(draw):
    """A random scalar graph over inputs and parameters of mixed dtypes, with its feeds."""
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    dtypes = st.sampled_from([np.float32, np.float64])

    def array():
        shape = draw(st.sampled_from([(2, 3), (3,), (1,), (), (2, 1)]))
        return np.asarray(generator.normal(size=shape), draw(dtypes))

    feeds = {mf.Input(): array() for _ in range(draw(st.integers(1, 2)))}
    nodes = [*feeds, *(mf.Parameter(array()) for _ in range(draw(st.integers(0, 2))))]
    nodes.append(draw(st.sampled_from([0.5, 2, 3.0])))
    for _ in range(draw(st.integers(1, 10))):
        kind = draw(
            st.sampled_from([ops.Add, ops.Mul, ops.Tanh, ops.Maximum, np.subtract, Dropout])
        )
        first, other = draw(st.sampled_from(nodes[:-1] or nodes)), draw(st.sampled_from(nodes))
        nodes.insert(0, kind(first) if kind in (ops.Tanh, Dropout) else kind(first, other))
    return mf.Graph(
        sum((node.sum() for node in nodes[:3] if isinstance(node, mf.Node)), 0.0)
    ), feeds


@settings(deadline=None, max_examples=60)
@given(networks())
def test_random_graphs_give_the_same_bits_observed_or_not(case):
    graph, feeds = case

    assert same_observed(graph, {n: v for n, v in feeds.items() if n in graph})


def table():
    generator = np.random.default_rng(0)
    A, Y = generator.normal(size=(6, 3)), generator.normal(size=(6, 2))
    X, y = mf.Input("X"), mf.Input("y")
    W, b = mf.Parameter(generator.normal(size=(3, 2)), name="W"), mf.Parameter(np.zeros(2))
    layer = Linear(X, W, b)
    return {
        "regression": (MSE(y, Sigmoid(layer)), {X: A, y: Y}),
        "float32": (MSE(y, ReLU(layer)), {X: A.astype("f4"), y: Y.astype("f4")}),
        "classes": (CrossEntropy(y, layer), {X: A, y: np.array([0, 1, 1, 0, 1, 0])}),
        "dropout": (MSE(y, Dropout(layer, rate=0.4)), {X: A, y: Y}),
        "shared": ((Softmax(layer) * layer + layer[1:2]).mean(), {X: A}),
        "numbers": ((2 * layer - 1.5).sum() * 3, {X: A}),
        "shapes": (
            np.concatenate([layer.T.reshape(3, 4), A.T @ A @ W @ np.ones((2, 4))]).sum(), {X: A}),
    }  # fmt: skip


@pytest.mark.parametrize("case", table())
def test_networks_give_the_same_bits_observed_or_not(case):
    graph, feeds = table()[case]

    assert same_observed(mf.Graph(graph), feeds)


@mf.operation
class Loose(mf.Node):
    """Returns what backward may return, however loosely."""

    x: mf.Node
    returned: object

    @staticmethod
    def forward(x, returned):
        return x * 1.0

    @staticmethod
    def backward(grad, returned):
        return returned


@pytest.mark.parametrize(
    "returned",
    [1.0, 1, (1.0,), [2], None, (None,), np.float32(2), np.array(3), np.int8(1)],
    ids=repr,
)
def test_whatever_backward_returns_is_read_alike_observed_or_not(returned):
    x = mf.Input("x")

    assert same_observed(mf.Graph(Loose(x, returned=returned) + x), {x: 2.0})


@pytest.mark.parametrize(
    "returned", [(1, 2), (), "no", np.ones(2), [[1, 2]], object()], ids=without_address
)
def test_what_backward_may_not_return_fails_alike_observed_or_not(returned):
    x = mf.Input("x")
    result = mf.Session(Loose(x, returned=returned)).run({x: 2.0})

    errors = []
    for tracers in ([], [everything()]):
        with pytest.raises(mf.errors.BackwardError) as caught, _tracing(tracers):
            result.backward()
        errors.append(str(caught.value))

    assert errors[0] == errors[1]


def _tracing(tracers):
    from contextlib import ExitStack

    stack = ExitStack()
    for tracer in tracers:
        stack.enter_context(mf.tracing(tracer))
    return stack


# Nobody listens: no hook code


def test_an_unobserved_run_fires_no_hook(monkeypatch):
    def fire(*args, **kwargs):
        raise AssertionError("a hook was fired")

    x, W = mf.Input("x"), mf.Parameter(2.0, name="W")
    monkeypatch.setattr(Observers, "fire", fire)
    monkeypatch.setattr(plugins.Observer, "fire", fire)

    one = mf.Session(x * W)
    one.run({x: 1.0}).backward(wrt=[x])
    one.step({x: 1.0}, Momentum())

    with mf.tracing(everything()), pytest.raises(AssertionError, match="was fired"):
        one.run({x: 1.0})


def test_the_observed_loops_are_not_entered_where_nobody_listens(monkeypatch):
    def observed(*args, **kwargs):
        raise AssertionError("observed")

    monkeypatch.setattr(reference.ReferenceProgram, "forward_observed", observed)
    monkeypatch.setattr(reference.ReferenceProgram, "backward_observed", observed)
    x = mf.Input("x")

    with mf.tracing(listener("mf_sort_start", lambda: None)):
        assert mf.Session(x * 3).run({x: 1.0}).gradients[x] == 3


@pytest.mark.parametrize("pass_", ["forward", "backward"])
def test_the_unobserved_loop_names_no_hook(pass_):
    source = inspect.getsource(getattr(reference.ReferenceProgram, pass_))
    tree = ast.parse("class C:\n" + source)
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    names |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}

    assert not {n for n in names if "observer" in n or "fire" in n or n.startswith("mf_")}


def test_a_run_asks_once_per_pass_who_listens(monkeypatch):
    asked = []

    def ask(kind, *about):
        asked.append(kind)
        return observers(kind, *about)

    monkeypatch.setattr(session, "observers", ask)
    monkeypatch.setattr(run, "observers", ask)
    monkeypatch.setattr("mfcore.graph.observers", ask)
    x, W = mf.Input("x"), mf.Parameter(1.0, name="W")
    node = x
    for _ in range(50):
        node = node * W

    one = mf.Session(node)
    assert asked == ["sort"]
    asked.clear()
    one.run({x: 1.0}).backward()
    assert asked == ["run", "run"]
    asked.clear()
    one.step({x: 1.0}, Momentum())
    assert asked == ["training", "run"]


# Tracers that raise


@pytest.mark.parametrize("hook", [h for h in ALL if "epoch" not in h])
def test_a_tracer_that_raises_is_detached_and_the_numbers_are_unaffected(hook):
    graph, feeds = table()["regression"]
    expected = outcome(mf.Graph(graph), feeds)
    calls = []

    def fail():
        calls.append(hook)
        raise ZeroDivisionError("oh dear")

    before, after = everything(), everything()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with _tracing([before, listener(hook, fail), after]):
            result = outcome(mf.Graph(graph), feeds)

    assert result == expected
    assert calls == [hook]
    assert before.heard == after.heard > 100
    (warning,) = caught
    assert warning.category is DetachedTracerWarning
    for part in ("Tracer", "ZeroDivisionError: oh dear", hook, "detached", "Traceback", "in fail"):
        assert part in str(warning.message)


def test_a_plugin_that_raises_is_detached_for_good():
    calls = []

    def fail():
        calls.append(1)
        raise ZeroDivisionError

    registry = Registry(autoload=False)
    registry.register(listener("mf_sort_start", fail), "faulty")
    with mf.registry.using(registry):
        with pytest.warns(DetachedTracerWarning, match="of the pack faulty"):
            mf.Graph(mf.Input("x"))
        mf.Graph(mf.Input("x"))

    assert calls == [1]


class Enough(StopRun):
    """A tracer's own reason to stop."""


@pytest.mark.parametrize("error", [StopRun("stop"), Enough("enough")], ids=repr)
@pytest.mark.parametrize("hook", [h for h in ALL if "epoch" not in h])
def test_stop_run_reaches_the_caller(hook, error):
    W = mf.Parameter(1.0, name="W")
    cost = mf.Session(W * 2)

    def stop():
        raise error

    def act():
        mf.Graph(cost.graph.outputs)
        cost.step({}, Momentum(learning_rate=0.01))

    with mf.tracing(listener(hook, stop)), pytest.raises(type(error)) as caught:
        act()

    assert caught.value is error
    assert cost[W] == (1 if hook != "mf_step_finish" else 0.98)


def test_other_exceptions_to_stop_the_interpreter_are_not_swallowed():
    def interrupt():
        raise KeyboardInterrupt

    with mf.tracing(listener("mf_run_start", interrupt)), pytest.raises(KeyboardInterrupt):
        mf.Session(mf.Constant(1.0)).run()


# Blocks


def test_a_tracer_listens_only_within_its_block():
    tracer = everything()
    x = mf.Input("x")
    one = mf.Session(x + 1)

    with mf.tracing(tracer) as given:
        assert given is tracer
        one.run({x: 1.0})
    heard = tracer.heard
    one.run({x: 1.0})

    assert tracer.heard == heard > 0


def test_blocks_nest_and_every_tracer_hears_everything_from_outside_in():
    order = []
    x = mf.Input("x")
    one = mf.Session(x + 1)
    outer = listener("mf_run_start", lambda: order.append("outer"))
    inner = listener("mf_run_start", lambda: order.append("inner"))

    with mf.tracing(outer):
        with mf.tracing(inner):
            one.run({x: 1.0})
        one.run({x: 1.0})

    assert order == ["outer", "inner", "outer"]


def test_a_block_that_raises_ends_its_tracing():
    tracer = everything()
    with pytest.raises(ZeroDivisionError), mf.tracing(tracer):
        raise ZeroDivisionError

    mf.Graph(mf.Input("x"))

    assert tracer.heard == 0


def test_a_detached_tracer_listens_again_in_a_new_block():
    calls = []

    def fail():
        calls.append(1)
        raise ZeroDivisionError

    tracer = listener("mf_sort_start", fail)
    for _ in range(2):
        with mf.tracing(tracer):
            with pytest.warns(DetachedTracerWarning):
                mf.Graph(mf.Input("x"))
            mf.Graph(mf.Input("x"))

    assert calls == [1, 1]


def test_other_threads_are_not_listened_to():
    tracer = everything()
    x = mf.Input("x")
    one = mf.Session(x * 2.0)
    results = []

    with mf.tracing(tracer):
        thread = threading.Thread(target=lambda: results.append(one.run({x: 2.0})))
        thread.start()
        thread.join()

    assert results[0]["mul_1"] == 4
    assert tracer.heard == 0


# By name


@pytest.fixture
def named():
    class Named:
        name = "named"
        made: list = []  # noqa: RUF012 - the test looks at what was made

        def __init__(self, width=80):
            self.width, self.closed = width, False
            self.made.append(self)

        @mf.hookimpl
        def mf_sort_start(self):
            """Hear of sorts."""

        def close(self):
            self.closed = True

    class Plugin:
        @mf.hookimpl
        def mf_tracers(self):
            return [Named]

    registry = Registry(autoload=False)
    registry.register(Plugin(), "pack")
    with mf.registry.using(registry):
        yield Named


@pytest.mark.parametrize("name", ["named", "pack.named"])
def test_a_tracer_by_name_is_made_with_its_options_and_closed_at_the_end(named, name):
    with mf.tracing(name, width=40) as tracer:
        assert isinstance(tracer, named)
        assert (tracer.width, tracer.closed) == (40, False)

    assert tracer.closed


def test_a_tracer_given_as_an_object_is_not_closed(named):
    tracer = named()
    with mf.tracing(tracer):
        pass

    assert not tracer.closed


def test_an_unknown_tracer_and_options_of_an_object_are_errors(named):
    with pytest.raises(UnknownNameError, match="a tracer 'nameless'"), mf.tracing("nameless"):
        pytest.fail("entered")
    message = "options belong to a tracer given by name"
    with pytest.raises(TypeError, match=message), mf.tracing(named(), width=3):
        pytest.fail("entered")
