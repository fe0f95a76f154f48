"""The reference engine: runs each operation's own functions, one after the other.

It turns a graph into a list of steps over one flat memory. Every value, gradient,
hyperparameter and saved result has a slot; a step is a function, the slots of its
arguments and the slot of its result. There is nothing else to run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mfcore.engine import Engine, Memory, Program
from mfcore.errors import (
    BackwardError,
    ForwardError,
    NodeUseError,
    NotDifferentiableError,
    type_name,
)
from mfcore.graph import Graph, collector_paused
from mfcore.node import Array, Constant, Node, as_array
from mfcore.operation import spec_of

if TYPE_CHECKING:
    from mfcore.operation import OperationSpec
    from mfcore.plugins import Observers
    from mfcore.run import Run


class ReferenceEngine(Engine):
    """Runs each operation's own functions, one after the other: the readable truth."""

    name = "reference"

    def compile(self, graph: Graph) -> ReferenceProgram:
        return ReferenceProgram(graph)


_ForwardStep: TypeAlias = tuple[Callable[..., Any], Callable[[Memory], Any], int, int | None]
"""A function, what reads its arguments from memory, the slots of its result and of ``saved``."""

_BackwardStep: TypeAlias = tuple[
    int, Callable[..., Any] | None, Callable[[Memory], Any], int, tuple[tuple[int, int, bool], ...]
]
"""Position of the node, its function, what reads its arguments, the number of its inputs, and
for each gradient that is wanted: which one, the position of its node, whether to un-broadcast."""


class ReferenceProgram(Program):
    """A graph as steps over a flat memory.

    Memory layout: values of all nodes, gradients of all nodes, then the random generator,
    the training flag, and one slot for each literal (hyperparameters, saved results).
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        count = len(graph)
        self._count = count
        self._rng, self._training = 2 * count, 2 * count + 1
        self._memory: Memory = [None] * (2 * count + 2)
        self._plans: dict[tuple[int, tuple[int, ...]], list[_BackwardStep]] = {}
        self._saved: dict[int, int] = {}
        self._literals: dict[int, dict[str, int]] = {}
        self._adapters: dict[tuple[Callable[..., Any], int], Callable[..., Any]] = {}
        self._steps: list[_ForwardStep] = []
        self._verified = False
        self._constants: set[int] = set()
        with collector_paused():
            for i, node in enumerate(graph.nodes):
                if isinstance(node, Constant):
                    self._memory[i] = node.value
                    self._constants.add(i)
                elif node.__operation__ is not None:
                    self._add_step(i, node)

    # Building the steps

    def _literal(self, value: Any) -> int:
        self._memory.append(value)
        return len(self._memory) - 1

    def _sources(self, node: Node) -> tuple[int, ...]:
        """Slots of a node's inputs.

        A Python number stays one only beside an array that it is broadcast against and whose
        dtype it adapts to; other operations get it as a NumPy scalar, with shape and dtype.
        """
        index = self.graph._index
        slots = tuple([index[source] for source in node.inputs])
        constants = self._constants
        if constants.isdisjoint(slots):
            return slots
        if spec_of(node).broadcasts and not constants.issuperset(slots):
            return slots
        return tuple(
            self._literal(np.asarray(self._memory[slot])[()]) if slot in constants else slot
            for slot in slots
        )

    def _add_step(self, i: int, node: Node) -> None:
        spec = spec_of(node)
        if spec.hyperparameters:
            self._literals[i] = {n: self._literal(getattr(node, n)) for n in spec.hyperparameters}
        saved = None
        if spec.saves:
            saved = self._saved[i] = self._literal(None)
        sources = self._sources(node)
        slots = self._slots(spec.forward_asks, i, node, sources, {})
        call = self._flat(
            spec.forward, spec.forward_asks, spec.forward_keywords, spec, len(sources)
        )
        self._steps.append((call, _gather(slots), i, saved))

    def _slots(
        self,
        asks: Sequence[str],
        i: int,
        node: Node,
        sources: tuple[int, ...],
        extra: Mapping[str, int],
    ) -> list[int]:
        """Slots of the arguments that a function asks for, a variadic input spread out."""
        spec = spec_of(node)
        last = len(spec.inputs) - 1 if spec.variadic else -1
        slots: list[int] = []
        for name in asks:
            if name in extra:
                slots.append(extra[name])
            elif name in spec.inputs:
                k = spec.inputs.index(name)
                slots.extend(sources[k:] if k == last else sources[k : k + 1])
            elif name == "rng":
                slots.append(self._rng)
            elif name == "training":
                slots.append(self._training)
            else:
                slots.append(self._literals[i][name])
        return slots

    def _flat(
        self,
        function: Callable[..., Any],
        asks: tuple[str, ...],
        keywords: frozenset[str],
        spec: OperationSpec,
        count: int,
    ) -> Callable[..., Any]:
        """Return the function as one that takes everything it asks for positionally, spread out."""
        star = bool(function.__code__.co_flags & 0x04)
        grouped = (
            spec.inputs[-1] if spec.variadic and spec.inputs[-1] in asks and not star else None
        )
        if not keywords and grouped is None:
            return function
        if (function, count) not in self._adapters:
            self._adapters[function, count] = _adapter(
                function,
                asks,
                keywords,
                grouped,
                count - len(spec.inputs) + 1 if spec.variadic else 0,
            )
        return self._adapters[function, count]

    def _plan(self, of: int, wrt: tuple[int, ...]) -> list[_BackwardStep]:
        """Plan a backward pass: only what leads from ``of`` to ``wrt`` is computed."""
        if (of, wrt) not in self._plans:
            with collector_paused():
                self._plans[of, wrt] = self._new_plan(of, wrt)
        return self._plans[of, wrt]

    def _new_plan(self, of: int, wrt: tuple[int, ...]) -> list[_BackwardStep]:
        nodes, index, targets = self.graph.nodes, self.graph._index, set(wrt)
        needed = [False] * self._count
        for i, node in enumerate(nodes):
            needed[i] = i in targets or any(needed[index[source]] for source in node.inputs)
        reached = {of} if needed[of] else set()
        steps = []
        for i in range(of, -1, -1):
            if i not in reached or nodes[i].__operation__ is None:
                continue
            sources = tuple([index[source] for source in nodes[i].inputs])
            flags = [needed[source] for source in sources]
            if any(flags):
                reached.update([s for s, flag in zip(sources, flags, strict=True) if flag])
                steps.append(self._backward_step(i, nodes[i], sources, flags))
        return steps

    def _backward_step(
        self, i: int, node: Node, sources: tuple[int, ...], flags: list[bool]
    ) -> _BackwardStep:
        spec, count = spec_of(node), len(sources)
        broadcasts = [name in spec.broadcasts for name in spec.inputs]
        broadcasts += broadcasts[-1:] * (count - len(broadcasts))
        targets = tuple(
            [
                (k, s, b)
                for k, (s, b) in enumerate(zip(sources, broadcasts, strict=True))
                if flags[k]
            ]
        )
        if spec.backward is None:
            return i, None, _gather([]), count, targets
        extra = {"grad": self._count + i, "value": i, "saved": self._saved.get(i, -1)}
        if "wanted" in spec.backward_asks:
            extra["wanted"] = self._literal(spec.wanted(flags))
        slots = self._slots(spec.backward_asks, i, node, sources, extra)
        call = self._flat(spec.backward, spec.backward_asks, spec.backward_keywords, spec, count)
        return i, call, _gather(slots), count, targets

    # Running them

    def new_memory(self, rng: np.random.Generator | None, training: bool) -> Memory:
        memory = self._memory.copy()
        memory[self._rng] = rng
        memory[self._training] = training
        return memory

    def forward(self, memory: Memory) -> None:
        result = -1
        try:
            for call, gather, result, saved in self._steps:
                if saved is None:
                    memory[result] = call(*gather(memory))
                else:
                    memory[result], memory[saved] = _pair(call(*gather(memory)))
        except Exception as error:
            raise self._forward_error(result, memory, error) from error
        if not self._verified:
            for _, _, i, _ in self._steps:
                self._verify(i, memory)
            self._verified = True

    def forward_observed(self, memory: Memory, observers: Observers, run: Run) -> None:
        steps = {result: (call, gather, saved) for call, gather, result, saved in self._steps}
        graph = self.graph
        for i, node in enumerate(graph.nodes):
            inputs = self._inputs(i, memory)
            if i in steps:
                call, gather, saved = steps[i]
                observers.fire("mf_forward_start", run=run, graph=graph, node=node, inputs=inputs)
                try:
                    if saved is None:
                        memory[i] = call(*gather(memory))
                    else:
                        memory[i], memory[saved] = _pair(call(*gather(memory)))
                except Exception as error:
                    raise self._forward_error(i, memory, error) from error
                self._verify(i, memory)
            observers.fire(
                "mf_forward_finish",
                run=run,
                graph=graph,
                node=node,
                inputs=inputs,
                value=_shown(memory[i]),
            )

    def backward(self, memory: Memory, of: int, wrt: Iterable[int], seed: Array) -> Memory:
        steps = self._plan(of, tuple(wrt))
        count = self._count
        memory = memory + self._memory[len(memory) :]
        memory[count + of] = seed
        i = of
        try:
            for i, call, gather, arity, targets in steps:
                if memory[count + i] is None:
                    continue
                if call is None:
                    raise self._not_differentiable(i)
                gradients = call(*gather(memory))
                if type(gradients) is not tuple or len(gradients) != arity:
                    gradients = self._checked_count(gradients, arity, i)
                for k, source, broadcasts in targets:
                    gradient = gradients[k]
                    if gradient is None:
                        continue
                    value = memory[source]
                    try:
                        fits = gradient.shape == value.shape and gradient.dtype is value.dtype
                    except AttributeError:  # a Python number or a list
                        fits = False
                    if not fits:
                        gradient = self._fitted(gradient, value, broadcasts, i, k)
                    sofar = memory[count + source]
                    memory[count + source] = gradient if sofar is None else sofar + gradient
        except (BackwardError, NotDifferentiableError):
            raise
        except Exception as error:
            raise self._backward_error(i, memory, error) from error
        return memory

    def backward_observed(
        self,
        memory: Memory,
        of: int,
        wrt: Iterable[int],
        seed: Array,
        observers: Observers,
        run: Run,
    ) -> Memory:
        graph, count = self.graph, self._count
        steps = {step[0]: step[1:] for step in self._plan(of, tuple(wrt))}
        memory = memory + self._memory[len(memory) :]
        memory[count + of] = seed
        received: dict[int, list[tuple[Node | None, Array]]] = {of: [(None, seed)]}
        for i in range(of, -1, -1):
            node, grad = graph.nodes[i], memory[count + i]
            if grad is None:
                continue
            observers.fire(
                "mf_backward_start",
                run=run,
                graph=graph,
                node=node,
                received=tuple(received.pop(i)),
                grad=grad,
            )
            if i not in steps:
                continue
            call, gather, arity, targets = steps[i]
            if call is None:
                raise self._not_differentiable(i)
            try:
                gradients = call(*gather(memory))
            except Exception as error:
                raise self._backward_error(i, memory, error) from error
            gradients = self._checked_count(gradients, arity, i)
            sent: dict[str, Array | None] = dict.fromkeys(spec_of(node).input_names(arity))
            names = tuple(sent)
            for k, source, broadcasts in targets:
                gradient = gradients[k]
                if gradient is None:
                    continue
                gradient = self._fitted(gradient, memory[source], broadcasts, i, k)
                sent[names[k]] = gradient
                received.setdefault(source, []).append((node, gradient))
                sofar = memory[count + source]
                memory[count + source] = gradient if sofar is None else sofar + gradient
            observers.fire(
                "mf_backward_finish", run=run, graph=graph, node=node, grad=grad, sent=sent
            )
        return memory

    def gradients(self, memory: Memory, positions: Iterable[int]) -> list[Array | None]:
        count = self._count
        return [memory[count + position] for position in positions]

    # Checking what operations return

    def _inputs(self, i: int, memory: Memory) -> dict[str, Array]:
        """Values of a node's inputs by field name."""
        node = self.graph.nodes[i]
        if node.__operation__ is None:
            return {}
        names = spec_of(node).input_names(len(node.inputs))
        index = self.graph._index
        return {n: _shown(memory[index[s]]) for n, s in zip(names, node.inputs, strict=True)}

    def _verify(self, i: int, memory: Memory) -> None:
        if not isinstance(memory[i], (np.ndarray, np.generic)):
            raise ForwardError(
                f"forward of {self._describe(i)} returned {type_name(memory[i])}, not a NumPy array"
            )

    def _checked_count(self, gradients: Any, arity: int, i: int) -> Any:
        if not isinstance(gradients, (tuple, list)):
            gradients = (gradients,)
        if len(gradients) != arity:
            raise BackwardError(
                f"backward of {self._describe(i)} returned {len(gradients)} gradients for "
                f"{arity} inputs: it must return one for each, None where there is none"
            )
        return gradients

    def _fitted(self, gradient: Any, value: Array, broadcasts: bool, i: int, k: int) -> Array:
        """Return a gradient in the shape and dtype of the value it belongs to."""
        try:
            gradient = as_array(gradient, "it")[()]
        except NodeUseError as error:
            raise BackwardError(
                f"backward of {self._describe(i)} returned {type_name(gradient)} as gradient for "
                f"its input {self._input_name(i, k)!r}: {error}"
            ) from None
        if gradient.shape != value.shape:
            summed = unbroadcast(gradient, value.shape) if broadcasts else None
            if summed is None:
                raise BackwardError(
                    f"backward of {self._describe(i)} returned a gradient of shape "
                    f"{gradient.shape} for its input {self._input_name(i, k)!r} "
                    f"of shape {value.shape}"
                )
            gradient = summed
        if value.dtype.kind == "f" and gradient.dtype != value.dtype:
            gradient = gradient.astype(value.dtype)
        return gradient  # type: ignore[no-any-return]

    # Errors that name the node

    def _describe(self, i: int) -> str:
        return self.graph.describe(self.graph.nodes[i])

    def _input_name(self, i: int, k: int) -> str:
        node = self.graph.nodes[i]
        return spec_of(node).input_names(len(node.inputs))[k]

    def _forward_error(self, i: int, memory: Memory, error: Exception) -> ForwardError:
        for source in self.graph.nodes[i].inputs:
            if source.__operation__ is not None:
                # An operation that returned no array is at fault, not the one that read it.
                self._verify(self.graph.position(source), memory)
        inputs = _summary(self._inputs(i, memory))
        return ForwardError(
            f"forward of {self._describe(i)} raised {type(error).__name__}: {error}\n"
            f"  its inputs: {inputs}"
        )

    def _backward_error(self, i: int, memory: Memory, error: Exception) -> BackwardError:
        inputs = _summary({"grad": memory[self._count + i], **self._inputs(i, memory)})
        return BackwardError(
            f"backward of {self._describe(i)} raised {type(error).__name__}: {error}\n"
            f"  what it was given: {inputs}"
        )

    def _not_differentiable(self, i: int) -> NotDifferentiableError:
        return NotDifferentiableError(
            f"{self._describe(i)} has no backward: no gradient passes through it"
        )


def unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array | None:
    """Sum a gradient over the axes along which an input of ``shape`` was broadcast.

    Returns ``None`` where ``shape`` does not broadcast to the gradient's shape.
    """
    added = gradient.ndim - len(shape)
    if added < 0:
        return None
    for mine, theirs in zip(gradient.shape[added:], shape, strict=True):
        if theirs not in (1, mine):
            return None
    stretched = tuple(
        added + axis
        for axis, size in enumerate(shape)
        if size == 1 and gradient.shape[added + axis] != 1
    )
    summed = gradient.sum(axis=(*range(added), *stretched), keepdims=True)
    return summed.reshape(shape)[()]  # type: ignore[no-any-return]


def _gather(slots: Sequence[int]) -> Callable[[Memory], Any]:
    """Return what reads the given slots of a memory, as a sequence."""
    if not slots:
        return _nothing
    if len(slots) == 1:
        return itemgetter(slice(slots[0], slots[0] + 1))
    return itemgetter(*slots)


def _shown(value: Any) -> Any:
    """Return a value as observers see it: the Python number of a constant as a NumPy scalar."""
    return np.asarray(value)[()] if type(value) in (bool, int, float) else value


def _pair(returned: Any) -> tuple[Any, Any]:
    if type(returned) is not tuple:
        raise TypeError("forward must return (value, saved), because backward asks for saved")
    return returned


def _nothing(_memory: Memory) -> tuple[()]:
    return ()


def _adapter(
    function: Callable[..., Any],
    asks: tuple[str, ...],
    keywords: frozenset[str],
    grouped: str | None,
    size: int,
) -> Callable[..., Any]:
    """Return a function of flat positional arguments that calls ``function`` as it is declared.

    ``grouped`` names a parameter that takes ``size`` of the arguments as one tuple.
    """
    if not keywords and asks[-1] == grouped and len(asks) == 2:
        return lambda first, *group: function(first, group)
    star = (
        function.__code__.co_varnames[
            function.__code__.co_argcount + function.__code__.co_kwonlyargcount
        ]
        if function.__code__.co_flags & 0x04
        else None
    )

    def call(*flat: Any) -> Any:
        rest = list(flat)
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for name in asks:
            if name == star:
                positional += [rest.pop(0) for _ in range(size)]
            elif name == grouped:
                positional.append(tuple([rest.pop(0) for _ in range(size)]))
            elif name in keywords:
                named[name] = rest.pop(0)
            else:
                positional.append(rest.pop(0))
        return function(*positional, **named)

    return call


def _summary(arrays: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_kind(value)}" for name, value in arrays.items())


def _kind(value: Any) -> str:
    if isinstance(value, (np.ndarray, np.generic)):
        return f"{value.dtype}{list(value.shape)}"
    return type_name(value)
