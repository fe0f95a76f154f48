"""Domains: what is drawn from them, with hypothesis and without it."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import find, given
from wrong_operations import (
    IsNotDefinedWhereItSays,
    RefusesShapesThatItsDomainAllows,
    WrongBeyondTwo,
)

import mfcore as mf
import mfops_basic
import mfops_nn
from mfcore.domain import (
    Domain,
    axis_of,
    bools,
    integers,
    nonzero,
    one_of,
    positive,
    real,
    shares,
)
from mfcore.errors import DefinitionError
from mfcore.testing import Examination, examine_operation, samples_of
from mfcore.testing.strategies import arrays, samples
from miniflow.cli import main


@pytest.fixture
def without_hypothesis(monkeypatch):
    monkeypatch.setattr("mfcore.testing.search.has_hypothesis", lambda: False)
    monkeypatch.setattr("mfcore.testing.examples.has_hypothesis", lambda: False)


def defined_on(*domains, broadcasts=False, **fields):
    """Return an operation of inputs ``x`` and ``y`` and hyperparameters."""

    class Free(mf.Node):
        x: mf.Node
        y: mf.Node

        domain = domains

        @staticmethod
        def forward(x, y):
            return np.sum(x) + np.sum(y)

    for name, default in fields.items():
        Free.__annotations__[name] = type(default).__name__
        setattr(Free, name, default)
    return mf.operation(broadcasts=broadcasts)(Free)


# What arrays hold


@pytest.mark.parametrize(
    ("values", "law"),
    [
        (positive(), lambda x: x > 0),
        (nonzero(), lambda x: abs(x) > 0.05),
        (real(low=-1, high=1), lambda x: abs(x) < 1),
        (real(low=0, high=0.01), lambda x: (x > 0) & (x < 0.01)),
        (real(low=-100, high=100), lambda x: abs(x) < 100),
        (real(high=-3), lambda x: x < -3),
        (real(avoid=(0.5, 1)), lambda x: (x != 0.5) & (x != 1)),
        (integers(0, 5), lambda x: (x >= 0) & (x < 5)),
        (integers(2), lambda x: x >= 2),
        (integers(below=3), lambda x: x < 3),
        (bools(), lambda x: (x == 0) | (x == 1)),
        (shares(), lambda x: np.isclose(x.sum(axis=-1, keepdims=True), 1) & (x > 0)),
    ],
)
def test_arrays_hold_what_is_asked_for(values, law):
    kind = {"float": np.float64, "integer": np.int64, "bool": np.bool_}[values.kind]

    @given(arrays(values, (2, 3)))
    def test(array):
        assert (array.shape, array.dtype) == ((2, 3), kind)
        assert law(array).all()

    test()


def test_distinct_numbers_are_distinct():
    @given(arrays(real(distinct=True), (3, 4)))
    def test(array):
        assert len(set(array.ravel())) == 12

    test()


def test_what_is_drawn_shrinks_to_whole_numbers_near_zero():
    found = find(arrays(positive(), (3,)), lambda x: x.max() > 2)

    assert found.tolist() == [1.0, 1.0, 3.0]


# How inputs fit together


def test_axes_of_one_name_are_of_one_size():
    @given(samples(defined_on(Domain(x=real("*rows, n"), y=real("n, 2, *rows")))))
    def test(sample):
        x, y = (array.shape for array in sample.inputs)
        assert (y[0], y[1], y[2:]) == (x[-1], 2, x[:-1])

    test()


def test_where_the_operation_does_not_broadcast_other_axes_are_alike():
    @given(samples(defined_on(Domain(y=positive()))))
    def test(sample):
        assert sample.inputs[0].shape == sample.inputs[1].shape

    test()


def test_where_it_broadcasts_they_broadcast():
    stretched = defined_on(Domain(x=real("..., n"), y=real("..., n")), broadcasts=True)

    @given(samples(stretched))
    def test(sample):
        np.broadcast_shapes(*(x.shape for x in sample.inputs))

    test()
    assert find(samples(stretched), lambda s: s.inputs[0].ndim > s.inputs[1].ndim)
    assert find(samples(stretched), lambda s: s.inputs[0].size * 3 == s.inputs[1].size)


def test_inputs_are_kept_apart_where_they_meet():
    apart = defined_on(Domain(x=real(apart_from="y")), broadcasts=True)

    @given(samples(apart))
    def test(sample):
        assert np.all(np.abs(sample.inputs[0] - sample.inputs[1]) > 0.03)

    test()


def test_integers_are_bounded_by_sizes_and_hyperparameters():
    domain = Domain(x=real("n"), y=integers(0, "depth"), depth=integers(1, "n"))

    @given(samples(defined_on(domain, depth=1)))
    def test(sample):
        depth = sample.hyperparameters["depth"]
        assert 1 <= depth < sample.inputs[0].size
        assert (sample.inputs[1] < depth).all()

    test()


def test_integers_may_reach_a_size():
    operation = defined_on(Domain(x=real("n"), k=integers(1, up_to="n")), k=1)

    assert find(samples(operation), lambda s: s.hyperparameters["k"] == s.inputs[0].size == 3)


def test_hyperparameters_are_chosen():
    domain = Domain(x=real("n, m"), axis=axis_of("x"), how=one_of("a", "b"))
    operation = defined_on(domain, axis=0, how="a")

    for axis in (-2, -1, 0, 1):
        assert find(samples(operation), lambda s, axis=axis: s.hyperparameters["axis"] == axis)
    assert find(samples(operation), lambda s: s.hyperparameters["how"] == "b")


def test_each_of_several_domains_is_drawn_from():
    shapes = {tuple(x.ndim for x in s.inputs) for s in samples_of(mfops_basic.MatMul)}

    assert find(samples(mfops_basic.MatMul), lambda s: {x.ndim for x in s.inputs} == {1})
    assert len(shapes) > 2


def test_a_variadic_input_is_drawn_several_times():
    class Several(mf.Node):
        terms: tuple[mf.Node, ...]

        domain = Domain(terms=positive())

        @staticmethod
        def forward(*terms):
            return sum(terms)

    assert find(samples(mf.operation(Several)), lambda s: len(s.inputs) == 3)


def test_without_a_domain_strategies_are_of_its_samples():
    @given(samples(mfops_basic.Reshape))
    def test(sample):
        mfops_basic.Reshape.forward(*sample.inputs, **sample.hyperparameters)

    test()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Domain(x="positive"), "a domain says x=real\\(\\), positive\\(\\)"),
        (lambda: samples(defined_on(Domain(z=real()))), "its domain names 'z', which is no field"),
    ],
)
def test_a_domain_that_says_nothing_is_an_error(make, told):
    with pytest.raises(DefinitionError, match=told):
        make()


# What the kit makes of it


def test_a_failure_is_told_by_the_smallest_example():
    told = Examination.of_operation(WrongBeyondTwo).outcome("examples").message

    assert told.startswith(
        "gradients: the gradient of x is wrong, most of all at x[]: backward says"
    )
    assert told.endswith("; the smallest example found: 3.")


def test_what_forward_refuses_is_told_by_the_smallest_example():
    undefined = Examination.of_operation(IsNotDefinedWhereItSays).outcome("examples").message
    refused = Examination.of_operation(RefusesShapesThatItsDomainAllows).outcome("examples").message

    assert undefined.endswith(
        "not finite where its domain allows it; the smallest example found: -1."
    )
    assert refused.startswith(
        "forward refuses what its domain allows: ValueError: operands could not"
    )


def test_examples_are_the_same_each_time():
    one, two = (
        Examination.of_operation(mfops_nn.CrossEntropy).outcome("examples") for _ in range(2)
    )

    assert one == two
    assert one.message == "25 examples, drawn by hypothesis"


def test_samples_are_drawn_from_the_domain():
    report = examine_operation(mfops_nn.Linear)

    assert report["samples"].message == "drawn from its domain by hypothesis"
    assert report["samples"].cases == 5


def test_what_is_expected_to_fail_is_not_held_against_examples():
    assert Examination.of_operation(mfops_basic.Max).outcome("examples").status == "passed"


@pytest.mark.usefixtures("without_hypothesis")
def test_without_hypothesis_a_seeded_generator_draws_and_the_report_says_so():
    report = examine_operation(mfops_nn.Linear)

    how = "by a seeded generator (hypothesis is not installed)"
    assert report["samples"].message == f"drawn from its domain {how}"
    assert report["examples"].message == f"25 examples, drawn {how}"
    assert report.ok
    assert f"inputs were drawn {how}" in str(report).splitlines()


@pytest.mark.usefixtures("without_hypothesis")
def test_without_hypothesis_the_command_says_so():
    done = CliRunner().invoke(main, ["check", "mfops_basic.Sqrt"])

    assert "inputs were drawn by a seeded generator (hypothesis is not installed)" in done.stdout


@pytest.mark.usefixtures("without_hypothesis")
def test_without_hypothesis_what_is_wrong_is_caught_but_not_made_smaller():
    outcome = Examination.of_operation(WrongBeyondTwo).outcome("examples")

    assert outcome.status == "failed"
    assert "; the first of the examples: " in outcome.message


def test_neither_packs_nor_the_kit_import_hypothesis_before_it_is_used(fresh_python):
    printed = fresh_python(
        "import sys, mfops_basic, mfops_nn\n"
        "print('mfcore.testing' in sys.modules)\n"
        "import mfcore.testing\n"
        "print('hypothesis' in sys.modules)\n"
        "sys.modules['hypothesis'] = None\n"
        "print(mfcore.testing.examine_operation(mfops_basic.Log)['examples'].message)"
    )

    assert printed.splitlines() == [
        "False",
        "False",
        "25 examples, drawn by a seeded generator (hypothesis is not installed)",
    ]


def test_what_fits_no_usual_shape_is_searched_for_among_all_shapes():
    class Trace(mf.Node):
        x: mf.Node

        @staticmethod
        def forward(x):
            if x.ndim != 2 or x.shape[0] != x.shape[1] or x.shape[0] < 2:
                raise ValueError("a square matrix, please")
            return np.trace(x)

    report = examine_operation(mf.operation(Trace))

    assert report["samples"].message == "found among any shapes by hypothesis"
    assert report["samples"].cases > 1
