"""The command ``miniflow curve``: an operation of one input, as a table of numbers."""

from __future__ import annotations

from collections.abc import Callable

import click
import mfcore as mf
import numpy as np


@click.command()
@click.argument("operation")
@click.option("--start", type=float, default=-3.0, show_default=True)
@click.option("--stop", type=float, default=3.0, show_default=True)
@click.option("--points", type=click.IntRange(min=2), default=7, show_default=True)
def curve(operation: str, start: float, stop: float, points: int) -> None:
    """Print value and slope of an operation of one input, of any pack: curve Swish."""
    found: Callable[..., mf.Node] = mf.registry.current().operation(operation)
    x = mf.Input("x")
    try:
        node = found(x)
    except TypeError as error:
        raise click.UsageError(f"{operation} is no operation of one input alone") from error
    session = mf.Session(node)
    click.echo(f"{'x':>10} {'value':>10} {'slope':>10}")
    for at in np.linspace(start, stop, points):
        run = session.run({x: at})
        click.echo(f"{at:10.4f} {run[node]:10.4f} {run.gradients[x]:10.4f}")
