"""What passes have in common, and which of their arrays are kept: for the tracer ``record``."""

from __future__ import annotations

import inspect
import math
import reprlib
import textwrap
from collections.abc import Iterator
from operator import is_, itemgetter
from typing import Any, Literal, TypeAlias

import numpy as np

import mfcore as mf
from mftrace.reading import DTYPES
from mftrace.summary import SIZE

Kept: TypeAlias = Literal["all", "summary", "none"]
KEPT = ("all", "summary", "none")

WHOLE_SHARE = 0.8
"""Share of the size limit that whole arrays may fill; summaries go on up to the limit."""


def portable(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype as it is recorded; what has no place in a file becomes float64."""
    return DTYPES.get(dtype.newbyteorder("<").str, np.dtype("<f8"))


class Pending:
    """A layout, and the passes of it that are not yet written."""

    def __init__(self, layout: int, values: list[Any]) -> None:
        self.layout = layout
        self.rows: list[Any] = []
        self.block: int | None = None
        self.shapes = [value.shape for value in values]
        self.dtypes = [value.dtype for value in values]
        self._dtypes = [portable(dtype) for dtype in self.dtypes]
        self._sizes: list[int] = [
            math.prod(shape) * dtype.itemsize
            for shape, dtype in zip(self.shapes, self._dtypes, strict=True)
        ]
        self.nbytes = sum(self._sizes)
        every = range(len(values))
        self._all = list(every)
        self._small = [slot for slot in every if self._sizes[slot] <= SIZE]
        self._large = [slot for slot in every if self._sizes[slot] > SIZE]

    def chosen(
        self, kept: Kept, rows: int, left: float, limit: float
    ) -> tuple[list[int], list[int]]:
        """Return which arrays to store, and which to summarise."""
        if kept == "none":
            return [], []
        if kept == "all" and rows * self.nbytes <= left - (1 - WHOLE_SHARE) * limit:
            return self._all, []
        return self._small, self._large

    def bytes_of(self, stored: list[int], summarised: list[int]) -> int:
        """Return the bytes that a pass takes."""
        whole: int = sum([self._sizes[slot] for slot in stored])
        return whole + SIZE * len(summarised)

    def by_dtype(self, stored: list[int]) -> dict[np.dtype[Any], list[int]]:
        """Return the slots of each dtype."""
        found: dict[np.dtype[Any], list[int]] = {}
        for slot in stored:
            found.setdefault(self._dtypes[slot], []).append(slot)
        return found


class Plan:
    """How what is told of a pass, in its order, becomes arrays, each of them kept once.

    Most of what is told of a backward pass is told twice: what a node sends is what another
    receives, and often its total. Which of all these are one array is the same in every pass
    with the same nodes; that it is, is checked each time.
    """

    def __init__(self, graph: mf.Graph, phase: str, told: list[Any], flat: list[Any]) -> None:
        self.phase = phase
        self.told = told
        self.layouts: dict[Any, Pending] = {}
        self.last: Pending | None = None
        first: dict[int, int] = {}
        same = [first.setdefault(id(value), i) for i, value in enumerate(flat)]
        self._same = itemgetter(0, *same)
        # The first of all stands for what is not there.
        self._taken = [i for i, j in enumerate(same) if i == j and i]
        self._take = itemgetter(*self._taken, 0, 0)
        slots = {i: slot for slot, i in enumerate(self._taken)}
        places = iter([slots.get(i) for i in same[1:]])
        describe = _forward_nodes if phase == "forward" else _backward_nodes
        self.nodes = describe(graph, told, places)
        self._fed = frozenset(
            node["value"]
            for node in self.nodes
            if phase == "forward" and isinstance(graph.nodes[node["node"]], mf.Input)
        )

    def fits(self, flat: list[Any]) -> bool:
        """Whether in this pass, too, the same of what was told are one array."""
        return all(map(is_, flat, self._same(flat)[1:]))

    def values(self, flat: list[Any]) -> list[Any]:
        """Return each array once."""
        values = list(self._take(flat)[:-2])
        # The run's own arrays stay as they are; what was fed, and views of it, are the user's.
        for slot in self._fed:
            values[slot] = np.array(values[slot])[()]
        return [
            value if type(value) is np.float64 or value.base is None else np.array(value)
            for value in values
        ]


def _forward_nodes(
    graph: mf.Graph, told: list[Any], places: Iterator[int | None]
) -> list[dict[str, Any]]:
    return [{"node": graph.position(node), "value": next(places)} for node in told]


def _backward_nodes(
    graph: mf.Graph, told: list[Any], places: Iterator[int | None]
) -> list[dict[str, Any]]:
    nodes: dict[int, dict[str, Any]] = {}

    def entry(node: mf.Node) -> dict[str, Any]:
        position = graph.position(node)
        new = {"node": position, "received": [], "grad": None, "sent": None}
        return nodes.setdefault(position, new)

    rest = iter(told)
    for word in rest:
        if word == "sent":
            node = next(rest)
            names = mf.spec_of(node).input_names(len(node.inputs))
            entry(node)["sent"] = [[name, next(places)] for name in names]
        else:
            senders = [next(rest) for _ in range(word)]
            received = [
                [None if sender is None else graph.position(sender), next(places)]
                for sender in senders
            ]
            entry(next(rest)).update(received=received, grad=next(places))
    return list(nodes.values())


# Graphs


def described_graph(graph: mf.Graph) -> dict[str, Any]:
    """Return a graph as the line that tells of it."""
    operations: dict[str, dict[str, str]] = {}
    nodes = []
    for node, sources in zip(graph.nodes, graph.sources, strict=True):
        spec, cls = node.__operation__, type(node)
        qualified_name = cls.qualified_name()
        if qualified_name not in operations:
            operations[qualified_name] = {
                "summary": (inspect.getdoc(cls) or "").partition("\n")[0],
                "forward": "" if spec is None else _source(spec.forward),
                "backward": "" if spec is None else _source(spec.backward),
            }
        file, line = node.site
        nodes.append(
            {
                "name": graph.name(node),
                "kind": "operation" if spec else _kind(node),
                "operation": qualified_name,
                "inputs": list(sources),
                "fields": list(spec.input_names(len(sources))) if spec else [],
                "hyperparameters": {
                    name: reprlib.repr(getattr(node, name))
                    for name in (spec.hyperparameters if spec else ())
                },
                "site": [file, line],
            }
        )
    outputs = [graph.position(node) for node in graph.outputs]
    return {"event": "graph", "nodes": nodes, "outputs": outputs, "operations": operations}


def _kind(leaf: mf.Node) -> str:
    if isinstance(leaf, mf.Parameter):
        return "parameter"
    return "constant" if isinstance(leaf, mf.Constant) else "input"


def _source(function: Any) -> str:
    """Return the source text of a function, as far as Python knows it."""
    try:
        return textwrap.dedent(inspect.getsource(function)).rstrip() if function else ""
    except (OSError, TypeError):
        return ""
