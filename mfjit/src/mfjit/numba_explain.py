"""What a program compiled by numba does in a step, and what that costs, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfjit.explaining import bytes_of, cost_of, flops_of, names_of, title_of, where_is
from mfjit.fuse import Group
from mfjit.ir import Value

if TYPE_CHECKING:
    from mfjit.numba_code import Code

APART = "in the array that is returned"
"""Where a result lies that has a buffer of its own."""


def explain(code: Code, memory: int) -> str:
    """Return a program's steps: how each is done, buffers, what was fused, FLOPs and bytes."""
    names = names_of(code.storage.lowered, code.storage.lowered.updates)
    lines = []
    for index, group in enumerate(code.storage.groups):
        lines.append(f"{index:3}  {title_of(group, names)}")
        lines += [f"       {line}" for line in _details(code, group, names)]
    copies = code.storage.plan.copies
    if copies:
        lines.append(f"  -  {len(copies)} copies of updates at the end")
    flops = sum(map(flops_of, code.storage.groups))
    moved = sum(_bytes_of(code, group) for group in code.storage.groups)
    lines.append("")
    lines.append(f"{len(code.storage.groups)} steps in one compiled function")
    lines.append(
        f"loops share {code.threads} threads" if code.parallel else "loops run on one thread"
    )
    if code.blas:
        lines.append("large matrix products by BLAS")
    small = code.storage.leaves
    if small:
        lines.append(f"{len(small)} small leaves are copied into the buffers before the first step")
    lines.append(f"{flops:,} FLOPs, {moved:,} bytes read and written a step")
    lines.append(
        f"{memory:,} bytes of buffers, {code.storage.plan.size:,} of them shared by liveness"
    )
    return "\n".join(lines)


def _details(code: Code, group: Group, names: dict[Value, str]) -> list[str]:
    lines = [code.notes[group]]
    for value in group.outputs:
        lines.append(f"{names[value]} {where_is(code.storage.plan, value, names, APART)}")
    lines.append(cost_of(group, _bytes_of(code, group)))
    return lines


def _bytes_of(code: Code, group: Group) -> int:
    free = ("literal", "setting")  # numbers in the code, and in registers
    return bytes_of(group, code.storage.layouts, code.storage.plan.joined, free)
