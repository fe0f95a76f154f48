"""Fusion: which instructions run together in one loop over the same index space."""

from __future__ import annotations

import attrs

from mfjit.ir import ELEMENTWISE, LEAVES, REDUCTIONS, VIEWS, Lowered, Shape, Value
from mfjit.layout import Layout, layouts

FUSED_REDUCTIONS = frozenset({"sum", "prod", "max", "min", "any", "all"})
"""Reductions that can be accumulated while their argument is computed."""


@attrs.define(eq=False)
class Group:
    """Instructions that run as one step.

    Attributes
    ----------
    kind : str
        ``"loop"`` for elementwise instructions and the reductions of their results, all over
        one index space; else the one instruction's ``op``.
    shape : tuple of int
        The index space of a loop. Every elementwise member has this shape; every reduction
        has it as its argument's shape.
    values : list of Value
        The members, each after its arguments.
    outputs : list of Value
        Members that are read outside, and so need a buffer. All others live in a loop's
        registers, or in a tile.
    """

    kind: str
    shape: Shape
    values: list[Value]
    outputs: list[Value] = attrs.field(factory=list)

    @property
    def reads(self) -> list[Value]:
        """What the group reads from outside, each once; views as they are."""
        members = set(self.values)
        return list(
            dict.fromkeys(arg for value in self.values for arg in value.args if arg not in members)
        )


def fuse(lowered: Lowered, places: dict[Value, Layout] | None = None) -> list[Group]:
    """Return the program's steps in the order in which they run.

    An instruction joins the latest loop over its index space that runs after everything it
    reads from elsewhere; one whose result is bool the earliest, if an operand is made there.
    What it reads in that loop has to be elementwise there; the result of a reduction is
    complete only when its loop has ended. Views run nowhere.
    """
    places = layouts(lowered.values) if places is None else places
    groups: list[Group] = []
    at: dict[Value, int] = {}
    loops: dict[Shape, list[int]] = {}
    for value in lowered.values:
        layout = places[value]
        if value.op in LEAVES:
            at[value] = -1
        elif value.op in VIEWS and layout.base is not value:
            at[value] = max([at[layout.base], *[at[token] for token in value.args[1:]]])
        elif value.op in ELEMENTWISE or value.op in FUSED_REDUCTIONS:
            shape = value.args[0].shape if value.op in REDUCTIONS else value.shape
            _join(value, shape, groups, at, loops)
        else:
            groups.append(Group(value.op, value.shape, [value]))
            at[value] = len(groups) - 1
    _mark_outputs(lowered, groups, places)
    return groups


def _join(
    value: Value,
    shape: Shape,
    groups: list[Group],
    at: dict[Value, int],
    loops: dict[Shape, list[int]],
) -> None:
    candidates = loops.setdefault(shape, [])
    earliest = max((_ready(arg, shape, at, groups) for arg in value.args), default=0)
    # What is compared can be forgotten where it is made: the answer takes a byte.
    found = earliest if value.dtype.kind == "b" and earliest in candidates else None
    if found is None and candidates and candidates[-1] >= earliest:
        found = candidates[-1]
    if found is not None:
        groups[found].values.append(value)
        at[value] = found
        return
    groups.append(Group("loop", shape, [value]))
    at[value] = len(groups) - 1
    candidates.append(len(groups) - 1)


def _ready(arg: Value, shape: Shape, at: dict[Value, int], groups: list[Group]) -> int:
    """Return the first group in which a loop over ``shape`` can read a value."""
    index = at[arg]
    inside = (
        index >= 0
        and groups[index].kind == "loop"
        and groups[index].shape == shape
        and arg.op not in REDUCTIONS
        and arg.op not in VIEWS
    )
    return index if inside else index + 1


def _mark_outputs(lowered: Lowered, groups: list[Group], places: dict[Value, Layout]) -> None:
    kept = {places[value].base for value in lowered.outputs}
    kept.update(places[new].base for _, new in lowered.updates)
    member_of = {value: group for group in groups for value in group.values}
    for value in lowered.values:
        for arg in value.args:
            base = places[arg].base
            # A view read in its base's own loop is read with other strides: from memory.
            if base in member_of and (
                arg is not base or member_of[base] is not member_of.get(value)
            ):
                kept.add(base)
    for group in groups:
        group.outputs = [value for value in group.values if value in kept]
