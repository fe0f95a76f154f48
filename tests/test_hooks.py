"""The hooks: each fires when it says, with what it says; listening changes no number."""

from __future__ import annotations

import importlib.util
import inspect
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mfcore as mf
from mfcore import hookspecs
from mfcore.errors import DetachedTracerWarning, StopRun
from mfcore.plugins import RUN_HOOKS, Observers
from mfops_basic import Add, Mul
from mfops_nn import MSE, Linear, Sigmoid
from mfoptim import SGD, fit

DOCS = Path(__file__).parent.parent / "docs"
SPECS = {n: f for n, f in vars(hookspecs).items() if n.startswith("mf_")}


class Recorder:
    """Keeps every run hook that fires, in order, with its arguments."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def of(self, hook: str) -> list[dict[str, Any]]:
        return [arguments for name, arguments in self.events if name == hook]


def _recording(hook: str) -> Any:
    names = list(inspect.signature(SPECS[hook]).parameters)
    source = (
        f"def {hook}(self, {', '.join(names)}):\n    self.events.append(({hook!r}, locals()))\n"
    )
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    return mf.hookimpl(namespace[hook])


for _hooks in RUN_HOOKS.values():
    for _hook in _hooks:
        setattr(Recorder, _hook, _recording(_hook))


def network() -> tuple[mf.Node, dict[str, Any]]:
    rng = np.random.default_rng(0)
    X, y = mf.Input("X"), mf.Input("y")
    W, b = mf.Parameter(rng.normal(size=(3, 2)), name="W"), mf.Parameter(np.zeros(2), name="b")
    hidden = Sigmoid(Linear(X, W, b))
    cost = MSE(y, Mul(hidden, hidden))
    return cost, {"X": rng.normal(size=(5, 3)), "y": rng.normal(size=(5, 2))}


def test_a_sort_is_told_node_by_node_and_edge_by_edge() -> None:
    x, y = mf.Input("x"), mf.Input("y")
    recorder = Recorder()

    with mf.tracing(recorder):
        graph = mf.Graph(Add(x, Mul(x, y)))

    told = [
        (name, [graph.name(v) for v in arguments.values() if isinstance(v, mf.Node)])
        for name, arguments in recorder.events
    ]
    assert told == [
        ("mf_sort_start", []),
        ("mf_sort_visit", ["x"]),
        ("mf_sort_edge", ["x", "mul_1"]),
        ("mf_sort_edge", ["x", "add_1"]),
        ("mf_sort_visit", ["y"]),
        ("mf_sort_edge", ["y", "mul_1"]),
        ("mf_sort_visit", ["mul_1"]),
        ("mf_sort_edge", ["mul_1", "add_1"]),
        ("mf_sort_visit", ["add_1"]),
        ("mf_sort_finish", []),
    ]
    assert [e["remaining"] for e in recorder.of("mf_sort_edge")] == [1, 1, 0, 0]
    assert [e["position"] for e in recorder.of("mf_sort_visit")] == [0, 1, 2, 3]


def test_a_forward_pass_is_told_with_inputs_by_name_and_results() -> None:
    x, y = mf.Input("x"), mf.Input("y")
    node = Mul(x, y)
    session, recorder = mf.Session(node), Recorder()

    with mf.tracing(recorder):
        run = session.run({x: 3.0, y: 4.0})

    assert recorder.names() == [
        "mf_run_start",
        "mf_forward_finish",
        "mf_forward_finish",
        "mf_forward_start",
        "mf_forward_finish",
        "mf_run_finish",
    ]
    (start,) = recorder.of("mf_forward_start")
    assert start["inputs"] == {"factors[0]": 3.0, "factors[1]": 4.0}
    finish = recorder.of("mf_forward_finish")[-1]
    assert (finish["node"], finish["value"], finish["run"]) == (node, 12.0, run)
    for hook in ("mf_run_start", "mf_run_finish"):
        (event,) = recorder.of(hook)
        assert (event["phase"], event["session"], event["graph"]) == (
            "forward",
            session,
            session.graph,
        )


def test_a_backward_pass_is_told_with_what_was_received_and_sent() -> None:
    x = mf.Input("x")
    square = Mul(x, x)
    session, recorder = mf.Session(Add(square, x)), Recorder()
    run = session.run({x: 3.0})

    with mf.tracing(recorder):
        run.backward(wrt=[x])

    starts = recorder.of("mf_backward_start")
    assert [session.graph.name(e["node"]) for e in starts] == ["add_1", "mul_1", "x"]
    seed, _, last = starts
    assert seed["received"] == ((None, 1.0),)
    assert last["received"] == ((seed["node"], 1.0), (square, 3.0), (square, 3.0))
    assert last["grad"] == run.gradients[x] == 7.0
    sent = {session.graph.name(e["node"]): e["sent"] for e in recorder.of("mf_backward_finish")}
    assert sent["mul_1"] == {"factors[0]": 3.0, "factors[1]": 3.0}
    assert recorder.of("mf_run_start")[0]["phase"] == "backward"


def test_training_is_told_by_epoch_and_step() -> None:
    cost, feeds = network()
    recorder = Recorder()

    with mf.tracing(recorder):
        history = fit(cost, feeds, SGD(), epochs=2, batch_size=3, seed=0)

    training = [n for n in recorder.names() if n in RUN_HOOKS["training"]]
    epoch = ["mf_epoch_start", *["mf_step_start", "mf_step_finish"] * 2, "mf_epoch_finish"]
    assert training == epoch * 2
    assert [e["epoch"] for e in recorder.of("mf_epoch_start")] == [1, 2]
    assert [e["step"] for e in recorder.of("mf_step_start")] == [1, 2, 3, 4]
    assert [e["logs"]["loss"] for e in recorder.of("mf_epoch_finish")] == history.loss
    assert all(np.isfinite(e["loss"]) for e in recorder.of("mf_step_finish"))


@given(seed=st.integers(0, 10_000), size=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_observed_and_unobserved_runs_give_the_same_bits(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = [mf.Input(), mf.Parameter(rng.normal(size=(2, 3)))]
    nodes: list[mf.Node] = list(inputs)
    for _ in range(size):
        x, y = (nodes[i] for i in rng.integers(0, len(nodes), 2))
        choice = rng.integers(0, 5)
        nodes.append([x + y, x * y, np.tanh(x), np.maximum(x, y), x - 0.5][choice])
    cost = nodes[-1].sum() + (inputs[1] * 0).sum()
    feeds = {n: rng.normal(size=(2, 3)) for n in inputs[:1] if n in mf.Graph(cost)}

    def train(session: mf.Session) -> list[bytes]:
        losses = [session.step(feeds, optimizer) for _ in range(3)]
        run = session.run(feeds)
        found = [run[n] for n in session.graph] + [run.gradients[inputs[1]]]
        return [np.asarray(value).tobytes() for value in [*losses, *found]]

    optimizer = SGD(learning_rate=0.01)
    plain = train(mf.Session(cost))
    with mf.tracing(Recorder()) as recorder:
        observed = train(mf.Session(cost))

    assert observed == plain
    assert recorder.events


def test_an_unobserved_run_calls_no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a hook was fired")

    cost, feeds = network()
    monkeypatch.setattr(Observers, "fire", fail)

    loss = mf.Session(cost).step(feeds, SGD())

    assert np.isfinite(loss)


class Raising:
    @mf.hookimpl
    def mf_forward_finish(self, node: mf.Node) -> None:
        raise ValueError("my own fault")


def test_a_tracer_that_raises_is_detached_and_the_others_go_on() -> None:
    cost, feeds = network()
    session = mf.Session(cost)
    expected = session.run(feeds)[cost]

    with mf.tracing(Raising()), mf.tracing(Recorder()) as recorder:
        with pytest.warns(DetachedTracerWarning, match="Raising.* my own fault") as caught:
            value = session.run(feeds)[cost]
        session.run(feeds)

    assert value == expected
    assert len(caught) == 1
    assert len(recorder.of("mf_run_finish")) == 2


class Stopping:
    @mf.hookimpl
    def mf_forward_start(self, node: mf.Node) -> None:
        raise StopRun(f"stopped before {type(node).__name__}")


def test_a_tracer_can_stop_the_run_on_purpose() -> None:
    cost, feeds = network()

    with mf.tracing(Stopping()), pytest.raises(StopRun, match="stopped before Linear"):
        mf.Session(cost).run(feeds)


def test_other_threads_are_not_heard() -> None:
    cost, feeds = network()
    recorder = Recorder()

    with mf.tracing(recorder):
        thread = threading.Thread(target=lambda: mf.Session(cost).run(feeds))
        thread.start()
        thread.join()

    assert recorder.events == []


def test_a_plugin_registered_in_code_listens_to_every_run() -> None:
    x = mf.Input("x")
    packs = mf.Registry(autoload=False)
    recorder = Recorder()
    packs.register(recorder, "listening")

    with mf.registry.using(packs):
        mf.Session(x).run({x: 1.0})

    assert recorder.names()[-1] == "mf_run_finish"


def test_every_run_hook_is_of_one_kind() -> None:
    grouped = [hook for hooks in RUN_HOOKS.values() for hook in hooks]
    registration = {"mf_operations", "mf_optimizers", "mf_engines", "mf_tracers", "mf_commands"}

    assert sorted(grouped) == sorted(SPECS.keys() - registration)


def test_the_page_of_hooks_is_the_one_generated_from_the_specs() -> None:
    spec = importlib.util.spec_from_file_location("generate_hooks", DOCS / "generate_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)

    assert (DOCS / "hooks.md").read_text(encoding="utf-8") == generator.page()


@pytest.mark.parametrize("hook", SPECS)
def test_every_hook_is_documented_and_has_a_test(hook: str) -> None:
    page = (DOCS / "hooks.md").read_text(encoding="utf-8")
    tests = "".join(
        path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")
    )

    assert f"### `{hook}{inspect.signature(SPECS[hook])}".split(" ->")[0].replace("'", "") in page
    assert tests.count(hook) >= 1
    assert inspect.getdoc(SPECS[hook])
