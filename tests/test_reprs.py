"""What notebooks show of nodes, graphs, runs, gradients, sessions and histories."""

from __future__ import annotations

import math
import re
import sys
from html.parser import HTMLParser
from types import ModuleType, SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

import mfcore as mf
from mfcore.html import ROWS, table, value_text
from mfops_basic import Add
from mfops_nn import MSE, Dropout, Linear, Sigmoid
from mfoptim import SGD, History, Stopped, fit

HOSTILE = "<script>alert('1')</script> & \"x\""


class Page(HTMLParser):
    """Reads HTML: its tags, its text, and whether each tag was closed in order."""

    VOID = frozenset(["br", "hr", "img", "input"])

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.words, self.open = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def network(name="W1"):
    X, y = mf.Input("X", shape=(None, 2)), mf.Input("y")
    W, b = mf.Parameter([[2.0], [3.0]], name=name), mf.Parameter([-3.0], name="b")
    cost = MSE(y, Sigmoid(Linear(X, W, b)))
    return cost, {X: [[-1.0, -2.0], [-1.0, -2.0]], y: [1.0, 2.0]}


def history(loss=(4.0, 2.0, 1.0), validation=(), problems=()):
    session = mf.Session(mf.Parameter(np.zeros(1)))
    stopped = Stopped("finished", len(loss), f"Finished after {len(loss)} epochs.")
    seconds = [0.123456] * len(loss)
    return History(session, list(loss), list(validation), seconds, 7, stopped, list(problems))


def test_a_node_tells_what_it_is_and_where_it_was_built():
    X = mf.Input("X", shape=(None, 2))
    node = Linear(X, mf.Parameter(np.ones((2, 3)), name="W"), np.zeros(3), name="layer")

    page = Page(node._repr_html_())

    assert "layer = Linear" in page.text
    assert "pack mfops_nn" in page.text
    assert "shape (any, 3)" in page.text
    assert "meaning Affine map of a batch of rows, X @ W + b." in page.text
    assert "dtype float64" in page.text
    assert "X: X Input W: W Parameter b: a Constant" in page.text
    assert f"{__file__}:{node.site[1]}" in page.text


def test_a_node_built_in_a_notebook_tells_its_cell(monkeypatch):
    ours = {__file__: ("Cell", "In[3]")}
    package = ModuleType("IPython")
    package.get_ipython = lambda: SimpleNamespace(
        compile=SimpleNamespace(format_code_name=ours.get)
    )
    monkeypatch.setitem(sys.modules, "IPython", package)

    x = mf.Input("x")

    assert f"built at Cell In[3], line {x.site[1]}" in Page(x._repr_html_()).text
    ours.clear()
    assert f"built at {__file__}:{x.site[1]}" in Page(x._repr_html_()).text


def test_a_node_tells_its_hyperparameters():
    page = Page(Dropout(mf.Input("x"), rate=0.25)._repr_html_())

    assert "rate 0.25" in page.text
    assert "name given by each graph" in page.text
    assert "shape any" in page.text


def test_a_leaf_tells_its_value():
    assert "initial value [1. 2.]" in Page(mf.Parameter([1, 2], name="W")._repr_html_()).text
    assert "value 2.5" in Page(mf.Constant(2.5)._repr_html_()).text
    assert "shape (any, 4) dtype float32" in (
        Page(mf.Input("X", shape=(None, 4), dtype="float32")._repr_html_()).text
    )


def test_a_node_of_many_inputs_lists_the_first():
    total = Add(*[mf.Input(f"x{i}") for i in range(100)])

    assert "and 88 more" in Page(total._repr_html_()).text


def test_a_graph_is_its_picture_where_a_pack_draws_and_a_table_elsewhere(core_registry):
    graph = mf.Graph(network()[0])

    assert graph._repr_html_() is None
    assert graph._repr_svg_().startswith("<svg")
    with mf.registry.using(core_registry):
        page = Page(graph._repr_html_())
    assert "Graph of 7 nodes, up to mse_1" in page.text
    assert "5 linear_1 Linear(X, W1, b) (any, 1)" in page.text


def test_a_run_tells_outputs_engine_and_gradients():
    cost, feeds = network()
    run = mf.Session(cost, engine="reference").run(feeds)

    before = Page(run._repr_html_())
    run.backward()
    after = Page(run._repr_html_())

    assert "mse_1 MSE(y, sigmoid_1) float64[] 2.49995" in before.text
    assert "engine reference" in before.text
    assert "gradients of" not in before.text
    assert "gradients of mse_1 with respect to W1, b" in after.text
    assert before.tags.count("svg") == 1


def test_a_run_tells_why_its_engine_was_chosen():
    cost, feeds = network()
    run = mf.Session(cost, engine="auto").run(feeds)

    assert run.engine.reason
    assert f"engine {run.engine}: {run.engine.reason}" in Page(run._repr_html_()).text


def test_a_run_of_several_outputs_has_a_row_for_each():
    x = mf.Input("x")
    run = mf.Session([x + 1, x * 2]).run({x: np.arange(3)})

    page = Page(run._repr_html_())

    assert "add_1 Add(x, constant_1) int64[3] [1 2 3]" in page.text
    assert "mul_1 Mul(x, constant_2) int64[3] [0 2 4]" in page.text


def test_gradients_tell_shapes_and_norms():
    cost, feeds = network()
    run = mf.Session(cost).run(feeds)

    page = Page(run.gradients._repr_html_())

    assert "Gradients of mse_1" in page.text
    assert "W1 float64[2, 1] 0.000112033" in page.text
    assert "b float64[1] 5.01029e-05 [-5.010287e-05]" in page.text


def test_a_run_as_text_names_engine_and_graph():
    x = mf.Input("x")

    run = mf.Session(x + 1, engine="reference").run({x: 2})

    assert repr(run) == "<Run on 'reference' of <Graph of 3 nodes, outputs add_1>>"


def test_showing_a_run_computes_nothing_new():
    cost, feeds = network()
    run = mf.Session(cost).run(feeds)

    run._repr_html_()

    assert run.computed_gradients is None


def test_a_session_tells_its_parameters_as_they_are_now():
    cost, feeds = network()
    session = mf.Session(cost, engine="reference")
    session.step(feeds, SGD(0.5))
    session["b"] = [7.5]

    page = Page(session._repr_html_())

    assert "engine reference" in page.text
    assert "training steps done 1" in page.text
    assert "trained numbers 3" in page.text
    assert "b float64[1] [7.5]" in page.text
    assert "inputs y: any X: (any, 2)" in page.text


def test_a_history_tells_how_it_ended_and_draws_its_losses():
    page = Page(history((4.0, 2.0, 1.0), (5.0, 3.0, 2.5), ["X, column 3: 2 NaN"])._repr_html_())

    assert "Finished after 3 epochs." in page.text
    assert "problems X, column 3: 2 NaN" in page.text
    assert "epoch loss validation loss 1 4 5 2 2 3 3 1 2.5" in page.text
    assert page.tags.count("polyline") == 2


def test_a_history_shows_nothing_that_differs_from_one_run_to_the_next():
    assert "0.123" not in history()._repr_html_()


def test_a_fitted_history_is_shown():
    cost, feeds = network()

    page = Page(fit(cost, feeds, SGD(0.1), epochs=30, seed=0)._repr_html_())

    assert "History of 30 epochs" in page.text
    assert "steps 30" in page.text


def curve(shown):
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", shown._repr_html_()).group())


def points(shown):
    return [
        [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        for line in curve(shown).iter("{http://www.w3.org/2000/svg}polyline")
    ]


def test_the_curve_falls_as_the_loss_does():
    (line,) = points(history((4.0, 3.0, 1.0)))
    (first, middle, last) = line

    assert first[0] < middle[0] < last[0]
    assert first[1] < middle[1] < last[1]  # down the page
    assert middle[1] - first[1] == pytest.approx((last[1] - first[1]) / 3, abs=0.1)


def test_losses_over_decades_are_drawn_on_a_logarithmic_axis():
    (line,) = points(history((100.0, 10.0, 1.0)))

    assert line[1][1] - line[0][1] == pytest.approx(line[2][1] - line[1][1], abs=0.11)
    assert "loss (logarithmic)" in Page(history((100.0, 10.0, 1.0))._repr_html_()).text


def test_a_long_history_is_thinned_to_what_can_be_told_apart():
    (line,) = points(history(np.linspace(5, 1, 100_000)))

    assert len(line) <= 401
    assert line[-1][0] == 420 - 12


@pytest.mark.parametrize(
    ("loss", "lines"),
    [
        ((3.0, 2.0, math.nan, 1.0, 0.5), 2),
        ((1.0, math.inf), 0),
        ((math.nan, math.nan), 0),
        ((2.0,), 0),
        ((2.0, 2.0), 1),
        ((0.0, 0.0), 1),
        ((-1.7e308, 1.7e308), 1),
        ((1e-320, 1e300), 1),
    ],
)
def test_losses_that_are_hard_to_draw(loss, lines):
    html = history(loss)._repr_html_()

    assert html.count("<polyline") == lines
    assert not re.search(r'points="[^"]*(nan|inf)', html)
    assert html.count("<circle") == (loss in [(2.0,), (1.0, math.inf)])


def test_a_history_without_epochs_is_shown():
    assert "Finished after 0 epochs." in Page(history(())._repr_html_()).text


def test_a_figure_of_a_history_shows_itself():
    assert history().plot()._repr_png_().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    "shown",
    [
        lambda cost, feeds: cost.a.x.W,
        lambda cost, feeds: Sigmoid(cost.a.x.W, name=HOSTILE),
        lambda cost, feeds: Add(cost.a.x.W, 1.0),
        lambda cost, feeds: mf.Session(cost),
        lambda cost, feeds: mf.Session(cost.a.x.W).run({}),
        lambda cost, feeds: mf.Session(cost).run(feeds),
        lambda cost, feeds: mf.Session(cost).run(feeds).gradients,
    ],
    ids=["leaf", "operation", "reader", "session", "run of it", "run", "gradients"],
)
def test_names_are_escaped(shown):
    page = Page(shown(*network(HOSTILE))._repr_html_())

    assert "script" not in page.tags
    assert HOSTILE in page.text


def test_names_are_escaped_in_the_table_of_a_graph(core_packs):
    page = Page(mf.Graph(network(HOSTILE)[0])._repr_html_())

    assert "script" not in page.tags
    assert HOSTILE in page.text


def test_messages_of_a_history_are_escaped():
    shown = history(problems=[HOSTILE])
    object.__setattr__(shown.stopped, "message", HOSTILE)

    page = Page(shown._repr_html_())

    assert "script" not in page.tags
    assert page.text.count(HOSTILE) == 2


def test_hyperparameters_are_escaped_and_cut():
    @mf.operation
    class Labelled(mf.Node):
        """Its input."""

        x: mf.Node
        label: str = mf.hyperparameter()

        @staticmethod
        def forward(x, label):
            return x + 0

    page = Page(Labelled(mf.Input("x"), label=HOSTILE + "z" * 1000)._repr_html_())

    assert "script" not in page.tags
    assert "<script>" in page.text
    assert "z" * 201 not in page.text


def test_tables_are_bounded():
    page = Page(table(("a",), ([str(i)] for i in range(ROWS + 7)), ROWS + 7))

    assert page.tags.count("tr") == ROWS + 1
    assert "and 7 more" in page.text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (2.5, "2.5"),
        (np.arange(3), "[0 1 2]"),
        (np.arange(100.0), "min 0, max 99, mean 49.5"),
        (np.array([np.nan, np.inf, *range(20)]), "min 0, max 19, mean 9.5, 2 not finite"),
        (np.full(20, np.nan), "20 not finite"),
        (np.zeros((0, 3)), "[]"),
        (np.full(100, 1e308), "min 1e+308, max 1e+308, mean inf"),
    ],
)
def test_values_are_told_in_full_or_in_summary(value, said):
    assert value_text(value) == said


def test_a_recording_tells_what_it_holds():
    cost, feeds = network(HOSTILE)
    with mf.tracing("record") as tracer:
        mf.Session(cost.a.x.W).run({})
        session = mf.Session(cost)
        for _ in range(3):
            session.step(feeds, SGD(0.5))

    page = Page(tracer.recording._repr_html_())

    assert "passes 7 training steps 3 loss 2.49995 to" in page.text
    assert "1 7 mse_1 Linear, MSE, Sigmoid" in page.text
    assert "script" not in page.tags
    assert HOSTILE in page.text


def test_a_recording_of_nothing_is_shown():
    with mf.tracing("record") as tracer:
        pass

    assert "passes 0" in Page(tracer.recording._repr_html_()).text
