"""What it costs to find an operation among many installed packs, with manifests and without."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import tempfile
import time
import venv
from collections.abc import Mapping
from pathlib import Path

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
    registry.operation({name!r})
except mfcore.errors.UnknownNameError:
    pass
first = time.perf_counter()
try:
    registry.operation({name!r})
except mfcore.errors.UnknownNameError:
    pass
print(first - start, time.perf_counter() - first, time.time())
"""


class Site:
    """An environment that holds the core, what it needs, and generated packs."""

    def __init__(self, folder: Path, count: int, *, manifests: bool) -> None:
        venv.create(folder, with_pip=False)
        self._python = folder / "bin" / "python"
        self._pyc = folder / "pyc"
        (self._packages,) = folder.glob("lib/python*/site-packages")
        for distribution in BORROWED:
            self._borrow(distribution)
        core = importlib.metadata.distribution("mfcore")
        source = Path(manifest.__file__).parent
        (self._packages / "mfcore").symlink_to(source)
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

    def look_up(self, name: str, *, before: str = "") -> tuple[float, float, float]:
        """Return the seconds of a first and a second look-up, and of the process until then."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MINIFLOW_")}
        # Installed packages have their bytecode; here the first round writes it.
        bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self._pyc)}
        start = time.time()
        done = subprocess.run(
            [self._python, "-c", PROGRAM.format(before=before, name=name)],
            cwd=self._packages,
            env={**inherited, **bytecode},
            capture_output=True,
            text=True,
            check=True,
        )
        first, second, end = map(float, done.stdout.split())
        return first, second, end - start


def look_ups(count: int) -> Mapping[str, str]:
    """Return the names that are looked up among so many packs, by what they stand for."""
    last = count - 1
    return {
        "qualified": f"made_{last:03}.Op{last}n7",
        "short": f"Op{last}n7",
        "missing": "Nowhere",
    }


def measure(count: int, rounds: int) -> dict[str, list[float]]:
    """Time first and second look-ups among so many packs, a fresh process each, in turns."""
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="miniflow-packs-") as folder:
        sites = {
            how: Site(Path(folder, f"environment{i}"), count, manifests=i == 0)
            for i, how in enumerate(("manifests", "no manifests"))
        }
        for round_number in range(-1, rounds):  # the first fills caches and is not counted
            for how, site in sites.items():
                for what, name in look_ups(count).items():
                    first, second, _ = site.look_up(name, before=IMPORTED)
                    _, _, whole = site.look_up(name)
                    if round_number >= 0:
                        times.setdefault(f"{what}, {how}", []).append(first)
                        times.setdefault(f"{what}, {how}, from nothing", []).append(whole)
                        times.setdefault(f"{what}, {how}, second", []).append(second)
    order = ("", ", from nothing", ", second")
    return {k: times[k] for end in order for k in times if k.endswith("manifests" + end)}


def main(*, quick: bool = False) -> bool:
    for count in COUNTS:
        limits = [Limit(f"{what}, manifests", 0.1) for what in ("qualified", "short")]
        report(
            f"packs-{count}",
            f"the first look-up of an operation among {count} packs of {OPERATIONS}, in a process "
            f"that has imported NumPy and mfcore",
            measure(count, 2 if quick else 15),
            baseline="qualified, manifests",
            unit="ms",
            bars=limits if count == 50 else [],
        )
    return True
