"""Sessions: feeding, results and gradients, training steps, and that errors change nothing."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
from plain_optimizers import Descent, Momentum

import mfcore as mf
import mfops_basic as ops
from mfcore.errors import (
    DefinitionError,
    ExecutionError,
    FeedDtypeError,
    FeedError,
    FeedShapeError,
    ForwardError,
    GradientError,
    MiniFlowError,
    MissingFeedError,
    NodeUseError,
    UnknownFeedError,
    UnknownNameError,
    UnknownNodeError,
)
from mfops_nn import MSE, Dropout, Linear, Sigmoid

pytestmark = pytest.mark.usefixtures("core_packs")


class Network:
    """A small network and a batch for it."""

    def __init__(self):
        generator = np.random.default_rng(0)
        self.X = mf.Input("X", shape=(None, 3), dtype=np.float64)
        self.y = mf.Input("y")
        self.W = mf.Parameter(generator.normal(size=(3, 2)), name="W")
        self.b = mf.Parameter(np.zeros(2), name="b")
        self.hidden = Sigmoid(Linear(self.X, self.W, self.b), name="hidden")
        self.cost = MSE(self.y, self.hidden, name="cost")
        self.line = sys._getframe().f_lineno - 1
        self.batch = {self.X: generator.normal(size=(4, 3)), self.y: generator.normal(size=(4, 2))}


@pytest.fixture
def net():
    return Network()


# Results


def test_values_are_reached_by_node_and_by_name(net):
    run = mf.Session(net.cost).run(net.batch)

    X, W = net.batch[net.X], net.W.value
    hidden = 1 / (1 + np.exp(-(X @ W)))
    np.testing.assert_allclose(run[net.hidden], hidden)
    assert run["cost"] == run[net.cost]
    np.testing.assert_array_equal(run[net.X], X)
    np.testing.assert_array_equal(run["W"], W)
    assert run.engine == "reference"


def test_inputs_can_be_fed_by_name(net):
    by_node = mf.Session(net.cost).run(net.batch)
    by_name = mf.Session(net.cost).run({node.name: v for node, v in net.batch.items()})
    mixed = mf.Session(net.cost).run({net.X: net.batch[net.X], "y": net.batch[net.y]})

    assert by_node[net.cost] == by_name[net.cost] == mixed[net.cost]


def test_unnamed_inputs_can_be_fed_by_the_name_that_the_graph_gives_them():
    node = mf.Input() * 2

    assert mf.Session(node).run({"input_1": 4})[node] == 8


def test_a_graph_without_inputs_needs_no_feeds():
    node = mf.Parameter([1.0, 2.0]).sum()

    assert mf.Session(node).run()[node] == 3
    assert mf.Session(node).run({})[node] == 3


def test_several_outputs_of_one_graph():
    x = mf.Input("x")
    a, b = x + 1, x * 2

    run = mf.Session([a, b]).run({x: 3.0})

    assert (run[a], run[b]) == (4, 6)
    assert run.backward(b)[x] == 2
    with pytest.raises(GradientError, match="2 outputs: say of which"):
        run.backward()


def test_a_session_can_share_a_graph_with_another(net):
    graph = mf.Graph(net.cost)
    one, other = mf.Session(graph), mf.Session(graph)
    one[net.W] = np.ones((3, 2))

    assert one.graph is other.graph is graph
    np.testing.assert_array_equal(other[net.W], net.W.value)


def test_results_and_gradients_are_read_only(net):
    session = mf.Session(net.cost)
    run = session.run(net.batch)

    for array in (run[net.hidden], run[net.X], run[net.W], run.gradients[net.W], session[net.W]):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 7.0
    assert run.gradients[net.y].flags.writeable is False


def test_the_user_s_arrays_stay_writeable_and_unchanged(net):
    X = net.batch[net.X].copy()
    mf.Session(net.cost).step(net.batch, Descent())

    np.testing.assert_array_equal(net.batch[net.X], X)
    net.batch[net.X][0, 0] = 3.0


def test_results_are_numpy_s_even_where_nothing_is_computed():
    c, x = mf.Constant(2), mf.Input("x")
    run = mf.Session([c, x]).run({x: 3})

    assert isinstance(run[c], np.generic)
    assert isinstance(run[x], np.generic)


@pytest.mark.parametrize("stranger", [mf.Input("stranger"), "stranger", 3, None])
def test_a_result_of_a_stranger_is_an_error(net, stranger):
    run = mf.Session(net.cost).run(net.batch)

    with pytest.raises(UnknownNodeError):
        run[stranger]


def test_an_old_run_keeps_its_results_when_parameters_change(net):
    session = mf.Session(net.cost)
    run = session.run(net.batch)
    before, gradient = run[net.W].copy(), run.backward()[net.W].copy()

    session.step(net.batch, Descent())
    session[net.W] = np.zeros((3, 2))

    np.testing.assert_array_equal(run[net.W], before)
    np.testing.assert_array_equal(run.backward()[net.W], gradient)


def test_representations_name_graph_and_nodes(net):
    session = mf.Session(net.cost)

    assert repr(session) == "<Session on 'reference' of <Graph of 7 nodes, outputs cost>>"
    assert repr(session.run(net.batch).gradients) == "<Gradients of cost for W, b>"


# Engines


def test_an_engine_is_given_by_name_or_as_it_is():
    from mfcore.reference import ReferenceEngine

    x = mf.Input("x")
    for engine in ("reference", "mfcore.reference", ReferenceEngine()):
        assert mf.Session(x + 1, engine=engine).run({x: 1})["add_1"] == 2
    with pytest.raises(UnknownNameError, match="'referense'; did you mean"):
        mf.Session(x, engine="referense")


# Feeding


def fit_feed(value, **declared):
    x = mf.Input("x", **declared)
    return mf.Session(x).run({x: value})[x]


@pytest.mark.parametrize(
    ("declared", "value", "dtype"),
    [
        ({}, [1, 2], np.int64),
        ({}, [True], np.bool_),
        ({}, np.float32(1), np.float32),
        ({"dtype": np.float32}, [1.5], np.float32),
        ({"dtype": np.float64}, np.ones(1, np.float32), np.float64),
        ({"dtype": np.float32}, np.ones(1), np.float32),
        ({"dtype": np.float64}, [1, 2], np.float64),
        ({"dtype": np.int64}, [True], np.int64),
        ({"dtype": np.int8}, np.ones(2, np.int64), np.int8),
    ],
)
def test_feeds_are_cast_where_nothing_is_lost_but_precision(declared, value, dtype):
    fed = fit_feed(value, **declared)

    assert fed.dtype == dtype
    np.testing.assert_array_equal(fed, value)


@pytest.mark.parametrize(("dtype", "value"), [(np.int64, [1.5]), (np.bool_, [1]), (np.int32, 2.0)])
def test_a_feed_whose_cast_would_lose_information_is_refused(dtype, value):
    with pytest.raises(FeedDtypeError, match=r"x \(mfcore\.Input.*declares.*lose information"):
        fit_feed(value, dtype=dtype)


UNUSABLE = [
    "text",
    None,
    [None],
    1j,
    {},
    object(),
    [[1], [1, 2]],
    np.array(["a"]),
    np.array([1, None]),
]
UNUSABLE += [np.datetime64(1, "s"), np.zeros(2, "i4,i4"), b"x", mf.Constant(1.0)]


@pytest.mark.parametrize("declared", [{}, {"dtype": float}, {"shape": (1,)}], ids=str)
@pytest.mark.parametrize("value", UNUSABLE, ids=lambda v: str(type(v)))
def test_unusable_values_are_refused_with_the_name_of_the_input(declared, value):
    with pytest.raises(
        FeedDtypeError, match=r"value fed to x \(mfcore\.Input, built at .*\.py:\d+\)"
    ):
        fit_feed(value, **declared)


@pytest.mark.parametrize(
    ("declared", "given"),
    [
        ((None, 3), (3,)),
        ((None, 3), (2, 4)),
        ((2,), (3,)),
        ((), (1,)),
        ((None,), ()),
        ((2, 2), (4,)),
    ],
)
def test_a_feed_of_the_wrong_shape_is_refused_with_both_shapes(declared, given):
    with pytest.raises(FeedShapeError) as caught:
        fit_feed(np.zeros(given), shape=declared)

    for part in (str(given), f"declares {declared}", "x (mfcore.Input", __file__):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("declared", "given"), [((None, 3), (0, 3)), ((None, 3), (7, 3)), ((), ()), ((0,), (0,))]
)
def test_a_feed_of_the_declared_shape_is_accepted(declared, given):
    assert fit_feed(np.zeros(given), shape=declared).shape == given


def without(feeds, *nodes):
    return {node: value for node, value in feeds.items() if node not in nodes}


WRONG_FEEDS = {
    "nothing": (lambda n: None, MissingFeedError, ["X (mfcore.Input", "y (mfcore.Input"]),
    "one missing": (lambda n: without(n.batch, n.y), MissingFeedError, ["y (mfcore.Input"]),
    "unknown name": (
        lambda n: {**n.batch, "Z": 1}, UnknownFeedError, ["'Z'", "no input of that name", "X"]),
    "input of another graph": (
        lambda n: {**n.batch, mf.Input("Z"): 1}, UnknownFeedError, ["Z (mfcore.Input", "not part"]),
    "no key of feeds": (lambda n: {**n.batch, 3: 1}, UnknownFeedError, ["not by 3"]),
    "a parameter": (
        lambda n: {**n.batch, n.W: n.W.value}, UnknownFeedError,
        ["W (mfcore.Parameter", "session["]),
    "a parameter by name": (
        lambda n: {**n.batch, "b": [0, 0]}, UnknownFeedError, ["b (mfcore.Parameter", "session["]),
    "an operation": (
        lambda n: {**n.batch, n.hidden: 1}, UnknownFeedError,
        ["hidden (mfops_nn.Sigmoid", "only inputs"]),
    "twice": (lambda n: {**n.batch, "X": 1}, UnknownFeedError, ["X (mfcore.Input", "twice"]),
    "a list": (lambda n: list(n.batch.values()), FeedError, ["mapping", "list"]),
    "an array": (lambda n: np.ones(2), FeedError, ["mapping", "numpy.ndarray"]),
    "a set": (lambda n: {n.X, n.y}, FeedError, ["mapping", "set"]),
    "wrong shape": (lambda n: {**n.batch, n.X: np.ones(3)}, FeedShapeError, ["X (mfcore.Input"]),
    "wrong dtype": (
        lambda n: {**n.batch, n.X: [["a"] * 3]}, FeedDtypeError, ["X (mfcore.Input", "<U1"]),
    "shapes that do not fit": (
        lambda n: {**n.batch, n.y: np.ones(7)}, ForwardError,
        ["cost (mfops_nn.MSE", "y float64[7]", "a float64[4, 2]"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_FEEDS)
@pytest.mark.parametrize("training", [False, True], ids=["run", "step"])
def test_wrong_feeds_are_errors_that_say_what_is_wrong_and_change_nothing(net, case, training):
    feeds, error, parts = WRONG_FEEDS[case]
    session, untouched = mf.Session(net.cost, seed=0), mf.Session(net.cost, seed=0)
    optimizer = Momentum()
    for one in (session, untouched):
        one.step(net.batch, optimizer)

    with pytest.raises(error) as caught:
        session.step(feeds(net), optimizer) if training else session.run(feeds(net))

    assert isinstance(caught.value, MiniFlowError)
    for part in parts:
        assert part in str(caught.value)
    if "(mf" in parts[0]:
        assert f"{__file__}:" in str(caught.value)
    assert session.steps == untouched.steps == 1
    assert session.step(net.batch, optimizer) == untouched.step(net.batch, optimizer)
    np.testing.assert_array_equal(session[net.W], untouched[net.W])


def test_nan_and_infinity_run_as_in_numpy():
    x = mf.Input("x")
    node = x * 0.5

    np.testing.assert_array_equal(
        mf.Session(node).run({x: [np.nan, np.inf]})[node], [np.nan, np.inf]
    )


# Gradients


def test_gradients_are_of_the_parameters_and_others_on_demand(net):
    run = mf.Session(net.cost).run(net.batch)

    gradients = run.backward()

    assert list(gradients) == [net.W, net.b]
    assert gradients[net.X].shape == (4, 3)
    assert gradients["hidden"].shape == (4, 2)
    assert gradients[net.cost] == 1
    assert run.gradients is gradients


def test_gradients_are_of_the_inputs_where_there_are_no_parameters():
    x, y = mf.Input("x"), mf.Input("y")

    assert set(mf.Session(x * y).run({x: 2.0, y: 3.0}).backward()) == {x, y}


def test_asking_twice_gives_the_same_bits(net):
    run = mf.Session(net.cost).run(net.batch)
    nodes = [net.X, net.y, net.W, net.b, net.hidden]

    first = {n: run.backward(wrt=nodes)[n].tobytes() for n in nodes}
    second = {n: run.backward(wrt=nodes)[n].tobytes() for n in nodes}
    single = {n: run.backward(wrt=[n])[n].tobytes() for n in nodes}

    assert first == second == single


def test_gradients_of_a_node_inside_the_graph(net):
    run = mf.Session(net.cost).run(net.batch)

    gradients = run.backward(net.hidden, grad=np.ones((4, 2)), wrt=[net.W, net.y])

    hidden = run[net.hidden]
    np.testing.assert_allclose(gradients[net.W], run[net.X].T @ (hidden * (1 - hidden)))
    np.testing.assert_array_equal(gradients[net.y], np.zeros((4, 2)))
    np.testing.assert_array_equal(gradients[net.cost], 0)


def test_a_gradient_on_the_way_is_the_sum_over_all_consumers():
    x = mf.Input("x")
    middle = x * 3
    top = middle * middle + ops.Exp(middle) + middle

    run = mf.Session(top).run({x: 0.5})
    gradients = run.backward(wrt=[middle, x])

    expected = 2 * 1.5 + np.exp(1.5) + 1
    np.testing.assert_allclose(gradients[middle], expected)
    np.testing.assert_allclose(gradients[x], 3 * expected)


def test_a_node_used_twice_as_input_gets_both_shares():
    x = mf.Input("x")

    assert mf.Session(x - x).run({x: 2.0}).gradients[x] == 0
    assert mf.Session(x / x + x**2).run({x: 3.0}).gradients[x] == 6
    assert mf.Session(ops.Mul(x, x, x)).run({x: 2.0}).gradients[x] == 12


def test_only_a_scalar_has_a_gradient_by_itself(net):
    run = mf.Session(net.hidden).run(without(net.batch, net.y))

    with pytest.raises(GradientError, match=r"hidden \(mfops_nn\.Sigmoid.*shape \(4, 2\).*grad="):
        run.backward()
    with pytest.raises(GradientError, match=r"grad has shape \(2,\), the node has shape \(4, 2\)"):
        run.backward(grad=np.ones(2))
    with pytest.raises(NodeUseError, match="grad must be"):
        run.backward(grad="one")


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_element_is_scalar_enough(shape):
    x = mf.Input("x")

    gradient = mf.Session(x * 3).run({x: np.ones(shape)}).gradients[x]

    np.testing.assert_array_equal(gradient, np.full(shape, 3.0), strict=True)


def test_a_gradient_may_be_given_as_a_list_and_scales_the_result():
    x = mf.Input("x")

    run = mf.Session(x * x).run({x: np.array([1, 2], np.float32)})

    np.testing.assert_array_equal(
        run.backward(grad=[10, 100])[x], np.array([20, 400], np.float32), strict=True
    )


def test_a_constant_has_no_gradient():
    node = mf.Input("x") * 2.0

    run = mf.Session(node).run({"x": 1.0})

    with pytest.raises(GradientError, match=r"constant_1 \(mfcore\.Constant.*Input or a Parameter"):
        run.backward(wrt=node.inputs)


def test_a_gradient_of_a_constant_output():
    run = mf.Session(mf.Constant(2.0)).run()

    assert dict(run.backward()) == {}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_gradients_have_the_dtype_of_their_node(dtype):
    x, y = mf.Input("x"), mf.Input("y")
    run = mf.Session((x * y).sum()).run({x: np.ones(2, dtype), y: np.ones(2)})

    gradients = run.backward()

    assert gradients[x].dtype == dtype
    assert gradients[y].dtype == np.float64


def test_a_gradient_of_a_stranger_is_an_error(net):
    run = mf.Session(net.cost).run(net.batch)

    for ask in (
        lambda: run.gradients[mf.Input("z")],
        lambda: run.backward(wrt=[mf.Input("z")]),
        lambda: run.backward(mf.Input("z")),
        lambda: run.gradients["z"],
    ):
        with pytest.raises(UnknownNodeError, match="z"):
            ask()


# Parameters


def test_parameters_are_read_and_set_by_node_and_name(net):
    session = mf.Session(net.cost)

    session[net.b] = [1, 2]
    session["W"] = np.ones((3, 2), np.float32)

    np.testing.assert_array_equal(session["b"], [1.0, 2.0], strict=True)
    np.testing.assert_array_equal(session[net.W], np.ones((3, 2)), strict=True)
    np.testing.assert_array_equal(net.b.value, [0, 0])
    assert set(session.parameters) == {net.W, net.b}
    np.testing.assert_array_equal(session.run(net.batch)[net.b], [1, 2])


def test_what_is_set_is_copied_and_what_is_read_is_a_copy_or_read_only(net):
    session = mf.Session(net.cost)
    array = np.ones(2)

    session[net.b] = array
    array[0] = 9
    session.parameters[net.b][0] = 9

    np.testing.assert_array_equal(session[net.b], [1, 1])


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.ones(3), FeedShapeError),
        (1.0, FeedShapeError),
        ("ab", FeedDtypeError),
        ([None, 1], FeedDtypeError),
    ],
    ids=str,
)
def test_a_value_that_does_not_fit_a_parameter_is_refused_and_changes_nothing(net, value, error):
    session = mf.Session(net.cost)

    with pytest.raises(error, match=r"b \(mfcore\.Parameter, built at"):
        session[net.b] = value
    np.testing.assert_array_equal(session[net.b], [0, 0])


@pytest.mark.parametrize("stranger", ["X", mf.Parameter([1.0], name="V"), 3, None, [1]], ids=str)
def test_what_is_no_parameter_can_neither_be_read_nor_set(net, stranger):
    session = mf.Session(net.cost)

    with pytest.raises(UnknownNodeError, match="no parameter of this session; it has W, b"):
        session[stranger]
    with pytest.raises(UnknownNodeError, match="no parameter of this session; it has W, b"):
        session[stranger] = 1


# Training steps


def test_a_step_returns_the_cost_before_the_update_and_moves_every_parameter(net):
    session = mf.Session(net.cost)
    run = session.run(net.batch)

    loss = session.step(net.batch, Descent(learning_rate=0.5))

    assert type(loss) is float
    assert loss == run[net.cost]
    assert session.steps == 1
    for node in (net.W, net.b):
        np.testing.assert_array_equal(session[node], node.value - 0.5 * run.gradients[node])


def test_the_state_of_an_optimizer_is_kept_from_step_to_step():
    W = mf.Parameter(0.0, name="W")
    session = mf.Session(W * 1.0)
    heavy = Momentum(learning_rate=1.0)

    positions = []
    for _ in range(3):
        session.step({}, heavy)
        positions.append(float(session[W]))

    np.testing.assert_allclose(positions, [-1, -2.9, -5.61])


def test_the_cost_of_a_step_can_be_one_of_several_outputs():
    W = mf.Parameter([1.0, 2.0], name="W")
    small, large = W.sum(), (W * 10).sum()
    session = mf.Session([small, large])

    assert session.step({}, Descent(learning_rate=1.0), cost=small) == 3
    np.testing.assert_array_equal(session[W], [0, 1])
    with pytest.raises(GradientError, match="2 outputs"):
        session.step({}, Descent())


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_cost_of_one_element_trains(shape):
    W = mf.Parameter(np.ones(shape), name="W")
    session = mf.Session(W * 2)

    assert session.step({}, Descent(learning_rate=1.0)) == 2.0
    np.testing.assert_array_equal(session[W], np.full(shape, -1.0))


def test_a_cost_that_is_no_scalar_is_an_error_that_changes_nothing():
    W = mf.Parameter(np.ones(2), name="W")
    session = mf.Session(W * 2)

    with pytest.raises(GradientError):
        session.step({}, Descent())
    assert session.steps == 0
    np.testing.assert_array_equal(session[W], [1, 1])


def test_a_parameter_that_the_cost_does_not_depend_on_stays():
    W, V = mf.Parameter(1.0, name="W"), mf.Parameter(1.0, name="V")
    cost = W * 2
    session = mf.Session([cost, V * 1])

    session.step({}, Momentum(learning_rate=1.0), cost=cost)

    assert (session[W], session[V]) == (-1, 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("make", [Descent, Momentum])
def test_training_keeps_shape_and_dtype_of_parameters(dtype, make):
    W = mf.Parameter(np.ones((2, 1), dtype), name="W")
    session = mf.Session((W * W).sum())

    for _ in range(2):
        session.step({}, make(learning_rate=np.float64(0.1)))

    assert session[W].dtype == dtype
    assert session[W].shape == (2, 1)


def test_a_schedule_is_called_with_the_steps_done_and_does_not_widen_the_dtype():
    W = mf.Parameter(np.zeros(1, np.float32), name="W")
    session = mf.Session(W.sum())
    rate = Descent(learning_rate=lambda step: np.float64(10.0**step))

    moved = []
    for _ in range(3):
        session.step({}, rate)
        moved.append(float(session[W][0]))

    assert moved == [-1, -11, -111]
    assert session[W].dtype == np.float32


def broken(**functions):
    return mf.optimizer(type("Broken", (), {n: staticmethod(f) for n, f in functions.items()}))()


def fail(parameter, gradient):
    raise ZeroDivisionError("oh")


def late(parameter, gradient):
    return parameter * 0 if parameter.ndim == 2 else fail(parameter, gradient)


def widen(parameter, gradient):
    return parameter[None]


def nothing(parameter, gradient):
    return None


def first_state(parameter):
    return (parameter,)


def forget_state(parameter, gradient, state):
    return parameter


class Derived(Descent):
    """A class that was not decorated again."""


BROKEN = {
    "raises": (broken(update=fail), ZeroDivisionError, "oh"),
    "raises at the second parameter": (broken(update=late), ZeroDivisionError, "oh"),
    "another shape": (broken(update=widen), ExecutionError, "Broken.*shape"),
    "no array": (broken(update=nothing), ExecutionError, "Broken.*NoneType"),
    "no state": (
        broken(init=first_state, update=forget_state),
        ExecutionError,
        r"Broken must return \(parameter, state\)",
    ),
    "no optimizer": (object(), DefinitionError, "is no optimizer"),
    "not decorated": (Derived(), DefinitionError, "lacks @optimizer"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_update_is_an_error_that_leaves_parameters_and_state_as_they_were(net, case):
    optimizer, error, message = BROKEN[case]
    heavy = Momentum()
    session, untouched = mf.Session(net.cost), mf.Session(net.cost)
    for one in (session, untouched):
        one.step(net.batch, heavy)

    with pytest.raises(error, match=message):
        session.step(net.batch, optimizer)

    assert session.steps == 1
    for one in (session, untouched):
        one.step(net.batch, heavy)
    np.testing.assert_array_equal(session[net.W], untouched[net.W])


def test_a_failing_operation_leaves_parameters_as_they_were():
    @mf.operation
    class FailsLate(mf.Node):
        x: mf.Node

        @staticmethod
        def forward(x):
            return x * 1.0

        @staticmethod
        def backward(grad, x):
            if x > 5:
                raise ZeroDivisionError
            return grad

    x, W = mf.Input("x"), mf.Parameter(1.0, name="W")
    session = mf.Session(FailsLate(W * x))

    with pytest.raises(ExecutionError):
        session.step({x: 10.0}, Descent())
    assert session[W] == 1
    assert session.step({x: 2.0}, Descent()) == 2


# Random state and threads


def dropped(seed, count=3):
    x = mf.Input("x")
    W = mf.Parameter(np.ones(50), name="W")
    session = mf.Session((Dropout(x * W) ** 2).mean(), seed=seed)
    return [session.step({x: np.arange(50.0)}, Momentum()) for _ in range(count)]


def test_the_same_seed_gives_the_same_bits():
    assert dropped(3) == dropped(3)
    assert dropped(3) != dropped(4)
    assert dropped(np.random.default_rng(3)) == dropped(3)


def test_two_sessions_over_one_graph_in_two_threads_give_what_they_give_alone(core_registry):
    generator = np.random.default_rng(0)
    X, y = mf.Input("X"), mf.Input("y")
    W = mf.Parameter(generator.normal(size=(6, 4)), name="W")
    V = mf.Parameter(generator.normal(size=(4, 1)), name="V")
    graph = mf.Graph(MSE(y, Dropout(Sigmoid(X @ W), rate=0.3) @ V))
    feeds = {X: generator.normal(size=(32, 6)), y: generator.normal(size=(32, 1))}

    def train(seed):
        with mf.registry.using(core_registry):
            session = mf.Session(graph, seed=seed)
        losses = [session.step(feeds, heavy) for heavy in [Momentum()] for _ in range(200)]
        return losses, session[W].tobytes(), session[V].tobytes()

    alone = [train(seed) for seed in range(4)]
    together = [None] * 4
    start = threading.Barrier(4)

    def work(seed):
        start.wait()
        together[seed] = train(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert together == alone
