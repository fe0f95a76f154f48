"""Elementwise work on large arrays: a loss and its four gradients, bound by memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import mfcore as mf
from benchmarks.elementwise_by_hand import numba_fused, numpy_plain, numpy_tiled, numpy_whole
from benchmarks.harness import Bar, Contender, Run
from benchmarks.mlp import gradient_nodes, open_function, open_session
from benchmarks.workload import Workload, run_workload
from mfops_nn import Sigmoid

SIZE = 4_000_000
Arrays = list[np.ndarray]


def problem() -> Arrays:
    """Return the arrays a, b, c, d and e."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(SIZE, dtype=np.float32) for _ in range(5)]


def copy(arrays: Arrays) -> Run:
    """Copy as many bytes as must be read and written: five arrays in and four out, 144 MB."""
    source = np.concatenate(arrays).view(np.uint8)[: arrays[0].nbytes * 9 // 2]
    target = source.copy()
    half = source.size // 2
    halves = [(target[:half], source[:half]), (target[half:], source[half:])]
    pool = ThreadPoolExecutor(2)

    def run() -> None:
        for done in [pool.submit(np.copyto, *pair) for pair in halves]:
            done.result()

    return run


def miniflow_reference(arrays: Arrays) -> Run:
    parameters, e = [mf.Parameter(array) for array in arrays[:4]], mf.Input("e")
    cost = cost_of(*parameters, e)
    session = open_session(cost, "reference")

    def run() -> list[Any]:
        run = session.run({e: arrays[4]})
        return [run[cost], *(run.gradients[node] for node in parameters)]

    return run


def cost_of(a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
    return np.mean((Sigmoid(a * b + c) * d - e) ** 2)


def miniflow_function(arrays: Arrays, engine: str) -> Run:
    """MiniFlow's cost and gradients as one function."""
    inputs = [mf.Input(name) for name in "abcde"]
    cost = cost_of(*inputs)
    function = open_function(inputs, [cost, *gradient_nodes(cost, inputs[:4])], engine)
    return lambda: function(*arrays)


def torch_eager(arrays: Arrays) -> Run:
    import torch

    torch.set_num_threads(2)
    a, b, c, d, e = (torch.from_numpy(array) for array in arrays)
    wanted = [tensor.clone().requires_grad_() for tensor in (a, b, c, d)]

    def run() -> list[Any]:
        a, b, c, d = wanted
        loss = ((torch.sigmoid(a * b + c) * d - e) ** 2).mean()
        return [loss.detach(), *torch.autograd.grad(loss, wanted)]

    return run


def torch_compiled(arrays: Arrays) -> Run:
    import torch

    torch.set_num_threads(2)
    tensors = [torch.from_numpy(array) for array in arrays]

    def cost(a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
        return ((torch.sigmoid(a * b + c) * d - e) ** 2).mean()

    both = torch.func.grad_and_value(cost, argnums=(0, 1, 2, 3))
    kept = [torch.empty_like(tensor) for tensor in tensors[:4]]

    @torch.compile(fullgraph=True)
    def into(kept: Any, *tensors: Any) -> Any:
        gradients, loss = both(*tensors)
        for place, gradient in zip(kept, gradients):
            place.copy_(gradient)
        return loss

    def run() -> list[Any]:
        return [into(kept, *tensors), *kept]

    return run


def jax_jitted(arrays: Arrays) -> Run:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", False)
    values = [jnp.array(array) for array in arrays]

    def cost(a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
        return jnp.mean((jax.nn.sigmoid(a * b + c) * d - e) ** 2)

    compiled = jax.jit(jax.value_and_grad(cost, argnums=(0, 1, 2, 3)))

    def run() -> list[Any]:
        loss, gradients = jax.block_until_ready(compiled(*values))
        return [loss, *gradients]

    return run


def with_autograd(arrays: Arrays) -> Run:
    import autograd.numpy as anp
    from autograd import value_and_grad

    def cost(wanted: Any, e: Any) -> Any:
        a, b, c, d = wanted
        return anp.mean((1 / (1 + anp.exp(-(a * b + c))) * d - e) ** 2)

    both = value_and_grad(cost)

    def run() -> list[Any]:
        loss, gradients = both(arrays[:4], arrays[4])
        return [loss, *gradients]

    return run


def with_pytensor(arrays: Arrays) -> Run:
    import pytensor
    import pytensor.tensor as pt

    a, b, c, d, e = variables = [pt.fvector(name) for name in "abcde"]
    cost = ((pt.sigmoid(a * b + c) * d - e) ** 2).mean()
    gradients = pytensor.grad(cost, variables[:4])
    function = pytensor.function(variables, [cost, *gradients], trust_input=True)
    return lambda: function(*arrays)


def with_tinygrad(arrays: Arrays) -> Run:
    from benchmarks.mlp_peers import tinygrad_on_cpu

    tinygrad_on_cpu()
    from tinygrad import Tensor, TinyJit

    a, b, c, d, e = tensors = [Tensor(array).realize() for array in arrays]

    @TinyJit
    def both() -> Any:
        loss = ((((a * b + c).sigmoid()) * d - e) ** 2).mean()
        gradients = loss.gradient(*tensors[:4])
        loss.realize(*gradients)
        return loss, gradients

    def run() -> list[Any]:
        from tinygrad import Device

        loss, gradients = both()
        Device[Device.DEFAULT].synchronize()
        return [loss, *gradients]

    return run


def sampled(result: list[Any]) -> np.ndarray:
    """Return the loss and some elements of each gradient, these times the number of elements."""
    values = [value.numpy() if hasattr(value, "numpy") else np.asarray(value) for value in result]
    some = [value.reshape(-1)[::100_003] * SIZE for value in values[1:]]
    return np.concatenate([values[0].reshape(1), *some])


def workload(name: str) -> Workload:
    arrays = problem()

    def contender(name: str, build: Any, *needs: str, **more: Any) -> Contender:
        return Contender(name, lambda: build(arrays), needs, **more)

    def ours(engine: str) -> Contender:
        return Contender(
            f"MiniFlow {engine}", lambda: miniflow_function(arrays, engine), compiles=True
        )

    return Workload(
        name=name,
        title="mean((sigmoid(a*b + c)*d - e)**2) and four gradients, 4M float32",
        steps=1,
        contenders=[
            contender("copy of the same bytes", copy, floor=True),
            contender("NumPy by hand", numpy_plain),
            contender("NumPy by hand, out=", numpy_whole),
            contender("NumPy by hand, tiled", numpy_tiled),
            contender("numba by hand, own exp", numba_fused, "numba", compiles=True),
            contender("MiniFlow reference", miniflow_reference),
            ours("numpy"),
            ours("numba"),
            contender("JAX", jax_jitted, "jax", compiles=True),
            contender("torch eager", torch_eager, "torch"),
            contender("torch compiled", torch_compiled, "torch", compiles=True),
            contender("autograd", with_autograd, "autograd"),
            contender("pytensor", with_pytensor, "pytensor", compiles=True),
            contender("tinygrad", with_tinygrad, "tinygrad", compiles=True),
        ],
        baseline="copy of the same bytes",
        summary=sampled,
        rtol=2e-5,
        atol=2e-5,
        unit="ms",
        seconds=2.0,
        bars=[
            Bar("MiniFlow numba", "copy of the same bytes", 1.2),
            Bar("MiniFlow numpy", "NumPy by hand, tiled", 1.05),
        ],
    )


def main(*, quick: bool = False) -> bool:
    return run_workload(workload("elementwise"), quick=quick)
