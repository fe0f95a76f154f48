"""Gradients as nodes: each operation's ``backward``, read on nodes instead of arrays.

What comes out is a graph like any other. It can be run, trained on, and differentiated
again: Hessian-vector products and Jacobians follow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from mfcore.errors import BackwardError, GradientError, NotDifferentiableError, type_name
from mfcore.gradient_operations import BackwardOf, BroadcastLike, Seed, SumTo
from mfcore.graph import collector_paused
from mfcore.node import Constant, Node, NodeLike, as_node, describe, dtype_of, shape_of
from mfcore.operation import spec_of
from mfcore.sorting import topological
from mfcore.symbolic import NotKnownError, read_backward
from mfcore.values import float_dtype

_BY_THE_RUN = frozenset({"training", "saved_of_result"})
"""What a ``backward`` may ask for that only a run can say."""


@overload
def gradient(cost: Node, wrt: Node, *, grad: NodeLike | None = None) -> Node: ...
@overload
def gradient(cost: Node, wrt: Sequence[Node], *, grad: NodeLike | None = None) -> list[Node]: ...
def gradient(
    cost: Node, wrt: Node | Sequence[Node], *, grad: NodeLike | None = None
) -> Node | list[Node]:
    """Return the gradients of a node as nodes, which can be run and differentiated again.

    Parameters
    ----------
    cost : Node
        The node to differentiate.
    wrt : Node or sequence of Node
        What to differentiate it by: parameters, inputs or any nodes within its graph.
    grad : array_like or Node, optional
        Gradient with respect to ``cost`` itself, of its shape; 1 for a scalar.

    Returns
    -------
    Node or list of Node
        For each node of ``wrt`` its gradient, of its shape and, where it is one of floats,
        its dtype; zeros where the cost does not depend on it. One node for one node.

    Raises
    ------
    GradientError
        If the cost is known to be no scalar and no ``grad`` is given, ``grad`` is known to
        have another shape, or a node of ``wrt`` is a constant.
    NotDifferentiableError
        If the gradient has to pass an operation without ``backward``.
    NotTraceableError
        If an operation's functions cannot be read on nodes.

    Examples
    --------
    >>> import mfcore as mf
    >>> x = mf.Input("x")
    >>> slope = mf.gradient(x**3, x)
    >>> curvature = mf.gradient(slope, x)
    >>> run = mf.Session([slope, curvature]).run({x: 2.0})
    >>> float(run[slope]), float(run[curvature])
    (12.0, 12.0)
    """
    single = isinstance(wrt, Node)
    targets = _checked(cost, wrt)
    with collector_paused():
        found = _walk(cost, targets, _seed(cost, grad))
        gradients = [_final(found.get(node), node) for node in targets]
    return gradients[0] if single else gradients


@overload
def hvp(cost: Node, wrt: Node, vectors: NodeLike) -> Node: ...
@overload
def hvp(cost: Node, wrt: Sequence[Node], vectors: Sequence[NodeLike]) -> list[Node]: ...
def hvp(
    cost: Node, wrt: Node | Sequence[Node], vectors: NodeLike | Sequence[NodeLike]
) -> Node | list[Node]:
    """Return the product of a scalar's Hessian and vectors, without the Hessian itself.

    The gradient of ``sum(gradient(cost, wrt) * vectors)`` (Pearlmutter 1994, "Fast exact
    multiplication by the Hessian", with backpropagation twice).

    Parameters
    ----------
    cost : Node
        The scalar to differentiate twice.
    wrt : Node or sequence of Node
        What to differentiate by.
    vectors : array_like or Node, or sequence of them
        One for each node of ``wrt``, of its shape.

    Returns
    -------
    Node or list of Node
        For each node of ``wrt`` its part of the product.

    Raises
    ------
    GradientError, NotDifferentiableError, NotTraceableError
        As ``gradient``; also if there are more or fewer vectors than nodes, or one is
        known to have another shape.

    Examples
    --------
    >>> import mfcore as mf
    >>> x = mf.Parameter([1.0, 2.0])
    >>> product = mf.hvp((x * x * x).sum(), x, [1.0, 10.0])
    >>> mf.Session(product).run()[product].tolist()
    [6.0, 120.0]
    """
    if isinstance(wrt, Node):
        return hvp(cost, [wrt], [vectors])[0]  # type: ignore[list-item]
    targets = _checked(cost, wrt)
    given = [as_node(vector) for vector in vectors]  # type: ignore[union-attr]
    if len(given) != len(targets):
        raise GradientError(f"{len(targets)} nodes, but {len(given)} vectors: give one for each")
    total: Any = None
    for node, slope, vector in zip(targets, gradient(cost, targets), given, strict=True):
        _check_shape(vector, node, "a vector")
        term = (slope * vector).sum()
        total = term if total is None else total + term
    return gradient(total, targets)


@overload
def jacobian(output: Node, wrt: Node) -> Node: ...
@overload
def jacobian(output: Node, wrt: Sequence[Node]) -> list[Node]: ...
def jacobian(output: Node, wrt: Node | Sequence[Node]) -> Node | list[Node]:
    """Return the derivatives of all elements of a node, as nodes.

    One gradient is built for each element, so the output should be small.

    Parameters
    ----------
    output : Node
        Of a shape that is known in all parts.
    wrt : Node or sequence of Node
        What to differentiate by.

    Returns
    -------
    Node or list of Node
        For each node of ``wrt`` the derivatives, of the output's shape followed by the
        node's.

    Raises
    ------
    GradientError
        If the output's shape is not known, or it has no elements.
    NotDifferentiableError, NotTraceableError
        As ``gradient``.

    Examples
    --------
    >>> import mfcore as mf
    >>> x = mf.Parameter([1.0, 2.0, 3.0])
    >>> J = mf.jacobian(x * x, x)
    >>> mf.Session(J).run()[J].tolist()
    [[2.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 6.0]]
    """
    if isinstance(wrt, Node):
        return jacobian(output, [wrt])[0]
    targets = _checked(output, wrt)
    shape = shape_of(output)
    if shape is None or None in shape:
        raise GradientError(
            f"the shape of {describe(output)} is {'not known' if shape is None else shape}: a "
            f"Jacobian has one row for each element. Declare the shapes of the inputs, "
            f"`Input('x', shape=(3,))`"
        )
    sizes: tuple[int, ...] = shape  # type: ignore[assignment]
    if math.prod(sizes) == 0:
        raise GradientError(f"{describe(output)} of shape {sizes} has no elements to differentiate")
    rows = []
    for place in np.ndindex(sizes):
        unit = np.zeros(sizes, _float_of(output))
        unit[place] = 1
        rows.append(gradient(output, targets, grad=unit))
    return [_stacked([row[k] for row in rows], sizes) for k in range(len(targets))]


def _stacked(rows: list[Node], sizes: tuple[int, ...]) -> Node:
    """Put nodes, one for each element of an array of the given sizes, into one."""
    for size in reversed(sizes):
        rows = [np.stack(rows[i : i + size]) for i in range(0, len(rows), size)]  # type: ignore[misc]
    return rows[0]


# The walk


def _walk(cost: Node, wrt: Sequence[Node], seed: Node) -> dict[Node, Node]:
    """Go from the cost back to ``wrt``; return the gradients found, by node.

    The same walk, in the same order, as the reference engine's.
    """
    nodes = topological((cost,))
    needed = set(wrt)
    for node in nodes:
        if any(source in needed for source in node.inputs):
            needed.add(node)
    found: dict[Node, Node] = {cost: seed} if cost in needed else {}
    for node in reversed(nodes):
        grad = found.get(node)
        if grad is None or node.__operation__ is None:
            continue
        sources = node.inputs
        flags = [source in needed for source in sources]
        if not any(flags):
            continue
        gradients = _backward(node, grad, flags)
        for source, flag, gradient in zip(sources, flags, gradients, strict=True):
            if flag and gradient is not None:
                sofar = found.get(source)
                found[source] = gradient if sofar is None else sofar + gradient
    return found


def _backward(node: Node, grad: Node, flags: list[bool]) -> list[Node | None]:
    """Return a node's contributions to the gradients of its inputs."""
    spec = spec_of(node)
    if spec.backward is None:
        raise NotDifferentiableError(
            f"{describe(node)} has no backward: no gradient passes through it"
        )
    if not _BY_THE_RUN.isdisjoint(spec.backward_asks) or (
        spec.saves and not {"rng", "training"}.isdisjoint(spec.forward_asks)
    ):
        return _in_the_run(node, grad, flags)
    try:
        gradients = read_backward(node, grad, flags)
    except NotKnownError:
        return _in_the_run(node, grad, flags)
    return [
        None if gradient is None else _fitted(gradient, node, k)
        for k, gradient in enumerate(gradients)
    ]


def _in_the_run(node: Node, grad: Node, flags: list[bool]) -> list[Node | None]:
    """Return gradients whose shapes a run has to tell: ``backward`` called when it does."""
    spec = spec_of(node)
    settings = tuple((name, getattr(node, name)) for name in spec.hyperparameters)
    return [
        BackwardOf(grad, node, *node.inputs, of=type(node), settings=settings, place=k)
        if flag
        else None
        for k, flag in enumerate(flags)
    ]


def _fitted(gradient: Node, node: Node, k: int) -> Node:
    """Return a gradient in the shape and dtype of the input that it belongs to."""
    spec, source = spec_of(node), node.inputs[k]
    name = spec.inputs[min(k, len(spec.inputs) - 1)]
    if _alike(gradient, source):
        return gradient
    if name in spec.broadcasts:
        return SumTo(gradient, source)
    mine, its = shape_of(gradient), shape_of(source)
    if mine is not None and its is not None and not _may_equal(mine, its):
        raise BackwardError(
            f"backward of {describe(node)} returned a gradient of shape {mine} for its input "
            f"{spec.input_names(len(node.inputs))[k]!r} of shape {its}"
        )
    kinds = dtype_of(gradient), dtype_of(source)
    if None in kinds or kinds[0] == kinds[1] or kinds[1].kind != "f":  # type: ignore[union-attr]
        return gradient  # at the latest the end of the walk casts it
    return SumTo(gradient, source)


def _final(gradient: Node | None, node: Node) -> Node:
    """Return what the walk found for a node in its shape and dtype, zeros if it found nothing."""
    if gradient is not None:
        return gradient if _alike(gradient, node) else SumTo(gradient, node)
    shape = shape_of(node)
    if shape is None or None in shape or dtype_of(node) is None:
        return BroadcastLike(0.0, node)
    return Constant(np.zeros(shape, _float_of(node)))


def _alike(gradient: Node, source: Node) -> bool:
    """Whether a gradient is known to have its node's shape and dtype."""
    mine, its = gradient._known, source._known
    if mine is None or its is None or None in its.shape or its.dtype is None:
        return False
    return mine.shape == its.shape and (mine.dtype == its.dtype or its.dtype.kind != "f")


def _may_equal(one: tuple[int | None, ...], other: tuple[int | None, ...]) -> bool:
    return len(one) == len(other) and all(
        n is None or m is None or n == m for n, m in zip(one, other, strict=True)
    )


# Checking what was asked


def _checked(cost: Any, wrt: Node | Sequence[Node]) -> list[Node]:
    targets = [wrt] if isinstance(wrt, Node) else list(wrt)
    for node in (cost, *targets):
        if not isinstance(node, Node):
            raise GradientError(f"gradients are of nodes by nodes, not {type_name(node)} {node!r}")
    for node in targets:
        if isinstance(node, Constant):
            raise GradientError(
                f"{describe(node)} is a constant; make it an Input or a Parameter to get its "
                f"gradient"
            )
    return targets


def _seed(cost: Node, grad: NodeLike | None) -> Node:
    """Return the gradient of the cost itself as a node."""
    shape = shape_of(cost)
    if grad is not None:
        given = as_node(grad)
        _check_shape(given, cost, "grad")
        return given if _alike(given, cost) else BroadcastLike(given, cost)
    if shape is None or None in shape or dtype_of(cost) is None:
        return Seed(cost)
    if math.prod(shape) != 1:  # type: ignore[arg-type]
        raise GradientError(
            f"{describe(cost)} has shape {shape}: only a scalar has a gradient by itself. "
            f"Reduce it (`.sum()`), or give `grad=`, an array of its shape"
        )
    return Constant(np.ones(shape, _float_of(cost)))


def _check_shape(given: Node, node: Node, what: str) -> None:
    mine, its = shape_of(given), shape_of(node)
    if mine is not None and its is not None and not _may_equal(mine, its):
        raise GradientError(f"{what} has shape {mine}, {describe(node)} has shape {its}")


def _float_of(node: Node) -> np.dtype[Any]:
    dtype = dtype_of(node)
    return np.dtype(np.float64) if dtype is None else float_dtype(dtype)
