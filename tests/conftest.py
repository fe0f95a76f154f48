"""What the tests share: a registry of this repository's packs, and a fresh interpreter."""

from __future__ import annotations

import contextlib
import gc
import io
import linecache
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from mfcore import Registry, registry

# The same examples on every run and machine, however slow it is.
settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")


@pytest.fixture(scope="session")
def core_registry():
    """A registry of mfcore, mfops_basic and mfops_nn, whatever else is installed."""
    import mfops_basic.pack
    import mfops_nn.pack

    packs = Registry(autoload=False, disabled=(), strict=True)
    packs.register(mfops_basic.pack, "mfops_basic")
    packs.register(mfops_nn.pack, "mfops_nn")
    return packs


@pytest.fixture
def core_packs(core_registry):
    """Use only mfcore, mfops_basic and mfops_nn in a test."""
    with registry.using(core_registry):
        yield core_registry


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """Keep compiled programs in a folder that only one module of tests knows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIFLOW_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def fresh_python():
    """Run a program in a fresh interpreter, warnings being errors; return what it printed."""

    def run(program, *paths, **environment):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MINIFLOW_")}
        path = os.pathsep.join([*map(str, paths), inherited.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            env={**inherited, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def interrupts_arrive():
    """Let Ctrl-C reach what a test runs: a callback of the collector would swallow it.

    Python prints and drops what is raised there, and hypothesis has such a callback.
    """
    kept = list(gc.callbacks)
    gc.callbacks.clear()
    yield
    gc.callbacks.extend(kept)


@pytest.fixture
def page_of_programs():
    """Run a page's programs in order; return what each printed, and what the page says."""

    def run(name):
        page = (Path(__file__).parent.parent / name).read_text(encoding="utf-8")
        namespace = {"__name__": "docs"}
        programs = re.findall(r"```python\n(.*?)```(?:\n+```text\n(.*?)```)?", page, re.DOTALL)
        for source, said in programs:
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(source, name, "exec"), namespace)
            yield printed.getvalue(), said

    return lambda name: list(run(name))
