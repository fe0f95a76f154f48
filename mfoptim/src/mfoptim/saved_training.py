"""What a checkpoint holds: all that a training depends on after an epoch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from mfcore import Array, Session, random_states
from mfcore.errors import MiniFlowError
from mfoptim import checkpoint_file
from mfoptim.errors import CheckpointError, CheckpointWarning
from mfoptim.fingerprint import differences

FORMAT = 2
"""Version of what is in a checkpoint."""


@attrs.frozen(eq=False)
class SavedTraining:
    """What is in a checkpoint: all that training depends on after an epoch.

    Attributes
    ----------
    epoch : int
        The epoch, from 1, after which it was written.
    parameters : dict of str to array
        The parameters by name.
    states : list of tuple
        What the optimizer remembers of each parameter, in the graph's order.
    updates, session_steps, steps : int
        Steps that the optimizer, the session and the training have done.
    streams : dict of str to dict
        The states of the random streams: ``split`` before, ``rows`` and ``session`` after
        the epoch.
    epochs : list of dict
        What was measured in each epoch: ``loss``, ``seconds``, ``validation_loss``. While
        training goes on, perhaps of later epochs too.
    problems : list of str
        As in ``History``.
    stopped : tuple or None
        Reason, epoch and message, if a callback ended the training after this epoch.
    callbacks : list of tuple
        Class and state of each callback that has any.
    fingerprint : dict of str to str
        What was trained, on what and how; what else is trained cannot go on from here.
    versions : dict of str to str
        What it was trained with: the same bits are promised with the same versions only.
    """

    epoch: int
    parameters: dict[str, Array]
    states: list[tuple[Any, ...]]
    updates: int
    session_steps: int
    steps: int
    streams: dict[str, dict[str, Any]]
    epochs: list[dict[str, float]]
    problems: list[str]
    stopped: tuple[str, int, str] | None
    callbacks: list[tuple[str, Any]]
    fingerprint: dict[str, str]
    versions: dict[str, str]

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        names = [field.name for field in attrs.fields(type(self)) if field.name != "epochs"]
        document = {name: getattr(self, name) for name in names}
        # Arrays, because they keep every bit and are short.
        document["epochs"] = {
            name: np.array([epoch[name] for epoch in self.epochs[: self.epoch]])
            for name in (self.epochs[0] if self.epochs else ())
        }
        checkpoint_file.write(path, {"format": FORMAT, **document})

    def check(
        self, path: Path, fingerprint: Mapping[str, str], versions: Mapping[str, str]
    ) -> None:
        """Check that a training is the same one.

        Raises
        ------
        CheckpointError
            If not; it names the differences.

        Warns
        -----
        CheckpointWarning
            If it goes on with other versions.
        """
        if found := differences(self.fingerprint, fingerprint):
            more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
            raise CheckpointError(
                f"{path} was written by another training: {'; '.join(found[:3])}{more}"
            )
        if found := differences(self.versions, versions):
            warnings.warn(
                f"{path} was written with other versions, and the bits may differ from those of "
                f"a training without a break: {'; '.join(found)}",
                CheckpointWarning,
                stacklevel=4,
            )

    def restore(
        self, path: Path, session: Session, optimizer: Any, rows_rng: np.random.Generator
    ) -> None:
        """Give a session the parameters, optimizer state and random states.

        Raises
        ------
        CheckpointError
            If they do not fit.
        """
        try:
            session.restore(
                self.parameters,
                optimizer,
                self.states,
                updates=self.updates,
                steps=self.session_steps,
            )
        except MiniFlowError as error:
            raise CheckpointError(f"{path} does not fit: {error}") from error
        set_random_state(path, rows_rng, self.streams.get("rows"))
        set_random_state(path, session.rng, self.streams.get("session"))


def read_checkpoint(path: str | PathLike[str]) -> SavedTraining:
    """Read a checkpoint, such as the best one: ``read_checkpoint(checkpoint.best())``.

    Parameters
    ----------
    path : path
        A file that ``fit`` wrote. It may come from anywhere: nothing in it is executed.

    Returns
    -------
    SavedTraining
        Among others its ``epoch`` and ``parameters``.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is damaged or no checkpoint.
    """
    path = Path(path)
    document = checkpoint_file.read(path)
    if document.pop("format", None) != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of format {FORMAT}")
    if document.keys() != _CHECKS.keys() or not all(
        holds(document[name]) for name, holds in _CHECKS.items()
    ):
        raise CheckpointError(f"{path} is no checkpoint: it does not hold what one holds")
    columns = document["epochs"]
    if any(len(column) != document["epoch"] for column in columns.values()):
        raise CheckpointError(f"{path} is no checkpoint: epochs are missing")
    document["epochs"] = [
        dict(zip(columns, map(float, row), strict=True))
        for row in zip(*columns.values(), strict=True)
    ]
    return SavedTraining(**document)


# Random states


def set_random_state(path: Path, rng: np.random.Generator, state: Any) -> None:
    """Set a random stream to a state that comes from a file.

    Raises
    ------
    CheckpointError
        If it is none of this kind of stream.
    """
    try:
        random_states.set_random_state(rng, state)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


# Contents


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _by_name(value: Any, *kinds: type) -> bool:
    return isinstance(value, dict) and all(isinstance(item, kinds) for item in value.values())


def _pairs(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in value
    )


def _ending(value: Any) -> bool:
    return value is None or (
        isinstance(value, tuple)
        and len(value) == 3
        and value[0] in ("early stopping", "callback")
        and _count(value[1])
        and isinstance(value[2], str)
    )


def _columns(value: Any) -> bool:
    return (
        _by_name(value, np.ndarray)
        and {"loss", "seconds"} <= value.keys() <= {"loss", "seconds", "validation_loss"}
        and all(column.ndim == 1 and column.dtype == np.float64 for column in value.values())
    )


def _state(value: Any) -> bool:
    numbers = (np.ndarray, np.generic, bool, int, float)
    return isinstance(value, tuple) and all(isinstance(item, numbers) for item in value)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "epoch": _count,
    "parameters": lambda value: _by_name(value, np.ndarray),
    "states": lambda value: isinstance(value, list) and all(map(_state, value)),
    "updates": _count,
    "session_steps": _count,
    "steps": _count,
    "streams": lambda value: _by_name(value, dict),
    "epochs": _columns,
    "problems": lambda value: isinstance(value, list) and all(isinstance(x, str) for x in value),
    "stopped": _ending,
    "callbacks": _pairs,
    "fingerprint": lambda value: _by_name(value, str),
    "versions": lambda value: _by_name(value, str),
}
"""What the entries of a checkpoint are; a file may say anything."""
