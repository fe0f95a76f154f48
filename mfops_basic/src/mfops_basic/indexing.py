"""Indexing: parts of an array, and their way back."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from mfcore import Array, Node, apply, errors, hyperparameter, operation
from mfcore.domain import Domain, integers, one_of, real
from mfcore.syntax import has_elements
from mfops_basic.casting import as_dtype
from mfops_basic.shape import Shape, as_shape


def _as_index(index: Any) -> tuple[Any, ...]:
    """Return an index as a tuple of ints, slices, ``...``, ``None`` and integer arrays."""
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(_as_index_part(part) for part in parts)


def _as_index_part(part: Any) -> Any:
    if part is None or part is Ellipsis or isinstance(part, slice):
        return part
    array = np.array(part)
    if array.dtype.kind not in "iub" and array.size:
        raise errors.NodeUseError(
            f"an index holds integers, slices, `...`, None and integer or bool arrays, not {part!r}"
        )
    if array.ndim == 0 and array.dtype.kind != "b":
        return int(array)
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(np.intp)
    array.flags.writeable = False
    return array


def _check_fit(x: Array, selected: Array) -> None:
    """Check that an array can be added at a place.

    Raises
    ------
    ValueError
        If it is of another shape, to which it cannot be broadcast.
    """
    if np.broadcast_shapes(x.shape, selected.shape) != selected.shape:
        raise ValueError(f"an array of shape {x.shape} does not fit a place of {selected.shape}")


@operation(function=operator.getitem)
class Index(Node):
    """Part of an array, ``x[1:, ::2]`` or ``x[[0, 2, 2]]``: a view or a copy, as NumPy gives.

    Parameters
    ----------
    x : Node
        Of any shape with enough axes.
    index : index
        Ints, slices, ``...``, ``None``, and integer or bool arrays, fixed in the graph.
        For indices that are themselves computed see ``Take``.

    Examples
    --------
    >>> import mfcore as mf
    >>> x = mf.Input("x")
    >>> run = mf.Session(x[[0, 2, 2]].sum()).run({x: [1.0, 5.0, 7.0]})
    >>> run.gradients[x]
    array([1., 0., 2.])
    """

    x: Node
    index: tuple[Any, ...] = hyperparameter(converter=_as_index)

    views = True

    @staticmethod
    def forward(x: Array, index: tuple[Any, ...]) -> Any:
        return x[index]

    @staticmethod
    def shape_and_dtype(x: Array, index: tuple[Any, ...]) -> Any:
        return x[index].shape, x.dtype

    @staticmethod
    def backward(grad: Array, x: Array, index: tuple[Any, ...]) -> tuple[Any, ...]:
        return (apply(IndexAdd, grad, index=index, shape=x.shape),)


@operation
class IndexAdd(Node):
    """Zeros of a given shape, with ``x`` added at an index: the way back from ``Index``.

    Parameters
    ----------
    x : Node
        Of the shape that the index selects.
    index : index
        Where the elements belong; an element selected twice is added twice.
    shape : tuple of int
        The shape of the result.
    """

    x: Node
    index: tuple[Any, ...] = hyperparameter(converter=_as_index)
    shape: Shape = hyperparameter(converter=as_shape)

    @staticmethod
    def samples(rng: np.random.Generator) -> Any:
        places: list[Any] = [([1, 1, 3],), slice(1, 4)]
        samples = [((rng.normal(size=3),), {"index": index, "shape": (5,)}) for index in places]
        return [*samples, ((np.zeros(0),), {"index": slice(2, 2), "shape": (5,)})]

    @staticmethod
    def forward(x: Array, index: tuple[Any, ...], shape: Shape) -> Any:
        total = np.zeros(shape, x.dtype)
        if any(isinstance(part, np.ndarray) for part in index) or not has_elements(x):
            np.add.at(total, index, x)
        else:
            total[index] = x
        return total

    @staticmethod
    def shape_and_dtype(x: Array, index: tuple[Any, ...], shape: Shape) -> Any:
        _check_fit(x, np.zeros_like(x, shape=shape)[index])
        return shape, x.dtype

    @staticmethod
    def backward(grad: Array, index: tuple[Any, ...]) -> tuple[Any, ...]:
        return (grad[index],)


@operation(function=np.take)
class Take(Node):
    """Elements along an axis by computed indices, ``np.take(x, indices, axis)``.

    ``x[indices]`` builds it, with ``axis=0``, where ``indices`` is a node.

    Parameters
    ----------
    x : Node
        Of any shape.
    indices : Node
        Integers of any shape, ``(...)``; they take the axis' place in the result. Bools
        are refused: NumPy's ``take`` would read a mask as the indices 0 and 1.
    axis : int, optional
        The axis; by default ``x`` is flattened.

    Examples
    --------
    >>> import numpy as np
    >>> Take.forward(np.array([10, 20, 30]), np.array([2, 0]), 0)
    array([30, 10])
    """

    x: Node
    indices: Node
    axis: int | None = None

    domain = (
        Domain(x=real("n, *rest"), indices=integers(0, "n", "*places"), axis=one_of(0)),
        Domain(x=real("k, n"), indices=integers(0, "n", "*places"), axis=one_of(1, -1)),
        Domain(x=real("n"), indices=integers(0, "n", "*places")),
    )

    @staticmethod
    def forward(x: Array, indices: Array, axis: int | None) -> Any:
        if indices.dtype.kind == "b":
            raise TypeError(
                "a computed mask cannot select elements, the result's shape would depend on the "
                "data: use `np.where(mask, x, 0)`, or index with a bool array"
            )
        return np.take(x, indices, axis=axis)

    @staticmethod
    def backward(grad: Array, x: Array, indices: Array, axis: int | None) -> tuple[Any, ...]:
        return apply(TakeAdd, grad, indices, axis=axis, shape=x.shape), None


@operation
class TakeAdd(Node):
    """Zeros of a given shape, with ``x`` added at computed indices: the way back from ``Take``.

    Parameters
    ----------
    x : Node
        Of the shape that ``Take`` gives.
    indices : Node
        Integers of any shape.
    axis : int or None
        The axis that the indices are along.
    shape : tuple of int
        The shape of the result.
    """

    x: Node
    indices: Node
    axis: int | None = hyperparameter()
    shape: Shape = hyperparameter(converter=as_shape)

    @staticmethod
    def samples(rng: np.random.Generator) -> Any:
        indices = np.array([[2, 0], [2, 1]])
        return [
            ((rng.normal(size=(2, 2, 4)), indices), {"axis": 0, "shape": (3, 4)}),
            ((rng.normal(size=(2, 2)), indices), {"axis": None, "shape": (5,)}),
        ]

    @staticmethod
    def forward(x: Array, indices: Array, axis: int | None, shape: Shape) -> Any:
        if axis is None:
            flat = np.zeros(math.prod(shape), x.dtype)
            np.add.at(flat, indices, x)
            return flat.reshape(shape)
        total = np.zeros(shape, x.dtype)
        before: tuple[Any, ...] = (slice(None),) * (axis % max(len(shape), 1))
        np.add.at(total, (*before, indices), x)
        return total

    @staticmethod
    def shape_and_dtype(x: Array, indices: Array, axis: int | None, shape: Shape) -> Any:
        _check_fit(x, np.take(np.zeros_like(x, shape=shape), indices, axis=axis))
        return shape, x.dtype

    @staticmethod
    def backward(grad: Array, indices: Array, axis: int | None) -> tuple[Any, ...]:
        return np.take(grad, indices, axis=axis), None


@operation
class OneHot(Node):
    """Class indices as rows with a one in the class' column; no gradient passes.

    Parameters
    ----------
    indices : Node
        ``(...)`` integers from 0 to ``depth - 1``; others are an error.
    depth : int
        Number of classes. The result is ``(..., depth)``.
    dtype : dtype, optional
        Dtype of the result, float64 by default.

    Examples
    --------
    >>> import numpy as np
    >>> OneHot.forward(np.array([1, 0]), 2, np.dtype(int))
    array([[0, 1],
           [1, 0]])
    """

    indices: Node
    depth: int
    dtype: np.dtype[Any] = hyperparameter(default=np.dtype(np.float64), converter=as_dtype)

    domain = Domain(indices=integers(0, "depth"), depth=integers(1, 6))

    @staticmethod
    def forward(indices: Array, depth: int, dtype: np.dtype[Any]) -> Any:
        if has_elements(indices):
            indices = np.asarray(indices)
            # A comparison that must hold, so that NaN, of which none does, is refused as well.
            allowed = (indices >= 0) & (indices < depth) & (indices == np.floor(indices))
            if not np.all(allowed):
                wrong = indices[~allowed].flat[0]
                raise ValueError(f"class index {wrong} is no whole number from 0 to {depth - 1}")
        return np.equal(indices[..., np.newaxis], np.arange(depth)).astype(dtype)

    @staticmethod
    def shape_and_dtype(indices: Array, depth: int, dtype: np.dtype[Any]) -> Any:
        return (*indices.shape, max(depth, 0)), dtype

    @staticmethod
    def backward() -> tuple[Any, ...]:
        return (None,)
