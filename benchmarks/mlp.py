"""Training a small dense network: what every contender is given, and MiniFlow's own ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import attrs
import numpy as np

import mfcore as mf
from benchmarks.harness import Contender, Run, UnavailableError
from mfcore.errors import UnknownNameError
from mfops_nn import MSE, CrossEntropy, Linear, ReLU, Sigmoid
from mfoptim import SGD, Adam

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's hyperparameters, for all contenders."""


@attrs.define
class Training:
    """A network, its data, where it starts and which rows each step takes."""

    features: np.ndarray
    targets: np.ndarray
    """``(n, 1)`` numbers, or ``(n,)`` integer classes."""
    start: list[np.ndarray]
    """Weights and biases in turn: ``W1, b1, W2, b2, ...``"""
    rows: np.ndarray
    """``(steps, batch)`` row numbers."""
    activation: Literal["sigmoid", "relu"]
    loss: Literal["mse", "cross-entropy"]
    optimizer: Literal["sgd", "adam"]
    rate: float

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.features.dtype

    def parameters(self) -> list[np.ndarray]:
        """Return a fresh copy of the parameters at the start."""
        return [value.copy() for value in self.start]


def start_of(sizes: list[int], rng: np.random.Generator, dtype: Any) -> list[np.ndarray]:
    """Return parameters of a dense network: scaled normal weights, zero biases."""
    start = []
    for inputs, outputs in pairwise(sizes):
        start.append((rng.normal(size=(inputs, outputs)) / np.sqrt(inputs)).astype(dtype))
        start.append(np.zeros(outputs, dtype))
    return start


def session_of(training: Training, engine: str) -> tuple[mf.Session, mf.Input, mf.Input]:
    """Return a session for the network's cost, its features and its targets."""
    X, y = mf.Input("X"), mf.Input("y")
    parameters = [mf.Parameter(value) for value in training.parameters()]
    activation = {"sigmoid": Sigmoid, "relu": ReLU}[training.activation]
    value: Any = X
    for i in range(0, len(parameters), 2):
        value = Linear(value if i == 0 else activation(value), *parameters[i : i + 2])
    cost = {"mse": MSE, "cross-entropy": CrossEntropy}[training.loss](y, value)
    return open_session(cost, engine), X, y


def open_session(cost: mf.Node, engine: str) -> mf.Session:
    try:
        return mf.Session(cost, engine=engine)
    except UnknownNameError as error:
        raise UnavailableError(f"engine {engine!r} is not available") from error


def open_function(inputs: Any, outputs: Any, engine: str) -> Callable[..., Any]:
    if not hasattr(mf, "function"):
        raise UnavailableError("mf.function is not available")
    try:
        return mf.function(inputs, outputs, engine=engine)
    except UnknownNameError as error:
        raise UnavailableError(f"engine {engine!r} is not available") from error


def gradient_nodes(cost: mf.Node, wrt: list[mf.Input]) -> list[mf.Node]:
    if not hasattr(mf, "gradient"):
        raise UnavailableError("mf.gradient is not available")
    return mf.gradient(cost, wrt)


def optimizer_of(training: Training) -> Any:
    if training.optimizer == "sgd":
        return SGD(learning_rate=training.rate)
    return Adam(learning_rate=training.rate, beta1=BETA1, beta2=BETA2, epsilon=EPSILON)


def miniflow_steps(training: Training, engine: str) -> Contender:
    """MiniFlow, one step a call from Python."""

    def build() -> Run:
        session, X, y = session_of(training, engine)
        features, targets = training.features, training.targets
        optimizer = optimizer_of(training)
        if engine != "reference":  # which would gather by the same call of NumPy
            step = session.stepper({X: features, y: targets}, optimizer)
            return lambda: [step(rows) for rows in training.rows]

        def run() -> list[float]:
            return [
                session.step({X: features[rows], y: targets[rows]}, optimizer)
                for rows in training.rows
            ]

        return run

    compiles = engine != "reference"
    return Contender(f"MiniFlow {engine}, steps", build, compiles=compiles)


def miniflow_epochs(training: Training, engine: str) -> Contender:
    """MiniFlow, a whole epoch a call."""

    def build() -> Run:
        session, X, y = session_of(training, engine)
        if not hasattr(session, "epoch"):
            raise UnavailableError("Session.epoch is not available")
        data = {X: training.features, y: training.targets}
        optimizer = optimizer_of(training)
        return lambda: session.epoch(data, optimizer, training.rows)

    compiles = engine != "reference"
    return Contender(f"MiniFlow {engine}, epochs", build, compiles=compiles)
