"""Checks of an operation's two functions as functions: form, purity, memory, dtypes, shapes."""

from __future__ import annotations

import copy
import dis
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import numpy as np

from mfcore.node import Array, Node
from mfcore.operation import spec_of
from mfcore.testing.calls import (
    Called,
    call,
    call_forward,
    fitted,
    moving,
    require_derivative,
)
from mfcore.testing.outcome import CheckError, NotApplicable
from mfcore.testing.samples import Sample, normal


@attrs.frozen(eq=False)
class Subject:
    """An operation under test: the class, and the samples to try it on."""

    operation: type[Node]
    samples: tuple[Sample, ...]

    def calls(self) -> Iterator[tuple[Sample, Called]]:
        """Call both functions on each sample; only ``forward`` where there is no derivative."""
        for sample in self.samples:
            yield sample, self.called(sample)

    def called(self, sample: Sample) -> Called:
        """Call both functions on a sample; only ``forward`` where there is no derivative."""
        differentiable = spec_of(self.operation).differentiable
        return (call if differentiable else call_forward)(self.operation, sample)


def result(subject: Subject) -> int:
    """Forward returns a NumPy array, or the scalar that stands for a 0-d one."""
    for sample in subject.samples:
        value = call_forward(subject.operation, sample).value
        if not isinstance(value, (np.ndarray, np.generic)):
            raise CheckError(f"forward returned {type(value).__name__}, not an array, on {sample}")
        if value.dtype.kind not in "biuf":
            raise CheckError(f"forward returned an array of dtype {value.dtype}, on {sample}")
    return len(subject.samples)


def gradient_form(subject: Subject) -> int:
    """Backward returns one gradient for each input, of the input's shape, in a tuple."""
    for sample in subject.samples:
        called = call(subject.operation, sample)
        fitted(subject.operation, sample, called.gradients)
    return len(subject.samples)


def arguments(subject: Subject) -> int:
    """Neither function writes into what it was given, nor needs to be allowed to."""
    for sample in subject.samples:
        own = sample.replaced(x.copy() for x in sample.inputs)
        before = [x.tobytes() for x in own.inputs]
        called = call_forward(subject.operation, own)
        _unchanged("forward", subject, own.inputs, before)
        if spec_of(subject.operation).differentiable:
            _backward_leaves_alone(subject, own, called)
        read_only = sample.replaced(_read_only(x) for x in sample.inputs)
        try:
            subject.called(read_only)
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise CheckError(f"it writes into an argument, on {sample}: {error}") from None
    return len(subject.samples)


def _unchanged(who: str, subject: Subject, inputs: Iterable[Array], before: list[bytes]) -> None:
    inputs = tuple(inputs)
    names = spec_of(subject.operation).input_names(len(inputs))
    for name, array, was in zip(names, inputs, before, strict=True):
        if array.tobytes() != was:
            raise CheckError(f"{who} changed its argument {name}")


def _backward_leaves_alone(subject: Subject, own: Sample, called: Called) -> None:
    spec, given = spec_of(subject.operation), called.given
    value = np.asarray(called.value)
    given["grad"] = normal(np.random.default_rng(3), value.shape).astype(
        value.dtype if value.dtype.kind == "f" else np.float64
    )
    given["wanted"] = spec.wanted((True,) * len(own.inputs))
    names = ("grad", "value", "saved")
    kept = {name: copy.deepcopy(given[name]) for name in names if name in given}
    before = [x.tobytes() for x in own.inputs]
    spec.call_backward(given)
    _unchanged("backward", subject, own.inputs, before)
    for name, was in kept.items():
        if not _same(was, given[name]):
            raise CheckError(f"backward changed its argument {name}, on {own}")


def _read_only(array: Array) -> Array:
    array = array.copy()
    array.flags.writeable = False
    return array


def aliasing(subject: Subject) -> int:
    """No result shares memory with an argument, unless the class says ``views = True``."""
    documented = getattr(subject.operation, "views", False) is True
    shared = ""
    for sample in subject.samples:
        value = call_forward(subject.operation, sample).value
        if any(np.may_share_memory(value, x) for x in sample.inputs):
            shared = str(sample)
    if shared and not documented:
        raise CheckError(
            f"the result shares memory with an argument, on {shared}: return a copy, or "
            f"document it and say `views = True` in the class"
        )
    if documented and not shared:
        raise CheckError("it says `views = True`, but no result shares memory with an argument")
    return len(subject.samples)


def determinism(subject: Subject) -> int:
    """The same call gives the same bits; random numbers come from ``rng`` alone."""
    for sample in subject.samples:
        one, two = subject.called(sample), subject.called(sample)
        if not _same(one.value, two.value):
            raise CheckError(
                f"the same call gave two results, on {sample}; draw random numbers from "
                f"the generator that forward may ask for as rng"
            )
        if not _same(one.gradients, two.gradients):
            raise CheckError(f"the same call gave two gradients, on {sample}")
    return len(subject.samples)


def state(subject: Subject) -> int:
    """A call leaves nothing behind: neither in the class, nor for the calls after it."""
    before = _class_contents(subject.operation)
    first = [subject.called(sample) for sample in subject.samples]
    again = [subject.called(sample) for sample in reversed(subject.samples)][::-1]
    for sample, one, two in zip(subject.samples, first, again, strict=True):
        if not _same(one.value, two.value) or not _same(one.gradients, two.gradients):
            raise CheckError(f"what it returns depends on the calls before it, on {sample}")
    after = _class_contents(subject.operation)
    changed = [name for name in after if after[name] != before.get(name)]
    if changed:
        raise CheckError(f"a call changed {', '.join(changed)} of the class")
    return len(subject.samples)


def _class_contents(operation: type[Node]) -> dict[str, str]:
    """Return what a class and its functions' defaults hold, as text."""
    contents = {
        name: repr(value)
        for name, value in vars(operation).items()
        if not name.startswith("__") and not callable(value)
    }
    spec = spec_of(operation)
    for function in (spec.forward, spec.backward):
        if function is not None:
            held = function.__defaults__, function.__kwdefaults__, vars(function)
            contents[f"defaults of {function.__name__}"] = repr(held)
    return contents


def names(subject: Subject) -> int:
    """Both functions use all that they ask for: engines keep in memory whatever is asked for."""
    spec = spec_of(subject.operation)
    functions = [f for f in (spec.forward, spec.backward) if f is not None]
    for function in functions:
        asked = spec.forward_asks if function is spec.forward else spec.backward_asks
        idle = sorted(set(asked) - _loaded(function))
        if function is spec.forward:
            # Inputs must arrive somewhere, even where only their shape counts.
            idle = [name for name in idle if name not in spec.inputs]
        if idle:
            raise CheckError(f"{function.__name__} asks for {', '.join(idle)}, but never uses it")
    return len(functions)


def _loaded(function: Callable[..., Any]) -> set[str]:
    used: set[str] = set()
    for instruction in dis.get_instructions(function):
        if instruction.opname.startswith(("LOAD_", "MAKE_CELL", "STORE_FAST_LOAD")):
            value = instruction.argval
            used.update(value if isinstance(value, tuple) else (value,))
    return {name for name in used if isinstance(name, str)}


def wanted(subject: Subject) -> int:
    """Who asks for what is wanted saves something by it, and changes no other gradient."""
    spec = spec_of(subject.operation)
    if "wanted" not in spec.backward_asks:
        raise NotApplicable("backward does not ask for wanted")
    cases, saved = 0, False
    for sample in subject.samples:
        if len(sample.inputs) < 2:
            continue
        everything = call(subject.operation, sample).gradients
        for k in moving(sample):
            flags = [i == k for i in range(len(sample.inputs))]
            alone = call(subject.operation, sample, wanted=flags).gradients
            # What costs nothing may be returned all the same.
            saved |= any(one is None and all_ is not None for one, all_ in zip(alone, everything))
            if not _same(alone[k], everything[k]):
                raise CheckError(f"a gradient changes when it alone is wanted, on {sample}")
            cases += 1
    if not cases:
        raise NotApplicable("its samples have one input each")
    if not saved:
        raise CheckError(
            "backward asks for wanted, but computes what is not wanted all the same: return "
            "None for it"
        )
    return cases


def dtypes(subject: Subject) -> int:
    """Of float32 all results are float32, of float64 float64; gradients too."""
    spec, cases = spec_of(subject.operation), 0
    for sample in subject.samples:
        if not moving(sample):
            continue
        for dtype in (np.float32, np.float64):
            cast = [x.astype(dtype) if x.dtype.kind == "f" else x for x in sample.inputs]
            called = subject.called(sample.replaced(cast))
            found = {"the result": called.value}
            places = spec.input_names(len(cast))
            for k in moving(sample) if spec.differentiable else ():
                if called.gradients[k] is not None:
                    found[f"the gradient of {places[k]}"] = called.gradients[k]
            for what, array in found.items():
                kind = np.asarray(array).dtype
                if kind.kind == "f" and kind != dtype:
                    raise CheckError(f"{what} is {kind} for {np.dtype(dtype)}, on {sample}")
            cases += 1
    if not cases:
        raise NotApplicable("no input of its samples holds floats")
    return cases


_LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "in Fortran's order": np.asfortranarray,
    "every second element": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "negative strides": lambda x: np.flip(np.flip(x).copy()),
}


def layout(subject: Subject) -> int:
    """How arguments lie in memory changes nothing."""
    cases = 0
    for sample in subject.samples:
        if not any(x.ndim and x.size > 1 for x in sample.inputs):
            continue
        expected = subject.called(sample)
        for how, lay in _LAYOUTS.items():
            laid = sample.replaced(lay(x) if x.ndim else x for x in sample.inputs)
            try:
                found = subject.called(laid)
            except Exception as error:
                raise CheckError(
                    f"it fails on arrays {how}, on {sample}: {type(error).__name__}: {error}"
                ) from error
            pairs = [(found.value, expected.value)]
            pairs += zip(found.gradients, expected.gradients, strict=True)
            if not all(_close(one, other) for one, other in pairs):
                raise CheckError(f"it gives something else on arrays {how}, on {sample}")
            cases += 1
    if not cases:
        raise NotApplicable("its samples have no axes")
    return cases


def zero_size(subject: Subject) -> int:
    """Arrays without elements are arrays too: of some axis there may be nothing."""
    reason, cases = "", 0
    for sample in subject.samples:
        if not all(x.size for x in sample.inputs):  # so say the operation's own samples
            fitted_if_any(subject, sample, subject.called(sample))
            cases += 1
            continue
        sizes = sorted({n for x in sample.inputs for n in x.shape if n > 1})
        for size in sizes:
            empty = sample.replaced(
                np.zeros(tuple(0 if n == size else n for n in x.shape), x.dtype)
                for x in sample.inputs
            )
            try:
                called = subject.called(empty)
                fitted_if_any(subject, empty, called)
            except Exception as error:
                reason = reason or f"{type(error).__name__}: {error}, on {empty}"
                continue
            cases += 1
    if not cases and not reason:
        raise NotApplicable("its samples have no axes")
    if not cases:
        raise CheckError(f"it refuses every array without elements: {reason}")
    return cases


def zero_dimensional(subject: Subject) -> int:
    """What works element by element works on one number without axes."""
    spec, cases = spec_of(subject.operation), 0
    alike = [
        sample
        for sample in subject.samples
        if len({x.shape for x in sample.inputs}) == 1
        and sample.inputs[0].size
        and not sample.hyperparameters
    ]
    for sample in alike:
        shape = np.shape(call_forward(subject.operation, sample).value)
        if shape != sample.inputs[0].shape:
            raise NotApplicable("it does not work element by element")
    for sample in alike:
        single = sample.replaced(np.asarray(x.reshape(-1)[0]) for x in sample.inputs)
        try:
            called = subject.called(single)
            fitted_if_any(subject, single, called)
        except np.exceptions.AxisError:
            raise NotApplicable("it works along an axis") from None
        except Exception as error:
            if not set(spec.inputs) <= spec.broadcasts and len(sample.inputs) > 1:
                raise NotApplicable(f"it does not work element by element: {error}") from None
            raise CheckError(f"it fails on arrays without axes: {error}") from error
        if np.shape(called.value) != ():
            raise CheckError(
                f"its result has the shape {np.shape(called.value)} on arrays without axes"
            )
        cases += 1
    if not cases:
        raise NotApplicable("it does not work element by element")
    return cases


def fitted_if_any(subject: Subject, sample: Sample, called: Called) -> None:
    """Check the form of gradients, where the operation has a derivative."""
    if spec_of(subject.operation).differentiable:
        fitted(subject.operation, sample, called.gradients)


def linearity(subject: Subject) -> int:
    """A gradient that arrives four times as large leaves four times as large."""
    require_derivative(subject.operation)
    for sample in subject.samples:
        once = call(subject.operation, sample).gradients
        fourfold = call(subject.operation, sample, scale=4.0).gradients  # exact in binary
        for k in moving(sample):
            if once[k] is not None and not _close(np.multiply(once[k], 4), fourfold[k]):
                name = spec_of(subject.operation).input_names(len(sample.inputs))[k]
                raise CheckError(f"the gradient of {name} is not linear in grad, on {sample}")
    return len(subject.samples)


def _same(one: Any, other: Any) -> bool:
    """Whether two results are the same bits."""
    if isinstance(one, (tuple, list)):
        return (
            isinstance(other, (tuple, list))
            and len(one) == len(other)
            and all(_same(a, b) for a, b in zip(one, other, strict=True))
        )
    if isinstance(one, (np.ndarray, np.generic)):
        return (
            isinstance(other, (np.ndarray, np.generic))
            and one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    return bool(one == other)


def _close(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return np.shape(one) == np.shape(other) and bool(
        np.allclose(one, other, rtol=1e-12, atol=1e-14, equal_nan=True)
    )
