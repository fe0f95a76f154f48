"""Layouts: nothing overlaps, edges go down past boxes, and few cross."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from mfcore.errors import DrawingError
from mftrace.draw import layout as layout_module
from mftrace.draw.coordinates import separated
from mftrace.draw.layout import GAP, Extent, lay_out
from mftrace.draw.ordering import crossings, reduce_crossings


@st.composite
def dags(draw):
    count = draw(st.integers(1, 24))
    size = st.floats(5, 80)
    extents = []
    for _ in range(count):
        left, right, above, more = (draw(size) for _ in range(4))
        extents.append(Extent(left, right, above, above + more - 5))
    links = sorted(
        {
            (min(a, b), max(a, b))
            for a, b in draw(
                st.lists(
                    st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=60
                )
            )
            if a != b
        }
    )
    return extents, links


def laid_out(extents, links):
    return lay_out(extents, links, [1.0] * len(links), range(len(extents)))


@given(dags())
def test_boxes_do_not_overlap_and_lie_within_the_picture(dag):
    extents, links = dag
    layout = laid_out(extents, links)

    boxes = [
        (x - e.left, x + e.right, y - e.above, y + e.below)
        for (x, y), e in zip(layout.centres, extents)
    ]
    for i, (left, right, top, bottom) in enumerate(boxes):
        assert left >= 0
        assert top >= 0
        assert right <= layout.width
        assert bottom <= layout.height
        for other in boxes[:i]:
            apart = left >= other[1] - 1e-6 or other[0] >= right - 1e-6
            assert apart or top >= other[3] - 1e-6 or other[2] >= bottom - 1e-6


@given(dags())
def test_every_edge_goes_down_from_its_source_to_its_target_and_through_no_other_box(dag):
    extents, links = dag
    layout = laid_out(extents, links)

    for (source, target), strokes in zip(links, layout.edges):
        (x, y), (end_x, end_y) = layout.centres[source], layout.centres[target]
        assert (strokes[0].x, strokes[0].top) == (x, y + extents[source].above)
        assert strokes[-1].bottom == end_y - extents[target].above
        assert abs(strokes[-1].x - end_x) <= max(extents[target].left, extents[target].right)
        heights = [height for stroke in strokes for height in (stroke.top, stroke.bottom)]
        assert heights == sorted(heights)
        for stroke in strokes[1:-1]:
            for box, ((x, y), extent) in enumerate(zip(layout.centres, extents)):
                beside = stroke.x <= x - extent.left or stroke.x >= x + extent.right
                level = stroke.top < y + extent.below and y - extent.above < stroke.bottom
                assert beside or not level, box


@given(dags())
def test_the_same_boxes_are_always_laid_out_the_same_way(dag):
    assert laid_out(*dag) == laid_out(*dag)


def test_no_boxes_at_all_have_a_layout():
    assert laid_out([], []).edges == []


def test_a_chain_is_straight():
    extents = [Extent(20 + i, 20 + i, 10, 10) for i in range(6)]
    layout = laid_out(extents, [(i, i + 1) for i in range(5)])

    assert len({round(x, 6) for x, _ in layout.centres}) == 1
    assert all(
        stroke.x == pytest.approx(layout.centres[0][0]) for e in layout.edges for stroke in e
    )


def test_a_leaf_is_put_just_above_its_reader():
    # 0 -> 1 -> 2 -> 3, and 4 -> 3: the leaf 4 could be anywhere above 3.
    layout = laid_out([Extent(10, 10, 10, 10)] * 5, [(0, 1), (1, 2), (2, 3), (4, 3)])

    assert layout.centres[4][1] == layout.centres[2][1]


def test_a_long_edge_is_straight_on_its_way():
    links = [(i, i + 1) for i in range(9)] + [(0, 9)]
    layout = laid_out([Extent(30, 30, 10, 10)] * 10, links)

    assert len({stroke.x for stroke in layout.edges[-1][1:-1]}) == 1


@pytest.mark.parametrize("width", [2, 5, 9])
def test_edges_to_mirrored_targets_do_not_cross(width):
    links = [(i, 2 * width - 1 - i) for i in range(width)]
    layout = laid_out([Extent(10, 10, 10, 10)] * (2 * width), links)

    sources = [layout.centres[source][0] for source, _ in links]
    targets = [layout.centres[target][0] for _, target in links]
    assert np.argsort(sources).tolist() == np.argsort(targets).tolist()


@given(st.permutations(range(12)), st.integers(2, 4))
def test_a_scrambled_tree_is_drawn_without_crossings(names, branches):
    edges = [((i - 1) // branches, i) for i in range(1, 12)]
    # Names are given so that sources come before targets, as in any graph's order.
    parents = {child: parent for parent, child in edges}
    depth = {0: 0}
    for child in range(1, 12):
        depth[child] = depth[parents[child]] + 1
    rows = [[n for n in names if depth[n] == d] for d in range(max(depth.values()) + 1)]
    down = [[(b, 1.0) for a, b in edges if a == n] for n in range(12)]
    up = [[(a, 1.0) for a, b in edges if b == n] for n in range(12)]

    ordered = reduce_crossings(rows, up, down)

    assert crossings(ordered, down, places(ordered, 12)) == 0
    assert [sorted(row) for row in ordered] == [sorted(row) for row in rows]


def places(rows, count):
    place = [0.0] * count
    for row in rows:
        for i, point in enumerate(row):
            place[point] = float(i)
    return place


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(6, 11)), unique=True))
def test_crossings_are_counted_and_never_become_more(edges):
    rows = [list(range(6)), list(range(6, 12))]
    down = [[(b, 1.0) for a, b in edges if a == n] for n in range(12)]
    up = [[(a, 1.0) for a, b in edges if b == n] for n in range(12)]
    by_pairs = sum((a - c) * (b - d) < 0 for i, (a, b) in enumerate(edges) for c, d in edges[:i])

    ordered = reduce_crossings(rows, up, down)

    assert crossings(rows, down, places(rows, 12)) == by_pairs
    assert crossings(ordered, down, places(ordered, 12)) <= by_pairs


@given(
    st.lists(
        st.tuples(st.floats(-100, 100), st.floats(0.1, 10), st.floats(0, 50)),
        min_size=1,
        max_size=20,
    )
)
def test_positions_are_those_of_isotonic_regression(points):
    wanted, weights, steps = (np.array(column) for column in zip(*points))
    distances = np.cumsum(steps)

    found = np.array(separated(wanted, weights, distances))

    expected = isotonic_regression(wanted - distances, weights=weights).x + distances
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (np.diff(found) >= np.diff(distances) - 1e-6).all()


def test_more_bends_than_anyone_would_wait_for_are_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(layout_module, "MOST_POINTS", 20)
    links = [(i, i + 1) for i in range(14)] + [(0, 14)]

    with pytest.raises(DrawingError, match="15 boxes .* fold=True"):
        laid_out([Extent(10, 10, 10, 10)] * 15, links)


def test_neighbours_keep_their_distance():
    layout = laid_out([Extent(10, 40, 10, 10), Extent(25, 10, 10, 10)], [])
    (first, _), (second, _) = layout.centres

    assert second - first == pytest.approx(40 + GAP + 25)
