"""Runs of steps that go through the same rows: done for a few rows at a time, on all threads.

Where a small network is applied to many rows, each step's result for a block of rows is still
in the cache when the next step reads it, and results that nothing else reads need no memory
beyond the block.
"""

from __future__ import annotations

import math

import attrs

from mfjit.fuse import Group
from mfjit.ir import ELEMENTWISE, REDUCTIONS, Lowered, Value
from mfjit.layout import Layout

LEAST_ROWS = 512
"""Rows from which a run is worth dividing."""

LARGEST_MATRIX = 4096
"""Elements of a product's second operand, which each block of rows reads anew."""

BLOCK_BYTES = 1 << 15
"""Bytes of results for a block of rows: what the nearest cache holds."""

PARALLEL_FLOPS = 1 << 21
"""Operations from which a run is shared among threads."""


@attrs.define(eq=False)
class Run:
    """Steps that are done together for a block of rows.

    Attributes
    ----------
    groups : list of Group
        The steps.
    rows : int
        Length of the axis that all share.
    inner : list of Value
        Results that only the run reads.
    operands : list of Value
        What it reads that other steps have written.
    """

    groups: list[Group]
    rows: int
    inner: list[Value] = attrs.field(factory=list)
    operands: list[Value] = attrs.field(factory=list)

    @property
    def block(self) -> int:
        """Rows that are done together."""
        width = sum(v.nbytes for g in self.groups for v in g.outputs) // self.rows
        return max(32, min(512, BLOCK_BYTES // max(width, 1) // 16 * 16))


def find_runs(lowered: Lowered, groups: list[Group], layouts: dict[Value, Layout]) -> list[Run]:
    """Return the runs of a program; each has a product and another step at least."""
    returned = {layouts[value].base for value in lowered.outputs}
    updates = {layouts[new].base for _, new in lowered.updates}
    runs: list[Run] = []
    current: list[Group] = []
    for group in [*groups, None]:
        rows = current[0].shape[0] if current else None
        if group is not None and _fits(group, current, rows, layouts, updates):
            current.append(group)
            continue
        if len(current) > 1 and any(g.kind == "matmul" for g in current):
            runs.append(Run(current, current[0].shape[0]))
        fits = group is not None and _fits(group, [], None, layouts, updates)
        current = [group] if fits and group is not None else []
    written = [value for group in groups for value in group.outputs]
    for run in runs:
        members = set(run.groups)
        made = {value for group in run.groups for value in group.outputs}
        outside = {
            layouts[arg].base
            for group in groups
            if group not in members
            for value in group.values
            for arg in value.args
        }
        needed = outside | returned | updates
        run.inner = [v for group in run.groups for v in group.outputs if v not in needed]
        read = {layouts[arg].base for g in run.groups for v in g.values for arg in v.args}
        run.operands = [base for base in written if base in read and base not in made]
    return runs


def _fits(
    group: Group,
    before: list[Group],
    rows: int | None,
    layouts: dict[Value, Layout],
    updates: set[Value],
) -> bool:
    """Whether a step can join those before it."""
    if group.kind not in ("loop", "matmul") or not group.shape or math.prod(group.shape) == 0:
        return False
    if group.shape[0] < LEAST_ROWS or rows not in (None, group.shape[0]):
        return False
    made = {value for earlier in before for value in earlier.outputs}
    if any(value in updates for value in group.outputs):
        return False
    if group.kind == "matmul":
        x, y = group.values[0].args
        return (
            len(group.shape) == 2
            and x.ndim == 2
            and y.ndim == 2
            and y.size <= LARGEST_MATRIX
            and layouts[y].base not in made
            and all(layouts[arg].base.op != "literal" for arg in (x, y))
            and 1 in layouts[y].strides[-2:]
            and layouts[x].strides[1] == 1
            and layouts[x].strides[0] >= x.shape[1]
            and (layouts[x].base not in made or _by_rows(x, layouts))
        )
    for value in group.values:
        if value.op in REDUCTIONS and 0 in value.attributes["axes"]:
            return False
        if value.op not in REDUCTIONS and value.op not in ELEMENTWISE:
            return False
        for arg in value.args:
            if layouts[arg].base in made and not (
                arg.ndim == len(group.shape) and _by_rows(arg, layouts)
            ):
                return False
    return True


def _by_rows(value: Value, layouts: dict[Value, Layout]) -> bool:
    """Whether a value's rows lie in the rows of its base."""
    layout = layouts[value]
    base = layout.base
    if not base.shape or base.shape[0] != value.shape[0]:
        return False
    row = base.size // base.shape[0]
    last = layout.offset + sum(
        (n - 1) * stride for n, stride in zip(value.shape[1:], layout.strides[1:])
    )
    return (
        layout.strides[0] == row
        and layout.offset >= 0
        and last < row
        and all(stride >= 0 for stride in layout.strides)
    )
