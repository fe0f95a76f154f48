"""The numpy engine gives what a lowered program says, in buffers of its own."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from lowered_interpreter import interpret
from lowered_programs import programs

from mfjit import ir, numpy_engine, numpy_rewrites, tiling
from mfjit.builder import Builder
from mfjit.functions import Slot
from mfjit.numpy_engine import NumpyExecutable
from mfjit.numpy_rewrites import for_numpy


def as_if_large(patch):
    """Lower the sizes from which loops are tiled, inputs read in place and results lent."""
    patch.setattr(numpy_engine, "DIRECT_BYTES", 30)
    patch.setattr(numpy_engine, "COPIED_BYTES", 20)
    patch.setattr(numpy_rewrites, "TILED_BYTES", 20)
    patch.setattr(tiling, "TILE_BYTES", 60)


@pytest.fixture(params=[False, True], ids=["small", "large"])
def both_sizes(request, monkeypatch):
    if request.param:
        as_if_large(monkeypatch)


def run(lowered, inputs=(), parameters=(), states=(), settings=(), rng=None):
    parameters, states = list(map(np.array, parameters)), list(map(np.array, states))
    bound = NumpyExecutable(lowered).bind(parameters, states)
    return bound.step(list(inputs), list(settings), rng), parameters, states


@pytest.mark.parametrize("large", [False, True])
@settings(max_examples=150)
@given(program=programs())
def test_agrees_with_the_interpreter_step_after_step(program, large):
    with pytest.MonkeyPatch.context() as patch:
        if large:
            as_if_large(patch)
        parameters = list(map(np.array, program.given["parameter"]))
        states = list(map(np.array, program.given["state"]))
        bound = NumpyExecutable(program.lowered).bind(parameters, states)
        for _ in range(2):
            expected = program.expected()
            outputs = bound.step(program.given["input"], [], None)
            for found, wanted in zip((outputs, parameters, states), expected, strict=True):
                for a, b in zip(found, wanted, strict=True):
                    np.testing.assert_array_equal(a, b, strict=True)
            program.given["parameter"], program.given["state"] = expected[1:]


FLOATS = np.array([[0.3, -1.7, 2.5, 0.9], [0.0, 1.0, -0.4, 3.0], [5.0, -0.2, 0.6, 1e30]])
PREDICATES = sorted(ir.PREDICATES)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", sorted(ir.UNARY | ir.PREDICATES))
def test_unary(op, dtype, both_sizes):
    b = Builder()
    x = b.input(FLOATS.shape, dtype)
    y = b.elementwise("multiply", x, 0.5)
    lowered = b.finish([b.elementwise(op, y), b.elementwise(op, b.transpose(x))])
    with np.errstate(all="ignore"):
        (out, out_t), _, _ = run(lowered, [FLOATS.astype(dtype)])
        expected, _, _ = interpret(lowered, [FLOATS.astype(dtype)])
    np.testing.assert_allclose(out, expected[0], rtol=1e-6 if dtype == np.float32 else 1e-14)
    np.testing.assert_allclose(out_t, expected[1], rtol=1e-6 if dtype == np.float32 else 1e-14)
    assert out.dtype == expected[0].dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", sorted(ir.BINARY | ir.COMPARISONS))
def test_binary(op, dtype, both_sizes):
    b = Builder()
    x, row = b.input((3, 4), dtype), b.input((4,), dtype)
    lowered = b.finish([b.elementwise(op, x, row), b.elementwise(op, row, x)])
    given = [FLOATS.astype(dtype), np.array([1.5, 0.0, -2.0, 1.0], dtype)]
    with np.errstate(all="ignore"):
        outputs, _, _ = run(lowered, given)
        expected, _, _ = interpret(lowered, given)
    for a, wanted in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(a, wanted, rtol=1e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("op", ["logical_and", "logical_or", "logical_xor"])
def test_logical(op):
    b = Builder()
    x, y = b.input((4,), bool), b.input((4,), bool)
    lowered = b.finish([b.elementwise(op, x, b.elementwise("logical_not", y))])
    given = [np.array([True, True, False, False]), np.array([True, False, True, False])]
    assert run(lowered, given)[0][0].tolist() == interpret(lowered, given)[0][0].tolist()


@pytest.mark.parametrize("op", sorted(ir.REDUCTIONS))
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_reductions(op, axes, dtype, both_sizes):
    x = np.random.default_rng(0).integers(-3, 4, (3, 4, 5)).astype(dtype)
    b = Builder()
    value = b.input(x.shape, dtype)
    if dtype is not np.bool_:
        value = b.elementwise("add", value, value)  # the loop that a reduction may join
    lowered = b.finish([b.reduce(op, value, axes), b.reduce(op, b.transpose(value), axes)])
    outputs, _, _ = run(lowered, [x])
    for a, wanted in zip(outputs, interpret(lowered, [x])[0], strict=True):
        np.testing.assert_array_equal(a, wanted, strict=True)


def test_extremes_of_nothing_but_infinities(both_sizes):
    b = Builder()
    x = b.elementwise("negative", b.elementwise("negative", b.input((2, 6), np.float64)))
    y = b.elementwise("absolute", x)
    lowered = b.finish(
        [b.reduce("max", x, (0,)), b.reduce("min", y, None), b.reduce("max", x, (1,))]
    )
    given = np.full((2, 6), -np.inf)
    outputs, _, _ = run(lowered, [given])
    assert np.all(outputs[0] == -np.inf)
    assert outputs[1] == np.inf
    assert np.all(outputs[2] == -np.inf)


def test_where_keeps_what_a_product_with_a_mask_would_not(both_sizes):
    b = Builder()
    x, c = b.input((8,), np.float64), b.input((8,), np.float64)
    positive = b.elementwise("greater", c, 0.0)
    y = b.elementwise("where", positive, b.elementwise("add", x, 1.0), 0.0)
    lowered = b.finish([y])
    given = [
        np.array([np.nan, np.inf, -np.inf, 1.0, np.nan, np.inf, -0.0, 2.0]),
        np.array([0.0, 0.0, -1.0, 1.0, 1.0, 1.0, 1.0, np.nan]),
    ]
    (out,), _, _ = run(lowered, given)
    np.testing.assert_array_equal(out, [0, 0, 0, 2, np.nan, np.inf, 1, 0])


@pytest.mark.parametrize("classes", [[0, 3], [-1, 0]])
def test_classes_out_of_range_leave_the_parameters_as_they_were(classes):
    lowered = _classifier(np.int64)
    parameters = [np.ones(3)]
    bound = NumpyExecutable(lowered).bind(parameters, [])
    with pytest.raises(ValueError, match="whole numbers in 0 .. 2"):
        bound.step([np.array(classes)], [], None)
    assert parameters[0].tolist() == [1, 1, 1]
    assert bound.step([np.array([0, 2])], [], None)[0].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert parameters[0].tolist() == [2, 1, 2]


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf, -1.0, 3.0])
def test_classes_that_are_no_whole_numbers(bad):
    bound = NumpyExecutable(_classifier(np.float64)).bind([np.ones(3)], [])
    with pytest.raises(ValueError, match="whole numbers"):
        bound.step([np.array([1.0, bad])], [], None)


def _classifier(dtype):
    b = Builder()
    classes, p = b.input((2,), dtype), b.leaf("parameter", (3,), np.float64)
    rows = b.one_hot(classes, 3, np.float64)
    counted = b.reduce("sum", rows, (0,))
    return b.finish([rows], [(p, b.elementwise("add", p, counted))])


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_out_of_range(index):
    b = Builder()
    x, indices = b.input((3, 2), np.float64), b.input((2,), np.int64)
    lowered = b.finish([b.take(x, indices, 0)])
    bound = NumpyExecutable(lowered).bind([], [])
    with pytest.raises(IndexError, match="out of bounds for an axis of 3"):
        bound.step([np.zeros((3, 2)), np.array([0, index])], [], None)
    assert bound.step([np.eye(3, 2), np.array([-3, 1])], [], None)[0].tolist() == [[1, 0], [0, 1]]


def test_random_numbers_are_drawn_in_the_order_of_their_index():
    b = Builder()
    first, second = b.random("standard_normal", (3,)), b.random("random", (2,), np.float32)
    third = b.random("random", (2, 2))
    lowered = b.finish([third, b.elementwise("add", second, 1.0), first])
    outputs, _, _ = run(lowered, rng=np.random.default_rng(5))
    expected, _, _ = interpret(lowered, rng=np.random.default_rng(5))
    for a, wanted in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(a, wanted, strict=True)


def test_functions_are_called_as_they_are():
    def both(x, scale, *, shift):
        return x * scale + shift, float(x.sum())

    b = Builder()
    x, s = b.input((3,), np.float64), b.input((), np.float64)
    whole = b.call(
        [x, s], (), np.float64, function=both, arguments=((Slot(0), Slot(1)), {"shift": 1})
    )
    parts = [
        ir.Value("item", (whole,), {"index": i}, shape, np.dtype(np.float64))
        for i, shape in enumerate([(3,), ()])
    ]
    single = b.call([x], (3,), np.float64, function=np.sort, arguments=((Slot(0),), {}))
    lowered = b.finish([*parts, b.elementwise("add", single, parts[0])])
    given = [np.array([3.0, 1.0, 2.0]), np.array(2.0)]
    outputs, _, _ = run(lowered, given)
    for a, wanted in zip(outputs, interpret(lowered, given)[0], strict=True):
        np.testing.assert_array_equal(a, wanted, strict=True)


def test_a_called_function_can_neither_write_its_arguments_nor_change_its_shape():
    def writes(x):
        x[0] = 1
        return x

    def wrong(x):
        return x[x > 0]

    for function, error in ((writes, "read-only"), (wrong, "shape")):
        b = Builder()
        x = b.input((3,), np.float64)
        how = {"function": function, "arguments": ((Slot(0),), {})}
        bound = NumpyExecutable(b.finish([b.call([x], (3,), np.float64, **how)])).bind([], [])
        with pytest.raises(ValueError, match=error):
            bound.step([np.array([1.0, -1.0, 1.0])], [], None)


def test_leaves_exchange_their_contents():
    b = Builder()
    p, q = b.leaf("parameter", (2,), np.float64), b.leaf("state", (2,), np.float64)
    lowered = b.finish([p], [(p, q), (q, p)])
    outputs, (first,), (second,) = run(lowered, parameters=[[1.0, 2.0]], states=[[3.0, 4.0]])
    assert outputs[0].tolist() == [1, 2]
    assert (first.tolist(), second.tolist()) == ([3, 4], [1, 2])


def network(n=5, features=3, hidden=4, dtype=np.float64, rate=None):
    """Return one step of gradient descent on a network with one hidden layer.

    The rate is a setting, or the number given.
    """
    b = Builder()
    X, y = b.input((n, features), dtype), b.input((n, 1), dtype)
    rate = b.leaf("setting", (), dtype) if rate is None else b.literal(rate, dtype)
    sizes = [features * hidden, hidden, hidden, 1]
    ends = np.cumsum(sizes).tolist()
    p = b.leaf("parameter", (ends[-1],), dtype)
    shapes = [(features, hidden), (hidden,), (hidden, 1), (1,)]
    W1, b1, W2, b2 = [
        b.reshape(b.slice(p, ((end - size, end, 1),)), shape)
        for size, end, shape in zip(sizes, ends, shapes, strict=True)
    ]
    e = b.elementwise
    h = e("tanh", e("add", b.matmul(X, W1), b1))
    d = e("subtract", e("add", b.matmul(h, W2), b2), y)
    loss = e("divide", b.reduce("sum", e("multiply", d, d), None), float(n))
    g = e("multiply", d, 2.0 / n)
    slope = e("subtract", 1.0, e("multiply", h, h))
    gh = e("multiply", b.matmul(g, b.transpose(W2)), slope)
    gradients = [
        b.matmul(b.transpose(X), gh), b.reduce("sum", gh, (0,)),
        b.matmul(b.transpose(h), g), b.reduce("sum", g, (0,)),
    ]  # fmt: skip
    grad = b.concatenate([b.reshape(v, (-1,)) for v in gradients])
    return b.finish([loss], [(p, e("subtract", p, e("multiply", grad, rate)))])


def batch(n=5, features=3, dtype=np.float64):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, features)).astype(dtype), rng.normal(size=(n, 1)).astype(dtype)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_training_step(dtype, both_sizes):
    lowered = network(dtype=dtype)
    p = np.random.default_rng(1).normal(size=lowered.parameters[0].shape).astype(dtype)
    (loss,), (after,), _ = run(lowered, batch(dtype=dtype), [p], settings=[0.1])
    expected = interpret(lowered, batch(dtype=dtype), [p], settings=[0.1])
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(loss, expected[0][0], rtol=rtol)
    np.testing.assert_allclose(after, expected[1][0], rtol=rtol, atol=rtol / 10)


def test_an_epoch_is_its_steps_on_batches_of_rows(both_sizes):
    lowered = network()
    X, y = batch(20)
    rows = np.random.default_rng(2).integers(-20, 20, (6, 5))
    rates = np.linspace(0.1, 0.2, 6)[:, None]
    start = np.random.default_rng(1).normal(size=lowered.parameters[0].shape)
    one, other = [start.copy()], [start.copy()]
    by_step = NumpyExecutable(lowered).bind(one, [])
    expected = [
        by_step.step([X[r], y[r]], rate, None)[0] for r, rate in zip(rows, rates, strict=True)
    ]
    losses = NumpyExecutable(lowered).bind(other, []).epoch([X, y], rows, rates, None, False)
    assert losses.tolist() == expected
    assert other[0].tolist() == one[0].tolist()


def test_an_epoch_stops_when_the_loss_is_not_finite():
    lowered = network()
    X, y = batch(20)
    X[7, 0] = np.nan
    rows = np.array([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [0, 1, 2, 3, 4]])
    bound = NumpyExecutable(lowered).bind([np.ones(lowered.parameters[0].shape)], [])
    rates = np.zeros((3, 1))
    losses = bound.epoch([X, y], rows, rates, None, True)
    assert len(losses) == 2
    assert np.isnan(losses[1])


def test_a_row_out_of_range_runs_nothing():
    lowered = network()
    p = np.ones(lowered.parameters[0].shape)
    bound = NumpyExecutable(lowered).bind([p], [])
    with pytest.raises(IndexError, match="20 rows"):
        bound.epoch(batch(20), np.full((2, 5), 20), np.full((2, 1), 0.1), None, False)
    assert np.all(p == 1)


def test_inputs_may_be_strided_and_read_only(both_sizes):
    lowered = network()
    p = np.random.default_rng(1).normal(size=lowered.parameters[0].shape)
    X, y = batch()
    strided = [np.repeat(X, 2, axis=1)[:, ::2], np.asfortranarray(y)]
    for array in strided:
        array.flags.writeable = False
    assert (
        run(lowered, strided, [p], settings=[0.1])[0]
        == run(lowered, [X, y], [p], settings=[0.1])[0]
    )


def test_a_steady_step_allocates_nothing_large(both_sizes):
    n = 400
    lowered = network(n, 30, 40)
    bound = NumpyExecutable(lowered).bind([np.full(lowered.parameters[0].shape, 0.01)], [])
    given = batch(n, 30)
    for _ in range(2):
        bound.step(given, [0.1], None)
    tracemalloc.start()
    try:
        for _ in range(3):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            bound.step(given, [0.1], None)
            # A few small objects at once; the smallest array here has 12,800 bytes.
            assert tracemalloc.get_traced_memory()[1] - before <= 2048
    finally:
        tracemalloc.stop()


def test_results_are_the_callers_own():
    b = Builder()
    x = b.input((1000,), np.float64)
    y = b.elementwise("add", x, 1.0)
    lowered = b.finish([b.reshape(y, (10, 100)), b.slice(y, ((0, 5, 1),)), x])
    bound = NumpyExecutable(lowered).bind([], [])
    first = bound.step([np.zeros(1000)], [], None)
    part = bound.step([np.ones(1000)], [], None)[0][0][3:]
    last = [bound.step([np.full(1000, number)], [], None) for number in (2.0, 3.0, 4.0)]
    assert np.all(first[0] == 1)
    assert np.all(first[1] == 1)
    assert np.all(first[2] == 0)
    assert np.all(part == 2)
    for number, results in zip((2.0, 3.0, 4.0), last, strict=True):
        assert np.all(results[0] == number + 1)
        assert np.all(results[2] == number)
    results[0][:] = 9  # and may be written to
    assert results[0].shape == (10, 100)


def test_memory_of_results_is_used_again_when_they_are_gone():
    b = Builder()
    lowered = b.finish([b.elementwise("add", b.input((1000,), np.float64), 1.0)])
    bound = NumpyExecutable(lowered).bind([], [])
    seen = set()
    for _ in range(6):
        (result,) = bound.step([np.zeros(1000)], [], None)
        seen.add(result.ctypes.data)
    assert len(seen) == 2


def test_two_bounds_do_not_disturb_each_other():
    executable = NumpyExecutable(network())
    shape = executable.given.parameters[0].shape
    one, other = executable.bind([np.ones(shape)], []), executable.bind([np.ones(shape)], [])
    expected = [executable.bind([np.ones(shape)], []).step(batch(), [0.1], None)[0]]
    found = [bound.step(batch(), [0.1], None)[0] for bound in (one, other)]
    assert found == expected * 2


def test_warnings_are_those_of_numpy():
    b = Builder()
    x = b.input((3,), np.float64)
    classes = b.one_hot(b.input((2,), np.float64), 3, np.float64)
    lowered = b.finish([b.elementwise("exp", x), classes])
    bound = NumpyExecutable(lowered).bind([], [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bound.step([np.zeros(3), np.array([0.0, 2.0])], [], None)
        with pytest.raises(ValueError, match="whole"):
            bound.step([np.zeros(3), np.array([0.0, np.nan])], [], None)
        with pytest.raises(RuntimeWarning, match="overflow"):
            bound.step([np.full(3, 1e4), np.array([0.0, 2.0])], [], None)


def test_a_parameter_that_does_not_fit_is_refused():
    executable = NumpyExecutable(network())
    with pytest.raises(ValueError, match="cannot be kept"):
        executable.bind([np.ones(3)], [])


def test_explain_names_steps_buffers_and_costs(both_sizes):
    executable = NumpyExecutable(network())
    text = executable.explain()
    assert "matmul(input0, parameter0.slice.reshape)" in text
    assert "as its part of a concatenation" in text
    assert "in parameter0" in text
    assert "its parts are in place" in text
    assert f"{executable.memory:,} bytes of buffers" in text
    for index in range(len(executable.groups)):
        assert f"\n{index:3}  v" in f"\n{text}"


def test_matrix_products_count_two_operations_for_each_term():
    b = Builder()
    lowered = b.finish([b.matmul(b.input((3, 5), np.float64), b.input((5, 7), np.float64))])
    assert f"{2 * 3 * 5 * 7:,} FLOPs" in NumpyExecutable(lowered).explain()


def test_a_profile_has_a_line_for_each_step_and_changes_nothing(both_sizes):
    executable = NumpyExecutable(network())
    p = np.random.default_rng(1).normal(size=executable.given.parameters[0].shape)
    before = p.copy()
    bound = executable.bind([p], [])
    table = bound.profile(batch(), [0.1], None, runs=3)
    assert p.tolist() == before.tolist()
    assert len(table.splitlines()) == len(executable.groups) + 2
    assert "matmul" in table


def test_memory_counts_every_buffer(both_sizes):
    lowered = network(40, 30, 20)
    executable = NumpyExecutable(lowered)
    needed = lowered.parameters[0].nbytes  # the gradient
    assert executable.memory >= needed + 40 * 20 * 8
    tracemalloc.start()
    try:
        bound = executable.bind([np.ones(lowered.parameters[0].shape)], [])
        bound.step(batch(40, 30), [0.1], None)
        held = sum(trace.size for trace in tracemalloc.take_snapshot().traces if trace.size > 500)
    finally:
        tracemalloc.stop()
    assert held < 2 * executable.memory + 50_000


def test_classes_are_picked_from_rows(both_sizes):
    b = Builder()
    logits, classes = b.input((4, 3), np.float64), b.input((4,), np.int64)
    total = b.reshape(b.reduce("sum", logits, (1,)), (4, 1))
    shifted = b.elementwise("subtract", logits, total)
    hot = b.one_hot(classes, 3, np.float64)
    counted = b.elementwise("where", b.elementwise("equal", hot, 0.0), 0.0, shifted)
    picked = b.reduce("sum", b.elementwise("multiply", hot, counted), (1,))
    lowered = b.finish([picked])
    executable = NumpyExecutable(lowered)
    assert "pick" in executable.explain()
    assert "one_hot" not in executable.explain()
    given = [np.random.default_rng(0).normal(size=(4, 3)), np.array([2, 0, 1, 1])]
    given[0][0, 0] = -np.inf  # not picked, but in the sum of its row
    given[0][1, 2] = np.inf
    with np.errstate(all="ignore"):
        (out,), _, _ = run(lowered, given)
        expected = interpret(lowered, given)[0][0]
    np.testing.assert_allclose(out, expected)
    with pytest.raises(ValueError, match="whole numbers"):
        executable.bind([], []).step([given[0], np.array([0, 1, 2, 3])], [], None)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_single_numbers(dtype):
    b = Builder()
    t, rate = b.leaf("state", (), np.float64), b.leaf("setting", (), dtype)
    following = b.elementwise("add", t, 1.0)
    left = b.elementwise("subtract", 1.0, b.elementwise("power", 0.9, following))
    change = b.elementwise("divide", rate, b.cast(left, dtype))
    square = b.elementwise("square", b.elementwise("negative", change))
    lowered = b.finish([b.elementwise("multiply", square, change)], [(t, following)])
    (out,), _, (after,) = run(lowered, states=[np.array(3.0)], settings=[0.25])
    expected = interpret(lowered, states=[np.array(3.0)], settings=[np.array(0.25, dtype)])
    assert out.dtype == dtype
    np.testing.assert_allclose(out, expected[0][0], rtol=1e-6 if dtype == np.float32 else 1e-15)
    assert after == 4


@pytest.mark.parametrize("returned", [False, True])
def test_the_rate_of_gradient_descent_is_part_of_what_the_gradient_starts_from(returned):
    lowered = network(rate=0.3)
    if returned:  # then the gradient itself is needed
        step = lowered.updates[0][1].args[1]
        lowered = ir.Lowered(
            lowered.inputs,
            lowered.parameters,
            lowered.states,
            lowered.settings,
            [*lowered.outputs, step.args[0]],
            lowered.updates,
        )
    simpler = for_numpy(lowered)
    assert (simpler.updates[0][1].args[1].op == "concatenate") is not returned
    p = np.random.default_rng(1).normal(size=lowered.parameters[0].shape)
    expected = interpret(lowered, batch(), [p])
    found = interpret(simpler, batch(), [p])
    np.testing.assert_allclose(found[1][0], expected[1][0], rtol=1e-12)


@pytest.mark.parametrize("rate", [None, 1.5, 1e6, 1e-6, 0.0, -0.3, np.nan])
def test_a_rate_that_could_change_more_than_rounding_stays_where_it_is(rate):
    lowered = for_numpy(network(rate=rate))
    assert lowered.updates[0][1].args[1].op == "multiply"


def test_a_penalty_on_the_parameters_is_not_scaled_away():
    b = Builder()
    x, p = b.input((3,), np.float64), b.leaf("parameter", (3,), np.float64)
    start = b.elementwise("multiply", x, 2.0)
    gradient = b.elementwise("add", start, p)
    new = b.elementwise("subtract", p, b.elementwise("multiply", gradient, 0.5))
    lowered = b.finish([], [(p, new)])
    given = [np.array([1.0, 2.0, 3.0])], [np.array([4.0, 5.0, 6.0])]
    (after,) = run(lowered, *given)[1]
    assert after.tolist() == interpret(lowered, *given)[1][0].tolist() == [1.0, 0.5, 0.0]
