"""What is known of a program before it runs; less memory for more work."""

from __future__ import annotations

import numpy as np
import pytest

import mfcore as mf
from mfcore.errors import EngineError, FeedError, GraphError
from mfops_nn import MSE, Dropout, Linear, Sigmoid
from mfoptim import SGD, Adam


def chain(depth, width=32, dropout=False):
    rng = np.random.default_rng(0)
    X, y = mf.Input("X", shape=(None, width)), mf.Input("y")
    h = X
    for i in range(depth):
        W = mf.Parameter(rng.normal(size=(width, width)) / 4, name=f"W{i}")
        h = Sigmoid(Linear(h, W, mf.Parameter(np.zeros(width), name=f"b{i}")))
        if dropout:
            h = Dropout(h, rate=0.2)
    return mf.Graph(MSE(y, h)), X, y


def test_memory_is_known_before_running():
    graph, X, y = chain(4)
    rows = 16
    session = mf.Session(graph, engine="numpy")
    use = session.compile({X: (rows, 32), y: np.zeros((rows, 32))}, Adam(0.1)).memory()
    parameters = 4 * (32 * 32 + 32) * 8
    assert use.inputs == 2 * rows * 32 * 8
    assert use.parameters == parameters
    assert use.states == 2 * parameters
    assert use.total == use.inputs + 3 * parameters + use.buffers
    assert session.steps == 0
    assert f"{use.total:,} bytes" in str(use)


@pytest.mark.parametrize("checkpoint", [True, "named"])
@pytest.mark.parametrize("dropout", [False, True])
def test_checkpoints_change_memory_and_nothing_else(checkpoint, dropout):
    graph, X, y = chain(9, dropout=dropout)
    rng = np.random.default_rng(1)
    feeds = {X: rng.normal(size=(500, 32)), y: rng.normal(size=(500, 32))}
    kept = [graph["sigmoid_3"], graph["sigmoid_6"]] if checkpoint == "named" else True
    plain = mf.Session(graph, engine="numpy", seed=3)
    frugal = mf.Session(graph, engine="numpy", seed=3, checkpoint=kept)
    for _ in range(3):
        np.testing.assert_allclose(
            plain.step(feeds, SGD(0.1)), frugal.step(feeds, SGD(0.1)), rtol=1e-12
        )
    for p in graph.parameters:
        np.testing.assert_allclose(plain[p], frugal[p], rtol=1e-10, atol=1e-14)
    use = [s.compile(feeds, SGD(0.1)).memory().buffers for s in (plain, frugal)]
    assert use[1] < (0.85 if dropout else 0.75) * use[0]


def test_memory_with_checkpoints_grows_with_the_root_of_the_depth():
    def buffers(depth, checkpoint):
        graph, X, y = chain(depth, width=8)
        session = mf.Session(graph, engine="numpy", checkpoint=checkpoint)
        shapes = {X: (4096, 8), y: (4096, 8)}
        return session.compile(shapes, SGD(0.1)).memory().buffers / (4096 * 8 * 8)

    assert buffers(100, False) - buffers(25, False) > 70
    assert buffers(100, True) < 2.6 * buffers(25, True)


def test_explain_shows_primitives_and_steps():
    graph, X, y = chain(1)
    program = mf.Session(graph, engine="numpy").compile({X: (11, 32), y: (11, 32)}, SGD(0.5))
    text = program.explain()
    assert "a training step with SGD on the engine 'numpy'" in text
    assert "exp(" in text
    assert "# backward of linear_1" in text
    assert "matmul" in text.partition("steps")[2]
    run = mf.Session(graph, engine="numpy").compile({X: (11, 32), y: (11, 32)})
    assert "a run on the engine 'numpy'" in run.explain()
    assert "update" not in run.explain()


def test_a_profile_is_a_table_of_time_by_step():
    graph, X, y = chain(1)
    feeds = {X: np.ones((11, 32)), y: np.ones((11, 32))}
    session = mf.Session(graph, engine="numpy")
    step = session.compile(feeds, SGD(0.5)).profile(feeds, steps=3)
    run = session.compile(feeds).profile(feeds, steps=3)
    for table in (step, run):
        assert "us" in table
        assert "exp" in table
    assert len(step.splitlines()) > len(run.splitlines())
    with pytest.raises(EngineError, match="engine='numpy'"):
        mf.Session(graph, engine="numba").compile(feeds, SGD(0.5)).profile(feeds)


def test_shapes_that_are_missing_or_do_not_fit_are_named():
    graph, X, y = chain(1)
    session = mf.Session(graph, engine="numpy")
    with pytest.raises(FeedError, match="no value was fed for y"):
        session.compile({X: (11, 32)})
    with pytest.raises(FeedError, match=r"\(11, 31\).*declares \(None, 32\)"):
        session.compile({X: (11, 31), y: (11, 32)})


def test_the_reference_engine_says_that_it_compiles_nothing():
    graph, X, y = chain(1)
    session = mf.Session(graph, engine="mfcore.reference")
    with pytest.raises(EngineError, match="compiles nothing"):
        session.compile({X: (11, 32), y: (11, 32)})
    with pytest.raises(EngineError, match="keeps every value"):
        mf.Session(graph, engine="mfcore.reference", checkpoint=True)


def test_only_nodes_of_the_graph_are_kept():
    graph, _, _ = chain(1)
    with pytest.raises(GraphError, match="not part of the graph"):
        mf.Session(graph, engine="numpy", checkpoint=[mf.Input("z")])
