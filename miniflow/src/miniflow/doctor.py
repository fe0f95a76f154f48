"""What ``miniflow packs doctor`` tells: what became of each pack, what is wrong, what mends it."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

import attrs
import click
from rich.table import Table
from rich.text import Text

import mfcore as mf
from mfcore import manifest
from mfcore.errors import PackError, SettingsError, UnknownNameError
from mfcore.registry import KINDS, Pack, Registry
from mfcore.settings import normal
from miniflow.listing import (
    STYLES,
    Fault,
    ambiguous_functions,
    ambiguous_names,
    origin,
    pack_commands,
)
from miniflow.mends import PIP, installations, mends
from miniflow.reporting import console


@attrs.frozen
class Problem:
    """Something that does not work as it is installed.

    Attributes
    ----------
    what : str
        What is wrong, and why.
    mend : tuple of str
        What mends it: commands of which one is enough, or words where no command does.
    pack : str
        The pack that it is about, if it is about one.
    traceback : str
        The traceback of the failure, if there was one.
    """

    what: str
    mend: tuple[str, ...] = ()
    pack: str = ""
    traceback: str = ""


@attrs.frozen
class Diagnosis:
    """What the doctor found.

    Attributes
    ----------
    packs : list of Pack
        All packs, by name.
    commands : dict
        By pack: the names of its commands.
    problems : list of Problem
        What does not work.
    notes : list of str
        What is as somebody chose it, or works in part.
    """

    packs: list[Pack]
    commands: dict[str, list[str]]
    problems: list[Problem]
    notes: list[str]


def examine(registry: Registry, builtin: Mapping[str, Any]) -> Diagnosis:
    """Load every pack, and say what is wrong with which.

    What packs print while they are imported goes to the standard error stream.

    Parameters
    ----------
    registry : Registry
        Whose packs to look at.
    builtin : mapping
        The command line's own commands by name, which packs cannot replace.
    """
    with _lenient(registry), redirect_stdout(sys.stderr):
        try:
            packs = registry.load()
        except SettingsError as error:
            return Diagnosis([], {}, [Problem(str(error), ("edit the file",))], [])
        provided, faults = pack_commands(registry, builtin)
    commands: dict[str, list[str]] = {}
    for name, (provider, _) in provided.items():
        commands.setdefault(provider, []).append(name)
    problems = [
        Problem(
            f"pack {pack.name} ({origin(pack)}) is {_STATES[pack.status]}: {pack.reason}",
            mends(pack),
            pack.name,
            pack.traceback,
        )
        for pack in packs
        if pack.status in _STATES
    ]
    problems += _missing(registry, packs)
    problems += [Problem(line) for line in ambiguous_functions(packs)]
    problems += [_skipped(fault, packs) for fault in faults]
    problems += _wrong_manifests(packs)
    return Diagnosis(packs, commands, problems, _notes(registry, packs))


def show(found: Diagnosis, *, tracebacks: bool) -> None:
    """Print a diagnosis for a reader."""
    out = console()
    if found.packs:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for pack in found.packs:
            status = Text(pack.status, style=STYLES.get(pack.status, "yellow"))
            table.add_row(status, Text(pack.name, style="bold"), Text(origin(pack)))
        out.print(table)
    for problem in found.problems:
        out.print()
        out.print(Text(problem.what), soft_wrap=True)
        if problem.traceback and tracebacks:
            click.echo(textwrap.indent(problem.traceback.rstrip(), "  "))
        for i, command in enumerate(problem.mend):
            out.print(Text(f"  {'or' if i else 'to mend it'}: {command}"), soft_wrap=True)
    if found.notes:
        out.print()
    for note in found.notes:
        out.print(Text(f"note: {note}"), soft_wrap=True)
    out.print()
    count = len(found.problems)
    end = f"{count} problem{'' if count == 1 else 's'}" if count else "all is well"
    out.print(Text(end, style="bold red" if count else "bold green"))


def as_dict(found: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as JSON has it; ``docs/packs.md`` describes the keys."""
    return {
        "ok": not found.problems,
        "mfcore": mf.__version__,
        "packs": [
            {
                "name": pack.name,
                "distribution": pack.distribution,
                "version": pack.version,
                "entry_point": pack.entry_point,
                "status": pack.status,
                "reason": pack.reason,
                "traceback": pack.traceback,
                "provides": {
                    **{kind: sorted(pack.provides.get(kind, {})) for kind in KINDS},
                    "command": found.commands.get(pack.name, []),
                },
            }
            for pack in found.packs
        ],
        "problems": [attrs.asdict(problem) for problem in found.problems],
        "notes": found.notes,
    }


def manifest_text(registry: Registry, name: str) -> str:
    """Return the manifest of an installed pack, as ``mfcore.manifest`` reads it.

    It is of its distribution, and describes whatever else is a pack of that.

    Raises
    ------
    UnknownNameError
        If there is no pack of that name.
    PackError
        If one of them cannot be loaded.
    DefinitionError
        If it provides something that cannot be imported by its module and name.
    """
    with redirect_stdout(sys.stderr):
        packs = registry.load()
    asked = next((pack for pack in packs if normal(pack.name) == normal(name)), None)
    if asked is None:
        known = ", ".join(pack.name for pack in packs)
        raise UnknownNameError(f"there is no pack {name!r}; there are {known}")
    together = [
        pack for pack in packs if asked.distribution and pack.distribution == asked.distribution
    ]
    for pack in together or [asked]:
        if pack.status != "loaded":
            raise PackError(f"pack {pack.name} is {pack.status}: {pack.reason}")
    return manifest.write(*(together or [asked]))


_STATES = {
    "quarantined": "quarantined",
    "conflict": "in conflict",
    "incompatible": "out of range",
}
"""The states of a pack that are problems, in words."""


@contextmanager
def _lenient(registry: Registry) -> Iterator[None]:
    """Let a strict registry quarantine, so that all problems are found and not the first."""
    strict, registry.strict = registry.strict, False
    try:
        yield
    finally:
        registry.strict = strict


def _unmatched(names: tuple[str, ...], packs: list[Pack]) -> list[str]:
    known = {normal(n) for p in packs for n in (p.name, p.distribution, *p.claimants)}
    return [name for name in names if normal(name) not in known]


def _missing(registry: Registry, packs: list[Pack]) -> list[Problem]:
    chosen = registry.chosen
    if chosen is None or not registry.autoload:
        return []
    return [
        Problem(
            f"no pack {name} is installed, and {chosen.source} asks for it",
            (f"{PIP} install {name}", f"take {name} out of {chosen.source}"),
            name,
        )
        for name in _unmatched(chosen.names, packs)
    ]


def _skipped(fault: Fault, packs: list[Pack]) -> Problem:
    of = [pack for pack in packs if pack.name == fault.pack]
    mend = installations(of[0]) if fault.traceback and of and of[0].distribution else ()
    return Problem(fault.what, mend, fault.pack, fault.traceback)


def _wrong_manifests(packs: list[Pack]) -> list[Problem]:
    return [
        Problem(difference, installations(pack), pack.name)
        for pack in packs
        if pack.status == "loaded"
        for difference in manifest.verify(pack)
    ]


def _notes(registry: Registry, packs: list[Pack]) -> list[str]:
    notes = []
    if not registry.autoload:
        notes.append("installed packs are not looked for (MINIFLOW_AUTOLOAD=0, or in code)")
    unused: dict[str, list[str]] = {}
    for pack in packs:
        if pack.status == "disabled":
            unused.setdefault(pack.reason, []).append(f"{pack.name} ({origin(pack)})")
    notes += [
        f"pack{'s' if len(named) > 1 else ''} {', '.join(named)} "
        f"{'are' if len(named) > 1 else 'is'} not used: {reason}"
        for reason, named in unused.items()
    ]
    if registry.disabled is not None and registry.autoload:
        notes += [
            f"{registry.disabled.source} disables {name}, which is not installed"
            for name in _unmatched(registry.disabled.names, packs)
        ]
    return notes + ambiguous_names(packs)
