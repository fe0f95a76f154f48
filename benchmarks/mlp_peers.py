"""A dense network in autograd, scikit-learn and tinygrad."""

from __future__ import annotations

import os
import shutil
from typing import Any

import numpy as np

from benchmarks.harness import Contender, Run, UnavailableError
from benchmarks.mlp import BETA1, BETA2, EPSILON, Training


def contenders(training: Training) -> list[Contender]:
    return [
        Contender("autograd", lambda: with_autograd(training), ("autograd",)),
        Contender(
            "scikit-learn",
            lambda: with_sklearn(training),
            ("sklearn.neural_network",),
            note="mean loss of the run compared",
        ),
        Contender("tinygrad", lambda: with_tinygrad(training), ("tinygrad",), compiles=True),
    ]


class Adam:
    """Adam in plain NumPy, for peers without an optimizer of their own."""

    def __init__(self, training: Training) -> None:
        self.rate = training.rate
        self.m = [np.zeros_like(value) for value in training.start]
        self.v = [np.zeros_like(value) for value in training.start]
        self.count = 0

    def update(self, parameters: list[np.ndarray], gradients: list[np.ndarray]) -> None:
        self.count += 1
        first, second = 1 - BETA1**self.count, 1 - BETA2**self.count
        for p, g, m, v in zip(parameters, gradients, self.m, self.v):
            m *= BETA1
            m += (1 - BETA1) * g
            v *= BETA2
            v += (1 - BETA2) * (g * g)
            p -= self.rate * (m / first) / (np.sqrt(v / second) + EPSILON)


def with_autograd(training: Training) -> Run:
    import autograd.numpy as anp
    from autograd import value_and_grad

    def cost(parameters: list[Any], X: Any, y: Any) -> Any:
        value = X
        for i in range(0, len(parameters), 2):
            if i and training.activation == "sigmoid":
                value = 1 / (1 + anp.exp(-value))
            elif i:
                value = anp.maximum(value, 0)
            value = anp.dot(value, parameters[i]) + parameters[i + 1]
        if training.loss == "mse":
            return anp.mean((value - y) ** 2)
        shifted = value - anp.max(value, axis=1, keepdims=True)
        log_softmax = shifted - anp.log(anp.sum(anp.exp(shifted), axis=1, keepdims=True))
        return -anp.mean(log_softmax[np.arange(len(y)), y])

    both = value_and_grad(cost)
    parameters, adam = training.parameters(), Adam(training)

    def run() -> list[float]:
        losses = []
        for rows in training.rows:
            loss, gradients = both(parameters, training.features[rows], training.targets[rows])
            if training.optimizer == "adam":
                adam.update(parameters, gradients)
            else:
                for p, g in zip(parameters, gradients):
                    p -= training.rate * g
            losses.append(loss)
        return losses

    return run


def with_sklearn(training: Training) -> Run:
    """scikit-learn's perceptron, made to walk the same batches from the same start.

    Unshuffled it takes its batches in order, so it is given the rows of all steps one below
    the other. Its squared loss is half of ours, and its gradient too. It reports one mean loss.
    """
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    classes = training.loss == "cross-entropy"
    kind = MLPClassifier if classes else MLPRegressor
    half = 1 if classes else 2
    batch = training.rows.shape[1]
    model = kind(
        hidden_layer_sizes=[value.shape[1] for value in training.start[:-2:2]],
        activation={"sigmoid": "logistic", "relu": "relu"}[training.activation],
        solver=training.optimizer,
        alpha=0.0,
        batch_size=batch,
        learning_rate_init=training.rate * half,
        momentum=0.0,
        nesterovs_momentum=False,
        beta_1=BETA1,
        beta_2=BETA2,
        epsilon=EPSILON,
        shuffle=False,
    )
    flat = training.rows.reshape(-1)
    targets = training.targets.reshape(-1)
    X, y = training.features[flat[:batch]], targets[flat[:batch]]
    every = {"classes": np.unique(targets)} if classes else {}
    model.partial_fit(X, y, **every)  # makes the parameters and the optimizer's state
    for place, value in zip(
        [*model.coefs_, *model.intercepts_], training.start[::2] + training.start[1::2]
    ):
        place[...] = value
    if training.optimizer == "adam":
        model._optimizer.t = 0
        for moment in model._optimizer.ms + model._optimizer.vs:
            moment[...] = 0

    def run() -> list[float]:
        model.partial_fit(training.features[flat], targets[flat])
        return [model.loss_ * half]

    return run


def tinygrad_on_cpu() -> None:
    if not shutil.which("clang"):
        raise UnavailableError("tinygrad needs the compiler clang to run on the CPU")
    os.environ.setdefault("DEV", "CPU")


def with_tinygrad(training: Training) -> Run:
    tinygrad_on_cpu()
    from tinygrad import Tensor, TinyJit

    classes = training.loss == "cross-entropy"
    features = Tensor(training.features).realize()
    targets = Tensor(training.targets.astype(np.int32) if classes else training.targets).realize()
    start = training.parameters()
    parameters = [Tensor(value).contiguous().realize() for value in start]
    m, v = (
        [Tensor(np.zeros_like(value)).contiguous().realize() for value in start] for _ in range(2)
    )
    powers = Tensor(np.ones(2, training.dtype)).contiguous().realize()
    betas = Tensor(np.array([BETA1, BETA2], training.dtype)).realize()

    def updates(gradients: Any) -> list[Any]:
        if training.optimizer == "sgd":
            return [p.assign(p - training.rate * g) for p, g in zip(parameters, gradients)]
        changed = [powers.assign(powers * betas)]
        first, second = 1 - powers[0], 1 - powers[1]
        for p, a, b, g in zip(parameters, m, v, gradients):
            a.assign(BETA1 * a + (1 - BETA1) * g)
            b.assign(BETA2 * b + (1 - BETA2) * g * g)
            p.assign(p - training.rate * (a / first) / ((b / second).sqrt() + EPSILON))
            changed += [a, b, p]
        return changed

    @TinyJit
    def step(rows: Any) -> Any:
        value, y = features[rows], targets[rows]
        for i in range(0, len(parameters), 2):
            if i:
                value = value.sigmoid() if training.activation == "sigmoid" else value.relu()
            value = value @ parameters[i] + parameters[i + 1]
        loss = value.sparse_categorical_crossentropy(y) if classes else ((value - y) ** 2).mean()
        changed = updates(loss.gradient(*parameters))
        return loss.realize(*changed)

    batches = [Tensor(rows.astype(np.int32)).realize() for rows in training.rows]

    def run() -> list[float]:
        return [step(rows).item() for rows in batches]

    return run
