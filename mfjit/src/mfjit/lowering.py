"""Lowering: from a graph, its gradients and an optimizer's update to a program of primitives.

Each operation's own functions are read on traced values (see ``reading.py``). What cannot be
read becomes one ``call`` of the function as it is, where the shapes of its results can be
found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import numpy as np

from mfcore import Graph, Input, Node, Parameter
from mfcore.errors import NotDifferentiableError, NotTraceableError
from mfcore.node import Constant
from mfcore.operation import OperationSpec, spec_of
from mfcore.values import float_dtype
from mfjit.builder import Builder
from mfjit.errors import CannotLower
from mfjit.functions import Slot, emit_call
from mfjit.ir import Shape, Value
from mfjit.primitives import PRIMITIVES
from mfjit.reading import Traced, TracedGenerator
from mfjit.recomputing import Recomputing
from mfjit.unread import BackwardCall, ForwardCall

Kind: TypeAlias = tuple[Shape, np.dtype[Any]]
"""Shape and dtype of an array."""


class OperationReader:
    """Reads operations that are applied to values of a program.

    Parameters
    ----------
    builder : Builder
        Where they are emitted.
    """

    def __init__(self, builder: Builder) -> None:
        self.builder = builder

    def traced(self, value: Value) -> Traced:
        """Return a value of the program as code can read it."""
        return Traced(value, self.builder, self.read)

    def read(self, operation: Any, inputs: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
        """Read an operation that another one applies: ``apply`` on traced values."""
        spec = spec_of(operation)
        rule = PRIMITIVES.get(operation.qualified_name())
        fields = {
            f.name: f.default for f in attrs.fields(operation) if f.name in spec.hyperparameters
        }
        for name, default in fields.items():
            if name not in given:
                given = {**given, name: default}
        if rule is not None:
            return self._primitive(rule, inputs, given)
        result = spec.call_forward({**given, **spec.named_inputs(inputs)})
        return result[0] if spec.saves else result

    def _primitive(self, rule: Any, inputs: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
        builder = self.builder
        values = [x.value if isinstance(x, Traced) else builder.value(x) for x in inputs]
        return self.traced(rule(builder, *values, **given))


class GraphReader(OperationReader):
    """Reads a graph, and its gradients, into one program.

    Parameters
    ----------
    graph : Graph
        What to read.
    builder : Builder
        Where it is emitted.
    leaves : mapping
        For each input and parameter of the graph, its value in the program.
    training : bool
        What operations that ask for ``training`` are told.
    """

    def __init__(
        self, graph: Graph, builder: Builder, leaves: Mapping[Node, Value], training: bool
    ) -> None:
        super().__init__(builder)
        self.graph = graph
        self.training = training
        self._rng = TracedGenerator(builder, self.read)
        self._given: list[dict[str, Any]] = [{} for _ in graph.nodes]
        self._called: dict[int, str] = {}
        self.values: list[Any] = [None] * len(graph)
        for position, node in enumerate(graph.nodes):
            if isinstance(node, (Input, Parameter)):
                self.values[position] = self.traced(leaves[node])
            elif isinstance(node, Constant):
                self.values[position] = node.value
            else:
                builder.origin = graph.name(node)
                builder.where = f"forward of {graph.describe(node)}"
                self.values[position] = self._forward(position, node)

    def value(self, node: Node) -> Value:
        """Return what a node is in the program."""
        found = self.values[self.graph.position(node)]
        return found.value if isinstance(found, Traced) else self.builder.value(found)

    # Forward

    def _forward(self, position: int, node: Node) -> Traced:
        spec = spec_of(node)
        given = self._given[position] = self.arguments(node, spec, self.values)
        return self.forward(position, node, given)

    def forward(self, position: int, node: Node, given: dict[str, Any]) -> Traced:
        """Emit an operation; complete what its ``backward`` may ask for."""
        spec = spec_of(node)
        rule = PRIMITIVES.get(node.qualified_name())
        result: Any
        try:
            if rule is not None:
                hyperparameters = {name: given[name] for name in spec.hyperparameters}
                result = self._primitive(rule, self._inputs(spec, given), hyperparameters)
            elif spec.saves:
                result, given["saved"] = spec.call_forward(given)
            else:
                result = spec.call_forward(given)
        except Exception as error:
            result = self._call_forward(position, node, spec, given, error)
        value = given["value"] = self._as_traced(result)
        return value

    def _as_traced(self, value: Any) -> Traced:
        return value if isinstance(value, Traced) else self.traced(self.builder.value(value))

    def arguments(
        self, node: Node, spec: OperationSpec, values: Sequence[Any] | Mapping[int, Any]
    ) -> dict[str, Any]:
        """Return what an operation's functions may ask for, by name.

        A Python number stays one only beside an array that it is broadcast against, as in the
        reference engine. ``values`` are those of all nodes, by position.
        """
        sources = [values[self.graph.position(source)] for source in node.inputs]
        constant = [not isinstance(x, Traced) for x in sources]
        if not spec.keeps_numbers(constant):
            sources = [
                self._as_traced(np.asarray(x) if c else x) for x, c in zip(sources, constant)
            ]
        given: dict[str, Any] = {n: getattr(node, n) for n in spec.hyperparameters}
        given.update(spec.named_inputs(sources))
        if "saved_of_result" in spec.forward_asks:
            result = self.graph.position(node.inputs[spec.inputs.index("result")])
            about = self._given[result]  # a gradient of a gradient passes on what it was given
            given["saved_of_result"] = about.get("saved", about.get("saved_of_result"))
        return {**given, "training": self.training, "rng": self._rng}

    def _inputs(self, spec: OperationSpec, given: Mapping[str, Any]) -> tuple[Any, ...]:
        inputs = [given[name] for name in spec.inputs]
        return (*inputs[:-1], *inputs[-1]) if spec.variadic else tuple(inputs)

    def given_to(self, position: int) -> dict[str, Any]:
        """Return what an operation's ``backward`` may ask for, as the forward pass left it."""
        return self._given[position]

    # Gradients

    def gradients(
        self,
        of: Node,
        wrt: Sequence[Node],
        seed: Value | None = None,
        kept: frozenset[Node] | None = None,
    ) -> list[Value | None]:
        """Emit the gradients of a node; ``None`` for a node that none reaches.

        The same walk, in the same order, as the reference engine's. ``seed`` is the gradient
        of ``of`` itself; by default 1. With ``kept``, the values of these nodes alone are
        kept for it, and all others computed again (see ``recomputing.py``).
        """
        graph, builder = self.graph, self.builder
        targets = {graph.position(node) for node in wrt}
        start = graph.position(of)
        needed = [False] * len(graph)
        for i, node in enumerate(graph.nodes):
            needed[i] = i in targets or any(needed[graph.position(s)] for s in node.inputs)
        if seed is None:
            value = self.value(of)
            one = builder.literal(1, float_dtype(value.dtype))
            seed = builder.broadcast_to(one, value.shape)
        found: dict[int, Traced] = {start: self.traced(seed)} if needed[start] else {}
        again = None if kept is None else Recomputing(self, of, kept)
        for i in range(start, -1, -1):
            node = graph.nodes[i]
            if i not in found or node.__operation__ is None:
                continue
            sources = [graph.position(source) for source in node.inputs]
            flags = [needed[s] for s in sources]
            if not any(flags):
                continue
            builder.origin = f"backward of {graph.name(node)}"
            builder.where = f"backward of {graph.describe(node)}"
            given = self._given[i] if again is None else again.given(i, found[i])
            for source, gradient in self._backward(i, node, given, found[i], sources, flags):
                found[source] = found[source] + gradient if source in found else gradient
        return [
            found[position].value if (position := graph.position(node)) in found else None
            for node in wrt
        ]

    def _backward(
        self,
        i: int,
        node: Node,
        given: dict[str, Any],
        grad: Traced,
        sources: list[int],
        flags: list[bool],
    ) -> list[tuple[int, Traced]]:
        spec = spec_of(node)
        if spec.backward is None:
            raise NotDifferentiableError(
                f"{self.graph.describe(node)} has no backward: no gradient passes through it"
            )
        given = {**given, "grad": grad, "wanted": spec.wanted(flags)}
        try:
            if i in self._called and ("saved" in spec.backward_asks):
                raise NotTraceableError(self._called[i])
            returned = spec.call_backward(given)
        except Exception as error:
            returned = self._call_backward(node, spec, given, error)
        gradients = returned if isinstance(returned, (tuple, list)) else (returned,)
        if len(gradients) != len(sources):
            raise CannotLower(f"backward of {self.graph.describe(node)} returned {len(gradients)}")
        broadcasts = [name in spec.broadcasts for name in spec.inputs]
        broadcasts += broadcasts[-1:] * (len(sources) - len(broadcasts))
        sent = []
        for source, flag, gradient, summed in zip(
            sources, flags, gradients, broadcasts, strict=True
        ):
            if flag and gradient is not None:
                target = self.value(self.graph.nodes[source])
                sent.append((source, self._fitted(gradient, target, summed, node)))
        return sent

    def _fitted(self, gradient: Any, target: Value, summed: bool, node: Node) -> Traced:
        """Return a gradient in the shape and dtype of the value it belongs to."""
        builder = self.builder
        value = self._as_traced(gradient).value
        if value.shape != target.shape:
            if not summed:
                raise CannotLower(
                    f"backward of {self.graph.describe(node)} returned a gradient of shape "
                    f"{value.shape} for an input of shape {target.shape}"
                )
            value = unbroadcast(builder, value, target.shape)
        if target.dtype.kind == "f":
            value = builder.cast(value, target.dtype)
        return self.traced(value)

    # Operations that cannot be read

    def _call_forward(
        self,
        position: int,
        node: Node,
        spec: OperationSpec,
        given: dict[str, Any],
        error: Exception,
    ) -> Traced:
        if "rng" in spec.forward_asks:
            raise self._unreadable(node, "forward", error) from error
        self._called[position] = str(error)
        value: Traced = self._emit(node, ForwardCall(spec), given, error)
        return value

    def _call_backward(
        self, node: Node, spec: OperationSpec, given: dict[str, Any], error: Exception
    ) -> Any:
        if "rng" in spec.forward_asks and "saved" in spec.backward_asks:
            raise self._unreadable(node, "backward", error) from error
        given = {k: v for k, v in given.items() if k != "saved"}
        call = BackwardCall(spec, tuple(given["wanted"]))
        returned = self._emit(node, call, given, error)
        parts = iter(returned if isinstance(returned, tuple) else (returned,))
        return tuple([next(parts) if there else None for there in call.there])

    def _emit(self, node: Node, call: Any, given: Mapping[str, Any], error: Exception) -> Any:
        values: list[Value] = []
        names: list[tuple[str, int | None]] = []
        fixed: dict[str, Any] = {}
        for name, argument in given.items():
            if isinstance(argument, tuple) and any(isinstance(x, Traced) for x in argument):
                for x in argument:
                    names.append((name, len(argument)))
                    values.append(self._as_traced(x).value)
            elif isinstance(argument, Traced):
                names.append((name, None))
                values.append(argument.value)
            elif name != "rng":
                fixed[name] = argument
        call.names, call.fixed = names, fixed
        slots = tuple([Slot(k) for k in range(len(values))])
        try:
            why = str(self._unreadable(node, call.which, error))
            result = emit_call(self.builder, call, (slots, {}), values, why)
        except Exception:
            raise self._unreadable(node, call.which, error) from error
        if isinstance(result, tuple):
            return tuple([self.traced(part) for part in result])
        return self.traced(result)

    def _unreadable(self, node: Node, function: str, error: Exception) -> CannotLower:
        return CannotLower(f"{function} of {self.graph.describe(node)} cannot be compiled: {error}")


def unbroadcast(b: Builder, gradient: Value, shape: Shape) -> Value:
    """Sum a gradient over the axes along which an input of ``shape`` was broadcast."""
    added = gradient.ndim - len(shape)
    if added < 0 or any(
        want not in (1, have) for want, have in zip(shape, gradient.shape[added:], strict=True)
    ):
        raise CannotLower(f"a gradient of shape {gradient.shape} does not sum to {shape}")
    axes = [
        axis
        for axis, size in enumerate(gradient.shape)
        if axis < added or (shape[axis - added] == 1 and size != 1)
    ]
    summed = b.reduce("sum", gradient, axes, gradient.dtype) if axes else gradient
    return b.reshape(summed, shape)
