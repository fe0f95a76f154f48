"""A session: a graph on an engine, with everything that changes from run to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mfcore.engine import Engine, Memory, Program
from mfcore.errors import (
    FeedDtypeError,
    FeedError,
    FeedShapeError,
    GradientError,
    MissingFeedError,
    NodeUseError,
    UnknownFeedError,
    UnknownNodeError,
    type_name,
)
from mfcore.graph import Graph, _some
from mfcore.node import Array, Input, Node, Parameter, as_array, describe
from mfcore.optimizer import Updates
from mfcore.registry import current, observers
from mfcore.run import Run, read_only

Feeds = Mapping[Any, Any]
"""Values of inputs for one run, by input node or by its name."""


class Session:
    """A graph on an engine: parameters, random state and optimizer state live here.

    Two sessions over one graph share nothing and may run in two threads.

    Parameters
    ----------
    graph : Graph, Node or sequence of Node
        What to run: a graph, or the outputs to build one from.
    engine : str or Engine, optional
        An engine's name or an engine; by default the reference engine of the core.
    seed : int or numpy.random.Generator, optional
        Start of the random numbers that operations such as ``Dropout`` draw.

    Raises
    ------
    UnknownNameError
        If no enabled pack provides the engine.

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
        engine: str | Engine = "mfcore.reference",
        seed: int | np.random.Generator | None = None,
    ) -> None:
        if not isinstance(graph, Graph):
            graph = Graph(graph) if isinstance(graph, Node) else Graph(*graph)
        self.graph = graph
        self.engine = current().engine(engine)() if isinstance(engine, str) else engine
        self.rng = np.random.default_rng(seed)
        self.steps = 0
        self.program: Program = self.engine.compile(graph)
        self._values = [np.array(node.value) for node in graph.parameters]
        self._slot = {node: i for i, node in enumerate(graph.parameters)}
        self._places = tuple(graph.position(node) for node in graph.parameters)
        self._only_output = graph.position(graph.outputs[0]) if len(graph.outputs) == 1 else None
        self._feeding = [
            (node, graph.position(node), node.shape is None and node.dtype is None)
            for node in graph.inputs
        ]
        self._updates: Updates | None = None

    def __repr__(self) -> str:
        return f"<Session on {self.engine.name!r} of {self.graph!r}>"

    # Parameters

    def __getitem__(self, parameter: Parameter | str) -> Array:
        """Return a parameter's present value, read-only."""
        return read_only(self._values[self._parameter(parameter)])

    def __setitem__(self, parameter: Parameter | str, value: Any) -> None:
        """Give a parameter a new value of the same shape; it is copied and cast.

        Raises
        ------
        FeedShapeError, FeedDtypeError
            If the value does not fit the parameter.
        """
        i = self._parameter(parameter)
        node, old = self.graph.parameters[i], self._values[i]
        try:
            array = as_array(value, f"the value for {self.graph.describe(node)}")
        except NodeUseError as error:
            raise FeedDtypeError(str(error)) from None
        if array.shape != old.shape:
            raise FeedShapeError(
                f"{self.graph.describe(node)} has shape {old.shape}, "
                f"but a value of shape {array.shape} was given"
            )
        self._values[i] = array.astype(old.dtype)

    @property
    def parameters(self) -> dict[Parameter, Array]:
        """A copy of all parameters' present values."""
        return {
            node: value.copy()
            for node, value in zip(self.graph.parameters, self._values, strict=True)
        }

    def _parameter(self, parameter: Parameter | str) -> int:
        node = self.graph[parameter] if isinstance(parameter, str) else parameter
        try:
            return self._slot[node]  # type: ignore[index]
        except (KeyError, TypeError):
            names = _some([self.graph.name(p) for p in self.graph.parameters])
            raise UnknownNodeError(
                f"{parameter!r} is no parameter of this session; it has {names or 'none'}"
            ) from None

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
        memory = self.program.new_memory(self.rng, training)
        self._feed(memory, {} if feeds is None else feeds)
        for place, value in zip(self._places, self._values, strict=True):
            memory[place] = value
        run = Run(self, memory)
        if listening := observers("run"):
            about = {"session": self, "run": run, "phase": "forward", "graph": self.graph}
            listening.fire("mf_run_start", **about)
            self.program.forward_observed(memory, listening, run)
            listening.fire("mf_run_finish", **about)
        else:
            self.program.forward(memory)
        return run

    def step(self, feeds: Feeds, optimizer: Any, *, cost: Node | None = None) -> float:
        """Train for one step: forward, backward, update.

        Parameters
        ----------
        feeds : mapping
            One batch: a value for every input.
        optimizer : optimizer
            An instance of an optimizer class; its state is kept in the session.
        cost : Node, optional
            The scalar node to make small; by default the graph's only output.

        Returns
        -------
        float
            The cost before the update.
        """
        listening = observers("training")
        if listening:
            listening.fire("mf_step_start", session=self, step=self.steps + 1)
        run = self.run(feeds, training=True)
        place = self.output_position(cost)
        memory = run.propagate(place, self._places, None)
        updates = self._updates
        if updates is None or updates.optimizer is not optimizer:
            updates = Updates(optimizer, self._values)
        gradients = self.program.gradients(memory, self._places)
        self._values = updates.apply(self._values, gradients)
        self._updates = updates
        self.steps += 1
        value = memory[place]
        loss = float(value if type(value) is np.float64 else value.item())
        if listening:
            listening.fire("mf_step_finish", session=self, step=self.steps, loss=loss)
        return loss

    def _feed(self, memory: Memory, feeds: Feeds) -> None:
        try:
            for node, place, free in self._feeding:
                value = feeds[node]
                if not free or type(value) is not np.ndarray or value.dtype.kind not in "fiub":
                    value = self._fitted_feed(node, value)
                memory[place] = value
        except (KeyError, TypeError, IndexError):
            self._feed_by_name(memory, feeds)
            return
        if len(feeds) != len(self._feeding):
            self._feed_by_name(memory, feeds)

    def _feed_by_name(self, memory: Memory, feeds: Feeds) -> None:
        """The careful way to feed: resolves names, and finds the error where there is one."""
        graph = self.graph
        if not isinstance(feeds, Mapping):
            raise FeedError(
                f"feeds are a mapping from inputs, or their names, to values, "
                f"not {type_name(feeds)}"
            )
        by_node: dict[Input, Any] = {}
        for key, value in feeds.items():
            if isinstance(key, str):
                if key not in graph.names[1]:
                    raise UnknownFeedError(
                        f"{key!r} was fed, but the graph has no input of that name; it has "
                        f"{_some([graph.name(n) for n in graph.inputs]) or 'no inputs'}"
                    )
                key = graph[key]
            if not isinstance(key, Node):
                raise UnknownFeedError(f"feeds are given by input node or name, not by {key!r}")
            if key not in graph:
                raise UnknownFeedError(
                    f"{describe(key)} was fed, but it is not part of the graph; the graph's "
                    f"inputs are {_some([graph.name(n) for n in graph.inputs]) or 'none'}"
                )
            if not isinstance(key, Input):
                hint = (
                    "set a parameter with `session[parameter] = value`"
                    if isinstance(key, Parameter)
                    else "only inputs can be fed"
                )
                raise UnknownFeedError(f"{graph.describe(key)} is no input: {hint}")
            if key in by_node:
                raise UnknownFeedError(f"{graph.describe(key)} was fed twice, by node and by name")
            by_node[key] = value
        if missing := [node for node in graph.inputs if node not in by_node]:
            raise MissingFeedError(
                "no value was fed for " + ", ".join(graph.describe(n) for n in missing[:12])
            )
        for node, value in by_node.items():
            memory[graph.position(node)] = self._fitted_feed(node, value)

    def _fitted_feed(self, node: Input, value: Any) -> Array:
        """Return a fed value as an array that fits its input, or raise."""
        if isinstance(value, Node):
            raise FeedDtypeError(f"{self._feed_of(node)} is a node: feed arrays")
        try:
            array = as_array(value, "it")
        except NodeUseError as error:
            raise FeedDtypeError(f"{self._feed_of(node)} cannot be used: {error}") from None
        cast = node.cast(array)
        if cast is None:
            raise FeedDtypeError(
                f"{self._feed_of(node)} has dtype {array.dtype}, but the input declares "
                f"{node.dtype}, and a cast would lose information"
            )
        if node.shape is not None and not _shape_fits(cast.shape, node.shape):
            raise FeedShapeError(
                f"{self._feed_of(node)} has shape {cast.shape}, but the input declares {node.shape}"
            )
        return cast[()] if cast.ndim == 0 else cast

    def _feed_of(self, node: Node) -> str:
        return f"the value fed to {self.graph.describe(node)}"

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


def _shape_fits(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    return len(shape) == len(declared) and all(
        want is None or have == want for have, want in zip(shape, declared, strict=True)
    )
