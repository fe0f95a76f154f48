"""What this pack provides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mfcore import hookimpl


@hookimpl
def mf_tracers() -> Iterable[type]:
    """All tracers of the pack."""
    from mftrace.console import ConsoleTracer
    from mftrace.gradients import GradientsTracer
    from mftrace.guard import GuardTracer
    from mftrace.profile import ProfileTracer
    from mftrace.record import RecordTracer

    return [ConsoleTracer, GuardTracer, RecordTracer, ProfileTracer, GradientsTracer]


@hookimpl
def mf_drawers() -> Iterable[type]:
    """All drawers of the pack."""
    from mftrace.draw.png import PngDrawer
    from mftrace.draw.svg import SvgDrawer
    from mftrace.draw.text import DotDrawer, MarkdownDrawer, MermaidDrawer

    return [SvgDrawer, PngDrawer, MermaidDrawer, MarkdownDrawer, DotDrawer]


@hookimpl
def mf_commands() -> Iterable[Any]:
    """The commands ``replay`` and ``trace``."""
    from mftrace.commands import replay
    from mftrace.trace_commands import trace

    return [replay, trace]
