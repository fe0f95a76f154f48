"""The guard stops at the first node that gives NaN, inf or a value out of bounds."""

from __future__ import annotations

import os

import attrs
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import mfcore as mf
import mfops_basic
from mfcore.errors import ExecutionError, StopRun
from mfops_basic import Add, Cast, Divide, Log, Log1p, MatMul, Mul, Power, Sqrt, Square, Sum
from mfops_basic import Exp as Exponential
from mfops_nn import MSE, Dropout, Linear, Sigmoid, Softmax
from mfoptim import SGD, fit
from mftrace import GuardError, GuardTracer, TracerOptionError, replay
from mftrace.guard_report import Checks
from miniflow.cli import main


@mf.operation
class Share(mf.Node):
    """``x / total``: an operation of no pack, with a hyperparameter."""

    x: mf.Node
    total: float = 1.0

    @staticmethod
    def forward(x, total):
        return x / total

    @staticmethod
    def backward(grad, x, total):
        return (grad / (x * total),)


FORWARD = {
    "Log": (Log, [[1.0, -1.0]], "NaN"),
    "Log of 0": (Log, [[0.0]], "-inf"),
    "Sqrt": (Sqrt, [[4.0, -1.0]], "NaN"),
    "Divide": (Divide, [[1.0, 0.0], [1.0, 0.0]], "NaN"),
    "Divide by 0": (Divide, [[1.0, 1.0], [1.0, 0.0]], "inf"),
    "Power": (Power, [[8.0, -8.0], [1 / 3]], "NaN"),
    "Log1p": (Log1p, [[0.0, -2.0]], "NaN"),
    "Exp": (Exponential, [[1.0, 1000.0]], "inf"),
    "Square": (Square, [[1.0, 1e200]], "inf"),
    "Mul": (Mul, [[1e200], [1.0, -1e200]], "-inf"),
    "Add": (Add, [[0.0, 1e308], [1e308]], "inf"),
    "MatMul": (MatMul, [[[1e200, 1e200]], [[1e200], [-1e200]]], "NaN"),
    "Linear": (Linear, [[[1e200, 1e200]], [[1e200], [-1e200]], [0.0]], "NaN"),
    "Sum": (Sum, [[1e308, 1e308]], "inf"),
    "Cast": (lambda x: Cast(x, dtype=np.float32), [[1.0, 1e300]], "inf"),
    "Share": (lambda x: Share(x, total=0.0), [[0.0]], "NaN"),
}

BACKWARD = {
    "Sqrt": (Sqrt, [[4.0, 0.0]], [1.0, 1.0], "inf"),
    "Sqrt without gradient": (Sqrt, [[4.0, 0.0]], [1.0, 0.0], "NaN"),
    "Log": (Log, [[1.0, 1e-320]], [1.0, 1.0], "inf"),
    "Divide": (Divide, [[1.0, 1.0], [1.0, 1e-200]], [1.0, 1.0], "-inf"),
    "Power": (Power, [[1.0, 0.0], [0.5]], [1.0, 1.0], "inf"),
    "Log1p": (Log1p, [[0.0, -1 + 2**-52]], [1.0, 1e300], "inf"),
    "Exp": (Exponential, [[1.0, 700.0]], [1.0, 1e10], "inf"),
    "Square": (Square, [[1.0, 1e150]], [1.0, 1e200], "inf"),
    "Mul": (Mul, [[1.0], [1.0, 1e200]], [1e200, 1e200], "inf"),
    "MatMul": (MatMul, [[[1.0, 1.0]], [[1e200], [-1e200]]], [[1e200]], "inf"),
    "Linear": (Linear, [[[1.0, 1.0]], [[1e200], [-1e200]], [0.0]], [[1e200]], "inf"),
    "Add over a broadcast axis": (Add, [[0.0], [0.0, 0.0]], [1e308, 1e308], "inf"),
    "Share": (lambda x: Share(x, total=2.0), [[1.0, 0.0]], [1.0, 0.0], "NaN"),
}


def stopped(build, arrays, tmp_path, grad=None, **options):
    """Run a guarded graph of one operation until it stops; return the node and the error."""
    inputs = [mf.Input(f"in_{i}") for i in range(len(arrays))]
    node = build(*inputs)
    session = mf.Session(node)
    feeds = dict(zip(inputs, map(np.array, arrays), strict=True))
    with (
        np.errstate(all="ignore"),
        mf.tracing("guard", replay=tmp_path / "failure.npz", **options),
        pytest.raises(GuardError) as raised,
    ):
        run = session.run(feeds)
        run.backward(wrt=inputs, grad=grad)
    return node, raised.value


def replayed(node, error):
    operation = Share if isinstance(node, Share) else None
    return replay(error.replay, operation=operation)


@pytest.mark.parametrize("case", FORWARD)
def test_a_bad_value_is_found_where_it_comes_up(case, tmp_path):
    build, arrays, kind = FORWARD[case]

    node, error = stopped(build, arrays, tmp_path)

    report = error.report
    assert report.phase == "forward"
    assert report.operation == node.qualified_name()
    assert report.site == node.site
    assert report.results[0].counts == ((kind, 1),)
    assert report.bad_inputs == ()
    assert report.cause == "all that went in was good: it came up here"
    assert replayed(node, error) == attrs.evolve(report, notes=())


@pytest.mark.parametrize("case", BACKWARD)
def test_a_bad_gradient_is_found_where_it_comes_up(case, tmp_path):
    build, arrays, grad, kind = BACKWARD[case]

    node, error = stopped(build, arrays, tmp_path, grad=np.array(grad))

    report = error.report
    assert report.phase == "backward"
    assert report.operation == node.qualified_name()
    assert report.site == node.site
    assert kind in [found for result in report.results for found, _ in result.counts]
    assert report.bad_inputs == ()
    assert replayed(node, error) == attrs.evolve(report, notes=())


def test_the_report_says_what_went_in_and_came_out():
    x = mf.Input("x")
    root = np.sqrt(x - 2.0)
    with (
        np.errstate(all="ignore"),
        mf.tracing("guard"),
        pytest.raises(GuardError) as raised,
    ):
        mf.Session(root.sum()).run({x: [[2.0, 3.0], [1.0, 0.0]]})

    line = root.site[1]
    assert str(raised.value) == (
        "sqrt_1 gave NaN in forward: all that went in was good: it came up here\n"
        "  operation            mfops_basic.Sqrt\n"
        f"  pack                 mfops_basic {mfops_basic.__version__}\n"
        f"  built at             {__file__}:{line}\n"
        "  in   subtract_1 (x)  float64[2, 2] min -2 max 1 mean -0.5\n"
        "  out  value           float64[2, 2] min 0 max 1 mean 0.5; 2 of 4 bad (NaN: 2), "
        "first at [1, 0]"
    )
    assert raised.value.replay is None


def test_a_guard_error_is_one_of_running():
    assert issubclass(GuardError, StopRun)
    assert issubclass(GuardError, ExecutionError)


def test_a_bad_feed_is_found_before_any_operation(tmp_path):
    _, error = stopped(Log, [[1.0, np.nan]], tmp_path)

    assert error.report.node == "in_0"
    assert error.report.cause == "no operation made it: the value was bad when the run began"
    assert error.report.notes == ("no replay file: no single operation made it",)
    assert not (tmp_path / "failure.npz").exists()


def test_what_was_bad_on_the_way_in_is_named(tmp_path):
    _, error = stopped(lambda x: Log(x) * 2, [[1.0, -1.0]], tmp_path, nan=False, inf=False, low=1)

    assert error.report.node == "in_0"
    assert error.report.results[0].counts == (("below 1", 1),)
    x = mf.Input("x")
    with mf.tracing("guard", forward=False), pytest.raises(GuardError) as raised:
        mf.Session(Mul(x, x)).run({x: np.nan}).backward(wrt=[x])
    assert raised.value.report.cause == (
        "it was bad already on the way in: x (factors[0]), x (factors[1])"
    )


@pytest.mark.parametrize(
    ("options", "value", "found"),
    [
        ({"high": 10.0}, 11.0, (("above 10", 1),)),
        ({"low": -1}, -1.5, (("below -1", 1),)),
        ({"low": 0, "high": 1, "nan": False, "inf": False}, 1.5, (("above 1", 1),)),
    ],
)
def test_values_out_of_bounds_are_bad(options, value, found, tmp_path):
    node, error = stopped(lambda x: x * 2, [[0.5, value / 2]], tmp_path, backward=False, **options)

    assert error.report.results[0].counts == found
    assert error.report.results[0].first == (1,)
    assert replayed(node, error).results == error.report.results


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"nan": False}, np.nan),
        ({"inf": False}, -np.inf),
        ({"forward": False}, np.inf),
        ({"high": 1}, 1.0),
    ],
)
def test_what_is_not_looked_for_does_not_stop_a_run(options, value):
    x = mf.Input("x")
    with mf.tracing("guard", **options):
        run = mf.Session(x * 1.0).run({x: value})
    np.testing.assert_equal(run["mul_1"], value)


def test_backward_can_be_left_out():
    x = mf.Input("x")
    with np.errstate(all="ignore"), mf.tracing("guard", backward=False):
        run = mf.Session(np.sqrt(x)).run({x: 0.0})
        assert run.gradients[x] == np.inf


def test_a_sum_of_gradients_that_overflows_is_found_at_its_node():
    x = mf.Input("x")
    y = x * 1.0
    with np.errstate(all="ignore"), mf.tracing("guard"), pytest.raises(GuardError) as raised:
        run = mf.Session(Add(y * 1.0, y * 1.0).sum()).run({x: [1.0]})
        run.backward(grad=1e308)

    report = raised.value.report
    assert (report.node, report.phase) == ("mul_1", "backward")
    assert [array.label for array in report.inputs] == ["mul_3 (grad)", "mul_2 (grad)"]
    assert report.bad_inputs == ()
    assert report.results[0].counts == (("inf", 1),)


def network():
    X, y = mf.Input("X"), mf.Input("y")
    rng = np.random.default_rng(0)
    W1, b1 = mf.Parameter(rng.normal(size=(3, 4)), name="W1"), mf.Parameter(np.zeros(4))
    W2, b2 = mf.Parameter(rng.normal(size=(4, 1)), name="W2"), mf.Parameter(np.zeros(1))
    hidden = Dropout(Sigmoid(Linear(X, W1, b1)), rate=0.25)
    data = {X: rng.normal(size=(20, 3)), y: rng.normal(size=(20, 1))}
    return MSE(y, Linear(hidden, W2, b2)), data


def test_a_guarded_run_has_the_same_numbers_bit_for_bit(tmp_path):
    cost, data = network()
    sessions = [mf.Session(cost, engine="reference", seed=1) for _ in range(2)]

    plain = [sessions[0].step(data, SGD(learning_rate=0.1)) for _ in range(5)]
    with mf.tracing("guard", low=-1e9, high=1e9, replay=tmp_path / "failure.npz"):
        guarded = [sessions[1].step(data, SGD(learning_rate=0.1)) for _ in range(5)]

    assert plain == guarded
    for one, other in zip(
        sessions[0].parameters.values(), sessions[1].parameters.values(), strict=True
    ):
        assert one.tobytes() == other.tobytes()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ["reference", None])
def test_fit_is_stopped_in_the_step_that_fails(engine):
    cost, data = network()
    with (
        np.errstate(all="ignore"),
        mf.tracing("guard"),
        pytest.raises(GuardError) as raised,
    ):
        fit(cost, data, SGD(learning_rate=1e200), epochs=3, batch_size=10, seed=0, engine=engine)

    assert raised.value.report.step == 2
    assert "  step " in str(raised.value)


def test_a_failure_that_was_drawn_is_drawn_again(tmp_path):
    x = mf.Input("x")
    session = mf.Session(Dropout(x, rate=0.5), seed=3)
    feeds = {x: np.full(8, 1e308)}
    with (
        np.errstate(all="ignore"),
        mf.tracing("guard", replay=tmp_path / "failure.npz"),
        pytest.raises(GuardError) as raised,
    ):
        session.run(feeds, training=True)

    report = raised.value.report
    assert 0 < report.results[0].bad < 8
    assert replay(raised.value.replay) == attrs.evolve(report, notes=())


def test_a_gradient_through_what_was_drawn_fails_alone_again(tmp_path):
    x = mf.Input("x")
    dropped = Dropout(x, rate=0.5)
    session = mf.Session(dropped, seed=3)
    with (
        np.errstate(all="ignore"),
        mf.tracing("guard", replay=tmp_path / "failure.npz"),
        pytest.raises(GuardError) as raised,
    ):
        session.run({x: np.ones(8)}, training=True).backward(wrt=[x], grad=np.full(8, 1e308))

    report = raised.value.report
    assert replay(raised.value.replay) == attrs.evolve(report, notes=())


def test_python_numbers_stay_such_in_a_replay(tmp_path):
    node, error = stopped(lambda x: x * 1e30, [np.array([1e30], np.float32)], tmp_path)

    assert error.report.results[0].dtype == "float32"
    assert replayed(node, error).results == error.report.results


def test_an_operation_that_does_not_fail_alone_leaves_no_file(tmp_path):
    calls = []

    @mf.operation
    class Once(mf.Node):
        x: mf.Node

        @staticmethod
        def forward(x):
            calls.append(x)
            return x / (len(calls) - 1)

    with np.errstate(all="ignore"):
        _, error = stopped(Once, [[1.0]], tmp_path, backward=False)

    assert error.report.notes == ("no replay file: run alone, the operation does not fail again",)
    assert error.replay is None
    assert list(tmp_path.iterdir()) == []


def test_a_hyperparameter_that_is_not_plain_leaves_no_file(tmp_path):
    @mf.operation
    class Mapped(mf.Node):
        x: mf.Node
        function: object = None

        @staticmethod
        def forward(x, function):
            return function(x)

    node, error = stopped(lambda x: Mapped(x, function=np.log), [[-1.0]], tmp_path)

    assert error.report.operation == node.qualified_name()
    assert error.report.notes == (
        "no replay file: the hyperparameter function of mapped_1 cannot be in a replay file: "
        "numpy.ufunc is not plain",
    )


def test_a_place_that_cannot_be_written_does_not_hide_the_failure(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    tracer = GuardTracer(replay=folder / "failure.npz")
    folder.rmdir()
    x = mf.Input("x")
    with np.errstate(all="ignore"), mf.tracing(tracer), pytest.raises(GuardError) as raised:
        mf.Session(np.log(x)).run({x: -1.0})
    assert raised.value.report.node == "log_1"
    assert "no replay file: cannot write" in raised.value.report.notes[0]


def test_the_default_place_is_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = mf.Input("x")
    with (
        np.errstate(all="ignore"),
        mf.tracing("guard", replay=True),
        pytest.raises(GuardError) as raised,
    ):
        mf.Session(np.log(x)).run({x: -1.0})
    assert os.listdir() == ["miniflow-replay.npz"]
    assert str(raised.value).endswith("replay: miniflow replay miniflow-replay.npz")


def test_names_are_shown_without_what_a_terminal_acts_on():
    x = mf.Input("\x1b[31mred\n")
    with mf.tracing("guard"), pytest.raises(GuardError) as raised:
        mf.Session(x * 1).run({x: np.nan})
    assert str(raised.value).startswith("\\x1b[31mred\\n gave NaN in forward")


def test_statistics_are_of_the_finite_elements(tmp_path):
    values = [1e308, 1.6e308, np.nan, np.inf, -np.inf]
    _, error = stopped(lambda x: x * 1, [values], tmp_path)

    found = error.report.results[0]
    assert (found.minimum, found.maximum) == (1e308, 1.6e308)
    assert found.mean == pytest.approx(1.3e308)
    assert found.counts == (("NaN", 1), ("inf", 1), ("-inf", 1))
    assert (found.bad, found.first) == (3, (2,))


@given(
    checks=st.builds(
        Checks,
        st.booleans(),
        st.booleans(),
        st.sampled_from([None, -2.0, 0.0]),
        st.sampled_from([None, 0.5, 3.0]),
    ),
    values=npst.arrays(
        st.sampled_from(["f8", "f4", "f2"]),
        npst.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=2),
        elements=st.sampled_from([0.0, 1.0, -1.0, 5.0, np.nan, np.inf, -np.inf]),
    ),
)
def test_an_array_passes_exactly_if_nothing_bad_is_found_in_it(checks, values):
    assert checks.passes(values) == (not checks.kinds(values))
    assert checks.passes(values[()]) == checks.passes(values)


@pytest.mark.parametrize(
    "options",
    [
        {"nan": 1},
        {"forward": None},
        {"low": "0"},
        {"low": True},
        {"high": np.nan},
        {"low": 2, "high": 1},
        {"nan": False, "inf": False},
        {"forward": False, "backward": False},
        {"replay": 3},
        {"replay": "there/is/no/such/folder.npz"},
        {"replay": "."},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(TracerOptionError):
        GuardTracer(**options)


def test_softmax_of_a_mask_of_minus_infinity_needs_infinities_allowed():
    x = mf.Input("x")
    mask = np.array([0.0, -np.inf])
    session = mf.Session(Softmax(x + mask))
    with mf.tracing("guard", inf=False):
        run = session.run({x: [1.0, 2.0]})
    assert run["softmax_1"].tolist() == [1.0, 0.0]


def test_train_is_guarded_by_name(tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("a,b\n" + "\n".join(f"{i},{2 * i}" for i in range(20)))
    arguments = ["train", str(data), "--target", "b", "--no-plot", "--trace", "guard"]

    good = CliRunner().invoke(main, [*arguments, "--epochs", "1"])
    with np.errstate(all="ignore"):
        bad = CliRunner().invoke(main, [*arguments, "--learning-rate", "1e200"])

    assert good.exit_code == 0, good.output
    assert bad.exit_code == 1
    assert "Error: " in bad.output
    assert "bad" in bad.output


def test_the_page_says_what_its_programs_print(page_of_programs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    blocks = page_of_programs("docs/guard.md")

    assert len(blocks) == 4
    assert [printed for printed, _ in blocks] == [said for _, said in blocks]
