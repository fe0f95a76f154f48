"""What it costs to import the core, and how much room the installed packs take."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import report, save

CLASSIC = ["mfcore", "mfops_basic", "mfops_nn", "mfoptim"]

MEASURE = """
import time
import numpy
start = time.perf_counter()
{statement}
print(time.perf_counter() - start)
"""

STATEMENTS = {
    "nothing": "pass",
    "import mfcore": "import mfcore",
    "import mfcore, names used": (
        "import mfcore; mfcore.Session, mfcore.Graph, mfcore.Parameter, mfcore.operation"
    ),
    "core and classic packs": "import mfcore, mfops_nn, mfoptim; mfcore.Session",
}


def import_times(rounds: int) -> dict[str, list[float]]:
    """Seconds beyond NumPy's own import, each in a fresh process, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(rounds):
        for name, statement in STATEMENTS.items():
            code = MEASURE.format(statement=statement)
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            )
            times[name].append(float(done.stdout))
    return times


def installed_bytes(package: str) -> int:
    """Size of a package as it is installed, with the files that Python compiled from it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    files = Path(spec.origin).parent.rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file())


def main() -> None:
    report(
        "start: seconds beyond `import numpy` in a fresh process",
        import_times(15),
        baseline="import mfcore, names used",
        unit="ms",
    )
    sizes = {name: installed_bytes(name) for name in CLASSIC}
    print("\nsize: source and compiled files of core and the three classic packs")
    for name, size in sizes.items():
        print(f"  {name:12}  {size / 1e3:8.1f} kB")
    total = sum(sizes.values())
    print(f"  together      {total / 1e3:8.1f} kB, promised: at most 2000 kB")
    save("size", {"bytes": sizes, "total": total})
