"""Predicting with the Boston network: one row, and ten thousand."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

import mfcore as mf
from benchmarks.elementwise_by_hand import vectorising_exp
from benchmarks.harness import Bar, Contender, Limit, Run
from benchmarks.mlp import open_function, start_of
from benchmarks.workload import Workload, run_workload
from mfops_nn import Linear, Sigmoid

FEATURES, HIDDEN = 13, 10
CALLS = 100
"""Calls in one run."""
PART = 512
"""Rows that numba's loop takes at once, and of a thread's share."""


@attrs.define
class Prediction:
    """The network's parameters, and the rows to predict for."""

    parameters: list[np.ndarray]
    X: np.ndarray

    def repeated(self, call: Any, value: Any = None) -> Run:
        """Return ``CALLS`` calls with the rows, or ``value`` in their place, one after another."""
        X = self.X if value is None else value

        def run() -> Any:
            for _ in range(CALLS - 1):
                call(X)
            return call(X)

        return run


def problem(rows: int) -> Prediction:
    rng = np.random.default_rng(0)
    parameters = start_of([FEATURES, HIDDEN, 1], rng, np.float32)
    return Prediction(parameters, rng.standard_normal((rows, FEATURES), dtype=np.float32))


def numpy_plain(given: Prediction) -> Run:
    W1, b1, W2, b2 = given.parameters
    return given.repeated(lambda X: (1 / (1 + np.exp(-(X @ W1 + b1)))) @ W2 + b2)


def numpy_with_buffers(given: Prediction) -> Run:
    W1, b1, W2, b2 = given.parameters
    hidden = np.empty((len(given.X), HIDDEN), np.float32)
    one = np.array(1, np.float32)

    def predict(X: np.ndarray) -> np.ndarray:
        X.dot(W1, hidden)
        np.add(hidden, b1, hidden)
        np.negative(hidden, hidden)
        np.exp(hidden, hidden)
        np.add(hidden, one, hidden)
        np.reciprocal(hidden, hidden)
        out = hidden.dot(W2)
        return np.add(out, b2, out)

    return given.repeated(predict)


def numba_by_hand(given: Prediction, parallel: bool) -> Run:
    from numba import njit, prange

    zero, one = np.float32(0), np.float32(1)
    exp = vectorising_exp()

    @njit(fastmath=True, error_model="numpy", parallel=parallel)
    def predict(X, W1, b1, W2, b2):  # type: ignore
        out = np.empty((X.shape[0], 1), np.float32)
        for part in prange((X.shape[0] + PART - 1) // PART):
            start = part * PART
            count = min(PART, X.shape[0] - start)
            hidden = np.empty((count, HIDDEN), np.float32)
            if parallel:  # a constant to the compiler; for one row a call of BLAS is too dear
                np.dot(X[start : start + count], W1, hidden)
            else:
                hidden[:] = zero
                for k in range(FEATURES):
                    for j in range(HIDDEN):
                        hidden[0, j] += X[0, k] * W1[k, j]
            for i in range(count):
                for j in range(HIDDEN):
                    hidden[i, j] += b1[j]
            flat = hidden.reshape(-1)
            for i in range(flat.size):
                flat[i] = one / (one + exp(-flat[i]))
            for i in range(count):
                total = b2[0]
                for j in range(HIDDEN):
                    total += hidden[i, j] * W2[j, 0]
                out[start + i, 0] = total
        return out

    return given.repeated(lambda X: predict(X, *given.parameters))


def miniflow(given: Prediction, engine: str) -> Run:
    X = mf.Input("X")
    W1, b1, W2, b2 = (mf.Parameter(value) for value in given.parameters)
    output = Linear(Sigmoid(Linear(X, W1, b1)), W2, b2)
    return given.repeated(open_function([X], output, engine))


def with_onnxruntime(given: Prediction, threads: int) -> Run:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    names = ["W1", "b1", "W2", "b2"]
    constants = [
        numpy_helper.from_array(value, name) for name, value in zip(names, given.parameters)
    ]
    nodes = [
        helper.make_node("Gemm", ["X", "W1", "b1"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "W2", "b2"], ["y"]),
    ]
    X = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", FEATURES])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])
    graph = helper.make_graph(nodes, "boston", [X], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names_of_outputs = ["y"]
    return given.repeated(lambda X: session.run(names_of_outputs, {"X": X})[0])


def with_jax(given: Prediction) -> Run:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", False)
    W1, b1, W2, b2 = (jnp.array(value) for value in given.parameters)
    predict = jax.jit(lambda X: jax.nn.sigmoid(X @ W1 + b1) @ W2 + b2)
    return given.repeated(lambda X: np.asarray(predict(X)))


def torch_model(given: Prediction, threads: int) -> Any:
    import torch
    from torch.nn import functional

    torch.set_num_threads(threads)
    W1, b1, W2, b2 = (torch.tensor(value.T.copy()) for value in given.parameters)

    def predict(X: Any) -> Any:
        return functional.linear(torch.sigmoid(functional.linear(X, W1, b1)), W2, b2)

    return predict


def torch_eager(given: Prediction, threads: int) -> Run:
    import torch

    predict = torch_model(given, threads)
    run = given.repeated(lambda X: predict(torch.from_numpy(X)).numpy())
    return torch.inference_mode()(run)  # type: ignore[no-any-return]


def torch_compiled(given: Prediction, threads: int) -> Run:
    import torch

    predict = torch.compile(torch_model(given, threads), fullgraph=True)
    run = given.repeated(lambda X: predict(torch.from_numpy(X)).numpy())
    return torch.no_grad()(run)  # type: ignore[no-any-return]


def with_pytensor(given: Prediction) -> Run:
    import pytensor
    import pytensor.tensor as pt

    X = pt.fmatrix("X")
    W1, b1, W2, b2 = (pytensor.shared(value) for value in given.parameters)
    predict = pytensor.function([X], pt.sigmoid(X @ W1 + b1) @ W2 + b2, trust_input=True)
    return given.repeated(predict)


def with_sklearn(given: Prediction) -> Run:
    from sklearn.neural_network import MLPRegressor

    W1, b1, W2, b2 = given.parameters
    model = MLPRegressor(hidden_layer_sizes=[HIDDEN], activation="logistic", solver="sgd")
    model.partial_fit(given.X, np.zeros(len(given.X), np.float32))
    model.coefs_, model.intercepts_ = [W1, W2], [b1, b2]
    return given.repeated(lambda X: model.predict(X).reshape(-1, 1))


def workload(name: str) -> Workload:
    rows = int(name.partition("-")[2])
    given = problem(rows)
    many = rows > 1
    threads = 2 if many else 1

    def contender(name: str, build: Any, *arguments: Any, needs: str = "") -> Contender:
        compiles = not any(word in name for word in ("NumPy", "eager", "reference", "scikit"))
        needed = tuple(needs.split())
        return Contender(name, lambda: build(given, *arguments), needed, compiles=compiles)

    bars: list[Bar | Limit] = [Limit("MiniFlow numba", 1.5e-6)]
    if many:
        bars = [Bar("MiniFlow numba", "onnxruntime", 1.0)]
    return Workload(
        name=name,
        title=f"{rows} row{'s' if many else ''} a call, 13 - 10 sigmoid - 1, float32",
        steps=CALLS,
        contenders=[
            contender("NumPy by hand", numpy_plain),
            contender("NumPy by hand, out=", numpy_with_buffers),
            contender("numba by hand", numba_by_hand, many, needs="numba scipy.linalg"),
            contender("MiniFlow reference", miniflow, "reference"),
            contender("MiniFlow numpy", miniflow, "numpy"),
            contender("MiniFlow numba", miniflow, "numba"),
            contender("onnxruntime", with_onnxruntime, threads, needs="onnx onnxruntime"),
            contender("JAX", with_jax, needs="jax"),
            contender("torch eager", torch_eager, threads, needs="torch"),
            contender("torch compiled", torch_compiled, threads, needs="torch"),
            contender("pytensor", with_pytensor, needs="pytensor"),
            contender("scikit-learn", with_sklearn, needs="sklearn.neural_network"),
        ],
        baseline="NumPy by hand",
        rtol=1e-4,
        atol=1e-6,
        bars=bars,
        seconds=2.0,
    )


def main(*, quick: bool = False) -> bool:
    worked = [run_workload(workload(f"inference-{n}"), quick=quick) for n in (1, 10_000)]
    return all(worked)
