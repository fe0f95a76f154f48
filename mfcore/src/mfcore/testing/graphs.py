"""Checks of an operation in graphs: gradients, broadcasting, sharing, pickling, engines."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mfcore.errors import MiniFlowError, NotTraceableError
from mfcore.gradient import gradient
from mfcore.node import Array, Input, Node, dtype_of, shape_of
from mfcore.operation import operation, spec_of
from mfcore.reference import ReferenceEngine
from mfcore.session import Session
from mfcore.testing.calls import call, call_forward, fitted, moving, require_derivative, weights
from mfcore.testing.functions import Subject
from mfcore.testing.outcome import CheckError, NotApplicable
from mfcore.testing.samples import Sample

STEP = 1e-6
"""Half the distance between the two points of a central difference, times the input's scale."""


@operation
class Both(Node):
    """The sum of two nodes of one shape: what makes one cost of two applications."""

    x: Node
    y: Node

    @staticmethod
    def forward(x: Any, y: Any) -> Any:
        """Add the two."""
        return x + y

    @staticmethod
    def backward(grad: Any) -> Any:
        """Pass the gradient to both."""
        return grad, grad


def gradients(subject: Subject) -> int:
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
            for _ in range(3):
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
            _compare_run(subject, sample)
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
            if not np.allclose(value, expected, rtol=1e-12, atol=1e-14):
                raise CheckError(f"a stretched input gives another result, on {shrunk}")
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
    if not np.allclose(mine, summed, rtol=1e-10, atol=1e-12):
        raise CheckError(f"the gradient of {name} is not summed where it is stretched, on {shrunk}")


def _nodes(subject: Subject, inputs: Sequence[Any], sample: Sample) -> Node:
    return subject.operation(*inputs, **sample.hyperparameters)


def _backward(
    root: Node, nodes: Sequence[Node], arrays: Sequence[Array], wrt: Sequence[Node], engine: Any
) -> tuple[Array, list[Array]]:
    """Run a graph; return its value and the gradients of ``wrt``."""
    session = Session(root, engine=engine, seed=0)
    run = session.run(dict(zip(nodes, arrays, strict=True)))
    value = np.asarray(run[root])
    if not wrt:
        return value, []
    found = run.backward(root, wrt=list(wrt), grad=weights(value.shape).astype(_float(value)))
    return value, [np.asarray(found[node]) for node in wrt]


def _float(value: Array) -> Any:
    return value.dtype if value.dtype.kind == "f" else np.float64


def _wrt(subject: Subject, sample: Sample, nodes: Sequence[Node]) -> list[Node]:
    if not spec_of(subject.operation).differentiable:
        return []
    return [nodes[k] for k in moving(sample)]


def _compare_run(subject: Subject, sample: Sample) -> None:
    """Compare what the reference engine gives with the operation's own functions."""
    nodes = [Input() for _ in sample.inputs]
    wrt = _wrt(subject, sample, nodes)
    _backward(_nodes(subject, nodes, sample), nodes, sample.inputs, wrt, ReferenceEngine())


def fan_out(subject: Subject) -> int:
    """Of what two applications read, the gradient is the sum of both."""
    require_derivative(subject.operation)
    cases = 0
    for sample in subject.samples:
        nodes = [Input() for _ in sample.inputs]
        wrt = _wrt(subject, sample, nodes)
        one = _nodes(subject, nodes, sample)
        two = _nodes(subject, nodes, sample)
        reference = ReferenceEngine()
        once = _backward(one, nodes, sample.inputs, wrt, reference)[1]
        both = _backward(Both(one, two), nodes, sample.inputs, wrt, reference)[1]
        if not all(np.allclose(2 * a, b, rtol=1e-12) for a, b in zip(once, both, strict=True)):
            raise CheckError(f"two applications do not give twice the gradient, on {sample}")
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
        nodes, node = [Input() for _ in range(count)], Input()
        reference = ReferenceEngine()
        apart = _backward(_nodes(subject, nodes, sample), nodes, repeated.inputs, nodes, reference)
        once = _backward(_nodes(subject, [node] * count, sample), [node], [x], [node], reference)
        if not np.array_equal(apart[0], once[0]):
            raise CheckError(f"the same node twice gives another result, on {sample}")
        if not np.allclose(sum(apart[1]), once[1][0], rtol=1e-12, atol=1e-14):
            raise CheckError(
                f"the gradient of a node that is all inputs is not the sum of theirs, on {sample}"
            )
        cases += 1
    if not cases:
        raise NotApplicable("its samples have no two inputs that are alike")
    return cases


def pickling(subject: Subject) -> int:
    """A node survives pickling, with its hyperparameters and the same results."""
    for sample in subject.samples:
        nodes = [Input(f"x{k}") for k in range(len(sample.inputs))]
        try:
            node = _nodes(subject, nodes, sample)
            restored = pickle.loads(pickle.dumps(node))
        except Exception as error:
            raise CheckError(f"a node cannot be pickled: {error}") from error
        for name in spec_of(subject.operation).hyperparameters:
            mine, its = getattr(node, name), getattr(restored, name)
            if repr(mine) != repr(its):
                raise CheckError(f"pickling changes {name}: {mine!r} becomes {its!r}")
        value, _ = _backward(node, nodes, sample.inputs, [], ReferenceEngine())
        again, _ = _backward(restored, restored.inputs, sample.inputs, [], ReferenceEngine())
        if value.tobytes() != again.tobytes():
            raise CheckError(f"a node gives another result after pickling, on {sample}")
    return len(subject.samples)


def file(subject: Subject) -> int:
    """A graph that was saved to a file and loaded gives the same bits."""
    from mfcore import registry
    from mfcore.files import load, save

    if registry.current().provider(subject.operation) is None:
        raise NotApplicable("no loaded pack provides it, so that no file can name it")
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        for sample in subject.samples:
            nodes = [Input(f"x{k}") for k in range(len(sample.inputs))]
            node = _nodes(subject, nodes, sample)
            try:
                save(path, node)
                loaded = load(path)
            except Exception as error:
                raise CheckError(f"it cannot be saved and loaded: {error}, on {sample}") from error
            (again,) = loaded.graph.outputs
            by_name = [loaded.graph[f"x{k}"] for k in range(len(nodes))]
            value, _ = _backward(node, nodes, sample.inputs, [], ReferenceEngine())
            found, _ = _backward(again, by_name, sample.inputs, [], ReferenceEngine())
            if value.dtype != found.dtype or value.tobytes() != found.tobytes():
                raise CheckError(f"loaded from a file it gives another result, on {sample}")
    return len(subject.samples)


def inference(subject: Subject) -> int:
    """What is known of shape and dtype before a run is true in it."""
    cases = 0
    for sample in subject.samples:
        nodes = [Input(shape=x.shape, dtype=x.dtype) for x in sample.inputs]
        node = _nodes(subject, nodes, sample)
        shape, dtype = shape_of(node), dtype_of(node)
        value, _ = _backward(node, nodes, sample.inputs, [], ReferenceEngine())
        if shape is not None:
            cases += 1
            fits = len(shape) == value.ndim and all(
                n in (None, m) for n, m in zip(shape, value.shape, strict=False)
            )
            if not fits:
                raise CheckError(
                    f"read before a run its shape is {shape}, in the run it is {value.shape}, "
                    f"on {sample}"
                )
        if dtype is not None and dtype != value.dtype:
            raise CheckError(f"read before a run its dtype is {dtype}, in the run {value.dtype}")
    if not cases:
        raise NotApplicable("its shape is only known in a run: forward cannot be read on nodes")
    return cases


def graph_of_gradients(subject: Subject) -> int:
    """``mfcore.gradient``, backward read on nodes, gives what backward gives."""
    require_derivative(subject.operation)
    cases = 0
    for sample in subject.samples:
        nodes = [Input(shape=x.shape, dtype=x.dtype) for x in sample.inputs]
        wrt = _wrt(subject, sample, nodes)
        if not wrt:
            continue
        node = _nodes(subject, nodes, sample)
        if {"rng", "training"} & set(spec_of(subject.operation).forward_asks):
            raise NotApplicable("it asks for rng or training: its gradient is the run's")
        value, expected = _backward(node, nodes, sample.inputs, wrt, ReferenceEngine())
        grad = weights(value.shape).astype(_float(value))
        try:
            found = gradient(node, wrt, grad=grad)
            session = Session(found, engine=ReferenceEngine())
            graph = session.graph
            run = session.run(
                {n: x for n, x in zip(nodes, sample.inputs, strict=True) if n in graph}
            )
        except MiniFlowError as error:
            if isinstance(error, NotTraceableError):  # which is its good right
                raise NotApplicable("it is not traceable: backward needs numbers") from None
            raise CheckError(f"backward cannot be read on nodes: {error}") from error
        for mine, its in zip(found, expected, strict=True):
            if not np.allclose(run[mine], its, rtol=1e-10, atol=1e-12):
                raise CheckError(f"backward read on nodes gives another gradient, on {sample}")
        cases += 1
    if not cases:
        raise NotApplicable("no input of its samples holds floats")
    return cases


def engine_agrees(subject: Subject, name: str) -> int:
    """Compare an engine with the reference, values and gradients; see ``mfcore.engine``."""
    from mfcore import registry
    from mfcore.errors import UnknownNameError

    try:
        engine = registry.current().engine(name)
    except UnknownNameError:
        raise NotApplicable(f"no engine {name} is installed") from None
    if {"rng", "training"} & set(spec_of(subject.operation).forward_asks):
        raise NotApplicable("it asks for rng or training: engines draw in their own order")
    # Compiling costs: the first and the last sample differ most.
    chosen = dict.fromkeys((subject.samples[0], subject.samples[-1]))
    for sample in chosen:
        nodes = [Input() for _ in sample.inputs]
        wrt = _wrt(subject, sample, nodes)
        node = _nodes(subject, nodes, sample)
        expected = _backward(node, nodes, sample.inputs, wrt, ReferenceEngine())
        try:
            found = _backward(node, nodes, sample.inputs, wrt, engine())
        except MiniFlowError as error:
            raise CheckError(f"the engine {name} fails on {sample}: {error}") from error
        pairs = [(found[0], expected[0]), *zip(found[1], expected[1], strict=True)]
        for mine, its in pairs:
            if mine.shape != its.shape or not np.allclose(mine, its, rtol=1e-9, atol=1e-11):
                raise CheckError(f"the engine {name} disagrees with the reference, on {sample}")
    return len(chosen)
