"""Which installed packs are used: code before the environment before the project's file."""

from __future__ import annotations

import types

import pytest

import mfcore as mf
from mfcore import settings
from mfcore.errors import SettingsError, UnknownNameError
from mfcore.registry import Registry


class EntryPoint:
    def __init__(self, name):
        self.name, self.value = name, f"{name}.pack"
        self.dist = types.SimpleNamespace(name=f"{name}-dist", version="1.0", requires=[])

    def load(self):
        return types.ModuleType(self.name)


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """Work in an empty folder, without settings; return what writes its file."""
    for variable in ("MINIFLOW_AUTOLOAD", "MINIFLOW_DISABLE", "MINIFLOW_PACKS", "MINIFLOW_STRICT"):
        monkeypatch.delenv(variable, raising=False)
    work = tmp_path / "project" / "deep" / "inside"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)

    def write(text, folder=work.parents[1]):
        file = folder / "pyproject.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def registry(**options):
    return Registry(entry_points=lambda: [EntryPoint("alpha"), EntryPoint("beta")], **options)


def used(found):
    """The installed packs in use, and why the others are not."""
    packs = [pack for pack in found.packs() if pack.distribution != "mfcore"]
    return {p.name for p in packs if p.enabled}, {p.name: p.reason for p in packs if not p.enabled}


def test_without_settings_all_packs_are_used():
    assert used(registry()) == ({"alpha", "beta"}, {})


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ('packs = ["alpha"]', {"alpha"}),
        ('packs = ["Beta.Dist"]', {"beta"}),
        ('packs = ["alpha", "elsewhere"]', {"alpha"}),
        ("packs = []", set()),
        ('disabled = ["alpha"]', {"beta"}),
        ('disabled = ["alpha-dist", "beta"]', set()),
        ('packs = ["alpha", "beta"]\ndisabled = ["beta"]', {"alpha"}),
        ("disabled = []", {"alpha", "beta"}),
    ],
)
def test_the_file_of_a_folder_above_says_which_packs_are_used(project, table, names):
    file = project(f"[tool.miniflow]\n{table}\n")

    enabled, reasons = used(registry())

    assert enabled == names
    assert all(str(file) in reason for reason in reasons.values())


@pytest.mark.parametrize(
    ("code", "environment", "file", "names"),
    [
        (["alpha"], "beta", ["beta"], {"alpha"}),
        ([], "beta", ["beta"], set()),
        (None, "beta", ["alpha"], {"beta"}),
        (None, "", ["alpha"], {"alpha", "beta"}),
        (None, None, ["alpha"], {"alpha"}),
        (None, " beta ,alpha-dist,", [], {"alpha", "beta"}),
    ],
)
def test_packs_are_those_of_code_then_environment_then_file(
    project, monkeypatch, code, environment, file, names
):
    project(f"[tool.miniflow]\npacks = {file}\n")
    if environment is not None:
        monkeypatch.setenv("MINIFLOW_PACKS", environment)

    assert used(registry(packs=code))[0] == names


@pytest.mark.parametrize(
    ("code", "environment", "file", "names"),
    [
        (["alpha"], "beta", ["beta"], {"beta"}),
        ([], "beta", ["beta"], {"alpha", "beta"}),
        (None, "beta", ["alpha"], {"alpha"}),
        (None, "", ["alpha"], {"alpha", "beta"}),
        (None, None, ["alpha"], {"beta"}),
    ],
)
def test_disabled_are_those_of_code_then_environment_then_file(
    project, monkeypatch, code, environment, file, names
):
    project(f"[tool.miniflow]\ndisabled = {file}\n")
    if environment is not None:
        monkeypatch.setenv("MINIFLOW_DISABLE", environment)

    assert used(registry(disabled=code))[0] == names


def test_each_pack_that_is_left_out_says_by_whom(project, monkeypatch):
    file = project('[tool.miniflow]\ndisabled = ["beta"]\n')
    monkeypatch.setenv("MINIFLOW_PACKS", "beta")
    found = registry()

    assert used(found)[1] == {
        "alpha": "not among the packs of MINIFLOW_PACKS",
        "beta": f"disabled by tool.miniflow.disabled of {file}",
    }
    with pytest.raises(UnknownNameError, match="not among the packs of MINIFLOW_PACKS"):
        found.operation("alpha.Linear")


def test_disabling_in_code_adds_to_what_the_file_disables(project):
    project('[tool.miniflow]\ndisabled = ["beta"]\n')
    found = registry()

    found.disable("alpha")

    assert used(found)[0] == set()


def test_no_autoload_in_code_or_environment_outdoes_any_choice_of_packs(project, monkeypatch):
    project('[tool.miniflow]\npacks = ["alpha"]\n')

    assert used(registry(autoload=False)) == (set(), {})
    monkeypatch.setenv("MINIFLOW_AUTOLOAD", "0")
    assert used(registry(packs=["alpha"])) == (set(), {})
    assert used(registry(autoload=True))[0] == {"alpha"}


def test_the_core_and_what_is_registered_in_code_are_not_the_files_to_leave_out(project):
    project('[tool.miniflow]\npacks = []\ndisabled = ["mine"]\n')
    found = registry()
    found.register(types.ModuleType("mine"), "mine")

    assert [pack.name for pack in found.packs() if pack.enabled] == ["mfcore", "mine"]
    assert found.engine("reference") is mf.registry.Registry(autoload=False).engine("reference")


def test_the_nearest_file_with_the_table_counts_alone(project, tmp_path):
    project('[tool.miniflow]\ndisabled = ["alpha"]\n')
    project('[tool.miniflow]\npacks = ["alpha"]\n', tmp_path)
    project("[project]\nname = 'miniflow'\n", tmp_path / "project" / "deep" / "inside")

    assert used(registry())[0] == {"beta"}


def test_the_file_is_read_at_the_first_look_up_and_then_no_more(project):
    found = registry()
    file = project('[tool.miniflow]\npacks = ["alpha"]\n')
    assert used(found)[0] == {"alpha"}

    file.write_text("[tool.miniflow]\npacks = 3\n", encoding="utf-8")

    assert used(found)[0] == {"alpha"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool]\nminiflow = 3", r"tool\.miniflow must be a table, and is int"),
        (
            '[tool.miniflow]\npacks = "alpha"',
            r"tool\.miniflow\.packs must be a list of names of packs, and is str",
        ),
        ("[tool.miniflow]\ndisabled = true", r"tool\.miniflow\.disabled must be a list .* is bool"),
        (
            '[tool.miniflow]\npacks = ["alpha", 3]',
            r"tool\.miniflow\.packs\[1\] must be the name of a pack, and is 3",
        ),
        (
            '[tool.miniflow]\ndisabled = [" "]',
            r"tool\.miniflow\.disabled\[0\] must be the name of a pack, and is ' '",
        ),
        (
            "[tool.miniflow]\ndisable = []",
            r"tool\.miniflow\.disable is no setting; there are packs and disabled",
        ),
        ("[tool.miniflow]\npacks = [", "is no TOML: "),
    ],
)
def test_what_a_file_cannot_say_is_an_error_that_names_file_and_key(project, text, message):
    file = project(text)
    found = registry()

    for _ in range(2):  # a registry is not left half-scanned by the error
        with pytest.raises(SettingsError, match=message) as raised:
            found.packs()
        assert str(file) in str(raised.value)


def test_bytes_that_are_no_text_are_an_error_too(project):
    file = project("")
    file.write_bytes(b"[tool.miniflow]\npacks = ['\xff']\n")

    with pytest.raises(SettingsError, match=r"pyproject\.toml is no TOML"):
        settings.from_project()


def test_a_folder_of_the_files_name_is_passed_over(project, tmp_path):
    project('[tool.miniflow]\npacks = ["alpha"]\n', tmp_path)
    (tmp_path / "project" / "pyproject.toml").mkdir()

    assert settings.from_project()["packs"].names == ("alpha",)


def test_a_removed_working_directory_has_no_file(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert settings.from_project() == {}


QUIET = """
import sys
import mfcore as mf
registry = mf.registry.Registry()
assert "tomllib" not in sys.modules, "read before the first look-up"
registry.packs()
print("tomllib" in sys.modules)
"""


@pytest.mark.parametrize(
    ("text", "imported"),
    [("[project]\nname = 'other'\n", False), ("[tool.miniflow]\npacks = ['mfops_nn']\n", True)],
)
def test_toml_is_read_at_the_first_look_up_of_files_that_mention_miniflow(
    project, fresh_python, text, imported
):
    project(text)

    assert fresh_python(QUIET).strip() == str(imported)
