"""Every operation of the packs against finite differences and against another library."""

from __future__ import annotations

import warnings
from typing import Any

import autograd
import numpy as np
import pytest
from finite_differences import assert_gradients
from operation_samples import SAMPLES, Sample

import mfcore as mf
import mfops_basic
import mfops_nn


def run(sample: Sample, inputs: tuple[Any, ...]) -> tuple[mf.Run, mf.Node, list[mf.Input]]:
    nodes = [mf.Input() for _ in inputs]
    node = sample.operation(*nodes, **sample.hyperparameters)
    return mf.Session(node).run(dict(zip(nodes, inputs, strict=True))), node, nodes


def gradients(sample: Sample, inputs: tuple[Any, ...], weights: np.ndarray) -> list[np.ndarray]:
    result, node, nodes = run(sample, inputs)
    wanted = [nodes[k] for k in sample.differentiable]
    found = result.backward(node, wrt=wanted, grad=weights)
    return [np.asarray(found[n]) if n in wanted else None for n in nodes]  # type: ignore[misc]


def weights_for(value: Any) -> np.ndarray:
    return np.asarray(np.random.default_rng(3).normal(size=np.shape(value)))


def float_samples() -> list[Any]:
    return [pytest.param(s, id=str(s)) for s in SAMPLES if s.differentiable]


def test_every_operation_of_the_packs_has_a_sample() -> None:
    provided = {getattr(mfops_basic, name) for name in mfops_basic.OPERATIONS}
    provided |= {getattr(mfops_nn, name) for name in mfops_nn.OPERATIONS}

    assert {sample.operation for sample in SAMPLES} == provided


@pytest.mark.parametrize("sample", float_samples())
def test_gradients_agree_with_finite_differences(sample: Sample) -> None:
    value = run(sample, sample.inputs)[0][_name(sample)]
    weights = weights_for(value)

    found = gradients(sample, sample.inputs, weights)

    def function(*inputs: Any) -> Any:
        result, node, _ = run(sample, inputs)
        return result[node]

    assert_gradients(function, sample.inputs, found, weights, wrt=sample.differentiable)


@pytest.mark.parametrize("sample", [p for p in float_samples() if p.values[0].peer])
def test_values_and_gradients_agree_with_autograd(sample: Sample) -> None:
    result, node, _ = run(sample, sample.inputs)
    weights = weights_for(result[node])

    found = gradients(sample, sample.inputs, weights)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # autograd's own, on NumPy 2
        np.testing.assert_allclose(
            result[node], sample.peer(*sample.inputs), rtol=1e-12, atol=1e-14
        )
        for k in sample.differentiable:
            expected = autograd.grad(
                lambda x, k=k: autograd.numpy.sum(
                    weights * sample.peer(*sample.inputs[:k], x, *sample.inputs[k + 1 :])
                )
            )(np.asarray(sample.inputs[k]))
            np.testing.assert_allclose(found[k], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sample", float_samples())
def test_gradients_have_the_shape_and_dtype_of_their_input(sample: Sample) -> None:
    single = tuple(x.astype(np.float32) if x.dtype.kind == "f" else x for x in sample.inputs)
    result, node, nodes = run(sample, single)

    found = result.backward(
        node, wrt=[nodes[k] for k in sample.differentiable], grad=weights_for(result[node])
    )

    assert result[node].dtype == sample.hyperparameters.get("dtype", np.float32)
    for k in sample.differentiable:
        assert found[nodes[k]].dtype == np.float32
        assert np.shape(found[nodes[k]]) == single[k].shape


@pytest.mark.parametrize("sample", [pytest.param(s, id=str(s)) for s in SAMPLES])
def test_arguments_are_not_changed_and_the_same_call_gives_the_same_bits(sample: Sample) -> None:
    inputs = tuple(x.copy() for x in sample.inputs)

    first, node, _ = run(sample, inputs)
    second, other, _ = run(sample, inputs)

    assert first[node].tobytes() == second[other].tobytes()
    for now, before in zip(inputs, sample.inputs, strict=True):
        np.testing.assert_array_equal(now, before)


@pytest.mark.parametrize("sample", float_samples())
def test_strided_inputs_give_what_contiguous_ones_give(sample: Sample) -> None:
    def strided(x: np.ndarray) -> np.ndarray:
        wide = np.repeat(x[..., np.newaxis], 2, axis=-1)
        return np.asfortranarray(wide)[..., 0] if x.ndim else x

    inputs = tuple(strided(x) for x in sample.inputs)
    plain, node, _ = run(sample, sample.inputs)
    weights = weights_for(plain[node])

    value, other, _ = run(sample, inputs)

    np.testing.assert_allclose(value[other], plain[node], rtol=1e-12)
    for mine, theirs in zip(
        gradients(sample, inputs, weights), gradients(sample, sample.inputs, weights), strict=True
    ):
        if mine is not None:
            np.testing.assert_allclose(mine, theirs, rtol=1e-12)


def test_the_oracle_notices_a_gradient_that_is_wrong_in_one_element() -> None:
    x = np.arange(1.0, 4.0)
    wrong = 2 * x
    wrong[1] += 1e-3

    with pytest.raises(AssertionError, match="differences say"):
        assert_gradients(np.square, [x], [wrong], np.ones(3), wrt=[0])


def _name(sample: Sample) -> str:
    from mfcore.graph import snake_case

    return f"{snake_case(sample.operation.__name__)}_1"
