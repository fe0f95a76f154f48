"""Fused groups as nested loops: members in registers, reductions accumulated on the way."""

from __future__ import annotations

import math

import attrs
import numpy as np

from mfjit.fuse import Group
from mfjit.ir import REDUCTIONS, Value
from mfjit.layout import contiguous_strides
from mfjit.numba_elementwise import cast, expression
from mfjit.numba_source import Access, Source

BLOCK = 1 << 14
"""Elements that one running sum takes at most, to keep rounding errors small."""

SHORT_ROW = 48
"""Elements up to which a row is run through together with others."""

FLATTENED = 96
"""Elements that are worth running through together."""

CHUNK = 1 << 15
"""Elements of a loop that one thread takes at a time."""

PARALLEL_ELEMENTS = 1 << 18
"""Elements from which a loop is shared among threads."""


@attrs.define(eq=False)
class _Axis:
    """One loop: over all of an axis, over its blocks, or over the inside of a block."""

    size: int
    variable: str
    range: str
    whole: int


@attrs.define(eq=False)
class _Reduction:
    value: Value
    reduced: set[int]
    target: Access
    accumulators: dict[int, str] = attrs.field(factory=dict)

    def trailing(self, depth: int) -> int:
        """Return the outermost of the loops, up to the innermost, that are all reduced."""
        while depth and depth - 1 in self.reduced:
            depth -= 1
        return depth


def write_loop(source: Source, group: Group, *, parallel: bool = False) -> None:
    """Write the loops of a fused group."""
    _Nest(source, group, parallel).write()


class _Nest:
    def __init__(self, source: Source, group: Group, parallel: bool) -> None:
        self.source = source
        self.group = group
        self.parallel = parallel
        self.names: dict[Value, str] = {}
        members = set(group.values)
        self.reads = {value: source.access(value, group.shape) for value in group.reads}
        self.writes: dict[Value, Access] = {}
        self.reductions: list[_Reduction] = []
        for value in group.outputs:
            by_index = contiguous_strides(group.shape)
            strides = self._kept_strides(value) if value.op in REDUCTIONS else by_index
            self.writes[value] = source.result(value, strides)
        self.members = members

    def _kept_strides(self, value: Value) -> tuple[int, ...]:
        strides = iter(contiguous_strides(value.shape))
        axes = value.attributes["axes"]
        return tuple(0 if a in axes else next(strides) for a in range(len(self.group.shape)))

    def write(self) -> None:
        self._simplify()
        if 0 in self.group.shape:
            for reduction in self.reductions:
                self._fill(reduction, 0)
            return
        if self.parallel:
            self._write_parallel()
        else:
            self._write_depth(0)

    def _write_parallel(self) -> None:
        """Share the outermost loop among threads; sums over it are added up afterwards.

        Blocks are the same for any number of threads, and so are results.
        """
        source = self.source
        inner = math.prod(axis.size for axis in self.axes[1:])
        self._split(0, max(1, CHUNK // inner))
        count = self.axes[0].size
        partial: list[tuple[_Reduction, Access]] = []
        for reduction in self.reductions:
            if 0 in reduction.reduced:
                value = reduction.value
                offset = source.storage.reserve(count * value.nbytes) // value.dtype.itemsize
                pointer = source.storage.arena_pointer(value.dtype)
                partial.append((reduction, reduction.target))
                strides = (value.size, *reduction.target.strides[1:])
                reduction.target = Access(pointer, offset, strides)
                reduction.reduced.discard(0)
        self._load(0)
        with source.shared_among_threads(self.axes[0].variable, count):
            self._write_depth(1)
        for reduction, target in partial:
            self._add_up(reduction, target, count)

    def _add_up(self, reduction: _Reduction, target: Access, count: int) -> None:
        source, value = self.source, reduction.value
        parts = reduction.target
        variables = ["0"] * len(self.axes)
        depth = source.depth
        for i in range(1, len(self.axes)):
            if target.strides[i]:
                variables[i] = source.name("i")
                source.line(f"for {variables[i]} in range({self.axes[i].whole}):")
                source.depth += 1
        total, variables[0] = source.name("r"), source.name("b")
        double = value.op == "sum" and value.dtype.kind == "f"
        dtype = np.dtype(np.float64) if double else value.dtype
        source.line(f"{total} = {source.literals.text(identity(value), dtype)}")
        with source.block(f"for {variables[0]} in range({count}):"):
            part = source.load(value, parts, variables)
            source.line(f"{total} = {combined(value, total, part, any_order=False)}")
        source.store(target, variables, cast(total, dtype, value.dtype))
        source.depth = depth

    # The index space

    def _simplify(self) -> None:
        """Drop axes of length one, and make one axis of those that every operand runs through."""
        shape = self.group.shape
        kept = [axis for axis, size in enumerate(shape) if size != 1]
        accesses = [a for a in [*self.reads.values(), *self.writes.values()] if a is not None]
        reduced = [v.attributes["axes"] for v in self.group.values if v.op in REDUCTIONS]
        runs: list[list[int]] = []
        for axis in kept:
            if (
                runs
                and all(a.strides[runs[-1][-1]] == a.strides[axis] * shape[axis] for a in accesses)
                and all((runs[-1][-1] in axes) == (axis in axes) for axes in reduced)
            ):
                runs[-1].append(axis)
                continue
            runs.append([axis])
        sizes = [math.prod(shape[axis] for axis in run) for run in runs]

        def simplified(access: Access) -> Access:
            return attrs.evolve(access, strides=tuple(access.strides[run[-1]] for run in runs))

        self.reads = {v: a and simplified(a) for v, a in self.reads.items()}
        self.writes = {v: simplified(a) for v, a in self.writes.items()}
        for value in self.group.values:
            if value.op in REDUCTIONS:
                reduced_axes = {
                    i for i, run in enumerate(runs) if run[-1] in value.attributes["axes"]
                }
                self.reductions.append(_Reduction(value, reduced_axes, self.writes[value]))
        self.axes = [
            _Axis(size, name, f"range({size})", size)
            for size, name in ((size, self.source.name("i")) for size in sizes)
        ]
        if source_rows := self.source.rows:
            first, last = source_rows
            inner = math.prod(shape[axis] for axis in runs[0][1:])
            self.axes[0].range = f"range({first} * {inner}, {last} * {inner})"
        self._flatten_short_rows()
        self._split_long_sums()

    def _flatten_short_rows(self) -> None:
        """Run through many short rows as one long one, beside copies of what each row reads.

        Loops of few iterations do not fill vector registers.
        """
        if len(self.axes) != 2:
            return
        rows, width = (axis.size for axis in self.axes)
        accesses = [a for a in [*self.reads.values(), *self.writes.values()] if a is not None]
        repeated = {v: a for v, a in self.reads.items() if a is not None and a.strides == (0, 1)}
        reduced = [r.reduced for r in self.reductions]
        if (
            not repeated
            or width > SHORT_ROW
            or rows * width < FLATTENED
            or not all(a.strides in ((width, 1), (0, 1), (0, 0)) for a in accesses)
            or not all(axes == {0, 1} for axes in reduced)
        ):
            return
        source = self.source
        tile = width * min(rows, -(-FLATTENED // width))
        for value, access in repeated.items():
            offset = source.storage.reserve(tile * value.dtype.itemsize) // value.dtype.itemsize
            copies = Access(source.storage.arena_pointer(value.dtype), offset, (width, 1))
            with source.before_the_run(), source.nest((tile // width, width)) as names:
                source.store(copies, names, source.load(value, access, names))
            self.reads[value] = attrs.evolve(copies, strides=(0, 1))
        count = -(-rows * width // tile)
        outer, inner = source.name("b"), source.name("i")
        total, shift = str(rows * width), ""
        if source.rows is not None:
            first, last = source.rows
            total, shift = f"({last} - {first}) * {width}", f"{first} * {width}"
        whole = source.rows is None and rows * width % tile == 0
        stop = str(tile) if whole else f"min({tile}, {total} - {outer} * {tile})"
        blocks = str(count) if source.rows is None else f"({total} + {tile - 1}) // {tile}"
        self.axes = [
            _Axis(count, outer, f"range({blocks})", count),
            _Axis(tile, inner, f"range({stop})", tile),
        ]

        def flattened(access: Access) -> Access:
            if access.strides != (width, 1):
                return access
            shifts = " + ".join(part for part in (access.shift, shift) if part)
            return attrs.evolve(access, strides=(tile, 1), shift=shifts)

        self.reads = {v: a and flattened(a) for v, a in self.reads.items()}
        self.writes = {v: flattened(a) for v, a in self.writes.items()}

    def _split_long_sums(self) -> None:
        last = len(self.axes) - 1
        if last < 0 or self.axes[last].size <= BLOCK:
            return
        if any(r.value.op in ("sum", "prod") and last in r.reduced for r in self.reductions):
            self._split(last, BLOCK)

    def _split(self, axis: int, block: int) -> None:
        """Make two loops of one: over blocks, and inside a block."""
        whole = self.axes[axis]
        outer = self.source.name("b")
        stop = f"min({outer} * {block} + {block}, {whole.size})"
        count = -(-whole.size // block)
        self.axes[axis : axis + 1] = [
            _Axis(count, outer, f"range({count})", count),
            _Axis(block, whole.variable, f"range({outer} * {block}, {stop})", whole.whole),
        ]

        def split(access: Access) -> Access:
            strides = access.strides
            return attrs.evolve(access, strides=(*strides[:axis], 0, *strides[axis:]))

        self.reads = {v: a and split(a) for v, a in self.reads.items()}
        self.writes = {v: split(a) for v, a in self.writes.items()}
        for reduction in self.reductions:
            reduction.target = split(reduction.target)
            reduction.reduced = {a + (a > axis) for a in reduction.reduced} | (
                {axis, axis + 1} if axis in reduction.reduced else set()
            )

    # The loops

    def _write_depth(self, depth: int) -> None:
        source, count = self.source, len(self.axes)
        variables = [axis.variable for axis in self.axes]
        self._load(depth)
        if depth == count:
            self._write_members(variables)
            return
        for reduction in self.reductions:
            self._start(reduction, depth)
        with source.block(f"for {variables[depth]} in {self.axes[depth].range}:"):
            self._write_depth(depth + 1)
        for reduction in self.reductions:
            self._finish(reduction, depth, variables)

    def _load(self, depth: int) -> None:
        """Read what no loop further inside moves along."""
        source = self.source
        variables = [axis.variable for axis in self.axes]
        for value, access in self.reads.items():
            if access is None:
                if depth == 0:
                    self.names[value] = source.scalar(value)
            elif _last_moving(access) + 1 == depth:
                self.names[value] = source.name("v")
                source.line(f"{self.names[value]} = {source.load(value, access, variables)}")

    def _write_members(self, variables: list[str]) -> None:
        source = self.source
        pending: list[tuple[Value, str]] = []
        for value in self.group.values:
            if value.op in REDUCTIONS:
                continue
            args = [self.names[arg] for arg in value.args]
            text = expression(value, args, source.literals, source.functions)
            name = self.names[value] = source.name("v")
            source.line(f"{name} = {text}")
            if value in self.writes:
                pending.append((value, name))
        for value, name in pending:
            source.store(self.writes[value], variables, name)
        for reduction in self.reductions:
            arg = reduction.value.args[0]
            x = cast(self.names[arg], arg.dtype, reduction.value.dtype)
            inner = reduction.accumulators.get(len(self.axes) - 1)
            if not reduction.reduced:
                source.store(reduction.target, variables, x)
            elif inner is not None:
                source.line(f"{inner} = {combined(reduction.value, inner, x, any_order=True)}")
            else:
                total = source.load(reduction.value, reduction.target, variables)
                text = combined(reduction.value, total, x, any_order=False)
                source.store(reduction.target, variables, text)

    # Reductions

    def _start(self, reduction: _Reduction, depth: int) -> None:
        if not reduction.reduced:
            return
        count = len(self.axes)
        trailing = reduction.trailing(count)
        if depth == min(reduction.reduced) and depth != trailing:
            self._fill(reduction, depth)
        if trailing <= depth < count and (depth in (trailing, count - 1)):
            name = reduction.accumulators[depth] = self.source.name("r")
            dtype = self._accumulated(reduction, depth)
            self.source.line(
                f"{name} = {self.source.literals.text(identity(reduction.value), dtype)}"
            )

    def _accumulated(self, reduction: _Reduction, depth: int) -> np.dtype:
        """Sums of sums of floats are kept in double precision."""
        dtype = reduction.value.dtype
        outer = depth < len(self.axes) - 1 and reduction.value.op == "sum"
        return np.dtype(np.float64) if outer and dtype.kind == "f" else dtype

    def _finish(self, reduction: _Reduction, depth: int, variables: list[str]) -> None:
        source, value = self.source, reduction.value
        if not reduction.reduced or depth not in reduction.accumulators:
            return
        name = reduction.accumulators.pop(depth)
        dtype = self._accumulated(reduction, depth)
        outer = reduction.accumulators.get(reduction.trailing(len(self.axes)))
        if outer is not None:
            source.line(f"{outer} = {combined(value, outer, name, any_order=False)}")
            return
        text = cast(name, dtype, value.dtype)
        if depth == min(reduction.reduced):
            source.store(reduction.target, variables, text)
        else:
            total = source.load(value, reduction.target, variables)
            source.store(reduction.target, variables, combined(value, total, text, any_order=False))

    def _fill(self, reduction: _Reduction, depth: int) -> None:
        """Write the identity into all elements that the loops from a depth on accumulate into."""
        source = self.source
        variables = [axis.variable for axis in self.axes]
        inner = [i for i in range(depth, len(self.axes)) if reduction.target.strides[i]]
        before = source.depth
        for i in inner:
            variables[i] = source.name("i")
            source.line(f"for {variables[i]} in range({self.axes[i].whole}):")
            source.depth += 1
        text = source.literals.text(identity(reduction.value), reduction.value.dtype)
        source.store(reduction.target, variables, text)
        source.depth = before


def _last_moving(access: Access) -> int:
    return max((axis for axis, stride in enumerate(access.strides) if stride), default=-1)


def identity(value: Value) -> object:
    """Return what a reduction starts from."""
    dtype = value.dtype
    if value.op in ("sum", "any"):
        return 0
    if value.op in ("prod", "all"):
        return 1
    least = value.op == "max"
    if dtype.kind == "f":
        return -np.inf if least else np.inf
    if dtype.kind == "b":
        return not least
    return np.iinfo(dtype).min if least else np.iinfo(dtype).max


def combined(value: Value, total: str, x: str, *, any_order: bool) -> str:
    """Return a running result with one more element."""
    kind, op = value.dtype.kind, value.op
    if op == "any" or (kind == "b" and op in ("max", "sum")):
        return f"({total} | {x})"
    if op == "all" or (kind == "b" and op in ("min", "prod")):
        return f"({total} & {x})"
    if op in ("max", "min"):
        if kind == "f":
            return f"{'greater' if op == 'max' else 'lesser'}_or_nan({total}, {x})"
        return f"{op}({total}, {x})"
    if kind == "f":
        if any_order:
            return f"{'add' if op == 'sum' else 'multiply'}_in_any_order({total}, {x})"
        return f"{total} {'+' if op == 'sum' else '*'} {x}"
    return f"np.{value.dtype.name}({total} {'+' if op == 'sum' else '*'} {x})"
