"""The disk cache of compiled programs: the next process starts at once.

Each program has a folder named by a hash of all that its machine code depends on: its source,
the versions of Python, NumPy, numba, llvmlite and mfjit, and the processor. The folder holds the
source, numba's own cache files and their checksums. It is made under another name and renamed
when complete, so processes that compile the same program at once do not disturb each other.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import sys
import threading
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np

import mfjit

SIZE_LIMIT = 256 * 1024 * 1024
"""Bytes that the cache may take; the programs not used for longest are removed first."""

_SOURCE = "program.py"
_CHECKSUMS = "checksums.json"
_UNFINISHED = ".unfinished-"
_MADE = 1_000_000_000
"""The sources' time of change: numba's index holds it, and it must not differ by chance."""

_lock = threading.Lock()
_functions: dict[str, Any] = {}
_warned = False


@attrs.frozen
class Entry:
    """A program in the cache.

    Attributes
    ----------
    key : str
        Name of its folder.
    title : str
        What its source says of itself in its first line.
    nbytes : int
        Size of its files.
    used : float
        When it was last loaded or written, in seconds since the epoch.
    """

    key: str
    title: str
    nbytes: int
    used: float


def folder() -> Path:
    """Return the folder of the cache: ``MINIFLOW_CACHE_DIR``, else the platform's place."""
    given = os.environ.get("MINIFLOW_CACHE_DIR")
    if given:
        return Path(given).expanduser() / "numba"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        base = Path(local) if local else Path.home() / "AppData" / "Local"
        return base / "miniflow" / "Cache" / "numba"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "miniflow" / "numba"
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "miniflow" / "numba"


def entries() -> list[Entry]:
    """Return what is in the cache, the latest used first."""
    found = []
    for path in _programs():
        try:
            with open(path / _SOURCE, encoding="utf-8") as file:
                title = file.readline().strip().lstrip("# ")
            found.append(Entry(path.name, title, _size(path), path.stat().st_mtime))
        except OSError:
            continue  # removed by another process meanwhile
    return sorted(found, key=lambda entry: -entry.used)


def clear() -> int:
    """Remove every program from the cache; return how many there were."""
    programs = _programs()
    for path in programs:
        shutil.rmtree(path, ignore_errors=True)
    for path in _listed(folder()):
        if path.name.startswith(_UNFINISHED):
            shutil.rmtree(path, ignore_errors=True)
    return len(programs)


def load(text: str, options: dict[str, Any]) -> Any:
    """Return the function ``run`` of a program's source, compiled now or before.

    A cache that cannot be used costs a warning, once, and the time to compile.

    Parameters
    ----------
    text : str
        Source of a module in which ``run`` is decorated with ``@compiled(signature,
        parallel=...)``; its first line says what it is, and what only compiling needs is
        behind ``if COMPILING:``.
    options : dict
        Options of ``numba.njit``.
    """
    key = _key(text, options)
    with _lock:
        if key not in _functions:
            _functions[key] = _load(text, options, key)
        return _functions[key]


def _load(text: str, options: dict[str, Any], key: str) -> Any:
    place = folder() / key
    try:
        if place.is_dir():
            if _intact(place):
                run = _loaded(text, place / _SOURCE, options)
                if run is not None:
                    return run
            _warn(f"the program {key[:12]} in the cache {folder()} is damaged; compiled anew")
            shutil.rmtree(place, ignore_errors=True)
        return _compiled_into(place, text, options)
    except OSError as error:
        _warn(f"the cache {folder()} of compiled programs cannot be used: {error}")
    return _executed(text, Path("<program of miniflow>"), options)


def _loaded(text: str, path: Path, options: dict[str, Any]) -> Any | None:
    """Return the function from numba's files; ``None`` if they do not do."""
    try:
        run = _executed(text, path, {**options, "cache": True}, compiling=False)
    except Exception:  # whatever reading a wrong file may raise
        return None
    os.utime(path.parent)
    return run


def _compiled_into(place: Path, text: str, options: dict[str, Any]) -> Any:
    unfinished = place.parent / f"{_UNFINISHED}{os.getpid()}-{uuid.uuid4().hex}"
    unfinished.mkdir(parents=True)
    try:
        path = unfinished / _SOURCE
        path.write_text(text, encoding="utf-8")
        os.utime(path, (_MADE, _MADE))
        run = _executed(text, path, {**options, "cache": True})
        (unfinished / _CHECKSUMS).write_text(json.dumps(_checksums(unfinished)), encoding="utf-8")
        try:
            unfinished.rename(place)
        except OSError:
            if not place.is_dir():  # else another process was first
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _bound_size(place)
    return run


def _executed(text: str, path: Path, options: dict[str, Any], *, compiling: bool = True) -> Any:
    from numba import njit
    from numba.core import config

    def compiled(signature: Any, parallel: bool) -> Callable[[Any], Any]:
        def decorate(function: Any) -> Any:
            dispatcher = njit(parallel=parallel, **options)(function)
            plain = "rng" not in function.__code__.co_varnames
            plain = plain and not {"carray", "gemm_of_scipy"} & {*function.__code__.co_names}
            if compiling or parallel or not plain:
                dispatcher.compile(signature)
            else:
                _compile_unprepared(dispatcher, signature)
            dispatcher.disable_compile()
            return dispatcher

        return decorate

    # Unpickling numba's files imports the module that the function says it is from.
    apart = {name: option for name, option in options.items() if name not in ("cache", "nogil")}
    namespace: dict[str, Any] = {
        "compiled": compiled, "part": njit(**apart), "COMPILING": compiling, "__name__": "mfjit"
    }  # fmt: skip
    elsewhere, config.CACHE_DIR = config.CACHE_DIR, ""  # numba's files lie beside the source
    try:
        exec(compile(text, str(path), "exec"), namespace)
    finally:
        config.CACHE_DIR = elsewhere
    return namespace["run"]


def _compile_unprepared(dispatcher: Any, signature: Any) -> None:
    """Load machine code without importing all that numba can compile.

    That takes longer than everything else: SciPy's linear algebra comes with it. Should there
    be nothing to load, numba fails, as it knows no function at all.
    """
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.runtime import rtsys

    context = dispatcher.targetctx
    with global_compiler_lock:
        context.refresh = lambda: rtsys.initialize(context)
        try:
            dispatcher.compile(signature)
        finally:
            del context.refresh


def _key(text: str, options: dict[str, Any]) -> str:
    parts = [text, repr(sorted(options.items())), *_environment()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


@functools.cache
def _environment() -> tuple[str, ...]:
    """Return what machine code depends on beside the program."""
    import llvmlite  # type: ignore[import-untyped, unused-ignore]
    import numba
    from llvmlite import binding

    source = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.name.startswith(("numba_runtime", "elementary", "convolution")):
            source.update(path.read_bytes())
    return (
        mfjit.__version__,
        source.hexdigest(),
        sys.version,
        sys.platform,
        np.__version__,
        numba.__version__,
        llvmlite.__version__,
        binding.get_host_cpu_name(),
        binding.get_host_cpu_features().flatten(),
        repr(sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))),
    )


def _checksums(path: Path) -> dict[str, str]:
    return {
        file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != _CHECKSUMS
    }


def _intact(place: Path) -> bool:
    try:
        expected = json.loads((place / _CHECKSUMS).read_text(encoding="utf-8"))
        return bool(expected) and expected == _checksums(place)
    except (OSError, ValueError):
        return False


def _bound_size(latest: Path) -> None:
    programs = []
    for path in _programs():
        try:
            programs.append((path == latest, path.stat().st_mtime, _size(path), path))
        except OSError:
            continue
    total = sum(size for _, _, size, _ in programs)
    for is_latest, _, size, path in sorted(programs):
        if total <= SIZE_LIMIT or is_latest:
            return
        shutil.rmtree(path, ignore_errors=True)
        total -= size


def _programs() -> list[Path]:
    return [
        path for path in _listed(folder()) if (path / _SOURCE).is_file() and path.name[0] != "."
    ]


def _listed(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except OSError:
        return []


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _warn(message: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(message, RuntimeWarning, stacklevel=4)
