"""Checks of gradients: against differences, where inputs are stretched or shared, as graphs."""

from __future__ import annotations

import numpy as np

from mfcore.errors import MiniFlowError, NotTraceableError
from mfcore.gradient import gradient
from mfcore.node import Array, Input
from mfcore.operation import FORWARD_EXTRAS, spec_of
from mfcore.reference import ReferenceEngine
from mfcore.session import Session
from mfcore.testing.calls import call, call_forward, fitted, moving, require_derivative, weights
from mfcore.testing.comparison import close, difference, same
from mfcore.testing.graphs import (
    Both,
    applied,
    arriving,
    feeds_for,
    inputs_for,
    results,
    run,
    sources,
    typed_inputs_for,
)
from mfcore.testing.outcome import CheckError, NotApplicable
from mfcore.testing.samples import Sample
from mfcore.testing.subject import Subject

STEP = 1e-6
"""Half the distance between the two points of a central difference, times the input's scale."""


def gradients(subject: Subject, directions: int = 3) -> int:
    """Gradients agree with central differences along random directions, in float64."""
    require_derivative(subject.operation)
    cases = 0
    for sample in subject.samples:
        found = fitted(subject.operation, sample, call(subject.operation, sample).gradients)
        for k in moving(sample):
            if not sample.inputs[k].size:
                continue
            claimed = found[k]
            slope = np.zeros(sample.inputs[k].shape) if claimed is None else claimed
            rng = np.random.default_rng(k)
            for _ in range(directions):
                direction = rng.normal(size=slope.shape)
                measured = _difference(subject, sample, k, direction)
                told = float(np.sum(slope * direction))
                if not _agree(told, measured):
                    raise CheckError(_worst(subject, sample, k, slope, claimed is None))
                cases += 1
    if not cases:
        raise NotApplicable("no input of its samples holds floats")
    return cases


def _difference(subject: Subject, sample: Sample, k: int, direction: Array) -> float:
    x, sums = sample.inputs[k], []
    for sign in (1, -1):
        moved = sample.moved(k, np.asarray(x + sign * STEP * direction))
        value = np.asarray(call_forward(subject.operation, moved).value)
        sums.append(float(np.sum(weights(value.shape) * value)))
    return (sums[0] - sums[1]) / (2 * STEP)


def _agree(told: float, measured: float) -> bool:
    return abs(told - measured) <= 2e-6 * max(1.0, abs(told), abs(measured))


def _worst(subject: Subject, sample: Sample, k: int, slope: Array, none: bool) -> str:
    """Return what is wrong with a gradient: the element that is furthest from the difference."""
    name = spec_of(subject.operation).input_names(len(sample.inputs))[k]
    measured = np.empty(slope.shape)
    for place in np.ndindex(slope.shape):
        direction = np.zeros(slope.shape)
        direction[place] = 1.0
        measured[place] = _difference(subject, sample, k, direction)
    worst = np.unravel_index(int(np.argmax(np.abs(measured - slope))), slope.shape)
    place = tuple(int(i) for i in worst)
    says = "None, which stands for 0" if none else f"{float(slope[place]):.8g}"
    return (
        f"the gradient of {name} is wrong, most of all at {name}{list(place)}: backward says "
        f"{says}, differences say {float(measured[place]):.8g}; on {sample}"
    )


def broadcasting(subject: Subject) -> int:
    """Where an input is stretched, its gradient is summed back: as if it had been stretched."""
    spec, cases = spec_of(subject.operation), 0
    if spec.variadic or len(spec.inputs) > 1:
        for sample in subject.samples:
            cases += _stretched(subject, sample)
    elif spec.broadcasts:
        for sample in subject.samples:
            results(subject, sample)
            cases += 1
    if not cases:
        raise NotApplicable("its inputs are not stretched")
    return cases


def _stretched(subject: Subject, sample: Sample) -> int:
    """Shrink one input of a sample whose inputs all have the shape of the result."""
    spec, cases = spec_of(subject.operation), 0
    shape = np.shape(call_forward(subject.operation, sample).value)
    if not shape or 0 in shape or any(x.shape != shape for x in sample.inputs):
        return 0
    for k, x in enumerate(sample.inputs):
        for small in {x[0].shape: x[0], x[:1].shape: x[:1]}.values():
            shrunk = sample.moved(k, np.asarray(small))
            full = sample.moved(k, np.broadcast_to(small, x.shape).copy())
            try:
                value = call_forward(subject.operation, shrunk).value
            except Exception:  # it does not broadcast, which is its good right
                if spec.broadcasts and spec.inputs[min(k, len(spec.inputs) - 1)] in spec.broadcasts:
                    raise
                continue
            expected = call_forward(subject.operation, full).value
            if np.shape(value) != shape or len(sample.inputs) < 2:
                continue
            if not close(value, expected):
                raise CheckError(
                    f"a stretched input gives another result, "
                    f"{difference('it', value, expected)}, on {shrunk}"
                )
            cases += 1
            if spec.differentiable:
                _compare_stretched(subject, shrunk, full, k)
    return cases


def _compare_stretched(subject: Subject, shrunk: Sample, full: Sample, k: int) -> None:
    name = spec_of(subject.operation).input_names(len(full.inputs))[k]
    found = fitted(subject.operation, shrunk, call(subject.operation, shrunk).gradients)
    expected = fitted(subject.operation, full, call(subject.operation, full).gradients)
    mine, whole = found[k], expected[k]
    if mine is None or whole is None:
        return
    small = shrunk.inputs[k]
    summed = whole.sum(axis=0, keepdims=small.ndim == whole.ndim)
    if not close(mine, summed, rtol=1e-10, atol=1e-12):
        raise CheckError(
            f"the gradient of {name} is not summed where it is stretched, "
            f"{difference(name, mine, summed)}, on {shrunk}"
        )


def fan_out(subject: Subject) -> int:
    """Of what two applications read, the gradient is the sum of both."""
    require_derivative(subject.operation)
    cases = 0
    for sample in subject.samples:
        places, nodes = sources(subject, sample), inputs_for(sample)
        wrt, feeds = [nodes[k] for k in places.values()], feeds_for(sample, nodes)
        one, two = (applied(subject, sample, *nodes) for _ in range(2))
        _, once = run(one, feeds, wrt)
        _, both = run(Both(one, two), feeds, wrt)
        for name, alone, together in zip(places, once, both, strict=True):
            if not close(together, 2 * alone, rtol=1e-12, atol=1e-14):
                raise CheckError(
                    f"two applications do not give twice the gradient of {name}, "
                    f"{difference(name, together, 2 * alone)}, on {sample}"
                )
        cases += bool(wrt)
    if not cases:
        raise NotApplicable("no input of its samples holds floats")
    return cases


def same_node(subject: Subject) -> int:
    """A node that is several inputs at once gets the sum of their gradients."""
    require_derivative(subject.operation)
    cases = 0
    for sample in subject.samples:
        count, x = len(sample.inputs), sample.inputs[0]
        alike = all(y.shape == x.shape and y.dtype == x.dtype for y in sample.inputs)
        if count < 2 or not alike or x.dtype.kind != "f":
            continue
        repeated = sample.replaced(x.copy() for _ in range(count))
        value, gradients = results(subject, repeated)
        node = Input("x")
        again, (total,) = run(applied(subject, sample, *[node] * count), {node: x}, [node])
        if not same(value, again):
            raise CheckError(
                f"the same node twice gives another result, {difference('it', again, value)}, "
                f"on {sample}"
            )
        if not close(total, sum(gradients)):
            raise CheckError(
                f"the gradient of a node that is all inputs is not the sum of theirs, "
                f"{difference('it', total, sum(gradients))}, on {sample}"
            )
        cases += 1
    if not cases:
        raise NotApplicable("its samples have no two inputs that are alike")
    return cases


def graph_of_gradients(subject: Subject) -> int:
    """``mfcore.gradient``, backward read on nodes, gives what backward gives."""
    require_derivative(subject.operation)
    if FORWARD_EXTRAS & set(spec_of(subject.operation).forward_asks):
        raise NotApplicable("it asks for rng or training: its gradient is the run's")
    cases = 0
    for sample in subject.samples:
        places, nodes = sources(subject, sample), typed_inputs_for(sample)
        if not places:
            continue
        feeds, wrt = feeds_for(sample, nodes), [nodes[k] for k in places.values()]
        node = applied(subject, sample, *nodes)
        value, expected = run(node, feeds, wrt)
        try:
            found = gradient(node, wrt, grad=arriving(value))
            session = Session(found, engine=ReferenceEngine())
            done = session.run({n: x for n, x in feeds.items() if n in session.graph})
        except NotTraceableError:  # which is its good right
            raise NotApplicable("it is not traceable: backward needs numbers") from None
        except MiniFlowError as error:
            raise CheckError(f"backward cannot be read on nodes: {error}") from error
        for name, mine, its in zip(places, found, expected, strict=True):
            if not close(done[mine], its, rtol=1e-10, atol=1e-12):
                raise CheckError(
                    f"backward read on nodes gives another gradient of {name}, "
                    f"{difference(name, done[mine], its)}, on {sample}"
                )
        cases += 1
    if not cases:
        raise NotApplicable("no input of its samples holds floats")
    return cases
