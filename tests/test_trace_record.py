"""Recordings: what is told is what is read back, and nothing read is trusted."""

from __future__ import annotations

import json
import shutil
import zipfile

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import mfcore as mf
import mfops_basic as ops
import mftrace
from mfcore.errors import DetachedTracerWarning
from mfops_nn import MSE, Linear, Sigmoid
from mfoptim import SGD, fit
from mftrace import RecordingError, TracerOptionError, summary_of
from mftrace.record import size_in_bytes
from mftrace.summary import summarise

SGD_ = SGD(learning_rate=0.1)


class Layer:
    """One layer, a batch for it, and a session."""

    def __init__(self, size=3):
        rng = np.random.default_rng(1)
        self.X, self.y = mf.Input("X"), mf.Input("y")
        self.W = mf.Parameter(rng.normal(size=(size, 4)), name="W")
        self.b = mf.Parameter(np.zeros(4), name="b")
        self.cost = MSE(self.y, Sigmoid(Linear(self.X, self.W, self.b)))
        self.feeds = {self.X: rng.normal(size=(6, size)), self.y: rng.normal(size=(6, 4))}
        self.session = mf.Session(self.cost, engine="reference")

    def train(self, steps):
        return [self.session.step(self.feeds, SGD_) for _ in range(steps)]


class Listener:
    """Keeps what the hooks tell, to compare a recording with."""

    def __init__(self):
        self.values, self.received, self.sent, self.grads = [], [], [], []

    @mf.hookimpl
    def mf_forward_finish(self, graph, node, value):
        self.values.append((graph.name(node), np.array(value)))

    @mf.hookimpl
    def mf_backward_start(self, graph, node, received, grad):
        self.received.append(
            [(None if s is None else graph.name(s), np.array(g)) for s, g in received]
        )
        self.grads.append((graph.name(node), np.array(grad)))

    @mf.hookimpl
    def mf_backward_finish(self, graph, node, sent):
        self.sent.append({k: None if v is None else np.array(v) for k, v in sent.items()})


def same(one, other):
    return (
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    )


@pytest.fixture(params=["file", "memory"])
def recorded(request, tmp_path):
    """Record what a function does, in memory or in a file; return the recording."""

    def record(act, **options):
        if request.param == "file":
            options["path"] = tmp_path / "run.jsonl"
        with mf.tracing("record", **options) as tracer:
            act()
        return tracer.recording

    return record


# What is recorded


def test_a_recording_holds_the_graph_the_steps_and_every_array(recorded):
    layer, listener, losses = Layer(), Listener(), []

    def act():
        with mf.tracing(listener):
            losses.extend(layer.train(3))

    recording = recorded(act)

    graph = recording.graph
    assert [node.name for node in graph.nodes] == [
        layer.session.graph.name(node) for node in layer.session.graph
    ]
    linear = graph["linear_1"]
    assert linear.operation.qualified_name == "mfops_nn.Linear"
    assert [graph.nodes[i].name for i in linear.inputs] == ["X", "W", "b"]
    assert linear.fields == ("X", "W", "b")
    assert (linear.kind, graph["X"].kind, graph["W"].kind) == ("operation", "input", "parameter")
    assert (linear.file, linear.line) == layer.session.graph["linear_1"].site
    assert "def forward" in linear.operation.forward
    assert recording.losses.tolist() == losses
    assert [step.number for step in recording.steps] == [1, 2, 3]
    assert [[p.phase for p in step.passes] for step in recording.steps] == [
        ["forward", "backward"]
    ] * 3
    assert [p.run for p in recording.passes] == [0, 0, 1, 1, 2, 2]

    forward = [e for p in recording.passes if p.phase == "forward" for e in p.events]
    assert [e.node.name for e in forward] == [name for name, _ in listener.values]
    assert all(same(e.value.array, v) for e, (_, v) in zip(forward, listener.values, strict=True))
    backward = [e for p in recording.passes if p.phase == "backward" for e in p.events]
    assert [e.node.name for e in backward] == [name for name, _ in listener.grads]
    sent = iter(listener.sent)
    for event, told, (_, grad) in zip(backward, listener.received, listener.grads, strict=True):
        assert [s and s.name for s, _ in event.received] == [name for name, _ in told]
        for (_, array), (_, expected) in zip(event.received, told, strict=True):
            assert same(array.array, expected)
        assert same(event.grad.array, grad)
        if event.sent is not None:
            expected = next(sent)
            assert list(event.sent) == list(expected)
            for name, array in event.sent.items():
                assert (array is None) == (expected[name] is None)
                assert array is None or same(array.array, expected[name])
    assert next(sent, None) is None


def test_fan_out_one_array_sent_twice_and_unusual_dtypes_are_read_back(recorded):
    x, mask = mf.Input("x"), mf.Input("mask")
    graph = mf.Session(
        (ops.Add(x, x, x) * np.where(mask, x, 2)).sum() + np.float32(1), engine="reference"
    )
    listener = Listener()

    def act():
        with mf.tracing(listener):
            for dtype in ("f4", "f8"):
                values = np.arange(4, dtype=dtype)
                graph.run({x: values, mask: values > 1}).backward(wrt=[x])

    recording = recorded(act)

    told = [v for _, v in listener.values]
    read = [e.value.array for p in recording.passes if p.phase == "forward" for e in p.events]
    assert {v.dtype.str for v in told} >= {"|b1", "<f4", "<f8"}
    assert all(same(a, b) for a, b in zip(told, read, strict=True))
    totals = [e.grad.array for p in recording.passes if p.phase == "backward" for e in p.events]
    assert all(same(a, g) for a, (_, g) in zip(totals, listener.grads, strict=True))


def test_what_is_fed_may_be_overwritten_after_the_run(recorded):
    x = mf.Input("x")
    session, batch = mf.Session(x.reshape(2, 2).sum(), engine="reference"), np.ones(4)

    def act():
        session.run({x: batch})
        batch[:] = 7

    events = recorded(act).passes[0].events

    assert events[0].value.array.tolist() == [1] * 4
    assert events[1].value.array.tolist() == [[1, 1], [1, 1]]


def test_arrays_read_back_are_read_only(recorded):
    layer = Layer()
    array = recorded(lambda: layer.train(1)).passes[0]["W"].value.array

    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_epochs_and_their_logs(recorded):
    layer = Layer()

    recording = recorded(lambda: fit(layer.cost, layer.feeds, SGD_, epochs=3, batch_size=2, seed=0))

    assert [epoch.number for epoch in recording.epochs] == [1, 2, 3]
    assert set(recording.epochs[0].logs) == {"loss", "seconds"}
    assert [step.epoch for step in recording.steps] == [1] * 3 + [2] * 3 + [3] * 3


def test_losses_and_arrays_that_are_not_finite(recorded):
    w = mf.Parameter([1.0, 2.0], name="w")
    x = mf.Input("x")
    session = mf.Session((w * x).sum(), engine="reference")

    def act():
        with np.errstate(all="ignore"):
            for value in (np.nan, np.inf, -np.inf):
                session.step({x: [value, 1.0]}, SGD(learning_rate=0.0))

    recording = recorded(act)

    assert np.isnan(recording.losses[0])
    assert recording.passes[0]["x"].value.summary.nan == 1


def test_a_pass_that_raises_is_marked(recorded):
    x = mf.Input("x")
    session = mf.Session(x @ mf.Constant(np.eye(2)), engine="reference")

    def act():
        with pytest.raises(mf.errors.ForwardError):
            session.run({x: np.ones(3)})
        session.run({x: np.ones(2)})

    passes = recorded(act).passes

    assert [p.complete for p in passes] == [False, True]
    assert [event.node.name for event in passes[0].events] == ["x", "constant_1"]


def test_filters_leave_out_nodes_of_a_recording(recorded):
    layer = Layer()
    recording = recorded(lambda: layer.train(2), nodes="linear_1", phases=["backward", "training"])

    (event,) = recording.passes[0].events
    assert event.node.name == "linear_1"
    assert event.received[0][0].name == "sigmoid_1"
    assert set(event.sent) == {"X", "W", "b"}
    with pytest.raises(KeyError, match="nothing was recorded of the node 'W'"):
        recording.passes[0]["W"]


def test_every_records_passes_of_some_steps_and_losses_of_all(recorded):
    recording = recorded(lambda: Layer().train(7), every=3)

    assert len(recording.steps) == 7
    assert [step.number for step in recording.steps if step.passes] == [1, 4, 7]


def test_summaries_stand_for_large_arrays_and_small_ones_are_kept(recorded):
    layer = Layer(size=10)
    recording = recorded(lambda: layer.train(2), arrays="summary")

    fed, start = recording.passes[0]["X"].value, recording.passes[0]["b"].value
    assert fed.array is None
    assert not fed.stored
    assert fed.summary == summary_of(layer.feeds[layer.X])
    assert start.array.tolist() == [0.0] * 4
    assert start.summary.maximum == 0.0


def test_shapes_alone(recorded):
    value = recorded(lambda: Layer().train(1), arrays="none").passes[0]["X"].value

    assert (value.shape, value.dtype, value.array, value.summary) == ((6, 3), "f8", None, None)


def test_past_the_limit_arrays_are_summarised_and_then_left_out(tmp_path):
    path = tmp_path / "run.jsonl"
    layer = Layer(size=40)
    with mf.tracing("record", path=path, limit="300KB") as tracer:
        layer.train(3000)
    recording = tracer.recording

    stored = [p["X"].value.stored for p in recording.passes if p.phase == "forward"]
    assert stored[0]
    assert not stored[-1]
    assert sorted(stored, reverse=True) == stored
    assert recording.dropped
    assert len(recording.steps) == 3000
    losses = 3000 * 75  # the lines of the steps themselves go on
    assert path.stat().st_size + path.with_suffix(".npz").stat().st_size < 300_000 + losses


def test_the_arrays_are_a_file_that_numpy_opens(tmp_path):
    with mf.tracing("record", path=tmp_path / "run.jsonl"):
        Layer().train(2)

    with np.load(tmp_path / "run.npz", allow_pickle=False) as arrays:
        assert {arrays[name].dtype.str for name in arrays.files} == {"<f8"}


def test_an_unfinished_file_is_said_to_be_one(tmp_path):
    path = tmp_path / "run.jsonl"
    with mf.tracing("record", path=path) as tracer:
        Layer().train(1)
        with pytest.raises(RecordingError, match="still being written"):
            assert tracer.recording

    assert len(tracer.recording.steps) == 1


def test_what_cannot_be_written_is_told_and_the_run_goes_on(tmp_path, monkeypatch):
    layer = Layer()
    monkeypatch.setattr("mftrace.record.ROWS", 1)
    with pytest.warns(DetachedTracerWarning, match="No space left"):
        with mf.tracing("record", path=tmp_path / "run.jsonl") as tracer:

            def full(*given):
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(tracer._sink, "add", full)
            losses = layer.train(5)

    assert losses == Layer().train(5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arrays": "some"}, "arrays must be one of all, summary, none"),
        ({"every": 0}, "every must be"),
        ({"limit": "many"}, "a size is a number of bytes"),
        ({"limit": -1}, "a size is"),
        ({"path": 3}, "path must be the path of a file"),
        ({"path": "run.npz"}, "must be the file of events"),
    ],
)
def test_options_that_make_no_sense_are_errors(options, message):
    with pytest.raises(TracerOptionError, match=message), mf.tracing("record", **options):
        pytest.fail("entered")


def test_a_folder_that_is_missing_is_told_before_anything_runs(tmp_path):
    with pytest.raises(RecordingError, match="cannot be written"):
        mftrace.RecordTracer(path=tmp_path / "nowhere" / "run.jsonl")


@pytest.mark.parametrize(
    ("text", "size"), [("50MB", 50e6), ("1.5k", 1500), ("2GB", 2e9), (" 7 ", 7), (9, 9)]
)
def test_sizes(text, size):
    assert size_in_bytes(text) == size


# Summaries


@given(
    npst.arrays(
        st.sampled_from([np.float64, np.float32, np.int32, np.bool_, np.complex128]),
        npst.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9),
    )
)
@example(np.array([[1e308, -1e308, 0.0]]))
@example(np.array([[np.inf, np.nan, -np.inf], [5e-324, 0, 0]]))
def test_summaries_are_what_numpy_says(rows):
    statistics, histogram = summarise(rows)

    for row, numbers, counts in zip(rows, statistics, histogram, strict=True):
        with np.errstate(all="ignore"):
            x = np.abs(row) if rows.dtype.kind == "c" else row
            x = x.astype(np.float64)
        known = x[np.isfinite(x)]
        assert numbers[4:].tolist() == [
            np.isnan(x).sum(), np.isposinf(x).sum(), np.isneginf(x).sum()
        ]  # fmt: skip
        assert counts.sum() == known.size
        if not known.size:
            assert np.isnan(numbers[:4]).all()
            continue
        assert (numbers[0], numbers[1]) == (known.min(), known.max())
        scale = np.abs(known).max() or 1.0
        share = known / scale
        width = share.max() - share.min()
        tiny = 1e-323  # where numbers have no digits left
        assert abs(numbers[2] - share.mean() * scale) <= 1e-12 * scale + tiny
        assert abs(numbers[3] - share.std() * scale) <= (1e-7 * width + 1e-12) * scale + tiny
        assert counts[0] > 0
        if width > 1e-9:
            assert counts[-1] > 0


def test_a_histogram_has_equal_bins():
    summary = summary_of(np.linspace(0, 1, 16 * 50, endpoint=False))

    assert sum(summary.histogram) == 800
    assert max(summary.histogram) - min(summary.histogram) <= 1


# Hostile files


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A small recording of everything: arrays, summaries, epochs, a pass that raised."""
    path = tmp_path_factory.mktemp("good") / "run.jsonl"
    layer = Layer(size=5)
    x = mf.Input("x")
    broken = mf.Session(x @ mf.Constant(np.eye(2)), engine="reference")
    with mf.tracing("record", path=path, limit="16KB"):
        with pytest.raises(mf.errors.ForwardError):
            broken.run({x: np.ones(3)})
        fit(layer.cost, layer.feeds, SGD_, epochs=2, batch_size=3, seed=0)
    return path


def everything(path):
    """Read a recording, and all that can be read of it."""
    recording = mftrace.read(path)
    for event in recording:
        for one in getattr(event, "events", ()):
            arrays = [one.value] if one.phase == "forward" else [a for _, a in one.received]
            arrays += [] if one.phase == "forward" else [*(one.sent or {}).values(), one.grad]
            for array in arrays:
                if array is not None:
                    _ = array.array, array.summary, array.shape, array.dtype
    return recording


def copy(good, folder):
    for path in (good, good.with_suffix(".npz")):
        shutil.copy(path, folder)
    return folder / good.name


def test_the_good_file_has_something_of_everything(good):
    text = good.read_text()
    lines = [json.loads(line) for line in text.splitlines()]

    assert {line["event"] for line in lines} >= {
        "recording", "graph", "layout", "block", "pass", "step", "epoch", "end"
    }  # fmt: skip
    assert any(line.get("summarised") for line in lines)
    assert any(line.get("complete") is False for line in lines)
    assert everything(good).epochs


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("bad")


def survives(path):
    """Reading ends well, or with an error that names the file."""
    try:
        everything(path)
    except RecordingError as error:
        told = str(error)
    else:
        told = ""
    assert not told or path.stem in told
    return told


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["", "nan", "forward", "<f8", "|O", "../x", "a" * 300, "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


def places_of(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield from places_of(inner, (*path, key))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_lines_with_any_value_changed_are_read_or_refused(good, place, data):
    path = copy(good, place)
    lines = path.read_text().splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    line = json.loads(lines[number])
    target = data.draw(st.sampled_from([p for p in places_of(line) if p]))
    inner = line
    for key in target[:-1]:
        inner = inner[key]
    if data.draw(st.booleans()):
        inner[target[-1]] = data.draw(values)
    else:
        del inner[target[-1]]
    lines[number] = json.dumps(line)
    path.write_text("\n".join(lines) + "\n")

    survives(path)


@settings(max_examples=100, deadline=None)
@given(st.data())
@pytest.mark.parametrize("suffix", [".jsonl", ".npz"])
def test_files_with_any_bytes_changed_are_read_or_refused(good, place, suffix, data):
    path = copy(good, place)
    broken = path.with_suffix(suffix)
    content = bytearray(broken.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        new = data.draw(st.binary(max_size=6))
        content[at : at + data.draw(st.integers(0, 6))] = new
    broken.write_bytes(content)

    survives(path)


@settings(max_examples=60, deadline=None)
@given(st.data())
@pytest.mark.parametrize("suffix", [".jsonl", ".npz"])
def test_files_that_were_cut_off_are_refused(good, place, suffix, data):
    path = copy(good, place)
    broken = path.with_suffix(suffix)
    content = broken.read_bytes()
    broken.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])

    assert survives(path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_lines_that_are_missing_doubled_or_exchanged_are_refused_or_read(good, place, data):
    path = copy(good, place)
    lines = path.read_text().splitlines()
    i, j = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    how = data.draw(st.sampled_from(["drop", "double", "exchange"]))
    if how == "drop":
        del lines[i]
    elif how == "double":
        lines.insert(j, lines[i])
    else:
        lines[i], lines[j] = lines[j], lines[i]
    path.write_text("\n".join(lines) + "\n")

    told = survives(path)

    if how == "drop":
        assert told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello\n", "line 1: not JSON"),
        (b"[1]\n", "line 1: must be a JSON object"),
        (b"{}\n", "line 1: this is no recording"),
        (b'{"event":"recording"}\n', "schema must be a number"),
        (b'{"event":"recording","schema":2,"id":""}\n', "by a later version"),
        (b'{"event":"recording","schema":1}\n', "id is missing"),
        (b'{"event":"recording","schema":1,"id":"a"}', "cut off in the middle"),
        (b'{"event":NaN}\n', "NaN is not JSON"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[" * 100_000 + b"\n", "not JSON"),
        (b'{"event":' + b"9" * 5000 + b"}\n", "not JSON"),
    ],
)
def test_what_is_no_recording_is_told_with_its_line(tmp_path, content, message):
    path = tmp_path / "run.jsonl"
    path.write_bytes(content)

    with pytest.raises(RecordingError, match=message) as caught:
        mftrace.read(path)

    assert str(path) in str(caught.value)


def test_files_that_are_missing_are_told(good, tmp_path):
    with pytest.raises(RecordingError, match="No such file"):
        mftrace.read(tmp_path / "nothing.jsonl")
    shutil.copy(good, tmp_path)
    with pytest.raises(RecordingError, match=r"run.npz is missing"):
        mftrace.read(tmp_path / "run.jsonl")


def test_a_line_that_is_too_long_is_not_read(good, tmp_path, monkeypatch):
    monkeypatch.setattr("mftrace.reading.LONGEST_LINE", 1000)

    with pytest.raises(RecordingError, match="line 2: longer than 1000 bytes"):
        mftrace.read(good)


def test_the_arrays_of_another_recording_are_refused(good, tmp_path):
    path = copy(good, tmp_path)
    with mf.tracing("record", path=tmp_path / "other.jsonl"):
        Layer().train(1)
    shutil.move(tmp_path / "other.npz", path.with_suffix(".npz"))

    with pytest.raises(RecordingError, match="belongs to another recording"):
        mftrace.read(path)


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """Write the arrays of a recording anew, changed, with all checksums right."""
    arrays = path.with_suffix(".npz")
    with zipfile.ZipFile(arrays) as archive:
        comment = archive.comment
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(arrays, "w", compression) as archive:
        archive.comment = comment
        for name, data in change(members).items():
            archive.writestr(name, data)


def test_compressed_arrays_are_refused_unread(good, tmp_path):
    path = copy(good, tmp_path)
    rewritten(path, lambda members: members, zipfile.ZIP_DEFLATED)

    with pytest.raises(RecordingError, match="is compressed"):
        mftrace.read(path)


def test_an_array_that_says_it_is_another_is_refused(good, tmp_path):
    path = copy(good, tmp_path)
    rewritten(path, lambda members: {k: v.replace(b"'<f8'", b"'|O8'") for k, v in members.items()})
    recording = mftrace.read(path)

    with pytest.raises(RecordingError, match="is not of dtype float64"):
        _ = recording.steps[0].passes[0]["b"].value.array


@pytest.mark.parametrize("change", ["longer", "gone"])
def test_arrays_of_another_size_are_refused_unread(good, tmp_path, change):
    path = copy(good, tmp_path)
    if change == "longer":
        rewritten(path, lambda members: {k: v + b"0" for k, v in members.items()})
    else:
        rewritten(path, lambda members: {})

    with pytest.raises(RecordingError, match=r"run.jsonl, line \d+: .*run.npz"):
        mftrace.read(path)


def test_huge_shapes_cost_nothing(good, tmp_path):
    path = copy(good, tmp_path)
    path.write_text(path.read_text().replace('[[3,5],"<f8"]', '[[3000000000,5],"<f8"]'))

    with pytest.raises(RecordingError, match=r"line \d+: .* takes \d+ bytes"):
        mftrace.read(path)
