"""The published formulas of this pack's optimizers, each as its paper has it.

They train nothing: ``mfcore.testing`` compares the optimizers with them. Each is given a
parameter, called as the paper calls it, and the gradients of all steps, and yields the
parameter after each. So they share nothing with the optimizers, not even the form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from mfcore import Array


def sgd(
    theta: Array,
    gradients: Iterable[Array],
    learning_rate: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> Iterator[Array]:
    """Sutskever et al. (2013), "On the importance of initialization and momentum in deep learning".

    Equations 1 and 2, and for Nesterov's form 3 and 4: there the gradient is taken, and the
    parameter kept, at ``theta + momentum * v``. Weight decay is the gradient of
    ``weight_decay / 2 * theta**2`` in the cost.
    """
    v = np.zeros_like(theta)
    at = theta
    for g in gradients:
        v = momentum * v - learning_rate * (g + weight_decay * at)
        theta = theta + v
        at = theta + momentum * v if nesterov else theta
        yield at


def adam(
    theta: Array,
    gradients: Iterable[Array],
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
) -> Iterator[Array]:
    """Kingma and Ba (2015), "Adam: a method for stochastic optimization", algorithm 1.

    With weight decay Loshchilov and Hutter (2019), "Decoupled weight decay regularization",
    algorithm 2, with alpha 1 and the learning rate as its schedule multiplier eta.
    """
    m, v, t = np.zeros_like(theta), np.zeros_like(theta), 0
    for g in gradients:
        t = t + 1
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        eta = learning_rate
        theta = theta - eta * (m_hat / (np.sqrt(v_hat) + epsilon) + weight_decay * theta)
        yield theta


def rmsprop(
    w: Array, gradients: Iterable[Array], learning_rate: float, decay: float, epsilon: float
) -> Iterator[Array]:
    """Tieleman and Hinton (2012), "Neural networks for machine learning", lecture 6.5.

    The lecture divides by the root alone; epsilon is added to it.
    """
    mean_square = np.zeros_like(w)
    for g in gradients:
        mean_square = decay * mean_square + (1 - decay) * g**2
        w = w - learning_rate * g / (np.sqrt(mean_square) + epsilon)
        yield w


def adagrad(
    x: Array, gradients: Iterable[Array], learning_rate: float, epsilon: float
) -> Iterator[Array]:
    """Duchi, Hazan and Singer (2011), "Adaptive subgradient methods", figure 1, diagonal.

    ``s`` is the norm of all gradients of an element so far, and epsilon the paper's delta.
    """
    seen: list[Array] = []
    for g in gradients:
        seen.append(g)
        s = np.linalg.norm(seen, axis=0)
        x = x - learning_rate * g / (epsilon + s)
        yield x
