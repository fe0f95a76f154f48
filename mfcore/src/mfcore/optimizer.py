"""What an optimizer is: ``@optimizer`` turns a class of hyperparameters into one.

By the rules of operations: ``init`` and ``update`` are pure static methods in plain
NumPy that ask by name for what they need, so that engines can compile them into a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, dataclass_transform, runtime_checkable

import attrs
import numpy as np

from mfcore.annotations import annotations_of, type_validator
from mfcore.asking import asked_names, static_function
from mfcore.errors import DefinitionError, ExecutionError, type_name
from mfcore.node import Array
from mfcore.operation import hyperparameter

T = TypeVar("T", bound=type)

OptimizerState: TypeAlias = tuple[Array, ...]
"""What an optimizer remembers of one parameter from step to step."""


@runtime_checkable
class Schedule(Protocol):
    """A hyperparameter that changes: called with the number of steps done, from 0."""

    def __call__(self, step: int) -> float:
        """Return the value for the step after ``step`` steps."""
        ...


@attrs.frozen
class OptimizerSpec:
    """What the core knows about an optimizer: the class attribute ``__optimizer__``.

    Attributes
    ----------
    name : str
        The class's name.
    hyperparameters : tuple of str
        Names of its fields.
    init, update : callable
        The two functions; ``init`` is ``None`` for an optimizer without state.
    init_asks, update_asks : tuple of str
        The parameters of both functions, in order.
    update_keywords : frozenset of str
        Those of ``update`` that are keyword-only.
    """

    name: str
    hyperparameters: tuple[str, ...]
    init: Callable[..., Any] | None
    update: Callable[..., Any]
    init_asks: tuple[str, ...]
    update_asks: tuple[str, ...]
    update_keywords: frozenset[str]

    def values(self, optimizer: Any, step: int) -> dict[str, Any]:
        """Return the hyperparameters at a step; schedules are called."""
        result = {}
        for name in self.hyperparameters:
            value = getattr(optimizer, name)
            result[name] = value(step) if callable(value) else value
        return result

    def initial_state(self, optimizer: Any, parameter: Array) -> OptimizerState:
        """Return the state of a parameter before its first update."""
        if self.init is None:
            return ()
        given = {"parameter": parameter, **self.values(optimizer, 0)}
        return tuple(self.init(**{name: given[name] for name in self.init_asks}))

    def changes(self, optimizer: Any) -> bool:
        """Whether what ``update`` is given changes from step to step: schedules, ``step``."""
        return "step" in self.update_asks or any(
            callable(getattr(optimizer, name)) for name in self.hyperparameters
        )

    def arguments(self, optimizer: Any, step: int) -> tuple[Any, ...]:
        """Return what ``update`` asks for at a step, beside parameter, gradient and state."""
        given = {**self.values(optimizer, step), "step": step + 1}
        return tuple([given[name] for name in self.update_asks if name not in _OF_PARAMETER])

    def updater(self, optimizer: Any, step: int) -> Callable[..., Any]:
        """Return ``update`` at a step, as a function of parameter, gradient and state, if any."""
        arguments, update = self.arguments(optimizer, step), self.positional_update()
        return lambda *arrays: update(*arrays, *arguments)

    def positional_update(self) -> Callable[..., Any]:
        """Return ``update`` taking parameter, gradient, state if any, and ``arguments``."""
        leading = _OF_PARAMETER if self.init else _OF_PARAMETER[:2]
        if self.update_asks[: len(leading)] == leading and not self.update_keywords:
            return self.update
        update = self.update
        names = (*leading, *(name for name in self.update_asks if name not in leading))
        asked = set(self.update_asks)
        return lambda *values: update(
            **{n: value for n, value in zip(names, values, strict=True) if n in asked}
        )


_OF_PARAMETER = ("parameter", "gradient", "state")
"""What an update is given anew for each parameter."""


class Updates:
    """An optimizer at work on a list of parameters: what it remembers of each of them."""

    def __init__(
        self,
        optimizer: Any,
        parameters: Sequence[Array],
        states: Sequence[OptimizerState] | None = None,
        steps: int = 0,
    ) -> None:
        self.optimizer = optimizer
        self.steps = steps
        self._spec = spec = optimizer_spec(optimizer)
        if states is None:
            states = [spec.initial_state(optimizer, parameter) for parameter in parameters]
        self.states = list(states)
        self._update = spec.positional_update()
        self._arguments = None if spec.changes(optimizer) else spec.arguments(optimizer, 0)

    def apply(self, parameters: Sequence[Array], gradients: Sequence[Array | None]) -> list[Array]:
        """Return the parameters after an update; one without gradient stays as it is.

        Parameters
        ----------
        parameters, gradients : sequence of array
            In the same order, of the same shapes.
        """
        update, arguments = self._update, self._arguments
        if arguments is None:
            arguments = self._spec.arguments(self.optimizer, self.steps)
        stateless, ndarray = self._spec.init is None, np.ndarray
        values, states = [], []
        for old, gradient, state in zip(parameters, gradients, self.states, strict=True):
            new: Any = old
            if gradient is not None:
                if stateless:
                    new = update(old, gradient, *arguments)
                else:
                    pair = update(old, gradient, state, *arguments)
                    if type(pair) is not tuple or len(pair) != 2:
                        raise self._no_pair(pair)
                    new, state = pair
                if type(new) is not ndarray or new.shape != old.shape or new.dtype is not old.dtype:
                    new = self._fitted(new, old)
            values.append(new)
            states.append(state)
        # Replaced as a whole, and last: an update that raises leaves everything as it was.
        self.states = states
        self.steps += 1
        return values

    def _no_pair(self, returned: Any) -> ExecutionError:
        return ExecutionError(
            f"update of {self._spec.name} must return (parameter, state), "
            f"because it asks for state; it returned {type_name(returned)}"
        )

    def _fitted(self, new: Any, old: Array) -> Array:
        """Return an updated parameter in the dtype that it had: a schedule must not widen it."""
        try:
            if new.shape == old.shape:
                return new if new.dtype is old.dtype else new.astype(old.dtype)  # type: ignore[no-any-return]
            returned = f"shape {new.shape}"
        except AttributeError:
            returned = type_name(new)
        raise ExecutionError(
            f"update of {self._spec.name} returned {returned} for a parameter of shape {old.shape}"
        )


@dataclass_transform(
    eq_default=True, kw_only_default=False, field_specifiers=(attrs.field, hyperparameter)
)
def optimizer(cls: T, /) -> T:
    """Turn a class into an optimizer.

    Its fields are hyperparameters. ``update(parameter, gradient, ...)`` returns the new
    parameter; one that also asks for ``state`` returns ``(parameter, state)``, where
    ``init(parameter, ...)`` gave the first state, a tuple of arrays. Both may ask for any
    hyperparameter by name (schedules arrive as numbers), ``update`` also for ``step``,
    counted from 1.

    Raises
    ------
    DefinitionError
        If the class breaks the contract.

    Examples
    --------
    >>> import numpy as np
    >>> import mfcore as mf
    >>> @mf.optimizer
    ... class SignDescent:
    ...     learning_rate: float = 0.01
    ...
    ...     @staticmethod
    ...     def update(parameter, gradient, learning_rate):
    ...         return parameter - learning_rate * np.sign(gradient)
    >>> SignDescent(learning_rate=0.5).update(np.ones(2), np.array([3.0, -3.0]), 0.5)
    array([0.5, 1.5])
    """
    where = f"optimizer {cls.__qualname__}"
    hyperparameters: list[str] = []

    def transform(owner: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
        hints = annotations_of(owner)
        hyperparameters.extend(field.name for field in fields)
        return [
            field.evolve(validator=field.validator or type_validator(hints[field.name], field.name))
            for field in fields
        ]

    built: Any = attrs.define(cls, frozen=True, field_transformer=transform)
    init, update = (static_function(built, name, where) for name in ("init", "update"))
    if update is None:
        raise DefinitionError(f"{where} has no update")
    update_asks, update_keywords = asked_names(
        update, {"parameter", "gradient", "state", "step", *hyperparameters}, where
    )
    init_asks: tuple[str, ...] = ()
    if init is not None:
        init_asks, _ = asked_names(init, {"parameter", *hyperparameters}, where)
    if ("state" in update_asks) != (init is not None):
        raise DefinitionError(f"{where}: update asks for state exactly where init provides one")
    built.__optimizer__ = OptimizerSpec(
        name=built.__name__,
        hyperparameters=tuple(hyperparameters),
        init=init,
        update=update,
        init_asks=init_asks,
        update_asks=update_asks,
        update_keywords=update_keywords,
    )
    return built  # type: ignore[no-any-return]


def optimizer_spec(optimizer: Any) -> OptimizerSpec:
    """Return what the core knows about an optimizer, class or instance.

    Raises
    ------
    DefinitionError
        If it is no optimizer.
    """
    cls = optimizer if isinstance(optimizer, type) else type(optimizer)
    # Its own, not an inherited one: a class that changes an optimizer is decorated again.
    spec = vars(cls).get("__optimizer__")
    if not isinstance(spec, OptimizerSpec):
        raise DefinitionError(f"{optimizer!r} is no optimizer: its class lacks @optimizer")
    return spec
