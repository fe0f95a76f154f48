"""``fit``: train a graph's parameters on data, epoch by epoch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from os import PathLike
from typing import Any

import numpy as np

from mfcore import Array, Engine, Graph, Input, Node, Session
from mfcore.errors import DefinitionError, DivergenceWarning, type_name
from mfcore.optimizer import optimizer_spec
from mfcore.random_states import random_state
from mfcore.trace import traced
from mfoptim.batches import Batches, Sampling, checked_data, not_finite, split
from mfoptim.callbacks import Callbacks
from mfoptim.checkpoint import Checkpoint, Keeper, Resumed, newest
from mfoptim.errors import CheckpointError, FitError
from mfoptim.fingerprint import described, of_data, of_graph, of_optimizer, of_versions
from mfoptim.history import History, Stopped
from mfoptim.progress import Progress
from mfoptim.saved_training import set_random_state
from mfoptim.training import Training

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
    checkpoint: Checkpoint | None = None,
    resume: str | PathLike[str] | None = None,
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
    checkpoint : Checkpoint, optional
        Where checkpoints go, and when they are written. One that cannot be written is a
        warning, and training goes on.
    resume : path, optional
        A checkpoint to go on from, or a folder of such, of which the newest that is whole is
        taken. Everything else must be given as it was; then the result is the same to the
        bit as that of a training without a break. Where the folder is also that of
        ``checkpoint`` and holds none yet, training starts anew.

    Returns
    -------
    History
        The losses, why training stopped, and the trained session. Ctrl-C ends training
        and returns the history so far; with ``checkpoint`` it writes one first.

    Raises
    ------
    DataError
        If the data do not fit the graph or the sizes asked for.
    FitError
        If another argument is unusable.
    CheckpointError
        If there is nothing to go on from, it cannot be read, or belongs to another training:
        the error names what differs. Also if training starts anew in a folder that holds
        checkpoints.

    Warns
    -----
    CheckpointWarning
        If the newest checkpoint is damaged; an older one is taken. If the versions are others
        than those of the checkpoint. If a checkpoint cannot be written.
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
    _check_checkpoint(checkpoint, resume)
    seed_described = "" if checkpoint is None and resume is None else described(seed)
    resumed = None if resume is None else newest(resume, checkpoint)
    with traced(tracers), Progress(epochs) if progress else nullcontext() as bar:
        graph, node = _graph_and_cost(cost, session)
        called = Callbacks(callbacks)
        if bar is not None:
            called = Callbacks((*called.all, bar))
        arrays = checked_data(graph, data)
        problems = _problems(graph, arrays, "")
        finite_data = not problems
        split_rng, rows_rng, session_rng = _random_streams(seed)
        if resumed is not None:  # where no seed was given, the same rows are held out again
            set_random_state(resumed.path, split_rng, resumed.saved.streams.get("split"))
        split_state = random_state(split_rng)
        whole = arrays
        arrays, held_out = _held_out(graph, whole, validation_split, validation_data, split_rng)
        if held_out is not None and validation_data is not None:
            problems += _problems(graph, held_out, "validation ")
        batches = _batches(graph, arrays, batch_size, sampling)
        validation = None if held_out is None else Batches(held_out, batches.size)
        called.check_monitors(
            ("loss", "seconds") if validation is None else ("loss", "validation_loss", "seconds"),
            checkpoint,
        )
        session = _session(graph, engine, session_rng, session)
        problems += _problems_of_parameters(session)
        fingerprint, versions = {}, {}
        if checkpoint is not None or resumed is not None:
            fingerprint = {
                "engine": session.engine.name,
                "batch size": str(batches.size),
                "sampling": sampling,
                "seed": seed_described,
                "validation split": str(validation_split),
                **of_data(graph, whole, "data"),
                **of_data(graph, held_out or {}, "validation data"),
                **of_optimizer(optimizer),
                **of_graph(graph, node),
            }
            versions = of_versions(graph, optimizer, session.engine)
        training = Training(
            session=session,
            cost=node,
            optimizer=optimizer,
            batches=batches,
            validation=validation,
            callbacks=called,
            rng=rows_rng,
            finite_data=finite_data,
            planned=epochs * batches.steps,
            problems=problems,
            split_state=split_state,
            fingerprint=fingerprint,
            versions=versions,
        )
        _keep_and_go_on(training, checkpoint, resumed, epochs)
        stopped = training.run(epochs, resumed)
        history = _history(training, stopped)
        called.fire("on_train_finish", session, history)
    if stopped.reason == "diverged":
        warnings.warn(stopped.message, DivergenceWarning, stacklevel=2)
    return history


def _history(training: Training, stopped: Stopped) -> History:
    epochs = training.epochs
    return History(
        session=training.session,
        loss=[epoch["loss"] for epoch in epochs],
        validation_loss=[epoch["validation_loss"] for epoch in epochs if training.validation],
        seconds=[epoch["seconds"] for epoch in epochs],
        steps=training.steps,
        stopped=stopped,
        problems=[*training.problems, *training.unwritten()],
    )


def _keep_and_go_on(
    training: Training, checkpoint: Checkpoint | None, resumed: Resumed | None, epochs: int
) -> None:
    """Let a training write checkpoints, and take over the one that it goes on from."""
    if resumed is not None:
        resumed.saved.check(resumed.path, training.fingerprint, training.versions)
        if resumed.saved.epoch > epochs:
            raise CheckpointError(
                f"{resumed.path} was written after epoch {resumed.saved.epoch}, and only "
                f"epochs={epochs} are asked for"
            )
    if checkpoint is not None:
        training.keeper = Keeper(checkpoint, None if resumed is None else resumed.saved)
    if resumed is not None:
        training.go_on(resumed.path, resumed.saved)


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


def _check_checkpoint(checkpoint: Any, resume: Any) -> None:
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        raise FitError(
            f"checkpoint must be a Checkpoint, such as Checkpoint({str(checkpoint)!r}, every=10), "
            f"not {type_name(checkpoint)}"
        )
    if resume is not None and not isinstance(resume, (str, PathLike)):
        raise FitError(f"resume must be a checkpoint or a folder, not {type_name(resume)}")


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


def _problems_of_parameters(session: Session) -> list[str]:
    return [
        f"parameter {session.graph.name(node)} holds NaN or inf at the start"
        for node in session.graph.parameters
        if not np.isfinite(session[node]).all()
    ]


def _held_out(
    graph: Graph,
    arrays: dict[Input, Array],
    share: float,
    given: Mapping[Any, Any] | None,
    rng: np.random.Generator,
) -> tuple[dict[Input, Array], dict[Input, Array] | None]:
    """Return the rows to train on, and those to validate with: given, drawn, or none."""
    if given is not None:
        if share:
            raise FitError("give either validation_split or validation_data, not both")
        return arrays, checked_data(graph, given, "validation_data")
    return split(arrays, share, rng) if share else (arrays, None)


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
