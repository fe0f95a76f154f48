"""The core as a pack: it provides the reference engine by the same hooks as anyone."""

from __future__ import annotations

from collections.abc import Iterable

from mfcore.engine import Engine
from mfcore.hookspecs import hookimpl
from mfcore.reference import ReferenceEngine


@hookimpl
def mf_engines() -> Iterable[type[Engine]]:
    """The reference engine."""
    return [ReferenceEngine]
