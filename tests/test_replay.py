"""Replay files give the failure back, and nothing that was changed in them is trusted."""

from __future__ import annotations

import io
import json
import zipfile

import attrs
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from operation_samples import SAMPLES as SAMPLES_OF_ALL

import mfcore as mf
from mfops_basic import BroadcastTo, Concatenate, OneHot
from mfops_nn import Conv2D, Dropout
from mftrace import ReplayError, replay
from mftrace.application import UNKNOWN, Application
from mftrace.guard_report import Checks
from mftrace.plain_values import NotPlainError, decode, encode
from mftrace.replay_file import read_replay, replay_bytes
from miniflow.cli import main


@mf.operation
class Cube(mf.Node):
    """An operation of no pack."""

    x: mf.Node

    @staticmethod
    def forward(x):
        return x * x * x


def application(operation, inputs, phase="forward", **given):
    """An application as a guard makes it."""
    return Application(
        operation=operation,
        node="node_1",
        pack="",
        site=("model.py", 7),
        phase=phase,
        inputs=tuple(inputs),
        sources=tuple(f"in_{i}" for i in range(len(inputs))),
        checks=Checks(),
        **{"hyperparameters": {}, **given},
    )


def logarithm(x=(-1.0, 1.0)):
    return application(mf.registry.current().operation("mfops_basic.Log"), [np.array(x)])


def convolution():
    """A backward pass with hyperparameters, several inputs and a bad gradient."""
    x, W = np.full((1, 1, 3, 3), 1e200), np.full((1, 1, 2, 2), 1e200)
    grad = np.full((1, 1, 2, 2), 1e200)
    return application(
        Conv2D,
        [x, W, np.zeros(1)],
        "backward",
        hyperparameters={"stride": (1, 1), "padding": (0, 0)},
        grad=grad,
        value=np.ones((1, 1, 2, 2)),
        wanted=(True, True, False),
    )


def dropout():
    """A backward pass of an operation that draws and saves."""
    return application(
        Dropout,
        [np.ones(4)],
        "backward",
        hyperparameters={"rate": 0.5},
        grad=np.full(4, 1e308),
        value=np.ones(4),
        wanted=(True,),
        training=True,
        rng=dict(np.random.default_rng(1).bit_generator.state),
    )


def written(made, path):
    path.write_bytes(replay_bytes(made))
    return path


def parts(made):
    """The members of a replay file by name."""
    with zipfile.ZipFile(io.BytesIO(replay_bytes(made))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, contents in members.items():
            made.writestr(zipfile.ZipInfo(name), contents, compression)
    return file.getvalue()


def edited(made, **changes):
    """A replay file whose description was changed."""
    members = parts(made)
    about = json.loads(members["replay.json"]) | changes
    return archive({**members, "replay.json": json.dumps(about)})


# Writing and reading


@pytest.mark.parametrize("make", [logarithm, convolution, dropout])
def test_a_failure_comes_up_again_from_its_file(make, tmp_path):
    made = make()
    with np.errstate(all="ignore"):
        expected = made.report()

    report = replay(written(made, tmp_path / "failure.npz"))

    assert report.reproduced
    assert (report.results, report.inputs) == (expected.results, expected.inputs)


@pytest.mark.parametrize("sample", SAMPLES_OF_ALL, ids=str)
def test_every_operation_runs_again_from_its_file_with_the_same_bits(sample, tmp_path):
    inputs = [mf.Input(f"in_{i}") for i in range(len(sample.inputs))]
    node = sample.operation(*inputs, **sample.hyperparameters)
    run = mf.Session(node, engine="reference", seed=0).run(
        dict(zip(inputs, sample.inputs, strict=True))
    )
    value = run[node]
    grad = np.ones(value.shape) * 0.5
    wrt = [inputs[k] for k in sample.differentiable]
    made = application(
        sample.operation,
        [run[x] for x in inputs],
        "backward",
        hyperparameters={n: getattr(node, n) for n in mf.spec_of(node).hyperparameters},
        grad=grad,
        value=value,
        wanted=tuple(x in wrt for x in inputs),
        rng=dict(np.random.default_rng(0).bit_generator.state),
    )

    read = read_replay(written(made, tmp_path / "sample.npz"))

    assert read.forward()[0].tobytes() == value.tobytes()
    sent = list(read.backward().values()) if wrt else []
    for k in sample.differentiable:
        expected = run.backward(wrt=wrt, grad=grad)[inputs[k]]
        found = np.zeros(expected.shape) if sent[k] is None else np.asarray(sent[k])
        assert found.tobytes() == np.asarray(expected).tobytes()


def test_the_same_failure_gives_the_same_bytes():
    assert replay_bytes(convolution()) == replay_bytes(convolution())


def test_numpy_reads_the_arrays_without_pickle(tmp_path):
    path = written(logarithm(), tmp_path / "failure.npz")
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["array_0"].tolist() == [-1.0, 1.0]


def test_a_file_that_does_not_fail_says_so(tmp_path):
    report = replay(written(logarithm([1.0, 2.0]), tmp_path / "good.npz"))

    assert not report.reproduced
    assert str(report).startswith(
        "node_1 gave nothing bad in forward: the failure did not come up again"
    )


def test_another_version_of_the_pack_is_told(tmp_path):
    path = tmp_path / "failure.npz"
    path.write_bytes(edited(logarithm(), pack="mfops_basic 0.0.1"))
    assert replay(path).notes == ("written with mfops_basic 0.0.1",)


def test_what_forward_saved_can_be_in_the_file(tmp_path):
    made = attrs.evolve(dropout(), saved=np.array([2.0, 0.0, 2.0, 2.0]), rng=None)

    report = replay(written(made, tmp_path / "failure.npz"))

    assert report.results[0].counts == (("inf", 3),)


def test_an_operation_of_no_pack_is_given_as_a_class(tmp_path):
    path = written(application(Cube, [np.array(np.inf)]), tmp_path / "failure.npz")

    with pytest.raises(ReplayError, match=f"{Cube.qualified_name()} is not there"):
        replay(path)
    assert replay(path, operation=Cube).reproduced
    with pytest.raises(
        ReplayError, match=f"it is of {Cube.qualified_name()}, not of mfops_nn.Conv2D"
    ):
        replay(path, operation=Conv2D)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([..., np.dtype("float32"), np.dtype("int64"), np.dtype(bool)]),
    st.slices(10),
    npst.arrays(
        st.sampled_from(["f8", "f4", ">i4", "?", "u1", "c16"]), npst.array_shapes(min_dims=0)
    ),
    npst.from_dtype(np.dtype("f4")),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(VALUES)
@settings(max_examples=100)
def test_plain_values_come_back_as_they_were(value):
    arrays = []
    read = json.loads(json.dumps(encode(value, arrays), allow_nan=False))
    _assert_same(decode(read, arrays), value)


def _assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(other, np.ndarray | np.generic):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(other, list | tuple):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            _assert_same(mine, theirs)
    elif isinstance(other, dict):
        assert list(one) == list(other)
        _assert_same(list(one.values()), list(other.values()))
    elif isinstance(other, float) and np.isnan(other):
        assert np.isnan(one)
    else:
        assert one == other


def deep():
    value = ()
    for _ in range(30):
        value = (value,)
    return value


@pytest.mark.parametrize(
    "value", [object(), print, {1: 2}, {1, 2}, b"bytes", np.array([None]), np.array(["a"]), deep()]
)
def test_what_is_not_plain_is_refused(value):
    with pytest.raises(NotPlainError):
        encode(value, [])


# Files that are not to be trusted


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ReplayError, match="cannot be read"):
        replay(tmp_path / "nothing.npz")


@pytest.mark.parametrize("size", [0, 1, 21, 22, 200, -1, -22, -100])
def test_a_file_that_was_cut_off_is_an_error(size, tmp_path):
    path = tmp_path / "failure.npz"
    whole = replay_bytes(convolution())
    path.write_bytes(whole[:size])
    with pytest.raises(ReplayError):
        replay(path)


def test_a_pickle_is_never_read(tmp_path):
    hostile = io.BytesIO()
    np.save(hostile, np.array([Cube]), allow_pickle=True)
    path = tmp_path / "failure.npz"
    path.write_bytes(archive({**parts(logarithm()), "array_0.npy": hostile.getvalue()}))
    with pytest.raises(ReplayError, match="no header that this reads"):
        replay(path)


def array_of(header, contents=b"\x00" * 16):
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + contents


@pytest.mark.parametrize(
    "contents",
    [
        array_of("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000,), }"),
        array_of("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }"),
        array_of("{'descr': '<f8', 'fortran_order': False, 'shape': (-2,), }"),
        array_of("{'descr': '<f7', 'fortran_order': False, 'shape': (2,), }"),
        array_of("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }"),
        array_of("{'descr': '<f8', 'fortran_order': False, 'shape': " + "(1, " * 20 + "2,), }"),
        array_of("__import__('os').abort()"),
        array_of("{'descr': '|b1', 'fortran_order': False, 'shape': (16,), }", b"\x02" * 16),
        b"\x93NUMPY\x03\x00",
        b"",
    ],
)
def test_an_array_that_is_not_what_it_says_is_an_error(contents, tmp_path):
    path = tmp_path / "failure.npz"
    path.write_bytes(archive({**parts(logarithm()), "array_0.npy": contents}))
    with pytest.raises(ReplayError):
        replay(path)


def test_compressed_parts_are_refused_before_they_are_read(tmp_path):
    bomb = {**parts(logarithm()), "array_0.npy": bytes(50_000_000)}
    path = tmp_path / "failure.npz"
    path.write_bytes(archive(bomb, zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 100_000
    with pytest.raises(ReplayError, match="compressed"):
        replay(path)


def test_files_and_results_have_limits(tmp_path):
    path = written(logarithm(np.linspace(-1, 1, 1000)), tmp_path / "failure.npz")
    assert replay(path).reproduced
    with pytest.raises(ReplayError, match="more than 5,000 bytes; allow more with limit="):
        replay(path, limit=5000)


@pytest.mark.parametrize(
    ("operation", "inputs", "hyperparameters", "message"),
    [
        (OneHot, [np.arange(4)], {"depth": 10**12}, "depth=.* of OneHot is too large"),
        (Conv2D, [np.ones((1, 1, 2, 2))] * 2, {"padding": (10**5, 10**5)}, "stride=.* too large"),
        (BroadcastTo, [np.ones(3)], {"shape": (10**5, 1000, 3)}, "shape=.* too large"),
        (OneHot, [np.arange(1000)], {"depth": 10**6}, "the value of OneHot would have more"),
    ],
)
def test_small_files_cannot_ask_for_large_results(
    operation, inputs, hyperparameters, message, tmp_path
):
    if operation is Conv2D:
        inputs = [*inputs, np.zeros(1)]
    defaults = {
        OneHot: {"dtype": np.dtype(np.float64)},
        Conv2D: {"stride": (10**5, 10**5)},
        BroadcastTo: {},
    }
    made = application(operation, inputs, hyperparameters=defaults[operation] | hyperparameters)
    with pytest.raises(ReplayError, match=message):
        replay(written(made, tmp_path / "failure.npz"))


def test_too_many_parts_are_refused(tmp_path):
    path = tmp_path / "failure.npz"
    many = {f"array_{i}.npy": b"" for i in range(50_000)}
    path.write_bytes(archive({**parts(logarithm()), **many}))
    with pytest.raises(ReplayError, match="too many parts"):
        replay(path)


@pytest.mark.parametrize("name", ["../evil.npy", "/etc/evil.npy", "array_7.npy", "other"])
def test_parts_of_other_names_are_refused(name, tmp_path):
    path = tmp_path / "failure.npz"
    path.write_bytes(archive({**parts(logarithm()), name: b""}))
    with pytest.raises(ReplayError, match="other parts"):
        replay(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "pickle"}, "it is no replay file"),
        ({"version": 99}, "it is of version 99; this reads 1"),
        ({"operation": "os.system"}, "the operation os.system is not there"),
        ({"operation": "Log"}, "names no pack"),
        ({"operation": "mfops_basic.Nothing"}, "is not there"),
        ({"operation": "mfops_basic.Divide"}, "it holds 1 inputs, which Divide does not take"),
        ({"operation": "mfops_basic.Sum"}, "it does not hold the hyperparameters of Sum"),
        ({"operation": "mfops_nn.Dropout", "hyperparameters": {"rate": 0.5}}, "random state"),
        ({"operation": "mfops_nn.Dropout", "hyperparameters": {"rate": 7}}, "does not take"),
        ({"operation": None}, "operation is not what it should be"),
        ({"operation": "a" * 5000}, "operation is too long"),
        ({"phase": "sideways"}, "its description"),
        ({"phase": "backward"}, "whose gradient is wanted"),
        ({"phase": "backward", "wanted": [True]}, "lacks the gradient"),
        ({"site": ["model.py"]}, "its description"),
        ({"checks": [True, True, "0", None]}, "its description"),
        ({"inputs": 3}, "inputs is not what it should be"),
        ({"inputs": [3]}, "source is not what it should be"),
        ({"inputs": [{"source": "x", "value": {"array": 9}}]}, "is not there"),
        ({"inputs": [{"source": "x", "value": {"array": -1}}]}, "is not there"),
        ({"inputs": [{"source": "x", "value": "text"}]}, "an input is no array"),
        ({"inputs": [{"source": "x", "value": {"object": "os"}}]}, "of no known form"),
        ({"rng": {"dict": {"bit_generator": "MT19937"}}}, "must be one of PCG64"),
        ({"rng": {"dict": {"bit_generator": "PCG64", "state": 3}}}, "no state of a random"),
        ({"rng": 3}, "its description"),
    ],
)
def test_a_description_that_was_edited_is_an_error(changes, message, tmp_path):
    path = tmp_path / "failure.npz"
    path.write_bytes(edited(logarithm(), **changes))
    with pytest.raises(ReplayError, match=message):
        replay(path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"format": NaN}',
        b"[" * 100_000,
        b'{"format": "miniflow replay", "version": 1, "step": ' + b"1" * 10_000 + b"}",
        b" " * 2_000_000,
    ],
)
def test_a_description_that_is_none_is_an_error(text, tmp_path):
    path = tmp_path / "failure.npz"
    path.write_bytes(archive({**parts(logarithm()), "replay.json": text}))
    with pytest.raises(ReplayError):
        replay(path)


def test_an_operation_that_raises_is_an_error(tmp_path):
    made = application(Concatenate, [np.ones((2, 2)), np.ones((2, 3))], hyperparameters={"axis": 0})
    with pytest.raises(ReplayError, match="does not take what it holds"):
        replay(written(made, tmp_path / "failure.npz"))


SAMPLES = (logarithm, convolution, dropout)


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_bytes_give_a_report_or_a_replay_error(tmp_path, data):
    contents = bytearray(replay_bytes(data.draw(st.sampled_from(SAMPLES))()))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(contents) - 1))
        change = data.draw(st.sampled_from(["set", "remove", "insert"]))
        if change == "set":
            contents[place] = data.draw(st.integers(0, 255))
        elif change == "remove":
            del contents[place : place + data.draw(st.integers(1, 60))]
        else:
            contents[place:place] = data.draw(st.binary(min_size=1, max_size=8))
    path = tmp_path / "failure.npz"
    path.write_bytes(contents)

    _reports_or_refuses(path)


JSON = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4),
    st.just([]),
    st.just({}),
    st.integers(-1, 5).map(lambda i: {"array": i}),
    st.integers(-1, 5).map(lambda i: {"scalar": i}),
    st.sampled_from(["mfops_basic.Exp", "mfops_nn.MSE", "mfops_basic.Add", "mfops_nn.Softmax"]),
)


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_description_gives_a_report_or_a_replay_error(tmp_path, data):
    members = parts(data.draw(st.sampled_from(SAMPLES))())
    about = json.loads(members["replay.json"])
    for _ in range(data.draw(st.integers(1, 3))):
        inner, key = about, data.draw(st.sampled_from(sorted(about)))
        while isinstance(inner[key], dict | list) and inner[key] and data.draw(st.booleans()):
            inner = inner[key]
            keys = sorted(inner) if isinstance(inner, dict) else range(len(inner))
            key = data.draw(st.sampled_from(keys))
        inner[key] = data.draw(JSON)
    path = tmp_path / "failure.npz"
    path.write_bytes(archive({**members, "replay.json": json.dumps(about)}))

    _reports_or_refuses(path)


def _reports_or_refuses(path):
    try:
        report = replay(path, limit=100_000)
    except ReplayError:
        return
    assert str(report)


# The command


def test_the_command_shows_the_report_and_tells_by_its_exit_code(tmp_path):
    bad = written(logarithm(), tmp_path / "bad.npz")
    good = written(logarithm([1.0]), tmp_path / "good.npz")
    other = tmp_path / "other.npz"
    other.write_bytes(b"something else")

    results = [CliRunner().invoke(main, ["replay", str(path)]) for path in (bad, good, other)]

    assert [result.exit_code for result in results] == [1, 0, 2]
    assert results[0].output == f"{replay(bad)}\n"
    assert "nothing bad" in results[1].output
    assert results[2].output.startswith("Error: ")


def test_reading_keeps_what_was_written(tmp_path):
    made = dropout()
    read = read_replay(written(made, tmp_path / "failure.npz"))
    assert read.rng == made.rng
    assert (read.training, read.wanted, read.step) == (True, (True,), None)
    assert read.saved is UNKNOWN
