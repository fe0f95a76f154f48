"""A history as HTML, for notebooks: how it ended, the loss curve as SVG, a table of losses."""

from __future__ import annotations

from math import isfinite, log10
from typing import TYPE_CHECKING

from mfcore.html import facts, panel, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mfoptim.history import History

_WIDTH, _HEIGHT = 420, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 24, 26
_POINTS = 400
"""Points of a curve at most: more cannot be told apart at this width."""

_STYLES = {"training": ("#2b7bba", ""), "validation": ("#d2691e", ' stroke-dasharray="5 3"')}


def history_html(history: History, rows: int = 6) -> str:
    """Return a history for notebooks; its seconds are left to ``history.table()``."""
    count = len(history.loss)
    if not count:
        return panel("History", facts(_ending(history)))
    columns = {"loss": history.loss}
    if history.validation_loss:
        columns["validation loss"] = history.validation_loss
    shown = history.shown_epochs(rows)
    lines = [
        (str(epoch), *(f"{values[epoch - 1]:.5g}" for values in columns.values()))
        for epoch in shown
    ]
    plural = "" if count == 1 else "s"
    return panel(
        f"History of {count} epoch{plural}",
        facts(_ending(history)),
        _curve(history),
        table(("epoch", *columns), lines, len(lines)),
    )


def _ending(history: History) -> list[tuple[str, str]]:
    return [
        ("ended", history.stopped.message),
        ("steps", str(history.steps)),
        ("problems", "\n".join(history.problems)),
    ]


def _curve(history: History) -> str:
    """Return the losses as an SVG picture; on a logarithmic axis where they span decades."""
    series = {"training": history.loss, "validation": history.validation_loss}
    finite = [loss for losses in series.values() for loss in losses if isfinite(loss)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    logarithmic = low > 0 and high / low > 20
    place = _Scale(low, high, logarithmic)
    count = len(history.loss)
    parts = [
        f'<line x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}" stroke="currentColor" '
        f'stroke-opacity="{opacity}"/>'
        for y, opacity in ((_TOP, 0.2), (_HEIGHT - _BOTTOM, 0.6))
    ]
    parts += [
        _label(_LEFT - 6, _TOP + 4, "end", f"{high:.4g}"),
        _label(_LEFT - 6, _HEIGHT - _BOTTOM + 4, "end", f"{low:.4g}"),
        _label(_LEFT, _HEIGHT - 8, "start", "epoch 1"),
        _label(_WIDTH - _RIGHT, _HEIGHT - 8, "end", str(count)),
        _label(
            (_LEFT + _WIDTH - _RIGHT) // 2,
            _HEIGHT - 8,
            "middle",
            "loss (logarithmic)" if logarithmic else "loss",
        ),
    ]
    for name, losses in series.items():
        colour, dash = _STYLES[name]
        for points in _lines(losses, count, place):
            if len(points) == 1:
                (x, y), *_ = points
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
            else:
                path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
                parts.append(
                    f'<polyline points="{path}" fill="none" stroke="{colour}" '
                    f'stroke-width="2"{dash}/>'
                )
    if history.validation_loss:
        # Above the picture, where no curve goes.
        for column, (name, (colour, _)) in enumerate(_STYLES.items()):
            parts.append(_label(_LEFT + 70 * column, 13, "start", name, colour))
    said = f"Loss by epoch, from {history.loss[0]:.4g} to {history.loss[-1]:.4g}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{said}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'style="max-width:100%">{"".join(parts)}</svg>'
    )


class _Scale:
    """Where a loss stands in the picture."""

    def __init__(self, low: float, high: float, logarithmic: bool) -> None:
        self.logarithmic = logarithmic
        self.low, self.high = self._measure(low), self._measure(high)

    def __call__(self, loss: float) -> float:
        span = self.high - self.low
        share = (self._measure(loss) - self.low) / span if span else 0.5
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def _measure(self, loss: float) -> float:
        # A half, because the difference of two finite numbers may overflow.
        return log10(loss) if self.logarithmic else loss / 2


def _lines(losses: Sequence[float], count: int, place: _Scale) -> list[list[tuple[float, float]]]:
    """Return the points of a curve, broken where a loss is not finite."""
    lines: list[list[tuple[float, float]]] = [[]]
    step = max(1, -(-count // _POINTS))
    width = _WIDTH - _LEFT - _RIGHT
    for i, loss in enumerate(losses):
        if i % step and i != len(losses) - 1:
            continue
        if not isfinite(loss):
            lines.append([])
            continue
        lines[-1].append((_LEFT + width * (i / (count - 1) if count > 1 else 0.5), place(loss)))
    return [line for line in lines if line]


def _label(x: float, y: float, anchor: str, text: str, colour: str = "currentColor") -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="11" '
        f'font-family="sans-serif" fill="{colour}">{text}</text>'
    )
