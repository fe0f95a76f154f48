"""Packs: found, registered, loaded, disabled, and quarantined where they fail.

A pack that cannot be loaded is left out, whole, and everything else works.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from importlib import import_module
from typing import TYPE_CHECKING

from mfcore import discovery, installed, settings
from mfcore.contract import collect
from mfcore.discovery import GROUP, Pack
from mfcore.errors import PackError, QuarantineWarning, type_name
from mfcore.plugins import Observer, new_plugin_manager
from mfcore.settings import Choice, normal

if TYPE_CHECKING:
    import pluggy

    from mfcore.installed import EntryPoint
    from mfcore.manifest import Manifest


class PackLoader:
    """All packs, and what became of each; the arguments are those of ``Registry``."""

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
        self.listening: dict[str, Observer] = {}
        self._lock = threading.RLock()
        self._add_core()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {', '.join(self._packs)}>"

    @cached_property
    def plugins(self) -> pluggy.PluginManager:
        """The plugins of all loaded packs; made with the first, as look-ups may need none."""
        return new_plugin_manager()

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
            if reason := discovery.why_disabled((name,), self._disabled):
                pack.status, pack.reason = "disabled", reason
            self._packs[name] = pack
            self._changed()
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

    # How packs are found and loaded

    def _add_core(self) -> None:
        from mfcore import __version__, manifest

        # It is imported when it is needed, as installed packs are.
        load = partial(import_module, "mfcore.pack")
        self._packs["mfcore"] = Pack("mfcore", "mfcore", __version__, "mfcore.pack", load=load)
        self._manifests["mfcore"] = manifest.OF_THE_CORE

    @property
    def _disabled(self) -> tuple[Choice | None, ...]:
        return Choice(self._disabled_later, "code"), self.disabled

    def _scan(self) -> None:
        with self._lock:
            if self._scanned or not self.autoload:
                return
            if self.chosen is None or self.disabled is None:
                project = settings.from_project()
                self.chosen = self.chosen or project.get("packs")
                self.disabled = self.disabled or project.get("disabled")
            found: dict[str, Pack] = {}
            for pack in discovery.find(self._entry_points(), self.chosen, self._disabled):
                name = pack.name
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

    def _load(self, pack: Pack) -> bool:
        """Import a pack and collect what it provides: all of it, or nothing."""
        # A module that uses NumPy on nodes while it is imported looks things up meanwhile.
        self._loading.add(pack.name)
        try:
            plugin = pack.import_plugin()
            observer = Observer(plugin, f"of the pack {pack.name}")
            provides = collect(observer.hook, pack.name)
            self.plugins.register(plugin, pack.name)
        except (Exception, SystemExit) as error:
            pack.provides = {}
            self._quarantine(pack, error)
            return False
        finally:
            self._loading.discard(pack.name)
            self._changed()
        if observer.listens:
            self.listening[pack.name] = observer
            pack.listens = True
        pack.provides = provides
        pack.status = "loaded"
        return True

    def _quarantine(self, pack: Pack, error: BaseException) -> None:
        """Leave a pack out, whole, and keep its traceback."""
        from mfcore import problems

        pack.status = "quarantined"
        pack.reason = f"{type_name(error)}: {error}"
        pack.traceback = problems.traceback_of(error)
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

    def _changed(self) -> None:
        """Forget what follows from the packs that there are and are loaded."""

    def _withdraw(self, pack: Pack) -> None:
        self.listening.pop(pack.name, None)
        if self.plugins.has_plugin(pack.name):
            self.plugins.unregister(name=pack.name)
        self._changed()
