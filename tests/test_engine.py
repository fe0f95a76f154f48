"""The reference engine: nothing is computed that nobody needs, and all is added in one order."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mfcore as mf
import mfops_basic as ops
from mfcore.checks import unbroadcast
from mfcore.errors import BackwardError, NotDifferentiableError
from mfcore.reference import ReferenceEngine
from mfops_nn import MSE, Linear, Sigmoid

pytestmark = pytest.mark.usefixtures("core_packs")


@pytest.fixture
def calls():
    return []


@pytest.fixture
def counted(calls):
    """A product that notes what it computed: ("forward",) or ("backward", wanted names)."""

    @mf.operation(broadcasts=True)
    class Counted(mf.Node):
        x: mf.Node
        y: mf.Node

        @staticmethod
        def forward(x, y):
            calls.append("forward")
            return x * y

        @staticmethod
        def backward(grad, x, y, wanted):
            calls.append("".join(n for n, w in zip(wanted._fields, wanted, strict=True) if w))
            return grad * y if wanted.x else None, grad * x if wanted.y else None

    return Counted


# What is computed


def test_every_operation_runs_forward_once(calls, counted):
    x = mf.Input("x")
    shared = counted(x, 2.0)

    mf.Session(shared + shared * shared).run({x: 1.0})

    assert calls == ["forward"]


def test_a_run_alone_computes_no_gradient(calls, counted):
    x = mf.Input("x")
    run = mf.Session(counted(x, x)).run({x: 1.0})
    calls.clear()

    run[x]
    assert calls == []
    run.gradients  # noqa: B018 - asking computes
    assert calls == ["xy"]


def test_training_does_not_compute_the_gradient_of_the_data(calls, counted):
    x, W, V = mf.Input("x"), mf.Parameter(1.0, name="W"), mf.Parameter(1.0, name="V")
    first = counted(x, W)
    run = mf.Session(counted(first, V)).run({x: 2.0})
    calls.clear()

    run.backward()

    assert calls == ["xy", "y"]


def test_an_operation_that_leads_to_nothing_wanted_is_not_differentiated(calls, counted):
    x, y = mf.Input("x"), mf.Input("y")
    run = mf.Session(counted(counted(x, 2.0), counted(y, 3.0))).run({x: 1.0, y: 1.0})
    calls.clear()

    run.backward(wrt=[y])

    assert calls == ["y", "x"]


def test_nothing_behind_the_node_asked_for_is_differentiated(calls, counted):
    x, y = mf.Input("x"), mf.Input("y")
    middle = counted(counted(x, 2.0), y)
    run = mf.Session(counted(middle, 3.0)).run({x: 1.0, y: 1.0})
    calls.clear()

    run.backward(wrt=[middle])
    assert calls == ["x"]
    calls.clear()
    run.backward(of=middle, wrt=[y])
    assert calls == ["y"]


def test_asking_for_more_gradients_computes_only_their_way(calls, counted):
    x, y = mf.Input("x"), mf.Input("y")
    run = mf.Session(counted(x, y)).run({x: 1.0, y: 5.0})
    gradients = run.backward(wrt=[x])
    calls.clear()

    assert gradients[x] == 5
    assert calls == []
    assert gradients[y] == 1
    assert calls == ["y"]
    assert gradients[y] == 1
    assert calls == ["y"]


def test_an_operation_without_backward_matters_only_on_the_way_of_a_gradient():
    @mf.operation
    class Opaque(mf.Node):
        x: mf.Node

        @staticmethod
        def forward(x):
            return x * 2

    x, y = mf.Input("x"), mf.Input("y")
    run = mf.Session(Opaque(x) * y).run({x: 1.0, y: 1.0})

    assert run.backward(wrt=[y])[y] == 2
    with pytest.raises(NotDifferentiableError, match="opaque_1"):
        run.backward(wrt=[x])


def test_where_no_gradient_arrives_nothing_is_computed_and_nothing_fails():
    @mf.operation
    class Opaque(mf.Node):
        x: mf.Node

        @staticmethod
        def forward(x):
            return x * 2

    x = mf.Input("x")
    node = ops.Sign(Opaque(x))

    assert mf.Session(node).run({x: -1.0}).gradients[x] == 0


def test_what_is_not_wanted_may_be_returned_and_is_ignored():
    @mf.operation
    class Wasteful(mf.Node):
        x: mf.Node
        y: mf.Node

        @staticmethod
        def forward(x, y):
            return x + y

        @staticmethod
        def backward(grad):
            return grad, "whatever"

    x, y = mf.Input("x"), mf.Input("y")
    run = mf.Session(Wasteful(x, y)).run({x: 1.0, y: 1.0})

    assert run.backward(wrt=[x])[x] == 1
    with pytest.raises(BackwardError):
        run.backward(wrt=[y])


# Accumulation


def test_gradients_are_added_in_a_fixed_order_last_consumer_first():
    x = mf.Input("x")
    shares = [1e16, 1.0, -1e16, 3.0]
    top = ops.Add(*[x * share for share in shares])

    gradient = mf.Session(top).run({x: 1.0}).gradients[x]

    total = shares[-1]
    for share in shares[-2::-1]:
        total = total + share
    assert gradient == total != sum(shares)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_fan_out_sums_over_all_consumers(count):
    x = mf.Input("x")
    top = ops.Add(*[x * float(i) for i in range(count)])

    assert mf.Session(top).run({x: 1.0}).gradients[x] == sum(range(count))


def test_accumulating_does_not_write_into_what_operations_returned():
    kept = np.ones(2)

    @mf.operation
    class Hoards(mf.Node):
        x: mf.Node

        @staticmethod
        def forward(x):
            return x * 1.0

        @staticmethod
        def backward(grad):
            return (kept,)

    x = mf.Input("x")
    run = mf.Session((Hoards(x) + Hoards(x) + Hoards(x)).sum()).run({x: np.zeros(2)})

    np.testing.assert_array_equal(run.gradients[x], [3, 3])
    np.testing.assert_array_equal(kept, [1, 1])


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_unbroadcasting_is_the_transpose_of_broadcasting(data):
    full = tuple(data.draw(st.lists(st.integers(0, 3), max_size=4)))
    start = data.draw(st.integers(0, len(full)))
    shape = tuple(1 if data.draw(st.booleans()) else size for size in full[start:])
    generator = np.random.default_rng(0)
    gradient = generator.integers(-9, 9, size=full).astype(float)
    small = generator.integers(-9, 9, size=shape).astype(float)

    summed = unbroadcast(gradient, shape)

    assert summed.shape == shape
    assert (summed * small).sum() == (gradient * np.broadcast_to(small, full)).sum()


@pytest.mark.parametrize(
    ("gradient", "shape"), [((3,), (2,)), ((), (2,)), ((1, 3), (2, 3)), ((2, 1), (0, 1))]
)
def test_shapes_that_do_not_broadcast_to_the_gradient_are_not_summed(gradient, shape):
    assert unbroadcast(np.ones(gradient), shape) is None


# Graphs of numbers, whose gradients take a shorter way


def returning(*gradients):
    """An operation of two inputs whose backward returns these."""

    @mf.operation
    class Returning(mf.Node):
        x: mf.Node
        y: mf.Node

        @staticmethod
        def forward(x, y):
            return x + y

        @staticmethod
        def backward(grad):
            return gradients

    return Returning


def test_a_graph_of_numbers_gets_the_gradients_of_one_of_arrays():
    def gradients(shape):
        p, q = (mf.Parameter(np.full(shape, value)) for value in (0.1, -0.7))
        r = p * q * 0.5
        top = r * r + (p + p) * (r + 3.0 * q) + ops.Exp(q) * p
        return mf.Session(top.sum(), engine="reference").run().gradients.values()

    for number, array in zip(gradients(()), gradients((1,)), strict=True):
        assert type(number) is np.float64
        assert number == array[0]


@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        ((np.ones(3), np.float64(1)), r"of shape \(3,\) for its input 'x'"),
        ((np.float64(1), np.ones(3)), r"of shape \(3,\) for its input 'y'"),
        ((np.float64(1),), "returned 1 gradients for 2 inputs"),
        ((np.float64(1),) * 3, "returned 3 gradients for 2 inputs"),
    ],
)
def test_wrong_gradients_of_numbers_are_errors(gradients, message):
    node = returning(*gradients)(mf.Parameter(1.0), mf.Parameter(2.0))

    with pytest.raises(BackwardError, match=message):
        mf.Session(node, engine="reference").run().backward()


@pytest.mark.parametrize("other", [3, np.float32(3), np.array(3.0), np.int8(3)])
def test_gradients_of_numbers_come_in_the_dtype_of_their_nodes(other):
    p, q = mf.Parameter(1.0), mf.Parameter(2.0)
    node = returning(other, np.float64(2))(p, q)

    gradients = mf.Session(node, engine="reference").run().gradients

    assert [gradients[p], gradients[q]] == [3, 2]
    assert {gradient.dtype for gradient in gradients.values()} == {np.dtype(np.float64)}


# What is kept


def test_gradients_of_operations_are_kept_where_they_are_asked_for():
    p, q = mf.Parameter(2.0), mf.Parameter(3.0)
    r = p * q
    run = mf.Session(r * r, engine="reference").run()

    gradients = run.backward(wrt=[p, r])

    assert [gradients[node] for node in (p, r, q)] == [36, 12, 24]


def test_a_gradient_is_dropped_once_it_was_used():
    alive = []

    @mf.operation
    class Watched(mf.Node):
        x: mf.Node

        @staticmethod
        def forward(x):
            return x * 1.0

        @staticmethod
        def backward(grad):
            alive.append(sum(old() is not None for old in seen))
            seen.append(weakref.ref(grad))
            return (grad * 1.0,)

    seen = []
    node = mf.Parameter(np.ones(2))
    for _ in range(5):
        node = Watched(node)
    mf.Session(node.sum(), engine="reference").run().backward()

    assert alive == [0] * 5


# Python numbers


def seen_by(decorator, *inputs):
    seen = []

    def forward(x, y):
        seen.extend((x, y))
        return np.multiply(x, y)

    body = {"__annotations__": {"x": mf.Node, "y": mf.Node}, "forward": staticmethod(forward)}
    node = decorator(type("Seeing", (mf.Node,), body))(*inputs)
    seen.clear()  # of what was read when the node was built, to know its shape
    mf.Session(node).run({n: np.ones(2, np.float32) for n in inputs if isinstance(n, mf.Node)})
    return [type(value) for value in seen]


def test_a_python_number_stays_one_only_beside_an_array_that_it_broadcasts_against():
    x = mf.Input("x")

    assert seen_by(mf.operation(broadcasts=True), x, 2.0) == [np.ndarray, float]
    assert seen_by(mf.operation, x, 2.0) == [np.ndarray, np.float64]
    assert seen_by(mf.operation(broadcasts=True), 2, 2.0) == [np.int64, np.float64]


# Programs


def test_backward_gets_a_python_number_as_forward_got_it():
    a = mf.Input("a")
    cost = MSE(mf.Constant(2.0), a)  # both functions ask the targets for their shape

    run = mf.Session(cost).run({a: 5.0})

    assert run.gradients[a] == 6.0


def test_classes_that_share_their_functions_are_each_called_with_their_own_fields():
    @mf.operation
    class Left(mf.Node):
        x: mf.Node
        y: mf.Node

        @staticmethod
        def forward(x, y):
            return x - 2 * y

        @staticmethod
        def backward(grad, wanted):
            return grad, -2 * grad

    @mf.operation
    class Right(mf.Node):
        y: mf.Node
        x: mf.Node
        forward, backward = staticmethod(Left.forward), staticmethod(Left.backward)

    p, q = mf.Input("p"), mf.Input("q")

    run = mf.Session(mf.Graph(Left(p, q), Right(p, q))).run({p: 10.0, q: 1.0})

    assert [run[name] for name in ("left_1", "right_1")] == [8.0, -19.0]


def test_a_program_holds_no_state_of_its_runs():
    x = mf.Input("x")
    graph = mf.Graph(ops.Exp(x) * x)
    program = ReferenceEngine().compile(graph)
    memories = []
    for fed in (1.0, 2.0):
        memory = program.new_memory(None, False)
        memory[graph.position(x)] = np.float64(fed)
        program.forward(memory)
        memories.append(memory)

    end, start = len(graph) - 1, graph.position(x)
    slopes = [
        program.gradients(program.backward(memory, end, [start], np.float64(1)), [start])[0]
        for memory in memories
    ]

    np.testing.assert_allclose(slopes, [2 * np.e, 3 * np.exp(2.0)])
    np.testing.assert_allclose([m[end] for m in memories], [np.e, 2 * np.exp(2.0)])


def test_an_engine_of_one_s_own_runs_sessions():
    class Shouting(ReferenceEngine):
        name = "shouting"
        compiled = 0

        def compile(self, graph):
            type(self).compiled += 1
            return super().compile(graph)

    class Plugin:
        @mf.hookimpl
        def mf_engines(self):
            return [Shouting]

    with mf.registry.using(mf.Registry(autoload=False)) as registry:
        registry.register(Plugin(), "loud")
        x = mf.Input("x")
        run = mf.Session(x, engine="shouting").run({x: 1.0})

    assert run.engine == "shouting"
    assert Shouting.compiled == 1


def test_an_engine_must_implement_compile():
    class Lazy(mf.Engine):
        name = "lazy"

    with pytest.raises(TypeError, match="compile"):
        Lazy()


def test_the_whole_of_a_network_against_the_textbook():
    generator = np.random.default_rng(0)
    A, Y = generator.normal(size=(5, 3)), generator.normal(size=(5, 2))
    W1, b1 = generator.normal(size=(3, 4)), generator.normal(size=4)
    W2, b2 = generator.normal(size=(4, 2)), generator.normal(size=2)
    X, y = mf.Input("X"), mf.Input("y")
    p = [mf.Parameter(value) for value in (W1, b1, W2, b2)]
    run = mf.Session(MSE(y, Linear(Sigmoid(Linear(X, p[0], p[1])), p[2], p[3]))).run({X: A, y: Y})

    S = 1 / (1 + np.exp(-(A @ W1 + b1)))
    E = S @ W2 + b2 - Y
    G = 2 * E / E.size
    H = G @ W2.T * S * (1 - S)
    for node, expected in zip(p, (A.T @ H, H.sum(0), S.T @ G, G.sum(0)), strict=True):
        np.testing.assert_allclose(run.gradients[node], expected)
    np.testing.assert_allclose(run.gradients[X], H @ W1.T)
    np.testing.assert_allclose(run.gradients[y], -G)
