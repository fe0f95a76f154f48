"""The numba engine: compiled programs compute what the interpreter computes, value by value."""

import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lowered_interpreter import interpret
from naive_kernels import KERNELS

pytest.importorskip("numba")

from mfjit import numba_code, numba_matmul
from mfjit.builder import Builder
from mfjit.errors import CannotCompile
from mfjit.numba_engine import NumbaExecutable

pytestmark = pytest.mark.usefixtures("own_cache")


def numbers(shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype) == np.bool_:
        return rng.random(shape) < 0.5
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0 if np.dtype(dtype).kind == "u" else -9, 9, shape).astype(dtype)
    return np.asarray(rng.standard_normal(shape), dtype)


def check(
    lowered, inputs=(), parameters=(), states=(), step_settings=(), *,
    steps=2, seed=None, rtol=None, kernels=None,
):  # fmt: skip
    """Run a few steps here and in the interpreter, and compare all that comes out."""
    bound = NumbaExecutable(lowered).bind(
        [p.copy() for p in parameters], [s.copy() for s in states]
    )
    expected_parameters, expected_states = list(parameters), list(states)
    ours, theirs = (seed is not None and np.random.default_rng(seed) for _ in range(2))
    for _ in range(steps):
        given_settings = [float(x) for x in step_settings]
        with np.errstate(all="ignore"):
            expected, expected_parameters, expected_states = interpret(
                lowered,
                inputs,
                expected_parameters,
                expected_states,
                step_settings,
                theirs,
                kernels,
            )
        found = bound.step([np.asarray(x) for x in inputs], given_settings, ours)
        for value, a, b in zip(lowered.outputs, found, expected, strict=True):
            assert a.dtype == value.dtype
            assert a.shape == value.shape
            close(a, b, rtol)
        for a, b in zip(bound.parameters, expected_parameters, strict=True):
            close(a, b, rtol)
        for a, b in zip(bound.states, expected_states, strict=True):
            close(a, b, rtol)
    return bound


def close(found, expected, rtol=None):
    expected = np.asarray(expected)
    if expected.dtype.kind == "f":
        tolerance = rtol or 200 * float(np.finfo(expected.dtype).eps)
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    else:
        np.testing.assert_array_equal(found, expected)


UNARY = {
    "any": ["negative", "absolute", "sign", "square", "exp", "exp2", "expm1", "sin", "cos", "tan",
            "arctan", "sinh", "cosh", "tanh", "arcsinh", "floor", "ceil", "trunc", "rint", "cbrt",
            "reciprocal", "sqrt", "log", "log2", "log10", "log1p", "arcsin", "arccos", "arccosh",
            "arctanh", "isnan", "isfinite", "isinf", "signbit"],
}  # fmt: skip
BINARY = ["add", "subtract", "multiply", "divide", "floor_divide", "remainder", "power", "maximum",
          "minimum", "fmax", "fmin", "arctan2", "hypot", "copysign", "logaddexp", "less",
          "less_equal", "greater", "greater_equal", "equal", "not_equal"]  # fmt: skip
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -3.7, 1e-30, 30.0, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_elementwise_function_agrees_on_special_values_too(dtype):
    b = Builder()
    x, y = b.input((144,), dtype), b.input((144,), dtype)
    outputs = [b.elementwise(op, x) for op in UNARY["any"]]
    outputs += [b.elementwise(op, x, y) for op in BINARY]
    outputs += [b.elementwise("where", b.elementwise("less", x, y), x, y)]
    left, right = (a.reshape(-1).astype(dtype) for a in np.meshgrid(SPECIAL, SPECIAL))
    check(b.finish(outputs), [left, right], steps=1)


def test_integers_and_booleans_follow_numpy():
    b = Builder()
    i, j = b.input((6, 5), np.int32), b.input((5,), np.int32)
    u, w = b.input((6, 5), np.uint8), b.input((6, 5), np.int64)
    p, q = b.input((6, 5), np.bool_), b.input((6, 1), np.bool_)
    e = b.elementwise
    outputs = [e(op, i, j) for op in ("add", "subtract", "multiply", "maximum", "minimum", "less")]
    outputs += [e("floor_divide", i, j), e("remainder", i, j), e("divide", i, j), e("square", i)]
    outputs += [e("negative", u), e("add", u, u), e("absolute", i), e("sign", i), e("add", i, w)]
    outputs += [
        e(op, p, q) for op in ("logical_and", "logical_or", "logical_xor", "add", "multiply")
    ]
    outputs += [e(op, p, q) for op in ("equal", "not_equal", "less", "greater_equal", "maximum")]
    outputs += [
        e("logical_not", p),
        e("multiply", p, 2.5),
        b.cast(i, np.float32),
        b.cast(w, np.bool_),
    ]
    outputs += [b.reduce(op, p, (0,)) for op in ("sum", "any", "all", "max", "min", "argmax")]
    outputs += [b.reduce(op, i, (1,)) for op in ("sum", "prod", "max", "min", "argmax", "argmin")]
    outputs += [e("power", w, 3)]
    arrays = [numbers(v.shape, v.dtype, k) for k, v in enumerate(b.leaves["input"])]
    check(b.finish(outputs), arrays, steps=1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_reductions_over_any_axes(dtype):
    b = Builder()
    x, row = b.input((4, 3, 5), dtype), b.input((5,), dtype)
    y = b.elementwise("multiply", x, row)
    outputs = []
    for axes in [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]:
        for op in ("sum", "prod", "max", "min"):
            outputs.append(b.reduce(op, y, axes))
        outputs.append(b.reduce("argmax", y, axes))
        outputs.append(b.reduce("any", b.elementwise("greater", y, 1.0), axes))
    swapped = b.transpose(x, (2, 0, 1))
    outputs.append(b.reduce("sum", b.elementwise("exp", swapped), (1,)))
    long = b.input((3, 40_000), dtype)
    outputs += [
        b.reduce("sum", b.elementwise("square", long), axes) for axes in [(0,), (1,), (0, 1)]
    ]
    arrays = [numbers(v.shape, v.dtype, k) for k, v in enumerate(b.leaves["input"])]
    check(b.finish(outputs), arrays, steps=1, rtol=1e-4 if dtype == np.float32 else None)


def test_nan_and_infinities_propagate_through_reductions():
    b = Builder()
    x = b.input((6, 12), np.float32)
    ops = ("sum", "prod", "max", "min", "argmax", "argmin")
    outputs = [b.reduce(op, x, axes) for op in ops for axes in [(0,), (1,), (0, 1)]]
    array = numbers((6, 12), np.float32)
    array[1, 3], array[2, 5], array[3, 7], array[3, 8] = np.nan, np.inf, -np.inf, np.inf
    check(b.finish(outputs), [array], steps=1)


def test_views_moves_and_indexing():
    b = Builder()
    x, wide = b.input((6, 5), np.float64), b.input((3, 1, 5), np.float64)
    indices = b.input((2, 4), np.int64)
    e = b.elementwise
    part = b.slice(x, ((1, 6, 2), (4, -1, -1)))
    outputs = [
        part,
        b.reshape(b.transpose(x), (6, 5)),
        e("add", b.transpose(part), 1.0),
        b.broadcast_to(wide, (3, 2, 5)),
        e("multiply", b.broadcast_to(wide, (3, 2, 5)), b.slice(x, ((0, 2, 1), (0, 5, 1)))),
        b.concatenate([x, e("exp", x), part], 0),
        b.concatenate([b.transpose(x), e("add", b.transpose(x), 1.0)], 1),
        b.place(part, ((0, 6, 2), (5, 0, -1)), (7, 6)),
        b.take(x, indices, 0),
        b.take(x, indices, 1),
        b.take_add(b.take(x, indices, 0), indices, 0, (6, 5)),
        b.one_hot(indices, 6, np.float32),
        b.literal(2.5, np.float64),
        b.constant(np.arange(12.0).reshape(3, 4)),
    ]
    arrays = [numbers((6, 5)), numbers((3, 1, 5)), np.array([[0, 1, 2, 1], [3, 4, 0, 1]])]
    check(b.finish(outputs), arrays)


@pytest.mark.parametrize(
    ("dtype", "library", "sizes"),
    [
        (np.float64, "numpy", [(3, 4, 5), (7, 40, 30)]),
        (np.float32, "numpy", [(1, 7, 1), (7, 40, 30)]),
        (np.float32, "scipy", [(7, 40, 30)]),
        (np.float64, None, [(3, 14, 9)]),
    ],
)
def test_products_of_any_layout_small_and_large(dtype, library, sizes, monkeypatch):
    for module in (numba_code, numba_matmul):
        monkeypatch.setattr(module, "provider", lambda: library)
    b = Builder()
    outputs = []
    arrays = []
    for n, k, m in sizes:
        shapes = [(n, k), (k, n), (k, m), (m, k), (2, n, k), (k, 2 * m)]
        x, xt, y, yt, stack, double = (b.input(shape, dtype) for shape in shapes)
        arrays += [numbers(shape, dtype, len(arrays) + i) for i, shape in enumerate(shapes)]
        part = b.slice(double, ((0, k, 1), (m, 2 * m, 1)))
        every = b.slice(double, ((0, k, 1), (0, 2 * m, 2)))
        outputs += [
            b.matmul(left, right)
            for left, right in [
                (x, y), (b.transpose(xt), y), (x, b.transpose(yt)), (b.transpose(xt), b.transpose(yt)),
                (stack, y), (x, part), (x, every), (b.transpose(part), b.transpose(x)),
                (x, b.broadcast_to(b.slice(y, ((0, k, 1), (0, 1, 1))), (k, m))),
            ]
        ]  # fmt: skip
    check(b.finish(outputs), arrays, steps=1, rtol=2e-4 if dtype == np.float32 else 1e-11)


def test_convolution_and_pooling():
    b = Builder()
    x, W = b.input((3, 2, 8, 7), np.float32), b.input((5, 2, 3, 3), np.float32)
    turned = b.input((7, 8, 2, 3), np.float32)
    how = {"stride": (1, 2), "pads": (1, 0)}
    y = b.kernel("conv2d", (x, W), (3, 5, 8, 3), **how)
    positive = b.elementwise("maximum", y, 0.0)
    pooling = {"size": (2, 2), "stride": (2, 1), "pads": (0, 0)}
    pooled = b.kernel("max_pool2d", (positive,), (3, 5, 4, 2), **pooling)
    upstream = b.elementwise("square", pooled)
    back = b.kernel("max_pool2d_gradient", (upstream, positive, pooled), y.shape, **pooling)
    outputs = [
        pooled,
        b.kernel("conv2d_input_gradient", (back, W), x.shape, **how),
        b.kernel("conv2d_weight_gradient", (x, back), W.shape, **how),
        b.kernel("conv2d", (b.transpose(turned), W), (3, 5, 8, 3), **how),
    ]
    arrays = [numbers(v.shape, v.dtype, k) for k, v in enumerate(b.leaves["input"])]
    check(b.finish(outputs), arrays, rtol=1e-4, kernels=KERNELS)


def test_empty_and_scalar_arrays():
    b = Builder()
    empty, scalar = b.input((0, 3), np.float64), b.input((), np.float64)
    e = b.elementwise
    outputs = [
        e("exp", empty),
        b.reduce("sum", empty, (0,)),
        b.reduce("sum", empty, (1,)),
        e("add", empty, scalar),
        b.matmul(b.transpose(empty), empty),
        b.matmul(empty, b.transpose(empty)),
        e("exp", scalar),
        b.concatenate([empty, e("multiply", empty, 2.0)], 0),
        b.broadcast_to(scalar, (2, 2)),
        b.reshape(scalar, (1, 1)),
    ]
    check(b.finish(outputs), [np.empty((0, 3)), np.array(1.5)])


def training_program(n, dtype=np.float64, sizes=(5, 4)):
    """A layer, a loss, gradients joined in one vector, and an update with momentum."""
    features, units = sizes
    b = Builder()
    X, y = b.input((n, features), dtype), b.input((n, units), dtype)
    count = features * units
    p, v = b.leaf("parameter", (count + units,), dtype), b.leaf("state", (count + units,), dtype)
    rate = b.leaf("setting", (), dtype)
    W = b.reshape(b.slice(p, ((0, count, 1),)), (features, units))
    bias = b.slice(p, ((count, count + units, 1),))
    e = b.elementwise
    out = e("tanh", e("add", b.matmul(X, W), bias))
    residual = e("subtract", out, y)
    loss = b.reduce("sum", e("square", residual), None)
    slope = e("multiply", residual, e("subtract", 1.0, e("square", out)))
    parts = [b.reshape(b.matmul(b.transpose(X), slope), (-1,)), b.reduce("sum", slope, (0,))]
    momentum = e("add", e("multiply", v, 0.9), b.concatenate(parts))
    return b.finish([loss], [(p, e("subtract", p, e("multiply", rate, momentum))), (v, momentum)])


@pytest.mark.parametrize(
    ("n", "dtype", "sizes"), [(7, np.float64, (5, 4)), (9, np.float32, (70, 60))]
)
def test_updates_in_place_and_whole_epochs(n, dtype, sizes):
    lowered = training_program(n, dtype, sizes)
    size = lowered.parameters[0].size
    start, momentum = numbers(size, dtype, 5) * dtype(0.1), np.zeros(size, dtype)
    X, y = numbers((50, sizes[0]), dtype, 1), numbers((50, sizes[1]), dtype, 2)
    check(lowered, [X[:n], y[:n]], [start], [momentum], [0.01], steps=3, rtol=1e-4)

    executable = NumbaExecutable(lowered)
    rows = np.random.default_rng(3).integers(0, 50, (20, n))
    rows[4] = np.arange(n) + 11  # rows that follow each other
    rates = np.linspace(0.01, 0.002, 20)[:, None]
    whole, single = (executable.bind([start.copy()], [momentum.copy()]) for _ in range(2))
    losses = whole.epoch([X, y], rows, rates, None, True)
    each = [
        single.step([X[chosen], y[chosen]], [rate[0]], None)[0]
        for chosen, rate in zip(rows, rates, strict=True)
    ]
    np.testing.assert_array_equal(losses, np.array(each, np.float64))
    np.testing.assert_array_equal(whole.parameters[0], single.parameters[0])
    np.testing.assert_array_equal(whole.states[0], single.states[0])


def test_updates_may_exchange_leaves_and_keep_old_values():
    b = Builder()
    p, q = b.leaf("parameter", (6,), np.float64), b.leaf("parameter", (6,), np.float64)
    big = b.leaf("state", (1000,), np.float64)
    turned = b.slice(big, ((999, -1, -1),))
    lowered = b.finish(
        [p, b.elementwise("add", p, q), b.reduce("sum", big, None)],
        [(p, q), (q, p), (big, b.elementwise("add", turned, big))],
    )
    check(lowered, (), [numbers(6), numbers(6, seed=1)], [numbers(1000)], steps=3)


def test_a_loss_that_is_not_finite_stops_an_epoch():
    lowered = training_program(3)
    X, y = numbers((10, 5)), numbers((10, 4))
    X[7] = np.nan
    rows = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 1, 2]])
    rates = np.full((4, 1), 0.01)
    executable = NumbaExecutable(lowered)
    stopped = executable.bind([numbers(24)], [np.zeros(24)]).epoch([X, y], rows, rates, None, True)
    assert [bool(np.isfinite(x)) for x in stopped] == [True, True, False]
    executable.steps_at_first = 3  # the first entry ends with the step that fails
    stopped = executable.bind([numbers(24)], [np.zeros(24)]).epoch([X, y], rows, rates, None, True)
    assert len(stopped) == 3
    whole = executable.bind([numbers(24)], [np.zeros(24)]).epoch([X, y], rows, rates, None, False)
    assert len(whole) == 4


def test_wrong_classes_and_indices_update_nothing():
    b = Builder()
    classes, indices = b.input((3,), np.float64), b.input((3,), np.int64)
    p = b.leaf("parameter", (4,), np.float64)
    hot = b.one_hot(classes, 4, np.float64)
    new = b.elementwise("add", p, b.reduce("sum", hot, (0,)))
    lowered = b.finish(
        [b.reduce("sum", b.take(new, indices, 0), None)], [(p, b.elementwise("square", new))]
    )
    start = numbers(4)
    good = np.array([0.0, 3.0, 1.0]), np.array([0, -4, 3])
    check(lowered, good, [start])
    bound = NumbaExecutable(lowered).bind([start.copy()], [])
    for bad in (4.0, -1.0, 0.5, np.nan, np.inf, 1e30):
        with pytest.raises(ValueError, match="class"):
            bound.step([np.array([0.0, bad, 1.0]), good[1]], [], None)
    for bad in (4, -5, 2**62):
        with pytest.raises(IndexError):
            bound.step([good[0], np.array([0, bad, 1])], [], None)
    np.testing.assert_array_equal(bound.parameters[0], start)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_draws_are_those_of_the_generator(dtype):
    b = Builder()
    x = b.input((3, 5), dtype)
    noise = b.random("standard_normal", (3, 5), dtype)
    mask = b.elementwise("less", b.random("random", (3, 5), dtype), 0.5)
    kept = b.elementwise("where", mask, b.elementwise("add", x, noise), 0.0)
    check(b.finish([kept, noise, b.reduce("sum", kept, None)]), [numbers((3, 5), dtype)], seed=4)


def test_large_loops_on_all_threads_agree_and_repeat():
    b = Builder()
    shape = (600, 500)
    x, y, row = b.input(shape, np.float32), b.input(shape, np.float32), b.input((500,), np.float32)
    e = b.elementwise
    z = e("multiply", e("add", x, row), y)
    outputs = [b.reduce(op, z, axes) for op in ("sum", "max") for axes in [(0,), (1,), (0, 1)]]
    lowered = b.finish([*outputs, z, e("exp", z)])
    arrays = [numbers(v.shape, np.float32, k) for k, v in enumerate(lowered.inputs)]
    bound = check(lowered, arrays, steps=1, rtol=1e-4)
    first, second = (bound.step(arrays, [], None) for _ in range(2))
    for a, c in zip(first, second, strict=True):
        assert a is not c
        np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize(("rows", "parallel_flops"), [(701, 0), (1030, 1 << 40)])
def test_many_rows_go_through_several_steps_block_by_block(rows, parallel_flops, monkeypatch):
    monkeypatch.setattr(numba_code, "PARALLEL_FLOPS", parallel_flops)
    b = Builder()
    e = b.elementwise
    X, W1, b1 = (
        b.input((rows, 6), np.float64),
        b.input((6, 10), np.float64),
        b.input((10,), np.float64),
    )
    W2, p = b.input((10, 40), np.float64), b.leaf("parameter", (40, 3), np.float64)
    hidden = e("tanh", e("add", b.matmul(e("multiply", X, 2.0), W1), b1))
    second = e("maximum", b.matmul(hidden, W2), 0.0)
    out = b.matmul(b.slice(second, ((0, rows, 1), (0, 40, 1))), p)
    top = b.reshape(b.reduce("max", out, (1,)), (rows, 1))
    powers = e("exp", e("subtract", out, top))
    shares = e("divide", powers, b.reshape(b.reduce("sum", powers, (1,)), (rows, 1)))
    slope = b.matmul(b.transpose(second), shares)
    lowered = b.finish(
        [shares, b.reduce("sum", e("square", hidden), None), second],
        [(p, e("subtract", p, e("multiply", slope, 1e-3)))],
    )
    executable = NumbaExecutable(lowered)
    assert len(executable.code.storage.runs) == 2  # the sum over all rows ends one
    assert executable.code.parallel == (parallel_flops == 0 and executable.code.threads > 1)
    arrays = [numbers(v.shape, v.dtype, k) for k, v in enumerate(lowered.inputs)]
    check(lowered, arrays, [numbers((40, 3))], rtol=1e-10)
    first, second = (
        executable.bind([numbers((40, 3))], []).step(arrays, [], None) for _ in range(2)
    )
    for a, c in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, c)


def test_long_programs_are_compiled_in_parts():
    b = Builder()
    x, classes, scale = (
        b.input((3, 3), np.float64),
        b.input((3,), np.int64),
        b.leaf("setting", (), np.float64),
    )
    W = b.leaf("parameter", (3, 3), np.float64)
    noise = b.random("random", (3, 3))
    y = b.elementwise("add", b.elementwise("add", x, noise), b.one_hot(classes, 3, np.float64))
    for _ in range(18):
        y = b.elementwise("tanh", b.elementwise("multiply", b.matmul(y, W), scale))
    lowered = b.finish([y], [(W, b.elementwise("subtract", W, b.elementwise("multiply", y, 0.1)))])
    executable = NumbaExecutable(lowered)
    assert "part2(" in executable.code.text
    check(
        lowered,
        [numbers((3, 3)), np.array([0, 2, 1])],
        [numbers((3, 3), seed=1)],
        (),
        [0.7],
        seed=2,
    )
    with pytest.raises(ValueError, match="class"):
        executable.bind([numbers((3, 3))], []).step(
            [numbers((3, 3)), np.array([0, 3, 1])], [0.7], np.random.default_rng(0)
        )


def test_explained_programs_say_what_was_fused_and_what_it_costs():
    executable = NumbaExecutable(training_program(7))
    text = executable.explain()
    assert "v" in text
    assert "one loop, as all go through the same indices" in text
    assert "as its part of a concatenation" in text
    assert "over parameter0" in text
    assert f"{executable.memory:,} bytes of buffers" in text
    assert "loops run on one thread" in text


def test_inputs_may_be_strided_or_read_only():
    b = Builder()
    x = b.input((4, 3), np.float64)
    bound = NumbaExecutable(b.finish([b.elementwise("add", x, 1.0)])).bind([], [])
    array = numbers((3, 4))
    fixed = numbers((4, 3))
    fixed.flags.writeable = False
    for x in (array.T, fixed, np.repeat(fixed, 2, axis=0)[::2]):
        np.testing.assert_array_equal(bound.step([x], [], None)[0], x + 1)


def test_two_bounds_in_two_threads_compute_what_they_compute_alone():
    executable = NumbaExecutable(training_program(7))
    X, y = numbers((50, 5), seed=1), numbers((50, 4), seed=2)
    rows = np.random.default_rng(3).integers(0, 50, (3000, 7))
    rates = np.full((3000, 1), 0.01)
    results = {}

    def train(name, seed):
        bound = executable.bind([numbers(24, seed=seed)], [np.zeros(24)])
        results[name] = bound.epoch([X, y], rows, rates, None, True), bound.parameters[0]

    for seed in (1, 2):
        train(("alone", seed), seed)
    threads = [threading.Thread(target=train, args=(("together", s), s)) for s in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (1, 2):
        for a, c in zip(results["alone", seed], results["together", seed], strict=True):
            np.testing.assert_array_equal(a, c)


def test_what_cannot_be_compiled_is_named():
    b = Builder()
    b.origin = "my_node_3"
    x = b.input((3,), np.float64)
    with pytest.raises(CannotCompile, match="my_node_3 is a call"):
        NumbaExecutable(b.finish([b.call([x], (3,), np.float64, function=np.exp)]))
    half = b.input((3,), np.float16, "half")
    with pytest.raises(CannotCompile, match="float16"):
        NumbaExecutable(b.finish([b.elementwise("add", half, half)]))


@st.composite
def programs(draw):
    """Programs of random elementwise instructions, reductions, views and products."""
    b = Builder()
    dtype = draw(st.sampled_from([np.float64, np.float32]))
    shapes = [(4, 3), (3,), (4, 1), (), (2, 4, 3)]
    values = [b.input(shape, dtype) for shape in shapes]
    for _ in range(draw(st.integers(8, 25))):
        kind = draw(st.sampled_from(["unary", "binary", "reduce", "view", "matmul", "concatenate"]))
        x = draw(st.sampled_from(values))
        if kind == "unary":
            op = draw(st.sampled_from(["tanh", "sin", "negative", "square", "absolute", "arctan"]))
            new = b.elementwise(op, x)
        elif kind == "binary":
            fitting = [v for v in values if _broadcasts(v.shape, x.shape)]
            op = draw(st.sampled_from(["add", "subtract", "multiply", "maximum", "minimum"]))
            new = b.elementwise(op, x, draw(st.sampled_from(fitting)))
        elif kind == "reduce" and x.ndim and x.size:
            axes = draw(st.sets(st.integers(0, x.ndim - 1), min_size=1))
            new = b.reduce(draw(st.sampled_from(["sum", "max", "min"])), x, axes)
        elif kind == "view" and x.ndim:
            new = draw(
                st.sampled_from(
                    [
                        b.transpose(x),
                        b.reshape(x, (-1,)),
                        b.slice(x, tuple((n - 1, -1, -1) for n in x.shape)),
                        b.broadcast_to(x, (2, *x.shape)),
                        b.slice(x, tuple((0, (n + 1) // 2, 1) for n in x.shape)),
                    ]
                )
            )
        elif kind == "matmul" and x.ndim == 2:
            new = b.matmul(x, b.transpose(x))
        elif kind == "concatenate" and x.ndim:
            new = b.concatenate(
                [x, draw(st.sampled_from([v for v in values if v.shape == x.shape]))]
            )
        else:
            continue
        if new.size < 2000:
            values.append(b.elementwise("tanh", new) if kind == "matmul" else new)
    outputs = draw(
        st.lists(st.sampled_from(values[5:] or values), min_size=2, max_size=6, unique=True)
    )
    return b.finish(outputs)


def _broadcasts(x, y):
    return all(m == n or 1 in (m, n) for m, n in zip(reversed(x), reversed(y), strict=False))


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(programs(), st.integers(0, 100))
def test_random_programs_agree(lowered, seed):
    arrays = [numbers(v.shape, v.dtype, seed + k) for k, v in enumerate(lowered.inputs)]
    check(lowered, arrays, rtol=1e-3 if arrays[0].dtype == np.float32 else 1e-9)
