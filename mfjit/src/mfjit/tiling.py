"""Loops over large arrays, run tile by tile so that what lies between stays in the cache.

The index space is coalesced to as few axes as all operands allow. A tile is a range of one
axis, with all of the axes behind it. Values that nobody reads outside live in buffers of one
tile, shared by liveness; reductions are accumulated over tiles.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from mfjit.fuse import Group
from mfjit.ir import REDUCTIONS, Shape, Value
from mfjit.layout import Layout
from mfjit.memory import ALIGNMENT
from mfjit.numpy_calls import REDUCERS, Call, Method, elementwise, ufunc
from mfjit.operands import View, view_of, whole

TILE_BYTES = 1 << 17
"""Bytes of the widest operand in a tile: a few of them stay in a second-level cache."""


@attrs.frozen(eq=False)
class Piece:
    """An operand's part of a tile.

    Attributes
    ----------
    view : View or None
        What it is part of; ``None`` for a buffer of one tile.
    strides : tuple of int
        By axis of the coalesced index space, in elements; 0 where it repeats or is reduced.
    axes : tuple of int
        The axes that it has.
    dtype : numpy.dtype
    slot : int
        Which buffer of one tile it is, by bytes from the start of all.
    """

    view: View | None
    strides: tuple[int, ...]
    axes: tuple[int, ...]
    dtype: np.dtype[Any]
    slot: int = -1


class TiledLoop:
    """A loop as calls on pieces.

    Parameters
    ----------
    group : Group
        The loop.
    layouts : dict of Value to Layout
        Of all values.

    Attributes
    ----------
    first, each, last : list of Call
        Calls before all tiles, on each tile (their views are pieces), and after all tiles.
    scratch : Value
        The buffer of all tile buffers.
    """

    def __init__(self, group: Group, layouts: dict[Value, Layout]) -> None:
        self.group = group
        self.layouts = layouts
        width = max(value.dtype.itemsize for value in group.values)
        kept = self._coalesced()
        self.shape: Shape = tuple([size for size, _ in kept])
        self.axis, self.length = _cut(self.shape, TILE_BYTES // width)
        self.inner = math.prod(self.shape[self.axis + 1 :])
        outer = [range(size) for size in self.shape[: self.axis]]
        self.starts = list(itertools.product(*outer, range(0, self.shape[self.axis], self.length)))
        self.first: list[Call] = []
        self.each: list[Call] = []
        self.last: list[Call] = []
        self.partials: list[Value] = []
        self._pieces: dict[Value, Piece] = {}
        self._free: dict[int, list[int]] = {}
        self._top = 0
        self._emit()
        self.scratch = Value("scratch", (), {}, (self._top,), np.dtype(np.uint8))

    def bases(self) -> list[Value]:
        """Return the values whose buffers it reads or writes."""
        values = [*self.group.reads, *self.group.outputs]
        return list(dict.fromkeys(self.layouts[value].base for value in values))

    # The index space

    def _strides(self, value: Value) -> list[int]:
        """Return a value's strides over the group's own axes."""
        layout, added = self.layouts[value], len(self.group.shape) - value.ndim
        return [0] * added + [
            0 if size == 1 else stride
            for size, stride in zip(value.shape, layout.strides, strict=True)
        ]

    def _coalesced(self) -> list[tuple[int, list[int]]]:
        """Return sizes of merged axes, each with the group's axes that it is made of."""
        members = set(self.group.values)
        operands = [value for value in self.group.reads if value.size > 1]
        strides = [self._strides(value) for value in operands]
        reduced = [set(v.attributes["axes"]) for v in self.group.values if v.op in REDUCTIONS]
        # What members write is contiguous: the axes of the group itself.
        strides += [self._strides(v) for v in members if v.op not in REDUCTIONS]
        merged: list[tuple[int, list[int]]] = []
        for axis, size in enumerate(self.group.shape):
            if size == 1:
                continue
            if merged:
                before_size, before = merged[-1]
                last = before[-1]
                if all(s[last] == s[axis] * size for s in strides) and all(
                    (last in axes) == (axis in axes) for axes in reduced
                ):
                    merged[-1] = (before_size * size, [*before, axis])
                    continue
            merged.append((size, [axis]))
        self._axes = [axes for _, axes in merged]
        return merged

    # Operands

    def _outside(self, value: Value) -> Any:
        """Return the piece of a value that the loop reads from elsewhere."""
        view = view_of(value, self.layouts)
        if view.size == 1:
            return view.squeezed()
        strides = self._strides(value)
        return self._piece(view, tuple([strides[axes[-1]] for axes in self._axes]))

    def _piece(self, view: View, strides: tuple[int, ...]) -> Piece:
        return Piece(view, strides, tuple(range(len(self.shape))), view.dtype)

    def _written(self, value: Value) -> Piece:
        """Return the piece of an elementwise result that is read outside."""
        strides = self._strides(value)
        return self._piece(whole(value), tuple([strides[axes[-1]] for axes in self._axes]))

    def _stays(self, item: Any) -> bool:
        """Whether an operand is the same in every tile."""
        fixed = isinstance(item, Piece) and item.view is not None
        return fixed and not any(item.strides[: self.axis + 1])

    def _take_slot(self, nbytes: int, shared: bool = True) -> int:
        nbytes = -(-nbytes // ALIGNMENT) * ALIGNMENT
        free = self._free.setdefault(nbytes, [])
        if free and shared:
            return free.pop()
        self._top += nbytes
        return self._top - nbytes

    def _release(self, piece: Piece) -> None:
        nbytes = self.length * self.inner * piece.dtype.itemsize
        self._free[-(-nbytes // ALIGNMENT) * ALIGNMENT].append(piece.slot)

    def _local(self, dtype: np.dtype[Any], *, shared: bool = True) -> Piece:
        slot = self._take_slot(self.length * self.inner * dtype.itemsize, shared)
        axes = tuple(range(self.axis, len(self.shape)))
        return Piece(None, (), axes, dtype, slot)

    # Calls

    def _emit(self) -> None:
        values, outputs = self.group.values, set(self.group.outputs)
        dots = self._dots()
        lasting: set[Value] = set()
        last_read = {}
        for value in values:
            for arg in dots[value].args if value in dots else value.args:
                last_read[arg] = value
        for value in values:
            if value in dots.values():
                continue
            given = dots[value].args if value in dots else value.args
            args = [self._operand(arg) for arg in given]
            dying = [
                self._pieces[arg]
                for arg in dict.fromkeys(given)
                if last_read[arg] is value
                and arg not in lasting
                and arg in self._pieces
                and self._pieces[arg].slot >= 0
            ]
            if value.op in REDUCTIONS:
                self._reduce(value, args)
            elif value.op == "expand" and self._stays(args[0]) and value not in outputs:
                # The same in every tile: written once, into a buffer that is never given away.
                self._pieces[value] = self._local(value.dtype, shared=False)
                self.first += elementwise(value, args, self._pieces[value])
                lasting.add(value)
            else:
                # These write before they have read everything.
                early = [] if value.op in ("where", "cast", "mask") else dying
                for piece in early:
                    self._release(piece)
                dying = [piece for piece in dying if piece not in early]
                out = self._written(value) if value in outputs else self._local(value.dtype)
                self._pieces[value] = out
                self.each += elementwise(value, args, out)
            for piece in dying:
                self._release(piece)

    def _dots(self) -> dict[Value, Value]:
        """Return the sums over everything that are a dot product, and the product of each."""
        readers: dict[Value, list[Value]] = {}
        for value in self.group.values:
            for arg in value.args:
                readers.setdefault(arg, []).append(value)
        return {
            value: product
            for value in self.group.values
            for product in value.args[:1]
            if value.op == "sum"
            and value.size == 1
            and value.dtype.char in "fd"
            and product.op in ("multiply", "square")
            and product in self.group.values
            and product not in self.group.outputs
            and readers[product] == [value]
            and all(self._dense(arg) for arg in product.args)
        }

    def _dense(self, arg: Value) -> bool:
        """Whether a value has all elements of a tile, without gaps."""
        whole_of = self.layouts[arg]
        return arg.shape == self.group.shape and whole_of.contiguous(arg.shape)

    def _operand(self, arg: Value) -> Any:
        if arg not in self._pieces:
            if arg in self.group.values:
                raise AssertionError("a member is read before it is computed")
            return self._outside(arg)
        return self._pieces[arg]

    def _reduce(self, value: Value, given: list[Any]) -> None:
        ufunc_of = REDUCERS[value.op]
        reduced = [
            index for index, axes in enumerate(self._axes) if axes[0] in value.attributes["axes"]
        ]
        result = self._reduced_piece(value, reduced)
        local = tuple([axis - self.axis for axis in reduced if axis >= self.axis])
        if not any(axis <= self.axis for axis in reduced):
            self.each.append(self._reduction(value, given, local, result))
            return
        if not local:
            self._start(value, ufunc_of)
            self.each.append(ufunc(ufunc_of, result, given[0], out=result))
            return
        if value.size == 1:
            partials = Value("scratch", (), {}, (len(self.starts),), value.dtype)
            self.partials.append(partials)
            out = Piece(whole(partials), (), (), value.dtype)
            self.each.append(self._reduction(value, given, local, out))
            target = whole(value).squeezed()
            self.last.append(Call(ufunc_of.reduce, (whole(partials), 0, None, target)))
            return
        self._start(value, ufunc_of)
        slot = self._take_slot(self.length * self.inner * value.dtype.itemsize)
        axes = tuple([axis for axis in range(self.axis, len(self.shape)) if axis not in reduced])
        partial = Piece(None, (), axes, value.dtype, slot)
        self.each.append(self._reduction(value, given, local, partial))
        self.each.append(ufunc(ufunc_of, result, partial, out=result))
        self._release(partial)

    def _reduced_piece(self, value: Value, reduced: list[int]) -> Piece:
        """Return the piece of a reduction's result: it has the kept axes only."""
        strides, step = [0] * len(self.shape), 1
        for axis in reversed(range(len(self.shape))):
            if axis not in reduced:
                strides[axis] = step
                step *= self.shape[axis]
        kept = tuple([axis for axis in range(len(self.shape)) if axis not in reduced])
        return Piece(whole(value), tuple(strides), kept, value.dtype)

    def _start(self, value: Value, ufunc_of: np.ufunc) -> None:
        start = identity(ufunc_of, value.dtype)
        self.first.append(Call(Method("fill"), (whole(value), start)))

    def _reduction(
        self, value: Value, given: list[Any], local: tuple[int, ...], out: Piece
    ) -> Call:
        """Return the call that reduces a tile; sums as products with ones where they can be."""
        axes = tuple(range(self.axis, len(self.shape)))
        full = [Full(item, axes) for item in given]
        x = value.args[0]
        if value.op == "sum" and value.dtype.char in "fd" and self._dense(x):
            if len(local) == len(axes):
                other = full[1] if len(full) > 1 else self._ones(axes, x.dtype)
                if x.op == "square" and x not in self._pieces:
                    other = full[0]
                return Call(Method("dot"), (Flat(full[0]), Flat(other), out))
            if len(axes) == 2:
                ones = self._ones((axes[local[0]],), x.dtype)
                arguments = (ones, full[0]) if local == (0,) else (full[0], ones)
                return Call(Method("dot"), (*arguments, out))
        axis: Any = local[0] if len(local) == 1 else local
        return Call(REDUCERS[value.op].reduce, (full[0], axis, None, out))

    def _ones(self, axes: tuple[int, ...], dtype: np.dtype[Any]) -> Piece:
        count = math.prod(self.length if a == self.axis else self.shape[a] for a in axes)
        slot = self._take_slot(count * dtype.itemsize, shared=False)
        ones = Piece(None, (), axes, dtype, slot)
        self.first.append(Call(Method("fill"), (ones, dtype.type(1))))
        return ones

    # Arrays

    def whole_space(self, item: Piece) -> View:
        """Return an operand over the index space, of length one where it repeats."""
        assert item.view is not None
        shape = [self.shape[axis] if item.strides[axis] else 1 for axis in item.axes]
        strides = tuple([item.strides[axis] for axis in item.axes])
        return View(item.view.base, item.view.offset, tuple(shape), strides, item.dtype)

    def part(self, item: Piece, index: int) -> tuple[Any, ...]:
        """Return what indexes the part of a tile in an operand over the index space."""
        if not item.axes:
            return (index, ...)
        key: list[Any] = []
        for axis, start in enumerate(self.starts[index]):
            if axis not in item.axes:
                continue
            if axis == self.axis:
                moves = item.strides[axis]
                key.append(slice(start, start + self.length) if moves else slice(0, 1))
            else:
                key.append(start if item.strides[axis] else 0)
        return (*key, ...)

    def extent(self, index: int, axes: Sequence[int]) -> Shape:
        """Return the lengths of axes in a tile."""
        cut = min(self.length, self.shape[self.axis] - self.starts[index][self.axis])
        return tuple([cut if axis == self.axis else self.shape[axis] for axis in axes])


@attrs.frozen(eq=False)
class Full:
    """An operand of a reduction, repeated to the whole of its tile."""

    operand: Any
    axes: tuple[int, ...]


@attrs.frozen(eq=False)
class Flat:
    """An operand without gaps, as one axis."""

    operand: Any


def identity(ufunc_of: np.ufunc, dtype: np.dtype[Any]) -> Any:
    """Return what a reduction starts from."""
    if ufunc_of in (np.maximum, np.minimum):
        if dtype.kind == "b":
            return ufunc_of is np.minimum
        if dtype.kind == "f":
            return dtype.type(-np.inf if ufunc_of is np.maximum else np.inf)
        limits = np.iinfo(dtype)
        return limits.min if ufunc_of is np.maximum else limits.max
    return dtype.type(ufunc_of.identity)


def _cut(shape: Shape, elements: int) -> tuple[int, int]:
    """Return the axis that is cut into tiles of about so many elements, and their length."""
    axis = len(shape) - 1
    inner = 1
    while axis > 0 and inner * shape[axis] <= elements // 2:
        inner *= shape[axis]
        axis -= 1
    length = max(1, min(shape[axis], elements // inner))
    count = -(-shape[axis] // length)
    return axis, -(-shape[axis] // count)
