"""What a guard looks for in arrays, and its report of what it found where."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

_DIGITS = ".6g"
_all, _least, _most = np.logical_and.reduce, np.minimum.reduce, np.maximum.reduce
_LONG = 200  # characters of a name or a hyperparameter that are shown


def printable(text: str) -> str:
    """Return text on one line, without what a terminal would act on, and not too long."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return safe if len(safe) <= _LONG else f"{safe[: _LONG - 3]}..."


@attrs.frozen
class Checks:
    """What counts as bad in an array.

    Attributes
    ----------
    nan, inf : bool
        Whether NaN does, and whether positive and negative infinity do.
    low, high : float, optional
        The least and the greatest value that is still good.
    """

    nan: bool = True
    inf: bool = True
    low: float | None = None
    high: float | None = None

    def passes(self, array: Any) -> bool:
        """Whether an array holds nothing bad."""
        if type(array) is np.float64:
            least = most = float(array)
            finite = math.isfinite(least)
        else:
            x = np.asarray(array)
            if not x.size:
                return True
            finite = x.dtype.kind not in "fc" or bool(_all(np.isfinite(x), axis=None))
            if (self.low is None and self.high is None) or x.dtype.kind == "c":
                return finite or not self.kinds(x)
            least, most = _least(x, axis=None), _most(x, axis=None)
        # What is bad is looked for only where not all is plainly good.
        low, high = self.low, self.high
        good = finite and (low is None or least >= low) and (high is None or most <= high)
        return bool(good) or not self.kinds(np.asarray(array))

    def kinds(self, array: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
        """Return where bad elements are, by kind, for each kind that there is."""
        found: dict[str, NDArray[np.bool_]] = {}
        if self.nan:
            found["NaN"] = np.isnan(array)
        if self.inf:
            found |= _infinities(array)
        if array.dtype.kind != "c":
            finite = np.isfinite(array)
            if self.low is not None:
                found[f"below {self.low:{_DIGITS}}"] = finite & (array < self.low)
            if self.high is not None:
                found[f"above {self.high:{_DIGITS}}"] = finite & (array > self.high)
        return {kind: where for kind, where in found.items() if where.any()}


def _infinities(array: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    if array.dtype.kind == "c":
        return {"inf": np.isinf(array)}
    return {"inf": np.isposinf(array), "-inf": np.isneginf(array)}


@attrs.frozen
class ArrayReport:
    """What one array was like.

    Attributes
    ----------
    name : str
        What the operation calls it: a field, ``"grad"`` or ``"value"``.
    source : str
        Name of the node that it came from, or went to; empty where that says nothing.
    dtype : str
        Its dtype.
    shape : tuple of int
        Its shape.
    minimum, maximum, mean : float or None
        Of the finite elements; ``None`` where there is none, or they are complex.
    counts : tuple of (str, int)
        How many elements are bad in which way: ``(("NaN", 2), ("inf", 1))``.
    bad : int
        How many elements are bad.
    first : tuple of int or None
        Index of the first bad element in C order.
    """

    name: str
    source: str
    dtype: str
    shape: tuple[int, ...]
    minimum: float | None
    maximum: float | None
    mean: float | None
    counts: tuple[tuple[str, int], ...]
    bad: int
    first: tuple[int, ...] | None

    @property
    def label(self) -> str:
        """The node, and what the operation calls it if that differs: ``linear_1 (x)``."""
        name, source = printable(self.name), printable(self.source)
        return f"{source} ({name})" if source and source != name else name

    def __str__(self) -> str:
        text = f"{self.dtype}[{', '.join(map(str, self.shape))}]"
        if self.minimum is not None and math.prod(self.shape) == 1:
            text += f" {self.minimum:{_DIGITS}}"
        elif self.minimum is not None:
            text += (
                f" min {self.minimum:{_DIGITS}} max {self.maximum:{_DIGITS}}"
                f" mean {self.mean:{_DIGITS}}"
            )
        if not self.bad:
            return text
        counts = ", ".join(f"{kind}: {count}" for kind, count in self.counts)
        size = math.prod(self.shape)
        place = f", first at [{', '.join(map(str, self.first))}]" if self.first else ""
        return f"{text}; {self.bad} of {size} bad ({counts}){place}"


def array_report(name: str, source: str, value: Any, checks: Checks) -> ArrayReport:
    """Return what an array is like; NaN and infinities are counted whatever is checked."""
    array = np.asarray(value)
    with np.errstate(all="ignore"):
        kinds = attrs.evolve(checks, nan=True, inf=True).kinds(array)
        least = most = mean = None
        if array.dtype.kind != "c":
            finite = array[np.isfinite(array)].astype(np.float64)
            if finite.size:
                least, most = float(finite.min()), float(finite.max())
                scale = max(abs(least), abs(most)) or 1.0
                if math.isinf(scale):  # wider than a float64
                    scale = 1.0
                mean = float(np.mean(finite / scale)) * scale  # no sum that overflows
    first, bad = None, 0
    if kinds:
        where = np.logical_or.reduce(list(kinds.values()))
        bad = int(np.count_nonzero(where))
        first = tuple(int(i) for i in np.unravel_index(int(np.argmax(where)), array.shape))
    counts = tuple((kind, int(np.count_nonzero(where))) for kind, where in kinds.items())
    return ArrayReport(
        name, source, str(array.dtype), array.shape, least, most, mean, counts, bad, first
    )


@attrs.frozen
class GuardReport:
    """Where a bad value came up, and what went into it.

    Attributes
    ----------
    phase : str
        ``"forward"`` or ``"backward"``.
    node : str
        Name of the node.
    operation : str
        Qualified name of its operation, or of the kind of leaf that it is.
    pack : str
        The pack that provides it, with its version; empty where none does.
    site : tuple of str and int
        File and line where the node was built.
    step : int or None
        The training step, if there was one.
    hyperparameters : tuple of (str, str)
        Their names and what they were.
    inputs : tuple of ArrayReport
        What went in, in backward the gradient too.
    results : tuple of ArrayReport
        What came out: the value, or the gradient that each input was sent.
    reproduced : bool
        Whether something bad is in the results; not so only where a replay went well.
    notes : tuple of str
        What else is worth knowing.
    """

    phase: str
    node: str
    operation: str
    pack: str
    site: tuple[str, int]
    step: int | None
    hyperparameters: tuple[tuple[str, str], ...]
    inputs: tuple[ArrayReport, ...]
    results: tuple[ArrayReport, ...]
    reproduced: bool = True
    notes: tuple[str, ...] = ()

    @property
    def bad_inputs(self) -> tuple[str, ...]:
        """Labels of what was bad already when it went in."""
        return tuple(array.label for array in self.inputs if array.bad)

    @property
    def cause(self) -> str:
        """One sentence: whether the node made the bad value, or passed it on."""
        if not self.reproduced:
            return "the failure did not come up again"
        if not self.inputs:
            return "no operation made it: the value was bad when the run began"
        if self.bad_inputs:
            return f"it was bad already on the way in: {', '.join(self.bad_inputs)}"
        return "all that went in was good: it came up here"

    def __str__(self) -> str:
        kinds = dict.fromkeys(kind for array in self.results for kind, _ in array.counts)
        what = f"gave {' and '.join(kinds)}" if self.reproduced else "gave nothing bad"
        file, line = self.site
        sent = "sent to " if self.phase == "backward" and self.inputs else ""
        rows = [
            ("operation", printable(self.operation)),
            ("pack", printable(self.pack or "none")),
            ("built at", f"{printable(file)}:{line}"),
            *([] if self.step is None else [("step", str(self.step))]),
            *((name, printable(text)) for name, text in self.hyperparameters),
            *((f"in   {array.label}", str(array)) for array in self.inputs),
            *((f"out  {sent}{array.label}", str(array)) for array in self.results),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"{printable(self.node)} {what} in {self.phase}: {self.cause}"]
        lines += [f"  {name:{width}}  {text}" for name, text in rows]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])
