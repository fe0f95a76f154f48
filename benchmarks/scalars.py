"""Graphs of many scalar nodes: what a node costs in time and memory, from 10^3 to 10^6 of them.

Every measurement has a process of its own, so that no graph pays for another one's garbage.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import (
    Limit,
    Skipped,
    UnavailableError,
    check_same_losses,
    report,
)

SIZES = [1_000, 10_000, 100_000, 1_000_000]
LARGEST = {
    "micrograd": 100_000,
    "torch": 100_000,
    "autograd": 100_000,
    "JAX": 1_000,
}
"""Peers are run up to here: beyond, building or compiling the graph takes minutes or all memory."""


def program(nodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a random graph: leaves, then for each node whether it multiplies, and its operands.

    Every node takes the value that has waited longest for a consumer, and adds any earlier one
    or multiplies it by a leaf (below 1, so that products cannot grow without bound). In the
    end what is left over is added up pairwise, so that the last node depends on all.
    """
    rng = np.random.default_rng(0)
    leaves = max(10, nodes // 50)
    values = rng.uniform(-1, 1, leaves)
    mixed = nodes - (leaves - 1)
    multiplies = np.zeros(nodes, bool)
    multiplies[:mixed] = rng.random(mixed) < 0.5
    left, right = np.empty(nodes, np.int64), np.empty(nodes, np.int64)
    # The queue starts as all leaves, and each node takes one and adds itself: so node i takes
    # value i. The pairwise sums go on in the same way, two at a time.
    left[:mixed] = np.arange(mixed)
    earlier = rng.random(mixed) * (np.arange(mixed) + leaves)
    right[:mixed] = np.where(
        multiplies[:mixed], rng.integers(0, leaves, mixed), earlier.astype(np.int64)
    )
    rest = nodes - mixed
    left[mixed:] = mixed + 2 * np.arange(rest)
    right[mixed:] = left[mixed:] + 1
    return values, multiplies, left, right


Built = Callable[[], tuple[float, Any]]
"""A call runs forward and backward, and returns the value and the gradients of some leaves."""


def applied(leaves: list[Any], nodes: int, add: Any, multiply: Any) -> Any:
    """Return the last node of the graph over these leaves."""
    _, multiplies, left, right = program(nodes)
    values = list(leaves)
    for product, i, j in zip(multiplies.tolist(), left.tolist(), right.tolist()):
        values.append((multiply if product else add)(values[i], values[j]))
    return values[-1]


def miniflow_reference(nodes: int) -> Built:
    import mfcore as mf
    from mfops_basic import Add, Mul

    leaves = [mf.Parameter(value) for value in program(nodes)[0]]
    session = mf.Session(applied(leaves, nodes, Add, Mul), engine="reference")
    cost = session.graph.outputs[0]

    def run() -> tuple[float, Any]:
        run = session.run()
        gradients = run.gradients
        return float(run[cost]), [float(gradients[leaf]) for leaf in leaves[:10]]

    return run


def miniflow_compiled(nodes: int, engine: str) -> Built:
    """Forward, backward and an update too small to change anything: a training step."""
    import mfcore as mf
    from mfcore.errors import UnknownNameError
    from mfops_basic import Add, Mul
    from mfoptim import SGD

    leaves = [mf.Parameter(value) for value in program(nodes)[0]]
    output = applied(leaves, nodes, Add, Mul)
    try:
        session = mf.Session(output, engine=engine)
    except UnknownNameError as error:
        raise UnavailableError(f"engine {engine!r} is not available") from error
    rate = 1e-3
    start = {leaf: float(leaf.value) for leaf in leaves[:10]}
    probe = SGD(learning_rate=rate)
    value = session.step({}, probe)
    gradients = [(start[leaf] - float(session[leaf])) / rate for leaf in leaves[:10]]
    for leaf in leaves:
        session[leaf] = leaf.value
    still = SGD(learning_rate=1e-300)
    session.step({}, still)

    def run() -> tuple[float, Any]:
        session.step({}, still)
        return value, gradients

    return run


def python_tape(nodes: int, number: Callable[[float], Any]) -> Built:
    """By hand: a list of steps that each call two functions of plain numbers, there and back.

    It checks nothing and knows of nothing but nodes with two inputs: what an engine costs that
    calls functions node by node, and does nothing beside.
    """

    def add(x: Any, y: Any) -> Any:
        return x + y

    def add_back(grad: Any, _x: Any, _y: Any) -> tuple[Any, Any]:
        return grad, grad

    def multiply(x: Any, y: Any) -> Any:
        return x * y

    def multiply_back(grad: Any, x: Any, y: Any) -> tuple[Any, Any]:
        return grad * y, grad * x

    start, multiplies, left, right = program(nodes)
    leaves = list(map(number, start))
    operands = list(zip(multiplies.tolist(), left.tolist(), right.tolist()))
    there = [(multiply if product else add, i, j) for product, i, j in operands]
    back = [(multiply_back if product else add_back, i, j) for product, i, j in operands[::-1]]
    one = number(1.0)

    def run() -> tuple[float, Any]:
        values = leaves.copy()
        for function, i, j in there:
            values.append(function(values[i], values[j]))
        gradients = [None] * (len(values) - 1) + [one]
        for k, (function, i, j) in zip(range(len(values) - 1, -1, -1), back):
            x, y = function(gradients[k], values[i], values[j])
            gradients[k] = None
            sofar = gradients[i]
            gradients[i] = x if sofar is None else sofar + x
            sofar = gradients[j]
            gradients[j] = y if sofar is None else sofar + y
        return float(values[-1]), [float(gradient) for gradient in gradients[:10]]

    return run


def numba_tape(nodes: int) -> Built:
    """By hand: a loop over operand numbers, there and back."""
    from numba import njit

    start, multiplies, left, right = program(nodes)
    left, right = left.astype(np.int32), right.astype(np.int32)
    count = len(start)

    @njit(boundscheck=False)
    def both(values, grads, multiplies, left, right):  # type: ignore
        for k in range(left.size):
            a, b = values[left[k]], values[right[k]]
            values[count + k] = a * b if multiplies[k] else a + b
        grads[:] = 0.0
        grads[-1] = 1.0
        for k in range(left.size - 1, -1, -1):
            grad = grads[count + k]
            i, j = left[k], right[k]
            if multiplies[k]:
                grads[i] += grad * values[j]
                grads[j] += grad * values[i]
            else:
                grads[i] += grad
                grads[j] += grad

    values, grads = np.concatenate([start, np.zeros(nodes)]), np.empty(count + nodes)

    def run() -> tuple[float, Any]:
        both(values, grads, multiplies, left, right)
        return float(values[-1]), grads[:10].tolist()

    return run


def with_micrograd(nodes: int) -> Built:
    """micrograd has no graph to run again: it is built anew, forward as it is built."""
    from micrograd.engine import Value

    start = program(nodes)[0].tolist()
    sys.setrecursionlimit(10_000 + nodes // 10)  # its sort is recursive

    def run() -> tuple[float, Any]:
        leaves = [Value(value) for value in start]
        output = applied(leaves, nodes, Value.__add__, Value.__mul__)
        output.backward()
        return output.data, [leaf.grad for leaf in leaves[:10]]

    return run


def with_torch(nodes: int) -> Built:
    import torch

    torch.set_num_threads(1)
    leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in program(nodes)[0]]

    def run() -> tuple[float, Any]:
        output = applied(leaves, nodes, torch.add, torch.mul)
        gradients = torch.autograd.grad(output, leaves)
        return output.item(), [gradient.item() for gradient in gradients[:10]]

    return run


def with_autograd(nodes: int) -> Built:
    import autograd.numpy as anp
    from autograd import value_and_grad

    both = value_and_grad(lambda leaves: applied(leaves, nodes, anp.add, anp.multiply))
    start = program(nodes)[0].tolist()

    def run() -> tuple[float, Any]:
        value, gradients = both(start)
        return float(value), [float(gradient) for gradient in gradients[:10]]

    return run


def with_jax(nodes: int) -> Built:
    import jax

    jax.config.update("jax_enable_x64", True)
    start = jax.numpy.array(program(nodes)[0])

    def cost(leaves: Any) -> Any:
        return applied(list(leaves), nodes, jax.numpy.add, jax.numpy.multiply)

    both = jax.jit(jax.value_and_grad(cost))

    def run() -> tuple[float, Any]:
        value, gradients = jax.block_until_ready(both(start))
        return float(value), np.asarray(gradients)[:10].tolist()

    return run


BUILDERS: dict[str, Callable[[int], Built]] = {
    "MiniFlow reference": miniflow_reference,
    "MiniFlow numpy": lambda nodes: miniflow_compiled(nodes, "numpy"),
    "MiniFlow numba": lambda nodes: miniflow_compiled(nodes, "numba"),
    "NumPy numbers by hand": lambda nodes: python_tape(nodes, np.float64),
    "Python floats by hand": lambda nodes: python_tape(nodes, float),
    "numba tape by hand": numba_tape,
    "micrograd": with_micrograd,
    "torch": with_torch,
    "autograd": with_autograd,
    "JAX": with_jax,
}


def resident() -> int:
    """Return the bytes of memory that this process holds now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def measure(name: str, nodes: int) -> dict[str, Any]:
    """Build one graph, run it, and return what it took, in this process."""
    BUILDERS[name](100)()  # imports and first uses
    program(nodes)
    before = resident()
    start = time.perf_counter()
    run = BUILDERS[name](nodes)
    value, gradients = run()
    first = time.perf_counter() - start
    after = resident()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 1 and len(times) < 50):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return {
        "value": [value, *gradients],
        "first": first,
        "seconds": statistics.median(times),
        "bytes": after - before,
    }


def measured_apart(name: str, nodes: int) -> dict[str, Any] | Skipped:
    command = [sys.executable, "-m", "benchmarks.scalars", name, str(nodes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [""]
        known = any(word in lines[-1] for word in ("ModuleNotFoundError", "UnavailableError"))
        return Skipped(name, f"{'skipped' if known else 'FAILED'}: {lines[-1][:300]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(*, quick: bool = False) -> bool:
    sizes = SIZES[:2] if quick else SIZES
    rounds = 1 if quick else 3
    worked = True
    print("\nscalars: one forward and backward over N scalar Add and Mul nodes")
    for nodes in sizes:
        times: dict[str, list[float]] = {}
        values: dict[str, Any] = {}
        skipped: list[Skipped] = []
        notes: dict[str, str] = {}
        table: dict[str, dict[str, float]] = {}
        names = [name for name in BUILDERS if nodes <= LARGEST.get(name, nodes)]
        for round_number in range(rounds):
            for name in names if round_number % 2 == 0 else names[::-1]:
                if any(skip.name == name for skip in skipped):
                    continue
                if round_number and table[name]["first"] > 5:
                    continue  # building it again would take longer than all the others
                got = measured_apart(name, nodes)
                if isinstance(got, Skipped):
                    skipped.append(got)
                    worked = worked and not got.reason.startswith("FAILED")
                    continue
                values[name] = got["value"]
                times.setdefault(name, []).append(got["seconds"] / nodes)
                table[name] = {"first": got["first"], "bytes": got["bytes"] / nodes}
                notes[name] = f"{got['bytes'] / nodes:6.0f} bytes a node, built and run the first "
                notes[name] += f"time in {got['first']:.2f} s"
        check_same_losses(values, rtol=1e-4)
        skipped += [
            Skipped(name, f"not run: more than {LARGEST[name]} nodes")
            for name in BUILDERS
            if name not in names
        ]
        report(
            f"scalars-{nodes}",
            f"{nodes} scalar nodes, time per node",
            times,
            baseline="MiniFlow reference",
            unit="ns",
            bars=[Limit("MiniFlow reference", 1e-6), Limit("MiniFlow numba", 20e-9)],
            skipped=skipped,
            notes=notes,
            more={"memory and first run": table},
        )
        promised = [("MiniFlow reference", "bytes", 1000, "bytes a node")]
        if nodes == 100_000:
            promised.append(("MiniFlow numba", "first", 5, "s to build and compile"))
        for name, key, most, unit in promised:
            if name in table:
                verdict = "met" if table[name][key] <= most else "MISSED"
                measured = table[name][key]
                print(f"  bar {verdict}: {name} at most {most} {unit}, measured {measured:.3g}")
    return worked


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("nodes", type=int)
    options = parser.parse_args()
    print(json.dumps(measure(options.name, options.nodes)))
