"""The registry in use, and who listens to what happens while it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from mfcore.plugins import NOBODY, Observer, Observers, active_observers

if TYPE_CHECKING:
    from mfcore.registry import Registry
    from mfcore.session import Session

_default: Registry | None = None
_default_lock = threading.Lock()
_used: ContextVar[Registry | None] = ContextVar("mfcore_registry", default=None)


def current() -> Registry:
    """Return the registry in use: that of the innermost ``using`` block, or the default one."""
    global _default
    used = _used.get()
    if used is not None:
        return used
    if _default is None:
        from mfcore.registry import Registry

        with _default_lock:
            if _default is None:
                _default = Registry()
    return _default


@contextmanager
def using(registry: Registry) -> Iterator[Registry]:
    """Use another registry within a ``with`` block, in this thread only."""
    token = _used.set(registry)
    try:
        yield registry
    finally:
        _used.reset(token)


def nobody_listens(session: Session) -> bool:
    """Whether there is no listener of any kind here and now: one question for all of them."""
    registry = _used.get() or _default
    return (
        not active_observers.get()
        and not session.observers
        and (registry is None or not registry.listening)
    )


def observers(kind: str, step: int | None = None, session: Session | None = None) -> Observers:
    """Return who listens to ``kind`` (a key of ``RUN_HOOKS``) here and now.

    Engines ask once per run; an empty answer means that the run needs no hook at all.

    Parameters
    ----------
    kind : str
        A key of ``RUN_HOOKS``.
    step : int, optional
        The training step that it is about, or part of.
    session : Session, optional
        The session that it happens in, which may have listeners of its own.
    """
    listening = _listening(session)
    if not listening:
        return NOBODY
    return Observers([o for o in listening if o.wants(kind, step)])


def unheard_steps(session: Session, count: int) -> int:
    """Return how many of a session's next ``count`` steps nobody listens to, before one is."""
    listening = [o for o in _listening(session) if o.attached and o.hears_steps]
    if any(o.always for o in listening):
        return 0
    first = session.steps + 1
    for step in range(first, first + count) if listening else ():
        if any(o.wants("training", step) or o.wants("run", step) for o in listening):
            return step - first
    return count


def _listening(session: Session | None) -> tuple[Observer, ...]:
    registry = _used.get() or _default
    listening = active_observers.get()
    if session is not None and session.observers:
        listening = (*session.observers, *listening)
    if registry is not None and registry.listening:
        listening = (*registry.listening.values(), *listening)
    return listening
