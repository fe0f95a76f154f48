"""What the contract asks of every operation's two functions, read on arrays and on nodes."""

from __future__ import annotations

import inspect
from typing import Any

import attrs
import numpy as np
import pytest
from operation_samples import SAMPLES, Sample

import mfcore as mf
import mfops_basic as basic
import mfops_nn as nn
from mfcore.checks import unbroadcast

ALL = [pytest.param(s, id=str(s)) for s in SAMPLES]
DIFFERENTIABLE = [
    pytest.param(s, id=str(s))
    for s in SAMPLES
    if s.differentiable and s.operation is not basic.Sign  # whose backward says None
]
WITH_AXES = [
    pytest.param(s, id=str(s)) for s in SAMPLES if any(x.ndim and x.size > 1 for x in s.inputs)
]
VIEWS = {
    basic.Transpose,
    basic.SwapAxes,
    basic.Reshape,
    basic.BroadcastTo,
    basic.ExpandDims,
    basic.Squeeze,
    basic.Index,
    nn.Dropout,
    nn.Flatten,
}
"""Operations whose result may share memory with an argument; their docstrings say so."""


def call(sample: Sample, inputs: Any, wanted: tuple[bool, ...] | None = None, scale: float = 1):
    """Return value and gradients from an operation's own functions, without any engine."""
    spec = mf.spec_of(sample.operation)
    given = {
        "rng": np.random.default_rng(0),
        "training": True,
        "wanted": spec.wanted(wanted or (True,) * len(inputs)),
        **_hyperparameters(sample),
        **(
            {spec.inputs[0]: tuple(inputs)}
            if spec.variadic
            else dict(zip(spec.inputs, inputs, strict=True))
        ),
    }
    value = _asked(spec.forward, given)
    if spec.saves:
        value, given["saved"] = value
    given["value"] = value
    grad = _weights(np.shape(value)) * scale
    given["grad"] = grad.astype(value.dtype) if _kind(value) == "f" else grad
    for array in [given["value"], given["grad"]]:
        _freeze(array)
    return value, _asked(spec.backward, given)


def _asked(function: Any, given: dict[str, Any]) -> Any:
    positional, named = [], {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += given[name]
        elif parameter.kind is parameter.KEYWORD_ONLY:
            named[name] = given[name]
        else:
            positional.append(given[name])
    return function(*positional, **named)


def _hyperparameters(sample: Sample) -> dict[str, Any]:
    node = sample.operation(*[mf.Input() for _ in sample.inputs], **sample.hyperparameters)
    names = mf.spec_of(sample.operation).hyperparameters
    return {name: getattr(node, name) for name in names}


def _weights(shape: tuple[int, ...]) -> Any:
    return np.asarray(np.random.default_rng(3).normal(size=shape))[()]


def _kind(x: Any) -> str:
    return np.asarray(x).dtype.kind


def _freeze(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        x.flags.writeable = False
    return x


def _single(inputs: Any) -> list[Any]:
    return [x.astype(np.float32) if x.dtype.kind == "f" else x for x in inputs]


@pytest.mark.parametrize("sample", ALL)
def test_both_functions_leave_read_only_arguments_alone(sample: Sample) -> None:
    inputs = [_freeze(x.copy()) for x in sample.inputs]

    call(sample, inputs)

    for now, before in zip(inputs, sample.inputs, strict=True):
        np.testing.assert_array_equal(now, before)


@pytest.mark.parametrize("sample", ALL)
def test_only_documented_views_share_memory_with_an_argument(sample: Sample) -> None:
    inputs = [x.copy() for x in sample.inputs]

    value, _ = call(sample, inputs)

    if sample.operation in VIEWS:
        text = f"{sample.operation.__doc__} {inspect.getmodule(sample.operation).__doc__}"
        assert "view" in text or "not a copy" in text
    else:
        assert not any(np.may_share_memory(value, x) for x in inputs)


@pytest.mark.parametrize("sample", DIFFERENTIABLE)
def test_the_same_call_gives_the_same_gradients_bit_for_bit(sample: Sample) -> None:
    first, second = (call(sample, sample.inputs)[1] for _ in range(2))

    for a, b in zip(first, second, strict=True):
        assert (a is None) == (b is None)
        assert a is None or np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize("sample", DIFFERENTIABLE)
def test_backward_is_linear_in_the_gradient_that_arrives(sample: Sample) -> None:
    once = call(sample, sample.inputs)[1]
    # Scaling by a power of two is exact in floating point.
    fourfold = call(sample, sample.inputs, scale=4)[1]

    for k in sample.differentiable:
        np.testing.assert_array_equal(4 * np.asarray(once[k]), fourfold[k])


@pytest.mark.parametrize("sample", [p for p in DIFFERENTIABLE if len(p.values[0].inputs) > 1])
def test_what_is_not_wanted_changes_no_other_gradient(sample: Sample) -> None:
    everything = call(sample, sample.inputs)[1]
    for k in sample.differentiable:
        wanted = tuple(i == k for i in range(len(sample.inputs)))

        alone = call(sample, sample.inputs, wanted)[1]

        np.testing.assert_array_equal(alone[k], everything[k])


@pytest.mark.parametrize("sample", DIFFERENTIABLE)
def test_float32_stays_float32_inside_backward_too(sample: Sample) -> None:
    # An extreme's share is divided by a whole number of ties, which NumPy does in float64;
    # the core casts it, as it does the gradient of a Cast, which is asked for float64.
    # Anything else in float64 would only cost time and memory.
    counts_ties = sample.operation in (basic.Max, basic.Min)
    asked_for = sample.hyperparameters.get("dtype", np.float32)

    value, gradients = call(sample, _single(sample.inputs))

    assert np.asarray(value).dtype == asked_for
    for k in sample.differentiable:
        assert counts_ties or np.asarray(gradients[k]).dtype == asked_for


@pytest.mark.parametrize("sample", DIFFERENTIABLE)
def test_float32_results_are_float64_results_to_its_precision(sample: Sample) -> None:
    single = _single(sample.inputs)
    double = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in single]

    value, gradients = call(sample, single)
    expected, expected_gradients = call(sample, double)

    np.testing.assert_allclose(value, expected, rtol=2e-5, atol=1e-5)
    for k in sample.differentiable:
        np.testing.assert_allclose(gradients[k], expected_gradients[k], rtol=5e-5, atol=2e-5)


LAYOUTS = {
    "transposed": np.asfortranarray,
    "every second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "negative strides": lambda x: np.flip(np.flip(x).copy()),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("sample", WITH_AXES)
def test_the_layout_in_memory_changes_nothing(sample: Sample, layout: Any) -> None:
    inputs = [layout(x) if x.ndim else x for x in sample.inputs]

    value, gradients = call(sample, inputs)

    expected, expected_gradients = call(sample, sample.inputs)
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-14)
    for mine, theirs in zip(gradients, expected_gradients, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-14)


# Read on nodes

PLAIN_FORWARD = [
    p for p in ALL if p.values[0].operation not in (basic.IndexAdd, basic.TakeAdd, basic.OneHot)
]
"""All but the primitives that have to write into arrays or check their elements."""


@pytest.fixture
def typed_nodes(monkeypatch: pytest.MonkeyPatch):
    """Give every node the shape and dtype of its value, as the nodes of a compiler have."""
    feeds: dict[mf.Node, Any] = {}
    known: dict[mf.Node, Any] = {}

    def value(node: mf.Node) -> Any:
        if node not in known:
            graph = mf.Graph(node)
            session = mf.Session(graph, engine="mfcore.reference")
            known[node] = session.run({i: feeds[i] for i in graph.inputs})[node]
        return known[node]

    def leaf(array: Any) -> mf.Input:
        node = mf.Input(shape=np.shape(array), dtype=array.dtype)
        feeds[node] = array
        return node

    for name in ("shape", "dtype", "ndim", "size"):
        read = property(lambda node, name=name: getattr(value(node), name))
        monkeypatch.setattr(mf.Node, name, read, raising=False)
    return leaf, value


@pytest.mark.parametrize("sample", PLAIN_FORWARD)
def test_functions_read_on_nodes_build_a_graph_of_the_same_results(
    sample: Sample, typed_nodes: Any
) -> None:
    leaf, value_of = typed_nodes
    spec = mf.spec_of(sample.operation)
    nodes = [leaf(x) for x in sample.inputs]
    given = {
        "training": False,  # random numbers are drawn on arrays only
        "rng": None,
        "wanted": spec.wanted(k in sample.differentiable for k in range(len(nodes))),
        **_hyperparameters(sample),
        **(
            {spec.inputs[0]: tuple(nodes)}
            if spec.variadic
            else dict(zip(spec.inputs, nodes, strict=True))
        ),
    }
    applied = sample.operation(*nodes, **sample.hyperparameters)
    expected = value_of(applied)
    grad = _weights(np.shape(expected))

    value = _asked(spec.forward, given)
    if spec.saves:
        value, given["saved"] = value
    gradients = _asked(spec.backward, {**given, "value": value, "grad": leaf(grad)})

    assert isinstance(value, mf.Node)
    np.testing.assert_array_equal(value_of(value), expected)
    session = mf.Session(applied, engine="mfcore.reference")  # to the last bit
    run = session.run(dict(zip(nodes, sample.inputs, strict=True)))
    exact = run.backward(wrt=[nodes[k] for k in sample.differentiable], grad=grad)
    for k in sample.differentiable:
        if gradients[k] is None:  # as Sign's
            assert not np.any(exact[nodes[k]])
            continue
        mine = np.asarray(value_of(gradients[k]))
        np.testing.assert_array_equal(unbroadcast(mine, sample.inputs[k].shape), exact[nodes[k]])


def test_reading_on_nodes_refuses_a_branch_on_data(typed_nodes: Any) -> None:
    leaf, _ = typed_nodes
    x = leaf(np.ones(3))

    with pytest.raises(mf.errors.NodeUseError, match="truth"):
        _asked(lambda x: x if x > 0 else -x, {"x": x})


@pytest.mark.parametrize(
    "operation",
    [basic.Tanh, basic.Exp, basic.Square, nn.Sigmoid, basic.Sin],
    ids=lambda operation: operation.__name__,
)
def test_a_backward_read_on_nodes_has_a_gradient_itself(
    operation: type[mf.Node], typed_nodes: Any
) -> None:
    leaf, _ = typed_nodes
    x = leaf(np.array([-0.7, 0.3, 1.1]))
    spec = mf.spec_of(operation)
    (slope,) = _asked(
        spec.backward, {"x": x, "value": spec.forward(x), "grad": mf.Constant(np.ones(3))}
    )
    step = 1e-6

    def slope_at(points: Any) -> Any:
        return mf.Session(slope).run({x: points})[slope]

    data = np.array([-0.7, 0.3, 1.1])
    curvature = mf.Session(slope).run({x: data}).backward(wrt=[x], grad=np.ones(3))[x]

    measured = (slope_at(data + step) - slope_at(data - step)) / (2 * step)
    np.testing.assert_allclose(curvature, measured, rtol=1e-7, atol=1e-9)


# The packs themselves


def test_tanh_is_one_operation_in_both_packs() -> None:
    assert nn.Tanh is basic.Tanh


@pytest.mark.parametrize("pack", [basic, nn], ids=lambda pack: pack.__name__)
def test_a_pack_lists_every_operation_that_its_modules_define(pack: Any) -> None:
    modules = [m for m in vars(pack).values() if inspect.ismodule(m)]
    defined = {
        item
        for module in modules
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, mf.Node)
        and item.__operation__ is not None
        and item.__module__ == module.__name__
    }

    assert defined
    assert defined <= {getattr(pack, name) for name in pack.OPERATIONS}


@pytest.mark.parametrize(
    "operation", sorted({s.operation for s in SAMPLES}, key=lambda o: o.__name__)
)
def test_an_operation_s_docstring_names_its_hyperparameters(operation: type[mf.Node]) -> None:
    spec = mf.spec_of(operation)

    assert operation.__doc__
    assert all(name in operation.__doc__ for name in spec.hyperparameters)
    assert {f.name for f in attrs.fields(operation)} >= set(spec.inputs)
