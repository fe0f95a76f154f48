"""The NumPy calls that carry out one instruction, their results written into planned buffers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
import numpy as np

from mfjit.fuse import Group
from mfjit.ir import REDUCTIONS, Value
from mfjit.layout import Layout
from mfjit.memory import Plan
from mfjit.numpy_functions import (
    call_for_items,
    call_into,
    check_classes,
    check_indices,
    check_within,
    draw,
    take_item,
)
from mfjit.numpy_scalars import scalar_function
from mfjit.operands import Array, View, view_of, whole

REDUCERS: dict[str, np.ufunc] = {
    "sum": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "any": np.logical_or,
    "all": np.logical_and,
}

DOTTED_ELEMENTS = 1 << 12
"""Up to this many elements are summed as a product with ones, which costs one short call."""

_SHORT_ROW = 32
"""Rows up to this length are reduced side by side, after a transposition: NumPy takes them one
by one."""

_TRANSPOSED_ELEMENTS = 1 << 16
"""The most elements that are transposed for that."""

_BY_KEYWORD = frozenset({"maximum", "minimum"})
"""Ufuncs that deprecate a third argument by position."""


@attrs.frozen
class Method:
    """A method of a call's first argument."""

    name: str


@attrs.frozen(eq=False)
class Given:
    """What only a bound program has: ``"rng"``, or the list for the results of a ``call``."""

    what: str | Value


@attrs.frozen(eq=False)
class ReadOnly:
    """A view that the call must not write to."""

    view: View


@attrs.frozen(eq=False)
class Call:
    """One call: a function or method, and arguments, of which views become arrays."""

    function: Any
    args: tuple[Any, ...]
    keywords: Mapping[str, Any] = attrs.field(factory=dict)

    def views(self) -> list[View]:
        """Return the buffers' views among the arguments."""
        found: list[View] = []
        stack: list[Any] = [*self.args, *self.keywords.values()]
        while stack:
            item = stack.pop()
            if isinstance(item, View):
                found.append(item)
            elif isinstance(item, ReadOnly):
                found.append(item.view)
            elif isinstance(item, (tuple, list)):
                stack.extend(item)
        return found

    def prepared(self, resolve: Callable[[Any], Any]) -> tuple[Any, tuple[Any, ...]]:
        """Return a function and its arguments as arrays."""
        function, args = self.function, tuple([resolve(arg) for arg in self.args])
        if isinstance(function, Method):
            function, args = getattr(args[0], function.name), args[1:]
        if self.keywords:
            keywords = {name: resolve(arg) for name, arg in self.keywords.items()}
            return partial(function, *args, **keywords), ()
        return function, args


def assign(out: View, x: Any) -> Call:
    """Return the copy of an array, cast as needed, into another."""
    return Call(Method("__setitem__"), (out, Ellipsis, x))


def ufunc(function: Any, *args: Any, out: Any) -> Call:
    """Return a ufunc's call."""
    if function.__name__ in _BY_KEYWORD:
        return Call(function, args, {"out": out})
    return Call(function, (*args, out))


class Emitter:
    """Turns steps into calls.

    Attributes
    ----------
    extra : list of Value
        Buffers and constants of the calls' own, kept for as long as the program: scratch,
        vectors of ones. ``constants`` of them are filled once.
    """

    def __init__(self, layouts: dict[Value, Layout], plan: Plan) -> None:
        self.layouts = layouts
        self.plan = plan
        self.extra: list[Value] = []
        self.constants: dict[Any, Value] = {}
        self.positions: dict[tuple[Value, int], View] = {}

    def view(self, value: Value) -> View:
        """Return where a value lies."""
        return view_of(value, self.layouts)

    def scratch(self, shape: tuple[int, ...], dtype: Any) -> View:
        """Return a buffer of the call's own."""
        value = Value("scratch", (), {}, shape, np.dtype(dtype))
        self.extra.append(value)
        return whole(value)

    def constant(self, array: Array) -> View:
        """Return an array that never changes, as a buffer."""
        key = (array.tobytes(), array.dtype, array.shape)
        if key not in self.constants:
            self.constants[key] = Value("constant", (), {"value": array}, array.shape, array.dtype)
        return whole(self.constants[key])

    def calls(self, group: Group) -> list[Call]:
        """Return the calls of one step that is not tiled."""
        value = group.values[-1]
        if group.kind == "dot":
            return self._dot(group.values[0], value)
        if group.kind == "scalars":
            function, reads, writes = scalar_function(group)
            views = [*map(self.view, reads), *map(whole, writes)]
            return [Call(function, tuple(views))]
        if value.op in REDUCTIONS:
            return self._reduction(value)
        if group.kind == "loop":
            return elementwise(
                value,
                [self.operand(arg, value) for arg in value.args],
                whole(value).squeezed(),
            )
        if group.kind == "kernel":
            from mfjit.numpy_kernels import kernel_calls

            return kernel_calls(self, value)
        return _EMITTERS[group.kind](self, value)

    def operand(self, arg: Value, value: Value) -> View:
        """Return an operand as the simplest loops take it: with no axes, or with all."""
        view = self.view(arg).squeezed()
        return (
            view.reshaped(value.shape)
            if view.shape and view.contiguous and (view.size == value.size)
            else view
        )

    def contiguous(self, view: View, calls: list[Call]) -> View:
        """Return the view itself, or a contiguous copy that the calls make."""
        if view.contiguous:
            return view
        copy = self.scratch(view.shape, view.dtype)
        calls.append(assign(copy, view))
        return copy

    # Reductions

    def _dot(self, product: Value, value: Value) -> list[Call]:
        x = self.view(product.args[0]).flat()
        y = self.view(product.args[-1]).flat()
        return [Call(Method("dot"), (x, y, whole(value)))]

    def _reduction(self, value: Value) -> list[Call]:
        x, axes, out = self.view(value.args[0]), value.attributes["axes"], whole(value)
        if value.op in ("argmax", "argmin"):
            return self._argument(value, x, out)
        if value.op == "sum" and value.dtype.char in "fd" and x.size and x.contiguous:
            if len(axes) == len(x.shape) and x.size <= DOTTED_ELEMENTS:
                return [Call(Method("dot"), (self._ones(x.size, x), x.flat(), out))]
            rows = math.prod(x.shape[: len(axes)])
            if axes == tuple(range(len(axes))) and 1 < rows <= DOTTED_ELEMENTS:
                matrix = x.reshaped((rows, x.size // rows))
                return [Call(Method("dot"), (self._ones(rows, x), matrix, out.flat()))]
            columns = math.prod(x.shape[axes[0] :])
            last = tuple(range(axes[0], len(x.shape)))
            if axes == last and 1 < columns <= DOTTED_ELEMENTS:
                matrix = x.reshaped((x.size // columns, columns))
                return [Call(Method("dot"), (matrix, self._ones(columns, x), out.flat()))]
        reducer = REDUCERS[value.op]
        columns = math.prod([x.shape[axis] for axis in axes])
        last = tuple(range(len(x.shape) - len(axes), len(x.shape)))
        if axes == last and x.contiguous and columns <= _SHORT_ROW < x.size <= _TRANSPOSED_ELEMENTS:
            across = x.reshaped((x.size // columns, columns)).transposed((1, 0))
            turned = self.scratch(across.shape, across.dtype)
            return [assign(turned, across), Call(reducer.reduce, (turned, 0, None, out.flat()))]
        axis = axes[0] if len(axes) == 1 else axes
        if x.contiguous and len(axes) == len(x.shape):
            x, axis = x.flat(), 0
        return [Call(reducer.reduce, (x, axis, None, out))]

    def _ones(self, size: int, like: View) -> View:
        return self.constant(np.ones(size, like.dtype))

    def _argument(self, value: Value, x: View, out: View) -> list[Call]:
        axes = value.attributes["axes"]
        calls: list[Call] = []
        if len(axes) > 1:
            kept = [axis for axis in range(len(x.shape)) if axis not in axes]
            x = x.transposed((*kept, *axes))
            rest = math.prod(x.shape[len(kept) :])
            x = self.contiguous(x, calls).reshaped((*value.shape, rest))
            axes = (len(kept),)
        return [*calls, Call(Method(value.op), (x, axes[0], out))]

    # Products

    def _matmul(self, value: Value) -> list[Call]:
        calls: list[Call] = []
        x, y = [self._multiplicable(self.view(arg), calls) for arg in value.args]
        out = whole(value)
        if len(x.shape) == len(y.shape) == 2:
            return [*calls, Call(Method("dot"), (x, y, out))]
        return [*calls, Call(np.matmul, (x, y, out))]

    def _multiplicable(self, view: View, calls: list[Call]) -> View:
        """Return a matrix as BLAS takes it: one of its axes without gaps."""
        rows, columns = view.shape[-2:]
        down, across = view.strides[-2:]
        fits = (across == 1 and (down >= columns or rows == 1)) or (
            down == 1 and (across >= rows or columns == 1)
        )
        if fits or view.contiguous:
            return view
        return self.contiguous(view, calls)

    # Moving elements

    def _concatenate(self, value: Value) -> list[Call]:
        axis, out, start = value.attributes["axis"], whole(value), 0
        calls = []
        for part in value.args:
            if self.layouts[part].base not in self.plan.joined or not self._in_place(
                part, value, start
            ):
                target = View(
                    value, start * out.strides[axis], part.shape, out.strides, value.dtype
                )
                calls.append(assign(target, self.view(part)))
            start += part.shape[axis]
        return calls

    def _in_place(self, part: Value, value: Value, start: int) -> bool:
        places, base = self.plan.places, self.layouts[part].base
        step = whole(value).strides[value.attributes["axis"]]
        offset = places[value].offset + start * step * value.dtype.itemsize
        return places[base].leaf is places[value].leaf and places[base].offset == offset

    def _place(self, value: Value) -> list[Call]:
        out = whole(value)
        slices = value.attributes["slices"]
        target = View(
            value,
            sum(start * stride for (start, _, _), stride in zip(slices, out.strides)),
            value.args[0].shape,
            tuple([stride * step for (_, _, step), stride in zip(slices, out.strides)]),
            value.dtype,
        )
        return [self._zero(out), assign(target, self.view(value.args[0]))]

    def _zero(self, out: View) -> Call:
        return Call(Method("fill"), (out, out.dtype.type(0)))

    def _reshape(self, value: Value) -> list[Call]:
        x = self.view(value.args[0])
        return [assign(whole(value).reshaped(x.shape), x)]

    def _take(self, value: Value) -> list[Call]:
        calls: list[Call] = []
        axis = value.attributes["axis"]
        x = self.contiguous(self.view(value.args[0]), calls)
        indices = self.contiguous(self.view(value.args[1]), calls)
        calls.append(Call(check_indices, (indices, x.shape[axis])))
        # With mode "raise" NumPy would take into a buffer of its own first.
        return [*calls, Call(Method("take"), (x, indices, axis, whole(value), "wrap"))]

    def _take_add(self, value: Value) -> list[Call]:
        axis, out = value.attributes["axis"], whole(value)
        x, indices = (self.view(arg) for arg in value.args)
        ahead = tuple(range(axis, axis + len(indices.shape)))
        others = tuple([a for a in range(len(x.shape)) if a not in ahead])
        rest = tuple([a for a in range(len(out.shape)) if a != axis])
        return [
            self._zero(out),
            Call(
                np.add.at,
                (out.transposed((axis, *rest)), indices, x.transposed((*ahead, *others))),
            ),
        ]

    def _one_hot(self, value: Value) -> list[Call]:
        out = whole(value)
        positions, calls = self._positions(value.args[0], value.attributes["depth"])
        calls.append(self._zero(out))
        return [*calls, Call(Method("put"), (out.flat(), positions, value.dtype.type(1)))]

    def _pick(self, value: Value) -> list[Call]:
        x, indices = value.args
        positions, calls = self._positions(indices, x.shape[-1])
        flat = self.contiguous(self.view(x), calls).flat()
        return [*calls, Call(Method("take"), (flat, positions, 0, whole(value).flat(), "wrap"))]

    def _positions(self, classes: Value, depth: int) -> tuple[View, list[Call]]:
        """Return where, in an array with an axis of classes, those given are.

        The calls, which are not needed a second time, check the classes too.
        """
        key = (classes, depth)
        if key in self.positions:
            return self.positions[key], []
        calls: list[Call] = []
        indices = self.contiguous(self.view(classes), calls).flat()
        positions = self.positions[key] = self.scratch(indices.shape, np.intp)
        starts = self.constant(np.arange(indices.size, dtype=np.intp) * depth)
        if indices.dtype.kind in "iu" and indices.size:
            # A negative class is a large one, unsigned.
            unsigned = np.dtype(f"u{indices.dtype.itemsize}")
            within = self.scratch(indices.shape, bool)
            limit = self.constant(np.array(min(depth, np.iinfo(unsigned).max), unsigned))
            given = attrs.evolve(indices, dtype=unsigned)
            calls.append(ufunc(np.less, given, limit, out=within))
            calls.append(Call(check_within, (within, depth)))
        else:
            calls.append(Call(check_classes, (indices, depth)))
        if indices.dtype != np.intp:
            calls.append(assign(positions, indices))
            indices = positions
        calls.append(ufunc(np.add, indices, starts, out=positions))
        return positions, calls

    # What is given at the run

    def _random(self, value: Value) -> list[Call]:
        distribution = value.attributes["distribution"]
        return [Call(draw, (Given("rng"), distribution, whole(value)))]

    def _call(self, value: Value) -> list[Call]:
        arrays = tuple([ReadOnly(self.view(arg)) for arg in value.args])
        function, arguments = value.attributes["function"], value.attributes["arguments"]
        if value in self.plan.places:
            return [Call(call_into, (function, arguments, arrays, whole(value)))]
        return [Call(call_for_items, (function, arguments, arrays, Given(value)))]

    def _item(self, value: Value) -> list[Call]:
        index = value.attributes["index"]
        return [Call(take_item, (Given(value.args[0]), index, whole(value)))]


_EMITTERS: dict[str, Callable[[Emitter, Value], list[Call]]] = {
    "matmul": Emitter._matmul,
    "concatenate": Emitter._concatenate,
    "place": Emitter._place,
    "reshape": Emitter._reshape,
    "take": Emitter._take,
    "take_add": Emitter._take_add,
    "one_hot": Emitter._one_hot,
    "pick": Emitter._pick,
    "random": Emitter._random,
    "call": Emitter._call,
    "item": Emitter._item,
}


def elementwise(value: Value, args: list[Any], out: Any) -> list[Call]:
    """Return the calls of an elementwise instruction on views that broadcast to ``out``.

    ``out`` may be the very memory of an argument, but of the condition of a ``where``.
    """
    if value.op in ("cast", "expand"):
        return [assign(out, args[0])]
    if value.op == "where":
        condition, x, y = args
        return [assign(out, y), Call(np.copyto, (out, x, "same_kind", condition))]
    if value.op == "mask":
        return [assign(out, args[0])]
    if value.op == "masked":
        x, mask = args
        word = mask.dtype
        return [
            ufunc(np.multiply, attrs.evolve(x, dtype=word), mask, out=attrs.evolve(out, dtype=word))
        ]
    return [ufunc(getattr(np, value.op), *args, out=out)]
