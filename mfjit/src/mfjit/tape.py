"""Graphs of many scalars on a compiling engine: interpreted from a tape by compiled code.

A statement for each node does not scale: compiling a hundred thousand of them takes minutes.
Here the graph becomes arrays of slots (``tape_layout``), and one compiled loop (``tape_code``)
goes through them, at a few nanoseconds a node. One sweep back gives all gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcore import Array, Graph, Node
from mfcore.engine import Compiled, EngineName, Memory, Trainer
from mfcore.node import Constant
from mfcore.optimizer import Updates
from mfjit.errors import CannotLower
from mfjit.lowering import Kind
from mfjit.parameters import FlatParameters
from mfjit.program import CompiledProgram, CompilingEngine, Executable, RunMemory
from mfjit.scalar_tape import ScalarTape
from mfjit.tape_reading import scalar_dtype
from mfjit.tape_templates import Dtype
from mfjit.tape_training import (
    CompiledTape,
    InferenceExecutable,
    TapeTrainer,
    lower_tape_training,
)
from mfjit.training import TrainingProgram

if TYPE_CHECKING:
    from mfcore import Engine
    from mfcore.plugins import Observers
    from mfcore.run import Run


FEW = 16
"""Gradients up to which each is looked up by itself."""


def program_for(graph: Graph, engine: CompilingEngine) -> TapeProgram | None:
    """Return a program that runs a graph of scalars from a tape; ``None`` for other graphs.

    Parameters
    ----------
    graph : Graph
        Its parameters, and its inputs as far as they are declared, have to be single floats of
        one dtype, and every operation has to be a few elementwise instructions on them.
    engine : CompilingEngine
        What runs whatever else the inputs may be at a run.
    """
    dtype = scalar_dtype(graph)
    if dtype is None:
        return None
    try:
        tape = ScalarTape(graph, dtype)
    except CannotLower:
        return None
    return TapeProgram(graph, engine, tape)


class TapeMemory(list[Any]):
    """What a run on a tape knows: the leaves by position, and all numbers.

    Attributes
    ----------
    rng, training
        What it was made with.
    tape : ScalarTape or None
        Where the numbers are.
    numbers : array
        Values and gradients.
    swept : (int, bytes) or None
        The node, and its own gradient, whose gradients there are.
    other : RunMemory or None
        The memory of a run that was no tape's.
    """

    rng: np.random.Generator | None = None
    training: bool = False
    tape: ScalarTape | None = None
    numbers: Array
    swept: tuple[int, bytes] | None = None
    other: RunMemory | None = None


class TapeGradients(list[Any]):
    """The gradients of a backward pass, by position, and the memory of the run."""

    found: dict[int, Any]
    run: TapeMemory


class TapeProgram(CompiledProgram):
    """A graph of scalars on a compiling engine.

    Inputs that are no scalars of one float dtype, such as arrays of rows, run as on any other
    program; observed runs, and single integers, on the reference engine.
    """

    def __init__(self, graph: Graph, engine: CompilingEngine, tape: ScalarTape) -> None:
        super().__init__(graph, engine)
        self._tapes: dict[Dtype, ScalarTape | None] = {tape.dtype: tape}
        self._room = max(self._leaves) + 1
        self._own = {(node.value.shape, node.value.dtype) for node in graph.parameters}
        self._elsewhere = ""

    def name(self, engine: Engine) -> EngineName:
        if self._elsewhere:
            return EngineName("reference", self._elsewhere)
        return super().name(engine)

    def tape_for(self, kinds: Iterable[Kind]) -> ScalarTape | None:
        """Return the tape for leaves of these shapes and dtypes, ``None`` where there is none."""
        alike = set(kinds)
        if len(alike) > 1:
            return None
        shape, dtype = alike.pop()
        if shape or dtype not in (np.float32, np.float64):
            return None
        if dtype not in self._tapes:
            try:
                self._tapes[dtype] = ScalarTape(self.graph, dtype)
            except CannotLower:
                self._tapes[dtype] = None
        return self._tapes[dtype]

    # Runs

    def new_memory(self, rng: np.random.Generator | None, training: bool) -> Memory:
        memory = TapeMemory([None] * self._room)
        memory.rng, memory.training = rng, training
        return memory

    def forward(self, memory: Memory) -> None:
        assert isinstance(memory, TapeMemory)
        leaves = [memory[position] for position in self._leaves]
        kinds = [(leaf.shape, leaf.dtype) for leaf in leaves[: len(self.graph.inputs)]]
        tape = self.full_tape_for(kinds)
        self._elsewhere = ""
        if tape is not None:
            memory.tape = tape
            memory.numbers = numbers = tape.numbers()
            numbers[: len(leaves)] = np.fromiter(leaves, tape.dtype, len(leaves))
            tape.forward(numbers, numbers.ctypes.data)
            return
        memory.other = self._full(memory)
        if any(shape for shape, _ in kinds):
            super().forward(memory.other)
        else:
            dtypes = ", ".join(sorted({str(dtype) for _, dtype in [*kinds, *self._own]}))
            self._elsewhere = f"the scalars given are not floats of one dtype, but {dtypes}"
            self._reference_forward(memory.other)

    def value(self, memory: Memory, position: int) -> Any:
        if isinstance(memory, TapeGradients):
            memory = memory.run
        if not isinstance(memory, TapeMemory):
            return super().value(memory, position)
        if memory.other is not None:
            return super().value(memory.other, position)
        if position < len(memory) and memory[position] is not None:
            return memory[position]
        node, tape = self.graph.nodes[position], memory.tape
        if isinstance(node, Constant):
            return node.value
        assert tape is not None
        number = memory.numbers[tape.layout.slot[position]]
        return np.bool_(number) if tape.is_truth(position) else number

    def backward(self, memory: Memory, of: int, wrt: Iterable[int], seed: Array) -> Memory:
        assert isinstance(memory, TapeMemory)
        wanted, tape = tuple(wrt), memory.tape
        if memory.other is None and (tape is None or tape.is_truth(of)):
            return self._reference_backward(self._full(memory), of, wanted, seed)
        if memory.other is not None:
            if memory.other.complete:
                return self._reference_backward(memory.other, of, wanted, seed)
            return super().backward(memory.other, of, wanted, seed)
        assert tape is not None
        sweep = tape.sweep(of)
        tape.check(sweep, wanted)
        swept = of, np.asarray(seed).tobytes()
        if memory.swept != swept:
            tape.backward(memory.numbers, memory.numbers.ctypes.data, sweep, seed)
            memory.swept = swept
        result = TapeGradients()
        result.run = memory
        if len(wanted) <= FEW:  # a look at each is quicker than arrays of them
            slot, first = tape.layout.slot, tape.layout.count
            found: Any = [memory.numbers[slot[position] + first] for position in wanted]
            there = [sweep.reached[position] for position in wanted]
        else:
            positions = np.array(wanted, np.intp)
            found = memory.numbers[tape.layout.gradient_slot(positions)]
            there = sweep.reached[positions].tolist()
        result.found = {
            position: gradient if reached else None
            for position, gradient, reached in zip(wanted, found, there, strict=True)
        }
        return result

    def gradients(self, memory: Memory, positions: Iterable[int]) -> list[Array | None]:
        if isinstance(memory, TapeGradients):
            return [memory.found[position] for position in positions]
        return super().gradients(memory, positions)

    def forward_observed(self, memory: Memory, observers: Observers, run: Run) -> None:
        assert isinstance(memory, TapeMemory)
        memory.other = self._full(memory)
        super().forward_observed(memory.other, observers, run)

    def backward_observed(
        self,
        memory: Memory,
        of: int,
        wrt: Iterable[int],
        seed: Array,
        observers: Observers,
        run: Run,
    ) -> Memory:
        assert isinstance(memory, TapeMemory)
        full = self._full(memory) if memory.other is None else memory.other
        return super().backward_observed(full, of, wrt, seed, observers, run)

    def _full(self, memory: TapeMemory) -> RunMemory:
        """Return a memory as other programs have it, with the leaves of a run filled in."""
        full = super().new_memory(memory.rng, memory.training)
        assert isinstance(full, RunMemory)
        for position in self._leaves:
            full[position] = memory[position]
        return full

    # Training and inference

    def full_tape_for(self, kinds: Iterable[Kind]) -> ScalarTape | None:
        """Return the tape for inputs of these shapes and dtypes, beside the parameters."""
        return self.tape_for([*kinds, *self._own])

    def trainer(
        self,
        updates: Updates,
        cost: int,
        values: list[Array],
        rng: np.random.Generator,
        planned: int | None = None,  # noqa: ARG002 - for engines that choose
    ) -> Trainer:
        return TapeTrainer(self, updates, self.graph.nodes[cost], values, rng)

    def training(
        self, kinds: Sequence[Kind], cost: Node, optimizer: Any, few: bool = False
    ) -> tuple[TrainingProgram, Executable]:
        tape = self.full_tape_for(kinds)
        if tape is None:
            return super().training(kinds, cost, optimizer, few)
        return lower_tape_training(tape, cost, optimizer)

    def compiled(self, inputs: list[Array], optimizer: Any, cost: int) -> Compiled:
        tape = self.full_tape_for([(array.shape, array.dtype) for array in inputs])
        if tape is None:
            return super().compiled(inputs, optimizer, cost)
        node = None if optimizer is None else self.graph.nodes[cost]
        return CompiledTape(self, tape, optimizer, node)

    def inference(
        self, kinds: Sequence[Kind], few: bool = False
    ) -> tuple[Executable, FlatParameters]:
        tape = self.full_tape_for(kinds)
        if tape is None:  # single integers are not worth compiling so many nodes for
            return super().inference(kinds, few or not any(shape for shape, _ in kinds))
        flat = FlatParameters(self.graph)
        return InferenceExecutable(tape, flat, self.graph.outputs), flat

    def fail(
        self, inputs: Sequence[Array], values: Sequence[Array], rng: np.random.Generator, cost: Node
    ) -> None:
        memory = TapeMemory([None] * self._room)
        memory.rng, memory.training = rng, True
        for position, array in zip(self._leaves, [*inputs, *values], strict=True):
            memory[position] = array
        full = self._full(memory)
        self._reference_forward(full)
        wrt = [self.graph.position(node) for node in self.graph.parameters]
        of = self.graph.position(cost)
        seed: Any = np.ones(np.shape(full[of]), np.asarray(full[of]).dtype)[()]
        self._reference_backward(full, of, wrt, seed)
