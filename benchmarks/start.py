"""What it costs to start: imports, the first training step in a fresh process, and disk space."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Bar, Limit, Skipped, report, save
from benchmarks.workload import cache_folders

CLASSIC = ["mfcore", "mfops_basic", "mfops_nn", "mfoptim"]

MEASURE = """
import time
import numpy
start = time.perf_counter()
{statement}
print(time.perf_counter() - start)
"""

STATEMENTS = {
    "nothing": "pass",
    "import mfcore": "import mfcore",
    "import mfcore, names used": (
        "import mfcore; mfcore.Session, mfcore.Graph, mfcore.Parameter, mfcore.operation"
    ),
    "core and classic packs": "import mfcore, mfops_nn, mfoptim; mfcore.Session",
}

# The first step of Boston's network on data of its shape, as each library's users write it.

DATA = """
import numpy as np
rng = np.random.default_rng(0)
features, targets = rng.normal(size=(506, 13)), rng.normal(size=(506, 1))
W1, b1, W2, b2 = rng.normal(size=(13, 10)), np.zeros(10), rng.normal(size=(10, 1)), np.zeros(1)
rows = rng.integers(0, 506, (46, 11))
"""

MINIFLOW = """
import mfcore as mf
from mfops_nn import MSE, Linear, Sigmoid
from mfoptim import SGD
X, y = mf.Input("X"), mf.Input("y")
W1, b1, W2, b2 = (mf.Parameter(value) for value in (W1, b1, W2, b2))
cost = MSE(y, Linear(Sigmoid(Linear(X, W1, b1)), W2, b2))
session = mf.Session(cost, engine="{engine}")
"""
ONE_STEP = """
session.step({X: features[rows[0]], y: targets[rows[0]]}, SGD(learning_rate=0.01))
"""
ONE_EPOCH = """
session.epoch({X: features, y: targets}, SGD(learning_rate=0.01), rows)
"""

JAX = """
import jax
import jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
def cost(parameters, X, y):
    W1, b1, W2, b2 = parameters
    return jnp.mean((jax.nn.sigmoid(X @ W1 + b1) @ W2 + b2 - y) ** 2)
@jax.jit
def step(parameters, X, y, rows):
    loss, gradients = jax.value_and_grad(cost)(parameters, X[rows], y[rows])
    return [p - 0.01 * g for p, g in zip(parameters, gradients)], loss
parameters, loss = step([W1, b1, W2, b2], features, targets, rows[0])
float(loss)
"""

TORCH = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(13, 10), nn.Sigmoid(), nn.Linear(10, 1)).double()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
X, y = torch.from_numpy(features), torch.from_numpy(targets)
loss = nn.functional.mse_loss(model(X[rows[0]]), y[rows[0]])
loss.backward()
optimizer.step()
loss.item()
"""

SKLEARN = """
from sklearn.neural_network import MLPRegressor
model = MLPRegressor(hidden_layer_sizes=[10], activation="logistic", solver="sgd", batch_size=11)
model.partial_fit(features[rows[0]], targets[rows[0], 0])
"""

# Qualified, so that one pack is loaded: a short name has to be looked for in all of them.
QUALIFIED = {"reference": "mfcore.reference", "numpy": "mfjit.numpy", "numba": "mfjit.numba"}
ENGINES = {
    name: MINIFLOW.replace("{engine}", qualified) + ONE_STEP
    for name, qualified in QUALIFIED.items()
}
PROGRAMS = {
    "NumPy imported, data made": "",
    "MiniFlow reference": ENGINES["reference"],
    "MiniFlow numpy": ENGINES["numpy"],
    "MiniFlow numba, warm cache": ENGINES["numba"],
    "MiniFlow numba, cold cache": ENGINES["numba"],
    "MiniFlow numba, epoch, warm cache": MINIFLOW.replace("{engine}", QUALIFIED["numba"])
    + ONE_EPOCH,
    "MiniFlow numba, epoch, cold cache": MINIFLOW.replace("{engine}", QUALIFIED["numba"])
    + ONE_EPOCH,
    "JAX": JAX,
    "torch": TORCH,
    "scikit-learn": SKLEARN,
}


def import_times(rounds: int) -> dict[str, list[float]]:
    """Seconds beyond NumPy's own import, each in a fresh process, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(rounds):
        for name, statement in STATEMENTS.items():
            code = MEASURE.format(statement=statement)
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            )
            times[name].append(float(done.stdout))
    return times


def first_step(code: str, caches: Path) -> float:
    """Return the seconds from starting a process to the end of its first step."""
    program = f"{DATA}{code}\nimport time\nprint(time.time())"
    # Installed packages have their bytecode; editable ones get it in the first round.
    bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(caches.parent / "pyc")}
    environment = {**os.environ, **cache_folders(caches), **bytecode}
    start = time.time()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        env=environment,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1][:300])
    return float(done.stdout.split()[-1]) - start


def first_steps(rounds: int) -> tuple[dict[str, list[float]], list[Skipped]]:
    """Time all programs in turn. A cold cache is an empty folder; a warm one was filled before."""
    times: dict[str, list[float]] = {}
    skipped: dict[str, Skipped] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for round_number in range(-1, rounds):
            for name, code in PROGRAMS.items():
                caches = Path(folder) / name.replace(" ", "-")
                if name.endswith("cold cache"):
                    shutil.rmtree(caches, ignore_errors=True)
                if name in skipped:
                    continue
                try:
                    seconds = first_step(code, caches)
                except RuntimeError as error:
                    known = "ModuleNotFoundError" in str(error) or "UnknownName" in str(error)
                    reason = f"{'skipped' if known else 'FAILED'}: {error}"
                    skipped[name] = Skipped(name, reason)
                    continue
                if round_number >= 0:  # the first fills caches and the system's memory of files
                    times.setdefault(name, []).append(seconds)
    return times, list(skipped.values())


def installed_bytes(package: str) -> int:
    """Size of a package as it is installed, with the files that Python compiled from it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    files = Path(spec.origin).parent.rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file())


def main(*, quick: bool = False) -> bool:
    report(
        "imports",
        "time beyond `import numpy` in a fresh process",
        import_times(3 if quick else 15),
        baseline="import mfcore, names used",
        unit="ms",
        bars=[Limit("import mfcore", 0.02)],
    )
    times, skipped = first_steps(2 if quick else 7)
    report(
        "start",
        "a fresh process to its first Boston step done",
        times,
        baseline="MiniFlow numpy",
        unit="s",
        bars=[
            Limit("MiniFlow numpy", 0.25),
            Limit("MiniFlow numba, warm cache", 0.7),
            Limit("MiniFlow numba, cold cache", 5.0),
            Limit("MiniFlow numba, epoch, warm cache", 0.7),
            Limit("MiniFlow numba, epoch, cold cache", 5.0),
            Bar("MiniFlow numba, epoch, warm cache", ("JAX", "torch", "scikit-learn"), 1.0),
        ],
        skipped=skipped,
    )
    sizes = {name: installed_bytes(name) for name in CLASSIC}
    print("\nsize: source and compiled files of core and the three classic packs")
    for name, size in sizes.items():
        print(f"  {name:12}  {size / 1e3:8.1f} kB")
    total = sum(sizes.values())
    print(f"  together      {total / 1e3:8.1f} kB, promised: at most 2000 kB")
    save("size", {"bytes": sizes, "total": total})
    return not any(skip.reason.startswith("FAILED") for skip in skipped)
