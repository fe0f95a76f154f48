"""What operations return, checked; and errors that name the node that is at fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mfcore.engine import Memory
from mfcore.errors import BackwardError, ForwardError, NodeUseError, type_name
from mfcore.graph import Graph
from mfcore.node import Array
from mfcore.operation import counted, spec_of
from mfcore.values import as_array


class Checks:
    """Checks of what the operations of a graph return, nodes being given by position."""

    __slots__ = ("graph",)

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def inputs(self, i: int, memory: Memory) -> dict[str, Array]:
        """Values of a node's inputs by field name."""
        node = self.graph.nodes[i]
        if node.__operation__ is None:
            return {}
        names = spec_of(node).input_names(len(node.inputs))
        places = self.graph.sources[i]
        return {n: shown(memory[place]) for n, place in zip(names, places, strict=True)}

    def verify(self, i: int, memory: Memory) -> None:
        """Raise unless a node's value is an array."""
        if not isinstance(memory[i], (np.ndarray, np.generic)):
            raise ForwardError(
                f"forward of {self._describe(i)} returned {type_name(memory[i])}, not a NumPy array"
            )

    def counted(self, gradients: Any, arity: int, i: int) -> Sequence[Any]:
        """Return the gradients that a backward returned, one for each input.

        Raises
        ------
        BackwardError
            If there are not as many as the node has inputs, ``arity``.
        """
        return counted(gradients, arity, lambda: self._describe(i))

    def fitted(self, gradient: Any, value: Array, i: int, k: int) -> Array:
        """Return a gradient in the shape and dtype of the value it belongs to.

        Parameters
        ----------
        gradient : array_like
            What the ``backward`` of node ``i`` returned for its input ``k``.
        value : array
            That input.
        i, k : int
            Which node, and which of its inputs.

        Raises
        ------
        BackwardError
            If it is no array, or of a shape that does not belong to the input's.
        """
        try:
            gradient = as_array(gradient, "it")[()]
        except NodeUseError as error:
            raise BackwardError(
                f"backward of {self._describe(i)} returned {type_name(gradient)} as gradient for "
                f"its input {self._input_name(i, k)!r}: {error}"
            ) from None
        if gradient.shape != value.shape:
            spec = spec_of(self.graph.nodes[i])
            broadcasts = spec.inputs[min(k, len(spec.inputs) - 1)] in spec.broadcasts
            summed = unbroadcast(gradient, value.shape) if broadcasts else None
            if summed is None:
                raise BackwardError(
                    f"backward of {self._describe(i)} returned a gradient of shape "
                    f"{gradient.shape} for its input {self._input_name(i, k)!r} "
                    f"of shape {value.shape}"
                )
            gradient = summed
        if value.dtype.kind == "f" and gradient.dtype != value.dtype:
            gradient = gradient.astype(value.dtype)
        return gradient  # type: ignore[no-any-return]

    def _describe(self, i: int) -> str:
        return self.graph.describe(self.graph.nodes[i])

    def _input_name(self, i: int, k: int) -> str:
        node = self.graph.nodes[i]
        return spec_of(node).input_names(len(node.inputs))[k]

    def forward_error(self, i: int, memory: Memory, error: Exception) -> ForwardError:
        """Return the error for a node whose forward raised."""
        for source in self.graph.sources[i]:
            if self.graph.nodes[source].__operation__ is not None:
                # An operation that returned no array is at fault, not the one that read it.
                self.verify(source, memory)
        inputs = _summary(self.inputs(i, memory))
        return ForwardError(
            f"forward of {self._describe(i)} raised {type(error).__name__}: {error}\n"
            f"  its inputs: {inputs}"
        )

    def backward_error(self, i: int, memory: Memory, grad: Any, error: Exception) -> BackwardError:
        """Return the error for a node whose backward raised."""
        inputs = _summary({"grad": grad, **self.inputs(i, memory)})
        return BackwardError(
            f"backward of {self._describe(i)} raised {type(error).__name__}: {error}\n"
            f"  what it was given: {inputs}"
        )


def unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array | None:
    """Sum a gradient over the axes along which an input of ``shape`` was broadcast.

    Returns ``None`` where ``shape`` does not broadcast to the gradient's shape.
    """
    added = gradient.ndim - len(shape)
    if added < 0:
        return None
    for mine, theirs in zip(gradient.shape[added:], shape, strict=True):
        if theirs not in (1, mine):
            return None
    stretched = tuple(
        added + axis
        for axis, size in enumerate(shape)
        if size == 1 and gradient.shape[added + axis] != 1
    )
    summed = gradient.sum(axis=(*range(added), *stretched), keepdims=True)
    return summed.reshape(shape)[()]  # type: ignore[no-any-return]


def shown(value: Any) -> Any:
    """Return a value as observers see it: the Python number of a constant as a NumPy scalar."""
    return np.asarray(value)[()] if type(value) in (bool, int, float) else value


def _summary(arrays: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_kind(value)}" for name, value in arrays.items())


def _kind(value: Any) -> str:
    if isinstance(value, (np.ndarray, np.generic)):
        return f"{value.dtype}{list(value.shape)}"
    return type_name(value)
