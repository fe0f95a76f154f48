"""Which instructions run in one loop."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from lowered_programs import programs

from mfjit.builder import Builder
from mfjit.fuse import FUSED_REDUCTIONS, fuse
from mfjit.ir import ELEMENTWISE, LEAVES, VIEWS
from mfjit.layout import layouts


def kinds(lowered):
    return [(group.kind, [value.op for value in group.values]) for group in fuse(lowered)]


@settings(max_examples=150)
@given(program=programs())
def test_every_instruction_runs_once_and_after_what_it_reads(program):
    lowered = program.lowered
    places = layouts(lowered.values)
    groups = fuse(lowered, places)
    ran = [value for group in groups for value in group.values]
    computed = [
        value
        for value in lowered.values
        if value.op not in LEAVES and not (value.op in VIEWS and places[value].base is not value)
    ]
    assert len(ran) == len(set(ran))
    assert set(ran) == set(computed)
    done = {value for value in lowered.values if value.op in LEAVES}
    for group in groups:
        inside = set()
        for value in group.values:
            for arg in value.args:
                base = places[arg].base
                complete = base in done
                beside = arg in inside and arg.op in ELEMENTWISE and arg.shape == group.shape
                assert complete or beside
            inside.add(value)
        done |= inside


@settings(max_examples=100)
@given(program=programs())
def test_members_of_a_loop_share_its_index_space(program):
    for group in fuse(program.lowered):
        if group.kind != "loop":
            assert len(group.values) == 1
            continue
        for value in group.values:
            assert value.op in ELEMENTWISE | FUSED_REDUCTIONS
            over = value.args[0].shape if value.op in FUSED_REDUCTIONS else value.shape
            assert over == group.shape


@settings(max_examples=100)
@given(program=programs())
def test_what_is_read_elsewhere_has_a_buffer(program):
    lowered = program.lowered
    places = layouts(lowered.values)
    groups = fuse(lowered, places)
    kept = {value for group in groups for value in group.outputs}
    member = {value: group for group in groups for value in group.values}
    for group in groups:
        for arg in group.reads:
            base = places[arg].base
            assert base in kept or base.op in LEAVES
    for value in [*lowered.outputs, *(new for _, new in lowered.updates)]:
        base = places[value].base
        assert base in kept or base not in member


def test_a_chain_and_the_sum_behind_it_are_one_loop():
    b = Builder()
    x = b.input((5,), np.float64)
    y = b.elementwise("exp", b.elementwise("add", x, 1.0))
    assert kinds(b.finish([b.reduce("sum", y, None)])) == [("loop", ["add", "exp", "sum"])]


def test_a_loop_ends_where_a_sum_is_read():
    b = Builder()
    x = b.input((5,), np.float64)
    share = b.elementwise("divide", x, b.reduce("sum", x, None))
    assert kinds(b.finish([share])) == [("loop", ["sum"]), ("loop", ["divide"])]


def test_a_transposed_operand_is_complete_before_it_is_read():
    b = Builder()
    x = b.elementwise("exp", b.input((3, 3), np.float64))
    y = b.elementwise("add", x, b.transpose(x))
    assert kinds(b.finish([y])) == [("loop", ["exp"]), ("loop", ["add"])]


def test_products_are_steps_of_their_own():
    b = Builder()
    x = b.input((3, 3), np.float64)
    y = b.elementwise("exp", b.matmul(b.elementwise("exp", x), x))
    assert [kind for kind, _ in kinds(b.finish([y]))] == ["loop", "matmul", "loop"]


def test_a_comparison_is_made_where_its_operand_is():
    b = Builder()
    x = b.input((4, 4), np.float64)
    z = b.elementwise("add", x, 1.0)
    h = b.elementwise("maximum", z, 0.0)
    back = b.elementwise("tanh", b.matmul(h, x))
    late = b.elementwise("where", b.elementwise("greater", z, 0.0), back, 0.0)
    found = kinds(b.finish([late]))
    assert found[0] == ("loop", ["add", "maximum", "greater"])
    assert found[2] == ("loop", ["tanh", "where"])


def test_values_between_have_no_buffer():
    b = Builder()
    x = b.input((5,), np.float64)
    y = b.elementwise("add", x, 1.0)
    z = b.elementwise("exp", y)
    (group,) = fuse(b.finish([z]))
    assert group.outputs == [z]
    assert group.reads == [x, y.args[1]]
