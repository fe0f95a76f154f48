"""Arrays for the page: all of a small one, evenly chosen elements of a large one, or a summary."""

from __future__ import annotations

import math
from base64 import b64encode
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mftrace.blocks import RecordedArray
from mftrace.summary import Summary, summary_of

Encoded: TypeAlias = str | dict[str, Any] | None

LONGEST = 64
"""Elements along one of the last two axes that are shown at most."""

LONGEST_VECTOR = 256
"""Elements of a vector that are shown at most."""

FEW = 4
"""Places along each leading axis that stay as long as the last two axes can be thinned."""

LEAST = 8
"""Elements along the last two axes that stay as long as a leading axis can be thinned."""


def shown_counts(shape: tuple[int, ...], cells: int) -> tuple[int, ...]:
    """Return how many places along each axis are shown, so that ``cells`` are at most.

    Parameters
    ----------
    shape : tuple of int
        Of the array.
    cells : int
        Elements to show at most, at least 1.

    Examples
    --------
    >>> shown_counts((11, 13), 4096)
    (11, 13)
    >>> shown_counts((32, 16, 28, 28), 4096)
    (2, 2, 28, 28)
    >>> shown_counts((8, 4, 12, 12), 4096)
    (7, 4, 12, 12)
    """
    if len(shape) == 1:
        return (min(shape[0], LONGEST_VECTOR, cells),)
    counts = [
        min(size, LONGEST if axis >= len(shape) - 2 else size) for axis, size in enumerate(shape)
    ]
    leading, trailing = range(max(len(shape) - 2, 0)), range(max(len(shape) - 2, 0), len(shape))

    def longest(axes: range, least: int) -> int | None:
        found = max(axes, key=lambda axis: counts[axis], default=None)
        return found if found is not None and counts[found] > least else None

    while math.prod(counts) > cells:
        axis = longest(leading, FEW)
        if axis is None:
            axis = longest(trailing, 4 * LEAST)
        if axis is None:
            axis = longest(leading, 1)
        if axis is None:
            axis = longest(trailing, 1)
        if axis is None:
            break
        enough = counts[axis] * cells // math.prod(counts)
        counts[axis] = max((counts[axis] + 1) // 2, enough)
    return tuple(counts)


def chosen(array: NDArray[Any], counts: tuple[int, ...]) -> NDArray[Any]:
    """Return evenly chosen elements, the first and the last along each axis among them."""
    places = [
        np.arange(count, dtype=np.int64) * (size - 1) // max(count - 1, 1)
        for size, count in zip(array.shape, counts, strict=True)
    ]
    return array[np.ix_(*places)] if places else array


def encoded(array: RecordedArray, cells: int) -> Encoded:
    """Return what the page needs to show an array.

    Text is all elements, as base64 of little-endian float32. A dictionary holds them under
    ``d``, as float64 if ``w`` is 8; ``k`` says how many places along each axis were chosen,
    and ``m`` and ``h`` summarise the array: of a summarised one, that is all.
    """
    if not array.stored:
        summary = array.summary
        return None if summary is None else _summary(summary)
    values = array.array
    assert values is not None
    if values.dtype.kind == "c":
        values = np.abs(values)
    counts = shown_counts(values.shape, cells)
    whole = counts == values.shape
    numbers = np.asarray(values if whole else chosen(values, counts), np.float64)
    with np.errstate(all="ignore"):
        single = numbers.astype("<f4")
    exact = _fits(numbers, single, values.dtype.kind)
    text = b64encode((single if exact else numbers.astype("<f8")).tobytes()).decode("ascii")
    if whole and exact:
        return text
    found: dict[str, Any] = {"d": text} if exact else {"d": text, "w": 8}
    if not whole:
        found["k"] = list(counts)
        found |= _summary(summary_of(values))
    return found


def encoded_size(shape: tuple[int, ...], cells: int, stored: bool) -> int:
    """Return about how many characters ``encoded`` needs."""
    if not stored:
        return 200
    counts = shown_counts(shape, cells)
    return math.prod(counts) * 16 // 3 + (8 if counts == shape else 250)


def json_number(value: float) -> float | str:
    """Return a number rounded to 9 significant digits; NaN and infinities as JavaScript's words."""
    if math.isfinite(value):
        return float(f"{value:.9g}")
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _fits(numbers: NDArray[np.float64], single: NDArray[np.float32], kind: str) -> bool:
    """Whether float32 is good enough: the page shows 6 digits, and all of an integer."""
    if kind in "iub":
        return bool((single == numbers).all())
    size = np.abs(numbers[np.isfinite(numbers) & (numbers != 0)])
    info = np.finfo(np.float32)
    return not size.size or bool(size.max() <= info.max and size.min() >= info.tiny)


def _summary(summary: Summary) -> dict[str, Any]:
    numbers = (summary.minimum, summary.maximum, summary.mean, summary.std)
    counts = [summary.nan, summary.inf, summary.negative_inf]
    return {"m": [*map(json_number, numbers), *counts], "h": list(summary.histogram)}
