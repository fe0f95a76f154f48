"""Samples drawn from the domain that an operation declares.

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


def draw_sample(
    operation: type[Node], choices: Choices, axes: Mapping[str, tuple[int, ...]] | None = None
) -> Sample:
    """Return a sample from the domain that an operation declares.

    Parameters
    ----------
    operation : operation class
        One that declares a domain.
    choices : Choices
        Who chooses.
    axes : mapping, optional
        By name: axes that are not chosen, ``(0,)`` for one without elements.

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
    chosen = _Axes(choices, dict(axes or {}))
    shapes = [
        chosen.shape(_values(domain, field), len(fields) > 1 and field in spec.broadcasts)
        for field in fields
    ]
    by_field = dict(zip(fields, shapes, strict=True))
    hyperparameters = _hyperparameters(domain, spec, chosen.sizes, by_field, choices)
    known = {**chosen.sizes, **hyperparameters}
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
        If there are not as many distinct numbers, or none between bounds that are names.
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
    """Axes by name, as they are chosen: those of one name are of one size."""

    choices: Choices
    named: dict[str, tuple[int, ...]]

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of single axes, by name."""
        return {name: axes[0] for name, axes in self.named.items() if not _is_group(name)}

    def shape(self, values: Values, stretched: bool) -> tuple[int, ...]:
        """Return the shape of an input; one that is stretched broadcasts to the others."""
        shape: tuple[int, ...] = ()
        for name in values.axes:
            if name.isdigit():
                shape += (int(name),)
                continue
            if name not in self.named:
                count = self.choices.below(MOST_AXES + 1) if _is_group(name) else 1
                sizes = [1 + self.choices.below(LARGEST_SIZE) for _ in range(count)]
                self.named[name] = tuple(sizes)
            axes = self.named[name]
            shape += self._shrunk(axes) if stretched and name == "..." else axes
        return shape

    def _shrunk(self, group: tuple[int, ...]) -> tuple[int, ...]:
        """Return axes that broadcast to some others; mostly those themselves."""
        how = self.choices.below(4)
        if how == 2:
            return group[1:]
        if how == 3 and group:
            k = self.choices.below(len(group))
            return (*group[:k], 1, *group[k + 1 :])
        return group


def _is_group(name: str) -> bool:
    return name == "..." or name.startswith("*")


def without_elements(operation: type[Node]) -> list[Sample]:
    """Return a sample of an operation's domain for each axis that may have no elements."""
    names = {
        name
        for domain in domains_of(operation)
        for field in spec_of(operation).inputs
        for name in _values(domain, field).axes
        if not name.isdigit()
    }
    found = []
    for name in sorted(names):
        choices = Seeded()
        for _ in range(8):  # for each of several domains there is a chance
            try:
                sample = draw_sample(operation, choices, {name: (0,)})
            except (Redraw, CheckError):  # of no elements there is no index
                continue
            if not all(x.size for x in sample.inputs):
                found.append(sample)
                break
    return found


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
        end = int(high) + values.closed if high is not None else first + 9
        numbers: Sequence[Any] = sorted(range(first, end)[:256], key=lambda n: (abs(n), n < 0))
    else:
        numbers = _grid(low, high, values.avoid)
    if not numbers:
        if isinstance(values.low, str) or isinstance(values.high, str):
            raise Redraw  # of other sizes there may be some
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
