"""Ctrl-C inside a compiled epoch ends it between two steps, and training can go on."""

from __future__ import annotations

import signal
import threading

import numpy as np
import pytest

import mfcore as mf
from mfjit.interrupts import deferred_interrupts
from mfops_nn import MSE, Linear, Sigmoid
from mfoptim import Adam, fit


def problem():
    rng = np.random.default_rng(0)
    X, y = mf.Input("X"), mf.Input("y")
    W1, b1 = mf.Parameter(rng.normal(size=(13, 10))), mf.Parameter(np.zeros(10))
    W2, b2 = mf.Parameter(rng.normal(size=(10, 1))), mf.Parameter(np.zeros(1))
    cost = MSE(y, Linear(Sigmoid(Linear(X, W1, b1)), W2, b2))
    return mf.Graph(cost), {X: rng.normal(size=(506, 13)), y: rng.normal(size=(506, 1))}


@pytest.mark.usefixtures("interrupts_arrive")
@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_an_interrupt_inside_an_epoch_leaves_a_session_that_goes_on(engine):
    graph, data = problem()
    rows = np.random.default_rng(1).integers(0, 506, (1_500_000, 11))
    optimizer = Adam(0.001)
    session = mf.Session(graph, engine=engine)
    session.epoch(data, optimizer, rows[:3])  # compiled
    timer = threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        session.epoch(data, optimizer, rows)
    timer.join()

    done = session.steps
    assert 3 < done < len(rows)
    again = mf.Session(graph, engine=engine)
    again.epoch(data, optimizer, rows[:3])
    again.epoch(data, optimizer, rows[: done - 3])
    for parameter in graph.parameters:  # to the last bit: no step was cut in two
        np.testing.assert_array_equal(session[parameter], again[parameter])
    assert np.isfinite(session.epoch(data, optimizer, rows[:5])).all()


@pytest.mark.usefixtures("interrupts_arrive")
@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_fit_returns_the_history_so_far(engine):
    graph, data = problem()
    timer = threading.Timer(1.0, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    history = fit(graph, data, Adam(0.001), epochs=200_000, batch_size=11, seed=0, engine=engine)
    timer.join()
    assert history.stopped.reason == "interrupted"
    assert history.steps == history.session.steps > 0
    assert len(history.loss) == history.stopped.epoch - 1


def test_interrupts_are_held_back_and_raised_at_the_end():
    seen = []
    with pytest.raises(KeyboardInterrupt):
        with deferred_interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            seen.append(interrupts.pending)
    assert seen == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_handler_is_left_alone():
    calls = []
    before = signal.signal(signal.SIGINT, lambda *_: calls.append(1))
    try:
        with deferred_interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            assert not interrupts.pending
    finally:
        signal.signal(signal.SIGINT, before)
    assert calls == [1]


def test_other_threads_have_nothing_to_hold_back():
    states = []

    def run():
        with deferred_interrupts() as interrupts:
            states.append(interrupts.pending)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert states == [False]
