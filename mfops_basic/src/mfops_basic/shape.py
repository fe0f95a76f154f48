"""Shapes: the same elements arranged otherwise, and arrays put together.

Where NumPy gives a view, so do these: the result shares memory with the input.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from mfcore import Array, Node, errors, hyperparameter, operation
from mfcore.domain import Domain, one_of, real

if TYPE_CHECKING:
    from mfcore import NodeLike

Shape: TypeAlias = tuple[int, ...]


def as_shape(shape: Any, what: str = "a shape") -> Shape:
    """Return a shape, or axes, as a tuple of ints.

    Raises
    ------
    NodeUseError
        If there is anything in it but integers.
    """
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    try:
        return tuple(operator.index(size) for size in sizes)
    except TypeError:
        raise errors.NodeUseError(
            f"{what} is an integer or a tuple of them, not {shape!r}"
        ) from None


def _as_axes(axes: Any) -> Shape | None:
    return None if axes is None else as_shape(axes, "an axis")


def _as_some_axes(axes: Any) -> Shape:
    return as_shape(axes, "an axis")


@operation(function=np.transpose)
class Transpose(Node):
    """Axes in another order, by default reversed. A view.

    Parameters
    ----------
    x : Node
        Of any shape.
    axes : tuple of int, optional
        For each axis of the result, the axis of ``x`` that it is.
    """

    x: Node
    axes: Shape | None = hyperparameter(default=None, converter=_as_axes)

    views = True

    @staticmethod
    def forward(x: Array, axes: Shape | None) -> Any:
        return np.transpose(x, axes)

    @staticmethod
    def backward(grad: Array, axes: Shape | None) -> tuple[Any, ...]:
        if axes is None:
            return (np.transpose(grad),)
        positions = [axis % len(axes) for axis in axes]
        return (np.transpose(grad, tuple(positions.index(i) for i in range(len(axes)))),)


@operation(function=np.swapaxes)
class SwapAxes(Node):
    """Two axes swapped. A view.

    Parameters
    ----------
    x : Node
        Of any shape.
    axis1, axis2 : int
        The axes to swap.
    """

    x: Node
    axis1: int
    axis2: int

    views = True

    @staticmethod
    def forward(x: Array, axis1: int, axis2: int) -> Any:
        return np.swapaxes(x, axis1, axis2)

    @staticmethod
    def backward(grad: Array, axis1: int, axis2: int) -> tuple[Any, ...]:
        return (np.swapaxes(grad, axis1, axis2),)


@operation(function=np.reshape)
class Reshape(Node):
    """The same elements, in the same order, in another shape. A view where NumPy gives one.

    Parameters
    ----------
    x : Node
        Of any shape.
    shape : int or tuple of int
        The new shape; one size may be -1.
    """

    x: Node
    shape: Shape = hyperparameter(converter=as_shape)

    views = True

    @staticmethod
    def samples(rng: np.random.Generator) -> Any:
        shapes = [((2, 6), (3, -1)), ((1,), ()), ((3, 4), (2, 2, 3))]
        return [((rng.normal(size=old),), {"shape": new}) for old, new in shapes]

    @staticmethod
    def forward(x: Array, shape: Shape) -> Any:
        return np.reshape(x, shape)

    @staticmethod
    def shape_and_dtype(x: Array, shape: Shape) -> Any:
        size = math.prod(x.shape)
        rest = math.prod(n for n in shape if n != -1)
        if -1 in shape and rest:
            at = shape.index(-1)
            shape = (*shape[:at], size // rest, *shape[at + 1 :])
        if -1 in shape or math.prod(shape) != size:
            raise ValueError(f"cannot reshape array of size {size} into shape {shape}")
        return shape, x.dtype

    @staticmethod
    def backward(grad: Array, x: Array) -> tuple[Any, ...]:
        return (np.reshape(grad, x.shape),)


@operation(function=np.broadcast_to, broadcasts=True)
class BroadcastTo(Node):
    """``x`` repeated, by NumPy's broadcasting, to a larger shape. A read-only view.

    Parameters
    ----------
    x : Node
        Of a shape that broadcasts to ``shape``.
    shape : int or tuple of int
        The new shape.
    """

    x: Node
    shape: Shape = hyperparameter(converter=as_shape)

    views = True

    @staticmethod
    def samples(rng: np.random.Generator) -> Any:
        shapes = [((3, 1), (2, 3, 4)), ((), (2, 3)), ((4,), (3, 4)), ((0,), (3, 0))]
        return [((rng.normal(size=old),), {"shape": new}) for old, new in shapes]

    @staticmethod
    def forward(x: Array, shape: Shape) -> Any:
        return np.broadcast_to(x, shape)

    @staticmethod
    def shape_and_dtype(x: Array, shape: Shape) -> Any:
        if np.broadcast_shapes(x.shape, shape) != shape:
            raise ValueError(f"an array of shape {x.shape} cannot be broadcast to {shape}")
        return shape, x.dtype

    @staticmethod
    def backward(grad: Array) -> tuple[Any, ...]:
        return (grad,)


@operation(function=np.expand_dims)
class ExpandDims(Node):
    """New axes of length one. A view.

    Parameters
    ----------
    x : Node
        Of any shape.
    axis : int or tuple of int
        Where the new axes are in the result.
    """

    x: Node
    axis: Shape = hyperparameter(converter=_as_some_axes)

    views = True

    @staticmethod
    def forward(x: Array, axis: Shape) -> Any:
        return np.expand_dims(x, axis)

    @staticmethod
    def backward(grad: Array, x: Array) -> tuple[Any, ...]:
        return (np.reshape(grad, x.shape),)


@operation(function=np.squeeze)
class Squeeze(Node):
    """Axes of length one dropped. A view.

    Parameters
    ----------
    x : Node
        Of any shape.
    axis : int or tuple of int, optional
        The axes to drop; by default all of length one.
    """

    x: Node
    axis: Shape | None = hyperparameter(default=None, converter=_as_axes)

    views = True

    @staticmethod
    def forward(x: Array, axis: Shape | None) -> Any:
        return np.squeeze(x, axis)

    @staticmethod
    def backward(grad: Array, x: Array) -> tuple[Any, ...]:
        return (np.reshape(grad, x.shape),)


@operation(function=np.concatenate)
class Concatenate(Node):
    """Arrays put one behind the other along an existing axis.

    Parameters
    ----------
    *arrays : Node
        Of equal shape but for that axis. ``np.concatenate([x, y])`` builds it too.
    axis : int, optional
        The axis, 0 by default.
    """

    arrays: tuple[Node, ...]
    axis: int = 0

    if TYPE_CHECKING:

        def __init__(self, *arrays: NodeLike, axis: int = 0, name: str | None = None) -> None: ...

    domain = Domain(arrays=real("n, k"), axis=one_of(0, 1, -1))

    @staticmethod
    def forward(*arrays: Array, axis: int) -> Any:
        return np.concatenate(arrays, axis=axis)

    @staticmethod
    def backward(grad: Array, arrays: tuple[Array, ...], axis: int) -> tuple[Any, ...]:
        before: tuple[Any, ...] = (slice(None),) * (axis % grad.ndim)
        gradients = []
        start = 0
        for array in arrays:
            stop = start + array.shape[axis]
            gradients.append(grad[(*before, slice(start, stop))])
            start = stop
        return tuple(gradients)


@operation(function=np.stack)
class Stack(Node):
    """Arrays of equal shape put together along a new axis.

    Parameters
    ----------
    *arrays : Node
        Of equal shape. ``np.stack([x, y])`` builds it too.
    axis : int, optional
        The new axis' place in the result, 0 by default.
    """

    arrays: tuple[Node, ...]
    axis: int = 0

    if TYPE_CHECKING:

        def __init__(self, *arrays: NodeLike, axis: int = 0, name: str | None = None) -> None: ...

    expected_failures: ClassVar[dict[str, str]] = {
        "wanted": "it asks only how many inputs there are: their gradients cost nothing",
    }

    domain = Domain(arrays=real("n, k"), axis=one_of(0, 1, -1))

    @staticmethod
    def forward(*arrays: Array, axis: int) -> Any:
        return np.stack(arrays, axis=axis)

    @staticmethod
    def backward(grad: Array, axis: int, wanted: tuple[bool, ...]) -> tuple[Any, ...]:
        before: tuple[Any, ...] = (slice(None),) * (axis % grad.ndim)
        return tuple(grad[(*before, i)] for i in range(len(wanted)))
