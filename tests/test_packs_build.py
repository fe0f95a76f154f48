"""Wheels carry the manifest of their packs, made while they are built; a wrong one is not made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from miniflow.new import new_pack

SWITCH = {"HATCH_BUILD_HOOK_ENABLE_MINIFLOW": "1"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A pack that nobody installed, as ``miniflow new`` makes it."""
    return new_pack("mfops_built", into=tmp_path)


def built(project: Path, *, editable: bool = False, **environment: str) -> Path | str:
    """Return the wheel that is built, or what is said where none is."""
    target = project / "dist"
    target.mkdir(exist_ok=True)
    function = "build_editable" if editable else "build_wheel"
    code = f"from hatchling.build import {function} as build; build({str(target)!r})"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HATCH_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        assert list(target.iterdir()) == []
        return done.stderr
    (wheel,) = target.iterdir()
    return wheel


def manifests(wheel: Path | str) -> dict[str, object]:
    """Return the manifests in a wheel, by their place in its metadata."""
    assert isinstance(wheel, Path), wheel
    with zipfile.ZipFile(wheel) as archive:
        return {
            name.partition(".dist-info/")[2]: json.loads(archive.read(name))
            for name in archive.namelist()
            if name.endswith("miniflow.json")
        }


def test_a_wheel_carries_the_manifest_of_its_pack(project: Path) -> None:
    wheel = built(project, **SWITCH)

    assert manifests(wheel) == {
        "extra_metadata/miniflow.json": {
            "format": 1,
            "version": "0.1.0",
            "packs": {
                "mfops_built": {
                    "operation": {"Squareplus": "mfops_built.operations:Squareplus"},
                    "optimizer": {"Signum": "mfops_built.optimizers:Signum"},
                    "functions": {},
                    "listens": False,
                }
            },
        }
    }
    assert list((project / "src").rglob("__pycache__")) == []


def test_what_the_pack_prints_and_how_its_modules_are_laid_out_do_not_matter(project: Path) -> None:
    with (project / "src" / "mfops_built" / "pack.py").open("a", encoding="utf-8") as file:
        file.write("print('hello')\n")
    flat(project)

    wheel = built(project, MINIFLOW_AUTOLOAD="0", MINIFLOW_DISABLE="mfops_built", **SWITCH)

    assert list(manifests(wheel)) == ["extra_metadata/miniflow.json"]


def flat(project: Path) -> None:
    """Move the package to the top of the project, where hatchling finds it by itself."""
    (project / "src" / "mfops_built").rename(project / "mfops_built")
    change(project / "pyproject.toml", 'packages = ["src/mfops_built"]\n', "")
    change(project / "pyproject.toml", '"src/mfops_built/', '"mfops_built/')


def test_an_editable_installation_carries_none_as_its_names_may_change(project: Path) -> None:
    assert manifests(built(project, editable=True, **SWITCH)) == {}


def test_where_nobody_asks_for_it_nothing_is_imported(project: Path) -> None:
    fails(project)

    assert manifests(built(project)) == {}


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def fails(project: Path) -> None:
    change(
        project / "src/mfops_built/pack.py",
        "import Iterable\n",
        "import Iterable\nimport mfops_absent\n",
    )


def is_local(project: Path) -> None:
    change(
        project / "src/mfops_built/pack.py",
        "    return [Squareplus]",
        "    from mfcore import operation\n"
        "    return [operation(type('Local', (Squareplus,), {}))]",
    )


def is_elsewhere(project: Path) -> None:
    change(project / "pyproject.toml", '"mfops_built.pack"', '"mfops_basic.pack"')


def has_no_entry_point(project: Path) -> None:
    change(project / "pyproject.toml", "[project.entry-points.mfcore]", "[project.entry-points.x]")


def is_of_another_core(project: Path) -> None:
    change(project / "pyproject.toml", "mfcore>=0.1,<0.2", "mfcore>=9")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (fails, "ModuleNotFoundError: No module named 'mfops_absent'"),
        (is_local, "operation Local of pack mfops_built is not mfops_built.pack:Local"),
        (is_elsewhere, "pack mfops_built was imported from "),
        (has_no_entry_point, "has no entry point in the group mfcore"),
        (is_of_another_core, "is incompatible: it was made for mfcore >=9"),
    ],
)
def test_a_pack_that_cannot_be_described_ends_the_build_with_the_reason(
    project: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(project)

    told = built(project, **SWITCH)

    assert isinstance(told, str)
    assert said in told
    assert "No manifest of mfops-built 0.1.0 could be made" in told
