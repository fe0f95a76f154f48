"""The command ``miniflow cache``, and engines on the command line."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import mfcore as mf
from mfjit import cache
from miniflow.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIFLOW_CACHE_DIR", str(tmp_path))
    return cache.folder()


def run(*arguments):
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_an_empty_cache_is_shown_and_cleared(folder):
    shown = run("cache")
    assert shown.exit_code == 0
    assert f"{folder}: 0 programs" in shown.output
    assert "removed 0 programs" in run("cache", "--clear").output


def test_a_compiled_program_is_listed_until_it_is_cleared(folder):
    x, w = mf.Input("x"), mf.Parameter(3.0)
    session = mf.Session(x * w, engine="mfjit.numba")
    assert float(session.run({x: 2.0})["mul_1"]) == 6.0
    (entry,) = cache.entries()
    shown = run("cache").output
    assert f"{folder}: 1 program" in shown
    assert f"{entry.nbytes / 1e3:.1f}" in shown
    assert "removed 1 program " in run("cache", "--clear").output
    assert cache.entries() == []


@pytest.mark.parametrize("engine", ["reference", "numpy", "numba", "auto"])
def test_train_runs_on_every_engine(engine, folder):
    done = run(
        "train", "boston", "--engine", engine, "--epochs", "2", "--batch-size", "253", "--no-plot"
    )
    assert done.exit_code == 0
    assert f", engine {engine} " in " ".join(done.output.split())
    assert "mean squared error" in done.output


def test_by_default_train_runs_on_numpy():
    done = run("train", "boston", "--epochs", "1", "--no-plot")
    assert ", engine numpy " in " ".join(done.output.split())
