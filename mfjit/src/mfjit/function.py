"""Inference on a compiling engine: a graph as a function that any number of threads may call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcore import Array
from mfcore.feeding import Feeding
from mfcore.function import GraphFunction
from mfcore.reference import ReferenceProgram
from mfjit.errors import CannotLower

if TYPE_CHECKING:
    from mfjit.program import Bound, CompiledProgram, Executable


class _Signature:
    """What runs for inputs of some shapes and dtypes.

    Each call takes a bound program of its own, and gives it back; there are as many as there
    have been calls at the same time.
    """

    __slots__ = ("executable", "flats", "free")

    def __init__(self, executable: Executable, flats: list[Array]) -> None:
        self.executable = executable
        self.flats = flats
        self.free: list[Bound] = []


class CompiledFunction(GraphFunction):
    """A graph as a function; compiled once for each signature of its arguments."""

    program: CompiledProgram

    def __init__(
        self,
        program: CompiledProgram,
        places: Sequence[int],
        count: int,
        values: Sequence[Array],
        single: bool,
    ) -> None:
        super().__init__(program, places, count, values, single)
        self._values = [np.asarray(value) for value in values]
        self._signatures: dict[Any, _Signature] = {}
        self._checked = Feeding(program.graph, range(len(places)))
        self._all = tuple(places) == tuple(range(count))

    def __call__(self, *arrays: Any) -> Any:
        """Return the outputs for these inputs.

        Raises
        ------
        FeedError
            If an array does not fit its input, or their number is wrong.
        ForwardError
            If an operation raises.
        """
        inputs: Any = arrays if self._all else [arrays[place] for place in self._places]
        try:
            signature = self._signatures[tuple([(x.shape, x.dtype) for x in inputs])]
        except (KeyError, AttributeError):
            if len(arrays) != self.count:
                return super().__call__(*arrays)  # which says so
            inputs = self._fitted(inputs)
            found = self._signature(inputs)
            if found is None:
                return self._on_reference(arrays)
            signature = found
        try:
            bound = signature.free.pop()
        except IndexError:
            bound = signature.executable.bind(signature.flats, [])
        try:
            outputs = bound.step(inputs, [], None)
        except Exception:
            self._on_reference(arrays)  # raises what names the node
            raise
        signature.free.append(bound)
        return outputs[0] if self.single else tuple(outputs)

    def explain(self, *arrays: Any) -> str:
        """Return the program that runs for such inputs, as readable text."""
        signature = self._signature(self._fitted([arrays[place] for place in self._places]))
        if signature is None:
            return f"runs on the reference engine: {self.program.reason}"
        return signature.executable.explain()

    def _fitted(self, inputs: Sequence[Any]) -> list[Array]:
        fitted: list[Any] = [None] * len(inputs)
        self._checked(fitted, dict(zip(self.program.graph.inputs, inputs, strict=True)))
        return fitted

    def _signature(self, inputs: Sequence[Array]) -> _Signature | None:
        """Return what runs for inputs; compile it where they are the first of their kind."""
        kinds = tuple([(x.shape, x.dtype) for x in inputs])
        found = self._signatures.get(kinds)
        program = self.program
        if found is None and not program.reason:
            try:
                few = len(self._signatures) >= program.engine.most_signatures
                executable, flat = program.inference(kinds, few)
                found = _Signature(executable, flat.gathered(self._values))
            except CannotLower as error:
                self._on_reference(inputs)  # raises where the fault is the user's
                program.give_up(error)
                return None
            # Two threads may have come here at once: one of both programs is kept.
            found = self._signatures.setdefault(kinds, found)
        return found

    def _on_reference(self, arrays: Sequence[Any]) -> Any:
        graph = self.program.graph
        reference = GraphFunction(
            ReferenceProgram(graph), self._places, self.count, self._values, self.single
        )
        return reference(*arrays)
