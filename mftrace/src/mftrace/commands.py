"""The command ``miniflow replay``: a failure that a guard wrote down, run again alone."""

from __future__ import annotations

from pathlib import Path

import click

REPRODUCED, WENT_WELL, UNUSABLE = 1, 0, 2
"""Exit codes of ``miniflow replay``."""


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_context
def replay(ctx: click.Context, /, file: Path) -> None:
    """Run the operation of a replay FILE again, alone, and show how it went.

    The tracer guard writes such files: replay="failure.npz". The exit code is 1 if the bad
    value comes up again, 0 if it does not, and 2 if the file cannot be used.
    """
    from mftrace.replay_archive import ReplayError
    from mftrace.replaying import replay as run_again

    try:
        report = run_again(file)
    except ReplayError as error:
        click.echo(f"Error: {error}", err=True)
        ctx.exit(UNUSABLE)
    click.echo(str(report))
    ctx.exit(REPRODUCED if report.reproduced else WENT_WELL)
