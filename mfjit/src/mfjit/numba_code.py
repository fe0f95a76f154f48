"""The source of a lowered program as one function for numba: all steps of an epoch in one loop."""

from __future__ import annotations

import math
import re
from contextlib import nullcontext

import attrs

from mfjit.explaining import flops_of
from mfjit.fuse import Group, fuse
from mfjit.ir import Lowered, Value
from mfjit.layout import contiguous_strides, layouts
from mfjit.memory import ALIGNMENT
from mfjit.numba_blas import provider
from mfjit.numba_kernels import write_kernel
from mfjit.numba_leaves import write_copies_in, write_copies_out, write_inputs
from mfjit.numba_loops import PARALLEL_ELEMENTS, write_loop
from mfjit.numba_matmul import is_small, write_matmul
from mfjit.numba_moves import write_copy, write_move
from mfjit.numba_rows import PARALLEL_FLOPS, Run
from mfjit.numba_source import Access, Source
from mfjit.numba_storage import FAILING, SLOTS, Storage, store

BLAS_BOUND = 1 << 22
"""Multiplications by BLAS from which its threads are left to it, and loops run on one."""

PART = 16
"""Steps that one function holds, where a program has many."""


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
    blas_alone : bool
        Whether some are large enough for its own threads.
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
    blas_alone: bool
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


def _elements(group: Group) -> int:
    return math.prod(group.shape)


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
        divided = {v for run in self.storage.runs for group in run.groups for v in group.values}
        undivided = [v for v in products if v not in divided]
        work = sum(v.size * v.args[0].shape[-1] for v in undivided)
        self.blas_alone = bool(undivided)
        # BLAS has threads of its own, which go on spinning after a product.
        self.threads = 1 if work >= BLAS_BOUND else threads
        self.source = Source(self.storage, threads)
        self.parts: list[list[str]] = []
        groups = self.storage.groups
        large = any(g.kind == "loop" and _elements(g) >= PARALLEL_ELEMENTS for g in groups)
        shared = large and self.threads > 1
        self.in_parts = len(groups) > 2 * PART and not shared and not self.storage.runs
        self.notes: dict[Group, str] = {}
        first = lowered.outputs[0] if lowered.outputs else None
        self.loss = first if first is not None and not first.shape else None

    def code(self) -> Code:
        source = self.source
        source.depth = 1
        write_copies_in(source)
        source.line("status = 0")
        source.line("done = 0")
        with source.block("for t in range(steps):"):
            self._write_step()
        write_copies_out(source)
        source.line("return -status if status else done")
        return Code(
            text="\n".join([*self._head(), *source.lines, ""]),
            storage=self.storage,
            threads=source.threads,
            parallel=source.parallel or bool(source.kernels),
            blas=self.blas,
            blas_alone=self.blas_alone,
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
        write_inputs(source)
        groups = self.storage.groups
        last = max((i for i, group in enumerate(groups) if group.kind in FAILING), default=-1)
        runs = {run.groups[0]: run for run in self.storage.runs}
        inside = {group for run in self.storage.runs for group in run.groups}
        whole = max((i for i, g in enumerate(groups) if g.kind == "random"), default=last)
        whole = max(whole, last)
        for index, group in enumerate(groups):
            if index > whole and self.in_parts:
                if (index - whole - 1) % PART == 0:
                    self._write_part(groups[index : index + PART])
            elif group in runs:
                self._write_run(runs[group])
            elif group not in inside:
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

    def _write_part(self, groups: list[Group]) -> None:
        """Write steps as a function of their own: LLVM takes ever longer for long ones."""
        source = self.source
        lines, depth = source.lines, source.depth
        source.lines, source.depth = [], 1
        for group in groups:
            self._write_group(group)
        body = source.lines
        source.lines, source.depth = lines, depth
        used = set(re.findall(r"\b(?:a_\w+|[mxc]\d+)\b", "\n".join(body)))
        name = f"part{len(self.parts) + 1}"
        call = f"{name}({', '.join(sorted(used))})"
        self.parts.append(["", "", "@part", f"def {call}:", "    stay_apart()", *body])
        source.line(call)

    def _write_run(self, run: Run) -> None:
        """Write a run: on each thread its share of blocks, each block through all steps."""
        source, storage = self.source, self.storage
        shared = self.threads > 1 and sum(map(flops_of, run.groups)) >= PARALLEL_FLOPS
        threads = self.threads if shared else 1
        block = run.block
        blocks = -(-run.rows // block)
        share = -(-blocks // threads)
        room = 0
        offsets = {}
        for value in run.inner:
            offsets[value] = room
            room += -(-block * value.nbytes // run.rows // ALIGNMENT) * ALIGNMENT
        start = storage.reserve(room * threads)
        storage.blocks.update({value: start + at for value, at in offsets.items()})
        thread, number, first, last = (source.name(kind) for kind in ("n", "b", "f", "l"))
        at, depth = len(source.lines), source.depth
        source.hoisted, source.run_depth, source.rows = [], depth, (first, last)
        head = source.shared_among_threads(thread, threads) if shared else nullcontext()
        with head:
            if not shared:
                source.line(f"{thread} = 0")
            stop = f"min({thread} * {share} + {share}, {blocks})"
            with source.block(f"for {number} in range({thread} * {share}, {stop}):"):
                source.line(f"{first} = {number} * {block}")
                source.line(f"{last} = min({first} + {block}, {run.rows})")
                for value in run.inner:
                    shift = source.shifts[value] = source.name("s")
                    item, row = value.dtype.itemsize, value.size // run.rows
                    source.line(f"{shift} = {thread} * {room // item} - {first} * {row}")
                for group in run.groups:
                    self._write_group(group, whole=False)
                    where = f"{threads} threads" if shared else "one thread"
                    self.notes[group] += f"; in blocks of {block} rows with its run, on {where}"
        source.lines[at:at] = source.hoisted
        source.hoisted = source.rows = None

    def _write_group(self, group: Group, *, whole: bool = True) -> None:
        source = self.source
        value = group.values[0]
        operation = value.attributes["name"] if group.kind == "kernel" else group.kind
        source.line(f"# {operation} {value.origin}".rstrip())
        if group.kind == "loop":
            many = _elements(group) >= PARALLEL_ELEMENTS
            shared = whole and self.threads > 1 and many
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
                layout = self.storage.layouts[new]
                first = staged[base].start + layout.offset
                access = Access(staged[base].pointer, first, layout.strides)
            target = source.result(leaf, contiguous_strides(leaf.shape))
            with source.nest(leaf.shape) as names:
                source.store(target, names, source.load(new, access, names))

    def _arena(self, value: Value, offset: int) -> Access:
        pointer = self.storage.arena_pointer(value.dtype)
        first = offset // value.dtype.itemsize
        return Access(pointer, first, contiguous_strides(value.shape))

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
            *[line for part in self.parts for line in part],
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
            f"    g{index} = at_{v.dtype.name}(address(given{index}))"
            for index, v in enumerate(inputs)
            if v in storage.leaves or v in storage.gathered
        ]
        return lines
