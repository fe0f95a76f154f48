"""The plugin of pytest, in processes of its own: what its fixtures give, what ``--mf-pack`` runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mfcore.testing import OPERATION_CHECKS

PAGE = Path(__file__).parents[1] / "docs" / "testing-a-pack.md"

PACK = """
import mfcore as mf
import numpy as np

@mf.operation
class Twice(mf.Node):
    x: mf.Node

    @staticmethod
    def samples():
        return [(np.array([1.0, -2.0]),)]

    @staticmethod
    def forward(x):
        return x * 2

    @staticmethod
    def backward(grad):
        return (grad * 2,)

@mf.operation
class Wrong(Twice):
    expected_failures = {"layout": "so the test says", "wanted": "as well"}

    @staticmethod
    def backward(grad):
        return (grad * 3,)

@mf.hookimpl
def mf_operations():
    return [Twice, Wrong]
"""


class Project:
    """A folder to run pytest in, and installed packs beside those of this repository."""

    def __init__(self, folder: Path) -> None:
        self.site = folder / "site"
        self.folder = folder / "project"
        self.site.mkdir()
        self.folder.mkdir()
        self.write(
            "pytest.ini",
            "[pytest]\naddopts = --color=no -p no:hypothesispytest\nfilterwarnings = error\n",
        )

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def install(self, pack: str, source: str) -> None:
        metadata = self.site / f"{pack}-1.0.dist-info"
        metadata.mkdir()
        (self.site / f"{pack}.py").write_text(source, encoding="utf-8")
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {pack.replace('_', '-')}\nVersion: 1.0\n"
        )
        (metadata / "entry_points.txt").write_text(f"[mfcore]\n{pack} = {pack}\n")

    def pytest(self, *arguments: str, fails: int = 0, **environment: str) -> str:
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("MINIFLOW_", "PYTEST"))
        }
        path = os.pathsep.join([str(self.site), inherited.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "pytest", *arguments],
            cwd=self.folder,
            env={**inherited, "PYTHONPATH": path, "COLUMNS": "120", **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == fails, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def checked(project: Project) -> Project:
    """A project beside a pack, mfops_mine, of which one gradient is wrong."""
    project.install("mfops_mine", PACK)
    return project


def results(printed: str) -> dict[str, str]:
    """By id: the word for a test's result, of a run with ``-v``."""
    found = re.findall(r"(\S+::\S+) (PASSED|FAILED|SKIPPED|XFAIL|ERROR)", printed)
    return {nodeid: word for nodeid, word in found if nodeid not in ("FAILED", "ERROR")}


def summary(printed: str) -> str:
    return printed.strip().splitlines()[-1]


# Where it is not used


def test_a_start_of_pytest_imports_neither_the_core_nor_numpy(project: Project) -> None:
    project.write(
        "test_it.py",
        """
import sys

def test_it(pytestconfig):
    assert pytestconfig.pluginmanager.hasplugin("mfcore_pytest")
    assert not {"mfcore", "numpy"} & set(sys.modules)
""",
    )

    project.pytest()


def test_it_can_be_left_out(project: Project) -> None:
    project.write("test_it.py", "def test_it(mf_rng):\n    pass\n")

    printed = project.pytest("-p", "no:mfcore_pytest", fails=1)

    assert "fixture 'mf_rng' not found" in printed


# Fixtures


def test_every_test_has_a_registry_of_its_own_that_is_in_use_while_it_runs(
    checked: Project,
) -> None:
    checked.write(
        "test_it.py",
        """
from types import SimpleNamespace
import mfcore as mf
import pytest

usual = mf.registry.current()

@pytest.mark.parametrize("run", [1, 2])
def test_new(mf_registry, run):
    assert mf.registry.current() is mf_registry is not usual
    packs = {pack.name: pack.status for pack in mf_registry.packs()}
    assert packs["mfops_mine"] == "found"
    assert "mine" not in packs
    mf_registry.register(SimpleNamespace(), "mine")
    assert mf_registry.operation("mfops_mine.Twice").__name__ == "Twice"
    if run == 1:
        raise ValueError("expected")

def test_the_former_one_is_back():
    assert mf.registry.current() is usual
""",
    )

    printed = checked.pytest(fails=1)

    assert "test_new[1] - ValueError: expected" in printed
    assert "1 failed, 2 passed" in printed


def test_neither_environment_nor_project_file_choose_its_packs(checked: Project) -> None:
    checked.write("pyproject.toml", '[tool.miniflow]\npacks = ["mfops_nn"]\ndisabled = ["mfoptim"]')
    checked.write(
        "test_it.py",
        """
def test_it(mf_registry):
    packs = {pack.name: pack.status for pack in mf_registry.packs()}
    assert set(packs) > {"mfcore", "mfops_basic", "mfops_mine", "mfoptim"}
    assert set(packs.values()) <= {"loaded", "found"}
""",
    )
    elsewhere = {
        "MINIFLOW_PACKS": "mfops_nn",
        "MINIFLOW_DISABLE": "mfops_mine",
        "MINIFLOW_AUTOLOAD": "0",
        "MINIFLOW_STRICT": "0",
    }

    checked.pytest()
    checked.pytest(**elsewhere)


def test_a_pack_that_cannot_be_loaded_raises_where_it_is_needed(project: Project) -> None:
    project.install("mfops_broken", "raise ValueError('so it is')")
    project.write(
        "test_it.py",
        """
import mfcore as mf
import pytest

def test_it(mf_registry):
    assert mf_registry.operation("mfops_nn.Linear")
    with pytest.raises(mf.errors.PackError, match="pack mfops_broken .*so it is"):
        mf_registry.operation("mfops_broken.Linear")
""",
    )

    project.pytest()


NUMBERS = """
import pytest

@pytest.mark.parametrize("case", "ab")
def test_one(mf_rng, case):
    print("numbers", mf_rng.integers(2**60))

def test_other(mf_rng):
    print("numbers", mf_rng.integers(2**60))
"""


def test_random_numbers_are_those_of_the_test_in_whatever_order_and_process(
    project: Project,
) -> None:
    project.write("test_it.py", NUMBERS)

    def numbers(*arguments: str, **environment: str) -> set[str]:
        # xdist's processes print nothing: what was captured is shown with -rP.
        printed = project.pytest(*arguments, "-rP", **environment)
        return set(re.findall(r"numbers (\d+)", printed))

    alone = numbers(PYTHONHASHSEED="1")
    assert len(alone) == 3
    assert numbers("-k", "other", PYTHONHASHSEED="2") < alone
    assert numbers("-n1") == alone
    assert not numbers("--mf-seed=1") & alone


def test_a_failure_says_how_to_have_its_numbers_again(project: Project) -> None:
    project.write("test_it.py", "def test_it(mf_rng):\n    assert mf_rng.integers(2**60) < 0\n")

    printed = project.pytest("--mf-seed=3", fails=1)

    (said,) = re.findall(r"mf_rng = numpy.random.(.*)  # --mf-seed=3", printed)
    (number,) = re.findall(r"^E +assert np.int64\((\d+)\) < 0$", printed, re.MULTILINE)
    made = eval(said, {"default_rng": np.random.default_rng})
    assert made.integers(2**60) == int(number)
    assert "mf_rng: --mf-seed=3" in printed.partition("rootdir")[0]


# The checks of packs


def test_each_check_of_a_pack_is_a_test_with_its_reason(checked: Project) -> None:
    printed = checked.pytest("--mf-pack=mfops_mine", "-v", fails=1)

    found = results(printed)
    checks = {check.replace(" ", "-") for check in OPERATION_CHECKS} | {"samples"}
    assert {f"mfops_mine.Twice::{check}" for check in checks} < set(found)
    assert found["mfops_mine.Twice::gradients"] == "PASSED"
    assert found["mfops_mine.Wrong::gradients"] == "FAILED"
    assert "mfops_mine.Twice::wanted SKIPPED (backward does not ask for wanted)" in printed


def test_a_failure_is_told_in_the_words_of_the_kit_alone(checked: Project) -> None:
    printed = checked.pytest("--mf-pack=mfops_mine", "-k", "Wrong and gradients", fails=1)

    told = "the gradient of x is wrong, most of all at x["
    _, _, report = printed.partition("gradients of mfops_mine.Wrong ___")
    assert report.splitlines()[1].startswith(told)
    assert f"FAILED mfops_mine.Wrong::gradients - Failed: {told}" in printed
    assert "Traceback" not in printed
    assert "conformance.py" not in printed


def test_expected_failures_have_to_fail(checked: Project) -> None:
    source = PACK.replace('"layout": "so the test says", "wanted"', '"gradients"')
    checked.install("mfops_other", source)

    right = checked.pytest("--mf-pack=mfops_other", "-k", "Wrong and gradients", "-v")
    wrong = checked.pytest("--mf-pack=mfops_mine", "-k", "layout or wanted", "-v", fails=1)

    assert "mfops_other.Wrong::gradients XFAIL (as well)" in right
    assert "it is expected to fail (so the test says), but passes" in wrong
    assert "it is expected to fail (as well), but does not apply" in wrong


def test_what_did_not_apply_is_said_of_the_line_of_the_operation(checked: Project) -> None:
    printed = checked.pytest("--mf-pack=mfops_mine.Twice", "-rs")

    line = PACK[: PACK.index("@mf.operation")].count("\n") + 1
    assert f"SKIPPED [1] ../site/mfops_mine.py:{line}: backward does not ask for wanted" in printed


def test_failures_are_run_again(checked: Project) -> None:
    checked.write("test_it.py", "def test_it():\n    pass\n")
    first = checked.pytest("--mf-pack=mfops_mine", "-k", "gradients or test_it", "-v", fails=1)

    last = results(checked.pytest("--mf-pack=mfops_mine", "--lf", "-v", fails=1))
    named = results(checked.pytest("-v", "--mf-pack=mfops_mine", *last, fails=1))

    assert last == {k: v for k, v in results(first).items() if v == "FAILED"}
    assert named == last
    assert set(last) == {"mfops_mine.Wrong::gradients"}


def test_a_check_that_there_is_not_is_an_error_that_says_which_there_are(checked: Project) -> None:
    printed = checked.pytest("--mf-pack=mfops_mine", "mfops_mine.Twice::gradient", fails=4)

    assert "mfops_mine.Twice::gradient is no check; there are mfops_mine.Twice::samples" in printed


def test_a_folder_named_like_a_pack_is_a_folder(checked: Project) -> None:
    checked.write("mfops_mine/test_it.py", "def test_it():\n    pass\n")

    printed = checked.pytest(
        "--mf-pack=mfops_mine", "mfops_mine", "-k", "test_it or pickling", "-v"
    )

    assert "mfops_mine/test_it.py::test_it PASSED" in printed
    assert "mfops_mine.Twice::pickling PASSED" in printed


def test_checks_are_collected_and_selected_as_tests_are(checked: Project) -> None:
    printed = checked.pytest(
        *["--mf-pack", "mfops_mine", "--collect-only", "-q", "-k", "Twice and gradients"]
    )

    assert printed.splitlines()[:2] == [
        "mfops_mine.Twice::gradients",
        "mfops_mine.Twice::graph-of-gradients",
    ]


def test_checks_run_in_several_processes_and_are_in_the_file_for_machines(
    checked: Project,
) -> None:
    arguments = ["--mf-pack=mfops_mine,mfoptim.SGD", "-k", "dtypes or wanted"]

    checked.pytest(*arguments, "-n2", "--dist=loadfile", "--junit-xml=found.xml", fails=1)

    written = (checked.folder / "found.xml").read_text(encoding="utf-8")
    assert set(re.findall(r'classname="([\w.]+)" name="dtypes"', written)) == {
        "mfops_mine.Twice",
        "mfops_mine.Wrong",
        "mfoptim.SGD",
    }
    assert 'failures="1" skipped="1" tests="5"' in written
    assert re.search(r'<property name="cases" value="\d+"', written)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["mfops_none"], "'mfops_none' provides no operation and no optimizer"),
        (["mfops_empty", "-n1"], "'mfops_empty' provides no operation and no optimizer"),
        (["mfops_mine,mfops_mine.Thrice"], "'mfops_mine.Thrice' provides no"),
        (["mfops_broken"], "ValueError: so it is"),
    ],
)
def test_what_cannot_be_checked_is_an_error_that_says_what_can(
    asked: list[str], told: str, checked: Project
) -> None:
    checked.install("mfops_empty", "")
    checked.install("mfops_broken", "raise ValueError('so it is')")

    printed = checked.pytest("--mf-pack", *asked, fails=4)

    assert told in printed
    assert "packs that do: mfops_basic, mfops_mine, mfops_nn, mfoptim" in printed
    assert "INTERNALERROR" not in printed


def test_no_name_at_all_is_an_error(project: Project) -> None:
    assert "argument --mf-pack: it names no pack" in project.pytest("--mf-pack=", fails=4)


def test_another_pack_that_is_broken_changes_nothing(checked: Project) -> None:
    checked.install("mfops_broken", "raise ValueError('so it is')")

    printed = checked.pytest("--mf-pack=mfops-mine", "-k", "Twice and dtypes")

    assert "1 passed" in printed


# In a project


@pytest.fixture
def usual(checked: Project) -> Project:
    """A project whose file says what to check."""
    checked.write(
        "pytest.ini",
        "[pytest]\naddopts = --color=no -p no:hypothesispytest\nfilterwarnings = error\ntestpaths = tests\n"
        "required_plugins = mfcore\nmf_packs = mfops_mine.Twice\n",
    )
    checked.write("tests/test_it.py", "def test_it():\n    pass\n")
    return checked


@pytest.mark.parametrize(
    "arguments", [(), ("tests",), ("-n1", "tests"), ("mfops_mine.Twice::dtypes",)]
)
def test_the_setting_checks_with_whole_folders_and_by_name(
    usual: Project, arguments: tuple[str, ...]
) -> None:
    printed = usual.pytest("-v", "-k", "dtypes or test_it", *arguments)

    by_name = "::" in "".join(arguments)
    assert f"{1 if by_name else 2} passed" in summary(printed)
    assert "mfops_mine.Twice::dtypes" in printed


@pytest.mark.parametrize("argument", ["tests/test_it.py", "tests/test_it.py::test_it"])
def test_the_setting_leaves_single_files_and_tests_alone(usual: Project, argument: str) -> None:
    printed = usual.pytest(argument)

    assert summary(printed).startswith("=" * 10)
    assert " 1 passed in" in summary(printed)
    assert "conformance" not in printed


def test_the_option_adds_to_single_tests(usual: Project) -> None:
    printed = usual.pytest(
        *["tests/test_it.py", "--mf-pack", "mfops_mine", "--co", "-q", "-k", "dtypes or test_it"]
    )

    assert printed.splitlines()[:3] == [
        "tests/test_it.py::test_it",
        "mfops_mine.Twice::dtypes",
        "mfops_mine.Wrong::dtypes",
    ]


# The page


def test_the_page_says_what_its_command_prints(project: Project) -> None:
    ((arguments, said),) = re.findall(
        r"^```text\n\$ pytest (.*?)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    words = [a or b for a, b in re.findall(r'"(.*?)"|(\S+)', arguments)]

    printed = project.pytest(*words)

    shown = re.findall(r"^(\S+::.*?) +\[ *\d+%\]$", printed, re.MULTILINE)
    assert shown == said.splitlines()


def test_the_test_file_of_the_page_passes(project: Project) -> None:
    ((name, source),) = re.findall(
        r"^```python\n# (\S+\.py)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    project.write(name, source)

    assert " 2 passed in" in summary(project.pytest())
