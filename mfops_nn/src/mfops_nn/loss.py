"""Losses: one number that says how far predictions are from targets.

All take the target first, as the course's ``MSE(y, a)`` does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mfcore import Array, Node, apply, operation
from mfcore.domain import Domain, integers, real, shares
from mfops_basic import OneHot
from mfops_nn.casting import floating


@operation
class MSE(Node):
    """Mean squared error ``mean((y - a) ** 2)`` over all elements.

    Parameters
    ----------
    y : Node
        Targets, of any shape.
    a : Node
        Predictions, of any shape with as many elements: ``(n,)`` and ``(n, 1)`` fit.

    Examples
    --------
    >>> import mfcore as mf
    >>> y, a = mf.Input("y"), mf.Input("a")
    >>> cost = MSE(y, a)
    >>> run = mf.Session(cost).run({y: [1.0, 2.0], a: [[2.0], [5.0]]})
    >>> float(run[cost]), run.gradients[a].tolist()
    (5.0, [[1.0], [3.0]])
    """

    y: Node
    a: Node

    @staticmethod
    def forward(y: Array, a: Array) -> Any:
        if y.size != a.size:
            raise ValueError(
                f"targets of shape {y.shape} and predictions of shape {a.shape} "
                f"differ in their number of elements"
            )
        difference = y.reshape(-1) - floating(a).reshape(-1)
        return difference.dot(difference) / y.size, difference

    @staticmethod
    def backward(grad: Array, saved: Array, y: Array, a: Array, wanted: Any) -> tuple[Any, ...]:
        scale = grad * (2 / max(y.size, 1))
        return (
            (saved * scale).reshape(y.shape) if wanted.y else None,
            (saved * -scale).reshape(a.shape) if wanted.a else None,
        )


@operation
class CrossEntropy(Node):
    """Mean cross-entropy between targets and the softmax of logits.

    ``-mean(sum(targets * log(softmax(logits))))``, the sum over the last axis.

    Parameters
    ----------
    targets : Node
        ``(...)`` class indices from 0 to k - 1, which get no gradient, or ``(..., k)``
        one-hot rows or probabilities. What has target 0 counts as 0, at a logit of -inf too.
    logits : Node
        ``(..., k)`` scores before softmax.

    Examples
    --------
    >>> import mfcore as mf
    >>> classes, logits = mf.Input("classes"), mf.Input("logits")
    >>> cost = CrossEntropy(classes, logits)
    >>> run = mf.Session(cost).run({classes: [1], logits: [[0.0, 0.0]]})
    >>> round(float(run[cost]), 4), run.gradients[logits].tolist()
    (0.6931, [[0.5, -0.5]])
    """

    targets: Node
    logits: Node

    domain = (
        Domain(targets=integers(0, "k"), logits=real("..., k")),
        Domain(targets=shares("..., k"), logits=real("..., k")),
    )

    @staticmethod
    def forward(targets: Array, logits: Array) -> Any:
        shape = logits.shape
        if not shape:
            raise ValueError("logits need an axis of classes, but are a single number")
        if targets.shape not in (shape, shape[:-1]):
            raise ValueError(
                f"targets of shape {targets.shape} fit logits of shape {shape} neither as "
                f"class indices {shape[:-1]} nor as rows {shape}"
            )
        logits = floating(logits)
        rows = targets
        if len(targets.shape) < len(shape):
            rows = apply(OneHot, targets, depth=shape[-1], dtype=logits.dtype)
        shifted = logits - np.max(logits, axis=-1, keepdims=True)
        powers = np.exp(shifted)
        total = np.sum(powers, axis=-1, keepdims=True)
        log_softmax = shifted - np.log(total)
        counted = np.where(np.equal(rows, 0), 0, log_softmax)
        loss = -np.mean(np.sum(rows * counted, axis=-1))
        return loss, (rows, log_softmax, powers / total)

    @staticmethod
    def backward(
        grad: Array, saved: Any, targets: Array, logits: Array, wanted: Any
    ) -> tuple[Any, ...]:
        rows, log_softmax, softmax = saved
        share = grad / max(math.prod(logits.shape[:-1]), 1)
        if len(targets.shape) < len(logits.shape):
            return None, (softmax - rows) * share if wanted.logits else None
        weight = np.sum(rows, axis=-1, keepdims=True)
        return (
            -log_softmax * share if wanted.targets else None,
            (softmax * weight - rows) * share if wanted.logits else None,
        )


@operation
class BinaryCrossEntropy(Node):
    """Mean cross-entropy between yes-or-no targets and the sigmoid of logits.

    ``mean(max(z, 0) - z * t + log(1 + exp(-|z|)))`` over all elements, which is
    ``-mean(t * log(sigmoid(z)) + (1 - t) * log(1 - sigmoid(z)))`` without overflow.

    Parameters
    ----------
    targets : Node
        0 or 1, or probabilities, of any shape.
    logits : Node
        Scores before sigmoid, with as many elements.

    Examples
    --------
    >>> import numpy as np
    >>> float(BinaryCrossEntropy.forward(np.array([0.0]), np.array([1e4])))
    10000.0
    """

    targets: Node
    logits: Node

    domain = Domain(targets=real(low=0, high=1))

    @staticmethod
    def forward(targets: Array, logits: Array) -> Any:
        if targets.size != logits.size:
            raise ValueError(
                f"targets of shape {targets.shape} and logits of shape {logits.shape} "
                f"differ in their number of elements"
            )
        t, z = np.reshape(targets, logits.shape), floating(logits)
        return np.mean(np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.absolute(z))))

    @staticmethod
    def backward(grad: Array, targets: Array, logits: Array, wanted: Any) -> tuple[Any, ...]:
        t, z = np.reshape(targets, logits.shape), floating(logits)
        share = grad / max(logits.size, 1)
        power = np.exp(-np.absolute(z))
        sigmoid = np.where(np.greater_equal(z, 0), 1, power) / (1 + power)
        return (
            np.reshape(-z * share, targets.shape) if wanted.targets else None,
            (sigmoid - t) * share if wanted.logits else None,
        )
