"""Reductions: sums, means and extremes over axes."""

from __future__ import annotations

import math
from typing import Any, ClassVar, TypeAlias

import numpy as np

from mfcore import Array, Node, hyperparameter, operation
from mfcore.domain import Domain, axis_of, one_of, real
from mfops_basic.shape import as_shape

Axis: TypeAlias = int | tuple[int, ...] | None


def as_axis(axis: Any) -> Axis:
    """Return an axis argument as an int, a tuple of ints, or ``None`` for all axes."""
    if axis is None:
        return None
    axes = as_shape(axis, "an axis")
    return axes if isinstance(axis, (tuple, list)) else axes[0]


def _restore(reduced: Array, axis: Axis, keepdims: bool) -> Array:
    """Put the reduced axes back, with length one, so that the result broadcasts."""
    if keepdims or axis is None:
        return reduced
    return np.expand_dims(reduced, axis)


def _count(shape: tuple[int, ...], axis: Axis) -> int:
    """Return how many elements of an array of ``shape`` each reduced one stands for."""
    if axis is None:
        return math.prod(shape)
    return math.prod(shape[a] for a in (axis if isinstance(axis, tuple) else (axis,)))


@operation(function=np.sum)
class Sum(Node):
    """Sum over the given axes, or over all.

    Parameters
    ----------
    x : Node
        Of any shape.
    axis : int or tuple of int, optional
        The axes to sum over; by default all.
    keepdims : bool, optional
        Whether the summed axes stay, with length one.
    """

    x: Node
    axis: Axis = hyperparameter(default=None, converter=as_axis)
    keepdims: bool = False

    @staticmethod
    def forward(x: Array, axis: Axis, keepdims: bool) -> Any:
        return np.sum(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def backward(grad: Array, x: Array, axis: Axis, keepdims: bool) -> tuple[Any, ...]:
        return (np.broadcast_to(_restore(grad, axis, keepdims), x.shape),)


@operation(function=np.mean)
class Mean(Node):
    """Arithmetic mean over the given axes, or over all.

    Parameters
    ----------
    x : Node
        Of any shape.
    axis : int or tuple of int, optional
        The axes to average over; by default all.
    keepdims : bool, optional
        Whether the averaged axes stay, with length one.
    """

    x: Node
    axis: Axis = hyperparameter(default=None, converter=as_axis)
    keepdims: bool = False

    @staticmethod
    def forward(x: Array, axis: Axis, keepdims: bool) -> Any:
        return np.mean(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def backward(grad: Array, x: Array, axis: Axis, keepdims: bool) -> tuple[Any, ...]:
        share = grad / max(_count(x.shape, axis), 1)
        return (np.broadcast_to(_restore(share, axis, keepdims), x.shape),)


def _extreme_gradient(
    grad: Array, x: Array, value: Array, axis: Axis, keepdims: bool
) -> tuple[Any, ...]:
    # NaN equals nothing, itself included, and is the extreme wherever it occurs.
    chosen = np.logical_or(np.equal(x, _restore(value, axis, keepdims)), np.not_equal(x, x))
    share = _restore(grad, axis, keepdims) / np.sum(chosen, axis=axis, keepdims=True)
    return (np.where(chosen, share, 0),)


@operation(function=(np.max, np.amax))
class Max(Node):
    """Largest element over the given axes, or over all; ties share the gradient equally.

    Parameters
    ----------
    x : Node
        Of any shape; the axes reduced must not be empty.
    axis : int or tuple of int, optional
        The axes to reduce; by default all.
    keepdims : bool, optional
        Whether the reduced axes stay, with length one.
    """

    x: Node
    axis: Axis = hyperparameter(default=None, converter=as_axis)
    keepdims: bool = False

    expected_failures: ClassVar[dict[str, str]] = {
        "dtypes": "shares among ties are float64 until the core casts them",
    }

    domain = (
        Domain(x=real(distinct=True)),
        Domain(x=real(distinct=True), axis=axis_of("x"), keepdims=one_of(False, True)),
    )

    @staticmethod
    def forward(x: Array, axis: Axis, keepdims: bool) -> Any:
        return np.max(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def backward(
        grad: Array, x: Array, value: Array, axis: Axis, keepdims: bool
    ) -> tuple[Any, ...]:
        return _extreme_gradient(grad, x, value, axis, keepdims)


@operation(function=(np.min, np.amin))
class Min(Node):
    """Smallest element over the given axes, or over all; ties share the gradient equally.

    Parameters
    ----------
    x : Node
        Of any shape; the axes reduced must not be empty.
    axis : int or tuple of int, optional
        The axes to reduce; by default all.
    keepdims : bool, optional
        Whether the reduced axes stay, with length one.
    """

    x: Node
    axis: Axis = hyperparameter(default=None, converter=as_axis)
    keepdims: bool = False

    expected_failures: ClassVar[dict[str, str]] = {
        "dtypes": "shares among ties are float64 until the core casts them",
    }

    domain = (
        Domain(x=real(distinct=True)),
        Domain(x=real(distinct=True), axis=axis_of("x"), keepdims=one_of(False, True)),
    )

    @staticmethod
    def forward(x: Array, axis: Axis, keepdims: bool) -> Any:
        return np.min(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def backward(
        grad: Array, x: Array, value: Array, axis: Axis, keepdims: bool
    ) -> tuple[Any, ...]:
        return _extreme_gradient(grad, x, value, axis, keepdims)
