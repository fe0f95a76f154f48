"""The training that ``fit`` starts: its epochs, and every way in which it ends."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import attrs
import numpy as np

from mfcore import Array, Node, Parameter, Session
from mfcore.random_states import random_state
from mfcore.registry import observers
from mfoptim.batches import Batches
from mfoptim.callbacks import Callbacks, StopTraining
from mfoptim.checkpoint import (
    Keeper,
    Resumed,
    callback_states,
    restore_callbacks,
)
from mfoptim.history import Reason, Stopped
from mfoptim.saved_training import SavedTraining


@attrs.define(eq=False)
class Training:
    """One training on its way: what does not change, and the epochs that are done.

    Parameters
    ----------
    split_state : dict
        State of the stream of random numbers that held-out rows were drawn from.
    keeper : Keeper, optional
        Writes checkpoints.
    fingerprint, versions : dict
        What checkpoints say was trained, and with what.
    problems : list of str
        For the history.
    """

    session: Session
    cost: Node
    optimizer: Any
    batches: Batches
    validation: Batches | None
    callbacks: Callbacks
    rng: np.random.Generator
    finite_data: bool
    planned: int
    problems: list[str]
    split_state: dict[str, Any]
    fingerprint: dict[str, str]
    versions: dict[str, str]
    keeper: Keeper | None = None
    epochs: list[dict[str, float]] = attrs.field(factory=list)
    epoch: int = 0
    _before: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._before = self.session.steps

    @property
    def steps(self) -> int:
        """Steps that this training has done."""
        return self.session.steps - self._before

    def go_on(self, path: Path, saved: SavedTraining) -> None:
        """Take over what a checkpoint holds, but for the callbacks' state."""
        saved.restore(path, self.session, self.optimizer, self.rng)
        self.epochs = saved.epochs
        self.epoch = saved.epoch
        self.problems = saved.problems
        self._before = saved.session_steps - saved.steps

    def run(self, epochs: int, resumed: Resumed | None = None) -> Stopped:
        """Train until the last epoch, or until something ends it."""
        try:
            stop = self.callbacks.fire("on_train_start", self.session)
            if resumed is not None:
                states = resumed.saved.callbacks
                restore_callbacks(resumed.path, self.callbacks.all, self.session, states)
                if resumed.saved.stopped is not None:
                    reason, epoch, message = resumed.saved.stopped
                    return Stopped(cast(Reason, reason), epoch, message)
            if stop:
                return self._stopped_by(stop)
            first = self.epoch + 1
            for self.epoch in range(first, epochs + 1):
                stopped = self._run_epoch()
                self._keep(stopped, last=self.epoch == epochs)
                if stopped:
                    return stopped
        except KeyboardInterrupt:
            return self._interrupted()
        plural = "" if epochs == 1 else "s"
        return Stopped("finished", epochs, f"Finished after {epochs} epoch{plural}.")

    def _run_epoch(self) -> Stopped | None:
        listening = observers("training", None, self.session)
        if listening:
            listening.fire("mf_epoch_start", session=self.session, epoch=self.epoch)
        before = self.session.parameters if self.finite_data else {}
        # A loss or a parameter that overflows is reported once, as divergence or as a
        # problem of the data. Who asked NumPy to raise or to call back still gets that.
        quiet: dict[str, Any] = {
            kind: "ignore" for kind in ("over", "invalid") if np.geterr()[kind] == "warn"
        }
        with np.errstate(**quiet):
            started = perf_counter()
            loss, stopped = self._run_steps(before)
            seconds = perf_counter() - started
            if stopped:
                return stopped
            logs = {"loss": loss, "seconds": seconds}
            if self.validation is not None:
                logs["validation_loss"] = self._validation_loss(self.validation)
        # One append for all of them: an interrupt finds lists of equal length.
        self.epochs.append(logs)
        if listening:
            listening.fire("mf_epoch_finish", session=self.session, epoch=self.epoch, logs=logs)
        stop = self.callbacks.fire("on_epoch_finish", self.session, self.epoch, logs.copy())
        return self._stopped_by(stop) if stop else None

    def unwritten(self) -> list[str]:
        """Say of the last checkpoint that it could not be written, for the history."""
        return [] if self.keeper is None else self.keeper.problems()

    def _keep(self, stopped: Stopped | None, last: bool) -> None:
        """Keep what a checkpoint holds, if the epoch was finished, and write it if one is due."""
        keeper, session = self.keeper, self.session
        if keeper is None:
            return
        if len(self.epochs) < self.epoch:  # it ended within the epoch: the one before is the last
            keeper.finish()
            return
        updates = session.optimizer_state()
        assert updates is not None
        name = session.graph.name
        ending = None if stopped is None else (stopped.reason, stopped.epoch, stopped.message)
        saved = SavedTraining(
            epoch=self.epoch,
            parameters={name(node): value for node, value in session.parameters.items()},
            states=updates.states,
            updates=updates.steps,
            session_steps=session.steps,
            steps=self.steps,
            streams={
                "split": self.split_state,
                "rows": random_state(self.rng),
                "session": random_state(session.rng),
            },
            epochs=self.epochs,
            problems=self.problems,
            stopped=ending,
            callbacks=callback_states(self.callbacks.all, session),
            fingerprint=self.fingerprint,
            versions=self.versions,
        )
        keeper.take(saved, last or stopped is not None)

    def _run_steps(self, before: Mapping[Parameter, Array]) -> tuple[float, Stopped | None]:
        session, optimizer, cost = self.session, self.optimizer, self.cost
        watched, told = self.finite_data, self.callbacks.listening("on_step_finish")
        if session.program.trains and not told:
            return self._run_whole(before)
        total, rows, last = 0.0, 0, None
        for feeds, count in self.batches.epoch(self.rng):
            loss = session.step(feeds, optimizer, cost=cost)
            if watched and not isfinite(loss):
                return loss, self._diverged(f"the loss became {loss}", last, before)
            last = loss
            total += loss * count
            rows += count
            if told and (
                stop := self.callbacks.fire("on_step_finish", session, session.steps, loss)
            ):
                return loss, self._stopped_by(stop)
        return self._checked(total / rows, last, before)

    def _run_whole(self, before: Mapping[Parameter, Array]) -> tuple[float, Stopped | None]:
        """Run an epoch's steps in the engine, without a return between them."""
        total, rows, last = 0.0, 0, None
        for part in self.batches.epoch_rows(self.rng):
            losses = self.session.epoch(
                self.batches.arrays,
                self.optimizer,
                part,
                cost=self.cost,
                stop_when_not_finite=self.finite_data,
                planned=self.planned,
            )
            if self.finite_data and not isfinite(losses[-1]):
                last = float(losses[-2]) if len(losses) > 1 else last
                what = f"the loss became {float(losses[-1])}"
                return float(losses[-1]), self._diverged(what, last, before)
            last = float(losses[-1])
            total += float(losses.sum()) * part.shape[1]
            rows += part.size
        return self._checked(total / rows, last, before)

    def _checked(
        self, loss: float, last: float | None, before: Mapping[Parameter, Array]
    ) -> tuple[float, Stopped | None]:
        for parameter in before:
            if not np.isfinite(self.session[parameter]).all():
                name = self.session.graph.name(parameter)
                return 0.0, self._diverged(f"{name} is no longer finite", last, before)
        return loss, None

    def _validation_loss(self, validation: Batches) -> float:
        total = 0.0
        for feeds, count in validation.in_order():
            total += float(self.session.run(feeds)[self.cost].item()) * count
        return total / validation.rows

    # How it ends

    def _stopped_by(self, stop: StopTraining) -> Stopped:
        message = stop.message or "A callback asked to stop"
        if stop.reason == "callback":
            message = f"{message.rstrip('.')} (epoch {self.epoch}, {self.steps} steps done)."
        return Stopped(stop.reason, self.epoch, message)

    def _interrupted(self) -> Stopped:
        message = (
            f"Interrupted in epoch {self.epoch}, after {self.steps} steps in all; the parameters "
            f"are those after the last of them."
        )
        if self.keeper is not None:
            with suppress(KeyboardInterrupt):  # a second Ctrl-C does not lose the history
                self.keeper.finish()
            newest = self.keeper.last_epoch
            message += (
                f" The newest checkpoint is of epoch {newest}."
                if newest
                else " There is no checkpoint, because no epoch was finished."
            )
        return Stopped("interrupted", self.epoch, message)

    def _diverged(
        self, what: str, last: float | None, before: Mapping[Parameter, Array]
    ) -> Stopped:
        if last is None and self.epochs:
            last = self.epochs[-1]["loss"]
        for parameter, value in before.items():
            self.session[parameter] = value
        finite = (
            "no step had a finite loss" if last is None else f"the last finite loss was {last:.6g}"
        )
        return Stopped(
            "diverged",
            self.epoch,
            f"Training diverged in epoch {self.epoch} (step {self.steps}): {what}; {finite}. The "
            f"parameters are those at the start of this epoch. Try a smaller learning rate, or "
            f"standardise the data.",
        )
