"""The lowered form: a training step, or a forward pass, as single assignments of primitives.

A ``Value`` is one instruction and its result, an array of known shape and dtype. A
``Lowered`` program is a list of values in an order in which they can be computed, with its
leaves, its outputs, and the leaves that are overwritten at the end of a step. Engines read
nothing else.

Instructions (``op``), with their arguments and attributes:

leaves
    ``input``, ``parameter``, ``state``, ``setting`` (a 0-d float that changes from step to
    step, such as a learning rate on a schedule): each has an ``index`` into what is given.
    ``constant`` (``value``: an array), ``literal`` (``value``: a Python number, 0-d).
elementwise (``ELEMENTWISE``)
    Named as NumPy's ufuncs, and ``where`` and ``cast``. Arguments broadcast against each other
    to the result's shape. All arguments have one dtype (``where``: its first is bool), the
    result's, but for comparisons and predicates, whose result is bool.
reductions (``REDUCTIONS``)
    ``axes``: sorted, at least one; the reduced axes are dropped.
``matmul``
    ``(..., n, k) @ (..., k, m)``: both at least 2-D; leading axes broadcast.
views (``VIEWS``)
    ``reshape`` (``shape``; a copy where the argument is not contiguous), ``transpose``
    (``axes``), ``broadcast_to`` (``shape``), ``slice`` (``slices``: for each axis ``(start,
    stop, step)`` with ``0 <= start``, ``stop`` at least -1; no axis is dropped).
``after``
    ``(x, token)``: x itself, but what reads it runs after the token is there. Keeps what is
    computed a second time, to save memory, from being computed too early.
``concatenate`` (``axis``), ``place`` (``shape``, ``slices``: zeros with the argument there)
``take`` (``axis``)
    ``(x, indices)``: indices of any shape take the axis' place; they must be in
    ``-size .. size - 1``.
``take_add`` (``axis``, ``shape``)
    ``(x, indices)``: zeros with the rows of x added at the indices: the way back from ``take``.
``one_hot`` (``depth``)
    ``(indices,)``: a last axis with 1 where it equals the index. An index that is no whole
    number in ``0 .. depth - 1`` is an error of the run.
``random`` (``index``, ``distribution``: ``"random"`` or ``"standard_normal"``)
    Numbers drawn from the run's generator, in the order of ``index``.
``kernel`` (``name``, and what that kernel takes)
    Convolutions and pooling of images ``(n, c, h, w)``: engines have code of their own for each.
    ``conv2d(x, W)``, ``conv2d_input_gradient(grad, W)``, ``conv2d_weight_gradient(x, grad)``
    take ``stride`` and ``pads`` (zeros above and at the left; below and at the right there are
    as many as the result's shape needs); ``max_pool2d(x)`` and ``max_pool2d_gradient(grad, x,
    pooled)`` also ``size``, and what pads them is never the largest. All arguments and the
    result have one float dtype.
``call`` (``function``, ``arguments``, ``why``), ``item`` (``index``)
    A Python function called as it is; only the numpy engine does it. ``arguments`` are its
    positional and named arguments, with a ``Slot`` in the place of each array (see
    ``functions.filled``); ``why`` says what stands in the way of instructions. ``item`` takes
    one of several results.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import numpy as np

Shape: TypeAlias = tuple[int, ...]
Slices: TypeAlias = tuple[tuple[int, int, int], ...]

COMPARISONS = frozenset({"less", "less_equal", "greater", "greater_equal", "equal", "not_equal"})
LOGICAL = frozenset({"logical_and", "logical_or", "logical_xor", "logical_not"})
PREDICATES = frozenset({"isnan", "isfinite", "isinf", "signbit"})
UNARY = frozenset(
    {
        "negative", "absolute", "sign", "square", "sqrt", "cbrt", "reciprocal",
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p",
        "sin", "cos", "tan", "arcsin", "arccos", "arctan",
        "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh",
        "floor", "ceil", "trunc", "rint",
    }
)  # fmt: skip
BINARY = frozenset(
    {
        "add", "subtract", "multiply", "divide", "floor_divide", "remainder", "power",
        "maximum", "minimum", "fmax", "fmin", "arctan2", "hypot", "copysign", "logaddexp",
    }
)  # fmt: skip
ELEMENTWISE = UNARY | BINARY | COMPARISONS | LOGICAL | PREDICATES | {"where", "cast"}
REDUCTIONS = frozenset({"sum", "prod", "max", "min", "any", "all", "argmax", "argmin"})
VIEWS = frozenset({"reshape", "transpose", "broadcast_to", "slice", "after"})
LEAVES = frozenset({"input", "parameter", "state", "setting", "constant", "literal"})
IMPURE = frozenset({"random", "call", "item"})
"""What must not be merged with an equal instruction."""


_numbers = itertools.count()


class Value:
    """One instruction of a lowered program, and the array that it results in.

    Attributes
    ----------
    op : str
        What is done; see the module's table.
    args : tuple of Value
        What it is done to.
    attributes : dict
        What else says how; hashable, but for the arrays of constants.
    shape, dtype
        Of the result.
    origin : str
        The node that it comes from, for people: ``linear_1`` or ``backward of linear_1``.
    """

    __slots__ = ("_number", "args", "attributes", "dtype", "op", "origin", "shape")

    def __init__(
        self,
        op: str,
        args: tuple[Value, ...],
        attributes: Mapping[str, Any],
        shape: Shape,
        dtype: np.dtype[Any],
        origin: str = "",
    ) -> None:
        self._number = next(_numbers)
        self.op = op
        self.args = args
        self.attributes = dict(attributes)
        self.shape = shape
        self.dtype = dtype
        self.origin = origin

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the result."""
        return self.size * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"<{self.op} {self.dtype}{list(self.shape)}>"


@attrs.define(eq=False)
class Lowered:
    """A program of primitives.

    Attributes
    ----------
    inputs, parameters, states, settings : list of Value
        The leaves that are given at each run, by their ``index``.
    outputs : list of Value
        What a run returns.
    updates : list of (Value, Value)
        Leaves (parameters and states) and what they are set to when all else is done.
    values : list of Value
        All that is needed for outputs and updates, each after its arguments.
    """

    inputs: list[Value]
    parameters: list[Value]
    states: list[Value]
    settings: list[Value]
    outputs: list[Value]
    updates: list[tuple[Value, Value]]
    values: list[Value] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.values = ordered([*self.outputs, *(new for _, new in self.updates)])

    def __iter__(self) -> Iterator[Value]:
        return iter(self.values)

    def consumers(self) -> dict[Value, list[Value]]:
        """Return for each value those that read it, in order."""
        readers: dict[Value, list[Value]] = {value: [] for value in self.values}
        for value in self.values:
            for arg in dict.fromkeys(value.args):
                readers[arg].append(value)
        return readers

    def text(self) -> str:
        """Return the program as readable text, one instruction a line."""
        names = {value: f"v{i}" for i, value in enumerate(self.values)}
        lines = [f"{names[value]} = {describe(value, names)}" for value in self.values]
        lines += [f"{names[leaf]} <- {names[new]}" for leaf, new in self.updates if leaf in names]
        lines.append("return " + ", ".join(names[value] for value in self.outputs))
        return "\n".join(lines)


def describe(value: Value, names: Mapping[Value, str]) -> str:
    """Return one instruction as text."""
    parts = [names[arg] for arg in value.args]
    for key, attribute in value.attributes.items():
        if key == "why":
            continue
        shown = "..." if isinstance(attribute, np.ndarray) and attribute.size > 4 else attribute
        parts.append(f"{key}={shown}")
    shape = "x".join(map(str, value.shape)) or "scalar"
    origin = f"  # {value.origin}" if value.origin else ""
    return f"{value.op}({', '.join(parts)}): {value.dtype} {shape}{origin}"


def ordered(roots: Iterable[Value]) -> list[Value]:
    """Return all that the roots depend on in the order in which it was emitted.

    That is an order in which it can be computed, and a good one: what an operation's
    ``backward`` needs and gives lies close together, so that little has to be kept.
    """
    found: set[Value] = set()
    stack = list(roots)
    while stack:
        value = stack.pop()
        if value not in found:
            found.add(value)
            stack.extend(value.args)
    return sorted(found, key=_number_of)


def _number_of(value: Value) -> int:
    return value._number


def broadcast_shape(shapes: Sequence[Shape]) -> Shape:
    """Return the shape that shapes broadcast to.

    Raises
    ------
    ValueError
        If they do not.
    """
    if len(set(shapes)) == 1:
        return shapes[0]
    return np.broadcast_shapes(*shapes)
