"""The command ``miniflow train``: its options, read and checked, and what it reports."""

from __future__ import annotations

import ast
import inspect
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import mfcore as mf

if TYPE_CHECKING:
    from mfoptim import History
    from miniflow.datasets import Dataset
    from miniflow.train import Network

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of the signal."""

PLOT_FORMATS = (".png", ".pdf", ".svg", ".jpg", ".jpeg")


@click.command()
@click.argument("data", metavar="boston|diabetes|FILE.csv")
@click.option("--target", metavar="COLUMN", help="The column to predict.")
@click.option("--drop", multiple=True, metavar="COLUMN", help="Leave a column out; repeatable.")
@click.option(
    "--hidden",
    multiple=True,
    default=["10"],
    metavar="SIZES",
    help="Sizes of the hidden layers: 10, or 20,10, or none.  [default: 10]",
)
@click.option(
    "--activation",
    default="sigmoid",
    show_default=True,
    metavar="NAME",
    help="sigmoid, tanh, relu, or any operation with one input.",
)
@click.option(
    "--optimizer", default="SGD", show_default=True, metavar="NAME", help="Any optimizer of a pack."
)
@click.option("--learning-rate", type=float, help="The optimizer's learning rate.")
@click.option("--momentum", type=float, help="The optimizer's momentum, where it has one.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any hyperparameter of the optimizer; repeatable.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=100, show_default=True)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=11, show_default=True, help="Rows a step."
)
@click.option(
    "--sampling",
    type=click.Choice(["resample", "shuffle"]),
    default="resample",
    show_default=True,
    help="Batches drawn with replacement, or every row once an epoch.",
)
@click.option(
    "--validation-split",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of the rows held out, to measure the loss on.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Start of all random numbers: the same seed gives the same result.",
)
@click.option(
    "--standardise/--no-standardise",
    default=True,
    show_default=True,
    help="Give each feature mean 0 and (population) deviation 1.",
)
@click.option(
    "--standardise-target/--no-standardise-target",
    default=None,
    help="The same for the target.  [default: on, but off for boston, as in the tutorial]",
)
@click.option(
    "--engine",
    metavar="NAME",
    help="What runs the network: reference, numpy, numba, auto, or any engine of a pack.  "
    "[default: numpy where mfjit is installed, else reference]",
)
@click.option(
    "--trace",
    "traces",
    multiple=True,
    metavar="NAME[:OPTION=VALUE,...]",
    help="Let a tracer listen, with options: console, record:path=run.jsonl,every=10, profile, "
    "gradients, guard, or any tracer of a pack; repeatable.",
)
@click.option(
    "--plot",
    metavar="PATH",
    help="Where to save the loss curve.  [default: DATA_loss.png here]",
)
@click.option("--no-plot", is_flag=True, help="Save no loss curve.")
@click.pass_context
def train(
    ctx: click.Context,
    /,
    data: str,
    target: str | None,
    drop: tuple[str, ...],
    hidden: tuple[str, ...],
    activation: str,
    optimizer: str,
    learning_rate: float | None,
    momentum: float | None,
    settings: tuple[str, ...],
    standardise: bool,
    standardise_target: bool | None,
    traces: tuple[str, ...],
    plot: str | None,
    no_plot: bool,
    **options: Any,
) -> None:
    """Train a network on data, and report how it went.

    The defaults are the tutorial's: one hidden layer of 10 sigmoids, plain gradient
    descent with a learning rate of 0.01, batches of 11 rows, 100 epochs.
    """
    # What can be wrong is found before anything runs or is written.
    from miniflow import train as training
    from miniflow.datasets import first_non_finite, load

    dataset = load(data, target=target, drop=drop)
    if standardise_target is None:
        standardise_target = data != "boston"
    given = {"learning_rate": learning_rate, "momentum": momentum}
    chosen = {name: value for name, value in given.items() if value is not None}
    chosen.update(_settings(settings))
    rule = training.make_optimizer(training.resolve("optimizer", optimizer), chosen)
    sizes = _sizes(hidden)
    activation = training.resolve("operation", activation, training.is_activation)
    if options["engine"] is not None:
        options["engine"] = training.resolve("engine", options["engine"])
    chosen_tracers = [_tracer(text) for text in traces]
    picture = None if no_plot else _writable_plot(Path(plot or f"{dataset.name}_loss.png"))

    X = training.standardised(dataset.X) if standardise else dataset.X
    mean, unit = training.mean_and_deviation(dataset.y) if standardise_target else (0.0, 1.0)
    y = (dataset.y - mean) / unit

    from miniflow.reporting import ProgressBar, show_facts

    with ExitStack() as stack:
        tracers = [stack.enter_context(mf.tracing(name, **given)) for name, given in chosen_tracers]
        quiet = all(getattr(tracer, "quiet", False) for tracer in tracers)
        progress = stack.enter_context(ProgressBar(options["epochs"], shown=quiet))
        network = training.build_network(len(dataset.features), sizes, activation, options["seed"])
        _announce(dataset, network, rule, options, standardise, bool(standardise_target))
        history = training.train(network, X, y, rule, callbacks=[progress], **options)

    loss = training.mean_squared_error(history, network, X, y) * float(unit) ** 2
    click.echo(f"\n{history.table()}")
    for tracer in tracers:
        if (table := getattr(tracer, "table", None)) is not None:
            click.echo(f"\n{table()}")
    if standardise_target:
        click.echo("(losses of the standardised target: in units of its variance)")
    click.echo()
    facts = _results(dataset, loss, history, progress.steps)
    unsaved = "" if picture is None else _plot(history, picture, facts)
    show_facts(facts)
    if history.problems:
        for problem in first_non_finite(dataset) or history.problems:
            click.echo(f"warning: {problem}", err=True)
    if history.stopped.reason == "interrupted":
        click.echo(history.stopped.message, err=True)
        ctx.exit(INTERRUPTED)
    if history.stopped.reason == "diverged":
        raise click.ClickException(history.stopped.message)
    if unsaved:
        raise click.ClickException(unsaved)


# Reading the options


def _sizes(values: tuple[str, ...]) -> tuple[int, ...]:
    """Read the sizes of hidden layers: ``20,10``, or several options, or ``none``."""
    sizes = []
    for part in ",".join(values).split(","):
        text = part.strip()
        if text.lower() in ("none", "0") and len(values) == 1 and "," not in values[0]:
            return ()
        if not (text.isascii() and text.isdigit()) or int(text) == 0:
            raise click.BadParameter(
                f"{text!r} is no size: give 10, or 20,10, or none", param_hint="--hidden"
            )
        sizes.append(int(text))
    return tuple(sizes)


def _settings(values: tuple[str, ...]) -> dict[str, Any]:
    """Read ``name=value`` pairs; a value is a Python literal, or else text."""
    settings = {}
    for pair in values:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"{pair!r} is not of the form name=value", param_hint="--set")
        try:
            value = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError):
            value = text.strip()
        settings[name.strip().replace("-", "_")] = value
    return settings


def _writable_plot(path: Path) -> Path:
    """Check before training that the plot can be saved after it."""
    problem = ""
    if path.suffix.lower() not in PLOT_FORMATS:
        problem = f"the name must end in {', '.join(PLOT_FORMATS)}"
    elif path.is_dir():
        problem = "it is a folder"
    elif not path.parent.is_dir():
        problem = f"there is no folder {path.parent}"
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        problem = "it cannot be written"
    if problem:
        raise click.BadParameter(f"{path}: {problem}", param_hint="--plot")
    return path


def _tracer(text: str) -> tuple[str, dict[str, Any]]:
    """Read a tracer with its options, and check that they fit before anything runs."""
    from mfcore.trace import FILTERS, parse_tracer
    from miniflow.train import resolve

    name, given = parse_tracer(text)
    name = resolve("tracer", name)
    known = inspect.signature(mf.registry.current().tracer(name)).parameters
    unknown = [option for option in given if option not in known and option not in FILTERS]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        raise click.BadParameter(
            f"the tracer {name} has no option {unknown[0]!r}; it has "
            f"{', '.join(dict.fromkeys([*known, *FILTERS]))}",
            param_hint="--trace",
        )
    return name, given


# Reporting


def _announce(
    data: Dataset,
    network: Network,
    rule: Any,
    options: dict[str, Any],
    standardise: bool,
    standardise_target: bool,
) -> None:
    from mfcore.engine import default_engine
    from miniflow.reporting import show_facts
    from miniflow.train import describe

    how = "drawn with replacement" if options["sampling"] == "resample" else "of shuffled rows"
    scaled = [
        what
        for what, wanted in (("features", standardise), ("target", standardise_target))
        if wanted
    ]
    epochs = options["epochs"]
    engine = options["engine"] or default_engine().rpartition(".")[2]
    click.echo()
    show_facts(
        {
            "data": f"{data.name}: {len(data.y)} rows, {len(data.features)} features, "
            f"target {data.target}; {' and '.join(scaled) or 'nothing'} standardised",
            "network": f"{network.layers}, {network.size} parameters",
            "optimizer": describe(rule),
            "training": f"{epochs} epoch{'' if epochs == 1 else 's'}, "
            f"batches of {options['batch_size']} {how}, "
            f"seed {options['seed']}, engine {engine}",
        }
    )
    sys.stdout.flush()  # before the progress, which goes to the other stream


def _results(data: Dataset, loss: float, history: History, steps: int) -> dict[str, str]:
    import numpy as np

    from miniflow.reporting import time_per_step

    error = f"{loss:.4g} on all {len(data.y)} rows"
    if np.isfinite(loss) and (variance := float(np.var(data.y))) > 0:
        share = 1 - loss / variance
        error += (
            f" ({share:.1%} of the variance of {data.target} explained)"
            if share > 0
            else f" (worse than always answering the mean of {data.target})"
        )
    return {
        "mean squared error": error,
        "time per step": time_per_step(steps, sum(history.seconds)),
    }


def _plot(history: History, picture: Path, facts: dict[str, str]) -> str:
    """Save the loss curve and note where; return why it was not saved, if it was not."""
    try:
        facts["loss curve"] = str(history.plot(picture))
    except OSError as error:  # a full disk, say: the rest of the report must not be lost
        return f"the loss curve was not saved: {error}"
    return ""
