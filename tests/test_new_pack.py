"""``miniflow new``: what it makes installs, and passes its own tests, ruff and mypy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from miniflow.cli import main
from miniflow.new import NewPackError, new_pack

FILES = {
    ".ci/build",
    ".ci/run",
    ".gitignore",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "src/mfops_mine/__init__.py",
    "src/mfops_mine/operations.py",
    "src/mfops_mine/optimizers.py",
    "src/mfops_mine/pack.py",
    "src/mfops_mine/py.typed",
    "tests/test_mfops_mine.py",
}


def files_of(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def run(*command: str | Path, cwd: Path, site: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of a new pack, made by the command, and where pip installed it."""
    root = tmp_path_factory.mktemp("new")
    command = ["new", "mfops_mine", "--author", 'Ann "A" Other', "--into", str(root)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    folder, site = root / "mfops_mine", root / "site"
    pip = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    options = ["--no-build-isolation", "--no-deps", "--target", site, folder]
    run(sys.executable, *pip, *options, cwd=root, site=site)
    return folder, site


def test_the_distribution_has_all_that_one_needs(installed: tuple[Path, Path]) -> None:
    folder, site = installed

    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert files_of(folder) >= FILES
    assert project["entry-points"] == {"mfcore": {"mfops_mine": "mfops_mine.pack"}}
    assert project["authors"] == [{"name": 'Ann "A" Other'}]
    assert 'Ann "A" Other' in (folder / "LICENSE").read_text(encoding="utf-8")
    assert (site / "mfops_mine" / "py.typed").exists()
    left = [p for p in folder.rglob("*") if p.is_file() and "cookiecutter" in p.read_text("utf-8")]
    assert left == []


def test_its_own_tests_pass_and_prove_something(installed: tuple[Path, Path]) -> None:
    folder, site = installed

    printed = run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", cwd=folder, site=site)

    summary = printed.strip().splitlines()[-1]
    assert re.search(r"\d\d passed, \d+ skipped in", summary)
    assert "mfops_mine.Squareplus ." in printed
    assert "mfops_mine.Signum ." in printed


@pytest.mark.parametrize(
    ("file", "right", "wrong", "noticed"),
    [
        ("operations.py", "1 + x / np.sqrt", "1 - x / np.sqrt", "mfops_mine.Squareplus::gradients"),
        (
            "optimizers.py",
            "parameter - learning_rate",
            "parameter + learning_rate",
            "tests/test_mfops_mine.py::test_a_step_moves",
        ),
    ],
)
def test_its_own_tests_notice_a_wrong_formula(
    file: str, right: str, wrong: str, noticed: str, installed: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, site = installed
    source = (folder / "src" / "mfops_mine" / file).read_text(encoding="utf-8")
    assert right in source
    package = tmp_path / "mfops_mine"
    package.mkdir()
    for path in (folder / "src" / "mfops_mine").glob("*.py"):
        (package / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (package / file).write_text(source.replace(right, wrong), encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(site)])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1, done.stdout
    assert f"FAILED {noticed}" in done.stdout


def test_ruff_and_mypy_find_nothing(installed: tuple[Path, Path]) -> None:
    folder, site = installed

    run(sys.executable, "-m", "ruff", "check", "--no-cache", ".", cwd=folder, site=site)
    run(sys.executable, "-m", "ruff", "format", "--check", "--no-cache", ".", cwd=folder, site=site)
    run(sys.executable, "-m", "mypy", "--strict", "src", "tests", cwd=folder, site=site)


def test_the_readme_says_what_its_program_prints(installed: tuple[Path, Path]) -> None:
    folder, site = installed
    readme = (folder / "README.md").read_text(encoding="utf-8")
    (program, said) = re.findall(r"```(?:python|text)\n(.*?)```", readme, re.DOTALL)

    printed = run(sys.executable, "-W", "error", "-c", program, cwd=folder, site=site)

    assert printed == said


def test_the_command_line_finds_it(installed: tuple[Path, Path]) -> None:
    folder, site = installed

    shown = run(
        sys.executable, "-m", "miniflow", "ops", "mfops_mine.Squareplus", cwd=folder, site=site
    )

    assert "Squareplus" in shown
    assert "Barron" in shown


@pytest.mark.parametrize(
    ("licence", "name"),
    [
        ("MIT", "a"),
        ("Apache-2.0", "mfops_mine"),
        ("BSD-3-Clause", "pack_with_a_very_long_name_of_over_40_letters_2"),
    ],
)
def test_every_licence_and_name_gives_clean_files(licence: str, name: str, tmp_path: Path) -> None:
    folder = new_pack(name, licence=licence, author="Zoë", into=tmp_path)

    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ruff = [sys.executable, "-m", "ruff"]
    run(*ruff, "check", "--no-cache", ".", cwd=folder, site=tmp_path)
    run(*ruff, "format", "--check", "--no-cache", ".", cwd=folder, site=tmp_path)
    text = (folder / "LICENSE").read_text(encoding="utf-8")

    assert project["license"] == licence
    assert project["name"] == name.replace("_", "-")
    assert {"MIT": "MIT License", "Apache-2.0": "Apache License"}.get(
        licence, "Redistribution"
    ) in text
    assert "{{" not in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my-pack", "is no name for a pack"),
        ("Mine", "is no name for a pack"),
        ("2fast", "is no name for a pack"),
        ("", "is no name for a pack"),
        ("../mine", "is no name for a pack"),
        ("class", "is no name for a pack"),
        ("mine_", "is no name for a pack"),
        ("mfops_nn", "a pack mfops_nn is installed"),
        ("mfcore", "a pack mfcore is installed"),
        ("json", "Python has a module json"),
        ("numpy", "Python has a module numpy"),
    ],
)
def test_a_name_that_cannot_be_used_writes_nothing(name: str, said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["new", name, "--into", str(tmp_path)])

    assert result.exit_code == 2
    assert said in result.output
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_a_full_one_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mfops_mine").mkdir()

    folder = new_pack("mfops_mine", into=tmp_path)
    (folder / "README.md").write_text("mine", encoding="utf-8")

    with pytest.raises(NewPackError, match="is not empty"):
        new_pack("mfops_mine", into=tmp_path)
    assert (folder / "README.md").read_text(encoding="utf-8") == "mine"


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "mfops_mine").write_text("", encoding="utf-8")

    with pytest.raises(NewPackError, match="is no folder"):
        new_pack("mfops_mine", into=tmp_path)
    with pytest.raises(NewPackError, match="there is no folder"):
        new_pack("mfops_mine", into=tmp_path / "nowhere")


@pytest.mark.parametrize("author", ["", "  ", "one\ntwo"])
def test_an_author_is_one_line_of_text(author: str, tmp_path: Path) -> None:
    with pytest.raises(NewPackError, match="no name of an author"):
        new_pack("mfops_mine", author=author, into=tmp_path)


def test_without_cookiecutter_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cookiecutter", None)
    monkeypatch.setitem(sys.modules, "cookiecutter.generate", None)

    result = CliRunner().invoke(main, ["new", "mfops_mine", "--into", str(tmp_path)])

    assert result.exit_code == 2
    assert "pip install 'miniflow-suite[new]'" in result.output
    assert list(tmp_path.iterdir()) == []
