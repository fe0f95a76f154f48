"""Each pack, built as a wheel and installed in an environment without the others."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from mfcore import manifest
from mfcore.registry import Registry

ROOT = Path(__file__).parent.parent
PACKS = ["mfcore", "mfops_basic", "mfops_nn", "mfoptim", "mftrace", "mfjit", "miniflow"]
NEEDS = {"mfops_nn": ["mfops_basic"], "mfjit": ["mfops_basic"]}
CORE_DEPENDENCIES = ["numpy", "pluggy", "attrs"]
DESCRIBED = [pack for pack in PACKS if pack not in ("mfcore", "miniflow")]
"""The packs that are found by an entry point, and so have a manifest."""


def build(project: Path, target: Path) -> Path:
    """Build the wheel of a project, with its manifest, as it is published."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=project,
        env={**os.environ, "HATCH_BUILD_HOOK_ENABLE_MINIFLOW": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A freshly built wheel of every distribution of this repository."""
    return {pack: build(ROOT / pack, tmp_path_factory.mktemp(pack)) for pack in PACKS}


class Environment:
    """A virtual environment that holds the given distributions and nothing else."""

    def __init__(self, folder: Path, wheels: list[Path], borrowed: list[str]) -> None:
        venv.create(folder, with_pip=False)
        self._python = folder / "bin" / "python"
        self._site = next(folder.glob("lib/python*/site-packages"))
        for wheel in wheels:
            zipfile.ZipFile(wheel).extractall(self._site)
        for distribution in borrowed:
            self._borrow(distribution)

    def _borrow(self, distribution: str) -> None:
        """Link a distribution of the running environment, as if it had been installed."""
        files = importlib.metadata.files(distribution) or []
        for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            source = Path(str(importlib.metadata.distribution(distribution).locate_file(top)))
            (self._site / top).symlink_to(source)

    def run(self, code: str) -> str:
        """Run a program with warnings as errors and return what it prints."""
        done = subprocess.run(
            [self._python, "-I", "-W", "error", "-c", code],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


USES = {
    "mfcore": """
import mfcore as mf
x = mf.Input("x")
session = mf.Session(x)
print([p.name for p in mf.registry.current().packs()], session.run({x: 2.0})[x])
""",
    "mfops_basic": """
import mfcore as mf
x, y = mf.Input("x"), mf.Input("y")
run = mf.Session(x * y).run({x: 2.0, y: 3.0})
print([p.name for p in mf.registry.current().packs()], float(run.gradients[x]))
""",
    "mfops_nn": """
import mfcore as mf
Linear = mf.registry.current().operation("mfops_nn.Linear")
X, W, b = mf.Input("X"), mf.Input("W"), mf.Input("b")
run = mf.Session(Linear(X, W, b)).run({X: [[1.0, 2.0]], W: [[3.0], [4.0]], b: [0.0]})
print([p.name for p in mf.registry.current().packs()], float(run["linear_1"][0, 0]))
""",
    "mfoptim": """
import mfcore as mf
SGD = mf.registry.current().optimizer("SGD")
W = mf.Parameter(1.0)
session = mf.Session(W)
session.step({}, SGD(learning_rate=0.25))
print([p.name for p in mf.registry.current().packs()], float(session[W]))
""",
    "mfjit": """
import mfcore as mf
x, w = mf.Input("x"), mf.Parameter(3.0)
run = mf.Session(x * w).run({x: 2.0})
assert run.engine == "numpy", run.engine.reason
print([p.name for p in mf.registry.current().packs()], float(run.gradients[w]))
""",
    "mftrace": """
import mfcore as mf
x = mf.Input("x")
with mf.tracing("console"):
    mf.Session(x).run({x: 2.0})
print([p.name for p in mf.registry.current().packs()], 2.0)
""",
}

RESULTS = {
    "mfcore": 2.0,
    "mfops_basic": 3.0,
    "mfops_nn": 11.0,
    "mfoptim": 0.75,
    "mfjit": 2.0,
    "mftrace": 2.0,
}


@pytest.mark.parametrize("pack", USES)
def test_a_pack_works_with_the_core_and_what_it_declares(
    pack: str, wheels: dict[str, Path], tmp_path: Path
) -> None:
    packs = ["mfcore"] if pack == "mfcore" else ["mfcore", *NEEDS.get(pack, []), pack]
    environment = Environment(tmp_path / "env", [wheels[p] for p in packs], CORE_DEPENDENCIES)

    printed = environment.run(USES[pack])

    assert printed.splitlines()[-1] == f"{sorted(packs)} {RESULTS[pack]}"


@pytest.mark.parametrize("pack", PACKS)
def test_a_wheel_holds_its_package_typed_and_nothing_else(
    pack: str, wheels: dict[str, Path]
) -> None:
    names = zipfile.ZipFile(wheels[pack]).namelist()

    packages = [name for name in names if ".dist-info/" not in name]

    shipped = {pack, *({"mfcore_pytest"} if pack == "mfcore" else ())}
    assert {f"{package}/py.typed" for package in shipped} <= set(packages)
    assert {name.partition("/")[0] for name in packages} == shipped
    of_the_pack = [name for name in packages if not name.startswith("miniflow/template/")]
    assert not [name for name in of_the_pack if re.search(r"__pycache__|/tests?[/_.]", name)]


@pytest.mark.parametrize("pack", DESCRIBED)
def test_a_wheel_carries_the_manifest_of_its_pack(pack: str, wheels: dict[str, Path]) -> None:
    archive = zipfile.ZipFile(wheels[pack])
    (name,) = [name for name in archive.namelist() if name.endswith("miniflow.json")]

    registry = Registry(packs=[pack], disabled=())
    (loaded,) = [found for found in registry.load() if found.name == pack]

    assert json.loads(archive.read(name)) == json.loads(manifest.write(loaded))


LOOK_UPS = """
import sys
import mfcore as mf
registry = mf.registry.current()


def imported(look_up, name):
    before = set(sys.modules)
    look_up(name)
    return {m for m in set(sys.modules) - before if not m.startswith("mfcore")} & OURS


OURS = {f"{pack}.{module}" for pack, modules in MODULES.items() for module in modules}
print(*sorted(imported(registry.operation, "mfops_nn.Linear")))
print(*sorted(imported(registry.operation, "Dropout")))
print(*sorted(imported(registry.optimizer, "SGD")))
print(*sorted(imported(registry.tracer, "guard")))
print({pack.status for pack in registry.packs()})
"""


def test_a_look_up_among_installed_wheels_imports_only_the_module_used(
    wheels: dict[str, Path], tmp_path: Path
) -> None:
    packs = ["mfcore", *DESCRIBED]
    environment = Environment(tmp_path / "env", [wheels[p] for p in packs], CORE_DEPENDENCIES)
    modules = {
        pack: [file.stem for file in (ROOT / pack / "src" / pack).glob("*.py")] for pack in packs
    }

    printed = environment.run(f"MODULES = {modules!r}{LOOK_UPS}")

    linear, dropout, sgd, guard, states = printed.splitlines()
    assert (linear, dropout) == ("mfops_nn.linear", "mfops_nn.regularization")
    assert {"mfoptim.sgd", "mfoptim.adam"} & set(sgd.split()) == {"mfoptim.sgd"}
    assert {"mftrace.guard", "mftrace.record"} & set(guard.split()) == {"mftrace.guard"}
    assert states == "{'found'}"


def test_the_plugin_of_pytest_is_found_and_who_imported_the_core_before_is_not_warned(
    wheels: dict[str, Path], tmp_path: Path
) -> None:
    borrowed = [*CORE_DEPENDENCIES, "pytest", "iniconfig", "packaging", "Pygments"]
    environment = Environment(tmp_path / "env", [wheels["mfcore"]], borrowed)
    test = tmp_path / "test_it.py"
    test.write_text("def test_it(mf_registry):\n    assert mf_registry.packs()\n", encoding="utf-8")

    printed = environment.run(f"import mfcore, pytest; pytest.main(['-q', {str(test)!r}])")

    assert "1 passed in" in printed  # and nothing about warnings


def test_the_front_door_ships_its_data(wheels: dict[str, Path]) -> None:
    names = zipfile.ZipFile(wheels["miniflow"]).namelist()

    assert "miniflow/data/boston_housing.csv" in names


def test_the_template_of_new_packs_is_shipped(wheels: dict[str, Path]) -> None:
    template = ROOT / "miniflow" / "src" / "miniflow" / "template"
    names = set(zipfile.ZipFile(wheels["miniflow"]).namelist())

    wanted = {
        f"miniflow/template/{file.relative_to(template)}"
        for file in template.rglob("*")
        if file.is_file()
    }

    assert len(wanted) == 15
    assert wanted <= names


def test_the_page_of_a_recording_is_shipped(wheels: dict[str, Path]) -> None:
    source = ROOT / "mftrace" / "src" / "mftrace" / "page"
    names = set(zipfile.ZipFile(wheels["mftrace"]).namelist())

    wanted = {f"mftrace/page/{file.name}" for file in source.iterdir()}

    assert "mftrace/page/page.html" in wanted
    assert wanted <= names


def test_a_declared_requirement_covers_every_import_of_another_pack(
    wheels: dict[str, Path],
) -> None:
    for pack, wheel in wheels.items():
        archive = zipfile.ZipFile(wheel)
        metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
        required = archive.read(metadata).decode().replace("-", "_")
        sources = "".join(
            archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")
        )
        imported = set(re.findall(r"^\s*(?:from|import) (\w+)", sources, re.MULTILINE))
        for other in imported.intersection(PACKS) - {pack}:
            assert f"Requires_Dist: {other}" in required, (pack, other)
