"""A graph of scalars as a tape: arrays of what to compute, from which slots, into which.

All numbers of a run are one array: the nodes' values, their gradients, the literals, and room
for what is needed in between. A tape is a list of *runs*, each the same instruction many times
over, and the slots of all arguments in a row, in the order in which they are read. Results of a
run lie side by side.

Nodes that follow each other and do not depend on each other make a *chunk*. Within a chunk those
of one template are computed together, so that wide graphs have few and long runs. Gradients are
added up in the reference engine's order all the same: a chunk's contributions are computed
first, and then added, the last node's first.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

from mfjit.tape_reading import Integers, Scalars
from mfjit.tape_templates import Code, Operand, Step, Template

Slots: TypeAlias = NDArray[np.uint32]
Runs: TypeAlias = NDArray[np.int32]

ACCUMULATE: Code = ("accumulate", "ff", "f")
"""The only instruction that changes what is there: its first argument grows by its second."""

LONGEST_CHUNK = 2048
"""Nodes of a chunk at most: what is between their instructions stays in the cache."""


@attrs.define(eq=False)
class Tape:
    """Instructions to be done one after the other.

    Attributes
    ----------
    runs : (k, 3) array of int32
        Number of an instruction among the codes, how often, and the slot of the first result.
    slots : array of uint32
        The arguments of all of them, in order.
    """

    runs: Runs
    slots: Slots
    arguments: tuple[int, int, int] = attrs.field(init=False)
    """Addresses of slots and runs, and how many runs there are."""

    def __attrs_post_init__(self) -> None:
        self.arguments = self.slots.ctypes.data, self.runs.ctypes.data, len(self.runs)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.runs.nbytes + self.slots.nbytes


class Layout:
    """Where the numbers of a graph are, and its tapes.

    Parameters
    ----------
    scalars : Scalars
        The graph.
    codes : sequence of Code
        Instructions by number; all that the templates use, and ``ACCUMULATE``.

    Attributes
    ----------
    slot : (n,) array of uint32
        Of each node's value; its gradient is ``count`` slots further on.
    literals : array
        The numbers that stand in the slots from ``2 * count`` on.
    size : int
        Number of slots in all.
    number : dict of Code to int
        Numbers of the instructions.
    forward : Tape
        What computes the values of all operations.
    """

    def __init__(self, scalars: Scalars, codes: Sequence[Code]) -> None:
        self.scalars = scalars
        self.count = count = len(scalars.template)
        self.number = {code: i for i, code in enumerate(codes)}
        self._order, self._chunk = _chunked(scalars)
        leaves = scalars.leaves
        self.slot: Slots = np.empty(count, np.uint32)
        self.slot[leaves] = np.arange(len(leaves))
        self.slot[self._order] = np.arange(len(leaves), count)
        literals = _literals(scalars.templates, scalars.dtype)
        self.literals = np.array(list(literals.values()), scalars.dtype)
        self._literal_slots = {key: 2 * count + i for i, key in enumerate(literals)}
        self._room = 2 * count + len(literals)
        self.size = self._room + self._largest_room()
        self.forward = self._forward_tape()

    def gradient_slot(self, positions: Any) -> Any:
        """Return the slots of nodes' gradients."""
        return self.slot[positions] + np.uint32(self.count)

    def literal_slot(self, number: float) -> int:
        """Return the slot of a literal."""
        return self._literal_slots[_bits(number, self.scalars.dtype)]

    def backward(self, reached: NDArray[np.bool_]) -> Tape:
        """Return the tape that sends the gradients of the reached operations to their inputs."""
        scalars = self.scalars
        kept = np.flatnonzero(reached[self._order])
        kept = kept[np.argsort(-self._chunk[kept], kind="stable")]  # the last chunk first
        order = self._order[kept]
        segments = _Segments(self._chunk[kept], scalars.template[order])
        rooms = np.array([len(t.backward) for t in scalars.templates], np.int64)
        before = _exclusive_sum(segments.lengths * rooms[segments.template])
        starts = self._room + before - before[np.searchsorted(segments.chunk, segments.chunk)]
        # What is sent, by node, the last node's first: the reference engine's order.
        sends = np.array([len(t.gradients) for t in scalars.templates], np.int64)
        sent = sends[scalars.template[order]]
        descending = np.argsort(-order, kind="stable")
        place = np.empty(len(order), np.int64)
        place[descending] = _exclusive_sum(sent[descending])
        additions = np.zeros(segments.chunk_count, np.int64)
        np.add.at(additions, segments.chunk_of_node, sent)
        place -= _exclusive_sum(additions)[segments.chunk_of_node]
        writer = _Writer(self, order, segments, starts)
        programs = [t.backward for t in scalars.templates]
        added_at = writer.lay_out(programs, additions, self.number[ACCUMULATE])
        for number, template in enumerate(scalars.templates):
            writer.write(number, template.backward)
            nodes = segments.nodes(number)
            at = added_at[segments.chunk_of_node[nodes]] + 2 * place[nodes]
            for k, (source, operand) in enumerate(template.gradients):
                into = scalars.edges[scalars.starts[order[nodes]] + source]
                writer.slots[at + 2 * k] = self.gradient_slot(into)
                writer.slots[at + 2 * k + 1] = writer.resolved(operand, nodes)
        return writer.tape()

    def _forward_tape(self) -> Tape:
        scalars, order = self.scalars, self._order
        segments = _Segments(self._chunk, scalars.template[order])
        starts = np.full(len(segments.template), self._room, np.int64)
        writer = _Writer(self, order, segments, starts)
        writer.lay_out([t.forward for t in scalars.templates])
        results = self.slot[order[segments.first]]
        for number, template in enumerate(scalars.templates):
            writer.write(number, template.forward, results)
        return writer.tape()

    def _largest_room(self) -> int:
        """Return how many slots a chunk needs at most beside those of its nodes."""
        scalars = self.scalars
        template = scalars.template[self._order]
        forward = np.array([len(t.forward) for t in scalars.templates])
        backward = np.array([len(t.backward) for t in scalars.templates])
        if not len(template):
            return 0
        both = [np.bincount(self._chunk, rooms[template]).max() for rooms in (forward, backward)]
        return int(max(both))


def _chunked(scalars: Scalars) -> tuple[Integers, Integers]:
    """Return the operations in the order of computation, and the chunk of each."""
    template = scalars.template
    operations = np.flatnonzero(template >= 0)
    if not len(operations):
        return operations, operations
    latest = np.maximum.reduceat(scalars.edges, scalars.starts[operations])
    # Arrays that hand out Python's integers: lists of them would take more room than the tape.
    running = array("q", np.maximum.accumulate(latest).astype(np.int64).tobytes())
    positions = array("q", operations.astype(np.int64).tobytes())
    bounds = [0]
    while bounds[-1] < len(positions):
        begin = bounds[-1]
        # Up to the first that reads one of the chunk's own.
        end = bisect_left(
            running, positions[begin], begin + 1, min(begin + LONGEST_CHUNK, len(running))
        )
        bounds.append(end)
    chunk = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    order = np.argsort(chunk * len(scalars.templates) + template[operations], kind="stable")
    return operations[order].astype(np.int32), chunk.astype(np.int32)


def _literals(templates: Sequence[Template], dtype: Any) -> dict[bytes, float]:
    """Return the numbers that templates need, each once, by their bits."""
    found: dict[bytes, float] = {}
    for template in templates:
        operands = [operand for _, operand in template.gradients]
        for step in (*template.forward, *template.backward):
            operands.extend(step.operands)
        for operand in operands:
            if operand.place == "literal":
                found[_bits(operand.number, dtype)] = operand.number
    return found


def _bits(number: float, dtype: Any) -> bytes:
    return np.array(number, dtype).tobytes()


def _exclusive_sum(lengths: Integers) -> Integers:
    return np.cumsum(lengths) - lengths


class _Segments:
    """Nodes in a row, cut where the chunk or the template changes.

    Parameters
    ----------
    chunk, template : (n,) array of int
        Of each node. Those of a chunk are together, and in it those of a template.

    Attributes
    ----------
    template, lengths, chunk, first : (k,) arrays of int
        Of each segment: its template, its number of nodes, its chunk counted from 0, and its
        first node.
    of_node, rank, chunk_of_node : (n,) arrays of int
        Each node's segment, its place in it, and its chunk.
    """

    def __init__(self, chunk: Integers, template: Integers) -> None:
        count = len(chunk)
        new_chunk, changes = np.ones((2, count), bool)
        new_chunk[1:] = np.diff(chunk) != 0
        changes[1:] = new_chunk[1:] | (np.diff(template) != 0)
        self.first = np.flatnonzero(changes)
        self.lengths = np.diff(np.append(self.first, count))
        self.template = template[self.first]
        self.chunk_of_node = np.cumsum(new_chunk) - 1
        self.chunk = self.chunk_of_node[self.first]
        self.chunk_count = int(np.count_nonzero(new_chunk))
        self.of_node = np.cumsum(changes) - 1
        self.rank = np.arange(count) - self.first[self.of_node]
        self._by_template = np.argsort(template, kind="stable")
        self._sorted = template[self._by_template]

    def nodes(self, template: int) -> Integers:
        """Return the nodes of a template."""
        begin, end = np.searchsorted(self._sorted, [template, template + 1])
        return self._by_template[begin:end]


class _Writer:
    """Writes a tape: first where everything goes, then template by template."""

    def __init__(
        self, layout: Layout, order: Integers, segments: _Segments, starts: Integers
    ) -> None:
        self.layout = layout
        self.order = order
        self.segments = segments
        self.starts = starts
        """For each segment, the slot of the first result of its first step."""

    def lay_out(
        self,
        programs: Sequence[Sequence[Step]],
        additions: Integers | None = None,
        accumulate: int = -1,
    ) -> Integers:
        """Plan a tape of the segments, each chunk's followed by a number of additions.

        Returns for each chunk where the slots of its additions start.
        """
        segments = self.segments
        widths = np.array([sum(len(s.operands) for s in steps) for steps in programs], np.int64)
        counts = np.array([len(steps) for steps in programs], np.int64)
        sizes = segments.lengths * widths[segments.template]
        runs = counts[segments.template]
        keys = 2 * segments.chunk
        if additions is not None:
            sizes = np.concatenate([sizes, 2 * additions])
            runs = np.concatenate([runs, np.ones(len(additions), np.int64)])
            keys = np.concatenate([keys, 2 * np.arange(len(additions)) + 1])
        order = np.argsort(keys, kind="stable")
        self._slots_at, self._runs_at = np.empty_like(sizes), np.empty_like(runs)
        self._slots_at[order] = _exclusive_sum(sizes[order])
        self._runs_at[order] = _exclusive_sum(runs[order])
        self.slots: Slots = np.empty(int(sizes.sum()), np.uint32)
        self.runs: Runs = np.zeros((int(runs.sum()), 3), np.int32)
        chunks = slice(len(segments.template), None)
        if additions is not None:
            at = self._runs_at[chunks]
            self.runs[at, 0], self.runs[at, 1] = accumulate, additions
        return self._slots_at[chunks]

    def write(self, template: int, steps: Sequence[Step], results: Slots | None = None) -> None:
        """Write the steps of all segments of a template.

        The last step's result goes, for each segment, to the slot in ``results``.
        """
        segments = self.segments
        nodes = segments.nodes(template)
        own = segments.of_node[nodes]
        mine = own[segments.rank[nodes] == 0]
        length = segments.lengths[own]
        at = self._slots_at[own]
        for j, step in enumerate(steps):
            run = self._runs_at[mine] + j
            self.runs[run, 0] = self.layout.number[step.code]
            self.runs[run, 1] = segments.lengths[mine]
            last = results is not None and j == len(steps) - 1
            self.runs[run, 2] = (
                results[mine]
                if results is not None and last
                else self.starts[mine] + j * segments.lengths[mine]
            )
            width = len(step.operands)
            for k, operand in enumerate(step.operands):
                into = at + segments.rank[nodes] * width + k
                self.slots[into] = self.resolved(operand, nodes)
            at = at + length * width

    def resolved(self, operand: Operand, nodes: Integers) -> Any:
        """Return the slots that an operand of a template's nodes is in."""
        layout, segments = self.layout, self.segments
        if operand.place == "input":
            scalars = layout.scalars
            return layout.slot[scalars.edges[scalars.starts[self.order[nodes]] + operand.index]]
        if operand.place == "value":
            return layout.slot[self.order[nodes]]
        if operand.place == "gradient":
            return layout.gradient_slot(self.order[nodes])
        if operand.place == "literal":
            return layout.literal_slot(operand.number)
        own = segments.of_node[nodes]
        return self.starts[own] + operand.index * segments.lengths[own] + segments.rank[nodes]

    def tape(self) -> Tape:
        """Return what has been written, runs that go on with each other as one."""
        runs = self.runs[self.runs[:, 1] > 0]
        code, count, result = runs.T
        joined = np.zeros(len(runs), bool)
        joined[1:] = (code[1:] == code[:-1]) & (
            (code[1:] == self.layout.number[ACCUMULATE]) | (result[1:] == result[:-1] + count[:-1])
        )
        first = np.flatnonzero(~joined)
        if len(first):
            count = np.add.reduceat(count, first)
        kept = np.stack([code[first], count, result[first]], axis=1)
        return Tape(kept.astype(np.int32), self.slots)
