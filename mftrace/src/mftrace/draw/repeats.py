"""Repeated blocks of a graph, found as repeats in an order of its operations.

The order is that in which a walk from the outputs, depth first, leaves them: it keeps what
belongs to one branch, or one step of a recurrence, together.

Two operations are alike if they are of one class with equal hyperparameters, with own
parameters and constants of equal shapes, and read what lies equally far before them, or the
same node, or nodes that move on by the same step from block to block. Where operations
``i, i + 1, ...`` are like ``i + p, i + p + 1, ...`` for long enough, a block of ``p`` operations
repeats. A stretch of a topological order can become one vertex without making a circle, so
whatever is found can be folded.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mfcore as mf
from mftrace.draw.groups import Group, readers_of

TIMES = 3
"""How often a block has to be there, at least, to be folded."""

LONGEST = 64
"""The longest block, in operations, that is looked for."""


def folded(graph: mf.Graph) -> list[Group]:
    """Return the nodes grouped: each repetition of a block one group, all else single.

    Parameters and constants that only one operation reads go with it. Leaves that the
    blocks of a repetition read, each in its turn, are a group of their own.
    """
    operations = _Operations(graph)
    groups: list[Group] = []
    taken: set[int] = set()
    slot: dict[int, tuple[int, int]] = {}  # of operations in repetitions: which, and where there
    for start, period, times in _chosen(operations):
        stretch = range(start, start + period * times)
        members = [operations.positions[k] for k in stretch]
        slot.update({i: (len(groups), n % period) for n, i in enumerate(members)})
        leaves = [leaf for k in stretch for leaf in operations.own[k]]
        leaves = [i for i in leaves if not isinstance(graph.nodes[i], mf.Input)]
        chained = operations.chained(start, period)
        groups.append(
            Group(tuple(sorted([*members, *leaves])), tuple(members[:period]), times, chained)
        )
        taken.update(groups[-1].members)
    in_turn: dict[Any, list[int]] = {}
    outputs = {graph.position(node) for node in graph.outputs}
    for i, readers in enumerate(readers_of(graph)):
        if not graph.sources[i] and i not in taken and i not in outputs:
            slots = {(*slot[r], graph.sources[r].index(i)) for r in readers if r in slot}
            if len(slots) == len(readers):
                key = (_leaf_kind(graph.nodes[i]), tuple(sorted(slots)))
                in_turn.setdefault(key, []).append(i)
    for leaves in in_turn.values():
        groups.append(Group(tuple(leaves)))
        taken.update(leaves)
    groups += [Group((i,)) for i in range(len(graph)) if i not in taken]
    return sorted(groups, key=lambda group: group.members[-1])


class _Operations:
    """The operations of a graph, depth first, with all that makes two of them alike.

    Attributes
    ----------
    positions : list of int
        Where each is in the graph.
    own : list of tuple of int
        For each, the leaves that it alone reads.
    kinds : array of int
        Equal for operations that are alike but for what they read.
    distances : array of int
        Equal for operations that read what lies equally far before them.
    loose : list of int
        As ``kinds``, but with no difference between reading inputs and reading operations.
    sources : list of tuple of int
        For each, the places of the operations that it reads, -1 for a leaf.
    """

    def __init__(self, graph: mf.Graph) -> None:
        readers = readers_of(graph)
        outputs = {graph.position(node) for node in graph.outputs}
        self.positions = [i for i in _depth_first(graph) if graph.sources[i]]
        rank = {i: k for k, i in enumerate(self.positions)}
        leaf_rank: dict[int, int] = {}
        self.own: list[tuple[int, ...]] = []
        self.reads: list[tuple[tuple[bool, int], ...]] = []
        kinds: dict[Any, int] = {}
        distances: dict[Any, int] = {}
        kind_of, distance_of = [], []
        self.loose: list[int] = []
        self.sources: list[tuple[int, ...]] = []
        for k, i in enumerate(self.positions):
            own: list[int] = []
            reads: list[tuple[bool, int]] = []
            roles: list[tuple[Any, ...]] = []
            for source in graph.sources[i]:
                if source in rank:
                    reads.append((True, rank[source]))
                    roles.append(("operation",))
                elif len(readers[source]) == 1 and source not in outputs:
                    own.append(source)
                    roles.append(_leaf_kind(graph.nodes[source]))
                else:
                    reads.append((False, leaf_rank.setdefault(source, len(leaf_rank))))
                    roles.append(("shared", *_leaf_kind(graph.nodes[source])))
            self.own.append(tuple(dict.fromkeys(own)))
            self.reads.append(tuple(reads))
            kind = _operation_kind(graph.nodes[i])
            kind_of.append(kinds.setdefault((*kind, *roles), len(kinds)))
            trained = [("operation",) if role[0] is mf.Input else role for role in roles]
            self.loose.append(kinds.setdefault((*kind, *trained), len(kinds)))
            self.sources.append(tuple(rank.get(source, -1) for source in graph.sources[i]))
            far = tuple(k - place if moves else -1 - place for moves, place in reads)
            distance_of.append(distances.setdefault(far, len(distances)))
        self.kinds: NDArray[np.int64] = np.array(kind_of, np.int64)
        self.distances: NDArray[np.int64] = np.array(distance_of, np.int64)

    def __len__(self) -> int:
        return len(self.positions)

    def alike(self, period: int) -> NDArray[np.bool_]:
        """Return, for each operation, whether it is like the one ``period`` after it."""
        same_kind = self.kinds[:-period] == self.kinds[period:]
        alike: NDArray[np.bool_] = same_kind & (self.distances[:-period] == self.distances[period:])
        steps: dict[int, tuple[int, ...]] = {}
        for k in np.flatnonzero(same_kind & ~alike).tolist():
            pairs = list(zip(self.reads[k], self.reads[k + period], strict=True))
            steps[k] = tuple(there[1] - here[1] for here, there in pairs)
            alike[k] = all(
                here == there or (here[0] and there[1] - here[1] == period) for here, there in pairs
            )
        for k, step in steps.items():
            if not alike[k]:
                alike[k] = step in (steps.get(k - period), steps.get(k + period))
        return alike

    def begins(self, start: int, period: int) -> bool:
        """Whether the block before the one at ``start`` is like it but for what enters it."""
        if start < period:
            return False
        for k in range(start, start + period):
            if self.loose[k] != self.loose[k - period]:
                return False
            for here, before in zip(self.sources[k], self.sources[k - period], strict=True):
                if here >= start and before != here - period:
                    return False
                if here < start and before >= start - period:
                    return False
        return True

    def chained(self, start: int, period: int) -> bool:
        """Whether the second block at ``start`` reads the first one."""
        first = range(start, start + period)
        return any(
            moves and place in first
            for k in range(start + period, start + 2 * period)
            for moves, place in self.reads[k]
        )


def _depth_first(graph: mf.Graph) -> list[int]:
    """Return the positions of all nodes, each after its inputs, and those as close as can be."""
    order: list[int] = []
    entered = bytearray(len(graph))
    stack = [graph.position(node) for node in reversed(graph.outputs)]
    while stack:
        i = stack.pop()
        if i < 0:
            order.append(~i)
        elif not entered[i]:
            entered[i] = 1
            stack.append(~i)
            stack.extend(source for source in reversed(graph.sources[i]) if not entered[source])
    return order


def _operation_kind(node: mf.Node) -> tuple[Any, ...]:
    names = mf.spec_of(node).hyperparameters
    return (type(node), *(_comparable(getattr(node, name)) for name in names))


def _comparable(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    return repr(value)


def _leaf_kind(node: mf.Node) -> tuple[Any, ...]:
    return (type(node), mf.shape_of(node), mf.dtype_of(node))


def _stretches(operations: _Operations) -> Iterator[tuple[int, int, int]]:
    """Yield stretches within which a block repeats: period, start and stop."""
    count = len(operations)
    longest = min(LONGEST if count <= 30_000 else 16, count // TIMES)
    for period in range(1, longest + 1):
        alike = np.concatenate([[False], operations.alike(period), [False]])
        edges = np.flatnonzero(alike[1:] != alike[:-1]).tolist()
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            if stop - start >= period * (TIMES - 1):
                yield period, start, stop + period


def _chosen(operations: _Operations) -> list[tuple[int, int, int]]:
    """Choose repetitions that do not overlap, those that save most boxes first.

    Returns for each the place of its first operation, the period and the number of blocks.
    """
    heap: list[tuple[int, int, int, int]] = []

    def offer(period: int, start: int, stop: int) -> None:
        times = (stop - start) // period
        if times >= TIMES:
            heapq.heappush(heap, (-period * (times - 1), period, start, stop))

    for period, start, stop in _stretches(operations):
        offer(period, start, stop)
    covered = np.zeros(len(operations), np.bool_)
    chosen = []
    while heap:
        _, period, start, stop = heapq.heappop(heap)
        if covered[start:stop].any():
            free = np.concatenate([[False], ~covered[start:stop], [False]])
            edges = np.flatnonzero(free[1:] != free[:-1]) + start
            for left, right in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
                offer(period, left, right)
            continue
        begin = _begin(operations, start, stop, period, covered)
        times = (stop - begin) // period
        start = begin
        covered[start : start + period * times] = True
        chosen.append((start, period, times))
    return sorted(chosen)


def _begin(
    operations: _Operations, start: int, stop: int, period: int, covered: NDArray[np.bool_]
) -> int:
    """Return where the first block of a stretch had best begin.

    That is where most blocks fit, the first of them perhaps reading an input where the
    others read the block before; and else where an operation that has parameters comes
    first: people see layers so, ``Linear - ReLU``.
    """

    def quality(begin: int) -> tuple[int, bool, int]:
        own = operations.own
        layer = bool(own[begin]) and not own[begin + period - 1]
        return (stop - begin) // period, layer, -begin

    begins = list(range(start, start + (stop - start) % period + 1))
    for second in begins[:]:
        first = second - period
        if not covered[max(first, 0) : second].any() and operations.begins(second, period):
            begins.append(first)
    return max(begins, key=quality)
