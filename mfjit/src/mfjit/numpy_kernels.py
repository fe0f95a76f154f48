"""Convolution and pooling on the numpy engine: calls of ``mfjit.convolution_numpy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfjit import convolution_numpy as kernels
from mfjit.errors import CannotCompile
from mfjit.ir import Value
from mfjit.numpy_calls import Call, Method
from mfjit.operands import View, whole

if TYPE_CHECKING:
    from mfjit.numpy_calls import Emitter


def kernel_calls(emitter: Emitter, value: Value) -> list[Call]:
    """Return the calls of a kernel.

    Raises
    ------
    CannotCompile
        If there is no kernel of the name.
    """
    name = value.attributes["name"]
    if name not in _SPACES:
        raise CannotCompile(
            f"kernel {name} at {value.origin or 'an unnamed node'}: "
            "the numpy engine has no code for it"
        )
    out = whole(value)
    if value.size == 0 or any(arg.size == 0 for arg in value.args):
        return [Call(Method("fill"), (out, value.dtype.type(0)))]
    calls: list[Call] = []
    given = [emitter.contiguous(emitter.view(arg), calls) for arg in value.args]
    nothing = emitter.scratch((0,), value.dtype)
    steps = (*value.attributes["stride"], *value.attributes["pads"])
    sizes = value.attributes.get("size", ())
    function = getattr(kernels, name)
    spaces = _SPACES[name](emitter, value)
    if name == "conv2d":
        arguments = (*given, nothing, out, *steps, False, *spaces)
    elif name == "conv2d_input_gradient":
        arguments = (*given, out, *steps, *spaces)
    elif name == "conv2d_weight_gradient":
        arguments = (*given, out, nothing, *steps, *spaces)
    elif name == "max_pool2d":
        arguments = (*given, out, *sizes, *steps, *spaces)
    else:
        arguments = (*given, out, *sizes, *steps, False, *spaces)
    return [*calls, Call(function, arguments)]


def _conv2d(emitter: Emitter, value: Value) -> list[View]:
    x, W = (arg.shape for arg in value.args)
    stride, pads = value.attributes["stride"], value.attributes["pads"]
    size = kernels.conv2d_workspace(x, W, value.shape, stride, pads)
    return [emitter.scratch((size,), value.dtype)]


def _conv2d_input_gradient(emitter: Emitter, value: Value) -> list[View]:
    size = kernels.conv2d_input_gradient_workspace(value.args[1].shape, value.shape)
    return [emitter.scratch((size,), value.dtype)]


def _conv2d_weight_gradient(emitter: Emitter, value: Value) -> list[View]:
    x, upstream = (arg.shape for arg in value.args)
    stride, pads = value.attributes["stride"], value.attributes["pads"]
    size = kernels.conv2d_workspace(x, value.shape, upstream, stride, pads)
    return [emitter.scratch((size,), value.dtype)]


def _max_pool2d(emitter: Emitter, value: Value) -> list[View]:
    return [emitter.scratch((value.size,), value.dtype)]


def _max_pool2d_gradient(emitter: Emitter, value: Value) -> list[View]:
    windows = value.args[0].size
    return [emitter.scratch((2, windows), value.dtype), emitter.scratch((3, windows), bool)]


_SPACES = {
    "conv2d": _conv2d,
    "conv2d_input_gradient": _conv2d_input_gradient,
    "conv2d_weight_gradient": _conv2d_weight_gradient,
    "max_pool2d": _max_pool2d,
    "max_pool2d_gradient": _max_pool2d_gradient,
}
