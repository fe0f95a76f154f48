"""What ``miniflow train`` shows: progress while it runs, and the report at its end."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

if TYPE_CHECKING:
    from mfcore import Session


LONGEST_SILENCE = 10.0
"""Seconds after which a line is printed where there is no terminal for a bar."""


def console(*, stderr: bool = False) -> Console:
    """Return a console that shows text as it is: no markup, no guesses at what is a number."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def show_facts(facts: Mapping[str, str]) -> None:
    """Print labels and values in two columns; paths and other long words are not cut."""
    out = console()
    indent = max(map(len, facts)) + 2
    for label, value in facts.items():
        lines = textwrap.wrap(
            value,
            max(out.width - indent, 20),
            break_long_words=False,
            break_on_hyphens=False,
        )
        text = Text(label.ljust(indent), style="bold")
        text.append(f"\n{' ' * indent}".join(lines), style="not bold")
        out.print(text, soft_wrap=True)


class ProgressBar:
    """A callback of ``fit`` that draws a bar on a terminal, else prints a line now and then.

    It writes to the standard error stream, so that what a pipe receives is the report. It
    is a context manager, which gives the terminal back.

    Parameters
    ----------
    epochs : int
        How many epochs there will be.
    lines : int, optional
        About how many lines to print where there is no terminal.
    shown : bool, optional
        Whether to show anything.

    Attributes
    ----------
    steps : int
        Steps done in finished epochs, those whose time is known.
    """

    def __init__(self, epochs: int, *, lines: int = 10, shown: bool = True) -> None:
        self.epochs = epochs
        self.steps = 0
        self._shown = shown
        self._every = max(epochs // lines, 1)
        self._last_line = monotonic()
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
            if shown and out.is_terminal
            else None
        )

    def __enter__(self) -> ProgressBar:
        if self._bar is not None:
            self._bar.add_task("", total=self.epochs, loss="-")
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def on_train_start(self, session: Session) -> None:
        """Draw the empty bar."""
        self.steps = session.steps
        if self._bar is not None:
            self._bar.console.print()
            self._bar.start()

    def on_epoch_finish(self, session: Session, epoch: int, logs: Mapping[str, float]) -> None:
        """Move the bar, or print a line."""
        self.steps = session.steps
        loss = f"{logs['loss']:.4g}"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=epoch, loss=loss)
        elif self._shown and self._line_is_due(epoch):
            self._last_line = monotonic()
            print(f"epoch {epoch} of {self.epochs}: loss {loss}", file=sys.stderr, flush=True)

    def _line_is_due(self, epoch: int) -> bool:
        silence = monotonic() - self._last_line
        return epoch in (1, self.epochs) or epoch % self._every == 0 or silence > LONGEST_SILENCE


def time_per_step(steps: int, seconds: float) -> str:
    """Return the mean time of a step in a readable unit, and what it is the mean of."""
    if not steps:
        return "no epoch was finished"
    plural = "" if steps == 1 else "s"
    return f"{_duration(seconds / steps)} ({steps} step{plural} in {_duration(seconds)})"


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"
