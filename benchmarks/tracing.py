"""What it costs to watch: Boston's training step with each tracer, and without any."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any

import mfcore as mf
import mftrace
from benchmarks.boston import STEPS, problem
from benchmarks.harness import Bar, Contender, Run, save
from benchmarks.mlp import Training, miniflow_steps
from benchmarks.workload import Workload, run_workload
from mfcore.errors import ObservedEngineWarning
from mfcore.registry import Registry, using

EPOCHS = 100
EPOCHS_A_RUN = 10
"""460 steps of 11 rows are ten times the 506 rows, but for what does not fill a batch."""
MOST_BYTES = 50_000_000
"""What a recording of 100 epochs with summaries may take at most."""


def plain(training: Training, engine: str) -> Contender:
    """Nobody listens, in a process in which the other contenders' tracers come and go."""
    return Contender(f"{engine}, no tracer", miniflow_steps(training, engine).build)


def traced(training: Training, engine: str, name: str, tracer: str, **options: Any) -> Contender:
    """A tracer listens; a run is a ``with`` block, with what its start and end take."""

    def build() -> Run:
        run = miniflow_steps(training, engine).build()
        return within(lambda: mf.tracing(tracer, **options), run)

    return Contender(f"{engine}, {name}", build)


def disabled(training: Training, engine: str) -> Contender:
    """Nobody can listen: a registry without tracers, in a context from before there were any."""
    context = copy_context()

    def build() -> Run:
        registry = Registry(disabled=["mftrace"])
        with using(registry):
            run = miniflow_steps(training, engine).build()
        return partial(context.run, within(lambda: using(registry), run))

    return Contender(f"{engine}, mftrace disabled", build)


def traced_before(training: Training, engine: str) -> Contender:
    """Nobody listens any more: the first run, which is checked but not timed, was recorded.

    It has a registry of its own too, as that alone costs more than 1% of a step.
    """

    def build() -> Run:
        registry = Registry()
        with using(registry):
            run = miniflow_steps(training, engine).build()
        recorded = [within(lambda: mf.tracing("record"), run)]

        def run_traced_once() -> Any:
            return recorded.pop()() if recorded else run()

        return within(lambda: using(registry), run_traced_once)

    return Contender(f"{engine}, traced before", build)


def within(block: Callable[[], AbstractContextManager[Any]], run: Run) -> Run:
    """Return a run in a ``with`` block that is opened anew each time."""

    def run_within() -> Any:
        with block():
            return run()

    return run_within


def workload(name: str, folder: Path) -> Workload:
    training = problem()

    def with_tracer(name: str, tracer: str, **options: Any) -> Contender:
        return traced(training, "reference", name, tracer, **options)

    return Workload(
        name=name,
        title="Boston's training step, one a call, with tracers and without",
        steps=STEPS,
        # Those that are held against each other are neighbours in the rounds.
        contenders=[
            disabled(training, "reference"),
            traced_before(training, "reference"),
            plain(training, "reference"),
            with_tracer("no step heard", "record", steps=()),
            with_tracer(
                "record summaries, file", "record", arrays="summary", path=folder / "summary.jsonl"
            ),
            with_tracer("record all arrays, file", "record", path=folder / "all.jsonl"),
            with_tracer("profile", "profile"),
            with_tracer("profile, file", "profile", path=folder / "profile.json"),
            with_tracer("gradients", "gradients"),
            with_tracer("guard", "guard"),
            disabled(training, "numpy"),
            traced_before(training, "numpy"),
            plain(training, "numpy"),
            traced(training, "numpy", "no step heard", "record", steps=()),
        ],
        baseline="reference, no tracer",
        rtol=1e-9,
        bars=[
            Bar("reference, traced before", "reference, mftrace disabled", 1.02),
            Bar("numpy, traced before", "numpy, mftrace disabled", 1.02),
            Bar("reference, record summaries, file", "reference, no tracer", 5.0),
            Bar("reference, profile", "reference, no tracer", 3.0),
        ],
        seconds=3.0,
    )


def recorded_bytes(folder: Path, **options: Any) -> int:
    """Return the size of both files of a recording of 100 epochs, with nothing left out."""
    training = problem()
    path = folder / "run.jsonl"
    run = miniflow_steps(training, "reference").build()
    # A limit that is not reached: the default one would keep the promise by leaving passes out.
    with mf.tracing("record", path=path, limit="1GB", **options):
        for _ in range(EPOCHS // EPOCHS_A_RUN):
            run()
    recording = mftrace.read(path)
    assert len(recording.passes) == 2 * STEPS * EPOCHS // EPOCHS_A_RUN
    return sum(file.stat().st_size for file in (path, path.with_suffix(".npz")))


def report_sizes(folder: Path) -> None:
    """Print, and save, how large recordings of 100 epochs become."""
    print(f"\nsize: a recording of {EPOCHS} epochs")
    sizes = {
        name: recorded_bytes(folder, arrays=arrays)
        for name, arrays in (("summaries", "summary"), ("all arrays", "all"))
    }
    for name, size in sizes.items():
        print(f"  {name:10}  {size / 1e6:8.1f} MB")
    verdict = "met" if sizes["summaries"] <= MOST_BYTES else "MISSED"
    print(f"  bar {verdict}: summaries at most {MOST_BYTES / 1e6:g} MB")
    save("tracing-size", {"bytes": sizes, "at most": MOST_BYTES, "verdict": verdict})


def main(*, quick: bool = False) -> bool:
    # Not news here: `traced before` records a session on an engine that cannot be observed.
    warnings.simplefilter("ignore", ObservedEngineWarning)
    with tempfile.TemporaryDirectory() as folder:
        worked = run_workload(workload("tracing", Path(folder)), quick=quick)
        report_sizes(Path(folder))
    return worked
