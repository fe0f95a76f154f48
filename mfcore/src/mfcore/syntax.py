"""NumPy's syntax on things that are no arrays: operators, functions and methods.

An operation is written in plain NumPy, and is read on more than arrays: on nodes, on
values of which only shape and dtype are known, on the values of a program that an engine
compiles. ``NumpySyntax`` gives all of them the surface of an array; a class of this kind
says what a call means by ``_numpy`` and ``_apply``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Never, TypeAlias, TypeVar

import numpy as np

from mfcore.errors import NotTraceableError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

Result = TypeVar("Result")

Axis: TypeAlias = int | tuple[int, ...] | None


class NumpySyntax(Generic[Result]):
    """The surface of an array, in terms of two methods; ``Result`` is what a call gives.

    Reading is all there is: nothing changes in place, so ``x += 1`` makes a new value and
    ``copy`` is the value itself.
    """

    __slots__ = ()

    # What a class of this kind defines

    def _numpy(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Result:
        """Return what a NumPy function gives for arguments of which one is of this class.

        Operators arrive as the ufunc they stand for, indexing as ``operator.getitem``,
        ``astype`` as ``cast``, and methods of ufuncs as such: ``np.add.reduce``.
        """
        raise NotImplementedError

    def _apply(
        self, operation: Any, inputs: tuple[Any, ...], hyperparameters: Mapping[str, Any]
    ) -> Result:
        """Return what ``apply(operation, *inputs, **hyperparameters)`` gives for this class."""
        raise NotImplementedError

    def _refuse(self, use: str) -> Never:
        """Raise for a use that needs the numbers themselves.

        Parameters
        ----------
        use : str
            Which: ``"array"``, ``"truth"``, ``"number"``, ``"length"``, ``"iteration"`` or
            ``"membership"``.
        """
        raise NotTraceableError(f"{_NEEDS[use]}, which is not known before a run")

    def _length(self) -> int | None:
        """Return the length of the first axis, ``None`` if it is not known."""
        shape: Any = self.shape  # type: ignore[attr-defined]
        return shape[0] if shape else None

    # NumPy's protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Result:
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        return self._numpy(function, args, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Result:
        return self._numpy(function, args, kwargs)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Never:
        self._refuse("array")

    # What needs the numbers

    def __bool__(self) -> bool:  # noqa: PLE0304 - it never returns
        self._refuse("truth")

    def __float__(self) -> Never:
        self._refuse("number")

    __int__ = __float__
    __index__ = __float__
    __complex__ = __float__

    def item(self) -> Never:
        """Refuse: a value has no Python number before a run."""
        self._refuse("number")

    def tolist(self) -> Never:
        """Refuse: a value has no Python numbers before a run."""
        self._refuse("number")

    def __len__(self) -> int:
        length = self._length()
        if length is None:
            self._refuse("length")
        return length

    def __iter__(self) -> Iterator[Result]:
        length = self._length()
        if length is None:
            self._refuse("iteration")
        return iter([self[i] for i in range(length)])

    def __contains__(self, item: object) -> Never:
        self._refuse("membership")

    # Operators

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Any:
        return self._numpy(np.equal, (self, other), {})

    def __ne__(self, other: object) -> Any:
        return self._numpy(np.not_equal, (self, other), {})

    def __lt__(self, other: Any) -> Result:
        return self._numpy(np.less, (self, other), {})

    def __le__(self, other: Any) -> Result:
        return self._numpy(np.less_equal, (self, other), {})

    def __gt__(self, other: Any) -> Result:
        return self._numpy(np.greater, (self, other), {})

    def __ge__(self, other: Any) -> Result:
        return self._numpy(np.greater_equal, (self, other), {})

    def __add__(self, other: Any) -> Result:
        return self._numpy(np.add, (self, other), {})

    def __radd__(self, other: Any) -> Result:
        return self._numpy(np.add, (other, self), {})

    def __sub__(self, other: Any) -> Result:
        return self._numpy(np.subtract, (self, other), {})

    def __rsub__(self, other: Any) -> Result:
        return self._numpy(np.subtract, (other, self), {})

    def __mul__(self, other: Any) -> Result:
        return self._numpy(np.multiply, (self, other), {})

    def __rmul__(self, other: Any) -> Result:
        return self._numpy(np.multiply, (other, self), {})

    def __truediv__(self, other: Any) -> Result:
        return self._numpy(np.divide, (self, other), {})

    def __rtruediv__(self, other: Any) -> Result:
        return self._numpy(np.divide, (other, self), {})

    def __floordiv__(self, other: Any) -> Result:
        return self._numpy(np.floor_divide, (self, other), {})

    def __rfloordiv__(self, other: Any) -> Result:
        return self._numpy(np.floor_divide, (other, self), {})

    def __mod__(self, other: Any) -> Result:
        return self._numpy(np.remainder, (self, other), {})

    def __rmod__(self, other: Any) -> Result:
        return self._numpy(np.remainder, (other, self), {})

    def __pow__(self, other: Any) -> Result:
        return self._numpy(np.power, (self, other), {})

    def __rpow__(self, other: Any) -> Result:
        return self._numpy(np.power, (other, self), {})

    def __matmul__(self, other: Any) -> Result:
        return self._numpy(np.matmul, (self, other), {})

    def __rmatmul__(self, other: Any) -> Result:
        return self._numpy(np.matmul, (other, self), {})

    def __and__(self, other: Any) -> Result:
        return self._numpy(np.bitwise_and, (self, other), {})

    def __rand__(self, other: Any) -> Result:
        return self._numpy(np.bitwise_and, (other, self), {})

    def __or__(self, other: Any) -> Result:
        return self._numpy(np.bitwise_or, (self, other), {})

    def __ror__(self, other: Any) -> Result:
        return self._numpy(np.bitwise_or, (other, self), {})

    def __xor__(self, other: Any) -> Result:
        return self._numpy(np.bitwise_xor, (self, other), {})

    def __rxor__(self, other: Any) -> Result:
        return self._numpy(np.bitwise_xor, (other, self), {})

    def __invert__(self) -> Result:
        return self._numpy(np.invert, (self,), {})

    def __neg__(self) -> Result:
        return self._numpy(np.negative, (self,), {})

    def __pos__(self) -> Result:
        return self  # type: ignore[return-value]

    def __abs__(self) -> Result:
        return self._numpy(np.absolute, (self,), {})

    def __getitem__(self, index: Any) -> Result:
        return self._numpy(operator.getitem, (self, index), {})

    # Methods: the same elements, arranged or typed otherwise

    @property
    def T(self) -> Result:
        """The transpose: all axes reversed."""
        return self._numpy(np.transpose, (self,), {})

    def transpose(self, *axes: Any) -> Result:
        """Permute the axes, as ``ndarray.transpose`` does."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return self._numpy(np.transpose, (self, order), {})

    def swapaxes(self, axis1: int, axis2: int) -> Result:
        """Swap two axes."""
        return self._numpy(np.swapaxes, (self, axis1, axis2), {})

    def reshape(self, *shape: Any) -> Result:
        """Give the same elements another shape, as ``ndarray.reshape`` does."""
        target = shape[0] if len(shape) == 1 else shape
        return self._numpy(np.reshape, (self, target), {})

    def ravel(self) -> Result:
        """Put all elements on one axis."""
        return self._numpy(np.reshape, (self, (-1,)), {})

    def flatten(self) -> Result:
        """Put all elements on one axis."""
        return self._numpy(np.reshape, (self, (-1,)), {})

    def squeeze(self, axis: Axis = None) -> Result:
        """Drop axes of length one."""
        return self._numpy(np.squeeze, (self, axis), {})

    def astype(self, dtype: DTypeLike, **_options: Any) -> Result:
        """Give the elements another dtype. What ``copy=`` and its like say is for arrays only."""
        return self._numpy(cast, (self, np.dtype(dtype)), {})

    def copy(self) -> Result:
        """Return the value itself: nothing can change it."""
        return self  # type: ignore[return-value]

    def take(self, indices: Any, axis: int | None = None) -> Result:
        """Take elements along an axis, or of all elements in a row."""
        return self._numpy(np.take, (self, indices), {"axis": axis})

    def repeat(self, repeats: Any, axis: int | None = None) -> Result:
        """Repeat elements along an axis, or of all elements in a row."""
        return self._numpy(np.repeat, (self, repeats), {"axis": axis})

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Result:
        """Take the diagonals of the matrices along two axes."""
        return self._numpy(np.diagonal, (self, offset, axis1, axis2), {})

    # Methods: element by element

    def clip(self, min: Any = None, max: Any = None) -> Result:
        """Limit the elements to an interval."""
        return self._numpy(np.clip, (self, min, max), {})

    def round(self, decimals: int = 0) -> Result:
        """Round the elements to a number of decimals."""
        return self._numpy(np.round, (self, decimals), {})

    # Methods: reductions

    def sum(
        self, axis: Axis = None, dtype: DTypeLike | None = None, *, keepdims: bool = False
    ) -> Result:
        """Sum over the given axes, or over all."""
        return self._reduced(np.sum, axis, keepdims, dtype=dtype)

    def prod(
        self, axis: Axis = None, dtype: DTypeLike | None = None, *, keepdims: bool = False
    ) -> Result:
        """Product over the given axes, or over all."""
        return self._reduced(np.prod, axis, keepdims, dtype=dtype)

    def mean(
        self, axis: Axis = None, dtype: DTypeLike | None = None, *, keepdims: bool = False
    ) -> Result:
        """Arithmetic mean over the given axes, or over all."""
        return self._reduced(np.mean, axis, keepdims, dtype=dtype)

    def var(self, axis: Axis = None, *, ddof: int = 0, keepdims: bool = False) -> Result:
        """Variance over the given axes, or over all."""
        return self._reduced(np.var, axis, keepdims, ddof=ddof or None)

    def std(self, axis: Axis = None, *, ddof: int = 0, keepdims: bool = False) -> Result:
        """Standard deviation over the given axes, or over all."""
        return self._reduced(np.std, axis, keepdims, ddof=ddof or None)

    def max(self, axis: Axis = None, *, keepdims: bool = False) -> Result:
        """Largest element over the given axes, or over all."""
        return self._reduced(np.max, axis, keepdims)

    def min(self, axis: Axis = None, *, keepdims: bool = False) -> Result:
        """Smallest element over the given axes, or over all."""
        return self._reduced(np.min, axis, keepdims)

    def any(self, axis: Axis = None, *, keepdims: bool = False) -> Result:
        """Whether any element over the given axes, or over all, is true."""
        return self._reduced(np.any, axis, keepdims)

    def all(self, axis: Axis = None, *, keepdims: bool = False) -> Result:
        """Whether all elements over the given axes, or over all, are true."""
        return self._reduced(np.all, axis, keepdims)

    def argmax(self, axis: int | None = None, *, keepdims: bool = False) -> Result:
        """Position of the largest element along an axis, or in all."""
        return self._reduced(np.argmax, axis, keepdims)

    def argmin(self, axis: int | None = None, *, keepdims: bool = False) -> Result:
        """Position of the smallest element along an axis, or in all."""
        return self._reduced(np.argmin, axis, keepdims)

    def cumsum(self, axis: int | None = None) -> Result:
        """Sums of each element and all before it."""
        return self._numpy(np.cumsum, (self, axis), {})

    def cumprod(self, axis: int | None = None) -> Result:
        """Products of each element and all before it."""
        return self._numpy(np.cumprod, (self, axis), {})

    def dot(self, other: Any) -> Result:
        """Product of matrices and vectors, as ``ndarray.dot``."""
        return self._numpy(np.dot, (self, other), {})

    def _reduced(self, function: Any, axis: Axis, keepdims: bool, **options: Any) -> Result:
        given = {name: value for name, value in options.items() if value is not None}
        return self._numpy(function, (self, axis), {"keepdims": keepdims, **given})


_NEEDS = {
    "array": "this needs the elements of an array",
    "truth": "this needs the truth of a value",
    "number": "this needs a value as a number",
    "length": "this needs the length of a value",
    "iteration": "this needs the parts of a value one by one",
    "membership": "this needs to know whether an element is there",
}


def cast(x: Any, dtype: DTypeLike) -> Any:
    """Return ``x`` in another dtype: what ``x.astype(dtype)`` means, as a function.

    Parameters
    ----------
    x : array, Node or whatever has NumPy's syntax
        Of any shape.
    dtype : dtype
        The new dtype. On arrays no copy is made where it is the old one.
    """
    if isinstance(x, NumpySyntax):
        return x._numpy(cast, (x, np.dtype(dtype)), {})
    return np.asarray(x).astype(dtype, copy=False)[()]


def has_elements(x: Any) -> bool:
    """Return whether ``x`` is made of numbers, as arrays are: for checks that need them."""
    return not isinstance(x, NumpySyntax)


def first_symbol(values: Sequence[Any]) -> NumpySyntax[Any] | None:
    """Return the first of some values that has NumPy's syntax and is no array."""
    for value in values:
        if isinstance(value, NumpySyntax):
            return value
    return None
