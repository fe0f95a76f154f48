"""What ``miniflow packs`` and ``miniflow ops`` show: packs, what they provide, and operations."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import click
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

import mfcore as mf
from mfcore.errors import type_name
from mfcore.problems import traceback_of
from mfcore.registry import KINDS, Pack, Registry
from miniflow.reporting import console, show_facts

STYLES = {"loaded": "green", "disabled": "dim", "quarantined": "red", "conflict": "red"}
"""How the states of packs are coloured; others are yellow."""


# Commands of packs


@attrs.frozen
class Fault:
    """A command, or all of a pack's, that is skipped.

    Attributes
    ----------
    what : str
        What is skipped, and why.
    pack : str
        The pack that it is about, if it is about one.
    traceback : str
        The traceback of the failure, if there was one.
    """

    what: str
    pack: str = ""
    traceback: str = ""


def pack_commands(
    registry: Registry, builtin: Mapping[str, Any]
) -> tuple[dict[str, tuple[str, click.Command]], list[Fault]]:
    """Collect the commands of all packs, each pack apart, so that faults stay with it.

    Returns
    -------
    commands : dict
        Pack and command, by the command's name.
    faults : list of Fault
        What was skipped: by a hook that raises, for being no command, and for a name that is
        built in or that two packs claim.
    """
    by_pack, failed = registry.commands_by_pack()
    faults = [
        Fault(
            f"pack {pack}: its commands are skipped: {type_name(error)}: {error}",
            pack,
            traceback_of(error),
        )
        for pack, error in failed.items()
    ]
    claims: dict[str, list[tuple[str, click.Command]]] = {}
    for pack, given in by_pack.items():
        for command in given:
            if not isinstance(command, click.Command) or not command.name:
                what = f"pack {pack}: {command!r} is skipped: it is no named click command"
                faults.append(Fault(what, pack))
            elif command.name in builtin:
                what = f"pack {pack}: its command {command.name!r} is skipped"
                faults.append(Fault(f"{what}: miniflow has one of that name", pack))
            else:
                claims.setdefault(command.name, []).append((pack, command))
    commands = {}
    for name, claimants in sorted(claims.items()):
        if len(claimants) == 1:
            commands[name] = claimants[0]
        else:
            packs = ", ".join(sorted(pack for pack, _ in claimants))
            what = f"the command {name!r} is skipped: several packs have one ({packs})"
            faults.append(Fault(what))
    return commands, faults


# Packs


def show_packs(registry: Registry, builtin: Mapping[str, Any], *, tracebacks: bool) -> None:
    """Print every pack found, what it provides, and what is wrong with it."""
    packs = registry.load()
    commands, faults = pack_commands(registry, builtin)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("pack", no_wrap=True)
    table.add_column("distribution")
    table.add_column("status", no_wrap=True)
    table.add_column("provides", overflow="fold")
    for pack in packs:
        own = [name for name, (provider, _) in commands.items() if provider == pack.name]
        table.add_row(
            Text(pack.name, style="bold"),
            Text(pack.origin if pack.distribution else origin(pack)),
            Text(pack.status, style=STYLES.get(pack.status, "yellow")),
            Text(_provides(pack, own)),
        )
    out = console()
    out.print(table)
    for pack in packs:
        if pack.enabled:
            continue
        out.print()
        out.print(Text(f"{pack.name} is {pack.status}: {pack.reason}"))
        if pack.traceback and tracebacks:
            click.echo(textwrap.indent(pack.traceback.rstrip(), "  "))
    ambiguous = [*ambiguous_names(packs), *ambiguous_functions(packs)]
    conflicts = [*map(Fault, ambiguous), *faults]
    if conflicts:
        out.print()
        out.print(Text("conflicts", style="bold"))
        for conflict in conflicts:
            out.print(Text(conflict.what))
            if conflict.traceback and tracebacks:
                click.echo(textwrap.indent(conflict.traceback.rstrip(), "  "))


def origin(pack: Pack) -> str:
    """Return where a pack comes from: distribution and version."""
    return f"mfcore {mf.__version__}" if pack.name == "mfcore" else pack.origin


def _provides(pack: Pack, commands: list[str]) -> str:
    """Return counts and names, one line a kind."""
    if not pack.enabled:
        return pack.reason
    lines = []
    for kind, names in [*((k, pack.provides.get(k, {})) for k in KINDS), ("command", commands)]:
        if names:
            plural = "" if len(names) == 1 else "s"
            lines.append(f"{len(names)} {kind}{plural}: {', '.join(sorted(names))}")
    return "\n".join(lines) or "nothing by name"


def ambiguous_names(packs: list[Pack]) -> list[str]:
    """Say which short names several packs claim with different classes."""
    claims: dict[tuple[str, str], dict[str, Any]] = {}
    for pack in packs:
        if pack.enabled:
            for kind, provided in pack.provides.items():
                for name, cls in provided.items():
                    claims.setdefault((kind, name), {})[f"{pack.name}.{name}"] = cls
    return [
        f"the {kind} {name!r} is provided by several packs: use a qualified name, "
        f"{' or '.join(sorted(by))}"
        for (kind, name), by in sorted(claims.items())
        if len(set(by.values())) > 1
    ]


def ambiguous_functions(packs: list[Pack]) -> list[str]:
    """Say which NumPy functions several packs claim with different operations."""
    claims: dict[Callable[..., Any], dict[str, Any]] = {}
    for pack in packs:
        if pack.enabled:
            for name, cls in pack.provides.get("operation", {}).items():
                for function in mf.spec_of(cls).declared:
                    claims.setdefault(function, {})[f"{pack.name}.{name}"] = cls
    return [
        f"{numpy_name(function)} on nodes is claimed by {', '.join(sorted(by))}: disable "
        f"all but one of their packs"
        for function, by in claims.items()
        if len(set(by.values())) > 1
    ]


# Operations


def show_operations(registry: Registry) -> None:
    """Print a table of all operations of all enabled packs."""
    operations = registry.all("operation")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("operation", overflow="fold", ratio=3)
    table.add_column("pack", no_wrap=True)
    table.add_column("gradient", no_wrap=True)
    out = console()
    roomy = out.width >= 100
    if roomy:
        table.add_column("what it is", ratio=4)
    for qualified, operation in operations.items():
        pack = qualified.rpartition(".")[0]
        name, _, rest = signature(operation).partition("(")
        label = Text(name, style="bold")
        label.append(f"({rest}", style="not bold")
        has = mf.spec_of(operation).differentiable
        row = [label, Text(pack), Text("yes" if has else "no")]
        if roomy:
            row.append(Text((inspect.getdoc(operation) or "").partition("\n\n")[0]))
        table.add_row(*row)
    out.print(table)
    out.print(Text(f"\n{len(operations)} operations; miniflow ops NAME tells all about one"))


def show_operation(registry: Registry, name: str) -> None:
    """Print all about one operation: what it is, where it comes from, and its source.

    Raises
    ------
    UnknownNameError, AmbiguousNameError
        If the name stands for no operation, or for several.
    """
    operation = registry.operation(name)
    spec = mf.spec_of(operation)
    pack = registry.provider(operation)
    out = console()
    out.print(Text(signature(operation), style="bold"))
    out.print()
    if text := inspect.getdoc(operation):
        out.print(Text(text))
        out.print()
    file = inspect.getsourcefile(operation)
    facts = {
        "provider": f"pack {pack.name} ({origin(pack)})" if pack else "unknown",
        "inputs": ", ".join(spec.inputs) + (" (any number)" if spec.variadic else ""),
    }
    if spec.hyperparameters:
        facts["hyperparameters"] = ", ".join(_hyperparameters(operation))
    if spec.declared:
        facts["stands for"] = ", ".join(map(numpy_name, spec.declared))
    if spec.broadcasts:
        facts["broadcasts"] = ", ".join(sorted(spec.broadcasts))
    facts["differentiable"] = "yes" if spec.differentiable else "no: no gradient passes"
    if file:
        facts["defined in"] = file
    show_facts(facts)
    for function in (spec.forward, spec.backward):
        if function is not None and (source := _source(function)):
            out.print()
            code = Syntax("", "python", theme="ansi_dark").highlight(source)
            code.rstrip()
            out.print(code, soft_wrap=True)


def signature(operation: type[mf.Node]) -> str:
    """Return how an operation is written: ``Sum(x, *, axis=None, keepdims=False)``."""
    spec = mf.spec_of(operation)
    inputs = list(spec.inputs)
    if spec.variadic:
        inputs[-1] = f"*{inputs[-1]}"
    star = [] if spec.variadic or not spec.hyperparameters else ["*"]
    return f"{spec.name}({', '.join([*inputs, *star, *_hyperparameters(operation)])})"


def numpy_name(function: Any) -> str:
    """Return a NumPy function's name as it is called: ``np.sum``, ``np.linalg.inv``."""
    module = getattr(function, "__module__", None) or "numpy"
    module = "np" if not module.startswith("numpy.linalg") else "np.linalg"
    return f"{module}.{getattr(function, '__name__', function)}"


def _hyperparameters(operation: type[mf.Node]) -> list[str]:
    names = mf.spec_of(operation).hyperparameters
    return [
        field.name if field.default is attrs.NOTHING else f"{field.name}={_default(field.default)}"
        for field in attrs.fields(operation)
        if field.name in names
    ]


def _default(value: Any) -> str:
    return "..." if hasattr(value, "factory") else repr(value)


def _source(function: Callable[..., Any]) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function)).rstrip()
    except (OSError, TypeError):  # defined where no source is kept, as in an interactive session
        return ""
