"""What an engine is: it makes a graph ready to run, and runs it. ``reference.py`` is one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import attrs
import numpy as np

from mfcore.errors import EngineError, UnknownNameError
from mfcore.graph import Graph
from mfcore.node import Array, Node
from mfcore.registry import current

if TYPE_CHECKING:
    from mfcore.optimizer import Updates
    from mfcore.plugins import Observers
    from mfcore.run import Run

Memory: TypeAlias = list[Any]
"""What one run knows: the values of its nodes, and whatever else its program keeps there."""


class Engine(ABC):
    """What executes a graph. A pack provides one by the hook ``mf_engines``.

    Attributes
    ----------
    name : str
        Its name in the pack.
    slow : bool
        Whether compiling even a small graph takes seconds: the conformance kit compares
        with it only what it is asked to.
    depends_on : tuple of str
        The distributions, beside NumPy, whose versions may change the last bits of results:
        checkpoints tell of them.
    """

    name: ClassVar[str]
    slow: ClassVar[bool] = False
    depends_on: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def compile(self, graph: Graph) -> Program:
        """Return a program that runs the graph for one session. What a run knows is not in it."""


def find_engine(name: str | None) -> Engine:
    """Return an engine by name; for ``None`` the default one.

    Raises
    ------
    UnknownNameError
        If no enabled pack provides it.
    """
    registry = current()
    if name is None:
        try:
            return registry.engine(default_engine())()
        except UnknownNameError:  # mfjit could not be loaded, and is quarantined
            name = "mfcore.reference"
    return registry.engine(name)()


def default_engine() -> str:
    """Return what runs where no engine is asked for: numpy where mfjit is, else the core's."""
    compiling = any(pack.name == "mfjit" and pack.enabled for pack in current().packs())
    return "mfjit.numpy" if compiling else "mfcore.reference"


class EngineName(str):
    """The name of the engine that ran, with the reason for its choice.

    Attributes
    ----------
    reason : str
        Why this engine; empty where it is the one that was asked for.
    """

    __slots__ = ("reason",)
    reason: str

    def __new__(cls, name: str, reason: str = "") -> EngineName:
        """Return a name with a reason."""
        new = super().__new__(cls, name)
        new.reason = reason
        return new


class Trainer(ABC):
    """A cost, an optimizer and parameters at work: the training steps of one session.

    Attributes
    ----------
    optimizer : optimizer
        Whose update it does.
    values : list of array
        The parameters, in the graph's order; overwritten by every step.
    steps : int
        How many updates the optimizer has done.
    """

    optimizer: Any
    values: list[Array]
    steps: int

    @abstractmethod
    def step(self, inputs: list[Array]) -> float | None:
        """Train for one step; ``None``, with nothing changed, hands it to the reference engine."""

    def again(self, inputs: list[Array]) -> float | None:
        """Train for one step on inputs of the same shapes and dtypes as those of the last one."""
        return self.step(inputs)

    @abstractmethod
    def epoch(self, arrays: list[Array], rows: Array, stop_when_not_finite: bool) -> Array:
        """Train for one step for each line of ``rows``; return the costs of the steps done.

        Parameters
        ----------
        arrays : list of array
            For each input of the graph, in order, an array with a row for each example.
        rows : array
            ``(steps, n)`` intp: which rows make up the batch of each step; all are there.
        stop_when_not_finite : bool
            Whether to stop after a step whose cost is NaN or infinite.

        Returns
        -------
        array
            ``(k,)`` float64. Fewer than asked for hand the rest to the reference engine, unless
            the last cost is not finite and training was to stop there.
        """

    def stepper(self, arrays: list[Array]) -> Callable[[Any], float | None]:
        """Return a function of rows that trains for one step on these rows of the arrays.

        What it returns is ``None`` where it leaves a step to the session.
        """
        return lambda _rows: None

    @abstractmethod
    def updates(self) -> Updates:
        """Return the optimizer with a copy of what it remembers of each parameter."""


@attrs.frozen
class MemoryUse:
    """Bytes that a program needs while it runs.

    Attributes
    ----------
    inputs, parameters, states : int
        What is fed, what is trained, and what the optimizer remembers.
    buffers : int
        Everything else: intermediate values and gradients, at most at one time.
    """

    inputs: int
    parameters: int
    states: int
    buffers: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.inputs + self.parameters + self.states + self.buffers

    def __str__(self) -> str:
        rows = {**attrs.asdict(self), "total": self.total}
        return "\n".join(f"{name:10}  {value:>14,} bytes" for name, value in rows.items())


class Compiled(ABC):
    """A program compiled for inputs of given shapes: what is known of it without running it."""

    @abstractmethod
    def explain(self) -> str:
        """Return the program as readable text, with what each step costs."""

    @abstractmethod
    def memory(self) -> MemoryUse:
        """Return how much memory it needs."""

    @abstractmethod
    def profile(self, feeds: Mapping[Any, Any], steps: int = 100) -> str:
        """Run it on copies of the parameters, fed as ``Session.step``; return a table of times.

        Raises
        ------
        EngineError
            If the engine does not tell its steps apart.
        """


class Program(ABC):
    """A graph made ready to run."""

    graph: Graph

    trains = False
    """Whether ``trainer`` offers a way to train that is quicker than runs."""

    observable = True
    """Whether observed runs are its own, and not the reference engine's."""

    def checkpoint(self, nodes: bool | Iterable[Node]) -> None:
        """Keep the values of these nodes only for backward passes of training.

        Raises
        ------
        EngineError
            If the engine cannot.
        """
        raise EngineError("the reference engine keeps every value: checkpoint= is for others")

    def compiled(self, inputs: list[Array], optimizer: Any, cost: int) -> Compiled:
        """Return the program of a run, or of a training step if there is an optimizer.

        Parameters
        ----------
        inputs : list of array
            Of the shapes and dtypes to compile for, in the order of the graph's inputs; they
            may be without memory of their own.
        optimizer : optimizer or None
            What the step is done with.
        cost : int
            Position of the node to make small, where there is an optimizer.

        Raises
        ------
        EngineError
            If the engine compiles nothing.
        """
        raise EngineError("the reference engine compiles nothing: it runs each operation as it is")

    def name(self, engine: Engine) -> EngineName:
        """Return the name of what runs: its engine's, or why it is another's."""
        return EngineName(engine.name)

    def training_name(self, engine: Engine) -> EngineName:
        """Return the name of what training steps run on."""
        return self.name(engine)

    def value(self, memory: Memory, position: int) -> Any:
        """Return a node's value after ``forward``."""
        return memory[position]

    def trainer(
        self,
        updates: Updates,
        cost: int,
        values: list[Array],
        rng: np.random.Generator,
        planned: int | None = None,
    ) -> Trainer:
        """Return what trains for one session, where ``trains`` is true.

        Parameters
        ----------
        updates : Updates
            The optimizer, and what it remembers so far.
        cost : int
            Position of the node to make small.
        values : list of array
            The parameters so far; not to be written to.
        rng : numpy.random.Generator
            For operations that draw.
        planned : int, optional
            How many steps are planned.
        """
        raise NotImplementedError

    def function(
        self, places: Sequence[int], count: int, values: Sequence[Array], single: bool
    ) -> Callable[..., Any]:
        """Return the graph as a function of ``count`` arrays, for ``mfcore.function``.

        Parameters
        ----------
        places : sequence of int
            For each input of the graph, which of the arrays it is.
        count : int
            How many arrays the function takes.
        values : sequence of array
            The parameters, in the graph's order.
        single : bool
            Whether to return the only output itself, and not a tuple.
        """
        from mfcore.function import GraphFunction

        return GraphFunction(self, places, count, values, single)

    @abstractmethod
    def new_memory(self, rng: np.random.Generator | None, training: bool) -> Memory:
        """Return the memory of one run. The first ``len(graph)`` slots are the nodes' values."""

    @abstractmethod
    def forward(self, memory: Memory) -> None:
        """Compute the value of every operation, leaves being filled in."""

    @abstractmethod
    def backward(self, memory: Memory, of: int, wrt: Iterable[int], seed: Array) -> Memory:
        """Compute gradients of a node; return a memory from which ``gradients`` reads them.

        Parameters
        ----------
        memory : list
            Of a run that went forward; not to be changed.
        of : int
            Position of the node to differentiate.
        wrt : iterable of int
            Positions of the nodes whose gradients are wanted.
        seed : array
            The gradient of ``of`` itself, of its shape.
        """

    @abstractmethod
    def gradients(self, memory: Memory, positions: Iterable[int]) -> list[Array | None]:
        """Return the gradients that a backward pass left for nodes; ``None`` if none reached it."""

    @abstractmethod
    def forward_observed(self, memory: Memory, observers: Observers, run: Run) -> None:
        """As ``forward``, telling observers about every node: ``mf_forward_start``, ``_finish``."""

    @abstractmethod
    def backward_observed(
        self,
        memory: Memory,
        of: int,
        wrt: Iterable[int],
        seed: Array,
        observers: Observers,
        run: Run,
    ) -> Memory:
        """As ``backward``, telling observers about every node that a gradient reaches."""
