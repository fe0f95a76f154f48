"""What this pack provides; the entry point in pyproject.toml names this module."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mfcore import Node, hookimpl

from mfops_extra.operations import Huber, Swish, TopK
from mfops_extra.optimizers import Lion
from mfops_extra.tally import Tally


@hookimpl
def mf_operations() -> Iterable[type[Node]]:
    """All operations of the pack."""
    return [Huber, Swish, TopK]


@hookimpl
def mf_optimizers() -> Iterable[type]:
    """All optimizers of the pack."""
    return [Lion]


@hookimpl
def mf_tracers() -> Iterable[type]:
    """All tracers of the pack."""
    return [Tally]


@hookimpl
def mf_commands() -> Iterable[Any]:
    """The command ``curve``; imported where it is asked for, as only it needs click."""
    from mfops_extra.commands import curve

    return [curve]
