"""The page of a recording as text: what is in it, what is left out, and the commands that write it."""

from __future__ import annotations

import base64
import json
import math
import re
import tempfile
import webbrowser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mfcore as mf
import mftrace
from mfops_nn import MSE, Linear, Sigmoid
from mfoptim import SGD
from mftrace.errors import RecordingError, TracerOptionError
from mftrace.recorded_graph import RecordedOperation
from mftrace.report_arrays import chosen, json_number, shown_counts
from mftrace.report_data import derivatives, formula
from miniflow.cli import main

HOSTILE = "</script><script>alert(1)</script><!--&\u2028\u202e"


def recorded(steps=5, name="W1", rows=4, **options):
    rng = np.random.default_rng(0)
    X, y = mf.Input("X"), mf.Input("y")
    W, b = mf.Parameter(rng.normal(size=(3, 2)), name=name), mf.Parameter(np.zeros(2), name="b1")
    cost = MSE(y, Sigmoid(Linear(X, W, b)))
    session = mf.Session(cost)
    feeds = {X: rng.normal(size=(rows, 3)), y: rng.normal(size=(rows, 2))}
    with mf.tracing("record", **options) as record:
        for _ in range(steps):
            session.step(feeds, SGD(learning_rate=0.1))
    return record.recording


def data_of(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text, parse_constant=pytest.fail)


def numbers_of(stored):
    if isinstance(stored, str):
        return np.frombuffer(base64.b64decode(stored), "<f4")
    return np.frombuffer(base64.b64decode(stored["d"]), "<f8" if stored.get("w") else "<f4")


# What is in it


def test_a_page_holds_every_pass_with_its_arrays():
    recording = recorded()
    data = data_of(mftrace.report_html(recording, title="run.jsonl"))

    assert [frame["key"] for frame in data["frames"]] == ["1", "2", "3", "4", "5"]
    for frame, step in zip(data["frames"], recording.steps, strict=True):
        for shown, done in zip(frame["passes"], step.passes, strict=True):
            layout = data["layouts"][shown["layout"]]
            assert layout["phase"] == done.phase
            for about, event in zip(layout["nodes"], done.events, strict=True):
                assert data["graphs"][0]["nodes"][about["node"]]["name"] == event.node.name
                if done.phase == "forward":
                    array, slot = event.value, about["value"]
                else:
                    array, slot = event.grad, about["grad"]
                assert layout["slots"][slot] == [list(array.shape), str(array.dtype)]
                found = numbers_of(shown["arrays"][slot]).reshape(array.shape)
                np.testing.assert_allclose(found, array.array, rtol=1e-7)
    np.testing.assert_allclose(data["losses"]["losses"], recording.losses, rtol=1e-8)
    assert data["notes"] == []


def test_a_page_loads_nothing_and_forbids_it():
    page = mftrace.report_html(recorded())
    assert re.findall(r'\b(?:src|href)="([^"]*)"', page) == ["data:,", "#details"]
    assert re.findall(r"https?://[^\s\"']+", page) == ["http://www.w3.org/2000/svg"]  # a name
    assert "default-src &#x27;none&#x27;" in page
    assert not re.search(r"<[^>]*\son\w+=", page.partition("<script type")[0])
    assert "@import" not in page
    assert "{{" not in page.partition("<script>")[0]


def test_names_stay_data_and_titles_text():
    page = mftrace.report_html(recorded(name=HOSTILE), title=f"<i>{HOSTILE}")

    assert page.partition('id="data">')[2].partition("</script>")[0].isascii()
    assert page.count("</script>") == 2
    assert page.count("<script") == 2
    assert "<i>" not in page
    assert "<!--" not in page
    names = [node["name"] for node in data_of(page)["graphs"][0]["nodes"]]
    assert any(name.startswith("</script><script>alert(1)</script><!--&") for name in names)
    assert not any("\u202e" in name for name in names)  # it would turn what follows around


def test_a_surrogate_in_a_name_does_not_break_the_page(tmp_path):
    mftrace.save_report(recorded(name="a\ud800b"), tmp_path / "run.html")
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert any(
        node["name"] == "a\N{REPLACEMENT CHARACTER}b"
        for node in data_of(page)["graphs"][0]["nodes"]
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (0.1, 0.1), (-0.0, 0.0)],
)
def test_numbers_are_json_whatever_they_are(value, text):
    assert json_number(value) == text
    json.dumps(json_number(value), allow_nan=False)


def test_extreme_numbers_and_large_integers_keep_their_digits():
    x, n = mf.Input("x"), mf.Input("n")
    values = {x: np.array([1e-300, -1e300, np.nan, np.inf]), n: np.array([2**40 + 1, 3, 0, 1])}
    with mf.tracing("record") as record:
        mf.Session(x * n).run(values)
    data = data_of(mftrace.report_html(record.recording))
    arrays = data["frames"][0]["passes"][0]["arrays"]
    np.testing.assert_array_equal(numbers_of(arrays[0]), values[x])
    np.testing.assert_array_equal(numbers_of(arrays[1]), values[n])


# What is left out


def test_of_more_runs_than_fit_evenly_chosen_ones_are_shown_and_the_page_says_so():
    recording = recorded(steps=400)
    data = data_of(mftrace.report_html(recording, limit="40kB"))

    steps = [frame["step"] for frame in data["frames"]]

    assert steps[0] == 1
    assert steps[-1] == 400
    assert 24 <= len(steps) < 400
    assert max(np.diff(steps)) - min(np.diff(steps)) <= 1
    assert len(json.dumps(data["frames"])) < 60_000
    assert len(data["losses"]["losses"]) == 400
    assert data["notes"] == [
        f"{len(steps)} of 400 recorded runs are shown, evenly chosen, because all would be too "
        f"much for one page."
    ]


def test_where_hardly_a_run_fits_less_of_each_array_is_shown():
    data = data_of(mftrace.report_html(recorded(steps=30, rows=800), limit="110kB"))
    assert len(data["frames"]) >= 24
    assert any("elements are shown at most" in note for note in data["notes"])


def test_even_with_no_room_the_first_and_the_last_run_are_shown():
    data = data_of(mftrace.report_html(recorded(), limit=0))
    assert [frame["key"] for frame in data["frames"]] == ["1", "5"]


def test_steps_of_which_only_the_loss_was_recorded_are_told():
    data = data_of(mftrace.report_html(recorded(steps=30, every=10)))
    assert [frame["step"] for frame in data["frames"]] == [1, 11, 21]
    assert data["notes"] == ["Of 27 of 30 training steps only the loss was recorded."]
    assert len(data["losses"]["losses"]) == 30


@pytest.mark.parametrize("kept", ["summary", "none"])
def test_recordings_without_whole_arrays_have_pages_too(kept):
    recording = recorded(rows=50, arrays=kept)
    data = data_of(mftrace.report_html(recording))
    arrays = [array for one in data["frames"][0]["passes"] for array in one["arrays"]]
    if kept == "none":
        assert set(map(type, arrays)) == {type(None)}
    else:
        assert any(isinstance(array, dict) and "d" not in array for array in arrays)


shapes = st.lists(st.integers(0, 90), min_size=0, max_size=5).map(tuple)


@given(shape=shapes, cells=st.sampled_from([4096, 1024, 256, 64]))
def test_no_more_elements_are_shown_than_asked_for_and_none_axis_is_lost(shape, cells):
    counts = shown_counts(shape, cells)
    assert math.prod(counts) <= cells
    assert all(min(size, 1) <= count <= size for count, size in zip(counts, shape, strict=True))
    if math.prod(shape) <= cells and all(size <= 64 for size in shape):
        assert counts == shape


@given(size=st.integers(1, 500), data=st.data())
def test_chosen_elements_begin_with_the_first_and_end_with_the_last(size, data):
    count = data.draw(st.integers(1, size))
    found = chosen(np.arange(size), (count,))
    assert found[0] == 0
    assert len(np.unique(found)) == count
    assert count == 1 or found[-1] == size - 1
    assert count == 1 or np.ptp(np.diff(found)) <= 1


# Formulas


def operation(summary="", forward="", backward=""):
    return RecordedOperation("Op", "pack", summary, forward, backward)


FORWARD = "@staticmethod\ndef forward(x):\n    {}"


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (operation("Affine map, ``X @ W + b``."), "X @ W + b"),
        (operation("Of ``x`` the square.", FORWARD.format("return x*x")), "x * x"),
        (operation("", FORWARD.format('"""Say."""\n    return x+1')), "x + 1"),
        (operation("", FORWARD.format("y = x\n    return y")), ""),
        (operation("", FORWARD.format("return")), ""),
        (operation("", "def forward(x): return (" * 500), ""),
        (operation("", "def forward(x): return " + "(" * 5000), ""),
        (operation("", FORWARD.format("return a" + ".b" * 900)), ""),
        (operation("", "\0"), ""),
        (operation("", "not python at all"), ""),
        (operation("", "x = 1"), ""),
        (operation(), ""),
    ],
)
def test_a_formula_is_what_the_documentation_says_or_the_function_returns(told, text):
    assert formula(told) == text


@pytest.mark.parametrize(
    ("backward", "parts"),
    [
        ("return grad * y, grad * x", ["grad * y", "grad * x"]),
        ("return grad @ W.T if wanted.X else None, None", ["grad @ W.T", "None"]),
        ("return None if not wanted.b else grad.sum(axis=0)", ["grad.sum(axis=0)"]),
        ("return grad if x else None", ["grad if x else None"]),
        ("g = grad\n    return g", []),
    ],
)
def test_derivatives_are_what_is_sent_to_each_input(backward, parts):
    assert derivatives(f"def backward(grad):\n    {backward}") == parts


# Graphs


def test_every_node_has_a_place_in_the_drawing():
    data = data_of(mftrace.report_html(recorded()))
    (graph,) = data["graphs"]
    drawing = graph["drawing"]
    assert sorted(i for box in drawing["boxes"] for i in box["nodes"]) == [
        *range(len(graph["nodes"]))
    ]
    links = {
        (drawing["boxes"][edge["from"]]["nodes"][0], drawing["boxes"][edge["to"]]["nodes"][0])
        for edge in drawing["edges"]
    }
    assert links == {(i, n) for n, node in enumerate(graph["nodes"]) for i in node["inputs"]}


def test_nodes_of_a_large_graph_share_boxes():
    x = node = mf.Input("x")
    for _ in range(500):
        node = np.tanh(node + x)
    with mf.tracing("record") as record:
        mf.Session(node).run({x: 0.5}).backward(wrt=[x])
    (graph,) = data_of(mftrace.report_html(record.recording))["graphs"]
    boxes = graph["drawing"]["boxes"]
    assert len(graph["nodes"]) == 1001
    assert len(boxes) <= 300
    assert sorted(i for box in boxes for i in box["nodes"]) == [*range(1001)]


def test_runs_of_two_graphs_each_have_their_own():
    x = mf.Input("x")
    sessions = mf.Session(x + 1.0), mf.Session(x * 3.0)
    with mf.tracing("record") as record:
        for session in sessions:
            session.run({x: 2.0})
    data = data_of(mftrace.report_html(record.recording))
    assert [(frame["key"], frame["graph"]) for frame in data["frames"]] == [("1", 0), ("2", 1)]


def test_steps_with_one_number_and_runs_beside_training_have_keys_of_their_own():
    x = mf.Input("x")
    cost = np.sum((x - mf.Parameter(1.0)) ** 2.0)
    with mf.tracing("record") as record:
        for _ in range(2):
            session = mf.Session(cost)
            session.step({x: [2.0]}, SGD(learning_rate=0.1))
        session.run({x: [2.0]})
    data = data_of(mftrace.report_html(record.recording))
    assert [frame["key"] for frame in data["frames"]] == ["1", "1-2", "run-3"]


def test_of_very_many_passes_of_a_run_some_are_shown():
    x = mf.Input("x")
    with mf.tracing("record") as record:
        run = mf.Session(x * x).run({x: 1.0})
        for seed in range(150):
            run.backward(grad=float(seed), wrt=[x])
    data = data_of(mftrace.report_html(record.recording))
    assert [len(frame["passes"]) for frame in data["frames"]] == [100]
    assert data["notes"] == ["Of one run 100 passes are shown at most."]


# Errors and files


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """A recording's file, and its lines as JSON."""
    path = tmp_path_factory.mktemp("hostile") / "run.jsonl"
    recorded(steps=2, path=path)
    return path, [json.loads(line) for line in path.read_text().splitlines()]


def leaves_of(value, place=()):
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves_of(value[key], (*place, key))
    elif place:
        yield place


TEXTS = st.sampled_from(["", "x", HOSTILE, "\ud800", "NaN", "return " * 9, "x" * 3000, "operation"])
NUMBERS = st.one_of(st.integers(0, 4), st.sampled_from([12, 2**53 + 1, 2**62, 1.5, "inf"]))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_can_be_read_can_be_shown(lines, data):
    path, told = lines
    changed = json.loads(json.dumps(told))
    for _ in range(data.draw(st.integers(1, 3))):
        line = changed[data.draw(st.integers(1, len(changed) - 1))]
        places = [place for place in leaves_of(line) if place[-1] not in ("event", "kind")]
        *place, last = data.draw(st.sampled_from(places or [("event",)]))
        for key in place:
            line = line[key]
        line[last] = data.draw(TEXTS if isinstance(line[last], str) else NUMBERS)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in changed))
    try:
        page = mftrace.report_html(mftrace.read(path))
    except RecordingError:
        return
    data_of(page)
    assert page.count("</script>") == 2


def test_a_recording_without_a_pass_is_an_error():
    with mf.tracing("record") as record:
        pass
    with pytest.raises(RecordingError, match="no pass"):
        mftrace.report_html(record.recording)


def test_a_limit_that_is_no_size_is_an_error():
    with pytest.raises(TracerOptionError, match="'large'"):
        mftrace.report_html(recorded(), limit="large")


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "run.html"
    path.write_text("before")
    with pytest.raises(RecordingError, match="cannot be written"):
        mftrace.save_report(recorded(), tmp_path / "missing" / "run.html")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(RecordingError, match="run.html cannot be written: full"):
        mftrace.save_report(recorded(), path)
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["run.html"]


# Commands


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recorded(path=tmp_path / "run.jsonl")
    return tmp_path


@pytest.fixture
def opened(monkeypatch, tmp_path):
    addresses = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(webbrowser, "open", lambda address: addresses.append(address) or True)
    return addresses


def run(*arguments):
    return CliRunner().invoke(main, ["trace", *arguments], catch_exceptions=False)


def test_report_writes_the_page_that_it_is_told_to(folder):
    done = run("report", "run.jsonl", "-o", "page.html", "--limit", "1MB")
    assert (done.exit_code, done.output) == (0, "page.html (0.1 MB)\n")
    assert (folder / "page.html").read_text().startswith("<!DOCTYPE html>")


def test_report_writes_beside_the_recording_by_default(folder):
    assert run("report", "run.jsonl").exit_code == 0
    assert data_of((folder / "run.html").read_text())["title"] == "run.jsonl"


def test_report_refuses_what_is_no_recording(folder):
    (folder / "notes.jsonl").write_text("{}\n")
    for name in ("notes.jsonl", "missing.jsonl"):
        done = run("report", name)
        assert done.exit_code == 2
        assert name in done.output
    assert not (folder / "notes.html").exists()


def test_view_opens_a_recording_a_page_or_the_newest_recording(folder, opened):
    for arguments in (["run.jsonl"], []):
        assert run("view", *arguments).exit_code == 0
        address = opened.pop()
        assert address.startswith("file://")
        assert address.endswith("/run.html")
    assert not (folder / "run.html").exists()
    run("report", "run.jsonl")
    assert run("view", "run.html").exit_code == 0
    assert opened == [(folder / "run.html").resolve().as_uri()]


def test_view_says_where_the_page_is_if_there_is_no_browser(folder, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    done = run("view", "run.jsonl")
    assert done.exit_code == 1
    assert "run.html\nError: no browser was found" in done.output


def test_view_needs_a_recording(tmp_path, monkeypatch, opened):
    monkeypatch.chdir(tmp_path)
    done = run("view")
    assert done.exit_code == 2
    assert "there is no recording in this folder" in done.output
    assert opened == []


# The documentation


def test_the_page_about_pages_does_what_it_says(page_of_programs, tmp_path, monkeypatch, opened):
    monkeypatch.chdir(tmp_path)
    for printed, said in page_of_programs("docs/report.md"):
        assert printed == said
    text = (Path(__file__).parent.parent / "docs" / "report.md").read_text(encoding="utf-8")
    commands = re.findall(r"^miniflow (.*)$", text, re.M)
    assert len(commands) == 3
    for command in commands:
        done = CliRunner().invoke(main, command.split(), catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert len(opened) == 1
    data = data_of((tmp_path / "run.html").read_text(encoding="utf-8"))
    assert len(data["frames"]) == 138
    assert len(data_of((tmp_path / "images.html").read_text(encoding="utf-8"))["frames"]) == 30
    for image in re.findall(r"\((images/.*?)\)", text):
        assert (Path(__file__).parent.parent / "docs" / image).exists()
