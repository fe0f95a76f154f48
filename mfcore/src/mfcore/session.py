"""A session: a graph on an engine, with everything that changes from run to run."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcore.engine import (
    Compiled,
    Engine,
    EngineName,
    Memory,
    Program,
    find_engine,
)
from mfcore.errors import (
    GradientError,
    MissingFeedError,
    ObservedEngineWarning,
    UnknownNodeError,
    listed,
)
from mfcore.feeding import Feeding, Feeds, example_of
from mfcore.graph import Graph, replay_sort
from mfcore.node import Array, Node, Parameter
from mfcore.optimizer import OptimizerState, Updates
from mfcore.plugins import Observers, close_all
from mfcore.registry import nobody_listens, observers, unheard_steps
from mfcore.row_training import RowTraining
from mfcore.run import Run, gradient_of_itself
from mfcore.training_state import TrainingState

if TYPE_CHECKING:
    from mfcore.plugins import Observer


class Session:
    """A graph on an engine: parameters, random state and optimizer state live here.

    Two sessions over one graph share nothing and may run in two threads.

    Parameters
    ----------
    graph : Graph, Node or sequence of Node
        What to run: a graph, or the outputs to build one from.
    engine : str or Engine, optional
        An engine's name or an engine; by default ``numpy`` where mfjit is installed, else
        the reference engine of the core.
    seed : int or numpy.random.Generator, optional
        Start of the random numbers that operations such as ``Dropout`` draw.
    checkpoint : bool or iterable of Node, optional
        Trains with less memory: of the forward pass only the values of these nodes are kept
        for the backward pass, which computes the others again; ``True`` chooses the nodes.
        For engines that compile.
    tracers : iterable of str or object, optional
        Tracers that listen to this session: names, perhaps with options
        (``"record:path=run.jsonl"``), or objects. Those given by name are closed by
        ``close``, at the latest when the session is gone.

    Attributes
    ----------
    steps : int
        Training steps done so far.
    running_step : int or None
        The number of the training step that runs, if one does, from 1.

    Raises
    ------
    UnknownNameError
        If no enabled pack provides the engine, or a tracer.
    EngineError
        If the engine cannot do what is asked of it.

    Examples
    --------
    >>> import mfcore as mf
    >>> x, y, z = mf.Input("x"), mf.Input("y"), mf.Input("z")
    >>> f = (x + y) * z
    >>> run = mf.Session(f).run({x: -2, y: 5, z: -4})
    >>> int(run[f]), int(run.gradients[x]), int(run.gradients[z])
    (-12, -4, 3)
    """

    def __init__(
        self,
        graph: Graph | Node | Sequence[Node],
        *,
        engine: str | Engine | None = None,
        seed: int | np.random.Generator | None = None,
        checkpoint: bool | Iterable[Node] = False,
        tracers: Iterable[str | object] = (),
    ) -> None:
        self.observers: tuple[Observer, ...] = ()
        self._finalizer: weakref.finalize[..., Session] | None = None
        if tracers:
            self._let_listen(tracers)
        if not isinstance(graph, Graph):
            graph = Graph(graph) if isinstance(graph, Node) else Graph(*graph)
            self._tell_of_the_sort(graph)
        self.graph = graph
        self.engine = engine if isinstance(engine, Engine) else find_engine(engine)
        self._asked_for_engine = engine is not None
        self.program: Program = self.engine.compile(graph)
        if checkpoint is not False:
            self.program.checkpoint(checkpoint)
        # What changes from run to run:
        self.rng = np.random.default_rng(seed)
        self.steps = 0
        self.running_step: int | None = None
        self._state = TrainingState(self.program)
        # What does not: where in a run's memory the leaves are, and how they are filled in.
        self._slot = {node: i for i, node in enumerate(graph.parameters)}
        self._places = tuple(graph.position(node) for node in graph.parameters)
        self._single = [
            place
            for place, node in zip(self._places, graph.parameters, strict=True)
            if node.value.ndim == 0
        ]
        self._only_output = graph.position(graph.outputs[0]) if len(graph.outputs) == 1 else None
        self._feed_memory = Feeding(graph, [graph.position(node) for node in graph.inputs])
        self._feed_list = Feeding(graph, range(len(graph.inputs)))

    def __repr__(self) -> str:
        return f"<Session on {self.engine.name!r} of {self.graph!r}>"

    def _repr_html_(self) -> str:
        """Return what notebooks show."""
        from mfcore.html import session_html

        return session_html(self)

    @property
    def trains_on(self) -> EngineName:
        """Name of the engine that training steps run on, with the reason for its choice."""
        return self.program.training_name(self.engine)

    # Running

    def run(self, feeds: Feeds | None = None, *, training: bool = False) -> Run:
        """Compute every node of the graph.

        Parameters
        ----------
        feeds : mapping, optional
            A value for every input of the graph, by node or by name.
        training : bool, optional
            Passed to operations that ask for it, such as ``Dropout``.

        Returns
        -------
        Run
            The values, and the gradients on demand.

        Raises
        ------
        FeedError
            If a feed is missing, unknown, or of the wrong shape or dtype.
        ForwardError
            If an operation raises.
        """
        memory = self._memory({} if feeds is None else feeds, training)
        run = Run(self, memory)
        if listening := observers("run", self.running_step, self):
            about = {"session": self, "run": run, "phase": "forward", "graph": self.graph}
            self._say_who_is_observed()
            run.observed = True
            listening.fire("mf_run_start", **about)
            self.program.forward_observed(memory, listening, run)
            listening.fire("mf_run_finish", **about)
        else:
            self.program.forward(memory)
        return run

    def _memory(self, feeds: Feeds, training: bool) -> Memory:
        """Return the memory of a new run, its leaves filled in."""
        memory = self.program.new_memory(self.rng, training)
        self._feed_memory(memory, feeds)
        state = self._state
        kept = state.trainer is None
        for place, value in zip(self._places, state.values, strict=True):
            # A trainer overwrites its values; what a run has shown stays.
            memory[place] = value if kept else value.copy()
        for place in self._single:  # as everywhere in a run, single numbers are NumPy's scalars
            memory[place] = memory[place][()]
        return memory

    def output_position(self, node: Node | None) -> int:
        """Return the position of a node, by default of the graph's only output."""
        if node is not None:
            return self.graph.position(node)
        if self._only_output is None:
            raise GradientError(
                f"the graph has {len(self.graph.outputs)} outputs: say of which one the "
                f"gradient is wanted"
            )
        return self._only_output

    # Training

    def step(self, feeds: Feeds | None, optimizer: Any, *, cost: Node | None = None) -> float:
        """Train for one step: forward, backward, update.

        Parameters
        ----------
        feeds : mapping
            One batch: a value for every input.
        optimizer : optimizer
            An instance of an optimizer class. The session keeps its state from step to step,
            while it is the same object: another one, even an equal one, starts without.
        cost : Node, optional
            The scalar node to make small; by default the graph's only output.

        Returns
        -------
        float
            The cost before the update.

        Raises
        ------
        FeedError
            If a feed is missing, unknown, or of the wrong shape or dtype.
        GradientError
            If no cost is given and the graph has several outputs, or the cost is no scalar.
        ExecutionError
            If an operation or the optimizer's update fails.
        """
        if feeds is None:
            feeds = {}
        # The quick way, for a step like the one before it that nobody listens to.
        state = self._state
        trainer = state.trainer
        if (
            trainer is not None
            and trainer.optimizer is optimizer
            and cost is None
            and state.cost == self._only_output
            and (nobody_listens(self) or unheard_steps(self, 1))
            and (inputs := self._feed_list.alike(feeds)) is not None
            and (again := trainer.again(inputs)) is not None
        ):
            self.steps += 1
            return again
        return self._careful_step(feeds, optimizer, cost)

    def _careful_step(self, feeds: Feeds, optimizer: Any, cost: Node | None) -> float:
        """Train for one step, whatever it is like; tell listeners when it starts and ends."""
        number = self.steps + 1
        listening = observers("training", number, self)
        if listening:
            listening.fire("mf_step_start", session=self, step=number)
        place = self.output_position(cost)
        loss = None
        if self.program.trains and not observers("run", number, self):
            inputs: list[Any] = [None] * len(self.graph.inputs)
            self._feed_list(inputs, feeds)
            self._feed_list.remember(inputs)
            loss = self._state.trainer_for(optimizer, place, self.rng).step(inputs)
        if loss is None:
            self.running_step = number
            try:
                loss = self._plain_step(feeds, optimizer, place)
            finally:
                self.running_step = None
        self.steps += 1
        if listening:
            listening.fire("mf_step_finish", session=self, step=self.steps, loss=loss)
        return loss

    def _plain_step(self, feeds: Feeds, optimizer: Any, place: int) -> float:
        """Train for one step by a run forward and backward, where no engine does all of it."""
        program = self.program
        self._state.settle()
        if observers("run", self.running_step, self):
            run = self.run(feeds, training=True)
            memory, found = run.memory, run.propagate(place, self._places, None)
        else:
            memory = self._memory(feeds, training=True)
            program.forward(memory)
            seed = gradient_of_itself(self.graph, place, program.value(memory, place))
            found = program.backward(memory, place, self._places, seed)
        self._state.update(optimizer, program.gradients(found, self._places))
        value = program.value(memory, place)
        return float(value if type(value) is np.float64 else value.item())

    def epoch(
        self,
        data: Feeds,
        optimizer: Any,
        rows: Any,
        *,
        cost: Node | None = None,
        stop_when_not_finite: bool = False,
        planned: int | None = None,
    ) -> Array:
        """Train for one step for each line of ``rows``, gathering its rows of the data.

        Engines that compile do all of it without returning to Python.

        Parameters
        ----------
        data : mapping
            For every input an array with a row for each example.
        optimizer : optimizer
            As for ``step``.
        rows : array_like of int
            ``(steps, n)``: which rows make up the batch of each step.
        cost : Node, optional
            As for ``step``.
        stop_when_not_finite : bool, optional
            Whether to stop after a step whose cost is NaN or infinite.
        planned : int, optional
            Number of steps that will be asked for in all, if that is known: engines weigh
            the time that compiling takes against it.

        Returns
        -------
        numpy.ndarray
            ``(steps,)`` float64: the cost before each update; shorter where training stopped.

        Raises
        ------
        FeedError
            If the data do not fit the inputs, or are of different lengths.
        IndexError
            If ``rows`` are not rows of the data.
        """
        training = self._on_rows(data, optimizer, cost)
        return training.epoch(rows, stop_when_not_finite, planned)

    def stepper(
        self, data: Feeds, optimizer: Any, *, cost: Node | None = None
    ) -> Callable[[Any], float]:
        """Return a function that trains for one step on rows of the data.

        For loops of your own, as quick as ``step`` can be: what is the same in every step is
        done once, and engines that compile gather the rows themselves.

        Parameters
        ----------
        data, optimizer, cost
            As for ``epoch``.

        Returns
        -------
        callable
            Takes the row numbers of a batch, ``(n,)`` int; returns the cost before the update.

        Raises
        ------
        FeedError
            If the data do not fit the inputs, or are of different lengths.
        """
        return self._on_rows(data, optimizer, cost).stepper()

    def _on_rows(self, data: Feeds, optimizer: Any, cost: Node | None) -> RowTraining:
        arrays: list[Any] = [None] * len(self.graph.inputs)
        self._feed_list.rows(arrays, data)
        return RowTraining(self, self._state, arrays, optimizer, cost)

    def compile(
        self, shapes: Mapping[Any, Any], optimizer: Any = None, *, cost: Node | None = None
    ) -> Compiled:
        """Compile without running; return what can be known of the program beforehand.

        Parameters
        ----------
        shapes : mapping
            For every input, by node or by name, a shape, or an array of that shape and dtype.
            Where a shape is given the dtype is the declared one, or float64.
        optimizer : optimizer, optional
            Compile a training step with it; without one a run.
        cost : Node, optional
            As for ``step``.

        Returns
        -------
        Compiled
            ``explain()``, ``memory()`` and ``profile(feeds)`` of the program.

        Raises
        ------
        FeedError
            If a shape is missing, or does not fit its input.
        EngineError
            If the engine compiles nothing.
        """
        arrays: list[Any] = [None] * len(self.graph.inputs)
        self._feed_list(arrays, {node: example_of(node, x) for node, x in shapes.items()})
        place = self.output_position(cost) if optimizer is not None else -1
        return self.program.compiled(arrays, optimizer, place)

    # Parameters

    def __getitem__(self, parameter: Parameter | str) -> Array:
        """Return a parameter's present value, read-only."""
        return self._state[self._parameter(parameter)]

    def __setitem__(self, parameter: Parameter | str, value: Any) -> None:
        """Give a parameter a new value of the same shape; it is copied and cast.

        Raises
        ------
        FeedShapeError, FeedDtypeError
            If the value does not fit the parameter.
        """
        self._state[self._parameter(parameter)] = value

    @property
    def parameters(self) -> dict[Parameter, Array]:
        """A copy of all parameters' present values."""
        return {
            node: value.copy()
            for node, value in zip(self.graph.parameters, self._state.values, strict=True)
        }

    def _parameter(self, parameter: Parameter | str) -> int:
        node = self.graph[parameter] if isinstance(parameter, str) else parameter
        try:
            return self._slot[node]  # type: ignore[index]
        except (KeyError, TypeError):
            names = listed([self.graph.name(p) for p in self.graph.parameters])
            raise UnknownNodeError(
                f"{parameter!r} is no parameter of this session; it has {names or 'none'}"
            ) from None

    # Saving and going on

    def optimizer_state(self) -> Updates | None:
        """Return a copy of what the optimizer of the steps so far remembers.

        Training goes on undisturbed.

        Returns
        -------
        Updates or None
            Its ``optimizer``, ``steps``, and ``states``: a tuple of arrays for each parameter,
            in the graph's order. ``None`` before the first step.
        """
        return self._state.copied_updates()

    def restore(
        self,
        parameters: Mapping[Parameter, Any] | Mapping[str, Any],
        optimizer: Any,
        states: Sequence[OptimizerState],
        *,
        updates: int,
        steps: int,
    ) -> None:
        """Go on from where another session was; what ``optimizer_state`` returned comes back.

        Random numbers are restored through ``session.rng``.

        Parameters
        ----------
        parameters : mapping
            A value for every parameter, by node or by name.
        optimizer : optimizer
            The one that the next steps will be done with.
        states : sequence of tuple
            What it remembers of each parameter, in the graph's order.
        updates : int
            How many updates it has done.
        steps : int
            How many steps the session has done.

        Raises
        ------
        UnknownNodeError
            If a parameter is unknown.
        FeedError
            If a value is missing or of another shape or dtype.
        ExecutionError
            If the states do not fit the optimizer.
        """
        nodes = self.graph.parameters
        given = {self._parameter(parameter): x for parameter, x in parameters.items()}
        if missing := [self.graph.name(n) for i, n in enumerate(nodes) if i not in given]:
            raise MissingFeedError(f"no value is given for {listed(missing)}")
        self._state.restore([given[i] for i in range(len(nodes))], optimizer, states, updates)
        self.steps = steps

    # Tracers

    @property
    def tracers(self) -> tuple[object, ...]:
        """The tracers that listen to this session alone."""
        return tuple(observer.plugin for observer in self.observers)

    def close(self) -> None:
        """Close the tracers that were given by name, and let none listen any more."""
        self.observers = ()
        if self._finalizer is not None:
            self._finalizer()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _let_listen(self, tracers: Iterable[str | object]) -> None:
        from mfcore.trace import observing_all

        self.observers, made = observing_all(tracers)
        self._finalizer = weakref.finalize(self, close_all, made)

    def _tell_of_the_sort(self, graph: Graph) -> None:
        """Tell this session's own tracers how the graph that it built was sorted."""
        if sorting := Observers([o for o in self.observers if o.wants("sort", None)]):
            replay_sort(graph, sorting)

    def _say_who_is_observed(self) -> None:
        if self._asked_for_engine and not self.program.observable:
            self._asked_for_engine = False
            warnings.warn(
                f"the engine {self.engine.name!r} cannot be observed node by node: observed "
                f"runs and steps go to the reference engine",
                ObservedEngineWarning,
                stacklevel=3,
            )
