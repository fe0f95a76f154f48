"""A graph: the nodes that given outputs depend on, in topological order."""

from __future__ import annotations

import gc
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from os import PathLike
from typing import TYPE_CHECKING, Any, overload

from mfcore.errors import (
    DuplicateNameError,
    GraphError,
    UnknownNodeError,
    listed,
    type_name,
)
from mfcore.node import Input, Node, Parameter, describe
from mfcore.registry import observers
from mfcore.sorting import sort

if TYPE_CHECKING:
    from mfcore.plugins import Observers
    from mfcore.run import Run


class Graph:
    """The ancestors of the given outputs, in an order in which they can be computed.

    The order is Kahn's (1962): nodes whose inputs are all done, first come first served,
    leaves in the order in which a walk from the outputs finds them. It depends on
    nothing but the graph's shape. Neither a graph nor its nodes hold results.

    Parameters
    ----------
    *outputs : Node
        One or more nodes. An iterable of nodes is accepted too.

    Attributes
    ----------
    nodes : tuple of Node
        All nodes, in order.
    sources : list of tuple of int
        For each node, the positions of its inputs in that order.
    inputs, parameters : tuple
        The nodes that are such leaves, in order.
    outputs : tuple of Node
        The nodes that the graph was built from.

    Raises
    ------
    GraphError
        If an output is no node, or no output is given.
    CycleError
        If nodes depend on each other in a circle.
    DuplicateNameError
        If two nodes were given one name.

    Examples
    --------
    >>> import mfcore as mf
    >>> from mfops_basic import Add, Mul
    >>> x, y, z = mf.Input("x"), mf.Input("y"), mf.Input("z")
    >>> graph = mf.Graph(Mul(Add(x, y), z))
    >>> [graph.name(node) for node in graph]
    ['x', 'y', 'z', 'add_1', 'mul_1']
    """

    __slots__ = (
        "_index",
        "_names",
        "inputs",
        "nodes",
        "outputs",
        "parameters",
        "sources",
    )

    def __init__(self, *outputs: Node) -> None:
        self.outputs: tuple[Node, ...] = _flat(outputs)
        with collector_paused():
            self.nodes, self._index, self.sources = sort(self.outputs)
        leaves = [n for n, s in zip(self.nodes, self.sources, strict=True) if not s]
        self.inputs: tuple[Input, ...] = tuple(n for n in leaves if isinstance(n, Input))
        self.parameters: tuple[Parameter, ...] = tuple(
            n for n in leaves if isinstance(n, Parameter)
        )
        self._names: tuple[dict[Node, str], dict[str, Node]] | None = None
        self._check_names()
        self._announce()

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __contains__(self, node: object) -> bool:
        return isinstance(node, Node) and node in self._index

    def __getitem__(self, name: str) -> Node:
        """Return the node of the given name.

        Raises
        ------
        UnknownNodeError
            If the graph has no node of that name.
        """
        names = self.names[1]
        if name not in names:
            raise UnknownNodeError(f"the graph has no node {name!r}; it has {listed(names)}")
        return names[name]

    def __repr__(self) -> str:
        outputs = ", ".join(self.name(node) for node in self.outputs[:3])
        more = ", ..." if len(self.outputs) > 3 else ""
        return f"<Graph of {len(self.nodes)} nodes, outputs {outputs}{more}>"

    def position(self, node: Node) -> int:
        """Return a node's place in the order.

        Raises
        ------
        UnknownNodeError
            If the node is no part of the graph.
        """
        try:
            return self._index[node]
        except (KeyError, TypeError):
            what = describe(node) if isinstance(node, Node) else f"{type_name(node)} {node!r}"
            raise UnknownNodeError(
                f"{what} is not part of this graph: it is no ancestor of its outputs "
                f"{', '.join(describe(n, self.name(n)) for n in self.outputs[:3])}"
            ) from None

    def name(self, node: Node) -> str:
        """Return a node's name in this graph: its own, or one such as ``linear_1``."""
        self.position(node)
        return self.names[0][node]

    def describe(self, node: Node) -> str:
        """Return a node's name, operation, provider and place of birth, for messages."""
        return describe(node, self.name(node))

    @property
    def names(self) -> tuple[dict[Node, str], dict[str, Node]]:
        """The names by node, and the nodes by name."""
        if self._names is None:
            taken = {node.name for node in self.nodes if node.name}
            counts: Counter[str] = Counter()
            by_node: dict[Node, str] = {}
            for node in self.nodes:
                name = node.name
                if name is None:
                    stem = snake_case(type(node).__name__)
                    while name is None or name in taken:
                        counts[stem] += 1
                        name = f"{stem}_{counts[stem]}"
                by_node[node] = name
            self._names = by_node, {name: node for node, name in by_node.items()}
        return self._names

    def consumers(self, node: Node) -> tuple[Node, ...]:
        """Return the nodes that read ``node``, in order; one that reads it twice is there twice."""
        self.position(node)
        return tuple(n for n in self.nodes for source in n.inputs if source is node)

    @overload
    def draw(
        self,
        path: str | PathLike[str],
        *,
        format: str | None = None,
        run: Run | None = None,
        **options: Any,
    ) -> None: ...
    @overload
    def draw(
        self, path: None = None, *, format: str, run: Run | None = None, **options: Any
    ) -> str | bytes: ...
    def draw(
        self,
        path: str | PathLike[str] | None = None,
        *,
        format: str | None = None,
        run: Run | None = None,
        **options: Any,
    ) -> str | bytes | None:
        """Draw the graph into a file, whose suffix says how: ``graph.draw("net.svg")``.

        Parameters
        ----------
        path : path, optional
            The file. It is written whole or not at all. Without one the picture is returned.
        format : str, optional
            Name of the drawer; by default the one for the path's suffix. The pack mftrace
            brings ``svg``, ``png``, ``mermaid``, ``markdown`` and ``dot``.
        run : Run, optional
            A run of this graph, to show the values that it computed, and gradients if it
            computed any.
        **options
            Passed to the drawer.

        Returns
        -------
        str, bytes or None
            The picture, bytes where the format is binary; ``None`` if it went into a file.

        Raises
        ------
        DrawingError
            If no enabled pack draws that format, if the graph cannot be drawn as asked, or
            if the file cannot be written.
        """
        from mfcore.drawing import draw

        return draw(self, path, format, run, options)

    def _repr_svg_(self) -> str | None:
        """Return the picture that notebooks show; ``None`` where no pack draws SVG."""
        from mfcore.drawing import drawn_inline

        return drawn_inline(self)

    def _repr_html_(self) -> str | None:
        """Return a table for notebooks where no pack draws SVG; else ``None``: they show that."""
        from mfcore.drawing import inline_drawer
        from mfcore.html import graph_html

        return graph_html(self) if inline_drawer() is None else None

    def _check_names(self) -> None:
        seen: dict[str, Node] = {}
        for node in self.nodes:
            if node.name is not None:
                other = seen.setdefault(node.name, node)
                if other is not node:
                    raise DuplicateNameError(
                        f"two nodes of the graph are named {node.name!r}: "
                        f"{describe(other)} and {describe(node)}. Rename one of them"
                    )

    def _announce(self) -> None:
        if listening := observers("sort"):
            replay_sort(self, listening)


def replay_sort(graph: Graph, observers: Observers) -> None:
    """Tell the observers, step by step, how the sort of a graph went.

    The order is fixed by the graph, so the steps can be told afterwards and the sort
    itself needs no hook in its loop.
    """
    consumers: dict[Node, list[Node]] = {node: [] for node in graph.nodes}
    remaining = {}
    for node in graph.nodes:
        remaining[node] = len(node.inputs)
        for source in node.inputs:
            consumers[source].append(node)
    observers.fire("mf_sort_start", graph=graph)
    for position, node in enumerate(graph.nodes):
        observers.fire("mf_sort_visit", graph=graph, node=node, position=position)
        for consumer in consumers[node]:
            remaining[consumer] -= 1
            observers.fire(
                "mf_sort_edge",
                graph=graph,
                source=node,
                target=consumer,
                remaining=remaining[consumer],
            )
    observers.fire("mf_sort_finish", graph=graph)


@lru_cache
def snake_case(name: str) -> str:
    """Return a class name as a node name's stem: ``CrossEntropy`` as ``cross_entropy``."""
    parts = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", parts).lower()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause Python's cyclic garbage collector, which re-reads a growing graph again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _flat(outputs: tuple[Any, ...]) -> tuple[Node, ...]:
    if len(outputs) == 1 and not isinstance(outputs[0], Node):
        try:
            outputs = tuple(outputs[0])
        except TypeError:
            pass
    if not outputs:
        raise GraphError("a graph needs at least one output node")
    for output in outputs:
        if not isinstance(output, Node):
            raise GraphError(
                f"a graph is built from nodes; got {type_name(output)} {str(output)[:60]}"
            )
    return outputs
