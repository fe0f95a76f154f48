"""Plugin managers: calling the hooks of packs, and of whoever listens to a run."""

from __future__ import annotations

import traceback
import warnings
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mfcore.errors import DetachedTracerWarning, StopRun, type_name

if TYPE_CHECKING:
    import pluggy

RUN_HOOKS: dict[str, tuple[str, ...]] = {
    "sort": ("mf_sort_start", "mf_sort_visit", "mf_sort_edge", "mf_sort_finish"),
    "run": (
        "mf_run_start",
        "mf_run_finish",
        "mf_forward_start",
        "mf_forward_finish",
        "mf_backward_start",
        "mf_backward_finish",
    ),
    "training": ("mf_epoch_start", "mf_step_start", "mf_step_finish", "mf_epoch_finish"),
}
"""The run hooks by what they are about; an observer is asked for only where it listens."""


def new_plugin_manager() -> pluggy.PluginManager:
    """Return a pluggy manager that knows MiniFlow's hooks."""
    import pluggy

    from mfcore import hookspecs

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


class Observer:
    """One listening plugin, apart from all others, so that a fault of it stays with it."""

    def __init__(self, plugin: object, name: str) -> None:
        self.plugin = plugin
        self.name = name
        self.attached = True
        manager = new_plugin_manager()
        manager.register(plugin)
        manager.check_pending()
        self.hook = manager.hook
        self.listens = {
            hook
            for hooks in RUN_HOOKS.values()
            for hook in hooks
            if getattr(manager.hook, hook).get_hookimpls()
        }

    def fire(self, hook: str, arguments: dict[str, Any]) -> None:
        """Call one hook; detach the plugin if it raises."""
        try:
            getattr(self.hook, hook)(**arguments)
        except StopRun:
            raise
        except Exception as error:
            self.attached = False
            where = traceback.format_exception(error)
            warnings.warn(
                f"the tracer {self.name} raised {type_name(error)}: {error} in {hook} and was "
                f"detached; the run goes on without it\n{''.join(where)}",
                DetachedTracerWarning,
                stacklevel=2,
            )


class Observers(tuple[Observer, ...]):
    """All plugins that listen to one kind of event, in the order in which they came."""

    __slots__ = ()

    def fire(self, hook: str, **arguments: Any) -> None:
        """Call a run hook of every observer that implements it and is still attached."""
        for observer in self:
            if hook in observer.listens and observer.attached:
                observer.fire(hook, arguments)


NOBODY = Observers()

active_observers: ContextVar[tuple[Observer, ...]] = ContextVar("active_observers", default=())
"""The observers of the ``tracing`` blocks around the present line, outermost first."""
