"""Which nodes share a box: repeated blocks, and where those are not enough, whole depths."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

import mfcore as mf
from mfcore.errors import DrawingError

Fold: TypeAlias = bool | Literal["auto"]
"""Whether one box may stand for many nodes; ``"auto"`` is where the picture would be large."""

SMALL = 60
"""Nodes up to which ``"auto"`` folds nothing."""

MOST = 300
"""Boxes beyond which a graph that may be folded is summarised by depth and operation."""


@attrs.frozen
class Group:
    """Nodes that one box stands for, by their positions in the graph.

    Attributes
    ----------
    members : tuple of int
        The nodes, in order.
    block : tuple of int
        Of a repetition, the operations of the first of the equal blocks; else empty.
    times : int
        How many equal blocks there are.
    chained : bool
        Whether each block reads the one before it; else they are side by side.
    """

    members: tuple[int, ...]
    block: tuple[int, ...] = ()
    times: int = 1
    chained: bool = True


def grouped(graph: mf.Graph, fold: Fold) -> list[Group]:
    """Return the boxes that a graph is drawn with. Every node is in exactly one.

    Parameters
    ----------
    graph : Graph
        The graph.
    fold : bool or "auto"
        Whether repeated blocks, and all else if there would be too many boxes, share one.

    Raises
    ------
    DrawingError
        If ``fold`` is neither.
    """
    if not (isinstance(fold, bool) or fold == "auto"):
        raise DrawingError(f"fold= is True, False or 'auto', not {fold!r}")
    if fold is False or (fold == "auto" and len(graph) <= SMALL):
        return [Group((i,)) for i in range(len(graph))]
    from mftrace.draw.repeats import folded

    groups = folded(graph)
    if len(groups) > MOST:
        from mftrace.draw.summary import summarised

        groups = summarised(graph, groups)
    return groups


def readers_of(graph: mf.Graph) -> list[list[int]]:
    """Return, for each node, the positions of the nodes that read it, each once, in order."""
    readers: list[list[int]] = [[] for _ in graph.nodes]
    for i, sources in enumerate(graph.sources):
        for source in dict.fromkeys(sources):
            readers[source].append(i)
    return readers
