"""Building the tutorial's network, scaling data, naming optimizers, and the Boston benchmark."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import mfcore as mf
from mfcore.errors import DataError, DefinitionError, UnknownNameError
from miniflow import train
from miniflow.datasets import load_boston


def test_a_network_has_the_layers_asked_for():
    network = train.build_network(13, hidden=(20, 10), activation="Tanh", seed=0)

    shapes = [p.value.shape for p in mf.Graph(network.cost).parameters]

    assert sorted(shapes) == sorted([(13, 20), (20,), (20, 10), (10,), (10, 1), (1,)])
    assert network.layers == "13 - 20 tanh - 10 tanh - 1"
    assert network.size == sum(int(np.prod(shape)) for shape in shapes)


def test_a_network_predicts_what_its_formula_says():
    network = train.build_network(2, hidden=(3,), seed=1)
    graph = mf.Graph(network.cost)
    W1, W2 = graph["W1"].value, graph["W2"].value
    X, y = np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([1.0, 2.0])

    run = mf.Session(graph).run({network.X: X, network.y: y})

    expected = 1 / (1 + np.exp(-X @ W1)) @ W2
    np.testing.assert_allclose(run[network.prediction], expected, rtol=1e-14)
    assert run[network.cost] == pytest.approx(np.mean((y - expected[:, 0]) ** 2))


def test_weights_are_standard_normal_biases_zero_and_the_seed_decides():
    first, again, other = (
        mf.Graph(train.build_network(200, hidden=(50,), seed=seed).cost) for seed in (0, 0, 1)
    )

    assert abs(first["W1"].value.std() - 1) < 0.02
    assert not first["b1"].value.any()
    np.testing.assert_array_equal(first["W1"].value, again["W1"].value)
    assert not np.array_equal(first["W1"].value, other["W1"].value)


def test_no_hidden_layer_makes_linear_regression():
    assert train.build_network(4, hidden=()).layers == "4 - 1"


@pytest.mark.parametrize("name", ["Linear", "Add", "Reshape"])
def test_an_operation_that_cannot_follow_a_layer_is_refused(name):
    with pytest.raises(DefinitionError, match=f"{name} cannot be an activation"):
        train.build_network(4, activation=name)


# Whole numbers of moderate size: the law holds for others too, up to rounding.
columns = arrays(
    np.float64, st.tuples(st.integers(2, 8), st.integers(1, 4)), elements=st.integers(-1000, 1000)
)


@given(columns)
def test_standardised_columns_have_mean_0_and_deviation_1_or_are_0_where_constant(values):
    result = train.standardised(values)

    varies = values.min(axis=0) < values.max(axis=0)
    np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(result.std(axis=0)[varies], 1)
    assert not result[:, ~varies].any()


def test_a_constant_that_binary_fractions_cannot_hold_is_constant():
    assert not train.standardised(np.full((10, 1), 0.1)).any()


def test_nan_and_inf_stay_where_they_are_when_standardised():
    result = train.standardised(np.array([1.0, np.nan, 3.0, np.inf]))

    np.testing.assert_array_equal(result, [-1.0, np.nan, 1.0, np.inf])


@pytest.mark.parametrize(
    ("kind", "given", "resolved"),
    [
        ("optimizer", "sgd", "SGD"),
        ("optimizer", "mfoptim.adam", "mfoptim.Adam"),
        ("operation", "relu", "ReLU"),
        ("engine", "reference", "reference"),
    ],
)
def test_names_may_be_written_in_any_case(kind, given, resolved):
    assert train.resolve(kind, given) == resolved


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(UnknownNameError, match=r"'foo'.*Known optimizers are .*SGD"):
        train.resolve("optimizer", "foo")


def test_an_unknown_activation_lists_only_what_can_be_one():
    with pytest.raises(UnknownNameError) as caught:
        train.resolve("operation", "swish", train.is_activation)

    assert "ReLU" in str(caught.value)
    assert "MSE" not in str(caught.value)


def test_an_optimizer_is_made_from_its_name_and_settings():
    optimizer = train.make_optimizer("SGD", {"momentum": 0.9})

    assert train.describe(optimizer) == "SGD(learning_rate=0.01, momentum=0.9)"


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("Adam", {"momentum": 0.9}, "Adam has no hyperparameter 'momentum'; it has learning_rate"),
        ("SGD", {"learning_rate": "fast"}, "learning_rate must be a number"),
        ("SGD", {"learning_rate": -1}, "learning_rate must be a number of at least 0"),
    ],
)
def test_settings_that_an_optimizer_does_not_take_are_refused(name, settings, words):
    with pytest.raises(DataError, match=words):
        train.make_optimizer(name, settings)


def test_an_optimizer_that_needs_a_setting_says_which():
    @mf.optimizer
    class Needy:
        strength: float

        @staticmethod
        def update(parameter, gradient, strength):
            return parameter - strength * gradient

    class Pack:
        @mf.hookimpl
        def mf_optimizers(self):
            return [Needy]

    packs = mf.Registry(autoload=False)
    packs.register(Pack(), "needy")

    with mf.registry.using(packs), pytest.raises(DataError, match="needs strength: --set strength"):
        train.make_optimizer("Needy", {})


def test_boston_from_the_tutorials_starts_and_batches_ends_where_the_tutorial_does():
    boston = load_boston()
    X = train.standardised(boston.X)
    network = train.build_network(13, (10,), "Sigmoid", seed=0)
    optimizer = train.make_optimizer("SGD", {"learning_rate": 0.01})
    first, last, errors = [], [], []

    for seed in range(5):
        draw = np.random.RandomState(seed)  # the generator that the tutorial draws from
        session = mf.Session(network.cost)
        session["W1"] = draw.randn(13, 10)
        session["W2"] = draw.randn(10, 1)
        epochs = np.zeros(100)
        for epoch in range(100):
            for _ in range(46):
                rows = draw.randint(0, 506, 11)
                feeds = {network.X: X[rows], network.y: boston.y[rows]}
                epochs[epoch] += session.step(feeds, optimizer) / 46
        first.append(epochs[0])
        last.append(epochs[-1])
        errors.append(session.run({network.X: X, network.y: boston.y})[network.cost])

    stated = {"first epoch": (121, 147), "last epoch": (5.2, 7.0), "all rows": (6.3, 7.5)}
    assert stated == {
        "first epoch": (round(min(first)), round(max(first))),
        "last epoch": (round(min(last), 1), round(max(last), 1)),
        "all rows": (round(min(errors), 1), round(max(errors), 1)),
    }


@pytest.mark.parametrize("seed", range(5))
def test_boston_from_any_start_ends_where_hand_written_numpy_does(seed):
    boston = load_boston()
    X = train.standardised(boston.X)
    network = train.build_network(13, (10,), "Sigmoid", seed)

    history = train.train(
        network,
        X,
        boston.y,
        train.make_optimizer("SGD", {}),
        epochs=100,
        batch_size=11,
        sampling="resample",
        seed=seed,
    )

    # Over forty starts, hand-written NumPy of the same network gave 5.5 to 7.7.
    error = train.mean_squared_error(history, network, X, boston.y)
    assert history.steps == 4600
    assert history.loss[0] > 100
    assert history.loss[-1] < 10
    assert 5.5 < error < 7.7
