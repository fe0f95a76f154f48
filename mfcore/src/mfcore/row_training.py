"""Training on rows of data: whole epochs, and steppers for loops of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcore.feeding import checked_rows
from mfcore.node import Array, Node
from mfcore.registry import nobody_listens, unheard_steps

if TYPE_CHECKING:
    from mfcore.engine import Trainer
    from mfcore.session import Session
    from mfcore.training_state import TrainingState


class RowTraining:
    """A session's training steps on batches that are gathered from rows of data.

    Parameters
    ----------
    session : Session
        Whose steps they are.
    state : TrainingState
        Its state.
    arrays : list of array
        For each input of the graph, in order, an array with a row for each example.
    optimizer : optimizer
        What the steps are done with.
    cost : Node or None
        The node to make small, as given to ``Session.step``.
    """

    def __init__(
        self,
        session: Session,
        state: TrainingState,
        arrays: list[Array],
        optimizer: Any,
        cost: Node | None,
    ) -> None:
        self.session = session
        self.state = state
        self.arrays = arrays
        self.optimizer = optimizer
        self.cost = cost
        self.place = session.output_position(cost)
        self.count = min((len(array) for array in arrays), default=0)

    def epoch(self, rows: Any, stop_when_not_finite: bool, planned: int | None) -> Array:
        """Train for one step for each line of ``rows``; return the costs, as ``Session.epoch``."""
        rows = checked_rows(rows, self.count)
        losses: list[float] = []
        compiled = self.session.program.trains
        while len(losses) < len(rows):
            left = rows[len(losses) :]
            unheard = unheard_steps(self.session, len(left)) if compiled else 0
            if unheard:
                done = self._in_the_engine(left[:unheard], stop_when_not_finite, planned)
                if len(done) == len(rows):
                    return done
                losses += done.tolist()
                compiled = len(done) == unheard
            else:
                losses.append(self._step(left[0]))
            if stop_when_not_finite and losses and not np.isfinite(losses[-1]):
                break
        return np.array(losses, dtype=np.float64)

    def stepper(self) -> Callable[[Any], float]:
        """Return a function that trains for one step on rows of the data."""
        session, state = self.session, self.state
        trainer: Trainer | None = None
        quick: Callable[[Any], float | None] | None = None

        def step(rows: Any) -> float:
            nonlocal trainer, quick
            if quick is not None and state.trainer is trainer and nobody_listens(session):
                loss = quick(rows)
                if loss is not None:
                    session.steps += 1
                    return loss
            loss = self._step(checked_rows([rows], self.count)[0])
            if state.trainer is not trainer:
                trainer = state.trainer
                quick = None
                if trainer is not None and state.cost == self.place:
                    quick = trainer.stepper(self.arrays)
            return loss

        return step

    def _in_the_engine(self, rows: Array, stop_when_not_finite: bool, planned: int | None) -> Array:
        """Let the engine train without a return to Python between steps; return the costs."""
        session = self.session
        trainer = self.state.trainer_for(self.optimizer, self.place, session.rng, planned)
        before = trainer.steps
        try:
            return trainer.epoch(self.arrays, rows, stop_when_not_finite)
        finally:  # Ctrl-C ends an epoch between two steps
            session.steps += trainer.steps - before

    def _step(self, rows: Array) -> float:
        batch = [array.take(rows, 0) for array in self.arrays]  # quicker than `np.take`
        feeds = dict(zip(self.session.graph.inputs, batch, strict=True))
        return self.session.step(feeds, self.optimizer, cost=self.cost)
