"""The commands ``miniflow trace report`` and ``miniflow trace view``: recordings as pages."""

from __future__ import annotations

import tempfile
import webbrowser
from pathlib import Path

import click

LIMIT = "20MB"

_limit = click.option(
    "--limit",
    default=LIMIT,
    show_default=True,
    metavar="SIZE",
    help="Size that the arrays may have in the page; of more runs some are left out.",
)


@click.group()
def trace() -> None:
    """Look at recordings that the tracer record wrote."""


@trace.command()
@click.argument("recording", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page to write.  [default: beside RECORDING, with the suffix .html]",
)
@_limit
def report(recording: Path, output: Path | None, limit: str) -> None:
    """Write RECORDING, such as run.jsonl, as one HTML page that needs nothing else."""
    from mftrace.report import save_report

    path = save_report(recording, output or recording.with_suffix(".html"), limit=limit)
    click.echo(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


@trace.command()
@click.argument(
    "recording", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@_limit
def view(recording: Path | None, limit: str) -> None:
    """Open RECORDING as a page in the browser: run.jsonl, or a page written before.

    Without RECORDING, the newest recording in the current folder is opened.
    """
    from mftrace.report import save_report

    recording = recording or _newest(Path())
    page = recording
    if recording.suffix.lower() not in (".html", ".htm"):
        # It stays, for the browser reads it after this command has ended.
        folder = Path(tempfile.mkdtemp(prefix="miniflow-"))
        page = save_report(recording, folder / f"{recording.stem}.html", limit=limit)
    page = page.resolve()
    click.echo(str(page))
    if not webbrowser.open(page.as_uri()):
        raise click.ClickException("no browser was found: open this file yourself")


def _newest(folder: Path) -> Path:
    """Return the recording in a folder that was changed last."""
    found = [path for path in folder.glob("*.jsonl") if path.with_suffix(".npz").exists()]
    if not found:
        raise click.UsageError("there is no recording in this folder: name one, as run.jsonl")
    return max(found, key=lambda path: path.stat().st_mtime)
