"""Training and inference from a tape: a step is both ways over it, and one update of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcore import Array, Node
from mfcore.engine import Compiled, MemoryUse
from mfcore.errors import EngineError
from mfjit.lowering import Kind
from mfjit.numpy_engine import NumpyExecutable
from mfjit.parameters import FlatParameters
from mfjit.program import Bound
from mfjit.trainer import CompiledTrainer
from mfjit.training import TrainingProgram, lower_update

if TYPE_CHECKING:
    from mfjit.scalar_tape import ScalarTape
    from mfjit.tape import TapeProgram


def lower_tape_training(
    tape: ScalarTape, cost: Node, optimizer: Any
) -> tuple[TrainingProgram, TapeExecutable]:
    """Return a training step from a tape.

    Parameters
    ----------
    tape : ScalarTape
        The graph.
    cost : Node
        What to make small.
    optimizer : optimizer
        Its update is done to all parameters as one array, where it treats all elements alike.

    Raises
    ------
    NotDifferentiableError
        If an operation without ``backward`` is between the cost and a parameter.
    """
    graph = tape.graph
    sweep = tape.sweep(graph.position(cost))
    positions = [graph.position(node) for node in graph.parameters]
    tape.check(sweep, positions)
    still = frozenset(
        node
        for node, position in zip(graph.parameters, positions, strict=True)
        if not sweep.reached[position]
    )
    flat = FlatParameters(graph, still)
    program = lower_update(flat, optimizer)
    return program, TapeExecutable(tape, flat, cost, program)


class TapeExecutable:
    """A training step from a tape, ready to run.

    Parameters
    ----------
    tape : ScalarTape
        The graph.
    flat : FlatParameters
        Where the parameters are.
    cost : Node
        What is made small.
    program : TrainingProgram
        The update.
    """

    def __init__(
        self, tape: ScalarTape, flat: FlatParameters, cost: Node, program: TrainingProgram
    ) -> None:
        self.tape = tape
        self.cost = tape.graph.position(cost)
        self.sweep = tape.sweep(self.cost)
        self.slots = _slots(tape, flat)
        count = tape.layout.count
        self.gradients = [_further(self.slots[i], count) for i in flat.trained]
        updates = program.updated and flat.trained
        self.update = NumpyExecutable(program.lowered) if updates else None

    @property
    def memory(self) -> int:
        """Bytes of the numbers, and of the update's buffers."""
        layout = self.tape.layout
        own = layout.size * self.tape.dtype.itemsize
        return own + (self.update.memory if self.update is not None else 0)

    def bind(self, parameters: list[Array], states: list[Array]) -> Bound:
        """Return what trains these parameters, in place."""
        return _Training(self, parameters, states)

    def explain(self) -> str:
        """Return what is done as readable text."""
        update = "" if self.update is None else f"\nupdate:\n{self.update.explain()}"
        return self.tape.text() + update


class InferenceExecutable:
    """Outputs of a graph from a tape, ready to run."""

    def __init__(self, tape: ScalarTape, flat: FlatParameters, outputs: Iterable[Node]) -> None:
        self.tape = tape
        self.slots = _slots(tape, flat)
        self.outputs = [tape.graph.position(node) for node in outputs]

    @property
    def memory(self) -> int:
        """Bytes of the numbers."""
        return self.tape.layout.size * self.tape.dtype.itemsize

    def bind(self, parameters: list[Array], states: list[Array]) -> Bound:  # noqa: ARG002
        """Return what computes with these parameters."""
        return _Inference(self, parameters)

    def explain(self) -> str:
        """Return what is done as readable text."""
        return self.tape.text()


class CompiledTape(Compiled):
    """What can be known of a run, or of a training step, from a tape."""

    def __init__(
        self, program: TapeProgram, tape: ScalarTape, optimizer: Any, cost: Node | None
    ) -> None:
        graph, item = program.graph, tape.dtype.itemsize
        self._engine = program.engine.name
        self._states = 0
        self._executable: TapeExecutable | InferenceExecutable
        if cost is None:
            self._what = "a run"
            self._executable = InferenceExecutable(tape, FlatParameters(graph), graph.outputs)
        else:
            self._what = f"a training step with {type(optimizer).__name__}"
            training, self._executable = lower_tape_training(tape, cost, optimizer)
            self._states = sum(state.nbytes for state in training.lowered.states)
        self._inputs = len(graph.inputs) * item
        self._parameters = len(graph.parameters) * item

    def explain(self) -> str:
        """Return what is done as readable text."""
        return f"{self._what} on the engine {self._engine!r}\n\n{self._executable.explain()}"

    def memory(self) -> MemoryUse:
        """Return how much memory a run needs, the tape included."""
        return MemoryUse(
            inputs=self._inputs,
            parameters=self._parameters,
            states=self._states,
            buffers=self._executable.memory + self._executable.tape.nbytes,
        )

    def profile(self, feeds: Mapping[Any, Any], steps: int = 100) -> str:  # noqa: ARG002
        """Refuse: there are no steps to tell apart.

        Raises
        ------
        EngineError
            Always.
        """
        raise EngineError(
            f"the engine {self._engine!r} runs scalars from a tape, which has no steps to time"
        )


class TapeTrainer(CompiledTrainer):
    """Steps from a tape; those on inputs that no tape takes are handed on."""

    program: TapeProgram

    def _for(
        self, kinds: tuple[Kind, ...], few: bool = False
    ) -> tuple[TrainingProgram, Bound] | None:
        if not any(shape for shape, _ in kinds) and self.program.full_tape_for(kinds) is None:
            return None
        return super()._for(kinds, few)


def _slots(tape: ScalarTape, flat: FlatParameters) -> list[Any]:
    """Return for each flat array the slots of its elements."""
    positions = np.array([tape.graph.position(node) for node in tape.graph.parameters], np.intp)
    own = np.array([part.flat for part in flat.parts], np.intp)
    slots = tape.layout.slot[positions].astype(np.intp)
    return [_as_slice(slots[own == i]) for i in range(len(flat.flats))]


def _as_slice(slots: Array) -> Any:
    """Return slots as a slice where they are in a row: that is quicker to read and write."""
    if len(slots) and np.array_equal(slots, np.arange(slots[0], slots[0] + len(slots))):
        return slice(int(slots[0]), int(slots[-1]) + 1)
    return slots


def _further(slots: Any, count: int) -> Any:
    if isinstance(slots, slice):
        return slice(slots.start + count, slots.stop + count)
    return slots + count


class _Inference:
    """Numbers of a tape with parameters filled in."""

    def __init__(
        self, executable: TapeExecutable | InferenceExecutable, parameters: list[Array]
    ) -> None:
        tape = executable.tape
        self.executable = executable
        self.tape = tape
        self.parameters = parameters
        self.numbers = tape.numbers()
        self.address = self.numbers.ctypes.data
        self.inputs = slice(0, len(tape.graph.inputs))

    def step(
        self,
        inputs: Sequence[Array],
        settings: Sequence[float],  # noqa: ARG002
        rng: np.random.Generator | None,  # noqa: ARG002
    ) -> list[Any]:
        """Return the outputs."""
        executable = self.executable
        assert isinstance(executable, InferenceExecutable)
        self.forward(inputs)
        values = self.numbers[self.tape.layout.slot[executable.outputs]]
        return [
            np.bool_(value) if self.tape.is_truth(position) else value
            for position, value in zip(executable.outputs, values, strict=True)
        ]

    def forward(self, inputs: Sequence[Array]) -> None:
        """Compute all values."""
        numbers = self.numbers
        if len(inputs):
            numbers[self.inputs] = inputs
        for slots, array in zip(self.executable.slots, self.parameters, strict=True):
            numbers[slots] = array
        self.tape.forward(numbers, self.address)

    def epoch(self, *_: Any) -> Array:
        """Do nothing: there is no loss."""
        raise NotImplementedError


class _Training(_Inference):
    """Numbers of a tape with parameters that are trained."""

    def __init__(
        self, executable: TapeExecutable, parameters: list[Array], states: list[Array]
    ) -> None:
        super().__init__(executable, parameters)
        self.training = executable
        self.cost = int(self.tape.layout.slot[executable.cost])
        self.update = None
        if executable.update is not None:
            self.update = executable.update.bind(parameters, states)

    def step(
        self,
        inputs: Sequence[Array],
        settings: Sequence[float],
        rng: np.random.Generator | None,
    ) -> list[Any]:
        """Train for one step; return the cost, and the gradients if they are not applied."""
        training = self.training
        self.forward(inputs)
        cost = self.numbers[self.cost]
        self.tape.backward(self.numbers, self.address, training.sweep, 1)
        gradients = [self.numbers[slots] for slots in training.gradients]
        if self.update is None:
            return [cost, *[gradient.copy() for gradient in gradients]]
        self.update.step(gradients, list(settings), rng)
        return [cost]

    def epoch(
        self,
        arrays: list[Array],
        rows: Array,
        settings: Array,
        rng: np.random.Generator | None,
        stop_when_not_finite: bool,
    ) -> Array:
        """Train for a step for each line of ``rows``, in a graph without inputs."""
        assert not arrays
        losses: list[float] = []
        for given in settings[: len(rows)].tolist():
            losses.append(float(self.step([], given, rng)[0]))
            if stop_when_not_finite and not np.isfinite(losses[-1]):
                break
        return np.array(losses)
