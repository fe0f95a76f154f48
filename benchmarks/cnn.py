"""A training step of a small convolutional network."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

import mfcore as mf
from benchmarks.cnn_by_hand import numba_epochs, plain_numpy
from benchmarks.cnn_peers import (
    jax_jitted,
    jax_scanned,
    torch_compiled,
    torch_eager,
    with_tinygrad,
)
from benchmarks.harness import Bar, Contender, Run, UnavailableError
from benchmarks.mlp import open_session
from benchmarks.workload import Workload, run_workload
from mfops_nn import CrossEntropy, Linear, ReLU
from mfoptim import SGD

BATCH = 64
STEPS = 8


@attrs.define
class Images:
    """Images, their classes, the start of the parameters, and the rows of each step."""

    images: np.ndarray
    """``(n, 1, 28, 28) float32``."""
    classes: np.ndarray
    start: list[np.ndarray]
    """Weights ``(out, in, 3, 3)`` and biases of two convolutions, then of the dense layer."""
    rows: np.ndarray
    rate: float


def problem() -> Images:
    """Return random images: what they show does not matter to the time."""
    rng = np.random.default_rng(0)
    count = BATCH * STEPS
    start = []
    for shape in [(16, 1, 3, 3), (32, 16, 3, 3)]:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        start.append((rng.normal(size=shape) * scale).astype(np.float32))
        start.append((rng.normal(size=shape[0]) * 0.1).astype(np.float32))
    start.append((rng.normal(size=(800, 10)) / np.sqrt(800)).astype(np.float32))
    start.append(np.zeros(10, np.float32))
    return Images(
        images=rng.random((count, 1, 28, 28), dtype=np.float32),
        classes=rng.integers(0, 10, count),
        start=start,
        rows=rng.permutation(count).reshape(STEPS, BATCH),
        rate=0.01,
    )


def session_of(problem: Images, engine: str) -> tuple[mf.Session, mf.Input, mf.Input]:
    try:
        from mfops_nn import Conv2D, MaxPool2D
    except ImportError as error:
        raise UnavailableError("Conv2D or MaxPool2D is not available") from error
    x, y = mf.Input("x"), mf.Input("y")
    W1, b1, W2, b2, W3, b3 = (mf.Parameter(value) for value in problem.start)
    first = MaxPool2D(ReLU(Conv2D(x, W1, b1)))
    second = MaxPool2D(ReLU(Conv2D(first, W2, b2)))
    flat = np.reshape(second, (-1, 800))
    return open_session(CrossEntropy(y, Linear(flat, W3, b3)), engine), x, y


def miniflow_steps(problem: Images, engine: str) -> Run:
    session, x, y = session_of(problem, engine)
    optimizer = SGD(learning_rate=problem.rate)

    def run() -> list[float]:
        return [
            session.step({x: problem.images[rows], y: problem.classes[rows]}, optimizer)
            for rows in problem.rows
        ]

    return run


def miniflow_epochs(problem: Images, engine: str) -> Run:
    session, x, y = session_of(problem, engine)
    if not hasattr(session, "epoch"):
        raise UnavailableError("Session.epoch is not available")
    data = {x: problem.images, y: problem.classes}
    optimizer = SGD(learning_rate=problem.rate)
    return lambda: session.epoch(data, optimizer, problem.rows)


def workload(name: str) -> Workload:
    images = problem()

    def contender(name: str, build: Any, *arguments: Any, needs: str = "") -> Contender:
        compiles = not any(word in name for word in ("NumPy", "reference", "eager"))
        needed = tuple(needs.split())
        return Contender(name, lambda: build(images, *arguments), needed, compiles=compiles)

    torch_names = []
    torches = []
    for layout in ("NCHW", "NHWC"):
        for way, build in (("eager", torch_eager), ("compiled", torch_compiled)):
            torch_names.append(f"torch {way}, {layout}")
            torches.append(contender(torch_names[-1], build, layout, needs="torch"))
    return Workload(
        name=name,
        title="one training step, 1x28x28, conv 3x3x16 - ReLU - pool - conv 3x3x32 - ReLU - pool "
        "- linear 10, SGD, batch 64, float32",
        steps=STEPS,
        contenders=[
            contender("NumPy by hand", plain_numpy),
            contender(
                "numba by hand, epochs", numba_epochs, needs="numba scipy.linalg threadpoolctl"
            ),
            contender("MiniFlow reference, steps", miniflow_steps, "reference"),
            contender("MiniFlow numpy, epochs", miniflow_epochs, "numpy"),
            contender("MiniFlow numba, epochs", miniflow_epochs, "numba"),
            contender("JAX, jitted step", jax_jitted, needs="jax"),
            contender("JAX, scanned", jax_scanned, needs="jax"),
            *torches,
            contender("tinygrad", with_tinygrad, needs="tinygrad"),
        ],
        baseline="NumPy by hand",
        rtol=2e-4,
        unit="ms",
        bars=[Bar("MiniFlow numba, epochs", tuple(torch_names), 1.0)],
    )


def main(*, quick: bool = False) -> bool:
    return run_workload(workload("cnn"), quick=quick)
