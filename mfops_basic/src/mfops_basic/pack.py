"""What this pack provides."""

from __future__ import annotations

from collections.abc import Iterable

from mfcore import Node, hookimpl


@hookimpl
def mf_operations() -> Iterable[type[Node]]:
    """All operations of the pack."""
    import mfops_basic

    return [getattr(mfops_basic, name) for name in mfops_basic.OPERATIONS]
