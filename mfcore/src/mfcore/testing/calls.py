"""An operation's two functions called on arrays, as an engine would, but without one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import attrs
import numpy as np

from mfcore.checks import unbroadcast
from mfcore.node import Array, Input, Node
from mfcore.operation import spec_of
from mfcore.testing.outcome import CheckError, NotApplicable
from mfcore.testing.samples import Sample


@attrs.define(eq=False)
class Called:
    """What a forward and a backward were given, and what they returned.

    Attributes
    ----------
    given : dict
        All that functions may ask for, by name.
    value : array
        What ``forward`` returned.
    gradients : tuple
        What ``backward`` returned, before the core sums and casts; empty without one.
    """

    given: dict[str, Any]
    value: Any
    gradients: Any = ()


def forward(operation: type[Node], sample: Sample) -> Any:
    """Return the value of ``forward`` on a sample."""
    return call_forward(operation, sample).value


def call_forward(operation: type[Node], sample: Sample) -> Called:
    """Call ``forward`` with all that it asks for; the generator is seeded alike each time."""
    spec = spec_of(operation)
    given: dict[str, Any] = {}
    if spec.hyperparameters:  # as a node has them, converted
        node = operation(*[Input() for _ in sample.inputs], **sample.hyperparameters)
        given = {name: getattr(node, name) for name in spec.hyperparameters}
    fixed = len(spec.inputs) - 1 if spec.variadic else len(spec.inputs)
    arrays = [x[()] if isinstance(x, np.ndarray) and x.ndim == 0 else x for x in sample.inputs]
    given.update(zip(spec.inputs[:fixed], arrays[:fixed], strict=False))
    if spec.variadic:
        given[spec.inputs[-1]] = tuple(arrays[fixed:])
    given |= {"rng": np.random.default_rng(0), "training": True, "saved_of_result": None}
    value = spec.call_forward(given)
    if spec.saves:
        if not (isinstance(value, tuple) and len(value) == 2):
            raise CheckError(
                "backward asks for saved, so forward must return a pair (value, saved); "
                f"it returned {type(value).__name__}"
            )
        value, given["saved"] = value
    given["value"] = value
    return Called(given, value)


def call(
    operation: type[Node],
    sample: Sample,
    *,
    wanted: Sequence[bool] | None = None,
    scale: float = 1.0,
) -> Called:
    """Call ``forward``, then ``backward`` with a gradient of random numbers.

    Raises
    ------
    NotApplicable
        If the operation has no derivative.
    """
    spec = spec_of(operation)
    require_derivative(operation)
    called = call_forward(operation, sample)
    value = np.asarray(called.value)
    grad = weights(value.shape) * scale
    if value.dtype.kind == "f":
        grad = grad.astype(value.dtype)
    called.given["grad"] = grad[()] if value.ndim == 0 else grad
    called.given["wanted"] = spec.wanted(wanted or (True,) * len(sample.inputs))
    gradients = spec.call_backward(called.given)
    called.gradients = gradients if isinstance(gradients, (tuple, list)) else (gradients,)
    return called


def require_derivative(operation: type[Node]) -> None:
    """Raise ``NotApplicable`` where no gradient passes through an operation."""
    if not spec_of(operation).differentiable:
        raise NotApplicable("it has no derivative")


@cache
def weights(shape: tuple[int, ...]) -> Array:
    """Return the random numbers by which results are weighted into one number; read-only."""
    numbers = np.asarray(np.random.default_rng(3).normal(size=shape))
    numbers.flags.writeable = False
    return numbers


def moving(sample: Sample) -> tuple[int, ...]:
    """Return the places of the inputs that hold floats: the others cannot be moved a little."""
    return tuple(k for k, x in enumerate(sample.inputs) if x.dtype.kind == "f")


def fitted(operation: type[Node], sample: Sample, gradients: Any) -> list[Array | None]:
    """Return gradients in the shapes of their inputs, summed where the operation broadcasts.

    Raises
    ------
    CheckError
        If there are not as many as inputs, or one is no array of the input's shape.
    """
    spec = spec_of(operation)
    names = spec.input_names(len(sample.inputs))
    if len(gradients) != len(names):
        raise CheckError(
            f"backward returned {len(gradients)} gradients for {len(names)} inputs on {sample}: "
            f"it must return one for each, None where there is none"
        )
    result: list[Array | None] = []
    for k, (gradient, x) in enumerate(zip(gradients, sample.inputs, strict=True)):
        if gradient is None:
            result.append(None)
            continue
        array = np.asarray(gradient)
        if array.dtype.kind not in "biuf":
            raise CheckError(
                f"the gradient of {names[k]} is no array of numbers but "
                f"{type(gradient).__name__}, on {sample}"
            )
        field = spec.inputs[min(k, len(spec.inputs) - 1)]
        fits: Array | None = array
        if array.shape != x.shape:
            fits = unbroadcast(array, x.shape) if field in spec.broadcasts else None
        if fits is None:
            raise CheckError(
                f"the gradient of {names[k]} has the shape {array.shape}, the input "
                f"{x.shape}, on {sample}"
                + ("" if spec.broadcasts else "; declare @operation(broadcasts=True) if it does")
            )
        result.append(np.asarray(fits))
    return result
