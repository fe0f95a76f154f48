"""Checks of an optimizer: its two functions as functions, its state, and that it descends."""

from __future__ import annotations

import functools
import io
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from mfcore.node import Array, Input, Node, Parameter
from mfcore.operation import operation
from mfcore.optimizer import Updates, optimizer_spec
from mfcore.reference import ReferenceEngine
from mfcore.session import Session
from mfcore.testing.comparison import close, difference, same
from mfcore.testing.outcome import CheckError, NotApplicable
from mfcore.testing.purity import loaded_names
from mfcore.testing.rule import Rule

SHAPES: tuple[tuple[int, ...], ...] = ((3,), (2, 3), (), (1,), (0, 3))
RATES = (None, 0.1, 0.3, 1.0, 0.03, 0.01)
"""Learning rates to try where an optimizer has one; ``None`` is its default."""


def _varied(check: Callable[[Rule], int]) -> Callable[[Rule], int]:
    """Run a check with each variant of an optimizer."""

    @functools.wraps(check)
    def run(rule: Rule) -> int:
        cases, reason = 0, None
        for one in rule.each():
            try:
                cases += check(one)
            except NotApplicable as none:
                reason = none
            except Exception as error:
                if one.made is rule.made:
                    raise
                kind = "" if isinstance(error, CheckError) else f"{type(error).__name__}: "
                raise CheckError(f"with {one.made!r}: {kind}{error}") from error
        if reason is not None and not cases:
            raise reason
        return cases

    return run


def _drawn(shape: tuple[int, ...], dtype: Any = np.float64, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).normal(size=shape)).astype(dtype)


def _step(rule: Rule, parameter: Array, gradient: Array, state: Any, step: int = 0) -> Any:
    """Call ``update`` itself; return the parameter and the state after it."""
    spec = optimizer_spec(rule.cls)
    returned = spec.updater(rule.made, step)(
        parameter, gradient, *((state,) if spec.init is not None else ())
    )
    return returned if spec.init is not None else (returned, ())


@_varied
def result(rule: Rule) -> int:
    """Update returns an array of the parameter's shape, and with state a pair."""
    spec = optimizer_spec(rule.cls)
    for shape in SHAPES:
        parameter = _drawn(shape)
        state = spec.initial_state(rule.made, parameter)
        returned = _step(rule, parameter, _drawn(shape, seed=1), state)
        if not (isinstance(returned, tuple) and len(returned) == 2):
            raise CheckError("update must return a pair (parameter, state)")
        new, after = returned
        if not isinstance(new, (np.ndarray, np.generic)) or new.shape != shape:
            raise CheckError(
                f"update returned {type(new).__name__} of shape {np.shape(new)} for a parameter "
                f"of shape {shape}"
            )
        if not isinstance(after, tuple) or len(after) != len(state):
            raise CheckError("the state after an update must be a tuple, as long as before")
        for one, two in zip(state, after, strict=True):
            if np.shape(one) != np.shape(two):
                raise CheckError(f"update changes a state of shape {np.shape(one)} to another")
    return len(SHAPES)


@_varied
def dtypes(rule: Rule) -> int:
    """A parameter keeps its dtype, and so does its state."""
    spec = optimizer_spec(rule.cls)
    for dtype in (np.float32, np.float64):
        parameter = _drawn((2, 3), dtype)
        state = spec.initial_state(rule.made, parameter)
        new, after = _step(rule, parameter, _drawn((2, 3), dtype, 1), state)
        for what, array in (
            ("the parameter", new),
            *(("the state", s) for s in (*state, *after)),
        ):
            kind = np.asarray(array).dtype
            if kind.kind == "f" and kind != dtype:
                raise CheckError(f"{what} is {kind} for {np.dtype(dtype)}")
    return 2


@_varied
def arguments(rule: Rule) -> int:
    """Neither function writes into what it was given, nor needs to be allowed to."""
    spec = optimizer_spec(rule.cls)
    for shape in SHAPES:
        given = _drawn(shape), _drawn(shape, seed=1)
        state = spec.initial_state(rule.made, given[0])
        arrays = [*given, *(np.asarray(s) for s in state)]
        before = [x.copy() for x in arrays]
        _step(rule, *given, state)
        if not all(same(x, was) for x, was in zip(arrays, before, strict=True)):
            raise CheckError(f"update changed an argument, of shape {shape}")
        for array in arrays:
            array.flags.writeable = False
        try:
            _step(rule, *given, state)
        except ValueError as error:
            raise CheckError(f"update writes into an argument: {error}") from error
    return len(SHAPES)


@_varied
def aliasing(rule: Rule) -> int:
    """Neither the new parameter nor the state shares memory with the parameter or gradient."""
    spec = optimizer_spec(rule.cls)
    for shape in SHAPES:
        parameter, gradient = _drawn(shape), _drawn(shape, seed=1)
        state = spec.initial_state(rule.made, parameter)
        new, after = _step(rule, parameter, gradient, state)
        for what, array in (("the parameter", new), *(("the state", s) for s in (*state, *after))):
            if any(np.may_share_memory(array, x) for x in (parameter, gradient)):
                raise CheckError(f"{what} shares memory with an argument: return a copy")
    return len(SHAPES)


@_varied
def determinism(rule: Rule) -> int:
    """The same update gives the same bits, whatever was updated between."""
    spec = optimizer_spec(rule.cls)
    found = []
    for _ in range(3):
        parameter, gradient = _drawn((2, 3)), _drawn((2, 3), seed=1)
        found.append(_step(rule, parameter, gradient, spec.initial_state(rule.made, parameter)))
        other = _drawn((4,))
        _step(rule, other, _drawn((4,), seed=2), spec.initial_state(rule.made, other))
    for again in found[1:]:
        if not same(again, found[0]):
            raise CheckError(
                f"the same update gave two results, "
                f"{difference('the parameter', again[0], found[0][0])}: keep what changes in the "
                f"state"
            )
    return len(found)


@_varied
def element_by_element(rule: Rule) -> int:
    """Parameters that are updated together end where they do one by one.

    Compiled engines keep all parameters in one flat array, and update that.
    """
    spec, ends = optimizer_spec(rule.cls), []
    parts = [(_drawn((3,)), _drawn((3,), seed=1)), (_drawn((5,), seed=2), _drawn((5,), seed=3))]
    together = tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    for parameter, gradient in (*parts, together):
        state = spec.initial_state(rule.made, parameter)
        for step in range(3):
            parameter, state = _step(rule, parameter, gradient, state, step)
        ends.append(parameter)
    apart = np.concatenate(ends[:2])
    if not close(ends[2], apart):
        raise CheckError(
            f"parameters end elsewhere when they are updated as one array, "
            f"{difference('the parameter', ends[2], apart)}"
        )
    return 1


@_varied
def state(rule: Rule) -> int:
    """State that was written to a file and read again continues to the same bits."""
    spec = optimizer_spec(rule.cls)
    parameter, gradient = _drawn((2, 3)), _drawn((2, 3), seed=1)
    kept = spec.initial_state(rule.made, parameter)
    if not kept:
        raise NotApplicable("it has no state")
    for step in range(3):
        parameter, kept = _step(rule, parameter, gradient, kept, step)
    restored = tuple(_through_a_file(array) for array in kept)
    one = _step(rule, parameter, gradient, kept, 3)
    two = _step(rule, parameter, gradient, restored, 3)
    if not same(one, two):
        raise CheckError("it continues elsewhere from a state that was saved and loaded")
    return 1


def _through_a_file(array: Any) -> Array:
    if not isinstance(array, (np.ndarray, np.generic)):
        raise CheckError(f"a state holds {type(array).__name__}: it must hold arrays only")
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    file.seek(0)
    loaded: Array = np.load(file, allow_pickle=False)
    return loaded


def names(rule: Rule) -> int:
    """Both functions use all that they ask for."""
    spec = optimizer_spec(rule.cls)
    idle = sorted(set(spec.update_asks) - loaded_names(spec.update))
    if idle:
        raise CheckError(f"update asks for {', '.join(idle)}, but never uses it")
    return 1


@_varied
def pickling(rule: Rule) -> int:
    """It survives pickling, hyperparameters and all."""
    try:
        restored = pickle.loads(pickle.dumps(rule.made))
    except Exception as error:
        raise CheckError(f"it cannot be pickled: {error}") from error
    if repr(restored) != repr(rule.made):
        raise CheckError(f"pickling changes it: {rule.made!r} becomes {restored!r}")
    return 1


@operation(broadcasts=True)
class Bowl(Node):
    """A convex cost whose lowest point is known: half the squares of ``x - center``, summed."""

    x: Node
    center: Node

    @staticmethod
    def forward(x: Any, center: Any) -> Any:
        """Return the cost."""
        return 0.5 * np.sum((x - center) ** 2)

    @staticmethod
    def backward(grad: Any, x: Any, center: Any) -> Any:
        """Return both gradients."""
        return grad * (x - center), grad * (center - x)


def step(rule: Rule) -> int:
    """Steps of a session are updates by ``update`` itself, one after the other."""
    start, center = _drawn((2, 3)), _drawn((2, 3), seed=1)
    x, c = Parameter(start), Input()
    session = Session(Bowl(x, c), engine=ReferenceEngine())
    updates, parameters = Updates(rule.made, [start]), [start]
    for _ in range(3):
        session.step({c: center}, rule.made)
        parameters = updates.apply(parameters, [parameters[0] - center])
        if not close(session[x], parameters[0]):
            raise CheckError(
                f"a session's step is not what update says, "
                f"{difference('the parameter', session[x], parameters[0])}"
            )
    return 3


def convergence(rule: Rule) -> int:
    """On a convex bowl it comes down to a hundredth of the first cost, at some learning rate."""
    center, fields = _drawn((2, 3), seed=1), attrs.fields_dict(rule.cls)
    best = np.inf
    for rate in RATES:
        made = rule.made
        if rate is not None:
            if "learning_rate" not in fields:
                break
            made = attrs.evolve(made, learning_rate=rate)
        updates, parameters = Updates(made, [_drawn((2, 3))]), [_drawn((2, 3))]
        first = float(np.sum((parameters[0] - center) ** 2))
        with np.errstate(all="ignore"):
            for _ in range(500):
                parameters = updates.apply(parameters, [parameters[0] - center])
            last = float(np.sum((parameters[0] - center) ** 2))
        if last <= 0.01 * first:
            return 1
        best = min(best, last / first) if np.isfinite(last) else best
    raise CheckError(f"after 500 steps on a convex bowl {best:.3g} of the first cost is left")
