"""Convolution and pooling in programs compiled by numba: calls of ``mfjit.convolution``."""

from __future__ import annotations

import math

from mfjit.errors import CannotCompile
from mfjit.ir import Value
from mfjit.layout import contiguous_strides
from mfjit.numba_source import Access, Source

KERNELS = frozenset(
    {
        "conv2d", "conv2d_input_gradient", "conv2d_weight_gradient",
        "max_pool2d", "max_pool2d_gradient",
    }
)  # fmt: skip


def write_kernel(source: Source, value: Value) -> None:
    """Write the call of a kernel; operands that are not contiguous are copied first.

    Raises
    ------
    CannotCompile
        If there is no kernel of the name.
    """
    name = value.attributes["name"]
    if name not in KERNELS:
        raise CannotCompile(
            f"kernel {name} at {value.origin or 'an unnamed node'}: "
            "the numba engine has no code for it"
        )
    if value.size == 0 or any(arg.size == 0 for arg in value.args):
        raise CannotCompile(f"kernel {name} at {value.origin}: an array is empty")
    source.kernels[name, value.dtype.name] = None
    operands = [_array(source, arg) for arg in value.args]
    pointer, start = source.storage.locate(value)
    result = _carray(pointer, start, value.shape)
    steps = [
        str(n) for pair in (value.attributes["stride"], value.attributes["pads"]) for n in pair
    ]
    if name.startswith("conv2d"):
        nothing = _carray(pointer, start, (0,))
        workspace = _workspace(source, value)
        if name == "conv2d":
            arguments = [*operands, nothing, result, *steps, "False", workspace]
        elif name == "conv2d_input_gradient":
            arguments = [*operands, result, *steps, workspace]
        else:
            arguments = [*operands, result, nothing, *steps, workspace]
    else:
        sizes = [str(n) for n in value.attributes["size"]]
        if name == "max_pool2d":
            arguments = [*operands, result, *sizes, *steps, str(source.threads)]
        else:
            arguments = [*operands, result, *sizes, *steps, "False", str(source.threads)]
    source.line(f"{name}({', '.join(arguments)})")


def _workspace(source: Source, value: Value) -> str:
    from mfjit import convolution

    stride, threads = value.attributes["stride"], source.threads
    second = value.args[1].shape
    if value.attributes["name"] == "conv2d":
        shape = convolution.conv2d_workspace(second, value.shape, stride, threads)
    elif value.attributes["name"] == "conv2d_input_gradient":
        shape = convolution.conv2d_input_gradient_workspace(second, value.shape, threads)
    else:
        shape = convolution.conv2d_weight_gradient_workspace(value.shape, second, stride, threads)
    item = value.dtype.itemsize
    start = source.storage.reserve(math.prod(shape) * item) // item
    return _carray(source.storage.arena_pointer(value.dtype), start, shape)


def _array(source: Source, value: Value) -> str:
    """Return the expression of a contiguous array with a value's elements."""
    access = source.access(value)
    layout = source.storage.layouts[value]
    if access is not None and layout.contiguous(value.shape):
        return _carray(access.pointer, access.start, value.shape)
    item = value.dtype.itemsize
    start = source.storage.reserve(value.nbytes) // item
    target = Access(
        source.storage.arena_pointer(value.dtype), start, contiguous_strides(value.shape)
    )
    with source.nest(value.shape) as names:
        source.store(target, names, source.load(value, access, names))
    return _carray(target.pointer, start, value.shape)


def _carray(pointer: str, start: int, shape: tuple[int, ...]) -> str:
    at = f"advance({pointer}, {start})" if start else pointer
    return f"carray({at}, ({', '.join(map(str, shape))},))"
