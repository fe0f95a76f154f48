"""Arrays that calls read and write: views of buffers, made once the buffers are known."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import attrs
import numpy as np

from mfjit.ir import Shape, Value
from mfjit.layout import Layout, contiguous_strides

Array: TypeAlias = np.ndarray[Any, Any]


@attrs.frozen(eq=False)
class View:
    """Part of a value's buffer.

    Attributes
    ----------
    base : Value
        Whose buffer it is.
    offset : int
        Index of its first element there.
    shape : tuple of int
    strides : tuple of int
        In elements; 0 along an axis that repeats.
    dtype : numpy.dtype
        Of the elements; that of the base, or one as wide.
    """

    base: Value
    offset: int
    shape: Shape
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def contiguous(self) -> bool:
        """Whether the elements follow each other in C order."""
        return all(
            size == 1 or stride == expected
            for size, stride, expected in zip(
                self.shape, self.strides, contiguous_strides(self.shape), strict=True
            )
        )

    def squeezed(self) -> View:
        """Return it with no axes where it has one element."""
        return attrs.evolve(self, shape=(), strides=()) if self.size == 1 else self

    def flat(self) -> View:
        """Return a contiguous view as one axis."""
        return attrs.evolve(self, shape=(self.size,), strides=(1,))

    def reshaped(self, shape: Shape) -> View:
        """Return a contiguous view in another shape."""
        return attrs.evolve(self, shape=shape, strides=contiguous_strides(shape))

    def transposed(self, axes: tuple[int, ...]) -> View:
        """Return its axes in another order."""
        return attrs.evolve(
            self,
            shape=tuple([self.shape[axis] for axis in axes]),
            strides=tuple([self.strides[axis] for axis in axes]),
        )

    def of(self, buffer: Array) -> Array:
        """Return the view of a contiguous buffer."""
        width = self.dtype.itemsize
        if self.size == 0:
            return np.empty(self.shape, self.dtype)
        return np.ndarray(
            self.shape, self.dtype, buffer, self.offset * width, [s * width for s in self.strides]
        )


class Arrays:
    """Views of buffers as arrays, each made once.

    A ufunc that writes over its operand is told so at no cost where both are one object; two
    arrays on the same memory it examines at length.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], Array] = {}

    def of(self, view: View, buffer: Array) -> Array:
        """Return the view of a buffer."""
        array = view.of(buffer)
        key = (array.ctypes.data, array.shape, array.strides, array.dtype)
        return self._made.setdefault(key, array) if array.size else array


def view_of(value: Value, layouts: dict[Value, Layout]) -> View:
    """Return where a value lies."""
    layout = layouts[value]
    return View(layout.base, layout.offset, value.shape, layout.strides, value.dtype)


def whole(value: Value) -> View:
    """Return the buffer of a value that owns one."""
    return View(value, 0, value.shape, contiguous_strides(value.shape), value.dtype)


def aligned(nbytes: int, alignment: int) -> Array:
    """Return bytes that start at a multiple of the alignment."""
    room = np.empty(nbytes + alignment, np.uint8)
    start = -room.ctypes.data % alignment
    return room[start : start + nbytes]
