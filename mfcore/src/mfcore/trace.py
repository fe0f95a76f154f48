"""Tracing: plugins that listen while a ``with`` block runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mfcore.plugins import Observer, active_observers
from mfcore.registry import current


@contextmanager
def tracing(tracer: str | object, **options: Any) -> Iterator[Any]:
    """Let a tracer listen to all sorts, runs and training steps of a ``with`` block.

    Blocks nest: every tracer hears everything. Other threads are not affected.

    Parameters
    ----------
    tracer : str or object
        A tracer's name, as a pack provides it (``"console"``), or any object with
        methods marked ``@mfcore.hookimpl``.
    **options
        Passed to the tracer's class where a name is given.

    Yields
    ------
    object
        The tracer.

    Raises
    ------
    UnknownNameError
        If no enabled pack provides the tracer.
    """
    plugin = current().tracer(tracer)(**options) if isinstance(tracer, str) else tracer
    if options and not isinstance(tracer, str):
        raise TypeError("options belong to a tracer given by name")
    name = tracer if isinstance(tracer, str) else type(plugin).__qualname__
    token = active_observers.set((*active_observers.get(), Observer(plugin, repr(name))))
    try:
        yield plugin
    finally:
        active_observers.reset(token)
        close = getattr(plugin, "close", None)
        if close is not None and isinstance(tracer, str):
            close()
