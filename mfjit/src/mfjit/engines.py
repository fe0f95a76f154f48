"""The engines of the pack: ``numpy``, ``numba``, and ``auto``, which chooses between them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from mfcore import Array, Engine, Graph, Node
from mfcore.engine import EngineName, Trainer
from mfcore.errors import PackError
from mfcore.optimizer import Updates
from mfjit.errors import CannotCompile
from mfjit.ir import ELEMENTWISE, LEAVES, VIEWS, Lowered
from mfjit.lowering import Kind
from mfjit.program import CompiledProgram, CompilingEngine, Executable
from mfjit.training import TrainingProgram

INSTALL = "pip install 'mfjit[numba]'"


class NumpyEngine(CompilingEngine):
    """Runs a lowered program as NumPy calls into planned buffers."""

    name = "numpy"

    def executable(self, lowered: Lowered) -> Executable:
        """Return the program as a list of NumPy calls."""
        from mfjit.numpy_engine import NumpyExecutable

        return NumpyExecutable(lowered)

    def compile(self, graph: Graph) -> CompiledProgram:
        """Return a program; of a graph too large to be worth it, one that says so."""
        program = super().compile(graph)
        if len(graph) > MOST_NODES:
            program.reason = (
                f"a graph of {len(graph)} nodes, more than {MOST_NODES}, takes longer to compile "
                f"than it saves"
            )
        return program


class NumbaEngine(CompilingEngine):
    """Runs a lowered program as one compiled function.

    Raises
    ------
    PackError
        If numba or SciPy is not installed.
    """

    name = "numba"
    slow = True
    depends_on = ("numba", "llvmlite", "scipy")
    fixed_hyperparameters = False
    strict = True
    most_signatures = 8

    @property
    def for_few(self) -> CompilingEngine:
        """NumPy, which takes no time to compile."""
        return NumpyEngine()

    def __init__(self) -> None:
        if missing := missing_packages():
            raise PackError(
                f"the engine 'numba' needs {' and '.join(missing)}, which cannot be found: "
                f"{INSTALL}"
            )

    def compile(self, graph: Graph) -> CompiledProgram:
        """Return a program; a large graph of scalars runs from a tape."""
        return _on_a_tape(graph, self) or super().compile(graph)

    def executable(self, lowered: Lowered) -> Executable:
        """Return the program compiled, from the disk cache where it has been before."""
        from mfjit.numba_engine import NumbaExecutable

        return NumbaExecutable(lowered)


def _on_a_tape(graph: Graph, engine: NumbaEngine) -> CompiledProgram | None:
    if len(graph) < SMALLEST_TAPE:
        return None
    from mfjit.tape import program_for

    return program_for(graph, engine)


def missing_packages() -> list[str]:
    """Return what the engine ``numba`` needs and is not installed."""
    return [name for name in ("numba", "scipy", "threadpoolctl") if find_spec(name) is None]


class AutoEngine(NumpyEngine):
    """Chooses ``numba`` where it is installed and worth the time it takes to compile.

    The choice depends on the program and on how many steps are planned, never on a clock, so
    that the same call gives the same bits again. Runs and single steps, of which nobody
    knows how many there will be, stay on ``numpy``.
    """

    name = "auto"
    depends_on = NumbaEngine.depends_on

    def compile(self, graph: Graph) -> CompiledProgram:
        """Return a program that chooses when it trains; a large graph of scalars is on a tape."""
        if missing_packages():
            return AutoProgram(graph, self)
        return _on_a_tape(graph, NumbaEngine()) or AutoProgram(graph, self)


class AutoProgram(CompiledProgram):
    """A graph on whichever engine is worth it."""

    def __init__(self, graph: Graph, engine: AutoEngine) -> None:
        super().__init__(graph, engine)
        self._planned: int | None = None
        self._choice = EngineName("numpy", UNPLANNED)
        self._numba: NumbaEngine | None = None
        self._missing = missing_packages()

    def name(self, engine: Engine) -> EngineName:
        if self.reason:
            return super().name(engine)
        if self._choice.reason == UNPLANNED:
            return self._choice
        return EngineName(
            "numpy",
            f"single runs are not compiled for; training is on {self._choice}: "
            f"{self._choice.reason}",
        )

    def training_name(self, engine: Engine) -> EngineName:
        return super().name(engine) if self.reason else self._choice

    def trainer(
        self,
        updates: Updates,
        cost: int,
        values: list[Array],
        rng: np.random.Generator,
        planned: int | None = None,
    ) -> Trainer:
        self._planned = planned
        return super().trainer(updates, cost, values, rng, planned)

    def training(
        self, kinds: Sequence[Kind], cost: Node, optimizer: Any, few: bool = False
    ) -> tuple[TrainingProgram, Executable]:
        found = super().training(kinds, cost, optimizer)
        if few:
            return found
        chosen = self._choose(found[0].lowered)
        if chosen.reason != self._choice.reason:
            self._choice = chosen
        if chosen != "numba":
            return found
        if self._numba is None:
            self._numba = NumbaEngine()
        try:
            return found[0], self._numba.executable(found[0].lowered)
        except CannotCompile as error:
            self._choice = EngineName("numpy", f"numba cannot compile it: {error}")
            return found

    def _choose(self, lowered: Lowered) -> EngineName:
        if self._missing:
            return EngineName("numpy", f"{' and '.join(self._missing)} cannot be found ({INSTALL})")
        if self._planned is None:
            return self._choice
        saved, compiling = self._planned * seconds_saved(lowered), seconds_to_compile(lowered)
        name = "numba" if saved > compiling else "numpy"
        return EngineName(
            name,
            f"{self._planned} steps are planned, which numba is estimated to make "
            f"{saved:.3g} s quicker, for {compiling:.3g} s of compiling",
        )


MOST_NODES = 5000
"""Up to this size a graph is compiled to NumPy calls, one or so for each node."""

SMALLEST_TAPE = 300
"""From this size on a graph of scalars runs from a tape: code for each node takes too long."""

UNPLANNED = "no number of steps is planned, so none is compiled for"

CALL_SECONDS = 0.5e-6
"""What a NumPy call costs beyond its work, in round numbers."""

BYTES_PER_SECOND = 1e10
"""Of intermediate results that numba keeps in registers, in round numbers."""


def seconds_saved(lowered: Lowered) -> float:
    """Estimate how much quicker a step of a program is compiled than as NumPy calls."""
    work = [value for value in lowered.values if value.op not in LEAVES | VIEWS]
    moved = sum(value.nbytes for value in work if value.op in ELEMENTWISE)
    return len(work) * CALL_SECONDS + moved / BYTES_PER_SECOND


def seconds_to_compile(lowered: Lowered) -> float:
    """Estimate how long numba takes for a program, imports included; in round numbers."""
    return 1.0 + 0.02 * len(lowered.values)
