"""What can be known of a compiled program without running it, and how long its steps take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcore import Array, Node
from mfcore.engine import Compiled, MemoryUse
from mfcore.errors import EngineError
from mfcore.feeding import Feeding
from mfjit.lowering import Kind
from mfjit.training import lower_run

if TYPE_CHECKING:
    from mfjit.ir import Lowered, Value
    from mfjit.program import Bound, CompiledProgram, Executable


class _Program(Compiled):
    """What runs and training steps have in common."""

    what: str
    lowered: Lowered
    executable: Executable

    def __init__(self, program: CompiledProgram) -> None:
        self._program = program
        self._engine = program.engine.name

    def __repr__(self) -> str:
        return f"<{self.what} on {self._engine!r}: {len(self.lowered.values)} instructions>"

    def explain(self) -> str:
        """Return the program as readable text: first the primitives, then the engine's steps."""
        return (
            f"{self.what} on the engine {self._engine!r}\n\n"
            f"primitives\n{self.lowered.text()}\n\n"
            f"steps\n{self.executable.explain()}"
        )

    def memory(self) -> MemoryUse:
        """Return how much memory the program needs."""
        lowered = self.lowered
        return MemoryUse(
            inputs=_nbytes(lowered.inputs),
            parameters=_nbytes(lowered.parameters),
            states=_nbytes(lowered.states),
            buffers=self.executable.memory,
        )

    def profile(self, feeds: Mapping[Any, Any], steps: int = 100) -> str:
        """Run the program; return a table of time by step.

        Raises
        ------
        EngineError
            If the engine does not tell its steps apart.
        """
        inputs: list[Any] = [None] * len(self._program.graph.inputs)
        Feeding(self._program.graph, range(len(inputs)))(inputs, feeds)
        bound = self._bound()
        measure: Any = getattr(bound, "profile", None)
        if measure is None:
            raise EngineError(
                f"the engine {self._engine!r} runs a program in one piece: profile it with "
                f"engine='numpy', which runs the same steps one by one"
            )
        settings = [1.0] * len(self.lowered.settings)
        table: str = measure([*inputs, *self._leaves()], settings, np.random.default_rng(0), steps)
        return table

    def _leaves(self) -> list[Array]:
        """Return what a run is given beside its inputs."""
        return []

    def _bound(self) -> Bound:
        parameters = [np.zeros(v.shape, v.dtype) for v in self.lowered.parameters]
        states = [np.zeros(v.shape, v.dtype) for v in self.lowered.states]
        return self.executable.bind(parameters, states)


class CompiledRun(_Program):
    """The program of a run."""

    what = "a run"

    def __init__(self, program: CompiledProgram, kinds: tuple[Kind, ...]) -> None:
        super().__init__(program)
        leaves = [(node.value.shape, node.value.dtype) for node in program.graph.parameters]
        self.lowered = lower_run(program.graph, [*kinds, *leaves], training=False)
        self.executable = program.engine.executable(self.lowered)

    def _leaves(self) -> list[Array]:
        return [node.value for node in self._program.graph.parameters]


class CompiledStep(_Program):
    """The program of a training step."""

    def __init__(
        self, program: CompiledProgram, kinds: tuple[Kind, ...], optimizer: Any, cost: Node
    ) -> None:
        super().__init__(program)
        self.what = f"a training step with {type(optimizer).__name__}"
        training, self.executable = program.training(kinds, cost, optimizer)
        self.lowered = training.lowered
        self._flat = training.flat

    def _bound(self) -> Bound:
        values = [node.value for node in self._program.graph.parameters]
        states = [np.zeros(v.shape, v.dtype) for v in self.lowered.states]
        return self.executable.bind(self._flat.gathered(values), states)


def _nbytes(values: list[Value]) -> int:
    return sum(value.nbytes for value in values)
