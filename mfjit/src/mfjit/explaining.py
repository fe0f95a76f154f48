"""What explained programs of all engines have in common: names, places and costs as text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from mfjit.fuse import Group
from mfjit.ir import LEAVES, REDUCTIONS, VIEWS, Lowered, Value
from mfjit.layout import Layout
from mfjit.memory import Plan


def names_of(lowered: Lowered, updates: Iterable[tuple[Value, Value]]) -> dict[Value, str]:
    """Return what to call the values of a program; leaves that are updated are named too."""
    names = {leaf: f"{leaf.op}{leaf.attributes['index']}" for leaf, _ in updates}
    for index, value in enumerate(lowered.values):
        if value.op == "literal":
            names[value] = repr(value.attributes["value"])
        elif value.op in LEAVES:
            names[value] = f"{value.op}{value.attributes.get('index', index)}"
        elif value.op in VIEWS:
            names[value] = f"{names[value.args[0]]}.{value.op}"
        else:
            names[value] = f"v{index}"
    return names


def where_is(plan: Plan, value: Value, names: dict[Value, str], apart: str) -> str:
    """Return where a value lies; ``apart`` says what has a buffer of its own."""
    place = plan.places[value]
    room = f"{value.nbytes:,} bytes"
    if place.leaf is value:
        return f"{apart}, {room}"
    where = f"at {place.offset}" if place.leaf is None else f"in {names[place.leaf]}"
    if value in plan.taken:
        return f"{where}, {room}, over {names[plan.taken[value]]}"
    if value in plan.joined:
        return f"{where}, {room}, as its part of a concatenation"
    return f"{where}, {room}"


def title_of(group: Group, names: Mapping[Value, str]) -> str:
    """Return a step in one line: what it computes from what, its shape and dtype."""
    parts = []
    for value in group.values:
        arguments = ", ".join(names[arg] for arg in value.args)
        operation = value.attributes["name"] if value.op == "kernel" else value.op
        parts.append(f"{names[value]} = {operation}({arguments})")
    shape = "x".join(map(str, group.shape)) or "scalar"
    return f"{'; '.join(parts)}  [{shape} {group.values[-1].dtype}]"


def cost_of(group: Group, moved: int) -> str:
    """Return what a step costs that moves so many bytes, and which nodes it comes from."""
    cost = f"{flops_of(group):,} FLOPs, {moved:,} bytes"
    origins = dict.fromkeys(value.origin for value in group.values if value.origin)
    return f"{cost}; from {', '.join(origins)}" if origins else cost


def flops_of(group: Group) -> int:
    """Return the arithmetic operations of a step; one for each element of each instruction."""
    total = 0
    for value in group.values:
        if value.op == "matmul":
            total += 2 * value.size * value.args[0].shape[-1]
        elif value.op == "kernel" and value.attributes["name"].startswith("conv2d"):
            total += _convolution_flops(value)
        elif value.op in REDUCTIONS:
            total += value.args[0].size
        elif group.kind in ("loop", "dot", "scalars"):
            total += value.size
    return total


def _convolution_flops(value: Value) -> int:
    first, second = value.args
    weights, outputs = {
        "conv2d": (second, value),
        "conv2d_input_gradient": (second, first),
        "conv2d_weight_gradient": (value, second),
    }[value.attributes["name"]]
    return 2 * outputs.size * weights.size // weights.shape[0]


def bytes_of(
    group: Group,
    layouts: Mapping[Value, Layout],
    joined: Collection[Value],
    free: Collection[str] = (),
) -> int:
    """Return the bytes that a step has to read and write.

    Parameters
    ----------
    group : Group
        The step.
    layouts : mapping of Value to Layout
        Where values lie.
    joined : collection of Value
        Parts of concatenations that are in place already.
    free : collection of str, optional
        Leaves that are read from no memory, by ``op``.
    """
    if group.kind == "concatenate":
        parts = group.values[0].args
        return sum(2 * part.nbytes for part in parts if layouts[part].base not in joined)
    read: dict[Value, int] = {}
    for value in group.reads:
        base = layouts[value].base
        if base.op not in free:
            read[base] = max(read.get(base, 0), min(value.nbytes, base.nbytes))
    return sum(read.values()) + sum(value.nbytes for value in group.outputs)
