"""Buffers planned by liveness: nothing overlaps that lives together, and no more room than that."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from lowered_programs import programs

from mfjit.builder import Builder
from mfjit.fuse import fuse
from mfjit.ir import REDUCTIONS
from mfjit.layout import layouts
from mfjit.memory import ALIGNMENT, plan


def planned(lowered, **options):
    places = layouts(lowered.values)
    groups = fuse(lowered, places)
    return plan(lowered, groups, places, **options), groups, places


def aligned(nbytes):
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def lifetimes(lowered, groups, places):
    """Return for each buffer the groups that write it first and read it last."""
    first = {value: i for i, group in enumerate(groups) for value in group.outputs}
    last = dict(first)
    for i, group in enumerate(groups):
        for value in group.values:
            for arg in value.args:
                base = places[arg].base
                if base in last:
                    last[base] = max(last[base], i)
    for value in [*lowered.outputs, *(new for _, new in lowered.updates)]:
        base = places[value].base
        if base in last:
            last[base] = len(groups)
    return first, last


def most_live(lowered, groups, places, joined):
    """Return the most bytes that live at once if nothing is written over an operand."""
    first, last = lifetimes(lowered, groups, places)
    for group in reversed(groups):
        if group.kind == "concatenate":  # its room is taken from its first part on
            value = group.values[0]
            parts = [places[arg].base for arg in value.args if places[arg].base in joined]
            first[value] = min([first[value], *(first[part] for part in parts)])
            last[value] = max([last[value], *(last[part] for part in parts)])
    return max(
        (
            sum(aligned(v.nbytes) for v in first if v not in joined and first[v] <= i <= last[v])
            for i in range(len(groups) + 1)
        ),
        default=0,
    )


@settings(max_examples=150)
@given(program=programs())
def test_no_more_room_than_what_lives_at_once(program):
    found, groups, places = planned(program.lowered)
    staged = sum(aligned(leaf.nbytes) for leaf in found.staged)
    assert found.live <= found.size
    assert found.size <= most_live(program.lowered, groups, places, found.joined) + staged


@settings(max_examples=150)
@given(program=programs())
def test_what_lives_together_does_not_overlap(program):
    found, groups, places = planned(program.lowered)
    first, last = lifetimes(program.lowered, groups, places)
    ends = {}
    for value in first:
        place = found.places[value]
        assert place.leaf is not None or place.offset + value.nbytes <= found.size
        ends[value] = place.leaf, place.offset, place.offset + value.nbytes
    for a in first:
        for b in first:
            if a is b or ends[a][0] is not ends[b][0]:
                continue
            apart = ends[a][2] <= ends[b][1] or ends[b][2] <= ends[a][1]
            in_turn = last[a] < first[b] or last[b] < first[a]
            over = found.taken.get(b) is a or found.taken.get(a) is b
            part = a in found.joined or b in found.joined
            assert (
                apart or in_turn or part or (over and (last[a] == first[b] or last[b] == first[a]))
            )


def chain(depth, size=1000):
    b = Builder()
    x = b.input((size,), np.float64)
    row = b.input((4, size), np.float64)
    for _ in range(depth):
        # A matmul between, so that each tanh is a loop of its own.
        x = b.elementwise("tanh", x)
        x = b.reshape(b.matmul(b.reshape(x, (1, size)), b.transpose(row)), (4,))
        x = b.elementwise("add", b.reshape(b.matmul(b.reshape(x, (1, 4)), row), (size,)), 1.0)
    return b.finish([x])


def test_a_chain_takes_the_room_of_one_link_however_long_it_is():
    sizes = [planned(chain(depth))[0].size for depth in (2, 5, 50)]
    assert len(set(sizes)) == 1


def test_an_elementwise_result_takes_over_an_operand_that_dies():
    b = Builder()
    x = b.matmul(b.input((4, 4), np.float64), b.input((4, 4), np.float64))
    y = b.elementwise("exp", x)
    found, _, _ = planned(b.finish([y]))
    assert found.taken[y] is x
    assert found.places[y] == found.places[x] or (found.places[y].offset == found.places[x].offset)
    assert found.size == 4 * 4 * 8


def test_an_operand_that_is_read_elsewhere_too_is_not_overwritten():
    b = Builder()
    x = b.matmul(b.input((4, 4), np.float64), b.input((4, 4), np.float64))
    y = b.elementwise("add", x, b.transpose(x))
    found, _, _ = planned(b.finish([y]))
    assert not found.taken


def test_parts_are_written_into_their_concatenation():
    b = Builder()
    x, y = b.input((2, 3), np.float64), b.input((3, 2), np.float64)
    left, right = b.matmul(x, y), b.matmul(y, x)
    whole = b.concatenate([b.reshape(left, (-1,)), b.reshape(right, (-1,))])
    found, _, _ = planned(b.finish([b.elementwise("exp", whole)]))
    assert found.joined == {left, right}
    assert found.places[right].offset - found.places[left].offset == 4 * 8


def test_one_part_twice_is_written_once():
    b = Builder()
    x = b.elementwise("exp", b.input((3,), np.float64))
    found, _, _ = planned(b.finish([b.concatenate([x, x])]))
    assert found.joined == {x}


def test_an_update_is_written_over_its_leaf():
    b = Builder()
    p, g = b.leaf("parameter", (100,), np.float64), b.input((100,), np.float64)
    new = b.elementwise("subtract", p, g)
    found, _, _ = planned(b.finish([], [(p, new)]))
    assert found.places[new].leaf is p
    assert not found.copies
    assert found.size == 0


def test_a_leaf_is_not_overwritten_while_its_old_contents_are_needed():
    b = Builder()
    p, g = b.leaf("parameter", (100,), np.float64), b.input((100,), np.float64)
    new = b.elementwise("subtract", p, g)
    found, _, _ = planned(b.finish([p], [(p, new)]))  # the old contents are returned
    assert found.places[new].leaf is None
    assert found.copies == [(p, new)]


def test_leaves_that_exchange_contents_are_staged():
    b = Builder()
    p, q = (b.leaf("parameter", (3,), np.float64) for _ in range(2))
    found, _, _ = planned(b.finish([], [(p, q), (q, p)]))
    assert set(found.staged) == {p, q}
    assert found.size == 2 * ALIGNMENT


def test_no_leaf_is_overwritten_before_the_last_instruction_that_can_fail():
    b = Builder()
    p, classes = b.leaf("parameter", (3,), np.float64), b.input((2,), np.int64)
    new = b.elementwise("multiply", p, 2.0)
    rows = b.one_hot(classes, 3, np.float64)
    found, groups, _ = planned(b.finish([rows], [(p, new)]))
    where = {value: i for i, group in enumerate(groups) for value in group.values}
    assert (found.places[new].leaf is p) == (where[new] > where[rows])
    found, groups, _ = planned(b.finish([b.reduce("sum", new, None), rows], [(p, new)]))
    where = {value: i for i, group in enumerate(groups) for value in group.values}
    assert where[new] < where[rows]
    assert found.copies == [(p, new)]


def test_a_value_kept_apart_is_its_own_place():
    b = Builder()
    x = b.elementwise("exp", b.input((10,), np.float64))
    found, _, _ = planned(b.finish([x]), apart=[x])
    assert found.places[x].leaf is x
    assert found.size == 0


def test_reductions_take_nothing_over():
    b = Builder()
    x = b.matmul(b.input((8, 8), np.float64), b.input((8, 8), np.float64))
    total = b.reduce("sum", x, (0,))
    found, _, _ = planned(b.finish([total]))
    assert total.op in REDUCTIONS
    assert not found.taken
