"""A training step of the Boston network: batch, forward, backward, update."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import mfcore as mf
from benchmarks.harness import Bar, Contender, check_same_losses, interleave, report
from mfops_nn import MSE, Linear, Sigmoid
from mfoptim import SGD
from miniflow.datasets import load_boston

RATE = 0.01
BATCH = 11
STEPS = 460


def problem() -> tuple[np.ndarray, np.ndarray, list[np.ndarray], np.ndarray]:
    """Return features, targets, the start of the parameters, and the batches of all steps."""
    data = load_boston()
    features = (data.X - data.X.mean(axis=0)) / data.X.std(axis=0)
    targets = data.y.reshape(-1, 1)
    rng = np.random.default_rng(0)
    start = [rng.normal(size=(13, 10)), np.zeros(10), rng.normal(size=(10, 1)), np.zeros(1)]
    return features, targets, start, rng.integers(0, len(features), (STEPS, BATCH))


def plain_numpy() -> Contender:
    """Straight-line NumPy, as one would write it by hand."""
    features, targets, start, batches = problem()

    def run(steps: int) -> Sequence[float]:
        W1, b1, W2, b2 = (value.copy() for value in start)
        losses = []
        for i in range(steps):
            rows = batches[i % STEPS]
            X, y = features[rows], targets[rows]
            hidden = 1 / (1 + np.exp(-(X @ W1 + b1)))
            difference = (hidden @ W2 + b2) - y
            losses.append(np.mean(difference**2))
            grad = difference * (2 / len(y))
            grad_hidden = (grad @ W2.T) * (hidden * (1 - hidden))
            W2 -= RATE * (hidden.T @ grad)
            b2 -= RATE * grad.sum(axis=0)
            W1 -= RATE * (X.T @ grad_hidden)
            b1 -= RATE * grad_hidden.sum(axis=0)
        return losses

    return Contender("NumPy by hand", run)


def reference() -> Contender:
    """MiniFlow on the reference engine."""
    features, targets, start, batches = problem()
    X, y = mf.Input("X"), mf.Input("y")
    W1, b1, W2, b2 = (mf.Parameter(value) for value in start)
    cost = MSE(y, Linear(Sigmoid(Linear(X, W1, b1)), W2, b2))
    graph = mf.Graph(cost)

    def run(steps: int) -> Sequence[float]:
        session = mf.Session(graph, engine="mfcore.reference")
        optimizer = SGD(learning_rate=RATE)
        losses = []
        for i in range(steps):
            rows = batches[i % STEPS]
            losses.append(session.step({X: features[rows], y: targets[rows]}, optimizer))
        return losses

    return Contender("reference engine", run)


def main() -> None:
    contenders = [plain_numpy(), reference()]
    check_same_losses(contenders, 50, rtol=1e-9)
    times = interleave(contenders, steps=STEPS, rounds=60)
    report(
        "boston: one training step, 13 - 10 sigmoid - 1, batch 11, float64",
        times,
        baseline="NumPy by hand",
        bars=[Bar("reference engine", "NumPy by hand", 2.0)],
    )
