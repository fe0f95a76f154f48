"""An operation's functions read on nodes: what they compute becomes a graph."""

from __future__ import annotations

import linecache
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Never

import numpy as np

from mfcore import dispatch
from mfcore.abstract import rebuilt
from mfcore.errors import NotTraceableError
from mfcore.node import Constant, Node, as_node, describe
from mfcore.operation import counted, spec_of
from mfcore.syntax import NumpySyntax


class NotKnownError(Exception):
    """A function asked for a shape or dtype that is known in a run only."""


class Symbolic(NumpySyntax["Symbolic"]):
    """A node, as an operation's function sees it: an array whose uses build further nodes.

    Unlike a node, it compares by value, and asking for a shape or dtype that is not known
    before a run raises ``NotKnownError``.

    Parameters
    ----------
    node : Node
        What it stands for.
    """

    __slots__ = ("node",)

    def __init__(self, node: Node) -> None:
        self.node = node

    def __repr__(self) -> str:
        return f"Symbolic({self.node!r})"

    @property
    def shape(self) -> tuple[Any, ...]:
        """Lengths of the axes; the use of one that is not known raises."""
        known = self.node._known
        if known is None:
            raise NotKnownError("shape")
        return tuple(_UnknownLength() if n is None else n for n in known.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Kind of the elements."""
        known = self.node._known
        if known is None or known.dtype is None:
            raise NotKnownError("dtype")
        return known.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def _numpy(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        rule = _RULES.get(function)
        if rule is not None:
            return rule(function, args, kwargs)
        return _called(function, args, kwargs)

    def _apply(
        self, operation: Any, inputs: tuple[Any, ...], hyperparameters: Mapping[str, Any]
    ) -> Symbolic:
        return Symbolic(operation(*_nodes(inputs), **_nodes(dict(hyperparameters))))


class _UnknownLength:
    """The length of an axis that is known in a run only: whatever uses it raises."""

    def _use(self, *_: object) -> Never:
        raise NotKnownError("shape")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _use
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __neg__ = _use
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _use
    __pow__ = __rpow__ = __divmod__ = __rdivmod__ = _use
    __index__ = __int__ = __float__ = __bool__ = __hash__ = __array__ = _use


def _called(function: Callable[..., Any], args: Any, kwargs: Any) -> Symbolic:
    return Symbolic(dispatch.call(function, _nodes(args), _nodes(dict(kwargs))))


def _nodes(value: Any) -> Any:
    """Return a value with the nodes in place of what stands for them."""
    if isinstance(value, Symbolic):
        return value.node
    if isinstance(value, (tuple, list)):
        return rebuilt(value, [_nodes(part) for part in value])
    if isinstance(value, dict):
        return {key: _nodes(part) for key, part in value.items()}
    if isinstance(value, _UnknownLength):
        raise NotKnownError("shape")
    return value


# What plain NumPy code may ask for that no pack declares an operation for


def _logical(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    bools = all(x.dtype == np.bool_ for x in args if hasattr(x, "dtype"))
    return _called(_LOGICAL[function] if bools else function, args, kwargs)


def _dot(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    both = [np.ndim(x) for x in args]
    return _called(np.matmul if {*both} <= {1, 2} else function, args, kwargs)


def _filled(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    first = args[0]
    if isinstance(first, Symbolic):
        shape = tuple(n.__index__() for n in first.shape)
        first = np.broadcast_to(np.zeros((), first.dtype), shape)
    return function(first, *args[1:], **kwargs)


def _attribute(function: Any, args: tuple[Any, ...], _kwargs: Mapping[str, Any]) -> Any:
    return getattr(args[0], function.__name__)


def _result_type(_function: Any, args: tuple[Any, ...], _kwargs: Mapping[str, Any]) -> Any:
    return np.result_type(*(x.dtype if isinstance(x, Symbolic) else x for x in args))


def _reduce(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    x, axis = (*args, kwargs.get("axis", 0))[:2]
    keepdims = {k: v for k, v in kwargs.items() if k != "axis"}
    return _called(_REDUCTIONS[function], (x, axis), keepdims)


_LOGICAL = {
    np.bitwise_and: np.logical_and,
    np.bitwise_or: np.logical_or,
    np.bitwise_xor: np.logical_xor,
    np.invert: np.logical_not,
}
_REDUCTIONS: dict[Any, Any] = {
    np.add.reduce: np.sum,
    np.maximum.reduce: np.max,
    np.minimum.reduce: np.min,
}
_RULES: dict[Any, Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Any]] = {
    **dict.fromkeys(_LOGICAL, _logical),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys((np.zeros_like, np.ones_like, np.empty_like, np.full_like), _filled),
    **dict.fromkeys((np.shape, np.ndim, np.size), _attribute),
    np.dot: _dot,
    np.result_type: _result_type,
    np.copy: lambda _function, args, _kwargs: args[0],
    np.ravel: lambda _function, args, _kwargs: args[0].reshape(-1),
}


# Reading


def read_backward(node: Node, grad: Node, flags: Sequence[bool]) -> list[Node | None]:
    """Return the gradients that a node's ``backward`` gives for its inputs, as nodes.

    Parameters
    ----------
    node : Node
        The operation.
    grad : Node
        The gradient that it gets.
    flags : sequence of bool
        Which of its inputs need one.

    Raises
    ------
    NotKnownError
        If a shape or dtype would have to be known that is not.
    NotTraceableError
        If a function cannot be read: it branches on data, or calls what is not NumPy.
    BackwardError
        If ``backward`` returns another number of gradients than there are inputs.
    """
    spec = spec_of(node)
    given = {**arguments(node), "wanted": spec.wanted(flags)}
    given |= {"grad": Symbolic(grad), "value": Symbolic(node)}
    if spec.saves:
        given["saved"] = reading(node, spec.forward, lambda: spec.call_forward(given)[1])
    returned = reading(node, spec.backward, lambda: spec.call_backward(given))
    gradients = counted(returned, len(flags), lambda: describe(node))
    return [None if g is None else as_node(_nodes(g)) for g in gradients]


def arguments(node: Node) -> dict[str, Any]:
    """Return a node's inputs and hyperparameters by name, as its functions read them.

    As in a run, a Python number stays one only beside what it is broadcast against.
    """
    spec = spec_of(node)
    sources = node.inputs
    stays = spec.keeps_numbers(isinstance(source, Constant) for source in sources)
    values: list[Any] = []
    for source in sources:
        if isinstance(source, Constant) and isinstance(source.value, (bool, int, float)):
            values.append(source.value if stays else np.asarray(source.value)[()])
        else:
            values.append(Symbolic(source))
    settings = {name: getattr(node, name) for name in spec.hyperparameters}
    return {**spec.named_inputs(values), **settings}


def reading(node: Node, function: Any, call: Callable[[], Any]) -> Any:
    """Call what reads a function of a node's operation; explain why it cannot be read.

    Raises
    ------
    NotTraceableError
        If it raises anything but ``NotKnownError``.
    """
    try:
        return call()
    except NotKnownError:
        raise
    except Exception as error:
        file, line = _line_of(function, error)
        source = linecache.getline(file, line).strip()
        raise NotTraceableError(
            f"{function.__name__} of {describe(node)} cannot be read on nodes: "
            f"{type(error).__name__}: {error}\n"
            f"  at {file}:{line}" + (f": {source}\n" if source else "\n") + "  Write it with "
            "NumPy's functions and operators alone, `np.where` in place of branches on data, so "
            "that its gradient is a graph; or take the gradients of a run, `run.gradients`, "
            "which need no reading"
        ) from error


def _line_of(function: Any, error: Exception) -> tuple[str, int]:
    """Return file and line within a function where an error arose."""
    code = function.__code__
    found = code.co_firstlineno
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is code:
            found = trace.tb_lineno
        trace = trace.tb_next
    return code.co_filename, found
