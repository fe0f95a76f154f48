"""A graph of too many boxes in few: by depth and operation."""

from __future__ import annotations

from collections import Counter

import mfcore as mf
from mftrace.draw.groups import MOST, Group

LEVELS = 24
"""Depths that are kept apart; of a deeper graph, so many bands of depths."""


def summarised(graph: mf.Graph, groups: list[Group]) -> list[Group]:
    """Return fewer groups: those of one depth that do the same, or all of one band of depths.

    Parameters
    ----------
    graph : Graph
        The graph.
    groups : list of Group
        Its nodes grouped, such that no circle leads through groups.
    """
    place = {member: g for g, group in enumerate(groups) for member in group.members}
    depth, leaves = _depths(graph, groups, place)
    deepest = max(depth)
    banded = deepest >= LEVELS
    level = [at * LEVELS // (deepest + 1) if banded else at for at in depth]
    labels = [_label(graph, group) for group in groups]
    if not banded and len(set(zip(level, labels, strict=True))) > MOST:
        labels = [label if leaf else "" for label, leaf in zip(labels, leaves, strict=True)]
    merged: dict[tuple[int, bool, str], list[Group]] = {}
    for g, group in enumerate(groups):
        label = labels[g] if leaves[g] or not banded else ""
        merged.setdefault((level[g], leaves[g], label), []).append(group)
    result = [
        together[0]
        if len(together) == 1
        else Group(tuple(sorted(member for group in together for member in group.members)))
        for together in merged.values()
    ]
    return sorted(result, key=lambda group: group.members[-1])


def _depths(
    graph: mf.Graph, groups: list[Group], place: dict[int, int]
) -> tuple[list[int], list[bool]]:
    """Return each group's depth, and whether it is of leaves; those are as deep as their readers.

    An operation is one deeper than the deepest that it reads.
    """
    leaves = [not any(graph.sources[member] for member in group.members) for group in groups]
    depth = [0] * len(groups)
    reads = [
        list(dict.fromkeys(place[s] for member in group.members for s in graph.sources[member]))
        for group in groups
    ]
    waiting = [sum(g != h for h in reads[g]) for g in range(len(groups))]
    readers: list[list[int]] = [[] for _ in groups]
    for g, sources in enumerate(reads):
        for source in sources:
            if source != g:
                readers[source].append(g)
    ready = [g for g, left in enumerate(waiting) if not left]
    for g in ready:
        for reader in readers[g]:
            depth[reader] = max(depth[reader], depth[g] + (not leaves[g]))
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    for g, leaf in enumerate(leaves):
        if leaf and readers[g]:
            depth[g] = min(depth[reader] for reader in readers[g])
    return depth, leaves


def _label(graph: mf.Graph, group: Group) -> str:
    kinds = Counter(type(graph.nodes[i]).__qualname__ for i in group.block or group.members)
    return " ".join(f"{kind} {count if group.block else ''}" for kind, count in kinds.items())
