"""What an operation does to single numbers: its own functions, read as a few instructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import attrs
import numpy as np

from mfcore import Graph, Input, Node
from mfcore.operation import spec_of
from mfjit.builder import Builder
from mfjit.errors import CannotLower
from mfjit.ir import ELEMENTWISE, Value
from mfjit.lowering import GraphReader

Dtype: TypeAlias = np.dtype[Any]

Code: TypeAlias = tuple[str, str, str]
"""What an instruction does: its ``op``, the kinds of its arguments, and of its result.

A kind is ``f``, a float, or ``b``, a truth value, which the tape holds as 0 or 1.
"""

COPY = "copy"
"""An instruction beside the elementwise ones."""

FLOAT, TRUTH, FIRST_CONSTANT = 0, 1, 2
"""Kinds of nodes; each type of constant is one more."""


@attrs.frozen
class Operand:
    """Where an argument is found.

    Attributes
    ----------
    place : str
        ``input``, ``value`` (of the node), ``gradient`` (of the node), ``literal`` or ``step``.
    index : int
        Which input, or the result of which step.
    number : float
        The literal.
    """

    place: str
    index: int = 0
    number: float = 0.0


@attrs.frozen
class Step:
    """One instruction of a template."""

    code: Code
    operands: tuple[Operand, ...]


@attrs.frozen
class Template:
    """What one way of applying an operation does.

    Attributes
    ----------
    forward : tuple of Step
        The last one computes the node's value.
    backward : tuple of Step
        What the gradients need.
    gradients : tuple of (int, Operand)
        For the inputs that get one, in order: which input, and where its gradient is.
    truth : bool
        Whether the value is a truth value.
    differentiable : bool
        Whether the operation has a ``backward``.
    """

    forward: tuple[Step, ...]
    backward: tuple[Step, ...]
    gradients: tuple[tuple[int, Operand], ...]
    truth: bool
    differentiable: bool


class _QuietGraph(Graph):
    """A graph to read from, of which nobody hears."""

    __slots__ = ()

    def _announce(self) -> None:
        pass


def read_template(
    node: Node, inputs: Sequence[Node], kinds: Sequence[int], dtype: Dtype
) -> Template:
    """Read one application of an operation to single numbers.

    Parameters
    ----------
    node : Node
        The operation.
    inputs : sequence of Node
        What it is applied to.
    kinds : sequence of int
        Their kinds. Constants beside floats are read as floats, as NumPy's rules have it;
        one template then serves all of them.
    dtype : dtype
        Of floats.

    Raises
    ------
    CannotLower
        If it takes more than elementwise instructions on this dtype.
    """
    constants = [kind >= FIRST_CONSTANT for kind in kinds]
    beside_floats = FLOAT in kinds
    reader, mine, leaves = _read(node, inputs, kinds, dtype, literal=not beside_floats)
    value = reader.value(mine)
    if any(constants) and beside_floats:
        again, other, _ = _read(node, inputs, kinds, dtype, literal=True)
        if again.value(other).dtype != value.dtype:
            raise CannotLower(f"its result is {again.value(other).dtype}, not {value.dtype}")
    spec = spec_of(node)
    known = {reader.value(leaf): Operand("input", k) for k, leaf in leaves.items()}
    forward = _Program(dict(known), dtype)
    result = forward.operand(value)
    if result.place != "step":
        forward.steps.append(Step((COPY, "f", "f"), (result,)))
    backward = _Program({value: Operand("value"), **known}, dtype)
    gradients: list[tuple[int, Operand]] = []
    wanted = [k for k, constant in enumerate(constants) if not constant]
    if spec.backward is not None and wanted:
        seed = reader.builder.input((), dtype, "gradient")
        backward.known[seed] = Operand("gradient")
        found = reader.gradients(mine, [leaves[k] for k in wanted], seed)
        for k, gradient in zip(wanted, found, strict=True):
            if gradient is not None:
                if gradient.dtype != dtype:
                    raise CannotLower(f"a gradient of it is {gradient.dtype}")
                gradients.append((k, backward.operand(gradient)))
    return Template(
        tuple(forward.steps),
        tuple(backward.steps),
        tuple(gradients),
        truth=value.dtype == np.bool_,
        differentiable=spec.backward is not None,
    )


def _read(
    node: Node, inputs: Sequence[Node], kinds: Sequence[int], dtype: Dtype, *, literal: bool
) -> tuple[GraphReader, Node, dict[int, Input]]:
    """Read a copy of a node on leaves of its own; constants stay where ``literal``."""
    leaves = {k: Input() for k, kind in enumerate(kinds) if kind < FIRST_CONSTANT or not literal}
    hyperparameters = {name: getattr(node, name) for name in spec_of(node).hyperparameters}
    make: Any = type(node)
    mine: Node = make(*[leaves.get(k, given) for k, given in enumerate(inputs)], **hyperparameters)
    builder = Builder()
    values: dict[Node, Value] = {
        leaf: builder.input((), np.bool_ if kinds[k] == TRUTH else dtype)
        for k, leaf in leaves.items()
    }
    return GraphReader(_QuietGraph(mine), builder, values, training=False), mine, leaves


class _Program:
    """Values of a lowered program as steps on single numbers."""

    def __init__(self, known: dict[Value, Operand], dtype: Dtype) -> None:
        self.known = known
        self.dtype = dtype
        self.steps: list[Step] = []

    def operand(self, root: Value) -> Operand:
        """Return where a value is found, after steps that compute it from what is known."""
        stack = [root]
        while stack:
            value = stack[-1]
            missing = [arg for arg in value.args if arg not in self.known]
            if value in self.known or not missing:
                stack.pop()
                if value not in self.known:
                    self.known[value] = self._computed(value)
            else:
                stack.extend(reversed(missing))
        return self.known[root]

    def _computed(self, value: Value) -> Operand:
        kind = self._kind(value)
        if value.op == "literal":
            return Operand("literal", number=float(value.attributes["value"]))
        if value.op not in ELEMENTWISE:
            raise CannotLower(f"{value.op} is no elementwise instruction")
        kinds = "".join([self._kind(arg) for arg in value.args])
        operands = tuple([self.known[arg] for arg in value.args])
        if value.op == "cast" and kinds == "b":
            return operands[0]  # truth values are 0 and 1 already
        self.steps.append(Step((value.op, kinds, kind), operands))
        return Operand("step", len(self.steps) - 1)

    def _kind(self, value: Value) -> str:
        if value.shape:
            raise CannotLower(f"it makes an array of shape {value.shape}")
        if value.dtype == np.bool_:
            return "b"
        if value.dtype != self.dtype:
            raise CannotLower(f"it makes a number of {value.dtype}")
        return "f"
