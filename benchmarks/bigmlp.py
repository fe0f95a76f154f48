"""A training step of a network that is large enough for matrix products to be nearly all of it."""

from __future__ import annotations

import numpy as np

from benchmarks import mlp_jax, mlp_peers, mlp_pytensor, mlp_torch
from benchmarks.bigmlp_by_hand import bare_products, by_hand
from benchmarks.harness import Bar, Contender
from benchmarks.mlp import Training, miniflow_epochs, miniflow_steps, start_of
from benchmarks.workload import Workload, run_workload

SIZES = [784, 1024, 1024, 10]
BATCH = 512
STEPS = 8


def problem() -> Training:
    """Return random images and classes: what they are does not matter to the time."""
    rng = np.random.default_rng(0)
    images = BATCH * STEPS
    return Training(
        features=rng.random((images, SIZES[0]), dtype=np.float32),
        targets=rng.integers(0, SIZES[-1], images),
        start=start_of(SIZES, rng, np.float32),
        rows=rng.permutation(images).reshape(STEPS, BATCH),
        activation="relu",
        loss="cross-entropy",
        optimizer="sgd",
        rate=0.01,
    )


def workload(name: str) -> Workload:
    training = problem()
    products = "bare matrix products"
    return Workload(
        name=name,
        title="one training step, 784 - 1024 - 1024 - 10 ReLU, cross-entropy, SGD, batch 512, "
        "float32",
        steps=STEPS,
        contenders=[
            Contender(products, lambda: bare_products(training), floor=True),
            *by_hand(training),
            miniflow_steps(training, "reference"),
            miniflow_epochs(training, "numpy"),
            miniflow_epochs(training, "numba"),
            *mlp_jax.contenders(training),
            *mlp_pytensor.contenders(training),
            *mlp_torch.contenders(training, threads=2),
            *mlp_peers.contenders(training),
        ],
        baseline=products,
        rtol=2e-4,
        unit="ms",
        bars=[
            Bar("MiniFlow numba, epochs", products, 1.08),
            Bar("MiniFlow numpy, epochs", products, 1.08),
        ],
    )


def main(*, quick: bool = False) -> bool:
    return run_workload(workload("bigmlp"), quick=quick)
