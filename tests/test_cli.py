"""The command ``miniflow``: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

import mfcore as mf
from miniflow.cli import main

QUICK = ("--epochs", "3")


@pytest.fixture
def miniflow(tmp_path, monkeypatch):
    """Run the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments):
        return CliRunner().invoke(main, arguments, catch_exceptions=False)

    return run


@pytest.fixture
def csv_file(tmp_path):
    """Write a CSV file into the folder in which the command runs; return its name."""

    def write(content, name="data.csv"):
        (tmp_path / name).write_text(content, encoding="utf-8")
        return name

    return write


@pytest.fixture
def packs_in_code():
    """Use a registry of the installed packs and of further ones made in the test."""

    def use(**plugins):
        registry = mf.Registry()
        for name, plugin in plugins.items():
            registry.register(plugin, name)
        return mf.registry.using(registry)

    return use


def plugin(**hooks):
    """Return a pack whose hooks return the given values, or raise the given errors."""

    def implementation(result):
        def call():
            if isinstance(result, Exception):
                raise result
            return result

        return mf.hookimpl(call)

    made = SimpleNamespace()
    for name, result in hooks.items():
        function = implementation(result)
        function.__name__ = name
        setattr(made, name, function)
    return made


class StopsAtStep:
    """A pack that behaves as a user who presses Ctrl-C."""

    def __init__(self, step):
        self.step = step

    @mf.hookimpl
    def mf_step_finish(self, step):
        if step == self.step:
            raise KeyboardInterrupt


LINE = "a,b,y\n" + "".join(f"{i},{i % 3},{2 * i + i % 3}\n" for i in range(30))


# train


def test_train_boston_reports_table_error_time_and_saves_the_loss_curve(miniflow, tmp_path):
    result = miniflow("train", "boston", *QUICK)

    assert result.exit_code == 0
    assert "13 - 10 sigmoid - 1, 151 parameters" in result.stdout
    assert "3 epochs, batches of 11 drawn with replacement" in result.stdout
    assert "epoch" in result.stdout
    assert "loss" in result.stdout
    assert "on all 506 rows" in result.stdout
    assert "(138 steps in" in result.stdout
    assert "boston_loss.png" in result.stdout
    assert (tmp_path / "boston_loss.png").read_bytes().startswith(b"\x89PNG")


def test_progress_goes_to_stderr_a_line_now_and_then(miniflow):
    result = miniflow("train", "boston", "--epochs", "40", "--no-plot")

    lines = result.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "epoch 1 of 40",
        *(f"epoch {epoch} of 40" for epoch in range(4, 41, 4)),
    ]
    assert "epoch 4 of 40" not in result.stdout
    assert len(result.stdout.splitlines()) < 30


def test_the_same_seed_prints_the_same_error(miniflow):
    def error(seed):
        stdout = miniflow("train", "boston", *QUICK, "--no-plot", "--seed", seed).stdout
        return next(line for line in stdout.splitlines() if line.startswith("mean squared error"))

    assert error("1") == error("1") != error("2")


def test_a_csv_file_is_trained_on_and_its_error_is_in_the_targets_unit(miniflow, csv_file):
    name = csv_file("a,y\n" + "".join(f"{i},{1000 * i}\n" for i in range(20)))

    result = miniflow("train", name, "--target", "y", "--hidden", "none", "--no-plot")

    assert result.exit_code == 0
    assert "1 - 1, 2 parameters" in result.stdout
    assert "features and target standardised" in result.stdout
    assert "in units of its variance" in result.stdout
    line = next(x for x in result.stdout.splitlines() if x.startswith("mean squared error"))
    assert float(line.split()[3]) > 1


def test_all_options_reach_the_training(miniflow, csv_file):
    arguments = "--hidden 4,3 --hidden 2 --activation tanh --optimizer sgd --learning-rate 0.02"
    arguments += " --momentum 0.5 --set nesterov=True --epochs 2 --batch-size 6 --sampling shuffle"
    arguments += " --validation-split 0.2 --seed 7 --no-standardise --no-standardise-target"
    arguments += " --engine mfcore.reference --plot curve.svg --drop b"

    result = miniflow("train", csv_file(LINE), "--target", "y", *arguments.split())

    assert result.exit_code == 0, result.output
    assert "30 rows, 1 features, target y; nothing standardised" in result.stdout
    assert "1 - 4 tanh - 3 tanh - 2 tanh - 1" in result.stdout
    assert "SGD(learning_rate=0.02, momentum=0.5, nesterov=True)" in result.stdout
    assert "batches of 6 of shuffled rows, seed 7, engine mfcore.reference" in result.stdout
    assert "validation loss" in result.stdout
    assert "curve.svg" in result.stdout


def test_tracing_shows_every_node_and_no_progress(miniflow):
    result = miniflow(
        "train", "boston", "--epochs", "1", "--batch-size", "506", "--trace", "console", "--no-plot"
    )

    assert result.exit_code == 0
    assert "sigmoid_1" in result.stdout
    assert "epoch 1 of 1" not in result.stderr


def test_diabetes_trains_where_scikit_learn_is_installed(miniflow):
    result = miniflow("train", "diabetes", *QUICK)

    assert result.exit_code == 0
    assert "442 rows, 10 features, target progression" in result.stdout


def test_diabetes_without_scikit_learn_says_what_to_install(miniflow, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)

    result = miniflow("train", "diabetes")

    assert result.exit_code == 2
    assert "pip install scikit-learn" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train", "Missing argument"),
        ("train bostn", "did you mean boston?"),
        ("train boston --target MEDW", "Did you mean MEDV?"),
        ("train boston --drop FOO", "no column 'FOO'"),
        ("train text.csv --target y", "column 'a' holds text"),
        ("train missing.csv --target y", "missing value"),
        ("train one.csv --target y", "one row of data"),
        ("train good.csv", "--target COLUMN"),
        ("train good.csv --target z", "no column 'z'"),
        ("train boston --optimizer foo", "Known optimizers are"),
        ("train boston --activation foo", "Known operations are"),
        ("train boston --engine foo", "Known engines are"),
        ("train boston --trace foo", "Known tracers are"),
        ("train boston --activation Linear", "cannot be an activation"),
        ("train boston --momentum 2", "momentum must be"),
        ("train boston --optimizer adam --momentum 0.5", "no hyperparameter 'momentum'"),
        ("train boston --set momentum", "not of the form name=value"),
        ("train boston --hidden 10,x", "'x' is no size"),
        ("train boston --hidden 0,1", "'0' is no size"),
        ("train boston --epochs 0", "not in the range"),
        ("train boston --validation-split 1", "not in the range"),
        ("train boston --sampling shuffle --batch-size 600", "larger than the 506 rows"),
        ("train boston --plot nowhere/x.png", "no folder nowhere"),
        ("train boston --plot x.txt", "must end in .png"),
        ("ops Linar", "did you mean Linear"),
        ("nothing", "No such command"),
    ],
)
def test_what_is_given_wrongly_is_told_in_one_paragraph(
    miniflow, csv_file, tmp_path, arguments, words
):
    csv_file("a,y\none,1\ntwo,2\n", "text.csv")
    csv_file("a,y\n,1\n2,2\n", "missing.csv")
    csv_file("a,y\n1,1\n", "one.csv")
    csv_file(LINE, "good.csv")
    before = sorted(tmp_path.iterdir())

    result = miniflow(*arguments.split())

    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert sorted(tmp_path.iterdir()) == before


def test_divergence_names_the_epoch_and_still_gives_table_and_plot(miniflow, tmp_path):
    result = miniflow("train", "boston", "--learning-rate", "10")

    assert result.exit_code == 1
    assert "diverged in epoch 2" in result.stderr
    assert "smaller learning rate" in result.stderr
    assert "(46 steps in" in result.stdout
    assert (tmp_path / "boston_loss.png").exists()


def test_a_plot_that_cannot_be_saved_costs_nothing_of_the_report(miniflow, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mfoptim.History.plot", full)

    result = miniflow("train", "boston", *QUICK)

    assert result.exit_code == 1
    assert "on all 506 rows" in result.stdout
    assert "not saved: [Errno 28] No space left on device" in result.stderr


def test_nan_and_inf_train_and_are_named_by_the_report(miniflow, csv_file):
    name = csv_file("a,b,y\n1,2,3\n2,nan,4\n3,4,inf\n4,5,6\n")

    result = miniflow("train", name, "--target", "y", *QUICK, "--no-plot")

    assert result.exit_code == 0
    assert "mean squared error  nan" in result.stdout
    assert "column b holds NaN or inf in 1 of 4 rows, first nan in line 3" in result.stderr
    assert "column y holds NaN or inf in 1 of 4 rows, first inf in line 4" in result.stderr


def test_a_constant_column_and_a_constant_target_do_no_harm(miniflow, csv_file):
    name = csv_file("a,b,y\n1,0.1,5\n2,0.1,5\n3,0.1,5\n")

    result = miniflow("train", name, "--target", "y", *QUICK, "--no-plot")

    assert result.exit_code == 0
    assert "nan" not in result.output


def test_an_interrupt_ends_with_the_history_so_far(miniflow, packs_in_code, tmp_path):
    with packs_in_code(impatient=StopsAtStep(100)):
        result = miniflow("train", "boston")

    assert result.exit_code == 130
    assert "Interrupted in epoch 3, after" in result.stderr
    assert "(92 steps in" in result.stdout
    assert (tmp_path / "boston_loss.png").exists()


def test_an_interrupt_in_the_first_epoch_ends_as_cleanly(miniflow, packs_in_code):
    with packs_in_code(impatient=StopsAtStep(1)):
        result = miniflow("train", "boston", "--no-plot")

    assert result.exit_code == 130
    assert "no epoch was finished" in result.stdout
    assert "Traceback" not in result.output


def test_an_interrupt_before_training_ends_quietly(miniflow, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("miniflow.datasets.load", interrupted)

    result = miniflow("train", "boston")

    assert result.exit_code == 130
    assert result.stderr == "interrupted\n"


def test_python_m_miniflow_is_the_same_command(tmp_path):
    command = [sys.executable, "-W", "error", "-m", "miniflow", "train", "boston", *QUICK]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "on all 506 rows" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("width", [40, 60, 80])
def test_the_report_fits_the_terminal(miniflow, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))

    result = miniflow("train", "boston", *QUICK, "--no-plot")

    assert max(map(len, result.stdout.splitlines())) <= width


# packs and ops


def test_packs_lists_distribution_version_status_and_what_is_provided(miniflow):
    result = miniflow("packs")

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert any(
        line.startswith("mfops_nn") and f"mfops-nn {mf.__version__}" in line and "loaded" in line
        for line in lines
    )
    assert "1 engine: reference" in result.stdout
    assert "tracers: console" in result.stdout


def entry_point(name, value, requires=()):
    dist = SimpleNamespace(name=f"{name}-dist", version="2.5", requires=list(requires))

    def load():
        raise ZeroDivisionError("deep inside the pack")

    return SimpleNamespace(name=name, value=value, dist=dist, load=load)


def test_packs_tells_what_is_wrong_with_a_pack(miniflow):
    found = [
        entry_point("broken", "broken.pack"),
        entry_point("off", "off.pack"),
        entry_point("twin", "one.pack"),
        entry_point("twin", "two.pack"),
        entry_point("future", "future.pack", ["mfcore>=9"]),
    ]
    registry = mf.Registry(disabled=["off"], strict=False, entry_points=lambda: found)

    with mf.registry.using(registry):
        result = miniflow("packs")
        brief = miniflow("packs", "--no-traceback")

    assert result.exit_code == 0
    assert "broken is quarantined: ZeroDivisionError: deep inside the pack" in result.stdout
    assert "Traceback (most recent call last)" in result.stdout
    assert "Traceback" not in brief.stdout
    assert "off is disabled" in result.stdout
    assert "twin is conflict: several distributions provide a pack named 'twin'" in result.stdout
    assert "future is incompatible: it was made for mfcore >=9" in result.stdout
    assert result.stderr == ""


def test_packs_names_what_two_packs_claim(miniflow, packs_in_code):
    @mf.operation
    class Linear(mf.Node):
        x: mf.Node

        @staticmethod
        def forward(x):
            return x

    with packs_in_code(rival=plugin(mf_operations=[Linear])):
        result = miniflow("packs")

    assert "'Linear' is provided by several packs" in result.stdout
    assert "use a qualified name, mfops_nn.Linear or" in result.stdout
    assert "rival.Linear" in result.stdout


def test_ops_lists_every_operation_with_pack_and_signature(miniflow):
    result = miniflow("ops")

    assert result.exit_code == 0
    assert "Sum(x, *, axis=None, keepdims=False)" in result.stdout
    assert "Add(*terms)" in result.stdout
    listed = [line for line in result.stdout.splitlines() if "mfops_nn" in line]
    assert any(line.startswith("Linear(X, W, b)") and "yes" in line for line in listed)


def test_ops_name_tells_all_about_an_operation(miniflow):
    result = miniflow("ops", "mfops_basic.Sum")

    assert result.exit_code == 0
    for words in (
        "Sum over the given axes",
        "mfops-basic",
        "axis=None, keepdims=False",
        "np.sum",
        "differentiable   yes",
        "def forward(x",
        "def backward(grad",
    ):
        assert words in result.stdout


def test_ops_says_where_there_is_no_gradient(miniflow, packs_in_code):
    @mf.operation
    class Rounded(mf.Node):
        x: mf.Node
        digits: int

        @staticmethod
        def forward(x, digits):
            return x.round(digits)

    with packs_in_code(extra=plugin(mf_operations=[Rounded])):
        result = miniflow("ops", "Rounded")
        listed = miniflow("ops")

    assert "Rounded(x, *, digits)" in result.stdout
    assert "differentiable   no" in result.stdout
    assert "Rounded(x, *, digits)" in listed.stdout


# commands of packs


@click.command("greet")
def greet():
    """Say hello."""
    click.echo("hello from a pack")


def test_a_pack_adds_a_command(miniflow, packs_in_code):
    with packs_in_code(polite=plugin(mf_commands=[greet])):
        listed = miniflow("--help")
        result = miniflow("greet")
        packs = miniflow("packs")

    assert "Say hello." in listed.stdout
    assert result.stdout == "hello from a pack\n"
    assert "1 command: greet" in packs.stdout


@pytest.mark.parametrize(
    ("plugins", "words"),
    [
        ({"bad": plugin(mf_commands=RuntimeError("boom"))}, "pack bad: its commands are skipped"),
        ({"bad": plugin(mf_commands=["greet"])}, "'greet' is skipped: it is no named click"),
        (
            {
                "bad": plugin(
                    mf_commands=[click.Command("train", callback=lambda: click.echo("no"))]
                )
            },
            "its command 'train' is skipped: miniflow has one of that name",
        ),
        (
            {
                "one": plugin(mf_commands=[greet]),
                "two": plugin(mf_commands=[click.Command("greet")]),
            },
            "the command 'greet' is skipped: several packs have one (one, two)",
        ),
    ],
    ids=["a hook that raises", "no command", "a built-in name", "two of one name"],
)
def test_a_faulty_command_is_named_and_skipped_and_the_others_work(
    miniflow, packs_in_code, plugins, words
):
    other = click.Command("other", callback=lambda: click.echo("other ran"))

    with packs_in_code(fine=plugin(mf_commands=[other]), **plugins):
        listed = miniflow("--help")
        ran = miniflow("other")
        packs = miniflow("packs")
        train = miniflow("train", "--help")

    assert words in listed.stderr
    assert listed.stderr.count("warning") == 1
    assert "other" in listed.stdout
    assert ran.stdout == "other ran\n"
    assert words in packs.stdout.replace("\n", " ").replace("  ", " ")
    assert "boston|diabetes|FILE.csv" in train.stdout
