"""Indexing of lowered values: slices as views, fixed and computed indices as ``take``."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from mfjit.builder import Builder
from mfjit.ir import Shape, Slices, Value


def basic(shape: Shape, index: Any) -> tuple[Slices, Shape] | None:
    """Return slices for all axes, and the result's shape, of an index without arrays.

    ``None`` where an array is part of the index.

    Raises
    ------
    IndexError
        If the index does not fit the shape.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(_is_array(part) for part in parts):
        return None
    taken = sum(part is not None and part is not Ellipsis for part in parts)
    if taken > len(shape):
        raise IndexError(f"too many indices for shape {shape}: {taken}")
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    at = parts.index(Ellipsis)
    parts[at : at + 1] = [slice(None)] * (len(shape) - taken)
    slices: list[tuple[int, int, int]] = []
    result: list[int] = []
    for part in parts:
        if part is None:
            result.append(1)
            continue
        size = shape[len(slices)]
        if isinstance(part, slice):
            start, stop, step = part.indices(size)
            length = len(range(start, stop, step))
            slices.append((start, stop, step) if length else (0, 0, 1))
            result.append(length)
        else:
            i = operator.index(part)
            if not -size <= i < size:
                raise IndexError(f"index {i} is out of bounds for an axis of size {size}")
            slices.append((i % size, i % size + 1, 1))
    return tuple(slices), tuple(result)


def _is_array(part: Any) -> bool:
    if isinstance(part, np.ndarray):
        return part.ndim > 0 or part.dtype.kind == "b"
    return isinstance(part, (Value, list, bool, np.bool_))


def getitem(b: Builder, x: Value, index: Any) -> Value | None:
    """Emit ``x[index]``; ``None`` where no instruction is made for it.

    An index may hold any fixed arrays, or one computed array beside full slices.
    """
    found = basic(x.shape, index)
    if found is not None:
        slices, shape = found
        return b.reshape(b.slice(x, slices), shape)
    if not _is_fixed(index):
        single = _computed(index, x.ndim)
        return None if single is None else b.take(x, single[1], single[0])
    axis, merged, chosen = fixed(x.shape, index)
    return b.take(b.reshape(x, merged), b.value(chosen), axis)


def _is_fixed(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return not any(isinstance(part, Value) for part in parts)


def fixed(shape: Shape, index: Any) -> tuple[int, Shape, Any]:
    """Return an index with fixed arrays as positions along one axis.

    That axis is all those that the index does not take as they are, put together.

    Returns
    -------
    tuple of (axis, shape, positions)
        The axis, the shape with those axes in one, and ``(...)`` positions along it.

    Raises
    ------
    IndexError
        If the index does not fit the shape.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    parts = _for_every_axis(parts, len(shape))
    whole = [_is_slice(part) and part == slice(None) for part in parts]
    after = whole[::-1].index(False)
    # Indices and arrays with something between them put what they select first.
    picking = [
        i
        for i, part in enumerate(parts)
        if not (part is None or part is Ellipsis or _is_slice(part))
    ]
    apart = picking and picking[-1] - picking[0] >= len(picking)
    before = 0 if apart else whole.index(False)
    end = len(shape) - after
    middle = shape[before:end]
    places = np.arange(math.prod(middle)).reshape(middle)
    chosen = places[tuple(parts[before : len(parts) - after])]
    return before, (*shape[:before], math.prod(middle), *shape[end:]), chosen


def _is_slice(part: Any) -> bool:
    return isinstance(part, slice)


def _for_every_axis(parts: list[Any], ndim: int) -> list[Any]:
    """Return an index with a part for every axis; an ellipsis stays where it stands for none."""
    taken = 0
    for part in parts:
        if part is None or part is Ellipsis:
            continue
        array = np.asarray(part) if _is_array(part) else None
        taken += 1 if array is None or array.dtype.kind != "b" else array.ndim
    if taken > ndim:
        raise IndexError(f"too many indices for an array of {ndim} axes: {taken}")
    if taken == ndim:
        return parts
    places = [i for i, part in enumerate(parts) if part is Ellipsis]
    at = places[0] if places else len(parts)
    return [*parts[:at], *[slice(None)] * (ndim - taken), *parts[at + len(places) :]]


def _computed(index: Any, ndim: int) -> tuple[int, Value] | None:
    """Return the axis and the array of an index that is otherwise full slices."""
    parts = list(index) if isinstance(index, tuple) else [index]
    arrays = [part for part in parts if isinstance(part, Value)]
    if len(arrays) != 1 or arrays[0].dtype.kind not in "iu":
        return None
    if any(
        not (isinstance(part, Value) or part is Ellipsis)
        and not (_is_slice(part) and part == slice(None))
        for part in parts
    ):
        return None
    parts = _for_every_axis(parts, ndim)
    parts = [part for part in parts if part is not Ellipsis]
    return next(i for i, part in enumerate(parts) if isinstance(part, Value)), arrays[0]


def place(b: Builder, x: Value, index: Any, shape: Shape) -> Value | None:
    """Emit zeros with ``x`` added at an index: the way back from ``getitem``."""
    found = basic(shape, index)
    if found is not None:
        slices, _ = found
        kept = tuple([len(range(*part)) for part in slices])
        return b.place(b.reshape(x, kept), slices, shape)
    if not _is_fixed(index):
        return None
    axis, merged, chosen = fixed(shape, index)
    return b.reshape(b.take_add(x, b.value(chosen), axis, merged), shape)
