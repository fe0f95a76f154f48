"""The pack as a plugin: what it tells the registry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mfcore import Engine, hookimpl
from mfjit.engines import AutoEngine, NumbaEngine, NumpyEngine


@hookimpl
def mf_engines() -> Iterable[type[Engine]]:
    """All engines of the pack."""
    return [NumpyEngine, NumbaEngine, AutoEngine]


@hookimpl
def mf_commands() -> Iterable[Any]:
    """The command ``cache``."""
    from mfjit.commands import cache

    return [cache]
