"""A tiled loop bound to buffers: the list of its calls, tile after tile."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mfjit.ir import Shape, Value
from mfjit.numpy_calls import Call, Method
from mfjit.operands import Array, Arrays, View
from mfjit.tiling import Flat, Full, Piece, TiledLoop

KEPT_BINDINGS = 2
"""Sets of arrays that a tiled loop stays bound to: results are given out in turn."""


class TileProgram:
    """A tiled loop bound to buffers; calling it runs the loop.

    Parameters
    ----------
    loop : TiledLoop
        The loop.
    buffer : callable
        ``buffer(value)`` returns the memory of a base.
    slots : sequence of Value
        Bases among the loop's operands whose memory changes from run to run.
    """

    def __init__(
        self, loop: TiledLoop, buffer: Callable[[Value], Array], slots: Sequence[Value]
    ) -> None:
        self.loop = loop
        self.buffer = buffer
        self.slots = slots
        self.bound: dict[tuple[int, ...], list[tuple[Any, tuple[Any, ...]]]] = {}
        self.held: list[Array] = []
        self.arrays = Arrays()
        self.columns: dict[Any, list[Any]] = {}

    def __call__(self) -> None:
        """Run the loop."""
        arrays = [self.buffer(slot) for slot in self.slots]
        key = tuple([id(array) for array in arrays])
        program = self.bound.get(key)
        if program is None:
            program = self._bind(key, arrays)
        for function, args in program:
            function(*args)

    def _bind(self, key: tuple[int, ...], arrays: list[Array]) -> list[tuple[Any, tuple[Any, ...]]]:
        if len(self.bound) >= KEPT_BINDINGS:
            self.bound.clear()
            self.held.clear()
        self.held += arrays  # as long as they live, nothing else has their id
        program = self.bound[key] = self._program()
        return program

    def _program(self) -> list[tuple[Any, tuple[Any, ...]]]:
        loop, self.arrays = self.loop, Arrays()
        self.columns = {}
        program = [call.prepared(self._first) for call in loop.first]
        columns = []
        for call in loop.each:
            function, items = _by_position(call)
            arguments = zip(*[self._column(item) for item in items], strict=True)
            columns.append([(function, args) for args in arguments])
        program += itertools.chain.from_iterable(zip(*columns, strict=True))
        return program + [call.prepared(self._first) for call in loop.last]

    def _first(self, item: Any) -> Any:
        """Return what an argument is in the first tile."""
        return self._column(item)[0]

    def _column(self, item: Any) -> list[Any]:
        """Return what an argument is in each tile."""
        loop = self.loop
        tiles = range(len(loop.starts))
        if isinstance(item, View):
            return [self.arrays.of(item, self.buffer(item.base))] * len(tiles)
        if isinstance(item, Full):
            shapes = [loop.extent(index, item.axes) for index in tiles]
            given = zip(self._column(item.operand), shapes, strict=True)
            return [x if x.shape == shape else np.broadcast_to(x, shape) for x, shape in given]
        if isinstance(item, Flat):
            return [array.reshape(-1) for array in self._column(item.operand)]
        if not isinstance(item, Piece):
            return [item] * len(tiles)
        if item.view is None:
            return self._local(item)
        space = loop.whole_space(item) if item.axes else item.view
        array = self.arrays.of(space, self.buffer(space.base))
        key = (id(array), item.axes)
        if key not in self.columns:
            self.columns[key] = [array[loop.part(item, index)] for index in tiles]
        return self.columns[key]

    def _local(self, item: Piece) -> list[Any]:
        loop, room = self.loop, self.buffer(self.loop.scratch)
        key = (item.slot, item.axes, item.dtype)
        if key not in self.columns:
            made: dict[Shape, Array] = {}
            shapes = [loop.extent(index, item.axes) for index in range(len(loop.starts))]
            for shape in dict.fromkeys(shapes):
                made[shape] = np.ndarray(shape, item.dtype, room, item.slot)
            self.columns[key] = [made[shape] for shape in shapes]
        return self.columns[key]


def _by_position(call: Call) -> tuple[Any, tuple[Any, ...]]:
    """Return a call with positional arguments only."""
    function = call.function
    if isinstance(function, Method):
        function = getattr(np.ndarray, function.name)
    if call.keywords:
        keyed = function
        (name,) = call.keywords

        def function(*args: Any) -> Any:
            return keyed(*args[:-1], **{name: args[-1]})

    return function, (*call.args, *call.keywords.values())
