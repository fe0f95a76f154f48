"""Checks of whole packs: in one line, with what their manifests say."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from wrong_operations import ClimbsInsteadOfDescending, Twice

import mfcore as mf
from mfcore import manifest
from mfcore.testing import CheckError, check_operation, pack_checks
from miniflow.cli import main


def returning(classes, hook):
    def function():
        return classes

    function.__name__ = hook
    return mf.hookimpl(function)


@pytest.fixture
def pack():
    """A pack of one operation and one optimizer, which is the only one there is."""
    registry = mf.Registry(autoload=False, disabled=())
    module = SimpleNamespace(
        mf_operations=returning([Twice], "mf_operations"),
        mf_optimizers=returning([ClimbsInsteadOfDescending], "mf_optimizers"),
    )
    pack = registry.register(module, "mfops_mine")
    pack.version = "1.0"
    with mf.registry.using(registry):
        yield pack


def carry(pack, **changes):
    """Let a pack carry a manifest, as its distribution would."""
    content = json.loads(manifest.write(pack))
    content["packs"][pack.name] |= changes
    pack._read = lambda file: json.dumps(content) if file == manifest.FILE else None


def found_of(pack):
    (check,) = [check for check in pack_checks(pack.name) if check.kind == "manifest"]
    return check


def test_all_of_a_pack_is_checked_in_one_line(pack):
    assert [(check.kind, str(check)) for check in pack_checks("mfops_mine")] == [
        ("operation", "mfops_mine.Twice"),
        ("optimizer", "mfops_mine.ClimbsInsteadOfDescending"),
        ("manifest", "mfops_mine"),
    ]


def test_a_pack_may_do_without_a_manifest(pack):
    report = found_of(pack)()

    assert report["manifest"].status == "not applicable"
    assert report["manifest"].message.startswith("the pack carries no manifest")


def test_a_manifest_that_is_right_passes(pack):
    carry(pack)

    assert found_of(pack)()["manifest"].status == "passed"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"operation": {}}, "operation Twice is left out"),
        ({"operation": {"Twice": "somewhere:Twice"}}, "operation Twice is said to be somewhere"),
        ({"listens": True}, "whether it listens is said to be True"),
        ({"listens": None}, "is not used: it does not say whether the pack listens"),
    ],
)
def test_a_manifest_that_is_wrong_is_caught(pack, changes, told):
    carry(pack, **changes)

    with pytest.raises(CheckError, match=told):
        found_of(pack)()


def test_every_slip_of_a_manifest_is_told(pack):
    carry(pack, operation={"Thrice": "somewhere:Thrice"}, listens=True)

    told = found_of(pack).examine()["manifest"].message.splitlines()

    assert [line.partition(": ")[2].split(" is ")[0] for line in told] == [
        "operation Thrice",
        "operation Twice",
        "whether it listens",
    ]


def test_the_command_checks_manifests(pack):
    carry(pack, operation={})

    done = CliRunner().invoke(main, ["check", "mfops_mine"], env={"COLUMNS": "200"})

    assert done.exit_code == 1
    assert "mfops_mine, manifest: the manifest of pack mfops_mine: operation Twice" in done.stdout
    assert "2 operations and optimizers, 1 manifest: " in done.stdout


def test_what_provides_nothing_but_a_tracer_is_checked_if_it_carries_a_manifest(pack):
    class Quiet:
        name = "quiet"

    registry = mf.registry.current()
    tracers = SimpleNamespace(mf_tracers=returning([Quiet], "mf_tracers"))
    other = registry.register(tracers, "mfquiet")
    with pytest.raises(LookupError, match="'mfquiet' provides no operation"):
        pack_checks("mfquiet")
    other._read = lambda file: "{}"

    (check,) = pack_checks("mfquiet")

    assert check.examine()["manifest"].status == "failed"


def test_a_broken_pack_that_nobody_asked_for_is_not_told_of():
    broken = EntryPoint("mfops_broken", "there_is_no_such_module", "mfcore")
    registry = mf.Registry(entry_points=lambda: [broken], disabled=(), strict=False)

    with mf.registry.using(registry):  # where a warning would be an error
        assert check_operation(Twice).ok
