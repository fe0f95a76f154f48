"""Timing contenders fairly: same work checked first, then rounds in turn, medians and minima."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np

RESULTS = Path(__file__).parent / "results"


@attrs.define
class Contender:
    """One way to do the work: ``run(rounds)`` does it that many times and returns the losses."""

    name: str
    run: Callable[[int], Sequence[float]]


@attrs.define
class Skipped:
    """A contender that cannot run here, and why."""

    name: str
    reason: str


@attrs.define
class Bar:
    """What was promised: ``contender`` costs at most ``ratio`` times ``against``."""

    contender: str
    against: str
    ratio: float


def check_same_losses(contenders: Sequence[Contender], steps: int, rtol: float) -> None:
    """Run every contender from the same start; raise unless all losses agree."""
    first = contenders[0]
    expected = np.asarray(first.run(steps), dtype=float)
    for other in contenders[1:]:
        got = np.asarray(other.run(steps), dtype=float)
        np.testing.assert_allclose(
            got,
            expected,
            rtol=rtol,
            err_msg=f"{other.name} computes other losses than {first.name}",
        )


def interleave(
    contenders: Sequence[Contender], *, steps: int, rounds: int
) -> dict[str, list[float]]:
    """Time ``rounds`` rounds of ``steps`` steps each, the contenders taking turns.

    Returns seconds per step, one value a round, by contender.
    """
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for contender in contenders:
        contender.run(steps)
    for round_number in range(rounds):
        turn = contenders if round_number % 2 == 0 else contenders[::-1]
        for contender in turn:
            start = time.perf_counter()
            contender.run(steps)
            times[contender.name].append((time.perf_counter() - start) / steps)
    return times


def report(
    name: str,
    times: Mapping[str, Sequence[float]],
    *,
    baseline: str,
    unit: str = "us",
    bars: Sequence[Bar] = (),
    skipped: Sequence[Skipped] = (),
) -> None:
    """Print a table of medians, minima and ratios, hold it against the bars, and save it."""
    scale = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
    medians = {contender: statistics.median(values) for contender, values in times.items()}
    width = max(map(len, times))
    print(f"\n{name}")
    print(f"  {'':{width}}  {'median':>10}  {'minimum':>10}  {'ratio':>6}   ({unit})")
    for contender, values in times.items():
        ratio = medians[contender] / medians[baseline]
        print(
            f"  {contender:{width}}  {medians[contender] * scale:10.3f}  "
            f"{min(values) * scale:10.3f}  {ratio:6.2f}"
        )
    for skip in skipped:
        print(f"  {skip.name}: skipped, {skip.reason}")
    verdicts = []
    for bar in bars:
        ratio = medians[bar.contender] / medians[bar.against]
        verdict = "met" if ratio <= bar.ratio else "MISSED"
        verdicts.append({**attrs.asdict(bar), "measured": ratio, "verdict": verdict})
        print(
            f"  bar {verdict}: {bar.contender} at most {bar.ratio:g} x {bar.against}, "
            f"measured {ratio:.2f}"
        )
    save(
        name,
        {
            "seconds": {
                contender: {"median": medians[contender], "minimum": min(values)}
                for contender, values in times.items()
            },
            "skipped": [attrs.asdict(skip) for skip in skipped],
            "bars": verdicts,
        },
    )


def save(name: str, measured: object) -> None:
    """Write what was measured as JSON, with what it was measured on."""
    RESULTS.mkdir(exist_ok=True)
    about = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    path = RESULTS / f"{name.split(maxsplit=1)[0]}.json"
    path.write_text(json.dumps({"name": name, "on": about, "measured": measured}, indent=2) + "\n")
