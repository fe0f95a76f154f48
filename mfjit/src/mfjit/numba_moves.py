"""Instructions that move elements, as loops: copies, concatenation, indexing, draws, arguments."""

from __future__ import annotations

import numpy as np

from mfjit.errors import CannotCompile
from mfjit.fuse import Group
from mfjit.ir import Value
from mfjit.layout import contiguous_strides
from mfjit.numba_source import Access, Source

BAD_INDEX, BAD_CLASS = 1, 2
"""Reasons that a step ends early; the program returns them, negative, with where it was."""


def write_move(source: Source, group: Group) -> None:
    """Write an instruction that is no loop of a fused group and no product.

    Raises
    ------
    CannotCompile
        If there is no code for it.
    """
    value = group.values[0]
    write = _WRITERS.get(value.op)
    if value.op == "call":
        why = value.attributes.get("why") or f"{value.origin} is a call"
        raise CannotCompile(f"{why} (the numba engine calls no Python)")
    if write is None:
        raise CannotCompile(
            f"{value.op} {value.attributes.get('name', '')} at "
            f"{value.origin or 'an unnamed node'}: the numba engine has no code for it"
        )
    write(source, value)


def write_copy(source: Source, value: Value, target: Access) -> None:
    """Write the copy of a value into memory."""
    access = source.access(value)
    with source.nest(value.shape) as names:
        source.store(target, names, source.load(value, access, names))


def result_of(source: Source, value: Value) -> Access:
    """Return where the result of an instruction is written."""
    pointer, start = source.storage.locate(value)
    return Access(pointer, start, source.storage.layouts[value].strides)


def _reshape(source: Source, value: Value) -> None:
    arg = value.args[0]
    target = result_of(source, value)
    write_copy(source, arg, Access(target.pointer, target.start, contiguous_strides(arg.shape)))


def _concatenate(source: Source, value: Value) -> None:
    axis = value.attributes["axis"]
    target = result_of(source, value)
    start = target.start
    for part in value.args:
        placed = Access(target.pointer, start, target.strides)
        if part_is_elsewhere(source, part, placed):
            write_copy(source, part, placed)
        start += part.shape[axis] * target.strides[axis]


def part_is_elsewhere(source: Source, part: Value, target: Access) -> bool:
    """Whether a part of a concatenation still has to be copied to its place."""
    return source.access(part) != Access(target.pointer, target.start, _moving(part, target))


def _moving(part: Value, target: Access) -> tuple[int, ...]:
    return tuple(0 if n == 1 else stride for n, stride in zip(part.shape, target.strides))


def _place(source: Source, value: Value) -> None:
    target = result_of(source, value)
    write_fill(source, value, target)
    slices = value.attributes["slices"]
    start = target.start + sum(
        first * stride for (first, _, _), stride in zip(slices, target.strides)
    )
    strides = tuple(step * stride for (_, _, step), stride in zip(slices, target.strides))
    write_copy(source, value.args[0], Access(target.pointer, start, strides))


def write_fill(source: Source, value: Value, target: Access) -> None:
    """Write zeros all over a contiguous result."""
    if value.size:
        name = source.name("i")
        with source.block(f"for {name} in range({value.size}):"):
            zero = source.literals.text(0, value.dtype)
            source.store(Access(target.pointer, target.start, (1,)), [name], zero)


def _checked_index(source: Source, text: str, size: int) -> str:
    """Write the check of an index; return the name of what is safe to use."""
    name = source.name("j")
    source.line(f"{name} = np.int64({text})")
    with source.block(f"if {name} < 0:"):
        source.line(f"{name} += {size}")
    with source.block(f"if {name} < 0 or {name} >= {size}:"):
        source.line(f"status = {BAD_INDEX}")
        source.line(f"{name} = np.int64(0)")
    return name


def _take(source: Source, value: Value) -> None:
    x, indices = value.args
    axis = value.attributes["axis"]
    target, from_x, from_indices = (
        result_of(source, value),
        source.access(x),
        source.access(indices),
    )
    size = x.shape[axis]
    if size == 0 and value.size:
        source.line(f"status = {BAD_INDEX}")
        return
    last = axis + indices.ndim
    with source.nest(value.shape[:last]) as names:
        if value.size == 0 and 0 not in value.shape[:last]:
            source.line("pass")
        chosen = _checked_index(source, source.load(indices, from_indices, names[axis:]), size)
        with source.nest(value.shape[last:]) as inner:
            element = source.load(x, from_x, [*names[:axis], chosen, *inner])
            source.store(target, [*names, *inner], element)


def _take_add(source: Source, value: Value) -> None:
    x, indices = value.args
    axis = value.attributes["axis"]
    target, from_x, from_indices = (
        result_of(source, value),
        source.access(x),
        source.access(indices),
    )
    write_fill(source, value, target)
    size = value.shape[axis]
    if size == 0:
        if x.size:
            source.line(f"status = {BAD_INDEX}")
        return
    last = axis + indices.ndim
    with source.nest(x.shape[:last]) as names:
        chosen = _checked_index(source, source.load(indices, from_indices, names[axis:]), size)
        with source.nest(x.shape[last:]) as inner:
            where = [*names[:axis], chosen, *inner]
            before = source.load(value, target, where)
            added = source.load(x, from_x, [*names, *inner])
            total = f"({before} | {added})" if value.dtype.kind == "b" else f"{before} + {added}"
            source.store(target, where, total)


def _one_hot(source: Source, value: Value) -> None:
    (indices,) = value.args
    depth = value.attributes["depth"]
    target, access = result_of(source, value), source.access(indices)
    write_fill(source, value, target)
    one = source.literals.text(1, value.dtype)
    with source.nest(indices.shape) as names:
        given, chosen = source.name("v"), source.name("j")
        source.line(f"{given} = {source.load(indices, access, names)}")
        if indices.dtype.kind == "f":
            # Not `given < 0 or ...`: NaN is no class either.
            with source.block(f"if not ({given} >= 0 and {given} < {depth}):"):
                source.line(f"status = {BAD_CLASS}")
                source.line(f"{given} = {source.literals.text(0, indices.dtype)}")
        source.line(f"{chosen} = np.int64({given})")
        wrong = f"{chosen} < 0 or {chosen} >= {depth}"
        if indices.dtype.kind == "f":
            wrong = f"{chosen} != {given}"
        with source.block(f"if {wrong}:"):
            source.line(f"status = {BAD_CLASS}")
            source.line(f"{chosen} = np.int64(0)")
        if depth:
            source.store(target, [*names, chosen], one)


def _argument(source: Source, value: Value) -> None:
    """Write argmax or argmin: the first extreme, or the first NaN."""
    (x,) = value.args
    axes = value.attributes["axes"]
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    access, target = source.access(x), result_of(source, value)
    with source.nest(value.shape) as outer:
        best, at, count, element = (source.name(kind) for kind in ("r", "j", "n", "v"))
        source.line(f"{best} = {_element(source, x, access, kept, outer, axes, None)}")
        source.line(f"{at} = np.int64(0)")
        source.line(f"{count} = np.int64(0)")
        with source.nest(tuple(x.shape[axis] for axis in axes)) as inner:
            source.line(f"{element} = {_element(source, x, access, kept, outer, axes, inner)}")
            if x.dtype.kind == "b":
                better = (
                    f"{element} and not {best}"
                    if value.op == "argmax"
                    else f"{best} and not {element}"
                )
            else:
                better = f"{element} {'>' if value.op == 'argmax' else '<'} {best}"
            if x.dtype.kind == "f":
                better = f"({better} or {element} != {element}) and {best} == {best}"
            with source.block(f"if {better}:"):
                source.line(f"{best} = {element}")
                source.line(f"{at} = {count}")
            source.line(f"{count} += 1")
        source.store(target, outer, at)


def _element(
    source: Source,
    x: Value,
    access: Access | None,
    kept: list[int],
    outer: list[str],
    axes: tuple[int, ...],
    inner: list[str] | None,
) -> str:
    names = ["0"] * x.ndim
    for axis, name in zip(kept, outer):
        names[axis] = name
    for axis, name in zip(axes, inner or ["0"] * len(axes)):
        names[axis] = name
    return source.load(x, access, names)


def _random(source: Source, value: Value) -> None:
    if value.dtype not in (np.float64, np.float32):
        raise CannotCompile(f"random numbers of dtype {value.dtype} at {value.origin}")
    target = result_of(source, value)
    drawn, name = source.name("d"), source.name("i")
    source.draws = True
    how = value.attributes["distribution"]
    source.line(f"{drawn} = rng.{how}({value.size}, np.{value.dtype.name})")
    with source.block(f"for {name} in range({value.size}):"):
        source.store(Access(target.pointer, target.start, (1,)), [name], f"{drawn}[{name}]")


_WRITERS = {
    "reshape": _reshape,
    "concatenate": _concatenate,
    "place": _place,
    "take": _take,
    "take_add": _take_add,
    "one_hot": _one_hot,
    "argmax": _argument,
    "argmin": _argument,
    "random": _random,
}
