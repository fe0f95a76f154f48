"""Indexing of lowered values: slices as views, fixed and computed indices as ``take``."""

from __future__ import annotations

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
    return isinstance(part, (Value, list)) or (isinstance(part, np.ndarray) and part.ndim > 0)


def getitem(b: Builder, x: Value, index: Any) -> Value | None:
    """Emit ``x[index]``; ``None`` where no instruction is made for it.

    An index may hold one array, fixed or computed, beside full slices.
    """
    found = basic(x.shape, index)
    if found is not None:
        slices, shape = found
        return b.reshape(b.slice(x, slices), shape)
    single = single_array(index, x.ndim)
    if single is None:
        return None
    axis, chosen = single
    if not isinstance(chosen, Value):
        chosen = positions(chosen, x.shape[axis])
    elif chosen.dtype.kind not in "iu":
        return None
    return b.take(x, b.value(chosen), axis)


def positions(chosen: Any, size: int) -> Any:
    """Return a fixed index of one axis as positions: those that a mask marks, or the indices.

    Raises
    ------
    IndexError
        If one is out of range.
    """
    array = np.asarray(chosen)
    if array.dtype.kind == "b":
        if array.shape != (size,):
            raise IndexError(f"a mask of shape {array.shape} does not fit an axis of size {size}")
        return np.flatnonzero(array)
    array = array.astype(np.intp)
    if array.size and not (-size <= array.min() and array.max() < size):
        raise IndexError(f"an index is out of bounds for an axis of size {size}")
    return np.where(array < 0, array + size, array)


def single_array(index: Any, ndim: int) -> tuple[int, Any] | None:
    """Return the axis and the array of an index that is otherwise full slices."""
    parts = list(index) if isinstance(index, tuple) else [index]
    arrays = [part for part in parts if _is_array(part)]
    if len(arrays) != 1 or any(
        not _is_array(part) and part is not Ellipsis and part != slice(None) for part in parts
    ):
        return None
    if any(part is Ellipsis for part in parts):
        at = next(i for i, part in enumerate(parts) if part is Ellipsis)
        parts[at : at + 1] = [slice(None)] * (ndim - len(parts) + 1)
    axis = next(i for i, part in enumerate(parts) if _is_array(part))
    chosen = arrays[0]
    dtype = chosen.dtype if isinstance(chosen, Value) else np.asarray(chosen).dtype
    if dtype.kind == "b" and getattr(chosen, "ndim", 1) != 1:
        return None
    return axis, chosen


def place(b: Builder, x: Value, index: Any, shape: Shape) -> Value | None:
    """Emit zeros with ``x`` added at an index: the way back from ``getitem``."""
    found = basic(shape, index)
    if found is not None:
        slices, _ = found
        kept = tuple([len(range(*part)) for part in slices])
        return b.place(b.reshape(x, kept), slices, shape)
    single = single_array(index, len(shape))
    if single is None or isinstance(single[1], Value):
        return None
    axis, chosen = single
    return b.take_add(x, b.value(positions(chosen, shape[axis])), axis, shape)
