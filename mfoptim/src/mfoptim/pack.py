"""What this pack provides."""

from __future__ import annotations

from collections.abc import Iterable

from mfcore import hookimpl


@hookimpl
def mf_optimizers() -> Iterable[type]:
    """All optimizers of the pack."""
    import mfoptim

    return [getattr(mfoptim, name) for name in mfoptim.OPTIMIZERS]


@hookimpl
def mf_schedules() -> Iterable[type]:
    """All schedules of the pack."""
    import mfoptim

    return [getattr(mfoptim, name) for name in mfoptim.SCHEDULES]
