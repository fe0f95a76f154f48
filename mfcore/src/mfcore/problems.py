"""What is said of packs that are not loaded, and where a name is not found."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mfcore.errors import UnknownNameError

if TYPE_CHECKING:
    from mfcore.discovery import Pack


def traceback_of(error: BaseException) -> str:
    """Return the traceback of a pack's failure, from the pack's own code on if that was reached."""
    trace = error.__traceback__
    while trace is not None and _leads_there(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))


def _leads_there(file: str) -> bool:
    """Whether a file is of what imports packs and calls their hooks."""
    import importlib

    import pluggy

    homes = (os.path.dirname(str(module.__file__)) for module in (importlib, pluggy))
    return file.startswith(("<frozen importlib", os.path.dirname(__file__), *homes))


def of_packs(packs: Iterable[Pack]) -> str:
    """Return what is wrong with packs that are not loaded, with tracebacks; else ``""``."""
    lines = []
    for pack in packs:
        if pack.status in ("quarantined", "conflict", "incompatible"):
            lines.append(f"pack {pack.name} ({pack.origin}) is {pack.status}: {pack.reason}")
            if pack.traceback:
                lines.append(pack.traceback.rstrip())
    return "\n".join(lines)


def unknown_name(
    kind: str, name: str, known: Iterable[str], packs: Iterable[Pack], asked: Pack | None
) -> UnknownNameError:
    """Return the error for a name that no enabled pack provides.

    Parameters
    ----------
    kind, name : str
        What was looked up.
    known : iterable of str
        The qualified names of everything of that kind.
    packs : iterable of Pack
        All packs.
    asked : Pack or None
        The pack that the name names, if it names one.
    """
    import difflib

    names = list(known)
    names += [qualified.rpartition(".")[2] for qualified in names]
    close = difflib.get_close_matches(name, names, n=3)
    article = "an" if kind[0] in "aeiou" else "a"
    text = [f"no enabled pack provides {article} {kind} {name!r}"]
    if close:
        text[0] += f"; did you mean {' or '.join(close)}?"
    if asked is not None and asked.status != "loaded":
        text.append(f"pack {asked.name} ({asked.origin}) is {asked.status}: {asked.reason}")
    packs = list(packs)
    text += [
        f"pack {pack.name} ({pack.origin}) is disabled"
        for pack in packs
        if pack.status == "disabled" and pack is not asked
    ]
    if problems := of_packs(packs):
        text.append(problems)
    return UnknownNameError("\n".join(dict.fromkeys(text)))
