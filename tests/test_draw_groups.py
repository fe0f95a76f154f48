"""Folding: equal blocks share a box, whatever is grouped leaves no circle, large graphs become small."""

from __future__ import annotations

from itertools import pairwise

import drawn_graphs as graphs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mfcore as mf
import mfops_basic as ops
from mfcore.errors import DrawingError
from mfops_nn import Dropout, Linear, ReLU
from mftrace.draw.diagram import diagram
from mftrace.draw.groups import MOST, SMALL, grouped
from mftrace.draw.repeats import folded
from mftrace.draw.summary import summarised

pytestmark = pytest.mark.usefixtures("core_packs")


def plain(title):
    return title.replace("\N{MULTIPLICATION SIGN}", "x")


def titles(graph):
    return [plain(box.title) for box in diagram(graph, fold=True).boxes]


def is_partition_without_circles(graph, groups):
    place = {member: g for g, group in enumerate(groups) for member in group.members}
    assert sorted(m for group in groups for m in group.members) == list(range(len(graph)))
    reads = {
        (place[s], place[i])
        for i, sources in enumerate(graph.sources)
        for s in sources
        if place[s] != place[i]
    }
    left = set(range(len(groups)))
    while left:
        ready = {g for g in left if not any(t == g and s in left for s, t in reads)}
        if not ready:
            return False
        left -= ready
    return True


def test_twenty_layers_are_one_box():
    names = ["X", "y", "parameter_41", "parameter_42", "linear_21", "mse_1"]

    assert sorted(titles(graphs.deep())) == sorted(["(Linear - ReLU) x 20", *names])


def test_the_box_says_what_it_stands_for():
    (box,) = (box for box in diagram(graphs.deep()).boxes if box.count > 1)

    assert (box.kind, box.count) == ("block", 80)
    assert box.lines == (
        *("40 operations, 40 parameters", "one after another", "linear_1 … re_lu_20"),
    )
    assert "stands for 80 nodes: 40 operations, 40 parameters" in box.tooltip
    assert box.label == ("float64[?, 4]",)


def test_blocks_with_a_way_around_are_one_box():
    assert "(Linear - ReLU - Linear - Add) x 12" in titles(graphs.residual())


def test_steps_of_a_recurrence_are_one_box_and_their_inputs_another():
    drawn = titles(graphs.recurrent())

    assert sorted(drawn) == sorted(
        ["start", "inputs x 30", *("parameter_1", "parameter_2", "parameter_3"),
         "(MatMul - Linear - Add - Tanh) x 30"]
    )  # fmt: skip


def test_equal_heads_are_one_box_side_by_side():
    drawn = diagram(graphs.heads())
    (box,) = (box for box in drawn.boxes if box.count > 1)

    assert plain(box.title) == "Linear x 50"
    assert "side by side" in box.lines
    assert len(drawn.boxes) == 3


def test_a_gradient_s_graph_folds_forward_and_backward():
    forward = graphs.deep()
    whole = mf.Graph(list(mf.gradient(forward.outputs[0], forward.parameters)))

    assert len(whole) > 250
    assert len(folded(whole)) < 35


def relu_layers(*widths, rates=None):
    node = mf.Input("X", shape=(None, widths[0]))
    for place, (before, after) in enumerate(pairwise(widths)):
        node = ReLU(Linear(node, graphs.parameter(before, after), graphs.parameter(after)))
        if rates:
            node = Dropout(node, rate=rates[place])
    return mf.Graph(node)


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (relu_layers(4, 5, 6, 7, 8), "shapes"),
        (relu_layers(4, 4, 4, 4, rates=[0.1, 0.2, 0.3]), "hyperparameters"),
        (relu_layers(4, 4, 4), "times"),
    ],
)
def test_blocks_that_differ_or_are_only_two_are_not_folded(graph, reason):
    assert len(folded(graph)) == len(graph), reason


def test_equal_hyperparameters_fold_and_arrays_among_them_count():
    node, other = mf.Input("x"), mf.Input("x")
    for place in range(6):
        node = node[np.array([0, 1])]
        other = other[np.array([0, place % 3 // 2])]

    assert "Index x 6" in titles(mf.Graph(node))
    assert "Index x 6" not in titles(mf.Graph(other))


def test_values_of_parameters_and_constants_do_not_count():
    node = mf.Input("x")
    for place in range(10):
        node = node * float(place) + mf.Parameter(float(place))

    assert titles(mf.Graph(node)) == ["x", "(Mul - Add) x 10"]


def test_auto_folds_no_small_graph():
    small, large = graphs.chain(SMALL - 1), graphs.chain(SMALL)

    assert (len(small), len(large)) == (SMALL, SMALL + 1)
    assert len(grouped(small, "auto")) == SMALL
    assert len(grouped(large, "auto")) == len(grouped(small, True)) == 2


def test_false_folds_nothing():
    graph = graphs.chain(1000)

    assert len(grouped(graph, False)) == 1001


@pytest.mark.parametrize("fold", ["yes", None, 3, 1])
def test_another_value_of_fold_is_an_error(fold):
    with pytest.raises(DrawingError, match=r"fold= is True, False or 'auto', not"):
        grouped(graphs.chain(3), fold)


@given(st.integers(5, 60), st.integers(0, 10**6), st.one_of(st.none(), st.integers(2, 6)))
def test_groups_are_a_partition_and_leave_no_circle(count, seed, back):
    graph = graphs.random_scalars(count, seed, back)
    groups = folded(graph)

    assert is_partition_without_circles(graph, groups)
    assert is_partition_without_circles(graph, summarised(graph, groups))


@pytest.mark.parametrize(
    "make", [graphs.deep, graphs.residual, graphs.recurrent, graphs.heads, lambda: graphs.chain(99)]
)
def test_groups_of_repetitive_graphs_are_a_partition_and_leave_no_circle(make):
    graph = make()
    whole = mf.Graph(list(mf.gradient(ops.Sum(graph.outputs[0]), graph.inputs)))

    assert is_partition_without_circles(graph, folded(graph))
    assert is_partition_without_circles(whole, folded(whole))
    assert is_partition_without_circles(whole, summarised(whole, folded(whole)))


def test_a_chain_of_ten_thousand_is_a_few_boxes():
    drawn = diagram(graphs.chain(10_000))

    assert [(plain(box.title), box.count) for box in drawn.boxes] == [
        ("x", 1),
        ("Sin x 10,000", 10_000),
    ]
    assert drawn.title == "Graph of 10,001 nodes in 2 boxes"


@pytest.mark.parametrize("back", [None, 50])
def test_ten_thousand_scalars_are_summarised_and_every_node_is_counted(back):
    graph = graphs.random_scalars(10_000, back=back)
    drawn = diagram(graph)

    assert len(drawn.boxes) < 60 < MOST
    assert sum(box.count for box in drawn.boxes) == len(graph)
    for box in drawn.boxes:
        if box.count > 1:
            assert f"{box.count:,}" in " ".join([box.title, *box.lines])


def test_a_wide_graph_is_summarised_by_depth_and_operation():
    generator = np.random.default_rng(0)
    row = [mf.Input(f"x{i}") for i in range(200)]
    for _ in range(3):
        kinds, a, b = (generator.integers(n, size=200) for n in (2, 200, 200))
        row = [[ops.Add, ops.Mul][k](row[i], row[j]) for k, i, j in zip(kinds, a, b)]
    drawn = diagram(mf.Graph(row))

    names = [box.title.partition(" ")[0] for box in drawn.boxes]
    assert sorted(names) == ["Add"] * 3 + ["Mul"] * 3 + ["inputs"]
