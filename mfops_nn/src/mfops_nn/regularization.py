"""Regularization: operations that behave differently while training."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore import Array, Node, errors, hyperparameter, operation


def _valid_rate(_node: Any, _attribute: Any, rate: Any) -> None:
    if (
        isinstance(rate, bool)
        or not isinstance(rate, (int, float, np.floating))
        or not 0 <= rate < 1
    ):
        raise errors.NodeUseError(f"Dropout: rate must be a number from 0 to below 1, not {rate!r}")


@operation
class Dropout(Node):
    """While training, drop each element with probability ``rate`` and scale up the others.

    Inverted dropout (Srivastava et al. 2014): the expected value stays. Outside training
    the result is ``x`` itself, not a copy.

    Parameters
    ----------
    x : Node
        Of any shape.
    rate : float, optional
        Probability with which an element becomes 0; in [0, 1).

    Examples
    --------
    >>> import mfcore as mf
    >>> x = mf.Input("x")
    >>> session = mf.Session(Dropout(x, rate=0.5), seed=0)
    >>> session.run({x: [1.0, 2.0, 3.0]}, training=True)["dropout_1"]
    array([2., 0., 0.])
    """

    x: Node
    rate: float = hyperparameter(default=0.5, validator=_valid_rate)

    @staticmethod
    def forward(x: Array, rate: float, rng: np.random.Generator, training: bool) -> Any:
        if not training or rate == 0:
            return x, None
        kept = rng.random(x.shape) >= rate
        scale = (kept / (1 - rate)).astype(x.dtype if x.dtype.kind == "f" else float)
        return x * scale, scale

    @staticmethod
    def backward(grad: Array, saved: Array | None) -> tuple[Any, ...]:
        return (grad if saved is None else grad * saved,)
