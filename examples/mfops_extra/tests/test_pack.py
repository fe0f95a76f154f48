"""The optimizer, the tracer and the command, as MiniFlow finds them."""

from __future__ import annotations

import mfcore as mf
import numpy as np
from click.testing import CliRunner

from mfops_extra import Huber, Lion, Swish, Tally, TopK
from mfops_extra.commands import curve


def test_miniflow_finds_all_that_the_pack_provides(mf_registry: mf.Registry) -> None:
    assert mf_registry.operation("mfops_extra.Huber") is Huber
    assert mf_registry.operation("mfops_extra.Swish") is Swish
    assert mf_registry.operation("mfops_extra.TopK") is TopK
    assert mf_registry.optimizer("mfops_extra.Lion") is Lion
    assert mf_registry.tracer("mfops_extra.tally") is Tally


def test_lion_steps_by_its_formula() -> None:
    settings = {"learning_rate": 0.1, "beta1": 0.5, "beta2": 0.75, "weight_decay": 0.5}
    parameter, gradient = np.array([1.0, -2.0]), np.array([4.0, 0.0])

    moved, state = Lion.update(parameter, gradient, (np.array([-8.0, 1.0]),), **settings)

    # Averages for the step: -4 / 2 + 4 / 2 - 4 = -2 and 0.5; so it goes up, and down.
    np.testing.assert_allclose(moved, [1 - 0.1 * (-1 + 0.5), -2 - 0.1 * (1 - 1.0)])
    np.testing.assert_allclose(state[0], [0.75 * -8 + 0.25 * 4, 0.75])


def test_lion_makes_a_robust_cost_small() -> None:
    w = mf.Parameter(np.array([3.0, -2.0]), name="w")
    target = mf.Input("target")
    session = mf.Session(Huber(target, w))

    costs = [session.step({target: [1.0, 1.0]}, Lion(learning_rate=0.02)) for _ in range(200)]

    assert costs[0] == 2.0
    assert costs[-1] < 1e-3


def test_the_tally_counts_calls_and_steps() -> None:
    w = mf.Parameter(np.array(1.0), name="w")
    session = mf.Session(Swish(Swish(w)))

    with mf.tracing("tally") as tally:
        for _ in range(3):
            session.step({}, Lion())

    assert (tally.forward, tally.backward, tally.steps) == ({"Swish": 6}, {"Swish": 6}, 3)
    assert tally.table().splitlines()[1:] == [
        "Swish             6         6",
        "training steps: 3",
    ]


def test_the_curve_is_value_and_slope() -> None:
    shown = CliRunner().invoke(curve, ["mfops_extra.Swish", "--start=0", "--stop=1", "--points=2"])

    assert shown.exit_code == 0
    numbers = [[float(part) for part in line.split()] for line in shown.output.splitlines()[1:]]
    np.testing.assert_allclose(numbers, [[0, 0, 0.5], [1, 0.7311, 0.9277]], atol=1e-4)


def test_a_curve_needs_an_operation_of_one_input() -> None:
    shown = CliRunner().invoke(curve, ["mfops_extra.Huber"])

    assert shown.exit_code == 2
    assert "no operation of one input" in shown.output
