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
from random_operations import APART, MOST_ELEMENTS, RULES, DoesNotFit

import mfcore as mf
import mfops_basic as basic
import mfops_nn as nn
from mfcore.operation import spec_of

LARGEST = 8.0
"""Numbers that become larger than this are made smaller again."""


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
            raise DoesNotFit
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
        except DoesNotFit:
            sizes = [n or 2 for n in self.sizes] if filled else self.sizes
            shape = [self.random.choice(sizes) for _ in range(max(least, min(2, most)))]
            return self.leaf(tuple(shape), "float")

    def of_shape(self, shape: tuple[int, ...], kind: str = "float") -> mf.Node:
        """Return a node of floats of a shape."""
        if kind == "float" and self.random.random() < 0.7:
            try:
                return self.pick(lambda v: v.dtype.kind == "f" and v.shape == shape)
            except DoesNotFit:
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
                raise DoesNotFit
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
            raise DoesNotFit
        if x in self.drawn or (isinstance(y, mf.Node) and y in self.drawn):
            raise DoesNotFit

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
            raise DoesNotFit from None
        value = np.asarray(result[0] if spec.saves else result)
        if value.size > MOST_ELEMENTS or not np.isfinite(value).all():
            raise DoesNotFit
        if value.dtype.kind in "iu" and value.size and np.abs(value).max() > 1000:
            raise DoesNotFit
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
        except DoesNotFit:
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
