"""The conformance kit: each wrong operation is caught by its check, and ours are found right."""

from __future__ import annotations

import re
from types import SimpleNamespace

import attrs
import numpy as np
import pytest
from wrong_operations import (
    OPERATIONS,
    OPTIMIZERS,
    ClimbsInsteadOfDescending,
    ForgetsNesterov,
    RightAfterAll,
    Twice,
    WrongInOneElement,
)

import mfcore as mf
import mfops_basic
import mfops_nn
import mfoptim
from mfcore.reference import ReferenceEngine
from mfcore.testing import (
    OPERATION_CHECKS,
    OPTIMIZER_CHECKS,
    CheckError,
    Examination,
    check_operation,
    check_optimizer,
    examine_operation,
    examine_optimizer,
    operation_checks,
    pack_checks,
    samples_of,
)


def _shown(part):
    return part if isinstance(part, str) else part.__name__


@pytest.fixture(scope="module")
def wrong_pack():
    """A pack of all wrong operations: a file names the pack of an operation."""
    pack = SimpleNamespace(mf_operations=mf.hookimpl(lambda: [cls for _, cls in OPERATIONS]))
    pack.mf_operations.__name__ = "mf_operations"
    registry = mf.Registry(disabled=())
    registry.register(pack, "wrong_operations")
    return registry


@pytest.mark.parametrize(("check", "operation"), OPERATIONS, ids=_shown)
def test_a_wrong_operation_is_caught_by_the_check_meant_for_it(check, operation, wrong_pack):
    with mf.registry.using(wrong_pack):
        outcome = Examination.of_operation(operation).outcome(check)

    assert outcome.status == "failed", outcome


@pytest.mark.parametrize(("check", "optimizer"), OPTIMIZERS, ids=_shown)
def test_a_wrong_optimizer_is_caught_by_the_check_meant_for_it(check, optimizer):
    outcome = Examination.of_optimizer(optimizer).outcome(check)

    assert outcome.status == "failed", outcome


def test_a_wrong_operation_is_no_right_one():
    report = examine_operation(WrongInOneElement)

    assert [outcome.check for outcome in report.failures] == ["gradients"]
    assert not report.ok


def test_every_check_has_a_wrong_operation_or_optimizer_that_it_catches():
    assert {check for check, _ in OPERATIONS} >= set(OPERATION_CHECKS)
    assert {check for check, _ in OPTIMIZERS} >= set(OPTIMIZER_CHECKS)
    assert len(OPERATIONS) + len(OPTIMIZERS) >= 25


@pytest.mark.parametrize("check", pack_checks("mfops_basic", "mfops_nn", "mfoptim"), ids=str)
def test_our_packs_conform(check):
    check()


def test_a_wrong_gradient_is_told_with_input_element_and_both_numbers():
    with pytest.raises(CheckError, match=r"gradient of x is wrong, most of all at x\[2\]") as error:
        check_operation(WrongInOneElement)

    (x,) = samples_of(WrongInOneElement)[0].inputs
    grad = np.random.default_rng(3).normal(size=3)
    told = str(error.value)
    assert f"backward says {2.002 * x[2] * grad[2]:.8g}" in told
    assert f"differences say {2 * x[2] * grad[2]:.5g}"[:-1] in told


def test_a_report_counts_what_ran_and_says_what_did_not_apply():
    report = check_operation(Twice)

    counts = report.counts()
    assert counts["failed"] == counts["expected"] == 0
    checks = {outcome.check for outcome in report.outcomes}
    assert checks >= {"samples", *OPERATION_CHECKS, "engine mfjit.numpy"}
    assert counts["passed"] + counts["not applicable"] == len(checks) == len(report.outcomes)
    assert report["same node twice"].message == "its samples have no two inputs that are alike"
    assert str(report).startswith(f"{counts['passed']} checks passed (")


def test_an_expected_failure_is_no_failure_and_says_why():
    report = check_operation(WrongInOneElement, expected={"gradients": "to show it"})

    assert report["gradients"].status == "expected"
    assert report["gradients"].message == "to show it"


def test_an_expected_failure_that_passes_is_a_failure():
    with pytest.raises(CheckError, match=r"was wrong once\), but passes: expect it no longer"):
        check_operation(RightAfterAll)


def test_an_expected_failure_of_what_does_not_apply_is_a_failure():
    with pytest.raises(CheckError, match=r"\(so\), but does not apply"):
        check_operation(Twice, expected={"broadcasting": "so"})


def test_an_expected_failure_of_an_unknown_check_is_a_failure():
    with pytest.raises(CheckError, match="'gradient' is expected, but there is no such check"):
        check_operation(Twice, expected={"gradient": "a slip"})


def test_an_error_in_the_pack_is_told_with_its_line():
    @mf.operation
    class Slip(mf.Node):
        x: mf.Node

        @staticmethod
        def forward(x):
            return x * 2

        @staticmethod
        def backward(grad):
            return (grad * np.no_such_number,)

    report = examine_operation(Slip)

    line = Slip.backward.__code__.co_firstlineno + 2  # after the decorator and def
    assert f" ({__file__}:{line}, in backward)" in report["gradient form"].message
    assert report["gradient form"].message.startswith("AttributeError: module 'numpy' has no")


def test_an_engine_that_is_not_installed_does_not_apply():
    report = check_operation(Twice, engines=["mfnone.fast"])

    assert report["engine mfnone.fast"].status == "not applicable"
    assert report["engine mfjit.numpy"].message == "not compared: it was not asked for"


def test_engines_that_compile_at_once_are_compared_and_the_others_named():
    report = check_operation(Twice)

    samples = report["samples"].cases
    assert report["engine mfjit.numpy"].cases == samples
    assert report["engine mfjit.numba"].status == "not applicable"
    assert report["engine mfjit.numba"].message.startswith("not compared: it compiles slowly")


def test_without_engines_the_report_says_that_none_was_compared():
    with mf.registry.using(mf.Registry(autoload=False, disabled=())):
        report = examine_operation(Twice)

    assert report["engine"].message == "not compared: none but the reference is installed"


def test_what_an_engine_refuses_by_an_error_of_its_own_is_told_and_no_failure():
    class Lazy(ReferenceEngine):
        name = "lazy"
        slow = True
        refused = (0.5,)

        def compile(self, graph):
            if graph.outputs[0].factor in self.refused:
                raise mf.errors.EngineError("that factor is beyond me\nat all")
            return super().compile(graph)

    pack = SimpleNamespace(mf_engines=mf.hookimpl(lambda: [Lazy]))
    pack.mf_engines.__name__ = "mf_engines"
    registry = mf.Registry(autoload=False, disabled=())
    registry.register(pack, "mflazy")
    with mf.registry.using(registry):
        some = examine_operation(Twice, engines=["all"])["engine mflazy.lazy"]
        Lazy.refused = (0.5, 1.5, 2.0)
        none = examine_operation(Twice, engines=["all"])["engine mflazy.lazy"]

    assert some.status == "passed"
    assert some.message == "it refuses 2 more runs: that factor is beyond me"
    assert none.status == "not applicable"
    assert none.message == "the engine refuses it: that factor is beyond me"


def test_engines_are_compared_in_training_where_an_operation_differs_there():
    report = examine_operation(mfops_nn.Dropout)

    assert report["engine mfjit.numpy"].cases == 2 * report["samples"].cases


def test_a_wrong_step_is_told_with_hyperparameters_element_and_both_numbers():
    told = Examination.of_optimizer(ForgetsNesterov).outcome("formula").message

    assert re.match(
        r"step 1 of ForgetsNesterov\(.*nesterov=True.*\) is not the formula's, most of all at "
        r"parameter\[\d, \d\]: update goes from \S+ to \S+, the formula to \S+$",
        told,
    )


def test_a_formula_is_told_with_its_source():
    outcome = Examination.of_optimizer(mfoptim.Adam).outcome("formula")

    assert outcome.message.startswith("Kingma and Ba (2015)")
    assert outcome.cases == 192


def test_an_optimizer_without_a_formula_is_told_how_to_state_it():
    outcome = Examination.of_optimizer(ClimbsInsteadOfDescending).outcome("formula")

    assert outcome.status == "not applicable"
    assert outcome.message.startswith("no published formula is stated: give it a static method")


@pytest.mark.parametrize(
    ("formula", "told"),
    [
        ("nowhere.at_all:sgd", "formula 'nowhere.at_all:sgd' cannot be imported"),
        (lambda theta, gradients: theta, "formula must be a static method"),
        (staticmethod(lambda theta: theta), "must take the parameter and the gradients"),
        (staticmethod(lambda theta, gradients, speed: theta), "formula asks for 'speed'"),
    ],
)
def test_a_formula_that_cannot_be_used_is_a_failure(formula, told):
    @mf.optimizer
    class Plain:
        learning_rate: float = 0.1

        @staticmethod
        def update(parameter, gradient, learning_rate):
            return parameter - learning_rate * gradient

    Plain.formula = formula

    outcome = Examination.of_optimizer(Plain).outcome("formula")

    assert outcome.status == "failed"
    assert told in outcome.message


def test_a_formula_is_of_numbers_not_of_schedules():
    class Plain:
        learning_rate: mf.Schedule = attrs.field(default=lambda step: 0.1)

        @staticmethod
        def update(parameter, gradient, learning_rate):
            return parameter - learning_rate * gradient

        @staticmethod
        def formula(x, gradients, learning_rate):
            """Robbins and Monro (1951)."""
            for g in gradients:
                x = x - learning_rate * g
                yield x

    outcome = Examination.of_optimizer(mf.optimizer(Plain)).outcome("formula")

    assert outcome.status == "not applicable"
    assert "a hyperparameter is a schedule" in outcome.message


def test_optimizers_are_checked_with_other_hyperparameters_too():
    report = examine_optimizer(mfoptim.SGD)

    assert report["samples"].cases == 12
    # The default keeps no state; with momentum there is some.
    assert report["state"].cases == 8


def test_a_pack_that_provides_nothing_is_an_error():
    with pytest.raises(LookupError, match="no loaded pack 'mfops_none' provides any operation"):
        operation_checks("mfops_none")


def test_samples_of_an_operation_are_its_own_or_found():
    own = samples_of(mfops_basic.Reshape)
    found = samples_of(mfops_basic.Log)

    assert own[0].hyperparameters == {"shape": (3, -1)}
    assert all((x > 0).all() for sample in found for x in sample.inputs)
    assert len({sample.inputs[0].shape for sample in found}) >= 3


def test_samples_are_searched_alike_each_time():
    one, two = (samples_of(mfops_basic.Log) for _ in range(2))

    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.inputs[0], b.inputs[0])


def test_the_search_changes_hyperparameters_that_have_a_default():
    settings = [sample.hyperparameters for sample in samples_of(mfops_basic.Sum)]

    assert {"axis": 1} in settings
    assert {"keepdims": True} in settings


def test_what_samples_gives_is_checked():
    @mf.operation
    class Odd(mf.Node):
        x: mf.Node

        @staticmethod
        def samples():
            return [np.ones(3)]

        @staticmethod
        def forward(x):
            return x

    with pytest.raises(CheckError, match="it must give tuples of arrays"):
        check_operation(Odd)


def test_an_optimizer_without_defaults_can_give_a_sample():
    @mf.optimizer
    class Named:
        kind: str
        learning_rate: float = 0.1

        @staticmethod
        def sample():
            return Named("plain")

        @staticmethod
        def update(parameter, gradient, learning_rate):
            return parameter - learning_rate * gradient

    report = examine_optimizer(Named)

    # A class inside of a function cannot be pickled; all else is right.
    assert [outcome.check for outcome in report.failures] == ["pickling"]
    assert check_optimizer(Named, expected={"pickling": "a local class"}).ok
