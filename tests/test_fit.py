"""``fit``: batches, reproducibility, validation, callbacks, and every way in which it ends."""

import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mfcore as mf
from mfcore.errors import DataError, DivergenceWarning, MiniFlowError, UnknownNodeError
from mfops_basic import Sum
from mfops_nn import MSE, Dropout, Linear, Sigmoid
from mfoptim import SGD, Adam, Callback, EarlyStopping, FitError, StopTraining, fit
from mfoptim.batches import Batches

X_ = np.random.default_rng(7).normal(size=(20, 3))
y_ = X_ @ [[1.0], [-2.0], [0.5]] + 0.25


def regression(precision=np.float64, **declared):
    """A linear model of three features, its inputs, weights and cost."""
    X, y = mf.Input("X", **declared), mf.Input("y")
    W = mf.Parameter(np.zeros((3, 1), precision), name="W")
    b = mf.Parameter(np.zeros(1, precision), name="b")
    return SimpleNamespace(
        X=X, y=y, W=W, b=b, cost=MSE(y, Linear(X, W, b)), data={X: X_.astype(precision), y: y_}
    )


@mf.operation
class Failing(mf.Node):
    """Its input unchanged, raising an exception on chosen calls."""

    x: mf.Node
    raised_at: dict = mf.hyperparameter()

    @staticmethod
    def forward(x, raised_at):
        raised_at["calls"] = raised_at.get("calls", 0) + 1
        if raised_at["calls"] in raised_at:
            raise raised_at[raised_at["calls"]]
        return x + 0

    @staticmethod
    def backward(grad):
        return (grad,)


class Recorder(Callback):
    """Remembers what it is told."""

    def __init__(self, name="", log=None):
        self.name = name
        self.log = [] if log is None else log

    def on_train_start(self, session):
        self.log.append(f"{self.name}start")

    def on_step_finish(self, session, step, loss):
        self.log.append(f"{self.name}step {step}")

    def on_epoch_finish(self, session, epoch, logs):
        self.log.append(f"{self.name}epoch {epoch}")

    def on_train_finish(self, session, history):
        self.log.append(f"{self.name}{history.stopped.reason}")


class StepLosses:
    """Remembers the loss of each step."""

    def __init__(self):
        self.losses = []

    def on_step_finish(self, session, step, loss):
        self.losses.append(loss)


# What a training does


def test_a_linear_model_finds_its_coefficients():
    model = regression()

    history = fit(model.cost, model.data, SGD(0.1), epochs=200, batch_size=5, seed=0)

    np.testing.assert_allclose(history.session[model.W], [[1.0], [-2.0], [0.5]], atol=1e-6)
    assert history.stopped.reason == "finished"
    assert history.stopped.epoch == 200
    assert history.steps == 200 * 4


def test_one_full_batch_is_one_step_of_gradient_descent():
    model = regression()

    history = fit(model.cost, model.data, SGD(0.1), epochs=1, batch_size=20, seed=0)

    np.testing.assert_allclose(history.session[model.W], 0.1 * 2 / 20 * X_.T @ y_)
    assert history.loss == [pytest.approx(np.mean(y_**2))]


def test_data_are_given_by_node_or_by_name_and_as_lists():
    model = regression()
    by_name = {"X": X_.tolist(), "y": y_.tolist()}

    named = fit(model.cost, by_name, SGD(0.1), epochs=3, seed=0)
    by_node = fit(mf.Graph(model.cost), model.data, SGD(0.1), epochs=3, seed=0)

    assert named.loss == by_node.loss


def test_the_node_keeps_its_first_value():
    model = regression()

    fit(model.cost, model.data, SGD(0.1), epochs=1, seed=0)

    np.testing.assert_array_equal(model.W.value, np.zeros((3, 1)))


def test_float32_stays_float32():
    model = regression(np.float32)
    model.data[model.y] = y_.astype(np.float32)

    history = fit(model.cost, model.data, Adam(0.1), epochs=2, seed=0)

    assert history.session[model.W].dtype == np.float32


def test_data_are_cast_to_the_declared_dtype():
    model = regression(np.float32, dtype=np.float32)
    model.data[model.X] = X_

    history = fit(model.cost, model.data, SGD(0.1), epochs=1, seed=0)

    assert history.session.run(model.data)[model.X].dtype == np.float32


@pytest.mark.parametrize("sampling", ["shuffle", "resample"])
@pytest.mark.parametrize("optimizer", [SGD(0.05, momentum=0.5), Adam(0.05)])
def test_the_same_seed_gives_the_same_bits(sampling, optimizer):
    X, y = mf.Input("X"), mf.Input("y")
    W, b = mf.Parameter(np.zeros((3, 1))), mf.Parameter(np.zeros(1))
    cost = MSE(y, Linear(Dropout(X, rate=0.5), W, b))

    def train(seed):
        return fit(
            cost,
            {X: X_, y: y_},
            optimizer,
            epochs=3,
            batch_size=6,
            sampling=sampling,
            seed=seed,
            validation_split=0.2,
        )

    first, again, other = train(5), train(5), train(6)

    assert first.loss == again.loss
    assert first.validation_loss == again.validation_loss
    assert first.session[W].tobytes() == again.session[W].tobytes()
    assert first.loss != other.loss


def test_epoch_loss_is_the_mean_of_steps_weighted_by_rows():
    model, steps = regression(), StepLosses()

    history = fit(
        model.cost, model.data, SGD(0.1), epochs=1, batch_size=8, seed=0, callbacks=[steps]
    )

    assert len(steps.losses) == 3
    assert history.loss == [pytest.approx(np.average(steps.losses, weights=[8, 8, 4]))]


def test_a_session_is_trained_further():
    model, optimizer = regression(), SGD(0.05, momentum=0.5)
    full = {"batch_size": 20, "seed": 0}

    first = fit(model.cost, model.data, optimizer, epochs=2, **full)
    second = fit(model.cost, model.data, optimizer, epochs=3, session=first.session, **full)
    whole = fit(model.cost, model.data, optimizer, epochs=5, **full)

    assert second.session is first.session
    assert second.steps == 3
    np.testing.assert_allclose(first.loss + second.loss, whole.loss, rtol=1e-9)


def test_a_session_with_several_outputs_is_trained_on_the_cost_named():
    model = regression()
    session = mf.Session([model.cost, model.W * model.W])

    history = fit(model.cost, model.data, SGD(0.1), epochs=2, session=session, seed=0)

    assert history.loss[1] < history.loss[0]


def test_training_hooks_fire_in_order():
    events = []

    class Listener:
        @mf.hookimpl
        def mf_epoch_start(self, epoch):
            events.append(("epoch start", epoch))

        @mf.hookimpl
        def mf_step_finish(self, step):
            events.append(("step", step))

        @mf.hookimpl
        def mf_epoch_finish(self, epoch, logs):
            events.append(("epoch finish", epoch, sorted(logs)))

    model = regression()
    with mf.tracing(Listener()):
        fit(model.cost, model.data, SGD(0.1), epochs=1, batch_size=10, seed=0)

    assert events == [
        ("epoch start", 1),
        ("step", 1),
        ("step", 2),
        ("epoch finish", 1, ["loss", "seconds"]),
    ]


# Batches


@given(
    rows=st.integers(1, 60),
    size=st.integers(1, 60),
    seed=st.integers(0, 99),
    width=st.sampled_from([1, 3000]),
)
def test_a_shuffled_epoch_covers_every_row_exactly_once(rows, size, seed, width):
    X, y = mf.Input("X"), mf.Input("y")
    column = np.arange(rows)
    # Wide rows are gathered step by step, narrow ones for many steps at once.
    batches = Batches({X: column[:, None] + np.zeros(width), y: column}, size)

    epoch = list(batches.epoch(np.random.default_rng(seed)))

    drawn = np.concatenate([feeds[y] for feeds, _ in epoch])
    assert sorted(drawn) == list(column)
    assert [count for _, count in epoch] == [len(feeds[y]) for feeds, _ in epoch]
    assert len(epoch) == batches.steps
    assert all(count == size for _, count in epoch[:-1])
    assert all((feeds[X] == feeds[y][:, None]).all() for feeds, _ in epoch)


@given(rows=st.integers(1, 60), size=st.integers(1, 60), seed=st.integers(0, 99))
def test_a_resampled_epoch_has_full_batches_of_known_rows(rows, size, seed):
    y = mf.Input("y")
    batches = Batches({y: np.arange(rows)}, size, "resample")

    epoch = list(batches.epoch(np.random.default_rng(seed)))

    assert [count for _, count in epoch] == [size] * max(rows // size, 1)
    assert set(np.concatenate([feeds[y] for feeds, _ in epoch])) <= set(range(rows))


def test_resampling_draws_with_replacement():
    y = mf.Input("y")
    batches = Batches({y: np.arange(50)}, 25, "resample")

    (first, _), (second, _) = batches.epoch(np.random.default_rng(0))

    assert len(np.unique(np.concatenate([first[y], second[y]]))) < 50


def test_batches_differ_from_epoch_to_epoch():
    y = mf.Input("y")
    batches, rng = Batches({y: np.arange(50)}, 50), np.random.default_rng(0)

    ((first, _),), ((second, _),) = batches.epoch(rng), batches.epoch(rng)

    assert first[y].tolist() != second[y].tolist()


def test_without_a_batch_size_small_data_are_one_batch():
    model = regression()

    assert fit(model.cost, model.data, SGD(0.1), epochs=2, seed=0).steps == 2


# Validation


def test_a_random_share_of_rows_is_held_out():
    seen = []

    class Watch:
        @mf.hookimpl
        def mf_run_start(self, run, phase, session):
            seen.append((phase, session.steps))

        @mf.hookimpl
        def mf_forward_finish(self, node, value):
            if node is model.y:
                rows.setdefault(len(seen), value.ravel().tolist())

    model, rows = regression(), {}
    data = {model.X: X_, model.y: np.arange(20.0)[:, None]}
    with mf.tracing(Watch()):
        fit(model.cost, data, SGD(1e-9), epochs=1, batch_size=15, seed=0, validation_split=0.25)

    trained, held_out = rows.values()
    assert len(held_out) == 5
    assert sorted(trained + held_out) == list(range(20))
    assert held_out != list(range(15, 20))


def test_validation_loss_is_the_cost_of_all_validation_rows_after_the_epoch():
    model = regression()
    validation = {"X": X_[:7] + 1, "y": y_[:7]}

    history = fit(
        model.cost,
        model.data,
        SGD(0.1),
        epochs=1,
        batch_size=4,
        seed=0,
        validation_data=validation,
    )

    expected = float(history.session.run(validation)[model.cost])
    assert history.validation_loss == [pytest.approx(expected)]


def test_validation_runs_without_dropout():
    X, y, W = mf.Input("X"), mf.Input("y"), mf.Parameter(np.ones((3, 1)))
    cost = MSE(y, Linear(Dropout(X, rate=0.9), W, np.zeros(1)))
    data = {X: X_, y: y_}

    history = fit(cost, data, SGD(0.0), epochs=1, seed=0, validation_data=data)

    assert history.validation_loss == [pytest.approx(np.mean((X_.sum(1, keepdims=True) - y_) ** 2))]


# Callbacks


def test_callbacks_hear_every_event_in_the_order_given():
    model, log = regression(), []

    fit(
        model.cost,
        model.data,
        SGD(0.1),
        epochs=2,
        batch_size=20,
        seed=0,
        callbacks=[Recorder("a ", log), Recorder("b ", log)],
    )

    events = ["start", "step 1", "epoch 1", "step 2", "epoch 2", "finished"]
    assert log == [f"{name} {event}" for event in events for name in "ab"]


def test_logs_hold_what_was_measured():
    kept = []

    class Keep:
        def on_epoch_finish(self, session, epoch, logs):
            kept.append(dict(logs))

    model = regression()
    history = fit(
        model.cost, model.data, SGD(0.1), epochs=2, seed=0, validation_split=0.2, callbacks=[Keep()]
    )

    assert [logs["loss"] for logs in kept] == history.loss
    assert [logs["validation_loss"] for logs in kept] == history.validation_loss
    assert [logs["seconds"] for logs in kept] == history.seconds


class ReturnsTrue:
    def on_epoch_finish(self, session, epoch, logs):
        return epoch == 2


class Raises:
    def on_epoch_finish(self, session, epoch, logs):
        if epoch == 2:
            raise StopTraining("Good enough.")


@pytest.mark.parametrize(
    ("callback", "message"), [(ReturnsTrue(), "ReturnsTrue"), (Raises(), "Good enough")]
)
def test_a_callback_stops_training_and_the_others_still_hear_of_the_epoch(callback, message):
    model, recorder = regression(), Recorder()

    history = fit(
        model.cost, model.data, SGD(0.1), epochs=9, seed=0, callbacks=[callback, recorder]
    )

    assert history.stopped.reason == "callback"
    assert history.stopped.epoch == 2
    assert message in history.stopped.message
    assert len(history.loss) == 2
    assert recorder.log[-2:] == ["epoch 2", "callback"]


def test_a_callback_stops_training_within_an_epoch():
    class AtStep:
        def on_step_finish(self, session, step, loss):
            if step == 6:
                raise StopTraining

    model = regression()
    history = fit(
        model.cost, model.data, SGD(0.1), epochs=9, batch_size=5, seed=0, callbacks=[AtStep()]
    )

    assert (history.steps, history.stopped.epoch, len(history.loss)) == (6, 2, 1)
    assert history.stopped.reason == "callback"


def test_an_error_of_a_callback_reaches_the_caller():
    class Broken:
        def on_epoch_finish(self, session, epoch, logs):
            raise ZeroDivisionError("mine")

    model = regression()
    with pytest.raises(ZeroDivisionError, match="mine"):
        fit(model.cost, model.data, SGD(0.1), seed=0, callbacks=[Broken()])


# Early stopping


def scripted(losses, **options):
    """Feed an early stopping the given losses; returns its epoch, its reason, the weight."""
    stopping = EarlyStopping(**options)
    W = mf.Parameter(np.zeros(1), name="W")
    session = mf.Session(W)
    stopping.on_train_start(session)
    stopped, reason = None, None
    for epoch, loss in enumerate(losses, start=1):
        session[W] = [float(epoch)]
        try:
            stopping.on_epoch_finish(session, epoch, {"loss": loss, "validation_loss": -loss})
        except StopTraining as stop:
            stopped, reason = epoch, stop.reason
            break
    stopping.on_train_finish(session, None)
    return stopped, reason, float(session[W][0])


@pytest.mark.parametrize(
    ("losses", "options", "stopped", "weight"),
    [
        pytest.param([5, 4, 3, 2], {"patience": 1}, None, 4, id="always better"),
        pytest.param([5, 4, 4, 4], {"patience": 2}, 4, 2, id="equal is no improvement"),
        pytest.param([5, 4, 6, 3, 7, 8], {"patience": 2}, 6, 4, id="patience starts anew"),
        pytest.param([5, 4.9, 4.8], {"patience": 2, "min_delta": 0.5}, 3, 1, id="too little"),
        pytest.param([5, 6, 7], {"patience": 2, "restore_best": False}, 3, 3, id="last kept"),
        pytest.param([5, np.nan, np.nan], {"patience": 2}, 3, 1, id="NaN is no improvement"),
        pytest.param([5, 4, 3], {"patience": 2, "monitor": "validation_loss"}, 3, 1, id="other"),
        pytest.param([5, 4, 6], {"patience": 9}, None, 2, id="best restored at the end"),
    ],
)
def test_early_stopping_counts_epochs_without_improvement(losses, options, stopped, weight):
    when, reason, restored = scripted(losses, **options)

    assert when == stopped
    assert reason == ("early stopping" if stopped else None)
    assert restored == weight


def test_fit_stops_early_and_restores_the_best_parameters():
    model = regression()
    stopping = EarlyStopping(patience=3, monitor="validation_loss")
    # Validation targets of the opposite sign: training makes them worse from the start.
    against = {model.X: X_, model.y: -y_}

    history = fit(
        model.cost,
        model.data,
        SGD(0.1),
        epochs=50,
        seed=0,
        validation_data=against,
        callbacks=[stopping],
    )

    assert history.stopped.reason == "early stopping"
    assert history.stopped.epoch == stopping.best_epoch + 3
    assert "validation_loss" in history.stopped.message
    restored = float(history.session.run(against)[model.cost])
    assert restored == pytest.approx(min(history.validation_loss))


def test_early_stopping_can_be_used_again():
    model, stopping = regression(), EarlyStopping(patience=1)

    fit(model.cost, model.data, SGD(0.1), epochs=3, seed=0, callbacks=[stopping])
    history = fit(model.cost, model.data, SGD(0.01), epochs=3, seed=0, callbacks=[stopping])

    assert history.stopped.reason == "finished"


# Ctrl-C


# ``Failing`` counts its calls, of which a compiling engine makes none in a step.
REFERENCE = "mfcore.reference"


def interrupted_at(call):
    X, y = mf.Input("X"), mf.Input("y")
    W, b = mf.Parameter(np.zeros((3, 1)), name="W"), mf.Parameter(np.zeros(1), name="b")
    raised_at = {} if call is None else {call: KeyboardInterrupt()}
    cost = MSE(y, Linear(Failing(X, raised_at=raised_at), W, b))
    return cost, {X: X_, y: y_}


def test_an_interrupt_inside_a_step_returns_the_history_so_far():
    cost, data = interrupted_at(call=7)
    log = Recorder()

    history = fit(
        cost, data, SGD(0.1), epochs=9, batch_size=5, seed=0, callbacks=[log], engine=REFERENCE
    )

    assert history.stopped.reason == "interrupted"
    assert history.stopped.epoch == 2
    assert history.steps == 6
    assert len(history.loss) == len(history.seconds) == 1
    assert log.log[-1] == "interrupted"


def test_an_interrupted_step_leaves_the_parameters_of_the_step_before():
    class Keep:
        def on_step_finish(self, session, step, loss):
            self.parameters = {session.graph.name(p): v for p, v in session.parameters.items()}

    keep = Keep()
    cost, data = interrupted_at(call=7)

    history = fit(
        cost, data, SGD(0.1), epochs=9, batch_size=5, seed=0, callbacks=[keep], engine=REFERENCE
    )

    for name, value in keep.parameters.items():
        np.testing.assert_array_equal(history.session[name], value)


def test_an_interrupted_session_goes_on_where_it_stopped():
    cost, data = interrupted_at(call=3)
    history = fit(cost, data, SGD(0.1), epochs=5, batch_size=20, seed=0, engine=REFERENCE)
    again = fit(cost, data, SGD(0.1), epochs=3, batch_size=20, seed=0, session=history.session)
    undisturbed = fit(*interrupted_at(None), SGD(0.1), epochs=5, batch_size=20, seed=0)

    np.testing.assert_allclose(history.loss + again.loss, undisturbed.loss, rtol=1e-12)


def test_an_interrupt_in_a_callback_ends_training_cleanly():
    class Interrupting:
        def on_epoch_finish(self, session, epoch, logs):
            raise KeyboardInterrupt

    model = regression()
    history = fit(model.cost, model.data, SGD(0.1), seed=0, callbacks=[Interrupting()])

    assert history.stopped.reason == "interrupted"
    assert len(history.loss) == 1


def test_another_error_inside_a_step_reaches_the_caller():
    X, W = mf.Input("X"), mf.Parameter(np.zeros(1))
    cost = MSE(X, Failing(W, raised_at={2: ArithmeticError("mine")}))

    with pytest.raises(MiniFlowError, match="mine"):
        fit(cost, {X: np.ones(1)}, SGD(0.1), epochs=5, seed=0, engine=REFERENCE)


# Divergence, NaN and infinities


def test_a_diverging_run_stops_and_keeps_its_history():
    model, log = regression(), Recorder()

    with pytest.warns(DivergenceWarning, match="diverged in epoch") as caught:
        history = fit(
            model.cost, model.data, SGD(10.0), epochs=500, batch_size=5, seed=0, callbacks=[log]
        )

    epoch = history.stopped.epoch
    assert [str(w.message) for w in caught] == [history.stopped.message]
    assert caught[0].filename == __file__
    assert history.stopped.reason == "diverged"
    assert f"in epoch {epoch} " in history.stopped.message
    assert "last finite loss was" in history.stopped.message
    assert 1 < epoch < 500
    assert len(history.loss) == epoch - 1
    assert np.isfinite(history.loss).all()
    assert log.log[-1] == "diverged"


def test_divergence_restores_the_parameters_of_the_epochs_start():
    class Keep:
        def on_epoch_finish(self, session, epoch, logs):
            self.W = session["W"].copy()

    model, keep = regression(), Keep()

    with pytest.warns(DivergenceWarning):
        history = fit(
            model.cost, model.data, SGD(10.0), epochs=500, batch_size=5, seed=0, callbacks=[keep]
        )

    np.testing.assert_array_equal(history.session[model.W], keep.W)


def test_parameters_that_overflow_in_an_epochs_last_step_are_noticed_in_that_epoch():
    x, w = mf.Input("x"), mf.Parameter(np.ones(1), name="w")

    with pytest.warns(DivergenceWarning, match=r"epoch 1 .*w is no longer finite"):
        history = fit(MSE(x, w), {x: np.array([1e100])}, SGD(1e300), epochs=5, seed=0)

    assert history.session[w] == 1.0
    assert history.loss == []


def test_a_loss_that_is_not_finite_at_once_diverges_in_the_first_epoch():
    model = regression()
    model.data[model.y] = y_ * 1e200

    with pytest.warns(DivergenceWarning, match="no step had a finite loss"):
        history = fit(model.cost, model.data, SGD(0.1), seed=0)

    assert history.stopped.epoch == 1
    assert history.problems == []


def test_numpy_still_raises_where_it_was_asked_to():
    model = regression()

    with np.errstate(over="raise"), pytest.raises(MiniFlowError, match="overflow"):
        fit(model.cost, model.data, SGD(1e200), epochs=5, seed=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_data_that_are_not_finite_train_as_numpy_would(value):
    model = regression()
    data = {model.X: X_.copy(), model.y: y_}
    data[model.X][4, 1] = value

    history = fit(model.cost, data, SGD(0.1), epochs=3, batch_size=5, seed=0)

    assert history.stopped.reason == "finished"
    assert len(history.loss) == 3
    assert np.isnan(history.loss[-1])
    (problem,) = history.problems
    assert problem == f"X, column 1: 1 {'NaN' if np.isnan(value) else 'inf'}, first in row 4"


def test_problems_name_input_column_count_and_first_row():
    model = regression()
    X, y = X_.copy(), y_.copy()
    X[[3, 9], 2] = np.nan
    X[5, 2] = -np.inf
    X[8, 0] = np.inf
    y[1] = np.nan

    history = fit(model.cost, {model.X: X, model.y: y[:, 0]}, SGD(0.1), epochs=1, seed=0)

    assert history.problems == [
        "X, column 0: 1 inf, first in row 8",
        "X, column 2: 2 NaN and 1 inf, first in row 3",
        "y: 1 NaN, first in row 1",
    ]


def test_problems_of_validation_data_are_named_and_divergence_is_still_noticed():
    model = regression()
    validation = {model.X: X_ * np.nan, model.y: y_}

    with pytest.warns(DivergenceWarning):
        history = fit(
            model.cost, model.data, SGD(10.0), epochs=500, seed=0, validation_data=validation
        )

    assert history.problems[0] == "validation X, column 0: 20 NaN, first in row 0"


def test_parameters_that_are_not_finite_at_the_start_are_named():
    x, w = mf.Input("x"), mf.Parameter(np.array([np.nan]), name="w")

    with pytest.warns(DivergenceWarning):
        history = fit(MSE(x, w), {x: np.ones(1)}, SGD(0.1), seed=0)

    assert history.problems == ["parameter w holds NaN or inf at the start"]


# Bad input: an error of its own for each, before any step


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"epochs": 0}, FitError, "epochs must be a whole number of at least 1, not 0"),
        ({"epochs": 2.5}, FitError, "epochs must be"),
        ({"batch_size": 0}, FitError, "batch_size must be a whole number of at least 1"),
        ({"batch_size": True}, FitError, "batch_size must be"),
        ({"batch_size": 21}, FitError, "batch_size 21 is larger than the 20 rows"),
        ({"batch_size": 20, "validation_split": 0.5}, FitError, "larger than the 10 rows"),
        ({"sampling": "random"}, FitError, "'shuffle' or 'resample', not 'random'"),
        ({"validation_split": 1.0}, FitError, "at least 0 and below 1, not 1.0"),
        ({"validation_split": -0.1}, FitError, "validation_split must be"),
        ({"validation_split": float("nan")}, FitError, "validation_split must be"),
        ({"validation_split": 0.001}, DataError, "leaves 20 to train on and 0 to validate"),
        ({"validation_split": 0.999}, DataError, "leaves 0 to train on and 20 to validate"),
        ({"seed": "zero"}, FitError, "seed 'zero' cannot be used"),
        ({"optimizer": SGD}, FitError, "SGD is a class; give an instance"),
        ({"optimizer": 0.1}, FitError, "no optimizer"),
        ({"callbacks": Recorder()}, FitError, "callbacks must be a list"),
        ({"callbacks": [Recorder]}, FitError, "Recorder is a class; give an instance"),
        ({"callbacks": [object()]}, FitError, "has none of the methods on_train_start"),
        (
            {"callbacks": [EarlyStopping(monitor="validation_loss")]},
            FitError,
            "monitors 'validation_loss'",
        ),
        ({"data": [X_, y_]}, DataError, "must be a mapping.*inputs are"),
        ({"data": {"X": X_}}, DataError, "nothing is given for y"),
        ({"data": {"X": X_, "y": y_, "z": y_}}, DataError, "'z' is no input of the graph"),
        ({"data": {"X": X_, "y": y_, "W": y_}}, DataError, "'W' is no input of the graph"),
        ({"data": {"X": X_, "y": y_[:19]}}, DataError, "number of rows: .*X 20.*"),
        ({"data": {"X": X_[:0], "y": y_[:0]}}, DataError, "there are no rows"),
        ({"data": {"X": X_, "y": 3.0}}, DataError, "y .*single number"),
        ({"data": {"X": [[1, 2], [3]], "y": y_}}, DataError, "data for X"),
        ({"data": {"X": [["a"]] * 20, "y": y_}}, DataError, "must be an array of floats"),
        ({"validation_data": {"X": X_}}, DataError, "validation_data: nothing is given for y"),
        (
            {"validation_split": 0.5, "validation_data": {"X": X_, "y": y_}},
            FitError,
            "not both",
        ),
        ({"cost": 3.0}, FitError, "cost must be a node"),
    ],
)
def test_bad_input_is_refused_before_training(arguments, error, message):
    model, log = regression(), Recorder()
    given = {"cost": model.cost, "data": model.data, "optimizer": SGD(0.1), "callbacks": [log]}

    with pytest.raises(error, match=message):
        fit(**{**given, **arguments})

    assert log.log == []


def test_data_given_twice_are_refused():
    model = regression()

    with pytest.raises(DataError, match="X is given twice"):
        fit(model.cost, {**model.data, "X": X_}, SGD(0.1))


@pytest.mark.parametrize(
    ("declared", "columns", "message"),
    [
        ({"shape": (None, 3)}, 4, r"has shape \(20, 4\), but the input declares \(None, 3\)"),
        ({"shape": (None,)}, 3, "declares"),
        ({"shape": (8, 3)}, 3, "declares 8 rows, but batches would have 8 and 4"),
        ({"dtype": np.int64}, 3, "dtype float64, but the input declares int64"),
    ],
)
def test_data_that_do_not_fit_what_an_input_declares_are_refused(declared, columns, message):
    model = regression(**declared)
    data = {**model.data, model.X: np.tile(X_, 2)[:, :columns]}

    with pytest.raises(DataError, match=message):
        fit(model.cost, data, SGD(0.1), batch_size=8)


def test_a_declared_number_of_rows_fits_batches_of_that_size():
    model = regression(shape=(10, 3))

    assert fit(model.cost, model.data, SGD(0.1), epochs=1, batch_size=10, seed=0).steps == 2


def test_a_graph_with_several_outputs_is_refused():
    model = regression()
    graph = mf.Graph(model.cost, Sum(model.W))

    with pytest.raises(FitError, match=r"2 outputs \(mse_1, sum_1\).*give that node"):
        fit(graph, model.data, SGD(0.1))


def test_a_cost_without_parameters_is_refused():
    X = mf.Input("X")

    with pytest.raises(FitError, match="depends on no Parameter"):
        fit(Sum(X), {X: X_}, SGD(0.1))


def test_a_cost_without_inputs_is_refused():
    with pytest.raises(DataError, match="no inputs"):
        fit(Sum(mf.Parameter(np.ones(2))), {}, SGD(0.1))


def test_a_cost_outside_the_session_is_refused():
    session = mf.Session(regression().cost)
    model = regression()

    with pytest.raises(UnknownNodeError, match="not part of this graph"):
        fit(model.cost, model.data, SGD(0.1), session=session)


def test_another_engine_than_the_sessions_is_refused():
    model = regression()

    session = mf.Session(model.cost, engine="mfcore.reference")

    with pytest.raises(FitError, match="'reference', not on 'numpy'"):
        fit(model.cost, model.data, SGD(0.1), session=session, engine="numpy")


def test_the_engine_of_the_session_may_be_named():
    model = regression()
    session = mf.Session(model.cost, engine="mfcore.reference")

    history = fit(
        model.cost, model.data, SGD(0.1), epochs=1, session=session, engine="mfcore.reference"
    )

    assert history.session is session


# The course's network on the Boston data


@pytest.fixture(scope="module")
def boston():
    path = Path(__file__).parents[1] / "miniflow/src/miniflow/data/boston_housing.csv"
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    X, y = table[:, :13], table[:, 13:]
    return (X - X.mean(axis=0)) / X.std(axis=0), y


@pytest.mark.parametrize("seed", range(5))
def test_boston_ends_where_the_tutorial_does(boston, seed):
    X_, y_ = boston
    start = np.random.RandomState(seed)  # the tutorial's own starts
    X, y = mf.Input("X", shape=(None, 13)), mf.Input("y", shape=(None, 1))
    W1, b1 = mf.Parameter(start.randn(13, 10), name="W1"), mf.Parameter(np.zeros(10), name="b1")
    W2, b2 = mf.Parameter(start.randn(10, 1), name="W2"), mf.Parameter(np.zeros(1), name="b2")
    cost = MSE(y, Linear(Sigmoid(Linear(X, W1, b1)), W2, b2))
    data = {X: X_, y: y_}

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = fit(
            cost, data, SGD(0.01), epochs=100, batch_size=11, sampling="resample", seed=seed
        )

    # The tutorial's ranges are those of five starts (121 to 147, 5.2 to 7.0, 6.3 to 7.5). The
    # margins are the standard deviations over thirty starts: 16, 0.7 and 0.4.
    assert history.steps == 100 * 46
    assert 121 - 16 < history.loss[0] < 147 + 16
    assert 5.2 - 0.7 < history.loss[-1] < 7.0 + 0.7
    assert 6.3 - 0.4 < float(history.session.run(data)[cost]) < 7.5 + 0.4
