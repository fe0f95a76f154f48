"""What ``fit`` returns: how training went, as numbers, a table and a picture."""

from __future__ import annotations

from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import attrs
import numpy as np

from mfcore import Session
from mfoptim.errors import FitError, MissingPackageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Reason = Literal["finished", "early stopping", "diverged", "interrupted", "callback"]


@attrs.frozen
class Stopped:
    """Why and when training ended.

    Attributes
    ----------
    reason : str
        ``"finished"``, ``"early stopping"``, ``"diverged"``, ``"interrupted"`` or
        ``"callback"``.
    epoch : int
        The epoch in which it ended, from 1; 0 if none was begun.
    message : str
        The same as a sentence.
    """

    reason: Reason
    epoch: int
    message: str


@attrs.define(eq=False, repr=False)
class History:
    """How a training went.

    Attributes
    ----------
    session : Session
        The session that was trained: ``history.session[W]``.
    loss : list of float
        For each finished epoch the mean of its steps' costs, weighted by their rows.
    validation_loss : list of float
        The cost of the validation rows after each finished epoch; empty without any.
    seconds : list of float
        Duration of each finished epoch's steps, without validation and epoch callbacks.
    steps : int
        Number of training steps done, those of an unfinished epoch included.
    stopped : Stopped
        Why and when training ended.
    problems : list of str
        Where data or initial parameters hold NaN or infinities: input, column, count and
        first row, all counted from 0.
    """

    session: Session
    loss: list[float]
    validation_loss: list[float]
    seconds: list[float]
    steps: int
    stopped: Stopped
    problems: list[str] = attrs.field(factory=list)

    def __repr__(self) -> str:
        span = f", loss {self.loss[0]:.6g} -> {self.loss[-1]:.6g}" if self.loss else ""
        return f"<History of {len(self.loss)} epochs{span}, {self.stopped.reason}>"

    def _repr_html_(self) -> str:
        """Return what notebooks show: how it ended, the loss curve, a table of losses."""
        from mfoptim.history_html import history_html

        return history_html(self)

    def shown_epochs(self, rows: int) -> list[int]:
        """Return at most ``rows`` epochs, evenly spread from the first to the last."""
        count = len(self.loss)
        if rows == 1:
            return [count]
        spread = np.linspace(1, count, rows).round().astype(int)
        return [int(epoch) for epoch in np.unique(spread)]

    def table(self, rows: int = 10) -> str:
        """Return a plain-text table of epochs and losses.

        Parameters
        ----------
        rows : int, optional
            How many epochs are shown at most, evenly spread from the first to the last.

        Raises
        ------
        FitError
            If ``rows`` is less than 1.
        """
        if rows < 1:
            raise FitError(f"a table needs at least one row, not {rows}")
        if not self.loss:
            return "no epoch was finished"
        columns = {"loss": self.loss}
        if self.validation_loss:
            columns["validation loss"] = self.validation_loss
        columns["seconds"] = self.seconds
        lines = [["epoch", *columns]]
        for epoch in self.shown_epochs(rows):
            lines.append([str(epoch), *(f"{values[epoch - 1]:.5g}" for values in columns.values())])
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            for line in lines
        )

    @overload
    def plot(
        self, path: str | PathLike[str], ax: Axes | None = ..., *, log: bool = ...
    ) -> Path: ...
    @overload
    def plot(self, path: None = ..., *, ax: Axes, log: bool = ...) -> Axes: ...
    @overload
    def plot(self, path: None = ..., ax: None = ..., *, log: bool = ...) -> Figure: ...
    def plot(
        self,
        path: str | PathLike[str] | None = None,
        ax: Axes | None = None,
        *,
        log: bool = False,
    ) -> Any:
        """Draw the loss of each epoch, and the validation loss where there is one.

        Needs matplotlib (``pip install "mfoptim[plot]"``), without its global state: no
        window is opened and nothing has to be closed.

        Parameters
        ----------
        path : path, optional
            Where to save the picture: a PNG, or what the name's ending says (``.svg``,
            ``.pdf``).
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.
        log : bool, optional
            Whether the loss axis is logarithmic.

        Returns
        -------
        Path, Axes or Figure
            ``path`` if one was given, else ``ax`` if one was given, else the new figure.

        Raises
        ------
        MissingPackageError
            If matplotlib is not installed.
        OSError
            If the file cannot be written.
        """
        figure: Any = _new_figure() if ax is None else ax.figure
        axes: Any = figure.add_subplot() if ax is None else ax
        self._draw(axes, log)
        if path is not None:
            target = Path(path)
            figure.savefig(target, format=target.suffix[1:].lower() or "png")
            return target
        return figure if ax is None else ax

    def _draw(self, ax: Any, log: bool) -> None:
        epochs = range(1, len(self.loss) + 1)
        marker = "o" if len(self.loss) < 3 else None  # a line of one point cannot be seen
        ax.plot(epochs, self.loss, label="training", marker=marker)
        if self.validation_loss:
            ax.plot(epochs, self.validation_loss, label="validation", marker=marker)
        ax.legend()
        ax.set_xlabel("epoch")
        ax.set_ylabel("loss")
        ax.xaxis.get_major_locator().set_params(integer=True)
        if log and any(loss > 0 for loss in self.loss):
            ax.set_yscale("log")
        ax.grid(visible=True, alpha=0.3)


def _new_figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError(
            'drawing needs matplotlib, which is not installed: pip install "mfoptim[plot]"'
        ) from error

    class NotebookFigure(Figure):  # type: ignore[misc, unused-ignore]
        """A figure that notebooks show, though pyplot does not know it."""

        def _repr_png_(self) -> bytes:
            picture = BytesIO()
            self.savefig(picture, format="png")
            return picture.getvalue()

    return NotebookFigure(figsize=(7, 4.5), dpi=120, layout="constrained")
