"""Hooks: each one fires, in order and with its documented arguments; each one is documented."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
from plain_optimizers import Descent

import mfcore as mf
import mfops_basic as ops
from mfcore import hookspecs
from mfcore.plugins import RUN_HOOKS
from mfcore.registry import Registry, observers

pytestmark = pytest.mark.usefixtures("core_packs")

REGISTRATION = (
    *("mf_operations", "mf_optimizers", "mf_schedules", "mf_engines", "mf_tracers", "mf_drawers"),
    "mf_commands",
)
FILES = ("mf_file_compatibility", "mf_file_migration")
SPECS = [name for name in vars(hookspecs) if name.startswith("mf_")]
DOCS = Path(__file__).parents[1] / "docs"


class Recorder:
    """Implements every run hook with all its arguments, and keeps what it is told."""

    def __init__(self):
        self.events = []

    def names(self):
        return [name for name, _ in self.events]

    def of(self, hook):
        return [arguments for name, arguments in self.events if name == hook]


def _recording(hook):
    arguments = list(inspect.signature(getattr(hookspecs, hook)).parameters)
    source = f"def {hook}(self, {', '.join(arguments)}):\n    note(self, locals())"

    def note(self, given):
        self.events.append((hook, {name: given[name] for name in arguments}))

    namespace = {"note": note}
    exec(source, namespace)
    return mf.hookimpl(namespace[hook])


for _hook in SPECS:
    if _hook not in (*REGISTRATION, *FILES):
        setattr(Recorder, _hook, _recording(_hook))


class Example:
    """cost = x * W + x, of which x is an input that is read twice."""

    def __init__(self):
        self.x, self.W = mf.Input("x"), mf.Parameter(3.0, name="W")
        self.product = ops.Mul(self.x, self.W)
        self.cost = ops.Add(self.product, self.x)


@pytest.fixture
def example():
    return Example()


@pytest.fixture
def recorded(example):
    """What is told of one forward and one backward pass of the example."""
    session = mf.Session(example.cost)
    recorder = Recorder()
    with mf.tracing(recorder):
        run = session.run({example.x: 2.0})
        run.backward(wrt=[example.W, example.x])
    recorder.session, recorder.run = session, run
    return recorder


# Sorting


@pytest.fixture
def sorted_example(example):
    recorder = Recorder()
    with mf.tracing(recorder):
        recorder.graph = mf.Graph(example.cost)
    return recorder


def test_mf_sort_start_fires_first_when_a_graph_is_built(sorted_example):
    assert sorted_example.events[0] == ("mf_sort_start", {"graph": sorted_example.graph})
    assert len(sorted_example.of("mf_sort_start")) == 1


def test_mf_sort_visit_fires_for_each_node_in_order(sorted_example):
    graph = sorted_example.graph

    assert sorted_example.of("mf_sort_visit") == [
        {"graph": graph, "node": node, "position": i} for i, node in enumerate(graph)
    ]


def test_mf_sort_edge_fires_for_each_edge_that_a_visit_removes(sorted_example, example):
    graph, x, W = sorted_example.graph, example.x, example.W
    product, cost = example.product, example.cost

    assert sorted_example.of("mf_sort_edge") == [
        {"graph": graph, "source": x, "target": product, "remaining": 1},
        {"graph": graph, "source": x, "target": cost, "remaining": 1},
        {"graph": graph, "source": W, "target": product, "remaining": 0},
        {"graph": graph, "source": product, "target": cost, "remaining": 0},
    ]
    visit, edge = "mf_sort_visit", "mf_sort_edge"
    assert sorted_example.names()[1:-1] == [visit, edge, edge, visit, edge, visit, edge, visit]


def test_mf_sort_finish_fires_last(sorted_example):
    assert sorted_example.events[-1] == ("mf_sort_finish", {"graph": sorted_example.graph})
    assert len(sorted_example.of("mf_sort_finish")) == 1


def test_a_sort_that_an_observer_hears_is_kahn_s_algorithm(sorted_example):
    waiting = {node: len(node.inputs) for node in sorted_example.graph}
    for name, event in sorted_example.events:
        if name == "mf_sort_visit":
            assert waiting[event["node"]] == 0
        if name == "mf_sort_edge":
            waiting[event["target"]] -= 1
            assert waiting[event["target"]] == event["remaining"]
    assert set(waiting.values()) == {0}


# A run


def about(recorded, phase):
    session = recorded.session
    return {"session": session, "run": recorded.run, "phase": phase, "graph": session.graph}


def test_mf_run_start_fires_before_each_pass(recorded):
    assert recorded.of("mf_run_start") == [about(recorded, "forward"), about(recorded, "backward")]
    assert recorded.names()[0] == "mf_run_start"


def test_mf_run_finish_fires_after_each_pass(recorded):
    assert recorded.of("mf_run_finish") == [about(recorded, "forward"), about(recorded, "backward")]
    assert recorded.names()[-1] == "mf_run_finish"


def test_mf_forward_start_fires_before_each_operation_with_its_inputs(recorded, example):
    graph, run = recorded.session.graph, recorded.run

    assert recorded.of("mf_forward_start") == [
        {"run": run, "graph": graph, "node": example.product,
         "inputs": {"factors[0]": 2.0, "factors[1]": 3.0}},
        {"run": run, "graph": graph, "node": example.cost,
         "inputs": {"terms[0]": 6.0, "terms[1]": 2.0}},
    ]  # fmt: skip


def test_mf_forward_finish_fires_for_every_node_with_its_value(recorded, example):
    graph, run = recorded.session.graph, recorded.run

    assert recorded.of("mf_forward_finish") == [
        {"run": run, "graph": graph, "node": example.x, "inputs": {}, "value": 2.0},
        {"run": run, "graph": graph, "node": example.W, "inputs": {}, "value": 3.0},
        {"run": run, "graph": graph, "node": example.product,
         "inputs": {"factors[0]": 2.0, "factors[1]": 3.0}, "value": 6.0},
        {"run": run, "graph": graph, "node": example.cost,
         "inputs": {"terms[0]": 6.0, "terms[1]": 2.0}, "value": 8.0},
    ]  # fmt: skip


def test_mf_backward_start_fires_for_every_node_with_what_it_received(recorded, example):
    graph, run = recorded.session.graph, recorded.run

    assert recorded.of("mf_backward_start") == [
        {"run": run, "graph": graph, "node": example.cost, "received": ((None, 1.0),), "grad": 1.0},
        {"run": run, "graph": graph, "node": example.product,
         "received": ((example.cost, 1.0),), "grad": 1.0},
        {"run": run, "graph": graph, "node": example.W,
         "received": ((example.product, 2.0),), "grad": 2.0},
        {"run": run, "graph": graph, "node": example.x,
         "received": ((example.cost, 1.0), (example.product, 3.0)), "grad": 4.0},
    ]  # fmt: skip


def test_mf_backward_finish_fires_for_every_operation_with_what_it_sent(recorded, example):
    graph, run = recorded.session.graph, recorded.run

    assert recorded.of("mf_backward_finish") == [
        {"run": run, "graph": graph, "node": example.cost, "grad": 1.0,
         "sent": {"terms[0]": 1.0, "terms[1]": 1.0}},
        {"run": run, "graph": graph, "node": example.product, "grad": 1.0,
         "sent": {"factors[0]": 3.0, "factors[1]": 2.0}},
    ]  # fmt: skip


def test_a_run_is_told_in_the_order_in_which_it_happens(recorded):
    forward = ["mf_forward_start", "mf_forward_finish"]
    backward = ["mf_backward_start", "mf_backward_finish"]

    assert recorded.names() == [
        "mf_run_start", "mf_forward_finish", "mf_forward_finish", *forward, *forward,
        "mf_run_finish",
        "mf_run_start", *backward, *backward, "mf_backward_start", "mf_backward_start",
        "mf_run_finish",
    ]  # fmt: skip


def test_what_was_not_wanted_is_told_as_none_and_in_shape_and_dtype_of_the_input(example):
    x, b = mf.Input("x"), mf.Parameter(np.zeros(3, np.float32), name="b")
    cost = (x + b).sum()
    recorder = Recorder()
    with mf.tracing(recorder):
        mf.Session(cost).run({x: np.ones((4, 3))}).backward()

    sent = recorder.of("mf_backward_finish")[-1]["sent"]
    assert sent["terms[0]"] is None
    np.testing.assert_array_equal(sent["terms[1]"], np.full(3, 4, np.float32), strict=True)


def test_observers_are_told_arrays_even_of_python_numbers():
    x = mf.Input("x")
    recorder = Recorder()
    with mf.tracing(recorder):
        mf.Session(x * 2).run({x: 1.5})

    told = [e["value"] for e in recorder.of("mf_forward_finish")]
    told += [v for e in recorder.of("mf_forward_start") for v in e["inputs"].values()]
    assert {isinstance(value, (np.ndarray, np.generic)) for value in told} == {True}


def test_a_pass_that_raises_is_started_but_not_finished():
    x = mf.Input("x")
    session = mf.Session(ops.MatMul(x, x))
    recorder = Recorder()
    with mf.tracing(recorder), pytest.raises(mf.errors.ForwardError):
        session.run({x: np.ones((2, 3))})

    assert recorder.names() == ["mf_run_start", "mf_forward_finish", "mf_forward_start"]


# Training


@pytest.fixture
def stepped(example):
    session = mf.Session(example.cost)
    recorder = Recorder()
    with mf.tracing(recorder):
        recorder.losses = [session.step({example.x: 2.0}, Descent()) for _ in range(2)]
    recorder.session = session
    return recorder


def test_mf_step_start_fires_before_a_step_counted_from_one(stepped):
    assert stepped.of("mf_step_start") == [
        {"session": stepped.session, "step": 1},
        {"session": stepped.session, "step": 2},
    ]
    assert stepped.names()[0] == "mf_step_start"


def test_mf_step_finish_fires_after_a_step_with_its_loss(stepped):
    assert stepped.of("mf_step_finish") == [
        {"session": stepped.session, "step": 1, "loss": stepped.losses[0]},
        {"session": stepped.session, "step": 2, "loss": stepped.losses[1]},
    ]
    assert stepped.names()[-1] == "mf_step_finish"


def test_the_parameters_are_updated_when_mf_step_finish_fires(example):
    seen = []

    class Watch:
        @mf.hookimpl
        def mf_step_start(self, session):
            seen.append(float(session["W"]))

        @mf.hookimpl
        def mf_step_finish(self, session):
            seen.append(float(session["W"]))

    session = mf.Session(example.cost)
    with mf.tracing(Watch()):
        session.step({example.x: 2.0}, Descent())

    assert seen == [3.0, 2.0]


@pytest.mark.parametrize(
    ("hook", "arguments"),
    [
        ("mf_epoch_start", {"session": "session", "epoch": 1}),
        ("mf_epoch_finish", {"session": "session", "epoch": 1, "logs": {"loss": 2.0}}),
    ],
)
def test_mf_epoch_start_and_mf_epoch_finish_reach_who_listens_to_training(hook, arguments):
    recorder = Recorder()
    with mf.tracing(recorder):
        observers("training").fire(hook, **arguments)

    assert recorder.events == [(hook, arguments)]


# Registration


@pytest.mark.parametrize("hook", REGISTRATION)
def test_registration_hooks_are_called_once_per_registry_when_a_pack_is_loaded(hook):
    calls = []

    class Plugin:
        pass

    def implementation(self):
        calls.append(hook)
        return []

    setattr(Plugin, hook, mf.hookimpl(implementation))
    for count in (1, 2):
        registry = Registry(autoload=False)
        registry.register(Plugin(), "mine")
        registry.all("operation")
        if hook == "mf_commands":
            registry.commands()
        assert calls == [hook] * count


# Files


def test_mf_file_compatibility_and_mf_file_migration_are_asked_of_one_pack_alone():
    class Plugin:
        @mf.hookimpl
        def mf_file_compatibility(self, names, saved):
            return f"{saved} {names}"

        @mf.hookimpl
        def mf_file_migration(self, name):
            return f"no longer {name}", {}

    class Other:
        @mf.hookimpl
        def mf_file_compatibility(self):
            raise AssertionError

    registry = Registry(autoload=False)
    registry.register(Plugin(), "mine")
    registry.register(Other(), "other")
    registry.register(object(), "silent")
    rule = registry.hook_of("mine", "mf_file_compatibility")
    migration = registry.hook_of("mine", "mf_file_migration")

    assert rule(saved="1.0", installed="2.0", names=("A",)) == "1.0 ('A',)"
    assert migration(saved="1.0", name="A", hyperparameters={}) == ("no longer A", {})
    assert registry.hook_of("silent", "mf_file_compatibility") is None
    assert registry.hook_of("absent", "mf_file_compatibility") is None


# Who listens


class Listener(Recorder):
    """A plugin that a pack registers and that listens by itself."""


def test_a_registered_plugin_that_implements_run_hooks_listens(example):
    listener = Listener()
    registry = Registry(autoload=False)
    registry.register(listener, "listener")
    session = mf.Session(example.cost)

    with mf.registry.using(registry):
        run = session.run({example.x: 2.0})
    heard = listener.names()
    session.run({example.x: 2.0})

    assert heard[0] == "mf_run_start"
    assert heard.count("mf_forward_finish") == 4
    assert listener.names() == heard
    assert run[example.cost] == 8


def test_a_plugin_may_take_any_subset_of_the_arguments(example):
    heard = []

    class Some:
        @mf.hookimpl
        def mf_forward_finish(self, node):
            heard.append(node)

        @mf.hookimpl
        def mf_run_finish(self):
            heard.append("done")

    with mf.tracing(Some()):
        mf.Session(example.cost).run({example.x: 1.0})

    assert heard == [*mf.Graph(example.cost), "done"]


def test_only_who_listens_to_a_kind_of_event_is_asked(example):
    class Sorts:
        @mf.hookimpl
        def mf_sort_start(self):
            """Hear of sorts only."""

    with mf.tracing(Sorts()):
        assert observers("sort")
        assert not observers("run")
        assert not observers("training")
    assert not observers("sort")


# Every hook has a test and a place in the docs


def test_every_spec_is_known_as_a_registration_or_run_hook():
    run_hooks = [hook for hooks in RUN_HOOKS.values() for hook in hooks]

    assert sorted(SPECS) == sorted([*REGISTRATION, *FILES, *run_hooks])
    assert len(run_hooks) == len(set(run_hooks))


@pytest.mark.parametrize("hook", SPECS)
def test_every_hook_has_a_test(hook):
    tests = [name for name in vars(sys.modules[__name__]) if name.startswith("test_")]

    assert hook in REGISTRATION or any(hook in name for name in tests)


@pytest.mark.parametrize("hook", SPECS)
def test_every_hook_is_typed_and_says_when_it_fires(hook):
    spec = getattr(hookspecs, hook)
    signature = inspect.signature(spec)

    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty
        assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    words = ("Return", "Called") if hook in (*REGISTRATION, *FILES) else ("Fires",)
    assert all(word in spec.__doc__ for word in words)


def generator():
    spec = importlib.util.spec_from_file_location("generate_hooks", DOCS / "generate_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_hooks_is_the_one_that_is_generated():
    page = (DOCS / "hooks.md").read_text(encoding="utf-8")

    assert page == generator().page(), "run `python docs/generate_hooks.py`"


@pytest.mark.parametrize("hook", SPECS)
def test_every_hook_is_documented_with_its_exact_signature(hook):
    page = (DOCS / "hooks.md").read_text(encoding="utf-8")
    block = page.partition(f"### `{hook}`\n\n```python\n")[2].partition("\n```")
    documented = ast.parse(f"def {block[0]}: ...").body[0]
    expected = inspect.signature(getattr(hookspecs, hook))

    assert documented.name == hook
    assert [a.arg for a in documented.args.args] == list(expected.parameters)
    assert [ast.unparse(a.annotation) for a in documented.args.args] == [
        parameter.annotation for parameter in expected.parameters.values()
    ]
    assert ast.unparse(documented.returns) == expected.return_annotation
    first = inspect.getdoc(getattr(hookspecs, hook)).splitlines()[0].replace("``", "`")
    assert first in block[2].partition("###")[0]


@pytest.mark.parametrize(
    "section", ["Registration", "Files", "Sorting a graph", "A run", "Training"]
)
def test_the_page_groups_hooks_by_section(section):
    assert f"\n## {section}" in (DOCS / "hooks.md").read_text(encoding="utf-8")
