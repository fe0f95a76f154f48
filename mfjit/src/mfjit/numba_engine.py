"""Programs compiled by numba: a step, or a whole epoch of steps, as one call of machine code."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mfjit import cache
from mfjit.explaining import flops_of
from mfjit.ir import Lowered, Value
from mfjit.lending import Pool
from mfjit.numba_code import Code, generate
from mfjit.numba_explain import explain
from mfjit.numba_moves import BAD_CLASS
from mfjit.numba_storage import SLOTS
from mfjit.operands import Array, View

OPTIONS = {"error_model": "numpy", "boundscheck": False, "nogil": True}
"""For ``numba.njit``; no fast mathematics: NaN, infinities and rounding are as in NumPy."""

ENTRY_SECONDS = 0.2
"""How long compiled code runs before it returns to Python, where Ctrl-C is heard."""

SLOW_FLOPS = 1e9
"""Operations a second that any machine does: how many steps the first entry takes."""

_threads_in_use = threading.Lock()

_STEPS, _GATHER, _STOP, _ROWS, _SETTINGS, _LOSSES, _ARENA = range(len(SLOTS))


class NumbaExecutable:
    """A lowered program, compiled.

    Parameters
    ----------
    lowered : Lowered
        The program.
    watch : bool, optional
        Accepted as by other engines; compiled code shows no steps to watch.

    Raises
    ------
    CannotCompile
        If the program holds an instruction that there is no code for.
    """

    def __init__(self, lowered: Lowered, *, watch: bool = False) -> None:
        self.lowered = lowered
        self.watch = watch
        self.code: Code = generate(lowered, threads=_threads())
        self.run: Any = cache.load(self.code.text, OPTIONS)
        seconds = 1e-6 + sum(map(flops_of, self.code.storage.groups)) / SLOW_FLOPS
        self.steps_at_first = max(1, int(ENTRY_SECONDS / 4 / seconds))

    @property
    def memory(self) -> int:
        """Bytes of all buffers of a bound program."""
        storage = self.code.storage
        return storage.arena + sum(value.nbytes for value in storage.direct)

    def bind(self, parameters: list[Array], states: list[Array]) -> NumbaBound:
        """Return the program with parameters and states of its own, overwritten in place."""
        return NumbaBound(self, parameters, states)

    def explain(self) -> str:
        """Return the program as readable text."""
        return explain(self.code, self.memory)


class NumbaBound:
    """A compiled program and the memory that it runs in."""

    def __init__(
        self, executable: NumbaExecutable, parameters: list[Array], states: list[Array]
    ) -> None:
        self.executable = executable
        code, lowered = executable.code, executable.lowered
        storage = code.storage
        self._run = executable.run
        self.parameters, self.states = parameters, states
        self._table = np.zeros(storage.slots, np.int64)
        self._arena = _aligned(storage.arena)
        self._settings = np.zeros(max(1, len(lowered.settings)))
        self._losses = np.zeros(1)
        self._at_settings, self._at_losses = self._settings.ctypes.data, self._losses.ctypes.data
        self._kept: list[Any] = []
        self._given: Sequence[float] | None = None
        self._draws = code.draws
        for value in storage.external:
            self._table[storage.slot(value)] = self._array(value).ctypes.data
        for value, offset in storage.leaves.items():
            if value.op == "constant":
                self._in_arena(value, offset)[...] = value.attributes["value"]
        self._table[_ARENA] = self._arena.ctypes.data
        self._lent = [(storage.slot(value), Pool(value.nbytes)) for value in storage.direct]
        self._call = self._run_alone if code.parallel else self._run
        self._results = [self._result(value) for value in lowered.outputs]
        self._prepare_step()

    def _prepare_step(self) -> None:
        self._table[_STEPS] = 1
        self._table[_GATHER] = 0
        self._table[_STOP] = 0
        self._table[_SETTINGS] = self._at_settings
        self._table[_LOSSES] = self._at_losses

    def _array(self, value: Value) -> Array:
        if value.op == "constant":
            array = np.ascontiguousarray(value.attributes["value"])
            self._kept.append(array)
            return array
        arrays = self.parameters if value.op == "parameter" else self.states
        array = arrays[value.attributes["index"]]
        if not (array.flags.c_contiguous and array.flags.writeable and array.dtype == value.dtype):
            raise ValueError(f"{value.op} {value.attributes['index']} cannot be updated in place")
        return array  # type: ignore[no-any-return, unused-ignore]

    def _in_arena(self, value: Value, offset: int) -> Array:
        return np.ndarray(value.shape, value.dtype, self._arena, offset)

    def _result(self, value: Value) -> Callable[[], Any]:
        """Return the function that makes a fresh result of what a run has left behind."""
        storage = self.executable.code.storage
        layout = storage.layouts[value]
        base = layout.base
        item = value.dtype.itemsize
        if value in storage.copied:
            return _copying(self._in_arena(value, storage.copied[value]))
        place = storage.plan.places.get(base)
        start = layout.offset * item + (place.offset if place is not None else 0)
        strides = tuple(stride * item for stride in layout.strides)
        owner: Any = self._arena
        leaf = base if place is None else place.leaf
        if leaf is not None and leaf in storage.leaves:
            start += storage.leaves[leaf]
        elif leaf is not None and leaf in storage.external:
            owner = self._array(leaf)
        elif leaf is not None:
            first = layout.offset + (place.offset if place is not None else 0) // item
            view = View(leaf, first, value.shape, layout.strides, value.dtype)
            pool = self._lent[storage.direct.index(leaf)][1]
            return functools.partial(pool.lend, view)
        return _copying(np.ndarray(value.shape, value.dtype, owner, start, strides))

    def step(self, inputs: list[Array], settings: Sequence[float], rng: Any = None) -> list[Any]:
        """Run once; update parameters and states in place; return fresh outputs.

        Raises
        ------
        ValueError, IndexError
            If a class or an index is out of range; then nothing has been updated.
        """
        if settings is not self._given:
            self._given = settings
            if settings:
                self._settings[:] = settings
        for slot, pool in self._lent:
            self._table[slot] = pool.free().ctypes.data
        arguments = (*inputs, self._table, rng) if self._draws else (*inputs, self._table)
        try:
            done = self._call(*arguments)
        except TypeError:
            done = self._call(*self._converted(inputs), *arguments[len(inputs) :])
        if done < 1:
            raise _failure(done)
        return [result() for result in self._results]

    def _run_alone(self, *arguments: Any) -> int:
        """Run what shares threads: numba's can do one thing at a time, and BLAS must not spin."""
        with _threads_in_use:
            if not self.executable.code.blas_alone:
                return int(self._run(*arguments))
            with _blas().limit(limits=1, user_api="blas"):
                return int(self._run(*arguments))

    def _converted(self, inputs: list[Array]) -> list[Array]:
        leaves = self.executable.lowered.inputs
        return [np.array(x, leaf.dtype, order="C") for x, leaf in zip(inputs, leaves, strict=True)]

    def epoch(
        self,
        arrays: list[Array],
        rows: Array,
        settings: Array,
        rng: Any = None,
        stop_when_not_finite: bool = False,
    ) -> Array:
        """Run a step for each row of ``rows``, on those rows of the arrays; return the losses.

        Parameters
        ----------
        arrays : list of numpy.ndarray
            What the inputs' rows are taken from.
        rows : (steps, n) int array
            Which rows each step takes.
        settings : (steps, k) float array
            The settings of each step.
        rng : numpy.random.Generator, optional
            For programs that draw.
        stop_when_not_finite : bool, optional
            Whether to end after a step whose loss is not finite.

        Raises
        ------
        ValueError, IndexError
            If a class or an index is out of range; the steps before have been done.
        """
        if not self.executable.code.has_loss:
            raise ValueError("the program's first output is no number: it has no loss to report")
        leaves = self.executable.lowered.inputs
        rows = np.ascontiguousarray(rows, np.int64)
        settings = np.ascontiguousarray(settings, np.float64)
        steps = len(rows)
        losses = np.empty(steps)
        arrays = [
            np.ascontiguousarray(x, leaf.dtype) for x, leaf in zip(arrays, leaves, strict=True)
        ]
        if rows.size and arrays:
            _check_rows(rows, arrays)
        for slot, pool in self._lent:
            self._table[slot] = pool.free().ctypes.data
        table = self._table
        table[_GATHER] = min(map(len, arrays), default=0)
        table[_STOP] = stop_when_not_finite
        arguments = (*arrays, table, rng) if self._draws else (*arrays, table)
        at_rows, at_settings, at_losses = (x.ctypes.data for x in (rows, settings, losses))
        done, chunk = 0, self.executable.steps_at_first
        try:
            while done < steps:
                chunk = min(chunk, steps - done)
                table[_STEPS] = chunk
                table[_ROWS] = at_rows + done * rows.strides[0]
                table[_SETTINGS] = at_settings + done * settings.strides[0]
                table[_LOSSES] = at_losses + done * 8
                begin = time.perf_counter()
                ran = self._call(*arguments)
                if ran < 1:
                    raise _failure(ran)
                done += ran
                if ran < chunk or done == steps:
                    break
                if stop_when_not_finite and not np.isfinite(losses[done - 1]):
                    break
                spent = time.perf_counter() - begin
                chunk = max(1, min(8 * chunk, int(chunk * ENTRY_SECONDS / max(spent, 1e-9))))
        finally:
            self._prepare_step()
        return losses[:done]

    def stepper(
        self, arrays: list[Array], rng: Any = None
    ) -> Callable[[Any, Sequence[float]], float]:
        """Return a function of rows and settings that runs one step on these rows of arrays.

        What ``epoch`` does for one step, without all that is the same at every call. A list of
        settings that is the same object as before is taken to hold the same numbers.
        """
        leaves = self.executable.lowered.inputs
        inputs = [
            np.ascontiguousarray(x, leaf.dtype) for x, leaf in zip(arrays, leaves, strict=True)
        ]
        count = leaves[0].shape[0]
        chosen, losses = np.zeros(count, np.int64), np.zeros(1)
        table = self._table.copy()
        table[_GATHER] = min(map(len, inputs))
        table[_ROWS], table[_LOSSES] = chosen.ctypes.data, losses.ctypes.data
        arguments = (*inputs, table, rng) if self._draws else (*inputs, table)
        call, lent, loss = self._call, self._lent, losses.item

        def step(rows: Any, settings: Sequence[float]) -> float:
            if len(rows) != count:
                raise ValueError(f"a batch of {len(rows)} rows in a program for {count}")
            chosen[:] = rows
            if settings is not self._given:
                self._given = settings
                if settings:
                    self._settings[:] = settings
            for slot, pool in lent:
                table[slot] = pool.free().ctypes.data
            done = call(*arguments)
            if done < 1:
                raise _failure(done)
            return loss()

        return step


def _copying(view: Array) -> Callable[[], Any]:
    """Return what gives a copy of a view: a scalar where it has no axes."""
    return view.copy if view.shape else functools.partial(view.__getitem__, ())


def _failure(code: int) -> Exception:
    if -code == BAD_CLASS:
        return ValueError("a class is no whole number in the range that one_hot was given")
    return IndexError("an index is out of range")


def _check_rows(rows: Array, arrays: list[Array]) -> None:
    least, most = int(rows.min()), int(rows.max())
    if least < 0 or any(most >= len(array) for array in arrays):
        raise IndexError(f"rows {least} .. {most} of arrays with {[len(a) for a in arrays]} rows")


def _aligned(nbytes: int) -> Array:
    """Return bytes that start at a multiple of a cache line."""
    raw = np.zeros(nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + nbytes]


def _threads() -> int:
    from numba.core import config

    return min(int(config.NUMBA_NUM_THREADS), os.cpu_count() or 1)


@functools.cache
def _blas() -> Any:
    from threadpoolctl import (  # type: ignore[import-untyped, unused-ignore]
        ThreadpoolController,
    )

    return ThreadpoolController()
