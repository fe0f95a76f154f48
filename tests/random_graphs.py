"""Random graphs of all operations of the arithmetic and neural-network packs, with their feeds.

A graph is grown node by node, each node's value being known while it grows: so values stay
moderate, logarithms get what is positive, and what jumps (a maximum, a comparison) is only
applied where its arguments lie apart, or where they are whole numbers, which no rounding
changes.
"""

from __future__ import annotations

import math
import warnings
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st

import mfcore as mf
import mfops_basic as basic
import mfops_nn as nn
from mfcore.operation import spec_of

LARGEST = 8.0
"""Numbers that become larger than this are made smaller again."""

APART = 1e-3
"""How far apart two numbers have to be for a comparison of them to be beyond rounding."""

MOST_ELEMENTS = 200


class RandomGraph:
    """A graph, what to feed it, and a scalar to differentiate by the leaves.

    Attributes
    ----------
    dtype : numpy.dtype
        The least precise one in it.
    leaves : tuple of Node
        Inputs and parameters.
    """

    def __init__(
        self,
        graph: mf.Graph,
        cost: mf.Node,
        feeds: dict[mf.Input, np.ndarray],
        leaves: tuple[mf.Node, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self.graph = graph
        self.cost = cost
        self.feeds = feeds
        self.leaves = leaves
        self.dtype = dtype

    def __repr__(self) -> str:
        lines = []
        for node in self.graph:
            about = self.graph.name(node)
            if isinstance(node, mf.Input):
                about += f" = {self.feeds[node]!r}"
            elif isinstance(node, mf.Parameter):
                about += f" = parameter {node.value!r}"
            elif node.__operation__ is None:
                about += f" = {node.value!r}"
            else:
                inputs = ", ".join(self.graph.name(x) for x in node.inputs)
                fields = {n: getattr(node, n) for n in spec_of(node).hyperparameters}
                about += f" = {type(node).__name__}({inputs}) {fields or ''}"
            lines.append(about)
        outputs = ", ".join(self.graph.name(x) for x in self.graph.outputs)
        return "\n".join([*lines, f"outputs {outputs}"])


class Grower:
    """Grows one graph.

    Parameters
    ----------
    random : random.Random
        Decides everything.
    dtype : dtype
        Of most leaves; some are integers, bools or of the other float dtype.
    smooth : bool
        Whether nothing is compared that is equal, so that gradients are limits of differences.
    """

    def __init__(self, random: Random, dtype: Any, *, smooth: bool = False) -> None:
        self.random = random
        self.dtype = np.dtype(dtype)
        self.smooth = smooth
        self.values: dict[mf.Node, np.ndarray] = {}
        self.feeds: dict[mf.Input, np.ndarray] = {}
        self.whole: set[mf.Node] = set()
        self.drawn: set[mf.Node] = set()  # what dropout changes from its value here
        self.pool: list[mf.Node] = []
        self.leaves: list[mf.Node] = []
        self.numbers = np.random.default_rng(random.randrange(1 << 30))
        self.sizes = [1, random.choice([2, 3]), random.choice([0, 1, 4, 5])]
        for _ in range(random.choice([1, 2, 3])):
            self.pool.append(self.leaf(self.shape()))

    # Leaves

    def shape(self) -> tuple[int, ...]:
        return tuple(
            self.random.choice(self.sizes) for _ in range(self.random.choice([0, 1, 1, 2, 2, 3]))
        )

    def leaf(self, shape: tuple[int, ...], kind: str | None = None) -> mf.Node:
        """Return a new input, parameter or constant that holds numbers of a kind."""
        kind = kind or self.random.choice(["float"] * 6 + ["whole", "whole", "other", "int"])
        dtype = self.dtype
        if kind == "other" and not self.smooth:
            dtype = np.dtype(np.float32 if dtype == np.float64 else np.float64)
        array: Any = np.asarray(self.numbers.normal(size=shape)).astype(dtype)
        if kind == "whole":
            array = np.asarray(self.numbers.integers(-2, 3, shape)).astype(dtype)
        elif kind == "positive":
            array = np.asarray(self.numbers.uniform(0.4, 2.0, shape)).astype(dtype)
        elif kind == "int":
            array = np.asarray(self.numbers.integers(-3, 4, shape))
        elif kind == "bool":
            array = np.asarray(self.numbers.random(shape) < 0.5)
        return self.hold(array, whole=kind == "whole")

    def hold(self, array: np.ndarray, whole: bool = False) -> mf.Node:
        """Return a leaf that holds an array."""
        node: mf.Node
        if array.dtype.kind == "f" and self.random.random() < 0.6:
            node = mf.Parameter(array)
        else:
            node = mf.Input()
            self.feeds[node] = array
        self.values[node] = np.asarray(array)
        if whole or array.dtype.kind in "ib":
            self.whole.add(node)
        self.leaves.append(node)
        return node

    # Choosing nodes

    def pick(self, fits: Any = lambda value: True) -> mf.Node:
        """Return a node whose value fits, recent ones more often; a new leaf if there is none."""
        found = [node for node in self.pool if fits(self.values[node])]
        if not found:
            raise _DoesNotFit
        return self.random.choice([*found, *found[-3:]])

    def float(self, least: int = 0, most: int = 9, filled: bool = False) -> mf.Node:
        """Return a node of floats with so many axes."""

        def fits(value: Any) -> bool:
            return (
                value.dtype.kind == "f"
                and least <= value.ndim <= most
                and (value.size > 0 or not filled)
            )

        try:
            return self.pick(fits)
        except _DoesNotFit:
            sizes = [n or 2 for n in self.sizes] if filled else self.sizes
            shape = [self.random.choice(sizes) for _ in range(max(least, min(2, most)))]
            return self.leaf(tuple(shape), "float")

    def of_shape(self, shape: tuple[int, ...], kind: str = "float") -> mf.Node:
        """Return a node of floats of a shape."""
        if kind == "float" and self.random.random() < 0.7:
            try:
                return self.pick(lambda v: v.dtype.kind == "f" and v.shape == shape)
            except _DoesNotFit:
                pass
        return self.leaf(shape, kind)

    def partner(self, x: mf.Node) -> Any:
        """Return what broadcasts against a node: a node, an array or a Python number."""
        shape = self.values[x].shape

        def fits(value: Any) -> bool:
            try:
                return math.prod(np.broadcast_shapes(value.shape, shape)) <= MOST_ELEMENTS
            except ValueError:
                return False

        choice = self.random.random()
        if choice < 0.1:
            return self.random.choice([2, -1, 0.5, 1.5])
        if choice < 0.2:
            return np.asarray(self.numbers.normal(size=shape[-1:])).astype(self.dtype)
        if choice < 0.4:
            cut = self.random.randrange(len(shape) + 1)
            kept = tuple(self.random.choice([1, n]) for n in shape[cut:])
            return self.leaf(kept)
        return self.pick(fits)

    def positive(self, x: mf.Node) -> mf.Node:
        """Return a node made of another whose elements are at least 0.2."""
        if x not in self.drawn and (self.values[x] > 0.2).all():
            return x
        if self.random.random() < 0.5:
            return self.known(basic.Add(self.known(basic.Square(x)), 0.5))
        return self.known(basic.Exp(self.known(basic.Tanh(x))))

    def axis_of(self, x: mf.Node, filled: bool = False) -> Any:
        """Return an axis argument for a reduction: one axis, several, or none said."""
        shape = self.values[x].shape
        axes = [i for i, n in enumerate(shape) if n or not filled]
        choice = self.random.random()
        if not axes or (choice < 0.25 and len(axes) == len(shape)):
            if filled and 0 in shape:
                raise _DoesNotFit
            return None
        if choice < 0.7:
            axis = self.random.choice(axes)
            return self.random.choice([axis, axis - len(shape)])
        return tuple(sorted(self.random.sample(axes, self.random.randint(1, len(axes)))))

    def apart(self, x: Any, y: Any) -> None:
        """Refuse to compare what rounding may make equal or unequal."""
        a, b = self.value_of(x), self.value_of(y)
        exact = [not isinstance(n, mf.Node) or n in self.whole for n in (x, y)]
        gap = np.abs(np.subtract(a, b, dtype=float))
        if (not all(exact) or self.smooth) and not (gap > APART).all():
            raise _DoesNotFit
        if x in self.drawn or (isinstance(y, mf.Node) and y in self.drawn):
            raise _DoesNotFit

    def value_of(self, x: Any) -> np.ndarray:
        return self.values[x] if isinstance(x, mf.Node) else np.asarray(x)

    # Growing

    def known(self, node: mf.Node) -> mf.Node:
        """Compute a node's value, and return the node; refuse what is not finite."""
        spec = spec_of(node)
        given = {name: getattr(node, name) for name in spec.hyperparameters}
        inputs: list[Any] = []
        for x in node.inputs:
            if x not in self.values and x.__operation__ is None:
                self.values[x] = np.asarray(x.value)
            inputs.append(self.values[x][()])
        if spec.variadic:
            fixed = len(spec.inputs) - 1
            inputs = [*inputs[:fixed], tuple(inputs[fixed:])]
        given.update(zip(spec.inputs, inputs, strict=True))
        given |= {"rng": None, "training": False}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                result = spec.call_forward(given)
        except RuntimeWarning:
            raise _DoesNotFit from None
        value = np.asarray(result[0] if spec.saves else result)
        if value.size > MOST_ELEMENTS or not np.isfinite(value).all():
            raise _DoesNotFit
        if value.dtype.kind in "iu" and value.size and np.abs(value).max() > 1000:
            raise _DoesNotFit
        self.values[node] = value
        if value.dtype.kind in "iub":
            self.whole.add(node)
        if isinstance(node, nn.Dropout) or not self.drawn.isdisjoint(node.inputs):
            self.drawn.add(node)
        return node

    def grow(self, operation: type[mf.Node]) -> None:
        """Add an application of an operation, where there is something to apply it to."""
        try:
            node = self.known(RULES[operation](self))
            value = self.values[node]
            if value.dtype.kind == "f" and value.size and np.abs(value).max() > LARGEST:
                node = self.known(
                    basic.Tanh(node)
                    if self.random.random() < 0.5
                    else basic.Mul(node, float(1 / np.abs(value).max()))
                )
        except _DoesNotFit:
            return
        self.pool.append(node)

    def finish(self, outputs: int) -> RandomGraph:
        """Return the graph of what nobody has used, some other nodes, and a cost of all."""
        if not any(node.__operation__ for node in self.pool):
            self.pool.append(self.known(basic.Sin(self.float())))
        inputs = {x for node in self.pool for x in node.inputs}
        ends = [node for node in self.pool if node not in inputs and node.__operation__]
        others = [node for node in self.pool if node in inputs]
        kept = ends + self.random.sample(others, min(outputs, len(others)))
        terms: list[mf.Node] = []
        for node in kept:
            value = self.values[node]
            weights = self.numbers.normal(size=value.shape).astype(self.dtype)
            terms.append(basic.Sum(basic.Mul(node, weights)))
        cost = basic.Add(*terms)
        graph = mf.Graph(*dict.fromkeys(kept), cost)
        leaves = tuple(x for x in self.leaves if x in graph)
        feeds = {x: array for x, array in self.feeds.items() if x in graph}
        single = any(v.dtype == np.float32 for x, v in self.values.items() if x in graph)
        dtype = np.dtype(np.float32 if single else self.dtype)
        return RandomGraph(graph, cost, feeds, leaves, dtype)


class _DoesNotFit(Exception):
    """An operation cannot be applied to what has been chosen."""


# What each operation is applied to


def _unary(operation: Any) -> Any:
    return lambda g: operation(g.float())


def _on_positive(operation: Any) -> Any:
    return lambda g: operation(g.positive(g.float()))


def _binary(operation: Any) -> Any:
    def rule(g: Grower) -> mf.Node:
        x = g.pick(lambda v: v.dtype.kind != "b")
        operands = [x, _number(g, g.partner(x))]
        if g.random.random() < 0.3:
            operands.reverse()
        return operation(*operands)

    return rule


def _number(g: Grower, x: Any) -> Any:
    """Refuse bools, which arithmetic takes in few places."""
    if g.value_of(x).dtype.kind == "b":
        raise _DoesNotFit
    return x


def _variadic(operation: Any) -> Any:
    def rule(g: Grower) -> mf.Node:
        x = g.float()
        others = [g.partner(x) for _ in range(g.random.choice([0, 1, 1, 1, 2, 3]))]
        shapes = [g.value_of(y).shape for y in others]
        try:
            np.broadcast_shapes(g.values[x].shape, *shapes)
        except ValueError:
            raise _DoesNotFit from None
        operands = [x, *others]
        g.random.shuffle(operands)
        return operation(*operands)

    return rule


def _divide(g: Grower) -> mf.Node:
    x = g.float()
    y = g.partner(x)
    if not isinstance(y, mf.Node) or g.values[y].dtype.kind != "f":
        y = g.float(most=0)
    return basic.Divide(x, g.positive(y))


def _power(g: Grower) -> mf.Node:
    x = g.float()
    if g.random.random() < 0.4:
        exponent = g.random.choice([2, 3, 0.5, -1.0])
        return basic.Power(g.positive(x) if exponent != 2 else x, exponent)
    y = g.partner(x)
    return basic.Power(g.positive(x), y if isinstance(y, mf.Node) else 1.5)


def _jump(operation: Any) -> Any:
    def rule(g: Grower) -> mf.Node:
        x = g.pick(lambda v: v.dtype.kind != "b")
        y = _number(g, g.partner(x))
        g.apart(x, y)
        return operation(x, y)

    return rule


def _away_from_0(operation: Any) -> Any:
    def rule(g: Grower) -> mf.Node:
        x = g.float()
        g.apart(x, 0.0)
        return operation(x)

    return rule


def _logical(operation: Any) -> Any:
    def rule(g: Grower) -> mf.Node:
        x = _bools(g)
        if operation is basic.LogicalNot:
            return operation(x)
        shape = g.values[x].shape
        return operation(x, g.random.choice([x, g.leaf(shape[-1:], "bool"), _bools(g, shape)]))

    return rule


def _bools(g: Grower, shape: Any = None) -> mf.Node:
    def fits(value: Any) -> bool:
        if value.dtype.kind != "b":
            return False
        try:
            return shape is None or np.broadcast_shapes(shape, value.shape) is not None
        except ValueError:
            return False

    try:
        return g.pick(fits)
    except _DoesNotFit:
        return g.leaf(g.shape() if shape is None else shape, "bool")


def _where(g: Grower) -> mf.Node:
    x = g.float()
    y = g.partner(x)
    shape = np.broadcast_shapes(g.values[x].shape, g.value_of(y).shape)
    condition = _bools(g, shape)
    if math.prod(np.broadcast_shapes(shape, g.values[condition].shape)) > MOST_ELEMENTS:
        raise _DoesNotFit
    return basic.Where(condition, *g.random.sample([x, y], 2))


def _reduction(operation: Any) -> Any:
    def rule(g: Grower) -> mf.Node:
        x = g.float() if operation is not basic.Sum else g.pick(lambda v: v.dtype.kind != "b")
        filled = operation is not basic.Sum
        return operation(x, axis=g.axis_of(x, filled), keepdims=g.random.random() < 0.4)

    return rule


def _extreme(operation: Any) -> Any:
    def rule(g: Grower) -> mf.Node:
        x = g.float()
        axis = g.axis_of(x, filled=True)
        if x not in g.whole or g.smooth:
            _distinct(g, x)
        return operation(x, axis=axis, keepdims=g.random.random() < 0.4)

    return rule


def _transpose(g: Grower) -> mf.Node:
    x = g.pick()
    axes = list(range(g.values[x].ndim))
    g.random.shuffle(axes)
    return basic.Transpose(x, axes=g.random.choice([None, tuple(axes)]))


def _swap_axes(g: Grower) -> mf.Node:
    x = g.pick(lambda v: v.ndim > 0)
    ndim = g.values[x].ndim
    return basic.SwapAxes(
        x, axis1=g.random.randrange(-ndim, ndim), axis2=g.random.randrange(-ndim, ndim)
    )


def _reshape(g: Grower) -> mf.Node:
    x = g.pick()
    size = g.values[x].size
    shapes: list[tuple[int, ...]] = [(size,), (1, size), (size, 1)]
    shapes += [(-1, 1, n) for n in (2, 3, 4) if size and size % n == 0]
    return basic.Reshape(x, shape=g.random.choice(shapes + ([()] if size == 1 else [])))


def _broadcast_to(g: Grower) -> mf.Node:
    x = g.pick()
    shape = [g.random.choice(g.sizes) if n == 1 else n for n in g.values[x].shape]
    if g.random.random() < 0.5:
        shape.insert(0, g.random.choice([1, 2, 0]))
    return basic.BroadcastTo(x, shape=tuple(shape))


def _cast(g: Grower) -> mf.Node:
    x = g.pick()
    return basic.Cast(x, dtype=g.random.choice([g.dtype, np.float64]))


def _expand_dims(g: Grower) -> mf.Node:
    x = g.pick(lambda v: v.ndim < 4)
    ndim = g.values[x].ndim
    return basic.ExpandDims(x, axis=g.random.randrange(-ndim - 1, ndim + 1))


def _squeeze(g: Grower) -> mf.Node:
    x = g.pick(lambda v: 1 in v.shape)
    axis = g.random.choice([i for i, n in enumerate(g.values[x].shape) if n == 1])
    return basic.Squeeze(x, axis=g.random.choice([None, axis]))


def _concatenate(g: Grower) -> mf.Node:
    x = g.float(1)
    shape = g.values[x].shape
    axis = g.random.randrange(len(shape))
    others = []
    for _ in range(g.random.choice([1, 1, 2])):
        other = list(shape)
        other[axis] = g.random.choice([0, 1, shape[axis]])
        others.append(g.of_shape(tuple(other)))
    operands = [x, *others]
    g.random.shuffle(operands)
    return basic.Concatenate(*operands, axis=g.random.choice([axis, axis - len(shape)]))


def _stack(g: Grower) -> mf.Node:
    x = g.float(0, 3)
    ndim = g.values[x].ndim
    others = [g.of_shape(g.values[x].shape) for _ in range(g.random.choice([1, 1, 2]))]
    return basic.Stack(x, *others, axis=g.random.randrange(-ndim - 1, ndim + 1))


def _index(g: Grower) -> mf.Node:
    x = g.pick(lambda v: v.ndim > 0)
    return basic.Index(x, index=_some_index(g, g.values[x].shape))


def _some_index(g: Grower, shape: tuple[int, ...]) -> tuple[Any, ...]:
    parts: list[Any] = []
    arrays = 0
    for n in shape:
        choice = g.random.choice(["all", "slice", "back", "int", "array", "mask"])
        if choice == "slice":
            parts.append(slice(g.random.randrange(n + 1), None, g.random.choice([1, 2])))
        elif choice == "back":
            parts.append(slice(None, None, -1))
        elif choice == "int" and n:
            parts.append(g.random.randrange(-n, n))
        elif choice == "array" and n and not arrays:
            arrays += 1
            parts.append([g.random.randrange(-n, n) for _ in range(g.random.choice([1, 2, 3]))])
        elif choice == "mask" and not arrays:
            arrays += 1
            parts.append(np.array([g.random.random() < 0.5 for _ in range(n)], bool))
        else:
            parts.append(slice(None))
    if g.random.random() < 0.2 and not arrays:
        parts.insert(g.random.randrange(len(parts) + 1), None)
    return tuple(parts)


def _index_add(g: Grower) -> mf.Node:
    shape = (g.random.choice([2, 3, 4]), *g.shape()[:1])
    index = _some_index(g, shape)
    x = g.of_shape(np.zeros(shape)[index].shape)
    return basic.IndexAdd(x, index=index, shape=shape)


def _indices(g: Grower, n: int, shape: tuple[int, ...] | None = None) -> mf.Node:
    if not n:
        raise _DoesNotFit
    shape = g.random.choice([(), (2,), (2, 2), (0,), (3,)]) if shape is None else shape
    return g.hold(np.asarray(g.numbers.integers(-n, n, shape)))


def _take(g: Grower) -> mf.Node:
    x = g.float(1)
    axis = g.random.choice([None, *range(g.values[x].ndim), -1])
    n = g.values[x].size if axis is None else g.values[x].shape[axis]
    return basic.Take(x, _indices(g, n), axis=axis)


def _take_add(g: Grower) -> mf.Node:
    shape = (g.random.choice([2, 3]), g.random.choice([1, 2, 4]))
    axis = g.random.choice([None, 0, 1, -1])
    n = math.prod(shape) if axis is None else shape[axis]
    indices = _indices(g, n)
    x = g.of_shape(np.take(np.zeros(shape), g.values[indices], axis=axis).shape)
    return basic.TakeAdd(x, indices, axis=axis, shape=shape)


def _classes(g: Grower, depth: int, shape: tuple[int, ...]) -> mf.Node:
    return g.hold(np.asarray(g.numbers.integers(0, depth, shape)))


def _one_hot(g: Grower) -> mf.Node:
    depth = g.random.choice([1, 3])
    return basic.OneHot(_classes(g, depth, g.shape()[:2]), depth=depth, dtype=g.dtype)


def _matmul(g: Grower) -> mf.Node:
    x = g.float(1)
    shape = g.values[x].shape
    rows: list[int] = [shape[-1]]
    other = g.random.choice([rows, [*rows, g.random.choice(g.sizes)], [2, *rows, 1]])
    if len(shape) > 2 and len(other) > 2:
        other[0] = g.random.choice([1, shape[-3]])
    y = g.of_shape(tuple(other))
    if g.random.random() < 0.3 and len(shape) == 2:
        return basic.MatMul(x, basic_transposed(g, x))
    return basic.MatMul(x, y)


def basic_transposed(g: Grower, x: mf.Node) -> mf.Node:
    """Return the transpose of a node."""
    return g.known(basic.Transpose(x))


def _linear(g: Grower) -> mf.Node:
    X = g.float(2, 2)
    k = g.values[X].shape[1]
    m = g.random.choice(g.sizes)
    b = g.of_shape(g.random.choice([(m,), (1, m), (), (1,)]))
    return nn.Linear(X, g.of_shape((k, m)), b)


def _softmax(g: Grower) -> mf.Node:
    x = g.float(1, filled=True)
    return nn.Softmax(x, axis=g.random.randrange(-1, g.values[x].ndim))


def _mse(g: Grower) -> mf.Node:
    a = g.float(filled=True)
    size = g.values[a].size
    return nn.MSE(g.of_shape(g.random.choice([g.values[a].shape, (size,), (size, 1)])), a)


def _cross_entropy(g: Grower) -> mf.Node:
    logits = g.float(1, filled=True)
    shape = g.values[logits].shape
    if g.random.random() < 0.6:
        return nn.CrossEntropy(_classes(g, shape[-1], shape[:-1]), logits)
    return nn.CrossEntropy(g.of_shape(shape, "positive"), logits)


def _binary_cross_entropy(g: Grower) -> mf.Node:
    logits = g.float(filled=True)
    g.apart(logits, 0.0)
    return nn.BinaryCrossEntropy(g.of_shape(g.values[logits].shape, "positive"), logits)


def _windows(g: Grower) -> dict[str, Any]:
    return g.random.choice(
        [{}, {"padding": "same"}, {"padding": 1}, {"stride": 2}, {"stride": (1, 2), "padding": 1}]
    )


def _images(g: Grower, channels: int = 2) -> mf.Node:
    return g.of_shape((g.random.choice([1, 2, 0]), channels, 4, g.random.choice([3, 4])))


KERNEL = (3, 2, 2, 3)
"""Filters of the convolutions."""


def _correlate(g: Grower) -> mf.Node:
    return nn.Correlate2D(_images(g), g.of_shape(KERNEL), **_windows(g))


def _conv(g: Grower) -> mf.Node:
    return nn.Conv2D(_images(g), g.of_shape(KERNEL), g.of_shape(KERNEL[:1]), **_windows(g))


def _conv_input_gradient(g: Grower) -> mf.Node:
    options = _windows(g)
    x = np.zeros((2, KERNEL[1], 4, 4))
    shape = nn.Correlate2D.forward(x, np.zeros(KERNEL), **_plain(options)).shape
    return nn.Conv2DInputGradient(g.of_shape(shape), g.of_shape(KERNEL), image_size=4, **options)


def _conv_weight_gradient(g: Grower) -> mf.Node:
    options = _windows(g)
    x = _images(g)
    shape = nn.Correlate2D.forward(g.values[x], np.zeros(KERNEL), **_plain(options)).shape
    return nn.Conv2DWeightGradient(x, g.of_shape(shape), kernel_size=KERNEL[2:], **options)


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Return stride and padding as an operation's own functions get them."""
    node = nn.Correlate2D(mf.Input(), mf.Input(), **options)
    return {"stride": node.stride, "padding": node.padding}


def _pool(operation: Any) -> Any:
    def rule(g: Grower) -> mf.Node:
        x = _images(g, g.random.choice([1, 2]))
        if operation is nn.MaxPool2D:
            _distinct(g, x)
        return operation(
            x, **g.random.choice([{}, {"kernel_size": 3, "stride": 1, "padding": "same"}])
        )

    return rule


def _distinct(g: Grower, x: mf.Node) -> None:
    if x in g.drawn or not (np.diff(np.sort(g.values[x].reshape(-1))) > APART).all():
        raise _DoesNotFit


def _max_pool_gradient(g: Grower) -> mf.Node:
    x = _images(g, 1)
    _distinct(g, x)
    pooled = g.known(nn.MaxPool2D(x))
    return nn.MaxPool2DGradient(g.of_shape(g.values[pooled].shape), x, pooled)


RULES: dict[type[mf.Node], Any] = {
    **{op: _unary(op) for op in (basic.Negative, basic.Square, basic.Sin, basic.Cos, basic.Tanh)},
    **{op: _unary(op) for op in (basic.Exp, basic.Expm1, nn.Sigmoid, nn.Dropout)},
    **{op: _on_positive(op) for op in (basic.Sqrt, basic.Log, basic.Log1p)},
    **{op: _away_from_0(op) for op in (basic.Abs, basic.Sign, nn.ReLU)},
    **{op: _variadic(op) for op in (basic.Add, basic.Mul)},
    basic.Subtract: _binary(basic.Subtract),
    basic.Divide: _divide,
    basic.Power: _power,
    **{
        op: _jump(op)
        for op in (
            *(basic.Maximum, basic.Minimum, basic.Less, basic.LessEqual, basic.Greater),
            *(basic.GreaterEqual, basic.Equal, basic.NotEqual),
        )
    },
    **{
        op: _logical(op)
        for op in (basic.LogicalAnd, basic.LogicalOr, basic.LogicalXor, basic.LogicalNot)
    },
    basic.Where: _where,
    basic.Sum: _reduction(basic.Sum),
    basic.Mean: _reduction(basic.Mean),
    basic.Max: _extreme(basic.Max),
    basic.Min: _extreme(basic.Min),
    basic.Transpose: _transpose,
    basic.SwapAxes: _swap_axes,
    basic.Reshape: _reshape,
    basic.BroadcastTo: _broadcast_to,
    basic.Cast: _cast,
    basic.ExpandDims: _expand_dims,
    basic.Squeeze: _squeeze,
    basic.Concatenate: _concatenate,
    basic.Stack: _stack,
    basic.Index: _index,
    basic.IndexAdd: _index_add,
    basic.Take: _take,
    basic.TakeAdd: _take_add,
    basic.OneHot: _one_hot,
    basic.MatMul: _matmul,
    nn.Linear: _linear,
    nn.Flatten: lambda g: nn.Flatten(g.float(1)),
    nn.Softmax: _softmax,
    nn.MSE: _mse,
    nn.CrossEntropy: _cross_entropy,
    nn.BinaryCrossEntropy: _binary_cross_entropy,
    nn.Correlate2D: _correlate,
    nn.Conv2D: _conv,
    nn.Conv2DInputGradient: _conv_input_gradient,
    nn.Conv2DWeightGradient: _conv_weight_gradient,
    nn.MaxPool2D: _pool(nn.MaxPool2D),
    nn.AvgPool2D: _pool(nn.AvgPool2D),
    nn.MaxPool2DGradient: _max_pool_gradient,
}
"""How an application of each operation is drawn."""


@st.composite
def random_graphs(
    draw: Any, dtype: Any = None, nodes: int = 12, outputs: int = 2, smooth: bool = False
) -> RandomGraph:
    """Draw a graph of about so many operations, in float64 or float32."""
    random = Random(draw(st.integers(0, 1 << 30)))
    dtype = draw(st.sampled_from([np.float64, np.float32])) if dtype is None else dtype
    grower = Grower(random, dtype, smooth=smooth)
    operations = st.sampled_from(list(RULES))
    for operation in draw(st.lists(operations, min_size=nodes // 2, max_size=nodes)):
        grower.grow(operation)
    return grower.finish(outputs)
