"""What this pack provides."""

from __future__ import annotations

from collections.abc import Iterable

from mfcore import hookimpl


@hookimpl
def mf_tracers() -> Iterable[type]:
    """All tracers of the pack."""
    from mftrace.console import ConsoleTracer

    return [ConsoleTracer]
