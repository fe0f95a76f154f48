"""A training step on the handwritten digits: softmax cross-entropy and Adam."""

from __future__ import annotations

import numpy as np

from benchmarks import mlp_jax, mlp_peers, mlp_pytensor, mlp_torch
from benchmarks.digits_by_hand import by_hand
from benchmarks.harness import Bar
from benchmarks.mlp import Training, miniflow_epochs, miniflow_steps, start_of
from benchmarks.workload import Workload, run_workload

SIZES = [64, 128, 10]
BATCH = 32
STEPS = 112
"""Two passes over the 1797 images, 56 full batches each."""


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's digits; without it random ones of their shape."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        print("digits: scikit-learn is not installed, random images take the digits' place")
        rng = np.random.default_rng(1)
        return rng.integers(0, 17, (1797, 64)).astype(float), rng.integers(0, 10, 1797)
    return load_digits(return_X_y=True)  # type: ignore[no-any-return]


def problem() -> Training:
    pixels, classes = images()
    rng = np.random.default_rng(0)
    full = len(pixels) // BATCH * BATCH
    passes = [rng.permutation(len(pixels))[:full].reshape(-1, BATCH) for _ in range(2)]
    return Training(
        features=(pixels / 16).astype(np.float32),
        targets=classes.astype(np.int64),
        start=start_of(SIZES, rng, np.float32),
        rows=np.concatenate(passes)[:STEPS],
        activation="relu",
        loss="cross-entropy",
        optimizer="adam",
        rate=0.001,
    )


def workload(name: str) -> Workload:
    training = problem()
    return Workload(
        name=name,
        title="one training step, 64 - 128 ReLU - 10, cross-entropy, Adam, batch 32, float32",
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
        rtol=2e-4,
        bars=[
            Bar("MiniFlow numba, epochs", "numba by hand, epochs", 1.1),
            Bar("MiniFlow numpy, epochs", "NumPy by hand, out=", 1.0),
        ],
    )


def main(*, quick: bool = False) -> bool:
    return run_workload(workload("digits"), quick=quick)
