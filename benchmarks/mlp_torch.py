"""A dense network in torch: eager, and compiled as one function a step."""

from __future__ import annotations

from typing import Any

from benchmarks.harness import Contender, Run
from benchmarks.mlp import BETA1, BETA2, EPSILON, Training


def contenders(training: Training, threads: int) -> list[Contender]:
    needs = ("torch",)
    return [
        Contender("torch eager", lambda: eager(training, threads), needs),
        Contender("torch compiled", lambda: compiled(training, threads), needs, compiles=True),
    ]


def loss_of(training: Training) -> Any:
    """Return ``loss(parameters, X, y)`` with parameters as torch lays them out."""
    from torch.nn import functional

    activation = {"sigmoid": functional.sigmoid, "relu": functional.relu}[training.activation]
    loss = {"mse": functional.mse_loss, "cross-entropy": functional.cross_entropy}[training.loss]

    def cost(parameters: list[Any], X: Any, y: Any) -> Any:
        value = X
        for i in range(0, len(parameters), 2):
            value = value if i == 0 else activation(value)
            value = functional.linear(value, parameters[i], parameters[i + 1])
        return loss(value, y)

    return cost


def tensors(training: Training, threads: int) -> tuple[list[Any], Any, Any, list[Any]]:
    """Return parameters (weights transposed, as torch keeps them), data and rows."""
    import torch

    torch.set_num_threads(threads)
    parameters = [torch.tensor(value.T.copy()) for value in training.start]
    rows = list(torch.from_numpy(training.rows))
    return parameters, torch.tensor(training.features), torch.tensor(training.targets), rows


def eager(training: Training, threads: int) -> Run:
    import torch

    parameters, features, targets, batches = tensors(training, threads)
    for parameter in parameters:
        parameter.requires_grad_()
    cost = loss_of(training)
    optimizer: Any
    if training.optimizer == "sgd":
        optimizer = torch.optim.SGD(parameters, lr=training.rate, fused=True)
    else:
        optimizer = torch.optim.Adam(
            parameters, lr=training.rate, betas=(BETA1, BETA2), eps=EPSILON, fused=True
        )

    def run() -> Any:
        losses = []
        for rows in batches:
            loss = cost(parameters, features[rows], targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).numpy()

    return run


def compiled(training: Training, threads: int) -> Run:
    import torch

    parameters, features, targets, batches = tensors(training, threads)
    cost = loss_of(training)
    state = [[torch.zeros_like(p) for p in parameters] for _ in range(2)]
    correction = torch.ones(2, dtype=torch.float64)
    betas = torch.tensor([BETA1, BETA2], dtype=torch.float64)
    adam = training.optimizer == "adam"

    @torch.compile(fullgraph=True)
    def step(parameters: Any, state: Any, power: Any, X: Any, y: Any, rows: Any) -> Any:
        gradients, loss = torch.func.grad_and_value(cost)(parameters, X[rows], y[rows])
        if adam:
            power *= betas
            first = (1 - power[0]).to(X.dtype)
            second = (1 - power[1]).to(X.dtype)
            for p, m, v, g in zip(parameters, *state, gradients):
                m.mul_(BETA1).add_(g, alpha=1 - BETA1)
                v.mul_(BETA2).add_(g * g, alpha=1 - BETA2)
                p.sub_(training.rate * (m / first) / ((v / second).sqrt() + EPSILON))
        else:
            for p, g in zip(parameters, gradients):
                p.sub_(training.rate * g)
        return loss

    def run() -> Any:
        losses = []
        with torch.no_grad():
            for rows in batches:
                losses.append(step(parameters, state, correction, features, targets, rows))
        return torch.stack(losses).numpy()

    return run
