"""Checks that calling an operation's functions changes nothing, and depends on nothing else."""

from __future__ import annotations

import copy
import dis
import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from mfcore.node import Array, Node
from mfcore.operation import spec_of
from mfcore.testing.calls import Called, call, call_forward, moving
from mfcore.testing.comparison import difference, same
from mfcore.testing.outcome import CheckError, NotApplicable
from mfcore.testing.samples import Sample, normal
from mfcore.testing.subject import Subject


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
        if not same(was, given[name]):
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
        if not same(one.value, two.value):
            raise CheckError(
                f"the same call gave two results, {difference('it', two.value, one.value)}, on "
                f"{sample}; draw random numbers from the generator that forward may ask for as rng"
            )
        names = spec_of(subject.operation).input_names(len(sample.inputs))
        for name, mine, its in zip(names, two.gradients, one.gradients, strict=False):
            if not same(mine, its):
                raise CheckError(
                    f"the same call gave two gradients of {name}, {difference(name, mine, its)}, "
                    f"on {sample}"
                )
    return len(subject.samples)


def state(subject: Subject) -> int:
    """A call leaves nothing behind: neither in the class, nor for the calls after it."""
    before, generators = _class_contents(subject.operation), _global_generators()
    first = [subject.called(sample) for sample in subject.samples]
    again = [subject.called(sample) for sample in reversed(subject.samples)][::-1]
    for sample, one, two in zip(subject.samples, first, again, strict=True):
        if not same(one.value, two.value) or not same(one.gradients, two.gradients):
            raise CheckError(f"what it returns depends on the calls before it, on {sample}")
    if _global_generators() != generators:
        raise CheckError(
            "a call draws from or seeds the generator that all programs share: draw from the one "
            "that forward may ask for as rng"
        )
    after = _class_contents(subject.operation)
    changed = [name for name in after if after[name] != before.get(name)]
    if changed:
        raise CheckError(f"a call changed {', '.join(changed)} of the class")
    return len(subject.samples)


def _global_generators() -> tuple[str, str]:
    """Return the state of the generators that NumPy and Python keep for everybody, as text."""
    name, keys, position, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return repr((name, np.asarray(keys).tobytes(), position, *rest)), repr(random.getstate())


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
        idle = sorted(set(asked) - loaded_names(function))
        if function is spec.forward:
            # Inputs must arrive somewhere, even where only their shape counts.
            idle = [name for name in idle if name not in spec.inputs]
        if idle:
            raise CheckError(f"{function.__name__} asks for {', '.join(idle)}, but never uses it")
    return len(functions)


def loaded_names(function: Callable[..., Any]) -> set[str]:
    """Return the names that a function's code reads."""
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
            if not same(alone[k], everything[k]):
                name = spec.input_names(len(sample.inputs))[k]
                raise CheckError(
                    f"the gradient of {name} changes when it alone is wanted, "
                    f"{difference(name, alone[k], everything[k])}, on {sample}"
                )
            cases += 1
    if not cases:
        raise NotApplicable("its samples have one input each")
    if not saved:
        raise CheckError(
            "backward asks for wanted, but computes what is not wanted all the same: return "
            "None for it"
        )
    return cases
