"""The numpy engine: a lowered program as a list of NumPy calls into planned buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import isfinite
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np

from mfjit.fuse import Group, fuse
from mfjit.ir import Lowered, Value
from mfjit.layout import layouts
from mfjit.lending import Pool
from mfjit.memory import ALIGNMENT, Place, plan
from mfjit.numpy_calls import Call, Emitter, Given, ReadOnly, assign
from mfjit.numpy_rewrites import for_numpy, simplified
from mfjit.numpy_schedule import is_tiled, schedule
from mfjit.operands import Array, Arrays, View, aligned, view_of, whole
from mfjit.tile_program import TileProgram
from mfjit.tiling import TiledLoop

Prepared: TypeAlias = tuple[Any, tuple[Any, ...]]
"""A function and its arguments."""

DIRECT_BYTES = 1 << 15
"""Inputs from this size on are read where they lie; smaller ones are copied first, which costs
less than making views of them."""

COPIED_BYTES = 1 << 10
"""Results up to this size are copied out of the arena; larger ones are computed in arrays of
their own, used again when the caller has let go of them."""


class NumpyExecutable:
    """A lowered program, planned for NumPy.

    Parameters
    ----------
    lowered : Lowered
        The program.
    watch : bool, optional
        Accepted as all executables do; NumPy's own warnings are all there is to watch.
    """

    def __init__(self, lowered: Lowered, *, watch: bool = False) -> None:
        self.watch = watch
        self.given = lowered
        simple = for_numpy(lowered)
        places = layouts(simple.values)
        groups = fuse(simple, places)
        self.lowered, groups = simplified(simple, groups, places)
        self.layouts = layouts(self.lowered.values)
        self.groups = _in_order_of_draws(schedule(self.lowered, groups, self.layouts))
        self.apart = self._outputs_apart()
        self.plan = plan(self.lowered, self.groups, self.layouts, apart=self.apart)
        emitter = Emitter(self.layouts, self.plan)
        self.steps: list[list[Call] | TiledLoop] = [
            TiledLoop(group, self.layouts) if is_tiled(group) else emitter.calls(group)
            for group in self.groups
        ]
        self.updates = self._updates()
        self.extra = [*emitter.extra]
        for step in self.steps:
            if isinstance(step, TiledLoop):
                self.extra += [step.scratch, *step.partials]
        self.constants = [*emitter.constants.values()]
        self.small_inputs = [value for value in self.lowered.inputs if value.nbytes < DIRECT_BYTES]

    @property
    def memory(self) -> int:
        """Bytes of all buffers that a session of this program holds."""
        kept = [*self.extra, *self.constants, *self.small_inputs, *self.apart]
        return self.plan.size + sum(value.nbytes for value in kept)

    def bind(self, parameters: list[Array], states: list[Array]) -> NumpyBound:
        """Return the program with buffers of its own; it overwrites the arrays given.

        Parameters
        ----------
        parameters, states : list of numpy.ndarray
            By ``index`` of their leaves, of those shapes and dtypes, C-contiguous.
        """
        return NumpyBound(self, parameters, states)

    def explain(self) -> str:
        """Return the steps, their buffers and costs as text."""
        from mfjit.numpy_explain import explain

        return explain(self)

    def _outputs_apart(self) -> list[Value]:
        """Return the results that are computed in arrays of their own."""
        computed = {value for group in self.groups for value in group.outputs}
        kept = {self.layouts[new].base for _, new in self.lowered.updates}
        apart: dict[Value, None] = {}
        for value in self.lowered.outputs:
            base = self.layouts[value].base
            if (
                base in computed
                and base not in kept
                and value.nbytes > COPIED_BYTES
                and base.size == value.size
                and view_of(value, self.layouts).contiguous
            ):
                apart[base] = None
        return list(apart)

    def _updates(self) -> list[Call]:
        """Return the copies that end a step."""
        staged = {
            leaf: Value("staged", (), {}, leaf.shape, leaf.dtype) for leaf in self.plan.staged
        }
        self.staged = {copy: self.plan.staged[leaf] for leaf, copy in staged.items()}
        calls = [assign(whole(copy), whole(leaf)) for leaf, copy in staged.items()]
        for leaf, new in self.plan.copies:
            view = view_of(new, self.layouts)
            base = staged.get(view.base, view.base)
            source = View(base, view.offset, view.shape, view.strides, view.dtype)
            calls.append(assign(whole(leaf), source))
        return calls


def _in_order_of_draws(steps: list[Group]) -> list[Group]:
    """Return the steps with random numbers drawn in the order of their index, first of all."""
    draws = [step for step in steps if step.kind == "random"]
    order = [step.values[0].attributes["index"] for step in draws]
    if order == sorted(order):
        return steps
    draws.sort(key=lambda step: step.values[0].attributes["index"])
    return draws + [step for step in steps if step.kind != "random"]


class _Source:
    """The random numbers of a run."""

    __slots__ = ("rng",)

    rng: Any


class NumpyBound:
    """A program with its buffers: what one session runs."""

    def __init__(
        self, executable: NumpyExecutable, parameters: list[Array], states: list[Array]
    ) -> None:
        self.executable = executable
        self._leaves = [*parameters, *states]
        self._source = _Source()
        self._arrays = Arrays()
        self._results: dict[Value, list[Any]] = {}
        self._memory: dict[Value, Array] = {}
        self._within: dict[Value, Place] = {}
        lowered = executable.lowered
        self._own_buffers(parameters, states)
        self._settings = [whole(value).of(self._memory[value]) for value in lowered.settings]
        small = set(executable.small_inputs)
        self._copied = [
            whole(value).of(self._memory[value]) if value in small else None
            for value in lowered.inputs
        ]
        self._gathered: dict[Value, Array] = {}
        self._pools = {value: Pool(value.nbytes) for value in executable.apart}
        self._calls: list[Prepared] = []
        self._updates: list[Prepared] = []
        self._of_slot: dict[Value, list[tuple[list[Prepared], int, Call]]] = {
            value: [] for value in [*lowered.inputs, *executable.apart] if value not in small
        }
        self._starts = self._bind_steps()
        for call in executable.updates:
            self._prepare(call, self._updates)
        lent: set[Value] = set()
        self._outputs = [self._output(value, lent) for value in lowered.outputs]

    # Buffers

    def _own_buffers(self, parameters: list[Array], states: list[Array]) -> None:
        executable, memory = self.executable, self._memory
        lowered = executable.lowered
        for leaves, arrays in ((lowered.parameters, parameters), (lowered.states, states)):
            for leaf, array in zip(leaves, arrays, strict=True):
                if not array.flags.c_contiguous or (array.shape, array.dtype) != (
                    leaf.shape,
                    leaf.dtype,
                ):
                    raise ValueError(f"{leaf!r} cannot be kept in {array.dtype}{array.shape}")
                memory[leaf] = array
        for value in [*executable.extra, *executable.small_inputs, *lowered.settings]:
            memory[value] = aligned(value.nbytes, ALIGNMENT)
        constants = [v for v in lowered.values if v.op in ("literal", "constant")]
        for value in [*constants, *executable.constants]:
            array = np.asarray(value.attributes["value"], value.dtype)
            memory[value] = np.ascontiguousarray(array).reshape(value.shape)
        for value in [*executable.apart, *lowered.inputs]:
            memory.setdefault(value, np.empty(value.nbytes, np.uint8))  # until the first run
        arena = aligned(executable.plan.size, ALIGNMENT)
        for value, place in {**executable.plan.places, **executable.staged}.items():
            if place.leaf is None:
                memory[value] = arena[place.offset : place.offset + value.nbytes]
            elif place.leaf is not value:
                self._within[value] = place

    def _buffer(self, value: Value) -> Array:
        place = self._within.get(value)
        if place is None or place.leaf is None:
            return self._memory[value]
        room = self._memory[place.leaf].reshape(-1).view(np.uint8)
        return room[place.offset : place.offset + value.nbytes]

    def _slots(self, bases: Iterable[Value]) -> list[Value]:
        """Return the bases whose memory changes from run to run."""
        found: dict[Value, None] = {}
        for base in bases:
            place = self._within.get(base)
            owner = base if place is None or place.leaf is None else place.leaf
            if owner in self._of_slot:
                found[owner] = None
        return list(found)

    def _resolve(self, item: Any) -> Any:
        if isinstance(item, View):
            buffer = self._buffer(item.base)
            if self._slots([item.base]):
                return item.of(buffer)  # not kept: the memory is somebody else's
            return self._arrays.of(item, buffer)
        if isinstance(item, ReadOnly):
            array = item.view.of(self._buffer(item.view.base))
            array.flags.writeable = False
            return array
        if isinstance(item, Given):
            if isinstance(item.what, Value):
                return self._results.setdefault(item.what, [])
            return self._source
        if type(item) is tuple:
            return tuple([self._resolve(part) for part in item])
        return item

    # Calls

    def _bind_steps(self) -> list[int]:
        """Prepare the calls of all steps; return the number of calls before each step."""
        starts = []
        for step in self.executable.steps:
            starts.append(len(self._calls))
            if isinstance(step, TiledLoop):
                slots = self._slots(step.bases())
                self._calls.append((TileProgram(step, self._buffer, slots), ()))
                continue
            for call in step:
                self._prepare(call, self._calls)
        return starts

    def _prepare(self, call: Call, calls: list[Prepared]) -> None:
        for slot in self._slots(view.base for view in call.views()):
            self._of_slot[slot].append((calls, len(calls), call))
        calls.append(call.prepared(self._resolve))

    def _fill(self, slot: Value, array: Array) -> None:
        if self._memory[slot] is not array:
            self._memory[slot] = array
            for calls, index, call in self._of_slot[slot]:
                calls[index] = call.prepared(self._resolve)

    def _output(self, value: Value, lent: set[Value]) -> Callable[[], Any]:
        view = view_of(value, self.executable.layouts)
        if view.base in self._pools and view.base not in lent and value.size == view.base.size:
            lent.add(view.base)
            return partial(self._pools[view.base].lend, view)
        if self._slots([view.base]):
            return lambda: self._resolve(view).copy()[()]
        array = self._resolve(view)
        return array.copy if value.shape else partial(array.__getitem__, ())

    # Running

    def step(self, inputs: list[Array], settings: Sequence[float], rng: Any) -> list[Any]:
        """Run once; parameters and states are updated in place.

        Parameters
        ----------
        inputs : list of numpy.ndarray
            By ``index`` of their leaves, of those shapes and dtypes.
        settings : list of float
            By ``index`` of theirs.
        rng : numpy.random.Generator or None
            For what the program draws.

        Returns
        -------
        list of numpy.ndarray or scalar
            Fresh results, 0-d ones as NumPy's scalars.
        """
        for position, array in enumerate(inputs):
            buffer = self._copied[position]
            if buffer is None:
                self._fill_input(position, array)
            else:
                buffer[...] = array
        self._start(settings, rng)
        for function, args in self._calls:
            function(*args)
        results = [output() for output in self._outputs]
        for function, args in self._updates:
            function(*args)
        return results

    def _start(self, settings: Sequence[float], rng: Any) -> None:
        for position, number in enumerate(settings):
            self._settings[position][...] = number
        self._source.rng = rng
        for value, pool in self._pools.items():
            self._fill(value, pool.free())

    def _fill_input(self, position: int, array: Array) -> None:
        leaf = self.executable.lowered.inputs[position]
        if not (array.flags.c_contiguous and array.flags.aligned):
            copy = self._gather_buffer(leaf)
            copy[...] = array
            array = copy
        self._fill(leaf, array)

    def _gather_buffer(self, leaf: Value) -> Array:
        if leaf not in self._gathered:
            self._gathered[leaf] = np.empty(leaf.shape, leaf.dtype)
        return self._gathered[leaf]

    def profile(
        self,
        inputs: list[Array],
        settings: Sequence[float] = (),
        rng: Any = None,
        runs: int = 100,
    ) -> str:
        """Return a table of the seconds that each step of the program takes.

        Parameters and states are afterwards as they were before.

        Parameters
        ----------
        inputs, settings, rng
            As for ``step``.
        runs : int, optional
            How often the program is run; the table has the medians.
        """
        from mfjit.numpy_explain import profile_table

        before = [leaf.copy() for leaf in self._leaves]
        ends = [*self._starts[1:], len(self._calls)]
        seconds = np.zeros((runs, len(ends)))
        for run in range(runs):
            self.step(inputs, settings, rng)  # takes the inputs, and fills the caches
            for i, (start, end) in enumerate(zip(self._starts, ends, strict=True)):
                began = perf_counter()
                for function, args in self._calls[start:end]:
                    function(*args)
                seconds[run, i] = perf_counter() - began
            for leaf, kept in zip(self._leaves, before, strict=True):
                leaf[...] = kept
        return profile_table(self.executable, np.median(seconds, axis=0))

    def _gathers(self, arrays: list[Array]) -> list[tuple[Any, Array]]:
        """Return how batches of the inputs are taken, and into what."""
        gathers = []
        for position, leaf in enumerate(self.executable.lowered.inputs):
            buffer = self._copied[position]
            if buffer is None:
                buffer = self._gather_buffer(leaf)
                self._fill(leaf, buffer)
            gathers.append((np.ascontiguousarray(arrays[position], leaf.dtype).take, buffer))
        return gathers

    def epoch(
        self,
        arrays: list[Array],
        rows: Array,
        settings: Array,
        rng: Any,
        stop_when_not_finite: bool,
    ) -> Array:
        """Run steps on batches of rows.

        Parameters
        ----------
        arrays : list of numpy.ndarray
            By ``index`` of the inputs: what batches are drawn from, along the first axis.
        rows : numpy.ndarray
            ``(steps, n) int``: the rows of each step's batch.
        settings : numpy.ndarray
            ``(steps, k) float64``.
        rng : numpy.random.Generator or None
            For what the program draws.
        stop_when_not_finite : bool
            Whether to stop after a step whose loss is not finite.

        Returns
        -------
        numpy.ndarray
            ``(steps,) float64``, the first output of each step; shorter if stopped.

        Raises
        ------
        IndexError
            If a row is out of range; nothing has run then.
        """
        for array in arrays:
            if rows.size and not (-len(array) <= rows.min() and rows.max() < len(array)):
                raise IndexError(f"a row is out of bounds for {len(array)} rows")
        batches = list(np.ascontiguousarray(rows, np.intp))
        gathers = self._gathers(arrays)
        self._start((), rng)
        losses = np.empty(len(batches))
        loss = self._outputs[0]
        for step, batch in enumerate(batches):
            for take, buffer in gathers:
                take(batch, 0, buffer, "wrap")
            for i, buffer in enumerate(self._settings):
                buffer[...] = settings[step, i]
            for function, args in self._calls:
                function(*args)
            losses[step] = value = loss()
            for function, args in self._updates:
                function(*args)
            if stop_when_not_finite and not isfinite(value):
                return losses[: step + 1]
        return losses
