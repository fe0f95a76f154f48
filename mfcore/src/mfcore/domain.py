"""Where an operation is defined: what its inputs may hold and which shapes fit, as data.

``domain = Domain(x=positive())`` in an operation's class says so. Nothing reads it in a run:
the conformance kit draws from it what it tries the operation on, and tests of an author's own
may, by ``mfcore.testing.strategies``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import attrs

from mfcore.errors import DefinitionError

Bound: TypeAlias = float | str | None
"""A number, or the name of a size or of a hyperparameter, or ``None`` for no bound."""


@attrs.frozen
class Values:
    """What one input may hold; made by the functions below.

    Attributes
    ----------
    kind : str
        ``"float"``, ``"integer"`` or ``"bool"``.
    shape : str
        The axes, as docstrings write them: ``"n, k"``. Axes of one name are of one size, in
        all inputs; ``...`` are any axes, the same in all inputs, or such that broadcast where
        the operation broadcasts; ``*rows`` are any axes too, the same wherever that name is.
    low, high : float, str or None
        Bounds, which no number reaches, but for the low one of integers.
    closed : bool
        Whether integers reach the high one too.
    avoid : tuple of float
        Poles and kinks: numbers that no element is, nor is near to.
    apart_from : tuple of str
        Inputs whose elements are not near to this one's, where they meet.
    distinct : bool
        Whether no two elements are alike.
    sum_to_one : bool
        Whether the elements along the last axis are positive and sum to one.
    """

    kind: Literal["float", "integer", "bool"] = "float"
    shape: str = "..."
    low: Bound = None
    high: Bound = None
    closed: bool = False
    avoid: tuple[float, ...] = ()
    apart_from: tuple[str, ...] = ()
    distinct: bool = False
    sum_to_one: bool = False

    @property
    def axes(self) -> tuple[str, ...]:
        """The parts of the shape."""
        return tuple(part.strip() for part in self.shape.split(",") if part.strip())


@attrs.frozen
class Choice:
    """What one hyperparameter may be: one of some values, or an axis of an input.

    Attributes
    ----------
    values : tuple
        The values to choose from.
    axis_of : str
        The input whose axes are chosen from, counted from either end.
    """

    values: tuple[Any, ...] = ()
    axis_of: str = ""


def real(
    shape: str = "...",
    *,
    low: Bound = None,
    high: Bound = None,
    avoid: tuple[float, ...] = (),
    apart_from: tuple[str, ...] | str = (),
    distinct: bool = False,
) -> Values:
    """Real numbers, between two bounds that they do not reach.

    Examples
    --------
    >>> real("n, k", low=-1).axes
    ('n', 'k')
    """
    apart = (apart_from,) if isinstance(apart_from, str) else apart_from
    return Values("float", shape, low, high, avoid=avoid, apart_from=apart, distinct=distinct)


def positive(shape: str = "...") -> Values:
    """Numbers above 0."""
    return real(shape, low=0)


def nonzero(shape: str = "...") -> Values:
    """Numbers of both signs that are not 0, nor near to it."""
    return real(shape, avoid=(0.0,))


def shares(shape: str = "..., k") -> Values:
    """Positive numbers that sum to one along the last axis: probabilities."""
    return Values("float", shape, 0, 1, sum_to_one=True)


def integers(
    low: Bound = None, below: Bound = None, shape: str = "...", *, up_to: Bound = None
) -> Values:
    """Whole numbers from ``low`` to ``below - 1``, or to ``up_to``.

    Each may be the name of a size, ``integers(0, "n")``, or of a hyperparameter.
    """
    return Values(
        "integer", shape, low, below if up_to is None else up_to, closed=up_to is not None
    )


def bools(shape: str = "...") -> Values:
    """True and false."""
    return Values("bool", shape)


def one_of(*values: Any) -> Choice:
    """A hyperparameter that is one of some values."""
    return Choice(values)


def axis_of(field: str) -> Choice:
    """A hyperparameter that is an axis of an input, counted from either end."""
    return Choice(axis_of=field)


class Domain(Mapping[str, Values | Choice]):
    """What the inputs and hyperparameters of an operation may be, by name.

    An input that is not named may hold any real numbers; a hyperparameter that is not named
    has its default. An operation that is defined on several has a tuple of them.

    Parameters
    ----------
    **fields : Values or Choice
        By name of an input or hyperparameter.

    Raises
    ------
    DefinitionError
        If a field is given something else.

    Examples
    --------
    >>> import mfcore as mf
    >>> @mf.operation
    ... class LogBase(mf.Node):
    ...     x: mf.Node
    ...     base: float = 2.0
    ...
    ...     domain = Domain(x=positive(), base=one_of(2.0, 10.0))
    ...
    ...     @staticmethod
    ...     def forward(x, base):
    ...         return np.log(x) / math.log(base)
    >>> LogBase.domain
    Domain(x=Values(low=0), base=Choice(values=(2.0, 10.0)))
    """

    __slots__ = ("_fields",)

    def __init__(self, **fields: Values | Choice) -> None:
        for name, given in fields.items():
            if not isinstance(given, (Values, Choice)):
                raise DefinitionError(
                    f"a domain says {name}=real(), positive(), integers(0, 'n'), one_of(...) or "
                    f"the like, not {given!r}"
                )
        self._fields = dict(fields)

    def __getitem__(self, name: str) -> Values | Choice:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={_shown(given)}" for name, given in self.items())
        return f"Domain({told})"


def _shown(given: Any) -> str:
    """Return what made it, without what is left at its default."""
    fields = attrs.fields(type(given))
    changed = [
        f"{f.name}={getattr(given, f.name)!r}"
        for f in fields
        if getattr(given, f.name) != f.default
    ]
    return f"{type(given).__name__}({', '.join(changed)})"


def domains_of(operation: type) -> tuple[Domain, ...]:
    """Return what an operation's class declares; nothing if it declares none.

    Raises
    ------
    DefinitionError
        If a domain names what is no field of the operation.
    """
    declared = getattr(operation, "domain", ())
    domains = declared if isinstance(declared, tuple) else (declared,)
    if not all(isinstance(domain, Domain) for domain in domains):
        return ()  # a field of that name
    fields = {field.name for field in attrs.fields(operation)}
    for domain in domains:
        if unknown := [name for name in domain if name not in fields]:
            raise DefinitionError(
                f"{operation.__qualname__}: its domain names {unknown[0]!r}, which is no field"
            )
    return domains
