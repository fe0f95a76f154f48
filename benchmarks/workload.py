"""A workload: who runs what, what was promised, and running it from the check to the report."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from benchmarks.harness import (
    Bar,
    Contender,
    Limit,
    check_same_losses,
    import_needs,
    interleave,
    report,
    save,
    start_all,
)


@attrs.define
class Workload:
    """What to run, who runs it, and what was promised of them."""

    name: str
    title: str
    steps: int
    """Steps in one run; times are given per step."""
    contenders: Sequence[Contender]
    baseline: str
    rtol: float
    """Greatest relative difference allowed between results, for the dtype of the workload."""
    atol: float = 0.0
    summary: Callable[[Any], Any] = np.asarray
    """Makes of a run's result the array of numbers that is compared."""
    bars: Sequence[Bar | Limit] = ()
    unit: str = "us"
    seconds: float = 4.0
    """Share of each contender in the rounds."""


def run_workload(workload: Workload, *, quick: bool = False) -> bool:
    """Check, time and report a workload; return whether every contender that started worked."""
    runs, results, skipped = start_all(workload.contenders)
    floors = {contender.name for contender in workload.contenders if contender.floor}
    compared = {
        name: workload.summary(result) for name, result in results.items() if name not in floors
    }
    del results
    check_same_losses(compared, workload.rtol, workload.atol)
    times = interleave(
        runs,
        steps=workload.steps,
        seconds=workload.seconds / (8 if quick else 1),
        least=3 if quick else 5,
    )
    report(
        workload.name,
        workload.title,
        times,
        baseline=workload.baseline,
        unit=workload.unit,
        bars=workload.bars,
        skipped=skipped,
        notes={contender.name: contender.note for contender in workload.contenders},
        more={"steps in a run": workload.steps, "rtol": workload.rtol},
    )
    worked = not any(skip.reason.startswith("FAILED") for skip in skipped)
    if not quick:
        worked = report_compile_times(workload, list(runs)) and worked
    return worked


# Compile times


def cache_folders(folder: Path) -> dict[str, str]:
    """Return environment variables that put every disk cache into a folder."""
    return {
        "MINIFLOW_CACHE_DIR": str(folder / "miniflow"),
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTENSOR_FLAGS": f"base_compiledir={folder / 'pytensor'}",
        "CACHEDB": str(folder / "tinygrad.db"),
    }


def report_compile_times(workload: Workload, names: Sequence[str]) -> bool:
    """Print, and save, what the first run costs beyond a later one, in fresh processes.

    Imports are not counted. The second process finds what the first left in the disk caches.
    """
    contenders = [c.name for c in workload.contenders if c.compiles and c.name in names]
    if not contenders:
        return True
    width = max(map(len, contenders))
    print(
        f"  {'compile time':{width}}  {'first':>10}  {'again':>10}   (s; again: the next process)"
    )
    measured: dict[str, dict[str, float] | str] = {}
    for name in contenders:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            try:
                first, again = (first_run_apart(workload.name, name, folder) for _ in range(2))
            except RuntimeError as error:
                measured[name] = f"FAILED: {error}"
                print(f"  {name:{width}}  FAILED: {error}")
                continue
        measured[name] = {"first": first, "again": again}
        print(f"  {name:{width}}  {first:10.2f}  {again:10.2f}", flush=True)
    save(f"{workload.name}-compile", {"seconds": measured})
    return not any(isinstance(value, str) for value in measured.values())


def first_run_apart(workload: str, contender: str, caches: str) -> float:
    """Return ``first_run`` of a fresh process that keeps its disk caches in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--first-run", workload, contender],
        env={**os.environ, **cache_folders(Path(caches))},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1][:300])
    return float(done.stdout.split()[-1])


def first_run(workload: Workload, name: str) -> float:
    """Return the seconds of building a contender and its first run, less those of a later run."""
    contender = next(c for c in workload.contenders if c.name == name)
    import_needs(contender)
    start = time.perf_counter()
    run = contender.build()
    run()
    first = time.perf_counter() - start
    later = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        later.append(time.perf_counter() - start)
    return max(first - min(later), 0.0)
