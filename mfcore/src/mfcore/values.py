"""Arrays, shapes and dtypes, as users give them: checked, and in one form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mfcore.errors import NodeUseError, type_name

if TYPE_CHECKING:
    from mfcore.node import Array

NUMERIC = "biuf"
"""The kinds of dtypes that nodes have: bools, integers and floats."""


def as_array(value: Any, what: str) -> Array:
    """Return ``value`` as a numeric array without copying it needlessly.

    Parameters
    ----------
    value : array_like
        What was given.
    what : str
        What it is, for messages: ``"a parameter's value"``.

    Raises
    ------
    NodeUseError
        If the value is no array of floats, integers or bools.
    """
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise NodeUseError(f"{what}: {error}") from None
    if array.dtype.kind not in NUMERIC:
        raise NodeUseError(
            f"{what} must be an array of floats, integers or bools, "
            f"not {type_name(value)} of dtype {array.dtype}"
        )
    return array


def as_shape(shape: Any) -> tuple[int | None, ...] | None:
    """Return a declared shape as a tuple; a number stands for one axis.

    Raises
    ------
    NodeUseError
        If it holds anything but sizes and ``None``.
    """
    if shape is None:
        return None
    if isinstance(shape, (int, np.integer)):
        shape = (shape,)
    axes = tuple(shape)
    for axis in axes:
        if axis is not None and not (isinstance(axis, (int, np.integer)) and axis >= 0):
            raise NodeUseError(
                f"a shape holds sizes, or None for an axis of any size, not {axis!r} in {shape!r}"
            )
    return tuple(None if axis is None else int(axis) for axis in axes)


def as_dtype(dtype: Any) -> np.dtype[Any] | None:
    """Return a declared dtype as NumPy's object for it.

    Raises
    ------
    NodeUseError
        If it is none, or not one of floats, integers or bools.
    """
    if dtype is None:
        return None
    try:
        result: np.dtype[Any] = np.dtype(dtype)
    except TypeError as error:
        raise NodeUseError(f"{dtype!r} is no dtype: {error}") from None
    if result.kind not in NUMERIC:
        raise NodeUseError(f"dtype {result} is not supported: use a float, integer or bool dtype")
    return result


def float_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of a gradient of values of a dtype: itself if of floats, else float64."""
    return dtype if dtype.kind == "f" else np.dtype(np.float64)


def as_parameter_value(value: Any) -> Array:
    """Return a copy of a parameter's initial value, of floats, that cannot be written to.

    Raises
    ------
    NodeUseError
        If the value is no array of floats, integers or bools.
    """
    array = as_array(value, "a parameter's value")
    return _frozen_copy(array if array.dtype.kind == "f" else array.astype(np.float64))


def as_constant_value(value: Any) -> Array | float | int | bool:
    """Return a copy of a constant's value that cannot be written to; a Python number as it is.

    Raises
    ------
    NodeUseError
        If the value is no number and no array of floats, integers or bools.
    """
    if type(value) in (bool, int, float):
        # Kept as it is: a Python number adapts to the dtype of the array beside it.
        return value  # type: ignore[no-any-return]
    if value is None or isinstance(value, (str, bytes)):
        raise NodeUseError(f"expected a node or a numeric array, got {type_name(value)} {value!r}")
    return _frozen_copy(as_array(value, "a constant's value"))


def _frozen_copy(array: Array) -> Array:
    copy = np.array(array)
    copy.flags.writeable = False
    return copy
