"""Compiled functions that other compiled functions call by name, on several threads.

numba compiles a function anew into each function that calls it, and the body of a parallel loop
four times. What is long is therefore compiled once, as a C function of its own (a *part*) whose
address is known to LLVM under a name; callers hold no more than a call. All parts have one
signature: five arrays' addresses, the address of integers, and the number of a thread.
"""

# ruff: noqa: ARG001  numba hands each function the types, then the code, of all arguments

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numpy as np
from llvmlite import ir
from numba import cfunc, get_num_threads, njit, prange
from numba.core import cgutils, types
from numba.extending import intrinsic

_sources: dict[str, Callable[..., None]] = {}
_compiled: dict[str, Any] = {}


def part(function: Callable[..., None]) -> Callable[..., None]:
    """Declare a function to be a part, under its own name."""
    _sources[function.__name__] = function
    return function


def symbol(name: str, dtype: Any) -> str:
    """Return the name that LLVM knows a part by."""
    return f"mfjit_{name}_{np.dtype(dtype)}"


def prepare(name: str, dtype: Any) -> None:
    """Compile a part for arrays of a dtype, or load it from the cache, unless that is done.

    Compiling what calls a part does so by itself. It must have been done before code that calls
    the part is loaded from a cache: LLVM ends the process where it does not find a name.
    """
    get_num_threads()  # makes the names of numba's own threads known to LLVM
    key = symbol(name, dtype)
    if key not in _compiled:
        array = types.CPointer(getattr(types, str(np.dtype(dtype))))
        signature = types.void(*[array] * 5, types.CPointer(types.intp), types.intp)
        compiled = cfunc(signature, cache=True, error_model="numpy")(_sources[name])
        llvm.add_symbol(key, compiled.address)
        _compiled[key] = compiled


_PART = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 7)


@intrinsic
def part_address(typing, name, array):  # type: ignore[no-untyped-def]
    """Return the address of the part of a name, for arrays as the given one."""
    if not isinstance(name, types.StringLiteral) or not isinstance(array, types.Array):
        return None
    prepare(name.literal_value, str(array.dtype))
    key = symbol(name.literal_value, str(array.dtype))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function = cgutils.get_or_insert_function(builder.module, _PART, key)
        return builder.ptrtoint(function, ir.IntType(64))

    return types.intp(name, array), generate


@intrinsic
def data_address(typing, array):  # type: ignore[no-untyped-def]
    """Return the address of an array's first element."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.intp(array), generate


@intrinsic
def on_stack(typing, integers):  # type: ignore[no-untyped-def]
    """Return the address of a copy of integers that lives as long as the calling function runs."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        count = len(sig.args[0])
        kind = ir.ArrayType(ir.IntType(64), count)
        copy = cgutils.alloca_once(builder, kind)
        for i, kind in enumerate(sig.args[0]):
            value = builder.extract_value(args[0], i)
            value = context.cast(builder, value, kind, types.intp)
            builder.store(value, cgutils.gep_inbounds(builder, copy, 0, i))
        return builder.ptrtoint(copy, ir.IntType(64))

    return types.intp(integers), generate


@intrinsic
def call_part(typing, part, a, b, c, d, workspace, integers, thread):  # type: ignore[no-untyped-def]
    """Call a part by its address."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.call(builder.inttoptr(args[0], _PART.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 8), generate


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def call_parallel(
    part: int, a: int, b: int, c: int, d: int, workspace: int, integers: int, threads: int
) -> None:
    """Call a part once for each of a number of threads; one needs no others to be woken."""
    if threads == 1:
        call_part(part, a, b, c, d, workspace, integers, 0)
        return
    for thread in prange(threads):
        call_part(part, a, b, c, d, workspace, integers, thread)
