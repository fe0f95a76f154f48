"""Operations that their authors wrote for the reference engine, in plain NumPy, on all engines."""

from __future__ import annotations

import math

import numpy as np
import pytest
from finite_differences import assert_gradients
from scipy.special import expit

import mfcore as mf
from mfjit.errors import CannotLower
from mfoptim import SGD

REFERENCE, NUMPY, NUMBA = "mfcore.reference", "mfjit.numpy", "mfjit.numba"


pytestmark = pytest.mark.usefixtures("own_cache")


@mf.operation
class Swish(mf.Node):
    x: mf.Node
    beta: float = 1.0

    @staticmethod
    def forward(x, beta):
        return x / (1 + np.exp(-beta * x))

    @staticmethod
    def backward(grad, x, beta):
        s = 1 / (1 + np.exp(-beta * x))
        return (grad * (s + beta * x * s * (1 - s)),)


@mf.operation
class GELU(mf.Node):
    x: mf.Node

    @staticmethod
    def forward(x):
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    @staticmethod
    def backward(grad, x):
        k = math.sqrt(2 / math.pi)
        t = np.tanh(k * (x + 0.044715 * x**3))
        slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x**2)
        return (grad * slope,)


@mf.operation
class Huber(mf.Node):
    y: mf.Node
    a: mf.Node
    delta: float = 1.0

    @staticmethod
    def forward(y, a, delta):
        e = a - y
        small = np.abs(e) <= delta
        return np.where(small, 0.5 * e**2, delta * (np.abs(e) - 0.5 * delta)).mean()

    @staticmethod
    def backward(grad, y, a, delta):
        e = a - y
        slope = np.where(np.abs(e) <= delta, e, delta * np.sign(e)) * grad / e.size
        return -slope, slope


@mf.operation
class LayerNorm(mf.Node):
    x: mf.Node
    gain: mf.Node
    bias: mf.Node
    epsilon: float = 1e-5

    @staticmethod
    def forward(x, gain, bias, epsilon):
        deviation = np.sqrt(x.var(axis=-1, keepdims=True) + epsilon)
        normal = (x - x.mean(axis=-1, keepdims=True)) / deviation
        return gain * normal + bias, (normal, deviation)

    @staticmethod
    def backward(grad, saved, gain):
        normal, deviation = saved
        g = grad * gain
        across = tuple(range(grad.ndim - 1))
        of_x = g - g.mean(axis=-1, keepdims=True)
        of_x = (of_x - normal * (g * normal).mean(axis=-1, keepdims=True)) / deviation
        return of_x, (grad * normal).sum(axis=across), grad.sum(axis=across)


@mf.operation
class Attention(mf.Node):
    """``softmax(Q K^T / sqrt(d)) V`` of batches of rows."""

    Q: mf.Node
    K: mf.Node
    V: mf.Node

    @staticmethod
    def forward(Q, K, V):
        scores = Q @ np.swapaxes(K, -1, -2) / np.sqrt(Q.shape[-1])
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares = powers / powers.sum(axis=-1, keepdims=True)
        return np.einsum("bij,bjk->bik", shares, V), shares

    @staticmethod
    def backward(grad, saved, Q, K, V):
        shares = saved
        of_shares = np.einsum("bik,bjk->bij", grad, V)
        of_scores = shares * (of_shares - (of_shares * shares).sum(axis=-1, keepdims=True))
        of_scores = of_scores / np.sqrt(Q.shape[-1])
        return (
            of_scores @ K,
            np.einsum("bij,bik->bjk", of_scores, Q),
            np.matmul(shares.transpose(0, 2, 1), grad),
        )


@mf.operation
class MeanPool(mf.Node):
    """Means of blocks of columns, by a reshape."""

    x: mf.Node
    block: int = 2

    @staticmethod
    def forward(x, block):
        return x.reshape(x.shape[0], -1, block).mean(axis=2)

    @staticmethod
    def backward(grad, x, block):
        return (np.repeat(grad / block, block, axis=1).reshape(x.shape),)


@mf.operation
class CosineSimilarity(mf.Node):
    u: mf.Node
    v: mf.Node

    @staticmethod
    def forward(u, v):
        lengths = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
        return np.sum(u * v, axis=1) / lengths

    @staticmethod
    def backward(grad, value, u, v):
        nu = np.linalg.norm(u, axis=1, keepdims=True)
        nv = np.linalg.norm(v, axis=1, keepdims=True)
        g, c = grad[:, None], value[:, None]
        return g * (v / (nu * nv) - c * u / nu**2), g * (u / (nu * nv) - c * v / nv**2)


@mf.operation
class ClippedLinear(mf.Node):
    x: mf.Node
    low: float = -0.5
    high: float = 0.8

    @staticmethod
    def forward(x, low, high):
        return np.clip(2.0 * x, low, high)

    @staticmethod
    def backward(grad, x, low, high):
        return (np.where((2.0 * x > low) & (2.0 * x < high), 2.0 * grad, 0.0),)


@mf.operation
class Bordered(mf.Node):
    """Zeros around a matrix, and its neighbours' differences."""

    x: mf.Node

    @staticmethod
    def forward(x):
        wide = np.pad(x, ((1, 1), (0, 2)))
        return wide[2:] - wide[:-2]

    @staticmethod
    def backward(grad):
        wide = np.pad(grad, ((1, 1), (0, 0)))
        return (wide[:-2, :-2] - wide[2:, :-2],)


@mf.operation
class LogSumExp(mf.Node):
    x: mf.Node
    axis: int = -1

    @staticmethod
    def forward(x, axis):
        top = np.max(x, axis=axis, keepdims=True)
        return np.squeeze(top, axis) + np.log(np.exp(x - top).sum(axis=axis))

    @staticmethod
    def backward(grad, value, x, axis):
        return (np.expand_dims(grad, axis) * np.exp(x - np.expand_dims(value, axis)),)


@mf.operation
class RunningTotal(mf.Node):
    """A sum so far along the last axis: no engine has an instruction for it."""

    x: mf.Node

    @staticmethod
    def forward(x):
        return np.cumsum(x, axis=-1)

    @staticmethod
    def backward(grad):
        return (np.flip(np.cumsum(np.flip(grad, -1), axis=-1), -1),)


@mf.operation
class Branching(mf.Node):
    """It looks at its elements."""

    x: mf.Node

    @staticmethod
    def forward(x):
        if x.sum() > 0:
            return x * 2.0
        return x * 3.0

    @staticmethod
    def backward(grad, x):
        return (grad * (2.0 if x.sum() > 0 else 3.0),)


@mf.operation
class Foreign(mf.Node):
    """It calls a function that knows arrays only."""

    x: mf.Node

    @staticmethod
    def forward(x):
        return expit(x)

    @staticmethod
    def backward(grad, value):
        return (grad * value * (1 - value),)


@mf.operation
class OneNumber(mf.Node):
    """It calls a function of Python's numbers."""

    x: mf.Node

    @staticmethod
    def forward(x):
        return np.asarray(math.exp(x.mean()) * x)

    @staticmethod
    def backward(grad, x):
        m = math.exp(x.mean())
        return (grad * m + (grad * x).sum() * m / x.size,)


@mf.operation
class LargestOfRow(mf.Node):
    """Its backward writes into an array of its own."""

    x: mf.Node

    @staticmethod
    def forward(x):
        where = np.argmax(x, axis=-1)[..., np.newaxis]
        return np.take_along_axis(x, where, axis=-1), where

    @staticmethod
    def backward(grad, x, saved):
        scattered = np.zeros(x.shape, grad.dtype)
        np.put_along_axis(scattered, saved, grad, axis=-1)
        return (scattered,)


PLAIN = [
    (Swish, [(3, 4)], {"beta": 1.5}),
    (GELU, [(3, 4)], {}),
    (Huber, [(5,), (5,)], {"delta": 0.7}),
    (LayerNorm, [(2, 3, 4), (4,), (4,)], {}),
    (Attention, [(2, 3, 4), (2, 5, 4), (2, 5, 2)], {}),
    (MeanPool, [(3, 6)], {"block": 3}),
    (CosineSimilarity, [(4, 3), (4, 3)], {}),
    (ClippedLinear, [(3, 4)], {}),
    (Bordered, [(3, 2)], {}),
    (LogSumExp, [(3, 4)], {"axis": 0}),
]
CALLED = [(RunningTotal, [(3, 4)], {}), (Branching, [(3, 4)], {})]
CALLED += [(Foreign, [(3, 4)], {}), (OneNumber, [(3,)], {})]
CALLED += [(LargestOfRow, [(3, 4)], {})]


def ids(case):
    return case[0].__name__ if isinstance(case, tuple) else None


def applied(case, seed=0):
    """Return an operation on inputs, a cost of it, and what to feed."""
    operation, shapes, hyperparameters = case
    rng = np.random.default_rng(seed)
    inputs = [mf.Input() for _ in shapes]
    arrays = [rng.normal(size=shape) for shape in shapes]
    node = operation(*inputs, **hyperparameters)
    value = mf.Session(node, engine=REFERENCE).run(dict(zip(inputs, arrays)))[node]
    weights = rng.normal(size=value.shape)
    return node, (node * weights).sum(), dict(zip(inputs, arrays, strict=True))


def on(engine, graph, cost, feeds, wrt):
    run = mf.Session(graph, engine=engine).run(feeds)
    assert run.engine == engine.split(".")[1], run.engine.reason
    gradients = run.backward(cost, wrt=wrt)
    return [run[x] for x in graph.outputs], [gradients[x] for x in wrt]


def assert_all_close(found, expected):
    for mine, theirs in zip(found, expected, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("case", PLAIN + CALLED, ids=ids)
def test_it_runs_on_numpy(case):
    node, cost, feeds = applied(case)
    graph, wrt = mf.Graph(node, cost), list(feeds)

    found, gradients = on(NUMPY, graph, cost, feeds, wrt)

    assert_all_close((found, gradients), on(REFERENCE, graph, cost, feeds, wrt))

    def function(*arrays):
        run = mf.Session(graph, engine=REFERENCE).run(dict(zip(wrt, arrays, strict=True)))
        return run[cost]

    assert_gradients(function, [*feeds.values()], gradients, np.ones(()), wrt=range(len(wrt)))


@pytest.mark.parametrize("part", range(3))
def test_all_that_is_plain_numpy_compiles_on_numba(part):
    pytest.importorskip("numba")
    outputs, costs, feeds = [], [], {}
    for case in PLAIN[part::3]:
        node, cost, given = applied(case)
        outputs.append(node)
        costs.append(cost)
        feeds |= given
    total = costs[0]
    for cost in costs[1:]:
        total = total + cost
    graph, wrt = mf.Graph(*outputs, total), list(feeds)

    found = on(NUMBA, graph, total, feeds, wrt)

    assert_all_close(found, on(REFERENCE, graph, total, feeds, wrt))


@pytest.mark.parametrize(
    ("case", "reason"),
    list(zip(CALLED, ["np.cumsum", "branch", "expit", "as a number", "take_along"], strict=True)),
    ids=ids,
)
def test_what_numba_cannot_compile_is_named_with_the_reason(case, reason):
    pytest.importorskip("numba")
    node, _, feeds = applied(case)
    where = rf"\(.*\.{case[0].__name__}, built at .*test_engines_third_party\.py:\d+\)"
    with pytest.raises(CannotLower, match=where) as raised:
        mf.Session(node, engine=NUMBA).run(feeds)
    assert raised.match(reason)


@pytest.mark.parametrize("case", CALLED, ids=ids)
def test_what_is_called_as_it_is_trains_on_numpy(case):
    rng = np.random.default_rng(1)
    x, w = mf.Input(), mf.Parameter(rng.normal(size=case[1][0]))
    cost = mf.Graph((case[0](x * w) ** 2).mean())
    feeds = [rng.normal(size=case[1][0]) for _ in range(4)]
    losses = []
    for engine in (REFERENCE, NUMPY):
        session, optimizer = mf.Session(cost, engine=engine), SGD(0.01, momentum=0.5)
        losses.append([session.step({x: sign * a}, optimizer) for a in feeds for sign in (1, -1)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-11)
