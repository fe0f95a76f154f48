"""What no single NumPy call does: checks, draws, and calls of other people's functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfjit.functions import filled
from mfjit.operands import Array


def check_indices(indices: Array, size: int) -> None:
    """Raise ``IndexError`` where an index is out of ``-size .. size - 1``."""
    if indices.size and not (-size <= indices.min() and indices.max() < size):
        raise IndexError(f"an index is out of bounds for an axis of {size}")


def check_classes(classes: Array, depth: int) -> None:
    """Raise ``ValueError`` where a class is no whole number in ``0 .. depth - 1``."""
    if classes.size and not (
        classes.min() >= 0
        and classes.max() < depth
        and (classes.dtype.kind in "iub" or (classes == np.floor(classes)).all())
    ):
        raise ValueError(f"classes must be whole numbers in 0 .. {depth - 1}")


def check_within(within: Array, depth: int) -> None:
    """Raise ``ValueError`` unless all classes are within their range."""
    if not within[within.argmin()]:
        raise ValueError(f"classes must be whole numbers in 0 .. {depth - 1}")


def draw(source: Any, distribution: str, out: Array) -> None:
    """Draw numbers from the run's generator."""
    getattr(source.rng, distribution)(dtype=out.dtype, out=out)


def _scalars(arrays: tuple[Array, ...]) -> list[Any]:
    return [array[()] for array in arrays]


def call_into(function: Any, arguments: Any, arrays: tuple[Array, ...], out: Array) -> None:
    """Call a Python function and keep its result.

    Raises
    ------
    ValueError
        If the result has another shape than it had when the program was lowered.
    """
    positional, keywords = filled(arguments, _scalars(arrays))
    _keep(function(*positional, **keywords), out)


def call_for_items(
    function: Any, arguments: Any, arrays: tuple[Array, ...], results: list[Any]
) -> None:
    """Call a Python function that returns several arrays."""
    positional, keywords = filled(arguments, _scalars(arrays))
    results[:] = function(*positional, **keywords)


def take_item(results: list[Any], index: int, out: Array) -> None:
    """Keep one of several results."""
    _keep(results[index], out)


def _keep(result: Any, out: Array) -> None:
    if np.shape(result) != out.shape:
        raise ValueError(f"a result of shape {out.shape} was expected, not {np.shape(result)}")
    out[...] = result
