"""The nodes of the classic course API, which hold their value and their gradients.

All formulas are those of the packs: a class here only fetches arguments and adds up
gradients. These nodes have nothing to do with those of ``mfcore``.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any, ClassVar, TypeAlias

import numpy as np

import mfcore
import mfops_basic
import mfops_nn
from mfcore.checks import unbroadcast
from mfcore.errors import (
    FeedDtypeError,
    ForwardError,
    GradientError,
    MiniFlowError,
    MissingFeedError,
    NodeUseError,
    type_name,
)

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

    name: str | None = None

    def __init__(self, inbound_nodes: Iterable[Any] | None = (), name: str | None = None) -> None:
        if inbound_nodes is None or isinstance(inbound_nodes, Node):
            inbound_nodes = [] if inbound_nodes is None else [inbound_nodes]
        if name is not None:
            if not isinstance(name, str):
                raise NodeUseError(f"a node's name must be a string, not {type_name(name)}")
            self.name = name  # else what the program's own class says
        self.value: Any = None
        self.gradients: dict[Node, Any] = {}
        self._birth = next(_births)
        self._site = _user_line()
        self.inbound_nodes: list[Node] = [_as_node(n) for n in inbound_nodes]
        self.outbound_nodes: list[Node] = []
        for node in dict.fromkeys(self.inbound_nodes):  # one that is read twice is one consumer
            node.outbound_nodes.append(self)

    def forward(self) -> None:
        """Compute ``self.value`` from the values of ``self.inbound_nodes``."""
        raise NotImplementedError(f"{describe(self)} has no forward method")

    def backward(self) -> None:
        """Compute ``self.gradients`` from the gradients that ``self.outbound_nodes`` hold."""
        raise NotImplementedError(f"{describe(self)} has no backward method")

    def __repr__(self) -> str:
        return f"<classic {type(self).__name__}{f' {self.name!r}' if self.name else ''}>"

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise NodeUseError(
            f"{describe(self)} is a node of the classic API, not an array: its result is in "
            f"`.value` after a forward pass. Nodes of the classic API and of mfcore do not mix"
        )


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
        spec = mfcore.spec_of(self.operation)
        try:
            result = spec.forward(*self._arguments())
        except MiniFlowError:
            raise
        except Exception as error:
            raise ForwardError(
                f"forward of {describe(self)} raised {type(error).__name__}: {error}\n"
                f"  its inputs: {', '.join(map(_kind, self.inbound_nodes))}"
            ) from error
        self.value, self._saved = result if spec.saves else (result, None)

    def backward(self) -> None:
        """Add up, for each input, what each consumer's gradient makes of it."""
        if self.value is None:
            raise GradientError(f"{describe(self)} has no value yet: run the forward pass first")
        self.gradients = {}
        for node in self.inbound_nodes:
            value = self._argument(node)
            self.gradients[node] = np.zeros(np.shape(value), _float_type(value))[()]
        for received in self._received():
            for node, share in zip(self.inbound_nodes, self._shares(received), strict=True):
                sofar = self.gradients[node]
                self.gradients[node] = sofar + _fitted(np.asarray(share), sofar)

    def _received(self) -> list[Array]:
        """Return the gradients that consumers sent, in the shape of the value.

        A single number that nobody consumes is what is being differentiated: its
        gradient is 1. An array that nobody consumes gets none, as in the course.
        """
        shape = np.shape(self.value)
        sent = [n.gradients[self] for n in self.outbound_nodes if self in n.gradients]
        if not sent and not shape:
            return [np.ones((), _float_type(self.value))[()]]
        return [_in_shape(np.asarray(gradient), shape, self) for gradient in sent]

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
                f"{describe(node)} has no value, and {describe(self)} needs it: "
                + (
                    "feed it in `topological_sort({node: value, ...})` or set its `.value`"
                    if isinstance(node, Input)
                    else "run the forward pass of the nodes before it first"
                )
            )
        try:
            array = np.asarray(node.value)
        except (ValueError, TypeError) as error:
            raise FeedDtypeError(f"the value of {describe(node)} is no array: {error}") from error
        if array.dtype.kind not in "biuf":
            raise FeedDtypeError(
                f"the value of {describe(node)} is not numeric: "
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
        self._listed = _is_list_of_nodes(inputs), _is_list_of_nodes(weights)
        columns = list(inputs) if self._listed[0] else [inputs]
        rows = list(weights) if self._listed[1] else [weights]
        self._columns = len(columns)
        _Operation.__init__(self, [*columns, *rows, bias], name)

    def _arguments(self) -> list[Array]:
        values = super()._arguments()
        columns, rows = values[: self._columns], values[self._columns : -1]
        X = np.stack(columns, axis=-1) if self._listed[0] else columns[0]
        W = np.stack(rows) if self._listed[1] else rows[0]
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
        columns = list(np.moveaxis(of_X, -1, 0)) if self._listed[0] else [of_X]
        rows = list(of_W) if self._listed[1] else [of_W]
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


def _in_shape(gradient: Array, shape: tuple[int, ...], node: Node) -> Array:
    """Return a gradient that a program's own class may have sent as a column or as one number."""
    try:
        if gradient.size == math.prod(shape):
            return gradient.reshape(shape)[()]
        return np.broadcast_to(gradient, shape)
    except ValueError:
        raise GradientError(
            f"{describe(node)} has a value of shape {shape}, but was sent a gradient of shape "
            f"{gradient.shape}"
        ) from None


def _fitted(share: Array, like: Array) -> Array:
    """Return a gradient in the shape and dtype of the sum that it is added to."""
    if share.shape != like.shape:
        summed = unbroadcast(share, like.shape)
        assert summed is not None  # the value was broadcast when the node ran forward
        share = summed
    return share if share.dtype == like.dtype else share.astype(like.dtype)


def _kind(node: Node) -> str:
    value = node.value
    shape = f" of shape {np.shape(value)}" if isinstance(value, (np.ndarray, list)) else ""
    return f"{node.name or type(node).__name__.lstrip('_')} ({type_name(value)}{shape})"


def describe(node: Node) -> str:
    """Return a node's name, kind and place of birth, for messages."""
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
