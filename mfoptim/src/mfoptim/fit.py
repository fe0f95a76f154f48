"""``fit``: train a graph's parameters on data, epoch by epoch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from math import isfinite
from time import perf_counter
from typing import Any

import attrs
import numpy as np

from mfcore import Array, Engine, Graph, Input, Node, Parameter, Session
from mfcore.errors import DefinitionError, DivergenceWarning, type_name
from mfcore.optimizer import optimizer_spec
from mfcore.registry import observers
from mfcore.trace import traced
from mfoptim.batches import Batches, Sampling, checked_data, not_finite, split
from mfoptim.callbacks import Callbacks, StopTraining
from mfoptim.errors import FitError
from mfoptim.history import History, Stopped
from mfoptim.progress import Progress

SAMPLINGS = ("shuffle", "resample")


def fit(
    cost: Node | Graph,
    data: Mapping[Any, Any],
    optimizer: Any,
    *,
    epochs: int = 10,
    batch_size: int | None = None,
    sampling: Sampling = "shuffle",
    seed: int | np.random.Generator | None = None,
    engine: str | Engine | None = None,
    callbacks: Iterable[object] = (),
    validation_split: float = 0.0,
    validation_data: Mapping[Any, Any] | None = None,
    session: Session | None = None,
    tracers: Iterable[str | object] = (),
    progress: bool = False,
) -> History:
    """Train the parameters that a cost depends on, so that it becomes small.

    Everything is checked before the first step. The same seed on the same machine and
    engine gives the same bits.

    Parameters
    ----------
    cost : Node or Graph
        A scalar node, or a graph with that one output.
    data : mapping
        For every input, by node or by name, an array ``(n, ...)``: one row an example.
    optimizer : optimizer
        Such as ``SGD(learning_rate=0.01)``.
    epochs : int, optional
        How often to go through the data.
    batch_size : int, optional
        Rows of a step; by default 32, or all rows where there are fewer.
    sampling : {"shuffle", "resample"}, optional
        ``"shuffle"``: every row once an epoch, in an order drawn anew, the last batch
        perhaps smaller. ``"resample"``: ``n // batch_size`` steps (at least one), each on
        rows drawn with replacement.
    seed : int or numpy.random.Generator, optional
        Start of all random numbers: held-out rows, order of rows, and, unless ``session``
        is given, those of operations such as ``Dropout``. Three independent streams.
    engine : str or Engine, optional
        By default that of ``session``, or what a ``Session`` runs on by itself.
    callbacks : iterable, optional
        See ``Callback``.
    validation_split : float, optional
        Share of the rows, at least 0 and below 1, drawn at random and held out. For rows
        that depend on their neighbours, such as a series in time, hold out your own with
        ``validation_data``.
    validation_data : mapping, optional
        Rows to validate with, as ``data``.
    session : Session, optional
        Continue to train this session, which keeps its parameters and random state, and its
        optimizer's state where the optimizer is the same object as before.
    tracers : iterable of str or object, optional
        Tracers that listen to all of this: names, perhaps with options
        (``"record:path=run.jsonl"``), or objects.
    progress : bool, optional
        Whether to show a bar: on a terminal if rich is installed, and in notebooks. Elsewhere
        nothing is shown.

    Returns
    -------
    History
        The losses, why training stopped, and the trained session. Ctrl-C ends training
        and returns the history so far.

    Raises
    ------
    DataError
        If the data do not fit the graph or the sizes asked for.
    FitError
        If another argument is unusable.

    Warns
    -----
    DivergenceWarning
        If the data are finite and a step's loss, or a parameter at an epoch's end, is not.
        Training stops and the parameters are set back to those at the start of that epoch.
        Where the data hold NaN or infinities, training goes on as NumPy would and
        ``history.problems`` says where they are.

    Examples
    --------
    >>> import numpy as np
    >>> import mfcore as mf
    >>> from mfops_nn import MSE
    >>> from mfoptim import SGD, fit
    >>> x, y, w = mf.Input("x"), mf.Input("y"), mf.Parameter(0.0, name="w")
    >>> rows = np.arange(8.0)
    >>> history = fit(MSE(y, w * x), {x: rows, y: 3 * rows}, SGD(0.01), epochs=100, seed=0)
    >>> round(float(history.session[w]), 6)
    3.0
    """
    _check_numbers(epochs, batch_size, sampling, validation_split)
    _check_optimizer(optimizer)
    with traced(tracers), Progress(epochs) if progress else nullcontext() as bar:
        graph, node = _graph_and_cost(cost, session)
        called = Callbacks(callbacks)
        if bar is not None:
            called = Callbacks((*called.all, bar))
        arrays = checked_data(graph, data)
        problems = _problems(graph, arrays, "")
        finite_data = not problems
        split_rng, rows_rng, session_rng = _random_streams(seed)
        held_out: dict[Input, Array] | None = None
        if validation_data is not None:
            if validation_split:
                raise FitError("give either validation_split or validation_data, not both")
            held_out = checked_data(graph, validation_data, "validation_data")
            problems += _problems(graph, held_out, "validation ")
        elif validation_split:
            arrays, held_out = split(arrays, validation_split, split_rng)
        batches = _batches(graph, arrays, batch_size, sampling)
        validation = None if held_out is None else Batches(held_out, batches.size)
        called.check_monitors(
            ("loss", "seconds") if validation is None else ("loss", "validation_loss", "seconds")
        )
        session = _session(graph, engine, session_rng, session)
        for parameter in graph.parameters:
            value = np.reshape(session[parameter], (1, -1))
            if not np.isfinite(value).all():
                problems.append(f"parameter {graph.name(parameter)} holds NaN or inf at the start")

        training = _Training(
            session,
            node,
            optimizer,
            batches,
            validation,
            called,
            rows_rng,
            finite_data,
            planned=epochs * batches.steps,
        )
        stopped = training.run(epochs)
        history = History(
            session=session,
            loss=[epoch["loss"] for epoch in training.epochs],
            validation_loss=[epoch["validation_loss"] for epoch in training.epochs if validation],
            seconds=[epoch["seconds"] for epoch in training.epochs],
            steps=training.steps,
            stopped=stopped,
            problems=problems,
        )
        called.fire("on_train_finish", session, history)
    if stopped.reason == "diverged":
        warnings.warn(stopped.message, DivergenceWarning, stacklevel=2)
    return history


# Checks before training


def _check_numbers(epochs: Any, batch_size: Any, sampling: Any, validation_split: Any) -> None:
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if name == "batch_size" and value is None:
            continue
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or value < 1:
            raise FitError(f"{name} must be a whole number of at least 1, not {value!r}")
    if sampling not in SAMPLINGS:
        raise FitError(f"sampling must be 'shuffle' or 'resample', not {sampling!r}")
    real = isinstance(validation_split, (int, float, np.floating))
    if not real or not 0 <= validation_split < 1:
        raise FitError(
            f"validation_split must be a share of at least 0 and below 1, not {validation_split!r}"
        )


def _check_optimizer(optimizer: Any) -> None:
    if isinstance(optimizer, type):
        name = optimizer.__name__
        raise FitError(f"the optimizer {name} is a class; give an instance of it, {name}()")
    try:
        optimizer_spec(optimizer)
    except DefinitionError as error:
        raise FitError(f"{error}; give one such as SGD(learning_rate=0.01)") from None


def _graph_and_cost(cost: Any, session: Session | None) -> tuple[Graph, Node]:
    if not isinstance(cost, (Node, Graph)):
        raise FitError(f"cost must be a node, or a graph with one output, not {type_name(cost)}")
    if isinstance(cost, Graph):
        if len(cost.outputs) != 1:
            names = ", ".join(cost.name(node) for node in cost.outputs)
            raise FitError(
                f"the graph has {len(cost.outputs)} outputs ({names}), and fit makes one cost "
                f"small: give that node instead of the graph, or add the costs up into one"
            )
        node = cost.outputs[0]
    else:
        node = cost
    if session is not None:
        graph = session.graph
        graph.position(node)
    else:
        graph = cost if isinstance(cost, Graph) else Graph(cost)
    if not graph.parameters:
        raise FitError(
            f"{graph.describe(node)} depends on no Parameter, so there is nothing to train"
        )
    return graph, node


def _random_streams(seed: Any) -> list[np.random.Generator]:
    try:
        return np.random.default_rng(seed).spawn(3)
    except (TypeError, ValueError) as error:
        raise FitError(f"seed {seed!r} cannot be used: {error}") from None


def _problems(graph: Graph, arrays: Mapping[Input, Array], prefix: str) -> list[str]:
    return [
        problem
        for node, array in arrays.items()
        for problem in not_finite(prefix + graph.name(node), array)
    ]


def _batches(
    graph: Graph, arrays: dict[Input, Array], batch_size: int | None, sampling: Sampling
) -> Batches:
    rows = len(next(iter(arrays.values())))
    size = min(32, rows) if batch_size is None else int(batch_size)
    if size > rows and sampling == "shuffle":
        raise FitError(
            f"batch_size {size} is larger than the {rows} rows to train on; at most "
            f"batch_size={rows} can be drawn without replacement"
        )
    batches = Batches(arrays, size, sampling)
    batches.check_declared(graph)
    return batches


def _session(
    graph: Graph,
    engine: str | Engine | None,
    rng: np.random.Generator,
    session: Session | None,
) -> Session:
    if session is None:
        return Session(graph, engine=engine, seed=rng)
    wanted = engine.rpartition(".")[2] if isinstance(engine, str) else engine
    if wanted not in (None, session.engine, session.engine.name):
        raise FitError(
            f"the session runs on the engine {session.engine.name!r}, not on {engine!r}: leave "
            f"engine= out, or make a session on that engine"
        )
    return session


# The training itself


@attrs.define(eq=False)
class _Training:
    """One training on its way: what does not change, and the epochs that are done."""

    session: Session
    cost: Node
    optimizer: Any
    batches: Batches
    validation: Batches | None
    callbacks: Callbacks
    rng: np.random.Generator
    finite_data: bool
    planned: int
    epochs: list[dict[str, float]] = attrs.field(factory=list)
    epoch: int = 0
    _before: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._before = self.session.steps

    @property
    def steps(self) -> int:
        return self.session.steps - self._before

    def run(self, epochs: int) -> Stopped:
        try:
            if stop := self.callbacks.fire("on_train_start", self.session):
                return self._stopped_by(stop)
            for self.epoch in range(1, epochs + 1):
                if stopped := self._run_epoch():
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
        return Stopped(
            "interrupted",
            self.epoch,
            f"Interrupted in epoch {self.epoch}, after {self.steps} steps in all; the parameters "
            f"are those after the last of them.",
        )

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
