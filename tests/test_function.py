"""A graph as a function: any batch size, any thread, no session."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import mfcore as mf
from mfcore.errors import FeedDtypeError, FeedError, FeedShapeError, ForwardError, GraphError
from mfops_nn import MSE, Dropout, Linear, Sigmoid
from mfoptim import SGD


@pytest.fixture(params=["mfcore.reference", "mfjit.numpy", "mfjit.auto"])
def engine(request):
    return request.param


def network():
    rng = np.random.default_rng(0)
    X = mf.Input("X", shape=(None, 4))
    W1, b1 = mf.Parameter(rng.normal(size=(4, 5)), name="W1"), mf.Parameter(np.ones(5))
    W2, b2 = mf.Parameter(rng.normal(size=(5, 2))), mf.Parameter(np.zeros(2))
    hidden = Sigmoid(Linear(X, W1, b1))
    return X, hidden, Linear(hidden, W2, b2)


def test_it_gives_what_a_run_gives_for_any_batch_size(engine):
    X, _, a = network()
    predict = mf.function([X], a, engine=engine)
    rng = np.random.default_rng(1)
    for n in (1, 7, 0, 100, 7):
        rows = rng.normal(size=(n, 4))
        expected = mf.Session(a, engine="mfcore.reference").run({X: rows})[a]
        np.testing.assert_allclose(predict(rows), expected, rtol=1e-12)
        assert predict(rows).dtype == np.float64


def test_several_outputs_are_a_tuple_and_arguments_keep_their_order(engine):
    x, y, z = mf.Input("x"), mf.Input("y"), mf.Input("z")
    f = mf.function([z, x, y], [x - z, x * 2.0], engine=engine)
    difference, double = f(np.array([1.0]), np.array([5.0]), np.array([9.0]))
    np.testing.assert_array_equal(difference, [4.0])
    np.testing.assert_array_equal(double, [10.0])


def test_results_are_the_callers_own(engine):
    X, hidden, a = network()
    predict = mf.function(X, [hidden, a], engine=engine)
    rows = np.ones((3, 4))
    first = predict(rows)
    kept = [part.copy() for part in first]
    first[0][...] = 7.0
    np.testing.assert_array_equal(predict(rows)[0], kept[0])
    same = mf.function(X, X, engine=engine)
    result = same(rows)
    assert not np.may_share_memory(result, rows)


def test_a_sessions_parameters_are_copied_when_the_function_is_made(engine):
    X, _, a = network()
    y = mf.Input("y")
    session = mf.Session(MSE(y, a))
    feeds = {X: np.ones((3, 4)), y: np.zeros((3, 2))}
    for _ in range(5):
        session.step(feeds, SGD(0.1))
    trained = mf.function(X, a, session=session, engine=engine)
    before = trained(feeds[X])
    run = mf.Session([a, MSE(y, a)])
    for parameter in run.graph.parameters:
        run[parameter] = session[parameter]
    np.testing.assert_allclose(before, run.run(feeds)[a], rtol=1e-12)
    session.step(feeds, SGD(0.1))
    np.testing.assert_array_equal(trained(feeds[X]), before)


def test_nothing_is_dropped(engine):
    x = mf.Input("x")
    f = mf.function(x, Dropout(x, rate=0.9), engine=engine)
    np.testing.assert_array_equal(f(np.arange(5.0)), np.arange(5.0))


def test_many_threads_call_it_at_once(engine):
    X, _, a = network()
    predict = mf.function(X, a, engine=engine)
    rng = np.random.default_rng(2)
    batches = [rng.normal(size=(n, 4)) for n in (1, 2, 3, 50) * 20]
    expected = [predict(rows) for rows in batches]
    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(predict, batches), expected, strict=True):
            np.testing.assert_array_equal(got, want)


def test_it_calls_itself_within_an_operation():
    x = mf.Input("x")
    inner: list = []

    @mf.operation
    class Halving(mf.Node):
        x: mf.Node

        @staticmethod
        def forward(x):
            value = np.asarray(x)
            return value if value.item(0) < 1 else inner[0](value / 2)

    inner.append(mf.function(x, Halving(x)))
    np.testing.assert_array_equal(inner[0](np.array([12.0])), [0.75])


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((), FeedError, "takes 1 arrays, 0 were given"),
        ((np.ones((2, 4)), 1), FeedError, "takes 1 arrays, 2"),
        ((np.ones((2, 3)),), FeedShapeError, r"\(2, 3\).*declares \(None, 4\)"),
        ((np.array([["a"]]),), FeedDtypeError, "cannot be used"),
    ],
)
def test_wrong_arguments_are_named(engine, arguments, error, match):
    X, _, a = network()
    predict = mf.function(X, a, engine=engine)
    with pytest.raises(error, match=match):
        predict(*arguments)


def test_an_error_of_a_run_names_the_node(engine):
    x, w = mf.Input("x"), mf.Parameter(np.ones((3, 2)))
    f = mf.function(x, x @ w, engine=engine)
    with pytest.raises(ForwardError, match=r"mat_mul_1 .*test_function\.py"):
        f(np.ones((2, 4)))
    np.testing.assert_array_equal(f(np.ones((2, 3))), np.full((2, 2), 3.0))


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        (lambda x, y: [x], "the outputs need y"),
        (lambda x, y: [x, x], "given twice"),
        (lambda x, y: [x, y, y + 1], "arguments of a function are inputs"),
    ],
)
def test_wrong_inputs_are_refused(inputs, match):
    x, y = mf.Input("x"), mf.Input("y")
    with pytest.raises(GraphError, match=match):
        mf.function(inputs(x, y), x * y)
