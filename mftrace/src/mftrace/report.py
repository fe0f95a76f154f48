"""The page: a recording as one HTML file to play, with nothing to load and nothing to install."""

from __future__ import annotations

import hashlib
import json
import os
import re
from base64 import b64encode
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from mftrace.draw import words
from mftrace.errors import RecordingError
from mftrace.reading import read
from mftrace.record import size_in_bytes
from mftrace.recording import Recording
from mftrace.report_data import page_data

STYLES = ("page.css",)
SCRIPTS = ("matrix.js", "graph.js", "curve.js", "page.js")

_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def report_html(recording: Recording, *, title: str = "", limit: int | str = "20MB") -> str:
    """Return a recording as a page: one HTML text with all that it needs inside.

    Parameters
    ----------
    recording : Recording
        What ``mftrace.read`` or ``tracer.recording`` gave, with at least one pass.
    title : str, optional
        What the page is called, such as the name of the file.
    limit : int or str, optional
        Bytes, about, that the recorded arrays may take in the page. Of more runs than fit,
        evenly chosen ones are shown, and the page says so.

    Raises
    ------
    RecordingError
        If there is no pass to show, or the arrays cannot be read.
    TracerOptionError
        If the limit is no size.
    """
    data = page_data(recording, size_in_bytes(limit))
    title = words.short(title, 120) or "A recorded run"
    data["title"] = title
    style = "\n".join(map(_part, STYLES))
    script = f'"use strict";\n(() => {{\n{"".join(map(_part, SCRIPTS))}}})();\n'
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; "
        f"img-src data:; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "title": escape(title),
        "policy": escape(policy),
        "style": style,
        "script": script,
        "data": _embedded(data),
    }
    # In one pass, so that what is filled in is not itself searched.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _part("page.html"))


def save_report(
    recording: Recording | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    limit: int | str = "20MB",
) -> Path:
    """Write a recording as a page, and return where it is.

    Parameters
    ----------
    recording : Recording, str or path
        A recording, or the file that the tracer ``record`` wrote.
    path : str or path
        Where to write the page, by custom with the suffix ``.html``. Either all of it is
        written or nothing.
    limit : int or str, optional
        Bytes, about, that the recorded arrays may take in the page.

    Raises
    ------
    RecordingError
        If the recording cannot be read or shown, or the page cannot be written.
    TracerOptionError
        If the limit is no size.
    """
    path = Path(path)
    if isinstance(recording, Recording):
        text = report_html(recording, title=path.stem, limit=limit)
    else:
        source = Path(recording)
        text = report_html(read(source), title=source.name, limit=limit)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            unfinished.write_text(text, encoding="utf-8", newline="\n")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise RecordingError(f"{path} cannot be written: {error.strerror or error}") from None
    return path


def _part(name: str) -> str:
    return files("mftrace").joinpath("page", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """Return how a content security policy names a script or a style."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(data: dict[str, Any]) -> str:
    """Return data as JSON that stays data wherever in a page it stands.

    Text is ASCII only, which also keeps U+2028 and lone surrogates out of the page.
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda found: _UNSAFE[found[0]], text)
