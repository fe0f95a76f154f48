"""The classic course API: nodes that hold their value, for learning.

A node knows the nodes that it reads (``inbound_nodes``) and those that read it
(``outbound_nodes``). ``forward`` computes its ``value``, ``backward`` fills ``gradients``
with one entry for each node that it reads. Here is what sorts and runs them.

None of this has to do with the nodes of ``mfcore``, which are immutable and hold no
values. It is for programs written for the course, and classes of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mfcore.errors import (
    CycleError,
    FeedDtypeError,
    GradientError,
    GraphError,
    MiniFlowError,
    MissingFeedError,
    UnknownFeedError,
    type_name,
)
from miniflow.classic_nodes import (
    MSE,
    Add,
    Input,
    Linear,
    Mul,
    Multiply,
    Node,
    Sigmoid,
    describe,
)
from miniflow.classic_trace import Trace

__all__ = [
    "MSE",
    "Add",
    "Input",
    "Linear",
    "Mul",
    "Multiply",
    "Node",
    "Sigmoid",
    "forward_and_backward",
    "forward_pass",
    "sgd_update",
    "topological_sort",
]

DEBUG = False
"""Whether passes print every node's values and gradients; also read from the program itself."""

T_DEBUG = False
"""Whether sorting prints every node popped and every edge removed; read like ``DEBUG``."""


def topological_sort(feed_dict: Mapping[Any, Any]) -> list[Node]:
    """Give inputs their values and list the nodes that depend on them, in order.

    Kahn's algorithm (1962). The list holds the fed inputs and every node that can be
    reached from them. Where several nodes end the graph, the last is one whose inputs
    all have values, the one built last among those.

    Parameters
    ----------
    feed_dict : mapping of Input to value
        Numbers, lists or arrays. They are not copied.

    Returns
    -------
    list of Node
        The nodes; its last is the output.

    Raises
    ------
    UnknownFeedError
        If a key is no input.
    CycleError
        If nodes depend on each other in a circle.
    """
    if not isinstance(feed_dict, Mapping):
        raise UnknownFeedError(f"feeds are a dict of inputs, not {type_name(feed_dict)}")
    for key in feed_dict:
        if not isinstance(key, Node) or key.inbound_nodes:
            what = describe(key) if isinstance(key, Node) else f"{type_name(key)} {key!r}"
            raise UnknownFeedError(f"a value was fed to {what}, which is no input")
    for node, value in feed_dict.items():
        node.value = value
    found = _reached(feed_dict)
    trace = Trace(sys._getframe(1), "T_DEBUG", found)
    trace.sort_start(len(found), len(feed_dict))
    remaining = {n: sum(m in found for m in dict.fromkeys(n.inbound_nodes)) for n in found}
    order = [node for node in found if not remaining[node]]
    for node in order:  # the list grows while it is read: a queue
        trace.pop(node)
        for consumer in node.outbound_nodes:
            if consumer not in remaining:
                continue
            remaining[consumer] -= 1
            trace.remove_edge(node, consumer, remaining[consumer])
            if not remaining[consumer]:
                order.append(consumer)
    if len(order) < len(found):
        circle = ", ".join(describe(node) for node in found if remaining[node])
        raise CycleError(f"these nodes depend on each other in a circle: {circle}")
    if order:
        output = _output(order)
        order.remove(output)
        order.append(output)
    return order


def forward_pass(*args: Any, **named: Any) -> Any:
    """Compute the values of a graph: ``forward_pass(output, graph)`` or ``forward_pass(graph)``.

    A node that the output does not need, and that reads an input which is not fed in
    this graph, is left out where it cannot be computed: it belongs to another part of
    the program.

    Parameters
    ----------
    output : Node, optional
        The node whose value is wanted; by default the last of the graph.
    graph : list of Node
        What ``topological_sort`` returned, or a part of it.

    Returns
    -------
    scalar or array
        The value of the output.

    Raises
    ------
    MissingFeedError
        If the output needs an input that has no value.
    ForwardError
        If an operation cannot use its inputs' values.
    """
    graph, output, _ = _output_and_graph("forward_pass", args, named)
    trace = Trace(sys._getframe(1), "DEBUG", graph)
    _forward(graph, output, trace)
    return output.value


def forward_and_backward(*args: Any, **named: Any) -> Any:
    """Run a graph forward, then backward; called as ``forward_pass`` is.

    Afterwards ``node.gradients`` holds the gradients with respect to each node that it
    reads, and ``x.gradients[x]`` of an input ``x`` their sum. What is differentiated is
    the output if one is given, else the sum of all single numbers that end the graph.

    Parameters
    ----------
    output : Node, optional
        The node that is differentiated.
    graph : list of Node
        What ``topological_sort`` returned.

    Returns
    -------
    scalar or array
        The value of the output.
    """
    graph, output, chosen = _output_and_graph("forward_and_backward", args, named)
    trace = Trace(sys._getframe(1), "DEBUG", graph)
    nodes = _forward(graph, output, trace)
    if chosen:
        needed = _ancestors(output)
        nodes = [node for node in nodes if node in needed]
    taking_part = set(nodes)
    for node in nodes:
        for consumer in node.outbound_nodes:
            if consumer not in taking_part:
                consumer.gradients = _NoGradients()
    for node in reversed(nodes):
        _run(node, node.backward)
        trace.backward(node)
    return output.value


def sgd_update(trainables: Iterable[Node], learning_rate: float = 1e-2) -> None:
    """Take a step of gradient descent, ``value -= learning_rate * gradient``, in place.

    The array that was fed changes with it. A number, or a list, is replaced.

    Parameters
    ----------
    trainables : iterable of Node
        The inputs to change, after ``forward_and_backward``.
    learning_rate : float
        Size of the step.

    Raises
    ------
    GradientError
        If an input has no gradient yet.
    FeedDtypeError
        If an array of integers would have to take fractions.
    """
    for t in trainables:
        if t not in t.gradients:
            raise GradientError(f"{describe(t)} has no gradient yet: run forward_and_backward")
        step = learning_rate * t.gradients[t]
        if isinstance(t.value, np.ndarray) and t.value.dtype.kind != "f":
            raise FeedDtypeError(
                f"{describe(t)} holds an array of {t.value.dtype}, which cannot be trained in "
                f"place: feed floats, `value.astype(float)`"
            )
        t.value -= step


class _NoGradients(dict[Node, Any]):
    """Gradients of a node that takes no part in a pass: none for us, zeros for others' code."""

    def __missing__(self, node: Node) -> Any:
        return np.zeros_like(node.value)


def _output_and_graph(
    function: str, args: tuple[Any, ...], named: dict[str, Any]
) -> tuple[list[Node], Node, bool]:
    """Tell the graph from the output, in whichever order and under whichever names they came."""
    given = [*args, *named.values()]
    outputs = [part for part in given if isinstance(part, Node)]
    graphs = [part for part in given if not isinstance(part, Node) and isinstance(part, Iterable)]
    if len(graphs) != 1 or len(given) - len(outputs) != 1 or len(outputs) > 1:
        raise GraphError(f"call {function}(graph) or {function}(output, graph)")
    graph = [] if isinstance(graphs[0], Mapping) else list(graphs[0])
    for node in graph:
        if not isinstance(node, Node):
            raise GraphError(f"a sorted graph is a list of nodes; it holds {type_name(node)}")
    if not outputs and not graph:
        raise GraphError("the graph is empty: no node depends on what was fed")
    if outputs:  # nodes built after the sort, or on plain values alone
        present = set(graph)
        graph += [n for n in _ancestors(outputs[0]) if n.inbound_nodes and n not in present]
    return graph, outputs[0] if outputs else graph[-1], bool(outputs)


def _forward(graph: list[Node], output: Node, trace: Trace) -> list[Node]:
    """Run nodes forward; return those that were not left out."""
    done = []
    for node in graph:
        try:
            _run(node, node.forward)
        except Exception as error:
            if node not in _ancestors(output) and _reads_unfed(node, graph):
                node.value = None
                continue
            missing = [n for n in node.inbound_nodes if n.value is None]
            if not missing or isinstance(error, MissingFeedError):
                raise
            raise MissingFeedError(
                f"{describe(missing[0])} has no value, and {describe(node)} needs it"
            ) from error
        done.append(node)
        trace.forward(node)
    return done


def _run(node: Node, method: Any) -> None:
    try:
        method()
    except MiniFlowError:
        raise
    except Exception as error:
        error.add_note(f"while running {method.__name__} of {describe(node)}")
        raise


def _reads_unfed(node: Node, graph: list[Node]) -> bool:
    fed = set(graph)
    return any(isinstance(n, Input) and n not in fed for n in _ancestors(node))


def _reached(feeds: Iterable[Node]) -> dict[Node, None]:
    """Find the nodes that depend on the feeds, and operations before them that never ran."""
    found = dict.fromkeys(feeds)
    queue = list(found)
    for node in queue:  # the lists grow while they are read
        new = [n for n in dict.fromkeys(node.outbound_nodes) if n not in found]
        found.update(dict.fromkeys(new))
        queue += new
    for node in queue:
        new = [n for n in dict.fromkeys(node.inbound_nodes) if n not in found]
        new = [n for n in new if n.inbound_nodes and n.value is None]
        found.update(dict.fromkeys(new))
        queue += new
    return found


def _output(order: list[Node]) -> Node:
    ready: dict[Node, bool] = {}
    for node in order:
        sources = node.inbound_nodes
        ready[node] = all(ready.get(n, n.value is not None) for n in sources)
    ends = [n for n in order if not any(m in ready for m in n.outbound_nodes)]
    return max(ends, key=lambda n: (bool(n.inbound_nodes), ready[n], n._birth))


def _ancestors(output: Node) -> dict[Node, None]:
    """Return a node and all that it depends on, each after what it reads."""
    done: dict[Node, None] = {}
    started: set[Node] = set()
    stack = [output]
    while stack:
        node = stack[-1]
        if node in started:
            done.setdefault(stack.pop())
            continue
        started.add(node)
        stack.extend(n for n in reversed(node.inbound_nodes) if n not in started)
    return done
