"""Where a value's elements lie: views are the memory of another value, read with other strides."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.lib.stride_tricks import as_strided

from mfjit.ir import VIEWS, Shape, Value


@attrs.frozen(eq=False)
class Layout:
    """Elements of ``base``'s buffer (which is contiguous) that make up a value.

    Attributes
    ----------
    base : Value
        The value that owns the buffer; the value itself where it is no view.
    offset : int
        Index of its first element.
    strides : tuple of int
        Elements from one index to the next, by axis; 0 where an axis repeats.
    """

    base: Value
    offset: int
    strides: tuple[int, ...]

    def contiguous(self, shape: Shape) -> bool:
        """Whether elements of this shape follow each other without a gap."""
        return all(
            size == 1 or stride == expected
            for size, stride, expected in zip(
                shape, self.strides, contiguous_strides(shape), strict=True
            )
        )


def contiguous_strides(shape: Shape) -> tuple[int, ...]:
    """Return the strides, in elements, of a C-contiguous array."""
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def layouts(values: list[Value]) -> dict[Value, Layout]:
    """Return the layout of every value; a ``reshape`` that has to copy owns its buffer."""
    found: dict[Value, Layout] = {}
    for value in values:
        layout = _view(value, found[value.args[0]]) if value.op in VIEWS else None
        found[value] = layout or Layout(value, 0, contiguous_strides(value.shape))
    return found


def _view(value: Value, source: Layout) -> Layout | None:
    given = value.args[0].shape
    base, offset, strides = source.base, source.offset, source.strides
    if value.op == "after":
        return source
    if value.op == "transpose":
        return Layout(base, offset, tuple(strides[axis] for axis in value.attributes["axes"]))
    if value.op == "broadcast_to":
        added = value.ndim - len(given)
        kept = [
            0 if size != value.shape[added + axis] else strides[axis]
            for axis, size in enumerate(given)
        ]
        return Layout(base, offset, (0,) * added + tuple(kept))
    if value.op == "slice":
        slices = value.attributes["slices"]
        return Layout(
            base,
            offset + sum(start * stride for (start, _, _), stride in zip(slices, strides)),
            tuple(stride * step for (_, _, step), stride in zip(slices, strides)),
        )
    reshaped = _reshaped_strides(given, strides, value.shape)
    return None if reshaped is None else Layout(base, offset, reshaped)


def _reshaped_strides(shape: Shape, strides: tuple[int, ...], new: Shape) -> tuple[int, ...] | None:
    """Return the strides after a reshape without copy, ``None`` where there are none."""
    if math.prod(new) == 0:
        return contiguous_strides(new)
    # NumPy knows the rule; the array is a pattern of strides, its elements are never touched.
    pattern: Any = as_strided(np.empty(1, np.int8), shape, strides, writeable=False)
    try:
        return tuple(pattern.reshape(new, copy=False).strides)
    except ValueError:
        return None
