"""Checkpoints: what ``fit`` writes on its way, and how a later call goes on from there."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from errno import EACCES
from math import inf
from os import PathLike
from pathlib import Path
from time import monotonic
from typing import Any

import attrs
import numpy as np

from mfcore import Session
from mfcore.atomic_file import remove_abandoned
from mfcore.errors import MiniFlowError, type_name
from mfoptim.errors import CheckpointError, CheckpointWarning, HyperparameterError
from mfoptim.hyperparameter import count_from, not_negative, one_of, plain_number
from mfoptim.saved_training import SavedTraining, read_checkpoint

_NAME = re.compile(r"epoch-(\d{6,})\.checkpoint")


def _optional(validator: Any) -> Any:
    return attrs.validators.optional(validator)


@attrs.frozen
class Checkpoint:
    """When ``fit`` writes checkpoints, where, and which of them are kept.

    A checkpoint is written after an epoch; the last epoch of a training always gets one, and so
    does the last one that was finished before Ctrl-C. Each is one file, written so that it is
    there whole or not at all. One that cannot be written, as on a full disk, is a warning.

    Parameters
    ----------
    folder : path
        Where they go; made if it is not there. A folder belongs to one training.
    every : int, optional
        Write one after each so many epochs; by default after each epoch, or with
        ``minutes`` only by the clock.
    minutes : float, optional
        Also write one after the first epoch that ends so many minutes after the last one.
    keep_best : int, optional
        Beside the latest, the checkpoints of so many epochs are kept: the best of those
        that were written.
    monitor : {"loss", "validation_loss"}, optional
        What the best are the lowest in.

    Raises
    ------
    HyperparameterError
        If a value is out of its range.
    """

    folder: Path = attrs.field(converter=Path)
    every: int | None = attrs.field(
        default=None, kw_only=True, converter=plain_number, validator=_optional(count_from(1))
    )
    minutes: float | None = attrs.field(
        default=None,
        kw_only=True,
        converter=plain_number,
        validator=_optional(not_negative),
    )
    keep_best: int = attrs.field(
        default=3, kw_only=True, converter=plain_number, validator=count_from(0)
    )
    monitor: str = attrs.field(
        default="loss", kw_only=True, validator=one_of("loss", "validation_loss")
    )

    @folder.validator
    def _is_folder(self, _attribute: Any, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise HyperparameterError(f"Checkpoint: {folder} is a file; give a folder")

    def files(self) -> list[Path]:
        """Return the checkpoints in the folder, by epoch."""
        return checkpoints_in(self.folder)

    def best(self) -> Path:
        """Return the checkpoint with the lowest ``monitor``; damaged ones are passed over.

        Raises
        ------
        CheckpointError
            If there is none that can be read.
        """
        measured = _measured(self.files(), self.monitor)
        if not measured:
            raise CheckpointError(f"no checkpoint in {self.folder} can be read")
        return min(measured, key=lambda path: measured[path])

    def is_due(self, epoch: int, written: float) -> bool:
        """Whether one is to be written after an epoch, the last one having been at a time."""
        every = 1 if self.every is None and self.minutes is None else self.every
        if every is not None and epoch % every == 0:
            return True
        return self.minutes is not None and monotonic() - written >= 60 * self.minutes


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, by epoch."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=_epoch_of)


def newest(resume: str | PathLike[str], checkpoint: Checkpoint | None) -> Resumed | None:
    """Return the file to go on from; of a folder the newest that is whole.

    Parameters
    ----------
    resume : path
        A checkpoint, or a folder of such.
    checkpoint : Checkpoint or None
        In its folder there may be nothing yet: then the result is ``None``.

    Raises
    ------
    CheckpointError
        If there is none, or none can be read.

    Warns
    -----
    CheckpointWarning
        If newer ones are damaged.
    """
    path = Path(resume)
    if path.is_file():
        return Resumed(path, read_checkpoint(path))
    files = checkpoints_in(path)
    if not files:
        if checkpoint is not None and path.absolute() == checkpoint.folder.absolute():
            return None
        raise CheckpointError(f"there is no checkpoint in {path}")
    damaged = []
    for file in reversed(files):
        try:
            saved = read_checkpoint(file)
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        if damaged:
            said = "; ".join(damaged)
            warnings.warn(f"{said}; going on from {file}", CheckpointWarning, stacklevel=3)
        return Resumed(file, saved)
    raise CheckpointError(f"no checkpoint in {path} can be read: {'; '.join(damaged)}")


@attrs.frozen
class Resumed:
    """A checkpoint, and where it was found."""

    path: Path
    saved: SavedTraining


class Keeper:
    """Writes the checkpoints of one training, and removes those that are not to be kept.

    Parameters
    ----------
    checkpoint : Checkpoint
        What was asked for.
    resumed : SavedTraining or None
        Where training goes on from.

    Raises
    ------
    CheckpointError
        If training starts anew and the folder holds checkpoints, or is unusable.
    """

    def __init__(self, checkpoint: Checkpoint, resumed: SavedTraining | None) -> None:
        self.checkpoint = checkpoint
        folder = checkpoint.folder
        files = checkpoints_in(folder)
        if resumed is None and files:
            raise CheckpointError(
                f"{folder} holds the checkpoints of a training: go on with it, "
                f"resume={str(folder)!r}, or choose another folder"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(EACCES, "nothing can be written there", str(folder))
        except OSError as error:
            raise CheckpointError(f"checkpoints cannot go to {folder}: {error}") from error
        remove_abandoned(folder, "epoch-")
        epoch = 0 if resumed is None else resumed.epoch
        # Those after the epoch that training goes on from are written again.
        older = [path for path in files if _epoch_of(path) <= epoch]
        self._measured = _measured(older, checkpoint.monitor)
        self._written = monotonic()
        self._unwritten: SavedTraining | None = None
        self._failure = ""
        self.last_epoch = epoch if any(_epoch_of(path) == epoch for path in older) else 0

    def take(self, saved: SavedTraining, last: bool) -> None:
        """Take what there is to keep after an epoch, and write it if it is due.

        Parameters
        ----------
        saved : SavedTraining
            All that training depends on; nothing of it changes later.
        last : bool
            Whether it is the last one of all, which is always written.

        Warns
        -----
        CheckpointWarning
            If it cannot be written where it should.
        """
        if saved.epoch == self.last_epoch:
            return
        self._unwritten = saved
        if last or self.checkpoint.is_due(saved.epoch, self._written):
            self._write(saved, last)

    def finish(self) -> None:
        """Write the last one that was taken, unless it was written: nothing comes after it."""
        if self._unwritten is not None:
            self._write(self._unwritten, last=True)

    def problems(self) -> list[str]:
        """Say of the last one that it was not written, for the history."""
        return [self._failure] if self._failure else []

    def _write(self, saved: SavedTraining, last: bool) -> None:
        """Write one; then remove those that are neither the latest nor among the best."""
        path = self.checkpoint.folder / f"epoch-{saved.epoch:06}.checkpoint"
        try:
            saved.write(path)
        except OSError as error:
            self._tell_of(saved.epoch, error, last)
            return
        self._unwritten, self._failure = None, ""
        self._written = monotonic()
        self.last_epoch = saved.epoch
        monitored = saved.epochs[saved.epoch - 1][self.checkpoint.monitor]
        self._measured[path] = _comparable(monitored)
        ranked = sorted(self._measured, key=lambda other: self._measured[other])
        for other in ranked[self.checkpoint.keep_best :]:
            if other != path:
                with suppress(OSError):  # one too many does no harm
                    other.unlink()
                del self._measured[other]

    def _tell_of(self, epoch: int, error: OSError, last: bool) -> None:
        """Warn that one was not written: of several in a row of the first, and of the last."""
        told = bool(self._failure)
        newest = f"the newest is of epoch {self.last_epoch}" if self.last_epoch else "there is none"
        self._failure = (
            f"the checkpoint after epoch {epoch} cannot be written to {self.checkpoint.folder} "
            f"({error.strerror or error}); {newest}"
        )
        if last or not told:
            goes_on = "" if last else ". Training goes on, and tries again with the next one"
            warnings.warn(self._failure + goes_on, CheckpointWarning, stacklevel=7)


# Files


def _epoch_of(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    return 0 if found is None else int(found[1])


def _comparable(value: float) -> float:
    return inf if np.isnan(value) else value


def _measured(files: Sequence[Path], monitor: str) -> dict[Path, float]:
    found = {}
    for path in files:
        with suppress(CheckpointError):
            epochs = read_checkpoint(path).epochs
            if epochs and monitor in epochs[-1]:
                found[path] = _comparable(epochs[-1][monitor])
    return found


# Callbacks


def callback_states(callbacks: Sequence[object], session: Session) -> list[tuple[str, Any]]:
    """Return class and state of each callback that has any, as a copy."""
    return [
        (_class_of(callback), deepcopy(callback.checkpoint_state(session)))  # type: ignore[attr-defined]
        for callback in _stateful(callbacks)
    ]


def restore_callbacks(
    path: Path, callbacks: Sequence[object], session: Session, states: list[tuple[str, Any]]
) -> None:
    """Give callbacks the state that they had.

    Raises
    ------
    CheckpointError
        If they are not the callbacks of the checkpoint.
    """
    stateful = _stateful(callbacks)
    now, then = [_class_of(callback) for callback in stateful], [name for name, _ in states]
    if now != then:
        raise CheckpointError(
            f"{path} holds the state of the callbacks {', '.join(then) or 'none'}, but those "
            f"given are {', '.join(now) or 'none'}"
        )
    for callback, (name, state) in zip(stateful, states, strict=True):
        try:
            callback.restore_state(session, state)  # type: ignore[attr-defined]
        except (MiniFlowError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"{path} holds a state that {name} cannot use: {type_name(error)}: {error}"
            ) from error


def _stateful(callbacks: Sequence[object]) -> list[object]:
    return [callback for callback in callbacks if hasattr(callback, "checkpoint_state")]


def _class_of(callback: object) -> str:
    return f"{type(callback).__module__}.{type(callback).__qualname__}"
