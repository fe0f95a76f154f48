"""What ``miniflow train`` shows: progress while it runs, and the report at its end."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from mfcore import Session
    from mfoptim import History


def console(*, stderr: bool = False) -> Console:
    """Return a console that shows text as it is: no markup, no guesses at what is a number."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def show_facts(facts: Mapping[str, str]) -> None:
    """Print labels and values in two columns."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in facts.items():
        grid.add_row(Text(label), Text(value))
    console().print(grid)


class ProgressBar:
    """A callback of ``fit`` that draws a bar on a terminal, else prints a line now and then.

    It writes to the standard error stream, so that what a pipe receives is the report.

    Parameters
    ----------
    epochs : int
        How many epochs there will be.
    lines : int, optional
        About how many lines to print where there is no terminal.
    """

    def __init__(self, epochs: int, lines: int = 10) -> None:
        self.epochs = epochs
        self._every = max(epochs // lines, 1)
        out = console(stderr=True)
        self._bar = (
            Progress(
                TextColumn("training"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("loss {task.fields[loss]}"),
                TimeElapsedColumn(),
                console=out,
                expand=True,
            )
            if out.is_terminal
            else None
        )
        self._task: Any = None

    def on_train_start(self, session: Session) -> None:
        """Draw the empty bar."""
        if self._bar is not None:
            self._task = self._bar.add_task("", total=self.epochs, loss="-")
            self._bar.start()

    def on_epoch_finish(self, session: Session, epoch: int, logs: Mapping[str, float]) -> None:
        """Move the bar, or print a line."""
        loss = f"{logs['loss']:.4g}"
        if self._bar is not None:
            self._bar.update(self._task, completed=epoch, loss=loss)
        elif epoch % self._every == 0 or epoch in (1, self.epochs):
            print(f"epoch {epoch} of {self.epochs}: loss {loss}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it is and give the terminal back; safe to call again."""
        if self._bar is not None:
            self._bar.stop()


def time_per_step(history: History) -> str:
    """Return the mean time of a training step in a readable unit, and what it is the mean of."""
    total = sum(history.seconds)
    if not history.steps or not history.seconds:
        return "no epoch was finished"
    return f"{_duration(total / history.steps)} ({history.steps} steps in {_duration(total)})"


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"
