"""The reference engine: runs each operation's own functions, one after the other.

It turns a graph into a list of steps over one flat memory. Every value, hyperparameter
and saved result has a slot; a step is a function, the slots of its arguments and the slot
of its result. The steps of a backward pass read the same memory, and add up what they
return in a list of gradients, one for each node. There is nothing else to run.

In a graph of a million numbers the memory is what a step waits for: wherever one step reads
what was last touched a thousand steps before. So steps hold no more than they need, in the
order in which they run, and gradients are dropped as soon as they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
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

Most functions of large graphs take two arguments: these are then two slots. Else they are what
reads any number of arguments from memory, and None.
"""

_BackwardStep: TypeAlias = tuple[int, Callable[..., Any], Any, Any, tuple[Any, ...], bool]
"""A node's position, its function and the arguments as above, both None where it takes nothing
but the gradient; for each input the position of the node whose gradient it is, None where none
is wanted; and whether these are two, both wanted."""


_BOTH = bytes([True, True])
_NUMBERS = frozenset([np.float64, float])  # values of nodes, and of constants


class ReferenceProgram(Program):
    """A graph as steps over a flat memory.

    Memory layout: values of all nodes, then the random generator, the training flag, and one
    slot for each literal (hyperparameters, saved results).
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        count = len(graph)
        self._count = count
        self._rng, self._training = count, count + 1
        self._memory: Memory = [None] * (count + 2)
        self._plans: dict[tuple[int, tuple[int, ...]], tuple[list[_BackwardStep], bool]] = {}
        self._saved: dict[int, int] = {}
        self._saving: dict[int, int] = {}
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
            call = self._calls[type(node), len(sources)] = Call(spec, len(sources))
        if self._constants and not self._constants.isdisjoint(sources):
            sources = self._arguments[i] = self._with_literals(spec, sources)
        if call.takes_inputs_only and not spec.hyperparameters and not spec.saves:
            return call.function, *_arguments(sources), i
        if spec.hyperparameters:
            self._literals[i] = tuple(
                [self._literal(getattr(node, name)) for name in spec.hyperparameters]
            )
        if spec.saves:
            self._saved[i] = self._saving[i] = self._literal(None)
        elif "saved_of_result" in spec.forward_asks:
            result = self.graph.sources[i][spec.inputs.index("result")]
            self._saved[i] = self._saved[result] if result in self._saved else self._literal(None)
        kept = self._saved.get(i, -1)
        frame = (-1, kept, self._rng, self._training, *self._literals.get(i, ()), *sources)
        slots = call.pick(frame)
        if spec.saves:
            return call.function, gather(slots), None, i
        return call.function, *_arguments(slots), i

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

    def _plan(self, of: int, wrt: tuple[int, ...]) -> tuple[list[_BackwardStep], bool]:
        """Plan a backward pass: only what leads from ``of`` to ``wrt`` is computed.

        Returns the steps, and whether the gradients that they start from can be dropped.
        """
        plan = self._plans.get((of, wrt))
        if plan is None:
            leaves_only = all(self.graph.nodes[i].__operation__ is None for i in wrt)
            with collector_paused():
                plan = self._plans[of, wrt] = self._new_plan(of, wrt), leaves_only
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
        targets: tuple[Any, ...] = sources
        if False in flags:
            targets = tuple([s if flag else None for s, flag in zip(sources, flags, strict=True)])
        if spec.backward is None:
            return i, partial(_not_differentiable, self.graph, i), None, None, targets, False
        call = self._calls.get((type(node), flags))
        if call is None:
            call = Call(spec, len(sources), spec.wanted(map(bool, flags)))
            self._calls[type(node), flags] = call
        frame = (
            *(i, self._saved.get(i, -1), self._rng, self._training),
            *self._literals.get(i, ()),
            *self._arguments.get(i, sources),
        )
        slots = call.pick(frame)
        arguments = _arguments(slots) if slots else (None, None)
        return i, call.function, *arguments, targets, flags == _BOTH

    # Running them

    def new_memory(self, rng: np.random.Generator | None, training: bool) -> Memory:
        memory = self._memory.copy()
        memory[self._rng] = rng
        memory[self._training] = training
        return memory

    def forward(self, memory: Memory) -> None:
        saving, result = self._saving, -1
        try:
            for call, first, second, result in self._steps:
                if second is not None:
                    memory[result] = call(memory[first], memory[second])
                elif result in saving:
                    memory[result], memory[saving[result]] = _pair(call(*first(memory)))
                else:
                    memory[result] = call(*first(memory))
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
                    if second is not None:
                        memory[i] = call(memory[first], memory[second])
                    elif i in self._saving:
                        memory[i], memory[self._saving[i]] = _pair(call(*first(memory)))
                    else:
                        memory[i] = call(*first(memory))
                except Exception as error:
                    raise self._checks.forward_error(i, memory, error) from error
                if not isinstance(memory[i], (np.ndarray, np.generic)):
                    self._checks.verify(i, memory)
            if finish is not None:
                finish(run, graph, node, inputs, shown(memory[i]))

    def backward(  # noqa: PLR0912 - one loop: a call for each node would cost too much
        self, memory: Memory, of: int, wrt: Iterable[int], seed: Array
    ) -> Memory:
        steps, leaves_only = self._plan(of, tuple(wrt))
        float64 = np.float64
        numbers = _NUMBERS.issuperset(map(type, islice(memory, self._count)))
        gradients: Memory = [None] * self._count
        gradients[of] = grad = seed
        i = of
        try:
            for i, call, first, second, targets, both in steps:
                grad = gradients[i]
                if grad is None:
                    continue
                if leaves_only:
                    gradients[i] = None
                if second is not None:
                    returned = call(grad, memory[first], memory[second])
                elif first is None:
                    returned = call(grad)
                else:
                    returned = call(*((grad,) + first(memory)))  # quicker than (grad, *...)
                if numbers and both and type(returned) is tuple and len(returned) == 2:
                    # Nothing to fit and no loop: large graphs consist of such steps.
                    one, other = returned
                    if type(one) is float64 and type(other) is float64:
                        left, right = targets
                        sofar = gradients[left]
                        gradients[left] = one if sofar is None else sofar + one
                        sofar = gradients[right]
                        gradients[right] = other if sofar is None else sofar + other
                        continue
                if type(returned) is not tuple or len(returned) != len(targets):
                    returned = self._checks.counted(returned, len(targets), i)
                for k, source in enumerate(targets):
                    gradient = returned[k]
                    if gradient is None or source is None:
                        continue
                    value = memory[source]
                    if type(gradient) is not float64 or type(value) is not float64:
                        try:
                            fits = gradient.shape == value.shape and gradient.dtype is value.dtype
                        except AttributeError:  # a Python number or a list
                            fits = False
                        if not fits:
                            gradient = self._checks.fitted(gradient, value, i, k)
                    sofar = gradients[source]
                    gradients[source] = gradient if sofar is None else sofar + gradient
        except (BackwardError, NotDifferentiableError):
            raise
        except Exception as error:
            raise self._checks.backward_error(i, memory, grad, error) from error
        return gradients

    def backward_observed(
        self,
        memory: Memory,
        of: int,
        wrt: Iterable[int],
        seed: Array,
        observers: Observers,
        run: Run,
    ) -> Memory:
        graph = self.graph
        steps = {step[0]: step[1:] for step in self._plan(of, tuple(wrt))[0]}
        gradients: Memory = [None] * self._count
        gradients[of] = seed
        received: dict[int, list[tuple[Node | None, Array]]] = {of: [(None, seed)]}
        told = "run", "graph", "node"
        start = observers.caller("mf_backward_start", *told, "received", "grad")
        finish = observers.caller("mf_backward_finish", *told, "grad", "sent")
        for i in range(of, -1, -1):
            node, grad = graph.nodes[i], gradients[i]
            if grad is None:
                continue
            if start is not None:
                start(run, graph, node, tuple(received.pop(i)), grad)
            if i not in steps:
                continue
            call, first, second, targets, _ = steps[i]
            try:
                returned = _returned(call, grad, first, second, memory)
            except NotDifferentiableError:
                raise
            except Exception as error:
                raise self._checks.backward_error(i, memory, grad, error) from error
            if type(returned) is not tuple or len(returned) != len(targets):
                returned = self._checks.counted(returned, len(targets), i)
            sent: dict[str, Array | None] = dict.fromkeys(spec_of(node).input_names(len(targets)))
            names = tuple(sent)
            for k, source in enumerate(targets):
                gradient = returned[k]
                if gradient is None or source is None:
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
                sofar = gradients[source]
                gradients[source] = gradient if sofar is None else sofar + gradient
            if finish is not None:
                finish(run, graph, node, grad, sent)
        return gradients

    def gradients(self, memory: Memory, positions: Iterable[int]) -> list[Array | None]:
        return [memory[position] for position in positions]


def _arguments(slots: Sequence[int]) -> tuple[Any, Any]:
    """Return the arguments of a step: two slots, or what reads any number of them."""
    return (slots[0], slots[1]) if len(slots) == 2 else (gather(slots), None)


def _returned(
    call: Callable[..., Any], grad: Array, first: Any, second: Any, memory: Memory
) -> Any:
    """Return what the function of a backward step returns."""
    if second is not None:
        return call(grad, memory[first], memory[second])
    return call(grad) if first is None else call(grad, *first(memory))


def _not_differentiable(graph: Graph, i: int, *_: Any) -> Never:
    """Stand in for the missing backward of a node."""
    raise NotDifferentiableError(
        f"{graph.describe(graph.nodes[i])} has no backward: no gradient passes through it"
    )


def _pair(returned: Any) -> tuple[Any, Any]:
    if type(returned) is not tuple:
        raise TypeError("forward must return (value, saved), because backward asks for saved")
    return returned
