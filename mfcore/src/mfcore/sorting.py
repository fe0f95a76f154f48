"""Topological sort: the ancestors of nodes, in an order in which they can be computed.

On a large graph this is most of what building it costs. So what is found is kept in flat
arrays: lists of integers would take more room than the nodes.
"""

from __future__ import annotations

from array import array
from typing import TypeAlias

import numpy as np

from mfcore.errors import CycleError
from mfcore.node import Node, describe

Integers: TypeAlias = "array[int]"


def sort(
    outputs: tuple[Node, ...],
) -> tuple[tuple[Node, ...], dict[Node, int], list[tuple[int, ...]]]:
    """Return the ancestors of nodes, and these, in order.

    Returns
    -------
    nodes : tuple of Node
        In order.
    index : dict of Node to int
        The position of each in that order.
    sources : list of tuple of int
        For each node, the positions of its inputs.

    Raises
    ------
    CycleError
        If nodes depend on each other in a circle.
    """
    found, edges, starts = _ancestors(outputs)
    order = _kahn(found, edges, starts)
    nodes = tuple([found[i] for i in order])
    index = dict(zip(nodes, range(len(order)), strict=True))
    return nodes, index, _sources(order, edges, starts)


def topological(outputs: tuple[Node, ...]) -> list[Node]:
    """Return the nodes alone that ``sort`` returns.

    Raises
    ------
    CycleError
        If nodes depend on each other in a circle.
    """
    found, edges, starts = _ancestors(outputs)
    return [found[i] for i in _kahn(found, edges, starts)]


def _ancestors(outputs: tuple[Node, ...]) -> tuple[list[Node], Integers, Integers]:
    """Find all ancestors, depth first and inputs left to right.

    Returns the nodes found, and for the i-th of them its inputs as
    ``edges[starts[i]:starts[i + 1]]`` (indices into the nodes found).
    """
    number: dict[Node, int] = {}
    read: list[Node] = []
    starts = array("q", [0])
    stack = list(reversed(outputs))
    while stack:
        node = stack.pop()
        if node in number:
            continue
        number[node] = len(number)
        inputs = node.inputs
        if inputs:
            read += inputs
            stack += inputs[::-1]
        starts.append(len(read))
    return list(number), array("q", map(number.__getitem__, read)), starts


def _kahn(found: list[Node], edges: Integers, starts: Integers) -> Integers:
    """Order the nodes found so that each comes after its inputs (Kahn 1962)."""
    count = len(found)
    targets, bounds = _consumers(count, edges, starts)
    remaining = np.diff(starts).tolist()
    order = array("q", [i for i in range(count) if not remaining[i]])
    for i in order:  # the list grows while it is read: a queue, first come first served
        for j in targets[bounds[i] : bounds[i + 1]]:
            remaining[j] -= 1
            if not remaining[j]:
                order.append(j)
    if len(order) < count:
        raise CycleError(_cycle_message(found, edges, starts, remaining))
    return order


def _sources(order: Integers, edges: Integers, starts: Integers) -> list[tuple[int, ...]]:
    """Return the positions of each node's inputs, for the nodes in order.

    Each has integers of its own: a run finds them in memory beside each other, in its order.
    """
    position = array("q", bytes(8 * len(order)))
    for place, i in enumerate(order):
        position[i] = place
    placed = array("q", map(position.__getitem__, edges))
    return [tuple(placed[starts[i] : starts[i + 1]]) for i in order]


def _consumers(count: int, edges: Integers, starts: Integers) -> tuple[Integers, Integers]:
    """Turn "inputs of each node" into "consumers of each node", both flat."""
    sources = np.asarray(edges)
    readers = np.repeat(np.arange(count), np.diff(starts))
    by_source = np.argsort(sources, kind="stable")
    bounds = np.concatenate([[0], np.cumsum(np.bincount(sources, minlength=count))])
    return array("q", readers[by_source].tobytes()), array("q", bounds.tobytes())


def _cycle_message(
    found: list[Node], edges: Integers, starts: Integers, remaining: list[int]
) -> str:
    # Every node left over has an input left over: going back along those must meet itself.
    here = next(i for i, left in enumerate(remaining) if left)
    trail: dict[int, None] = {}
    while here not in trail:
        trail[here] = None
        here = next(j for j in edges[starts[here] : starts[here + 1]] if remaining[j])
    path = list(trail)
    circle = path[path.index(here) :][::-1]
    names = " -> ".join(describe(found[i]) for i in [*circle, circle[0]][:12])
    return f"the graph has a cycle, so no order exists: {names}"
