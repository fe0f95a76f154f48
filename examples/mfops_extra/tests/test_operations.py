"""Gradients against differences, and values against formulas read another way."""

from __future__ import annotations

from typing import Any

import mfcore as mf
import numpy as np
import pytest

from mfops_extra import Huber, Swish, TopK

SAMPLES = [
    pytest.param(operation, *sample, id=f"{operation.__name__}-{number}")
    for operation in (Huber, Swish, TopK)
    for number, sample in enumerate(operation.samples())
]


@pytest.mark.parametrize(("operation", "values", "hyperparameters"), SAMPLES)
def test_the_gradient_is_what_differences_say(
    operation: type[mf.Node], values: tuple[mf.Array, ...], hyperparameters: dict[str, Any]
) -> None:
    rng = np.random.default_rng(0)
    inputs = [mf.Input(f"input_{k}") for k in range(len(values))]
    node = operation(*inputs, **hyperparameters)
    session = mf.Session(node, engine="reference")
    run = session.run(dict(zip(inputs, values, strict=True)))
    grad = rng.normal(size=run[node].shape)
    gradients = run.backward(grad=grad)

    for moving, value in zip(inputs, values, strict=True):
        direction, step = rng.normal(size=value.shape), 1e-6
        above, below = (
            session.run(
                {
                    x: v + sign * step * direction if x is moving else v
                    for x, v in zip(inputs, values, strict=True)
                }
            )[node]
            for sign in (1, -1)
        )
        measured = np.sum(grad * (above - below)) / (2 * step)
        claimed = np.sum(gradients[moving] * direction)
        assert claimed == pytest.approx(measured, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize(("operation", "values", "hyperparameters"), SAMPLES)
def test_float32_is_kept(
    operation: type[mf.Node], values: tuple[mf.Array, ...], hyperparameters: dict[str, Any]
) -> None:
    inputs = [mf.Input(f"input_{k}") for k in range(len(values))]
    node = operation(*inputs, **hyperparameters)
    feeds = {x: v.astype(np.float32) for x, v in zip(inputs, values, strict=True)}

    run = mf.Session(node, engine="reference").run(feeds)

    assert run[node].dtype == np.float32


def test_huber_is_a_parabola_with_straight_arms() -> None:
    errors = np.array([0.0, 0.5, -1.0, 4.0])

    losses = [float(Huber.forward(np.array(0.0), e, delta=1.0)) for e in errors]

    assert losses == [0.0, 0.125, 0.5, 3.5]


def test_huber_refuses_shapes_that_differ() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\), but predictions \(3, 1\)"):
        Huber.forward(np.zeros(3), np.zeros((3, 1)), delta=1.0)


def test_top_k_takes_the_first_of_equal_elements() -> None:
    x = mf.Input("x")

    run = mf.Session(TopK(x, k=2)).run({x: [5.0, 1.0, 5.0, 5.0]})

    assert run.backward(grad=np.array([1.0, 2.0]))[x].tolist() == [1.0, 0.0, 2.0, 0.0]


@pytest.mark.parametrize("seed", range(5))
def test_top_k_is_the_end_of_the_sorted_row(seed: int) -> None:
    x = np.random.default_rng(seed).integers(-5, 5, size=(4, 7))

    value, chosen = TopK.forward(x, k=3)

    assert value.tolist() == np.sort(x, axis=-1)[:, :-4:-1].tolist()
    assert all(len(set(row)) == 3 for row in chosen.tolist())


def test_top_k_refuses_rows_that_are_too_short() -> None:
    with pytest.raises(ValueError, match="has no 3 elements"):
        TopK.forward(np.zeros((5, 2)), k=3)
