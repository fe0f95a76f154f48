"""The source of a lowered program as one function for numba: all steps of an epoch in one loop."""

from __future__ import annotations

import math

import attrs

from mfjit.fuse import Group, fuse
from mfjit.ir import Lowered, Value
from mfjit.layout import layouts
from mfjit.numba_blas import provider
from mfjit.numba_kernels import write_kernel
from mfjit.numba_loops import PARALLEL_ELEMENTS, write_loop
from mfjit.numba_matmul import is_small, write_matmul
from mfjit.numba_moves import result_of, write_copy, write_move
from mfjit.numba_source import Access, Source
from mfjit.numba_storage import FAILING, SLOTS, Storage, store

BLAS_BOUND = 1 << 22
"""Multiplications by BLAS from which its threads are left to it, and loops run on one."""


@attrs.frozen(eq=False)
class Code:
    """A program's source, and what its caller has to know.

    Attributes
    ----------
    text : str
        A module with a function ``run(inputs..., table[, rng])``.
    storage : Storage
        Where everything lies.
    threads : int
        How many threads loops may share.
    parallel : bool
        Whether any does, or a kernel.
    blas : bool
        Whether products are left to BLAS.
    draws : bool
        Whether random numbers are drawn.
    has_loss : bool
        Whether the first output is a number that an epoch can report.
    notes : dict of Group to str
        How each step is done, for people.
    """

    text: str
    storage: Storage
    threads: int
    parallel: bool
    blas: bool
    draws: bool
    has_loss: bool
    notes: dict[Group, str]


def generate(lowered: Lowered, *, threads: int = 1) -> Code:
    """Return the source of a program.

    Parameters
    ----------
    lowered : Lowered
        The program.
    threads : int
        How many threads loops may share.

    Raises
    ------
    CannotCompile
        If it holds an instruction that there is no code for.
    """
    return _Program(lowered, threads).code()


def _preparations(blas: bool) -> list[str]:
    if not blas or provider() != "numpy":
        return []
    return ["import mfjit.numba_blas", "mfjit.numba_blas.prepare()"]


def _why_fused(group: Group) -> str:
    kept = len(group.values) - len(group.outputs)
    if len(group.values) == 1:
        return "a loop of its own"
    return f"one loop, as all go through the same indices; {kept} results stay in registers"


class _Program:
    def __init__(self, lowered: Lowered, threads: int) -> None:
        self.lowered = lowered
        places = layouts(lowered.values)
        self.storage = store(lowered, fuse(lowered, places), places)
        products = [v for v in lowered.values if v.op == "matmul" and not is_small(v)]
        self.blas = bool(products)
        work = sum(v.size * v.args[0].shape[-1] for v in products)
        # BLAS has threads of its own, which go on spinning after a product.
        self.threads = 1 if work >= BLAS_BOUND else threads
        self.source = Source(self.storage, threads)
        self.notes: dict[Group, str] = {}
        first = lowered.outputs[0] if lowered.outputs else None
        self.loss = first if first is not None and not first.shape else None

    def code(self) -> Code:
        source = self.source
        source.depth = 1
        self._write_copies_in()
        source.line("status = 0")
        source.line("done = 0")
        with source.block("for t in range(steps):"):
            self._write_step()
        self._write_copies_out()
        source.line("return -status if status else done")
        return Code(
            text="\n".join([*self._head(), *source.lines, ""]),
            storage=self.storage,
            threads=source.threads,
            parallel=source.parallel or bool(source.kernels),
            blas=self.blas,
            draws=source.draws,
            has_loss=self.loss is not None,
            notes=self.notes,
        )

    # One step

    def _write_step(self) -> None:
        source = self.source
        for setting in self.lowered.settings:
            index = setting.attributes["index"]
            at = f"settings[t * {len(self.lowered.settings)} + {index}]"
            source.line(f"c{index} = np.{setting.dtype.name}({at})")
        for leaf in self.lowered.inputs:
            if leaf in self.storage.leaves:
                self._write_small_input(leaf)
            elif leaf in self.storage.gathered:
                self._write_large_input(leaf)
        groups = self.storage.groups
        last = max((i for i, group in enumerate(groups) if group.kind in FAILING), default=-1)
        for index, group in enumerate(groups):
            self._write_group(group)
            if index == last:
                with source.block("if status != 0:"):
                    source.line("break")
        for value, offset in self.storage.copied.items():
            write_copy(source, value, self._arena(value, offset))
        self._write_updates()
        source.line("done = t + 1")
        if self.loss is not None:
            loss = source.name("v")
            source.line(
                f"{loss} = np.float64({source.load(self.loss, source.access(self.loss), [])})"
            )
            source.line(f"losses[t] = {loss}")
            with source.block(f"if stop != 0 and not abs({loss}) < np.inf:"):
                source.line("break")

    def _write_group(self, group: Group) -> None:
        source = self.source
        value = group.values[0]
        operation = value.attributes["name"] if group.kind == "kernel" else group.kind
        source.line(f"# {operation} {value.origin}".rstrip())
        if group.kind == "loop":
            shared = self.threads > 1 and math.prod(group.shape) >= PARALLEL_ELEMENTS
            self.notes[group] = _why_fused(group) + (", on all threads" if shared else "")
            write_loop(source, group, parallel=shared)
        elif group.kind == "matmul":
            small = is_small(value)
            self.notes[group] = "a product small enough for loops" if small else "a call of BLAS"
            write_matmul(source, group)
        elif group.kind == "kernel":
            self.notes[group] = f"a kernel on {source.threads} threads"
            write_kernel(source, value)
        else:
            before = len(source.lines)
            write_move(source, group)
            moved = len(source.lines) > before
            self.notes[group] = "loops of its own" if moved else "nothing: its parts are in place"

    def _write_updates(self) -> None:
        plan, source = self.storage.plan, self.source
        staged = {leaf: self._arena(leaf, place.offset) for leaf, place in plan.staged.items()}
        for leaf, target in staged.items():
            write_copy(source, leaf, target)
        for leaf, new in plan.copies:
            base = self.storage.layouts[new].base
            access = source.access(new)
            if base in staged:
                assert access is not None
                origin = source.access(base)
                assert origin is not None
                moved = staged[base].start + access.start - origin.start
                access = Access(staged[base].pointer, moved, access.strides)
            target = source.access(leaf)
            assert target is not None
            with source.nest(leaf.shape) as names:
                source.store(target, names, source.load(new, access, names))

    def _arena(self, value: Value, offset: int) -> Access:
        strides = []
        step = 1
        for size in reversed(value.shape):
            strides.append(step)
            step *= size
        pointer = self.storage.arena_pointer(value.dtype)
        return Access(pointer, offset // value.dtype.itemsize, tuple(reversed(strides)))

    # Leaves

    def _write_small_input(self, leaf: Value) -> None:
        source = self.source
        pointer, start = self.storage.locate(leaf)
        given = f"g{leaf.attributes['index']}"
        i, j, row = source.name("i"), source.name("j"), source.name("q")
        if leaf.shape and leaf.size:
            width = leaf.size // leaf.shape[0]
            with source.block("if gather != 0:"):
                with source.block(f"for {i} in range({leaf.shape[0]}):"):
                    source.line(f"{row} = rows[t * {leaf.shape[0]} + {i}] * {width}")
                    with source.block(f"for {j} in range({width}):"):
                        source.line(
                            f"{pointer}[{start} + {i} * {width} + {j}] = {given}[{row} + {j}]"
                        )
            head = "else:"
        else:
            head = "if gather == 0:"
        i = source.name("i")
        with source.block(head):
            with source.block(f"for {i} in range({leaf.size}):"):
                source.line(f"{pointer}[{start} + {i}] = {given}[{i}]")

    def _write_large_input(self, leaf: Value) -> None:
        """Point at the given array, or at rows of it that follow each other, or gather."""
        source = self.source
        index, count = leaf.attributes["index"], leaf.shape[0]
        width = leaf.size // count
        item = leaf.dtype.itemsize
        pointer = self.storage.arena_pointer(leaf.dtype)
        start = self.storage.gathered[leaf] // item
        first, i, j, row = (source.name(kind) for kind in "fijq")
        source.line(f"zx{index} = address(given{index})")
        with source.block("if gather != 0:"):
            source.line(f"{first} = rows[t * {count}]")
            source.line(f"{row} = 0")
            with source.block(f"for {i} in range({count}):"):
                source.line(f"{row} += rows[t * {count} + {i}] != {first} + {i}")
            with source.block(f"if {row} == 0:"):
                source.line(f"zx{index} += {first} * {width * item}")
            with source.block("else:"):
                with source.block(f"for {i} in range({count}):"):
                    source.line(f"{row} = rows[t * {count} + {i}] * {width}")
                    with source.block(f"for {j} in range({width}):"):
                        source.line(
                            f"{pointer}[{start} + {i} * {width} + {j}] = g{index}[{row} + {j}]"
                        )
                source.line(f"zx{index} = table[{SLOTS.index('arena')}] + {start * item}")
        source.line(f"x{index} = at_{leaf.dtype.name}(zx{index})")

    def _write_copies_in(self) -> None:
        for leaf in self.storage.external:
            if leaf in self.storage.leaves:
                pointer, start = self.storage.locate(leaf)
                i = self.source.name("i")
                with self.source.block(f"for {i} in range({leaf.size}):"):
                    given = self.storage.pointer(leaf)
                    self.source.line(f"{pointer}[{start} + {i}] = {given}[{i}]")

    def _write_copies_out(self) -> None:
        for leaf, _ in self.lowered.updates:
            if leaf in self.storage.leaves:
                pointer, start = self.storage.locate(leaf)
                i = self.source.name("i")
                with self.source.block(f"for {i} in range({leaf.size}):"):
                    given = self.storage.pointer(leaf)
                    self.source.line(f"{given}[{i}] = {pointer}[{start} + {i}]")

    # What stands before

    def _title(self) -> str:
        lowered = self.lowered
        shapes = ", ".join(f"{v.dtype}{list(v.shape)}" for v in lowered.inputs)
        kind = "training step" if lowered.updates else "function"
        return f"{kind} of {len(lowered.values)} instructions, inputs {shapes or 'none'}"

    def _head(self) -> list[str]:
        source, storage = self.source, self.storage
        inputs = self.lowered.inputs
        arguments = [f"given{i}" for i in range(len(inputs))] + ["table"]
        array = "types.Array(types.{}, {}, 'C', readonly=True)"
        kinds = [
            array.format("boolean" if v.dtype == bool else v.dtype.name, v.ndim) for v in inputs
        ]
        kinds.append("types.int64[::1]")
        if source.draws:
            arguments.append("rng")
            kinds.append("types.npy_rng")
        lines = [
            f"# {self._title()}",
            "import math",
            "import numpy as np",
            "from numba import carray, prange, types",
            "if COMPILING:  # machine code from the cache needs none of it",
            "    from mfjit.numba_runtime import *",
            *[f"    from mfjit.elementary import {name}" for name in sorted(source.functions)],
            *[f"    from mfjit.convolution import {name}" for name, _ in source.kernels],
            *_preparations(self.blas),
            *(["import mfjit.convolution_parts"] if source.kernels else []),
            *(["from mfjit.parallel_parts import prepare"] if source.kernels else []),
            *[f'prepare("{name}", "{dtype}")' for name, dtype in source.kernels],
            *[f"{name} = {number}" for name, number in source.literals.numbers],
            "",
            f"@compiled(types.int64({', '.join(kinds)}), parallel={source.parallel})",
            f"def run({', '.join(arguments)}):",
        ]
        lines += [
            f"    {name} = table[{SLOTS.index(name)}]" for name in ("steps", "gather", "stop")
        ]
        lines += [
            "    rows = at_int64(table[3])",
            "    settings = at_float64(table[4])",
            "    losses = at_float64(table[5])",
        ]
        if source.parallel:
            lines += [f"    z{slot} = table[{slot}]" for slot in range(6, storage.slots)]
        lines += [
            f"    {p.name} = at_{p.dtype.name}(table[{p.slot}])" for p in storage.pointers.values()
        ]
        lines += [
            f"    g{v.attributes['index']} = at_{v.dtype.name}(address(given{v.attributes['index']}))"
            for v in inputs
            if v in storage.leaves or v in storage.gathered
        ]
        return lines
