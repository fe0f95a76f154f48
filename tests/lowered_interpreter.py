"""A lowered program evaluated value by value with plain NumPy: what engines are compared with."""

from __future__ import annotations

import numpy as np

from mfjit.functions import filled
from mfjit.ir import ELEMENTWISE, LEAVES, REDUCTIONS


def interpret(
    lowered, inputs=(), parameters=(), states=(), settings=(), rng=None, kernels=None, results=None
):
    """Run a program once.

    Parameters
    ----------
    lowered : Lowered
        The program.
    inputs, parameters, states, settings : sequences
        What the leaves are, by their ``index``; nothing is written into them.
    rng : numpy.random.Generator, optional
        For ``random``; draws happen in the order of their ``index``.
    kernels : mapping, optional
        For ``kernel``: by name, ``function(value, *arrays)``.
    results : dict, optional
        Filled with the array of every value.

    Returns
    -------
    outputs : list of numpy.ndarray or scalar
    parameters, states : list of numpy.ndarray
        As they are after the updates.
    """
    given = {"input": inputs, "parameter": parameters, "state": states, "setting": settings}
    found = {} if results is None else results
    draws = [value for value in lowered.values if value.op == "random"]
    for value in sorted(draws, key=lambda value: value.attributes["index"]):
        found[value] = draw(value, rng)
    for value in lowered.values:
        if value in found:
            continue
        if value.op in given:
            result = given[value.op][value.attributes["index"]]
        elif value.op == "kernel":
            result = kernels[value.attributes["name"]](value, *[found[arg] for arg in value.args])
        else:
            result = evaluate(value, [found[arg] for arg in value.args])
        if value.op != "call" or not isinstance(result, (tuple, list)):
            result = np.asarray(result, value.dtype)
            assert result.shape == value.shape, f"{value!r} is {result.shape}"
        found[value] = result
    after = {"parameter": list(parameters), "state": list(states)}
    after = {op: [np.array(array) for array in arrays] for op, arrays in after.items()}
    for leaf, new in lowered.updates:
        after[leaf.op][leaf.attributes["index"]] = np.array(found[new])
    outputs = [np.array(found[value])[()] for value in lowered.outputs]
    return outputs, after["parameter"], after["state"]


def draw(value, rng):
    """Return the numbers of one ``random``."""
    return getattr(rng, value.attributes["distribution"])(value.shape, dtype=value.dtype)


def evaluate(value, args):
    """Return the result of one instruction, neither a leaf given nor a kernel."""
    op, attributes = value.op, value.attributes
    if op in LEAVES:
        return np.asarray(attributes["value"], value.dtype)
    if op == "where":
        return np.where(*args)
    if op == "cast":
        return args[0].astype(value.dtype)
    if op in ELEMENTWISE:
        return getattr(np, op)(*args)
    if op in REDUCTIONS:
        return reduce(value, args[0])
    return OTHERS[op](value, *args)


def reduce(value, x):
    axes = value.attributes["axes"]
    if value.op in {"argmax", "argmin"}:
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        rows = x.transpose(*kept, *axes).reshape(*value.shape, -1)
        return getattr(np, value.op)(rows, axis=-1)
    if value.op in {"sum", "prod"}:
        return getattr(np, value.op)(x, axis=axes, dtype=value.dtype)
    return getattr(np, value.op)(x, axis=axes)


def as_slices(slices):
    return tuple(slice(start, None if stop < 0 else stop, step) for start, stop, step in slices)


def place(value, x):
    result = np.zeros(value.shape, value.dtype)
    result[as_slices(value.attributes["slices"])] = x
    return result


def take_add(value, x, indices):
    axis = value.attributes["axis"]
    result = np.zeros(value.shape, value.dtype)
    rows = np.moveaxis(x, range(axis, axis + indices.ndim), range(indices.ndim))
    np.add.at(np.moveaxis(result, axis, 0), indices, rows)
    return result


def one_hot(value, indices):
    depth = value.attributes["depth"]
    classes = np.asarray(indices)
    if not np.all((classes >= 0) & (classes < depth) & (classes == np.floor(classes))):
        raise ValueError(f"classes must be whole numbers in 0 .. {depth - 1}")
    return (classes[..., None] == np.arange(depth)).astype(value.dtype)


def call(value, *args):
    positional, keywords = filled(value.attributes["arguments"], args)
    return value.attributes["function"](*positional, **keywords)


OTHERS = {
    "matmul": lambda value, x, y: np.matmul(x, y),
    "reshape": lambda value, x: np.reshape(x, value.attributes["shape"]),
    "transpose": lambda value, x: np.transpose(x, value.attributes["axes"]),
    "broadcast_to": lambda value, x: np.broadcast_to(x, value.attributes["shape"]),
    "slice": lambda value, x: x[as_slices(value.attributes["slices"])],
    "concatenate": lambda value, *parts: np.concatenate(parts, value.attributes["axis"]),
    "place": place,
    "take": lambda value, x, indices: np.take(x, indices, axis=value.attributes["axis"]),
    "take_add": take_add,
    "one_hot": one_hot,
    "call": call,
    "item": lambda value, results: results[value.attributes["index"]],
}
