"""The Boston step as one would write it by hand, in NumPy and for numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.harness import Contender, Run
from benchmarks.mlp import Training


def by_hand(training: Training) -> list[Contender]:
    numba = ("numba",)
    return [
        Contender("NumPy by hand", lambda: plain_numpy(training)),
        Contender("NumPy by hand, out=", lambda: numpy_with_buffers(training)),
        Contender("numba by hand, steps", lambda: numba_steps(training), numba, compiles=True),
        Contender("numba by hand, epochs", lambda: numba_epochs(training), numba, compiles=True),
    ]


def plain_numpy(training: Training) -> Run:
    features, targets, rate = training.features, training.targets, training.rate
    W1, b1, W2, b2 = training.parameters()

    def run() -> list[Any]:
        losses = []
        for rows in training.rows:
            X, y = features[rows], targets[rows]
            hidden = 1 / (1 + np.exp(-(X @ W1 + b1)))
            difference = (hidden @ W2 + b2) - y
            losses.append(np.mean(difference**2))
            grad = difference * (2 / len(y))
            grad_hidden = (grad @ W2.T) * (hidden * (1 - hidden))
            np.subtract(W2, rate * (hidden.T @ grad), out=W2)
            np.subtract(b2, rate * grad.sum(axis=0), out=b2)
            np.subtract(W1, rate * (X.T @ grad_hidden), out=W1)
            np.subtract(b1, rate * grad_hidden.sum(axis=0), out=b1)
        return losses

    return run


def numpy_with_buffers(training: Training) -> Run:
    """Every result into a buffer that is made once.

    On arrays this small the calls are the cost: ``dot`` is half the price of ``matmul``, a sum
    over rows is cheapest as a product with ones, and constants as arrays spare a conversion.
    """
    features, targets = training.features, training.targets
    W1, b1, W2, b2 = training.parameters()
    n = training.rows.shape[1]
    X, y = np.empty((n, 13)), np.empty((n, 1))
    hidden, slope, grad_hidden = np.empty((n, 10)), np.empty((n, 10)), np.empty((n, 10))
    difference = np.empty((n, 1))
    gW1, gb1, gW2, gb2 = (np.empty_like(value) for value in training.start)
    X_T, hidden_T, W2_T, flat = X.T, hidden.T, W2.T, difference.reshape(-1)
    one, scale, rate, ones = np.array(1.0), np.array(2 / n), np.array(training.rate), np.ones(n)
    multiply, subtract, add = np.multiply, np.subtract, np.add
    negative, exp, reciprocal = np.negative, np.exp, np.reciprocal

    def run() -> list[Any]:
        losses = []
        for rows in training.rows:
            features.take(rows, 0, X, "clip")
            targets.take(rows, 0, y, "clip")
            X.dot(W1, hidden)
            add(hidden, b1, hidden)
            negative(hidden, hidden)
            exp(hidden, hidden)
            add(hidden, one, hidden)
            reciprocal(hidden, hidden)
            hidden.dot(W2, difference)
            add(difference, b2, difference)
            subtract(difference, y, difference)
            losses.append(flat.dot(flat) / n)
            multiply(difference, scale, difference)
            difference.dot(W2_T, grad_hidden)
            subtract(one, hidden, slope)
            multiply(slope, hidden, slope)
            multiply(grad_hidden, slope, grad_hidden)
            hidden_T.dot(difference, gW2)
            ones.dot(difference, gb2)
            X_T.dot(grad_hidden, gW1)
            ones.dot(grad_hidden, gb1)
            multiply(gW1, rate, gW1)
            subtract(W1, gW1, W1)
            multiply(gb1, rate, gb1)
            subtract(b1, gb1, b1)
            multiply(gW2, rate, gW2)
            subtract(W2, gW2, W2)
            multiply(gb2, rate, gb2)
            subtract(b2, gb2, b2)
        return losses

    return run


HIDDEN, FEATURES = 10, 13
"""Constants of the loops, so that the compiler unrolls them."""


def compiled_step() -> Any:
    """Return the step as one compiled function over rows of the batch, updating in place."""
    from numba import njit

    @njit(fastmath=True, error_model="numpy", boundscheck=False)
    def step(features, targets, rows, W1, b1, W2, b2, gW1, hidden, rate):  # type: ignore
        n = rows.shape[0]
        gb1 = np.zeros(HIDDEN)
        gW2 = np.zeros(HIDDEN)
        gb2 = 0.0
        loss = 0.0
        gW1[:] = 0.0
        for i in range(n):
            row = rows[i]
            for j in range(HIDDEN):
                hidden[j] = b1[j]
            for k in range(FEATURES):
                x = features[row, k]
                for j in range(HIDDEN):
                    hidden[j] += x * W1[k, j]
            for j in range(HIDDEN):
                hidden[j] = 1 / (1 + np.exp(-hidden[j]))
            output = b2[0]
            for j in range(HIDDEN):
                output += hidden[j] * W2[j, 0]
            difference = output - targets[row, 0]
            loss += difference * difference
            grad = difference * (2 / n)
            gb2 += grad
            for j in range(HIDDEN):
                h = hidden[j]
                gW2[j] += grad * h
                hidden[j] = grad * W2[j, 0] * h * (1 - h)
                gb1[j] += hidden[j]
            for k in range(FEATURES):
                x = features[row, k]
                for j in range(HIDDEN):
                    gW1[k, j] += x * hidden[j]
        for k in range(FEATURES):
            for j in range(HIDDEN):
                W1[k, j] -= rate * gW1[k, j]
        for j in range(HIDDEN):
            b1[j] -= rate * gb1[j]
            W2[j, 0] -= rate * gW2[j]
        b2[0] -= rate * gb2
        return loss / n

    return step


def numba_steps(training: Training) -> Run:
    step = compiled_step()
    parameters, gW1, hidden = training.parameters(), np.empty((FEATURES, HIDDEN)), np.empty(HIDDEN)
    features, targets, rate = training.features, training.targets, training.rate
    batches = list(training.rows)

    def run() -> list[float]:
        return [step(features, targets, rows, *parameters, gW1, hidden, rate) for rows in batches]

    return run


def numba_epochs(training: Training) -> Run:
    from numba import njit

    step = compiled_step()

    @njit
    def epoch(features, targets, rows, W1, b1, W2, b2, rate, losses):  # type: ignore
        gW1, hidden = np.empty((FEATURES, HIDDEN)), np.empty(HIDDEN)
        for t in range(rows.shape[0]):
            losses[t] = step(features, targets, rows[t], W1, b1, W2, b2, gW1, hidden, rate)

    parameters = training.parameters()
    features, targets, rate = training.features, training.targets, training.rate

    def run() -> np.ndarray:
        losses = np.empty(len(training.rows))
        epoch(features, targets, training.rows, *parameters, rate, losses)
        return losses

    return run
