"""``miniflow packs doctor``: each pack's state, what is wrong, what mends it, and the exit status."""

from __future__ import annotations

import json
from types import ModuleType, SimpleNamespace

import click
import numpy as np
import pytest
from click.testing import CliRunner

import mfcore as mf
from miniflow.cli import main


def plugin(**hooks):
    made = ModuleType("plugin")
    for name, result in hooks.items():

        def implementation(result=result):
            if isinstance(result, BaseException):
                raise result
            return result

        setattr(made, name, mf.hookimpl(implementation))
    return made


def entry_point(name, loaded=None, *, value=None, dist=None, requires=(), origin=None):
    """Return an entry point that loads as a plugin, raises an error, or calls a function."""

    def load():
        if isinstance(loaded, BaseException):
            raise loaded
        return loaded() if callable(loaded) else loaded or ModuleType(name)

    found = SimpleNamespace(
        name=dist or f"{name}-dist",
        version="2.5",
        requires=list(requires),
        read_text={"direct_url.json": origin and json.dumps(origin)}.get,
    )
    return SimpleNamespace(name=name, value=value or f"{name}.pack", dist=found, load=load)


def operation(name, **options):
    body = {"__annotations__": {"x": mf.Node}, "forward": staticmethod(lambda x: x * 1.0)}
    return mf.operation(**options)(type(name, (mf.Node,), body))


@pytest.fixture
def doctor(tmp_path, monkeypatch):
    """Run the command on the given entry points, in an empty folder."""
    for variable in ("MINIFLOW_AUTOLOAD", "MINIFLOW_DISABLE", "MINIFLOW_PACKS", "MINIFLOW_STRICT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*entry_points, arguments=(), **options):
        registry = mf.Registry(entry_points=lambda: entry_points, **options)
        with mf.registry.using(registry):
            return CliRunner().invoke(main, ["packs", "doctor", *arguments], catch_exceptions=False)

    return run


@pytest.fixture
def diagnosis(doctor):
    """Run the command with ``--json``; return its exit status and what it printed."""

    def run(*entry_points, **options):
        result = doctor(*entry_points, arguments=["--json"], **options)
        return result.exit_code, json.loads(result.stdout)

    return run


def test_all_is_well(doctor):
    result = doctor(entry_point("good", plugin(mf_operations=[operation("Fine")])))

    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()[:2]] == [
        ["loaded", "good", "good-dist", "2.5"],
        ["loaded", "mfcore", "mfcore", mf.__version__],
    ]
    assert result.stdout.endswith("\nall is well\n")
    assert result.stderr == ""


def test_the_packs_of_this_repository_are_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with mf.registry.using(mf.Registry()):
        result = CliRunner().invoke(main, ["packs", "doctor", "--json"], catch_exceptions=False)

    found = json.loads(result.stdout)
    nn = next(pack for pack in found["packs"] if pack["name"] == "mfops_nn")
    assert nn["status"] == "loaded"
    assert "Linear" in nn["provides"]["operation"]


def test_each_state_is_told_with_its_reason(diagnosis):
    code, found = diagnosis(
        entry_point("good"),
        entry_point("broken", ZeroDivisionError("deep inside")),
        entry_point("off"),
        entry_point("twin", dist="one"),
        entry_point("twin", dist="two"),
        entry_point("future", requires=["mfcore>=9"]),
        disabled=["off"],
    )

    assert code == 1
    assert found["ok"] is False
    assert {pack["name"]: pack["status"] for pack in found["packs"]} == {
        "mfcore": "loaded",
        "good": "loaded",
        "broken": "quarantined",
        "off": "disabled",
        "twin": "conflict",
        "future": "incompatible",
    }
    problems = {problem["pack"]: problem for problem in found["problems"]}
    assert set(problems) == {"broken", "twin", "future"}
    assert "is quarantined: ZeroDivisionError: deep inside" in problems["broken"]["what"]
    assert "is in conflict: several distributions provide" in problems["twin"]["what"]
    assert "is out of range: it was made for mfcore >=9" in problems["future"]["what"]
    assert found["notes"] == ["pack off (off-dist 2.5) is not used: disabled in code"]


def test_a_failure_is_shown_with_its_traceback_unless_that_is_not_wanted(doctor):
    def fails():
        raise ZeroDivisionError("deep inside")

    shown = doctor(entry_point("broken", fails))
    brief = doctor(entry_point("broken", fails), arguments=["--no-traceback"])

    assert "  Traceback (most recent call last)" in shown.stdout
    assert "in fails" in shown.stdout
    assert "Traceback" not in brief.stdout
    assert "ZeroDivisionError: deep inside" in brief.stdout
    assert shown.exit_code == brief.exit_code == 1
    assert shown.stdout.endswith("\n1 problem\n")


LACKS = ModuleNotFoundError("No module named 'mine'", name="mine")


@pytest.mark.parametrize(
    ("entry_points", "mends"),
    [
        ([entry_point("a", OSError("oh"))], ["python -m pip install --upgrade a-dist"]),
        (
            [entry_point("a", LACKS, value="mine:pack")],
            ["python -m pip install --force-reinstall a-dist"],
        ),
        ([entry_point("a", LACKS)], ["python -m pip install --upgrade a-dist"]),
        (
            [entry_point("a", ModuleNotFoundError("numpy.x", name="numpy.x"), dist="mfcore")],
            ['python -m pip install "numpy'],
        ),
        (
            [entry_point("a", dist="one"), entry_point("a", dist="two")],
            ["python -m pip uninstall one", "python -m pip uninstall two"],
        ),
        ([entry_point("mfcore", dist="rogue")], ["python -m pip uninstall rogue"]),
        (
            [entry_point("a", requires=["mfcore<0.0.1"])],
            ["python -m pip install --upgrade a-dist"],
        ),
    ],
    ids=[
        "fails",
        "its own module is missing",
        "a module that it does not require is missing",
        "a module that it requires is missing",
        "two of one name",
        "the core's name",
        "made for another core",
    ],
)
def test_the_command_that_mends_a_pack_is_told(diagnosis, doctor, entry_points, mends):
    _, found = diagnosis(*entry_points)
    told = doctor(*entry_points)

    (problem,) = found["problems"]
    for mend, expected in zip(problem["mend"], mends, strict=False):
        assert mend.startswith(expected)
    assert len(problem["mend"]) >= len(mends)
    assert f"to mend it: {problem['mend'][0]}" in told.stdout


EDITABLE = {"url": "file:///home/ann/my%20pack", "dir_info": {"editable": True}}
FOLDER = {"url": "file:///home/ann/pack", "dir_info": {}}
GIT = {"url": "https://example.org/a.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
BRANCH = {**GIT, "vcs_info": {**GIT["vcs_info"], "requested_revision": "main"}}
WHEEL = {"url": "https://example.org/a-2.5-py3-none-any.whl", "archive_info": {}}


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        (EDITABLE, "--editable '/home/ann/my pack'"),
        (FOLDER, "/home/ann/pack"),
        (GIT, "--force-reinstall 'a-dist @ git+https://example.org/a.git@abc'"),
        (BRANCH, "--force-reinstall 'a-dist @ git+https://example.org/a.git@main'"),
        (WHEEL, "--force-reinstall 'a-dist @ https://example.org/a-2.5-py3-none-any.whl'"),
        ([], "--upgrade a-dist"),
        ({"url": 3}, "--upgrade a-dist"),
    ],
)
def test_what_came_from_elsewhere_is_not_looked_for_in_an_index(diagnosis, origin, source):
    _, found = diagnosis(entry_point("a", OSError("oh"), origin=origin))

    ((mend, leave_out),) = [problem["mend"] for problem in found["problems"]]
    assert (
        mend.removeprefix("correct it where it comes from, then ")
        == f"python -m pip install {source}"
    )
    assert leave_out.startswith('add "a" to disabled')


def test_a_missing_module_is_of_what_the_distribution_requires_and_lacks(
    tmp_path, monkeypatch, diagnosis
):
    """The module yaml is of the distribution PyYAML: its name says nothing."""
    info = tmp_path / "a_dist-2.5.dist-info"
    info.mkdir()
    required = [
        "numpy>=2",
        "no-such-distribution >=1",
        "other-one; python_version<'3'",
        "x; extra == 'y'",
    ]
    lines = ["Metadata-Version: 2.1", "Name: a-dist", "Version: 2.5"]
    (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {r}" for r in required)]))
    monkeypatch.syspath_prepend(tmp_path)

    _, found = diagnosis(entry_point("a", LACKS))

    assert found["problems"][0]["mend"][0] == 'python -m pip install "no-such-distribution >=1"'


def test_no_command_installs_what_only_bears_the_name_of_a_missing_module(diagnosis):
    _, found = diagnosis(entry_point("a", LACKS))

    assert not any("mine" in mend for problem in found["problems"] for mend in problem["mend"])


def test_a_pack_that_a_setting_asks_for_and_is_not_installed_is_a_problem(diagnosis, monkeypatch):
    monkeypatch.setenv("MINIFLOW_PACKS", "good,absent")

    code, found = diagnosis(entry_point("good"), entry_point("other"), entry_point("third"))

    assert code == 1
    (problem,) = found["problems"]
    assert problem["what"] == "no pack absent is installed, and MINIFLOW_PACKS asks for it"
    assert problem["mend"] == [
        "python -m pip install absent",
        "take absent out of MINIFLOW_PACKS",
    ]
    assert found["notes"] == [
        "packs other (other-dist 2.5), third (third-dist 2.5) are not used: "
        "not among the packs of MINIFLOW_PACKS"
    ]


def test_a_bad_project_file_is_a_problem_and_no_crash(doctor, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.miniflow]\npacks = 3\n")

    result = doctor(entry_point("good"))

    assert result.exit_code == 1
    assert "tool.miniflow.packs must be a list of names of packs, and is int" in result.stdout


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["packs"], 2), (["no"], 2)])
def test_a_bad_project_file_is_an_error_of_other_commands(tmp_path, monkeypatch, arguments, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.miniflow]\npacks = 3\n")

    with mf.registry.using(mf.Registry()):
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)

    assert result.exit_code == code
    assert "tool.miniflow.packs must be a list of names of packs" in result.stderr


def test_no_autoload_is_a_note(diagnosis):
    code, found = diagnosis(entry_point("good"), autoload=False)

    assert code == 0
    assert [pack["name"] for pack in found["packs"]] == ["mfcore"]
    assert "installed packs are not looked for" in found["notes"][0]


def test_disabling_what_is_not_installed_is_a_note(diagnosis):
    code, found = diagnosis(entry_point("good"), disabled=["gone"])

    assert code == 0
    assert found["notes"] == ["code disables gone, which is not installed"]


def test_a_short_name_of_two_packs_is_a_note_and_a_function_of_two_a_problem(diagnosis):
    one, two = operation("Root", ufunc=np.cbrt), operation("Root", ufunc=np.cbrt)

    code, found = diagnosis(
        entry_point("a", plugin(mf_operations=[one])),
        entry_point("b", plugin(mf_operations=[two])),
    )

    assert code == 1
    assert [problem["what"].partition(":")[0] for problem in found["problems"]] == [
        "np.cbrt on nodes is claimed by a.Root, b.Root"
    ]
    assert found["notes"] == [
        "the operation 'Root' is provided by several packs: use a qualified name, a.Root or b.Root"
    ]


def test_a_command_that_is_skipped_is_a_problem_and_the_others_are_listed(diagnosis):
    code, found = diagnosis(
        entry_point("a", plugin(mf_commands=[click.Command("train"), click.Command("greet")])),
        entry_point("b", plugin(mf_commands=RuntimeError("boom"))),
    )

    assert code == 1
    assert found["packs"][0]["provides"]["command"] == ["greet"]
    raises, clashes = found["problems"]
    assert raises["what"] == "pack b: its commands are skipped: RuntimeError: boom"
    assert raises["pack"] == "b"
    assert raises["traceback"].startswith("Traceback (most recent call last):\n  File")
    assert "in implementation" in raises["traceback"]
    assert raises["mend"] == ["python -m pip install --upgrade b-dist"]
    assert (
        clashes["what"] == "pack a: its command 'train' is skipped: miniflow has one of that name"
    )
    assert clashes["traceback"] == ""


def test_a_strict_registry_is_examined_whole_and_stays_strict(doctor, monkeypatch):
    monkeypatch.setenv("MINIFLOW_STRICT", "1")
    registry = mf.Registry(
        entry_points=lambda: [entry_point("a", OSError("one")), entry_point("b", OSError("two"))]
    )
    with mf.registry.using(registry):
        result = CliRunner().invoke(main, ["packs", "doctor"], catch_exceptions=False)

    assert "OSError: one" in result.stdout
    assert "OSError: two" in result.stdout
    assert result.stdout.endswith("2 problems\n")
    assert registry.strict is True


def test_what_a_pack_prints_while_it_is_imported_does_not_spoil_the_json(doctor):
    def chatty():
        print("hello from the pack")
        return ModuleType("chatty")

    result = doctor(entry_point("chatty", chatty), arguments=["--json"])

    assert json.loads(result.stdout)["ok"] is True
    assert "hello from the pack" in result.stderr


def test_packs_alone_still_lists():
    with mf.registry.using(mf.Registry(autoload=False)):
        alone = CliRunner().invoke(main, ["packs"], catch_exceptions=False)
        wrong = CliRunner().invoke(main, ["packs", "surgeon"], catch_exceptions=False)

    assert alone.exit_code == 0
    assert "1 engine: reference" in alone.stdout
    assert wrong.exit_code == 2
