"""``miniflow check``: what it shows, and how it ends."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from wrong_operations import ClimbsInsteadOfDescending, Twice, WrongSign

import mfcore as mf
from mfcore.reference import ReferenceEngine
from mfops_basic import Cast
from miniflow.cli import main


@pytest.fixture
def check():
    """Run ``miniflow check`` where some packs are registered, beside those installed or alone."""

    def run(*arguments, alone=False, **packs):
        registry = mf.Registry(autoload=not alone, disabled=())
        for name, provided in packs.items():
            plugin = SimpleNamespace()
            for hook, classes in provided.items():
                function = lambda classes=classes: classes  # noqa: E731
                function.__name__ = hook
                setattr(plugin, hook, mf.hookimpl(_without_defaults(function)))
            registry.register(plugin, name)
        with mf.registry.using(registry):
            return CliRunner().invoke(main, ["check", *arguments], env={"COLUMNS": "200"})

    return run


def _without_defaults(function):
    def implementation():
        return function()

    implementation.__name__ = function.__name__
    return implementation


@mf.hookimpl(specname="mf_operations")
def _operations():
    return [Twice]


RIGHT = {"mf_operations": [Twice]}
WRONG = {"mf_operations": [WrongSign], "mf_optimizers": [ClimbsInsteadOfDescending]}


def test_a_right_pack_is_listed_and_counted(check):
    done = check("mfops_right", mfops_right=RIGHT)

    assert done.exit_code == 0, done.output
    assert "mfops_right.Twice" in done.stdout
    counted = r"1 operation or optimizer, 1 manifest: \d\d passed, 0 failed, "
    assert re.search(counted, done.stdout)
    told = "engines compared with the reference: mfjit.auto, mfjit.numpy; not compared: mfjit.numba"
    assert told in done.stdout


def test_a_wrong_pack_is_told_what_is_wrong_and_ends_with_1(check):
    done = check("mfops_wrong", mfops_wrong=WRONG)

    assert done.exit_code == 1
    assert "mfops_wrong.WrongSign, gradients: the gradient of x is wrong" in done.stdout
    assert "mfops_wrong.ClimbsInsteadOfDescending, convergence: " in done.stdout


def test_one_operation_of_a_pack_can_be_checked(check):
    done = check("mfops_nn.Sigmoid")

    assert done.exit_code == 0
    assert "1 operation or optimizer" in done.stdout


def test_json_holds_every_outcome(check):
    done = check("--json", "mfops_wrong", mfops_wrong=WRONG)

    found = json.loads(done.stdout)
    assert done.exit_code == 1
    assert not found["ok"]
    assert found["counts"]["failed"] == sum(o["status"] == "failed" for o in found["outcomes"])
    assert {o["subject"] for o in found["outcomes"]} == {
        "mfops_wrong.WrongSign",
        "mfops_wrong.ClimbsInsteadOfDescending",
        "mfops_wrong",
    }


def test_what_did_not_apply_and_what_passed_on_what_is_told_where_asked_for(check):
    twice = "mfops_right.Twice, same node twice: its samples have no two inputs that are alike"
    adam = "mfoptim.Adam, formula: Kingma and Ba (2015)"
    asked = ("mfops_right", "mfoptim.Adam")

    brief = check(*asked, mfops_right=RIGHT).stdout
    whole = check("--verbose", *asked, mfops_right=RIGHT).stdout

    assert (twice in brief, adam in brief) == (False, False)
    assert (twice in whole, adam in whole) == (True, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "name packs to check, or say --all"),
        (("--all", "mfops_nn"), "name packs to check, or say --all"),
        (("mfops_none",), "'mfops_none' provides no operation and no optimizer"),
        (("mftrace",), "'mftrace' provides no operation and no optimizer"),
        (("--engine", "mfnone.fast", "mfops_nn.ReLU"), "mfnone.fast"),
    ],
)
def test_what_cannot_be_checked_ends_with_2(check, arguments, told):
    done = check(*arguments)

    assert done.exit_code == 2
    assert told in done.output


def test_all_packs_are_checked_at_once(check):
    done = check("--all", alone=True, mfops_right=RIGHT, mfops_odd={"mf_operations": [Cast]})

    assert done.exit_code == 0, done.output
    assert "2 operations and optimizers, 2 manifests: " in done.stdout
    assert "mfops_right.Twice" in done.stdout
    assert "mfops_odd.Cast, dtypes: the dtype of the result is what it is asked for" in done.stdout
    assert "engines compared with the reference: none" in done.stdout


def test_all_engines_are_compared_where_they_are_asked_for(check):
    class Slow(ReferenceEngine):
        name = "slow"
        slow = True

    class Quick(ReferenceEngine):
        name = "quick"

    packs = {"mfops_right": RIGHT, "mfother": {"mf_engines": [Slow, Quick]}}
    some = check("mfops_right", alone=True, **packs).stdout
    every = check("mfops_right", "--engine", "all", alone=True, **packs).stdout
    one = check("mfops_right", "--engine", "mfother.slow", alone=True, **packs).stdout

    told = "engines compared with the reference: "
    assert f"{told}mfother.quick; not compared: mfother.slow" in some
    assert f"{told}mfother.quick, mfother.slow\n" in every
    assert f"{told}mfother.slow; not compared: mfother.quick" in one


def test_a_pack_that_cannot_be_loaded_is_not_passed_over():
    from importlib.metadata import EntryPoint

    broken = EntryPoint("mfops_broken", "there_is_no_such_module", "mfcore")
    registry = mf.Registry(entry_points=lambda: [broken], disabled=(), strict=False)
    registry.register(SimpleNamespace(mf_operations=_operations), "mfops_right")
    with mf.registry.using(registry):
        done = CliRunner().invoke(main, ["check", "--all"])

    assert done.exit_code == 1
    assert "not checked: pack mfops_broken is quarantined" in done.stdout
