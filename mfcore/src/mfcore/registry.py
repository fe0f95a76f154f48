"""The registry: which packs there are, and what they provide.

Packs are found through entry points of the group ``mfcore``, at the first look-up and not
before. Who provides a pack is known before any of it is imported; a pack that cannot be
loaded is quarantined, whole, and everything else works.
"""

from __future__ import annotations

import os
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import attrs

from mfcore import installed, settings
from mfcore.contract import api_problem, check_provided, collect, label_of
from mfcore.errors import (
    AmbiguousNameError,
    PackError,
    QuarantineWarning,
    UnknownNameError,
    type_name,
)
from mfcore.plugins import (
    NOBODY,
    Observer,
    Observers,
    active_observers,
    new_plugin_manager,
)
from mfcore.settings import Choice, normal

if TYPE_CHECKING:
    import pluggy

    from mfcore.drawing import Drawer
    from mfcore.engine import Engine
    from mfcore.installed import EntryPoint
    from mfcore.manifest import Manifest
    from mfcore.node import Node
    from mfcore.session import Session

GROUP = "mfcore"
"""The entry-point group of packs."""

KINDS: Mapping[str, str] = {
    "operation": "mf_operations",
    "optimizer": "mf_optimizers",
    "schedule": "mf_schedules",
    "engine": "mf_engines",
    "tracer": "mf_tracers",
    "drawer": "mf_drawers",
}
"""What packs provide by name, and the hook that returns it."""


@attrs.define(eq=False)
class Pack:
    """One pack: where it comes from, and what became of it.

    Attributes
    ----------
    name : str
        The name of its entry point; the first part of qualified names.
    distribution, version, entry_point : str
        Where it comes from; empty for a plugin registered in code.
    status : str
        ``"found"`` (not imported yet), ``"loaded"``, ``"disabled"``, ``"incompatible"``
        (made for another version of mfcore), ``"conflict"`` (its name is taken twice) or
        ``"quarantined"`` (it failed to load).
    reason : str
        Why it is not loaded.
    traceback : str
        The traceback of its failure, if it failed.
    lacks : str
        The module whose absence made it fail, if one did.
    claimants : tuple of str
        The distributions that provide a pack of this name, where several do.
    listens : bool
        Whether it implements run hooks, once it is loaded.
    provides : dict
        By kind (a key of ``KINDS``): classes by name. Before the pack is loaded: those that
        were looked up through its manifest.
    """

    name: str
    distribution: str = ""
    version: str = ""
    entry_point: str = ""
    status: str = "found"
    reason: str = ""
    traceback: str = attrs.field(default="", repr=False)
    lacks: str = attrs.field(default="", repr=False)
    claimants: tuple[str, ...] = attrs.field(default=(), repr=False)
    provides: dict[str, dict[str, Any]] = attrs.field(factory=dict, repr=False)
    listens: bool = attrs.field(default=False, repr=False)
    _load: Callable[[], object] | None = attrs.field(default=None, repr=False)
    _read: Callable[[str], str | None] | None = attrs.field(default=None, repr=False)

    @property
    def origin(self) -> str:
        """Distribution and version, for messages."""
        return f"{self.distribution} {self.version}" if self.distribution else "registered in code"

    @property
    def enabled(self) -> bool:
        """Whether look-ups consider it."""
        return self.status in ("found", "loaded")

    def read_metadata(self, filename: str) -> str | None:
        """Return the text of a file of its distribution's metadata, ``None`` without one."""
        return self._read(filename) if self._read is not None else None


class Registry:
    """Packs, and look-ups by name.

    Parameters
    ----------
    autoload : bool, optional
        Whether installed packs are found by themselves. By default yes, unless the
        environment says ``MINIFLOW_AUTOLOAD=0``.
    packs : iterable of str, optional
        Names of the installed packs to use, or of their distributions. By default those in
        ``MINIFLOW_PACKS``, separated by commas; else those of the project's file (see
        ``mfcore.settings``); else all.
    disabled : iterable of str, optional
        Names of packs not to load, or of their distributions. By default those in
        ``MINIFLOW_DISABLE``, separated by commas; else those of the project's file.
    strict : bool, optional
        Whether a pack that cannot be loaded raises. By default it is quarantined, unless
        the environment says ``MINIFLOW_STRICT=1``.
    entry_points : callable, optional
        Returns the entry points to consider; by default those installed.

    Attributes
    ----------
    chosen, disabled : Choice or None
        The packs to use and those not to, and who said so. What the project's file says is
        among them after the first look-up.
    autoload, strict : bool
        As above.
    """

    def __init__(
        self,
        *,
        autoload: bool | None = None,
        packs: Iterable[str] | None = None,
        disabled: Iterable[str] | None = None,
        strict: bool | None = None,
        entry_points: Callable[[], Iterable[EntryPoint]] | None = None,
    ) -> None:
        if autoload is None:
            autoload = os.environ.get("MINIFLOW_AUTOLOAD", "1") != "0"
        if strict is None:
            strict = os.environ.get("MINIFLOW_STRICT", "0") == "1"
        self.strict = strict
        self.plugins: pluggy.PluginManager = new_plugin_manager()
        self.autoload = autoload
        self.chosen = settings.from_code(packs) or settings.from_environment(
            "MINIFLOW_PACKS", empty_is_all=True
        )
        self.disabled = settings.from_code(disabled) or settings.from_environment(
            "MINIFLOW_DISABLE"
        )
        self._disabled_later: tuple[str, ...] = ()
        self._entry_points = entry_points or partial(installed.entry_points, GROUP)
        self._packs: dict[str, Pack] = {}
        self._scanned = False
        self._loading: set[str] = set()
        self._all_loaded = False
        self._undescribed_loaded = False
        self._manifests: dict[str, Manifest | None] = {}
        self._functions: dict[Any, Any] | None = None
        self.listening: dict[str, Observer] = {}
        self._lock = threading.RLock()
        self._register_core()

    def __repr__(self) -> str:
        return f"<Registry of {', '.join(self._packs)}>"

    # Packs

    def packs(self) -> list[Pack]:
        """Return all packs, by name, without importing any of them."""
        self._scan()
        return [self._packs[name] for name in sorted(self._packs)]

    def load(self) -> list[Pack]:
        """Load all enabled packs now, and return all packs."""
        self._load_all()
        return self.packs()

    def register(self, plugin: object, name: str) -> Pack:
        """Add a plugin in code, as if a pack of that name had been found.

        Raises
        ------
        PackError
            If the name is taken, or the plugin breaks the contract.
        """
        with self._lock:
            if name in self._packs:
                raise PackError(
                    f"a pack named {name!r} is there already ({self._packs[name].origin})"
                )
            pack = Pack(name, load=lambda: plugin)
            # What a project's file says is about installed packs, and it is not read yet.
            if reason := self._why_disabled(name):
                pack.status, pack.reason = "disabled", reason
            self._packs[name] = pack
            self._functions = None
            if pack.enabled and not self._load(pack):
                del self._packs[name]
                raise PackError(f"the plugin {name!r} cannot be registered: {pack.reason}")
            return pack

    def disable(self, name: str) -> None:
        """Leave a pack out of all look-ups, loaded or not."""
        with self._lock:
            self._disabled_later += (name,)
            for pack in self._packs.values():
                if normal(name) in (normal(pack.name), normal(pack.distribution)):
                    pack.status, pack.reason = "disabled", "disabled in code"
                    self._withdraw(pack)

    # Look-ups

    def operation(self, name: str) -> type[Node]:
        """Return an operation by qualified (``mfops_nn.Linear``) or short name (``Linear``).

        Raises
        ------
        UnknownNameError
            If no enabled pack provides it; quarantined packs are shown with their traceback.
        AmbiguousNameError
            If several enabled packs provide the short name.
        """
        found: type[Node] = self._find("operation", name)
        return found

    def optimizer(self, name: str) -> type:
        """Return an optimizer class; see ``operation``."""
        found: type = self._find("optimizer", name)
        return found

    def schedule(self, name: str) -> type:
        """Return a class of schedules; see ``operation``."""
        found: type = self._find("schedule", name)
        return found

    def engine(self, name: str) -> type[Engine]:
        """Return an engine class; see ``operation``."""
        found: type[Engine] = self._find("engine", name)
        return found

    def tracer(self, name: str) -> type:
        """Return a tracer class; see ``operation``."""
        found: type = self._find("tracer", name)
        return found

    def drawer(self, name: str) -> type[Drawer]:
        """Return a drawer class, whose name is its format; see ``operation``."""
        found: type[Drawer] = self._find("drawer", name)
        return found

    def all(self, kind: str) -> dict[str, Any]:
        """Return everything of one kind (a key of ``KINDS``) by qualified name."""
        self._load_undescribed()
        for pack in self.packs():
            if (described := self._manifest(pack)) is not None:
                for name in described.provides[kind]:
                    self._provided(pack, kind, name)
        return {
            f"{pack.name}.{name}": provided
            for pack in self.packs()
            if pack.enabled
            for name, provided in sorted(pack.provides.get(kind, {}).items())
        }

    def commands(self) -> list[Any]:
        """Return the command-line commands of all enabled packs; one that fails is quarantined."""
        given, failed = self.commands_by_pack()
        for name, error in failed.items():
            self._quarantine(self._packs[name], error)
        return [command for commands in given.values() for command in commands]

    def commands_by_pack(self) -> tuple[dict[str, list[Any]], dict[str, BaseException]]:
        """Ask each loaded pack, apart from all others, for its command-line commands.

        Returns
        -------
        commands : dict
            By pack: what its hook returned, as it is.
        failed : dict
            By pack: what its hook raised.
        """
        given: dict[str, list[Any]] = {}
        failed: dict[str, BaseException] = {}
        loaded = {pack.name for pack in self.load() if pack.status == "loaded"}
        hooks = self.plugins.hook.mf_commands.get_hookimpls()
        for hook in sorted(hooks, key=attrgetter("plugin_name")):
            if hook.plugin_name in loaded:
                try:
                    returned: Any = hook.function()
                    given[hook.plugin_name] = [] if returned is None else list(returned)
                except (Exception, SystemExit) as error:
                    failed[hook.plugin_name] = error
        return given, failed

    def hook_of(self, name: str, hook: str) -> Callable[..., Any] | None:
        """Load one pack, and return its implementation of a hook.

        Parameters
        ----------
        name : str
            The pack.
        hook : str
            The hook.

        Returns
        -------
        callable or None
            Takes the hook's arguments by name; ``None`` where the pack does not implement the
            hook, or is not loaded.
        """
        with self._lock:
            self._scan()
            pack = self._packs.get(name)
            if pack is not None and pack.status == "found" and name not in self._loading:
                self._load(pack)
        for found in getattr(self.plugins.hook, hook).get_hookimpls():
            if found.plugin_name == name:
                function, asks = found.function, found.argnames
                return lambda **given: function(*(given[argument] for argument in asks))
        return None

    def operation_for(self, function: Callable[..., Any]) -> type[Node] | None:
        """Return the operation declared for a NumPy function, ``None`` where there is none.

        Raises
        ------
        AmbiguousNameError
            If operations of several packs declare the function.
        """
        found = self._functions.get(function) if self._functions is not None else None
        if found is None or isinstance(found, list):
            found = self._settled(function)
            if found is None and not self._all_loaded:
                # A manifest may be out of date.
                self._load_all()
                found = self._settled(function)
        if isinstance(found, _Several):
            raise AmbiguousNameError(
                f"{getattr(function, '__name__', function)} on nodes is declared by several "
                f"operations: {', '.join(found.providers)}. Disable all but one of their packs"
            )
        operation: type[Node] | None = found
        return operation

    def provider(self, operation: type[Node]) -> Pack | None:
        """Return the pack that provides an operation class, if a loaded one does."""
        for pack in self._packs.values():
            if pack.provides.get("operation", {}).get(operation.__name__) is operation:
                return pack
        return None

    def problems(self) -> str:
        """Return what is wrong with packs that are not loaded, with tracebacks; else ``""``."""
        lines = []
        for pack in self.packs():
            if pack.status in ("quarantined", "conflict", "incompatible"):
                lines.append(f"pack {pack.name} ({pack.origin}) is {pack.status}: {pack.reason}")
                if pack.traceback:
                    lines.append(pack.traceback.rstrip())
        return "\n".join(lines)

    # How packs are found and loaded

    def _register_core(self) -> None:
        from mfcore import __version__, pack

        core = self.register(pack, "mfcore")
        core.distribution, core.version, core.entry_point = "mfcore", __version__, "mfcore.pack"

    def _scan(self) -> None:
        with self._lock:
            if self._scanned or not self.autoload:
                return
            if self.chosen is None or self.disabled is None:
                project = settings.from_project()
                self.chosen = self.chosen or project.get("packs")
                self.disabled = self.disabled or project.get("disabled")
            by_name: dict[str, list[EntryPoint]] = {}
            for entry_point in self._entry_points():
                by_name.setdefault(entry_point.name, []).append(entry_point)
            found: dict[str, Pack] = {}
            for name in sorted(by_name):
                pack = self._found(name, by_name[name])
                if name in self._packs:
                    # What was registered in code stays; the installed namesake is not hidden.
                    pack.status = "conflict"
                    pack.claimants = (pack.distribution,)
                    pack.reason = (
                        f"a pack named {name!r} is there already ({self._packs[name].origin})"
                    )
                    name = f"{name} of {pack.distribution}"
                if self.strict and pack.status in ("conflict", "incompatible"):
                    raise PackError(f"pack {pack.name}: {pack.reason}")
                found[name] = pack
            self._packs.update(found)
            self._scanned = True

    def _found(self, name: str, entry_points: list[EntryPoint]) -> Pack:
        origins = sorted(
            (getattr(e.dist, "name", "") or "", getattr(e.dist, "version", "") or "", e.value)
            for e in entry_points
        )
        first = entry_points[0]
        read = getattr(first.dist, "read_text", None)
        pack = Pack(name, *origins[0], load=first.load, read=read)
        names = (name, *(origin[0] for origin in origins))
        if reason := self._why_disabled(*names):
            pack.status, pack.reason = "disabled", reason
        elif self.chosen is not None and not self.chosen.has(*names):
            pack.status = "disabled"
            pack.reason = f"not among the packs of {self.chosen.source}"
        elif len(entry_points) > 1:
            pack.claimants = tuple(dict.fromkeys(origin[0] for origin in origins))
            listed = ", ".join(f"{d} {v} ({value})" for d, v, value in origins)
            pack.status = "conflict"
            pack.reason = f"several distributions provide a pack named {name!r}: {listed}"
        elif problem := api_problem(first):
            pack.status, pack.reason = "incompatible", problem
        return pack

    def _why_disabled(self, *names: str) -> str:
        """Say who disabled a pack that has any of these names; ``""`` where nobody did."""
        if Choice(self._disabled_later, "code").has(*names):
            return "disabled in code"
        if self.disabled is not None and self.disabled.has(*names):
            source = self.disabled.source
            return "disabled in code" if source == "code" else f"disabled by {source}"
        return ""

    def _load_all(self) -> None:
        with self._lock:
            self._scan()
            if self._all_loaded:
                return
            for pack in self.packs():
                if pack.status == "found" and pack.name not in self._loading:
                    self._load(pack)
            self._all_loaded = True

    def _load_undescribed(self) -> None:
        """Load the packs that have to be asked what they provide."""
        with self._lock:
            self._scan()
            if self._undescribed_loaded or self._all_loaded:
                return
            for pack in self.packs():
                if pack.status == "found" and pack.name not in self._loading:
                    described = self._manifest(pack)
                    if described is None or described.listens:
                        self._load(pack)
            self._undescribed_loaded = True

    def _manifest(self, pack: Pack) -> Manifest | None:
        """Return the manifest to go by for a pack that is not imported; ``None`` without one."""
        if pack.status != "found" or pack.name in self._loading:
            return None
        if pack.name not in self._manifests:
            from mfcore import manifest

            self._manifests[pack.name] = manifest.read(pack)
        return self._manifests[pack.name]

    def _provided(self, pack: Pack, kind: str, name: str) -> Any:
        """Return what a pack provides under a name, ``None`` for nothing.

        By its manifest only the module is imported that the name is in. Where that does not
        work the pack is loaded, and tells what is the matter.
        """
        if pack.status == "loaded":
            return pack.provides[kind].get(name)
        with self._lock:
            described = self._manifest(pack)
            if described is not None and name in described.provides[kind]:
                classes = pack.provides.setdefault(kind, {})
                try:
                    if name not in classes:
                        cls = described.resolve(kind, name)
                        check_provided(kind, cls, pack.name)
                        if label_of(kind, cls) == name:
                            classes[name] = cls
                except (Exception, SystemExit):
                    pass
                if name in classes:
                    return classes[name]
            if pack.status == "found" and pack.name not in self._loading:
                self._load(pack)
        return pack.provides[kind].get(name) if pack.status == "loaded" else None

    def _providing(self, kind: str, name: str) -> list[Pack]:
        """Return the enabled packs that provide a name, which is then among what they provide."""
        found = []
        for pack in self.packs():
            described = self._manifest(pack)
            names = pack.provides.get(kind, {}) if described is None else described.provides[kind]
            if pack.enabled and name in names and self._provided(pack, kind, name) is not None:
                found.append(pack)
        return found

    def _load(self, pack: Pack) -> bool:
        """Import a pack and collect what it provides: all of it, or nothing."""
        assert pack._load is not None
        # A module that uses NumPy on nodes while it is imported looks things up meanwhile.
        self._loading.add(pack.name)
        try:
            plugin = pack._load()
            observer = Observer(plugin, f"of the pack {pack.name}")
            provides = collect(observer.hook, pack.name)
            self.plugins.register(plugin, pack.name)
        except (Exception, SystemExit) as error:
            pack.provides = {}
            self._quarantine(pack, error)
            return False
        finally:
            self._loading.discard(pack.name)
            self._functions = None
        if observer.listens:
            self.listening[pack.name] = observer
            pack.listens = True
        pack.provides = provides
        pack.status = "loaded"
        return True

    def _quarantine(self, pack: Pack, error: BaseException) -> None:
        """Leave a pack out, whole, and keep its traceback."""
        pack.status = "quarantined"
        pack.reason = f"{type_name(error)}: {error}"
        pack.traceback = "".join(traceback.format_exception(error))
        pack.lacks = (isinstance(error, ModuleNotFoundError) and error.name) or ""
        self._withdraw(pack)
        if self.strict:
            raise PackError(f"pack {pack.name} ({pack.origin}): {pack.reason}") from error
        if pack.distribution:
            warnings.warn(
                f"pack {pack.name} ({pack.origin}) was quarantined: {pack.reason} "
                f"(`miniflow packs doctor` tells what mends it)",
                QuarantineWarning,
                stacklevel=2,
            )

    def _withdraw(self, pack: Pack) -> None:
        self.listening.pop(pack.name, None)
        if self.plugins.has_plugin(pack.name):
            self.plugins.unregister(name=pack.name)
        self._functions = None

    def _find(self, kind: str, name: str) -> Any:
        qualifier, _, short = name.rpartition(".")
        if qualifier:
            if qualifier not in self._packs:
                self._scan()
            pack = self._packs.get(qualifier)
            provided = None if pack is None else self._provided(pack, kind, short)
            if provided is None:
                raise self._unknown(kind, name, pack)
            return provided
        self._load_undescribed()
        found = self._providing(kind, name)
        if not found:
            self._load_all()
            found = self._providing(kind, name)
        if not found:
            raise self._unknown(kind, name, None)
        if len({found_in.provides[kind][name] for found_in in found}) > 1:
            providers = ", ".join(f"{pack.name}.{name} ({pack.origin})" for pack in found)
            raise AmbiguousNameError(
                f"several packs provide the {kind} {name!r}: {providers}. Use a qualified name"
            )
        return found[0].provides[kind][name]

    def _unknown(self, kind: str, name: str, pack: Pack | None) -> UnknownNameError:
        import difflib

        self._load_all()
        names = list(self.all(kind))
        names += [qualified.rpartition(".")[2] for qualified in names]
        close = difflib.get_close_matches(name, names, n=3)
        article = "an" if kind[0] in "aeiou" else "a"
        text = [f"no enabled pack provides {article} {kind} {name!r}"]
        if close:
            text[0] += f"; did you mean {' or '.join(close)}?"
        if pack is not None and pack.status != "loaded":
            text.append(f"pack {pack.name} ({pack.origin}) is {pack.status}: {pack.reason}")
        for other in self.packs():
            if other.status == "disabled" and other is not pack:
                text.append(f"pack {other.name} ({other.origin}) is disabled")
        if problems := self.problems():
            text.append(problems)
        return UnknownNameError("\n".join(dict.fromkeys(text)))

    def _declared(self) -> dict[Any, Any]:
        """By NumPy function: packs with the names of their operations declared for it."""
        self._load_undescribed()
        found: dict[Any, list[tuple[Pack, str]]] = {}
        for pack in self.packs():
            described = self._manifest(pack)
            if described is not None:
                for function, name in described.declared():
                    found.setdefault(function, []).append((pack, name))
            elif pack.enabled:
                for name, operation in pack.provides.get("operation", {}).items():
                    for function in operation.__operation__.declared:
                        found.setdefault(function, []).append((pack, name))
        return dict(found)

    def _settled(self, function: Any) -> Any:
        """Return the one operation that all claims on a function are of, ``None`` for none."""
        functions = self._functions
        if functions is None:
            functions = self._functions = self._declared()
        claims = functions.get(function)
        if not isinstance(claims, list):
            return claims
        by = {f"{p.name}.{name}": self._provided(p, "operation", name) for p, name in claims}
        by = {q: c for q, c in by.items() if c is not None and function in c.__operation__.declared}
        classes = set(by.values())
        settled = classes.pop() if len(classes) == 1 else _Several(sorted(by)) if by else None
        functions[function] = settled
        return settled


@attrs.frozen
class _Several:
    providers: list[str]


# The registry in use

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
