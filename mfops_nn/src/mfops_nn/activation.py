"""Activation functions, element by element, and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore import Array, Node, operation
from mfcore.domain import Domain, axis_of, nonzero
from mfops_nn.casting import floating

_SMALLEST = {
    kind: -float(np.nextafter(np.log(np.finfo(kind).max), kind(0)))
    for kind in (np.float16, np.float32, np.float64)
}
"""The smallest x for which ``exp(-x)`` is finite, by kind of float."""


@operation
class Sigmoid(Node):
    """Logistic function ``1 / (1 + exp(-x))``; it does not overflow for any float.

    Below the smallest ``x`` whose ``exp(-x)`` is finite (about -709 for float64, -88 for
    float32) the result stays at the value there, less than the smallest normal number.

    Parameters
    ----------
    x : Node
        Of any shape.

    Examples
    --------
    >>> import numpy as np
    >>> Sigmoid.forward(np.array([0.0, 1e308]))
    array([0.5, 1. ])
    """

    x: Node

    @staticmethod
    def forward(x: Array) -> Any:
        smallest = _SMALLEST.get(x.dtype.type, -709.0)
        return 1.0 / (1.0 + np.exp(-np.maximum(x, smallest)))

    @staticmethod
    def backward(grad: Array, value: Array) -> tuple[Any, ...]:
        return (grad * (value * (1.0 - value)),)


@operation
class ReLU(Node):
    """Rectified linear unit ``max(x, 0)``; its slope at 0 counts as 0.

    Parameters
    ----------
    x : Node
        Of any shape.
    """

    x: Node

    domain = Domain(x=nonzero())

    @staticmethod
    def forward(x: Array) -> Any:
        return np.maximum(x, 0)

    @staticmethod
    def backward(grad: Array, x: Array) -> tuple[Any, ...]:
        return (np.where(np.greater(x, 0), grad, 0),)


@operation
class Softmax(Node):
    """Positive shares that sum to one, ``exp(x) / exp(x).sum()``, without overflow.

    Parameters
    ----------
    x : Node
        Of any shape with at least one axis.
    axis : int, optional
        The axis along which the shares sum to one, by default the last.

    Examples
    --------
    >>> import numpy as np
    >>> Softmax.forward(np.array([1e4, 1e4]), -1)
    array([0.5, 0.5])
    """

    x: Node
    axis: int = -1

    domain = Domain(axis=axis_of("x"))

    @staticmethod
    def forward(x: Array, axis: int) -> Any:
        x = floating(x)
        powers = np.exp(x - np.max(x, axis=axis, keepdims=True))
        return powers / np.sum(powers, axis=axis, keepdims=True)

    @staticmethod
    def backward(grad: Array, value: Array, axis: int) -> tuple[Any, ...]:
        mean = np.sum(grad * value, axis=axis, keepdims=True)
        return (value * (grad - mean),)
