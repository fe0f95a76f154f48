"""Building lowered programs: shapes and dtypes of instructions, and their simplification.

An instruction is simplified when it is emitted: equal ones are one, constants are computed,
and algebra that does not change results beyond rounding is done (see ``algebra.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from mfjit.algebra import simpler
from mfjit.ir import (
    IMPURE,
    Lowered,
    Shape,
    Slices,
    Value,
    broadcast_shape,
)

Number: TypeAlias = bool | int | float
Operand: TypeAlias = "Value | Number | np.ndarray[Any, Any] | np.generic"

FOLDED_ELEMENTS = 1 << 16
"""Constants up to this size are computed while lowering; larger ones when the program runs."""

_BOOL = np.dtype(np.bool_)
_INTP = np.dtype(np.intp)


class Builder:
    """Emits instructions; see ``mfjit.ir`` for what there is."""

    def __init__(self) -> None:
        self.origin = ""
        self.where = ""  # as `origin`, in full, for errors
        self.leaves: dict[str, list[Value]] = {
            "input": [], "parameter": [], "state": [], "setting": []
        }  # fmt: skip
        self._known: dict[Any, Value] = {}
        self._draws = 0

    def finish(
        self, outputs: Iterable[Value], updates: Iterable[tuple[Value, Value]] = ()
    ) -> Lowered:
        """Return the program that computes the outputs and the new values of leaves."""
        return Lowered(
            inputs=self.leaves["input"],
            parameters=self.leaves["parameter"],
            states=self.leaves["state"],
            settings=self.leaves["setting"],
            outputs=list(outputs),
            updates=list(updates),
        )

    # Leaves

    def leaf(self, kind: str, shape: Sequence[int], dtype: DTypeLike, origin: str = "") -> Value:
        """Return a new leaf of a kind: ``input``, ``parameter``, ``state`` or ``setting``."""
        leaves = self.leaves[kind]
        value = Value(
            kind, (), {"index": len(leaves)}, tuple(shape), np.dtype(dtype), origin or kind
        )
        leaves.append(value)
        return value

    def input(self, shape: Sequence[int], dtype: DTypeLike, origin: str = "") -> Value:
        """Return a new input."""
        return self.leaf("input", shape, dtype, origin)

    def literal(self, number: Number | np.generic, dtype: DTypeLike) -> Value:
        """Return a 0-d constant of a dtype."""
        dtype = np.dtype(dtype)
        scalar: Any = np.asarray(number).astype(dtype)[()]
        # Not the number itself: -0.0 equals 0.0, and NaN nothing.
        key = ("literal", scalar.tobytes(), dtype)
        if key not in self._known:
            self._known[key] = Value("literal", (), {"value": scalar.item()}, (), dtype)
        return self._known[key]

    def constant(self, array: Any) -> Value:
        """Return an array as a value; one whose elements are all equal is a repeated literal."""
        array = np.asarray(array)
        if array.ndim == 0:
            return self.literal(array[()], array.dtype)
        if array.size > 0 and array.tobytes() == array.reshape(-1)[:1].tobytes() * array.size:
            return self.broadcast_to(self.literal(array.reshape(-1)[0], array.dtype), array.shape)
        key = ("constant", array.tobytes(), array.dtype, array.shape)
        if key not in self._known:
            kept = np.ascontiguousarray(array).copy()
            kept.flags.writeable = False
            self._known[key] = Value("constant", (), {"value": kept}, array.shape, array.dtype)
        return self._known[key]

    def value(self, operand: Operand) -> Value:
        """Return what stands for an operand: itself, or a constant."""
        return operand if isinstance(operand, Value) else self.constant(np.asarray(operand))

    # Elementwise

    def elementwise(self, op: str, *operands: Operand) -> Value:
        """Emit an elementwise instruction, with the casts that NumPy's rules ask for.

        Python numbers adapt to the dtype beside them.

        Raises
        ------
        ValueError
            If shapes do not broadcast.
        TypeError
            If NumPy has no loop for the dtypes.
        """
        if op == "where":
            condition, *rest = operands
            dtype = np.result_type(*[_kind(x) for x in rest])
            args = [self.cast(self.value(condition), _BOOL)]
            args += [self._as(x, dtype) for x in rest]
        elif op == "cast":
            raise ValueError("casts are emitted by `cast`")
        else:
            ufunc: Any = getattr(np, op)
            given = [_kind(x) for x in operands]
            resolved = ufunc.resolve_dtypes(
                (*[type(k) if isinstance(k, (int, float)) else k for k in given], None)
            )
            dtype = resolved[-1]
            args = [self._as(x, d) for x, d in zip(operands, resolved[:-1], strict=True)]
        return self.emit(op, tuple(args), dtype)

    def cast(self, x: Value, dtype: DTypeLike) -> Value:
        """Emit a conversion, nothing where there is nothing to convert."""
        dtype = np.dtype(dtype)
        return x if x.dtype == dtype else self.emit("cast", (x,), dtype)

    def _as(self, operand: Operand, dtype: np.dtype[Any]) -> Value:
        if type(operand) in (bool, int, float):
            return self.literal(operand, dtype)  # type: ignore[arg-type]
        return self.cast(self.value(operand), dtype)

    def emit(self, op: str, args: tuple[Value, ...], dtype: np.dtype[Any]) -> Value:
        """Emit an elementwise instruction on operands of the dtypes that it takes.

        ``dtype`` is that of its result.
        """
        shape = broadcast_shape([arg.shape for arg in args])
        bare = tuple([_unrepeated(arg) for arg in args])
        natural = broadcast_shape([arg.shape for arg in bare])
        if natural != shape:
            if 0 in shape:  # nothing to compute, and nothing to warn about
                return self.broadcast_to(self.literal(0, dtype), shape)
            return self.broadcast_to(self.emit(op, bare, dtype), shape)
        args = bare
        if all(arg.op in ("literal", "constant") for arg in args) and (
            math.prod(shape) <= FOLDED_ELEMENTS
        ):
            return self._folded(op, args, dtype)
        hoisted = self._reshape_last(op, args, dtype)
        if hoisted is not None:
            return hoisted
        found = simpler(self, op, args, shape, dtype)
        if found is not None:
            return found
        return self._new(op, args, {}, shape, dtype)

    def _folded(self, op: str, args: tuple[Value, ...], dtype: np.dtype[Any]) -> Value:
        arrays = [np.asarray(arg.attributes["value"], arg.dtype) for arg in args]
        with np.errstate(all="ignore"):
            if op == "cast":
                result = arrays[0].astype(dtype)
            else:
                result = getattr(np, op)(*arrays)
        return self.constant(np.asarray(result, dtype))

    def _reshape_last(self, op: str, args: tuple[Value, ...], dtype: np.dtype[Any]) -> Value | None:
        """Compute before a reshape that all operands share, so that loops agree in shape."""
        arrays = [arg for arg in args if arg.ndim]
        if not arrays or any(arg.op != "reshape" for arg in arrays):
            return None
        shapes = {(arg.args[0].shape, arg.shape) for arg in arrays}
        if len(shapes) > 1:
            return None
        sources = tuple([arg.args[0] if arg.ndim else arg for arg in args])
        return self.reshape(self.emit(op, sources, dtype), arrays[0].shape)

    # Reductions

    def reduce(
        self, op: str, x: Value, axes: Iterable[int] | None, dtype: DTypeLike | None = None
    ) -> Value:
        """Emit a reduction over axes, all by default; the axes are dropped.

        Raises
        ------
        ValueError
            If an extreme of nothing is asked for.
        """
        every = tuple(range(x.ndim))
        axes = every if axes is None else tuple(sorted(axes))
        if op in ("sum", "prod"):
            result = np.dtype(dtype) if dtype is not None else _accumulated(x.dtype)
            x = self.cast(x, result)
        elif op in ("any", "all"):
            result = _BOOL
            x = self.cast(x, _BOOL)
        elif op in ("argmax", "argmin"):
            result = _INTP
        else:
            result = x.dtype
        if not axes:
            return x
        kept = tuple([x.shape[axis] for axis in every if axis not in axes])
        count = math.prod(x.shape[axis] for axis in axes)
        if count == 0:
            if op not in ("sum", "prod", "any", "all"):
                raise ValueError(f"zero-size array to reduction operation {op} has no identity")
            return self.broadcast_to(self.literal(op in ("prod", "all"), result), kept)
        if count == 1 and op not in ("argmax", "argmin"):
            return self.reshape(x, kept)
        if op == "sum" and x.op == "broadcast_to":
            return self._sum_repeated(x, axes, kept, result)
        while op in ("sum", "max", "min", "prod") and axes == every and x.op in (
            "reshape", "transpose"
        ):  # fmt: skip
            x = x.args[0]
            axes = every = tuple(range(x.ndim))
        return self._new(op, (x,), {"axes": axes}, kept, result)

    def _sum_repeated(
        self, x: Value, axes: tuple[int, ...], kept: Shape, dtype: np.dtype[Any]
    ) -> Value:
        """Sum what is repeated along axes by multiplication."""
        source = x.args[0]
        added = x.ndim - source.ndim
        given = (1,) * added + source.shape
        times = math.prod(x.shape[a] for a in axes if given[a] == 1)
        inner = [a - added for a in axes if a >= added and given[a] != 1]
        total = self.reduce("sum", source, inner, dtype) if inner else source
        total = self.emit("multiply", (total, self.literal(times, dtype)), dtype)
        aligned = tuple([given[a] for a in range(x.ndim) if a not in axes])
        return self.broadcast_to(self.reshape(total, aligned), kept)

    # Products

    def matmul(self, x: Value, y: Value) -> Value:
        """Emit ``x @ y`` with NumPy's rules for 1-D operands.

        Raises
        ------
        ValueError
            If the shapes do not fit.
        """
        if not x.ndim or not y.ndim:
            raise ValueError("matmul: an operand has no axes")
        left = x.shape[-1]
        right = y.shape[0] if y.ndim == 1 else y.shape[-2]
        if left != right:
            raise ValueError(f"matmul: shapes {x.shape} and {y.shape} do not fit")
        dtype = np.result_type(x.dtype, y.dtype)
        x, y = self.cast(x, dtype), self.cast(y, dtype)
        if x.ndim == 1 and y.ndim == 1:
            return self.reduce("sum", self.emit("multiply", (x, y), dtype), None, dtype)
        if x.ndim == 1:
            product = self.matmul(self.reshape(x, (1, left)), y)
            return self.reshape(product, product.shape[:-2] + product.shape[-1:])
        if y.ndim == 1:
            product = self.matmul(x, self.reshape(y, (right, 1)))
            return self.reshape(product, product.shape[:-1])
        shape = (
            *broadcast_shape([x.shape[:-2], y.shape[:-2]]),
            x.shape[-2],
            y.shape[-1],
        )
        if left == 0:
            return self.broadcast_to(self.literal(0, dtype), shape)
        if left == 1 and dtype.kind == "f":  # an outer product is a loop that others can join
            return self.emit("multiply", (x, y), dtype)
        if dtype.kind != "f":
            raise TypeError(f"matmul of dtype {dtype}")
        return self._new("matmul", (x, y), {}, shape, dtype)

    # Views

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """Emit the same elements in another shape; one size may be -1.

        Raises
        ------
        ValueError
            If the number of elements differs.
        """
        target = _whole_shape(x, tuple(shape))
        if x.op == "reshape":
            x = x.args[0]
        if x.shape == target:
            return x
        if x.op == "broadcast_to" and not x.args[0].ndim:
            return self.broadcast_to(x.args[0], target)
        if x.op == "constant":
            return self.constant(x.attributes["value"].reshape(target))
        return self._new("reshape", (x,), {"shape": target}, target, x.dtype)

    def transpose(self, x: Value, axes: Sequence[int] | None = None) -> Value:
        """Emit axes in another order, reversed by default."""
        order = tuple(reversed(range(x.ndim))) if axes is None else tuple(axes)
        if x.op == "transpose":
            inner = x.attributes["axes"]
            return self.transpose(x.args[0], [inner[axis] for axis in order])
        moving = [axis for axis in order if x.shape[axis] != 1]
        shape = tuple([x.shape[axis] for axis in order])
        if moving == sorted(moving):
            return self.reshape(x, shape)  # only axes of length one move
        if x.op == "broadcast_to" and not x.args[0].ndim:
            return self.broadcast_to(x.args[0], shape)
        return self._new("transpose", (x,), {"axes": order}, shape, x.dtype)

    def broadcast_to(self, x: Value, shape: Sequence[int]) -> Value:
        """Emit a repetition to a larger shape.

        Raises
        ------
        ValueError
            If the shape does not broadcast to it.
        """
        target = tuple(shape)
        if x.shape == target:
            return x
        if broadcast_shape([x.shape, target]) != target:
            raise ValueError(f"shape {x.shape} does not broadcast to {target}")
        if x.op == "broadcast_to":
            x = x.args[0]
        return self._new("broadcast_to", (x,), {"shape": target}, target, x.dtype)

    def slice(self, x: Value, slices: Slices) -> Value:
        """Emit part of an array, with a ``(start, stop, step)`` for each axis."""
        lengths = tuple([len(range(*part)) for part in slices])
        if lengths == x.shape and all(step == 1 for _, _, step in slices):
            return x
        if x.op == "broadcast_to" and not x.args[0].ndim:
            return self.broadcast_to(x.args[0], lengths)
        return self._new("slice", (x,), {"slices": slices}, lengths, x.dtype)

    def after(self, x: Value, token: Value) -> Value:
        """Emit ``x``, to be read once the token is there."""
        if x.op in ("literal", "constant"):
            return x
        return self._new("after", (x, token), {}, x.shape, x.dtype)

    # The rest

    def concatenate(self, parts: Sequence[Value], axis: int = 0) -> Value:
        """Emit arrays put one behind the other."""
        dtype = np.result_type(*[part.dtype for part in parts])
        shapes = {part.shape[:axis] + part.shape[axis + 1 :] for part in parts}
        if len(shapes) > 1 or len({part.ndim for part in parts}) > 1:
            raise ValueError(
                f"concatenate: shapes {[part.shape for part in parts]} differ beside axis {axis}"
            )
        first = parts[0].shape
        size = sum(part.shape[axis] for part in parts)
        shape = (*first[:axis], size, *first[axis + 1 :])
        args = tuple([self.cast(part, dtype) for part in parts if part.shape[axis]])
        if len(args) == 1:
            return args[0]
        if not args:
            return self.broadcast_to(self.literal(0, dtype), shape)
        return self._new("concatenate", args, {"axis": axis}, shape, dtype)

    def place(self, x: Value, slices: Slices, shape: Shape) -> Value:
        """Emit zeros of a shape with ``x`` at the slices."""
        if x.shape == shape and all(step == 1 for _, _, step in slices):
            return x
        return self._new("place", (x,), {"slices": slices, "shape": shape}, shape, x.dtype)

    def take(self, x: Value, indices: Value, axis: int) -> Value:
        """Emit elements along an axis by indices."""
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
        return self._new("take", (x, self.cast(indices, _INTP)), {"axis": axis}, shape, x.dtype)

    def take_add(self, x: Value, indices: Value, axis: int, shape: Shape) -> Value:
        """Emit zeros of a shape with the elements of ``x`` added at indices along an axis."""
        args = (x, self.cast(indices, _INTP))
        return self._new("take_add", args, {"axis": axis, "shape": shape}, shape, x.dtype)

    def one_hot(self, indices: Value, depth: int, dtype: DTypeLike) -> Value:
        """Emit class indices as rows."""
        shape = (*indices.shape, depth)
        return self._new("one_hot", (indices,), {"depth": depth}, shape, np.dtype(dtype))

    def random(self, distribution: str, shape: Shape, dtype: DTypeLike = np.float64) -> Value:
        """Emit numbers drawn anew at each run: ``random`` or ``standard_normal``."""
        self._draws += 1
        attributes = {"index": self._draws - 1, "distribution": distribution}
        return self._new("random", (), attributes, tuple(shape), np.dtype(dtype))

    def kernel(
        self, name: str, args: Sequence[Value], shape: Sequence[int], **attributes: Any
    ) -> Value:
        """Emit a kernel that engines have code of their own for, in the dtype of its arguments.

        One of empty arrays is nothing, or a sum over nothing.
        """
        if 0 in shape or any(not arg.size for arg in args):
            return self.broadcast_to(self.literal(0, args[0].dtype), shape)
        named = {"name": name, **attributes}
        return self._new("kernel", tuple(args), named, tuple(shape), args[0].dtype)

    def call(self, args: Sequence[Value], shape: Shape, dtype: DTypeLike, **how: Any) -> Value:
        """Emit the call of a Python function."""
        return self._new("call", tuple(args), how, tuple(shape), np.dtype(dtype))

    def _new(
        self,
        op: str,
        args: tuple[Value, ...],
        attributes: dict[str, Any],
        shape: Shape,
        dtype: np.dtype[Any],
    ) -> Value:
        if op in IMPURE:
            return Value(op, args, attributes, shape, dtype, self.origin)
        key = (op, args, tuple(attributes.items()), dtype)
        if key not in self._known:
            self._known[key] = Value(op, args, attributes, shape, dtype, self.origin)
        return self._known[key]


def _kind(operand: Operand) -> Any:
    """Return what NumPy's promotion looks at: a Python number itself, else a dtype."""
    if type(operand) in (int, float):
        return operand
    if type(operand) is bool:
        return _BOOL
    return operand.dtype if isinstance(operand, Value) else np.asarray(operand).dtype


def _unrepeated(value: Value) -> Value:
    return value.args[0] if value.op == "broadcast_to" else value


def _accumulated(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that NumPy sums a dtype in."""
    total: Any = np.add.reduce(np.empty(0, dtype))
    return total.dtype  # type: ignore[no-any-return]


def _whole_shape(x: Value, shape: Shape) -> Shape:
    if -1 in shape:
        known = -math.prod(shape)
        if shape.count(-1) > 1 or (known == 0 and x.size) or (known and x.size % known):
            raise ValueError(f"cannot reshape array of shape {x.shape} into shape {shape}")
        missing = x.size // known if known else 0
        shape = tuple([missing if size == -1 else size for size in shape])
    if math.prod(shape) != x.size:
        raise ValueError(f"cannot reshape array of shape {x.shape} into shape {shape}")
    return shape


def full_slices(shape: Shape) -> Slices:
    """Return the slices that take everything."""
    return tuple([(0, size, 1) for size in shape])
