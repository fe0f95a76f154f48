"""Which NumPy calls a program takes, and in what order: groups cut to what one call can do."""

from __future__ import annotations

from mfjit import numpy_rewrites
from mfjit.fuse import Group
from mfjit.ir import REDUCTIONS, Lowered, Value
from mfjit.layout import Layout
from mfjit.numpy_scalars import is_scalar_arithmetic


def schedule(lowered: Lowered, groups: list[Group], layouts: dict[Value, Layout]) -> list[Group]:
    """Return the steps that the numpy engine runs.

    A loop over large arrays stays a group, to be run tile by tile; a loop over small ones is
    cut into its instructions, but for arithmetic of single numbers. A sum of products becomes
    one ``dot``.
    """
    readers = lowered.consumers()
    returned = {*lowered.outputs, *(new for _, new in lowered.updates)}
    steps: list[Group] = []
    for group in groups:
        if group.kind != "loop" or is_tiled(group):
            steps.append(group)
            continue
        if is_scalar_arithmetic(group):
            steps.append(Group("scalars", (), group.values, group.outputs))
            continue
        dots = {
            value.args[0]: value
            for value in group.values
            if _is_dot(value, group, readers, returned, layouts)
        }
        for value in group.values:
            if value in dots:
                continue
            if value.op == "sum" and dots.get(value.args[0]) is value:
                steps.append(Group("dot", group.shape, [value.args[0], value], [value]))
            else:
                steps.append(Group("loop", group.shape, [value], [value]))
    return [_without_buffer(group, readers) for group in steps]


def is_tiled(group: Group) -> bool:
    """Whether a loop runs tile by tile."""
    width = max(value.dtype.itemsize for value in group.values)
    size = max(
        value.args[0].size if value.op in REDUCTIONS else value.size for value in group.values
    )
    return (
        group.kind == "loop" and len(group.values) > 1 and size * width > numpy_rewrites.TILED_BYTES
    )


def _is_dot(
    value: Value,
    group: Group,
    readers: dict[Value, list[Value]],
    returned: set[Value],
    layouts: dict[Value, Layout],
) -> bool:
    if value.op != "sum" or value.shape or value.dtype.kind != "f" or value.dtype.itemsize < 4:
        return False
    product = value.args[0]
    return (
        product.op in ("multiply", "square")
        and product in group.values
        and product not in returned
        and readers[product] == [value]
        and all(
            arg.shape == product.shape and layouts[arg].contiguous(arg.shape)
            for arg in product.args
        )
    )


def _without_buffer(group: Group, readers: dict[Value, list[Value]]) -> Group:
    """Give no buffer to a call whose result is a tuple of arrays."""
    value = group.values[0]
    if value.op == "call" and any(reader.op == "item" for reader in readers[value]):
        return Group(group.kind, group.shape, group.values, [])
    return group
