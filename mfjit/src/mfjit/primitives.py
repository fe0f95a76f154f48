"""Operations that engines have instructions of their own for, by qualified name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mfcore.errors import NotTraceableError
from mfjit.builder import Builder
from mfjit.functions import axes_of
from mfjit.indexing import place
from mfjit.ir import Shape, Value


def _one_hot(b: Builder, indices: Value, *, depth: int, dtype: np.dtype[Any]) -> Value:
    return b.one_hot(indices, depth, dtype)


def _index_add(b: Builder, x: Value, *, index: tuple[Any, ...], shape: Shape) -> Value:
    found = place(b, x, index, shape)
    if found is None:
        raise NotTraceableError("an index with several arrays has no instruction")
    return found


def _take_add(b: Builder, x: Value, indices: Value, *, axis: int | None, shape: Shape) -> Value:
    if axis is None:
        flat = b.take_add(x, indices, 0, (math.prod(shape),))
        return b.reshape(flat, shape)
    return b.take_add(x, indices, axes_of(axis, len(shape))[0], shape)


PRIMITIVES: dict[str, Callable[..., Value]] = {
    "mfops_basic.OneHot": _one_hot,
    "mfops_basic.IndexAdd": _index_add,
    "mfops_basic.TakeAdd": _take_add,
}
"""What an operation is, given the builder, its inputs and, by name, its hyperparameters."""
