"""Buffers planned by liveness: where every computed value lies, known before anything runs.

All buffers of a program lie in one arena. A buffer is given away once its last reader, through
views too, has run; an elementwise result may take over the buffer of an operand that dies with
it. The parts of a ``concatenate`` are written where it wants them, and what a leaf is updated to
is written over the leaf where nobody reads the old contents any more.
"""

from __future__ import annotations

import math
import random
from bisect import insort
from collections.abc import Callable, Collection, Iterator
from functools import partial

import attrs

from mfjit.fuse import Group
from mfjit.ir import REDUCTIONS, Lowered, Value
from mfjit.layout import Layout

ALIGNMENT = 64
"""Bytes at whose multiples buffers start: a cache line, and any vector register."""

SEARCHED_BLOCKS = 2000
"""With more blocks than this only the fastest order of placing them is tried."""

FALLIBLE = frozenset({"take", "take_add", "one_hot", "pick", "call"})
"""Instructions that can fail while running: no leaf is overwritten before the last of them."""

_ATTEMPTS = 100
"""Random orders tried for a few blocks that leave gaps in every other order."""


@attrs.frozen(eq=False)
class Place:
    """Where a buffer starts.

    Attributes
    ----------
    leaf : Value or None
        In whose own array it lies: a leaf that is overwritten, or a value that the engine
        keeps apart; ``None`` for the arena.
    offset : int
        Bytes from the start of that.
    """

    leaf: Value | None
    offset: int


@attrs.frozen(eq=False)
class Plan:
    """The buffers of a program.

    Attributes
    ----------
    places : dict of Value to Place
        For each value that owns a buffer: the outputs of groups. Each buffer is contiguous.
    size : int
        Bytes of the arena.
    live : int
        The most bytes of the arena (each buffer rounded up to ``ALIGNMENT``) that are live
        at once; ``size`` is larger only by gaps between buffers.
    taken : dict of Value to Value
        Elementwise results, and the operand or leaf whose buffer they are written over.
    joined : frozenset of Value
        Values written straight into their part of a ``concatenate``.
    copies : list of (Value, Value)
        Updates, leaf and new value, that remain to be copied when all groups have run.
    staged : dict of Value to Place
        Leaves that such copies read and write: their old contents are to be copied here,
        and read from here, before the first copy.
    """

    places: dict[Value, Place]
    size: int
    live: int
    taken: dict[Value, Value]
    joined: frozenset[Value]
    copies: list[tuple[Value, Value]]
    staged: dict[Value, Place]


class _Block:
    """Memory that values share, and the groups during which it is in use."""

    __slots__ = ("end", "leaf", "members", "offset", "size", "start")

    def __init__(self, value: Value, start: int, end: int) -> None:
        self.members: list[tuple[Value, int]] = [(value, 0)]
        self.size = value.nbytes
        self.start = start
        self.end = end
        self.leaf: Value | None = None
        self.offset = 0

    @property
    def aligned(self) -> int:
        return -(-self.size // ALIGNMENT) * ALIGNMENT


def plan(
    lowered: Lowered,
    groups: list[Group],
    layouts: dict[Value, Layout],
    *,
    apart: Collection[Value] = (),
    pinned: Collection[Value] = (),
) -> Plan:
    """Return where the outputs of groups lie.

    Parameters
    ----------
    lowered : Lowered
        The program.
    groups : list of Group
        Its steps, in the order in which they run, with their outputs.
    layouts : dict of Value to Layout
        Of all values.
    apart : collection of Value, optional
        Values that the engine keeps in arrays of their own: their place has themselves as
        leaf. Parts of concatenations may still be written into them.
    pinned : collection of Value, optional
        Values whose buffers are never given away.
    """
    return _Planner(lowered, groups, layouts).plan(apart, pinned)


class _Planner:
    def __init__(self, lowered: Lowered, groups: list[Group], layouts: dict[Value, Layout]) -> None:
        self.lowered = lowered
        self.groups = groups
        self.layouts = layouts
        self.end = len(groups)
        self.last = self._last_reads()
        self.last_fallible = max(
            (i for i, g in enumerate(groups) if any(v.op in FALLIBLE for v in g.values)),
            default=-1,
        )
        self.block: dict[Value, _Block] = {}
        self.taken: dict[Value, Value] = {}
        self.joined: set[Value] = set()
        for index, group in enumerate(groups):
            for value in group.outputs:
                self.block[value] = _Block(value, index, max(index, self.last.get(value, index)))

    def plan(self, apart: Collection[Value], pinned: Collection[Value]) -> Plan:
        for value in apart:
            self.block[value].leaf = value
        for value in pinned:
            self.block[value].start, self.block[value].end = 0, self.end
        for index in reversed(range(self.end)):
            if self.groups[index].kind == "concatenate":
                self._join_parts(self.groups[index].values[0])
        copies = [(leaf, new) for leaf, new in self.lowered.updates if not self._over(leaf, new)]
        for index, group in enumerate(self.groups):
            if group.kind == "loop":
                self._take_over(index, group)
        staged = self._staged(copies)
        blocks = list(dict.fromkeys([*self.block.values(), *staged.values()]))
        arena = [block for block in blocks if block.leaf is None and block.size]
        size, live = _place(arena)
        places = {
            value: Place(block.leaf, block.offset + offset)
            for block in dict.fromkeys(self.block.values())
            for value, offset in block.members
        }
        return Plan(
            places=places,
            size=size,
            live=live,
            taken=self.taken,
            joined=frozenset(self.joined),
            copies=copies,
            staged={leaf: Place(None, block.offset) for leaf, block in staged.items()},
        )

    def _last_reads(self) -> dict[Value, int]:
        """Return the last group that reads a base; the number of groups for what is returned."""
        last: dict[Value, int] = {}
        for index, group in enumerate(self.groups):
            for value in group.values:
                for arg in value.args:
                    last[self.layouts[arg].base] = index
        for value in [*self.lowered.outputs, *(new for _, new in self.lowered.updates)]:
            last[self.layouts[value].base] = self.end
        return last

    def _whole(self, value: Value) -> bool:
        """Whether a value is all of its base, in the same order."""
        layout = self.layouts[value]
        return (
            layout.offset == 0 and layout.base.size == value.size and layout.contiguous(value.shape)
        )

    def _join_parts(self, value: Value) -> None:
        axis = value.attributes["axis"]
        if math.prod(value.shape[:axis]) != 1:
            return  # parts would lie in pieces
        host = self.block[value]
        (offset,) = [offset for member, offset in host.members if member is value]
        for part in value.args:
            base = self.layouts[part].base
            block = self.block.get(base)
            if (
                block is not None
                and block is not host
                and block.leaf is None
                and len(block.members) == 1
                and base not in self.joined
                and self._whole(part)
            ):
                host.members.append((base, offset))
                host.start = min(host.start, block.start)
                host.end = max(host.end, block.end)
                self.block[base] = host
                self.joined.add(base)
            offset += part.nbytes

    def _over(self, leaf: Value, new: Value) -> bool:
        """Write the new value over the leaf, if that is safe; return whether."""
        base = self.layouts[new].base
        block = self.block.get(base)
        if (
            block is None
            or block.leaf is not None
            or block.members[0][0] is not base
            or (base.size, base.dtype) != (leaf.size, leaf.dtype)
            or not self._whole(new)
        ):
            return False
        read = self.last.get(leaf, -1)
        if (
            block.start <= self.last_fallible
            or block.start < read
            or (block.start == read and not self._same_index(self.groups[read], leaf, base))
        ):
            return False
        block.leaf = leaf
        self.taken[base] = leaf
        return True

    def _take_over(self, index: int, group: Group) -> None:
        reads = dict.fromkeys(self.layouts[arg].base for v in group.values for arg in v.args)
        for output in group.outputs:
            block = self.block[output]
            if output.op in REDUCTIONS or block.leaf is not None:
                continue
            if output.size <= 1:  # nothing to gain, and ufuncs are slower so on one element
                continue
            if len(block.members) > 1 or block.start != index:
                continue
            for operand in reads:
                source = self.block.get(operand)
                if (
                    source is not None
                    and source is not block
                    and source.leaf is None
                    and source.end == index
                    and source.start < index
                    and source.size == output.nbytes
                    and operand.dtype == output.dtype
                    and self._same_index(group, operand, output)
                ):
                    source.members += block.members
                    source.end = block.end
                    self.block[output] = source
                    self.taken[output] = operand
                    break

    def _same_index(self, group: Group, operand: Value, output: Value) -> bool:
        """Whether a loop reads the operand only where, and not after, it writes the output."""
        if group.kind != "loop" or output not in group.outputs or output.op in REDUCTIONS:
            return False
        if output.op == "where" and operand in {self.layouts[arg].base for arg in output.args[:2]}:
            return False  # it is done in two passes, the last operand first
        for value in group.values:
            for arg in value.args:
                if self.layouts[arg].base is operand and not (
                    arg.shape == group.shape and self._whole(arg)
                ):
                    return False
        for value in reversed(group.values):
            if value is output:
                return True
            if any(self.layouts[arg].base is operand for arg in value.args):
                return False
        return False

    def _staged(self, copies: list[tuple[Value, Value]]) -> dict[Value, _Block]:
        written = {leaf for leaf, _ in copies}
        sources = dict.fromkeys(self.layouts[new].base for _, new in copies)
        return {leaf: _Block(leaf, self.end, self.end) for leaf in sources if leaf in written}


def _place(blocks: list[_Block]) -> tuple[int, int]:
    """Give blocks their offsets; return the size of the arena and the most live bytes."""
    live = _most_live(blocks)
    best: tuple[int, list[int]] | None = None
    for attempt in _attempts(blocks):
        size = attempt()
        if best is None or size < best[0]:
            best = size, [block.offset for block in blocks]
        if size == live:
            break
    if best is None:
        return 0, 0
    for block, offset in zip(blocks, best[1], strict=True):
        block.offset = offset
    return best[0], live


def _attempts(blocks: list[_Block]) -> Iterator[Callable[[], int]]:
    """Yield ways of placing blocks: each sets their offsets and returns the arena's size."""
    if not blocks:
        return
    yield partial(_sweep, blocks)
    if len(blocks) > SEARCHED_BLOCKS:
        return
    by_size = sorted(blocks, key=lambda block: (-block.aligned, block.start))
    yield partial(_lowest, by_size)
    yield partial(_lowest, sorted(blocks, key=lambda b: (b.start - b.end, b.start)))
    by_area = sorted(blocks, key=lambda b: (-(b.end - b.start + 1) * b.aligned, b.start))
    yield partial(_lowest, by_area)
    if len(blocks) <= SEARCHED_BLOCKS // 20:
        shuffle = random.Random(0).shuffle
        for _ in range(_ATTEMPTS):
            shuffle(by_size)
            yield partial(_lowest, by_size)


def _most_live(blocks: list[_Block]) -> int:
    change: dict[int, int] = {}
    for block in blocks:
        change[block.start] = change.get(block.start, 0) + block.aligned
        change[block.end + 1] = change.get(block.end + 1, 0) - block.aligned
    most = now = 0
    for time in sorted(change):
        now += change[time]
        most = max(most, now)
    return most


def _sweep(blocks: list[_Block]) -> int:
    """Place blocks in the order of their use, each into the smallest gap that holds it."""
    used: list[tuple[int, int, _Block]] = []  # offset, end of it, by offset
    top = 0
    dying = sorted(blocks, key=lambda block: block.end)
    freed = 0
    for block in sorted(blocks, key=lambda block: (block.start, -block.aligned)):
        while dying[freed].end < block.start:
            gone = dying[freed]
            used.remove((gone.offset, gone.offset + gone.aligned, gone))
            freed += 1
        at, room, found = 0, math.inf, -1
        for offset, end, _ in used:
            if block.aligned <= offset - at < room:
                found, room = at, offset - at
            at = end
        block.offset = at if found < 0 else found
        entry = (block.offset, block.offset + block.aligned, block)
        insort(used, entry, key=lambda item: item[0])
        top = max(top, entry[1])
    return top


def _lowest(order: list[_Block]) -> int:
    """Place blocks in a given order, each as low as those already placed allow."""
    placed: list[_Block] = []
    top = 0
    for block in order:
        at = 0
        for other in placed:  # by offset
            if other.start <= block.end and block.start <= other.end:
                if other.offset - at >= block.aligned:
                    break
                at = max(at, other.offset + other.aligned)
        block.offset = at
        insort(placed, block, key=lambda item: item.offset)
        top = max(top, at + block.aligned)
    return top
