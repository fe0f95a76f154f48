"""Values against formulas read another way; pytest checks the contract too, by ``mf_packs``."""

from __future__ import annotations

import mfcore as mf
import numpy as np
import pytest

from mfops_extra import Huber, Swish, TopK


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


def test_top_k_is_the_end_of_the_sorted_row(mf_rng: np.random.Generator) -> None:
    x = mf_rng.integers(-5, 5, size=(20, 7))

    value, chosen = TopK.forward(x, k=3)

    assert value.tolist() == np.sort(x, axis=-1)[:, :-4:-1].tolist()
    assert all(len(set(row)) == 3 for row in chosen.tolist())


def test_top_k_refuses_rows_that_are_too_short() -> None:
    with pytest.raises(ValueError, match="has no 3 elements"):
        TopK.forward(np.zeros((5, 2)), k=3)


def test_swish_is_its_argument_times_a_sigmoid() -> None:
    x = np.array([-1e4, -2.0, 0.0, 1.0, 1e4])

    value = Swish.forward(x, beta=2.0)

    sigmoid = np.exp(-np.logaddexp(0.0, -2.0 * x))
    np.testing.assert_allclose(value, x * sigmoid, rtol=1e-12, atol=1e-300)
