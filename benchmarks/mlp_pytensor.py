"""A dense network in pytensor: one compiled step a call, and scanned over the whole run."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.harness import Contender, Run
from benchmarks.mlp import BETA1, BETA2, EPSILON, Training


def contenders(training: Training) -> list[Contender]:
    needs = ("pytensor",)
    return [
        Contender("pytensor, step", lambda: stepped(training), needs, compiles=True),
        Contender("pytensor, scanned", lambda: scanned(training), needs, compiles=True),
    ]


def cost_of(training: Training, parameters: list[Any], X: Any, y: Any) -> Any:
    import pytensor.tensor as pt

    activation = {"sigmoid": pt.sigmoid, "relu": lambda x: pt.maximum(x, 0)}[training.activation]
    value = X
    for i in range(0, len(parameters), 2):
        value = value if i == 0 else activation(value)
        value = value @ parameters[i] + parameters[i + 1]
    if training.loss == "mse":
        return pt.mean((value - y) ** 2)
    return -pt.mean(pt.special.log_softmax(value, axis=1)[pt.arange(y.shape[0]), y])


def updated(training: Training, carry: list[Any], gradients: list[Any]) -> list[Any]:
    """Return the carry after a step: the parameters, and for Adam both moments and the count."""
    import pytensor.tensor as pt

    count = len(gradients)
    dtype = training.dtype.type
    rate = dtype(training.rate)
    parameters = carry[:count]
    if training.optimizer == "sgd":
        return [p - rate * g for p, g in zip(parameters, gradients)]
    b1, b2 = dtype(BETA1), dtype(BETA2)
    one = dtype(1)
    m = [b1 * a + (one - b1) * g for a, g in zip(carry[count : 2 * count], gradients)]
    v = [b2 * a + (one - b2) * g * g for a, g in zip(carry[2 * count : 3 * count], gradients)]
    step = carry[3 * count] + one
    first, second = one - b1**step, one - b2**step
    parameters = [
        p - rate * (a / first) / (pt.sqrt(b / second) + dtype(EPSILON))
        for p, a, b in zip(parameters, m, v)
    ]
    return [*parameters, *m, *v, step]


def shared(training: Training) -> tuple[list[Any], Any, Any]:
    """Return the carry at the start, the features and the targets as shared variables."""
    import pytensor

    carry = training.parameters()
    if training.optimizer == "adam":
        carry += [np.zeros_like(value) for value in training.start + training.start]
        carry.append(np.zeros((), training.dtype))
    return (
        [pytensor.shared(value) for value in carry],
        pytensor.shared(training.features),
        pytensor.shared(training.targets),
    )


def stepped(training: Training) -> Run:
    import pytensor
    import pytensor.tensor as pt

    carry, features, targets = shared(training)
    rows = pt.lvector("rows")
    parameters = carry[: len(training.start)]
    cost = cost_of(training, parameters, features[rows], targets[rows])
    updates = list(zip(carry, updated(training, carry, pytensor.grad(cost, parameters))))
    step = pytensor.function([rows], cost, updates=updates, trust_input=True)
    batches = list(training.rows.astype(np.int64))

    def run() -> Any:
        return [step(rows) for rows in batches]

    return run


def scanned(training: Training) -> Run:
    import pytensor
    import pytensor.tensor as pt

    carry, features, targets = shared(training)
    count = len(training.start)

    def step(rows: Any, *carry: Any) -> list[Any]:
        parameters = list(carry[:count])
        X, y = carry[-2:]
        cost = cost_of(training, parameters, X[rows], y[rows])
        carried = updated(training, list(carry[:-2]), pytensor.grad(cost, parameters))
        return [*carried, cost]

    rows = pt.lmatrix("rows")
    outputs = pytensor.scan(
        step,
        sequences=[rows],
        outputs_info=[*carry, None],
        non_sequences=[features, targets],
        return_updates=False,
    )
    updates = [(old, new[-1]) for old, new in zip(carry, outputs)]
    whole = pytensor.function([rows], outputs[-1], updates=updates, trust_input=True)
    all_rows = training.rows.astype(np.int64)
    return lambda: whole(all_rows)
