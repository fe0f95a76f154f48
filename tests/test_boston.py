"""The main job: the tutorial's network on the Boston housing data, from packs found by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mfcore as mf
from miniflow.datasets import load_boston

CASES = json.loads((Path(__file__).parent / "seed_cases.json").read_text(encoding="utf-8"))
EPOCHS, STEPS, BATCH = 100, 46, 11


def test_the_stated_ranges_are_those_asserted_below() -> None:
    stated = CASES["boston"]["expected"]

    assert "epoch loss of 5.2 to 7.0 (from 121 to 147 in the first epoch)" in stated
    assert "mean squared error of 6.3 to 7.5 on all 506 rows" in stated


@pytest.mark.parametrize("seed", range(5))
def test_training_on_boston_ends_where_the_tutorial_s_own_program_does(seed: int) -> None:
    # The tutorial draws everything from NumPy's legacy generator: first the weights, then,
    # step by step, the rows of each batch. The same stream is drawn here.
    stream = np.random.RandomState(seed)
    packs = mf.registry.current()
    linear, sigmoid, mse = (packs.operation(name) for name in ("Linear", "Sigmoid", "MSE"))
    data = load_boston()
    features = (data.X - data.X.mean(axis=0)) / data.X.std(axis=0)
    X, y = mf.Input("X"), mf.Input("y")
    W1, b1 = mf.Parameter(stream.randn(13, 10)), mf.Parameter(np.zeros(10))
    W2, b2 = mf.Parameter(stream.randn(10, 1)), mf.Parameter(np.zeros(1))
    cost = mse(y, linear(sigmoid(linear(X, W1, b1)), W2, b2))
    session = mf.Session(cost)
    optimizer = packs.optimizer("SGD")(learning_rate=0.01)

    losses = []
    for _ in range(EPOCHS):
        total = 0.0
        for _ in range(STEPS):
            rows = stream.randint(0, len(features), size=BATCH)
            total += session.step({X: features[rows], y: data.y[rows]}, optimizer)
        losses.append(total / STEPS)

    final = session.run({X: features, y: data.y})[cost]
    assert 121 <= round(losses[0]) <= 147
    assert 5.2 <= round(losses[-1], 1) <= 7.0
    assert 6.3 <= round(float(final), 1) <= 7.5
