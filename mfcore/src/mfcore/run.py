"""A run: the values of every node, and gradients by backpropagation on demand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from mfcore.engine import EngineName, Memory
from mfcore.errors import GradientError
from mfcore.node import Array, Constant, Node, NodeLike
from mfcore.registry import observers
from mfcore.values import as_array, float_dtype

if TYPE_CHECKING:
    from mfcore.graph import Graph
    from mfcore.session import Session


_ONE: Array = np.ones(())[()]


class Run:
    """The results of one run: ``run[node]`` is a value, ``run.gradients[node]`` a gradient.

    Arrays are handed out read-only: a result may share its memory with another.
    """

    __slots__ = ("__weakref__", "_gradients", "memory", "observed", "session")

    def __init__(self, session: Session, memory: Memory) -> None:
        self.session = session
        self.memory = memory
        self.observed = False
        self._gradients: Gradients | None = None

    def __getitem__(self, node: Node | str) -> Array:
        """Return a node's value.

        Raises
        ------
        UnknownNodeError
            If the graph does not contain the node.
        """
        graph = self.session.graph
        node = graph[node] if isinstance(node, str) else node
        return read_only(self.session.program.value(self.memory, graph.position(node)))

    @property
    def engine(self) -> EngineName:
        """Name of the engine that ran, with the reason for its choice as ``reason``."""
        session = self.session
        if self.observed and not session.program.observable:
            reason = f"{session.engine.name} cannot be observed node by node"
            return EngineName("reference", reason)
        return session.program.name(session.engine)

    @property
    def gradients(self) -> Gradients:
        """Gradients of the last ``backward``, or, without one, of the graph's only output.

        Others than were asked for are computed when they are looked up.
        """
        if self._gradients is None:
            self._gradients = self.backward()
        return self._gradients

    @property
    def computed_gradients(self) -> Gradients | None:
        """Gradients of the last ``backward``; ``None`` where none were computed yet."""
        return self._gradients

    def __repr__(self) -> str:
        return f"<Run on {str(self.engine)!r} of {self.session.graph!r}>"

    def _repr_html_(self) -> str:
        """Return what notebooks show."""
        from mfcore.html import run_html

        return run_html(self)

    def _repr_svg_(self) -> str | None:
        """Return the graph with the run's values, for notebooks; ``None`` if no pack draws SVG."""
        from mfcore.drawing import drawn_inline

        return drawn_inline(self.session.graph, self)

    def backward(
        self,
        of: Node | None = None,
        *,
        wrt: Iterable[Node] | None = None,
        grad: NodeLike | None = None,
    ) -> Gradients:
        """Compute gradients by backpropagation. Asking again gives the same again.

        Parameters
        ----------
        of : Node, optional
            The node to differentiate; by default the graph's only output.
        wrt : iterable of Node, optional
            Nodes whose gradients are wanted now; by default all parameters, or all inputs
            where there are no parameters.
        grad : array_like, optional
            Gradient with respect to ``of`` itself, of its shape; 1 for a scalar.

        Returns
        -------
        Gradients
            Mapping from node to array of the node's shape.

        Raises
        ------
        GradientError
            If ``of`` is no scalar and no ``grad`` is given, or ``grad`` has another shape.
        NotDifferentiableError
            If the gradient has to pass an operation without ``backward``.
        BackwardError
            If an operation's ``backward`` raises or breaks the contract.
        """
        graph = self.session.graph
        place = self.session.output_position(of)
        nodes = tuple(wrt) if wrt is not None else graph.parameters or graph.inputs
        self._gradients = Gradients(self, place, nodes, grad)
        return self._gradients

    def propagate(self, place: int, wrt: Sequence[int], grad: Any) -> Memory:
        """Run backward; return a memory from which the program reads gradients.

        Parameters
        ----------
        place : int
            Position of the node to differentiate.
        wrt : sequence of int
            Positions of the nodes whose gradients are wanted.
        grad : array_like or None
            Gradient of that node itself; ``None`` stands for 1, of a scalar.
        """
        session = self.session
        value = session.program.value(self.memory, place)
        seed = gradient_of_itself(session.graph, place, value, grad)
        listening = observers("run", session.running_step, session)
        if not listening:
            return session.program.backward(self.memory, place, wrt, seed)
        about = {"session": session, "run": self, "phase": "backward", "graph": session.graph}
        listening.fire("mf_run_start", **about)
        memory = session.program.backward_observed(self.memory, place, wrt, seed, listening, self)
        listening.fire("mf_run_finish", **about)
        return memory


def gradient_of_itself(graph: Graph, place: int, value: Any, grad: Any = None) -> Array:
    """Return the gradient that a backward pass starts from, in the shape of a node's value.

    Parameters
    ----------
    graph : Graph
        The graph, for messages.
    place : int
        Position of the node.
    value : array
        The node's value.
    grad : array_like, optional
        What was given for it; 1 for a scalar.

    Raises
    ------
    GradientError
        If the node is no scalar and no ``grad`` is given, or ``grad`` has another shape.
    """
    if grad is None and type(value) is np.float64:
        return _ONE
    value = np.asarray(value)
    dtype = float_dtype(value.dtype)
    if grad is None:
        if value.size != 1:
            raise GradientError(
                f"{graph.describe(graph.nodes[place])} has shape {value.shape}: only a scalar has "
                f"a gradient by itself. Reduce it (`.sum()`), or give `grad=`, an array of its "
                f"shape"
            )
        one: Array = np.ones(value.shape, dtype)[()]
        return one
    seed = as_array(grad, "grad")
    if seed.shape != value.shape:
        raise GradientError(f"grad has shape {seed.shape}, the node has shape {value.shape}")
    return seed.astype(dtype)[()]


class Gradients(Mapping[Node, Array]):
    """Gradients of one node, by the node they belong to.

    What was not asked for at first is computed when it is looked up.
    """

    def __init__(self, run: Run, place: int, nodes: tuple[Node, ...], grad: Any) -> None:
        # Not the run itself, which holds this: arrays are freed as soon as nobody holds them.
        self._session = run.session
        self._memory = run.memory
        self._known_run = ref(run)
        self._place = place
        self._grad = grad
        self._nodes: dict[Node, Array] = {}
        self._compute(nodes)

    @property
    def _run(self) -> Run:
        run = self._known_run()
        return Run(self._session, self._memory) if run is None else run

    def __getitem__(self, node: Node | str) -> Array:
        if isinstance(node, str):
            node = self._session.graph[node]
        if node not in self._nodes:
            self._compute((node,))
        return self._nodes[node]

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __repr__(self) -> str:
        graph = self._session.graph
        names = ", ".join(graph.name(node) for node in self._nodes)
        return f"<Gradients of {graph.name(graph.nodes[self._place])} for {names}>"

    def _repr_html_(self) -> str:
        """Return what notebooks show."""
        from mfcore.html import gradients_html

        return gradients_html(self, self._session.graph)

    @property
    def of(self) -> Node:
        """The node that was differentiated."""
        return self._run.session.graph.nodes[self._place]

    @property
    def seed(self) -> Array:
        """The gradient of that node itself, from which the backward pass started."""
        session = self._run.session
        value = session.program.value(self._run.memory, self._place)
        return gradient_of_itself(session.graph, self._place, value, self._grad)

    def _compute(self, nodes: tuple[Node, ...]) -> None:
        run, program = self._run, self._session.program
        graph = self._session.graph
        wrt = [graph.position(node) for node in nodes]
        for node in nodes:
            if isinstance(node, Constant):
                raise GradientError(
                    f"{graph.describe(node)} is a constant; make it an Input or a Parameter "
                    f"to get its gradient"
                )
        memory = run.propagate(self._place, wrt, self._grad)
        found = program.gradients(memory, wrt)
        for node, position, gradient in zip(nodes, wrt, found, strict=True):
            if gradient is None:
                value = program.value(run.memory, position)
                gradient = np.zeros(value.shape, float_dtype(value.dtype))
            self._nodes[node] = read_only(gradient)


def read_only(value: Any) -> Array:
    """Return a view of an array that cannot be written to."""
    if type(value) is np.float64:
        return value  # type: ignore[return-value]
    if not isinstance(value, np.ndarray):
        scalar: Any = np.asarray(value)[()]  # a NumPy scalar cannot be written to
        return scalar  # type: ignore[no-any-return]
    view = value.view()
    view.flags.writeable = False
    return view
