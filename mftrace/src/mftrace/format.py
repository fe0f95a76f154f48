"""Readable text of a number or an array: small ones in full, large ones in a summary."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIMIT = 24
"""Elements that are shown in full, unless the caller says otherwise."""

PRECISION = 6
"""Significant digits of a float, unless the caller says otherwise."""

WIDTH = 72
"""Characters after which a long row goes on in the next line."""

TALL = 4
"""Rows beyond which a matrix of one column is laid down on one line, where it fits."""


def format_array(value: object, *, limit: int = LIMIT, precision: int = PRECISION) -> str:
    """Return a value as text for people. The same value gives the same text everywhere.

    Parameters
    ----------
    value : scalar, array_like or anything
        What to show. What is no array of numbers is shown as Python would.
    limit : int
        Arrays of more elements than this are summarised: dtype, shape, and the smallest,
        largest and mean of the finite elements.
    precision : int
        Significant digits of floats; zeros at the end are left out.

    Returns
    -------
    str
        A matrix is as many lines as it has rows, its columns aligned; all else, and a tall
        matrix of one column, is one line where it fits. There is no line break at the end.

    Raises
    ------
    ValueError
        If ``limit`` is negative or ``precision`` less than 1.

    Examples
    --------
    >>> print(format_array([[-11.0, 7.0], [0.98201379, 2.5]]))
    [[-11        7  ]
     [  0.982014 2.5]]
    >>> format_array(np.arange(600.0).reshape(200, 3))
    'float64[200, 3] min 0 max 599 mean 299.5'
    """
    if limit < 0:
        raise ValueError(f"limit is a number of elements, at least 0, not {limit!r}")
    if precision < 1:
        raise ValueError(f"precision is a number of significant digits, at least 1: {precision!r}")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):  # a ragged list, or an object that refuses
        return reprlib.repr(value)
    if array.dtype.kind not in "biufc":
        return reprlib.repr(value)
    if array.ndim == 0:
        return _number(array[()], precision)
    if array.size == 0:
        return f"{_kind(array)} (empty)"
    if array.size > limit:
        return _summary(array, precision)
    return _in_full(array, precision)


def _number(value: Any, precision: int) -> str:
    if isinstance(value, (bool, int, np.bool_, np.integer)):
        return str(value)
    if value == 0:  # -0.0 would puzzle a reader, and differs between platforms
        return "0"
    return format(value, f".{precision}g")


def _kind(array: NDArray[Any]) -> str:
    return f"{array.dtype}[{', '.join(map(str, array.shape))}]"


def _in_full(array: NDArray[Any], precision: int) -> str:
    texts = [_number(value, precision) for value in array.reshape(-1)]
    columns = array.shape[-1]
    if array.ndim == 2 and columns == 1 and len(texts) > TALL:
        line = " ".join(f"[{text}]" for text in texts)
        if len(line) + 2 <= WIDTH:
            return f"[{line}]"
    by_column = [_aligned(texts[column::columns]) for column in range(columns)]
    if sum(len(column[0]) + 1 for column in by_column) > WIDTH:
        # Rows will be wrapped: any element may come to stand above any other.
        width = max(map(len, texts))
        texts = [text.rjust(width) for text in texts]
        by_column = [texts[column::columns] for column in range(columns)]
    return _nested([text for row in zip(*by_column) for text in row], array.shape, 1)


def _aligned(texts: Sequence[str]) -> list[str]:
    """Pad the texts of numbers so that their decimal points stand above each other."""
    places = [min(text.find(mark) % (len(text) + 1) for mark in ".e") for text in texts]
    before = max(places)
    shifted = [" " * (before - place) + text for text, place in zip(texts, places)]
    width = max(map(len, shifted))
    return [text.ljust(width) for text in shifted]


def _nested(texts: Sequence[str], shape: tuple[int, ...], depth: int) -> str:
    """Join the texts of elements, in order, as nested lists ``depth`` brackets deep."""
    indent = "\n" + " " * depth
    if len(shape) == 1:
        fitting = len(texts)
        if sum(map(len, texts)) + len(texts) > WIDTH:
            fitting = max(1, WIDTH // (len(texts[0]) + 1))
        lines = [" ".join(texts[i : i + fitting]) for i in range(0, len(texts), fitting)]
        return f"[{indent.join([*(line.rstrip() for line in lines[:-1]), lines[-1]])}]"
    size = len(texts) // shape[0]
    parts = [texts[i : i + size] for i in range(0, len(texts), size)]
    return f"[{indent.join(_nested(part, shape[1:], depth + 1) for part in parts)}]"


def _summary(array: NDArray[Any], precision: int) -> str:
    kind = _kind(array)
    if array.dtype.kind == "b":
        true = int(np.count_nonzero(array))
        return f"{kind} True: {true}, False: {array.size - true}"
    if array.dtype.kind == "c":
        return kind
    words = [kind]
    finite = array
    odd: list[str] = []
    if array.dtype.kind == "f":
        finite = array[np.isfinite(array)]
        counts = {
            "NaN": np.isnan(array),
            "inf": np.isposinf(array),
            "-inf": np.isneginf(array),
        }
        odd = [f"{name}: {int(found.sum())}" for name, found in counts.items() if found.any()]
    if finite.size:
        least, most = finite.min(), finite.max()
        words += ["min", _number(least, precision), "max", _number(most, precision)]
        words += ["mean", _number(_mean(finite, float(least), float(most)), precision)]
    if odd:
        words.append(f"({', '.join(odd)})")
    return " ".join(words)


def _mean(array: NDArray[Any], least: float, most: float) -> float:
    """Return the mean, 0 where it is nothing but rounding; overflows for no finite array."""
    scale = max(abs(least), abs(most))
    if scale == 0:
        return 0.0
    share = float(np.mean(array.astype(np.float64) / scale))
    return 0.0 if abs(share) < 1e-12 else share * scale
