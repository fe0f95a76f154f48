"""The reference engine: runs each operation's own functions, one after the other.

It turns a graph into a list of steps over one flat memory. Every value, gradient,
hyperparameter and saved result has a slot; a step is a function, the slots of its
arguments and the slot of its result. There is nothing else to run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Never, TypeAlias

import numpy as np

from mfcore.calls import Call, gather
from mfcore.checks import Checks, shown
from mfcore.engine import Engine, Memory, Program
from mfcore.errors import (
    BackwardError,
    NotDifferentiableError,
)
from mfcore.graph import Graph, collector_paused
from mfcore.node import Array, Constant, Node
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


_ForwardStep: TypeAlias = tuple[Callable[..., Any], Any, Any, int]
"""A function, its arguments, and the slot of its result.

Most functions of large graphs take two arguments: these are then two slots, both integers.
Else they are what reads any number of arguments from memory, and the slot of ``saved`` or None.
"""

_BackwardStep: TypeAlias = tuple[int, Callable[..., Any], Any, Any, tuple[int, ...]]
"""The slot of a node's gradient, its function and the arguments as above, and for each input the
position of the node whose gradient it is, -1 where none is wanted."""


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
        self._literals: dict[int, tuple[int, ...]] = {}
        self._arguments: dict[int, tuple[int, ...]] = {}
        self._calls: dict[tuple[type[Node], int | bytes], Call] = {}
        self._checks = Checks(graph)
        self._verified = False
        self._constants: set[int] = set()
        self._steps: list[_ForwardStep] = []
        with collector_paused():
            for i, (node, sources) in enumerate(zip(graph.nodes, graph.sources, strict=True)):
                if node.__operation__ is not None:
                    self._steps.append(self._forward_step(i, node, node.__operation__, sources))
                elif isinstance(node, Constant):
                    self._memory[i] = node.value
                    self._constants.add(i)

    # Building the steps

    def _literal(self, value: Any) -> int:
        self._memory.append(value)
        return len(self._memory) - 1

    def _forward_step(
        self, i: int, node: Node, spec: OperationSpec, sources: tuple[int, ...]
    ) -> _ForwardStep:
        call = self._calls.get((type(node), len(sources)))
        if call is None:
            call = Call(spec, spec.forward, spec.forward_asks, spec.forward_keywords, len(sources))
            self._calls[type(node), len(sources)] = call
        if self._constants and not self._constants.isdisjoint(sources):
            sources = self._arguments[i] = self._with_literals(spec, sources)
        if call.takes_inputs_only and not spec.hyperparameters and not spec.saves:
            return call.function, *_arguments(sources), i
        if spec.hyperparameters:
            self._literals[i] = tuple(
                [self._literal(getattr(node, name)) for name in spec.hyperparameters]
            )
        saved = None
        if spec.saves:
            saved = self._saved[i] = self._literal(None)
        elif "saved_of_result" in spec.forward_asks:
            result = self.graph.sources[i][spec.inputs.index("result")]
            self._saved[i] = self._saved[result] if result in self._saved else self._literal(None)
        kept = self._saved.get(i, -1)
        frame = (-1, -1, kept, -1, self._rng, self._training, *self._literals.get(i, ()), *sources)
        slots = call.pick(frame)
        if saved is None:
            return call.function, *_arguments(slots), i
        return call.function, gather(slots), saved, i

    def _with_literals(self, spec: OperationSpec, sources: tuple[int, ...]) -> tuple[int, ...]:
        """Return the slots of inputs, some of which are constants.

        A Python number stays one only beside an array that it is broadcast against and whose
        dtype it adapts to; other operations get it as a NumPy scalar, with shape and dtype.
        """
        constants = self._constants
        if spec.broadcasts and not constants.issuperset(sources):
            return sources
        return tuple(
            self._literal(np.asarray(self._memory[slot])[()]) if slot in constants else slot
            for slot in sources
        )

    def _plan(self, of: int, wrt: tuple[int, ...]) -> list[_BackwardStep]:
        """Plan a backward pass: only what leads from ``of`` to ``wrt`` is computed."""
        plan = self._plans.get((of, wrt))
        if plan is None:
            with collector_paused():
                plan = self._plans[of, wrt] = self._new_plan(of, wrt)
        return plan

    def _new_plan(self, of: int, wrt: tuple[int, ...]) -> list[_BackwardStep]:
        nodes, sources = self.graph.nodes, self.graph.sources
        needed, reached = bytearray(self._count), bytearray(self._count)
        for i in wrt:
            needed[i] = True
        for i in range(of + 1):
            for source in sources[i]:
                if needed[source]:
                    needed[i] = True
                    break
        reached[of] = needed[of]
        steps = []
        for i in range(of, -1, -1):
            spec = nodes[i].__operation__
            if not reached[i] or spec is None:
                continue
            flags = bytes([needed[source] for source in sources[i]])
            if True in flags:
                for source in sources[i]:
                    reached[source] |= needed[source]
                steps.append(self._backward_step(i, nodes[i], spec, sources[i], flags))
        return steps

    def _backward_step(
        self, i: int, node: Node, spec: OperationSpec, sources: tuple[int, ...], flags: bytes
    ) -> _BackwardStep:
        targets = sources
        if False in flags:
            targets = tuple([s if flag else -1 for s, flag in zip(sources, flags, strict=True)])
        slot = self._count + i
        if spec.backward is None:
            return slot, partial(_not_differentiable, self.graph, i), slot, slot, targets
        call = self._calls.get((type(node), flags))
        if call is None:
            call = Call(
                spec, spec.backward, spec.backward_asks, spec.backward_keywords, len(sources)
            )
            if "wanted" in spec.backward_asks:
                call.wanted = self._literal(spec.wanted(map(bool, flags)))
            self._calls[type(node), flags] = call
        frame = (
            *(slot, i, self._saved.get(i, -1), call.wanted, self._rng, self._training),
            *self._literals.get(i, ()),
            *self._arguments.get(i, sources),
        )
        return slot, call.function, *_arguments(call.pick(frame)), targets

    # Running them

    def new_memory(self, rng: np.random.Generator | None, training: bool) -> Memory:
        memory = self._memory.copy()
        memory[self._rng] = rng
        memory[self._training] = training
        return memory

    def forward(self, memory: Memory) -> None:
        result = -1
        try:
            for call, first, second, result in self._steps:
                if type(first) is int:
                    memory[result] = call(memory[first], memory[second])
                elif second is None:
                    memory[result] = call(*first(memory))
                else:
                    memory[result], memory[second] = _pair(call(*first(memory)))
        except Exception as error:
            raise self._checks.forward_error(result, memory, error) from error
        if not self._verified:
            for step in self._steps:
                self._checks.verify(step[-1], memory)
            self._verified = True

    def forward_observed(self, memory: Memory, observers: Observers, run: Run) -> None:
        steps = {step[-1]: step for step in self._steps}
        graph = self.graph
        told = "run", "graph", "node", "inputs"
        start = observers.caller("mf_forward_start", *told)
        finish = observers.caller("mf_forward_finish", *told, "value")
        asked = observers.ask_for("inputs")
        for i, node in enumerate(graph.nodes):
            inputs = self._checks.inputs(i, memory) if asked else {}
            if i in steps:
                call, first, second, _ = steps[i]
                if start is not None:
                    start(run, graph, node, inputs)
                try:
                    returned = _returned(call, first, second, memory)
                    if type(first) is int or second is None:
                        memory[i] = returned
                    else:
                        memory[i], memory[second] = _pair(returned)
                except Exception as error:
                    raise self._checks.forward_error(i, memory, error) from error
                if not isinstance(memory[i], (np.ndarray, np.generic)):
                    self._checks.verify(i, memory)
            if finish is not None:
                finish(run, graph, node, inputs, shown(memory[i]))

    def backward(self, memory: Memory, of: int, wrt: Iterable[int], seed: Array) -> Memory:
        steps = self._plan(of, tuple(wrt))
        count, float64 = self._count, np.float64
        memory = memory + self._memory[len(memory) :]
        memory[count + of] = seed
        slot = count + of
        try:
            for slot, call, first, second, targets in steps:
                if memory[slot] is None:
                    continue
                if type(first) is int:
                    gradients = call(memory[first], memory[second])
                else:
                    gradients = call(*first(memory))
                if type(gradients) is not tuple or len(gradients) != len(targets):
                    gradients = self._checks.counted(gradients, len(targets), slot - count)
                for k, source in enumerate(targets):
                    gradient = gradients[k]
                    if gradient is None or source < 0:
                        continue
                    value = memory[source]
                    if type(gradient) is not float64 or type(value) is not float64:
                        try:
                            fits = gradient.shape == value.shape and gradient.dtype is value.dtype
                        except AttributeError:  # a Python number or a list
                            fits = False
                        if not fits:
                            gradient = self._checks.fitted(gradient, value, slot - count, k)
                    sofar = memory[count + source]
                    memory[count + source] = gradient if sofar is None else sofar + gradient
        except (BackwardError, NotDifferentiableError):
            raise
        except Exception as error:
            raise self._checks.backward_error(slot - count, memory, memory[slot], error) from error
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
        steps = {step[0] - count: step[1:] for step in self._plan(of, tuple(wrt))}
        memory = memory + self._memory[len(memory) :]
        memory[count + of] = seed
        received: dict[int, list[tuple[Node | None, Array]]] = {of: [(None, seed)]}
        told = "run", "graph", "node"
        start = observers.caller("mf_backward_start", *told, "received", "grad")
        finish = observers.caller("mf_backward_finish", *told, "grad", "sent")
        for i in range(of, -1, -1):
            node, grad = graph.nodes[i], memory[count + i]
            if grad is None:
                continue
            if start is not None:
                start(run, graph, node, tuple(received.pop(i)), grad)
            if i not in steps:
                continue
            call, first, second, targets = steps[i]
            try:
                gradients = _returned(call, first, second, memory)
            except NotDifferentiableError:
                raise
            except Exception as error:
                raise self._checks.backward_error(i, memory, grad, error) from error
            if type(gradients) is not tuple or len(gradients) != len(targets):
                gradients = self._checks.counted(gradients, len(targets), i)
            sent: dict[str, Array | None] = dict.fromkeys(spec_of(node).input_names(len(targets)))
            names = tuple(sent)
            for k, source in enumerate(targets):
                gradient = gradients[k]
                if gradient is None or source < 0:
                    continue
                value = memory[source]
                if (
                    type(gradient) is not type(value)
                    or gradient.shape != value.shape
                    or gradient.dtype is not value.dtype
                ):
                    gradient = self._checks.fitted(gradient, value, i, k)
                sent[names[k]] = gradient
                received.setdefault(source, []).append((node, gradient))
                sofar = memory[count + source]
                memory[count + source] = gradient if sofar is None else sofar + gradient
            if finish is not None:
                finish(run, graph, node, grad, sent)
        return memory

    def gradients(self, memory: Memory, positions: Iterable[int]) -> list[Array | None]:
        count = self._count
        return [memory[count + position] for position in positions]


def _arguments(slots: Sequence[int]) -> tuple[Any, Any]:
    """Return the arguments of a step: two slots, or what reads any number of them."""
    return (slots[0], slots[1]) if len(slots) == 2 else (gather(slots), None)


def _returned(call: Callable[..., Any], first: Any, second: Any, memory: Memory) -> Any:
    """Return what the function of a step returns."""
    if type(first) is int:
        return call(memory[first], memory[second])
    return call(*first(memory))


def _not_differentiable(graph: Graph, i: int, *_: Any) -> Never:
    """Stand in for the missing backward of a node."""
    raise NotDifferentiableError(
        f"{graph.describe(graph.nodes[i])} has no backward: no gradient passes through it"
    )


def _pair(returned: Any) -> tuple[Any, Any]:
    if type(returned) is not tuple:
        raise TypeError("forward must return (value, saved), because backward asks for saved")
    return returned
