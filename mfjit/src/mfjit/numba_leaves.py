"""Inputs, parameters and states of a program compiled by numba: gathered, copied in and out."""

from __future__ import annotations

from mfjit.ir import Value
from mfjit.numba_moves import BAD_INDEX
from mfjit.numba_source import Source
from mfjit.numba_storage import SLOTS


def write_inputs(source: Source) -> None:
    """Write how a step gets its inputs: as they are given, or the rows that an epoch names.

    ``gather`` is how many rows there are to choose from, 0 for inputs as they are.
    """
    batched = [leaf for leaf in source.storage.lowered.inputs if leaf.shape and leaf.size]
    if batched:
        count = batched[0].shape[0]
        i, row = (source.name(kind) for kind in "iq")
        with source.block("if gather != 0:"):
            with source.block(f"for {i} in range({count}):"):
                source.line(f"{row} = rows[t * {count} + {i}]")
                with source.block(f"if {row} < 0 or {row} >= gather:"):
                    source.line(f"status = {BAD_INDEX}")
            with source.block("if status != 0:"):
                source.line("break")
    for leaf in source.storage.lowered.inputs:
        if leaf in source.storage.leaves:
            _write_small_input(source, leaf)
        elif leaf in source.storage.gathered:
            _write_large_input(source, leaf)


def _write_small_input(source: Source, leaf: Value) -> None:
    pointer, start = source.storage.locate(leaf)
    given = f"g{leaf.attributes['index']}"
    head = "if gather == 0:"
    if leaf.shape and leaf.size:
        with source.block("if gather != 0:"):
            _write_gathering(source, leaf, pointer, start)
        head = "else:"
    with source.block(head):
        _write_copy(source, leaf.size, pointer, start, given, 0)


def _write_large_input(source: Source, leaf: Value) -> None:
    """Point at the given array, or at rows of it that follow each other, or gather."""
    index, count = leaf.attributes["index"], leaf.shape[0]
    width, item = leaf.size // count, leaf.dtype.itemsize
    pointer = source.storage.arena_pointer(leaf.dtype)
    start = source.storage.gathered[leaf] // item
    first, i, gaps = (source.name(kind) for kind in "fiq")
    source.line(f"zx{index} = address(given{index})")
    with source.block("if gather != 0:"):
        source.line(f"{first} = rows[t * {count}]")
        source.line(f"{gaps} = 0")
        with source.block(f"for {i} in range({count}):"):
            source.line(f"{gaps} += rows[t * {count} + {i}] != {first} + {i}")
        with source.block(f"if {gaps} == 0:"):
            source.line(f"zx{index} += {first} * {width * item}")
        with source.block("else:"):
            _write_gathering(source, leaf, pointer, start)
            source.line(f"zx{index} = table[{SLOTS.index('arena')}] + {start * item}")
    source.line(f"x{index} = at_{leaf.dtype.name}(zx{index})")


def _write_gathering(source: Source, leaf: Value, pointer: str, start: int) -> None:
    count = leaf.shape[0]
    width = leaf.size // count
    i, j, row = (source.name(kind) for kind in "ijq")
    with source.block(f"for {i} in range({count}):"):
        source.line(f"{row} = rows[t * {count} + {i}] * {width}")
        with source.block(f"for {j} in range({width}):"):
            target = f"{pointer}[{start} + {i} * {width} + {j}]"
            source.line(f"{target} = g{leaf.attributes['index']}[{row} + {j}]")


def write_copies_in(source: Source) -> None:
    """Write the copies of small parameters and states into the arena."""
    for leaf in source.storage.external:
        if leaf in source.storage.leaves:
            pointer, start = source.storage.locate(leaf)
            _write_copy(source, leaf.size, pointer, start, source.storage.pointer(leaf), 0)


def write_copies_out(source: Source) -> None:
    """Write the copies of those that were updated to where they came from."""
    for leaf, _ in source.storage.lowered.updates:
        if leaf in source.storage.leaves:
            pointer, start = source.storage.locate(leaf)
            _write_copy(source, leaf.size, source.storage.pointer(leaf), 0, pointer, start)


def _write_copy(source: Source, size: int, target: str, at: int, origin: str, first: int) -> None:
    i = source.name("i")
    with source.block(f"for {i} in range({size}):"):
        source.line(f"{target}[{at} + {i}] = {origin}[{first} + {i}]")
