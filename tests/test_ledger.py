"""The ledger of a gradient: who sent what, why, and how it adds up."""

from __future__ import annotations

import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from random_graphs import random_graphs

import mfcore as mf
from mfcore.errors import GradientError, NotDifferentiableError, UnknownNodeError
from mfops_basic import Add, Mul
from mfops_nn import MSE, CrossEntropy, Dropout, Linear, Sigmoid
from mfoptim import SGD
from mftrace import explain
from mftrace.derivative import Derivative, derivative, meaning

GOLDEN = Path(__file__).parent / "golden"


def sum_times_z():
    x, y, z = mf.Input("x"), mf.Input("y"), mf.Input("z")
    return mf.Session(Mul(Add(x, y), z)).run({x: -2, y: 5, z: -4}), "x"


def one_layer():
    X, y, W1, b = mf.Input("X"), mf.Input("y"), mf.Input("W1"), mf.Input("b")
    cost = MSE(y, Sigmoid(Linear(X, W1, b)))
    feeds = {X: [[-1.0, -2.0], [-1.0, -2.0]], W1: [[2.0], [3.0]], b: [-3.0], y: [1, 2]}
    return mf.Session(cost, engine="reference").run(feeds), "W1"


def fan_out():
    x, y, z = mf.Input("x"), mf.Input("y"), mf.Input("z")
    f = Add(Mul(x, y), Mul(x, z))
    return mf.Session(f, engine="reference").run({x: 2.0, y: 3.0, z: 4.0}), "x"


def same_node_twice():
    x = mf.Input("x")
    return mf.Session(Mul(x, x) + x, engine="reference").run({x: 3.0}), "x"


def broadcast():
    X, b = mf.Input("X"), mf.Parameter([1.0, 2.0], name="b")
    run = mf.Session(np.sum((X + b) * b), engine="reference").run({X: [[1.0, 2.0], [3.0, 4.0]]})
    return run, b


EXAMPLES = [sum_times_z, one_layer, fan_out, same_node_twice, broadcast]


def total(ledger):
    """The contributions, added up as they came."""
    sent = [contribution.gradient for contribution in ledger.contributions]
    return sum(sent[1:], start=sent[0])


def same_bits(one, other):
    return np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.__name__)
def test_prints_exactly_the_golden_text(example):
    run, node = example()

    text = str(explain(run, node))

    path = GOLDEN / f"explain_{example.__name__}.txt"
    assert f"{text}\n" == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("example", EXAMPLES[1:], ids=lambda example: example.__name__)
def test_contributions_add_up_to_the_gradient_of_every_node(example):
    run, _ = example()
    graph = run.session.graph
    for node in graph:
        if isinstance(node, mf.Constant):
            continue
        ledger = explain(run, node)
        assert same_bits(ledger.gradient, run.gradients[node])
        for account in ledger.accounts:
            assert same_bits(account.sums[-1], account.gradient)
            assert same_bits(account.gradient, run.gradients[account.name])
        if ledger.accounts:
            assert same_bits(total(ledger), ledger.gradient)
            assert ledger.accounts[0].name == graph.name(graph.outputs[0])
            assert ledger.accounts[-1].name == graph.name(node)


def network(engine):
    X, y = mf.Input("X"), mf.Input("y")
    rng = np.random.default_rng(0)
    W1, b1 = mf.Parameter(rng.normal(size=(3, 4)), name="W1"), mf.Parameter(np.zeros(4), name="b1")
    W2, b2 = mf.Parameter(rng.normal(size=(4, 1)), name="W2"), mf.Parameter(np.zeros(1), name="b2")
    cost = MSE(y, Linear(Sigmoid(Linear(X, W1, b1)), W2, b2))
    return mf.Session(cost, engine=engine), {X: rng.normal(size=(5, 3)), y: rng.normal(size=(5, 1))}


@pytest.mark.parametrize(
    ("engine", "node"),
    [
        *(("reference", node) for node in ("W1", "b1", "X", "sigmoid_1")),
        *(("numpy", node) for node in ("W1", "b1", "X", "sigmoid_1")),
        ("numba", "W1"),
    ],
)
def test_every_engine_is_explained(engine, node, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIFLOW_CACHE_DIR", str(tmp_path))
    session, feeds = network(engine)
    run = session.run(feeds)
    theirs = np.array(run.gradients[node])

    ledger = explain(run, node)

    np.testing.assert_allclose(total(ledger), theirs, rtol=1e-12)
    assert same_bits(total(ledger), ledger.gradient)
    assert bool(ledger.note) == (engine != "reference")
    assert same_bits(run.gradients[node], theirs)


def test_scalars_of_the_tape_are_explained():
    x, w = mf.Input("x"), mf.Parameter(3.0, name="w")
    run = mf.Session(x * w + w).run({x: 2.0})

    ledger = explain(run, w)

    assert [c.sender for c in ledger.contributions] == ["add_1", "mul_1"]
    assert float(ledger.gradient) == float(run.gradients[w]) == 3.0


def test_explaining_changes_nothing_and_is_heard_by_nobody():
    session, feeds = network("reference")
    run = session.run(feeds)
    heard = []

    class Listener:
        @mf.hookimpl
        def mf_backward_start(self, node):
            heard.append(node)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with mf.tracing(Listener()):
            explain(run, "W1")

    assert heard == []
    assert run.computed_gradients is None
    assert session.step(feeds, SGD(learning_rate=0.1)) == float(run["mse_1"])


def test_the_gradient_explained_is_that_of_the_last_backward():
    x = mf.Input("x")
    square, cube = x * x, x * x * x
    run = mf.Session([square, cube]).run({x: [1.0, 2.0]})

    with pytest.raises(GradientError, match="2 outputs"):
        explain(run, x)
    run.backward(cube, wrt=[x], grad=[1.0, 10.0])
    ledger = explain(run, x)

    assert ledger.of == run.session.graph.name(cube)
    assert ledger.gradient.tolist() == run.gradients[x].tolist() == [3.0, 120.0]
    other = explain(run, x, of=square, grad=[1.0, 1.0])
    assert (other.of, other.gradient.tolist()) == (run.session.graph.name(square), [2.0, 4.0])
    assert run.gradients.of is cube


def test_the_node_itself_got_the_seed():
    run, _ = fan_out()
    ledger = explain(run, "add_1")
    assert [(c.sender, float(c.gradient)) for c in ledger.contributions] == [("", 1.0)]
    assert "gradient of add_1 = the seed" in str(ledger)


@pytest.mark.parametrize("kind", ["unrelated", "comparison", "classes", "no path back"])
def test_where_no_gradient_reaches_that_is_said(kind):
    x, y = mf.Input("x"), mf.Input("y")
    if kind == "unrelated":
        outputs = [x * 2.0, y * 3.0]
        reason = "mul_1 does not depend on y"
    elif kind == "comparison":
        outputs = [np.greater(y, 0.0) * x]
        reason = "mul_1 depends on y, but no gradient gets there: greater_1 (Greater) passes none"
    elif kind == "classes":
        outputs = [CrossEntropy(np.reshape(y, (1,)), np.stack([x, x]).reshape(1, 2))]
        reason = "cross_entropy_1 (CrossEntropy) passes none to targets"
    else:
        outputs = [x * 2.0 + 0.0 * np.sign(y)]
        reason = "sign_1 (Sign) passes none to x"
    run = mf.Session(outputs, engine="reference").run({x: 1.0, y: 1})

    ledger = explain(run, y, of=outputs[0])

    assert reason in str(ledger)
    assert ledger.reason in ledger._repr_html_()
    assert ledger.accounts == ledger.contributions == ()
    assert float(ledger.gradient) == 0.0
    assert float(run.backward(outputs[0], wrt=[y])[y]) == 0.0


def test_what_has_no_gradient_is_an_error():
    x = mf.Input("x")

    @mf.operation
    class Opaque(mf.Node):
        x: mf.Node

        @staticmethod
        def forward(x):
            return x * 1

    constant = mf.Constant(2.0, name="two")
    run = mf.Session(Opaque(x) * constant).run({x: 1.0})
    with pytest.raises(NotDifferentiableError, match="opaque_1"):
        explain(run, x)
    with pytest.raises(GradientError, match="two .* is a constant"):
        explain(run, constant)
    with pytest.raises(UnknownNodeError):
        explain(run, "nothing")
    with pytest.raises(UnknownNodeError):
        explain(run, mf.Input("other"))


def test_broadcasting_is_a_step_of_its_own():
    x, y = mf.Input("x"), mf.Input("y")
    run = mf.Session((x * y).sum(), engine="reference").run(
        {x: np.ones((2, 1)), y: np.arange(12.0).reshape(2, 2, 3)}
    )

    (contribution,) = explain(run, x).contributions

    assert (contribution.sum_of, contribution.axes) == ((2, 2, 3), (0, 2))
    assert "summed over axes 0, 2, along which x was repeated: (2, 2, 3) to (2, 1)" in str(
        explain(run, x)
    )
    assert explain(run, y).contributions[0].sum_of is None


def test_what_was_drawn_is_explained():
    x = mf.Input("x")
    session = mf.Session(Dropout(x, rate=0.5).sum(), engine="reference", seed=0)
    run = session.run({x: np.ones(6)}, training=True)
    state = session.rng.bit_generator.state

    ledger = explain(run, x)

    assert same_bits(ledger.gradient, run.gradients[x])
    assert ledger.contributions[0].derivative.formula == "grad if saved is None else grad * saved"
    assert session.rng.bit_generator.state == state


@given(drawn=random_graphs(nodes=8))
@settings(max_examples=40)
def test_ledgers_of_random_graphs_add_up(drawn):
    with np.errstate(all="ignore"):
        run = mf.Session(drawn.graph, engine="reference").run(drawn.feeds)
        gradients = run.backward(drawn.cost, wrt=drawn.leaves)
        for leaf in drawn.leaves:
            if isinstance(leaf, mf.Constant):
                continue
            ledger = explain(run, leaf)
            assert same_bits(ledger.gradient, gradients[leaf])
            if ledger.accounts:
                assert same_bits(total(ledger), ledger.gradient)
            else:
                assert not np.any(gradients[leaf])
            assert str(ledger)
            assert ledger._repr_html_()


# Many nodes


def chain(length):
    x = mf.Input("x")
    node = x
    for _ in range(length):
        node = np.tanh(node)
    return mf.Session(node, engine="reference").run({x: 0.5})


def test_a_long_chain_is_folded():
    ledger = explain(chain(5000), "x")

    text = str(ledger)

    assert len(ledger.accounts) == 5001
    assert "... 4989 nodes between, all in ledger.text(None)" in text
    assert "* (4988 more)" in text
    assert len(text.splitlines()) < 100
    assert "d tanh_2500/d tanh_2499" in ledger.text(None)
    assert "&hellip; 4989 nodes between" in ledger._repr_html_()


def test_many_paths_are_sums_over_consumers():
    x = mf.Input("x")
    node = x
    for _ in range(100):  # 2 ** 100 paths
        node = node * node
    run = mf.Session(node, engine="reference").run({x: 1.0})

    text = str(explain(run, x))

    assert (
        "gradient of x = (gradient of mul_1) * d mul_1/d x as factors[0]\n"
        "                + (gradient of mul_1) * d mul_1/d x as factors[1]\n"
        "  gradient of mul_1 = (gradient of mul_2) * d mul_2/d mul_1 as factors[0]\n"
    ) in text
    assert "... and so on for 88 more nodes up to mul_100" in text
    assert len(text.splitlines()) < 200


# Formulas


@pytest.mark.parametrize(
    ("name", "k", "formula", "where"),
    [
        ("mfops_nn.Linear", 1, "X.T.dot(grad)", ()),
        ("mfops_nn.Sigmoid", 0, "grad * (value * (1.0 - value))", ()),
        ("mfops_basic.Add", 3, "grad", ()),
        ("mfops_basic.Divide", 1, "-share * value", ("share = grad / y",)),
        ("mfops_basic.Subtract", 1, "-grad", ()),
        (
            "mfops_nn.MSE",
            1,
            "(saved * -scale).reshape(a.shape)",
            ("scale = grad * (2 / max(y.size, 1))",),
        ),
        ("mfops_basic.OneHot", 0, "", ()),
    ],
)
def test_the_derivative_is_read_from_backward(name, k, formula, where):
    operation = mf.registry.current().operation(name)
    assert derivative(operation, k) == Derivative(formula, where)


@mf.operation
class Bend(mf.Node):
    """A slope that depends on ``sharp``.

    More of it.
    """

    x: mf.Node
    sharp: bool = False

    @staticmethod
    def forward(x, sharp):
        return x * 3.0 if sharp else x * 2.0

    @staticmethod
    def backward(grad, sharp):
        if sharp:
            slope = 3.0
            return (grad * slope,)
        factors = [2.0 for _ in range(1)]
        return (grad * factors[0],)


def test_of_several_formulas_the_one_that_holds_is_shown():
    assert derivative(Bend, 0) == Derivative(
        "grad * slope or grad * factors[0]", ("slope = 3.0", "factors = [2.0 for _ in range(1)]")
    )
    assert derivative(Bend, 0, {"grad": 1.0, "sharp": True}) == Derivative(
        "grad * slope", ("slope = 3.0",)
    )
    assert derivative(Bend, 0, {"grad": 1.0, "sharp": False}).formula == "grad * factors[0]"
    assert meaning(Bend) == "A slope that depends on sharp."


def test_operations_without_source_are_explained_without_formula():
    namespace = {"mf": mf, "__name__": "elsewhere"}
    source = (
        "@mf.operation\nclass Twice(mf.Node):\n    x: 'mf.Node'\n"
        "    forward = staticmethod(lambda x: x * 2)\n"
        "    backward = staticmethod(lambda grad: (grad * 2,))\n"
    )
    exec(source, namespace)
    x = mf.Input("x")
    run = mf.Session(namespace["Twice"](x)).run({x: 1.5})

    ledger = explain(run, x)

    assert ledger.contributions[0].derivative == Derivative()
    assert "from twice_1 for x  2" in str(ledger)


# HTML


class Checker(HTMLParser):
    """Checks that tags close in order; collects the names of tags and the text."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], set(), ""

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.__name__)
def test_the_html_is_well_formed_and_says_the_same(example):
    run, node = example()
    ledger = explain(run, node)
    checker = Checker()

    checker.feed(ledger._repr_html_())

    assert checker.open == []
    for account in ledger.accounts:
        assert account.meaning in checker.text
        for contribution in account.contributions:
            assert contribution.derivative.formula in checker.text


def test_names_are_escaped():
    x = mf.Input("<script>alert(1)</script>")
    run = mf.Session(np.tanh(x * 2.0)).run({x: 1.0})
    checker = Checker()

    checker.feed(explain(run, x)._repr_html_())

    assert "script" not in checker.tags
    assert "<script>alert(1)</script>" in checker.text
    assert checker.open == []


def test_the_page_says_what_its_programs_print(page_of_programs):
    blocks = page_of_programs("docs/ledger.md")

    assert len(blocks) == 5
    assert [printed for printed, _ in blocks] == [said for _, said in blocks]
