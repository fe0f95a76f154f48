"""Less memory for more work: values that a backward pass needs, computed a second time.

Of a forward pass only some nodes' values are kept. The backward pass goes through the graph in
segments that end at a kept node; when a gradient arrives at a segment, what its operations
need is computed again from the kept values before it (Chen, Xu, Zhang and Guestrin 2016,
"Training deep nets with sublinear memory cost").
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mfcore import Graph, Node
from mfcore.errors import GraphError
from mfcore.operation import spec_of
from mfjit.reading import Traced

if TYPE_CHECKING:
    from mfjit.lowering import GraphReader


def nodes_to_keep(graph: Graph, checkpoint: bool | Iterable[Node]) -> frozenset[Node] | None:
    """Return the nodes whose values are kept for the backward pass; ``None`` for all.

    Parameters
    ----------
    graph : Graph
        What is trained.
    checkpoint : bool or iterable of Node
        ``True`` keeps every k-th operation, k the root of how many there are, which needs
        the least memory in a chain; nodes are kept as they are named.

    Raises
    ------
    GraphError
        If a node is not part of the graph.
    """
    if checkpoint is False:
        return None
    if checkpoint is not True:
        kept = frozenset(checkpoint)
        for node in kept:
            if node not in graph:
                raise GraphError(f"checkpoint: {node!r} is not part of the graph")
        return kept
    operations = [node for node in graph if node.__operation__ is not None]
    step = max(math.isqrt(len(operations)), 1)
    return frozenset(operations[step - 1 :: step])


class Recomputing:
    """What operations' ``backward`` is given, computed again segment by segment."""

    def __init__(self, reader: GraphReader, of: Node, kept: frozenset[Node]) -> None:
        self._reader = reader
        graph = reader.graph
        # What was drawn cannot be drawn again.
        self._kept = {
            i
            for i, node in enumerate(graph.nodes)
            if node.__operation__ is None
            or node in kept
            or "rng" in spec_of(node).forward_asks
            or "saved_of_result" in spec_of(node).forward_asks
        }
        self._ends = sorted(
            i
            for i in self._kept
            if graph.nodes[i].__operation__ is not None and graph.nodes[i] is not of
        )
        self._segment = -1
        self._token: Traced
        self._values: dict[int, Any] = {}
        self._given: dict[int, dict[str, Any]] = {}

    def given(self, i: int, grad: Traced) -> dict[str, Any]:
        """Return what the ``backward`` of the i-th node may ask for."""
        segment = bisect_left(self._ends, i)
        if segment == len(self._ends):  # what was computed last is still there
            return self._reader.given_to(i)
        if segment != self._segment:
            self._segment, self._token = segment, grad
            self._values, self._given = {}, {}
        node = self._reader.graph.nodes[i]
        spec = spec_of(node)
        if i in self._kept and ("saved" in spec.backward_asks or "rng" in spec.forward_asks):
            return self._reader.given_to(i)
        if {"value", "saved"}.isdisjoint(spec.backward_asks):
            return self._arguments(i)
        value = self._value(i)
        return {**self._arguments(i), "value": value, **self._given.get(i, {})}

    def _arguments(self, i: int) -> dict[str, Any]:
        graph = self._reader.graph
        node = graph.nodes[i]
        for source in node.inputs:
            self._value(graph.position(source))
        return self._reader.arguments(node, spec_of(node), self._values)

    def _value(self, wanted: int) -> Any:
        """Return a node's value, computed again from those that are kept (iteratively)."""
        graph, reader = self._reader.graph, self._reader
        stack = [wanted]
        while stack:
            i = stack[-1]
            if i in self._values:
                stack.pop()
            elif i in self._kept:
                self._values[i] = self._later(reader.values[i])
            else:
                sources = [graph.position(source) for source in graph.nodes[i].inputs]
                missing = [source for source in sources if source not in self._values]
                if missing:
                    stack.extend(missing)
                    continue
                node = graph.nodes[i]
                given = reader.arguments(node, spec_of(node), self._values)
                self._values[i] = reader.forward(i, node, given)
                self._given[i] = given
        return self._values[wanted]

    def _later(self, value: Any) -> Any:
        if not isinstance(value, Traced):
            return value
        return value.like(value.builder.after(value.value, self._token.value))
