"""Inner loops of convolution and pooling, written as vector instructions for numba to inline.

A compiler that vectorises loops does not keep a block of sums in registers by itself, which is
where the speed of a matrix product comes from (Goto and van de Geijn 2008, "Anatomy of
high-performance matrix multiplication"). So the innermost blocks are built as LLVM code here.
"""

# ruff: noqa: ARG001  numba hands each function the types, then the code, of all arguments

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_features = llvm.get_host_cpu_features()
_WIDE = bool(_features.get("avx512f"))
REGISTER_BYTES = 64 if _WIDE else 32 if _features.get("avx2") else 16
_MANY_REGISTERS = _WIDE or not _features.get("sse2")

CHANNELS = 8 if _MANY_REGISTERS else 4
"""How many out channels a tile sums at once; their sums and operands fit into the registers."""
VECTORS = 3 if _MANY_REGISTERS else 2
"""How many vectors of positions a full tile of a product is wide."""
PLACES = 3
"""How many places of a window a tile of the weights' gradient sums at once."""

index = ir.IntType(64)


def lanes(itemsize: int) -> int:
    """Return how many elements of a size a vector register holds."""
    return REGISTER_BYTES // itemsize


SLACK = (VECTORS + 1) * lanes(4)
"""Elements behind a workspace that full vectors may read; what is there changes no result."""


class _Vectors:
    """Vector code on arrays of one kind of float, built into a function."""

    def __init__(self, context: Any, builder: Any, dtype: Any) -> None:
        self.context, self.builder = context, builder
        self.item: Any = ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
        self.itemsize = dtype.bitwidth // 8
        self.lanes = lanes(self.itemsize)
        self.type = ir.VectorType(self.item, self.lanes)
        self.suffix = f"v{self.lanes}f{dtype.bitwidth}"
        self.zero = ir.Constant(self.type, None)

    def pointer(self, array_type: Any, array: Any, start: Any) -> Any:
        data = self.context.make_array(array_type)(self.context, self.builder, array).data
        return self.builder.gep(data, [start])

    def ahead(self, pointer: Any, count: Any) -> Any:
        return self.builder.gep(pointer, [count if isinstance(count, ir.Value) else index(count)])

    def load(self, pointer: Any, type_: Any = None) -> Any:
        pointer = self.builder.bitcast(pointer, (type_ or self.type).as_pointer())
        return self.builder.load(pointer, align=self.itemsize)

    def store(self, value: Any, pointer: Any) -> None:
        pointer = self.builder.bitcast(pointer, value.type.as_pointer())
        self.builder.store(value, pointer, align=self.itemsize)

    def _masked(self, name: str, returns: Any, takes: list[Any]) -> Any:
        kind = ir.FunctionType(returns, takes)
        return cgutils.get_or_insert_function(
            self.builder.module, kind, f"llvm.masked.{name}.{self.suffix}.p0"
        )

    def load_masked(self, pointer: Any, mask: Any) -> Any:
        """Load the lanes of a mask, and zeros elsewhere."""
        where = self.builder.bitcast(pointer, self.type.as_pointer())
        function = self._masked(
            "load", self.type, [where.type, ir.IntType(32), mask.type, self.type]
        )
        align = ir.Constant(ir.IntType(32), self.itemsize)
        return self.builder.call(function, [where, align, mask, self.zero])

    def store_masked(self, value: Any, pointer: Any, mask: Any) -> None:
        where = self.builder.bitcast(pointer, self.type.as_pointer())
        function = self._masked(
            "store", ir.VoidType(), [self.type, where.type, ir.IntType(32), mask.type]
        )
        align = ir.Constant(ir.IntType(32), self.itemsize)
        self.builder.call(function, [value, where, align, mask])

    def splat(self, value: Any, type_: Any = None) -> Any:
        type_ = type_ or self.type
        one = self.builder.insert_element(
            ir.Constant(type_, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
        )
        order = ir.Constant(ir.VectorType(ir.IntType(32), type_.count), [0] * type_.count)
        return self.builder.shuffle_vector(one, ir.Constant(type_, ir.Undefined), order)

    def mask(self, count: Any) -> Any:
        """Return which lanes are below a count."""
        kind = ir.VectorType(index, self.lanes)
        numbers = ir.Constant(kind, list(range(self.lanes)))
        return self.builder.icmp_signed("<", numbers, self.splat(count, kind))

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        kind = ir.FunctionType(self.type, [self.type] * 3)
        function = cgutils.get_or_insert_function(
            self.builder.module, kind, f"llvm.fmuladd.{self.suffix}"
        )
        return self.builder.call(function, [a, b, c])

    def shuffle(self, a: Any, b: Any, order: list[int]) -> Any:
        kind = ir.VectorType(ir.IntType(32), len(order))
        return self.builder.shuffle_vector(a, b, ir.Constant(kind, order))

    def sums(self, vectors: list[Any]) -> list[Any]:
        """Return vectors whose elements are, in order, the sums of the lanes of the given ones."""
        width = self.lanes
        while width > 1:
            half = width // 2
            pairs = (
                list(zip(vectors[::2], vectors[1::2], strict=True))
                if len(vectors) % 2 == 0
                else [(v, v) for v in vectors]
            )
            count = vectors[0].type.count
            joined = range(0, 2 * count if len(vectors) % 2 == 0 else count, width)
            low = [start + i for start in joined for i in range(half)]
            high = [start + half + i for start in joined for i in range(half)]
            vectors = [
                self.builder.fadd(self.shuffle(a, b, low), self.shuffle(a, b, high))
                for a, b in pairs
            ]
            width = half
        return vectors

    def variables(self, count: int) -> list[Any]:
        """Return vectors that loops can change; LLVM keeps them in registers."""
        return [cgutils.alloca_once(self.builder, self.type) for _ in range(count)]


def _product_tile(count: int) -> Callable[..., Any]:
    """Return a tile of a convolution's product, ``count`` vectors of positions wide."""

    @intrinsic
    def tile(  # type: ignore[no-untyped-def]
        typing, x, x_at, weights, weights_at, out, out_at, out_step,
        outer, outer_step, inner, inner_step, valid_channels, valid_positions, rectify,
    ):  # fmt: skip
        """Sum windows times weights for up to CHANNELS channels and ``count`` vectors."""
        signature = types.void(
            x, types.intp, weights, types.intp, out, *[types.intp] * 8, types.boolean
        )

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            code = _Vectors(context, builder, sig.args[0].dtype)
            source = code.pointer(sig.args[0], args[0], args[1])
            weight = code.pointer(sig.args[2], args[2], args[3])
            target = code.pointer(sig.args[4], args[4], args[5])
            out_step, outer, outer_step, inner, inner_step, channels, positions, rectify = args[6:]
            total = code.variables(CHANNELS * count)
            for m in range(CHANNELS):  # the biases lie before the weights
                bias = code.splat(builder.load(code.ahead(weight, m)))
                for v in range(count):
                    builder.store(bias, total[m * count + v])
            at = cgutils.alloca_once_value(builder, code.ahead(weight, CHANNELS))
            with cgutils.for_range(builder, outer, intp=index) as q:
                plane = code.ahead(source, builder.mul(q.index, outer_step))
                with cgutils.for_range(builder, inner, intp=index) as i:
                    row = code.ahead(plane, builder.mul(i.index, inner_step))
                    pixels = [code.load(code.ahead(row, v * code.lanes)) for v in range(count)]
                    place = builder.load(at)
                    for m in range(CHANNELS):
                        factor = code.splat(builder.load(code.ahead(place, m)))
                        for v in range(count):
                            sum_ = total[m * count + v]
                            builder.store(
                                code.multiply_add(factor, pixels[v], builder.load(sum_)), sum_
                            )
                    builder.store(code.ahead(place, CHANNELS), at)
            results = [builder.load(t) for t in total]
            positive = [
                builder.select(builder.fcmp_ordered("<", r, code.zero), code.zero, r)
                for r in results
            ]
            results = [builder.select(rectify, p, r) for p, r in zip(positive, results)]
            masks = [code.mask(builder.sub(positions, index(v * code.lanes))) for v in range(count)]
            for m in range(CHANNELS):
                with builder.if_then(builder.icmp_signed("<", index(m), channels)):
                    line = code.ahead(target, builder.mul(index(m), out_step))
                    for v in range(count):
                        code.store_masked(
                            results[m * count + v], code.ahead(line, v * code.lanes), masks[v]
                        )
            return context.get_dummy_value()

        return signature, generate

    return tile  # type: ignore[no-any-return]


product_tile = _product_tile(VECTORS)
narrow_product_tile = _product_tile(1)


@intrinsic
def weight_tile(  # type: ignore[no-untyped-def]
    typing, x, x_0, x_1, x_2, x_step, grad, grad_at, grad_step, channel_step,
    images, positions, valid_channels, out, out_0, out_1, out_2,
):  # fmt: skip
    """Add to ``out`` the products of PLACES shifted images and CHANNELS gradients, summed.

    Channels that are not valid repeat the last valid one.
    """
    signature = types.void(
        x, *[types.intp] * 4, grad, *[types.intp] * 6, out, *[types.intp] * PLACES
    )

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code = _Vectors(context, builder, sig.args[0].dtype)
        shifted = [code.pointer(sig.args[0], args[0], start) for start in args[1:4]]
        x_step = args[4]
        grad = code.pointer(sig.args[5], args[5], args[6])
        grad_step, channel_step, images, positions, channels = args[7:12]
        targets = [code.pointer(sig.args[12], args[12], start) for start in args[13:16]]
        total = code.variables(CHANNELS * PLACES)
        for t in total:
            builder.store(code.zero, t)
        last = builder.sub(channels, index(1))
        lines = []
        for m in range(CHANNELS):
            below = builder.icmp_signed("<", index(m), channels)
            lines.append(
                code.ahead(grad, builder.mul(builder.select(below, index(m), last), channel_step))
            )

        def add(here: list[Any], slopes: list[Any], read: Callable[[Any], Any]) -> None:
            pixels = [read(pointer) for pointer in here]
            for m in range(CHANNELS):
                slope = read(slopes[m])
                for k in range(PLACES):
                    sum_ = total[m * PLACES + k]
                    builder.store(code.multiply_add(slope, pixels[k], builder.load(sum_)), sum_)

        step = index(code.lanes)
        rest = builder.srem(positions, step)
        whole = builder.sdiv(positions, step)
        full = builder.sub(positions, rest)
        mask = code.mask(rest)
        with cgutils.for_range(builder, images, intp=index) as n:
            here = [code.ahead(p, builder.mul(n.index, x_step)) for p in shifted]
            slopes = [code.ahead(p, builder.mul(n.index, grad_step)) for p in lines]
            with cgutils.for_range(builder, whole, intp=index) as p:
                start = builder.mul(p.index, step)
                add([code.ahead(h, start) for h in here],
                    [code.ahead(s, start) for s in slopes], code.load)  # fmt: skip
            with builder.if_then(builder.icmp_signed(">", rest, index(0))):
                add([code.ahead(h, full) for h in here],
                    [code.ahead(s, full) for s in slopes],
                    lambda pointer: code.load_masked(pointer, mask))  # fmt: skip
        for k in range(PLACES):
            sums = code.sums([builder.load(total[m * PLACES + k]) for m in range(CHANNELS)])
            offset = 0
            for part in sums:
                where = code.ahead(targets[k], offset)
                code.store(builder.fadd(code.load(where, part.type), part), where)
                offset += part.type.count
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def copy_rows(  # type: ignore[no-untyped-def]
    typing, source, source_at, source_step, target, target_at, width, rows, first, stop
):
    """Copy rows of ``width`` elements from ``first`` to ``stop``, with zeros before and behind.

    Rows are too short for the loops that a compiler makes of such copies.
    """
    signature = types.void(source, types.intp, types.intp, target, *[types.intp] * 5)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code = _Vectors(context, builder, sig.args[0].dtype)
        source = code.pointer(sig.args[0], args[0], args[1])
        target = code.pointer(sig.args[3], args[3], args[4])
        source_step = args[2]
        width, rows, first, stop = args[5:]
        step = index(code.lanes)
        vectors = builder.sdiv(builder.add(width, index(code.lanes - 1)), step)
        with cgutils.for_range(builder, vectors, intp=index) as v:
            start = builder.mul(v.index, step)
            written = code.mask(builder.sub(width, start))
            read = builder.and_(
                code.mask(builder.sub(stop, start)),
                builder.not_(code.mask(builder.sub(first, start))),
            )
            from_, to = code.ahead(source, start), code.ahead(target, start)
            with cgutils.for_range(builder, rows, intp=index) as row:
                value = code.load_masked(
                    code.ahead(from_, builder.mul(row.index, source_step)), read
                )
                code.store_masked(value, code.ahead(to, builder.mul(row.index, width)), written)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def row_sum(typing, x, at, count):  # type: ignore[no-untyped-def]
    """Return the sum of ``count`` elements."""
    signature = x.dtype(x, types.intp, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code = _Vectors(context, builder, sig.args[0].dtype)
        source = code.pointer(sig.args[0], args[0], args[1])
        (total,) = code.variables(1)
        builder.store(code.zero, total)
        step = index(code.lanes)
        with cgutils.for_range(builder, builder.sdiv(args[2], step), intp=index) as i:
            part = code.load(code.ahead(source, builder.mul(i.index, step)))
            builder.store(builder.fadd(builder.load(total), part), total)
        rest = builder.srem(args[2], step)
        part = code.load_masked(code.ahead(source, builder.sub(args[2], rest)), code.mask(rest))
        (sum_,) = code.sums([builder.fadd(builder.load(total), part)])
        return builder.extract_element(sum_, ir.Constant(ir.IntType(32), 0))

    return signature, generate


class _Squares(_Vectors):
    """Vector code on windows of 2 x 2 that lie side by side."""

    def each(self, count: Any, body: Callable[[Any, Any], None]) -> None:
        """Run ``body(start, mask)`` on each vector of ``count`` windows."""
        step = index(self.lanes)
        vectors = self.builder.sdiv(self.builder.add(count, index(self.lanes - 1)), step)
        with cgutils.for_range(self.builder, vectors, intp=index) as i:
            start = self.builder.mul(i.index, step)
            body(start, self.builder.sub(count, start))

    def _halves(self, start: Any, left: Any) -> list[tuple[Any, Any]]:
        twice, two = self.builder.mul(start, index(2)), self.builder.mul(left, index(2))
        beyond = self.builder.sub(two, index(self.lanes))
        return [
            (twice, self.mask(two)),
            (self.builder.add(twice, index(self.lanes)), self.mask(beyond)),
        ]

    def load_columns(self, row: Any, start: Any, left: Any) -> list[Any]:
        """Return the left and the right elements of a row's windows."""
        low, high = (
            self.load_masked(self.ahead(row, at), mask) for at, mask in self._halves(start, left)
        )
        return [self.shuffle(low, high, list(range(side, 2 * self.lanes, 2))) for side in range(2)]

    def store_columns(self, columns: list[Any], row: Any, start: Any, left: Any) -> None:
        """Store the left and the right elements of a row's windows."""
        a, b = columns
        half = self.lanes // 2
        for first, (at, mask) in zip((0, half), self._halves(start, left), strict=True):
            order = [i + side * self.lanes for i in range(first, first + half) for side in range(2)]
            self.store_masked(self.shuffle(a, b, order), self.ahead(row, at), mask)

    def largest(self, a: Any, b: Any) -> Any:
        """Return the larger elements, NaN where either is."""
        larger = self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)
        return self.builder.select(self.builder.fcmp_unordered("uno", a, a), a, larger)


@intrinsic
def square_largest(typing, x, upper, lower, out, out_at, count):  # type: ignore[no-untyped-def]
    """Write the largest elements of ``count`` windows of 2 x 2 in two rows."""
    signature = types.void(x, types.intp, types.intp, out, types.intp, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code = _Squares(context, builder, sig.args[0].dtype)
        rows = [code.pointer(sig.args[0], args[0], at) for at in args[1:3]]
        target = code.pointer(sig.args[3], args[3], args[4])

        def body(start: Any, left: Any) -> None:
            a, b, c, d = (v for row in rows for v in code.load_columns(row, start, left))
            largest = code.largest(code.largest(a, b), code.largest(c, d))
            code.store_masked(largest, code.ahead(target, start), code.mask(left))

        code.each(args[5], body)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def square_gradient(  # type: ignore[no-untyped-def]
    typing, x, upper, lower, pooled, grad, pooled_at, out, count, rectified
):
    """Write the gradients of ``count`` windows of 2 x 2 in two rows, laid out as ``x`` is."""
    signature = types.void(
        *(x, types.intp, types.intp, pooled, grad, types.intp, out, types.intp, types.boolean)
    )

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code = _Squares(context, builder, sig.args[0].dtype)
        rows = [code.pointer(sig.args[0], args[0], at) for at in args[1:3]]
        targets = [code.pointer(sig.args[6], args[6], at) for at in args[1:3]]
        pooled = code.pointer(sig.args[3], args[3], args[5])
        grad = code.pointer(sig.args[4], args[4], args[5])

        def body(start: Any, left: Any) -> None:
            mask = code.mask(left)
            largest = code.load_masked(code.ahead(pooled, start), mask)
            slope = code.load_masked(code.ahead(grad, start), mask)
            blocked = builder.and_(
                builder.fcmp_unordered("<=", largest, code.zero), code.splat(args[8], mask.type)
            )
            slope = builder.select(blocked, code.zero, slope)
            found = ir.Constant(mask.type, None)
            for row, target in zip(rows, targets, strict=True):
                columns = []
                for value in code.load_columns(row, start, left):
                    here = builder.fcmp_unordered(">=", value, largest)
                    first = builder.and_(here, builder.not_(found))
                    found = builder.or_(found, here)
                    columns.append(builder.select(first, slope, code.zero))
                code.store_columns(columns, target, start, left)

        code.each(args[7], body)
        return context.get_dummy_value()

    return signature, generate
