"""MiniFlow pack: tracers, which show what a graph does.

Names are imported when they are first used, so that ``import mftrace`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mftrace.console import ConsoleTracer as ConsoleTracer
    from mftrace.errors import RecordingError as RecordingError
    from mftrace.errors import TracerOptionError as TracerOptionError
    from mftrace.format import format_array as format_array
    from mftrace.gradients import GradientsTracer as GradientsTracer
    from mftrace.gradients import GradientWarning as GradientWarning
    from mftrace.guard import GuardError as GuardError
    from mftrace.guard import GuardTracer as GuardTracer
    from mftrace.guard_report import GuardReport as GuardReport
    from mftrace.ledger import Ledger as Ledger
    from mftrace.ledger import explain as explain
    from mftrace.profile import ProfileTracer as ProfileTracer
    from mftrace.reading import read as read
    from mftrace.record import RecordTracer as RecordTracer
    from mftrace.recording import Recording as Recording
    from mftrace.replay_archive import ReplayError as ReplayError
    from mftrace.replaying import replay as replay
    from mftrace.report import report_html as report_html
    from mftrace.report import save_report as save_report
    from mftrace.summary import Summary as Summary
    from mftrace.summary import summary_of as summary_of

_MODULES = {
    "ConsoleTracer": "console",
    "GradientWarning": "gradients",
    "GradientsTracer": "gradients",
    "GuardError": "guard",
    "GuardReport": "guard_report",
    "GuardTracer": "guard",
    "ProfileTracer": "profile",
    "Ledger": "ledger",
    "RecordTracer": "record",
    "Recording": "recording",
    "RecordingError": "errors",
    "ReplayError": "replay_archive",
    "Summary": "summary",
    "TracerOptionError": "errors",
    "explain": "ledger",
    "format_array": "format",
    "read": "reading",
    "replay": "replaying",
    "report_html": "report",
    "save_report": "report",
    "summary_of": "summary",
}

__all__ = [  # noqa: PLE0604 - the names are strings, from the table above
    "__version__",
    *_MODULES,
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _MODULES:
        return getattr(import_module(f"mftrace.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'mftrace' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
