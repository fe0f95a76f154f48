"""What the numpy engine does in a step, and what that costs, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mfjit.explaining import bytes_of, cost_of, flops_of, names_of, title_of, where_is
from mfjit.fuse import Group
from mfjit.ir import Value
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
        lines.append(f"{index:3}  {title_of(group, names)}")
        lines += [f"       {line}" for line in _details(executable, group, step, names)]
    if executable.updates:
        lines.append(f"  -  {len(executable.updates)} copies of updates at the end")
    flops = sum(map(flops_of, executable.groups))
    moved = sum(_bytes_of(executable, group) for group in executable.groups)
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
        flops, moved = flops_of(group), _bytes_of(executable, group)
        lines.append(
            f"{taken * 1e6:8.2f} {taken / total:6.1%} {flops / taken / 1e9:8.2f} "
            f"{moved / taken / 1e9:8.2f}  {index}: {title_of(group, names)}"
        )
    lines.append(f"{seconds.sum() * 1e6:8.2f} in all")
    return "\n".join(lines)


def call_count(step: list[Call] | TiledLoop) -> int:
    """Return the number of NumPy calls of a step."""
    if isinstance(step, TiledLoop):
        return len(step.first) + len(step.starts) * len(step.each) + len(step.last)
    return len(step)


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
    lines.append(cost_of(group, _bytes_of(executable, group)))
    return lines


def _bytes_of(executable: NumpyExecutable, group: Group) -> int:
    return bytes_of(group, executable.layouts, executable.plan.joined)


def _called(call: Call) -> str:
    if isinstance(call.function, Method):
        return f"ndarray.{call.function.name}"
    name = getattr(call.function, "__name__", repr(call.function))
    owner = getattr(call.function, "__self__", None)
    owned = getattr(owner, "__name__", "")
    return f"{owned}.{name}" if owned else str(name)
