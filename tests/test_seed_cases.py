"""Every number that the tutorial states, in the modern API."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mfcore as mf
from mfops_basic import Add, Mul
from mfops_nn import MSE, Linear, Sigmoid

CASES = json.loads((Path(__file__).parent / "seed_cases.json").read_text(encoding="utf-8"))
OPERATIONS = {"Add": Add, "Mul": Mul, "Linear": Linear, "Sigmoid": Sigmoid, "MSE": MSE}


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c["name"]) for c in CASES["cases"] if "graph" in c]
)
def test_the_tutorial_s_graphs_give_the_tutorial_s_numbers(case: dict) -> None:
    inputs = {name: mf.Input(name) for name in case["feeds"]}
    output = eval(case["graph"], {**OPERATIONS, **inputs})

    run = mf.Session(output).run({inputs[name]: value for name, value in case["feeds"].items()})

    np.testing.assert_allclose(run[output], case["value"], rtol=1e-8)
    for name, expected in case.get("gradients", {}).items():
        np.testing.assert_allclose(run.gradients[inputs[name]], expected, rtol=1e-6)


def test_gradient_descent_finds_the_tutorial_s_minimum() -> None:
    (case,) = [c for c in CASES["cases"] if c["name"].startswith("gradient descent")]
    x = mf.Parameter(float(case["start"]), name="x")
    session = mf.Session(x**4 - 3 * x**3 + 2)

    step = np.inf
    while abs(step) > case["stop_when_step_below"]:
        step = case["learning_rate"] * session.run().gradients[x]
        session[x] = session[x] - step

    assert float(session[x]) == pytest.approx(case["minimum_at"], abs=1e-6)
