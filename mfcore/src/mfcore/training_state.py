"""What training changes: the parameters, and what the optimizer remembers of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcore.errors import ExecutionError, FeedDtypeError, FeedShapeError, NodeUseError, type_name
from mfcore.node import Array
from mfcore.optimizer import OptimizerState, Updates
from mfcore.run import read_only
from mfcore.values import as_array

if TYPE_CHECKING:
    from mfcore.engine import Program, Trainer


class TrainingState:
    """The parameters' present values, and the state of the optimizer that trains them.

    Where an engine trains by itself, a ``Trainer`` owns both and overwrites the values at
    every step; ``settle`` takes them back.

    Parameters
    ----------
    program : Program
        What trains; the values are at first those that its graph's parameters hold.

    Attributes
    ----------
    values : list of array
        In the graph's order; the trainer's own while there is one.
    trainer : Trainer or None
        What trains at present, if the engine does.
    cost : int
        Position of the node that the trainer makes small.
    """

    __slots__ = ("_program", "_updates", "cost", "trainer", "values")

    def __init__(self, program: Program) -> None:
        self._program = program
        self._updates: Updates | None = None
        self.values: list[Array] = [np.array(node.value) for node in program.graph.parameters]
        self.trainer: Trainer | None = None
        self.cost = -1

    # Parameters, by their place among those of the graph

    def __getitem__(self, i: int) -> Array:
        """Return a parameter's value, read-only; no later step changes what is returned."""
        value = self.values[i]
        return read_only(value if self.trainer is None else value.copy())

    def __setitem__(self, i: int, value: Any) -> None:
        """Give a parameter a new value of the same shape; it is copied and cast.

        Raises
        ------
        FeedShapeError, FeedDtypeError
            If the value does not fit the parameter.
        """
        graph, old = self._program.graph, self.values[i]
        node = graph.parameters[i]
        try:
            array = as_array(value, f"the value for {graph.describe(node)}")
        except NodeUseError as error:
            raise FeedDtypeError(str(error)) from None
        if array.shape != old.shape:
            raise FeedShapeError(
                f"{graph.describe(node)} has shape {old.shape}, "
                f"but a value of shape {array.shape} was given"
            )
        if self.trainer is None:
            self.values[i] = array.astype(old.dtype)
        else:
            old[...] = array

    # Training

    def update(self, optimizer: Any, gradients: Sequence[Array | None]) -> None:
        """Let an optimizer do one step, where no trainer does; if it raises, nothing changes."""
        updates = self._updates_of(optimizer)
        self.values = updates.apply(self.values, gradients)
        self._updates = updates

    def trainer_for(
        self, optimizer: Any, cost: int, rng: np.random.Generator, planned: int | None = None
    ) -> Trainer:
        """Return the trainer of an optimizer and a cost: the one at work, or a new one.

        Parameters
        ----------
        optimizer : optimizer
            Whose steps are to be done.
        cost : int
            Position of the node to make small.
        rng : numpy.random.Generator
            For operations that draw.
        planned : int, optional
            How many steps are planned.
        """
        trainer = self.trainer
        if trainer is not None and trainer.optimizer is optimizer and self.cost == cost:
            return trainer
        self.settle()
        trainer = self._program.trainer(
            self._updates_of(optimizer), cost, self.values, rng, planned
        )
        self.trainer, self.cost, self.values = trainer, cost, trainer.values
        return trainer

    def settle(self) -> None:
        """Take values and state back from the trainer, if there is one."""
        if self.trainer is not None:
            self._updates = self.trainer.updates()
            self.values = [value.copy() for value in self.trainer.values]
            self.trainer = None

    def _updates_of(self, optimizer: Any) -> Updates:
        """Return the optimizer with what it remembers, which is nothing if it is another one."""
        if self._updates is None or self._updates.optimizer is not optimizer:
            return Updates(optimizer, self.values)
        return self._updates

    # Saving and going on

    def copied_updates(self) -> Updates | None:
        """Return a copy of what the optimizer remembers; ``None`` before the first step."""
        if self.trainer is not None:
            return self.trainer.updates()
        old = self._updates
        if old is None:
            return None
        return Updates(old.optimizer, self.values, _copied(old.states), old.steps)

    def restore(
        self,
        values: Sequence[Any],
        optimizer: Any,
        states: Sequence[OptimizerState],
        updates: int,
    ) -> None:
        """Replace everything; if something does not fit, nothing changes.

        Parameters
        ----------
        values : sequence of array
            One for each parameter, in the graph's order, of its shape and dtype.
        optimizer : optimizer
            The one that the next steps will be done with.
        states : sequence of tuple
            What it remembers of each parameter.
        updates : int
            How many updates it has done.

        Raises
        ------
        FeedShapeError
            If a value is of another shape or dtype.
        ExecutionError
            If the states do not fit the optimizer.
        """
        graph = self._program.graph
        new = [np.array(value) for value in values]
        for node, array in zip(graph.parameters, new, strict=True):
            if array.shape != node.value.shape or array.dtype != node.value.dtype:
                raise FeedShapeError(
                    f"{graph.describe(node)} is {node.value.dtype} of shape "
                    f"{node.value.shape}, not {array.dtype} of shape {array.shape}"
                )
        fresh = Updates(optimizer, new).states
        if [len(state) for state in states] != [len(state) for state in fresh]:
            raise ExecutionError(f"the states are not those of {type_name(optimizer)}")
        for node, state, first in zip(graph.parameters, states, fresh, strict=True):
            # The code that an engine compiles relies on the sizes.
            if self._program.trains and _kinds(state) != _kinds(first):
                raise ExecutionError(
                    f"the state for {graph.describe(node)} is {_kinds(state)}, where "
                    f"{type_name(optimizer)} has {_kinds(first)}"
                )
        self.trainer = None
        self.values = new
        self._updates = Updates(optimizer, new, _copied(states), updates)


def _copied(states: Sequence[OptimizerState]) -> list[OptimizerState]:
    return [
        tuple([part.copy() if isinstance(part, np.ndarray) else part for part in state])
        for state in states
    ]


def _kinds(state: OptimizerState) -> list[tuple[tuple[int, ...], str]]:
    return [(np.shape(value), str(np.asarray(value).dtype)) for value in state]
