"""The shape that an index selects of an array, found out without making what it selects.

By NumPy's rules for advanced indexing
(https://numpy.org/doc/stable/user/basics.indexing.html#advanced-indexing).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.errors import NotTraceableError

_SLICED, _SELECTED = 2, 3
"""Lengths of axes in the miniature: those that stay, and those that arrays of indices make."""

_LARGEST_MINIATURE = 2**20


def selected_shape(shape: tuple[int, ...], parts: tuple[Any, ...]) -> tuple[int, ...]:
    """Return the shape of ``x[parts]`` for an ``x`` of a shape.

    Where the axes of the arrays of indices go, NumPy is asked by the same index on a small
    array whose axes have telling lengths.

    Parameters
    ----------
    shape : tuple of int
        The array's.
    parts : tuple
        Integers, slices, ``...``, ``None``, and arrays of integers or bools, of which some may
        be known by shape and dtype only.

    Raises
    ------
    IndexError, ValueError
        As NumPy does.
    NotTraceableError
        If it cannot be told.
    """
    parts = tuple(map(_known, parts))
    taken = sum(map(_axes_taken, parts))
    if taken > len(shape):
        raise IndexError(
            f"too many indices for array: array is {len(shape)}-dimensional, but {taken} were "
            f"indexed"
        )
    if not any(part is Ellipsis for part in parts):
        parts = (*parts, Ellipsis)
    axis = 0
    index: list[Any] = []
    lengths: list[int] = []
    stay: list[int] = []
    arrays: list[tuple[int, ...]] = []
    for part in parts:
        if part is None:
            index.append(part)
        elif part is Ellipsis:
            rest = shape[axis : axis + len(shape) - taken]
            index.append(part)
            stay += rest
            lengths += [_SLICED] * len(rest)
            axis += len(rest)
        elif isinstance(part, slice):
            index.append(slice(None))
            stay.append(len(range(*part.indices(shape[axis]))))
            lengths.append(_SLICED)
            axis += 1
        else:
            for places in _places(part, shape, axis):
                check_bounds(places, shape[axis], axis)
                size = np.shape(places)
                index.append(np.zeros((_SELECTED,) * len(size), np.intp) if size else 0)
                arrays.append(size)
                lengths.append(1)
                axis += 1
    most = max(map(len, arrays), default=0)
    if _SLICED ** len(stay) * _SELECTED**most > _LARGEST_MINIATURE:
        raise NotTraceableError("an index of so many axes")
    miniature = np.zeros(lengths, bool)[tuple(index)]
    kept, selected = iter(stay), iter(np.broadcast_shapes(*arrays))
    return tuple(
        next(kept) if n == _SLICED else next(selected) if n == _SELECTED else 1
        for n in miniature.shape
    )


def check_bounds(indices: Any, length: int, axis: int) -> None:
    """Check indices along an axis, as far as they are known.

    Raises
    ------
    IndexError
        If there is no such element, or they are no integers.
    """
    if isinstance(indices, (int, np.integer, np.ndarray, list)):
        array = np.asarray(indices)
        if not array.size:
            return
        if array.dtype.kind not in "iu":
            raise IndexError("arrays used as indices must be of integer (or boolean) type")
        for index in (array.min(), array.max()):
            if not -length <= index < length:
                raise IndexError(
                    f"index {index} is out of bounds for axis {axis} with size {length}"
                )
    elif indices.dtype.kind not in "iu":
        raise IndexError("arrays used as indices must be of integer (or boolean) type")
    elif not length and indices.size:
        raise IndexError(f"index 0 is out of bounds for axis {axis} with size 0")


def _known(part: Any) -> Any:
    """Return a part of an index with lists as arrays.

    Raises
    ------
    NotTraceableError
        If how much it selects depends on elements.
    """
    if isinstance(part, (bool, np.bool_)):
        raise NotTraceableError("an index of a single bool")
    if isinstance(part, list):
        part = np.asarray(part, None if part else np.intp)
    if getattr(part, "dtype", None) == np.bool_ and not (
        isinstance(part, np.ndarray) and part.ndim
    ):
        raise NotTraceableError("how many elements a computed mask selects depends on them")
    return part


def _is_mask(part: Any) -> bool:
    return isinstance(part, np.ndarray) and part.dtype == np.bool_


def _axes_taken(part: Any) -> int:
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if _is_mask(part) else 1


def _places(part: Any, shape: tuple[int, ...], axis: int) -> tuple[Any, ...]:
    """Return the indices that a part stands for: a mask for those along each of its axes."""
    if not _is_mask(part):
        return (part,)
    if part.shape != shape[axis : axis + part.ndim]:
        raise IndexError(
            f"boolean index of shape {part.shape} did not match the axes "
            f"{shape[axis : axis + part.ndim]} of the array"
        )
    places: tuple[Any, ...] = part.nonzero()
    return places
