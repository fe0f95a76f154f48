"""A dense network in JAX: jitted per step, and scanned over the whole run."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.harness import Contender, Run
from benchmarks.mlp import BETA1, BETA2, EPSILON, Training


def contenders(training: Training) -> list[Contender]:
    return [
        Contender("JAX, jitted step", lambda: jitted(training), ("jax",), compiles=True),
        Contender("JAX, scanned", lambda: scanned(training), ("jax",), compiles=True),
    ]


def prepare(training: Training) -> tuple[Any, Any, Any]:
    """Return ``step(carry, features, targets, rows)``, the carry at the start, and the data."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", training.dtype == np.float64)
    activation = {"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}[training.activation]

    def cost(parameters: list[Any], X: Any, y: Any) -> Any:
        value = X
        for i in range(0, len(parameters), 2):
            value = value if i == 0 else activation(value)
            value = value @ parameters[i] + parameters[i + 1]
        if training.loss == "mse":
            return jnp.mean((value - y) ** 2)
        picked = jnp.take_along_axis(value, y[:, None], axis=1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(value, axis=1) - picked)

    def step(carry: Any, features: Any, targets: Any, rows: Any) -> tuple[Any, Any]:
        parameters, *moments = carry
        loss, gradients = jax.value_and_grad(cost)(parameters, features[rows], targets[rows])
        if training.optimizer == "sgd":
            parameters = [p - training.rate * g for p, g in zip(parameters, gradients)]
            return (parameters,), loss
        m, v, count = moments
        count = count + 1
        m = [BETA1 * a + (1 - BETA1) * g for a, g in zip(m, gradients)]
        v = [BETA2 * a + (1 - BETA2) * g * g for a, g in zip(v, gradients)]
        first, second = 1 - BETA1**count, 1 - BETA2**count
        parameters = [
            p - training.rate * (a / first) / (jnp.sqrt(b / second) + EPSILON)
            for p, a, b in zip(parameters, m, v)
        ]
        return (parameters, m, v, count), loss

    start = [jnp.array(value) for value in training.start]
    carry: Any = (start,)
    if training.optimizer == "adam":
        zeros = ([jnp.zeros_like(p) for p in start] for _ in range(2))
        carry = (start, *zeros, jnp.zeros((), training.dtype))
    targets = training.targets
    if training.loss == "cross-entropy":
        targets = targets.astype(np.int32)
    return step, carry, (jnp.array(training.features), jnp.array(targets))


def jitted(training: Training) -> Run:
    import jax

    step, carry, data = prepare(training)
    compiled = jax.jit(step)
    batches = [jax.numpy.array(rows) for rows in training.rows.astype(np.int32)]

    def run() -> Any:
        nonlocal carry
        losses = []
        for rows in batches:
            carry, loss = compiled(carry, *data, rows)
            losses.append(loss)
        # Fetching each loss would cost half as much again; they are read when compared.
        jax.block_until_ready(carry)
        return losses

    return run


def scanned(training: Training) -> Run:
    import jax

    step, carry, data = prepare(training)
    rows = jax.numpy.array(training.rows.astype(np.int32))

    def whole(carry: Any, features: Any, targets: Any, rows: Any) -> tuple[Any, Any]:
        return jax.lax.scan(lambda c, r: step(c, features, targets, r), carry, rows)

    compiled = jax.jit(whole, donate_argnums=0)

    def run() -> Any:
        nonlocal carry
        carry, losses = compiled(carry, *data, rows)
        return np.asarray(losses)

    return run
