"""The console tracer prints what happens, readably, and changes nothing."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import mfcore as mf
from mfcore.errors import MiniFlowError
from mfops_basic import Add, Mul
from mfops_nn import MSE, Linear, Sigmoid
from mfoptim import SGD, fit
from mftrace import ConsoleTracer, TracerOptionError, format_array

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"

BEGIN = """
import mfcore as mf
from mfops_basic import Add, Mul
from mfops_nn import MSE, Linear, Sigmoid

"""

PROGRAMS = {
    "sum_times_z": """
x, y, z = mf.Input("x"), mf.Input("y"), mf.Input("z")
f = Mul(Add(x, y), z)
with mf.tracing("console"):
    mf.Session(f).run({x: -2, y: 5, z: -4}).backward()
""",
    "one_layer": """
X, y, W1, b = mf.Input("X"), mf.Input("y"), mf.Input("W1"), mf.Input("b")
cost = MSE(y, Sigmoid(Linear(X, W1, b)))
feeds = {X: [[-1.0, -2.0], [-1.0, -2.0]], W1: [[2.0], [3.0]], b: [-3.0], y: [1, 2]}
with mf.tracing("console"):
    mf.Session(cost).run(feeds).backward()
""",
    "fan_out": """
x, y, z = mf.Input("x"), mf.Input("y"), mf.Input("z")
f = Add(Mul(x, y), Mul(x, z))
with mf.tracing("console"):
    mf.Session(f).run({x: 2.0, y: 3.0, z: 4.0}).backward()
""",
    "same_node_twice": """
x = mf.Input("x")
f = Mul(x, x)
with mf.tracing("console"):
    mf.Session(f).run({x: 3.0}).backward()
""",
    "two_steps": """
from mfoptim import SGD

X, y = mf.Input("X"), mf.Input("y")
W, b = mf.Parameter([[1.0], [1.0]], name="W"), mf.Parameter([0.0], name="b")
session = mf.Session(MSE(y, Linear(X, W, b)))
with mf.tracing("console"):
    for _ in range(2):
        session.step({X: [[1.0, 2.0]], y: [1.0]}, SGD(learning_rate=0.125))
""",
}


def printed_by(source: str, namespace: dict[str, Any], file: str = "example.py") -> str:
    """Run a program, under a file name that its nodes remember, and return what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(source, file, "exec"), namespace)
    return output.getvalue()


def layer() -> tuple[mf.Node, dict[str, Any]]:
    """A cost over one layer with parameters, and a batch for it."""
    X, y = mf.Input("X"), mf.Input("y")
    W, b = mf.Parameter([[2.0], [3.0]], name="W1"), mf.Parameter([-3.0], name="b")
    feeds = {"X": [[-1.0, -2.0], [0.5, 1.0]], "y": [[0.0], [1.0]]}
    return MSE(y, Sigmoid(Linear(X, W, b))), feeds


def headings(text: str) -> list[str]:
    """The lines that are not indented."""
    return [line for line in text.splitlines() if line and not line.startswith(" ")]


# Whole outputs


@pytest.mark.parametrize("name", PROGRAMS)
def test_prints_exactly_the_golden_text(name: str) -> None:
    expected = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")

    text = printed_by(BEGIN + PROGRAMS[name], {})

    assert text == expected


def test_every_golden_text_has_its_program() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} >= set(PROGRAMS)


@pytest.mark.parametrize("page", ["docs/tracing.md", "mftrace/README.md"])
def test_the_page_shows_what_its_examples_print(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # for the files that they write
    text = (ROOT / page).read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL)
    namespace: dict[str, Any] = {}

    shown = [printed_by(source, namespace) for source, _ in examples]

    assert examples
    assert shown == [expected for _, expected in examples]


# What is shown


def test_the_total_is_the_sum_of_what_was_received() -> None:
    x, y = mf.Input("x"), mf.Input("y")
    run = mf.Session(Add(Mul(x, y), x)).run({x: 2.0, y: 5.0})

    with mf.tracing("console", file=(out := io.StringIO()), phases="backward", nodes="x"):
        run.backward(wrt=[x])

    rows = [re.split(r"\s{2,}", line.strip()) for line in out.getvalue().splitlines()]
    assert rows[2:] == [
        ["received from add_1", "1"],
        ["received from mul_1", "5"],
        ["total", "6"],
    ]


def test_inputs_are_labelled_by_their_node_and_their_field() -> None:
    a, w, c = mf.Input("a"), mf.Input("w"), mf.Input("b")
    feeds = {a: [[1.0]], w: [[2.0]], c: [3.0]}

    with mf.tracing("console", file=(out := io.StringIO()), nodes="linear_1", phases="forward"):
        mf.Session(Linear(a, w, c)).run(feeds)

    assert [line.split("  ")[3] for line in out.getvalue().splitlines()[2:]] == [
        "a (X)",
        "w (W)",
        "b",
        "->",
    ]


def test_hyperparameters_that_are_not_the_default_are_shown() -> None:
    x = mf.Input("x")

    with mf.tracing("console", file=(out := io.StringIO()), phases="sort"):
        mf.Graph(x.sum(axis=0, keepdims=True), x.sum())

    assert "= Sum(x, axis=0, keepdims=True) " in out.getvalue()
    assert "= Sum(x) " in out.getvalue()


def test_a_gradient_that_nobody_needs_is_shown_as_nothing() -> None:
    cost, feeds = layer()
    run = mf.Session(cost).run(feeds)

    with mf.tracing("console", file=(out := io.StringIO()), nodes="linear_1"):
        run.backward()

    assert re.search(r"sent to X +nothing\n", out.getvalue())


def test_large_arrays_are_summarised() -> None:
    x = mf.Input("x")
    table = np.arange(1000.0).reshape(100, 10)

    with mf.tracing("console", file=(out := io.StringIO())):
        mf.Session(x * 2.0).run({x: table})

    assert "float64[100, 10] min 0 max 999 mean 499.5\n" in out.getvalue()
    assert "float64[100, 10] min 0 max 1998 mean 999\n" in out.getvalue()


def test_limit_and_precision_decide_how_numbers_look() -> None:
    x = mf.Input("x")
    session = mf.Session(x + x)

    with mf.tracing("console", file=(out := io.StringIO()), limit=2, precision=2):
        session.run({x: [1.0, 1.256, 3.0]})
        session.run({x: [0.123456, 1.0]})

    assert "x  Input  float64[3] min 1 max 3 mean 1.8\n" in out.getvalue()
    assert "x  Input  [0.12 1]\n" in out.getvalue()


def test_inputs_are_shown_before_an_operation_fails() -> None:
    X, W, b = mf.Input("X"), mf.Input("W"), mf.Input("b")
    session = mf.Session(Linear(X, W, b))

    with (
        mf.tracing("console", file=(out := io.StringIO())),
        pytest.raises(mf.errors.ForwardError),
    ):
        session.run({X: [[1.0, 2.0]], W: [[3.0]], b: [0.0]})

    assert out.getvalue().endswith("      X   [[1 2]]\n      W   [[3]]\n      b   [0]\n")


# Training


def test_fit_is_shown_under_headings_of_epochs_and_steps() -> None:
    cost, _ = layer()
    data = {cost.inputs[0]: np.ones((4, 1)), mf.Graph(cost)["X"]: np.ones((4, 2))}

    with mf.tracing("console", file=(out := io.StringIO()), phases=("training", "backward")):
        fit(cost, data, SGD(learning_rate=0.5), epochs=2, batch_size=2, seed=0)

    numberless = [re.sub(r"  loss .*", "  loss", line) for line in headings(out.getvalue())]
    assert numberless == [
        *("=== epoch 1 ===", "--- step 1 ---", "backward  from mse_1", "update", "step 1  loss"),
        *("--- step 2 ---", "backward  from mse_1", "update", "step 2  loss", "epoch 1  loss"),
        *("=== epoch 2 ===", "--- step 3 ---", "backward  from mse_1", "update", "step 3  loss"),
        *("--- step 4 ---", "backward  from mse_1", "update", "step 4  loss", "epoch 2  loss"),
    ]


def test_the_update_shows_the_new_parameters() -> None:
    cost, feeds = layer()
    session = mf.Session(cost)

    with mf.tracing("console", file=(out := io.StringIO()), nodes="b"):
        session.step(feeds, SGD(learning_rate=0.5))

    assert f"update\n  b  Parameter  {format_array(session['b'])}\n" in out.getvalue()


@pytest.mark.parametrize(
    ("steps", "shown"),
    [
        (None, [1, 2, 3, 4, 5]),
        (2, [1, 2]),
        (0, []),
        (range(3), [1, 2]),
        (range(2, 4), [2, 3]),
        ({5}, [5]),
        ([1, 4], [1, 4]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("phases", ["training", ("forward", "training")], ids=str)
def test_steps_choose_the_training_steps_that_are_shown(
    steps: Any, shown: list[int], phases: Any
) -> None:
    cost, feeds = layer()
    session = mf.Session(cost)

    with mf.tracing("console", file=(out := io.StringIO()), steps=steps, phases=phases):
        for _ in range(5):
            session.step(feeds, SGD(learning_rate=0.5))

    assert [int(n) for n in re.findall(r"^step (\d+)  loss", out.getvalue(), re.M)] == shown
    assert out.getvalue().count("forward  to") == len(shown) * (phases != "training")


def test_runs_outside_of_training_steps_are_not_shown_where_steps_are_chosen() -> None:
    cost, feeds = layer()
    session = mf.Session(cost)

    with mf.tracing("console", file=(out := io.StringIO()), steps=range(1, 9)):
        session.run(feeds).backward()

    assert out.getvalue() == ""


def test_an_epoch_of_which_nothing_is_shown_has_no_heading() -> None:
    cost, _ = layer()
    data = {cost.inputs[0]: np.ones((4, 1)), mf.Graph(cost)["X"]: np.ones((4, 2))}

    with mf.tracing("console", file=(out := io.StringIO()), phases="training", steps=[3]):
        fit(cost, data, SGD(learning_rate=0.5), epochs=3, batch_size=2, seed=0)

    assert [re.sub(r"  loss .*", "", line) for line in headings(out.getvalue())] == [
        "=== epoch 2 ===",
        "step 3",
        "epoch 2",
    ]


# What is chosen


@pytest.mark.parametrize(
    ("phases", "expected"),
    [
        ("sort", ["sort  7 nodes up to mse_1"]),
        ("forward", ["forward  to mse_1"] * 2),
        ("backward", ["backward  from mse_1"] * 2),
        (["sort", "backward"], ["sort  7 nodes up to mse_1", *["backward  from mse_1"] * 2]),
        ("training", ["step 1  loss"]),
        ((), []),
    ],
    ids=str,
)
def test_phases_choose_what_is_shown(phases: Any, expected: list[str]) -> None:
    cost, feeds = layer()

    with mf.tracing("console", file=(out := io.StringIO()), phases=phases):
        session = mf.Session(cost)
        session.run(feeds).backward()
        session.step(feeds, SGD(learning_rate=0.5))

    assert [re.sub("(?<=loss).*", "", line) for line in headings(out.getvalue())] == expected


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("linear_1", {"linear_1"}),
        ("*_1", {"linear_1", "sigmoid_1", "mse_1"}),
        (["X", "b"], {"X", "b"}),
        ("[Xy]", {"X", "y"}),
        ("x", set()),
        ([], set()),
    ],
    ids=str,
)
def test_nodes_choose_by_name_or_pattern(nodes: Any, expected: set[str]) -> None:
    cost, feeds = layer()

    with mf.tracing("console", file=(out := io.StringIO()), nodes=nodes, phases="forward"):
        mf.Session(cost).run(feeds)

    assert set(re.findall(r"^  (\w+)(?: =|  +[A-Z])", out.getvalue(), re.M)) == expected
    assert ("forward" in out.getvalue()) == bool(expected)


def test_patterns_that_fit_no_node_are_named_at_the_end() -> None:
    cost, feeds = layer()

    with mf.tracing("console", file=(out := io.StringIO()), nodes=["b", "linaer_*"]):
        mf.Session(cost).run(feeds)

    assert out.getvalue().endswith("\nno node of the traced graphs is named 'linaer_*'\n")
    assert "'b'" not in out.getvalue()


def test_a_node_that_is_only_not_reached_is_not_called_unknown() -> None:
    cost, feeds = layer()
    session = mf.Session(cost)

    with mf.tracing("console", file=(out := io.StringIO()), nodes="mse_1", phases="backward"):
        session.run(feeds)
    with mf.tracing("console", file=out, nodes="mse_1", steps=1):
        session.run(feeds)

    assert out.getvalue() == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": -1}, "limit must be a whole number of at least 0, not -1"),
        ({"limit": "9"}, "limit must be a whole number of at least 0, not '9'"),
        ({"precision": 0}, "precision must be a whole number of at least 1, not 0"),
        ({"precision": True}, "precision must be a whole number of at least 1, not True"),
        ({"phases": "forwards"}, "no phase 'forwards'; phases are sort, forward, backward, train"),
        ({"phases": ["sort", 3]}, "no phase 3;"),
        ({"phases": [["sort"]]}, r"no phase \['sort'\];"),
        ({"phases": None}, "no phase None; phases are sort"),
        ({"nodes": 3}, "nodes must be names or patterns such as 'linear_\\*', not int 3"),
        ({"nodes": mf.Input("x")}, "nodes must be names .* not mfcore.node.Input <mfcore.Input"),
        ({"nodes": ["x", None]}, "nodes must be names .* not NoneType None"),
        ({"steps": -1}, "steps must be a number of steps, or a collection .* not -1"),
        ({"steps": "all"}, "steps must be a number of steps, or a collection .* not 'all'"),
        ({"steps": True}, "steps must be a number of steps, or a collection .* not True"),
        ({"file": "trace.txt"}, "file must be an open text file.* not 'trace.txt'"),
    ],
    ids=str,
)
def test_wrong_options_are_named(options: dict[str, Any], words: str) -> None:
    with (
        pytest.raises(TracerOptionError, match=words) as caught,
        mf.tracing("console", **options),
    ):
        pass
    assert isinstance(caught.value, MiniFlowError)


def test_an_option_that_does_not_exist_is_named() -> None:
    with pytest.raises(TypeError, match="limits"), mf.tracing("console", limits=3):
        pass


# What must not happen


def test_nothing_is_printed_outside_of_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    cost, feeds = layer()
    session = mf.Session(cost)
    session.run(feeds).backward()
    with mf.tracing("console"):
        pass
    mf.Session(cost).step(feeds, SGD(learning_rate=0.5))

    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_prints_to_what_standard_output_is_at_the_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    x = mf.Input("x")
    session = mf.Session(x * x)
    with mf.tracing("console", phases="forward", nodes="x"):
        session.run({x: 1})
        with contextlib.redirect_stdout(io.StringIO()) as redirected:
            session.run({x: 2})

    assert capsys.readouterr().out == "forward  to mul_1\n  x  Input  1\n"
    assert redirected.getvalue() == "\nforward  to mul_1\n  x  Input  2\n"


def test_numbers_are_the_same_bit_for_bit() -> None:
    cost, _ = layer()
    rng = np.random.default_rng(0)
    data = {mf.Graph(cost)["X"]: rng.normal(size=(20, 2)), cost.inputs[0]: rng.normal(size=(20, 1))}
    options: dict[str, Any] = {"epochs": 3, "batch_size": 5, "seed": 1}

    quiet = fit(cost, data, SGD(learning_rate=0.1), **options)
    with mf.tracing("console", file=io.StringIO()):
        traced = fit(cost, data, SGD(learning_rate=0.1), **options)

    assert traced.loss == quiet.loss
    for name in ("W1", "b"):
        assert traced.session[name].tobytes() == quiet.session[name].tobytes()


def test_a_node_name_that_the_stream_cannot_spell_does_not_stop_the_trace() -> None:
    theta = mf.Input("\N{GREEK SMALL LETTER THETA}")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")

    with mf.tracing("console", file=stream):
        mf.Session(theta * 2.0).run({theta: 1.0})

    stream.seek(0)
    assert "\\u03b8  " in stream.read()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def traced_on_terminal() -> str:
    x = mf.Input("x")
    session = mf.Session(x * x)
    with mf.tracing("console", file=(terminal := Terminal())):
        session.run({x: [[1.0, 2.0]]}).backward(grad=[[1.0, 1.0]], wrt=[x])
    return terminal.getvalue()


def test_a_terminal_gets_the_same_text_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich", reason="colour is for those who have rich")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = traced_on_terminal()
    monkeypatch.setitem(sys.modules, "rich.console", None)
    plain = traced_on_terminal()

    assert "\x1b[" in coloured
    assert "\x1b[" not in plain
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain


def test_the_registry_knows_the_tracer_and_where_it_comes_from() -> None:
    registry = mf.registry.current()

    assert registry.tracer("console") is registry.tracer("mftrace.console") is ConsoleTracer


# The text of arrays


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (True, "True"),
        (2.5, "2.5"),
        (-0.0, "0"),
        (np.float32(0.1), "0.1"),
        (np.array(7), "7"),
        (float("nan"), "nan"),
        (-np.inf, "-inf"),
        (1 + 2j, "1+2j"),
        (123456789, "123456789"),
        (1 / 3, "0.333333"),
        (-3.34017280e-05, "-3.34017e-05"),
        ([], "float64[0] (empty)"),
        (np.zeros((0, 3), np.int64), "int64[0, 3] (empty)"),
        ([True, False], "[True False]"),
        ([1, 2.5, -3], "[1 2.5 -3]"),
        ([1.0, np.nan, np.inf], "[1 nan inf]"),
        ([[-1, -2], [-1, 10]], "[[-1 -2]\n [-1 10]]"),
        ([[-11.0], [0.25]], "[[-11   ]\n [  0.25]]"),
        ([[1e-05, 1], [np.nan, 20]], "[[  1e-05  1]\n [nan     20]]"),
        (np.ones((6, 1)), "[[1] [1] [1] [1] [1] [1]]"),
        ([[1, 2, 3]], "[[1 2 3]]"),
        ([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], "[[[1 2]\n  [3 4]]\n [[5 6]\n  [7 8]]]"),
        ([np.nan, *[1.5e6] * 9], f"[    nan{' 1.5e+06' * 8}\n 1.5e+06]"),
        (np.full(12, 10.0625), f"[{' '.join(['10.0625'] * 9)}\n {' '.join(['10.0625'] * 3)}]"),
        (None, "None"),
        ("abc", "'abc'"),
        ([1, [2, 3]], "[1, [2, 3]]"),
    ],
    ids=str,
)
def test_small_values_are_shown_in_full(value: object, text: str) -> None:
    assert format_array(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.arange(25), "int64[25] min 0 max 24 mean 12"),
        (np.full((5, 5), 2, np.uint8), "uint8[5, 5] min 2 max 2 mean 2"),
        (np.arange(30) < 10, "bool[30] True: 10, False: 20"),
        (np.zeros(30, np.float32), "float32[30] min 0 max 0 mean 0"),
        (np.full(30, np.nan), "float64[30] (NaN: 30)"),
        (np.full(30, 1e308), "float64[30] min 1e+308 max 1e+308 mean 1e+308"),
        (np.full(30, 5e-324), "float64[30] min 4.94066e-324 max 4.94066e-324 mean 4.94066e-324"),
        (np.tile([0.1, 0.2, -0.3], 10), "float64[30] min -0.3 max 0.2 mean 0"),
        (
            [*range(30), np.nan, np.nan, np.inf, -np.inf],
            "float64[34] min 0 max 29 mean 14.5 (NaN: 2, inf: 1, -inf: 1)",
        ),
        (np.ones(30) * 1j, "complex128[30]"),
    ],
    ids=str,
)
def test_large_arrays_have_a_summary(value: Any, text: str) -> None:
    assert format_array(np.asarray(value)) == text


@pytest.mark.parametrize("options", [{"limit": -1}, {"precision": 0}], ids=str)
def test_impossible_formats_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        format_array(1.0, **options)


# The largest doubles are none any more when they are rounded to one digit.
FLOATS = st.floats(-1e300, 1e300) | st.sampled_from([np.nan, np.inf, -np.inf])


@given(
    npst.arrays(np.float64, npst.array_shapes(max_dims=3, max_side=12), elements=FLOATS),
    st.integers(0, 200),
    st.integers(1, 17),
)
def test_any_array_has_a_text_that_fits_the_screen(
    array: np.ndarray[Any, Any], limit: int, precision: int
) -> None:
    text = format_array(array, limit=limit, precision=precision)

    assert text == format_array(array.copy(), limit=limit, precision=precision)
    if array.size > limit:
        assert text.startswith("float64[")
        assert "\n" not in text
    else:
        assert all(len(line) <= 80 for line in text.splitlines())
        numbers = [float(word) for word in re.sub(r"[][]", " ", text).split()]
        np.testing.assert_allclose(numbers, array.reshape(-1), rtol=10.0 ** (1 - precision))
