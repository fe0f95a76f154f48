"""Shapes and dtypes before running: what is known of nodes, and mismatches where they are built."""

from __future__ import annotations

import math
import operator
import pickle
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operation_samples import SAMPLES, Sample

import mfcore as mf
import mfops_basic as ops
from mfcore.abstract import Abstract, AbstractGenerator
from mfcore.errors import NotTraceableError, ShapeError
from mfops_nn import MSE, CrossEntropy, Dropout, Linear, Sigmoid

pytestmark = pytest.mark.usefixtures("core_packs")


def run(node: mf.Node, feeds: dict[Any, Any]) -> Any:
    used = {n: v for n, v in feeds.items() if n in mf.Graph(node)}
    return mf.Session(node, engine="mfcore.reference").run(used)[node]


def fits(claimed: Any, shape: tuple[int, ...]) -> bool:
    return claimed is None or (
        len(claimed) == len(shape)
        and all(n is None or n == m for n, m in zip(claimed, shape, strict=True))
    )


# Abstract values: what plain NumPy code gives for arrays known by shape and dtype

A, B, V = np.eye(4, 3), np.ones((3, 2), np.float32), np.ones(3, np.float32)
J, M, E = np.array([[0, 2]]), np.ones((4, 3), bool), np.ones((0, 3))
CALLS: dict[str, Any] = {
    "arithmetic": lambda a, v: -a + 2.0 * v - a**2 / 3 % 2 // 1,
    "weak float": lambda v: v * 2.0,
    "weak int": lambda m: m * 2,
    "strong scalar": lambda v: v * np.float64(2),
    "reflected": lambda v: (2 - v, 2 / v, 2**v, 3 // v, 3 % v),
    "comparison": lambda a, v: (a < v, a == v, a != v, a >= 1),
    "logic": lambda m: (m & m, m | m, m ^ m, ~m, np.logical_and(m, m)),
    "divmod": lambda a: np.divmod(a, 2),
    "frexp": lambda a, v: np.frexp(a),
    "dtype of a ufunc": lambda v: np.add(v, v, dtype=np.float64),
    "matmul": lambda a, b: a @ b,
    "matmul of vectors": lambda v: (v @ v, v @ np.ones((3, 2)), np.ones((5, 3)) @ v),
    "matmul in batches": lambda a, b: a[None] @ b.reshape(1, 3, 2),
    "dot": lambda a, b, v: (a.dot(b), a.dot(v), np.dot(v, 2.0), np.dot(a, np.ones((2, 3, 5)))),
    "outer": lambda v: np.outer(v, v),
    "einsum": lambda a, b: np.einsum("ij,jk->k", a, b),
    "tensordot": lambda a, b: np.tensordot(a, b, 1),
    "sum": lambda a, m: (a.sum(), a.sum(0), a.sum(axis=(0, 1), keepdims=True), m.sum()),
    "sum in another dtype": lambda v: v.sum(dtype=np.float64),
    "means": lambda a, m: (a.mean(-1), m.mean(), np.std(a, axis=0, ddof=1), a.var()),
    "extremes": lambda a: (a.max(1), np.min(a, axis=0, keepdims=True), a.argmax(), a.argmin(0)),
    "any, all": lambda m: (m.any(), m.all(axis=1)),
    "prod, cumsum": lambda v: (v.prod(), v.cumsum(), np.cumprod(v)),
    "no elements": lambda e: (e.sum(0), e.max(axis=1), e.mean(axis=1)),
    "reduce": lambda a: (np.add.reduce(a), np.maximum.reduce(a, axis=1)),
    "shapes": lambda a: (a.T, a.reshape(2, -1), a.ravel(), a[:, None].squeeze(1), a.swapaxes(0, 1)),
    "transposes": lambda a: (a.transpose(1, 0), np.moveaxis(a, 0, 1), np.expand_dims(a, (0, 2))),
    "put together": lambda a, v: (np.concatenate([a, a]), np.stack((v, v)), np.vstack([a, v])),
    "put together otherwise": lambda a, b, v, e: (
        np.concatenate((a, e)), np.concatenate([a, a], axis=-1), np.concatenate([v, a.ravel()]),
        np.concatenate([a, b], axis=None), np.stack([a, a], axis=-1), np.stack([v, v], 1)),
    "padded": lambda a, e: (
        np.pad(a, 1), np.pad(a, ((0, 1), (2, 0)), constant_values=3.0), np.pad(a, 1, "edge"),
        np.pad(e, ((1, 2), (0, 0)))),
    "indexes": lambda a: (a[1:, ::2], a[-1], a[..., None], a[[0, 2]], a[:, [True, False, True]]),
    "computed indices": lambda a, i: (a[i], np.take(a, i, axis=1), a.take(i)),
    "where": lambda a, v, m: (np.where(m, v, 0), np.where(m, a, v), np.clip(v, 0, 1)),
    "like": lambda v: (np.zeros_like(v), np.ones_like(v, dtype=int), np.full_like(v, 2, shape=(2,))),
    "cast": lambda v: (v.astype(int), v.astype("f8", copy=False), v.copy(), v.round(1)),
    "a result to be filled": lambda v: np.add(v, 1, out=np.empty(3)),
    "what NumPy says of it": lambda a, v: (
        np.zeros((np.ndim(a), np.size(a), *np.shape(a))), np.zeros(1, np.result_type(a, v))),
    "attributes": lambda a, v: np.zeros((a.ndim, a.size, len(a), v.itemsize, v.nbytes)),
    "parts one by one": lambda a: sum(row * 1 for row in a),
    "added to an array": lambda v: operator.iadd(np.zeros(3), v),
    "changed at an index": lambda a, v: (
        np.add.at(total := np.zeros((5, 3)), np.s_[1:], a), np.add.at(total, [0, 0], v), total)[2],
    "linear algebra": lambda a: (np.linalg.norm(a, axis=1), np.trace(a), np.diagonal(a)),
    "inverses": lambda a: (np.linalg.inv(a[:3]), np.linalg.solve(a[:3], a[0]), np.linalg.det(a[:3])),
    "decompositions": lambda a: (np.linalg.cholesky(a[:3]), *np.linalg.svd(a), *np.linalg.qr(a)),
    "tri, pad, roll": lambda a: (np.triu(a), np.pad(a, 1), np.roll(a, 1), np.repeat(a, 2, axis=0)),
    "variadic apply": lambda a, v: mf.apply(ops.Add, a, v, a),
    "apply": lambda a: mf.apply(ops.Sum, a, axis=1),
}  # fmt: skip
ARRAYS = {"a": A, "b": B, "v": V, "i": J, "m": M, "e": E}


def _arguments(call: Any) -> list[np.ndarray]:
    return [ARRAYS[name] for name in call.__code__.co_varnames[: call.__code__.co_argcount]]


def kinds(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [kinds(part) for part in value]
    return value.shape, value.dtype


@pytest.mark.parametrize("name", CALLS)
def test_numpy_on_abstract_values_gives_the_shapes_and_dtypes_of_numpy_on_arrays(name: str) -> None:
    call = CALLS[name]
    arrays = _arguments(call)

    result = call(*(Abstract(x.shape, x.dtype) for x in arrays))

    assert kinds(result) == kinds(call(*arrays))


MISMATCHES: dict[str, Any] = {
    "broadcasting": lambda a: a + np.ones(4),
    "matmul": lambda a: a @ a,
    "matmul of a number": lambda a: a @ np.float64(1),
    "matmul in batches": lambda a: np.ones((2, 5, 4)) @ np.ones((3, 1, 1)) * a,
    "reshape": lambda a: a.reshape(5, -1),
    "axis": lambda a: a.sum(axis=2),
    "index": lambda a: a[4],
    "concatenate": lambda a: np.concatenate([a, a.T]),
    "concatenate of several ranks": lambda a: np.concatenate([a, a[0]]),
    "concatenate, axis": lambda a: np.concatenate([a, a], axis=2),
    "stack": lambda a: np.stack([a, a.T]),
    "stack, axis": lambda a: np.stack([a, a], axis=3),
    "extreme of nothing": lambda e: e.max(axis=0),
    "dtype": lambda m: -m,
    "out": lambda a: np.add(a, 1, out=np.zeros(2)),
    "squeeze": lambda a: a.squeeze(0),
    "changed at an index": lambda a: np.add.at(np.zeros((5, 3)), np.s_[2:], a),
    "inverse": lambda a: np.linalg.inv(a),  # noqa: PLW0108 - its arguments are read
    "solve": lambda a: np.linalg.solve(a[:3], a[:, 0]),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_what_numpy_refuses_for_arrays_is_refused_for_abstract_values(name: str) -> None:
    call = MISMATCHES[name]
    arrays = _arguments(call)
    with pytest.raises((ValueError, IndexError, TypeError)) as expected:
        call(*arrays)

    with pytest.raises((ValueError, IndexError, TypeError)) as caught:
        call(*(Abstract(x.shape, x.dtype) for x in arrays))

    assert isinstance(caught.value, expected.type)


UNREADABLE: dict[str, Any] = {
    "if": lambda a: 1 if a.sum() > 0 else 2,
    "float": lambda a: float(a[0, 0]),
    "math": lambda a: math.exp(a[0, 0]),
    "asarray": lambda a: (np.asarray(a),),
    "mask": lambda a: a[a > 0],
    "nonzero": lambda a: (np.nonzero(a),),
    "where": lambda a: (np.where(a),),
    "unique": lambda a: (np.unique(a),),
    "sets": lambda a: np.intersect1d(a, a),
    "deletion": lambda i: np.delete(np.ones(3), i),
    "count": lambda a: np.count_nonzero(a, axis=0),
    "truth of arrays": lambda a: np.array_equal(a, a),
    "membership": lambda a: 1 in a,
    "item": lambda a: a.sum().item(),
    "tolist": lambda a: a.tolist(),
    "repeats": lambda i: np.repeat(np.ones(2), i[0]),
    "len of a number": lambda a: len(a.sum()),
    "iteration of a number": lambda a: iter(a.sum()),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_depends_on_elements_cannot_be_read(name: str) -> None:
    call = UNREADABLE[name]

    with pytest.raises(NotTraceableError):
        call(*(Abstract(x.shape, x.dtype) for x in _arguments(call)))


DRAWS: dict[str, Any] = {
    "random": lambda rng: rng.random((3, 2)),
    "random float32": lambda rng: rng.random(3, dtype=np.float32),
    "normal": lambda rng: rng.normal(0.0, 1.0, (2,)),
    "normal by name": lambda rng: rng.normal(size=4),
    "normal around an array": lambda rng: rng.normal(np.zeros((2, 3))),
    "integers": lambda rng: rng.integers(0, 5, size=(2, 2)),
    "one": lambda rng: rng.standard_normal(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_random_draws_have_a_shape_and_a_dtype(name: str) -> None:
    drawn = DRAWS[name](AbstractGenerator())

    assert kinds(drawn) == kinds(np.asarray(DRAWS[name](np.random.default_rng(0))))


# Nodes


@pytest.mark.parametrize("sample", [pytest.param(s, id=str(s)) for s in SAMPLES])
def test_declared_inputs_tell_the_shape_and_dtype_of_every_operation(sample: Sample) -> None:
    nodes = [mf.Input(shape=x.shape, dtype=x.dtype) for x in sample.inputs]

    node = sample.operation(*nodes, **sample.hyperparameters)

    result = np.asarray(run(node, dict(zip(nodes, sample.inputs, strict=True))))
    assert mf.shape_of(node) == result.shape
    assert mf.dtype_of(node) == result.dtype or sample.operation is Dropout


@pytest.mark.parametrize("sample", [pytest.param(s, id=str(s)) for s in SAMPLES])
@pytest.mark.parametrize("dtyped", [True, False])
def test_what_is_known_with_axes_of_any_size_holds_in_a_run(sample: Sample, dtyped: bool) -> None:
    single = [x.astype(np.float32) if x.dtype.kind == "f" else x for x in sample.inputs]
    for free in (slice(0, 1), slice(1, None), slice(None)):
        nodes = []
        for x in single:
            shape: list[Any] = list(x.shape)
            shape[free] = [None] * len(shape[free])
            nodes.append(mf.Input(shape=tuple(shape), dtype=x.dtype if dtyped else None))

        node = sample.operation(*nodes, **sample.hyperparameters)

        result = np.asarray(run(node, dict(zip(nodes, single, strict=True))))
        assert fits(mf.shape_of(node), result.shape)
        assert mf.dtype_of(node) in (None, result.dtype)


def test_the_shapes_of_a_network_follow_from_one_batch_axis() -> None:
    X, y = mf.Input("X", shape=(None, 13)), mf.Input("y", shape=(None, 1))
    classes = mf.Input("classes", shape=(None,))
    W, b = mf.Parameter(np.zeros((13, 10), np.float32)), mf.Parameter(np.zeros(10, np.float32))

    hidden = Sigmoid(Linear(X, W, b))

    assert hidden.shape == (None, 10)
    assert hidden.ndim == 2
    assert hidden.size is None
    assert hidden.dtype is None  # X declares none
    assert (hidden > 0).dtype == np.bool_
    assert hidden.sum(axis=0).shape == (10,)
    assert hidden.T.shape == (10, None)
    assert mf.shape_of(hidden.reshape(-1)) == (None,)
    assert hidden[3].shape == (10,)
    assert hidden[:5].shape == (None, 10)
    assert np.concatenate([hidden, X], axis=1).shape == (None, 23)
    assert MSE(y, hidden @ np.ones((10, 1))).shape == ()
    assert CrossEntropy(classes, hidden).shape == ()
    assert Dropout(hidden).shape == (None, 10)


def test_dtypes_follow_numpy_s_rules() -> None:
    x = mf.Input(shape=(3,), dtype=np.float32)

    assert (x * 2.0).dtype == np.float32
    assert (x * np.float64(2)).dtype == np.float64
    assert ops.Add(np.ones(2, np.float32), 2.0).dtype == run(
        ops.Add(np.ones(2, np.float32), 2.0), {}
    ).dtype  # fmt: skip
    assert (x > 0).sum().dtype == np.int64
    assert x.astype(np.int32).dtype == np.int32
    assert mf.Parameter(1).dtype == np.float64


@pytest.mark.parametrize("build", [lambda x: x + 1, np.tanh, lambda x: x @ x, lambda x: x[0]])
def test_nothing_is_known_of_what_reads_an_undeclared_input(build: Any) -> None:
    node = build(mf.Input("x"))

    assert (node.shape, node.dtype, node.ndim, node.size) == (None, None, None, None)


def test_a_field_called_shape_is_that_field() -> None:
    x = mf.Input(shape=(2, 6))

    node = x.reshape(3, -1)

    assert node.shape == (3, -1)
    assert mf.shape_of(node) == (3, 4)
    assert len(node) == 3


def test_nodes_of_known_length_have_a_length_and_parts() -> None:
    x = mf.Parameter([[1.0, 2.0], [3.0, 4.0]])

    first, second = x

    assert len(x) == 2
    assert run(second - first, {}).tolist() == [2, 2]


def test_what_is_known_survives_pickling() -> None:
    x = mf.Input("x", shape=(None, 3), dtype=np.float32)

    node = pickle.loads(pickle.dumps(np.tanh(x)))

    assert (node.shape, node.dtype) == ((None, 3), np.float32)


def test_nodes_alike_share_what_is_known_of_them() -> None:
    x, y = mf.Parameter(np.ones(3)), mf.Parameter(np.zeros(3))

    assert np.tanh(x)._known is np.tanh(y)._known
    assert (x * 2)._known is not (x * 2).astype(np.float32)._known


def made(forward: Any, **hyperparameters: Any) -> type[mf.Node]:
    body = {
        "__annotations__": {"x": mf.Node, **dict.fromkeys(hyperparameters, object)},
        "__module__": "somepack.layers",
        "forward": staticmethod(forward),
    }
    return mf.operation(type("Made", (mf.Node,), body))


CANNOT_BE_READ: dict[str, Any] = {
    "branch on data": lambda x: x + 1 if x.sum() > 0 else x,
    "foreign function": lambda x: np.asarray([math.exp(v) for v in x]),
    "assignment": lambda x: np.zeros(2).__setitem__(0, x[0]) or x,
    "mask": lambda x: x[x > 0],
    "mutable": lambda x: x.sort(),
    "error that says nothing of shapes": lambda x: {}[x.size],
    "no array": lambda x: "text",
}


@pytest.mark.parametrize("name", CANNOT_BE_READ)
def test_a_forward_that_cannot_be_read_is_of_unknown_shape_and_no_error(name: str) -> None:
    node = made(CANNOT_BE_READ[name])(mf.Parameter([1.0, 2.0]))

    assert node.shape is None
    assert (node + 1).shape is None


def saying(looks: Any) -> Any:
    """An operation that says how its result looks, and cannot be read."""

    @mf.operation
    class Says(mf.Node):
        x: mf.Node
        count: int = 2

        @staticmethod
        def forward(x: Any, count: int) -> Any:
            raise AssertionError("it was read")

        shape_and_dtype = staticmethod(looks)

    return Says


def test_an_operation_that_says_how_its_result_looks_is_not_read() -> None:
    cls = saying(lambda x, count: ((count, *x.shape), x.dtype))
    node = cls(mf.Input(shape=(None, 3), dtype=np.float32), count=10**12)

    assert (node.shape, node.dtype) == ((10**12, None, 3), np.float32)
    read = ops.Add.forward(mf.apply(cls, Abstract((2,), np.dtype(float)), count=5), 1.0)
    assert read.shape == (5, 2)


@pytest.mark.parametrize(
    "looks",
    [
        lambda x: None,
        lambda x: (x.shape, "no dtype"),
        lambda x: ((1.5,), float),
        lambda x: x.elements,
    ],
)
def test_what_says_nothing_that_can_be_used_says_nothing(looks: Any) -> None:
    assert saying(looks)(mf.Input(shape=(3,))).shape is None


def test_what_an_operation_says_may_be_that_the_shapes_do_not_fit() -> None:
    def looks(x: Any) -> Any:
        raise ValueError("three axes are needed")

    with pytest.raises(ShapeError, match="three axes are needed"):
        saying(looks)(mf.Input(shape=(3,), dtype=float))
    with pytest.raises(ShapeError, match="negative dimensions"):
        saying(lambda x: ((-1,), x.dtype))(mf.Input(shape=(3,), dtype=float))


def test_what_says_how_the_result_looks_asks_for_inputs_and_hyperparameters_only() -> None:
    with pytest.raises(mf.errors.DefinitionError, match="asks for 'rng', which nothing provides"):
        saying(lambda x, rng: (x.shape, x.dtype))


def test_hyperparameters_that_are_equal_but_not_alike_are_told_apart() -> None:
    scale = made(lambda x, factor: x * factor, factor=None)
    x = mf.Constant(np.array([1, 2]))

    assert [scale(x, factor=f).dtype for f in (2, 2.0)] == [np.int64, np.float64]
    assert scale(x, factor=[1.0, 2.0]).dtype == np.float64  # no hash, no cache


def test_an_operation_that_draws_and_one_that_differs_in_training() -> None:
    noisy = made(lambda x, rng: x + rng.normal(size=x.shape))
    fickle = made(lambda x, training: x if training else x.sum())

    assert noisy(mf.Parameter(np.ones(3))).shape == (3,)
    assert fickle(mf.Parameter(np.ones(3))).shape is None


# Mismatches


def line() -> int:
    return sys._getframe(1).f_lineno


def test_a_mismatch_is_an_error_at_the_line_that_builds_the_node() -> None:
    X = mf.Input("X", shape=(None, 13))
    W, at = mf.Parameter(np.zeros((12, 10)), name="W"), line()

    with pytest.raises(ShapeError) as caught:
        Linear(X, W, np.zeros(10))

    message = str(caught.value)
    assert f"mfops_nn.Linear (built at {__file__}:{at + 3})" in message
    assert f"X: X (mfcore.Input, built at {__file__}:{at - 1}) is any dtype[any, 13]" in message
    assert f"W: W (mfcore.Parameter, built at {__file__}:{at}) is float64[12, 10]" in message
    assert "b: mfcore.Constant" in message
    assert "size 12 is different from 13" in message
    assert isinstance(caught.value, mf.errors.GraphError)


P = mf.Parameter
WRONG: dict[str, Any] = {
    "broadcasting": lambda: P(np.ones(3)) + P(np.ones(4)),
    "broadcasting beside a batch axis": lambda: mf.Input(shape=(None, 3)) * P(np.ones(4)),
    "two batch axes": lambda: mf.Input(shape=(None, 3)) - mf.Input(shape=(None, 4)),
    "matmul": lambda: mf.Input(shape=(None, 3)) @ P(np.ones((4, 1))),
    "operation's own check": lambda: MSE(P(np.ones(3)), P(np.ones(4))),
    "reshape": lambda: P(np.ones((3, 4))).reshape(5, -1),
    "reshape of a batch": lambda: mf.Input(shape=(None, 10)).reshape(7, 3),
    "index": lambda: P(np.ones(3))[3],
    "axis": lambda: mf.Input(shape=(None, 3)).sum(axis=2),
    "concatenate": lambda: np.concatenate([mf.Input(shape=(None, 3)), P(np.ones((2, 4)))]),
    "dtype": lambda: -(P(np.ones(3)) > 0),
    "derived": lambda: np.tanh(mf.Input(shape=(None, 3)) @ P(np.ones((3, 4)))) + P(np.ones(5)),
}


@pytest.mark.parametrize("name", WRONG)
def test_shapes_and_dtypes_that_cannot_fit_are_refused(name: str) -> None:
    with pytest.raises(ShapeError, match="do not fit"):
        WRONG[name]()


def any_of(*shape: int | None) -> mf.Input:
    return mf.Input(shape=shape)


MAY_FIT: dict[str, Any] = {
    "3 rows": (lambda: any_of(None) + any_of(3), None),
    "1 row": (lambda: any_of(None, 5) + any_of(2, 5), None),
    "11 rows, as a probe has": (lambda: any_of(None) + any_of(11), None),
    "square": (lambda: any_of(None, None) @ any_of(3, 4), None),
    "6 elements": (lambda: any_of(None, 4).reshape(3, 8), None),
    "products": (lambda: any_of(None).reshape(4, 7), None),
    "MSE": (lambda: MSE(any_of(None, 1), any_of(None, 2)), None),
    "an axis that 1 drops": (lambda: any_of(None, 3).squeeze(), None),
    "beyond the probes": (lambda: any_of(None, 3)[200], None),
    "beyond the probes, a slice": (lambda: any_of(None, 3)[200:], None),
    "indices of undeclared dtype": (lambda: np.take(any_of(5, 2), any_of(None), axis=0), (None, 2)),
    "outer": (lambda: any_of(None, 1) * any_of(4), (None, 4)),
    "difference of lengths": (
        lambda: ops.Index(any_of(None), index=np.s_[1:]) - any_of(None), None),
}  # fmt: skip


@pytest.mark.parametrize("name", MAY_FIT)
def test_what_may_fit_is_no_error(name: str) -> None:
    build, shape = MAY_FIT[name]

    assert mf.shape_of(build()) == shape


def test_axes_of_any_size_need_not_be_equal() -> None:
    image, kernel = any_of(None), any_of(None)
    windows = made(lambda x: x[: x.shape[0] - x.shape[1] + 1].sum(axis=1))

    # Equal axes would leave one window; unequal ones leave others.
    assert mf.shape_of(windows(any_of(None, None))) is None
    assert mf.shape_of(np.concatenate([image, kernel])) == (None,)


lengths = st.integers(1, 4)
BINARY = {
    "add": lambda x, y: x + y,
    "matmul": lambda x, y: x @ y,
    "concatenate": lambda x, y: np.concatenate([x, y], axis=0),
    "where": lambda x, y: np.where(x > 0, x, y),
    "reshape": lambda x, y: x.reshape(-1, 2) * y,
    "reduced": lambda x, y: x.sum(axis=0) + y.max(axis=-1),
    "mse": MSE,
}


@given(
    st.sampled_from(sorted(BINARY)),
    st.lists(lengths, min_size=1, max_size=3),
    st.lists(lengths, min_size=1, max_size=3),
    st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_whatever_runs_is_built_and_looks_as_was_said(
    name: str, one: list[int], other: list[int], free: list[bool]
) -> None:
    x, y = np.ones(one), np.ones(other, np.float32)
    inputs = [
        mf.Input(shape=tuple(None if f else n for n, f in zip(a.shape, flags, strict=False)))
        for a, flags in ((x, free[:3]), (y, free[3:]))
    ]
    build = BINARY[name]
    bare = [mf.Input(), mf.Input()]
    try:
        result = np.asarray(run(build(*bare), dict(zip(bare, (x, y), strict=True))))
    except (mf.errors.ForwardError, ShapeError):
        return  # does not run: whether that is found early is another test's matter

    node = build(*inputs)

    assert fits(mf.shape_of(node), result.shape)
    assert node.dtype in (None, result.dtype)


def test_mismatches_of_known_shapes_are_always_found() -> None:
    for one in ((3,), (2, 3), (4, 1)):
        for other in ((2,), (3,), (3, 1), (2, 2)):
            nodes = P(np.ones(one)), P(np.ones(other))
            for build in (lambda x, y: x + y, lambda x, y: x @ y):
                try:
                    build(np.ones(one), np.ones(other))
                except ValueError:
                    with pytest.raises(ShapeError):
                        build(*nodes)
                else:
                    build(*nodes)


# Documentation


def test_the_page_on_shapes_says_what_its_programs_print(page_of_programs: Any) -> None:
    blocks = page_of_programs("docs/shapes.md")

    assert len(blocks) == 7
    for printed, said in blocks:
        assert printed == said
