"""The classic course API: nodes that hold their value, for learning.

A node knows the nodes that it reads (``inbound_nodes``) and those that read it
(``outbound_nodes``). ``forward`` computes its ``value``, ``backward`` fills ``gradients``
with one entry for each node that it reads. All formulas are those of the packs: a class
here only fetches arguments and adds up gradients.

This module has nothing to do with the nodes of ``mfcore``, which are immutable and hold
no values. It supports programs written for the course, and classes of their own.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import FrameType
from typing import Any, ClassVar, TypeAlias

import mfops_basic
import mfops_nn
import numpy as np

import mfcore
from mfcore.engine import unbroadcast
from mfcore.errors import (
    CycleError,
    FeedDtypeError,
    ForwardError,
    GradientError,
    GraphError,
    MissingFeedError,
    NodeUseError,
    UnknownFeedError,
    type_name,
)
from mfcore.graph import snake_case

DEBUG = False
"""Whether passes print every node's values and gradients; also read from the program itself."""

T_DEBUG = False
"""Whether sorting prints every node popped and every edge removed; read like ``DEBUG``."""

Array: TypeAlias = mfcore.Array

_births = itertools.count()


class Node:
    """One vertex of a graph, which holds its value and the gradients that it sends back.

    A class of your own calls ``Node.__init__(self, inbound_nodes)`` and writes two methods:
    ``forward`` sets ``self.value``; ``backward`` sets ``self.gradients[n]`` for each ``n`` of
    ``self.inbound_nodes`` from ``n.gradients[self]`` of each ``n`` of ``self.outbound_nodes``.

    Parameters
    ----------
    inbound_nodes : iterable of Node
        The nodes read, in order. What is no node is held as a constant.
    name : str, optional
        A name for messages.
    """

    def __init__(self, inbound_nodes: Iterable[Any] | None = (), name: str | None = None) -> None:
        if isinstance(inbound_nodes, Node):
            inbound_nodes = [inbound_nodes]
        if name is not None and not isinstance(name, str):
            raise NodeUseError(f"a node's name must be a string, not {type_name(name)} {name!r}")
        self.name = name
        self.value: Any = None
        self.gradients: dict[Node, Any] = {}
        self._birth = next(_births)
        self._site = _user_line()
        self.inbound_nodes: list[Node] = [_as_node(n) for n in inbound_nodes or ()]
        self.outbound_nodes: list[Node] = []
        for node in dict.fromkeys(self.inbound_nodes):  # one that is read twice is one consumer
            node.outbound_nodes.append(self)

    def forward(self) -> None:
        """Compute ``self.value`` from the values of ``self.inbound_nodes``."""
        raise NotImplementedError(f"{_describe(self)} has no forward method")

    def backward(self) -> None:
        """Compute ``self.gradients`` from the gradients that ``self.outbound_nodes`` hold."""
        raise NotImplementedError(f"{_describe(self)} has no backward method")

    def __repr__(self) -> str:
        return f"<classic {type(self).__name__}{f' {self.name!r}' if self.name else ''}>"

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise NodeUseError(
            f"{_describe(self)} is a node of the classic API, not an array: its result is in "
            f"`.value` after a forward pass. Nodes of the classic API and of mfcore do not mix"
        )

    def _received(self) -> list[Any]:
        """Gradients that consumers sent.

        A single number that nobody consumes is what is being differentiated: its
        gradient is 1. An array that nobody consumes gets none, as in the course.
        """
        sent = [n.gradients[self] for n in self.outbound_nodes if self in n.gradients]
        if not sent and np.ndim(self.value) == 0:
            return [np.ones((), _float_type(self.value))[()]]
        return sent


class Input(Node):
    """A node that is given its value: by the feed, by ``node.value = ...`` or ``forward(value)``.

    Parameters
    ----------
    name : str, optional
        A name for messages.
    """

    def __init__(self, name: str | None = None) -> None:
        Node.__init__(self, (), name)

    def forward(self, value: Any = None) -> None:
        """Keep the value, or take a new one."""
        if value is not None:
            self.value = value

    def backward(self) -> None:
        """Sum what the consumers sent into ``gradients[self]``."""
        self.gradients = {self: 0}
        for node in self.outbound_nodes:
            if self in node.gradients:
                self.gradients[self] = self.gradients[self] + node.gradients[self]


class _Constant(Node):
    """A plain value where a node was expected. It is no part of a sorted graph."""

    def __init__(self, value: Any) -> None:
        Node.__init__(self)
        self.value = value


class _Operation(Node):
    """A node whose formula and derivative are those of a pack's operation."""

    operation: ClassVar[type[mfcore.Node]]

    def __init__(self, inputs: Sequence[Any], name: str | None = None) -> None:
        Node.__init__(self, inputs, name)
        self._saved: Any = None

    def forward(self) -> None:
        """Compute the value."""
        arguments = self._arguments()
        spec = mfcore.spec_of(self.operation)
        try:
            result = spec.forward(*arguments)
        except Exception as error:
            raise ForwardError(
                f"forward of {_describe(self)} raised {type(error).__name__}: {error}\n"
                f"  its inputs: {', '.join(map(_kind, self.inbound_nodes))}"
            ) from error
        self.value, self._saved = result if spec.saves else (result, None)

    def backward(self) -> None:
        """Add up, for each input, what each consumer's gradient makes of it."""
        values = [self._argument(node) for node in self.inbound_nodes]
        self.gradients = {
            node: np.zeros(np.shape(value), _float_type(value))[()]
            for node, value in zip(self.inbound_nodes, values, strict=True)
        }
        for received in self._received():
            shares = self._shares(np.asarray(received)[()])
            for node, value, share in zip(self.inbound_nodes, values, shares, strict=True):
                fitted = _fitted(np.asarray(share), value, node, self)
                self.gradients[node] = self.gradients[node] + fitted

    def _arguments(self) -> list[Any]:
        """Return what the pack's function takes."""
        return [self._argument(node) for node in self.inbound_nodes]

    def _shares(self, grad: Array) -> Sequence[Any]:
        """Return the gradient of each input, in order, for one gradient of the value."""
        return self._pure_backward(grad, self._arguments())

    def _pure_backward(self, grad: Array, arguments: Sequence[Any]) -> Sequence[Any]:
        spec = mfcore.spec_of(self.operation)
        assert spec.backward is not None
        given = {
            "grad": grad,
            "value": self.value,
            "saved": self._saved,
            "wanted": spec.wanted([True] * len(arguments)),
            **({spec.inputs[0]: arguments} if spec.variadic else dict(zip(spec.inputs, arguments))),
        }
        shares: Sequence[Any] = spec.backward(**{name: given[name] for name in spec.backward_asks})
        return shares

    def _argument(self, node: Node) -> Any:
        """Return an input's value as an array."""
        if node.value is None:
            raise MissingFeedError(
                f"{_describe(node)} has no value, and {_describe(self)} needs it: "
                + (
                    "feed it in `topological_sort({node: value, ...})` or set its `.value`"
                    if isinstance(node, Input)
                    else "run the forward pass of the nodes before it first"
                )
            )
        try:
            array = np.asarray(node.value)
        except (ValueError, TypeError) as error:
            raise FeedDtypeError(f"the value of {_describe(node)} is no array: {error}") from error
        if array.dtype.kind not in "biuf":
            raise FeedDtypeError(
                f"the value of {_describe(node)} is not numeric: "
                f"{type_name(node.value)} of dtype {array.dtype}"
            )
        return array


class _Arithmetic(_Operation):
    """An operation on any number of inputs, given one by one or as one list."""

    def __init__(self, *inputs: Any, name: str | None = None) -> None:
        if len(inputs) > 1 and isinstance(inputs[-1], str):
            *inputs, name = inputs  # type: ignore[assignment]
        if len(inputs) == 1 and _is_list_of_nodes(inputs[0]):
            inputs = inputs[0]
        if not inputs:
            raise NodeUseError(f"{type(self).__name__} needs at least one input")
        _Operation.__init__(self, inputs, name)

    def _argument(self, node: Node) -> Any:
        # Python's numbers stay what they are: the sum of two ints is an int.
        return node.value if type(node.value) in (int, float) else super()._argument(node)


class Add(_Arithmetic):
    """Sum of its inputs: ``Add(x, y, z)`` or ``Add([x, y, z])``."""

    operation = mfops_basic.Add


class Mul(_Arithmetic):
    """Product of its inputs: ``Mul(x, y, z)`` or ``Mul([x, y, z])``."""

    operation = mfops_basic.Mul


class Linear(_Operation):
    """Affine map ``inputs @ weights + bias``.

    Parameters
    ----------
    inputs : Node, or list of k nodes
        Of value ``(n, k)``, or ``(k,)`` for one row. A list of nodes is its columns.
    weights : Node, or list of k nodes
        Of value ``(k, m)``, or ``(k,)``. A list of nodes is its rows.
    bias : Node
        Of value ``(m,)``, or a number.
    name : str, optional
        A name for messages.
    """

    operation = mfops_nn.Linear

    def __init__(
        self, inputs: Any, weights: Any = None, bias: Any = None, name: str | None = None
    ) -> None:
        if weights is None and _is_list_of_nodes(inputs) and len(inputs) == 3:
            inputs, weights, bias = inputs
        if weights is None or bias is None:
            raise NodeUseError("Linear needs three inputs: Linear(inputs, weights, bias)")
        listed = [list(part) if _is_list_of_nodes(part) else None for part in (inputs, weights)]
        columns, rows = listed
        self._columns = None if columns is None else len(columns)
        self._rows = None if rows is None else len(rows)
        parts = ([inputs] if columns is None else columns) + ([weights] if rows is None else rows)
        _Operation.__init__(self, [*parts, bias], name)

    def _arguments(self) -> list[Array]:
        values = super()._arguments()
        count = self._columns or 1
        X = values[0] if self._columns is None else np.stack(values[:count], axis=-1)
        W = values[count] if self._rows is None else np.stack(values[count:-1])
        if X.ndim == W.ndim == 0:
            X, W = X.reshape(1), W.reshape(1)
        return [X, W, values[-1]]

    def _shares(self, grad: Array) -> Sequence[Array]:
        X, W, b = self._arguments()
        # The pack's derivative is that of two matrices: one row, or one column, is one too.
        X2, W2 = X.reshape(-1, X.shape[-1]), W.reshape(W.shape[0], -1)
        grad2 = grad.reshape(len(X2), W2.shape[1])
        of_X, of_W = self._pure_backward(grad2, [X2, W2, b])[:2]
        of_X, of_W = of_X.reshape(X.shape), of_W.reshape(W.shape)
        columns = [of_X] if self._columns is None else list(np.moveaxis(of_X, -1, 0))
        rows = [of_W] if self._rows is None else list(of_W)
        return [*columns, *rows, grad]


class Sigmoid(_Operation):
    """Logistic function ``1 / (1 + exp(-x))``."""

    operation = mfops_nn.Sigmoid

    def __init__(self, node: Any, name: str | None = None) -> None:
        _Operation.__init__(self, [node], name)


class MSE(_Operation):
    """Mean squared error between targets ``y`` and predictions ``a``, over all elements.

    After a forward pass, ``diff`` is ``y - a`` as a column and ``m`` the number of rows.
    """

    operation = mfops_nn.MSE

    def __init__(self, y: Any, a: Any, name: str | None = None) -> None:
        _Operation.__init__(self, [y, a], name)

    def forward(self) -> None:
        """Compute the value."""
        super().forward()
        self.diff = self._saved.reshape(-1, 1)
        self.m = len(np.atleast_1d(self.inbound_nodes[0].value))


Multiply = Mul
"""Another name of ``Mul`` that course programs use."""


# Sorting and running


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
            what = _describe(key) if isinstance(key, Node) else f"{type_name(key)} {key!r}"
            raise UnknownFeedError(f"a value was fed to {what}, which is no input")
    for node, value in feed_dict.items():
        node.value = value
    found = _reached(feed_dict)
    trace = _Trace(sys._getframe(1), "T_DEBUG", found)
    trace.say(f"sort: {len(found)} nodes, {len(feed_dict)} of them fed")
    remaining = {n: sum(m in found for m in dict.fromkeys(n.inbound_nodes)) for n in found}
    order = [node for node in found if not remaining[node]]
    for node in order:  # the list grows while it is read: a queue
        trace.say(f"  pop {trace.name(node)}")
        for consumer in dict.fromkeys(node.outbound_nodes):
            remaining[consumer] -= 1
            trace.say(
                f"    remove edge {trace.name(node)} -> {trace.name(consumer)}, "
                f"{remaining[consumer]} left"
            )
            if not remaining[consumer]:
                order.append(consumer)
    if len(order) < len(found):
        circle = ", ".join(_describe(node) for node in found if remaining[node])
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
    trace = _Trace(sys._getframe(1), "DEBUG", graph)
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
    trace = _Trace(sys._getframe(1), "DEBUG", graph)
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
            raise GradientError(f"{_describe(t)} has no gradient yet: run forward_and_backward")
        step = learning_rate * t.gradients[t]
        if isinstance(t.value, np.ndarray) and t.value.dtype.kind != "f":
            raise FeedDtypeError(
                f"{_describe(t)} holds an array of {t.value.dtype}, which cannot be trained in "
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
    graph = list(graphs[0])
    for node in graph:
        if not isinstance(node, Node):
            raise GraphError(f"a sorted graph is a list of nodes; it holds {type_name(node)}")
    if not outputs and not graph:
        raise GraphError("the graph is empty: no node depends on what was fed")
    if outputs:  # nodes built after the sort, or on plain values alone
        present = set(graph)
        graph += [n for n in _ancestors(outputs[0]) if n.inbound_nodes and n not in present]
    return graph, outputs[0] if outputs else graph[-1], bool(outputs)


def _forward(graph: list[Node], output: Node, trace: _Trace) -> list[Node]:
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
                f"{_describe(missing[0])} has no value, and {_describe(node)} needs it"
            ) from error
        done.append(node)
        trace.forward(node)
    return done


def _run(node: Node, method: Any) -> None:
    try:
        method()
    except Exception as error:
        error.add_note(f"while running {method.__name__} of {_describe(node)}")
        raise


def _reads_unfed(node: Node, graph: list[Node]) -> bool:
    fed = set(graph)
    return any(isinstance(n, Input) and n not in fed for n in _ancestors(node))


def _reached(feeds: Iterable[Node]) -> dict[Node, None]:
    """Find the nodes that depend on the feeds, and the operations that those need besides."""
    found = dict.fromkeys(feeds)
    queue = list(found)
    for node in queue:
        for other in (*node.outbound_nodes, *(n for n in node.inbound_nodes if n.inbound_nodes)):
            if other not in found:
                found[other] = None
                queue.append(other)
    return found


def _output(order: list[Node]) -> Node:
    ready: dict[Node, bool] = {}
    for node in order:
        sources = node.inbound_nodes
        ready[node] = all(ready.get(n, n.value is not None) for n in sources)
    ends = [n for n in order if not any(m in ready for m in n.outbound_nodes)]
    return max(ends, key=lambda n: (ready[n], n._birth))


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


# Nodes and values


def _as_node(value: Any) -> Node:
    if isinstance(value, Node):
        return value
    if isinstance(value, mfcore.Node):
        raise NodeUseError(
            f"{value!r} is a node of mfcore: nodes of the classic API and of mfcore do not mix"
        )
    if value is None or isinstance(value, str):
        raise NodeUseError(f"expected a node or a number, got {type_name(value)} {value!r}")
    return _Constant(value)


def _is_list_of_nodes(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and any(isinstance(n, Node) for n in value)


def _float_type(value: Any) -> Any:
    kind = getattr(value, "dtype", None)
    return kind if kind is not None and kind.kind == "f" else np.float64


def _fitted(share: Array, value: Any, node: Node, consumer: Node) -> Array:
    """Return a gradient in the shape and dtype of the value that it belongs to."""
    shape = np.shape(value)
    fitted = share if share.shape == shape else unbroadcast(share, shape)
    if fitted is None:
        raise GradientError(
            f"the gradient that reached {_describe(consumer)} does not fit {_describe(node)}: "
            f"shape {share.shape} for a value of shape {shape}"
        )
    return fitted.astype(_float_type(value), copy=False)


def _kind(node: Node) -> str:
    value = node.value
    shape = f" of shape {np.shape(value)}" if isinstance(value, (np.ndarray, list)) else ""
    return f"{node.name or type(node).__name__.lstrip('_')} ({type_name(value)}{shape})"


def _describe(node: Node) -> str:
    kind = type(node).__name__.lstrip("_")
    file, line = node._site
    place = f"built at {file}:{line}"
    return f"{node.name} ({kind}, {place})" if node.name else f"{kind} ({place})"


def _user_line() -> tuple[str, int]:
    """Return file and line of the code that is building a node, outside of constructors."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_back is not None:
        if frame.f_globals.get("__name__") != __name__ and frame.f_code.co_name != "__init__":
            break
        frame = frame.f_back
    assert frame is not None
    return frame.f_code.co_filename, frame.f_lineno


# What DEBUG and T_DEBUG print


class _Trace:
    """Prints what happens if a flag is set: here, in ``miniflow``, or in the caller's globals.

    Nodes are called by their name, else by the caller's variable, else by kind and number.
    """

    def __init__(self, caller: FrameType, flag: str, nodes: Iterable[Node]) -> None:
        places = [vars(sys.modules[m]) for m in (__name__, "miniflow") if m in sys.modules]
        self.on = any(place.get(flag) for place in (*places, caller.f_globals))
        self._names: dict[Node, str] = {}
        if not self.on:
            return
        variables = {**caller.f_globals, **caller.f_locals}
        for name, value in variables.items():
            if isinstance(value, Node) and not name.startswith("_"):
                self._names.setdefault(value, name)
        counts: Counter[str] = Counter()
        known = {m for n in nodes for m in (n, *n.inbound_nodes, *n.outbound_nodes)}
        for node in sorted(known, key=lambda n: n._birth):
            kind = snake_case(type(node).__name__.lstrip("_"))
            counts[kind] += 1
            if node.name or node not in self._names:
                self._names[node] = node.name or f"{kind}_{counts[kind]}"

    def name(self, node: Node) -> str:
        return self._names[node] if self.on else ""

    def say(self, text: str) -> None:
        if self.on:
            print(text)

    def forward(self, node: Node) -> None:
        if self.on:
            print(f"forward {self.name(node)}: {type(node).__name__}")
            for source in node.inbound_nodes:
                self._show(f"  {self.name(source)} = ", source.value)
            self._show("  value = ", node.value)

    def backward(self, node: Node) -> None:
        if not self.on:
            return
        print(f"backward {self.name(node)}: {type(node).__name__}")
        received = [n for n in node.outbound_nodes if node in n.gradients]
        for consumer in received:
            self._show(f"  from {self.name(consumer)}: ", consumer.gradients[node])
        if received:
            self._show("  total: ", sum(np.asarray(n.gradients[node]) for n in received))
        for source in dict.fromkeys(node.inbound_nodes):
            if source in node.gradients:
                self._show(f"  to {self.name(source)}: ", node.gradients[source])

    @staticmethod
    def _show(label: str, value: Any) -> None:
        from mftrace.format import format_array

        print(label + format_array(value).replace("\n", "\n" + " " * len(label)))
