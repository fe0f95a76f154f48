"""The convolutional network in torch, JAX and tinygrad."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Run

if TYPE_CHECKING:
    from benchmarks.cnn import Images


def torch_parts(problem: Images, layout: str) -> tuple[Any, list[Any], Any, Any, list[Any]]:
    """Return the cost, the parameters, images, classes and rows, laid out as asked."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(2)
    form = torch.contiguous_format if layout == "NCHW" else torch.channels_last
    parameters = [torch.tensor(value) for value in problem.start]
    parameters[0] = parameters[0].to(memory_format=form)
    parameters[2] = parameters[2].to(memory_format=form)
    parameters[4] = parameters[4].T.contiguous()
    images = torch.tensor(problem.images).to(memory_format=form)

    def cost(parameters: Any, x: Any, y: Any) -> Any:
        W1, b1, W2, b2, W3, b3 = parameters
        x = functional.max_pool2d(functional.relu(functional.conv2d(x, W1, b1)), 2)
        x = functional.max_pool2d(functional.relu(functional.conv2d(x, W2, b2)), 2)
        logits = functional.linear(x.flatten(1), W3, b3)
        return functional.cross_entropy(logits, y)

    rows = list(torch.from_numpy(problem.rows))
    return cost, parameters, images, torch.tensor(problem.classes), rows


def torch_eager(problem: Images, layout: str) -> Run:
    import torch

    cost, parameters, images, classes, batches = torch_parts(problem, layout)
    for parameter in parameters:
        parameter.requires_grad_()
    optimizer = torch.optim.SGD(parameters, lr=problem.rate, fused=True)

    def run() -> Any:
        losses = []
        for rows in batches:
            loss = cost(parameters, images[rows], classes[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).numpy()

    return run


def torch_compiled(problem: Images, layout: str) -> Run:
    import torch

    cost, parameters, images, classes, batches = torch_parts(problem, layout)

    @torch.compile(fullgraph=True)
    def step(parameters: Any, images: Any, classes: Any, rows: Any) -> Any:
        gradients, loss = torch.func.grad_and_value(cost)(parameters, images[rows], classes[rows])
        for p, g in zip(parameters, gradients):
            p.sub_(problem.rate * g)
        return loss

    def run() -> Any:
        with torch.no_grad():
            losses = [step(parameters, images, classes, rows) for rows in batches]
        return torch.stack(losses).numpy()

    return run


def jax_step(problem: Images) -> tuple[Any, Any, Any]:
    """Return ``step(parameters, images, classes, rows)``, the start, and the data: NHWC."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    jax.config.update("jax_enable_x64", False)

    def convolved(x: Any, W: Any, b: Any) -> Any:
        kind = ("NHWC", "HWIO", "NHWC")
        x = jax.nn.relu(lax.conv_general_dilated(x, W, (1, 1), "VALID", dimension_numbers=kind) + b)
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def cost(parameters: Any, x: Any, y: Any) -> Any:
        W1, b1, W2, b2, W3, b3 = parameters
        x = convolved(convolved(x, W1, b1), W2, b2)
        logits = x.reshape(x.shape[0], -1) @ W3 + b3
        picked = jnp.take_along_axis(logits, y[:, None], axis=1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(logits, axis=1) - picked)

    def step(parameters: Any, images: Any, classes: Any, rows: Any) -> tuple[Any, Any]:
        loss, gradients = jax.value_and_grad(cost)(parameters, images[rows], classes[rows])
        return [p - problem.rate * g for p, g in zip(parameters, gradients)], loss

    W1, b1, W2, b2, W3, b3 = problem.start
    dense = W3.reshape(32, 5, 5, 10).transpose(1, 2, 0, 3).reshape(800, 10)
    start = [W1.transpose(2, 3, 1, 0), b1, W2.transpose(2, 3, 1, 0), b2, dense, b3]
    images = jnp.array(problem.images.transpose(0, 2, 3, 1))
    data = images, jnp.array(problem.classes.astype(np.int32))
    return step, [jnp.array(value) for value in start], data


def jax_jitted(problem: Images) -> Run:
    import jax

    step, parameters, data = jax_step(problem)
    compiled = jax.jit(step)
    batches = [jax.numpy.array(rows) for rows in problem.rows.astype(np.int32)]

    def run() -> Any:
        nonlocal parameters
        losses = []
        for rows in batches:
            parameters, loss = compiled(parameters, *data, rows)
            losses.append(loss)
        jax.block_until_ready(parameters)
        return losses

    return run


def jax_scanned(problem: Images) -> Run:
    import jax

    step, parameters, data = jax_step(problem)
    rows = jax.numpy.array(problem.rows.astype(np.int32))

    @jax.jit
    def whole(parameters: Any, images: Any, classes: Any, rows: Any) -> Any:
        return jax.lax.scan(lambda p, r: step(p, images, classes, r), parameters, rows)

    def run() -> Any:
        nonlocal parameters
        parameters, losses = whole(parameters, *data, rows)
        return np.asarray(losses)

    return run


def with_tinygrad(problem: Images) -> Run:
    from benchmarks.mlp_peers import tinygrad_on_cpu

    tinygrad_on_cpu()
    from tinygrad import Tensor, TinyJit

    parameters = [Tensor(value).contiguous().realize() for value in problem.start]
    images = Tensor(problem.images).realize()
    classes = Tensor(problem.classes.astype(np.int32)).realize()

    @TinyJit
    def step(rows: Any) -> Any:
        W1, b1, W2, b2, W3, b3 = parameters
        x = images[rows].conv2d(W1, b1).relu().max_pool2d((2, 2))
        x = x.conv2d(W2, b2).relu().max_pool2d((2, 2))
        loss = (x.flatten(1) @ W3 + b3).sparse_categorical_crossentropy(classes[rows])
        gradients = loss.gradient(*parameters)
        return loss.realize(
            *(p.assign(p - problem.rate * g) for p, g in zip(parameters, gradients))
        )

    batches = [Tensor(rows.astype(np.int32)).realize() for rows in problem.rows]

    def run() -> list[float]:
        return [step(rows).item() for rows in batches]

    return run
