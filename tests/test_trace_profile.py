"""The tracers profile and gradients: what they measure, on graphs whose answers are known."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

import mfcore as mf
from mfops_nn import MSE, Linear, ReLU
from mfoptim import SGD, fit
from mftrace import GradientWarning, RecordingError, TracerOptionError, profile
from mftrace.table import text_table


class Clock:
    """A clock that a test sets forward."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(profile, "perf_counter_ns", clock)
    return clock


def slow(clock, forward, backward):
    """Return an operation that takes so many seconds."""

    @mf.operation
    class Slow(mf.Node):
        x: mf.Node

        @staticmethod
        def forward(x):
            clock.now += int(forward * 1e9)
            return x * 1.0

        @staticmethod
        def backward(grad):
            clock.now += int(backward * 1e9)
            return grad * 1.0

    return Slow


def chain(clock):
    """Two slow operations, one after the other, and a third beside them, summed."""
    x = mf.Input("x")
    first = slow(clock, 1, 10)(x, name="first")
    second = slow(clock, 2, 20)(first, name="second")
    aside = slow(clock, 4, 40)(x, name="aside")
    return x, mf.Session((second + aside).sum(), engine="reference")


# profile


def test_own_and_inclusive_time_of_nodes(clock):
    x, session = chain(clock)
    with mf.tracing("profile") as tracer:
        session.run({x: np.ones(5)}).backward()

    times = {(row.name, row.phase): (row.own, row.inclusive) for row in tracer.rows("node")}

    assert times["first", "forward"] == (1, 1)
    assert times["second", "forward"] == (2, 3)
    assert times["aside", "forward"] == (4, 4)
    assert times["sum_1", "forward"] == (0, 7)
    assert times["second", "backward"] == (20, 20)
    assert times["first", "backward"] == (10, 30)
    assert times["sum_1", "backward"] == (0, 0)


def test_time_calls_and_bytes_of_operations(clock):
    x, session = chain(clock)
    with mf.tracing("profile") as tracer:
        for _ in range(2):
            session.run({x: np.ones(5)}).backward()

    rows = {(row.name.rpartition(".")[2], row.phase): row for row in tracer.rows("operation")}

    row = rows["Add", "forward"]
    assert (row.calls, row.own, row.inclusive, row.bytes) == (2, 0, 14, 2 * 40)
    names = [row.name.rpartition(".")[2] for row in tracer.rows("operation")]
    assert names[0] == "Slow"


def test_time_of_phases_steps_and_epochs(clock):
    X, W = mf.Input("X"), mf.Parameter(np.ones(3), name="W")
    cost = (slow(clock, 1, 10)(X) * W).sum()
    with mf.tracing("profile") as tracer:
        fit(cost, {X: np.ones((4, 3))}, SGD(0.1), epochs=2, batch_size=2, seed=0)

    rows = {row.name: row for row in tracer.rows("phase")}

    assert {name: row.calls for name, row in rows.items()} == {
        "epoch": 2, "step": 4, "forward": 4, "backward": 4
    }  # fmt: skip
    assert rows["epoch"].inclusive == 4
    assert rows["forward"].own == 0
    assert rows["forward"].bytes > 0


def test_a_pass_that_raises_does_not_count(clock):
    x = mf.Input("x")
    session = mf.Session(x @ mf.Constant(np.eye(2)), engine="reference")

    with mf.tracing("profile") as tracer:
        with pytest.raises(mf.errors.ForwardError):
            session.run({x: np.ones(3)})
        session.run({x: np.ones(2)})

    assert [(row.name, row.calls) for row in tracer.rows("phase")] == [("forward", 1)]


def test_the_table_shows_the_longest_first(clock):
    x, session = chain(clock)
    with mf.tracing("profile") as tracer:
        session.run({x: np.ones(5)})

    lines = tracer.table(limit=2).splitlines()

    assert lines[0].split()[:3] == ["node", "phase", "calls"]
    assert lines[1].split()[:5] == ["aside", "forward", "1", "4000.000", "4000.000"]
    assert lines[2].split()[:5] == ["second", "forward", "1", "2000.000", "3000.000"]
    assert lines[3] == "and 3 more"
    assert str(tracer) == tracer.table()
    assert tracer.table("phase").splitlines()[1].split()[:2] == ["forward", "1"]


def test_the_trace_file_is_what_chrome_and_perfetto_read(clock, tmp_path):
    path = tmp_path / "trace.json"
    x, session = chain(clock)
    with mf.tracing("profile", path=path):
        session.run({x: np.ones(5)}).backward()

    trace = json.loads(path.read_text())
    spans = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    by_name = {event["name"]: event for event in spans if event["cat"] != "node"}
    nodes = [event for event in spans if event["cat"] == "node"]

    for event in trace["traceEvents"]:
        assert {"name", "ph", "pid", "tid", "args"} <= event.keys()
    assert all(event["ts"] >= 0 and event["dur"] >= 0 for event in spans)
    assert by_name["forward"]["dur"] == 7e6  # microseconds
    assert by_name["backward"]["ts"] == 7e6
    for event in nodes:
        outer = by_name["forward" if event["ts"] < 7e6 else "backward"]
        assert outer["ts"] <= event["ts"]
        assert event["ts"] + event["dur"] <= outer["ts"] + outer["dur"]
    first = next(event for event in nodes if event["name"] == "first")
    assert (first["ts"], first["dur"]) == (0, 1e6)
    assert first["args"]["operation"].endswith("Slow")
    assert __file__ in first["args"]["built at"]


def test_a_trace_file_that_is_full_says_what_it_left_out(tmp_path):
    path = tmp_path / "trace.json"
    x = mf.Input("x")
    with mf.tracing("profile", path=path, limit=3):
        for _ in range(4):
            mf.Session(x * 2.0, engine="reference").run({x: 1.0})

    events = json.loads(path.read_text())["traceEvents"]

    assert sum(event["ph"] == "X" for event in events) == 3
    assert [e["args"] for e in events if e["name"] == "dropped"] == [{"events": 5}]


def test_a_file_that_cannot_be_written_is_told_before_anything_runs(tmp_path):
    with pytest.raises(RecordingError, match="cannot be written"):
        profile.ProfileTracer(path=tmp_path / "nowhere" / "trace.json")


def test_inclusive_times_of_large_graphs_are_left_out(clock, monkeypatch):
    monkeypatch.setattr(profile, "LARGE", 4)
    x, session = chain(clock)
    with mf.tracing("profile") as tracer:
        session.run({x: np.ones(5)})

    assert all(np.isnan(row.inclusive) for row in tracer.rows())


@pytest.mark.parametrize("options", [{"limit": -1}, {"limit": "many"}], ids=str)
def test_options_of_profile_that_make_no_sense_are_errors(options):
    with pytest.raises(TracerOptionError, match="limit must be"):
        profile.ProfileTracer(**options)


def test_a_table_by_nothing_that_there_is():
    with mf.tracing("profile") as tracer:
        pass
    with pytest.raises(TracerOptionError, match="by must be one of"):
        tracer.rows("moon")


def test_tables_align_words_left_and_numbers_right():
    assert text_table(["a", "b", "c"], [["x", "yy", "1"], ["zzz", "y", "22"]], left=2) == (
        "a    b    c\nx    yy   1\nzzz  y   22"
    )


# gradients


def test_norms_and_update_ratios_are_those_of_the_formulas():
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(8, 3)), rng.normal(size=(8, 1))
    X, y = mf.Input("X"), mf.Input("y")
    W, b = mf.Parameter(rng.normal(size=(3, 1)), name="W"), mf.Parameter([0.5], name="b")
    session = mf.Session(MSE(y, Linear(X, W, b)), engine="reference")
    expected = []

    with mf.tracing("gradients") as tracer:
        for _ in range(5):
            w = session[W]
            slope = 2 * A.T @ (A @ w + session[b] - B) / 8
            expected.append(
                (np.linalg.norm(slope), 0.1 * np.linalg.norm(slope) / np.linalg.norm(w))
            )
            session.step({X: A, y: B}, SGD(learning_rate=0.1))

    np.testing.assert_allclose(tracer.norms["W"], [norm for norm, _ in expected], rtol=1e-10)
    np.testing.assert_allclose(tracer.ratios["W"], [ratio for _, ratio in expected], rtol=1e-10)
    assert tracer.steps["W"].tolist() == [1, 2, 3, 4, 5]
    (row,) = [row for row in tracer.rows if row.name == "W"]
    assert (row.steps, row.not_finite) == (5, 0)
    assert row.largest == tracer.norms["W"].max()
    assert tracer.table().splitlines()[0].startswith("parameter")


def scalar(slope):
    """A session whose only gradient is a given number, and how to train it."""
    x, w = mf.Input("x"), mf.Parameter(1.0, name="w")
    session = mf.Session(x * w, engine="reference")
    return session, lambda: session.step({x: slope}, SGD(learning_rate=0.0))


@pytest.mark.parametrize(
    ("slope", "word"),
    [(1e-9, "vanishes"), (0.0, "vanishes"), (1e4, "explodes"), (np.nan, "explodes"),
     (np.inf, "explodes")],
)  # fmt: skip
def test_gradients_that_vanish_or_explode_are_warned_of_once(slope, word):
    _, train = scalar(slope)

    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always", GradientWarning)
        with mf.tracing("gradients", patience=3):
            for step in range(8):
                train()
                assert len(caught) == (step >= 2)

    assert f"the gradient of w {word}" in str(caught[0].message)
    assert "at step 3" in str(caught[0].message)


def test_ordinary_gradients_are_not_warned_of():
    _, train = scalar(0.5)

    with mf.tracing("gradients", patience=1) as tracer:
        train()

    assert tracer.norms["w"].tolist() == [0.5]


def test_the_bounds_and_the_patience_are_options():
    _, train = scalar(0.5)

    with mf.tracing("gradients", patience=1, exploding=0.4), pytest.warns(GradientWarning):
        train()
    with mf.tracing("gradients", patience=1, vanishing=0.6, warn=False):
        train()


def network(bias):
    rng = np.random.default_rng(0)
    X, y = mf.Input("X"), mf.Input("y")
    W = mf.Parameter(rng.normal(size=(3, 4)), name="W1")
    b = mf.Parameter(bias, name="b1")
    V, c = mf.Parameter(rng.normal(size=(4, 1)), name="W2"), mf.Parameter([0.0], name="b2")
    cost = MSE(y, Linear(ReLU(Linear(X, W, b)), V, c))
    A = rng.normal(size=(12, 3))
    return cost, {X: A, y: A.sum(axis=1)}


def test_units_that_never_answer_in_an_epoch_are_dead():
    cost, data = network([0.0, -100.0, 0.0, -100.0])

    with mf.tracing("gradients") as tracer, pytest.warns(GradientWarning, match="2 of the 4 units"):
        fit(cost, data, SGD(0.001), epochs=2, batch_size=4, seed=0)

    assert [dead.tolist() for dead in tracer.dead["re_lu_1"]] == [[1, 3], [1, 3]]
    assert "dead units of re_lu_1 in the last epoch: 1, 3" in tracer.table()


def test_a_unit_that_answers_once_in_an_epoch_is_alive():
    cost, data = network([0.0, 0.0, 0.0, 0.0])

    with mf.tracing("gradients") as tracer:
        fit(cost, data, SGD(0.001), epochs=1, batch_size=1, seed=0)

    assert [dead.tolist() for dead in tracer.dead["re_lu_1"]] == [[]]


def test_every_watches_some_steps_and_runs_outside_are_not_watched():
    session, train = scalar(0.5)

    with mf.tracing("gradients", every=2) as tracer:
        for _ in range(5):
            train()
        session.run({"x": 3.0}).backward()

    assert tracer.steps["w"].tolist() == [1, 3, 5]


def test_norms_do_not_overflow():
    _, train = scalar(1e200)

    with mf.tracing("gradients") as tracer:
        train()

    assert tracer.norms["w"][0] == pytest.approx(1e200)


@pytest.mark.parametrize(
    "options", [{"patience": 0}, {"every": 1.5}, {"vanishing": -1}, {"exploding": "much"}], ids=str
)
def test_options_of_gradients_that_make_no_sense_are_errors(options):
    with pytest.raises(TracerOptionError, match="must be"), mf.tracing("gradients", **options):
        pytest.fail("entered")
