"""Shapes and dtypes of nodes, inferred when they are built.

What is known of a node is how it looks under a few *probes*: each takes an axis of any
size, and an undeclared dtype, to be something particular. A node's ``forward``, read on
``Abstract`` inputs under each of them, says how its result looks; what is the same under
all probes is known. What differs, fails to be read, or may fit in some other case than the
probes, is not known, and that is no error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from mfcore.abstract import Abstract, AbstractGenerator, DtypeMismatchError, said_to_be
from mfcore.errors import NotTraceableError, ShapeError

if TYPE_CHECKING:
    from mfcore.node import Node

Value = TypeVar("Value")

Shape: TypeAlias = tuple[int | None, ...]

_PROBES: tuple[tuple[int, np.dtype[Any]], ...] = (
    (1, np.dtype(np.float32)),
    (2, np.dtype(np.int64)),
    (11, np.dtype(np.float64)),
    (23, np.dtype(np.int64)),
    (17, np.dtype(np.float32)),
)
"""What an axis of any size, and an undeclared dtype, are taken to be.

Several sizes find what depends on them; 1 finds what drops such axes. They are small, for an
array may have several such axes. Dtypes of several kinds find results whose dtype depends on
them.
"""

_MISMATCH = (ValueError, IndexError, DtypeMismatchError)
"""What NumPy, and operations that check their inputs, raise where shapes do not fit."""

_CASES = 3000
"""How many cases are tried before a failure is left for the run to find."""

_LARGE = (64, 256, 1024, 4096)
"""Sizes tried for all axes of any size at once: windows may be larger than what else occurs."""

_ELEMENTS = 4_000_000
"""Cases of more elements are not tried: not all functions of NumPy can be read without any."""


_cases_left: ContextVar[list[int] | None] = ContextVar("cases_left", default=None)
"""How many cases may be tried for all nodes together, where that is bounded."""


@contextmanager
def bounded_inference(cases: int) -> Iterator[None]:
    """Bound the work that nodes take to infer, which somebody else made up.

    When so many cases were tried, what does not fit is left for the run to find.
    """
    token = _cases_left.set([cases])
    try:
        yield
    finally:
        _cases_left.reset(token)


class Known:
    """What is known of a node before it runs. There is one object for all nodes alike.

    Attributes
    ----------
    shape : tuple of int or None
        Lengths of the axes; ``None`` for one of any size.
    dtype : dtype or None
        Kind of the elements; ``None`` if it is not known.
    cases : tuple of Abstract or None
        How the node looks under each probe; one for all if it is the same under all,
        ``None`` where it cannot be.
    number : type or None
        The type of a constant that is a Python number.
    constant : bool
        Whether the node is a constant.
    """

    __slots__ = ("cases", "constant", "dtype", "number", "shape")

    def __init__(
        self,
        shape: Shape,
        dtype: np.dtype[Any] | None,
        cases: tuple[Abstract | None, ...],
        number: type | None = None,
        constant: bool = False,
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.cases = cases
        self.number = number
        self.constant = constant

    @property
    def complete(self) -> bool:
        """Whether shape and dtype are known in all parts."""
        return len(self.cases) == 1

    def __str__(self) -> str:
        axes = ", ".join("any" if n is None else str(n) for n in self.shape)
        return f"{self.dtype or 'any dtype'}[{axes}]"


_interned: dict[Any, Known] = {}
_results: dict[Any, Known | None] = {}
_UNSEEN: Any = object()
_FORGET_BEYOND = 100_000


def known_leaf(
    shape: Shape, dtype: np.dtype[Any] | None, *, number: type | None = None, constant: bool = False
) -> Known:
    """Return what is known of a leaf.

    Parameters
    ----------
    shape : tuple of int or None
        Its shape; ``None`` for an axis of any size.
    dtype : dtype or None
        Its dtype; ``None`` if that may be any.
    number : type, optional
        Of a constant that is a Python number, its type.
    constant : bool, optional
        Whether it is a constant.
    """
    key = (shape, dtype, number, constant)
    known = _interned.get(key)
    if known is None:
        if None in shape or dtype is None:
            cases = tuple(
                Abstract(tuple(size if n is None else n for n in shape), dtype or kind)
                for size, kind in _PROBES
            )
        else:
            cases = (Abstract(shape, dtype),)  # type: ignore[arg-type]
        known = _remember(_interned, key, Known(shape, dtype, cases, number, constant))
    return known


def known_number(kind: type) -> Known:
    """Return what is known of a constant that is a Python number."""
    return known_leaf((), np.dtype(kind), number=kind, constant=True)


def known_gradient(known: Known) -> Known:
    """Return what is known of a gradient from its node: the shape, and a dtype of floats."""
    if known.complete and known.dtype is not None and known.dtype.kind == "f":
        return known_leaf(known.shape, known.dtype)
    dtype = known.dtype if known.dtype is not None and known.dtype.kind == "f" else None
    cases = known.cases * len(_PROBES) if known.complete else known.cases
    return _alike(
        known.shape,
        dtype,
        tuple(
            None if case is None else Abstract(case.shape, kind if dtype is None else dtype)
            for case, (_, kind) in zip(cases, _PROBES, strict=True)
        ),
    )


def infer(node: Node, sources: tuple[Node, ...]) -> Known | None:
    """Return what is known of an operation's result, ``None`` for nothing.

    Parameters
    ----------
    node : Node
        The operation.
    sources : tuple of Node
        Its inputs.

    Raises
    ------
    ShapeError
        If the inputs' shapes, as far as they are known, cannot fit.
    """
    knowns = []
    for source in sources:
        known = source._known
        if known is None:
            return None
        knowns.append(known)
    spec: Any = node.__operation__
    key: Any = (type(node), *knowns)
    if spec.hyperparameters:
        values = [getattr(node, name) for name in spec.hyperparameters]
        key += (*values, *map(type, values))  # 2 and 2.0 are equal, but not alike
    try:
        known = _results.get(key, _UNSEEN)
    except TypeError:  # a hyperparameter that cannot be hashed
        return _infer(node, knowns)
    if known is _UNSEEN:
        known = _remember(_results, key, _infer(node, knowns))
    return known


def _infer(node: Node, knowns: list[Known]) -> Known | None:
    count = max(len(known.cases) for known in knowns)
    results: list[Abstract | None] = []
    failures: list[Exception] = []
    for i in range(count):
        inputs = [known.cases[i if len(known.cases) > 1 else 0] for known in knowns]
        result, failure = None, None
        if all(value is not None for value in inputs):
            result, failure = _read(node, knowns, inputs)
        results.append(result)
        if failure is not None:
            failures.append(failure)
    found = [result for result in results if result is not None]
    if count == 1 and found:
        return _alike(found[0].shape, found[0].dtype, tuple(found))
    telling = [r for r in results[1:] if r is not None]
    if len(telling) > 1:
        # Under two probes or more it fits: the others would need other sizes or dtypes.
        if any(r.ndim != found[0].ndim for r in found):
            return None
        shape = tuple(
            ns[0] if len(set(ns)) == 1 else None
            for ns in zip(*(r.shape for r in found), strict=True)
        )
        kinds = {kind for r, (_, kind) in zip(results, _PROBES, strict=True) if r is not None}
        told = len(kinds) > 1 or all(known.dtype is not None for known in knowns)
        dtype = found[0].dtype if told and len({r.dtype for r in found}) == 1 else None
        if 0 in shape and not any(0 in known.shape for known in knowns):
            return None  # as `x[100:]`, whose length is 0 under all probes, but not always
        if _differs_otherwise(node, knowns, shape):
            return None
        if None in shape or dtype is None:
            return _alike(shape, dtype, tuple(results))
        return _alike(shape, dtype, (found[0],))
    if not failures or any(_fits_otherwise(node, knowns, failures)):
        return None
    raise ShapeError(_message(node, knowns, failures[-1])) from failures[-1]


def _alike(shape: Shape, dtype: np.dtype[Any] | None, cases: tuple[Abstract | None, ...]) -> Known:
    key = (shape, dtype, tuple([None if c is None else (c.shape, c.dtype) for c in cases]))
    if len(cases) == 1:
        return known_leaf(shape, dtype)
    known = _interned.get(key)
    return known or _remember(_interned, key, Known(shape, dtype, cases))


def _remember(memory: dict[Any, Any], key: Any, value: Value) -> Value:
    if len(memory) > _FORGET_BEYOND:
        memory.clear()
    memory[key] = value
    return value


def _read(
    node: Node, knowns: list[Known], inputs: Iterable[Abstract | None]
) -> tuple[Abstract | None, Exception | None]:
    """Return how a node looks, as it says or as its ``forward`` reads; or what it raised."""
    spec: Any = node.__operation__
    # As in a run: a Python number stays one only where it is broadcast against an array.
    says = spec.shape_and_dtype is not None
    stays = not says and spec.keeps_numbers(known.constant for known in knowns)
    values = [
        known.number(2) if stays and known.number is not None else value
        for known, value in zip(knowns, inputs, strict=True)
    ]
    given: dict[str, Any] = {name: getattr(node, name) for name in spec.hyperparameters}
    given.update(spec.named_inputs(values))
    given["rng"] = AbstractGenerator()
    results = []
    try:
        if says:
            return said_to_be(spec.call_shape_and_dtype(given)), None
        for training in (True, False) if "training" in spec.forward_asks else (True,):
            value = spec.call_forward({**given, "training": training})
            if spec.saves and type(value) is tuple:
                value = value[0]
            if not isinstance(value, (Abstract, np.ndarray, np.generic)):
                return None, NotTraceableError(f"forward returned {type(value).__name__}")
            results.append(Abstract(value.shape, value.dtype))
    except Exception as error:
        return None, error
    first = results[0]
    if any(r.shape != first.shape or r.dtype != first.dtype for r in results):
        return None, NotTraceableError("the result differs between training and not")
    return first, None


def _free_axes(knowns: list[Known]) -> list[tuple[int, int]]:
    """Return the axes of any size, as positions of the input and of the axis."""
    return [
        (k, a) for k, known in enumerate(knowns) for a, n in enumerate(known.shape) if n is None
    ]


def _differs_otherwise(node: Node, knowns: list[Known], shape: Shape) -> bool:
    """Say whether what the probes agree on differs where axes of any size are unequal.

    Under one probe all such axes are equal; here one after the other has another size.
    """
    free = _free_axes(knowns)
    if len(free) < 2:
        return False
    base = [known.cases[-1 if known.complete else 2] for known in knowns]
    if any(case is None for case in base):
        return False
    for k, a in free:
        case: Any = base[k]
        for size in (case.shape[a] // 2, case.shape[a] + 4):
            varied = Abstract((*case.shape[:a], size, *case.shape[a + 1 :]), case.dtype)
            inputs = [varied if i == k else value for i, value in enumerate(base)]
            result, _ = _read(node, knowns, inputs)
            if result is not None and not (
                result.ndim == len(shape)
                and all(n is None or n == m for n, m in zip(shape, result.shape, strict=True))
            ):
                return True
    return False


def _fits_otherwise(node: Node, knowns: list[Known], failures: list[Exception]) -> Iterator[bool]:
    """Say of further cases, one by one, whether what does not fit may fit in them.

    Every axis of any size is tried on its own with all sizes that occur, and those that
    make reshaping possible. More cases than can be tried count as one that fits, and so
    does a failure that says nothing about shapes.
    """
    yield not all(_is_mismatch(failure) for failure in failures)
    free = _free_axes(knowns)
    untyped = [k for k, known in enumerate(knowns) if known.dtype is None]
    if not free and not untyped:
        return
    sizes = sorted({*_sizes(node, knowns)})
    kinds = [np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.bool_)]
    if len(sizes) ** len(free) * len(kinds) ** len(untyped) > _CASES:
        yield True
        return
    large = [(n,) * len(free) for n in _LARGE if free]
    left = _cases_left.get()
    for chosen in (*product(sizes, repeat=len(free)), *large):
        at = dict(zip(free, chosen, strict=True))
        shapes: list[Any] = [
            tuple(at.get((k, a), n) for a, n in enumerate(known.shape))
            for k, known in enumerate(knowns)
        ]
        # An axis of length zero hides how long the others are, not from what takes it away.
        if sum(math.prod(n or 1 for n in shape) for shape in shapes) > _ELEMENTS:
            continue
        for typed in product(kinds, repeat=len(untyped)):
            of = dict(zip(untyped, typed, strict=True))
            inputs = [
                Abstract(shape, of.get(k, known.dtype))  # type: ignore[arg-type]
                for k, (shape, known) in enumerate(zip(shapes, knowns, strict=True))
            ]
            if left is not None:
                left[0] -= 1
                if left[0] < 0:
                    yield True
            result, failure = _read(node, knowns, inputs)
            yield result is not None or not _is_mismatch(failure)


def _is_mismatch(failure: BaseException | None) -> bool:
    """Say whether a failure is one of shapes, and not of reading what has no elements."""
    mismatch = isinstance(failure, _MISMATCH)
    while mismatch and failure is not None:
        mismatch = not isinstance(failure, NotTraceableError)
        failure = failure.__cause__ or failure.__context__
    return mismatch


def _sizes(node: Node, knowns: list[Known]) -> Iterator[int]:
    """Sizes that an axis of any size may need to have for the inputs to fit."""
    yield from (1, 2, 3, 5)
    spec: Any = node.__operation__
    totals = []
    for shape in [known.shape for known in knowns]:
        yield from (n for n in shape if n is not None)
        totals.append(math.prod(n for n in shape if n is not None))
    for value in (getattr(node, name) for name in spec.hyperparameters):
        numbers = [
            n for n in (value if isinstance(value, (tuple, list)) else (value,)) if type(n) is int
        ]
        yield from (abs(n) + more for n in numbers for more in (0, 1))
        totals.append(abs(math.prod(numbers)))
    for total in totals:
        yield total
        yield from (total // other for other in totals if other and total % other == 0)


def _message(node: Node, knowns: list[Known], failure: Exception) -> str:
    from mfcore.node import describe

    spec: Any = node.__operation__
    lines = [
        f"  {name}: {describe(source)} is {known}"
        for name, source, known in zip(
            spec.input_names(len(knowns)), node.inputs, knowns, strict=True
        )
    ]
    return "\n".join(
        [f"the inputs of {describe(node)} do not fit: {failure}{_taken(knowns)}", *lines]
    )


def _taken(knowns: list[Known]) -> str:
    if not any(None in known.shape for known in knowns):
        return ""
    return f" (where {_PROBES[-1][0]} was taken for an axis of any size)"
