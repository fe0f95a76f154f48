"""Schedules: their values step by step, and their use as learning rates."""

from math import cos, pi

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mfcore as mf
from mfops_nn import MSE
from mfoptim import (
    SGD,
    CosineDecay,
    ExponentialDecay,
    HyperparameterError,
    StepDecay,
    Warmup,
    fit,
)

SCHEDULES = [
    ExponentialDecay(0.4, factor=0.5, every=10),
    StepDecay(0.4, factor=0.5, every=10),
    CosineDecay(0.4, steps=20, end=0.1),
    Warmup(0.4, steps=4),
    Warmup(StepDecay(0.4, factor=0.5, every=10), steps=4),
]


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (SCHEDULES[0], {0: 0.4, 5: 0.4 * 0.5**0.5, 10: 0.2, 30: 0.05}),
        (SCHEDULES[1], {0: 0.4, 9: 0.4, 10: 0.2, 19: 0.2, 20: 0.1}),
        (SCHEDULES[2], {0: 0.4, 5: 0.25 + 0.15 * cos(pi / 4), 10: 0.25, 20: 0.1, 99: 0.1}),
        (SCHEDULES[3], {0: 0.1, 1: 0.2, 3: 0.4, 4: 0.4, 1000: 0.4}),
        (SCHEDULES[4], {0: 0.1, 3: 0.4, 4: 0.4, 13: 0.4, 14: 0.2}),
    ],
)
def test_values_follow_the_formula(schedule, values):
    assert {step: schedule(step) for step in values} == pytest.approx(values, rel=1e-14)


@given(st.sampled_from(SCHEDULES), st.integers(0, 10**6))
def test_a_rate_is_a_plain_float_between_zero_and_the_first_rate(schedule, step):
    rate = schedule(step)

    assert type(rate) is float
    assert 0 <= rate <= 0.4


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_fit_follows_a_schedule(schedule):
    x, w = mf.Input("x"), mf.Parameter(np.zeros(1, np.float32), name="w")
    data = {x: np.ones(1, np.float32)}

    history = fit(MSE(x, w), data, SGD(schedule), epochs=6, seed=0)

    expected = 0.0
    for step in range(6):
        expected += schedule(step) * 2 * (1 - expected)
    assert history.session[w] == pytest.approx(expected, rel=1e-5)
    assert history.session[w].dtype == np.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExponentialDecay(-1, 0.5, 10), "start must be a number of at least 0"),
        (lambda: ExponentialDecay(1, 0, 10), "factor must be a number above 0"),
        (lambda: ExponentialDecay(1, 0.5, 0), "every must be a whole number of at least 1"),
        (lambda: StepDecay(1, 0.5, 2.5), "every must be"),
        (lambda: StepDecay(1, -0.5, 2), "factor must be"),
        (lambda: CosineDecay(1, 0), "steps must be"),
        (lambda: CosineDecay(1, 10, end=-1), "end must be"),
        (lambda: Warmup(-0.1, 10), "then must be"),
        (lambda: Warmup(StepDecay, 10), "is the class StepDecay"),
        (lambda: Warmup(0.1, 0), "steps must be"),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(HyperparameterError, match=message):
        make()
