"""The progress of a training: a bar on a terminal or in a notebook, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from time import monotonic
from typing import Any, Protocol

from mfcore import Session
from mfoptim.callbacks import Callback


class _Bar(Protocol):
    """What draws the progress."""

    def show(self, epoch: int, loss: float | None) -> None:
        """Draw the state after an epoch."""

    def end(self) -> None:
        """Give the terminal back."""


class Progress(Callback):
    """The callback of ``fit(..., progress=True)``.

    On a terminal it draws with rich, if that is installed, to the standard error stream;
    in a notebook it shows a bar below the cell. Elsewhere it shows nothing. It is a context
    manager, at whose end the bar is at its last state.

    Parameters
    ----------
    epochs : int
        How many epochs there will be.
    every : float, optional
        Least number of seconds between two pictures.
    """

    def __init__(self, epochs: int, *, every: float = 0.1) -> None:
        self.epochs = epochs
        self._every = every
        self._next = 0.0
        self._state: tuple[int, float | None] = (0, None)
        self._bar: _Bar | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.show(*self._state)
            self._bar.end()
            self._bar = None

    def on_train_start(self, session: Session) -> None:  # noqa: ARG002 - the protocol's
        """Draw the empty bar."""
        self._state = (0, None)
        self._bar = _bar(self.epochs)
        if self._bar is not None:
            self._bar.show(*self._state)
            self._next = monotonic() + self._every

    def on_epoch_finish(
        self,
        session: Session,  # noqa: ARG002 - the protocol's
        epoch: int,
        logs: Mapping[str, float],
    ) -> None:
        """Move the bar, unless it moved a moment ago."""
        self._state = (epoch, logs["loss"])
        if self._bar is not None and monotonic() >= self._next:
            self._bar.show(*self._state)
            self._next = monotonic() + self._every


def _bar(epochs: int) -> _Bar | None:
    if _in_notebook():
        return _NotebookBar(epochs)
    with suppress(ImportError):
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_terminal:
            return _TerminalBar(epochs, console)
    return None


def _in_notebook() -> bool:
    """Whether a notebook's kernel runs this; asked without importing what is not there yet."""
    ipython: Any = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class _NotebookBar:
    """A bar of HTML below the cell, which needs no widgets."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._handle: Any = None

    def show(self, epoch: int, loss: float | None) -> None:
        said = f"epoch {epoch} of {self._epochs}"
        said += "" if loss is None else f", loss {loss:.4g}"
        bar = f'<progress value="{epoch}" max="{self._epochs}" aria-label="training"></progress>'
        data = {"text/plain": said, "text/html": f"<div>{bar} {said}</div>"}
        if self._handle is None:
            display: Any = import_module("IPython.display").display
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

    def end(self) -> None:
        """Leave it as it is."""


class _TerminalBar:
    """A bar that rich draws."""

    def __init__(self, epochs: int, console: Any) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._rich = RichProgress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._rich.add_task("", total=epochs, loss="")
        self._rich.start()

    def show(self, epoch: int, loss: float | None) -> None:
        said = "" if loss is None else f"loss {loss:.4g}"
        self._rich.update(self._task, completed=epoch, loss=said)

    def end(self) -> None:
        self._rich.stop()
