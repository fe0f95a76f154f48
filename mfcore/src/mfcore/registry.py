"""The registry: what packs provide, looked up by name.

Packs are found through entry points of the group ``mfcore``, at the first look-up and not
before (``discovery``); one that cannot be loaded is quarantined, whole, and everything else
works (``loading``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from mfcore.contract import check_provided, label_of
from mfcore.discovery import GROUP, KINDS, Pack
from mfcore.errors import AmbiguousNameError, UnknownNameError
from mfcore.in_use import current, nobody_listens, observers, unheard_steps, using
from mfcore.loading import PackLoader

if TYPE_CHECKING:
    from mfcore.claims import Claims
    from mfcore.drawing import Drawer
    from mfcore.engine import Engine
    from mfcore.node import Node

__all__ = [
    "GROUP",
    "KINDS",
    "Pack",
    "Registry",
    "current",
    "nobody_listens",
    "observers",
    "unheard_steps",
    "using",
]


class Registry(PackLoader):
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

    _claims: Claims | None = None

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
                    self._provided(pack, name, kind)
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
        claims = self._claims or self._collect_claims()
        found = claims.operation_for(function)
        if found is None and not self._all_loaded:
            # A manifest may be out of date.
            self._load_all()
            found = self._collect_claims().operation_for(function)
        return found

    def provider(self, operation: type[Node]) -> Pack | None:
        """Return the pack that provides an operation class, if a loaded one does."""
        for pack in self._packs.values():
            if pack.provides.get("operation", {}).get(operation.__name__) is operation:
                return pack
        return None

    def problems(self) -> str:
        """Return what is wrong with packs that are not loaded, with tracebacks; else ``""``."""
        from mfcore import problems

        return problems.of_packs(self.packs())

    def _provided(self, pack: Pack, name: str, kind: str) -> Any:
        """Return what a pack provides under a name, ``None`` for nothing.

        By its manifest only the module is imported that the name is in. Where that does not
        work the pack is loaded, and tells what is the matter.
        """
        provided = pack.provides.get(kind, {})
        if pack.status == "loaded" or (pack.enabled and name in provided):
            return provided.get(name)
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
            if pack.enabled and name in names and self._provided(pack, name, kind) is not None:
                found.append(pack)
        return found

    def _find(self, kind: str, name: str) -> Any:
        qualifier, _, short = name.rpartition(".")
        if qualifier:
            if qualifier not in self._packs:
                self._scan()
            pack = self._packs.get(qualifier)
            provided = None if pack is None else self._provided(pack, short, kind)
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
        from mfcore import problems

        self._load_all()
        return problems.unknown_name(kind, name, self.all(kind), self.packs(), pack)

    def _changed(self) -> None:
        self._claims = None

    def _collect_claims(self) -> Claims:
        """Ask manifests and packs which operations they declare for which NumPy functions."""
        from mfcore.claims import Claims

        self._load_undescribed()
        found: list[tuple[Any, Pack, str]] = []
        for pack in self.packs():
            described = self._manifest(pack)
            if described is not None:
                found += [(function, pack, name) for function, name in described.declared()]
            elif pack.enabled:
                for name, operation in pack.provides.get("operation", {}).items():
                    found += [(f, pack, name) for f in operation.__operation__.declared]
        self._claims = claims = Claims(found, partial(self._provided, kind="operation"))
        return claims
