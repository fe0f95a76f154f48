"""What it costs to find an operation among many installed packs, with manifests and without."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import tempfile
import time
import venv
from pathlib import Path

import attrs

from benchmarks.harness import Limit, report
from mfcore import manifest

COUNTS = (1, 10, 50, 200)
OPERATIONS = 10
OTHERS = 100
"""Distributions that are installed beside the packs and are none, as everywhere."""
BORROWED = ("numpy", "attrs", "pluggy")

HEAD = """
import numpy as np
from mfcore import Node, operation
"""

OPERATION = """
@operation
class {name}(Node):
    x: Node

    @staticmethod
    def forward(x):
        return np.tanh(x)

    @staticmethod
    def backward(grad, value):
        return (grad * (1 - value**2),)
"""

PACK = """
from mfcore import hookimpl
from {name} import operations

@hookimpl
def mf_operations():
    return [getattr(operations, f"Op{number}n{{i}}") for i in range({size})]
"""

NAMES = {"qualified": "made_{last:03}.Op{last}n7", "short": "Op{last}n7", "missing": "Nowhere"}
"""What is looked up, in the last pack, and what must be found."""
FOUND = {"qualified": "Op{last}n7", "short": "Op{last}n7", "missing": "nothing"}

IMPORTED = """
import numpy, mfcore
"""

PROGRAM = """
import time
{before}
start = time.perf_counter()
import mfcore
registry = mfcore.registry.current()
try:
    found = registry.operation({name!r}).__name__
except mfcore.errors.UnknownNameError:
    found = "nothing"
first = time.perf_counter()
try:
    registry.operation({name!r})
except mfcore.errors.UnknownNameError:
    pass
second, end = time.perf_counter(), time.time()
loaded = sum(pack.status == "loaded" for pack in registry.packs())
print(first - start, second - first, end, found, loaded)
"""


@attrs.frozen
class LookUp:
    """What a look-up took and did, in a process of its own.

    Attributes
    ----------
    first, second, whole : float
        Seconds of the first and of the second look-up, and of the process up to their end.
    found : str
        The operation that was found, or ``"nothing"``.
    loaded : int
        How many packs were imported whole.
    """

    first: float
    second: float
    whole: float
    found: str
    loaded: int


class Site:
    """An environment that holds the core, what it needs, and generated packs."""

    def __init__(self, folder: Path, count: int, *, manifests: bool) -> None:
        venv.create(folder, with_pip=False)
        self._python = folder / "bin" / "python"
        (self._packages,) = folder.glob("lib/python*/site-packages")
        for distribution in BORROWED:
            self._borrow(distribution)
        core = importlib.metadata.distribution("mfcore")
        source, unwanted = Path(manifest.__file__).parent, shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, self._packages / "mfcore", ignore=unwanted)
        self._describe("mfcore", core.version)
        for number in range(OTHERS):
            self._describe(f"other-{number}", "1.0")
        for number in range(count):
            self._write(number, manifests=manifests)

    def _borrow(self, distribution: str) -> None:
        """Link a distribution of the running environment, as if it had been installed."""
        found = importlib.metadata.distribution(distribution)
        for top in {file.parts[0] for file in found.files or [] if file.parts[0] != ".."}:
            if top != "__pycache__":
                (self._packages / top).symlink_to(Path(str(found.locate_file(top))))

    def _describe(self, name: str, version: str, entry_points: str = "") -> Path:
        info = self._packages / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        text = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nRequires-Dist: mfcore\n\n"
        (info / "METADATA").write_text(text + "A line of the description.\n" * 50)
        if entry_points:
            (info / "entry_points.txt").write_text(entry_points)
        return info

    def _write(self, number: int, *, manifests: bool) -> None:
        name = f"made_{number:03}"
        package = self._packages / name
        package.mkdir()
        names = [f"Op{number}n{i}" for i in range(OPERATIONS)]
        (package / "__init__.py").write_text("")
        body = "".join(OPERATION.format(name=operation) for operation in names)
        (package / "operations.py").write_text(HEAD + body)
        (package / "pack.py").write_text(PACK.format(name=name, number=number, size=OPERATIONS))
        info = self._describe(name.replace("_", "-"), "1.0", f"[mfcore]\n{name} = {name}.pack\n")
        if manifests:
            said = {o: f"{name}.operations:{o}" for o in names}
            packs = {name: {"operation": said, "functions": {}, "listens": False}}
            content = {"format": manifest.FORMAT, "version": "1.0", "packs": packs}
            file = info / manifest.PLACES[0]
            file.parent.mkdir()
            file.write_text(json.dumps(content))

    def look_up(self, name: str, *, before: str = "") -> LookUp:
        """Look an operation up twice in a fresh process."""
        start = time.time()
        first, second, end, found, loaded = self._run(PROGRAM.format(before=before, name=name))
        return LookUp(float(first), float(second), float(end) - start, found, int(loaded))

    def imports(self) -> float:
        """Return the seconds of a fresh process that imports NumPy and mfcore, and no more."""
        start = time.time()
        (end,) = self._run(f"{IMPORTED}import time\nprint(time.time())")
        return float(end) - start

    def _run(self, program: str) -> list[str]:
        """Return the words that a program prints."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MINIFLOW_")}
        # Installed packages have their bytecode; here the first look-up writes it.
        inherited |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": ""}
        done = subprocess.run(
            [self._python, "-c", program],
            cwd=self._packages,
            env=inherited,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()


def measure(count: int, rounds: int) -> dict[str, list[float]]:
    """Time first and second look-ups among so many packs, a fresh process each, in turns."""
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="miniflow-packs-") as folder:
        sites = {
            how: Site(Path(folder, f"environment{i}"), count, manifests=i == 0)
            for i, how in enumerate(("manifests", "no manifests"))
        }
        for round_number in range(-1, rounds):  # the first fills caches and is not counted
            alone = sites["manifests"].imports()
            if round_number >= 0:
                times.setdefault("imports alone, from nothing", []).append(alone)
            for how, site in sites.items():
                for what, form in NAMES.items():
                    name = form.format(last=count - 1)
                    done = site.look_up(name, before=IMPORTED)
                    whole = site.look_up(name).whole
                    assert done.found == FOUND[what].format(last=count - 1), (name, done)
                    if round_number >= 0:
                        times.setdefault(f"{what}, {how}", []).append(done.first)
                        times.setdefault(f"{what}, {how}, from nothing", []).append(whole)
                        times.setdefault(f"{what}, {how}, second", []).append(done.second)
    order = ("manifests", ", from nothing", ", second")
    return {name: times[name] for end in order for name in times if name.endswith(end)}


def main(*, quick: bool = False) -> bool:
    for count in COUNTS:
        limits = [Limit(f"{what}, manifests", 0.1) for what in ("qualified", "short")]
        report(
            f"packs-{count}",
            f"the first look-up of an operation among {count} packs of {OPERATIONS}, in a process "
            f"that has imported NumPy and mfcore",
            measure(count, 2 if quick else 9),
            baseline="qualified, manifests",
            unit="ms",
            bars=limits if count == 50 else [],
        )
    return True
