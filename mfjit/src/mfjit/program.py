"""A graph on a compiling engine: runs and gradients as lowered programs, one for each signature.

What cannot be lowered, and what is observed node by node, runs on the reference engine. An
error of a compiled run is found again there, where it names the node.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mfcore import Array, Engine, Graph, Node, Program
from mfcore.engine import Compiled, EngineName, Memory, Trainer
from mfcore.errors import MiniFlowError
from mfcore.optimizer import Updates
from mfcore.reference import ReferenceProgram
from mfjit.errors import CannotLower
from mfjit.ir import Lowered
from mfjit.lowering import Kind
from mfjit.parameters import FlatParameters
from mfjit.recomputing import nodes_to_keep
from mfjit.training import (
    TrainingProgram,
    lower_gradients,
    lower_outputs,
    lower_run,
    lower_training,
)

if TYPE_CHECKING:
    from mfcore.plugins import Observers
    from mfcore.run import Run


class Bound(Protocol):
    """An executable with the arrays that it works on."""

    def step(
        self, inputs: list[Array], settings: list[float], rng: np.random.Generator | None
    ) -> list[Array]:
        """Run once; return new outputs, and update parameters and states in place."""
        ...

    def epoch(
        self,
        arrays: list[Array],
        rows: Array,
        settings: Array,
        rng: np.random.Generator | None,
        stop_when_not_finite: bool,
    ) -> Array:
        """Run a step for each line of ``rows``; return the first output of each."""
        ...


class Executable(Protocol):
    """A lowered program, ready to run."""

    @property
    def memory(self) -> int:
        """Bytes of all buffers, known before running."""
        ...

    def bind(self, parameters: list[Array], states: list[Array]) -> Bound:
        """Return what runs on these arrays, which it may overwrite."""
        ...

    def explain(self) -> str:
        """Return the program as readable text."""
        ...


class CompilingEngine(Engine):
    """An engine that lowers graphs and makes programs of what comes out."""

    fixed_hyperparameters = True
    """Whether an optimizer's numbers become part of a program."""

    strict = False
    """Whether a graph that cannot be lowered is refused, instead of run on the reference engine."""

    most_signatures = sys.maxsize
    """For how many signatures a function is compiled; further ones are left to ``for_few``."""

    @property
    def for_few(self) -> CompilingEngine:
        """The engine for programs that run too seldom for this one."""
        return self

    @abstractmethod
    def executable(self, lowered: Lowered) -> Executable:
        """Return a lowered program, ready to run.

        Raises
        ------
        CannotCompile
            If it has no code for an instruction.
        """

    def compile(self, graph: Graph) -> CompiledProgram:
        """Return a program that compiles what is asked for when it is asked for."""
        return CompiledProgram(graph, self)


class RunMemory(list[Any]):
    """What one run knows: values by position, the generator, and whether it is training.

    Attributes
    ----------
    state : dict, optional
        The state of the generator before the run, to draw the same again.
    complete : bool
        Whether it has become a memory of the reference engine, with all values.
    """

    state: Any = None
    complete = False


class CompiledProgram(Program):
    """A graph on a compiling engine.

    The memory of a run holds inputs, parameters and outputs. Other nodes are computed when
    they are looked up, by the reference engine.
    """

    observable = False

    def __init__(self, graph: Graph, engine: CompilingEngine) -> None:
        self.graph = graph
        self.engine = engine
        self.reason = ""
        count = self._count = len(graph)
        self._rng, self._training = count, count + 1
        self._leaves = [graph.position(node) for node in (*graph.inputs, *graph.parameters)]
        self._outputs = [graph.position(node) for node in graph.outputs]
        self.draws = any(
            node.__operation__ is not None and "rng" in node.__operation__.forward_asks
            for node in graph.nodes
        )
        self._runs: dict[Any, Bound] = {}
        self._gradients: dict[Any, tuple[Bound, list[bool]]] = {}
        self._trainings: dict[Any, tuple[TrainingProgram, Executable]] = {}
        self._reference: ReferenceProgram | None = None
        self._kept: frozenset[Node] | None = None

    def checkpoint(self, nodes: bool | Iterable[Node]) -> None:
        self._kept = nodes_to_keep(self.graph, nodes)

    def name(self, engine: Engine) -> EngineName:
        if self.reason:
            return EngineName("reference", f"{engine.name} cannot run it: {self.reason}")
        return EngineName(self.engine.name)

    # Runs

    def new_memory(self, rng: np.random.Generator | None, training: bool) -> Memory:
        memory = RunMemory([None] * (self._count + 2))
        memory[self._rng] = rng
        memory[self._training] = training
        return memory

    def forward(self, memory: Memory) -> None:
        assert isinstance(memory, RunMemory)
        if self.reason:
            self._reference_forward(memory)
            return
        if self.draws and memory[self._rng] is not None:
            memory.state = memory[self._rng].bit_generator.state
        try:
            leaves, kinds = self._given(memory)
            key = (kinds, memory[self._training])
            bound = self._runs.get(key)
            if bound is None:
                lowered = lower_run(self.graph, kinds, memory[self._training])
                bound = self._runs[key] = self.engine.executable(lowered).bind([], [])
            outputs = bound.step(leaves, [], memory[self._rng])
        except CannotLower as error:
            self._rewind(memory)
            self._reference_forward(memory)  # raises where the fault is the user's
            self.give_up(error)
            return
        except MiniFlowError:
            raise
        except Exception:
            self._rewind(memory)
            self._reference_forward(memory)  # raises what names the node
            raise
        for position, value in zip(self._outputs, outputs, strict=True):
            memory[position] = value

    def value(self, memory: Memory, position: int) -> Any:
        if memory[position] is None:
            full = self._reference_memory(memory)
            self._reference_program().forward(full)
            kept = [*self._leaves, *self._outputs]
            known = {i: memory[i] for i in kept}
            memory[: self._count] = full[: self._count]
            for i, value in known.items():
                memory[i] = value
        return memory[position]

    def backward(self, memory: Memory, of: int, wrt: Iterable[int], seed: Array) -> Memory:
        wanted = tuple(wrt)
        if self.reason:
            return self._reference_backward(memory, of, wanted, seed)
        try:
            leaves, kinds = self._given(memory)
            key = (kinds, memory[self._training], of, wanted)
            found = self._gradients.get(key)
            if found is None:
                lowered, there = lower_gradients(
                    self.graph, kinds, memory[self._training], of, wanted
                )
                found = self.engine.executable(lowered).bind([], []), there
                self._gradients[key] = found
            bound, there = found
            gradients = iter(bound.step([*leaves, np.asarray(seed)], [], self._replayed(memory)))
        except CannotLower as error:
            found_there = self._reference_backward(memory, of, wanted, seed)
            self.give_up(error)
            return found_there
        except MiniFlowError:
            raise
        except Exception:
            self._reference_backward(memory, of, wanted, seed)  # raises what names the node
            raise
        found_by_node: Memory = [None] * self._count
        for position, reached in zip(wanted, there, strict=True):
            found_by_node[position] = next(gradients) if reached else None
        return found_by_node

    def gradients(self, memory: Memory, positions: Iterable[int]) -> list[Array | None]:
        return [memory[position] for position in positions]

    def forward_observed(self, memory: Memory, observers: Observers, run: Run) -> None:
        assert isinstance(memory, RunMemory)
        memory[:] = self._reference_memory(memory, replay=False)  # observers read it meanwhile
        memory.complete = True
        self._reference_program().forward_observed(memory, observers, run)

    def backward_observed(
        self,
        memory: Memory,
        of: int,
        wrt: Iterable[int],
        seed: Array,
        observers: Observers,
        run: Run,
    ) -> Memory:
        return self._reference_program().backward_observed(
            self._complete(memory), of, wrt, seed, observers, run
        )

    # Training

    @property
    def trains(self) -> bool:  # type: ignore[override]
        """Whether training steps are compiled."""
        return not self.reason

    def trainer(
        self,
        updates: Updates,
        cost: int,
        values: list[Array],
        rng: np.random.Generator,
        planned: int | None = None,  # noqa: ARG002 - for engines that choose
    ) -> Trainer:
        from mfjit.trainer import CompiledTrainer

        return CompiledTrainer(self, updates, self.graph.nodes[cost], values, rng)

    def function(
        self, places: Sequence[int], count: int, values: Sequence[Array], single: bool
    ) -> Any:
        from mfjit.function import CompiledFunction

        return CompiledFunction(self, places, count, values, single)

    def inference(
        self, kinds: Sequence[Kind], few: bool = False
    ) -> tuple[Executable, FlatParameters]:
        """Return what computes the outputs from such inputs, and where the parameters go."""
        lowered, flat = lower_outputs(self.graph, kinds, self.graph.outputs)
        engine = self.engine.for_few if few else self.engine
        return engine.executable(lowered), flat

    def training(
        self, kinds: Sequence[Kind], cost: Node, optimizer: Any, few: bool = False
    ) -> tuple[TrainingProgram, Executable]:
        """Return a training step for inputs of these shapes and dtypes, compiled once.

        ``few`` says that it runs seldom, such as for the last and smaller batch of an epoch.
        """
        engine = self.engine.for_few if few else self.engine
        try:
            key: Any = (tuple(kinds), cost, optimizer)
            found = self._trainings.get(key)
        except TypeError:  # an optimizer that cannot be hashed
            key = (tuple(kinds), cost, id(optimizer))
            found = self._trainings.get(key)
        if found is None:
            program = lower_training(
                self.graph,
                kinds,
                cost,
                optimizer,
                fixed=engine.fixed_hyperparameters,
                kept=self._kept,
            )
            found = program, engine.executable(program.lowered)
            self._trainings[key] = found
        return found

    def compiled(self, inputs: list[Array], optimizer: Any, cost: int) -> Compiled:
        from mfjit.compiled import CompiledRun, CompiledStep

        kinds = tuple([(array.shape, array.dtype) for array in inputs])
        if optimizer is not None:
            return CompiledStep(self, kinds, optimizer, self.graph.nodes[cost])
        return CompiledRun(self, kinds)

    # The reference engine

    def give_up(self, error: CannotLower) -> None:
        """Run on the reference engine from now on.

        Raises
        ------
        CannotLower
            If the engine is strict.
        """
        if self.engine.strict:
            raise error
        self.reason = str(error)

    def fail(
        self, inputs: Sequence[Array], values: Sequence[Array], rng: np.random.Generator, cost: Node
    ) -> None:
        """Run a training step on the reference engine, for the error that it raises."""
        memory = RunMemory(self.new_memory(rng, training=True))
        for position, array in zip(self._leaves, [*inputs, *values], strict=True):
            memory[position] = array
        self._reference_forward(memory)
        of = self.graph.position(cost)
        wrt = [self.graph.position(node) for node in self.graph.parameters]
        seed: Any = np.ones(np.shape(memory[of]), np.asarray(memory[of]).dtype)[()]
        self._reference_backward(memory, of, wrt, seed)

    def _given(self, memory: Memory) -> tuple[list[Array], tuple[Kind, ...]]:
        leaves = [memory[position] for position in self._leaves]
        return leaves, tuple([(leaf.shape, leaf.dtype) for leaf in leaves])

    def _reference_program(self) -> ReferenceProgram:
        if self._reference is None:
            self._reference = ReferenceProgram(self.graph)
        return self._reference

    def _replayed(self, memory: Memory) -> np.random.Generator | None:
        """Return a generator that draws what the run drew."""
        rng: np.random.Generator | None = memory[self._rng]
        state = memory.state if isinstance(memory, RunMemory) else None
        if rng is None or state is None:
            return rng
        again = type(rng.bit_generator)()
        again.state = state
        return np.random.Generator(again)

    def _rewind(self, memory: RunMemory) -> None:
        if memory.state is not None:
            memory[self._rng].bit_generator.state = memory.state

    def _reference_memory(self, memory: Memory, replay: bool = True) -> Memory:
        """Return a memory of the reference engine with the leaves of a run filled in."""
        rng = self._replayed(memory) if replay else memory[self._rng]
        full = self._reference_program().new_memory(rng, memory[self._training])
        for position in self._leaves:
            full[position] = memory[position]
        return full

    def _complete(self, memory: Memory) -> Memory:
        """Return the memory of a run on the reference engine: its own, or that of a new run."""
        if not isinstance(memory, RunMemory) or memory.complete:
            return memory
        full = self._reference_memory(memory)
        self._reference_program().forward(full)
        return full

    def _reference_forward(self, memory: RunMemory) -> None:
        memory[:] = self._reference_memory(memory, replay=False)
        memory.complete = True
        self._reference_program().forward(memory)

    def _reference_backward(
        self, memory: Memory, of: int, wrt: Sequence[int], seed: Array
    ) -> Memory:
        return self._reference_program().backward(self._complete(memory), of, wrt, seed)
