"""The benchmarks' harness: its check that can fail, its verdicts, and what it says of the missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import harness, packs, scalars, table
from benchmarks.boston import problem
from benchmarks.boston_by_hand import by_hand
from benchmarks.harness import Bar, Contender, Limit, Skipped, UnavailableError
from benchmarks.mlp import Training, miniflow_epochs, miniflow_steps, start_of
from benchmarks.workload import Workload, run_workload


def constant(name, value=1.0, **more):
    return Contender(name, lambda: lambda: [value], **more)


@pytest.fixture
def results(monkeypatch, tmp_path):
    """The folder that measurements are saved in, for one test."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    return tmp_path


# The check


def test_contenders_that_agree_within_the_tolerance_pass():
    harness.check_same_losses({"one": [1.0, 2.0], "two": [1.0, 2.0 + 1e-9]}, rtol=1e-8)


@pytest.mark.parametrize("losses", [[1.0, 2.1], [1.0, np.nan], [1.0], [1.0, 2.0, 3.0]])
def test_a_contender_with_other_losses_is_caught(losses):
    with pytest.raises(AssertionError, match=r"(?s)two computes other losses than one|1"):
        harness.check_same_losses({"one": [1.0, 2.0], "two": losses}, rtol=1e-8)


def test_losses_that_are_not_finite_prove_nothing():
    with pytest.raises(AssertionError, match="one computes losses that are not finite"):
        harness.check_same_losses({"one": [np.nan], "two": [np.nan]}, rtol=1e-8)


def test_a_contender_that_reports_one_number_is_held_to_the_mean():
    harness.check_same_losses({"one": [1.0, 3.0], "two": [2.0]}, rtol=1e-8)
    with pytest.raises(AssertionError, match="two computes other losses"):
        harness.check_same_losses({"one": [1.0, 3.0], "two": [3.0]}, rtol=1e-8)


def test_a_workload_with_a_wrong_contender_is_not_timed(results):
    workload = Workload(
        name="made-up",
        title="",
        steps=1,
        baseline="one",
        rtol=1e-8,
        contenders=[constant("one"), constant("two", 2.0)],
    )
    with pytest.raises(AssertionError, match="two computes other losses than one"):
        run_workload(workload, quick=True)
    assert not list(results.iterdir())


# Who cannot run


def broken():
    raise RuntimeError("no such thing\nand more")


def unavailable():
    raise UnavailableError("engine 'x' is not available")


def test_contenders_that_cannot_run_are_skipped_with_the_reason():
    contenders = [
        constant("fine"),
        constant("missing", needs=("no_such_module",)),
        Contender("unavailable", unavailable),
        Contender("broken", broken),
    ]
    runs, values, skipped = harness.start_all(contenders)
    assert list(runs) == ["fine"]
    assert values == {"fine": [1.0]}
    reasons = {skip.name: skip.reason for skip in skipped}
    assert reasons["missing"].startswith("skipped: no_such_module is not installed")
    assert reasons["unavailable"] == "skipped: engine 'x' is not available"
    assert reasons["broken"] == "FAILED: RuntimeError: no such thing"


def test_a_workload_says_whether_all_that_started_worked(results, capsys):
    def workload(*contenders):
        return Workload(
            name="made-up",
            title="nothing",
            steps=1,
            baseline="one",
            rtol=1e-8,
            seconds=0.0,
            contenders=[constant("one"), *contenders],
        )

    assert run_workload(workload(constant("two", needs=("no_such_module",))), quick=True)
    assert not run_workload(workload(Contender("two", broken)), quick=True)
    assert "no_such_module is not installed" in capsys.readouterr().out
    saved = json.loads((results / "made-up.json").read_text())
    assert saved["measured"]["skipped"] == [
        {"name": "two", "reason": "FAILED: RuntimeError: no such thing"}
    ]
    assert saved["measured"]["seconds"]["one"]["rounds"] >= 1


def test_floors_are_timed_but_not_compared(results):
    workload = Workload(
        name="made-up",
        title="",
        steps=1,
        baseline="one",
        rtol=1e-8,
        seconds=0.0,
        contenders=[constant("floor", None, floor=True), constant("one"), constant("two")],
    )
    assert run_workload(workload, quick=True)


# Bars

MEDIANS = {"ours": 2.0, "slow": 4.0, "fast": 1.0}


@pytest.mark.parametrize(
    ("bar", "verdict", "said"),
    [
        (Bar("ours", "slow", 0.5), "met", "ours at most 0.5 x slow, measured 0.500"),
        (Bar("ours", "slow", 0.4), "MISSED", "measured 0.500"),
        (Bar("ours", ("slow", "fast"), 1.9), "MISSED", "measured 2.000 (of fast)"),
        (Bar("ours", ("slow", "absent"), 1.0), "met", "measured 0.500 (of slow)"),
        (Bar("ours", "absent", 1.0), "not measured", "ours at most 1 x absent"),
        (Bar("absent", "slow", 1.0), "not measured", "absent at most 1 x slow"),
        (Limit("ours", 2.0), "met", "ours at most 2000 ms, measured 2000"),
        (Limit("ours", 1.9), "MISSED", "ours at most 1900 ms"),
        (Limit("absent", 1.0), "not measured", "absent at most 1000 ms"),
    ],
)  # fmt: skip
def test_a_bar_is_met_missed_or_not_measured(bar, verdict, said):
    found, sentence = harness.judge(bar, MEDIANS, "ms")
    assert found == verdict
    assert said in sentence


def test_the_report_prints_and_saves_what_was_measured(results, capsys):
    verdicts = harness.report(
        "made-up",
        "two contenders",
        {"one": [1e-6, 3e-6, 2e-6], "two": [4e-6]},
        baseline="one",
        bars=[Bar("two", "one", 1.5)],
        skipped=[Skipped("three", "skipped: not here")],
    )
    printed = capsys.readouterr().out
    assert verdicts == ["MISSED"]
    assert "bar MISSED: two at most 1.5 x one, measured 2.000" in printed
    assert "skipped: not here" in printed
    saved = json.loads((results / "made-up.json").read_text())
    assert saved["measured"]["seconds"]["one"] == {"median": 2e-6, "minimum": 1e-6, "rounds": 3}
    assert saved["on"]["numpy"] == np.__version__
    written = table.tables(results)
    assert "| one | 2 us | 1 us |" in written
    assert "- MISSED: two at most 1.5 x one, measured 2.000" in written


def test_contenders_take_turns_until_their_share_is_used():
    order = []
    runs = {name: lambda name=name: order.append(name) for name in ("one", "two")}
    times = harness.interleave(runs, steps=2, seconds=0.0, least=3, most=5, settling=0.0)
    assert {name: len(values) for name, values in times.items()} == {"one": 1, "two": 1}
    assert set(order) == {"one", "two"}
    times = harness.interleave(runs, steps=2, seconds=60.0, least=1, most=2, settling=0.0)
    assert {name: len(values) for name, values in times.items()} == {"one": 2, "two": 2}


# What is compared


def test_hand_written_numpy_and_the_reference_engine_train_boston_alike():
    training = problem()
    training.rows = training.rows[:20]
    contenders = [*by_hand(training)[:2], miniflow_steps(training, "reference")]
    _, losses, skipped = harness.start_all([*contenders, miniflow_epochs(training, "reference")])
    assert not skipped
    harness.check_same_losses(losses, rtol=1e-9)


def test_another_learning_rate_is_another_trajectory():
    training, other = problem(), problem()
    training.rows = other.rows = training.rows[:5]
    other.rate *= 1.001
    losses = {
        "one": by_hand(training)[0].build()(),
        "two": by_hand(other)[0].build()(),
    }
    with pytest.raises(AssertionError, match="two computes other losses"):
        harness.check_same_losses(losses, rtol=1e-9)


def test_an_unknown_engine_is_unavailable():
    rng = np.random.default_rng(0)
    training = Training(
        features=rng.normal(size=(4, 3)), targets=rng.normal(size=(4, 1)),
        start=start_of([3, 2, 1], rng, float), rows=np.array([[0, 1], [2, 3]]),
        activation="sigmoid", loss="mse", optimizer="sgd", rate=0.1,
    )  # fmt: skip
    with pytest.raises(UnavailableError, match="engine 'no_such_engine' is not available"):
        miniflow_steps(training, "no_such_engine").build()


def test_every_node_of_the_scalar_graph_counts():
    leaves, multiplies, left, right = scalars.program(200)
    used = {*left.tolist(), *right.tolist()}
    assert len(multiplies) == 200
    assert multiplies.any()
    assert not multiplies.all()
    assert used == set(range(len(leaves) + 200 - 1))
    assert all(max(i, j) < len(leaves) + k for k, (i, j) in enumerate(zip(left, right)))


def test_scalar_graphs_are_computed_alike_by_reference_and_plain_python():
    value, gradients = scalars.miniflow_reference(50)()
    leaves = scalars.program(50)[0].tolist()

    def plain(leaves):
        return scalars.applied(leaves, 50, lambda a, b: a + b, lambda a, b: a * b)

    step = 1e-6
    assert value == pytest.approx(plain(leaves))
    for i in range(3):
        moved = [[*leaves[:i], leaves[i] + sign * step, *leaves[i + 1 :]] for sign in (1, -1)]
        slope = (plain(moved[0]) - plain(moved[1])) / (2 * step)
        assert gradients[i] == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("number", [np.float64, float])
def test_scalar_graphs_are_computed_alike_by_reference_and_by_hand(number):
    value, gradients = scalars.miniflow_reference(300)()

    assert scalars.python_tape(300, number)() == (value, pytest.approx(gradients, rel=1e-12))


# Look-ups among many packs


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Environments with two packs, with manifests and without."""
    folder = tmp_path_factory.mktemp("sites")
    return {how: packs.Site(folder / str(how), 2, manifests=how) for how in (True, False)}


@pytest.mark.parametrize(
    ("name", "found", "with_manifests", "without"),
    [
        ("made_001.Op1n7", "Op1n7", 0, 1),
        ("Op1n7", "Op1n7", 0, 2),
        ("Nowhere", "nothing", 3, 3),  # the core too
    ],
)
def test_the_look_ups_that_are_timed_import_what_they_are_said_to(
    sites, name, found, with_manifests, without
):
    done = {how: site.look_up(name, before=packs.IMPORTED) for how, site in sites.items()}

    assert {one.found for one in done.values()} == {found}
    assert (done[True].loaded, done[False].loaded) == (with_manifests, without)
