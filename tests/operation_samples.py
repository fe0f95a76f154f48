"""Inputs to try every operation of the arithmetic and neural-network packs on.

A sample is drawn away from kinks and poles, so that differences are meaningful there.
``peer`` is the same function in autograd's NumPy, where it has one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import autograd.numpy as anp
import numpy as np
from autograd.scipy.signal import convolve
from autograd.scipy.special import expit, logsumexp

import mfops_basic as basic
import mfops_nn as nn
from mfcore import Node

rng = np.random.default_rng(7)


@attrs.frozen
class Sample:
    """One application of an operation, and what a peer says of it."""

    operation: type[Node]
    inputs: tuple[np.ndarray, ...]
    peer: Callable[..., Any] | None
    hyperparameters: dict[str, Any] = attrs.field(factory=dict)
    wrt: tuple[int, ...] | None = None

    @property
    def differentiable(self) -> tuple[int, ...]:
        """Positions of the inputs that get a gradient."""
        return tuple(range(len(self.inputs))) if self.wrt is None else self.wrt

    def __str__(self) -> str:
        shapes = "x".join(str(list(x.shape)).replace(" ", "") for x in self.inputs)
        options = ",".join(f"{k}={v}" for k, v in self.hyperparameters.items())
        return f"{self.operation.__name__}-{shapes}{'-' if options else ''}{options}"


def normal(*shape: int) -> np.ndarray:
    """Numbers of both signs, at least 0.2 away from 0."""
    x = rng.normal(size=shape)
    return np.asarray(np.sign(x) * (np.abs(x) + 0.2))


def positive(*shape: int) -> np.ndarray:
    return np.asarray(rng.uniform(0.5, 2.0, size=shape))


SHAPES = [(), (1,), (3,), (0,), (2, 3), (2, 0, 3)]
PAIRS = [
    ((), ()),
    ((3,), (3,)),
    ((2, 3), ()),
    ((), (2, 3)),
    ((2, 3), (3,)),
    ((3, 1), (1, 4)),
    ((2, 1, 3), (4, 1)),
    ((0, 3), (1, 3)),
    ((1,), (2, 2)),
]

UNARY = [
    (basic.Negative, lambda x: -x, normal),
    (basic.Square, anp.square, normal),
    (basic.Sqrt, anp.sqrt, positive),
    (basic.Exp, anp.exp, normal),
    (basic.Expm1, anp.expm1, normal),
    (basic.Log, anp.log, positive),
    (basic.Log1p, anp.log1p, positive),
    (basic.Sin, anp.sin, normal),
    (basic.Cos, anp.cos, normal),
    (basic.Tanh, anp.tanh, normal),
    (basic.Abs, anp.abs, normal),
    (basic.Sign, anp.sign, normal),
    (nn.Sigmoid, expit, normal),
    (nn.ReLU, lambda x: anp.maximum(x, 0.0), normal),
]
BINARY = [
    (basic.Add, lambda x, y: x + y, normal, normal),
    (basic.Subtract, lambda x, y: x - y, normal, normal),
    (basic.Mul, lambda x, y: x * y, normal, normal),
    (basic.Divide, lambda x, y: x / y, normal, positive),
    (basic.Power, lambda x, y: x**y, positive, normal),
    (basic.Maximum, anp.maximum, normal, normal),
    (basic.Minimum, anp.minimum, normal, normal),
]
STEPS = [
    (basic.Less, np.less),
    (basic.LessEqual, np.less_equal),
    (basic.Greater, np.greater),
    (basic.GreaterEqual, np.greater_equal),
    (basic.Equal, np.equal),
    (basic.NotEqual, np.not_equal),
    (basic.LogicalAnd, np.logical_and),
    (basic.LogicalOr, np.logical_or),
    (basic.LogicalXor, np.logical_xor),
]
REDUCTIONS = [
    (basic.Sum, anp.sum),
    (basic.Mean, anp.mean),
    (basic.Max, anp.max),
    (basic.Min, anp.min),
]
AXES: list[tuple[tuple[int, ...], Any]] = [
    ((), None),
    ((4,), None),
    ((4,), 0),
    ((2, 3), 1),
    ((2, 3), -2),
    ((2, 3, 4), (0, -1)),
    ((2, 3), (0, 1)),
    ((2, 3), ()),
    ((1, 1), 0),
    ((2, 0, 3), -1),
]


def _unary() -> list[Sample]:
    return [Sample(op, (draw(*shape),), peer) for op, peer, draw in UNARY for shape in SHAPES]


def _binary() -> list[Sample]:
    samples = [
        Sample(op, (draw_x(*x), draw_y(*y)), peer)
        for op, peer, draw_x, draw_y in BINARY
        for x, y in PAIRS
    ]
    samples += [Sample(op, (normal(2, 3), normal(3)), None, wrt=()) for op, _ in STEPS]
    samples.append(Sample(basic.LogicalNot, (normal(2, 3),), None, wrt=()))
    return samples


def _variadic() -> list[Sample]:
    three = (normal(2, 3), normal(3), normal())
    return [
        Sample(basic.Add, (normal(2, 3),), lambda x: x * 1.0),
        Sample(basic.Mul, (normal(2, 3),), lambda x: x * 1.0),
        Sample(basic.Add, three, lambda x, y, z: x + y + z),
        Sample(basic.Mul, three, lambda x, y, z: x * y * z),
        Sample(basic.Mul, (*three, normal(2, 1)), lambda x, y, z, w: x * y * z * w),
        Sample(
            basic.Where,
            (normal(2, 3) > 0, normal(2, 3), normal(3)),
            lambda c, x, y: c * x + (1 - c) * y,
            wrt=(1, 2),
        ),
        Sample(
            basic.Concatenate,
            (normal(2, 3), normal(1, 3)),
            lambda x, y: anp.concatenate([x, y]),
        ),
        Sample(
            basic.Concatenate,
            (normal(2, 1), normal(2, 0), normal(2, 4)),
            lambda *xs: anp.concatenate(xs, axis=-1),
            {"axis": -1},
        ),
        Sample(
            basic.Where,
            (np.array(True), normal(), normal(2, 0)),
            lambda c, x, y: c * x + (1 - c) * y,
            wrt=(1, 2),
        ),
        Sample(basic.Add, tuple(normal(3) for _ in range(5)), lambda *xs: sum(xs)),
        Sample(basic.Stack, (normal(), normal()), lambda *xs: anp.stack(xs)),
        Sample(basic.Stack, (normal(3), normal(3)), lambda *xs: anp.stack(xs)),
        Sample(
            basic.Stack, (normal(2, 3), normal(2, 3)), lambda *xs: anp.stack(xs, -1), {"axis": -1}
        ),
    ]


def _reductions() -> list[Sample]:
    return [
        Sample(
            op,
            (normal(*shape),),
            lambda x, peer=peer, axis=axis, keep=keep: peer(x, axis=axis, keepdims=keep),
            {"axis": axis, "keepdims": keep},
        )
        for op, peer in REDUCTIONS
        for shape, axis in AXES
        for keep in (False, True)
    ] + [Sample(basic.Sum, (normal(0, 3),), lambda x: anp.sum(x, axis=0), {"axis": 0})]


def _shapes() -> list[Sample]:
    indices = np.array([[2, 0], [2, 1]])
    cases: list[tuple[type[Node], tuple[int, ...], dict[str, Any], Callable[..., Any]]] = [
        (basic.Transpose, (2, 3), {}, lambda x: x.T),
        (basic.Transpose, (2, 3, 4), {"axes": (2, 0, 1)}, lambda x: anp.transpose(x, (2, 0, 1))),
        (basic.Transpose, (2, 3, 4), {"axes": (-1, 0, -2)}, lambda x: anp.transpose(x, (2, 0, 1))),
        (basic.SwapAxes, (2, 3, 4), {"axis1": 0, "axis2": -1}, lambda x: anp.swapaxes(x, 0, -1)),
        (basic.Reshape, (2, 6), {"shape": (3, -1)}, lambda x: anp.reshape(x, (3, 4))),
        (basic.Reshape, (1,), {"shape": ()}, lambda x: anp.reshape(x, ())),
        (
            basic.BroadcastTo,
            (3, 1),
            {"shape": (2, 3, 4)},
            lambda x: x * np.ones((2, 3, 4)),
        ),
        (basic.Reshape, (), {"shape": (1, 1)}, lambda x: anp.reshape(x, (1, 1))),
        (basic.Reshape, (0, 3), {"shape": (3, 0)}, lambda x: anp.reshape(x, (3, 0))),
        (basic.BroadcastTo, (), {"shape": (0, 2)}, lambda x: x * np.ones((0, 2))),
        (basic.Transpose, (), {}, lambda x: x * 1.0),
        (basic.Cast, (2, 3), {"dtype": np.float64}, lambda x: x * 1.0),
        (basic.Cast, (), {"dtype": np.float64}, lambda x: x * 1.0),
        (basic.ExpandDims, (), {"axis": 0}, lambda x: anp.reshape(x, (1,))),
        (basic.ExpandDims, (3,), {"axis": (0, 2)}, lambda x: x[None, :, None]),
        (basic.Squeeze, (1, 3, 1), {}, anp.squeeze),
        (basic.Squeeze, (1, 3, 1), {"axis": (2,)}, lambda x: anp.squeeze(x, axis=2)),
        (basic.Index, (4, 5), {"index": np.s_[1:, ::2]}, lambda x: x[1:, ::2]),
        (basic.Index, (4, 5), {"index": np.s_[::-1, None, -1]}, lambda x: x[::-1, None, -1]),
        (basic.Index, (4, 5), {"index": np.s_[..., 0]}, lambda x: x[..., 0]),
        (basic.Index, (4, 5), {"index": np.s_[3, -1]}, lambda x: x[3, -1]),
        (basic.Index, (4, 5), {"index": np.s_[:, [1, 1], None]}, lambda x: x[:, [1, 1], None]),
        (basic.Index, (0, 5), {"index": np.s_[:, 1]}, lambda x: x[:, 1]),
        (basic.Index, (), {"index": np.s_[..., None]}, lambda x: anp.reshape(x, (1,))),
        (basic.Index, (4,), {"index": ([1, 1, 3],)}, lambda x: x[np.array([1, 1, 3])]),
        (
            basic.Index,
            (4, 5),
            {"index": ([0, 0, 1], [2, 2, 4])},
            lambda x: x[np.array([0, 0, 1]), np.array([2, 2, 4])],
        ),
        (
            basic.Index,
            (3,),
            {"index": (np.array([True, False, True]),)},
            lambda x: x[np.array([True, False, True])],
        ),
        (nn.Softmax, (2, 3), {}, lambda x: anp.exp(x - logsumexp(x, axis=-1, keepdims=True))),
        (
            nn.Softmax,
            (2, 3),
            {"axis": 0},
            lambda x: anp.exp(x - logsumexp(x, axis=0, keepdims=True)),
        ),
    ]
    samples = [Sample(op, (normal(*shape),), peer, given) for op, shape, given, peer in cases]
    samples += [
        Sample(
            basic.Take,
            (normal(3, 4), indices),
            lambda x, i, axis=axis: (
                anp.moveaxis(anp.moveaxis(x, axis, 0)[i], (0, 1), (axis % 2, axis % 2 + 1))
                if axis is not None
                else anp.ravel(x)[i]
            ),
            {"axis": axis},
            wrt=(0,),
        )
        for axis in (None, 0, 1, -1)
    ]
    samples += [
        Sample(basic.IndexAdd, (normal(3),), None, {"index": ([1, 1, 3],), "shape": (5,)}),
        Sample(basic.IndexAdd, (normal(2),), None, {"index": np.s_[1:3], "shape": (5,)}),
        Sample(
            basic.TakeAdd, (normal(2, 2, 4), indices), None, {"axis": 0, "shape": (3, 4)}, wrt=(0,)
        ),
        Sample(
            basic.TakeAdd, (normal(2, 2), indices), None, {"axis": None, "shape": (4,)}, wrt=(0,)
        ),
        Sample(basic.OneHot, (indices,), None, {"depth": 3}, wrt=()),
    ]
    return samples


MATRICES = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (4, 3, 2)),
    ((5, 2, 3), (3,)),
    ((3,), (5, 3, 2)),
    ((0, 3), (3, 2)),
    ((1, 1), (1, 1)),
    ((0,), (0,)),
    ((2, 0), (0, 3)),
    ((3,), (0, 3, 2)),
    ((4, 1, 2, 3), (3,)),
    ((1, 2, 3), (5, 3, 1)),
    ((2, 3), (5, 4, 3, 2)),
]


def _networks() -> list[Sample]:
    samples = [
        Sample(basic.MatMul, (normal(*x), normal(*y)), lambda x, y: x @ y) for x, y in MATRICES
    ]
    samples += [
        Sample(
            nn.Linear, (normal(4, 3), normal(3, 2), normal(*b)), lambda X, W, b: anp.dot(X, W) + b
        )
        for b in [(2,), (1, 2), (1,), (), (4, 1)]
    ]
    samples += [
        Sample(
            nn.MSE,
            (normal(*y), normal(*a)),
            lambda y, a: anp.mean((anp.reshape(y, -1) - anp.reshape(a, -1)) ** 2),
        )
        for y, a in [((3,), (3,)), ((3,), (3, 1)), ((3, 2), (3, 2)), ((1,), ()), ((), ())]
    ]
    samples += [
        Sample(nn.Linear, (normal(*x), normal(*w), normal(2)), lambda X, W, b: anp.dot(X, W) + b)
        for x, w in [((0, 3), (3, 2)), ((4, 0), (0, 2)), ((1, 1), (1, 2))]
    ]
    classes, logits = np.array([2, 0, 1, 2]), normal(4, 3)
    soft = positive(4, 3)

    def entropy(t: Any, z: Any) -> Any:
        return -anp.mean(anp.sum(t * (z - logsumexp(z, axis=-1, keepdims=True)), axis=-1))

    samples += [
        Sample(
            nn.CrossEntropy,
            (classes, logits),
            lambda t, z: entropy(np.eye(3)[np.asarray(t)], z),
            wrt=(1,),
        ),
        Sample(nn.CrossEntropy, (np.eye(3)[classes], logits), entropy, wrt=(1,)),
        Sample(nn.CrossEntropy, (soft, logits), entropy),
        Sample(
            nn.CrossEntropy,
            (classes.reshape(2, 2), normal(2, 2, 3)),
            lambda t, z: entropy(np.eye(3)[np.asarray(t)], z),
            wrt=(1,),
        ),
        Sample(
            nn.CrossEntropy,
            (np.array(1), normal(3)),
            lambda t, z: entropy(np.eye(3)[1], z),
            wrt=(1,),
        ),
    ]
    samples += [
        Sample(
            nn.BinaryCrossEntropy,
            (rng.uniform(0, 1, shape), normal(*shape)),
            lambda t, z: anp.mean(anp.logaddexp(0.0, z) - z * t),
        )
        for shape in [(5,), (2, 3), ()]
    ]
    samples += [Sample(nn.Dropout, (normal(2, 3),), lambda x: x * 1.0, {"rate": 0.5})]
    return samples


def _padded(x: Any, pads: tuple[Any, Any]) -> Any:
    return anp.pad(x, ((0, 0), (0, 0), *pads), mode="constant")


def _correlate(x: Any, W: Any, stride: tuple[int, int], pads: tuple[Any, Any]) -> Any:
    flipped = W[:, :, ::-1, ::-1]
    dense = convolve(
        _padded(x, pads), flipped, axes=([2, 3], [2, 3]), dot_axes=([1], [1]), mode="valid"
    )
    return dense[:, :, :: stride[0], :: stride[1]]


def _pooled(function: Any, x: Any, size: int, stride: int) -> Any:
    rows, columns = ((n - size) // stride + 1 for n in x.shape[2:])
    windows = [
        x[:, :, i * stride : i * stride + size, j * stride : j * stride + size]
        for i in range(rows)
        for j in range(columns)
    ]
    pooled = anp.stack([function(w, axis=(2, 3)) for w in windows], axis=-1)
    return anp.reshape(pooled, (*x.shape[:2], rows, columns))


PADDINGS: list[tuple[dict[str, Any], tuple[int, int], Any]] = [
    ({}, (1, 1), ((0, 0), (0, 0))),
    ({"padding": "same"}, (1, 1), ((1, 1), (0, 1))),
    ({"stride": 2, "padding": 1}, (2, 2), ((1, 1), (1, 1))),
    ({"stride": (1, 3), "padding": (3, 0)}, (1, 3), ((3, 3), (0, 0))),
    ({"stride": 2, "padding": "same"}, (2, 2), ((1, 1), (0, 1))),
]
"""How images of 5 x 5 and windows of 3 x 2 meet: options, stride and the zeros on each side."""


def _images() -> list[Sample]:
    samples = [
        Sample(
            nn.Correlate2D,
            (normal(2, 3, 5, 5), normal(4, 3, 3, 2)),
            lambda x, W, stride=stride, pads=pads: _correlate(x, W, stride, pads),
            options,
        )
        for options, stride, pads in PADDINGS
    ]
    for options, stride, pads in PADDINGS:
        shape = _correlate(np.zeros((2, 3, 5, 5)), np.zeros((4, 3, 3, 2)), stride, pads).shape
        samples += [
            Sample(
                nn.Conv2D,
                (normal(2, 3, 5, 5), normal(4, 3, 3, 2), normal(4)),
                lambda x, W, b, stride=stride, pads=pads: (
                    _correlate(x, W, stride, pads) + anp.reshape(b, (-1, 1, 1))
                ),
                options,
            ),
            Sample(
                nn.Conv2DInputGradient,
                (normal(*shape), normal(4, 3, 3, 2)),
                None,
                {"image_size": 5, **options},
            ),
            Sample(
                nn.Conv2DWeightGradient,
                (normal(2, 3, 5, 5), normal(*shape)),
                None,
                {"kernel_size": (3, 2), **options},
            ),
        ]
    samples += [
        Sample(nn.Conv2D, (normal(0, 2, 3, 3), normal(4, 2, 2, 2), normal(4)), None),
        Sample(nn.Conv2D, (normal(1, 1, 1, 1), normal(1, 1, 1, 1), normal(1)), None),
        Sample(nn.Flatten, (normal(2, 3, 2),), lambda x: anp.reshape(x, (2, 6))),
        Sample(nn.Flatten, (normal(0, 3, 2),), lambda x: anp.reshape(x, (0, 6))),
        Sample(nn.Flatten, (normal(3),), lambda x: anp.reshape(x, (3, 1))),
    ]
    for operation, function in [(nn.MaxPool2D, anp.max), (nn.AvgPool2D, anp.mean)]:
        samples += [
            Sample(
                operation,
                (normal(2, 2, 5, 4),),
                lambda x, function=function, size=size, stride=stride: _pooled(
                    function, x, size, stride
                ),
                {"kernel_size": size, "stride": stride},
            )
            for size, stride in [(2, 2), (3, 1), (1, 2)]
        ]
        samples += [
            Sample(operation, (normal(2, 1, 4, 5),), None, options)
            for options in (
                {},
                {"padding": 1},
                {"kernel_size": 3, "padding": "same"},
                {"kernel_size": (3, 2), "stride": (2, 1), "padding": (2, 1)},
            )
        ]
        samples.append(Sample(operation, (normal(0, 1, 4, 4),), None))
    for options in ({}, {"kernel_size": 3, "stride": 2, "padding": 1}):
        x = normal(2, 1, 4, 5)
        given: dict[str, Any] = {
            "kernel_size": (2, 2),
            "stride": None,
            "padding": (0, 0),
            **options,
        }
        if options:
            given |= {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1)}
        pooled = nn.MaxPool2D.forward(x, **given)
        samples.append(
            Sample(
                nn.MaxPool2DGradient, (normal(*pooled.shape), x, pooled), None, options, wrt=(0,)
            )
        )
    return samples


SAMPLES = [
    *(*_unary(), *_binary(), *_variadic(), *_reductions(), *_shapes(), *_networks()),
    *_images(),
]
