"""``fit(..., progress=True)``: a bar on terminals and in notebooks, nothing elsewhere."""

from __future__ import annotations

import io
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

import mfcore as mf
from mfops_nn import MSE
from mfoptim import SGD, fit
from mfoptim.progress import Progress


def train(epochs=3, callbacks=(), progress=True):
    x, w = mf.Input("x"), mf.Parameter(np.zeros(1), name="w")
    return fit(
        MSE(x, w),
        {x: np.ones(1)},
        SGD(0.25),
        epochs=epochs,
        seed=0,
        callbacks=callbacks,
        progress=progress,
    )


@pytest.fixture
def terminal(monkeypatch):
    """What a terminal is sent."""
    sent = io.StringIO()
    console = Console(file=sent, force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    return sent


@pytest.fixture
def notebook(monkeypatch):
    """What a notebook is shown, each picture in the place of the one before."""
    pictures = []

    def display(data, *, raw, display_id):
        assert raw
        assert display_id
        pictures.append(data)
        return SimpleNamespace(update=lambda data, raw: pictures.append(data))

    shell = SimpleNamespace(kernel=object())
    package, part = ModuleType("IPython"), ModuleType("IPython.display")
    package.get_ipython, part.display = (lambda: shell), display
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", part)
    return pictures


def test_a_terminal_shows_the_epochs_and_the_last_loss(terminal):
    train(epochs=3)

    *_, last, _cursor = terminal.getvalue().splitlines()
    assert "training" in last
    assert "3/3" in last
    assert "loss 0.0625" in last


def test_a_notebook_shows_a_bar_from_empty_to_full(notebook):
    train(epochs=3)

    assert notebook[0]["text/plain"] == "epoch 0 of 3"
    assert notebook[-1]["text/plain"] == "epoch 3 of 3, loss 0.0625"
    assert '<progress value="3" max="3"' in notebook[-1]["text/html"]


def test_every_epoch_is_shown_where_there_is_time(notebook):
    session = mf.Session(mf.Parameter(0.0))

    with Progress(2, every=0.0) as bar:
        bar.on_train_start(session)
        bar.on_epoch_finish(session, 1, {"loss": 2.0})
        bar.on_epoch_finish(session, 2, {"loss": 1.0})

    assert [picture["text/plain"] for picture in notebook] == [
        "epoch 0 of 2",
        "epoch 1 of 2, loss 2",
        "epoch 2 of 2, loss 1",
        "epoch 2 of 2, loss 1",
    ]


def test_epochs_in_quick_succession_share_a_picture(notebook):
    session = mf.Session(mf.Parameter(0.0))

    with Progress(1000, every=1e9) as bar:
        bar.on_train_start(session)
        for epoch in range(1, 1001):
            bar.on_epoch_finish(session, epoch, {"loss": 1.0})

    assert [picture["text/plain"] for picture in notebook] == [
        "epoch 0 of 1000",
        "epoch 1000 of 1000, loss 1",
    ]


def test_a_pipe_shows_nothing(capsys):
    train()

    assert capsys.readouterr() == ("", "")


def test_without_rich_nothing_is_shown_and_training_goes_on(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.console", None)

    history = train()

    assert history.stopped.reason == "finished"
    assert capsys.readouterr() == ("", "")


def test_ipython_on_a_terminal_is_a_terminal(monkeypatch, terminal):
    package = ModuleType("IPython")
    package.get_ipython = SimpleNamespace
    monkeypatch.setitem(sys.modules, "IPython", package)

    train()

    assert "3/3" in terminal.getvalue()


def test_no_progress_is_shown_unless_asked_for(terminal, notebook):
    train(progress=False)

    assert terminal.getvalue() == ""
    assert notebook == []


def test_the_terminal_is_given_back_when_a_callback_raises(terminal):
    class Failing:
        def on_epoch_finish(self, session, epoch, logs):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        train(callbacks=[Failing()])

    assert terminal.getvalue().endswith("\x1b[?25h")  # the cursor is shown again


def test_progress_changes_no_number(terminal):
    assert train(progress=True).loss == train(progress=False).loss


def test_other_callbacks_are_told_as_before(terminal):
    told = []

    class Listener:
        def on_epoch_finish(self, session, epoch, logs):
            told.append(epoch)
            return epoch == 2

    history = train(callbacks=[Listener()])

    assert told == [1, 2]
    assert history.stopped.reason == "callback"
    assert "2/3" in terminal.getvalue()
