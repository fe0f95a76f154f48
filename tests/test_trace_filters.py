"""Filters and tracers of sessions, trainings and threads: who hears what, and when."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import mfcore as mf
from mfcore import reference
from mfcore.errors import DetachedTracerWarning, FilterError, ObservedEngineWarning
from mfcore.filters import Filter
from mfcore.plugins import RUN_HOOKS
from mfcore.trace import parse_tracer
from mfops_nn import MSE, Linear, ReLU
from mfoptim import SGD, fit


class Heard:
    """Keeps the name of each hook with the node that it was about, or the step or phase."""

    def __init__(self):
        self.events = []

    def of(self, hook):
        return [about for name, about in self.events if name == hook]

    @mf.hookimpl
    def mf_sort_visit(self, graph, node):
        self.events.append(("sort", graph.name(node)))

    @mf.hookimpl
    def mf_run_start(self, phase):
        self.events.append(("run", phase))

    @mf.hookimpl
    def mf_forward_finish(self, graph, node):
        self.events.append(("forward", graph.name(node)))

    @mf.hookimpl
    def mf_backward_start(self, graph, node):
        self.events.append(("backward", graph.name(node)))

    @mf.hookimpl
    def mf_step_finish(self, step):
        self.events.append(("step", step))

    @mf.hookimpl
    def mf_epoch_finish(self, epoch):
        self.events.append(("epoch", epoch))


class Network:
    """Two layers, a batch for them, and a session on them."""

    def __init__(self, engine="reference", **options):
        rng = np.random.default_rng(0)
        X, y = mf.Input("X"), mf.Input("y")
        W, b = mf.Parameter(rng.normal(size=(3, 4)), name="W1"), mf.Parameter(np.zeros(4), name="b")
        V, c = mf.Parameter(rng.normal(size=(4, 1)), name="W2"), mf.Parameter(np.zeros(1), name="c")
        self.first = Linear(X, W, b)
        self.cost = MSE(y, Linear(ReLU(self.first), V, c))
        self.feeds = {X: rng.normal(size=(5, 3)), y: rng.normal(size=5)}
        self.session = mf.Session(self.cost, engine=engine, **options)

    def train(self, steps=1):
        return [self.session.step(self.feeds, SGD_) for _ in range(steps)]


SGD_ = SGD(learning_rate=0.05)


def heard(act, **filters):
    tracer = Heard()
    with mf.tracing(tracer, **filters):
        act()
    return tracer


# Each filter


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"nodes": "linear_*"}, {"linear_1", "linear_2"}),
        ({"nodes": ["W?", "b"]}, {"W1", "W2", "b"}),
        ({"operations": "Linear"}, {"linear_1", "linear_2"}),
        ({"operations": "mfops_nn.ReLU"}, {"re_lu_1"}),
        ({"operations": ["mfops_nn.*", "Parameter"], "nodes": "*1"},
         {"linear_1", "re_lu_1", "mse_1", "W1"}),
        ({"operations": Linear}, {"linear_1", "linear_2"}),
        ({"operations": mf.Parameter}, {"W1", "W2", "b", "c"}),
        ({"nodes": "nothing"}, set()),
    ],
    ids=str,
)  # fmt: skip
def test_nodes_are_chosen_by_name_and_operation(filters, expected):
    network = Network()

    tracer = heard(network.train, **filters)

    assert set(tracer.of("forward")) == expected
    assert set(tracer.of("backward")) == expected
    assert tracer.of("run") == ["forward", "backward"]


def test_a_node_itself_is_a_filter():
    network = Network()

    tracer = heard(network.train, nodes=network.first)

    assert tracer.of("forward") == ["linear_1"]


@pytest.mark.parametrize(
    ("phases", "expected"),
    [
        ("sort", {"sort"}),
        ("forward", {"run", "forward"}),
        ("backward", {"run", "backward"}),
        ("training", {"step", "epoch"}),
        (["sort", "training"], {"sort", "step", "epoch"}),
        ([], set()),
    ],
    ids=str,
)
def test_phases_are_chosen(phases, expected):
    network = Network()

    def act():
        fit(network.cost, network.feeds, SGD_, epochs=1, engine="reference")

    assert {hook for hook, _ in heard(act, phases=phases).events} == expected


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(2, [1, 2]), (range(2, 4), [2, 3]), ({4}, [4]), ([1, 9], [1]), (range(3), [1, 2]), ((), [])],
    ids=str,
)
@pytest.mark.parametrize("engine", ["reference", None])
def test_steps_are_chosen_by_their_numbers_and_runs_outside_are_not_heard(engine, steps, expected):
    network = Network(engine=engine)

    def act():
        network.session.run(network.feeds).backward()
        network.train(4)

    tracer = heard(act, steps=steps)

    assert tracer.of("step") == expected
    assert tracer.of("run") == ["forward", "backward"] * len(expected)
    assert tracer.of("forward").count("mse_1") == len(expected)


def test_a_later_backward_of_a_run_is_no_part_of_a_step():
    network = Network()

    def act():
        network.train(1)
        network.session.run(network.feeds).backward()

    assert heard(act, steps=[1, 2]).of("run") == ["forward", "backward"]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"phases": "forwards"}, "no phase 'forwards'; phases are"),
        ({"phases": None}, "no phase None"),
        ({"nodes": 3}, "nodes must be names"),
        ({"nodes": ["W1", 3]}, "not int 3"),
        ({"operations": int}, "operations must be names"),
        ({"operations": 1.5}, "not float 1.5"),
        ({"steps": "all"}, "steps must be a number of steps"),
        ({"steps": -1}, "not -1"),
        ({"steps": True}, "not True"),
    ],
    ids=str,
)
def test_filters_that_make_no_sense_are_errors(filters, message):
    with pytest.raises(FilterError, match=message), mf.tracing(Heard(), **filters):
        pytest.fail("entered")


def test_every_run_hook_has_a_place_in_the_filters():
    network = Network()
    graph, node = network.session.graph, network.first
    given = {"graph": graph, "node": node, "source": node, "phase": "forward"}
    for phase in ("sort", "forward", "backward", "training"):
        one, others = Filter(phases=phase), Filter(phases=[])
        passing = [
            hook
            for hooks in RUN_HOOKS.values()
            for hook in hooks
            if one.passes(hook, {**given, "phase": phase})
        ]
        assert passing
        assert not any(others.passes(hook, given) for hook in passing)


# Steps that nobody wants to hear of run as if nobody listened


@pytest.fixture
def observed(monkeypatch):
    """Count the passes that are observed node by node."""
    counts = {"forward_observed": 0, "backward_observed": 0}
    for name in counts:
        original = getattr(reference.ReferenceProgram, name)

        def counting(self, *given, name=name, original=original):
            counts[name] += 1
            return original(self, *given)

        monkeypatch.setattr(reference.ReferenceProgram, name, counting)
    return counts


@pytest.mark.parametrize("engine", ["reference", None])
def test_unwanted_steps_are_not_observed(observed, engine):
    network = Network(engine=engine)

    heard(lambda: network.train(5), steps=[2, 3])

    assert observed == {"forward_observed": 2, "backward_observed": 2}


@pytest.mark.parametrize("filters", [{"phases": "training"}, {"phases": "sort"}], ids=str)
def test_who_hears_no_pass_observes_none(observed, filters):
    heard(lambda: Network().train(2), **filters)

    assert set(observed.values()) == {0}


def test_a_tracer_says_itself_which_runs_it_wants(observed):
    class Second(Heard):
        def wants_run(self, step):
            return step == 2

    tracer = Second()
    with mf.tracing(tracer):
        Network().train(3)

    assert tracer.of("step") == [1, 2, 3]
    assert tracer.of("forward").count("mse_1") == 1
    assert observed["forward_observed"] == 1


def test_a_tracer_whose_wants_run_raises_is_detached():
    class Faulty(Heard):
        def wants_run(self, step):
            raise ZeroDivisionError("oh dear")

    tracer = Faulty()
    with mf.tracing(tracer), pytest.warns(DetachedTracerWarning, match="in wants_run"):
        Network().train(2)

    assert not tracer.of("forward")


@pytest.mark.parametrize("steps", [[3], [1], [6], range(2, 5), [2, 7, 8], [40], []], ids=str)
def test_an_epoch_is_compiled_around_the_steps_that_are_heard(steps):
    losses, parameters = [], []
    for filters in ({}, {"steps": steps}):
        network = Network(engine=None)
        rows = np.arange(40).reshape(8, 5) % 5
        tracer = Heard()
        if filters:
            with mf.tracing(tracer, **filters):
                losses.append(network.session.epoch(network.feeds, SGD_, rows))
            assert tracer.of("step") == [step for step in steps if step <= 8]
        else:
            losses.append(network.session.epoch(network.feeds, SGD_, rows))
        parameters.append(network.session.parameters.values())
        assert network.session.steps == 8

    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-12)
    for one, other in zip(*parameters, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-14)


def test_an_engine_that_cannot_be_observed_says_so_once_and_then_goes_on_itself():
    network = Network(engine="numpy")

    with pytest.warns(ObservedEngineWarning, match="cannot be observed") as caught:
        heard(lambda: network.train(3), steps=[1, 2])

    assert len(caught) == 1
    assert network.session.run(network.feeds).engine == "numpy"


# Sessions and trainings with tracers of their own


def test_a_tracer_of_a_session_hears_that_session_alone():
    tracer = Heard()
    mine, other = Network(tracers=[tracer]), Network()

    other.train()
    assert {hook for hook, _ in tracer.events} == {"sort"}
    mine.train()

    assert tracer.of("forward").count("mse_1") == 1
    assert mine.session.tracers == (tracer,)


def test_tracers_of_a_session_block_and_training_all_hear():
    tracers = [Heard(), Heard(), Heard()]
    network = Network(tracers=tracers[:1])

    with mf.tracing(tracers[1]):
        fit(
            network.cost,
            network.feeds,
            SGD_,
            epochs=2,
            session=network.session,
            tracers=tracers[2:],
        )

    for tracer in tracers:
        assert tracer.of("epoch") == [1, 2]
        assert tracer.of("step") == [1, 2]


def test_fit_without_a_session_lets_its_tracers_hear_the_sort():
    network, tracer = Network(), Heard()

    fit(network.cost, network.feeds, SGD_, epochs=1, tracers=[tracer], engine="reference")

    assert tracer.of("sort")
    assert tracer.of("epoch") == [1]
    network.train()
    assert tracer.of("step") == [1]


@pytest.mark.parametrize("close", ["close", "with", "gone"])
def test_tracers_that_a_session_made_by_name_are_closed(tmp_path, close):
    path = tmp_path / "run.jsonl"
    network = Network(tracers=[f"record:path={path}"])
    (tracer,) = network.session.tracers

    if close == "with":
        with network.session:
            network.train(2)
    else:
        network.train(2)
        if close == "close":
            network.session.close()
            network.session.close()
        else:
            network.session._finalizer()

    assert len(tracer.recording.steps) == 2


def test_a_tracer_that_cannot_be_made_closes_those_that_were(tmp_path):
    path = tmp_path / "run.jsonl"

    with pytest.raises(mf.errors.UnknownNameError):
        Network(tracers=[f"record:path={path}", "nameless"])

    assert '"event":"end"' in path.read_text()


def test_two_threads_that_trace_two_sessions_do_not_mix():
    results = {}
    barrier = threading.Barrier(2)

    def work(steps):
        network = Network()
        with mf.tracing("record") as record:
            barrier.wait()
            losses = network.train(steps)
        results[steps] = losses, record.recording

    threads = [threading.Thread(target=work, args=(steps,)) for steps in (20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for steps, (losses, recording) in results.items():
        assert recording.losses.tolist() == losses
        assert [step.number for step in recording.steps] == list(range(1, steps + 1))
        assert len(recording.passes) == 2 * steps


def test_all_tracers_at_once_change_no_bit():
    expected = Network()
    losses = expected.train(12)
    network = Network(tracers=["record", "gradients"])

    with mf.tracing("profile"), mf.tracing("record", every=5), mf.tracing("guard"):
        observed_losses = network.train(12)

    assert observed_losses == losses
    for one, other in zip(
        expected.session.parameters.values(), network.session.parameters.values(), strict=True
    ):
        assert one.tobytes() == other.tobytes()


# Names with options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("console", ("console", {})),
        ("record:path=run.jsonl,every=10", ("record", {"path": "run.jsonl", "every": 10})),
        ("guard:replay=true,inf=False", ("guard", {"replay": True, "inf": False})),
        ("p.console:nodes=['a,b', \"c\"],limit=3",
         ("p.console", {"nodes": ["a,b", "c"], "limit": 3})),
        ("x:steps=range(2, 9, 3)", ("x", {"steps": range(2, 9, 3)})),
        ("x:path=C:/a=b", ("x", {"path": "C:/a=b"})),
        ("x:my-option=-1.5", ("x", {"my_option": -1.5})),
        ("x:steps=range(1,2,0)", ("x", {"steps": "range(1,2,0)"})),
    ],
)  # fmt: skip
def test_a_name_with_options_is_read(text, expected):
    assert parse_tracer(text) == expected


@pytest.mark.parametrize("text", ["record:path", "record:", "record:=3", "record:a b=3", "x:,"])
def test_options_that_are_none_are_errors(text):
    with pytest.raises(FilterError, match="is not of the form option=value"):
        parse_tracer(text)


@pytest.mark.parametrize("name", ["console", "record", "profile", "gradients", "guard"])
def test_every_tracer_is_found_by_name_and_takes_every_filter(name, capsys):
    with mf.tracing(name, nodes="linear_*", operations="Linear", phases="backward", steps=2) as t:
        Network().train(3)

    assert type(t).name == name
    if name == "console":
        assert "linear_2 = Linear" in (printed := capsys.readouterr().out)
        assert "mse_1 = MSE" not in printed
    if name == "record":
        assert [len(p) for p in t.recording.passes] == [2, 2]
