"""The digits step as one would write it by hand, in NumPy and for numba."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.harness import Contender, Run
from benchmarks.mlp import BETA1, BETA2, EPSILON, Training


def by_hand(training: Training) -> list[Contender]:
    needs = ("numba", "scipy.linalg")  # numba calls SciPy's BLAS
    return [
        Contender("NumPy by hand", lambda: plain_numpy(training)),
        Contender("NumPy by hand, out=", lambda: numpy_with_buffers(training)),
        Contender("numba by hand, steps", lambda: numba_steps(training), needs, compiles=True),
        Contender("numba by hand, epochs", lambda: numba_epochs(training), needs, compiles=True),
    ]


def plain_numpy(training: Training) -> Run:
    features, targets, rate = training.features, training.targets, training.rate
    parameters = training.parameters()
    moments = [(np.zeros_like(value), np.zeros_like(value)) for value in parameters]
    count = 0

    def run() -> list[Any]:
        nonlocal count, moments
        losses = []
        for rows in training.rows:
            W1, b1, W2, b2 = parameters
            X, y = features[rows], targets[rows]
            hidden = np.maximum(X @ W1 + b1, 0)
            logits = hidden @ W2 + b2
            logits -= logits.max(axis=1, keepdims=True)
            powers = np.exp(logits)
            totals = powers.sum(axis=1, keepdims=True)
            each = np.arange(len(y))
            losses.append(np.mean(np.log(totals[:, 0]) - logits[each, y]))
            grad = powers / totals
            grad[each, y] -= 1
            grad /= len(y)
            grad_hidden = (grad @ W2.T) * (hidden > 0)
            gradients = [X.T @ grad_hidden, grad_hidden.sum(0), hidden.T @ grad, grad.sum(0)]
            count += 1
            for i, (p, g, (m, v)) in enumerate(zip(parameters, gradients, moments)):
                m = BETA1 * m + (1 - BETA1) * g
                v = BETA2 * v + (1 - BETA2) * g**2
                moments[i] = m, v
                step = m / (1 - BETA1**count) / (np.sqrt(v / (1 - BETA2**count)) + EPSILON)
                parameters[i] = p - rate * step
        return losses

    return run


class Flat:
    """Parameters, or their gradients, as views of one vector, which an optimizer sees whole."""

    def __init__(self, arrays: list[np.ndarray]) -> None:
        self.whole = np.concatenate([array.reshape(-1) for array in arrays])
        self.views = []
        start = 0
        for array in arrays:
            self.views.append(self.whole[start : start + array.size].reshape(array.shape))
            start += array.size


def corrected(rate: float, count: int) -> tuple[np.float32, np.float32]:
    """Return Adam's rate and epsilon with both bias corrections drawn into them."""
    root = math.sqrt(1 - BETA2**count)
    return np.float32(rate * root / (1 - BETA1**count)), np.float32(EPSILON * root)


def numpy_with_buffers(training: Training) -> Run:  # noqa: PLR0915 (a call a statement)
    """Every result into a buffer that is made once, Adam on one vector of all parameters."""
    features, targets = training.features, training.targets
    n = training.rows.shape[1]
    (inputs, width), outputs = training.start[0].shape, training.start[3].size
    parameters, gradients = Flat(training.start), Flat(training.start)
    W1, b1, W2, b2 = parameters.views
    gW1, gb1, gW2, gb2 = gradients.views
    p, g = parameters.whole, gradients.whole
    m, v, scratch = np.zeros_like(p), np.zeros_like(p), np.empty_like(p)
    kind = training.dtype
    X, y = np.empty((n, inputs), kind), np.empty(n, np.int64)
    hidden, active = np.empty((n, width), kind), np.empty((n, width), bool)
    grad_hidden = np.empty((n, width), kind)
    logits, powers = np.empty((n, outputs), kind), np.empty((n, outputs), kind)
    column, places = np.empty((n, 1), kind), np.empty(n, np.int64)
    first_of_row = np.arange(n) * outputs
    X_T, hidden_T, W2_T, ones = X.T, hidden.T, W2.T, np.ones(n, kind)
    zero, one, share = (np.array(value, kind) for value in (0, 1, 1 / n))
    b1_kept, b1_new, b2_kept, b2_new = (
        np.array(value, kind) for value in (BETA1, 1 - BETA1, BETA2, 1 - BETA2)
    )
    multiply, add, subtract, divide = np.multiply, np.add, np.subtract, np.divide
    flat_logits, flat_powers = logits.reshape(-1), powers.reshape(-1)
    count = 0

    def run() -> list[Any]:
        nonlocal count
        losses = []
        for rows in training.rows:
            features.take(rows, 0, X, "clip")
            targets.take(rows, 0, y, "clip")
            X.dot(W1, hidden)
            add(hidden, b1, hidden)
            np.maximum(hidden, zero, hidden)
            hidden.dot(W2, logits)
            add(logits, b2, logits)
            np.maximum.reduce(logits, 1, None, column, True)
            subtract(logits, column, logits)
            np.exp(logits, powers)
            add.reduce(powers, 1, None, column, True)
            add(first_of_row, y, places)
            picked = flat_logits[places]
            divide(powers, column, powers)
            losses.append((np.log(column).sum() - picked.sum()) / n)
            flat_powers[places] -= one
            multiply(powers, share, powers)
            powers.dot(W2_T, grad_hidden)
            np.greater(hidden, zero, active)
            multiply(grad_hidden, active, grad_hidden)
            hidden_T.dot(powers, gW2)
            ones.dot(powers, gb2)
            X_T.dot(grad_hidden, gW1)
            ones.dot(grad_hidden, gb1)
            count += 1
            rate, epsilon = corrected(training.rate, count)
            multiply(m, b1_kept, m)
            multiply(g, b1_new, scratch)
            add(m, scratch, m)
            multiply(v, b2_kept, v)
            multiply(g, g, g)
            multiply(g, b2_new, g)
            add(v, g, v)
            np.sqrt(v, scratch)
            add(scratch, epsilon, scratch)
            divide(m, scratch, scratch)
            multiply(scratch, rate, scratch)
            subtract(p, scratch, p)
        return losses

    return run


def compiled_step() -> Any:
    """Return the step as one compiled function: products by BLAS, the rest in fused loops."""
    from numba import njit

    kept1, new1 = np.float32(BETA1), np.float32(1 - BETA1)
    kept2, new2 = np.float32(BETA2), np.float32(1 - BETA2)
    nil = np.float32(0)

    @njit(fastmath=True, error_model="numpy")
    def step(  # type: ignore
        features, targets, rows, p, g, m, v, W1, b1, W2, b2, gW1, gb1, gW2, gb2,
        X, hidden, grad_hidden, logits, rate, epsilon,
    ):  # fmt: skip
        n, width = hidden.shape
        outputs = logits.shape[1]
        for i in range(n):
            X[i] = features[rows[i]]
        np.dot(X, W1, hidden)
        for i in range(n):
            for j in range(width):
                hidden[i, j] = max(hidden[i, j] + b1[j], nil)
        np.dot(hidden, W2, logits)
        share = np.float32(1 / n)
        loss = 0.0
        gb2[:] = nil
        for i in range(n):
            largest = np.float32(-np.inf)
            for j in range(outputs):
                logits[i, j] += b2[j]
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
                gb2[j] += logits[i, j]
        np.dot(hidden.T, logits, gW2)
        np.dot(logits, W2.T, grad_hidden)
        gb1[:] = nil
        for i in range(n):
            for j in range(width):
                if hidden[i, j] <= nil:
                    grad_hidden[i, j] = nil
                gb1[j] += grad_hidden[i, j]
        np.dot(X.T, grad_hidden, gW1)
        for i in range(p.size):
            m[i] = kept1 * m[i] + new1 * g[i]
            v[i] = kept2 * v[i] + new2 * (g[i] * g[i])
            p[i] -= rate * m[i] / (np.sqrt(v[i]) + epsilon)
        return loss / n

    return step


def arrays_of(training: Training) -> tuple[Any, ...]:
    """Return what the compiled step works on, in its order."""
    parameters, gradients = Flat(training.start), Flat(training.start)
    p, g = parameters.whole, gradients.whole
    n, kind = training.rows.shape[1], training.dtype
    (inputs, width), outputs = training.start[0].shape, training.start[3].size
    shapes = [(n, inputs), (n, width), (n, width), (n, outputs)]
    buffers = [np.empty(shape, kind) for shape in shapes]
    moments = np.zeros_like(p), np.zeros_like(p)
    return (p, g, *moments, *parameters.views, *gradients.views, *buffers)


def numba_steps(training: Training) -> Run:
    step, arrays = compiled_step(), arrays_of(training)
    features, targets, batches = training.features, training.targets, list(training.rows)
    count = 0

    def run() -> list[float]:
        nonlocal count
        losses = []
        for rows in batches:
            count += 1
            losses.append(step(features, targets, rows, *arrays, *corrected(training.rate, count)))
        return losses

    return run


def numba_epochs(training: Training) -> Run:
    from numba import njit

    step = compiled_step()

    @njit
    def epoch(features, targets, rows, arrays, rate, count, losses):  # type: ignore
        for t in range(rows.shape[0]):
            count += 1
            root = math.sqrt(1 - BETA2**count)
            now = np.float32(rate * root / (1 - BETA1**count))
            epsilon = np.float32(EPSILON * root)
            losses[t] = step(features, targets, rows[t], *arrays, now, epsilon)

    arrays = arrays_of(training)
    count = 0

    def run() -> np.ndarray:
        nonlocal count
        losses = np.empty(len(training.rows))
        epoch(
            training.features, training.targets, training.rows, arrays, training.rate, count, losses
        )
        count += len(losses)
        return losses

    return run
