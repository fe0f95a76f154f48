"""Optimizers against their published formulas, one scalar at a time, and in sessions."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mfcore as mf
from mfcore.errors import UnknownNodeError
from mfops_nn import MSE, Linear
from mfoptim import SGD, AdaGrad, Adam, HyperparameterError, RMSProp, sgd_update

GRADIENTS = [0.5, -2.0, 3.0, 0.0, 1e-3, -0.25]
START = 1.5


# The formulas as scalar recurrences: p is the parameter, g the gradients in turn.


def plain(p, rate=0.1):
    for g in GRADIENTS:
        p = p - rate * g
        yield p


def decayed(p, rate=0.1, decay=0.05):
    for g in GRADIENTS:
        p = p - rate * (g + decay * p)
        yield p


def polyak(p, rate=0.1, mu=0.9):
    v = 0.0
    for g in GRADIENTS:
        v = mu * v - rate * g
        p = p + v
        yield p


def nesterov(p, rate=0.1, mu=0.9):
    # Sutskever's own variable theta, with the gradients taken at theta + mu * v, which is
    # the variable that the optimizer holds.
    theta, v = p, 0.0
    for g in GRADIENTS:
        v = mu * v - rate * g
        theta = theta + v
        yield theta + mu * v


def adam(p, rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8, decay=0.0):
    m = v = 0.0
    for t, g in enumerate(GRADIENTS, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        p = p - rate * m_hat / (sqrt(v_hat) + epsilon) - rate * decay * p
        yield p


def rmsprop(p, rate=0.1, decay=0.8, epsilon=1e-8):
    v = 0.0
    for g in GRADIENTS:
        v = decay * v + (1 - decay) * g**2
        p = p - rate * g / (sqrt(v) + epsilon)
        yield p


def adagrad(p, rate=0.1, epsilon=1e-8):
    s = 0.0
    for g in GRADIENTS:
        s = s + g**2
        p = p - rate * g / (sqrt(s) + epsilon)
        yield p


FORMULAS = [
    pytest.param(SGD(0.1), plain, id="SGD"),
    pytest.param(SGD(0.1, weight_decay=0.05), decayed, id="SGD with weight decay"),
    pytest.param(SGD(0.1, momentum=0.9), polyak, id="SGD with momentum"),
    pytest.param(SGD(0.1, momentum=0.9, nesterov=True), nesterov, id="SGD Nesterov"),
    pytest.param(Adam(0.1), adam, id="Adam"),
    pytest.param(Adam(0.1, weight_decay=0.05), lambda p: adam(p, decay=0.05), id="AdamW"),
    pytest.param(RMSProp(0.1, decay=0.8), rmsprop, id="RMSProp"),
    pytest.param(AdaGrad(0.1), adagrad, id="AdaGrad"),
]
ALL = [pytest.param(p.values[0], id=p.id) for p in FORMULAS]


def applied(optimizer, parameter, gradients):
    """Yield the parameter after each gradient, by the optimizer's own pure functions."""
    spec = optimizer.__optimizer__
    state = spec.initial_state(optimizer, parameter)
    for step, gradient in enumerate(gradients):
        parameter, state = spec.updater(optimizer, step)(parameter, gradient, state)
        yield parameter


@pytest.mark.parametrize(("optimizer", "formula"), FORMULAS)
def test_each_element_follows_the_published_formula(optimizer, formula):
    parameter = np.full((2, 3), START)
    gradients = [np.full((2, 3), g) for g in GRADIENTS]

    steps = list(applied(optimizer, parameter, gradients))

    for ours, theirs in zip(steps, formula(START), strict=True):
        np.testing.assert_allclose(ours, np.full((2, 3), theirs), rtol=1e-12)


@pytest.mark.parametrize("optimizer", ALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 2)])
def test_dtype_and_shape_of_the_parameter_are_kept(optimizer, dtype, shape):
    parameter = np.ones(shape, dtype)

    *_, last = applied(optimizer, parameter, [np.ones(shape, dtype)] * 3)

    assert last.dtype == dtype
    assert last.shape == shape


@pytest.mark.parametrize("optimizer", ALL)
def test_nothing_is_changed_in_place(optimizer):
    spec = optimizer.__optimizer__
    parameter, gradient = np.ones(3), np.arange(3.0)
    state = spec.initial_state(optimizer, parameter)
    for array in (parameter, gradient, *state):
        array.flags.writeable = False

    _, new_state = spec.updater(optimizer, 0)(parameter, gradient, state)

    assert all(not np.shares_memory(new, old) for new, old in zip(new_state, state, strict=True))


@pytest.mark.parametrize("optimizer", ALL)
def test_a_convex_bowl_is_descended(optimizer):
    X_ = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    X, y = mf.Input("X"), mf.Input("y")
    W, b = mf.Parameter(np.zeros((2, 1)), name="W"), mf.Parameter(np.zeros(1), name="b")
    session = mf.Session(MSE(y, Linear(X, W, b)))
    feeds = {X: X_, y: X_ @ [[1.0], [-1.0]] + 0.5}

    losses = [session.step(feeds, optimizer) for _ in range(500)]

    assert losses[-1] < 0.01 * losses[0]


def test_sgd_without_momentum_remembers_nothing():
    assert SGD.init(np.ones(3), momentum=0.0) == ()


def test_a_rate_given_as_numpy_scalar_does_not_lift_float32():
    optimizer = SGD(np.float64(0.1))

    (stepped,) = applied(optimizer, np.ones(2, np.float32), [np.ones(2, np.float32)])

    assert stepped.dtype == np.float32


def test_a_schedule_is_called_with_the_number_of_steps_done():
    optimizer = SGD(lambda step: [1.0, 10.0, 100.0][step])

    steps = list(applied(optimizer, np.array([0.0]), [np.array([-1.0])] * 3))

    np.testing.assert_array_equal(np.ravel(steps), [1.0, 11.0, 111.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(-0.1), "learning_rate must be a number of at least 0, or a schedule"),
        (lambda: SGD(float("nan")), "learning_rate must be"),
        (lambda: SGD("fast"), "learning_rate must be"),
        (lambda: SGD(True), "learning_rate must be"),
        (lambda: SGD(Adam), "is the class Adam; give an instance"),
        (lambda: SGD(momentum=1.0), "momentum must be a number of at least 0 and below 1"),
        (lambda: SGD(momentum=-0.1), "momentum must be"),
        (lambda: SGD(nesterov=True), "give momentum"),
        (lambda: SGD(weight_decay=-1), "weight_decay must be a number of at least 0"),
        (lambda: Adam(beta1=1.0), "beta1 must be"),
        (lambda: Adam(beta2=-0.5), "beta2 must be"),
        (lambda: Adam(epsilon=0), "epsilon must be a number above 0"),
        (lambda: Adam(weight_decay=-1), "weight_decay must be"),
        (lambda: RMSProp(decay=1), "decay must be"),
        (lambda: AdaGrad(epsilon=-1), "epsilon must be"),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(HyperparameterError, match=message):
        make()


@given(
    st.dictionaries(st.text(max_size=3), st.floats(-1e6, 1e6), max_size=4),
    st.floats(0, 10),
)
def test_sgd_update_steps_each_parameter_against_its_gradient(parameters, rate):
    gradients = {key: value / 2 for key, value in parameters.items()}

    updated = sgd_update(parameters, gradients, rate)

    assert updated == {key: p - rate * (p / 2) for key, p in parameters.items()}


def test_sgd_update_takes_the_gradients_of_a_run_and_changes_nothing():
    x, w = mf.Input("x"), mf.Parameter(np.array([2.0]), name="w")
    session = mf.Session(MSE(x, w))
    before = session.parameters

    updated = sgd_update(before, session.run({x: np.array([0.0])}).gradients, learning_rate=0.25)

    assert updated[w] == 1.0
    assert before[w] == 2.0


def test_sgd_update_names_a_parameter_without_gradient():
    with pytest.raises(UnknownNodeError, match="parameter 'w'"):
        sgd_update({"w": 1.0}, {})


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSProp", "AdaGrad"])
def test_the_registry_finds_the_optimizers(name):
    assert mf.registry.current().optimizer(f"mfoptim.{name}").__name__ == name
