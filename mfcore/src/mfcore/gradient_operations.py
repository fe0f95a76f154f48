"""Operations that gradients as nodes are made of, where shapes are known in a run only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcore.errors import BackwardError, GradientError, NotTraceableError
from mfcore.inference import Known, known_gradient
from mfcore.node import Array, Constant, Input, Node
from mfcore.operation import apply, counted, hyperparameter, operation, spec_of
from mfcore.sorting import topological
from mfcore.symbolic import Symbolic
from mfcore.syntax import cast, has_elements
from mfcore.values import float_dtype

if TYPE_CHECKING:
    from mfcore.node import NodeLike


def sum_to(x: Any, shape: tuple[int, ...]) -> Any:
    """Sum ``x`` over the axes along which an array of ``shape`` is broadcast to it.

    Raises
    ------
    ValueError
        If ``shape`` does not broadcast to the shape of ``x``.
    """
    if x.shape == shape:
        return x
    added = x.ndim - len(shape)
    if added < 0 or any(
        theirs not in (1, mine) for mine, theirs in zip(x.shape[added:], shape, strict=True)
    ):
        raise ValueError(f"a gradient of shape {x.shape} does not belong to shape {shape}")
    stretched = (added + a for a, n in enumerate(shape) if n == 1 and x.shape[added + a] != 1)
    axes = (*range(added), *stretched)
    total = np.reshape(np.sum(x, axis=axes, keepdims=True), shape)
    return total[()] if has_elements(total) else total


def _in_dtype(x: Any, like: Any) -> Any:
    """Return a gradient in the dtype of its node, if that is one of floats."""
    return cast(x, like.dtype) if like.dtype.kind == "f" and x.dtype != like.dtype else x


def _known_of_like(node: Any) -> Known | None:
    """Return what is known of a gradient: what is known of its node."""
    known = node.like._known
    return None if known is None else known_gradient(known)


@operation
class SumTo(Node):
    """A gradient in the shape and dtype of its node; the gradient itself if it has them.

    Parameters
    ----------
    x : Node
        A gradient, of a shape that ``like`` broadcasts to.
    like : Node
        The node that it belongs to.
    """

    x: Node
    like: Node

    _inferred = _known_of_like

    if TYPE_CHECKING:

        def __init__(self, x: NodeLike, like: NodeLike, *, name: str | None = None) -> None: ...

    @staticmethod
    def forward(x: Array, like: Array) -> Any:
        return _in_dtype(sum_to(x, like.shape), like)

    @staticmethod
    def backward(grad: Array, x: Array, wanted: Any) -> tuple[Any, ...]:
        return apply(BroadcastLike, grad, x) if wanted.x else None, None


@operation
class BroadcastLike(Node):
    """``x`` repeated to the shape of a node, in its dtype if that is one of floats.

    Parameters
    ----------
    x : Node
        Of a shape that broadcasts to that of ``like``.
    like : Node
        The node.
    """

    x: Node
    like: Node

    _inferred = _known_of_like

    if TYPE_CHECKING:

        def __init__(self, x: NodeLike, like: NodeLike, *, name: str | None = None) -> None: ...

    @staticmethod
    def forward(x: Array, like: Array) -> Any:
        x = _in_dtype(x, like)
        return x if x.shape == like.shape else np.broadcast_to(x, like.shape)

    @staticmethod
    def backward(grad: Array, x: Array, wanted: Any) -> tuple[Any, ...]:
        return apply(SumTo, grad, x) if wanted.x else None, None


@operation
class Seed(Node):
    """The gradient of a scalar by itself: 1, in its shape and dtype.

    Parameters
    ----------
    of : Node
        Of one element.
    """

    of: Node

    @staticmethod
    def forward(of: Array) -> Any:
        if of.size != 1:
            raise GradientError(
                f"the node to differentiate has shape {of.shape}: only a scalar has a gradient "
                f"by itself. Reduce it (`.sum()`), or give `grad=`, an array of its shape"
            )
        return np.ones(of.shape, float_dtype(of.dtype))[()]

    @staticmethod
    def backward() -> tuple[Any, ...]:
        return (None,)


@operation
class BackwardOf(Node):
    """A gradient that an operation's ``backward`` computes in a run, when shapes are known.

    Its own ``backward`` reads that of the operation on nodes of the shapes at hand, and
    differentiates the graph that this gives.

    Parameters
    ----------
    received : Node
        The gradient that the operation gets.
    result : Node
        The operation.
    *sources : Node
        Its inputs.
    of : operation class
        What operation it is.
    settings : tuple of pairs
        Names and values of its hyperparameters.
    place : int
        Position of the input whose gradient it is.
    """

    received: Node
    result: Node
    sources: tuple[Node, ...]
    of: Any = hyperparameter()
    settings: tuple[Any, ...] = hyperparameter()
    place: int = hyperparameter()

    if TYPE_CHECKING:

        def __init__(
            self,
            received: Node,
            result: Node,
            *sources: Node,
            of: Any,
            settings: tuple[Any, ...],
            place: int,
            name: str | None = None,
        ) -> None: ...

    def _inferred(self) -> Known | None:
        known = self.sources[self.place]._known
        return None if known is None else known_gradient(known)

    @staticmethod
    def forward(
        received: Array,
        result: Array,
        sources: tuple[Array, ...],
        of: Any,
        settings: tuple[Any, ...],
        place: int,
        training: bool,
        saved_of_result: Any,
    ) -> Any:
        given = {
            "grad": received,
            "value": result,
            "saved": saved_of_result,
            "saved_of_result": saved_of_result,
            "training": training,
        }
        gradient = _gradient(of, sources, given, settings, place)
        if gradient is None:
            return np.zeros(sources[place].shape, float_dtype(sources[place].dtype))
        return gradient

    @staticmethod
    def backward(
        grad: Array,
        received: Array,
        result: Array,
        sources: tuple[Array, ...],
        of: Any,
        settings: tuple[Any, ...],
        place: int,
        training: bool,
        saved_of_result: Any,
        wanted: tuple[bool, ...],
    ) -> tuple[Any, ...]:
        leaves: list[Any] = []
        saved = _taken_apart(saved_of_result, leaves)
        values = [grad, received, result, *sources, *leaves]
        kinds = tuple([(tuple(map(int, x.shape)), x.dtype) for x in values])
        inputs, outputs = _derivatives(
            of, settings, place, kinds, (training, saved, len(sources), wanted)
        )
        found = evaluate(
            [output for output in outputs if output is not None],
            dict(zip(inputs, values, strict=True)),
        )
        gradients = iter(found)
        return tuple([None if output is None else next(gradients) for output in outputs])


def _gradient(
    of: Any, sources: Sequence[Any], given: Mapping[str, Any], settings: Any, place: int
) -> Any:
    """Call an operation's ``backward``; return one of its gradients, in its input's shape."""
    spec = spec_of(of)
    flags = [k == place for k in range(len(sources))]
    returned = spec.call_backward(
        {**given, **spec.named_inputs(sources), **dict(settings), "wanted": spec.wanted(flags)}
    )
    gradient = counted(returned, len(sources))[place]
    if gradient is None:
        return None
    source = sources[place]
    if has_elements(gradient):
        gradient = np.asarray(gradient)[()]
    if spec.inputs[min(place, len(spec.inputs) - 1)] in spec.broadcasts:
        gradient = sum_to(gradient, source.shape)
    if gradient.shape != source.shape:
        raise BackwardError(
            f"backward of {of.qualified_name()} returned a gradient of shape {gradient.shape} "
            f"for its input {spec.input_names(len(sources))[place]!r} of shape {source.shape}"
        )
    return _in_dtype(gradient, source)


# Derivatives of gradients, at the shapes of a run

_derived: dict[Any, Any] = {}
_FORGET_BEYOND = 1000


def _derivatives(
    of: Any, settings: Any, place: int, kinds: tuple[Any, ...], about: tuple[Any, ...]
) -> tuple[list[Input], list[Node | None]]:
    """Return a graph of the derivatives of one gradient: its inputs and outputs.

    The inputs are the gradient of the gradient, what ``BackwardOf`` takes, and the arrays
    in what the operation saved; the outputs are the gradients of what it takes.
    """
    key = (of, settings, place, kinds, about)
    try:
        found = _derived.get(key)
    except TypeError:  # a hyperparameter that cannot be hashed
        return _derive(of, settings, place, kinds, *about)
    if found is None:
        if len(_derived) > _FORGET_BEYOND:
            _derived.clear()
        found = _derived[key] = _derive(of, settings, place, kinds, *about)
    return found


def _derive(
    of: Any,
    settings: Any,
    place: int,
    kinds: tuple[Any, ...],
    training: bool,
    saved: Any,
    count: int,
    wanted: tuple[bool, ...],
) -> tuple[list[Input], list[Node | None]]:
    from mfcore.gradient import gradient

    spec = spec_of(of)
    inputs = [Input(shape=shape, dtype=dtype) for shape, dtype in kinds]
    grad, received, result, *rest = inputs
    sources = rest[:count]
    symbols = [Symbolic(source) for source in sources]
    given: dict[str, Any] = {
        "grad": Symbolic(received),
        "value": Symbolic(result),
        "saved_of_result": _put_together(saved, iter(rest[count:])),
        "training": training,
    }
    if spec.saves:
        if {"rng", "training"}.isdisjoint(spec.forward_asks):
            given["saved"] = spec.call_forward({**spec.named_inputs(symbols), **dict(settings)})[1]
        else:  # what was drawn counts as constant
            given["saved"] = given["saved_of_result"]
    found = _gradient(of, symbols, given, settings, place)
    if not isinstance(found, Symbolic):  # None, or an array that depends on nothing
        return inputs, [None] * (count + 2)
    targets = [received, result, *sources]
    chosen = [node for node, flag in zip(targets, wanted, strict=True) if flag]
    gradients = iter(gradient(found.node, chosen, grad=grad))
    return inputs, [next(gradients) if flag else None for flag in wanted]


def _taken_apart(saved: Any, leaves: list[Any]) -> Any:
    """Return what an operation saved with its arrays taken out, in a form that hashes."""
    if isinstance(saved, (tuple, list)):
        return (type(saved), *[_taken_apart(part, leaves) for part in saved])
    if hasattr(saved, "shape") and hasattr(saved, "dtype"):
        leaves.append(saved)
        return _ARRAY
    return (None, saved)


def _put_together(saved: Any, leaves: Any) -> Any:
    if saved is _ARRAY:
        return Symbolic(next(leaves))
    kind, *parts = saved
    if kind is None:
        return parts[0]
    return getattr(kind, "_make", kind)([_put_together(part, leaves) for part in parts])


_ARRAY = object()


def evaluate(outputs: Sequence[Node], values: Mapping[Node, Any]) -> list[Any]:
    """Compute nodes from the values of others, whatever these are.

    Each operation is applied to arrays, nodes, or anything else that has NumPy's syntax.

    Parameters
    ----------
    outputs : sequence of Node
        What to compute.
    values : mapping
        Values of inputs and parameters, by node.

    Raises
    ------
    NotTraceableError
        If a node has no value, or needs what only a run has.
    """
    known: dict[Node, Any] = dict(values)
    for node in topological(tuple(outputs)) if outputs else ():
        if node in known:
            continue
        if isinstance(node, Constant):
            known[node] = node.value
            continue
        if node.__operation__ is None:
            raise NotTraceableError(f"{node!r} has no value here")
        spec = node.__operation__
        stays = spec.keeps_numbers(isinstance(x, Constant) for x in node.inputs)
        inputs = [
            np.asarray(known[x])[()] if isinstance(x, Constant) and not stays else known[x]
            for x in node.inputs
        ]
        known[node] = apply(
            type(node), *inputs, **{name: getattr(node, name) for name in spec.hyperparameters}
        )
    return [known[output] for output in outputs]


GRADIENT_OPERATIONS: tuple[type[Node], ...] = (SumTo, BroadcastLike, Seed, BackwardOf)
"""The operations of this module."""
