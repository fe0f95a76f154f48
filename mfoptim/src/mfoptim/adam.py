"""Adam and its kin: each element's step is scaled by the gradients it has seen."""

from __future__ import annotations

import attrs
import numpy as np

from mfcore import Array, Schedule, optimizer
from mfcore.optimizer import OptimizerState
from mfoptim.hyperparameter import below_one, not_negative, plain_number, positive, rate


@optimizer
class Adam:
    """Adam: adaptive moments, with bias correction.

    Algorithm 1 of Kingma and Ba (2015, "Adam: a method for stochastic optimization")::

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        p = p - learning_rate * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + epsilon)

    ``weight_decay`` is decoupled: the step is longer by ``learning_rate * weight_decay * p``
    and the moments know nothing of it (AdamW: Loshchilov and Hutter 2019, "Decoupled weight
    decay regularization", algorithm 2 with the learning rate as its schedule multiplier).

    Parameters
    ----------
    learning_rate : float or schedule, optional
        Length of a step, or a function of the number of steps done.
    beta1, beta2 : float, optional
        Decay of the moments' moving averages, at least 0 and below 1.
    epsilon : float, optional
        Keeps the division finite; above 0.
    weight_decay : float, optional
        Decoupled weight decay; 0 is off.

    Raises
    ------
    HyperparameterError
        If a value is out of its range.
    """

    learning_rate: float | Schedule = attrs.field(
        default=0.001, converter=plain_number, validator=rate
    )
    beta1: float = attrs.field(default=0.9, converter=plain_number, validator=below_one)
    beta2: float = attrs.field(default=0.999, converter=plain_number, validator=below_one)
    epsilon: float = attrs.field(default=1e-8, converter=plain_number, validator=positive)
    weight_decay: float = attrs.field(default=0.0, converter=plain_number, validator=not_negative)

    formula = "mfoptim.formulas:adam"

    @staticmethod
    def init(parameter: Array) -> OptimizerState:
        """Return both moments at zero."""
        return np.zeros_like(parameter), np.zeros_like(parameter)

    @staticmethod
    def update(
        parameter: Array,
        gradient: Array,
        state: OptimizerState,
        step: int,
        learning_rate: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        weight_decay: float,
    ) -> tuple[Array, OptimizerState]:
        """Return the parameter and its moments after a step."""
        m, v = state
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * (gradient * gradient)
        direction = m / (1 - beta1**step) / (np.sqrt(v / (1 - beta2**step)) + epsilon)
        if weight_decay:
            direction = direction + weight_decay * parameter
        return parameter - learning_rate * direction, (m, v)


@optimizer
class RMSProp:
    """RMSProp: each element's gradient over the root of its mean square.

    Tieleman and Hinton (2012), "Neural networks for machine learning", lecture 6.5::

        v = decay * v + (1 - decay) * g**2
        p = p - learning_rate * g / (sqrt(v) + epsilon)

    Parameters
    ----------
    learning_rate : float or schedule, optional
        Length of a step, or a function of the number of steps done.
    decay : float, optional
        Decay of the moving average, at least 0 and below 1.
    epsilon : float, optional
        Keeps the division finite; above 0.

    Raises
    ------
    HyperparameterError
        If a value is out of its range.
    """

    learning_rate: float | Schedule = attrs.field(
        default=0.001, converter=plain_number, validator=rate
    )
    decay: float = attrs.field(default=0.9, converter=plain_number, validator=below_one)
    epsilon: float = attrs.field(default=1e-8, converter=plain_number, validator=positive)

    formula = "mfoptim.formulas:rmsprop"

    @staticmethod
    def init(parameter: Array) -> OptimizerState:
        """Return the mean square at zero."""
        return (np.zeros_like(parameter),)

    @staticmethod
    def update(
        parameter: Array,
        gradient: Array,
        state: OptimizerState,
        learning_rate: float,
        decay: float,
        epsilon: float,
    ) -> tuple[Array, OptimizerState]:
        """Return the parameter and its mean square after a step."""
        v = decay * state[0] + (1 - decay) * (gradient * gradient)
        return parameter - learning_rate * gradient / (np.sqrt(v) + epsilon), (v,)


@optimizer
class AdaGrad:
    """AdaGrad: each element's gradient over the root of the sum of its squares.

    The diagonal form of Duchi, Hazan and Singer (2011, "Adaptive subgradient methods for
    online learning and stochastic optimization", figure 1)::

        s = s + g**2
        p = p - learning_rate * g / (sqrt(s) + epsilon)

    Parameters
    ----------
    learning_rate : float or schedule, optional
        Length of a step, or a function of the number of steps done.
    epsilon : float, optional
        Keeps the division finite; above 0.

    Raises
    ------
    HyperparameterError
        If a value is out of its range.
    """

    learning_rate: float | Schedule = attrs.field(
        default=0.01, converter=plain_number, validator=rate
    )
    epsilon: float = attrs.field(default=1e-8, converter=plain_number, validator=positive)

    formula = "mfoptim.formulas:adagrad"

    @staticmethod
    def init(parameter: Array) -> OptimizerState:
        """Return the sum of squares at zero."""
        return (np.zeros_like(parameter),)

    @staticmethod
    def update(
        parameter: Array,
        gradient: Array,
        state: OptimizerState,
        learning_rate: float,
        epsilon: float,
    ) -> tuple[Array, OptimizerState]:
        """Return the parameter and its sum of squares after a step."""
        s = state[0] + gradient * gradient
        return parameter - learning_rate * gradient / (np.sqrt(s) + epsilon), (s,)
