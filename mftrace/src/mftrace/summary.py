"""Summaries of arrays: what is kept of an array that is too large to keep."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

BINS = 16
"""Bins of a histogram."""

STATISTICS = 7
"""Numbers of a summary beside the histogram, in the order of ``Summary``'s fields."""

SIZE = STATISTICS * 8 + BINS * 4
"""Bytes that a summary takes in a file."""

_HUGE = 1e150  # above it squares overflow, below 1 / 1e150 they underflow: rows are scaled first


@attrs.frozen
class Summary:
    """What an array was like.

    Attributes
    ----------
    minimum, maximum, mean, std : float
        Of the finite elements, magnitudes standing for complex ones; NaN where there is no
        finite element.
    nan, inf, negative_inf : int
        How many elements are NaN, positive and negative infinity.
    histogram : tuple of int
        How many finite elements fall into each of 16 equally wide bins from the minimum to
        the maximum; all fall into the first where these are the same.
    """

    minimum: float
    maximum: float
    mean: float
    std: float
    nan: int
    inf: int
    negative_inf: int
    histogram: tuple[int, ...]


def summary_of(array: Any) -> Summary:
    """Return the summary of one array.

    Parameters
    ----------
    array : array_like
        Of any shape and numeric dtype.

    Examples
    --------
    >>> found = summary_of([0.0, 1.0, 2.0, float("nan")])
    >>> found.mean, found.nan, found.histogram[0], found.histogram[-1]
    (1.0, 1, 1, 1)
    """
    statistics, histogram = summarise(np.asarray(array).reshape(1, -1))
    return read_summary(statistics[0], histogram[0])


def read_summary(statistics: NDArray[np.float64], histogram: NDArray[np.uint32]) -> Summary:
    """Return one row of what ``summarise`` returned as a summary."""
    minimum, maximum, mean, std, *counts = statistics.tolist()
    nan, inf, negative_inf = (int(count) for count in counts)
    return Summary(minimum, maximum, mean, std, nan, inf, negative_inf, tuple(histogram.tolist()))


def summarise(rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.uint32]]:
    """Summarise many arrays of one size at once.

    Parameters
    ----------
    rows : numpy.ndarray
        ``(arrays, elements)``, numeric: one array a row.

    Returns
    -------
    statistics : numpy.ndarray
        ``(arrays, 7)`` float64: minimum, maximum, mean, standard deviation, and the numbers
        of NaN, positive and negative infinities.
    histogram : numpy.ndarray
        ``(arrays, 16)`` uint32.
    """
    with np.errstate(all="ignore"):
        if rows.dtype.kind == "c":
            rows = np.abs(rows)
        x = np.asarray(rows, np.float64)
        count, size = x.shape
        statistics = np.zeros((count, STATISTICS))
        histogram = np.zeros((count, BINS), np.uint32)
        if not size:
            statistics[:, :4] = np.nan
            return statistics, histogram
        low, high = x.min(axis=1), x.max(axis=1)
        whole = np.isfinite(low) & np.isfinite(high)
        if whole.all():
            _describe(x, low, high, statistics, histogram)
            return statistics, histogram
        if whole.any():
            described = statistics[whole], histogram[whole]
            _describe(x[whole], low[whole], high[whole], *described)
            statistics[whole], histogram[whole] = described
        for i in np.flatnonzero(~whole):
            row = x[i]
            known = row[np.isfinite(row)][None]
            if known.size:
                bounds = known.min(axis=1), known.max(axis=1)
                _describe(known, *bounds, statistics[i : i + 1], histogram[i : i + 1])
            else:
                statistics[i, :4] = np.nan
            statistics[i, 4:] = np.isnan(row).sum(), (row == np.inf).sum(), (row == -np.inf).sum()
    return statistics, histogram


def _describe(
    x: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    statistics: NDArray[np.float64],
    histogram: NDArray[np.uint32],
) -> None:
    """Write what finite rows are like into rows of the statistics and of the histogram."""
    statistics[:, 0], statistics[:, 1] = low, high
    largest = np.maximum(np.abs(low), np.abs(high))
    far = (largest > _HUGE) | ((largest < 1 / _HUGE) & (largest > 0))
    scale = np.where(far, largest, 1.0)
    if far.any():
        x, low, high = x / scale[:, None], low / scale, high / scale
    above = x - low[:, None]
    width = high - low
    mean = above.mean(axis=1)  # and no product: a row's mean is the same among any others
    # Of numbers between 0 and their width, both of which occur, little is lost by this difference.
    variance = np.einsum("ij,ij->i", above, above) / x.shape[1] - mean * mean
    statistics[:, 2] = np.clip(mean + low, low, high) * scale
    statistics[:, 3] = np.sqrt(np.maximum(variance, 0.0)) * scale
    per_unit = BINS * (1 - 1e-12) / width  # so that the maximum falls into the last bin
    per_unit[~np.isfinite(per_unit)] = 0.0
    above *= per_unit[:, None]
    place = above.astype(np.intp)
    place += np.arange(0, len(x) * BINS, BINS)[:, None]
    histogram[...] = np.bincount(place.reshape(-1), minlength=histogram.size).reshape(-1, BINS)
