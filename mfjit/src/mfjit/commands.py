"""The command ``miniflow cache``: the compiled programs on disk."""

from __future__ import annotations

from datetime import datetime

import click

from mfjit import cache as programs


@click.command()
@click.option("--clear", is_flag=True, help="Remove every program.")
def cache(clear: bool) -> None:
    """Show the compiled programs of the engine numba that are kept on disk, or remove them.

    A program is compiled once for each version of what it depends on, and found again by
    every later process. MINIFLOW_CACHE_DIR says where they are.
    """
    if clear:
        count = programs.clear()
        click.echo(f"removed {count} program{'' if count == 1 else 's'} from {programs.folder()}")
        return
    entries = programs.entries()
    click.echo(f"{programs.folder()}: {len(entries)} program{'' if len(entries) == 1 else 's'}")
    if entries:
        total = sum(entry.nbytes for entry in entries)
        click.echo(f"{'last used':16}  {'kB':>8}  program")
        for entry in entries:
            used = datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M")
            click.echo(f"{used:16}  {entry.nbytes / 1e3:8.1f}  {entry.title or entry.key}")
        click.echo(f"{'together':16}  {total / 1e3:8.1f}")
