"""What ``miniflow check`` runs and shows: the conformance of the packs that are installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from tempfile import gettempdir
from typing import Any

import attrs
import click
from rich.table import Table
from rich.text import Text

from mfcore.registry import Registry, using
from mfcore.testing import PackCheck, Report, pack_checks
from miniflow.reporting import console

COLUMNS = {
    "passed": "passed",
    "failed": "failed",
    "expected": "failed as expected",
    "not applicable": "did not apply",
}
"""The columns of the table, by the status that they count."""


@attrs.frozen
class Checked:
    """What was found in some packs.

    Attributes
    ----------
    reports : dict
        What the checks found, by qualified name of what they checked.
    unchecked : tuple of str
        Packs that could not be loaded, and why: nothing of them was checked.
    """

    reports: dict[str, Report]
    unchecked: tuple[str, ...] = ()

    @property
    def subjects(self) -> str:
        """How many operations, optimizers and packs were checked, in words."""
        packs = sum("manifest" in {o.check for o in r.outcomes} for r in self.reports.values())
        others = len(self.reports) - packs
        told = "1 operation or optimizer" if others == 1 else f"{others} operations and optimizers"
        return f"{told}, {packs} manifest{'s' * (packs > 1)}" if packs else told

    @property
    def ok(self) -> bool:
        """Whether there was something to check, and all of it was right."""
        return (
            bool(self.reports)
            and not self.unchecked
            and all(report.ok for report in self.reports.values())
        )


def checks_of(registry: Registry, wanted: Sequence[str]) -> list[PackCheck]:
    """Return the checks of packs, or of single operations and optimizers by qualified name.

    Raises
    ------
    click.UsageError
        If one of them is unknown or provides nothing that can be checked.
    """
    with using(registry):
        try:
            return pack_checks(*wanted)
        except LookupError as error:
            raise click.UsageError(str(error)) from None


def run(registry: Registry, wanted: Sequence[str], engines: Iterable[str] | None = None) -> Checked:
    """Run the checks of packs; of all that are enabled where none is named."""
    # A command leaves nothing behind where it is run: hypothesis would, even without a database.
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", os.path.join(gettempdir(), "hypothesis"))
    checks = checks_of(registry, wanted)
    unchecked = [
        f"pack {pack.name} is {pack.status}: {pack.reason}"
        for pack in registry.packs()
        if not wanted and pack.status not in ("loaded", "found", "disabled")
    ]
    reports = {}
    with click.progressbar(checks, label="checking", file=sys.stderr, item_show_func=_shown) as bar:
        for check in bar:
            reports[check.name] = check.examine(engines)
    return Checked(reports, tuple(unchecked))


def _shown(check: PackCheck | None) -> str | None:
    return None if check is None else check.name


def as_dict(checked: Checked) -> dict[str, Any]:
    """Return what was found as plain values, for JSON."""
    whole = Report.of(checked.reports.values())
    return {
        "ok": checked.ok,
        "counts": whole.counts(),
        "cases": sum(outcome.cases for outcome in whole.outcomes),
        "unchecked": list(checked.unchecked),
        "outcomes": [attrs.asdict(outcome) for outcome in whole.outcomes],
    }


def show(checked: Checked, *, verbose: bool) -> None:
    """Print a line for each operation and optimizer, then whatever did not pass, and the sum."""
    out = console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", min_width=max(map(len, checked.reports), default=0))
    for title in ("passed", "failed", "expected", "did not apply", "cases"):
        table.add_column(title, justify="right")
    for name, report in checked.reports.items():
        counts = report.counts()
        cases = sum(outcome.cases for outcome in report.outcomes)
        numbers = [str(counts[status] or "-") for status in COLUMNS]
        table.add_row(name, *numbers, str(cases), style=None if report.ok else "red")
    out.print(table)
    whole = Report.of(checked.reports.values())
    told = ["failed", "expected", *(["not applicable", "passed"] if verbose else [])]
    for status in told:
        outcomes = [o for o in whole.outcomes if o.status == status and o.message]
        if outcomes:
            out.print(Text(f"\n{COLUMNS[status]}", style="bold"))
        for outcome in outcomes:
            line = f"  {outcome.subject}, {outcome.check}: {outcome.message}"
            out.print(Text(line, style="red" if status == "failed" else ""), soft_wrap=True)
    for reason in checked.unchecked:
        out.print(Text(f"\nnot checked: {reason}", style="red"), soft_wrap=True)
    for remark in whole.remarks:
        out.print(f"\n{remark}", soft_wrap=True)
    if engines := _engines(whole):
        out.print(f"\n{engines}", soft_wrap=True)
    counts = whole.counts()
    numbers = [f"{counts[status]} {title}" for status, title in COLUMNS.items()]
    out.print(f"\n{checked.subjects}: {', '.join(numbers)}", soft_wrap=True)


def _engines(whole: Report) -> str:
    """Return which engines were compared with the reference, and which were not."""
    ran: dict[str, bool] = {}
    for outcome in whole.outcomes:
        word, _, name = outcome.check.partition(" ")
        if word == "engine":
            ran[name] = ran.get(name, False) or outcome.status != "not applicable"
    compared = [name for name, done in ran.items() if done]
    others = [name for name, done in ran.items() if name and not done]
    told = f"engines compared with the reference: {', '.join(compared) or 'none'}"
    return f"{told}; not compared: {', '.join(others)}" if others else told if ran else ""
