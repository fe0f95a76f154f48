"""Samples drawn from the domain that an operation declares, or from anything at all.

Who chooses is a parameter: hypothesis (``strategies.py``), which makes what fails smaller, or a
seeded generator where it is not installed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any, Protocol

import attrs
import numpy as np

from mfcore.domain import Bound, Choice, Domain, Values, domains_of
from mfcore.node import Array, Node
from mfcore.operation import OperationSpec, spec_of
from mfcore.testing.outcome import CheckError
from mfcore.testing.samples import Sample

GAP = 1 / 16
"""How far numbers are apart, and from what they avoid: on such a grid float32 is exact."""

MOST_AXES = 2
LARGEST_SIZE = 4


class Redraw(Exception):
    """What was chosen does not go together: choose again."""


class Choices(Protocol):
    """Who chooses; the first of several should be the simplest."""

    def below(self, count: int) -> int:
        """Return a number from 0 to ``count - 1``."""
        ...

    def bytes(self, count: int) -> bytes:
        """Return so many bytes."""
        ...


class Seeded:
    """Choices of a seeded generator."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def below(self, count: int) -> int:
        """Return a number from 0 to ``count - 1``."""
        return int(self._rng.integers(count))

    def bytes(self, count: int) -> bytes:
        """Return so many bytes."""
        return self._rng.bytes(count)


def draw_sample(operation: type[Node], choices: Choices) -> Sample:
    """Return a sample from the domain that an operation declares.

    Raises
    ------
    Redraw
        If what was chosen does not go together.
    CheckError
        If the domain leaves nothing to choose from.
    """
    domains = domains_of(operation)
    domain, spec = domains[choices.below(len(domains))], spec_of(operation)
    fields = list(spec.inputs)
    if spec.variadic:
        fields += fields[-1:] * choices.below(3)
    axes = _Axes(choices)
    shapes = [
        axes.shape(_values(domain, field), len(fields) > 1 and field in spec.broadcasts)
        for field in fields
    ]
    by_field = dict(zip(fields, shapes, strict=True))
    hyperparameters = _hyperparameters(domain, spec, axes.sizes, by_field, choices)
    known = {**axes.sizes, **hyperparameters}
    arrays = [
        draw_array(_values(domain, field), shape, choices, known)
        for field, shape in zip(fields, shapes, strict=True)
    ]
    _keep_apart(domain, fields, arrays)
    return Sample(tuple(arrays), hyperparameters)


def draw_array(
    values: Values, shape: tuple[int, ...], choices: Choices, known: Mapping[str, Any] | None = None
) -> Array:
    """Return an array of what an input may hold; ``known`` are the sizes that bounds name.

    Raises
    ------
    Redraw
        If there are not as many distinct numbers.
    """
    count = math.prod(shape)
    data = choices.bytes(count)
    if values.sum_to_one:
        parts = np.array([1 + byte % 8 for byte in data], dtype=np.float64).reshape(shape)
        return np.asarray(parts / parts.sum(axis=-1, keepdims=True))
    table = _table(values, known or {})
    if values.distinct:
        if count > len(table):
            raise Redraw
        left = list(table)
        chosen = [left.pop(byte % len(left)) for byte in data]
    else:
        chosen = [table[byte % len(table)] for byte in data]
    dtype = {"float": np.float64, "integer": np.int64, "bool": np.bool_}[values.kind]
    return np.array(chosen, dtype=dtype).reshape(shape)


def _values(domain: Domain, field: str) -> Values:
    declared = domain.get(field, Values())
    if not isinstance(declared, Values):
        raise CheckError(f"its domain says of the input {field} what only a hyperparameter can be")
    return declared


@attrs.define
class _Axes:
    """Sizes by name, as they are chosen: axes of one name are of one size."""

    choices: Choices
    sizes: dict[str, int] = attrs.field(factory=dict)
    groups: dict[str, tuple[int, ...]] = attrs.field(factory=dict)

    def shape(self, values: Values, stretched: bool) -> tuple[int, ...]:
        shape: tuple[int, ...] = ()
        for axis in values.axes:
            if axis == "..." or axis.startswith("*"):
                group = self._group(axis)
                shape += self._shrunk(group) if stretched and axis == "..." else group
            elif axis.isdigit():
                shape += (int(axis),)
            else:
                if axis not in self.sizes:
                    self.sizes[axis] = self._size()
                shape += (self.sizes[axis],)
        return shape

    def _size(self) -> int:
        return 1 + self.choices.below(LARGEST_SIZE)

    def _group(self, name: str) -> tuple[int, ...]:
        if name not in self.groups:
            count = self.choices.below(MOST_AXES + 1)
            self.groups[name] = tuple(self._size() for _ in range(count))
        return self.groups[name]

    def _shrunk(self, group: tuple[int, ...]) -> tuple[int, ...]:
        """Return axes that broadcast to some others; mostly those themselves."""
        how = self.choices.below(4)
        if how == 2:
            return group[1:]
        if how == 3 and group:
            k = self.choices.below(len(group))
            return (*group[:k], 1, *group[k + 1 :])
        return group


def _hyperparameters(
    domain: Domain,
    spec: OperationSpec,
    sizes: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]],
    choices: Choices,
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in spec.hyperparameters:
        declared = domain.get(name)
        if isinstance(declared, Values):
            table = _table(declared, {**sizes, **found})
            found[name] = table[choices.below(len(table))]
        elif isinstance(declared, Choice):
            options: Any = declared.values
            if declared.axis_of:
                axes = len(shapes[declared.axis_of])
                options = range(-axes, axes)
                if not axes:
                    raise Redraw
            if not options:
                raise CheckError(f"its domain leaves nothing to choose for {name}")
            found[name] = options[choices.below(len(options))]
    return found


def _bound(bound: Bound, known: Mapping[str, Any]) -> float | None:
    if not isinstance(bound, str):
        return bound
    if bound not in known:
        raise CheckError(
            f"its domain is bounded by {bound!r}, which is no size of an input, and no "
            f"hyperparameter that it names"
        )
    return float(known[bound])


def _table(values: Values, known: Mapping[str, Any]) -> Sequence[Any]:
    """Return what an element may be, at most 256 numbers, the simplest first."""
    if values.kind == "bool":
        return [False, True]
    low, high = _bound(values.low, known), _bound(values.high, known)
    if values.kind == "integer":
        first = int(low) if low is not None else -4 if high is None else min(int(high) - 8, 0)
        last = int(high) if high is not None else first + 9
        numbers: Sequence[Any] = sorted(range(first, last)[:256], key=lambda n: (abs(n), n < 0))
    else:
        numbers = _grid(low, high, values.avoid)
    if not numbers:
        raise CheckError(f"its domain leaves no number that is {values}")
    return numbers


@cache
def _grid(low: float | None, high: float | None, avoid: tuple[float, ...]) -> tuple[float, ...]:
    """Return numbers between two bounds and apart from some, whole ones first."""
    start = low if low is not None else high - 8 if high is not None else -4.0
    stop = high if high is not None else start + 8 if low is None else start + 4
    step = GAP
    while (stop - start) / step > 256:
        step *= 2
    while (stop - start) / step < 16:
        step /= 2
    grid = np.arange(math.floor(start / step) + 1, math.ceil(stop / step)) * step
    kept = [float(x) for x in grid if all(abs(x - a) >= step for a in avoid)]
    return tuple(sorted(kept, key=lambda x: (Fraction(x).denominator, abs(x), x < 0)))


def _keep_apart(domain: Domain, fields: list[str], arrays: list[Array]) -> None:
    """Choose again where what should not be near to each other is, wherever it meets."""
    by_field = dict(zip(fields, arrays, strict=True))
    for field, array in by_field.items():
        for other in _values(domain, field).apart_from:
            if other not in by_field:
                raise CheckError(
                    f"its domain keeps {field} apart from {other!r}, which is no input"
                )
            if np.any(np.abs(array - by_field[other]) < GAP / 2):
                raise Redraw
