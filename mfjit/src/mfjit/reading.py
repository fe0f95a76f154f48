"""Reading plain NumPy code: a value that records, in a lowered program, what is done to it.

``Traced`` stands for an array of known shape and dtype. An operation's ``forward`` and
``backward``, or an optimizer's ``update``, called on traced values emit the instructions that
they would have computed. What each NumPy function means is in ``functions.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Never

import numpy as np

from mfcore.errors import NotTraceableError
from mfcore.syntax import NumpySyntax
from mfjit.builder import Builder
from mfjit.ir import Value

Read = Callable[[type, tuple[Any, ...], Mapping[str, Any]], Any]
"""Reads an operation class on inputs and hyperparameters: ``apply`` on traced values."""


class Traced(NumpySyntax[Any]):
    """An array known by shape and dtype, whose uses are recorded.

    Parameters
    ----------
    value : Value
        What it is in the program.
    builder : Builder
        Where uses are emitted.
    read : callable
        How an operation that is applied to it is read.
    weak : bool, optional
        Whether it is a number that, as Python's, adapts to the dtype beside it.
    """

    __slots__ = ("builder", "read", "value", "weak")

    def __init__(self, value: Value, builder: Builder, read: Read, weak: bool = False) -> None:
        self.value = value
        self.builder = builder
        self.read = read
        self.weak = weak

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self.value.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Kind of the elements."""
        return self.value.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.value.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.value.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.value.nbytes

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.value.dtype.itemsize

    @property
    def flat(self) -> Iterator[Any]:
        """The elements one by one, in a row."""
        return iter(self.ravel())

    def __repr__(self) -> str:
        return f"<traced {self.dtype}{list(self.shape)}>"

    def _numpy(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        from mfjit.functions import lower_call

        return lower_call(self, function, args, kwargs)

    def _apply(
        self, operation: Any, inputs: tuple[Any, ...], hyperparameters: Mapping[str, Any]
    ) -> Any:
        return self.read(operation, inputs, hyperparameters)

    def like(self, value: Value, weak: bool = False) -> Traced:
        """Return another value of the same program."""
        return Traced(value, self.builder, self.read, weak)


class Setting(Traced):
    """A number given anew at each step, whose present value a branch may look at.

    A branch on it makes the program one for this number only: the reading starts again with
    the number itself in its place (``Specialise``).
    """

    __slots__ = ("name",)

    def __init__(self, name: str, value: Value, builder: Builder, read: Read) -> None:
        super().__init__(value, builder, read, weak=True)
        self.name = name

    def _refuse(self, use: str) -> Never:  # noqa: ARG002 - whatever needs the number
        raise Specialise(self.name)


class Specialise(Exception):
    """A branch depends on a setting."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class TracedGenerator:
    """Stands for the generator of a run: draws become instructions.

    Only what every engine can draw in the same way is offered; the rest of
    ``numpy.random.Generator`` is not traceable.
    """

    def __init__(self, builder: Builder, read: Read) -> None:
        self._builder = builder
        self._read = read

    def random(self, size: Any = None, dtype: Any = np.float64) -> Traced:
        """Draw uniformly from [0, 1)."""
        return self._draw("random", size, dtype)

    def standard_normal(self, size: Any = None, dtype: Any = np.float64) -> Traced:
        """Draw from the standard normal distribution."""
        return self._draw("standard_normal", size, dtype)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """Draw uniformly from an interval."""
        return low + (high - low) * self.random(size)

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """Draw from a normal distribution."""
        return loc + scale * self.standard_normal(size)

    def _draw(self, distribution: str, size: Any, dtype: Any) -> Traced:
        shape = () if size is None else tuple(np.atleast_1d(size).tolist())
        value = self._builder.random(distribution, shape, dtype)
        return Traced(value, self._builder, self._read)

    def __getattr__(self, name: str) -> Never:
        raise NotTraceableError(f"rng.{name} is not among the draws that engines can compile")
