"""A graph as boxes and links, with all the text that a picture of it shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs

import mfcore as mf
from mftrace.draw import words
from mftrace.draw.groups import Fold, Group, grouped
from mftrace.draw.results import Results

TIMES = "\N{MULTIPLICATION SIGN}"


@attrs.frozen
class Box:
    """One node, or many.

    Attributes
    ----------
    kind : str
        ``"input"``, ``"parameter"``, ``"constant"``, ``"operation"``, or ``"block"`` for a
        repetition and for operations of several kinds.
    title : str
        What is written large: a name, or what it stands for.
    lines : tuple of str
        What is written small below it.
    label : tuple of str
        What is written beside the edges that leave it: type and value, then gradients.
    tooltip : str
        All the rest, one thing a line.
    count : int
        How many nodes it stands for.
    output : bool
        Whether an output of the graph is in it.
    """

    kind: str
    title: str
    lines: tuple[str, ...]
    label: tuple[str, ...]
    tooltip: str
    count: int = 1
    output: bool = False


@attrs.frozen
class Link:
    """What the nodes of one box read of those of another.

    Attributes
    ----------
    source, target : int
        The boxes.
    edges : int
        How many edges of the graph it stands for.
    tooltip : str
        Which, where it is one.
    """

    source: int
    target: int
    edges: int
    tooltip: str


@attrs.frozen
class Diagram:
    """A graph, ready to be drawn.

    Attributes
    ----------
    title, description : str
        What it shows, in a few words, and in a sentence for who cannot see it.
    boxes : list of Box
        The boxes, in the order of the nodes.
    links : list of Link
        Between them; they make no circle.
    order : list of int
        The boxes as a walk from the outputs finds them, inputs left to right.
    """

    title: str
    description: str
    boxes: list[Box]
    links: list[Link]
    order: list[int]


def diagram(graph: mf.Graph, run: mf.Run | None = None, *, fold: Fold = "auto") -> Diagram:
    """Return what a picture of a graph shows.

    Parameters
    ----------
    graph : Graph
        The graph.
    run : Run, optional
        A run of it, whose values and computed gradients are shown.
    fold : bool or "auto"
        Whether one box may stand for many nodes.
    """
    groups = grouped(graph, fold)
    place = {member: g for g, group in enumerate(groups) for member in group.members}
    links = _links(graph, groups, place)
    results = Results(graph, run)
    crossing: dict[int, dict[int, None]] = {g: {} for g in range(len(groups))}
    for i, sources in enumerate(graph.sources):
        for source in sources:
            if place[source] != place[i]:
                crossing[place[source]][source] = None
    outputs = {graph.position(node) for node in graph.outputs}
    for output in sorted(outputs):
        crossing[place[output]][output] = None
    boxes = [
        _box(graph, group, results, list(crossing[g]), outputs) for g, group in enumerate(groups)
    ]
    count = f"{len(graph):,} node{'' if len(graph) == 1 else 's'}"
    title = f"Graph of {count}"
    if len(boxes) < len(graph):
        title += f" in {len(boxes):,} box{'' if len(boxes) == 1 else 'es'}"
    return Diagram(title, _description(graph), boxes, links, _order(graph, place))


def _links(graph: mf.Graph, groups: Sequence[Group], place: dict[int, int]) -> list[Link]:
    found: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for i, sources in enumerate(graph.sources):
        for k, source in enumerate(sources):
            pair = place[source], place[i]
            if pair[0] != pair[1]:
                found.setdefault(pair, []).append((source, i, k))
    links = []
    for (source, target), edges in sorted(found.items()):
        if len(groups[source].members) == len(groups[target].members) == 1:
            node = graph.nodes[edges[0][1]]
            fields = mf.spec_of(node).input_names(len(node.inputs))
            text = ", ".join(fields[k] for _, _, k in edges[:6])
            names = (graph.name(graph.nodes[i]) for i in edges[0][:2])
            tooltip = f"{' → '.join(words.short(name, 80) for name in names)} ({text})"
        else:
            tooltip = f"{len(edges):,} edge{'' if len(edges) == 1 else 's'}"
        links.append(Link(source, target, len(edges), tooltip))
    return links


def _box(
    graph: mf.Graph, group: Group, results: Results, leaving: list[int], outputs: set[int]
) -> Box:
    label = results.label(leaving[0]) if len(leaving) == 1 else []
    output = not outputs.isdisjoint(group.members)
    if len(group.members) > 1:
        if len(leaving) > 1:
            label = [f"{len(leaving):,} values"]
        return _box_of_many(graph, group, label, output)
    i = group.members[0]
    node = graph.nodes[i]
    kind = words.kind_of(node)
    if kind == "operation":
        operation: Any = type(node)
        lines = [words.call_text(graph, node), words.formula(operation)]
    elif isinstance(node, mf.Constant) and not results and not hasattr(node.value, "shape"):
        lines = [f"constant {node.value!r}"]
    else:
        lines = [kind]
    lines = [words.short(line, words.LINE) for line in lines if line]
    return Box(
        kind,
        words.short(graph.name(node), words.NAME),
        tuple(lines),
        tuple(label),
        words.tooltip(graph, node, results.value(i), results.gradient(i)),
        output=output,
    )


def _box_of_many(graph: mf.Graph, group: Group, label: list[str], output: bool) -> Box:
    nodes = [graph.nodes[i] for i in group.members]
    kinds = Counter(words.kind_of(node) for node in nodes)
    operations = Counter(
        type(node).__name__ for node in nodes if words.kind_of(node) == "operation"
    )
    counts = ", ".join(_number(count, kind) for kind, count in sorted(kinds.items()))
    names = [words.short(graph.name(nodes[i]), 16) for i in (0, -1)]
    between = f"{names[0]} … {names[1]}"
    lines = [counts]
    if group.block:
        inside = [graph.nodes[i] for i in group.block]
        title = f"{_sequence([type(node).__name__ for node in inside])} {TIMES} {group.times:,}"
        moving = [n for n in nodes if words.kind_of(n) == "operation"]
        first, last = (words.short(graph.name(moving[i]), 16) for i in (0, -1))
        lines += ["one after another" if group.chained else "side by side", f"{first} … {last}"]
        kind = "block"
    elif len(kinds) == 1 and len(operations) <= 1:
        kind = next(iter(kinds))
        title = f"{next(iter(operations), _plural(kind))} {TIMES} {len(nodes):,}"
        lines.append(between)
    else:
        kind = "block"
        most = [f"{count:,} {name}" for name, count in operations.most_common(3)]
        title = counts if len(kinds) == 1 else _number(len(nodes), "node")
        lines = [", ".join(most) + ", …" * (len(operations) > 3), between]
        if len(kinds) > 1:
            lines.insert(0, counts)
    lines = [words.short(line, words.LINE) for line in lines if line]
    tooltip = [title, f"stands for {_number(len(nodes), 'node')}: {counts}"]
    tooltip += [f"  {count:,} {name}" for name, count in operations.most_common(12)]
    return Box(
        kind,
        words.short(title, words.LINE),
        tuple(lines),
        tuple(label),
        "\n".join([*tooltip, between]),
        len(nodes),
        output,
    )


def _sequence(names: list[str]) -> str:
    """Return names with neighbours that are equal counted: ``Linear - 2 ReLU``."""
    runs: list[tuple[str, int]] = []
    for name in names:
        if runs and runs[-1][0] == name:
            runs[-1] = name, runs[-1][1] + 1
        else:
            runs.append((name, 1))
    texts = [name if count == 1 else f"{count} {name}" for name, count in runs]
    if len(names) == 1:
        return names[0]
    joined = " - ".join(texts)
    if len(joined) > words.NAME:
        joined = f"{texts[0]} - … {len(names):,} operations"
    return f"({joined})"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what if count == 1 else _plural(what)}"


def _plural(word: str) -> str:
    return f"{word}s"


def _order(graph: mf.Graph, place: dict[int, int]) -> list[int]:
    order: dict[int, None] = {}
    seen = bytearray(len(graph))
    stack = [graph.position(node) for node in reversed(graph.outputs)]
    while stack:
        i = stack.pop()
        if not seen[i]:
            seen[i] = 1
            order[place[i]] = None
            stack.extend(reversed(graph.sources[i]))
    return list(order)


def _description(graph: mf.Graph) -> str:
    kinds = Counter(words.kind_of(node) for node in graph.nodes)
    counts = [
        _number(kinds[kind], kind)
        for kind in ("input", "parameter", "constant", "operation")
        if kinds[kind]
    ]
    names = [words.short(graph.name(node), 40) for node in graph.outputs[:5]]
    more = f" and {len(graph.outputs) - 5:,} more" if len(graph.outputs) > 5 else ""
    return (
        f"Data flows from top to bottom through {', '.join(counts)}, to {', '.join(names)}{more}."
    )
