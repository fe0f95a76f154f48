"""Pictures of graphs: which drawer makes them, and where they go. Packs provide the drawers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mfcore.atomic_file import write_parts
from mfcore.errors import AmbiguousNameError, DrawingError, DrawingFileError, UnknownNameError
from mfcore.registry import Registry, current

if TYPE_CHECKING:
    from mfcore.graph import Graph
    from mfcore.run import Run

ADVICE = "`pip install mftrace` brings svg, png, mermaid, markdown and dot"


class Drawer(Protocol):
    """What draws graphs in one format: an instance of a class that ``mf_drawers`` returns.

    Attributes
    ----------
    name : str
        The format: ``"svg"``.
    suffixes : tuple of str
        The file names' ends that stand for it: ``(".svg",)``.
    """

    name: str
    suffixes: tuple[str, ...]

    def draw(self, graph: Graph, run: Run | None = None, **options: Any) -> str | bytes:
        """Return the picture: text, or bytes where the format is binary."""


def draw(
    graph: Graph,
    path: str | os.PathLike[str] | None,
    format: str | None,
    run: Run | None,
    options: Mapping[str, Any],
) -> str | bytes | None:
    """Draw a graph into a file, or return the picture; as ``Graph.draw``, which describes it.

    Raises
    ------
    DrawingError
        If no enabled pack draws that format, or the graph cannot be drawn as asked.
    """
    if run is not None and getattr(getattr(run, "session", None), "graph", None) is not graph:
        raise DrawingError(
            f"run= must be a run of the graph that is drawn, {graph!r}, not {run!r}: draw "
            f"`run.session.graph`"
        )
    picture = _drawer(path, format)().draw(graph, run, **options)
    if path is None:
        return picture
    write_atomically(path, picture)
    return None


def inline_drawer() -> type[Drawer] | None:
    """Return the class that draws for notebooks, ``None`` where no enabled pack has one."""
    try:
        return current().drawer("svg")
    except (UnknownNameError, AmbiguousNameError):
        return None


def drawn_inline(graph: Graph, run: Run | None = None) -> str | None:
    """Return a graph as SVG for notebooks, ``None`` where no enabled pack draws that."""
    drawer = inline_drawer()
    if drawer is None:
        return None
    picture = drawer().draw(graph, run)
    return picture if isinstance(picture, str) else picture.decode("utf-8")


def _drawer(path: str | os.PathLike[str] | None, format: str | None) -> type[Drawer]:
    registry = current()
    drawers: dict[str, type[Drawer]] = registry.all("drawer")
    if not drawers:
        problems = registry.problems()
        raise DrawingError(
            f"no enabled pack draws graphs; {ADVICE}" + (f"\n{problems}" if problems else "")
        )
    if format is not None:
        try:
            return registry.drawer(format)
        except UnknownNameError as error:
            raise DrawingError(f"{error}\nformats are: {_known(registry)}") from None
    if path is None:
        raise DrawingError(
            f"say where to draw the graph, or give format=, to get the picture itself: "
            f"{_known(registry)}"
        )
    suffix = Path(path).suffix.lower()
    found = {name: drawer for name, drawer in drawers.items() if suffix in drawer.suffixes}
    if not found:
        raise DrawingError(
            f"{os.fspath(path)!r}: no drawer for files that end in {suffix!r}; give format=, or "
            f"one of these suffixes: {_known(registry)}"
        )
    if len(set(found.values())) > 1:
        raise AmbiguousNameError(
            f"{os.fspath(path)!r}: several drawers write files that end in {suffix!r}; choose one "
            f"with format=: {', '.join(found)}"
        )
    return next(iter(found.values()))


def _known(registry: Registry) -> str:
    names = [
        f"{name.rpartition('.')[2]} ({', '.join(drawer.suffixes)})"
        for name, drawer in registry.all("drawer").items()
    ]
    return ", ".join(names)


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file whole or not at all: what was there stays until all of it is written.

    Raises
    ------
    DrawingFileError
        If it cannot be written.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        write_parts(path, [data])
    except OSError as error:
        folder = Path(path).parent
        advice = "" if folder.is_dir() else f"; create the folder {os.fspath(folder)!r} first"
        raise DrawingFileError(
            f"cannot write {os.fspath(path)!r}: {error.strerror or error}{advice}"
        ) from error
