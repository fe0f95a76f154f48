"""The example pack, installed from its wheel in an environment that knows nothing of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_wheels import Environment, build

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "mfops_extra"
OURS = ["mfcore", "mfops_basic", "mfops_nn", "mfoptim", "mftrace", "mfjit", "miniflow"]
BORROWED = [
    *["numpy", "pluggy", "attrs", "numba", "llvmlite", "scipy", "threadpoolctl"],
    *["click", "rich", "markdown-it-py", "mdurl", "Pygments"],  # the command line
    *["pytest", "iniconfig", "packaging"],  # the pack's own tests
]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Wheels of this repository's packs and of the example."""
    pytest.importorskip("numba")
    folders = [*(ROOT / pack for pack in OURS), EXAMPLE]
    return {folder.name: build(folder, tmp_path_factory.mktemp(folder.name)) for folder in folders}


@pytest.fixture(scope="module")
def environment(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with all of them."""
    folder = tmp_path_factory.mktemp("environment") / "env"
    return Environment(folder, [*wheels.values()], BORROWED)


pytestmark = pytest.mark.usefixtures("own_cache")


def miniflow(environment: Environment, *arguments: str) -> str:
    return environment.run(f"from miniflow.cli import main; main({[*arguments]!r})")


def test_it_uses_what_mfcore_makes_public_and_no_more() -> None:
    import mfcore

    sources = "".join(path.read_text("utf-8") for path in (EXAMPLE / "src").rglob("*.py"))
    imported = re.findall(r"^from (mf\w+[\w.]*) import (.+)$", sources, re.MULTILINE)
    used = re.findall(r"\bmf\.(\w+)", sources)

    foreign = {module for module, _ in imported if module.split(".")[0] != "mfops_extra"}
    names = {n.strip() for module, text in imported if module == "mfcore" for n in text.split(",")}

    assert foreign == {"mfcore", "mfcore.domain"}
    assert names | set(used) <= {*mfcore.__all__, "registry"}
    assert not re.findall(
        r"^import (?:mfops|mfoptim|mfjit|mftrace|miniflow)", sources, re.MULTILINE
    )


def test_its_own_tests_pass_against_its_wheel(environment: Environment, tmp_path: Path) -> None:
    printed = environment.run(
        "import pytest, sys; sys.exit(pytest.main(['-v', '-p', 'no:cacheprovider', "
        f"'--rootdir', {str(tmp_path)!r}, {str(EXAMPLE / 'tests')!r}]))"
    )

    assert re.search(r"\d\d passed, \d+ skipped in", printed)
    for check in ("Huber::gradients", "Swish::gradients", "TopK::gradients", "Lion::formula"):
        assert f"mfops_extra.{check} PASSED" in printed


def test_its_wheel_says_what_it_provides_and_so_it_is_not_imported_for_others(
    environment: Environment,
) -> None:
    shown = environment.run("""
import sys
import mfcore as mf
registry = mf.registry.current()
registry.operation("Huber")
print(*(name for name in ("mfops_extra.pack", "mfops_nn.pack") if name in sys.modules))
print(registry.provider(registry.operation("Huber")).origin)
""")

    assert shown == "\nmfops-extra 0.1.0\n"


def test_it_is_found_with_all_that_it_provides(environment: Environment) -> None:
    shown = environment.run("""
import mfcore as mf
(pack,) = [pack for pack in mf.registry.current().load() if pack.name == "mfops_extra"]
print(pack.status, pack.origin)
for kind, names in sorted(pack.provides.items()):
    if names:
        print(kind, *sorted(names))
""")

    assert shown.splitlines() == [
        "loaded mfops-extra 0.1.0",
        "operation Huber Swish TopK",
        "optimizer Lion",
        "tracer tally",
    ]


ENGINES_AGREE = """
import numpy as np
import mfcore as mf
import mfops_nn as nn
from mfoptim import fit
from mfops_extra import Huber, Lion, Swish, TopK

rng = np.random.default_rng(0)
data, W1, W2 = (rng.normal(size=shape) for shape in [(60, 3), (3, 8), (8, 1)])
target = data @ [[1.0], [-2.0], [0.5]]
X, y = mf.Input("X", shape=(None, 3)), mf.Input("y", shape=(None, 1))


def trained(engine, output):
    W = mf.Parameter(W1, name="W"), mf.Parameter(W2, name="V")
    b = mf.Parameter(np.zeros(8), name="b"), mf.Parameter(np.zeros(1), name="c")
    hidden = Swish(nn.Linear(X, W[0], b[0]), beta=1.5)
    cost = output(hidden, W[1], b[1])
    given = {X: data, y: target} if "y" in [n.name for n in mf.Graph(cost).nodes] else {X: data}
    history = fit(cost, given, Lion(learning_rate=0.01), epochs=5, seed=1, engine=engine)
    assert history.session.run(given).engine == engine
    return history.loss, history.session[W[0]]


def robust(hidden, W, b):
    return Huber(y, nn.Linear(hidden, W, b), delta=0.5)


def chosen(hidden, W, b):
    return (TopK(hidden, k=3) ** 2).mean()


for name, output, engines in [
    ("robust", robust, ["numpy", "numba"]), ("chosen", chosen, ["numpy"])
]:
    losses, weights = trained("reference", output)
    assert losses[-1] < losses[0]
    for engine in engines:
        found = trained(engine, output)
        np.testing.assert_allclose(found[0], losses, rtol=1e-9)
        np.testing.assert_allclose(found[1], weights, rtol=1e-7)
        print(name, engine)
try:
    trained("numba", chosen)
except mf.errors.MiniFlowError as error:
    print("TopK" in str(error), "sort" in str(error))
"""


def test_it_trains_alike_on_every_engine(environment: Environment) -> None:
    printed = environment.run(ENGINES_AGREE)

    assert printed.splitlines() == ["robust numpy", "robust numba", "chosen numpy", "True True"]


MODEL = """
import numpy as np
import mfcore as mf
from mfops_nn import Linear
from mfops_extra import Huber, Lion, Swish, TopK

rng = np.random.default_rng(0)
X, y = mf.Input("X"), mf.Input("y")
W, b = mf.Parameter(rng.normal(size=(3, 4)), name="W"), mf.Parameter(np.zeros(4), name="b")
largest = TopK(Swish(Linear(X, W, b), beta=1.5), k=2)
cost = Huber(y, largest, delta=0.5)
given = {"X": rng.normal(size=(5, 3)), "y": rng.normal(size=(5, 2))}
session = mf.Session(mf.Graph(largest, cost))
for _ in range(3):
    session.step({X: given["X"], y: given["y"]}, Lion(), cost=cost)
mf.save(PATH, {"largest": largest, "cost": cost}, session, optimizer_state=True)

model = mf.load(PATH, optimizer_state=True)
one, other = session.run({X: given["X"], y: given["y"]}), model.session().run(given)
print(np.array_equal(one[largest], other[model.outputs["largest"]]))
print(float(one[cost]) == float(other[model.outputs["cost"]]))
"""


def test_it_is_saved_in_files_and_missed_where_it_is_not_installed(
    environment: Environment, wheels: dict[str, Path], tmp_path: Path
) -> None:
    path = f"PATH = {str(tmp_path / 'model.safetensors')!r}\n"
    ours = [wheels[pack] for pack in ("mfcore", "mfops_basic", "mfops_nn", "mfoptim")]
    without = Environment(tmp_path / "env", ours, ["numpy", "pluggy", "attrs"])

    assert environment.run(path + MODEL) == "True\nTrue\n"
    refused = without.run(
        path
        + """
import mfcore as mf
try:
    mf.load(PATH)
except mf.errors.MiniFlowError as error:
    print(error)
"""
    )

    assert "mfops_extra 0.1.0" in refused
    assert "pip install" in refused
    assert "mfops-extra" in refused


def test_its_operations_are_in_the_trace(environment: Environment) -> None:
    shown = environment.run("""
import mfcore as mf
from mfops_extra import Huber, Swish
x, y = mf.Input("x"), mf.Input("y")
with mf.tracing("console"):
    mf.Session(Huber(y, Swish(x))).run({x: 0.0, y: 2.0}).backward()
""")

    assert "swish_1" in shown
    assert "huber_1" in shown
    assert "1.5" in shown


def test_the_command_line_lists_and_explains_it(environment: Environment) -> None:
    listed = miniflow(environment, "ops")
    explained = miniflow(environment, "ops", "TopK")

    assert {"Huber", "Swish", "TopK"} <= set(re.findall(r"\w+", listed))
    assert "mfops_extra" in explained
    assert "largest elements along the last axis" in explained


def test_the_command_line_says_that_it_keeps_the_contract(environment: Environment) -> None:
    checked = miniflow(environment, "check", "mfops_extra", "--verbose")

    for name in ("Huber", "Swish", "TopK", "Lion"):
        assert re.search(rf"^mfops_extra.{name} +\d+ +- ", checked, re.MULTILINE)
    assert "it is not traceable" in checked  # TopK sorts, which no operation stands for


def test_its_command_is_one_of_miniflow(environment: Environment) -> None:
    shown = miniflow(environment, "curve", "Sigmoid", "--start=0", "--stop=1", "--points=2")

    assert "curve" in miniflow(environment, "--help")
    assert shown.splitlines()[1].split() == ["0.0000", "0.5000", "0.2500"]


def test_the_command_line_trains_with_it(environment: Environment) -> None:
    options = ["--activation=swish", "--optimizer=lion", "--epochs=3", "--no-plot"]

    shown = miniflow(environment, "train", "boston", *options, "--trace=tally")

    assert "Lion" in shown
    rows = [line.split() for line in shown.splitlines()]
    (swish,) = [row for row in rows if row[:1] == ["Swish"]]
    assert swish[1:] == ["138", "138"]  # 46 batches of 11 rows, 3 epochs
    assert "training steps: 138" in shown


def test_the_readme_says_what_its_program_prints(environment: Environment) -> None:
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    ((program, said),) = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", readme, re.DOTALL)

    assert environment.run(program) == said
