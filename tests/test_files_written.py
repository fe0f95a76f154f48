"""Writing files whole or not at all: whatever is there before, beside it, and whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mfcore as mf
from mfcore.atomic_file import remove_abandoned, write_parts
from mfcore.errors import ModelFileAccessError

POSIX = pytest.mark.skipif(os.name != "posix", reason="permissions, links and locks of POSIX")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def in_folder(path):
    return sorted(entry.name for entry in path.parent.iterdir())


def abandoned(path, tag="0123456789abcdef"):
    """A hidden file as a writer that was killed leaves it."""
    left = path.with_name(f".{path.name[:40]}.{tag}.partial")
    left.write_bytes(b"half")
    return left


# What is beside it


def test_the_next_writing_removes_what_a_dead_one_left(path):
    abandoned(path)
    abandoned(path, tag="fedcba9876543210")
    other = abandoned(path.with_name("other"))

    write_parts(path, [b"whole"])

    assert in_folder(path) == [other.name, path.name]
    remove_abandoned(path.parent)
    assert in_folder(path) == [path.name]


@POSIX
def test_what_a_living_process_writes_is_not_removed(path):
    def parts():
        yield b"first"
        write_parts(path, [b"second"])
        assert path.read_bytes() == b"second"
        assert len(in_folder(path)) == 2
        yield b" and last"

    write_parts(path, parts())

    assert path.read_bytes() == b"first and last"
    assert in_folder(path) == [path.name]


def test_an_error_of_the_parts_leaves_nothing(path):
    def parts():
        yield b"first"
        raise KeyboardInterrupt

    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_parts(path, parts())

    assert path.read_bytes() == b"old"
    assert in_folder(path) == [path.name]


@pytest.mark.parametrize("name", ["x" * 250, "ä" * 120, "[a-z]*?", ".hidden", "with space"])
def test_names_of_every_kind(tmp_path, name):
    path = tmp_path / name
    abandoned(path)

    write_parts(path, [b"whole"])

    assert in_folder(path) == [name]


# What is there before


@POSIX
def test_permissions_stay_and_new_files_have_the_usual_ones(path):
    before = os.umask(0o027)
    try:
        write_parts(path, [b"new"])
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640

    path.chmod(0o604)
    write_parts(path, [b"newer"])
    assert path.stat().st_mode & 0o777 == 0o604


@POSIX
def test_of_a_link_the_file_changes_that_it_points_to(path, tmp_path):
    there = tmp_path / "elsewhere"
    there.mkdir()
    path.symlink_to(there / "target")

    for content in (b"new", b"newer"):
        write_parts(path, [content])
        assert path.is_symlink()
        assert (there / "target").read_bytes() == content
    assert in_folder(path) == ["elsewhere", path.name]


@POSIX
def test_what_is_no_file_is_refused(path, tmp_path):
    loop, pipe = tmp_path / "loop", tmp_path / "pipe"
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    node = mf.Constant([1.0])
    for wrong, said in ((loop, "symbolic links"), (pipe, "no regular file"),
                        (tmp_path, "directory")):  # fmt: skip
        with pytest.raises(ModelFileAccessError, match=f"cannot save '{wrong}': .*{said}"):
            mf.save(wrong, node)
        with pytest.raises(ModelFileAccessError, match=f"cannot load '{wrong}'"):
            mf.load(wrong)


def test_a_read_only_file_is_not_replaced(path, monkeypatch):
    mf.save(path, mf.Constant([1.0]))
    before = path.read_bytes()
    monkeypatch.setattr(os, "access", lambda file, mode: mode != os.W_OK)  # root may do anything

    with pytest.raises(ModelFileAccessError, match="what is there is read-only"):
        mf.save(path, mf.Constant([2.0]))

    assert path.read_bytes() == before


# Deaths

KILLED_WHILE_SAVING = """
import os, signal, sys, warnings
from pathlib import Path
warnings.simplefilter("error")
import numpy as np
import mfcore as mf
from mfops_nn import Linear

path, deaths = Path(sys.argv[1]), int(sys.argv[2])
x = mf.Input("x")
models = [
    {"y": Linear(x, mf.Parameter(np.full((500, 40), value)), mf.Parameter(np.full(40, value)))}
    for value in (1.0, 2.0)
]
whole = []
for model in models:
    mf.save(path, model)
    whole.append(path.read_bytes())
random = np.random.default_rng(5)
found = set()
for death in range(deaths):
    place = "atomic_file.py" if death % 2 else "mfcore"
    lines = int(random.integers(1, 140) if death % 2 else random.integers(1, 9000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks where there are threads
        child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        names = sorted(os.listdir(path.parent))
        assert code == -signal.SIGKILL, code
        assert path.read_bytes() in whole
        assert len(names) <= 2 and path.name in names, names
        found.add((whole.index(path.read_bytes()), len(names)))
        continue

    def watch(frame, event, argument):
        global lines
        if place not in frame.f_code.co_filename:
            return None
        lines -= 1
        if lines == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return watch

    sys.settrace(watch)
    while True:
        for model in models:
            mf.save(path, model)
mf.save(path, models[0])
assert path.read_bytes() == whole[0]
print(sorted(found), os.listdir(path.parent))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_process_killed_while_it_saves_leaves_the_old_file_or_the_new_one(path):
    program = [sys.executable, "-c", KILLED_WHILE_SAVING, str(path), "60"]

    done = subprocess.run(program, capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "[(0, 1), (0, 2), (1, 1), (1, 2)] ['model.safetensors']", (
        done.stderr
    )


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_a_process_killed_from_outside_while_it_saves(path):
    program = (
        "import sys, numpy as np, mfcore as mf\n"
        "n = mf.Parameter(np.zeros(300_000))\n"
        "mf.save(sys.argv[1], n)\n"
        "print(flush=True)\n"
        "while True: mf.save(sys.argv[1], n)\n"
    )
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE
        ) as process:
            process.stdout.readline()
            process.kill()
        assert mf.load(path).parameters["parameter_1"].shape == (300_000,)
        assert len(in_folder(path)) <= 2

    mf.save(path, mf.Constant(1.0))
    assert in_folder(path) == [Path(path).name]
