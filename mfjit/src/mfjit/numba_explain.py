"""What a program compiled by numba does in a step, and what that costs, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfjit.explaining import cost_of, names_of, where_is
from mfjit.fuse import Group
from mfjit.ir import REDUCTIONS, Value

if TYPE_CHECKING:
    from mfjit.numba_code import Code

APART = "in the array that is returned"
"""Where a result lies that has a buffer of its own."""


def explain(code: Code, memory: int) -> str:
    """Return a program's steps: how each is done, buffers, what was fused, FLOPs and bytes."""
    names = names_of(code.storage.lowered, code.storage.lowered.updates)
    lines = []
    for index, group in enumerate(code.storage.groups):
        lines.append(f"{index:3}  {_title(group, names)}")
        lines += [f"       {line}" for line in _details(code, group, names)]
    copies = code.storage.plan.copies
    if copies:
        lines.append(f"  -  {len(copies)} copies of updates at the end")
    flops = sum(group_flops(group) for group in code.storage.groups)
    moved = sum(group_bytes(code, group) for group in code.storage.groups)
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


def group_flops(group: Group) -> int:
    """Return the arithmetic operations of a step; one for each element of each instruction."""
    total = 0
    for value in group.values:
        if value.op == "matmul":
            total += 2 * value.size * value.args[0].shape[-1]
        elif value.op == "kernel" and value.attributes["name"].startswith("conv2d"):
            total += _convolution_flops(value)
        elif value.op in REDUCTIONS:
            total += value.args[0].size
        elif group.kind == "loop":
            total += value.size
    return total


def _convolution_flops(value: Value) -> int:
    first, second = value.args
    images, weights, gradient = {
        "conv2d": (value, second, value),
        "conv2d_input_gradient": (value, second, first),
        "conv2d_weight_gradient": (first, value, second),
    }[value.attributes["name"]]
    del images
    return 2 * gradient.size * weights.size // weights.shape[0]


def group_bytes(code: Code, group: Group) -> int:
    """Return the bytes that a step has to read and write."""
    layouts = code.storage.layouts
    if group.kind == "concatenate":
        joined = code.storage.plan.joined
        parts = group.values[0].args
        return sum(2 * part.nbytes for part in parts if layouts[part].base not in joined)
    read: dict[Value, int] = {}
    for value in group.reads:
        base = layouts[value].base
        if base.op not in ("literal", "setting"):
            read[base] = max(read.get(base, 0), min(value.nbytes, base.nbytes))
    return sum(read.values()) + sum(value.nbytes for value in group.outputs)


def _title(group: Group, names: dict[Value, str]) -> str:
    parts = []
    for value in group.values:
        arguments = ", ".join(names[arg] for arg in value.args)
        operation = value.attributes["name"] if value.op == "kernel" else value.op
        parts.append(f"{names[value]} = {operation}({arguments})")
    shape = "x".join(map(str, group.shape)) or "scalar"
    return f"{'; '.join(parts)}  [{shape} {group.values[-1].dtype}]"


def _details(code: Code, group: Group, names: dict[Value, str]) -> list[str]:
    lines = [code.notes[group]]
    for value in group.outputs:
        lines.append(f"{names[value]} {where_is(code.storage.plan, value, names, APART)}")
    flops, moved = group_flops(group), group_bytes(code, group)
    lines.append(cost_of(group.values, flops, moved))
    return lines
