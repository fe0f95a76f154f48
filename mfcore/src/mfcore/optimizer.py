"""What an optimizer is: ``@optimizer`` turns a class of hyperparameters into one.

By the rules of operations: ``init`` and ``update`` are pure static methods in plain
NumPy that ask by name for what they need, so that engines can compile them into a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar, dataclass_transform, runtime_checkable

import attrs

from mfcore.errors import DefinitionError
from mfcore.node import Array
from mfcore.operation import annotations_of, asked_names, hyperparameter, type_validator

T = TypeVar("T", bound=type)

OptimizerState: TypeAlias = tuple[Array, ...]
"""What an optimizer remembers of one parameter from step to step."""


@runtime_checkable
class Schedule(Protocol):
    """A hyperparameter that changes: called with the number of steps done, from 0."""

    def __call__(self, step: int) -> float: ...


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
    """

    name: str
    hyperparameters: tuple[str, ...]
    init: Callable[..., Any] | None
    update: Callable[..., Any]
    init_asks: tuple[str, ...]
    update_asks: tuple[str, ...]

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

    def updater(
        self, optimizer: Any, step: int
    ) -> Callable[[Array, Array, OptimizerState], tuple[Array, OptimizerState]]:
        """Return ``update`` as a function of parameter, gradient and state at a step."""
        given = {**self.values(optimizer, step), "step": step + 1}
        fixed = {name: given[name] for name in self.update_asks if name in given}
        asks_state = "state" in self.update_asks
        update = self.update

        def call(
            parameter: Array, gradient: Array, state: OptimizerState
        ) -> tuple[Array, OptimizerState]:
            if not asks_state:
                return update(parameter=parameter, gradient=gradient, **fixed), state
            return update(  # type: ignore[no-any-return]
                parameter=parameter, gradient=gradient, state=state, **fixed
            )

        return call


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
    functions: dict[str, Any] = {}
    for method in ("init", "update"):
        raw = next((vars(base)[method] for base in built.__mro__ if method in vars(base)), None)
        if raw is not None and not isinstance(raw, staticmethod):
            raise DefinitionError(f"{where}: {method} must be a @staticmethod")
        functions[method] = raw.__func__ if raw is not None else None
    if functions["update"] is None:
        raise DefinitionError(f"{where} has no update")
    update_asks, _ = asked_names(
        functions["update"], {"parameter", "gradient", "state", "step", *hyperparameters}, where
    )
    init_asks: tuple[str, ...] = ()
    if functions["init"] is not None:
        init_asks, _ = asked_names(functions["init"], {"parameter", *hyperparameters}, where)
    if ("state" in update_asks) != (functions["init"] is not None):
        raise DefinitionError(f"{where}: update asks for state exactly where init provides one")
    built.__optimizer__ = OptimizerSpec(
        name=built.__name__,
        hyperparameters=tuple(hyperparameters),
        init=functions["init"],
        update=functions["update"],
        init_asks=init_asks,
        update_asks=update_asks,
    )
    return built  # type: ignore[no-any-return]


def optimizer_spec(optimizer: Any) -> OptimizerSpec:
    """Return what the core knows about an optimizer, class or instance.

    Raises
    ------
    DefinitionError
        If it is no optimizer.
    """
    spec = getattr(optimizer, "__optimizer__", None)
    if not isinstance(spec, OptimizerSpec):
        raise DefinitionError(f"{optimizer!r} is no optimizer: its class lacks @optimizer")
    return spec
