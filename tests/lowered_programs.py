"""Random lowered programs whose results are small whole numbers, so that engines agree exactly."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from lowered_interpreter import interpret

from mfjit.builder import Builder

LIMIT = 50
"""No element is larger than this, so that sums and products are exact in float32."""


class Programs:
    """Grows one program by random instructions.

    Attributes
    ----------
    lowered : Lowered
    inputs, parameters, states : list of numpy.ndarray
        To run it with.
    """

    def __init__(self, random, dtype, instructions):
        self.random = random
        self.builder = Builder()
        self.dtype = np.dtype(dtype)
        self.pool = []
        self.given = {"input": [], "parameter": [], "state": []}
        size = random.choice([0, 1, 2, 3, 4, 5, 7])
        self.sizes = [1, size, random.choice([1, 2, 3, 6])]
        for kind in ("input", "input", "parameter", "state"):
            self.leaf(kind, [random.choice(self.sizes) for _ in range(random.choice([1, 2, 2, 3]))])
        flat = self.leaf("parameter", [12])
        a = self.builder.slice(flat, ((0, 6, 1),))
        self.pool.append(self.builder.reshape(a, (2, 3)))
        self.pool.append(self.builder.reshape(self.builder.slice(flat, ((6, 12, 1),)), (3, 2)))
        for _ in range(instructions):
            self.grow()
        self.lowered = self.finish()

    def leaf(self, kind, shape):
        value = self.builder.leaf(kind, shape, self.dtype)
        numbers = [self.random.randrange(-4, 5) for _ in range(value.size)]
        self.given[kind].append(np.array(numbers, self.dtype).reshape(shape))
        self.pool.append(value)
        return value

    def pick(self, fits=lambda value: True):
        found = [value for value in self.pool if fits(value)]
        # Recent values more often, so that chains arise.
        return self.random.choice(found[-6:] + found) if found else None

    def number(self, value):
        return value.dtype == self.dtype

    def clipped(self, value):
        low = self.builder.elementwise("maximum", value, self.literal(-LIMIT))
        return self.builder.elementwise("minimum", low, self.literal(LIMIT))

    def literal(self, number):
        return self.builder.literal(number, self.dtype)

    def grow(self):
        kind = self.random.choice(
            ["unary", "binary", "binary", "binary", "where", "reduce", "matmul", "view", "view",
             "concatenate", "place", "take", "take_add", "one_hot", "argmax", "cast"]
        )  # fmt: skip
        value = getattr(self, kind)()
        if value is not None and value.size <= 300:
            self.pool.append(value)

    def unary(self):
        op = self.random.choice(["negative", "absolute", "sign", "square", "floor"])
        value = self.builder.elementwise(op, self.pick(self.number))
        return self.clipped(value) if op == "square" else value

    def partner(self, x):
        def fits(value):
            try:
                shape = np.broadcast_shapes(x.shape, value.shape)
            except ValueError:
                return False
            return self.number(value) and np.prod(shape) <= 300

        return self.pick(fits) or x

    def binary(self):
        x = self.pick(self.number)
        y = self.partner(x) if self.random.random() < 0.8 else self.literal(3)
        op = self.random.choice(["add", "subtract", "multiply", "maximum", "minimum"])
        return self.clipped(self.builder.elementwise(op, x, y))

    def where(self):
        x = self.pick(self.number)
        y = self.partner(x)
        other = self.literal(0) if self.random.random() < 0.5 else y
        op = self.random.choice(["greater", "less_equal", "equal"])
        condition = self.builder.elementwise(op, x, self.random.choice([y, self.literal(1)]))
        if self.random.random() < 0.3:
            condition = self.builder.elementwise("logical_not", condition)
        return self.builder.elementwise("where", condition, x, other)

    def axes(self, value):
        count = self.random.randrange(1, value.ndim + 1)
        return sorted(self.random.sample(range(value.ndim), count))

    def reduce(self):
        op = self.random.choice(["sum", "sum", "max", "min", "any", "all"])
        x = self.pick(
            lambda v: self.number(v) and v.ndim and (v.size or op in ("sum", "any", "all"))
        )
        value = self.builder.reduce(op, x, self.axes(x))
        return self.clipped(value) if op == "sum" else self.builder.cast(value, self.dtype)

    def argmax(self):
        x = self.pick(lambda v: self.number(v) and v.ndim and v.size)
        if x is None:
            return None
        value = self.builder.reduce(self.random.choice(["argmax", "argmin"]), x, self.axes(x))
        return self.builder.cast(value, self.dtype)

    def cast(self):
        x = self.pick(self.number)
        whole = self.builder.cast(x, np.int32)
        doubled = self.builder.elementwise("add", whole, whole)
        return self.clipped(self.builder.cast(doubled, self.dtype))

    def matmul(self):
        x = self.pick(lambda v: self.number(v) and v.ndim >= 2)
        if x is None:
            return None
        y = self.pick(
            lambda v: self.number(v) and v.ndim >= 2 and v.shape[-2] == x.shape[-1] and v.ndim == 2
        )
        if y is None:
            y = self.builder.transpose(x, [*range(x.ndim - 2), x.ndim - 1, x.ndim - 2])
        return self.clipped(self.builder.matmul(x, y))

    def view(self):
        x = self.pick(lambda v: self.number(v) and v.ndim)
        kind = self.random.choice(["reshape", "transpose", "slice", "broadcast"])
        if kind == "reshape":
            target = self.random.choice([(x.size,), (1, x.size), x.shape[::-1], (x.size, 1)])
            return self.builder.reshape(x, target)
        if kind == "transpose":
            axes = list(range(x.ndim))
            self.random.shuffle(axes)
            return self.builder.transpose(x, axes)
        if kind == "broadcast":
            return self.builder.broadcast_to(x, (self.random.choice([1, 2]), *x.shape))
        return self.builder.slice(x, tuple(self.part(size) for size in x.shape))

    def part(self, size):
        if not size or self.random.random() < 0.4:
            return (0, size, 1)
        if self.random.random() < 0.3:
            return (size - 1, -1, -1)
        start = self.random.randrange(size)
        return (start, self.random.randrange(start, size + 1), self.random.choice([1, 2]))

    def concatenate(self):
        x = self.pick(lambda v: self.number(v) and v.ndim)
        if self.random.random() < 0.7:
            parts = [self.pick(self.number) for _ in range(self.random.choice([2, 3]))]
            return self.builder.concatenate([self.builder.reshape(v, (-1,)) for v in parts])
        axis = self.random.randrange(x.ndim)
        same = self.pick(
            lambda v: self.number(v) and v.ndim == x.ndim
            and all(a == b for i, (a, b) in enumerate(zip(v.shape, x.shape)) if i != axis)
        )  # fmt: skip
        return self.builder.concatenate([x, same], axis)

    def place(self):
        x = self.pick(lambda v: self.number(v) and v.ndim)
        shape = tuple(2 * size + 1 for size in x.shape)
        slices = tuple(self.random.choice([(1, size + 1, 1), (0, 2 * size, 2)]) for size in x.shape)
        return self.builder.place(x, slices, shape)

    def indices(self, count, size):
        numbers = [self.random.randrange(-size, size) for _ in range(count)]
        return self.builder.constant(np.array(numbers, np.intp))

    def take(self):
        x = self.pick(lambda v: self.number(v) and v.size and v.ndim)
        if x is None:
            return None
        axis = self.random.randrange(x.ndim)
        return self.builder.take(x, self.indices(3, x.shape[axis]), axis)

    def take_add(self):
        x = self.pick(lambda v: self.number(v) and v.size and v.ndim)
        if x is None:
            return None
        axis = self.random.randrange(x.ndim)
        indices = self.indices(x.shape[axis], 4)
        shape = (*x.shape[:axis], 4, *x.shape[axis + 1 :])
        return self.clipped(self.builder.take_add(x, indices, axis, shape))

    def one_hot(self):
        x = self.pick(self.number)
        classes = self.builder.elementwise("minimum", self.builder.elementwise("absolute", x), 2)
        return self.builder.one_hot(classes, 3, self.dtype)

    def finish(self):
        outputs = [self.pick() for _ in range(self.random.choice([1, 2, 3]))]
        updates = []
        for kind in ("parameter", "state"):
            for leaf in self.builder.leaves[kind]:
                same = self.pick(
                    lambda v, leaf=leaf: (
                        (v.shape, v.dtype) == (leaf.shape, leaf.dtype) and v is not leaf
                    )
                )
                if same is not None and self.random.random() < 0.6:
                    updates.append((leaf, same))
                elif self.random.random() < 0.7:
                    change = self.pick(
                        lambda v, leaf=leaf: self.number(v) and fits_into(v.shape, leaf.shape)
                    )
                    moved = self.builder.elementwise("subtract", leaf, change)
                    updates.append((leaf, self.clipped(moved)))
        return self.builder.finish(outputs, updates)

    def expected(self):
        return interpret(
            self.lowered, self.given["input"], self.given["parameter"], self.given["state"]
        )


def fits_into(shape, target):
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False


@st.composite
def programs(draw, instructions=14):
    random = draw(st.randoms(use_true_random=False))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return Programs(random, dtype, draw(st.integers(1, instructions)))
