"""Gradient descent's rate as part of the number that the backward pass starts from.

Gradients are linear in that number, so ``p - rate * gradient`` needs no pass of its own over
the gradient if the number is multiplied by the rate. That is done for rates from 2**-10 to 1,
with which nothing overflows that did not before, and what could underflow is within a factor
of a thousand of the smallest number.
"""

from __future__ import annotations

import numpy as np

from mfjit.ir import LEAVES, Lowered, Value

_CANDIDATES = 20
"""How many numbers are tried."""

_SMALLEST_RATE = 2.0**-10

_LINEAR_IN_ONE = frozenset({"matmul", "multiply"})
_LINEAR_IN_ALL = frozenset({"concatenate", "add", "subtract"})
_LINEAR = frozenset({"negative", "sum", "reshape", "transpose", "slice", "broadcast_to", "place"})


def scaled_gradients(lowered: Lowered) -> Lowered:
    """Return the program with the rate drawn into the start of the backward pass, if it can be."""
    from mfjit.numpy_rewrites import rewritten

    exits = [new for leaf, new in lowered.updates if _is_descent(leaf, new)]
    if len(exits) != 1:
        return lowered
    step = exits[0].args[1]
    gradient, rate = step.args
    readers = lowered.consumers()
    kept = {*lowered.outputs, *(new for _, new in lowered.updates)}
    starts = [v for v in lowered.values if _is_start(v)][:_CANDIDATES]
    for start in starts:
        if not _leads_only_to(start, step, lowered, kept):
            continue

        def rule(value: Value, args: tuple[Value, ...], start: Value = start) -> Value | None:
            if value is start:
                start_from = (args[0], _product(args[1], rate))
                return Value(value.op, start_from, {}, value.shape, value.dtype, value.origin)
            return args[0] if value is step else None

        if readers[gradient] == [step]:
            return rewritten(lowered, rule)
    return lowered


def _product(number: Value, rate: Value) -> Value:
    factors = [np.asarray(v.attributes["value"], v.dtype)[()] for v in (number, rate)]
    both = (factors[0] * factors[1]).item()
    return Value("literal", (), {"value": both}, (), number.dtype, number.origin)


def _is_descent(leaf: Value, new: Value) -> bool:
    return (
        new.op == "subtract"
        and new.args[0] is leaf
        and new.args[1].op == "multiply"
        and new.args[1].shape == leaf.shape
        and new.args[1].args[0].shape == leaf.shape
        and new.args[1].args[1].op == "literal"
        and _SMALLEST_RATE <= new.args[1].args[1].attributes["value"] <= 1
        and leaf.dtype.kind == "f"
        and leaf.ndim > 0
    )


def _is_start(value: Value) -> bool:
    return (
        value.op == "multiply"
        and value.ndim > 0
        and value.args[1].op == "literal"
        and value.args[0].shape == value.shape
    )


def _leads_only_to(start: Value, step: Value, lowered: Lowered, kept: set[Value]) -> bool:
    """Whether all that depends on a value is linear in it, and only read by the step."""
    linear = {start}
    if start in kept:
        return False
    reached = False
    for value in lowered.values:
        inside = [arg in linear for arg in value.args]
        if value.op in LEAVES or value is start or not any(inside):
            continue
        if value is step:
            reached = inside == [True, False]
            continue
        if step in value.args and not reached:
            return False
        if value in kept or not _is_linear(value, inside):
            return False
        linear.add(value)
    return reached


def _is_linear(value: Value, inside: list[bool]) -> bool:
    if value.op in _LINEAR:
        return inside[0]
    if value.op == "divide":
        return inside == [True, False]
    if value.op in _LINEAR_IN_ONE:
        return inside.count(True) == 1
    if value.op in _LINEAR_IN_ALL:
        return all(inside)
    if value.op == "where":
        other = value.args[2]
        return (
            inside == [False, True, False]
            and other.op == "literal"
            and not (other.attributes["value"])
        )
    return False
