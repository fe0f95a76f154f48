"""Plugin managers: calling the hooks of packs, and of whoever listens to a run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from mfcore.errors import DetachedTracerWarning, StopRun, type_name

if TYPE_CHECKING:
    import pluggy

    from mfcore.filters import Filter

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

STEP_HOOKS = frozenset((*RUN_HOOKS["run"], "mf_step_start", "mf_step_finish"))
"""The run hooks that fire in a training step."""


def new_plugin_manager() -> pluggy.PluginManager:
    """Return a pluggy manager that knows MiniFlow's hooks."""
    import pluggy

    from mfcore import hookspecs

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


class Observer:
    """One listening plugin, apart from all others, so that a fault of it stays with it.

    A plugin may have a method ``wants_run(step)``, which is asked before each run whether the
    plugin wants to hear of its nodes; ``step`` is the number of the training step that the
    run is part of, or ``None``. Where nobody does, the run is not observed at all.
    """

    def __init__(self, plugin: object, name: str, heard: Filter | None = None) -> None:
        self.plugin = plugin
        self.name = name
        self.attached = True
        self._heard = heard
        self._wants_run = getattr(plugin, "wants_run", None)
        manager = new_plugin_manager()
        manager.register(plugin)
        manager.check_pending()
        self.hook = manager.hook
        self.listens: set[str] = set()
        self.asks: set[str] = set()
        self._calls: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {}
        self._callers: dict[tuple[str, tuple[str, ...]], Callable[..., None]] = {}
        for hook in (hook for hooks in RUN_HOOKS.values() for hook in hooks):
            for implementation in getattr(manager.hook, hook).get_hookimpls():
                self.listens.add(hook)
                self.asks.update(implementation.argnames)
                if not implementation.wrapper and not implementation.hookwrapper:
                    # Of one plugin there is one: it needs no manager to be called.
                    self._calls[hook] = implementation.function, tuple(implementation.argnames)

    @property
    def hears_steps(self) -> bool:
        """Whether the plugin implements a hook that fires in training steps."""
        return not self.listens.isdisjoint(STEP_HOOKS)

    @property
    def always(self) -> bool:
        """Whether every step is heard."""
        return self._heard is None and self._wants_run is None

    def wants(self, kind: str, step: int | None) -> bool:
        """Whether the plugin listens to a kind of events, in a training step or outside of one.

        Of a training step or of epochs, ``"training"``, ``None`` stands for epochs.
        """
        if not self.attached or self.listens.isdisjoint(RUN_HOOKS[kind]):
            return False
        if self._heard is not None and not self._heard.wants(kind, step):
            return False
        if kind != "run" or self._wants_run is None:
            return True
        try:
            return bool(self._wants_run(step))
        except Exception as error:
            self._detach("wants_run", error)
            return False

    def fire(self, hook: str, arguments: dict[str, Any]) -> None:
        """Call one hook; detach the plugin if it raises."""
        self.caller(hook, tuple(arguments))(*arguments.values())

    def caller(self, hook: str, given: tuple[str, ...]) -> Callable[..., None]:
        """Return what calls one hook with the arguments of these names, by position."""
        found = self._callers.get((hook, given))
        if found is None:
            found = self._callers[hook, given] = self._new_caller(hook, given)
        return found

    def _new_caller(self, hook: str, given: tuple[str, ...]) -> Callable[..., None]:
        if hook in self._calls:
            function, names = self._calls[hook]
            taken = [given.index(name) for name in names]
        else:

            def function(*arguments: Any) -> None:
                getattr(self.hook, hook)(**dict(zip(given, arguments, strict=True)))

            taken = list(range(len(given)))
        heard = self._heard
        take = _taker(taken)

        def call(*arguments: Any) -> None:
            if self.attached:
                try:
                    function(*take(arguments))
                except StopRun:
                    raise
                except Exception as error:
                    self._detach(hook, error)

        def call_if_heard(*arguments: Any) -> None:
            assert heard is not None
            if heard.passes(hook, dict(zip(given, arguments, strict=True))):
                call(*arguments)

        return call if heard is None else call_if_heard

    def close(self) -> None:
        """Close the plugin, where it can be closed; a fault of it is a warning."""
        close = getattr(self.plugin, "close", None)
        if close is not None:
            try:
                close()
            except Exception as error:
                self._detach("close", error)

    def _detach(self, where: str, error: Exception) -> None:
        import traceback

        self.attached = False
        trace = "".join(traceback.format_exception(error))
        warnings.warn(
            f"the tracer {self.name} raised {type_name(error)}: {error} in {where} and was "
            f"detached; the run goes on without it\n{trace}",
            DetachedTracerWarning,
            stacklevel=3,
        )


def _taker(places: list[int]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Return what takes the elements at some places of a tuple."""
    if len(places) > 1:
        return itemgetter(*places)
    end = places[0] + 1 if places else 0
    return itemgetter(slice(end - len(places), end))


class Observers(tuple[Observer, ...]):
    """All plugins that listen to one kind of event, in the order in which they came."""

    __slots__ = ()

    def fire(self, hook: str, **arguments: Any) -> None:
        """Call a run hook of every observer that implements it and is still attached."""
        for observer in self:
            if hook in observer.listens and observer.attached:
                observer.fire(hook, arguments)

    def caller(self, hook: str, *given: str) -> Callable[..., None] | None:
        """Return what does as ``fire`` with the arguments of these names, by position.

        Returns ``None`` where nobody listens to the hook: loops over many nodes ask once.
        """
        calls = [o.caller(hook, given) for o in self if hook in o.listens]
        if len(calls) < 2:
            return calls[0] if calls else None

        def call(*arguments: Any) -> None:
            for each in calls:
                each(*arguments)

        return call

    def ask_for(self, name: str) -> bool:
        """Whether any observer takes the argument of a name, in any hook."""
        return any(name in observer.asks for observer in self)


NOBODY = Observers()


def close_all(observers: Iterable[Observer]) -> None:
    """Close observers, each for itself."""
    for observer in observers:
        observer.close()


active_observers: ContextVar[tuple[Observer, ...]] = ContextVar("active_observers", default=())
"""The observers of the ``tracing`` blocks around the present line, outermost first."""
