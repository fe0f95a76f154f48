"""A graph of scalars, ready to compute: its numbers, and the ways forward and back."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from mfcore import Array, Graph
from mfcore.errors import NotDifferentiableError
from mfcore.graph import collector_paused
from mfcore.node import Constant
from mfjit.tape_code import interpreter
from mfjit.tape_layout import Layout, Tape
from mfjit.tape_reading import Scalars, read_scalars
from mfjit.tape_templates import Dtype


@attrs.frozen(eq=False)
class Sweep:
    """The way back from one node.

    Attributes
    ----------
    start : int
        Slot of the node's own gradient.
    tape : Tape
        What computes the gradients.
    reached : (n,) array of bool
        Which nodes have one.
    barriers : list of int
        Operations among them without a ``backward``.
    """

    start: int
    tape: Tape
    reached: NDArray[np.bool_]
    barriers: list[int]


class ScalarTape:
    """A graph of scalars of one dtype, ready to compute.

    Parameters
    ----------
    graph : Graph
        The graph.
    dtype : dtype
        Of its inputs and parameters.

    Raises
    ------
    CannotLower
        If it is no graph of scalars.
    """

    def __init__(self, graph: Graph, dtype: Dtype) -> None:
        self.graph = graph
        self.dtype = dtype
        with collector_paused():
            self.scalars: Scalars = read_scalars(graph, dtype)
            templates = self.scalars.templates
            needed = {step.code for t in templates for step in (*t.forward, *t.backward)}
            codes, self._run = interpreter(needed, dtype)
            self.layout = Layout(self.scalars, codes)
        self._gradients = slice(self.layout.count, 2 * self.layout.count)
        self._sweeps: dict[int, Sweep] = {}
        constants = [
            (position, float(node.value))
            for position, node in enumerate(graph.nodes)
            if isinstance(node, Constant)
        ]
        self._constants = self.layout.slot[[position for position, _ in constants]]
        self._constant_values = np.array([value for _, value in constants], dtype)

    def numbers(self) -> Array:
        """Return the numbers of a run, with the constants filled in."""
        layout = self.layout
        numbers = np.empty(layout.size, self.dtype)
        numbers[2 * layout.count : 2 * layout.count + len(layout.literals)] = layout.literals
        numbers[self._constants] = self._constant_values
        return numbers

    def forward(self, numbers: Array, address: int) -> None:  # noqa: ARG002 - keeps them alive
        """Compute the values of all operations; ``address`` is that of the numbers."""
        self._run(address, *self.layout.forward.arguments)

    def backward(self, numbers: Array, address: int, sweep: Sweep, seed: Any) -> None:
        """Compute all gradients of the node that a sweep starts from, its own being ``seed``."""
        # Not 0: with -0.0 the first gradient that is added stays what it is, -0.0 included.
        numbers[self._gradients] = -0.0
        numbers[sweep.start] = seed
        self._run(address, *sweep.tape.arguments)

    @property
    def nbytes(self) -> int:
        """Bytes of all tapes so far."""
        tapes = [self.layout.forward, *[sweep.tape for sweep in self._sweeps.values()]]
        return sum(tape.nbytes for tape in tapes)

    def is_truth(self, position: int) -> bool:
        """Whether a node's value is a truth value."""
        template = self.scalars.template[position]
        return bool(template >= 0 and self.scalars.templates[template].truth)

    def sweep(self, of: int) -> Sweep:
        """Return the way back from a node."""
        found = self._sweeps.get(of)
        if found is None:
            with collector_paused():
                reached = self._reached(of)
                operations = np.flatnonzero(reached & (self.scalars.template >= 0))
                differentiable = np.array([t.differentiable for t in self.scalars.templates])
                barriers = operations[~differentiable[self.scalars.template[operations]]]
                tape = self.layout.backward(reached)
            start = int(self.layout.gradient_slot(of))
            found = self._sweeps[of] = Sweep(start, tape, reached, barriers.tolist())
        return found

    def check(self, sweep: Sweep, wrt: Sequence[int]) -> None:
        """Look for operations that stop a gradient on its way.

        Raises
        ------
        NotDifferentiableError
            If a gradient that is wanted has to pass one.
        """
        if not sweep.barriers:
            return
        needed = bytearray(len(self.graph))
        for i in wrt:
            needed[i] = True
        sources = self.graph.sources
        for i, read in enumerate(sources):
            needed[i] |= any(needed[source] for source in read)
        for i in reversed(sweep.barriers):
            if any(needed[source] for source in sources[i]):
                raise NotDifferentiableError(
                    f"{self.graph.describe(self.graph.nodes[i])} has no backward: no gradient "
                    f"passes through it"
                )

    def text(self) -> str:
        """Return what is on the tape as readable text."""
        layout, scalars = self.layout, self.scalars
        counts = np.bincount(scalars.template + 1, minlength=len(scalars.templates) + 1)[1:]
        lines = [
            f"{layout.count} scalars of {self.dtype}, {layout.size * self.dtype.itemsize} bytes; "
            f"forward: {len(layout.forward.runs)} runs of instructions, "
            f"{layout.forward.nbytes} bytes"
        ]
        for of, sweep in self._sweeps.items():
            name = self.graph.name(self.graph.nodes[of])
            lines.append(
                f"backward from {name}: {len(sweep.tape.runs)} runs, {sweep.tape.nbytes} bytes"
            )
        for count, template in zip(counts.tolist(), scalars.templates, strict=True):
            forward = ", ".join([step.code[0] for step in template.forward])
            backward = ", ".join([step.code[0] for step in template.backward]) or "nothing"
            lines.append(f"{count} times {forward}; backward {backward}")
        return "\n".join(lines)

    def _reached(self, of: int) -> NDArray[np.bool_]:
        """Return which nodes a gradient of one reaches."""
        scalars = self.scalars
        edges = scalars.edges[: scalars.starts[of + 1]]
        sends = self._sending()[: len(edges)]
        operation = scalars.template[:of] >= 0
        reached = np.zeros(len(scalars.template), bool)
        reached[edges[sends]] = True
        if np.all(reached[:of] >= operation):  # from each of them one way at least leads on
            reached[of] = True
            return reached
        marks = bytearray(len(reached))
        marks[of] = True
        starts, targets = array("i", scalars.starts.tobytes()), array("i", edges.tobytes())
        sending = sends.tobytes()
        for i in range(of, -1, -1):
            if marks[i]:
                for edge in range(starts[i], starts[i + 1]):
                    if sending[edge]:
                        marks[targets[edge]] = True
        return np.frombuffer(marks, np.bool_)

    def _sending(self) -> NDArray[np.bool_]:
        """Return of each input of each node whether a gradient is sent to it."""
        scalars = self.scalars
        sends = np.zeros(len(scalars.edges), bool)
        order = np.argsort(scalars.template, kind="stable")
        bounds = np.searchsorted(scalars.template[order], np.arange(len(scalars.templates) + 1))
        for number, template in enumerate(scalars.templates):
            first = scalars.starts[order[bounds[number] : bounds[number + 1]]]
            for k, _ in template.gradients:
                sends[first + k] = True
        return sends
