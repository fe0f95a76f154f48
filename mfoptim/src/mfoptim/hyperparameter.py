"""Checks of hyperparameters, shared by optimizers, schedules and callbacks."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import numpy as np

from mfoptim.errors import HyperparameterError

Validator = Callable[[Any, Any, Any], None]


def plain_number(value: Any) -> Any:
    """Turn NumPy's scalars into Python's.

    A ``np.float64`` would lift a float32 parameter to float64; a Python float adapts.
    """
    return value.item() if isinstance(value, np.generic) else value


def real(says: str, holds: Callable[[float], bool]) -> Validator:
    """Return a validator: a finite real number that ``holds``."""

    def validate(owner: Any, attribute: Any, value: Any) -> None:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not isfinite(value) or not holds(value):
            raise HyperparameterError(
                f"{type(owner).__name__}: {attribute.name} must be {says}, not {value!r}"
            )

    return validate


not_negative = real("a number of at least 0", lambda value: value >= 0)
positive = real("a number above 0", lambda value: value > 0)
below_one = real("a number of at least 0 and below 1", lambda value: 0 <= value < 1)


def rate(owner: Any, attribute: Any, value: Any) -> None:
    """Check a learning rate: a number of at least 0, or a schedule."""
    if isinstance(value, type):
        raise HyperparameterError(
            f"{type(owner).__name__}: {attribute.name} is the class {value.__name__}; "
            f"give an instance of it, {value.__name__}(...)"
        )
    if not callable(value):
        says = "a number of at least 0, or a schedule (a function of the step)"
        real(says, lambda number: number >= 0)(owner, attribute, value)


def count_from(least: int) -> Validator:
    """Return a validator: a whole number of at least ``least``."""

    def validate(owner: Any, attribute: Any, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise HyperparameterError(
                f"{type(owner).__name__}: {attribute.name} must be a whole number of at least "
                f"{least}, not {value!r}"
            )

    return validate


def one_of(*choices: str) -> Validator:
    """Return a validator: one of these words."""

    def validate(owner: Any, attribute: Any, value: Any) -> None:
        if value not in choices:
            raise HyperparameterError(
                f"{type(owner).__name__}: {attribute.name} must be "
                f"{' or '.join(map(repr, choices))}, not {value!r}"
            )

    return validate
