"""Checks of an operation's two functions as functions: form, dtypes, layouts, shapes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mfcore.node import Array
from mfcore.operation import spec_of
from mfcore.testing.calls import (
    Called,
    call,
    call_forward,
    fitted,
    moving,
    require_derivative,
)
from mfcore.testing.comparison import close, difference
from mfcore.testing.drawn_samples import without_elements
from mfcore.testing.outcome import CheckError, NotApplicable
from mfcore.testing.samples import Sample
from mfcore.testing.subject import Subject


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


def linearity(subject: Subject) -> int:
    """A gradient that arrives four times as large leaves four times as large."""
    require_derivative(subject.operation)
    for sample in subject.samples:
        once = call(subject.operation, sample).gradients
        fourfold = call(subject.operation, sample, scale=4.0).gradients  # exact in binary
        for k in moving(sample):
            if once[k] is not None and not close(np.multiply(once[k], 4), fourfold[k]):
                name = spec_of(subject.operation).input_names(len(sample.inputs))[k]
                raise CheckError(
                    f"the gradient of {name} is not linear in grad, "
                    f"{difference(name, fourfold[k], np.multiply(once[k], 4))}, on {sample}"
                )
    return len(subject.samples)


def dtypes(subject: Subject) -> int:
    """Of float32 all results are float32, of float64 float64; gradients too."""
    spec, cases = spec_of(subject.operation), 0
    for sample in subject.samples:
        if not moving(sample):
            continue
        for dtype in (np.float32, np.float64):
            called = subject.called(sample.cast(dtype))
            found = {"the result": called.value}
            places = spec.input_names(len(sample.inputs))
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
            names = spec_of(subject.operation).input_names(len(sample.inputs))
            pairs = [("the result", found.value, expected.value)]
            pairs += zip(names, found.gradients, expected.gradients, strict=False)
            for name, mine, its in pairs:
                if not close(mine, its):
                    raise CheckError(
                        f"it gives something else on arrays {how}, "
                        f"{difference(name, mine, its)}, on {sample}"
                    )
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
    for empty in without_elements(subject.operation):
        try:
            fitted_if_any(subject, empty, subject.called(empty))
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
