"""MiniFlow pack: tracers, which show what a graph does.

Names are imported when they are first used, so that ``import mftrace`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mftrace.console import ConsoleTracer as ConsoleTracer
    from mftrace.console import TracerOptionError as TracerOptionError
    from mftrace.format import format_array as format_array

_MODULES = {
    "ConsoleTracer": "console",
    "TracerOptionError": "console",
    "format_array": "format",
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
