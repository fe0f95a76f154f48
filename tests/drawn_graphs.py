"""Graphs that the tests of drawings draw, and what they check of any layout."""

from __future__ import annotations

import numpy as np

import mfcore as mf
import mfops_basic as ops
from mfops_nn import MSE, Linear, ReLU


def parameter(*shape):
    return mf.Parameter(np.zeros(shape))


def deep(layers=20, width=4):
    """Equal layers of Linear and ReLU, a last Linear and a cost."""
    node = mf.Input("X", shape=(None, width))
    for _ in range(layers):
        node = ReLU(Linear(node, parameter(width, width), parameter(width)))
    return mf.Graph(MSE(mf.Input("y"), Linear(node, parameter(width, 1), parameter(1))))


def residual(blocks=12, width=4):
    node = Linear(mf.Input("X", shape=(None, 3)), parameter(3, width), parameter(width))
    for _ in range(blocks):
        inner = ReLU(Linear(node, parameter(width, width), parameter(width)))
        node = ops.Add(node, Linear(inner, parameter(width, width), parameter(width)))
    return mf.Graph(node)


def recurrent(steps=30):
    W, U, b = parameter(4, 4), parameter(2, 4), parameter(4)
    state = mf.Input("start", shape=(None, 4))
    for step in range(steps):
        x = mf.Input(f"x{step}", shape=(None, 2))
        state = ops.Tanh(ops.Add(ops.MatMul(state, W), Linear(x, U, b)))
    return mf.Graph(state)


def heads(count=50):
    x = mf.Input("x", shape=(None, 4))
    return mf.Graph(ops.Add(*(Linear(x, parameter(4, 2), parameter(2)) for _ in range(count))))


def chain(count):
    node = mf.Input("x")
    for _ in range(count):
        node = ops.Sin(node)
    return mf.Graph(node)


def random_scalars(count, seed=0, back=None):
    """Sums, products and sines of scalars, each of nodes drawn from those before."""
    generator = np.random.default_rng(seed)
    nodes = [mf.Input(f"x{i}") for i in range(3)]
    while len(nodes) < count:
        first = max(0, len(nodes) - back) if back else 0
        a, b = (nodes[i] for i in generator.integers(first, len(nodes), 2))
        nodes.append([ops.Add(a, b), ops.Mul(a, b), ops.Sin(a)][generator.integers(3)])
    read = {source for node in nodes for source in node.inputs}
    return mf.Graph([node for node in nodes if node not in read])
