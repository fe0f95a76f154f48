"""A robust loss, a smooth activation, and the largest elements of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs.validators import ge, gt
from mfcore import Array, Node, hyperparameter, operation
from mfcore.domain import Domain, integers, one_of, real

Sample = tuple[tuple[Array, ...], dict[str, Any]]
"""Inputs and hyperparameters that tests try an operation on."""


@operation
class Huber(Node):
    """Mean of Huber's loss: the square of small errors, the size of large ones.

    With ``e = y - a`` it is ``e**2 / 2`` where ``|e| <= delta``, else
    ``delta * (|e| - delta / 2)`` (Huber 1964, "Robust Estimation of a Location Parameter").

    Parameters
    ----------
    y : Node
        Targets, of any shape.
    a : Node
        Predictions, of the same shape.
    delta : float, optional
        The error from which on the loss grows linearly, above 0.

    Examples
    --------
    >>> import numpy as np
    >>> float(Huber.forward(np.array([0.0, 0.0]), np.array([1.0, 3.0]), delta=1.0))
    1.5
    """

    y: Node
    a: Node
    delta: float = hyperparameter(default=1.0, validator=gt(0))

    @staticmethod
    def forward(y: Array, a: Array, delta: float) -> Any:
        if y.shape != a.shape:
            raise ValueError(f"targets have shape {y.shape}, but predictions {a.shape}")
        size = np.abs(y - a)
        near = np.minimum(size, delta)
        return np.sum(near * (size - near / 2)) / max(y.size, 1)

    @staticmethod
    def backward(grad: Array, y: Array, a: Array, delta: float) -> tuple[Any, ...]:
        slope = np.maximum(np.minimum(y - a, delta), -delta) * (grad / max(y.size, 1))
        return slope, -slope

    @staticmethod
    def samples() -> list[Sample]:
        """Return samples with errors on both sides of ``delta``, none at it."""
        y = np.array([[0.0, 1.0, -2.0], [3.0, 0.5, -0.2]])
        a = np.array([[0.3, -1.5, -2.2], [0.0, 0.9, 3.0]])
        return [((y, a), {}), ((y[0], a[0]), {"delta": 0.25}), ((y[0, 0], a[0, 0]), {})]


@operation
class Swish(Node):
    """Activation ``x * sigmoid(beta * x)``.

    The formula is that of Ramachandran, Zoph and Le (2017, "Searching for Activation
    Functions"); with ``beta=1`` it is also known as SiLU.

    Parameters
    ----------
    x : Node
        Of any shape.
    beta : float, optional
        How steep the sigmoid is.

    Examples
    --------
    >>> import numpy as np
    >>> Swish.forward(np.array([-1e4, 0.0, 1e4]), beta=1.0).tolist()
    [-0.0, 0.0, 10000.0]
    """

    x: Node
    beta: float = 1.0

    domain = Domain(beta=one_of(1.0, 2.5))

    @staticmethod
    def forward(x: Array, beta: float) -> Any:
        # A sigmoid that overflows nowhere: sigmoid(z) = (1 + tanh(z / 2)) / 2.
        return x * (1 + np.tanh(beta / 2 * x)) / 2

    @staticmethod
    def backward(grad: Array, x: Array, beta: float) -> tuple[Any, ...]:
        sigmoid = (1 + np.tanh(beta / 2 * x)) / 2
        return (grad * sigmoid * (1 + beta * x * (1 - sigmoid)),)


@operation
class TopK(Node):
    """The ``k`` largest elements along the last axis, the largest first.

    Of equal elements the first counts. The gradient goes back to where they came from.

    Parameters
    ----------
    x : Node
        ``(..., n)`` with n of at least k.
    k : int
        How many, at least 1. The result is ``(..., k)``.

    Examples
    --------
    >>> import mfcore as mf
    >>> x = mf.Input("x")
    >>> run = mf.Session(TopK(x, k=2)).run({x: [3.0, 9.0, 1.0, 5.0]})
    >>> run["top_k_1"], run.backward(grad=[1.0, 10.0])[x]
    (array([9., 5.]), array([ 0.,  1.,  0., 10.]))
    """

    x: Node
    k: int = hyperparameter(validator=ge(1))

    domain = Domain(x=real("..., n", distinct=True), k=integers(1, up_to="n"))

    @staticmethod
    def forward(x: Array, k: int) -> Any:
        if x.ndim == 0 or x.shape[-1] < k:
            raise ValueError(f"the last axis of shape {x.shape} has no {k} elements")
        # Sorted backwards, so that a stable sort puts the first of equal elements last.
        order = np.argsort(np.flip(x, -1), axis=-1, kind="stable")
        chosen = x.shape[-1] - 1 - np.flip(order, -1)[..., :k]
        return np.take_along_axis(x, chosen, axis=-1), chosen

    @staticmethod
    def backward(grad: Array, x: Array, saved: Array) -> tuple[Any, ...]:
        scattered = np.zeros(x.shape, grad.dtype)
        np.put_along_axis(scattered, saved, grad, axis=-1)
        return (scattered,)
