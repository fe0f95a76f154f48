"""Defining optimizers: what the decorator accepts and refuses, and how updates are applied."""

from __future__ import annotations

import numpy as np
import pytest
from attrs import exceptions, validators
from plain_optimizers import Descent

import mfcore as mf
from mfcore.errors import DefinitionError, ExecutionError, NodeUseError
from mfcore.optimizer import Updates, optimizer_spec


def make(name="Made", fields=None, **functions):
    body = {"__annotations__": fields or {}, "__module__": __name__}
    body |= {key: staticmethod(function) for key, function in functions.items()}
    return mf.optimizer(type(name, (), body))


@mf.optimizer
class Averaging:
    """Keeps a running mean of gradients, and counts."""

    rate: float = 0.5

    @staticmethod
    def init(parameter, rate):
        return np.full_like(parameter, rate), np.zeros(())

    @staticmethod
    def update(parameter, gradient, state, step, rate):
        mean, count = state
        mean = rate * mean + (1 - rate) * gradient
        return parameter - mean, (mean, count + step)


# Definition


def test_the_specification_of_an_optimizer():
    spec = optimizer_spec(Averaging)

    assert spec is optimizer_spec(Averaging())
    assert (spec.name, spec.hyperparameters) == ("Averaging", ("rate",))
    assert spec.init_asks == ("parameter", "rate")
    assert spec.update_asks == ("parameter", "gradient", "state", "step", "rate")
    assert optimizer_spec(Descent).init is None
    assert Descent.__doc__ == "Plain descent."
    assert Descent.update(3.0, 2.0, 0.5) == 2


def test_an_optimizer_is_immutable_and_compares_by_its_hyperparameters():
    descent = Descent(learning_rate=0.1)

    with pytest.raises(exceptions.FrozenInstanceError):
        descent.learning_rate = 3.0
    assert descent == Descent(0.1) != Descent(0.2)
    assert repr(descent) == "Descent(learning_rate=0.1)"


REFUSED = {
    "no update": ({}, "has no update"),
    "an unknown name in update": (
        {"update": lambda parameter, gradient, rate: parameter},
        "asks for 'rate', which nothing provides; it may ask for gradient, parameter, state, step",
    ),
    "an unknown name in init": (
        {"init": lambda parameter, gradient: (), "update": lambda parameter, gradient, state: 0},
        "asks for 'gradient', which nothing provides; it may ask for parameter",
    ),
    "state without init": (
        {"update": lambda parameter, gradient, state: parameter}, "state exactly where init"),
    "init without state": (
        {"init": lambda parameter: (), "update": lambda parameter, gradient: parameter},
        "state exactly where init",
    ),
    "keywords": ({"update": lambda parameter, **more: parameter}, "must ask by name"),
    "a star": ({"update": lambda *gradient: 0}, r"takes \*gradient"),
    "a ufunc": ({"update": np.subtract}, "plain Python function"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_definition_is_refused_and_says_what_is_wrong(case):
    functions, message = REFUSED[case]

    with pytest.raises(DefinitionError, match=f"optimizer Made.*{message}"):
        make(**functions)


@pytest.mark.parametrize("method", ["init", "update"])
def test_functions_must_be_static(method):
    body = {"update": staticmethod(lambda parameter, gradient: parameter)}
    body[method] = lambda self: self

    with pytest.raises(DefinitionError, match=f"optimizer Bad: {method} must be a @staticmethod"):
        mf.optimizer(type("Bad", (), body))


def test_hyperparameters_are_checked_by_annotation_or_validator():
    Checked = make(
        fields={"rate": float, "nesterov": bool, "decay": float | None},
        update=lambda parameter, gradient: parameter,
    )

    @mf.optimizer
    class Bounded:
        rate: float = mf.hyperparameter(default=0.1, validator=validators.gt(0))

        @staticmethod
        def update(parameter, gradient):
            return parameter

    Checked(0.1, True, None)
    for wrong in (("x", True, None), (0.1, 1, None), (0.1, True, "no"), (None, True, 0.1)):
        with pytest.raises(NodeUseError, match="Checked|Made"):
            Checked(*wrong)
    with pytest.raises(ValueError, match="rate"):
        Bounded(rate=-1.0)


def test_a_number_or_a_schedule_is_a_learning_rate_and_nothing_else_is():
    Descent(1)
    Descent(lambda step: 0.1)
    with pytest.raises(NodeUseError, match="learning_rate must be"):
        Descent("fast")


def test_optimizers_inherit_and_are_decorated_again():
    @mf.optimizer
    class Decaying(Descent):
        decay: float = 0.1

        @staticmethod
        def update(parameter, gradient, learning_rate, decay):
            return parameter - learning_rate * (gradient + decay * parameter)

    class Forgotten(Descent):
        @staticmethod
        def update(parameter, gradient):
            return parameter

    assert optimizer_spec(Decaying).hyperparameters == ("learning_rate", "decay")
    np.testing.assert_allclose(
        Updates(Decaying(1.0), [np.ones(1)]).apply([np.ones(1)], [np.ones(1)])[0], [-0.1]
    )
    with pytest.raises(DefinitionError, match="lacks @optimizer"):
        optimizer_spec(Forgotten)


@pytest.mark.parametrize("thing", [3, "SGD", None, object, dict])
def test_what_is_no_optimizer_is_refused(thing):
    with pytest.raises(DefinitionError, match="is no optimizer"):
        optimizer_spec(thing)


# Updates


def test_updates_remember_the_state_of_every_parameter():
    parameters = [np.array([1.0]), np.array([[10.0]])]
    updates = Updates(Averaging(rate=0.5), parameters)

    once = updates.apply(parameters, [np.array([1.0]), np.array([[2.0]])])
    twice = updates.apply(once, [np.array([1.0]), np.array([[2.0]])])

    np.testing.assert_allclose(once[0], [1 - 0.75])
    np.testing.assert_allclose(twice[0], [1 - 0.75 - 0.875])
    np.testing.assert_allclose(once[1], [[10 - 1.25]])
    assert [float(count) for _, count in updates.states] == [3, 3]


def test_updates_are_pure():
    parameter, gradient = np.ones(2), np.ones(2)
    parameter.flags.writeable = gradient.flags.writeable = False

    (new,) = Updates(Descent(), [parameter]).apply([parameter], [gradient])

    np.testing.assert_array_equal(new, [0.5, 0.5])


def test_a_parameter_without_gradient_stays_with_its_state():
    parameters = [np.ones(1), np.ones(1)]
    updates = Updates(Averaging(), parameters)

    new = updates.apply(parameters, [None, np.ones(1)])

    assert new[0] is parameters[0]
    assert [float(count) for _, count in updates.states] == [0, 1]


def in_order(parameter, gradient, learning_rate):
    return parameter - learning_rate * gradient


def shuffled(learning_rate, gradient, parameter):
    return parameter - learning_rate * gradient


def keyword_only(gradient, *, learning_rate, parameter):
    return parameter - learning_rate * gradient


@pytest.mark.parametrize("update", [in_order, shuffled, keyword_only])
@pytest.mark.parametrize("rate", [0.5, lambda step: 0.5], ids=["number", "schedule"])
def test_update_is_given_what_it_asks_for_by_name_in_any_order(update, rate):
    Made = make(fields={"learning_rate": object}, update=update)

    (new,) = Updates(Made(rate), [np.ones(1)]).apply([np.ones(1)], [np.full(1, 4.0)])

    np.testing.assert_array_equal(new, [-1])


def test_schedules_get_the_steps_done_and_step_counts_from_one():
    told = []

    def update(parameter, gradient, step, rate):
        told.append((step, rate))
        return parameter

    Made = make(fields={"rate": object}, update=update)
    updates = Updates(Made(lambda done: done * 10), [np.ones(1)])
    for _ in range(3):
        updates.apply([np.ones(1)], [np.ones(1)])

    assert told == [(1, 0), (2, 10), (3, 20)]


def test_schedules_are_protocols():
    assert isinstance(lambda step: 0.1, mf.Schedule)
    assert not isinstance(0.1, mf.Schedule)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_an_update_cannot_change_the_dtype_of_a_parameter(dtype):
    updates = Updates(Descent(np.float64(0.5)), [np.ones(2, dtype)])

    (new,) = updates.apply([np.ones(2, dtype)], [np.ones(2, dtype)])

    np.testing.assert_array_equal(new, np.full(2, 0.5, dtype), strict=True)


@pytest.mark.parametrize(
    "returned", [np.ones(3), np.ones((1, 2)), np.float64(1), None, 1.0, [1.0, 1.0]], ids=repr
)
def test_an_update_that_returns_no_such_parameter_is_an_error(returned):
    Made = make(update=lambda parameter, gradient: returned)

    with pytest.raises(ExecutionError, match=r"update of Made returned .* of shape \(2,\)"):
        Updates(Made(), [np.ones(2)]).apply([np.ones(2)], [np.ones(2)])


@pytest.mark.parametrize("returned", [np.ones(2), [np.ones(2), ()], (np.ones(2),), None], ids=repr)
def test_an_update_with_state_must_return_parameter_and_state(returned):
    Made = make(init=lambda parameter: (), update=lambda parameter, gradient, state: returned)
    updates = Updates(Made(), [np.ones(2)])

    with pytest.raises(ExecutionError, match=r"Made must return \(parameter, state\)"):
        updates.apply([np.ones(2)], [np.ones(2)])
    assert updates.states == [()]
