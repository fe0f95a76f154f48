"""The classic course API: the surface that course programs rely on, and their numbers."""

import contextlib
import importlib.util
import io
import json
import pickle
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mfcore as mf
import mfops_nn
import miniflow
import miniflow.classic
from mfcore.errors import (
    CycleError,
    FeedDtypeError,
    ForwardError,
    GradientError,
    GraphError,
    MissingFeedError,
    NodeUseError,
    UnknownFeedError,
)
from miniflow import (
    MSE,
    Add,
    Input,
    Linear,
    Mul,
    Multiply,
    Node,
    Sigmoid,
    forward_and_backward,
    forward_pass,
    sgd_update,
    topological_sort,
)

HERE = Path(__file__).parent
PROGRAMS = sorted(p for p in (HERE / "classic_programs").glob("*.py") if p.stem != "course_oracle")
SEED = json.loads((HERE / "seed_cases.json").read_text())


def run_program(path):
    """Run a course program as its author did, and return what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        runpy.run_path(str(path), run_name="__main__")
    return out.getvalue()


def words_and_numbers(text):
    numbers = re.findall(r"-?\d+\.?\d*(?:e[-+]\d+)?", text)
    return re.sub(r"-?\d+\.?\d*(?:e[-+]\d+)?|\s+", " ", text).split(), [float(n) for n in numbers]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_a_course_program_prints_what_the_course_prints(path, monkeypatch):
    spec = importlib.util.spec_from_file_location(
        "course_oracle", HERE / "classic_programs" / "course_oracle.py"
    )
    oracle = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(oracle)
    ours = run_program(path)
    monkeypatch.setitem(sys.modules, "miniflow", oracle)
    theirs = run_program(path)

    our_words, our_numbers = words_and_numbers(ours)
    their_words, their_numbers = words_and_numbers(theirs)
    assert our_words == their_words
    assert len(their_numbers) > 5
    np.testing.assert_allclose(our_numbers, their_numbers, rtol=1e-12, atol=1e-14)


# Every case of the tutorial


def build(text, nodes):
    return eval(text, vars(miniflow), nodes)


@pytest.mark.parametrize(
    "case", [c for c in SEED["cases"] if "graph" in c], ids=lambda c: c["name"]
)
def test_every_number_that_the_tutorial_states(case):
    nodes = {name: Input(name) for name in case["feeds"]}
    output = build(case["graph"], nodes)
    feeds = {
        nodes[name]: np.array(value) if isinstance(value, list) else value
        for name, value in case["feeds"].items()
    }

    graph = topological_sort(feeds)
    result = forward_and_backward(output, graph)

    assert graph[-1] is output
    np.testing.assert_allclose(result, case["value"], rtol=1e-8)
    for name, gradient in case.get("gradients", {}).items():
        np.testing.assert_allclose(nodes[name].gradients[nodes[name]], gradient, rtol=1e-6)


def test_gradient_descent_finds_the_minimum_of_the_quartic():
    case = next(c for c in SEED["cases"] if "minimum_at" in c)
    x = Input("x")
    graph = topological_sort({x: case["start"]})
    assert graph == [x]
    cost = Add(Mul(x, x, x, x), Mul(-3, x, x, x), 2)  # x^4 - 3x^3 + 2
    graph = topological_sort({x: case["start"]})
    step = np.inf
    while abs(step) > case["stop_when_step_below"]:
        before = x.value
        forward_and_backward(graph)
        sgd_update([x], case["learning_rate"])
        step = x.value - before

    assert graph[-1] is cost
    assert x.value == pytest.approx(case["minimum_at"], abs=1e-3)


@pytest.fixture(scope="module")
def boston():
    path = Path(miniflow.__file__).parent / "data" / "boston_housing.csv"
    table = np.genfromtxt(path, delimiter=",", skip_header=1)
    features = table[:, :13]
    return (features - features.mean(axis=0)) / features.std(axis=0), table[:, 13]


def train_on_boston(X_, y_, seed):
    """Return the first and the last epoch's loss, and the mean squared error on all rows."""
    rng = np.random.RandomState(seed)
    X, y, W1, b1, W2, b2 = (Input() for _ in range(6))
    l2 = Linear(Sigmoid(Linear(X, W1, b1)), W2, b2)
    cost = MSE(y, l2)
    weights = {W1: rng.randn(13, 10), b1: np.zeros(10), W2: rng.randn(10, 1), b2: np.zeros(1)}
    graph = topological_sort({X: X_, y: y_, **weights})
    losses = []
    for _ in range(100):
        loss = 0
        for _ in range(46):
            rows = rng.randint(0, len(X_), 11)
            X.value, y.value = X_[rows], y_[rows]
            forward_and_backward(graph)
            sgd_update(weights)
            loss += graph[-1].value
        losses.append(loss / 46)
    X.value, y.value = X_, y_
    return losses[0], losses[-1], forward_pass(cost, graph)


def test_the_boston_network_trains_to_exactly_the_stated_ranges(boston):
    text = SEED["boston"]["expected"]
    last_low, last_high, first_low, first_high, error_low, error_high = map(
        float, re.findall(r"([\d.]+) (?:to|and) ([\d.]+)", text)[0]
        + re.findall(r"from ([\d.]+) to ([\d.]+)", text)[0]
        + re.findall(r"error of ([\d.]+) to ([\d.]+)", text)[0]
    )  # fmt: skip

    first, last, error = zip(*(train_on_boston(*boston, seed) for seed in range(5)), strict=True)

    assert (round(min(first)), round(max(first))) == (first_low, first_high)
    assert (round(min(last), 1), round(max(last), 1)) == (last_low, last_high)
    assert (round(min(error), 1), round(max(error), 1)) == (error_low, error_high)


# Building


def value_of(output, feeds):
    return forward_pass(output, topological_sort(feeds))


def test_inputs_take_a_name_by_position_by_keyword_or_not_at_all():
    assert [Input("X").name, Input(name="y").name, Input().name] == ["X", "y", None]


def test_every_operation_takes_a_trailing_name():
    x = Input()
    nodes = [
        Add(x, 1, name="n"), Add(x, 1, "n"), Mul([x, 2], name="n"), Linear(x, 1, 2, "n"),
        Linear(x, 1, 2, name="n"), Sigmoid(x, "n"), Sigmoid(x, name="n"), MSE(x, x, "n"),
        MSE(x, x, name="n"),
    ]  # fmt: skip
    assert {node.name for node in nodes} == {"n"}


@pytest.mark.parametrize(("operation", "expected"), [(Add, 60), (Mul, 6000), (Multiply, 6000)])
def test_sums_and_products_take_nodes_one_by_one_or_as_a_list(operation, expected):
    x, y, z = Input(), Input(), Input()
    feeds = {x: 10, y: 20, z: 30}
    outputs = operation(x, y, z), operation([x, y, z]), operation((x, y, z))

    graph = topological_sort(feeds)

    assert [forward_pass(output, graph) for output in outputs] == [expected] * 3
    assert forward_pass(operation(x, y), graph) in (30, 200)


def test_ints_stay_ints_and_floats_stay_floats():
    x, y = Input(), Input()
    assert repr(value_of(Add(x, y), {x: 10, y: 5})) == "15"
    assert repr(value_of(Mul(x, y), {x: 10, y: 0.5})) == "5.0"


def test_python_lists_are_arrays():
    x, y = Input(), Input()
    np.testing.assert_array_equal(value_of(Add(x, y), {x: [1, 2], y: [3, 4]}), [4, 6])
    assert value_of(MSE(x, y), {x: [1, 2, 3], y: [4.5, 5, 10]}) == pytest.approx(23.4166666667)
    assert value_of(Sigmoid(x), {x: 0}) == 0.5


def test_linear_takes_one_dimensional_lists_and_a_number():
    X, W, b = Input(), Input(), Input()
    output = Linear(X, W, b)
    assert value_of(output, {X: [6, 14, 3], W: [0.5, 0.25, 1.4], b: 2}) == 12.7


def test_linear_over_lists_of_nodes_and_its_gradients():
    x, y, z, w1, w2, w3, b = (Input() for _ in range(7))
    output = Linear([x, y, z], [w1, w2, w3], b)
    graph = topological_sort({x: 6, y: 14, z: 3, w1: 0.5, w2: 0.25, w3: 1.4, b: 2})

    assert forward_and_backward(output, graph) == pytest.approx(12.7)
    assert [n.gradients[n] for n in (x, y, z, w1, w2, w3, b)] == [0.5, 0.25, 1.4, 6, 14, 3, 1]
    assert output.gradients[w2] == 14


def test_linear_over_lists_of_columns_is_linear_over_the_matrix():
    x, y, w1, w2, b, X, W, target = (Input() for _ in range(8))
    X_, W_ = np.arange(8.0).reshape(4, 2), np.array([[1.0, 2.0], [3.0, -4.0]])
    graph = topological_sort(
        {x: X_[:, 0], y: X_[:, 1], w1: W_[0], w2: W_[1], b: [0.5, 0.25], X: X_, W: W_,
         target: np.ones((4, 2))}
    )  # fmt: skip
    forward_and_backward(MSE(target, Linear([x, y], [w1, w2], b)), graph)
    listed = x.gradients[x], w2.gradients[w2], b.gradients[b]
    forward_and_backward(MSE(target, Linear(X, W, b)), graph)

    np.testing.assert_allclose(listed[0], X.gradients[X][:, 0])
    np.testing.assert_allclose(listed[1], W.gradients[W][1])
    np.testing.assert_allclose(listed[2], b.gradients[b])


def test_linear_takes_its_three_nodes_as_one_list():
    X, W, b = Input(), Input(), Input()
    assert value_of(Linear([X, W, b]), {X: [1, 2], W: [3, 4], b: 5}) == 16


def test_plain_values_stand_where_a_node_is_expected():
    X = Input()
    W = np.array([[1.0], [2.0]])
    output = MSE([0, 0], Add(Linear(X, W, 1), 2, Mul(3.0, 4)))
    graph = topological_sort({X: [[1.0, 1.0], [0.0, 0.0]]})

    assert forward_and_backward(graph) == (18**2 + 15**2) / 2
    np.testing.assert_array_equal(X.gradients[X], [[18, 36], [15, 30]])
    assert all(isinstance(node, (Input, Add, Linear, MSE, Mul)) for node in graph)
    assert graph[-1] is output


def test_a_node_read_twice_gets_both_gradients():
    x = Input()
    graph = topological_sort({x: 3})
    assert forward_and_backward(Mul(x, x), graph) == 9
    assert x.gradients[x] == 6
    assert forward_and_backward(Add(x, x, x), graph) == 9
    assert x.gradients[x] == 3


# Sorting


def test_the_sorted_graph_is_a_real_list_that_ends_in_the_output():
    X, W, b, y = (Input() for _ in range(4))
    cost = MSE(y, Sigmoid(Linear(X, W, b)))
    graph = topological_sort({y: [1.0], X: [[1.0]], W: [[1.0]], b: [0.0]})

    assert type(graph) is list
    assert graph[-1] is cost
    assert graph[:4] == [y, X, W, b]
    assert forward_pass(graph[:-1]) is graph[-2].value
    assert cost.value is None


@given(st.randoms(use_true_random=False), st.integers(1, 25))
def test_every_node_comes_after_what_it_reads(random, size):
    inputs = [Input() for _ in range(3)]
    nodes = list(inputs)
    for _ in range(size):
        nodes.append(Add([random.choice(nodes) for _ in range(random.randint(1, 3))]))
    order = random.sample(inputs, 3)

    graph = topological_sort(dict.fromkeys(order, 1))

    position = {node: i for i, node in enumerate(graph)}
    assert all(position[m] < position[n] for n in graph for m in n.inbound_nodes)
    assert graph == topological_sort(dict.fromkeys(order, 1))
    reached = set(inputs)
    for node in nodes:  # in the order in which they were built
        if reached.intersection(node.inbound_nodes):
            reached.add(node)
    assert set(graph) == reached


def test_a_deep_graph_sorts_and_runs():
    x = Input()
    node = x
    for _ in range(3000):
        node = Add(node, 1)
    graph = topological_sort({x: 0})
    assert forward_and_backward(node, graph) == 3000
    assert x.gradients[x] == 1


def test_of_several_outputs_the_one_built_last_ends_the_list():
    x, y, unused = Input(), Input(), Input()
    Add(Add(Add(x, y), y), y)
    newest = Mul(x, y)
    late = Input()
    graph = topological_sort({x: 2, y: 3, unused: 1, late: 1})
    assert graph[-1] is newest


# Running


def test_values_of_inputs_can_be_written_between_passes():
    X, y = Input(), Input()
    cost = MSE(y, X)
    graph = topological_sort({X: np.zeros(2), y: np.zeros(2)})
    forward_pass(graph)
    X.value = np.ones(3)
    y.value = np.full(3, 3.0)
    assert forward_pass(cost, graph) == 4
    X.forward(np.full(3, 2.0))
    assert forward_pass(cost, graph) == 1


def test_an_input_set_by_value_need_not_be_fed():
    X, y, W = Input(), Input(), Input()
    cost = MSE(y, Linear(X, W, 0))
    graph = topological_sort({W: np.array([[2.0]])})
    X.value, y.value = np.array([[1.0]]), np.array([5.0])

    assert forward_and_backward(graph) == 9
    assert graph[-1] is cost
    np.testing.assert_array_equal(W.gradients[W], [[-6.0]])


@pytest.mark.parametrize(
    "call",
    [
        lambda f, graph: f(graph[-1], graph),
        lambda f, graph: f(graph, graph[-1]),
        lambda f, graph: f(graph),
        lambda f, graph: f(graph=graph),
        lambda f, graph: f(output_node=graph[-1], sorted_nodes=graph),
        lambda f, graph: f(graph[-1], tuple(graph)),
    ],
)
@pytest.mark.parametrize("function", [forward_pass, forward_and_backward])
def test_passes_take_the_graph_with_or_without_the_output(function, call):
    x, y = Input(), Input()
    Add(x, y)
    assert call(function, topological_sort({x: 1, y: 2})) == 3


def test_gradients_are_kept_on_the_node_and_on_its_inputs():
    X, y = Input(), Input()
    s = Sigmoid(X)
    cost = MSE(y, s)
    graph = topological_sort({X: np.zeros((1, 2)), y: np.ones((1, 2))})
    forward_and_backward(graph)

    np.testing.assert_array_equal(cost.gradients[s], [[-0.5, -0.5]])
    np.testing.assert_array_equal(s.gradients[X], [[-0.125, -0.125]])
    np.testing.assert_array_equal(X.gradients[X], s.gradients[X])
    np.testing.assert_array_equal(y.gradients[y], cost.gradients[y])


def test_a_backward_pass_run_twice_gives_the_same_gradients():
    x = Input()
    cost = MSE(0.0, Sigmoid(x))
    graph = topological_sort({x: 0.5})
    forward_and_backward(cost, graph)
    first = x.gradients[x]
    forward_and_backward(cost, graph)
    assert x.gradients[x] == first


def test_the_mean_squared_error_is_right_for_several_output_columns():
    X, W, b, y = (Input() for _ in range(4))
    rng = np.random.default_rng(0)
    cost = MSE(y, Linear(X, W, b))
    W_ = rng.normal(size=(3, 4))
    feeds = {X: rng.normal(size=(5, 3)), W: W_, b: np.zeros(4), y: rng.normal(size=(5, 4))}
    graph = topological_sort(feeds)
    before = forward_and_backward(graph)
    W_[1, 2] += 1e-6
    after = forward_pass(cost, graph)
    assert (after - before) / 1e-6 == pytest.approx(W.gradients[W][1, 2], rel=1e-4)


@pytest.mark.parametrize(
    ("shape_X", "shape_W", "shape_b"),
    [((5, 3), (3, 2), (2,)), ((5, 3), (3, 2), (1, 2)), ((5, 3), (3, 2), ()), ((3,), (3, 2), (2,)),
     ((5, 3), (3,), ()), ((5, 3), (3,), (5,)), ((5, 3), (3,), (1,)), ((3,), (3,), ()),
     ((2, 5, 3), (3, 2), (2,)), ((), (), ())],
)  # fmt: skip
def test_gradients_of_linear_agree_with_finite_differences(shape_X, shape_W, shape_b):
    rng = np.random.default_rng(1)
    nodes = [Input(n) for n in "XWb"]
    feeds = {
        n: rng.normal(size=shape)
        for n, shape in zip(nodes, (shape_X, shape_W, shape_b), strict=True)
    }
    output = Linear(*nodes)
    graph = topological_sort(feeds)
    target = rng.normal(size=np.shape(forward_pass(output, graph)))
    cost = MSE(target, Sigmoid(output))
    forward_and_backward(cost, graph)
    for node, value in feeds.items():
        gradient = node.gradients[node]
        assert np.shape(gradient) == np.shape(value)
        direction = rng.normal(size=np.shape(value))
        slopes = []
        for sign in (1, -1):
            node.value = value + sign * 1e-6 * direction
            slopes.append(sign * forward_pass(cost, graph))
        node.value = value
        assert sum(slopes) / 2e-6 == pytest.approx(np.sum(gradient * direction), rel=1e-5)


def test_broadcast_inputs_get_gradients_of_their_own_shape():
    x, y, target = Input(), Input(), Input()
    cost = MSE(target, Add(Mul(x, y), y, 1))
    graph = topological_sort({x: np.ones((3, 2)), y: np.ones(2), target: np.zeros((3, 2))})
    forward_and_backward(cost, graph)
    assert x.gradients[x].shape == (3, 2)
    np.testing.assert_allclose(y.gradients[y], [6.0, 6.0])


def test_the_dtype_of_a_gradient_is_that_of_the_value():
    X, W, b, y = (Input() for _ in range(4))
    graph = topological_sort(
        {X: np.ones((2, 2), np.float32), W: np.ones((2, 1), np.float32),
         b: np.zeros(1, np.float32), y: np.array([1.0, 2.0])}
    )  # fmt: skip
    forward_and_backward(MSE(y, Sigmoid(Linear(X, W, b))), graph)
    assert {n.gradients[n].dtype for n in (X, W, b)} == {np.dtype(np.float32)}
    assert y.gradients[y].dtype == np.float64


# Parts of a program that have nothing to do with each other


def test_an_operation_on_an_input_that_was_never_fed_does_not_matter():
    x, y, never = Input("x"), Input("y"), Input("never")
    stale = Mul(x, never)
    Sigmoid(stale)
    total = Add(x, y)
    later = Add(total, never)
    graph = topological_sort({x: 1.0, y: 2.0})

    assert forward_pass(total, graph) == 3
    assert forward_and_backward(total, graph) == 3
    assert x.gradients[x] == 1
    assert stale.value is None
    assert later.value is None


def test_the_graph_ends_in_an_output_that_can_be_computed():
    x, y, never = Input(), Input(), Input()
    total = Add(x, y)
    Mul(x, never)
    graph = topological_sort({x: 1, y: 2})
    assert graph[-1] is total
    assert forward_pass(graph) == 3
    assert forward_and_backward(graph) == 3


def test_an_earlier_part_of_the_program_does_not_disturb_a_later_one():
    X, W, b, y = (Input() for _ in range(4))
    earlier = MSE(y, Linear(X, W, b))
    graph = topological_sort({X: np.ones((2, 3)), W: np.ones((3, 1)), b: [0.0], y: [1, 2]})
    forward_and_backward(earlier, graph)

    V = Input()
    cost = MSE(y, Linear(X, V, 0))
    graph = topological_sort({X: np.ones((4, 2)), V: np.ones((2, 1)), y: np.zeros(4)})

    assert forward_and_backward(cost, graph) == 4
    np.testing.assert_array_equal(V.gradients[V], [[4.0], [4.0]])
    np.testing.assert_array_equal(y.gradients[y], cost.gradients[y])
    assert forward_and_backward(graph) == 4
    assert earlier.value is None  # its weights are of the other shape


def test_a_mistake_in_a_part_that_is_fed_is_an_error_though_the_output_does_not_need_it():
    X, W = Input(), Input()
    Linear(X, W, 0, name="mistaken")
    total = Add(X, 1)
    graph = topological_sort({X: np.ones((2, 3)), W: np.ones((2, 3))})
    with pytest.raises(ForwardError, match="mistaken"):
        forward_pass(total, graph)


def test_with_an_output_given_other_outputs_send_no_gradients():
    x, y = Input(), Input()
    product, total = Mul(x, y), Add(x, y)
    graph = topological_sort({x: 2.0, y: 3.0})
    forward_and_backward(product, graph)
    assert (x.gradients[x], y.gradients[y]) == (3, 2)
    forward_and_backward(total, graph)
    assert (x.gradients[x], y.gradients[y]) == (1, 1)
    forward_and_backward(graph)
    assert (x.gradients[x], y.gradients[y]) == (4, 3)


def test_an_array_that_nobody_reads_sends_no_gradient_but_a_loss_does():
    X, W, y = Input(), Input(), Input()
    prediction = Linear(X, W, 0)
    MSE(y, prediction)
    watched = Sigmoid(prediction)
    graph = topological_sort({X: np.ones((2, 1)), W: np.ones((1, 1)), y: np.zeros(2)})
    forward_and_backward(graph)
    assert watched.value.shape == (2, 1)
    assert W.gradients[W] == 2.0


def test_a_node_built_after_the_sort_runs_all_the_same():
    x, y = Input(), Input()
    graph = topological_sort({x: 1, y: 2})
    assert forward_pass(Add(Mul(x, y), y), graph) == 4
    assert forward_pass(Add(2, 3), []) == 5


# Nodes of a program's own


class Square(Node):
    name = "square"

    def __init__(self, inbound_nodes):
        Node.__init__(self, inbound_nodes)

    def forward(self):
        self.value = self.inbound_nodes[0].value ** 2

    def backward(self):
        source = self.inbound_nodes[0]
        self.gradients = {n: np.zeros_like(n.value) for n in self.inbound_nodes}
        for n in self.outbound_nodes:
            self.gradients[source] += 2 * source.value * n.gradients[self]


def test_a_node_of_the_programs_own_passes_gradients_between_ours():
    X, y = Input(), Input()
    square = Square([Sigmoid(X)])
    cost = MSE(y, Mul(square, 2))
    graph = topological_sort({X: np.array([0.3, -1.0]), y: np.zeros(2)})
    before = forward_and_backward(graph)
    gradient = X.gradients[X]
    X.value = X.value + np.array([1e-6, 0])

    assert graph[-1] is cost
    assert square.name == "square"
    assert (forward_pass(graph) - before) / 1e-6 == pytest.approx(gradient[0], rel=1e-4)


def test_a_loss_of_the_programs_own_may_send_columns_and_numbers():
    class Loss(Node):
        def __init__(self, y, a):
            super().__init__([y, a])

        def forward(self):
            self.value = 0.0

        def backward(self):
            self.gradients[self.inbound_nodes[0]] = 1
            self.gradients[self.inbound_nodes[1]] = np.array([[1.0], [2.0]])

    x, y = Input(), Input()
    Loss(Mul(y, 3), Sigmoid(x))
    graph = topological_sort({x: np.zeros(2), y: np.zeros(2)})
    forward_and_backward(graph)
    np.testing.assert_array_equal(x.gradients[x], [0.25, 0.5])
    np.testing.assert_array_equal(y.gradients[y], [3, 3])


def test_a_program_can_run_the_nodes_itself():
    X, y = Input(), Input()
    cost = MSE(y, Square([X]))
    graph = topological_sort({X: np.array([2.0]), y: np.array([1.0])})
    for n in graph:
        n.forward()
    for n in graph[::-1]:
        n.backward()
    assert cost.value == 9
    assert X.gradients[X] == 24


def test_consumers_outside_the_pass_read_as_zero_in_the_programs_own_backward():
    X, y = Input(), Input()
    square = Square([X])
    cost = MSE(y, square)
    graph = topological_sort({X: np.array([2.0]), y: np.array([1.0])})
    Sigmoid(square)
    assert forward_and_backward(cost, graph) == 9
    assert X.gradients[X] == 24


def test_a_class_without_forward_says_so():
    class Empty(Node):
        pass

    x = Input()
    Empty([x], name="mine")
    with pytest.raises(NotImplementedError, match=r"mine \(Empty, built at .*test_classic.py"):
        forward_pass(topological_sort({x: 1}))


# Training


def test_sgd_update_changes_the_fed_array_in_place():
    W_ = np.array([1.0, 2.0])
    W = Input()
    MSE(np.zeros(2), W)
    graph = topological_sort({W: W_})
    forward_and_backward(graph)
    sgd_update([W])
    sgd_update([W], learning_rate=0.5)
    assert W.value is W_
    np.testing.assert_allclose(W_, np.array([1.0, 2.0]) * (1 - 0.51))


def test_sgd_update_replaces_numbers_and_lists():
    x, y = Input(), Input()
    MSE(0, x)
    MSE([0, 0], y)
    forward_and_backward(topological_sort({x: 4, y: [2.0, 4.0]}))
    sgd_update([x, y], 0.25)
    assert x.value == 2.0
    np.testing.assert_array_equal(y.value, [1.5, 3.0])


def test_sgd_update_refuses_an_array_of_integers_by_name():
    W = Input("W")
    MSE([0, 0], W)
    W_ = np.array([1, 2])
    forward_and_backward(topological_sort({W: W_}))
    with pytest.raises(FeedDtypeError, match=r"W \(Input.*int64.*astype\(float\)"):
        sgd_update([W])
    assert W_.tolist() == [1, 2]


def test_sgd_update_before_a_backward_pass_names_the_input():
    with pytest.raises(GradientError, match=r"W .*forward_and_backward"):
        sgd_update([Input("W")])


def test_trained_nodes_can_be_pickled():
    X, W = Input("X"), Input("W")
    output = Linear(X, W, 1)
    forward_pass(topological_sort({X: np.ones((1, 2)), W: np.ones((2, 1))}))
    again = pickle.loads(pickle.dumps(output))
    assert again.value == 3
    assert [n.name for n in again.inbound_nodes] == ["X", "W", None]


# Errors


def test_an_input_that_was_never_fed_is_named_with_who_needs_it():
    x, y = Input("x"), Input("y")
    total = Add(x, y, name="total")
    graph = topological_sort({x: 1})
    with pytest.raises(MissingFeedError, match=r"y \(Input, built at .*\) has no value.*total"):
        forward_pass(total, graph)
    with pytest.raises(MissingFeedError, match="feed it"):
        total.forward()


def test_a_missing_input_is_named_for_a_class_of_the_programs_own():
    x, y = Input("x"), Input("y")

    class Both(Node):
        def forward(self):
            self.value = self.inbound_nodes[0].value + self.inbound_nodes[1].value

    Both([x, y])
    with pytest.raises(MissingFeedError, match=r"y .*has no value, and Both"):
        forward_pass(topological_sort({x: 1}))


def test_an_error_in_a_class_of_the_programs_own_keeps_its_type_and_names_the_node():
    class Broken(Node):
        def forward(self):
            raise ZeroDivisionError("mine")

    x = Input()
    Broken([x], name="broken")
    with pytest.raises(ZeroDivisionError, match="mine") as raised:
        forward_pass(topological_sort({x: 1}))
    assert "forward of broken (Broken" in raised.value.__notes__[0]


def test_shapes_that_do_not_fit_are_named():
    X, W = Input("X"), Input("W")
    Linear(X, W, 0, name="layer")
    graph = topological_sort({X: np.ones((2, 3)), W: np.ones((2, 1))})
    with pytest.raises(ForwardError, match=r"(?s)layer .*test_classic.*X .*\(2, 3\).*W .*\(2, 1\)"):
        forward_pass(graph)


@pytest.mark.parametrize("value", ["text", ["a", "b"], [[1], [1, 2]], object(), {"a": 1}, 1j])
def test_values_that_are_not_numeric_name_their_node(value):
    x = Input("x")
    Add(x, 1)
    graph = topological_sort({x: value})
    with pytest.raises(FeedDtypeError, match=r"x \(Input"):
        forward_pass(graph)


def test_a_cycle_is_an_error_that_names_the_nodes():
    x = Input()
    one = Add(x, 1, name="one")
    two = Add(one, 1, name="two")
    one.inbound_nodes.append(two)
    two.outbound_nodes.append(one)
    with pytest.raises(CycleError, match=r"one .*two "):
        topological_sort({x: 1})


@pytest.mark.parametrize("feeds", [{"x": 1}, [1], None])
def test_feeds_that_are_no_inputs_are_errors(feeds):
    with pytest.raises(UnknownFeedError):
        topological_sort(feeds)


def test_feeding_an_operation_is_an_error_and_sets_nothing():
    x = Input("x")
    total = Add(x, 1, name="total")
    with pytest.raises(UnknownFeedError, match="total"):
        topological_sort({x: 1, total: 2})
    assert x.value is None


@pytest.mark.parametrize("args", [(), (1,), ([],), ([1],), ({},), ("graph",)])
@pytest.mark.parametrize("function", [forward_pass, forward_and_backward])
def test_passes_without_a_graph_are_errors(function, args):
    with pytest.raises(GraphError):
        function(*args)


@pytest.mark.parametrize(
    "build",
    [Add, lambda: Add(None, 1), lambda: Linear(1, 2), lambda: Input(3),
     lambda: Sigmoid("x"), lambda: Mul(mf.Input("x"), 2)],
)  # fmt: skip
def test_what_cannot_be_a_node_is_an_error(build):
    with pytest.raises(NodeUseError):
        build()


def test_backward_before_forward_is_an_error():
    x = Input()
    x.value = 1.0
    with pytest.raises(GradientError, match="forward pass first"):
        Sigmoid(x).backward()


def test_a_gradient_of_a_shape_that_fits_nothing_is_an_error():
    class Wrong(Square):
        def backward(self):
            self.gradients = {self.inbound_nodes[0]: np.ones(7)}

    x = Input()
    Wrong([Sigmoid(x)])
    with pytest.raises(GradientError, match=r"Sigmoid .*\(3,\).*\(7,\)"):
        forward_and_backward(topological_sort({x: np.zeros(3)}))


def test_classic_nodes_and_nodes_of_the_core_do_not_mix():
    x = Input("x")
    with pytest.raises(GraphError, match=r"miniflow\.classic.*classic Add"):
        mf.Graph(Add(x, 1))
    with pytest.raises(NodeUseError, match="classic API"):
        mfops_nn.Linear(x, 1.0, 2.0)
    with pytest.raises(NodeUseError, match=r"\.value"):
        np.add(np.ones(2), x)


# The flags


def trace_of(source, **names):
    space = {"__name__": "program", **names}
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec("from miniflow import *\n" + source, space)
    return out.getvalue()


NETWORK = """
X, W = Input(), Input("weights")
y = Input()
l1 = Linear(X, W, 1.0)
cost = MSE(y, l1)
graph = topological_sort({X: np.ones((2, 1)), W: np.full((1, 1), 2.0), y: np.zeros(2)})
forward_and_backward(graph)
"""


def test_t_debug_prints_every_node_popped_and_every_edge_removed():
    text = trace_of("T_DEBUG = True\n" + NETWORK)
    assert text.splitlines() == [
        "sort: 5 nodes, 3 of them fed",
        "  pop X",
        "    remove edge X -> l1, 1 left",
        "  pop weights",
        "    remove edge weights -> l1, 0 left",
        "  pop y",
        "    remove edge y -> cost, 1 left",
        "  pop l1",
        "    remove edge l1 -> cost, 0 left",
        "  pop cost",
    ]


def test_debug_prints_inputs_values_and_gradients_of_every_node():
    text = trace_of("DEBUG = True\n" + NETWORK)
    assert "pop" not in text
    assert (
        "forward l1: Linear\n"
        "  X = [[1]\n"
        "       [1]]\n"
        "  weights = [[2]]\n"
        "  constant_1 = 1\n"
        "  value = [[3]\n"
        "           [3]]\n"
    ) in text
    assert (
        "backward l1: Linear\n"
        "  from cost: [[3]\n"
        "              [3]]\n"
        "  total: [[3]\n"
        "          [3]]\n"
        "  to X: [[6]\n"
        "         [6]]\n"
        "  to weights: [[6]]\n"
        "  to constant_1: 6\n"
    ) in text
    assert "backward weights: Input\n  from l1: [[6]]\n  total: [[6]]\n" in text


@pytest.mark.parametrize("module", [miniflow, miniflow.classic])
@pytest.mark.parametrize(("flag", "word"), [("DEBUG", "forward l1"), ("T_DEBUG", "pop l1")])
def test_the_flags_can_be_set_on_the_module(monkeypatch, module, flag, word):
    monkeypatch.setattr(module, flag, True)
    assert word in trace_of(NETWORK)


def test_without_the_flags_nothing_is_printed():
    assert trace_of(NETWORK) == ""
    assert (miniflow.DEBUG, miniflow.T_DEBUG) == (False, False)


def test_large_arrays_are_summarised_in_the_trace():
    text = trace_of(
        "DEBUG = True\n" + NETWORK.replace("(2, 1)", "(500, 1)").replace("(2)", "(500)")
    )
    assert "X = float64[500, 1]" in text


def test_unnamed_nodes_without_a_variable_are_numbered_by_kind():
    text = trace_of("T_DEBUG = True\ngraph = topological_sort({a: 1 for a in [Input(), Input()]})")
    assert "pop input_1" in text
    assert "pop input_2" in text


# The module


def test_the_star_import_brings_the_course_surface_and_nothing_else():
    space = {}
    exec("from miniflow import *", space)
    surface = {
        "Node", "Input", "Add", "Mul", "Multiply", "Linear", "Sigmoid", "MSE", "DEBUG", "T_DEBUG",
        "topological_sort", "forward_pass", "forward_and_backward", "sgd_update", "np",
    }  # fmt: skip
    assert set(space) - {"__builtins__"} == surface
    assert space["np"] is np


@pytest.mark.parametrize(
    ("name", "hint"),
    [("Graph", "import mfcore as mf"), ("Session", "import mfcore as mf"),
     ("Parameter", "import mfcore as mf"), ("ReLU", "from mfops_nn import ReLU"),
     ("Exp", "from mfops_basic import Exp")],
)  # fmt: skip
def test_what_lives_in_another_distribution_is_said_where(name, hint):
    with pytest.raises(AttributeError, match=hint):
        getattr(miniflow, name)


def test_an_unknown_name_is_an_ordinary_attribute_error():
    with pytest.raises(AttributeError, match=r"has no attribute 'nonsense'$"):
        miniflow.nonsense  # noqa: B018
    assert miniflow.tracing is mf.tracing


def test_importing_miniflow_imports_no_heavy_library():
    code = (
        "import sys, miniflow; "
        "print(sorted({'click', 'rich', 'matplotlib', 'sklearn', 'mftrace'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
