"""The disk cache of compiled programs, between processes and when something is wrong with it."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("numba")

from mfjit import cache
from mfjit.builder import Builder
from mfjit.numba_engine import NumbaExecutable

PROGRAM = """
import sys, time
import numpy as np
from mfjit.builder import Builder
from mfjit.numba_engine import NumbaExecutable
b = Builder()
x = b.input((4,), np.float64)
lowered = b.finish([b.elementwise("exp", b.elementwise("add", x, 1.0))])
sys.stdin.readline()
executable = NumbaExecutable(lowered)
result = executable.bind([], []).step([np.zeros(4)], [], None)[0]
hits = sum(executable.run.stats.cache_hits.values())
print(hits, float(result[0]))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIFLOW_CACHE_DIR", str(tmp_path))
    forget()
    return tmp_path


def forget():
    """Behave as a new process does."""
    cache._functions.clear()
    cache._warned = False


def executable(number=1.0):
    b = Builder()
    x = b.input((4,), np.float64)
    return NumbaExecutable(b.finish([b.elementwise("add", x, number)]))


def result(compiled):
    return compiled.bind([], []).step([np.arange(4.0)], [], None)[0].tolist()


def loaded(compiled):
    return sum(compiled.run.stats.cache_hits.values()) == 1


def test_a_program_is_compiled_once_and_then_loaded(folder):
    assert not loaded(executable())
    forget()
    again = executable()
    assert loaded(again)
    assert result(again) == [1.0, 2.0, 3.0, 4.0]
    forget()
    assert not loaded(executable(2.0))
    assert len(cache.entries()) == 2


def test_entries_say_what_they_are_and_clear_removes_them(folder):
    executable()
    (entry,) = cache.entries()
    assert entry.title == "function of 3 instructions, inputs float64[4]"
    assert entry.nbytes > 1000
    assert cache.folder() == folder / "numba"
    assert (cache.folder() / entry.key).is_dir()
    assert cache.clear() == 1
    assert cache.entries() == []


def test_nothing_is_there_before_the_first_program(folder):
    assert cache.entries() == []
    assert cache.clear() == 0


def test_the_platforms_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("MINIFLOW_CACHE_DIR", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "miniflow" / "numba"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # not allowed by the specification
    monkeypatch.setattr(cache.Path, "home", lambda: tmp_path)
    assert cache.folder() == tmp_path / ".cache" / "miniflow" / "numba"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache.folder() == tmp_path / "Library" / "Caches" / "miniflow" / "numba"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    assert cache.folder() == tmp_path / "Local" / "miniflow" / "Cache" / "numba"


@pytest.mark.parametrize("damage", ["truncate", "change", "remove", "empty"])
def test_a_damaged_program_is_compiled_anew_with_one_warning(folder, damage):
    executable()
    (place,) = cache.folder().iterdir()
    files = [file for file in place.rglob("*") if file.suffix == ".nbc"]
    for file in files:
        if damage == "truncate":
            file.write_bytes(file.read_bytes()[:100])
        elif damage == "change":
            file.write_bytes(b"no machine code" * 100)
        elif damage == "remove":
            file.unlink()
    if damage == "empty":
        (place / "checksums.json").write_text("")
    forget()
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert result(executable()) == [1.0, 2.0, 3.0, 4.0]
    forget()
    assert loaded(executable())


def test_files_of_another_numba_are_no_obstacle(folder):
    executable()
    (place,) = cache.folder().iterdir()
    for file in place.rglob("*.nbi"):
        file.write_bytes(b"an index that numba cannot read")
    (place / "checksums.json").write_text(cache.json.dumps(cache._checksums(place)))
    forget()
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert result(executable()) == [1.0, 2.0, 3.0, 4.0]


def test_a_cache_that_cannot_be_written_costs_one_warning(folder):
    (folder / "numba").write_text("a file where the folder should be")
    with pytest.warns(RuntimeWarning, match="cannot be used"):
        assert result(executable()) == [1.0, 2.0, 3.0, 4.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert result(executable(2.0)) == [2.0, 3.0, 4.0, 5.0]
    assert cache.entries() == []


def test_the_programs_not_used_for_longest_are_removed(folder, monkeypatch):
    executable(1.0)
    (first,) = cache.entries()
    os.utime(cache.folder() / first.key, (1, 1))
    executable(2.0)
    monkeypatch.setattr(cache, "SIZE_LIMIT", int(2.5 * first.nbytes))
    executable(3.0)
    kept = {entry.key for entry in cache.entries()}
    assert len(kept) == 2
    assert first.key not in kept


def test_two_processes_may_write_the_same_program_at_once(folder):
    def start():
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    together = [start(), start()]
    for process in together:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in together:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert float(output.split()[1]) == pytest.approx(np.e, rel=1e-15)
    assert len(cache.entries()) == 1
    assert not [path for path in cache.folder().iterdir() if path.name.startswith(".")]
    output, errors = start().communicate("go\n", timeout=120)
    assert output.split()[0] == "1", errors
