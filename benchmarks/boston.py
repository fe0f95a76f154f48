"""A training step of the Boston network: batch, forward, backward, update."""

from __future__ import annotations

import numpy as np

from benchmarks import mlp_jax, mlp_peers, mlp_pytensor, mlp_torch
from benchmarks.boston_by_hand import by_hand
from benchmarks.harness import Bar, Limit
from benchmarks.mlp import Training, miniflow_epochs, miniflow_steps
from benchmarks.workload import Workload, run_workload
from miniflow.datasets import load_boston

RATE = 0.01
BATCH = 11
STEPS = 460


def problem() -> Training:
    """Return the standardized data, the start of the parameters, and the batches of all steps."""
    data = load_boston()
    features = (data.X - data.X.mean(axis=0)) / data.X.std(axis=0)
    rng = np.random.default_rng(0)
    return Training(
        features=np.ascontiguousarray(features),
        targets=np.ascontiguousarray(data.y.reshape(-1, 1)),
        start=[rng.normal(size=(13, 10)), np.zeros(10), rng.normal(size=(10, 1)), np.zeros(1)],
        rows=rng.integers(0, len(features), (STEPS, BATCH)),
        activation="sigmoid",
        loss="mse",
        optimizer="sgd",
        rate=RATE,
    )


def workload(name: str) -> Workload:
    training = problem()
    return Workload(
        name=name,
        title="one training step, 13 - 10 sigmoid - 1, MSE, SGD, batch 11, float64",
        steps=STEPS,
        contenders=[
            *by_hand(training),
            miniflow_steps(training, "reference"),
            miniflow_steps(training, "numpy"),
            miniflow_epochs(training, "numpy"),
            miniflow_steps(training, "numba"),
            miniflow_epochs(training, "numba"),
            *mlp_jax.contenders(training),
            *mlp_pytensor.contenders(training),
            *mlp_torch.contenders(training, threads=1),
            *mlp_peers.contenders(training),
        ],
        baseline="NumPy by hand",
        rtol=1e-9,
        bars=[
            Bar("MiniFlow numba, epochs", "numba by hand, epochs", 1.15),
            Limit("MiniFlow numba, steps", 2.5e-6),
            Bar("MiniFlow numpy, epochs", "NumPy by hand, out=", 1.0),
            Bar("MiniFlow reference, steps", "NumPy by hand", 1.3),
        ],
    )


def main(*, quick: bool = False) -> bool:
    return run_workload(workload("boston"), quick=quick)
