"""NumPy's functions, methods and operators on nodes mean what they mean on arrays."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

import mfcore as mf
import mfops_basic
import mfops_nn
from mfcore.errors import UndeclaredFunctionError
from mfcore.syntax import cast

rng = np.random.default_rng(11)
A = rng.uniform(0.5, 2.0, size=(2, 3))
B = rng.uniform(0.5, 2.0, size=(2, 3))
B[0, 1] = A[0, 1]  # so that comparisons see a tie
INDICES = np.array([[2, 0], [1, 2]])

UNARY = [
    *(np.negative, np.square, np.sqrt, np.exp, np.expm1, np.log, np.log1p, np.sin, np.cos),
    *(np.tanh, np.absolute, np.fabs, np.sign, np.logical_not),
]
BINARY = [
    *(np.add, np.subtract, np.multiply, np.divide, np.power, np.maximum, np.minimum),
    *(np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal),
    *(np.logical_and, np.logical_or, np.logical_xor),
]
REDUCTIONS = [np.sum, np.mean, np.max, np.amax, np.min, np.amin]

CALLS: list[tuple[Any, str, Any]] = [
    *((f, "(x)", lambda x, y, f=f: f(x)) for f in UNARY),
    *((f, "(x, y)", lambda x, y, f=f: f(x, y)) for f in BINARY),
    *((f, "(x, 2)", lambda x, y, f=f: f(x, 2)) for f in BINARY),
    *((f, "(2.0, y)", lambda x, y, f=f: f(2.0, y)) for f in BINARY),
    *((f, "(array, y)", lambda x, y, f=f: f(np.ones((4, 1, 3)), y)) for f in BINARY),
    *((f, "(x)", lambda x, y, f=f: f(x)) for f in REDUCTIONS),
    *((f, "(x, 1)", lambda x, y, f=f: f(x, 1)) for f in REDUCTIONS),
    *((f, "(x, axis=-2)", lambda x, y, f=f: f(x, axis=-2)) for f in REDUCTIONS),
    *((f, "(a=x)", lambda x, y, f=f: f(a=x, axis=0)) for f in REDUCTIONS),
    *(
        (f, "(x, keepdims=True)", lambda x, y, f=f: f(x, axis=(0, -1), keepdims=True))
        for f in REDUCTIONS
    ),
    (np.matmul, "(x, y.T)", lambda x, y: np.matmul(x, y.T)),
    (np.where, "(x > y, x, y)", lambda x, y: np.where(x > y, x, y)),
    (np.where, "(x > 1, x, 0.0)", lambda x, y: np.where(x > 1, x, 0.0)),
    (np.where, "(array, 0, y)", lambda x, y: np.where(A > 1, 0, y)),
    (np.transpose, "(x)", lambda x, y: np.transpose(x)),
    (np.transpose, "(x, axes)", lambda x, y: np.transpose(x[None], (-1, 0, 1))),
    (np.transpose, "(x, axes=list)", lambda x, y: np.transpose(x, axes=[1, 0])),
    (np.swapaxes, "(x, 0, -1)", lambda x, y: np.swapaxes(x, 0, -1)),
    (np.reshape, "(x, (3, -1))", lambda x, y: np.reshape(x, (3, -1))),
    (np.reshape, "(x, -1)", lambda x, y: np.reshape(x, -1)),
    (np.reshape, "(x, [6, 1])", lambda x, y: np.reshape(x, [6, 1])),
    (np.broadcast_to, "(x, shape)", lambda x, y: np.broadcast_to(x, (4, 2, 3))),
    (np.broadcast_to, "(x[0, 0], 3)", lambda x, y: np.broadcast_to(x[0, 0], 3)),
    (np.expand_dims, "(x, -1)", lambda x, y: np.expand_dims(x, -1)),
    (np.expand_dims, "(x, axis=(0, 2))", lambda x, y: np.expand_dims(x, axis=(0, 2))),
    (np.squeeze, "(x)", lambda x, y: np.squeeze(x[:1, None])),
    (np.squeeze, "(x, axis=-1)", lambda x, y: np.squeeze(x[..., None], axis=-1)),
    (np.concatenate, "([x, y])", lambda x, y: np.concatenate([x, y])),
    (np.concatenate, "([x], 1)", lambda x, y: np.concatenate([x], 1)),
    (np.concatenate, "((x, array), axis=-1)", lambda x, y: np.concatenate((x, A), axis=-1)),
    (np.stack, "([x, y])", lambda x, y: np.stack([x, y])),
    (np.stack, "((x, y, x), axis=-1)", lambda x, y: np.stack((x, y, x), axis=-1)),
    (np.take, "(x, 4)", lambda x, y: np.take(x, 4)),
    (np.take, "(x, INDICES)", lambda x, y: np.take(x, INDICES)),
    (np.take, "(x, INDICES, axis=-1)", lambda x, y: np.take(x, INDICES, axis=-1)),
    (np.take, "(x, [-1, 0, 0], 0)", lambda x, y: np.take(x, [-1, 0, 0], 0)),
    (cast, "x.astype(np.float32)", lambda x, y: x.astype(np.float32)),
    (cast, "x.astype(int, copy=False)", lambda x, y: x.astype(int, copy=False)),
]
INDEXES = {
    "[0]": np.s_[0],
    "[-1, 2]": np.s_[-1, 2],
    "[1:, ::2]": np.s_[1:, ::2],
    "[::-1, 2:0:-1]": np.s_[::-1, 2:0:-1],
    "[..., 1]": np.s_[..., 1],
    "[None, :, None]": np.s_[None, :, None],
    "[()]": np.s_[()],
    "[...]": np.s_[...],
    "[5:]": np.s_[5:],
    "[list]": [1, 0, 1],
    "[[]]": [],
    "[2-d array]": np.array([[0, 1], [1, 1]]),
    "[:, array]": np.s_[:, [2, 2, -1]],
    "[arrays]": ([0, 1, 1], [2, 0, 0]),
    "[column, row]": (np.array([[0], [1]]), np.array([0, 2])),
    "[array, slice]": np.s_[[0, 1], 1:],
    "[array, None, array]": ([0, 1], None, [2, 0]),
    "[mask]": A > 1,
    "[row mask]": np.array([True, False]),
    "[:, mask]": np.s_[:, [True, False, True]],
    "[empty mask]": np.zeros((2, 3), bool),
    "[True]": True,
    "[np.int64]": np.int64(1),
}
CALLS += [(operator.getitem, name, lambda x, y, i=i: x[i]) for name, i in INDEXES.items()]
METHODS = {
    "x.T": lambda x, y: x.T,
    "x.transpose()": lambda x, y: x.transpose(),
    "x.transpose(1, 0)": lambda x, y: x.transpose(1, 0),
    "x.transpose((1, 0))": lambda x, y: x.transpose((1, 0)),
    "x.transpose(None)": lambda x, y: x.transpose(None),
    "x.reshape(3, 2)": lambda x, y: x.reshape(3, 2),
    "x.reshape((3, -1))": lambda x, y: x.reshape((3, -1)),
    "x.reshape(-1)": lambda x, y: x.reshape(-1),
    "x.squeeze()": lambda x, y: x[:, None].squeeze(),
    "x.swapaxes(0, -1)": lambda x, y: x.swapaxes(0, -1),
    "x.ravel()": lambda x, y: x.ravel(),
    "x.flatten()": lambda x, y: x.flatten(),
    "x.copy()": lambda x, y: x.copy(),
    "x.take(4)": lambda x, y: x.take(4),
    "x.take([1, 0], axis=-1)": lambda x, y: x.take([1, 0], axis=-1),
    "x.squeeze(1)": lambda x, y: x[:, None].squeeze(1),
    "x.sum()": lambda x, y: x.sum(),
    "x.sum(-1)": lambda x, y: x.sum(-1),
    "x.mean(axis=(0, 1))": lambda x, y: x.mean(axis=(0, 1)),
    "x.max(axis=0, keepdims=True)": lambda x, y: x.max(axis=0, keepdims=True),
    "x.min(axis=1)": lambda x, y: x.min(axis=1),
    "x.dot(y.T)": lambda x, y: x.dot(y.T),
    "+x": lambda x, y: +x,
    "-x": lambda x, y: -x,
    "abs(x)": lambda x, y: abs(-x),
    "x @ y.T": lambda x, y: x @ y.T,
    "array @ y.T": lambda x, y: A @ y.T,
    "x @ array": lambda x, y: x @ A.T,
    "~(x > 1)": lambda x, y: ~(x > 1),
    "(x > 1) & (y > 1)": lambda x, y: (x > 1) & (y > 1),
    "(x > 1) | (y > 1)": lambda x, y: (x > 1) | (y > 1),
    "mask & (y > 1)": lambda x, y: (A > 1) & (y > 1),
    "mask | (y > 1)": lambda x, y: (A > 1) | (y > 1),
    "(x > 1) * x": lambda x, y: (x > 1) * x,
    "(x > 1) + (y > 1)": lambda x, y: (x > 1) + (y > 1),
    "(x > 1).sum()": lambda x, y: (x > 1).sum(),
    "x - x.mean(axis=0)": lambda x, y: x - x.mean(axis=0),
    "x ** 2 + y": lambda x, y: x**2 + y,
}


def run(build: Any, a: np.ndarray, b: np.ndarray) -> Any:
    x, y = mf.Input("x"), mf.Input("y")
    node = build(x, y)
    assert isinstance(node, mf.Node)
    return mf.Session([node, x, y]).run({x: a, y: b})[node]


def assert_same(mine: Any, numpys: Any) -> None:
    numpys = np.asarray(numpys)
    assert mine.dtype == numpys.dtype
    assert mine.shape == numpys.shape
    np.testing.assert_allclose(mine, numpys, rtol=1e-6 if numpys.dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("function", "build"), [pytest.param(f, b, id=f"{f.__name__}{n}") for f, n, b in CALLS]
)
def test_a_declared_function_gives_numpy_s_value_and_dtype(
    function: Any, build: Any, dtype: type
) -> None:
    a, b = A.astype(dtype), B.astype(dtype)

    assert_same(run(build, a, b), build(a, b))


@pytest.mark.parametrize("build", METHODS.values(), ids=METHODS.keys())
def test_methods_and_operators_give_numpy_s_value_and_dtype(build: Any) -> None:
    assert_same(run(build, A, B), build(A, B))


def test_every_declared_function_is_in_the_table() -> None:
    declared = {
        function
        for pack in (mfops_basic, mfops_nn)
        for name in pack.OPERATIONS
        for function in mf.spec_of(getattr(pack, name)).declared
    }

    assert {function for function, _, _ in CALLS} == declared


OPERATORS = [
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.pow),
    *(operator.lt, operator.le, operator.gt, operator.ge),
]
PARTNERS = {
    "int": 2,
    "float": 0.5,
    "bool": True,
    "float64 scalar": np.float64(0.5),
    "float32 scalar": np.float32(0.5),
    "0-d array": np.array(0.5),
    "row": np.array([1.0, 2.0, 0.5]),
    "float32 column": np.array([[1.0], [2.0]], np.float32),
    "leading axes": np.ones((2, 1, 1, 3)),
    "int array": np.array([1, 2, 3]),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("partner", PARTNERS.values(), ids=PARTNERS.keys())
@pytest.mark.parametrize("apply", OPERATORS)
def test_operators_work_in_both_directions_with_numpy_s_promotion(
    apply: Any, partner: Any, dtype: type
) -> None:
    a = A.astype(dtype)

    assert_same(run(lambda x, y: apply(x, partner), a, B), apply(a, partner))
    assert_same(run(lambda x, y: apply(partner, x), a, B), apply(partner, a))


@pytest.mark.parametrize("index", [i for _, i in INDEXES.items()], ids=INDEXES.keys())
def test_the_gradient_of_an_index_counts_how_often_each_element_is_taken(index: Any) -> None:
    x = mf.Input("x")
    taken = np.ravel(np.arange(6).reshape(2, 3)[index])

    gradient = mf.Session(x[index].sum()).run({x: A}).gradients[x]

    np.testing.assert_array_equal(gradient, np.bincount(taken, minlength=6).reshape(2, 3))


@pytest.mark.parametrize("indices", [1, [1, 0, 1], [[-1], [0]], np.zeros((0,), int)], ids=str)
def test_a_node_as_index_takes_along_the_first_axis(indices: Any) -> None:
    x, i = mf.Input("x"), mf.Input("i")
    chosen = np.asarray(indices)

    run = mf.Session(x[i].sum() + 0 * i.sum()).run({x: A, i: chosen})
    node = next(n for n in run.session.graph if n.qualified_name() == "mfops_basic.Take")

    np.testing.assert_array_equal(run[node], A[chosen])
    count = np.bincount(chosen.ravel() % 2, minlength=2)
    np.testing.assert_array_equal(run.gradients[x], np.repeat(count[:, None], 3, axis=1))
    np.testing.assert_array_equal(run.gradients[i], np.zeros(chosen.shape))


def test_a_computed_mask_as_index_is_refused_rather_than_read_as_numbers() -> None:
    x = mf.Input("x")

    with pytest.raises(mf.errors.ForwardError, match=r"use `np\.where\(mask, x, 0\)`"):
        mf.Session(x[x > 0]).run({x: np.array([1.0, -1.0])})


x = mf.Input("x")
UNDECLARED = {
    "np.cumsum": lambda: np.cumsum(x),
    "np.linalg.norm": lambda: np.linalg.norm(x),
    "np.fft.fft": lambda: np.fft.fft(x),
    "np.arctan": lambda: np.arctan(x),
    "np.floor_divide": lambda: x // 2,
    "np.remainder": lambda: 2 % x,
    "np.add.reduce": lambda: np.add.reduce(x),
    "np.multiply.outer": lambda: np.multiply.outer(x, x),
    "np.add.accumulate": lambda: np.add.accumulate(x),
    "np.add.at": lambda: np.add.at(np.zeros(3), [0], x),
    "np.add on nodes does not support out=": lambda: operator.iadd(np.zeros(3), x),
    "np.exp on nodes does not support where=": lambda: np.exp(x, where=[True]),
    "np.exp on nodes does not support dtype=": lambda: np.exp(x, dtype=np.float32),
    "np.sum on nodes does not support dtype=": lambda: np.sum(x, dtype=float),
    "np.mean on nodes does not support where=": lambda: np.mean(x, where=[True]),
    "np.max on nodes does not support initial=": lambda: np.max(x, initial=0.0),
    "np.min on nodes does not support out=": lambda: np.min(x, out=np.zeros(())),
    "np.reshape on nodes does not support order=": lambda: np.reshape(x, 3, order="F"),
    "np.take on nodes does not support mode=": lambda: np.take(x, 0, mode="clip"),
    "np.concatenate on nodes does not support dtype=": lambda: np.concatenate([x], dtype="f4"),
    "np.stack on nodes does not support casting=": lambda: np.stack([x], casting="no"),
    "a node cannot be one part of an index": lambda: x[0, x],
}


@pytest.mark.parametrize("said", UNDECLARED)
def test_what_nobody_declared_is_an_error_that_names_it(said: str) -> None:
    with pytest.raises(UndeclaredFunctionError) as caught:
        UNDECLARED[said]()

    assert said in str(caught.value)
