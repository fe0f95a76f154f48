"""The large network's step as one would write it by hand, and the products that it cannot avoid."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.harness import Contender, Run
from benchmarks.mlp import Training


def by_hand(training: Training) -> list[Contender]:
    needs = ("numba", "scipy.linalg")  # numba calls SciPy's BLAS
    return [
        Contender("NumPy by hand", lambda: plain_numpy(training)),
        Contender("NumPy by hand, out=", lambda: numpy_with_buffers(training)),
        Contender("numba by hand, epochs", lambda: numba_epochs(training), needs, compiles=True),
    ]


def bare_products(training: Training) -> Run:
    """The eight matrix products of a step, three forward and five backward, and nothing else."""
    n = training.rows.shape[1]
    weights = training.parameters()[::2]
    X = training.features[training.rows[0]]
    hidden = [np.full((n, W.shape[1]), 0.5, np.float32) for W in weights]
    products = []
    for before, W, after in zip([X, *hidden], weights, hidden):
        products.append((before, W, np.empty_like(after)))
        products.append((before.T, after, np.empty_like(W)))
        if before is not X:
            products.append((after, W.T, np.empty_like(before)))
    steps = len(training.rows)

    def run() -> None:
        for _ in range(steps):
            for left, right, out in products:
                np.dot(left, right, out)

    return run


def plain_numpy(training: Training) -> Run:
    rate = training.rate
    parameters = training.parameters()

    def run() -> list[Any]:
        losses = []
        for rows in training.rows:
            W1, b1, W2, b2, W3, b3 = parameters
            X, y = training.features[rows], training.targets[rows]
            first = np.maximum(X @ W1 + b1, 0)
            second = np.maximum(first @ W2 + b2, 0)
            logits = second @ W3 + b3
            logits -= logits.max(axis=1, keepdims=True)
            powers = np.exp(logits)
            totals = powers.sum(axis=1, keepdims=True)
            each = np.arange(len(y))
            losses.append(np.mean(np.log(totals[:, 0]) - logits[each, y]))
            grad = powers / totals
            grad[each, y] -= 1
            grad /= len(y)
            grad_second = (grad @ W3.T) * (second > 0)
            grad_first = (grad_second @ W2.T) * (first > 0)
            gradients = [
                X.T @ grad_first, grad_first.sum(axis=0),
                first.T @ grad_second, grad_second.sum(axis=0),
                second.T @ grad, grad.sum(axis=0),
            ]  # fmt: skip
            for p, g in zip(parameters, gradients):
                p -= rate * g
        return losses

    return run


def numpy_with_buffers(training: Training) -> Run:
    """Every result into a buffer that is made once."""
    n, kind = training.rows.shape[1], training.dtype
    parameters = training.parameters()
    gradients = [np.empty_like(value) for value in parameters]
    W1, b1, W2, b2, W3, b3 = parameters
    gW1, gb1, gW2, gb2, gW3, gb3 = gradients
    X, y = np.empty((n, W1.shape[0]), kind), np.empty(n, training.targets.dtype)
    first, grad_first = (np.empty((n, W1.shape[1]), kind) for _ in range(2))
    second, grad_second = (np.empty((n, W2.shape[1]), kind) for _ in range(2))
    active = np.empty((n, W1.shape[1]), bool)
    logits, column, ones = (
        np.empty((n, W3.shape[1]), kind),
        np.empty((n, 1), kind),
        np.ones(n, kind),
    )
    each, zero, rate = np.arange(n), np.array(0, kind), np.array(training.rate, kind)

    def run() -> list[Any]:
        losses = []
        for rows in training.rows:
            training.features.take(rows, 0, X, "clip")
            training.targets.take(rows, 0, y, "clip")
            for value, W, b, out in ((X, W1, b1, first), (first, W2, b2, second)):
                value.dot(W, out)
                np.add(out, b, out)
                np.maximum(out, zero, out)
            second.dot(W3, logits)
            np.add(logits, b3, logits)
            np.maximum.reduce(logits, 1, None, column, True)
            np.subtract(logits, column, logits)
            picked = logits[each, y]
            np.exp(logits, logits)
            np.add.reduce(logits, 1, None, column, True)
            losses.append((np.log(column).sum() - picked.sum()) / n)
            np.divide(logits, column, logits)
            logits[each, y] -= 1
            np.divide(logits, n, logits)
            logits.dot(W3.T, grad_second)
            np.greater(second, zero, active)
            np.multiply(grad_second, active, grad_second)
            grad_second.dot(W2.T, grad_first)
            np.greater(first, zero, active)
            np.multiply(grad_first, active, grad_first)
            for value, grad, gW, gb in (
                (X, grad_first, gW1, gb1),
                (first, grad_second, gW2, gb2),
                (second, logits, gW3, gb3),
            ):
                value.T.dot(grad, gW)
                ones.dot(grad, gb)
            for p, g in zip(parameters, gradients):
                np.multiply(g, rate, g)
                np.subtract(p, g, p)
        return losses

    return run


def numba_epochs(training: Training) -> Run:  # noqa: PLR0915 (a program, its functions inside)
    """Products by BLAS, all else in loops fused on one thread: BLAS's threads spin beside it."""
    from numba import njit

    nil = np.float32(0)

    @njit(fastmath=True, error_model="numpy")
    def biased_relu(z, b):  # type: ignore
        for i in range(z.shape[0]):
            for j in range(z.shape[1]):
                z[i, j] = max(z[i, j] + b[j], nil)

    @njit(fastmath=True, error_model="numpy")
    def masked(grad, value, gb):  # type: ignore
        gb[:] = nil
        for i in range(grad.shape[0]):
            for j in range(grad.shape[1]):
                grad[i, j] = grad[i, j] if value[i, j] > nil else nil
                gb[j] += grad[i, j]

    @njit(fastmath=True, error_model="numpy")
    def softmax_loss(logits, b, targets, rows, gb):  # type: ignore
        n, outputs = logits.shape
        share = np.float32(1 / n)
        loss = 0.0
        gb[:] = nil
        for i in range(n):
            largest = np.float32(-np.inf)
            for j in range(outputs):
                logits[i, j] += b[j]
                largest = max(largest, logits[i, j])
            target = targets[rows[i]]
            picked = logits[i, target] - largest
            total = nil
            for j in range(outputs):
                logits[i, j] = np.exp(logits[i, j] - largest)
                total += logits[i, j]
            loss += np.log(total) - picked
            scale = share / total
            for j in range(outputs):
                logits[i, j] *= scale
            logits[i, target] -= share
            for j in range(outputs):
                gb[j] += logits[i, j]
        return loss / n

    @njit(fastmath=True, error_model="numpy")
    def descend(p, g, rate):  # type: ignore
        p, g = p.reshape(-1), g.reshape(-1)
        for i in range(p.size):
            p[i] -= rate * g[i]

    @njit(fastmath=True, error_model="numpy")
    def epoch(features, targets, all_rows, parameters, gradients, buffers, rate, losses):  # type: ignore
        W1, b1, W2, b2, W3, b3 = parameters
        gW1, gb1, gW2, gb2, gW3, gb3 = gradients
        X, first, second, logits, grad_first, grad_second = buffers
        for t in range(all_rows.shape[0]):
            rows = all_rows[t]
            for i in range(rows.size):
                X[i] = features[rows[i]]
            np.dot(X, W1, first)
            biased_relu(first, b1)
            np.dot(first, W2, second)
            biased_relu(second, b2)
            np.dot(second, W3, logits)
            losses[t] = softmax_loss(logits, b3, targets, rows, gb3)
            np.dot(second.T, logits, gW3)
            np.dot(logits, W3.T, grad_second)
            masked(grad_second, second, gb2)
            np.dot(first.T, grad_second, gW2)
            np.dot(grad_second, W2.T, grad_first)
            masked(grad_first, first, gb1)
            np.dot(X.T, grad_first, gW1)
            descend(W1, gW1, rate)
            descend(b1, gb1, rate)
            descend(W2, gW2, rate)
            descend(b2, gb2, rate)
            descend(W3, gW3, rate)
            descend(b3, gb3, rate)

    parameters = tuple(training.parameters())
    gradients = tuple(np.empty_like(value) for value in parameters)
    n = training.rows.shape[1]
    widths = [W.shape[1] for W in parameters[::2]]
    shapes = [training.start[0].shape[0], *widths, *widths[:2]]
    buffers = tuple(np.empty((n, width), training.dtype) for width in shapes)
    rate = np.float32(training.rate)

    def run() -> np.ndarray:
        losses = np.empty(len(training.rows))
        epoch(
            training.features, training.targets, training.rows,
            parameters, gradients, buffers, rate, losses,
        )  # fmt: skip
        return losses

    return run
