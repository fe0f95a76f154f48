"""What this pack provides."""

from __future__ import annotations

from collections.abc import Iterable

from mfcore import Node, hookimpl


@hookimpl
def mf_operations() -> Iterable[type[Node]]:
    """All operations of the pack."""
    import mfops_nn

    return [getattr(mfops_nn, name) for name in mfops_nn.OPERATIONS]
