"""What each operation of the packs is applied to, in random graphs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import mfcore as mf
import mfops_basic as basic
import mfops_nn as nn

if TYPE_CHECKING:
    from random_graphs import Grower

APART = 1e-3
"""How far apart two numbers have to be for a comparison of them to be beyond rounding."""

MOST_ELEMENTS = 200


class DoesNotFit(Exception):
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
        raise DoesNotFit
    return x


def _variadic(operation: Any) -> Any:
    def rule(g: Grower) -> mf.Node:
        x = g.float()
        others = [g.partner(x) for _ in range(g.random.choice([0, 1, 1, 1, 2, 3]))]
        shapes = [g.value_of(y).shape for y in others]
        try:
            np.broadcast_shapes(g.values[x].shape, *shapes)
        except ValueError:
            raise DoesNotFit from None
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
    except DoesNotFit:
        return g.leaf(g.shape() if shape is None else shape, "bool")


def _where(g: Grower) -> mf.Node:
    x = g.float()
    y = g.partner(x)
    shape = np.broadcast_shapes(g.values[x].shape, g.value_of(y).shape)
    condition = _bools(g, shape)
    if math.prod(np.broadcast_shapes(shape, g.values[condition].shape)) > MOST_ELEMENTS:
        raise DoesNotFit
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
    length = g.random.choice([1, 2, 3])
    arrays = masks = 0
    for n in shape:
        choice = g.random.choice(["all", "slice", "back", "int", "array", "mask"])
        if choice == "slice":
            parts.append(slice(g.random.randrange(n + 1), None, g.random.choice([1, 2])))
        elif choice == "back":
            parts.append(slice(None, None, -1))
        elif choice == "int" and n:
            parts.append(g.random.randrange(-n, n))
        elif choice == "array" and n and not masks:
            arrays += 1
            parts.append([g.random.randrange(-n, n) for _ in range(length)])
        elif choice == "mask" and not arrays + masks:
            masks += 1
            parts.append(np.array([g.random.random() < 0.5 for _ in range(n)], bool))
        else:
            parts.append(slice(None))
    if g.random.random() < 0.2:
        parts.insert(g.random.randrange(len(parts) + 1), None)
    return tuple(parts)


def _index_add(g: Grower) -> mf.Node:
    shape = (g.random.choice([2, 3, 4]), *g.shape()[:1])
    index = _some_index(g, shape)
    x = g.of_shape(np.zeros(shape)[index].shape)
    return basic.IndexAdd(x, index=index, shape=shape)


def _indices(g: Grower, n: int, shape: tuple[int, ...] | None = None) -> mf.Node:
    if not n:
        raise DoesNotFit
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
        raise DoesNotFit


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
