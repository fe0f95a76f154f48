"""What programs generated for numba call: memory by address, sums that vectorise, products.

Generated code works on bare pointers into few blocks of memory: they type and compile several
times faster than arrays do, and a call passes one table of addresses however many blocks.
"""

# ruff: noqa: ARG001  numba hands each function the types, then the code, of all arguments

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped, unused-ignore]
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from mfjit.numba_blas import SYMBOLS


def _pointer_maker(pointed: Any) -> Any:
    pointer = types.CPointer(pointed)

    @intrinsic  # type: ignore[untyped-decorator]
    def at(_: Any, __: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return pointer(types.int64), generate

    return at


at_float64 = _pointer_maker(types.float64)
at_float32 = _pointer_maker(types.float32)
at_bool = _pointer_maker(types.uint8)
at_int8 = _pointer_maker(types.int8)
at_int16 = _pointer_maker(types.int16)
at_int32 = _pointer_maker(types.int32)
at_int64 = _pointer_maker(types.int64)
at_uint8 = _pointer_maker(types.uint8)
at_uint16 = _pointer_maker(types.uint16)
at_uint32 = _pointer_maker(types.uint32)
at_uint64 = _pointer_maker(types.uint64)


@intrinsic  # type: ignore[untyped-decorator]
def address(_: Any, array: Any) -> Any:
    """Return the address of an array's first element."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        structure = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.ptrtoint(structure.data, ir.IntType(64))

    return types.int64(array), generate


def _reassociated(operation: str) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def accumulate(_: Any, total: Any, x: Any) -> Any:
        """Combine a running total with one more element, in any order that is fastest."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = context.cast(builder, args[1], signature.args[1], signature.args[0])
            # On this one operation only: elsewhere (x + y) - x has to stay what it is.
            return getattr(builder, operation)(args[0], value, flags=("reassoc", "contract"))

        return total(total, x), generate

    return accumulate


add_in_any_order = _reassociated("fadd")
multiply_in_any_order = _reassociated("fmul")


def _extreme(name: str) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def extreme(_: Any, x: Any, y: Any) -> Any:
        """Return the greater or lesser of two floats, NaN if either is."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            float_type = args[0].type
            function = builder.module.declare_intrinsic(
                name, (float_type,), ir.FunctionType(float_type, (float_type, float_type))
            )
            return builder.call(function, args)

        return x(x, x), generate

    return extreme


greater_or_nan = _extreme("llvm.maximum")
lesser_or_nan = _extreme("llvm.minimum")


def _rounding(name: str) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def rounded(_: Any, x: Any) -> Any:
        """Round a float to a whole number."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            float_type = args[0].type
            function = builder.module.declare_intrinsic(
                name, (float_type,), ir.FunctionType(float_type, (float_type,))
            )
            return builder.call(function, args)

        return x(x), generate

    return rounded


floor = _rounding("llvm.floor")
ceil = _rounding("llvm.ceil")
trunc = _rounding("llvm.trunc")
rint = _rounding("llvm.rint")


def _product(write_call: Any) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def gemm(
        _: Any, transpose_x: Any, transpose_y: Any, n: Any, m: Any, k: Any,
        x: Any, x_stride: Any, y: Any, y_stride: Any, result: Any, result_stride: Any,
    ) -> Any:  # fmt: skip
        """Write the product of an (n, k) and a (k, m) matrix, rows of a stride each, by BLAS.

        A matrix that is said to be transposed lies in memory the other way round.
        """
        pointer, integer = x, types.int64

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            write_call(context, builder, pointer.dtype, args)
            return context.get_dummy_value()

        signature = types.void(
            *[integer] * 5, pointer, integer, pointer, integer, pointer, integer
        )  # fmt: skip
        return signature, generate

    return gemm


def _chosen(builder: Any, flag: Any, kind: Any, if_set: int, if_not: int) -> Any:
    is_set = builder.icmp_signed("!=", flag, ir.Constant(flag.type, 0))
    return builder.select(is_set, ir.Constant(kind, if_set), ir.Constant(kind, if_not))


def _call_numpy(context: Any, builder: Any, dtype: Any, args: Any) -> None:
    integer, size = ir.IntType(32), ir.IntType(64)
    number = context.get_value_type(dtype)
    pointer = number.as_pointer()
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(
            ir.VoidType(),
            [integer] * 3 + [size] * 3 + [number, pointer, size, pointer, size]
            + [number, pointer, size],
        ),
        SYMBOLS[str(dtype)],
    )  # fmt: skip
    flips = [_chosen(builder, flag, integer, 112, 111) for flag in args[:2]]
    n, m, k, x, x_stride, y, y_stride, result, stride = args[2:]
    builder.call(
        function,
        [
            ir.Constant(integer, 101), *flips, n, m, k, ir.Constant(number, 1.0), x, x_stride,
            y, y_stride, ir.Constant(number, 0.0), result, stride,
        ],
    )  # fmt: skip


def _call_scipy(context: Any, builder: Any, dtype: Any, args: Any) -> None:
    byte, size, void = ir.IntType(8), ir.IntType(64), ir.IntType(8).as_pointer()
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(
            ir.IntType(32),
            [byte] * 3 + [size] * 3 + [void, void, size, void, size, void, void, size],
        ),
        "numba_xxgemm",
    )
    number = context.get_value_type(dtype)
    one = cgutils.alloca_once_value(builder, ir.Constant(number, 1.0))
    zero = cgutils.alloca_once_value(builder, ir.Constant(number, 0.0))
    flips = [_chosen(builder, flag, byte, ord("t"), ord("n")) for flag in args[:2]]
    n, m, k = args[2:5]
    x, y, result = (builder.bitcast(arg, void) for arg in args[5::2])
    x_stride, y_stride, stride = args[6::2]
    # Fortran's order: the transposed product of the transposed matrices, the other way round.
    builder.call(
        function,
        [
            ir.Constant(byte, ord("d" if dtype == types.float64 else "s")), flips[1], flips[0],
            m, n, k, builder.bitcast(one, void), y, y_stride, x, x_stride,
            builder.bitcast(zero, void), result, stride,
        ],
    )  # fmt: skip


gemm_of_numpy = _product(_call_numpy)
gemm_of_scipy = _product(_call_scipy)


@intrinsic  # type: ignore[untyped-decorator]
def select(_: Any, condition: Any, x: Any, y: Any) -> Any:
    """Return x or y, both computed: what loops over vectors can do, as they cannot branch."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(*args)

    return x(types.boolean, x, x), generate


@intrinsic  # type: ignore[untyped-decorator]
def stay_apart(_: Any) -> Any:
    """Keep LLVM from merging the function that this is called in with its caller."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic  # type: ignore[untyped-decorator]
def advance(_: Any, pointer: Any, count: Any) -> Any:
    """Return a pointer to the element that so many others come before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def put(_: Any, pointer: Any, index: Any, x: Any) -> Any:
    """Write an element."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = context.cast(builder, args[2], signature.args[2], pointer.dtype)
        builder.store(value, builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, x), generate


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def floor_divide(x: Any, y: Any) -> Any:
    """Divide floats and round down, as NumPy does: the quotient of an infinity is NaN."""
    if y == 0:
        return x / y
    rest = np.fmod(x, y)
    quotient = (x - rest) / y
    if rest != 0 and (y < 0) != (rest < 0):
        quotient -= 1
    if quotient == 0:
        return math.copysign(quotient, x / y)
    whole = floor(quotient)
    if quotient - whole > 0.5:
        whole += 1
    return whole
