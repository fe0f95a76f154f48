"""An optimizer under test, with hyperparameters as they are by default, and changed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import attrs

from mfcore.testing.outcome import CheckError

MOST_VARIANTS = 64
"""Of many hyperparameters not all are changed together."""

_OTHERS: dict[type, tuple[Any, ...]] = {
    bool: (True, False),
    int: (2, 3, 1),
    float: (0.5, 0.25, 2.0),
    type(None): (0.5, 2, True),
}
"""What a hyperparameter is changed to, by the type of its value: the first that is accepted."""


@attrs.frozen(eq=False)
class Rule:
    """An optimizer under test.

    Attributes
    ----------
    cls : type
        The class.
    made : optimizer
        One of it with hyperparameters that work.
    variants : tuple of optimizer
        That one, and those with one, two and more hyperparameters changed.
    """

    cls: type
    made: Any
    variants: tuple[Any, ...]

    def each(self) -> Iterator[Rule]:
        """Yield a rule for each of the variants."""
        for made in self.variants:
            yield Rule(self.cls, made, (made,))


def rule_of(cls: type) -> Rule:
    """Make an optimizer to test: a float without a default is tried as 0.1.

    Raises
    ------
    CheckError
        If it cannot be made.
    """
    own = getattr(cls, "sample", None)
    needed = {f.name: 0.1 for f in attrs.fields(cls) if f.default is attrs.NOTHING}
    try:
        made = own() if callable(own) else cls(**needed)
        return Rule(cls, made, _variants(made))
    except Exception as error:
        raise CheckError(
            f"it cannot be made by {cls.__name__}({needed or ''}): {error}; give it a static "
            f"method sample() that returns one"
        ) from error


def _variants(made: Any) -> tuple[Any, ...]:
    """Return an optimizer and others with some of its hyperparameters changed, few at first."""
    fields = [field for field in attrs.fields(type(made)) if field.init]
    names = [field.name for field in fields if field.alias == field.name]
    other = {name: _OTHERS.get(type(getattr(made, name)), ()) for name in names}
    changes = [name for name in names if other[name]]
    found = [made]
    for count in range(1, len(changes) + 1):
        for chosen in itertools.combinations(changes, count):
            if len(found) == MOST_VARIANTS:
                return tuple(found)
            found += _changed(made, {name: other[name] for name in chosen})
    return tuple(found)


def _changed(made: Any, others: dict[str, tuple[Any, ...]]) -> list[Any]:
    """Return an optimizer with other hyperparameters, none if it refuses whatever is tried."""
    choices = [
        [value for value in values if value != getattr(made, name)]
        for name, values in others.items()
    ]
    for values in itertools.islice(itertools.product(*choices), 8):
        try:
            return [attrs.evolve(made, **dict(zip(others, values, strict=True)))]
        except Exception:  # some go together with others only, as Nesterov's with momentum
            continue
    return []
