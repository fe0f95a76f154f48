"""The command line ``miniflow``: its own commands, and those that packs add."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

import mfcore as mf
from mfcore.errors import (
    ExecutionError,
    MiniFlowError,
    MiniFlowWarning,
    QuarantineWarning,
    SettingsError,
)
from miniflow import __version__
from miniflow.train_command import INTERRUPTED, train


class FrontDoor(click.Group):
    """The group of all commands: its own, and those that packs add by ``mf_commands``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands; what is wrong with packs' commands is said here."""
        return [*super().list_commands(ctx), *self._of_packs(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; packs are asked only for those that are not built in."""
        return super().get_command(ctx, cmd_name) or self._of_packs(ctx).get(cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors of MiniFlow become messages, and Ctrl-C a quiet end."""
        with _warnings_as_messages():
            try:
                return super().invoke(ctx)
            except MiniFlowError as error:
                click.echo(f"Error: {error}", err=True)
                # As for click's own errors: 2 for what was given wrongly, 1 for failing later.
                ctx.exit(1 if isinstance(error, ExecutionError) else 2)
            except KeyboardInterrupt:
                click.echo("interrupted", err=True)
                ctx.exit(INTERRUPTED)

    def _of_packs(self, ctx: click.Context) -> dict[str, click.Command]:
        from miniflow.listing import Fault, pack_commands

        with _warnings_as_messages():
            try:
                commands, faults = pack_commands(mf.registry.current(), self.commands)
            except SettingsError as error:  # help is given all the same
                commands, faults = {}, [Fault(f"packs are not asked for commands: {error}")]
        if not ctx.meta.setdefault("miniflow.faults_are_told", False):
            for fault in faults:
                click.echo(f"warning: {fault.what}", err=True)
            ctx.meta["miniflow.faults_are_told"] = True
        return {name: command for name, (_, command) in commands.items()}


@contextmanager
def _warnings_as_messages() -> Iterator[None]:
    """Show MiniFlow's own warnings as a person would say them, without a place in the code."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def tell(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, MiniFlowWarning):
                click.echo(f"warning: {message}", err=True)
            else:
                show(message, category, *place, **more)

        warnings.showwarning = tell
        yield


@click.group(
    cls=FrontDoor,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="miniflow")
def main() -> None:
    """MiniFlow: computation graphs on NumPy, made of plugins."""


main.add_command(train)


# Looking around


_with_tracebacks = click.option(
    "--traceback/--no-traceback",
    default=True,
    show_default=True,
    help="Show the traceback of packs that failed to load.",
)


@main.group(invoke_without_command=True)
@_with_tracebacks
@click.pass_context
def packs(ctx: click.Context, traceback: bool) -> None:
    """List every pack found: where it comes from, what it provides, what is wrong with it."""
    if ctx.invoked_subcommand is not None:
        return
    from miniflow.listing import show_packs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuarantineWarning)  # the list itself tells it
        show_packs(mf.registry.current(), main.commands, tracebacks=traceback)


@packs.command()
@_with_tracebacks
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.pass_context
def doctor(ctx: click.Context, traceback: bool, as_json: bool) -> None:
    """Load every pack, and tell what is wrong and what mends it; exit with 1 if anything is."""
    from miniflow.doctor import as_dict, examine, show

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuarantineWarning)  # as above
        found = examine(mf.registry.current(), main.commands)
    if as_json:
        click.echo(json.dumps(as_dict(found), indent=2))
    else:
        show(found, tracebacks=traceback)
    ctx.exit(1 if found.problems else 0)


@main.command()
@click.argument("pack", metavar="PACK")
@click.option(
    "--output",
    "-o",
    default="miniflow.json",
    show_default=True,
    metavar="FILE",
    help="Where to write it; - for the standard output.",
)
def manifest(pack: str, output: str) -> None:
    """Write what an installed pack provides into a file for its distribution to carry."""
    from miniflow.doctor import manifest_text

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuarantineWarning)  # of this pack an error tells
        text = manifest_text(mf.registry.current(), pack)
    try:
        with click.open_file(output, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}") from None


@main.command()
@click.argument("name", required=False)
def ops(name: str | None) -> None:
    """List every operation, or tell all about one: Linear, or mfops_nn.Linear."""
    from miniflow.listing import show_operation, show_operations

    if name is None:
        show_operations(mf.registry.current())
    else:
        show_operation(mf.registry.current(), name)


# Packs of one's own


@main.command()
@click.argument("name")
@click.option(
    "--licence",
    type=click.Choice(["MIT", "Apache-2.0", "BSD-3-Clause"]),
    default="MIT",
    show_default=True,
)
@click.option("--author", metavar="NAME", help="Who has the copyright.  [default: its developers]")
@click.option(
    "--into", metavar="DIR", default=".", help="The folder to make it in.  [default: here]"
)
def new(name: str, licence: str, author: str | None, into: str) -> None:
    """Make a distribution for a pack of your own, such as mfops_mine, ready to install.

    It holds an operation with samples, an optimizer, tests, a README, a licence and a script
    for continuous integration.
    """
    from miniflow.new import new_pack

    folder = new_pack(name, licence=licence, author=author, into=into)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        click.echo(file)
    click.echo(
        f"\nInstall it: pip install --editable {folder}\nMiniFlow finds it then: miniflow packs"
    )


@main.command()
@click.argument("packs", nargs=-1, metavar="[PACK...]")
@click.option("--all", "everything", is_flag=True, help="Check all packs that are installed.")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAME",
    help="An engine to compare with the reference; repeatable. By default those that compile "
    "at once; all means all, and mfjit.numba takes minutes.",
)
@click.option("--verbose", "-v", is_flag=True, help="Tell also why checks did not apply.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.pass_context
def check(
    ctx: click.Context,
    packs: tuple[str, ...],
    everything: bool,
    engines: tuple[str, ...],
    verbose: bool,
    as_json: bool,
) -> None:
    """Check that operations and optimizers keep the contract; exit with 1 if one does not.

    PACK is a pack's name, or that of one operation or optimizer in it: mfops_nn.Linear.
    """
    if bool(packs) == everything:
        raise click.UsageError("name packs to check, or say --all")
    from miniflow.check import as_dict, run, show

    registry = mf.registry.current()
    for engine in engines:
        if engine != "all":
            registry.engine(engine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuarantineWarning)  # the report itself tells it
        found = run(registry, packs, engines or None)
    if as_json:
        click.echo(json.dumps(as_dict(found), indent=2))
    else:
        show(found, verbose=verbose)
    ctx.exit(0 if found.ok else 1)
