"""Lowering a training step: forward, backward and the optimizer's update as one program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from mfcore import Graph, Node
from mfcore.errors import NotTraceableError
from mfcore.optimizer import OptimizerSpec, OptimizerState, optimizer_spec
from mfcore.sorting import topological
from mfcore.values import float_dtype
from mfjit.builder import Builder
from mfjit.errors import CannotLower
from mfjit.ir import ELEMENTWISE, LEAVES, VIEWS, Lowered, Value
from mfjit.lowering import GraphReader, Kind, OperationReader
from mfjit.parameters import FlatParameters
from mfjit.reading import Setting, Specialise, Traced


def lower_outputs(
    graph: Graph, kinds: Sequence[Kind], outputs: Sequence[Node]
) -> tuple[Lowered, FlatParameters]:
    """Return the program that computes nodes of a graph, for inference.

    Parameters
    ----------
    graph : Graph
        What they are part of.
    kinds : sequence of (shape, dtype)
        What is fed, by input of the graph.
    outputs : sequence of Node
        What is wanted.

    Raises
    ------
    CannotLower
        If an operation cannot be read.
    """
    builder = Builder()
    flat = FlatParameters(graph)
    reader = _reader(graph, builder, kinds, flat, training=False)
    return builder.finish([reader.value(node) for node in outputs]), flat


def lower_run(graph: Graph, kinds: Sequence[Kind], training: bool) -> Lowered:
    """Return the program of a run: from all inputs, then all parameters, to the outputs."""
    reader = _reader_of_leaves(graph, Builder(), kinds, training)
    return reader.builder.finish([reader.value(node) for node in graph.outputs])


def lower_gradients(
    graph: Graph, kinds: Sequence[Kind], training: bool, of: int, wrt: Sequence[int]
) -> tuple[Lowered, list[bool]]:
    """Return the program of gradients, and which of them there are.

    Its inputs are those of a run, and the gradient of node ``of`` itself.
    """
    reader = _reader_of_leaves(graph, Builder(), kinds, training)
    node = graph.nodes[of]
    value = reader.value(node)
    seed = reader.builder.input(value.shape, float_dtype(value.dtype), "gradient")
    gradients = reader.gradients(node, [graph.nodes[i] for i in wrt], seed)
    there = [gradient is not None for gradient in gradients]
    return reader.builder.finish([g for g in gradients if g is not None]), there


def _reader_of_leaves(
    graph: Graph, builder: Builder, kinds: Sequence[Kind], training: bool
) -> GraphReader:
    nodes: tuple[Node, ...] = (*graph.inputs, *graph.parameters)
    leaves = {
        node: builder.input(shape, dtype, graph.name(node))
        for node, (shape, dtype) in zip(nodes, kinds, strict=True)
    }
    return GraphReader(graph, builder, leaves, training)


def _reader(
    graph: Graph, builder: Builder, kinds: Sequence[Kind], flat: FlatParameters, training: bool
) -> GraphReader:
    leaves: dict[Node, Value] = {
        node: builder.input(shape, dtype, graph.name(node))
        for node, (shape, dtype) in zip(graph.inputs, kinds, strict=True)
    }
    values = flat.values(builder, flat.leaves(builder))
    leaves.update(zip(graph.parameters, values, strict=True))
    return GraphReader(graph, builder, leaves, training)


@attrs.define(eq=False)
class TrainingProgram:
    """A training step as a program; its first output is the cost.

    Attributes
    ----------
    lowered : Lowered
        The program. Where ``updated`` is false its further outputs are the gradients of the
        trained flat arrays, and the optimizer has to be applied by the caller.
    flat : FlatParameters
        Where the parameters are.
    states : list of (flat, parameter or None, index)
        What each state leaf belongs to: the ``index``-th array of an optimizer's state of a
        parameter, or of all parameters of a flat array.
    settings : tuple of str
        What is given at each step: ``"step"``, and names of hyperparameters.
    updated : bool
        Whether the program updates the parameters itself.
    reason : str
        Why it does not.
    fallible : bool
        Whether a step can fail for what its inputs hold.
    """

    lowered: Lowered
    flat: FlatParameters
    states: list[tuple[int, int | None, int]]
    settings: tuple[str, ...]
    updated: bool
    reason: str = ""

    fallible: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        failing = ("one_hot", "take", "take_add")
        self.fallible = any(value.op in failing for value in self.lowered.values)


def lower_training(
    graph: Graph,
    kinds: Sequence[Kind],
    cost: Node,
    optimizer: Any,
    *,
    fixed: bool,
    kept: frozenset[Node] | None = None,
) -> TrainingProgram:
    """Return a training step as a program.

    Parameters
    ----------
    graph, kinds
        As for ``lower_outputs``.
    cost : Node
        What to make small.
    optimizer : optimizer
        Its ``update`` becomes part of the program where it can be read.
    fixed : bool
        Whether hyperparameters that do not change are numbers in the program (fewer
        instructions), or given at each step (one program for all of their values).
    kept : set of Node, optional
        Whose values alone are kept for the backward pass; by default all.

    Raises
    ------
    CannotLower
        If an operation cannot be read.
    """
    spec = optimizer_spec(optimizer)
    step = _Step(graph, kinds, cost, kept)
    return _specialised(
        spec,
        optimizer,
        fixed,
        lambda literal: _lowered(step, spec, optimizer, literal),
        lambda reason: _gradients_only(step, reason),
    )


def lower_update(flat: FlatParameters, optimizer: Any) -> TrainingProgram:
    """Return an optimizer's update alone, as a program from gradients of the trained flat arrays.

    An update that does not treat all elements alike cannot be done to many parameters in one
    array: its program is empty, and ``updated`` false.
    """
    spec = optimizer_spec(optimizer)
    return _specialised(
        spec,
        optimizer,
        True,
        lambda literal: _lowered_update(flat, spec, optimizer, literal),
        lambda reason: _no_update(flat, reason),
    )


def _specialised(
    spec: OptimizerSpec,
    optimizer: Any,
    fixed: bool,
    lower: Callable[[set[str]], TrainingProgram],
    otherwise: Callable[[str], TrainingProgram],
) -> TrainingProgram:
    """Lower an update with as few hyperparameters as numbers in it as can be."""
    literal = {
        name
        for name in spec.hyperparameters
        if not _is_number(getattr(optimizer, name)) or fixed
        if not callable(getattr(optimizer, name))
    }
    for _ in range(len(spec.hyperparameters) + 2):
        try:
            return lower(literal)
        except Specialise as special:
            if special.name == "step" or callable(getattr(optimizer, special.name)):
                return otherwise(f"update of {spec.name} branches on {special.name}")
            literal.add(special.name)
        except _UnreadableUpdate as error:
            return otherwise(str(error))
    raise AssertionError("every hyperparameter is a number by now")


class _UnreadableUpdate(Exception):
    """An optimizer's update has to run as it is."""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _unreached(graph: Graph, cost: Node) -> frozenset[Node]:
    """Return the parameters that the cost does not depend on."""
    needed = set(topological((cost,)))  # a Graph would be announced to who listens to sorts
    return frozenset(node for node in graph.parameters if node not in needed)


@attrs.frozen(eq=False)
class _Step:
    """A training step but for its update: what to make small, and how."""

    graph: Graph
    kinds: Sequence[Kind]
    cost: Node
    kept: frozenset[Node] | None

    def emit(self) -> tuple[GraphReader, FlatParameters, list[Value | None]]:
        """Emit forward and backward; parameters that no gradient reaches are kept apart."""
        graph, cost = self.graph, self.cost
        still = _unreached(graph, cost)
        while True:
            builder = Builder()
            flat = FlatParameters(graph, still)
            reader = _reader(graph, builder, self.kinds, flat, training=True)
            if reader.value(cost).size != 1:
                raise CannotLower(f"{graph.describe(cost)} is no scalar")
            gradients = reader.gradients(cost, graph.parameters, kept=self.kept)
            reached = zip(graph.parameters, gradients, strict=True)
            more = still | {node for node, gradient in reached if gradient is None}
            if more == still:
                return reader, flat, gradients
            still = more


def _flat_gradients(
    b: Builder, flat: FlatParameters, gradients: Sequence[Value | None]
) -> dict[int, Value]:
    found = {}
    for i in flat.trained:
        parts = [gradients[k] for k in flat.members(i)]
        assert all(part is not None for part in parts)
        found[i] = b.concatenate([b.reshape(part, (-1,)) for part in parts if part is not None])
    return found


def _gradients_only(step: _Step, reason: str) -> TrainingProgram:
    reader, flat, gradients = step.emit()
    b = reader.builder
    outputs = [b.reshape(reader.value(step.cost), ())]
    outputs += _flat_gradients(b, flat, gradients).values()
    return TrainingProgram(b.finish(outputs), flat, [], (), updated=False, reason=reason)


def _lowered(
    step: _Step, spec: OptimizerSpec, optimizer: Any, literal: set[str]
) -> TrainingProgram:
    reader, flat, gradients = step.emit()
    b = reader.builder
    b.origin = f"update of {spec.name}"
    given, settings = _settings(reader, spec, optimizer, literal)
    states: list[tuple[int, int | None, int]] = []
    updates: list[tuple[Value, Value]] = []
    for i, gradient in _flat_gradients(b, flat, gradients).items():
        leaf = b.leaves["parameter"][i]
        whole = _update_of_all(reader, spec, optimizer, given, leaf, gradient)
        if whole is not None:
            states += [(i, None, k) for k in range(len(whole) - 1)]
            updates += whole
            continue
        news = []
        for k in flat.members(i):
            own = flat.parts[k].emit(b, leaf)
            sent = gradients[k]
            assert sent is not None
            first = initial_state(spec, optimizer, step.graph.parameters[k].value)
            new, state = _update(reader, spec, given, own, sent, first)
            states += [(i, k, j) for j in range(len(first))]
            updates += state
            news.append(b.reshape(new, (-1,)))
        updates.append((leaf, b.concatenate(news)))
    lowered = b.finish([b.reshape(reader.value(step.cost), ())], updates)
    return TrainingProgram(lowered, flat, states, settings, updated=True)


def _lowered_update(
    flat: FlatParameters, spec: OptimizerSpec, optimizer: Any, literal: set[str]
) -> TrainingProgram:
    b = Builder()
    b.origin = f"update of {spec.name}"
    reader = OperationReader(b)
    leaves = flat.leaves(b)
    given, settings = _settings(reader, spec, optimizer, literal)
    states: list[tuple[int, int | None, int]] = []
    updates: list[tuple[Value, Value]] = []
    for i in flat.trained:
        gradient = b.input(leaves[i].shape, leaves[i].dtype, "gradient")
        whole = _update_of_all(reader, spec, optimizer, given, leaves[i], gradient)
        if whole is None:
            return _no_update(flat, f"update of {spec.name} does not treat all elements alike")
        states += [(i, None, k) for k in range(len(whole) - 1)]
        updates += whole
    return TrainingProgram(b.finish([], updates), flat, states, settings, updated=True)


def _no_update(flat: FlatParameters, reason: str) -> TrainingProgram:
    return TrainingProgram(Builder().finish([]), flat, [], (), updated=False, reason=reason)


def _settings(
    reader: OperationReader, spec: OptimizerSpec, optimizer: Any, literal: set[str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what an update is given by name, and the names of what changes from step to step."""
    b = reader.builder
    names = [name for name in spec.hyperparameters if name not in literal]
    names = [name for name in names if name in spec.update_asks]
    given: dict[str, Any] = {name: getattr(optimizer, name) for name in literal}
    settings = (["step"] if "step" in spec.update_asks else []) + names
    for name in settings:
        given[name] = Setting(name, b.leaf("setting", (), np.float64, name), b, reader.read)
    return given, tuple(settings)


def _update_of_all(
    reader: OperationReader,
    spec: OptimizerSpec,
    optimizer: Any,
    given: dict[str, Any],
    leaf: Value,
    gradient: Value,
) -> list[tuple[Value, Value]] | None:
    """Emit the update of a flat array as if it were one parameter; ``None`` where it is not."""
    b = reader.builder
    whole = initial_state(spec, optimizer, np.empty(leaf.shape, leaf.dtype))
    if any(array.shape != leaf.shape for array in whole):
        return None
    before = len(b.leaves["state"])
    new, state = _update(reader, spec, given, leaf, gradient, whole)
    if all(_is_elementwise(x, leaf) for x in (new, *(after for _, after in state))):
        return [(leaf, new), *state]
    del b.leaves["state"][before:]
    return None


def initial_state(spec: OptimizerSpec, optimizer: Any, parameter: Any) -> OptimizerState:
    """Return the state of a parameter before its first update, as arrays."""
    return tuple(map(np.asarray, spec.initial_state(optimizer, parameter)))


def _update(
    reader: OperationReader,
    spec: OptimizerSpec,
    given: dict[str, Any],
    parameter: Value,
    gradient: Value,
    state: OptimizerState,
) -> tuple[Value, list[tuple[Value, Value]]]:
    """Emit the update of one parameter; return its new value, and those of its state."""
    b = reader.builder
    leaves = [b.leaf("state", array.shape, array.dtype, "state") for array in state]
    arguments = {
        **given,
        "parameter": reader.traced(parameter),
        "gradient": reader.traced(gradient),
        "state": tuple([reader.traced(leaf) for leaf in leaves]),
    }
    positional = [arguments[n] for n in spec.update_asks if n not in spec.update_keywords]
    named = {n: arguments[n] for n in spec.update_asks if n in spec.update_keywords}
    try:
        returned = spec.update(*positional, **named)
    except (Specialise, CannotLower):
        raise
    except (NotTraceableError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise _UnreadableUpdate(f"update of {spec.name} cannot be read: {error}") from error
    new, after = returned if spec.init else (returned, ())
    if not isinstance(new, Traced) or new.shape != parameter.shape or len(after) != len(leaves):
        raise _UnreadableUpdate(f"update of {spec.name} returned another shape or state")
    pairs = []
    for leaf, changed in zip(leaves, after, strict=True):
        value = changed.value if isinstance(changed, Traced) else b.value(changed)
        if value.shape != leaf.shape:
            raise _UnreadableUpdate(f"update of {spec.name} changed the shape of its state")
        pairs.append((leaf, b.cast(value, leaf.dtype)))
    if any(value.op == "call" for value in (new.value, *(after for _, after in pairs))):
        raise _UnreadableUpdate(f"update of {spec.name} calls what has no instruction")
    return b.cast(new.value, parameter.dtype), pairs


def _is_elementwise(value: Value, leaf: Value) -> bool:
    """Whether each element of an update depends on the same element of what it updates only."""
    seen = set()
    stack = [value]
    while stack:
        value = stack.pop()
        if value in seen or value.op in LEAVES:
            continue
        seen.add(value)
        if value.shape not in ((), leaf.shape):
            continue  # the gradient's own way to its parts
        if value.op == "concatenate":
            continue
        if value.op not in ELEMENTWISE and value.op not in VIEWS:
            return False
        stack.extend(value.args)
    return True
