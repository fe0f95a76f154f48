"""What explained programs of all engines have in common: names, places and costs as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mfjit.ir import LEAVES, VIEWS, Lowered, Value
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


def cost_of(values: Sequence[Value], flops: int, moved: int) -> str:
    """Return what a step costs, and which nodes it comes from."""
    cost = f"{flops:,} FLOPs, {moved:,} bytes"
    origins = dict.fromkeys(value.origin for value in values if value.origin)
    return f"{cost}; from {', '.join(origins)}" if origins else cost
