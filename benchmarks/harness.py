"""Timing contenders fairly: same work checked first, then rounds in turn, medians and minima."""

from __future__ import annotations

import gc
import importlib
import json
import math
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

RESULTS = Path(__file__).parent / "results"
SCALES = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
SETTLING = 0.03
"""Seconds of rest before a contender's turn: OpenBLAS's and OpenMP's threads spin on for up to
26 ms after their last work, and would take a core from whoever comes next."""
SHORTEST = 0.01
"""A turn is made at least about this many seconds long, by repeating short runs."""

Run = Callable[[], Any]
"""One run of a workload's ``steps`` steps, going on where the last one stopped; what it returns
is compared: the losses, or an array that holds the results."""


class UnavailableError(Exception):
    """A contender cannot run here; the message says why."""


@attrs.define
class Contender:
    """One way to do the work. ``build`` prepares everything and returns the run to be timed."""

    name: str
    build: Callable[[], Run]
    needs: tuple[str, ...] = ()
    """Modules that are imported before anything is timed; without them it is skipped."""
    compiles: bool = False
    """Whether its first call compiles, so that it gets a line in the table of compile times."""
    floor: bool = False
    """A lower bound, not the work itself: its results are not compared."""
    note: str = ""


@attrs.define
class Skipped:
    """A contender that cannot run here, and why."""

    name: str
    reason: str


@attrs.define
class Bar:
    """What was promised: ``contender`` costs at most ``ratio`` times ``against``.

    Of several to compare with, the fastest counts.
    """

    contender: str
    against: str | tuple[str, ...]
    ratio: float


@attrs.define
class Limit:
    """What was promised: ``contender`` costs at most ``seconds`` a step."""

    contender: str
    seconds: float


def start_all(
    contenders: Sequence[Contender],
) -> tuple[dict[str, Run], dict[str, Any], list[Skipped]]:
    """Build every contender and run it once; return runs, their results, and who is missing."""
    runs: dict[str, Run] = {}
    results: dict[str, Any] = {}
    skipped = []
    for contender in contenders:
        try:
            import_needs(contender)
            run = contender.build()
            results[contender.name] = run()
        except UnavailableError as error:
            skipped.append(Skipped(contender.name, f"skipped: {error}"))
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            skipped.append(
                Skipped(contender.name, f"FAILED: {type(error).__name__}: {lines[0][:300]}")
            )
        else:
            runs[contender.name] = run
    return runs, results, skipped


def import_needs(contender: Contender) -> None:
    """Import what a contender is written with, or say that it is missing."""
    for module in contender.needs:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(module)
        except ImportError as error:
            raise UnavailableError(f"{module} is not installed ({error})") from error


def check_same_losses(results: Mapping[str, Any], rtol: float, atol: float = 0.0) -> None:
    """Raise unless all results agree with the first.

    Who reports only the mean loss of a run, one number, is held to the mean of the others.
    """
    (first, expected), *others = results.items()
    expected = np.asarray(expected, dtype=float)
    if not np.isfinite(expected).all():
        raise AssertionError(f"{first} computes losses that are not finite")
    for name, result in others:
        got = np.asarray(result, dtype=float)
        same = expected
        if got.shape != expected.shape and got.size == 1:
            got, same = got.reshape(()), expected.mean()
        np.testing.assert_allclose(
            got, same, rtol=rtol, atol=atol, err_msg=f"{name} computes other losses than {first}"
        )


def interleave(
    runs: Mapping[str, Run],
    *,
    steps: int,
    seconds: float,
    least: int = 5,
    most: int = 40,
    settling: float = SETTLING,
) -> dict[str, list[float]]:
    """Time rounds in which the contenders take turns, every other round in reverse.

    A contender takes part until it has used its share of ``seconds``, in ``least`` rounds at
    least (fewer if that took it four shares) and ``most`` at most. Before its turn the machine
    rests, and short runs get one that is not timed and then are repeated within the turn.

    Returns
    -------
    dict
        Seconds per step, one value a round, by contender.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    spent = dict.fromkeys(runs, 0.0)
    repeats = {}
    for name, run in runs.items():
        start = time.perf_counter()
        run()
        if time.perf_counter() - start < 1:  # still warming up, or short enough to see
            start = time.perf_counter()
            run()
        repeats[name] = max(1, math.ceil(SHORTEST / max(time.perf_counter() - start, 1e-9)))
    gc.collect()
    gc.freeze()
    for round_number in range(most):
        share = seconds if round_number >= least else 4 * seconds
        names = [name for name in runs if round_number == 0 or spent[name] < share]
        for name in names if round_number % 2 == 0 else names[::-1]:
            run, count = runs[name], repeats[name]
            time.sleep(settling)
            if count > 1:
                run()
            start = time.perf_counter()
            for _ in range(count):
                run()
            taken = time.perf_counter() - start
            spent[name] += taken
            times[name].append(taken / (steps * count))
    gc.unfreeze()
    return times


def judge(bar: Bar | Limit, medians: Mapping[str, float], unit: str) -> tuple[str, str]:
    """Return the verdict on a bar, and the sentence that says what was measured."""
    measured = medians.get(bar.contender)
    if isinstance(bar, Limit):
        promise = f"{bar.contender} at most {bar.seconds * SCALES[unit]:.4g} {unit}"
        if measured is None:
            return "not measured", promise
        verdict = "met" if measured <= bar.seconds else "MISSED"
        return verdict, f"{promise}, measured {measured * SCALES[unit]:.4g}"
    rivals = (bar.against,) if isinstance(bar.against, str) else bar.against
    promise = f"{bar.contender} at most {bar.ratio:g} x {' or '.join(rivals)}"
    present = [rival for rival in rivals if rival in medians]
    if measured is None or not present:
        return "not measured", promise
    rival = min(present, key=medians.__getitem__)
    ratio = measured / medians[rival]
    verdict = "met" if ratio <= bar.ratio else "MISSED"
    return verdict, f"{promise}, measured {ratio:.3f}" + (
        f" (of {rival})" if len(rivals) > 1 else ""
    )


def report(
    name: str,
    title: str,
    times: Mapping[str, Sequence[float]],
    *,
    baseline: str,
    unit: str = "us",
    bars: Sequence[Bar | Limit] = (),
    skipped: Sequence[Skipped] = (),
    notes: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> list[str]:
    """Print a table of medians, minima and ratios, hold it against the bars, and save it.

    Returns the verdicts, in the order of the bars.
    """
    scale = SCALES[unit]
    medians = {contender: statistics.median(values) for contender, values in times.items()}
    width = max(map(len, [*times, *(skip.name for skip in skipped)]))
    unit_of_ratio = medians.get(baseline) or min(medians.values())
    print(f"\n{name}: {title}")
    print(f"  {'':{width}}  {'median':>10}  {'minimum':>10}  {'ratio':>7}   ({unit})")
    for contender, values in times.items():
        note = (notes or {}).get(contender, "")
        print(
            f"  {contender:{width}}  {medians[contender] * scale:10.3f}  "
            f"{min(values) * scale:10.3f}  {medians[contender] / unit_of_ratio:7.2f}"
            + (f"   {note}" if note else "")
        )
    for skip in skipped:
        print(f"  {skip.name:{width}}  {skip.reason}")
    verdicts = []
    for bar in bars:
        verdict, sentence = judge(bar, medians, unit)
        verdicts.append({**attrs.asdict(bar), "measured": sentence, "verdict": verdict})
        print(f"  bar {verdict}: {sentence}")
    save(
        name,
        {
            "title": title,
            "seconds": {
                contender: {
                    "median": medians[contender],
                    "minimum": min(values),
                    "rounds": len(values),
                }
                for contender, values in times.items()
            },
            "skipped": [attrs.asdict(skip) for skip in skipped],
            "bars": verdicts,
            **(more or {}),
        },
    )
    return [verdict["verdict"] for verdict in verdicts]


def save(name: str, measured: object) -> None:
    """Write what was measured as JSON, with what it was measured on."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"name": name, "on": about(), "measured": measured}, indent=2))


def about() -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "when": time.strftime("%Y-%m-%d %H:%M"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": processor(),
        "cores": os.cpu_count(),
    }


def processor() -> str:
    """Return the processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
