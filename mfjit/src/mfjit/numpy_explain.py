"""What the numpy engine does in a step, and what that costs, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mfjit.explaining import cost_of, names_of, where_is
from mfjit.fuse import Group
from mfjit.ir import REDUCTIONS, Value
from mfjit.numpy_calls import Call, Method
from mfjit.operands import Array
from mfjit.tiling import TiledLoop

if TYPE_CHECKING:
    from mfjit.numpy_engine import NumpyExecutable

APART = "in an array of its own"
"""Where a result lies that has a buffer of its own."""


def explain(executable: NumpyExecutable) -> str:
    """Return a program's steps: calls, buffers, what was fused and why, FLOPs and bytes."""
    names = names_of(executable.lowered, executable.given.updates)
    lines = []
    for index, (group, step) in enumerate(zip(executable.groups, executable.steps, strict=True)):
        lines.append(f"{index:3}  {title(group, names)}")
        lines += [f"       {line}" for line in _details(executable, group, step, names)]
    if executable.updates:
        lines.append(f"  -  {len(executable.updates)} copies of updates at the end")
    flops = sum(map(group_flops, executable.groups))
    moved = sum(group_bytes(executable, group) for group in executable.groups)
    calls = sum(map(call_count, executable.steps)) + len(executable.updates)
    lines.append("")
    lines.append(f"{len(executable.groups)} steps, {calls} NumPy calls")
    lines.append(f"{flops:,} FLOPs, {moved:,} bytes read and written")
    lines.append(
        f"{executable.memory:,} bytes of buffers, {executable.plan.size:,} of them shared by "
        f"liveness (at most {executable.plan.live:,} live at once)"
    )
    return "\n".join(lines)


def profile_table(executable: NumpyExecutable, seconds: Array) -> str:
    """Return the seconds of each step as a table, the longest first."""
    names = names_of(executable.lowered, executable.given.updates)
    total = float(seconds.sum()) or 1.0
    lines = ["      us      %  GFLOP/s     GB/s  step"]
    for index in np.argsort(-seconds, kind="stable"):
        group, taken = executable.groups[index], max(float(seconds[index]), 1e-9)
        flops, moved = group_flops(group), group_bytes(executable, group)
        lines.append(
            f"{taken * 1e6:8.2f} {taken / total:6.1%} {flops / taken / 1e9:8.2f} "
            f"{moved / taken / 1e9:8.2f}  {index}: {title(group, names)}"
        )
    lines.append(f"{seconds.sum() * 1e6:8.2f} in all")
    return "\n".join(lines)


def call_count(step: list[Call] | TiledLoop) -> int:
    """Return the number of NumPy calls of a step."""
    if isinstance(step, TiledLoop):
        return len(step.first) + len(step.starts) * len(step.each) + len(step.last)
    return len(step)


def group_flops(group: Group) -> int:
    """Return the arithmetic operations of a step; one for each element of each instruction."""
    total = 0
    for value in group.values:
        if value.op == "matmul":
            total += 2 * value.size * value.args[0].shape[-1]
        elif value.op in REDUCTIONS:
            total += value.args[0].size
        elif group.kind in ("loop", "dot", "scalars"):
            total += value.size
    return total


def group_bytes(executable: NumpyExecutable, group: Group) -> int:
    """Return the bytes that a step has to read and write."""
    read: dict[Value, int] = {}
    for value in group.reads:
        base = executable.layouts[value].base
        read[base] = max(read.get(base, 0), min(value.nbytes, base.nbytes))
    joined = executable.plan.joined
    if group.kind == "concatenate":
        moved = [executable.layouts[part].base not in joined for part in group.values[0].args]
        return sum(2 * part.nbytes for part, there in zip(group.values[0].args, moved) if there)
    return sum(read.values()) + sum(value.nbytes for value in group.outputs)


def title(group: Group, names: dict[Value, str]) -> str:
    """Return a step in one line."""
    parts = []
    for value in group.values:
        arguments = ", ".join(names[arg] for arg in value.args)
        parts.append(f"{names[value]} = {value.op}({arguments})")
    shape = "x".join(map(str, group.shape)) or "scalar"
    return f"{'; '.join(parts)}  [{shape} {group.values[-1].dtype}]"


def _details(
    executable: NumpyExecutable,
    group: Group,
    step: list[Call] | TiledLoop,
    names: dict[Value, str],
) -> list[str]:
    lines = []
    if isinstance(step, TiledLoop):
        elements = step.length * step.inner
        lines.append(
            f"one loop in {len(step.starts)} tiles of {elements:,} elements, so that "
            f"{len(group.values) - len(group.outputs)} values between stay in the cache"
        )
    elif group.kind == "scalars":
        lines.append("one function of NumPy scalars")
    elif group.kind == "dot":
        lines.append("a product and its sum as one dot")
    else:
        called = ", ".join(_called(call) for call in step)
        lines.append(f"calls {called}" if called else "nothing to do: its parts are in place")
    for value in group.outputs:
        lines.append(f"{names[value]} {where_is(executable.plan, value, names, APART)}")
    flops, moved = group_flops(group), group_bytes(executable, group)
    lines.append(cost_of(group.values, flops, moved))
    return lines


def _called(call: Call) -> str:
    if isinstance(call.function, Method):
        return f"ndarray.{call.function.name}"
    name = getattr(call.function, "__name__", repr(call.function))
    owner = getattr(call.function, "__self__", None)
    owned = getattr(owner, "__name__", "")
    return f"{owned}.{name}" if owned else str(name)
