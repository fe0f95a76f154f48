"""Checkpoints: nothing is lost, whatever happens; nothing of another training is taken."""

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mfcore as mf
import mfoptim
from mfcore.errors import ExecutionError, FeedShapeError, MissingFeedError
from mfcore.random_states import random_state
from mfops_nn import MSE, Dropout, Linear, Sigmoid
from mfoptim import (
    SGD,
    Adam,
    Callback,
    Checkpoint,
    CheckpointError,
    CheckpointWarning,
    CosineDecay,
    EarlyStopping,
    FitError,
    HyperparameterError,
    StopTraining,
    checkpoint_file,
    fit,
    read_checkpoint,
)
from mfoptim.saved_training import set_random_state

ENGINES = ["reference", "numpy"]
X_ = np.random.default_rng(3).normal(size=(23, 4))
y_ = np.tanh(X_ @ [[1.0], [-2.0], [0.5], [0.0]])


def network(precision=np.float64, width=5):
    """A small network with dropout, its cost and the data of its inputs."""
    rng = np.random.default_rng(11)
    X, y = mf.Input("X"), mf.Input("y")
    W1 = mf.Parameter(rng.normal(size=(4, width)).astype(precision), name="W1")
    b1 = mf.Parameter(np.zeros(width, precision), name="b1")
    W2 = mf.Parameter(rng.normal(size=(width, 1)).astype(precision), name="W2")
    b2 = mf.Parameter(np.zeros(1, precision), name="b2")
    hidden = Dropout(Sigmoid(Linear(X, W1, b1)), rate=0.2)
    cost = MSE(y, Linear(hidden, W2, b2))
    return SimpleNamespace(cost=cost, data={"X": X_.astype(precision), "y": y_.astype(precision)})


def train(*, epochs=9, precision=np.float64, optimizer=None, **options):
    """Train a new network, as a script does that is started again."""
    net = network(precision)
    optimizer = optimizer or Adam(CosineDecay(0.05, steps=60))
    options = {"batch_size": 5, "seed": 42, "engine": "reference", **options}
    return fit(net.cost, net.data, optimizer, epochs=epochs, **options)


def content(history):
    """All bits of a training's result."""
    session = history.session
    updates = session.optimizer_state()
    return (
        history.loss,
        history.validation_loss,
        history.steps,
        history.stopped,
        session.steps,
        updates.steps,
        [value.tobytes() for value in session.parameters.values()],
        [[np.asarray(value).tobytes() for value in state] for state in updates.states],
        session.rng.bit_generator.state,
    )


class Killed(Exception):
    """Ends a process, as far as a training is concerned."""


class Killer(Callback):
    """Raises after some epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_finish(self, session, epoch, logs):
        if epoch == self.epoch:
            raise Killed


def killed(folder, epoch, *, every=1, keep_best=3, callbacks=(), **options):
    """Train with checkpoints until a death after some epoch, before its checkpoint."""
    checkpoint = Checkpoint(folder, every=every, keep_best=keep_best)
    with pytest.raises(Killed):
        train(checkpoint=checkpoint, callbacks=[*callbacks, Killer(epoch)], **options)
    return checkpoint


def epochs_in(folder):
    return [read_checkpoint(path).epoch for path in Checkpoint(folder).files()]


# The same bits


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("precision", [np.float64, np.float32])
@pytest.mark.parametrize("sampling", ["shuffle", "resample"])
@pytest.mark.parametrize(
    "optimizer", [SGD(0.05), SGD(0.05, momentum=0.9), Adam(CosineDecay(0.05, steps=60))], ids=str
)
def test_a_resumed_training_has_the_bits_of_one_without_a_break(
    tmp_path, engine, precision, sampling, optimizer
):
    options = {
        "engine": engine, "precision": precision, "sampling": sampling, "optimizer": optimizer,
        "validation_split": 0.2,
    }  # fmt: skip
    whole = train(**options)
    killed(tmp_path, 6, every=2, **options)

    resumed = train(resume=tmp_path, **options)

    assert content(resumed) == content(whole)


def test_numba_resumes_to_the_same_bits(tmp_path):
    whole = train(engine="numba", epochs=5)
    killed(tmp_path, 4, engine="numba", epochs=5)

    assert content(train(engine="numba", epochs=5, resume=tmp_path)) == content(whole)


@pytest.mark.parametrize("engine", ENGINES)
def test_writing_checkpoints_changes_no_bit(tmp_path, engine):
    assert content(train(engine=engine, checkpoint=Checkpoint(tmp_path))) == content(
        train(engine=engine)
    )


def test_a_training_may_be_broken_after_every_epoch(tmp_path):
    whole = train(engine="numpy")
    for epoch in range(1, 10):
        with pytest.raises(Killed):
            train(
                engine="numpy",
                checkpoint=Checkpoint(tmp_path, keep_best=0),
                resume=tmp_path,
                callbacks=[Killer(epoch + 1 if epoch < 9 else 9)],
            )

    assert content(train(engine="numpy", resume=tmp_path)) == content(whole)


def test_without_a_seed_the_same_rows_stay_held_out_and_random_numbers_go_on(tmp_path):
    checkpoint = Checkpoint(tmp_path, every=2)
    options = {"seed": None, "validation_split": 0.3}
    whole = train(checkpoint=checkpoint, **options)
    older = min(checkpoint.files())

    resumed = train(resume=older, **options)

    assert read_checkpoint(older).epoch < 9
    assert content(resumed) == content(whole)


def test_steps_with_callbacks_resume_too(tmp_path):
    steps = []

    class Steps(Callback):
        def on_step_finish(self, session, step, loss):
            steps.append((step, loss))

    whole = train(callbacks=[Steps()], engine="numpy")
    expected, steps[:] = steps.copy(), []
    killed(tmp_path, 4, engine="numpy", callbacks=[Steps()])
    del steps[3 * 5 :]  # those of the epoch whose checkpoint was not written

    resumed = train(callbacks=[Steps()], engine="numpy", resume=tmp_path)

    assert content(resumed) == content(whole)
    assert steps == expected


def test_a_session_that_was_trained_before_resumes(tmp_path):
    def both(**options):
        net = network()
        session = mf.Session(net.cost, seed=5, engine="numpy")
        first = {"batch_size": 6, "seed": 1, "session": session}
        fit(net.cost, net.data, SGD(0.1), epochs=2, **first)
        second = {"batch_size": 5, "seed": 2, "session": session, **options}
        return fit(net.cost, net.data, Adam(0.01), epochs=6, **second)

    whole = both()
    with pytest.raises(Killed):
        both(checkpoint=Checkpoint(tmp_path), callbacks=[Killer(4)])

    resumed = both(resume=tmp_path)

    assert content(resumed) == content(whole)
    assert resumed.steps == 6 * 5
    assert resumed.session.steps == 2 * 4 + 6 * 5


def test_the_steps_of_a_session_trained_before_go_on_in_a_new_one(tmp_path):
    net, optimizer = network(), Adam(0.01)
    options = {"batch_size": 5, "seed": 2, "engine": "reference"}
    session = mf.Session(net.cost, seed=5, engine="reference")
    fit(net.cost, net.data, SGD(0.1), epochs=2, seed=1, session=session)
    whole = fit(
        net.cost, net.data, optimizer, epochs=6, session=session,
        checkpoint=Checkpoint(tmp_path, keep_best=9), **options,
    )  # fmt: skip

    resumed = fit(
        net.cost, net.data, optimizer, epochs=6, resume=min(Checkpoint(tmp_path).files()), **options
    )

    assert content(resumed) == content(whole)
    assert resumed.steps == 6 * 5


def test_problems_of_the_start_are_those_of_the_first_call(tmp_path):
    net = network()
    data = {"X": np.where(np.arange(23)[:, None] == 3, np.nan, X_), "y": y_}

    def run(session, **options):
        return fit(net.cost, data, SGD(0.1), epochs=3, seed=0, session=session, **options)

    whole = run(mf.Session(net.cost), checkpoint=Checkpoint(tmp_path))
    spoilt = mf.Session(net.cost)
    spoilt["W1"] = np.full((4, 5), np.nan)

    resumed = run(spoilt, resume=min(Checkpoint(tmp_path).files()))

    np.testing.assert_array_equal(resumed.loss, whole.loss)
    assert resumed.problems == whole.problems
    assert len(whole.problems) == 4


# Deaths


def train_on(folder, engine, *, epochs=200, **options):
    """The training of a script that is started again and again until it comes to its end."""
    return train(
        engine=engine,
        epochs=epochs,
        callbacks=[EarlyStopping(patience=40)],
        checkpoint=Checkpoint(folder, keep_best=2),
        resume=folder,
        **options,
    )


class Leash:
    """Says on standard output that an epoch begins, and waits for a word before it goes on."""

    @mf.hookimpl
    def mf_epoch_start(self):
        os.write(1, b".")
        os.read(0, 1)


KILLED_FROM_OUTSIDE = """
import sys
sys.path.insert(0, sys.argv[1])
import test_checkpoints as here
here.train_on(sys.argv[2], "numpy", tracers=[here.Leash()])
"""

KILLED_AT_A_LINE = """
import os, signal, sys, warnings
warnings.simplefilter("error")
sys.path.insert(0, sys.argv[1])
import numpy as np
import test_checkpoints as here

folder, engine, deaths = sys.argv[2], sys.argv[3], int(sys.argv[4])
random = np.random.default_rng(17)
here.train(engine=engine, epochs=2)  # what is imported on the way is imported now
for death in range(deaths):
    writing = death % 2 == 1
    lines = int(random.integers(1, 200) if writing else random.integers(1500, 6000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks where there are threads
        child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        continue

    def watch(frame, event, argument):
        global lines
        if "mfoptim" not in frame.f_code.co_filename:
            return None
        if writing and frame.f_code.co_name != "write":
            return watch
        lines -= 1
        if lines == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return watch

    sys.settrace(watch)
    here.train_on(folder, engine)
    os._exit(0)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_a_process_killed_from_outside_loses_nothing(tmp_path):
    random = np.random.default_rng(23)
    program = [sys.executable, "-c", KILLED_FROM_OUTSIDE, os.path.dirname(__file__), str(tmp_path)]
    for _ in range(2):
        epochs = int(random.integers(2, 30))
        with subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        ) as process:
            process.stdin.write(b"." * epochs)
            for _ in range(epochs):
                assert process.stdout.read(1) == b"."
            process.send_signal(signal.SIGKILL)  # while it runs the epoch, or writes
        assert process.returncode == -signal.SIGKILL

    resumed = train_on(tmp_path, "numpy")

    whole = train(engine="numpy", epochs=200, callbacks=[EarlyStopping(patience=40)])
    assert content(resumed) == content(whole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_process_killed_at_random_lines_loses_nothing(tmp_path, engine):
    program = [sys.executable, "-c", KILLED_AT_A_LINE, os.path.dirname(__file__), str(tmp_path)]

    done = subprocess.run([*program, engine, "16"], capture_output=True, text=True, check=False)

    assert done.stdout.split() == [str(-signal.SIGKILL)] * 16, done.stderr
    assert 0 < max(epochs_in(tmp_path)) < 200
    resumed = train_on(tmp_path, engine)
    whole = train(engine=engine, epochs=200, callbacks=[EarlyStopping(patience=40)])
    assert content(resumed) == content(whole)
    assert not list(tmp_path.glob(".*"))


# What is written, and kept


def test_every_so_many_epochs_and_at_the_end(tmp_path):
    train(checkpoint=Checkpoint(tmp_path, every=4, keep_best=9))

    assert epochs_in(tmp_path) == [4, 8, 9]


def test_minutes_go_by_the_clock(tmp_path, monkeypatch):
    now = iter(range(0, 100000, 25))
    monkeypatch.setattr("mfoptim.checkpoint.monotonic", lambda: float(next(now)))

    train(checkpoint=Checkpoint(tmp_path, minutes=1, keep_best=9))

    # A look at the clock takes 25 seconds; it is looked at after each epoch, and when one
    # was written.
    assert epochs_in(tmp_path) == [3, 6, 9]


def test_the_best_and_the_latest_are_kept(tmp_path):
    history = train(optimizer=SGD(1.5), checkpoint=Checkpoint(tmp_path, keep_best=2))

    best = np.argsort(history.loss, kind="stable")[:2] + 1
    assert epochs_in(tmp_path) == sorted({*best.tolist(), 9})
    saved = read_checkpoint(Checkpoint(tmp_path).best())
    assert saved.epoch == best[0]
    assert saved.epochs[-1]["loss"] == min(history.loss)


def test_the_best_go_by_what_is_monitored(tmp_path):
    checkpoint = Checkpoint(tmp_path, keep_best=1, monitor="validation_loss")

    history = train(optimizer=SGD(1.5), checkpoint=checkpoint, validation_split=0.3)

    best = int(np.argmin(history.validation_loss)) + 1
    assert read_checkpoint(checkpoint.best()).epoch == best


@pytest.mark.parametrize("epoch", [3, 6])
def test_a_resumed_training_keeps_what_an_unbroken_one_keeps(tmp_path, epoch):
    whole = train(optimizer=SGD(1.5), checkpoint=Checkpoint(tmp_path / "whole", keep_best=2))
    checkpoint = killed(tmp_path / "broken", epoch, keep_best=2, optimizer=SGD(1.5))

    resumed = train(optimizer=SGD(1.5), checkpoint=checkpoint, resume=checkpoint.folder)

    assert content(resumed) == content(whole)
    assert epochs_in(tmp_path / "broken") == epochs_in(tmp_path / "whole")


def test_the_parameters_of_a_checkpoint_are_read_by_name(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    history = train(checkpoint=checkpoint)

    saved = read_checkpoint(checkpoint.files()[-1])

    assert saved.parameters.keys() == {"W1", "b1", "W2", "b2"}
    for name, value in saved.parameters.items():
        np.testing.assert_array_equal(value, history.session[name])


def test_a_checkpoint_is_a_safetensors_file(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    checkpoint = Checkpoint(tmp_path)
    history = train(checkpoint=checkpoint)

    arrays = safetensors.load(checkpoint.files()[-1].read_bytes())

    np.testing.assert_array_equal(arrays["parameters.W1"], history.session["W1"])


def test_leftovers_of_a_dead_process_are_removed(tmp_path):
    (tmp_path / ".epoch-000004.checkpoint.0123456789abcdef.partial").write_bytes(b"half")

    train(checkpoint=Checkpoint(tmp_path), resume=tmp_path)

    assert not list(tmp_path.glob(".*"))


# What cannot be written


def full_disk(monkeypatch, *epochs):
    """Let there be no room for a checkpoint of these epochs."""
    write_parts = checkpoint_file.write_parts

    def write(path, parts):
        def cut_off():
            yield from parts
            if int(path.stem.partition("-")[2]) in epochs:
                raise OSError(28, "No space left on device")

        write_parts(path, cut_off())

    monkeypatch.setattr(checkpoint_file, "write_parts", write)


def test_a_disk_that_is_full_for_a_while_is_told_once_and_ends_nothing(tmp_path, monkeypatch):
    full_disk(monkeypatch, 3, 4, 5)

    with pytest.warns(CheckpointWarning) as told:
        history = train(checkpoint=Checkpoint(tmp_path, keep_best=99))

    assert [str(warning.message) for warning in told] == [
        f"the checkpoint after epoch 3 cannot be written to {tmp_path} (No space left on "
        f"device); the newest is of epoch 2. Training goes on, and tries again with the next one"
    ]
    assert told[0].filename == __file__
    assert content(history) == content(train())
    assert history.problems == []
    assert epochs_in(tmp_path) == [1, 2, 6, 7, 8, 9]
    assert not list(tmp_path.glob(".*"))


def test_a_disk_that_stays_full_costs_no_training_and_is_told_at_the_end(tmp_path, monkeypatch):
    with monkeypatch.context() as patched, pytest.warns(CheckpointWarning) as told:
        full_disk(patched, *range(3, 10))
        history = train(checkpoint=Checkpoint(tmp_path))

    assert len(told) == 2
    assert str(told[1].message) == history.problems[-1]
    assert history.problems[-1].startswith("the checkpoint after epoch 9 cannot be written")
    assert history.problems[-1].endswith("the newest is of epoch 2")
    assert content(history) == content(train())
    assert content(train(resume=tmp_path)) == content(train())


def test_a_disk_that_was_always_full_leaves_nothing_behind(tmp_path, monkeypatch):
    full_disk(monkeypatch, *range(10))

    with pytest.warns(CheckpointWarning, match="there is none"):
        train(checkpoint=Checkpoint(tmp_path))

    assert not list(tmp_path.iterdir())


def test_a_folder_that_nothing_can_be_written_to_is_said_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may do anything

    with pytest.raises(CheckpointError, match="checkpoints cannot go to"):
        train(checkpoint=Checkpoint(tmp_path), callbacks=[Killer(1)])


# Ctrl-C


class Interrupter(Callback):
    """Presses Ctrl-C after some step."""

    def __init__(self, step):
        self.step = step

    def on_step_finish(self, session, step, loss):
        if step == self.step:
            raise KeyboardInterrupt


class Remembering(Callback):
    """Has a state that changes in place."""

    def on_train_start(self, session):
        self.losses = []

    def on_epoch_finish(self, session, epoch, logs):
        self.losses.append(logs["loss"])

    def checkpoint_state(self, session):
        return {"losses": self.losses}

    def restore_state(self, session, state):
        self.losses = state["losses"]


@pytest.mark.parametrize("engine", ENGINES)
def test_ctrl_c_writes_the_last_epoch_that_was_finished(tmp_path, engine):
    never = Interrupter(0)  # with a callback for each step losses are added up step by step
    whole = train(engine=engine, callbacks=[never])

    interrupted = train(
        engine=engine,
        checkpoint=Checkpoint(tmp_path, every=4),
        callbacks=[Remembering(), Interrupter(6 * 5 + 2)],
    )
    remembering = Remembering()
    resumed = train(engine=engine, resume=tmp_path, callbacks=[remembering, never])

    assert interrupted.stopped.reason == "interrupted"
    assert interrupted.stopped.message.endswith("The newest checkpoint is of epoch 6.")
    assert epochs_in(tmp_path) == [4, 6]
    assert content(resumed) == content(whole)
    assert remembering.losses == whole.loss


def test_ctrl_c_while_callbacks_are_told_of_an_epoch_writes_the_one_before(tmp_path):
    class InterruptedLater(Callback):
        def on_epoch_finish(self, session, epoch, logs):
            if epoch == 7:
                raise KeyboardInterrupt

    train(
        checkpoint=Checkpoint(tmp_path, every=4),
        callbacks=[Remembering(), InterruptedLater()],
    )
    saved = read_checkpoint(Checkpoint(tmp_path).files()[-1])
    remembering = Remembering()
    resumed = train(resume=tmp_path, callbacks=[remembering])

    assert (saved.epoch, len(saved.epochs)) == (6, 6)
    assert content(resumed) == content(train())
    assert remembering.losses == resumed.loss


def test_ctrl_c_before_an_epoch_is_finished_says_that_there_is_none(tmp_path):
    interrupted = train(checkpoint=Checkpoint(tmp_path), callbacks=[Interrupter(3)])

    assert "There is no checkpoint" in interrupted.stopped.message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_while_a_checkpoint_is_written_loses_nothing(tmp_path, monkeypatch, times):
    presses = iter(range(times))
    fsync = os.fsync

    def pressed(handle):
        writing = stat.S_ISREG(os.fstat(handle).st_mode)
        if writing and (tmp_path / "epoch-000004.checkpoint").exists():
            for _ in presses:
                raise KeyboardInterrupt
        fsync(handle)

    monkeypatch.setattr(os, "fsync", pressed)

    interrupted = train(checkpoint=Checkpoint(tmp_path, every=2))

    assert interrupted.stopped.reason == "interrupted"
    assert len(interrupted.loss) == 6
    assert epochs_in(tmp_path) == ([2, 4, 6] if times == 1 else [2, 4])
    assert not list(tmp_path.glob(".*"))
    assert content(train(resume=tmp_path)) == content(train())


def test_a_training_that_ends_within_an_epoch_writes_the_one_before(tmp_path):
    class Stopping(Callback):
        def on_step_finish(self, session, step, loss):
            if step == 5 * 5 + 1:
                raise StopTraining

    history = train(checkpoint=Checkpoint(tmp_path, every=9), callbacks=[Stopping()])

    assert history.stopped.reason == "callback"
    assert epochs_in(tmp_path) == [5]
    assert content(train(resume=tmp_path)) == content(train())


# Other versions


def test_other_versions_are_told_and_training_goes_on(tmp_path, monkeypatch):
    killed(tmp_path, 6)
    monkeypatch.setattr(np, "__version__", "9.9")

    with pytest.warns(
        CheckpointWarning, match=r"bits may differ .*numpy was \S+, now it is 9\.9$"
    ) as told:
        resumed = train(resume=tmp_path)

    assert told[0].filename == __file__
    assert content(resumed) == content(train())


@pytest.mark.parametrize(
    ("engine", "more"), [("reference", set()), ("numba", {"mfjit", "numba", "llvmlite", "scipy"})]
)
def test_the_versions_are_of_all_that_the_bits_depend_on(tmp_path, engine, more):
    train(engine=engine, epochs=1, checkpoint=Checkpoint(tmp_path))

    (file,) = Checkpoint(tmp_path).files()
    versions = read_checkpoint(file).versions

    assert versions.keys() == {"numpy", "mfcore", "mfops_nn", "mfoptim", "machine", *more}
    assert versions["mfoptim"] == mfoptim.__version__


# Callbacks


@pytest.mark.parametrize("restore_best", [True, False])
def test_early_stopping_remembers(tmp_path, restore_best):
    def stopping():
        return EarlyStopping(patience=4, restore_best=restore_best)

    options = {"optimizer": SGD(0.4), "epochs": 60}
    whole = train(callbacks=[stopping()], **options)
    ended = whole.stopped.epoch
    killed(tmp_path, ended - 1, callbacks=[stopping()], **options)

    resumed = train(callbacks=[stopping()], resume=tmp_path, **options)

    assert whole.stopped.reason == "early stopping"
    assert 4 < ended < 60
    assert content(resumed) == content(whole)


def test_a_training_that_was_stopped_stays_stopped(tmp_path):
    def run(**options):
        stopping = EarlyStopping(patience=3)
        return train(optimizer=SGD(2.5), epochs=60, callbacks=[stopping], **options)

    whole = run(checkpoint=Checkpoint(tmp_path))

    assert content(run(resume=tmp_path)) == content(whole)


def test_other_callbacks_with_state_are_named(tmp_path):
    killed(tmp_path, 4, callbacks=[EarlyStopping()])

    with pytest.raises(CheckpointError, match=r"callbacks\.EarlyStopping, but .* none"):
        train(resume=tmp_path)


def test_a_state_that_a_callback_cannot_use_is_named(tmp_path):
    class Counting(Callback):
        def on_train_start(self, session):
            self.count = 0

        def on_epoch_finish(self, session, epoch, logs):
            self.count += 1

        def checkpoint_state(self, session):
            return {"count": self.count}

        def restore_state(self, session, state):
            self.count = state[self.key]

    killed(tmp_path, 4, callbacks=[Counting()])
    good, bad = Counting(), Counting()
    good.key, bad.key = "count", "counter"

    train(resume=tmp_path, callbacks=[good])

    assert good.count == 9
    with pytest.raises(CheckpointError, match=r"Counting cannot use: KeyError"):
        train(resume=tmp_path, callbacks=[bad])


# Another training


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"engine": "numpy"}, "engine was reference, now it is numpy"),
        ({"batch_size": 6}, "batch size was 5, now it is 6"),
        ({"sampling": "resample"}, "sampling was shuffle, now it is resample"),
        ({"seed": 43}, "seed was 42, now it is 43"),
        ({"seed": np.random.default_rng(42)}, "seed was 42, now it is a generator, PCG64"),
        ({"optimizer": SGD(0.1)}, r"optimizer was mfoptim.adam.Adam\(.*now it is .*SGD\("),
        ({"optimizer": Adam(CosineDecay(0.05, steps=61))}, r"steps=60.*steps=61"),
        ({"validation_split": 0.2}, "validation split was 0.0, now it is 0.2"),
        ({"precision": np.float32}, r"data X was float64 \(23, 4\) .*now it is float32"),
    ],
)
def test_what_differs_is_named(tmp_path, options, difference):
    killed(tmp_path, 4)

    with pytest.raises(CheckpointError, match=difference):
        train(resume=tmp_path, **options)


def test_other_data_and_graphs_are_named(tmp_path):
    options = {"batch_size": 5, "seed": 42, "engine": "reference", "resume": tmp_path}
    killed(tmp_path, 4)
    net, optimizer = network(), Adam(CosineDecay(0.05, steps=60))

    with pytest.raises(CheckpointError, match=r"data y was float64 \(23, 1\) with digest"):
        fit(net.cost, {**net.data, "y": y_ + 1e-9}, optimizer, **options)
    with pytest.raises(CheckpointError, match=r"node W1 was a parameter of shape \(4, 5\).*4, 6"):
        fit(network(width=6).cost, net.data, optimizer, **options)
    with pytest.raises(CheckpointError, match=r"cost was mse_1, now it is mul_1"):
        fit(net.cost * 2, net.data, optimizer, **options)


def test_fewer_epochs_than_are_done(tmp_path):
    killed(tmp_path, 7)

    with pytest.raises(CheckpointError, match="written after epoch 6, and only epochs=5"):
        train(resume=tmp_path, epochs=5)


def test_more_epochs_go_on(tmp_path):
    train(epochs=4, checkpoint=Checkpoint(tmp_path))

    assert content(train(epochs=9, resume=tmp_path)) == content(train(epochs=9))


def test_a_training_does_not_start_anew_over_another(tmp_path):
    killed(tmp_path, 4)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    with pytest.raises(CheckpointError, match="holds the checkpoints of a training"):
        train(checkpoint=Checkpoint(tmp_path))

    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_there_must_be_something_to_go_on_from(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        train(resume=tmp_path / "elsewhere", checkpoint=Checkpoint(tmp_path))
    assert content(train(resume=tmp_path, checkpoint=Checkpoint(tmp_path))) == content(train())


def test_unusable_arguments(tmp_path):
    (tmp_path / "file").write_text("")

    for wrong in ({"every": 0}, {"every": 1.5}, {"minutes": -1}, {"keep_best": -1},
                  {"monitor": "accuracy"}):  # fmt: skip
        with pytest.raises(HyperparameterError):
            Checkpoint(tmp_path, **wrong)
    with pytest.raises(HyperparameterError, match="is a file"):
        Checkpoint(tmp_path / "file")
    with pytest.raises(FitError, match="must be a Checkpoint, such as Checkpoint"):
        train(checkpoint="folder")
    with pytest.raises(FitError, match="resume must be a checkpoint or a folder"):
        train(resume=3)
    with pytest.raises(FitError, match="monitors 'validation_loss'"):
        train(checkpoint=Checkpoint(tmp_path, monitor="validation_loss"))
    with pytest.raises(CheckpointError, match="checkpoints cannot go to"):
        train(checkpoint=Checkpoint(tmp_path / "file" / "inner"))


# Damaged and hostile files


def test_the_newest_that_is_whole_is_taken(tmp_path):
    killed(tmp_path, 8, keep_best=9)
    files = Checkpoint(tmp_path).files()
    files[-1].write_bytes(files[-1].read_bytes()[:-20])
    files[-2].write_bytes(b"")

    with pytest.warns(CheckpointWarning, match=r"000007.* truncated.*going on .*000005"):
        resumed = train(resume=tmp_path)

    assert content(resumed) == content(train())
    with pytest.raises(CheckpointError, match="a truncated one"):
        train(resume=files[-2])


def test_nothing_but_damaged_ones_is_an_error(tmp_path):
    (tmp_path / "epoch-000004.checkpoint").write_bytes(b"x" * 100)

    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be read: .*000004"):
        train(resume=tmp_path, checkpoint=Checkpoint(tmp_path))


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    killed(folder, 3, callbacks=[EarlyStopping()])
    return Checkpoint(folder).files()[-1]


@given(st.data())
def test_any_change_of_any_byte_is_noticed(whole_file, data):
    content = bytearray(whole_file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    changed = whole_file.with_name("changed")
    changed.write_bytes(content)

    with pytest.raises(CheckpointError):
        read_checkpoint(changed)


@given(st.data())
def test_a_file_cut_off_anywhere_is_noticed(whole_file, data):
    content = whole_file.read_bytes()
    cut = whole_file.with_name("cut")
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])

    with pytest.raises(CheckpointError):
        read_checkpoint(cut)


def forged(path, header, body=b""):
    """Write a file with a header of ours, and the digest that belongs to it."""
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    none = b"0" * 64
    text = text.replace(none, hashlib.sha256(text + body).hexdigest().encode(), 1)
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def metadata(training="null"):
    return {"digest": "0" * 64, "training": training}


HOSTILE = {
    "no JSON": b"{",
    "nested without end": b"[" * 100000,
    "a list": b"[]",
    "no metadata": {},
    "nested metadata": {"__metadata__": metadata("[" * 100000)},
    "a huge array": {
        "__metadata__": metadata(),
        "x": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]},
    },
    "an array behind the end": {
        "__metadata__": metadata(),
        "x": {"dtype": "F64", "shape": [1], "data_offsets": [800, 808]},
    },
    "less than none": {
        "__metadata__": metadata(),
        "x": {"dtype": "F64", "shape": [-1], "data_offsets": [0, -8]},
    },
    "an empty array with huge axes": {
        "__metadata__": metadata(),
        "x": {"dtype": "F64", "shape": [0, 2**47, 2**47], "data_offsets": [0, 0]},
    },
    "Python objects": {
        "__metadata__": metadata(),
        "x": {"dtype": "O", "shape": [0], "data_offsets": [0, 0]},
    },
    "an operation": {"__metadata__": metadata('{"x": {"operation": "mfops_nn.Linear"}}')},
    "a schedule": {
        "__metadata__": metadata(
            '{"x": {"schedule": {"schedule": "mfoptim.Warmup", "hyperparameters": {}}}}'
        )
    },
    "NaN": {"__metadata__": metadata('{"x": NaN}')},
    "a key that stands twice": {"__metadata__": metadata('{"x": 1, "x": 1}')},
    "an unknown array": {"__metadata__": metadata('{"array": "y"}')},
    "an array without name": {"__metadata__": metadata('{"array": []}')},
    "two kinds": {"__metadata__": metadata('{"list": [], "tuple": []}')},
    "no checkpoint": {"__metadata__": metadata('{"dict": {}}')},
    "nothing in it": {"__metadata__": metadata('{"dict": {"format": 1}}')},
}


@pytest.mark.parametrize("header", HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers_are_refused(tmp_path, header):
    forged(tmp_path / "hostile", header)

    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="hostile"):
            read_checkpoint(tmp_path / "hostile")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": -1}, "does not hold what one holds"),
        ({"epoch": 3}, "epochs are missing"),
        ({"epochs": {"loss": np.zeros((2, 2)), "seconds": np.zeros(2)}}, "does not hold"),
        ({"epochs": {"loss": np.zeros(2)}}, "does not hold"),
        ({"stopped": ("finished", 1, "")}, "does not hold"),
        ({"format": 1}, "no checkpoint of format 2"),
        ({"parameters": {}}, "does not fit: no value is given for W1"),
        ({"states": []}, "does not fit: the states are not those of"),
        ({"streams": {}}, "no random state"),
    ],
)
def test_hostile_contents_are_refused(tmp_path, whole_file, change, message):
    document = checkpoint_file.read(whole_file)
    checkpoint_file.write(tmp_path / "changed", {**document, **change})

    with pytest.raises(CheckpointError, match=message):
        train(resume=tmp_path / "changed", callbacks=[EarlyStopping()])


def test_a_position_beyond_a_random_stream_is_refused():
    rng = np.random.Generator(np.random.MT19937(3))
    state = random_state(rng)

    set_random_state(Path("file"), rng, state)

    with pytest.raises(CheckpointError, match="no random state for MT19937"):
        set_random_state(Path("file"), rng, {**state, "state": {**state["state"], "pos": 10**6}})
    with pytest.raises(CheckpointError, match="no random state for PCG64"):
        set_random_state(Path("file"), np.random.default_rng(0), state)


@pytest.mark.parametrize("bits", [np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_generators_of_every_kind_resume(tmp_path, bits):
    def run(**options):
        return train(seed=np.random.Generator(bits(9)), **options)

    whole = run(checkpoint=Checkpoint(tmp_path))
    older = min(Checkpoint(tmp_path).files())

    resumed = run(resume=older)

    assert read_checkpoint(older).epoch < 9
    assert content(resumed)[:-1] == content(whole)[:-1]
    assert str(content(resumed)[-1]) == str(content(whole)[-1])


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=50)
@given(values)
def test_documents_come_back_as_they_were(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "document"
    checkpoint_file.write(path, {"x": value})

    assert repr(checkpoint_file.read(path)) == repr({"x": value})


@pytest.mark.parametrize("dtype", [*"?bBhHiIlLqQefd", ">f8", ">i2"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
def test_arrays_come_back_as_they_were(tmp_path, dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    checkpoint_file.write(tmp_path / "document", {"a": [array, array.T], "a.0": array})

    found = checkpoint_file.read(tmp_path / "document")

    np.testing.assert_array_equal(found["a"][0], array, strict=dtype[0] != ">")
    np.testing.assert_array_equal(found["a"][1], array.T)
    np.testing.assert_array_equal(found["a.0"], array)
    assert found["a"][0].flags.writeable


def test_what_a_checkpoint_cannot_hold_is_named(tmp_path):
    for value, said in ((object(), "x: object has no place"), (np.zeros(1, complex), "complex128"),
                        ({1: 2}, "dict"), (MSE, "MSE has no place among data"),
                        (CosineDecay(0.1, steps=2), "CosineDecay has no place")):  # fmt: skip
        with pytest.raises(CheckpointError, match=said):
            checkpoint_file.write(tmp_path / "document", {"x": [value]})
    assert not list(tmp_path.iterdir())


# Sessions


@pytest.mark.parametrize("engine", ENGINES)
def test_a_session_gives_and_takes_the_optimizer_state(engine):
    net, optimizer = network(), Adam(0.01)
    session = mf.Session(net.cost, seed=1, engine=engine)
    other = mf.Session(net.cost, engine=engine)
    assert session.optimizer_state() is None
    for _ in range(3):
        session.step(net.data, optimizer)

    state = session.optimizer_state()
    other.restore(
        session.parameters, optimizer, state.states, updates=state.steps, steps=session.steps
    )
    other.rng.bit_generator.state = session.rng.bit_generator.state

    assert state.steps == other.steps == 3
    assert [session.step(net.data, optimizer) for _ in range(3)] == [
        other.step(net.data, optimizer) for _ in range(3)
    ]


def test_a_session_takes_only_what_fits():
    net, optimizer = network(), Adam(0.01)
    session = mf.Session(net.cost, engine="numpy")
    session.step(net.data, optimizer)
    parameters, states = session.parameters, session.optimizer_state().states
    before = content_of(session)
    wrong = {node: value.astype(np.float32) for node, value in parameters.items()}
    short = [tuple(value.ravel()[:1] for value in state) for state in states]

    with pytest.raises(MissingFeedError, match="no value is given for W1, b1, W2, b2"):
        session.restore({}, optimizer, states, updates=1, steps=1)
    with pytest.raises(FeedShapeError, match=r"is float64 of shape .* not float32"):
        session.restore(wrong, optimizer, states, updates=1, steps=1)
    with pytest.raises(ExecutionError, match="not those of mfoptim.sgd.SGD"):
        session.restore(parameters, SGD(0.1), states, updates=1, steps=1)
    with pytest.raises(ExecutionError, match=r"the state for W1 .*\(1,\)"):
        session.restore(parameters, optimizer, short, updates=1, steps=1)

    assert content_of(session) == before


def content_of(session):
    return {node.name: value.tobytes() for node, value in session.parameters.items()}


def test_the_page_says_what_its_programs_print(page_of_programs, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    blocks = page_of_programs("docs/checkpoints.md")

    assert len(blocks) == 4
    for printed, said in blocks:
        assert printed == said
