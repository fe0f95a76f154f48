"""The pack as a plugin: what it tells the registry."""

from __future__ import annotations

from collections.abc import Iterable

from mfcore import Engine, hookimpl


@hookimpl
def mf_engines() -> Iterable[type[Engine]]:
    """All engines of the pack."""
    return []
