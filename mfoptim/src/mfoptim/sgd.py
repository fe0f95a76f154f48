"""Stochastic gradient descent: a class for ``fit``, and one function for loops of your own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import attrs
import numpy as np

from mfcore import Array, Schedule, optimizer
from mfcore.errors import UnknownNodeError
from mfcore.optimizer import OptimizerState
from mfoptim.errors import HyperparameterError
from mfoptim.hyperparameter import below_one, not_negative, plain_number, rate

Key = TypeVar("Key")


@optimizer
class SGD:
    """Stochastic gradient descent: ``p - learning_rate * g``.

    With ``momentum`` (Polyak 1964) a velocity is kept, as Sutskever et al. (2013, "On the
    importance of initialization and momentum in deep learning") write it::

        v = momentum * v - learning_rate * g
        p = p + v

    With ``nesterov`` the step is ``p + momentum * v - learning_rate * g`` with that new
    ``v``: their equations 3 and 4 in the variable ``p + momentum * v``, at which the
    gradient is taken (Bengio et al. 2013, "Advances in optimizing recurrent networks").

    Parameters
    ----------
    learning_rate : float or schedule, optional
        Length of a step, or a function of the number of steps done.
    momentum : float, optional
        Share of the velocity that is kept, at least 0 and below 1; 0 is off.
    nesterov : bool, optional
        Nesterov's form of momentum.
    weight_decay : float, optional
        Adds ``weight_decay * p`` to the gradient; 0 is off.

    Raises
    ------
    HyperparameterError
        If a value is out of its range, or ``nesterov`` is asked for without momentum.

    Examples
    --------
    >>> import numpy as np
    >>> SGD.update(np.ones(2), np.array([1.0, -1.0]), (), learning_rate=0.5)
    (array([0.5, 1.5]), ())
    """

    learning_rate: float | Schedule = attrs.field(
        default=0.01, converter=plain_number, validator=rate
    )
    momentum: float = attrs.field(default=0.0, converter=plain_number, validator=below_one)
    nesterov: bool = False
    weight_decay: float = attrs.field(default=0.0, converter=plain_number, validator=not_negative)

    formula = "mfoptim.formulas:sgd"

    def __attrs_post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise HyperparameterError("SGD: nesterov is a form of momentum; give momentum=0.9, say")

    @staticmethod
    def init(parameter: Array, momentum: float) -> OptimizerState:
        """Return the velocity, at rest; nothing without momentum."""
        return (np.zeros_like(parameter),) if momentum else ()

    @staticmethod
    def update(
        parameter: Array,
        gradient: Array,
        state: OptimizerState,
        learning_rate: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> tuple[Array, OptimizerState]:
        """Return the parameter and its velocity after a step."""
        if weight_decay:
            gradient = gradient + weight_decay * parameter
        if not momentum:
            return parameter - learning_rate * gradient, state
        velocity = momentum * state[0] - learning_rate * gradient
        if nesterov:
            return parameter + momentum * velocity - learning_rate * gradient, (velocity,)
        return parameter + velocity, (velocity,)


def sgd_update(
    parameters: Mapping[Key, Any], gradients: Mapping[Any, Any], learning_rate: float = 0.01
) -> dict[Key, Any]:
    """Return all parameters after one step of plain gradient descent. Changes nothing in place.

    Parameters
    ----------
    parameters : mapping
        Arrays by any key: nodes, names.
    gradients : mapping
        A gradient for each of these keys, such as ``run.gradients``; further keys are ignored.
    learning_rate : float, optional
        Length of the step.

    Returns
    -------
    dict
        ``parameter - learning_rate * gradient`` by key.

    Raises
    ------
    UnknownNodeError
        If a parameter has no gradient.

    Examples
    --------
    >>> sgd_update({"w": 6.0}, {"w": 10.0}, learning_rate=0.5)
    {'w': 1.0}
    """
    rate = plain_number(learning_rate)
    updated = {}
    for key, parameter in parameters.items():
        try:
            gradient = gradients[key]
        except KeyError as error:
            raise UnknownNodeError(f"no gradient is given for the parameter {key!r}") from error
        updated[key] = parameter - rate * gradient
    return updated
