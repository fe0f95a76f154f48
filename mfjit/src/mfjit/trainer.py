"""Training on a compiling engine: flat arrays of parameters and state, updated in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcore import Array, Node
from mfcore.engine import Trainer
from mfcore.errors import ExecutionError, type_name
from mfcore.optimizer import Updates, optimizer_spec
from mfjit.errors import CannotLower
from mfjit.interrupts import deferred_interrupts
from mfjit.lowering import Kind
from mfjit.parameters import FlatParameters
from mfjit.training import TrainingProgram

if TYPE_CHECKING:
    from mfjit.program import Bound, CompiledProgram

LONGEST_ENTRY = 0.1
"""Seconds for which steps run before Ctrl-C is looked for; in round numbers."""


class CompiledTrainer(Trainer):
    """The steps of one session with one optimizer.

    Parameters
    ----------
    program : CompiledProgram
        Where steps are compiled.
    updates : Updates
        The optimizer, and its state so far.
    cost : Node
        What is made small.
    values : list of array
        The parameters so far, in the graph's order; copied.
    rng : numpy.random.Generator
        For operations that draw.
    """

    def __init__(
        self,
        program: CompiledProgram,
        updates: Updates,
        cost: Node,
        values: list[Array],
        rng: np.random.Generator,
    ) -> None:
        self.program = program
        self.optimizer = updates.optimizer
        self.cost = cost
        self.rng = rng
        self.steps = updates.steps
        self.values = list(values)
        self._spec = optimizer_spec(self.optimizer)
        self._updates = updates
        self._bound: dict[Any, tuple[TrainingProgram, Bound]] = {}
        self._flats: list[Array] = []
        self._states: dict[tuple[int, int | None, int], Array] = {}
        self._flat: FlatParameters
        self._layout: Any = None
        self._entry_steps: dict[Any, int] = {}
        self._last: tuple[TrainingProgram, Bound] | None = None
        self._fixed: tuple[TrainingProgram, list[float]] | None = None

    # Steps

    def step(self, inputs: list[Array]) -> float | None:
        """Train for one step; ``None`` where the graph cannot be lowered."""
        try:
            found = self._for(tuple([(array.shape, array.dtype) for array in inputs]))
        except CannotLower:
            self.program.fail(inputs, self.values, self.rng, self.cost)
            raise
        self._last = found
        return None if found is None else self._run(*found, inputs)

    def again(self, inputs: list[Array]) -> float | None:
        """Train for one step on inputs like those of the last one, without looking at them."""
        return None if self._last is None else self._run(*self._last, inputs)

    def _run(self, program: TrainingProgram, bound: Bound, inputs: list[Array]) -> float:
        state = self.rng.bit_generator.state if self.program.draws else None
        try:
            outputs = bound.step(inputs, self._settings(program), self.rng)
        except Exception as error:
            raise self._found_again(inputs, state, error) from error
        if not program.updated:
            self._apply(program, outputs[1:])
        self.steps += 1
        return float(outputs[0])

    def stepper(self, arrays: list[Array]) -> Callable[[Any], float | None]:
        """Return a function of rows that trains for one step on these rows of the arrays."""
        known: dict[int, tuple[TrainingProgram, Any] | None] = {}

        def prepare(count: int) -> tuple[TrainingProgram, Any] | None:
            kinds = tuple([((count, *array.shape[1:]), array.dtype) for array in arrays])
            found = self._for(kinds)
            if found is None or not found[0].updated or not hasattr(found[1], "stepper"):
                return None
            return found[0], found[1].stepper(arrays, self.rng)

        def step(rows: Any) -> float | None:
            try:
                found = known[len(rows)]
            except KeyError:
                found = known[len(rows)] = prepare(len(rows))
            if found is None:
                return None
            program, run = found
            state = self.rng.bit_generator.state if self.program.draws else None
            try:
                loss: float = run(rows, self._settings(program))
            except Exception as error:
                inputs = [np.take(array, rows, axis=0) for array in arrays]
                raise self._found_again(inputs, state, error) from error
            self.steps += 1
            return loss

        return step

    def epoch(self, arrays: list[Array], rows: Array, stop_when_not_finite: bool) -> Array:
        """Train for one step for each line of ``rows``."""
        size = rows.shape[1]
        try:
            kinds = tuple([((size, *array.shape[1:]), array.dtype) for array in arrays])
            found = self._for(kinds, few=len(rows) == 1 and bool(self._bound))
        except CannotLower:
            return self._one_by_one(arrays, rows, stop_when_not_finite)
        if found is None:
            return np.empty(0)
        program, bound = found
        if not program.updated:
            return self._one_by_one(arrays, rows, stop_when_not_finite)
        losses: list[Array] = []
        start, chunk = 0, self._entry_steps.get(kinds, 1)
        with deferred_interrupts() as interrupts:
            while start < len(rows) and not interrupts.pending:
                part = rows[start : start + chunk]
                before = perf_counter()
                done = self._entry(program, bound, arrays, part, stop_when_not_finite)
                losses.append(done)
                if len(done) < len(part) or (stop_when_not_finite and not np.isfinite(done[-1])):
                    break
                start += len(part)
                seconds = max(perf_counter() - before, 1e-9)
                if len(part) == chunk:
                    chunk = max(1, min(8 * chunk, int(chunk * LONGEST_ENTRY / seconds)))
        self._entry_steps[kinds] = chunk
        return np.concatenate(losses) if losses else np.empty(0)

    def _entry(
        self, program: TrainingProgram, bound: Bound, arrays: list[Array], rows: Array, stop: bool
    ) -> Array:
        """Run steps in one entry into the engine; one by one if one of them cannot be done."""
        kept: list[Array] = []
        if program.fallible:
            kept = [array.copy() for array in (*self._flats, *self._states.values())]
        state = self.rng.bit_generator.state if self.program.draws else None
        try:
            done = bound.epoch(arrays, rows, self._settings_of(program, len(rows)), self.rng, stop)
        except Exception as error:
            if not program.fallible:
                raise self._failed(error) from error
            # The steps before the one at fault are done: go back, and find it.
            for array, old in zip((*self._flats, *self._states.values()), kept, strict=True):
                array[...] = old
            if state is not None:
                self.rng.bit_generator.state = state
            return self._one_by_one(arrays, rows, stop)
        self.steps += len(done)
        return done

    def _found_again(self, inputs: list[Array], state: Any, error: Exception) -> ExecutionError:
        """Run a failed step on the reference engine, which raises what names the node.

        Returns the error to raise where it does not.
        """
        if state is not None:
            self.rng.bit_generator.state = state
        self.program.fail(inputs, self.values, self.rng, self.cost)
        return self._failed(error)

    def _failed(self, error: Exception) -> ExecutionError:
        return ExecutionError(
            f"a training step on the engine {self.program.engine.name!r} raised "
            f"{type_name(error)}: {error}"
        )

    def _one_by_one(self, arrays: list[Array], rows: Array, stop: bool) -> Array:
        losses: list[float] = []
        for chosen in rows:
            loss = self.step([np.take(array, chosen, axis=0) for array in arrays])
            assert loss is not None
            losses.append(loss)
            if stop and not np.isfinite(losses[-1]):
                break
        return np.array(losses)

    def _apply(self, program: TrainingProgram, gradients: Sequence[Array]) -> None:
        """Update as the optimizer itself does, where it could not be compiled."""
        found: list[Array | None] = [None] * len(self.values)
        for flat, gradient in zip(program.flat.trained, gradients, strict=True):
            for k in program.flat.members(flat):
                found[k] = program.flat.parts[k].view(gradient)
        news = self._updates.apply([value.copy() for value in self.values], found)
        for value, new in zip(self.values, news, strict=True):
            value[...] = new

    # Settings

    def _settings(self, program: TrainingProgram) -> list[float]:
        """Return the settings of the next step: the same list again while they do not change."""
        if self._fixed is None or self._fixed[0] is not program:
            changing = [
                name == "step" or callable(getattr(self.optimizer, name))
                for name in program.settings
            ]
            settings = [self._setting(name, self.steps) for name in program.settings]
            if any(changing):
                return settings
            self._fixed = program, settings
        return self._fixed[1]

    def _setting(self, name: str, step: int) -> float:
        if name == "step":
            return float(step + 1)
        value = getattr(self.optimizer, name)
        return float(value(step) if callable(value) else value)

    def _settings_of(self, program: TrainingProgram, count: int) -> Array:
        table = np.empty((count, len(program.settings)))
        for column, name in enumerate(program.settings):
            if name == "step":
                table[:, column] = np.arange(self.steps + 1, self.steps + 1 + count)
            elif callable(getattr(self.optimizer, name)):
                table[:, column] = [self._setting(name, self.steps + i) for i in range(count)]
            else:
                table[:, column] = self._setting(name, 0)
        return table

    # Where parameters and state are

    def _for(
        self, kinds: tuple[Kind, ...], few: bool = False
    ) -> tuple[TrainingProgram, Bound] | None:
        found = self._bound.get(kinds)
        if found is None and not self.program.reason:
            try:
                found = self._bound[kinds] = self._bind(kinds, few)
            except CannotLower as error:
                self.program.give_up(error)
        return found

    def _bind(self, kinds: tuple[Kind, ...], few: bool) -> tuple[TrainingProgram, Bound]:
        program, executable = self.program.training(kinds, self.cost, self.optimizer, few)
        layout = program.flat.parts, program.states
        if self._layout is None:
            self._flat = program.flat
            self._flats = program.flat.gathered(self.values)
            self.values[:] = program.flat.views(self._flats)
            self._states = {key: self._state(program, key) for key in program.states}
            self._layout = layout
        elif layout != self._layout:
            raise CannotLower("the parameters that a gradient reaches depend on the batch")
        states = [self._states[key] for key in program.states]
        return program, executable.bind(self._flats, states)

    def _state(self, program: TrainingProgram, key: tuple[int, int | None, int]) -> Array:
        flat, parameter, index = key
        if parameter is not None:
            return np.array(self._updates.states[parameter][index])
        members = program.flat.members(flat)
        return np.concatenate([np.ravel(self._updates.states[k][index]) for k in members])

    def updates(self) -> Updates:
        """Return the optimizer with a copy of its state, by parameter."""
        states: list[dict[int, Array]] = [dict(enumerate(old)) for old in self._updates.states]
        for (flat, parameter, index), array in self._states.items():
            if parameter is not None:
                states[parameter][index] = array.copy()
                continue
            for k in self._flat.members(flat):
                states[k][index] = self._flat.parts[k].view(array).copy()
        found = [tuple([state[i] for i in sorted(state)]) for state in states]
        return Updates(self.optimizer, self.values, found, self.steps)
