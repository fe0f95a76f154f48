"""Optimizers for tests that want to be about nothing of the pack mfoptim."""

from __future__ import annotations

import numpy as np

import mfcore as mf


@mf.optimizer
class Descent:
    """Plain descent."""

    learning_rate: float | mf.Schedule = 0.5

    @staticmethod
    def update(parameter, gradient, learning_rate):
        return parameter - learning_rate * gradient


@mf.optimizer
class Momentum:
    """Descent with momentum: an optimizer with state."""

    learning_rate: float = 0.1

    @staticmethod
    def init(parameter):
        return (np.zeros_like(parameter),)

    @staticmethod
    def update(parameter, gradient, state, learning_rate):
        velocity = 0.9 * state[0] - learning_rate * gradient
        return parameter + velocity, (velocity,)
