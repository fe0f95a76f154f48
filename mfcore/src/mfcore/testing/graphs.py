"""Checks of an operation in graphs: read on nodes, pickled, written to files."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mfcore.engine import Engine
from mfcore.graph import Graph
from mfcore.node import Array, Input, Node, dtype_of, shape_of
from mfcore.operation import FORWARD_EXTRAS, operation, read_forward, spec_of
from mfcore.reference import ReferenceEngine
from mfcore.session import Session
from mfcore.testing.calls import moving, weights
from mfcore.testing.comparison import close, difference, same
from mfcore.testing.outcome import CheckError, NotApplicable
from mfcore.testing.samples import Sample
from mfcore.testing.subject import Subject


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


def applied(subject: Subject, sample: Sample, *nodes: Node) -> Node:
    """Return the operation applied to nodes."""
    return subject.operation(*nodes, **sample.hyperparameters)


def inputs_for(sample: Sample) -> list[Node]:
    """Return an input node for each input of a sample."""
    return [Input(f"x{k}") for k in range(len(sample.inputs))]


def typed_inputs_for(sample: Sample) -> list[Node]:
    """Return input nodes that know the shape and dtype of a sample's inputs."""
    return [Input(shape=x.shape, dtype=x.dtype) for x in sample.inputs]


def feeds_for(sample: Sample, nodes: Sequence[Node]) -> dict[Any, Array]:
    """Return a sample's inputs by node."""
    return dict(zip(nodes, sample.inputs, strict=True))


def sources(subject: Subject, sample: Sample) -> dict[str, int]:
    """Return which inputs get a gradient: their places by name."""
    if not spec_of(subject.operation).differentiable:
        return {}
    names = spec_of(subject.operation).input_names(len(sample.inputs))
    return {names[k]: k for k in moving(sample)}


def run(
    root: Node,
    feeds: Mapping[Any, Array],
    wrt: Sequence[Node] = (),
    *,
    engine: Engine | None = None,
    training: bool = False,
) -> tuple[Array, list[Array]]:
    """Run a graph, on the reference engine by default; return its value and gradients."""
    session = Session(root, engine=engine or ReferenceEngine(), seed=0)
    done = session.run(feeds, training=training)
    value = np.asarray(done[root])
    if not wrt:
        return value, []
    found = done.backward(root, wrt=list(wrt), grad=arriving(value))
    return value, [np.asarray(found[node]) for node in wrt]


def results(
    subject: Subject, sample: Sample, engine: Engine | None = None, training: bool = False
) -> tuple[Array, list[Array]]:
    """Apply the operation to a sample in a graph; return its value and gradients."""
    nodes = inputs_for(sample)
    wrt = [nodes[k] for k in sources(subject, sample).values()]
    root = applied(subject, sample, *nodes)
    return run(root, feeds_for(sample, nodes), wrt, engine=engine, training=training)


def arriving(value: Array) -> Array:
    """Return the gradient that arrives at a result: random numbers of its dtype."""
    return weights(value.shape).astype(value.dtype if value.dtype.kind == "f" else np.float64)


def pickling(subject: Subject) -> int:
    """A node survives pickling, with its hyperparameters and the same results."""
    for sample in subject.samples:
        nodes = inputs_for(sample)
        try:
            node = applied(subject, sample, *nodes)
            restored = pickle.loads(pickle.dumps(node))
        except Exception as error:
            raise CheckError(f"a node cannot be pickled: {error}") from error
        for name in spec_of(subject.operation).hyperparameters:
            mine, its = getattr(node, name), getattr(restored, name)
            if repr(mine) != repr(its):
                raise CheckError(f"pickling changes {name}: {mine!r} becomes {its!r}")
        value, _ = run(node, feeds_for(sample, nodes))
        again, _ = run(restored, feeds_for(sample, restored.inputs))
        if value.tobytes() != again.tobytes():
            raise CheckError(
                f"a node gives another result after pickling, "
                f"{difference('it', again, value)}, on {sample}"
            )
    return len(subject.samples)


def file(subject: Subject) -> int:
    """A graph that was saved to a file and loaded gives the same bits."""
    from mfcore import registry
    from mfcore.files import load, save

    if registry.current().provider(subject.operation) is None:
        raise NotApplicable("no loaded pack provides it, so that no file can name it")
    inputs = [
        [Input(f"x{i}_{k}") for k in range(len(sample.inputs))]
        for i, sample in enumerate(subject.samples)
    ]
    roots = [applied(subject, s, *x) for s, x in zip(subject.samples, inputs, strict=True)]
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        try:
            save(path, roots)
            graph = load(path).graph
        except Exception as error:
            raise CheckError(f"it cannot be saved and loaded: {error}") from error
    for sample, nodes, root, again in zip(
        subject.samples, inputs, roots, graph.outputs, strict=True
    ):
        value, _ = run(root, feeds_for(sample, nodes))
        found, _ = run(again, feeds_for(sample, [graph[str(node.name)] for node in nodes]))
        if not same(found, value):
            raise CheckError(
                f"loaded from a file it gives another result, "
                f"{difference('it', found, value)}, on {sample}"
            )
    return len(subject.samples)


def inference(subject: Subject) -> int:
    """What is known of shape and dtype before a run is true in it."""
    cases = 0
    for sample in (s for both in subject.samples for s in (both, both.cast(np.float32))):
        nodes = typed_inputs_for(sample)
        node = applied(subject, sample, *nodes)
        shape, dtype = shape_of(node), dtype_of(node)
        value, _ = run(node, feeds_for(sample, nodes))
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
            raise CheckError(
                f"read before a run its dtype is {dtype}, in the run {value.dtype}, on {sample}"
            )
    if not cases:
        raise NotApplicable("its shape is only known in a run: forward cannot be read on nodes")
    return cases


def traceable(subject: Subject) -> int:
    """Forward read on nodes builds a graph that gives what forward gives on arrays."""
    if asked := FORWARD_EXTRAS & set(spec_of(subject.operation).forward_asks):
        raise NotApplicable(f"forward asks for {', '.join(sorted(asked))}, which only a run has")
    for sample in subject.samples:
        nodes = typed_inputs_for(sample)
        node = applied(subject, sample, *nodes)
        spec = spec_of(subject.operation)
        hyperparameters = {name: getattr(node, name) for name in spec.hyperparameters}
        try:
            read = read_forward(subject.operation, tuple(nodes), hyperparameters)
        except Exception as error:  # anything: it was written for arrays
            told = str(error).splitlines() or [""]
            raise NotApplicable(
                f"it is not traceable, engines call it as it is or refuse it: forward needs "
                f"numbers ({type(error).__name__}: {told[0]})"
            ) from None
        if not isinstance(read, Node):
            raise NotApplicable("forward returns no node when it is read on nodes")
        feeds = feeds_for(sample, nodes)
        graph = Graph(read)
        found, _ = run(read, {node: x for node, x in feeds.items() if node in graph})
        expected, _ = run(node, feeds)
        if not close(found, expected, rtol=1e-10, atol=1e-12):
            raise CheckError(
                f"forward read on nodes is another function, "
                f"{difference('it', found, expected)}, on {sample}"
            )
    return len(subject.samples)
