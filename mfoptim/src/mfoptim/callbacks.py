"""Callbacks: objects that ``fit`` tells how training goes, and that can stop it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Literal

import attrs
import numpy as np

from mfcore import Array, Parameter, Session
from mfcore.errors import MiniFlowError, type_name
from mfoptim.errors import FitError
from mfoptim.hyperparameter import count_from, not_negative, one_of, plain_number

if TYPE_CHECKING:
    from mfoptim.history import History

EVENTS = ("on_train_start", "on_step_finish", "on_epoch_finish", "on_train_finish")


class StopTraining(MiniFlowError):
    """Raised by a callback to end training in good order.

    Parameters
    ----------
    message : str, optional
        Why; it becomes ``history.stopped.message``.
    reason : str, optional
        Becomes ``history.stopped.reason``.
    """

    def __init__(
        self, message: str = "", *, reason: Literal["callback", "early stopping"] = "callback"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


class Callback:
    """What a callback may implement. Deriving from it is optional: any of the methods will do.

    For each event the callbacks are called in the order in which they were given, and all
    of them are, even if one asks to stop. Their own exceptions reach the caller of ``fit``.

    One that remembers what decides how training goes also has ``checkpoint_state(session)``,
    which returns it (numbers, strings, arrays, and lists, tuples and dicts of such), and
    ``restore_state(session, state)``, called after ``on_train_start`` where ``fit`` goes on
    from a checkpoint.
    """

    def on_train_start(self, session: Session) -> None:
        """Fires once, when all arguments of ``fit`` were checked."""

    def on_step_finish(self, session: Session, step: int, loss: float) -> None:
        """Fires after each step; ``step`` counts the session's steps, from 1."""

    def on_epoch_finish(
        self, session: Session, epoch: int, logs: Mapping[str, float]
    ) -> bool | None:
        """Fires after each epoch, counted from 1; returning ``True`` stops training.

        ``logs`` holds ``loss``, ``seconds`` and, with validation data, ``validation_loss``.
        """

    def on_train_finish(self, session: Session, history: History) -> None:
        """Fires once, when training ended for whatever reason that ``history.stopped`` names."""


class Callbacks:
    """The callbacks of one training, by event."""

    def __init__(self, callbacks: Iterable[object]) -> None:
        if not isinstance(callbacks, Iterable) or isinstance(callbacks, (str, Mapping)):
            raise FitError(f"callbacks must be a list of callbacks, not {type_name(callbacks)}")
        self.all = tuple(callbacks)
        for callback in self.all:
            if isinstance(callback, type):
                raise FitError(
                    f"the callback {callback.__name__} is a class; give an instance of it, "
                    f"{callback.__name__}()"
                )
            if not any(callable(getattr(callback, event, None)) for event in EVENTS):
                raise FitError(
                    f"{type_name(callback)} is no callback: it has none of the methods "
                    f"{', '.join(EVENTS)}"
                )
        self._methods = {event: self._implementing(event) for event in EVENTS}

    def check_monitors(self, measured: Iterable[str], *others: object) -> None:
        """Check that what callbacks, and others, say they ``monitor`` will be measured.

        Raises
        ------
        FitError
            If one of them would wait in vain.
        """
        names = tuple(measured)
        for callback in (*self.all, *others):
            monitor = getattr(callback, "monitor", None)
            if isinstance(monitor, str) and monitor not in names:
                raise FitError(
                    f"{type(callback).__name__} monitors {monitor!r}, but only "
                    f"{', '.join(names)} will be measured; give validation_split= or "
                    f"validation_data="
                )

    def listening(self, event: str) -> bool:
        """Whether any callback implements the event."""
        return bool(self._methods[event])

    def fire(self, event: str, *arguments: Any) -> StopTraining | None:
        """Call one method of all callbacks; return the first wish to stop."""
        stop = None
        for method in self._methods[event]:
            try:
                asked = method(*arguments)
            except StopTraining as wish:
                stop = stop or wish
            else:
                if event == "on_epoch_finish" and isinstance(asked, (bool, np.bool_)) and asked:
                    owner = getattr(method, "__self__", method)
                    stop = stop or StopTraining(f"{type(owner).__name__} asked to stop")
        return stop

    def _implementing(self, event: str) -> list[Callable[..., Any]]:
        methods = [getattr(callback, event, None) for callback in self.all]
        inherited = getattr(Callback, event)
        return [m for m in methods if m and getattr(m, "__func__", None) is not inherited]


@attrs.define(eq=False)
class EarlyStopping(Callback):
    """Stop when a loss has not improved for some epochs.

    Parameters
    ----------
    patience : int, optional
        Training stops after this many epochs in a row without improvement.
    min_delta : float, optional
        An improvement is a loss below the best so far by more than this.
    monitor : {"loss", "validation_loss"}, optional
        What is watched.
    restore_best : bool, optional
        Whether the session gets the parameters of the best epoch when training ends, for
        whatever reason it does.

    Attributes
    ----------
    best : float
        The best loss.
    best_epoch : int
        Its epoch, 0 before the first.

    Raises
    ------
    HyperparameterError
        If a value is out of its range.
    """

    patience: int = attrs.field(default=10, converter=plain_number, validator=count_from(1))
    min_delta: float = attrs.field(default=0.0, converter=plain_number, validator=not_negative)
    monitor: str = attrs.field(default="loss", validator=one_of("loss", "validation_loss"))
    restore_best: bool = True
    best: float = attrs.field(default=inf, init=False)
    best_epoch: int = attrs.field(default=0, init=False)
    _parameters: dict[Parameter, Array] = attrs.field(factory=dict, init=False, repr=False)

    def on_train_start(self, session: Session) -> None:  # noqa: ARG002 - the protocol's
        """Forget an earlier training."""
        self.best, self.best_epoch, self._parameters = inf, 0, {}

    def on_epoch_finish(
        self, session: Session, epoch: int, logs: Mapping[str, float]
    ) -> bool | None:
        """Compare the epoch with the best one.

        Raises
        ------
        StopTraining
            If patience is at its end.
        """
        loss = logs[self.monitor]
        if loss < self.best - self.min_delta:
            self.best, self.best_epoch = loss, epoch
            if self.restore_best:
                self._parameters = session.parameters
        elif epoch - self.best_epoch >= self.patience:
            raise StopTraining(
                f"Stopped early after epoch {epoch}: {self.monitor} has not improved on "
                f"{self.best:.6g}, that of epoch {self.best_epoch}, for {self.patience} epochs.",
                reason="early stopping",
            )
        return None

    def checkpoint_state(self, session: Session) -> dict[str, Any]:
        """Return the best epoch, for a checkpoint."""
        name = session.graph.name
        parameters = {name(node): value for node, value in self._parameters.items()}
        return {"best": self.best, "best_epoch": self.best_epoch, "parameters": parameters}

    def restore_state(self, session: Session, state: Any) -> None:
        """Go on from what ``checkpoint_state`` returned.

        Raises
        ------
        FitError
            If it is not the state of such a callback on this graph.
        """
        if type(state["best"]) is not float or type(state["best_epoch"]) is not int:
            raise FitError("the best epoch is missing")
        parameters = {}
        for node, now in session.parameters.items() if state["parameters"] else ():
            value = state["parameters"][session.graph.name(node)]
            if value.shape != now.shape or value.dtype != now.dtype:
                raise FitError(f"{session.graph.name(node)} is another parameter")
            parameters[node] = value
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self._parameters = parameters

    def on_train_finish(self, session: Session, history: History) -> None:  # noqa: ARG002
        """Restore the parameters of the best epoch."""
        for parameter, value in self._parameters.items():
            session[parameter] = value
        self._parameters = {}
