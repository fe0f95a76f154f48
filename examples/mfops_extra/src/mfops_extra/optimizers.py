"""Lion: descent by signs, with an average that looks ahead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import numpy as np
from attrs.validators import and_, ge, lt
from mfcore import Array, Schedule, optimizer


@optimizer
class Lion:
    """Descent by the sign of an average of gradients ("evolved sign momentum").

    The update is algorithm 2 of Chen et al. (2023, "Symbolic Discovery of Optimization
    Algorithms")::

        u = sign(beta1 * m + (1 - beta1) * g)
        p = p - learning_rate * (u + weight_decay * p)
        m = beta2 * m + (1 - beta2) * g

    Parameters
    ----------
    learning_rate : float or schedule, optional
        How far each element of a parameter moves in a step.
    beta1, beta2 : float, optional
        Shares of the average that are kept, for the step and for later, at least 0, below 1.
    weight_decay : float, optional
        Pull towards 0, beside the gradient.
    """

    learning_rate: float | Schedule = 0.001
    beta1: float = attrs.field(default=0.9, validator=and_(ge(0), lt(1)))
    beta2: float = attrs.field(default=0.99, validator=and_(ge(0), lt(1)))
    weight_decay: float = attrs.field(default=0.0, validator=ge(0))

    @staticmethod
    def formula(
        theta: Array,
        gradients: Sequence[Array],
        learning_rate: float,
        beta1: float,
        beta2: float,
        weight_decay: float,
    ) -> Iterator[Array]:
        """Chen et al. (2023), "Symbolic Discovery of Optimization Algorithms", algorithm 2."""
        m = np.zeros_like(theta)
        for g in gradients:
            update = np.sign(beta1 * m + (1 - beta1) * g)
            m = beta2 * m + (1 - beta2) * g
            theta = theta - learning_rate * (update + weight_decay * theta)
            yield theta

    @staticmethod
    def init(parameter: Array) -> tuple[Array, ...]:
        """Return the average before the first step."""
        return (np.zeros_like(parameter),)

    @staticmethod
    def update(
        parameter: Array,
        gradient: Array,
        state: tuple[Array, ...],
        learning_rate: float,
        beta1: float,
        beta2: float,
        weight_decay: float,
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the parameter and the average after a step."""
        (average,) = state
        direction = np.sign(beta1 * average + (1 - beta1) * gradient)
        moved = parameter - learning_rate * (direction + weight_decay * parameter)
        return moved, (beta2 * average + (1 - beta2) * gradient,)
