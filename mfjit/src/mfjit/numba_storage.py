"""Where a program compiled by numba keeps its values: one arena, and arrays that others own.

Small leaves are copied into the arena, and parameters and states back out of it after a run:
then all that a small model touches has one base address, constant offsets and no aliases, and
its loops vectorise without checks. Large ones are read and written where they are.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from mfjit.errors import CannotCompile
from mfjit.fuse import Group
from mfjit.ir import LEAVES, Lowered, Value
from mfjit.layout import Layout
from mfjit.memory import ALIGNMENT, Plan, plan
from mfjit.numba_elementwise import SUPPORTED_DTYPES
from mfjit.numba_rows import Run, find_runs

SMALL_LEAF = 4096
"""Bytes up to which a leaf is copied into the arena."""

LARGE_OUTPUT = 1 << 16
"""Bytes from which an output is computed straight into the array that is handed out."""

FAILING = frozenset({"one_hot", "take", "take_add"})
"""Instructions that check their arguments; nothing may be overwritten before they have run."""

SLOTS = ("steps", "gather", "stop", "rows", "settings", "losses", "arena")
"""First entries of the table of addresses and numbers that compiled code is called with."""


@attrs.frozen
class Pointer:
    """Memory from the address that one entry of the table holds."""

    name: str
    slot: int
    dtype: np.dtype[Any]


@attrs.define(eq=False)
class Storage:
    """The buffers of a program.

    Attributes
    ----------
    lowered, groups, layouts : Lowered, list of Group, dict of Value to Layout
        The program, its steps in the order in which they run, where views lie.
    plan : Plan
        Where ``memory.plan`` put what groups write.
    arena : int
        Bytes of the arena: the planned buffers, then small leaves and copies of outputs.
    pointers : dict of str to Pointer
        Names of memory in the source, by the table's slot.
    leaves : dict of Value to int
        Byte offsets in the arena of the small leaves and constants copied there.
    external : list of Value
        Parameters, states and large constants, each with an entry in the table.
    gathered : dict of Value to int
        Byte offsets in the arena where rows of large inputs are gathered.
    direct : list of Value
        Outputs in arrays of their own, each with an entry in the table.
    copied : dict of Value to int
        Byte offsets in the arena of outputs that are copied there at the end of a step.
    runs : list of Run
        Steps that are done together for a block of rows.
    blocks : dict of Value to int
        Byte offsets in the arena of results inside of runs, for the first thread's block.
    """

    lowered: Lowered
    groups: list[Group]
    layouts: dict[Value, Layout]
    plan: Plan
    arena: int = 0
    pointers: dict[str, Pointer] = attrs.field(factory=dict)
    leaves: dict[Value, int] = attrs.field(factory=dict)
    external: list[Value] = attrs.field(factory=list)
    gathered: dict[Value, int] = attrs.field(factory=dict)
    direct: list[Value] = attrs.field(factory=list)
    copied: dict[Value, int] = attrs.field(factory=dict)
    runs: list[Run] = attrs.field(factory=list)
    blocks: dict[Value, int] = attrs.field(factory=dict)

    def reserve(self, nbytes: int) -> int:
        """Return the offset of so many more bytes of the arena."""
        offset = self.arena
        self.arena += -(-nbytes // ALIGNMENT) * ALIGNMENT
        return offset

    def slot(self, value: Value) -> int:
        """Return the entry of the table for a value in memory of its own."""
        if value in self.external:
            return len(SLOTS) + self.external.index(value)
        return len(SLOTS) + len(self.external) + self.direct.index(value)

    @property
    def slots(self) -> int:
        """Length of the table."""
        return len(SLOTS) + len(self.external) + len(self.direct)

    def locate(self, base: Value) -> tuple[str, int]:
        """Return the name of a pointer and the index of a base's first element from there."""
        if base in self.blocks:
            return self.arena_pointer(base.dtype), self.blocks[base] // base.dtype.itemsize
        place = self.plan.places.get(base)
        if place is not None:
            if place.leaf is None:
                return self.arena_pointer(base.dtype), place.offset // base.dtype.itemsize
            if place.leaf is base:
                return self.pointer(base), place.offset // base.dtype.itemsize
            name, start = self.locate(place.leaf)
            return name, start + place.offset // base.dtype.itemsize
        if base in self.leaves:
            return self.arena_pointer(base.dtype), self.leaves[base] // base.dtype.itemsize
        return self.pointer(base), 0

    def arena_pointer(self, dtype: np.dtype[Any]) -> str:
        """Return the name of the arena as memory of a dtype."""
        return self._named(f"a_{dtype.name}", SLOTS.index("arena"), dtype)

    def pointer(self, base: Value) -> str:
        """Return the name of a value's own memory."""
        if base.op == "input":
            return f"x{base.attributes['index']}"  # set anew for each step
        return self._named(f"m{self.slot(base)}", self.slot(base), base.dtype)

    def _named(self, name: str, slot: int, dtype: np.dtype[Any]) -> str:
        self.pointers.setdefault(name, Pointer(name, slot, dtype))
        return name


def store(lowered: Lowered, groups: list[Group], layouts: dict[Value, Layout]) -> Storage:
    """Decide where a program's values lie.

    Raises
    ------
    CannotCompile
        If an index that may be wrong depends on a leaf that has been overwritten by then.
    """
    for value in lowered.values:
        if value.dtype not in SUPPORTED_DTYPES:
            raise CannotCompile(
                f"{value.op} of dtype {value.dtype} at {value.origin or 'an unnamed node'}: "
                "the numba engine has no code for this dtype"
            )
    groups = _draws_and_failing_first(groups, layouts)
    made = {value for group in groups for value in group.outputs}
    returned = list(dict.fromkeys(lowered.outputs))
    direct = [
        base
        for base in dict.fromkeys(layouts[value].base for value in returned)
        if base in made and base.nbytes >= LARGE_OUTPUT
    ]
    runs = find_runs(lowered, groups, layouts)
    inner = [value for run in runs for value in run.inner]
    # A block of rows is written while other rows of what the run reads are still needed.
    pinned = {base for run in runs for base in run.operands}
    planned = plan(lowered, groups, layouts, apart=[*direct, *inner], pinned=pinned - {*direct})
    storage = Storage(
        lowered, groups, layouts, planned, arena=planned.size, direct=direct, runs=runs
    )
    _refuse_early_updates(storage)
    for value in _leaves(lowered):
        small = value.nbytes <= SMALL_LEAF
        if small:
            storage.leaves[value] = storage.reserve(value.nbytes)
        elif value.op == "input":
            storage.gathered[value] = storage.reserve(value.nbytes)
        if value.op in ("parameter", "state") or (value.op == "constant" and not small):
            storage.external.append(value)
    overwritten = {leaf for leaf, _ in lowered.updates}
    for value in returned:
        base = layouts[value].base
        if base.op in ("input", "literal", "setting") or base in overwritten:
            storage.copied[value] = storage.reserve(value.nbytes)
    return storage


def _leaves(lowered: Lowered) -> list[Value]:
    given = {*lowered.values, *(leaf for leaf, _ in lowered.updates)}
    constants = [value for value in lowered.values if value.op == "constant"]
    leaves = [*lowered.inputs, *lowered.parameters, *lowered.states]
    return [leaf for leaf in leaves if leaf in given] + constants


def _draws_and_failing_first(groups: list[Group], layouts: dict[Value, Layout]) -> list[Group]:
    """Move random draws, then what may fail with all that it needs, before everything else."""
    draws = [group for group in groups if group.kind == "random"]
    draws.sort(key=lambda group: group.values[0].attributes["index"])
    maker = {value: group for group in groups for value in group.values}
    needed = dict.fromkeys(draws)
    pending = [group for group in groups if group.kind in FAILING]
    while pending:
        group = pending.pop()
        if group not in needed:
            needed[group] = None
            bases = [layouts[arg].base for value in group.values for arg in value.args]
            pending.extend(maker[base] for base in bases if base in maker)
    early = [group for group in groups if group in needed and group.kind != "random"]
    return draws + early + [group for group in groups if group not in needed]


def _refuse_early_updates(storage: Storage) -> None:
    last = max((i for i, group in enumerate(storage.groups) if group.kind in FAILING), default=-1)
    for group in storage.groups[: last + 1]:
        for value in group.outputs:
            place = storage.plan.places[value]
            if place.leaf is not None and place.leaf.op in LEAVES:
                raise CannotCompile(
                    f"{place.leaf.origin}: it is overwritten before all indices are checked"
                )
