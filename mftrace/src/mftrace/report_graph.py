"""A recorded graph drawn for the page: where each box is, and each edge."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from mfcore.errors import DrawingError
from mftrace.draw import words
from mftrace.draw.diagram import TIMES, Box, Diagram, Link
from mftrace.draw.groups import MOST, Group
from mftrace.draw.picture import Picture, picture
from mftrace.draw.summary import summarised
from mftrace.draw.svg import _path as path_of_strokes
from mftrace.draw.svg import _shape as path_of_shape
from mftrace.recorded_graph import RecordedGraph, RecordedNode


def drawn_graph(graph: RecordedGraph, types: Mapping[int, str]) -> dict[str, Any] | None:
    """Return boxes and edges with their places, as the page draws them.

    Parameters
    ----------
    graph : RecordedGraph
        The graph.
    types : mapping of int to str
        Shape and dtype of the values of the nodes at these positions, as text.

    Returns
    -------
    dict or None
        ``None`` if there are too many boxes to lay out even when nodes share them.
    """
    groups = _groups(graph)
    place = {member: g for g, group in enumerate(groups) for member in group.members}
    try:
        drawn = picture(_diagram(graph, groups, place, types))
    except DrawingError:
        return None
    return _as_data(drawn, groups)


def call_text(graph: RecordedGraph, node: RecordedNode) -> str:
    """Return an operation with what it reads, ``Linear(X, W1, b1)``; of a leaf, its kind."""
    if node.kind != "operation":
        return node.kind
    arguments = [words.short(graph.nodes[i].name, 16) for i in node.inputs[:4]]
    arguments += ["…"] * (len(node.inputs) > 4)
    return f"{words.short(node.operation.name, 40)}({', '.join(arguments)})"


def _groups(graph: RecordedGraph) -> list[Group]:
    """Return the boxes: one for each node, or, where those are many, one for a depth's alike."""
    single = [Group((i,)) for i in range(len(graph))]
    if len(graph) <= MOST:
        return single
    # The summary asks a graph for what its nodes read, and for the names of their classes.
    classes: dict[str, Any] = {}
    for node in graph.nodes:
        name = node.operation.qualified_name
        classes.setdefault(name, type(f"Operation{len(classes)}", (), {}))
    nodes = [classes[node.operation.qualified_name]() for node in graph.nodes]
    sources = [node.inputs for node in graph.nodes]
    likeness: Any = SimpleNamespace(nodes=nodes, sources=sources)
    return summarised(likeness, single)


def _diagram(
    graph: RecordedGraph, groups: list[Group], place: dict[int, int], types: Mapping[int, str]
) -> Diagram:
    edges: dict[tuple[int, int], int] = {}
    for node in graph.nodes:
        for source in node.inputs:
            pair = place[source], place[node.position]
            if pair[0] != pair[1]:
                edges[pair] = edges.get(pair, 0) + 1
    links = [Link(*pair, count, "") for pair, count in sorted(edges.items())]
    outputs = {place[i] for i in graph.outputs}
    boxes = [_box(graph, group, types, g in outputs) for g, group in enumerate(groups)]
    return Diagram("", "", boxes, links, _order(graph, place))


def _box(graph: RecordedGraph, group: Group, types: Mapping[int, str], output: bool) -> Box:
    first = graph.nodes[group.members[0]]
    if len(group.members) == 1:
        label = types.get(first.position, "")
        return Box(
            first.kind,
            words.short(first.name, words.NAME),
            (words.short(call_text(graph, first), words.LINE),),
            (words.short(label, words.LABEL),) if label else (),
            "",
            output=output,
        )
    kinds = {graph.nodes[i].kind for i in group.members}
    operations = {graph.nodes[i].operation.name for i in group.members}
    alike = len(kinds) == len(operations) == 1
    title = words.short(next(iter(operations)), 24) if alike else "nodes"
    last = graph.nodes[group.members[-1]]
    between = f"{words.short(first.name, 16)} … {words.short(last.name, 16)}"
    return Box(
        first.kind if alike else "block",
        f"{title} {TIMES} {len(group.members):,}",
        (between,),
        (),
        "",
        len(group.members),
        output,
    )


def _order(graph: RecordedGraph, place: dict[int, int]) -> list[int]:
    """Return the boxes as a walk from the outputs finds them, inputs left to right."""
    order: dict[int, None] = {}
    seen: set[int] = set()
    stack = list(reversed(graph.outputs))
    while stack:
        i = stack.pop()
        if i not in seen:
            seen.add(i)
            order[place[i]] = None
            stack.extend(reversed(graph.nodes[i].inputs))
    order.update(dict.fromkeys(place.values()))
    return list(order)


def _as_data(drawn: Picture, groups: list[Group]) -> dict[str, Any]:
    boxes = [
        {
            "nodes": list(group.members),
            "kind": placed.box.kind,
            "output": placed.box.output,
            "outline": path_of_shape(placed.outline),
            "top": round(placed.y - placed.half_height, 1),
            "bottom": round(placed.y + placed.half_height, 1),
            "x": round(placed.x, 1),
            "lines": [[text, round(y, 1)] for text, y, _ in placed.text],
            "label": [[text, round(x, 1), round(y, 1)] for text, x, y in placed.label],
        }
        for placed, group in zip(drawn.boxes, groups, strict=True)
    ]
    edges = [
        {
            "from": link.source,
            "to": link.target,
            "path": path_of_strokes(strokes),
            "end": [round(strokes[-1].x, 1), round(strokes[-1].bottom, 1)],
        }
        for link, strokes in zip(drawn.diagram.links, drawn.edges, strict=True)
    ]
    size = [round(drawn.width, 1), round(drawn.height, 1)]
    return {"size": size, "boxes": boxes, "edges": edges}
