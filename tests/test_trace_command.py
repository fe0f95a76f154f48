"""``miniflow train --trace``: tracers by name with options, several at once."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import mftrace
from miniflow.cli import main


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train on the Boston data in an empty folder, for one epoch of 9 steps."""
    monkeypatch.chdir(tmp_path)

    def run(*traces):
        options = [part for trace in traces for part in ("--trace", trace)]
        size = ["--epochs", "1", "--batch-size", "56", "--no-plot"]
        return CliRunner().invoke(main, ["train", "boston", *size, *options])

    return run


def test_several_tracers_with_options(train, tmp_path):
    result = train("record:path=run.jsonl,every=4", "profile:path=t.json", "gradients:every=3")

    assert result.exit_code == 0, result.output
    recording = mftrace.read(tmp_path / "run.jsonl")
    assert [step.number for step in recording.steps if step.passes] == [1, 5, 9]
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert "own ms" in result.stdout
    assert "parameter" in result.stdout
    assert "epoch 1 of 1" in result.stderr


def test_tracing_gives_the_same_losses(train):
    plain, traced = train(), train("record")

    def table(result):
        lines = iter(result.stdout.splitlines())
        return [line.split()[:2] for line in lines if line.split()[:1] == ["1"]]

    assert table(plain) == table(traced) != []


def test_filters_are_options_of_every_tracer(train):
    result = train("console:steps=1,operations=Sigmoid,phases=['forward']", "RECORD:nodes=W1")

    assert result.exit_code == 0, result.output
    assert result.stdout.count("sigmoid_1 = Sigmoid") == 1
    assert "linear_1 =" not in result.stdout


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        ("record:pth=run.jsonl", "has no option 'pth'; it has path, arrays"),
        ("record:path", "is not of the form option=value"),
        ("record:path=nowhere/run.jsonl", "cannot be written"),
        ("record:arrays=some", "arrays must be one of"),
        ("record:phases=forwards", "there is no phase 'forwards'"),
        ("profiler", "Known tracers are"),
    ],
)
def test_what_is_given_wrongly_is_told_and_nothing_is_written(train, tmp_path, trace, message):
    result = train(trace)

    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert list(tmp_path.iterdir()) == []
