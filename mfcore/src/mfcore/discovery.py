"""Discovery: which packs are installed, and which of them are to be used.

Who provides a pack is known before any of it is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from mfcore.settings import Choice
from mfcore.versions import version_in_range

if TYPE_CHECKING:
    from mfcore.installed import EntryPoint

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

    def import_plugin(self) -> object:
        """Import the pack, and return the object that implements its hooks."""
        assert self._load is not None
        return self._load()

    def read_metadata(self, filename: str) -> str | None:
        """Return the text of a file of its distribution's metadata, ``None`` without one."""
        return self._read(filename) if self._read is not None else None


def find(
    entry_points: Iterable[EntryPoint], chosen: Choice | None, disabled: Iterable[Choice | None]
) -> list[Pack]:
    """Return the packs that entry points stand for, by name, none of them imported.

    Parameters
    ----------
    entry_points : iterable of EntryPoint
        Several of one name are one pack, in conflict.
    chosen : Choice or None
        The packs to use; all others are disabled. ``None`` stands for all.
    disabled : iterable of Choice or None
        The packs not to use.
    """
    disabled = tuple(disabled)
    by_name: dict[str, list[EntryPoint]] = {}
    for entry_point in entry_points:
        by_name.setdefault(entry_point.name, []).append(entry_point)
    return [_found(name, by_name[name], chosen, disabled) for name in sorted(by_name)]


def why_disabled(names: Iterable[str], disabled: Iterable[Choice | None]) -> str:
    """Say who disabled a pack that has any of these names; ``""`` where nobody did."""
    names = tuple(names)
    for choice in disabled:
        if choice is not None and choice.has(*names):
            return "disabled in code" if choice.source == "code" else f"disabled by {choice.source}"
    return ""


def _found(
    name: str,
    entry_points: list[EntryPoint],
    chosen: Choice | None,
    disabled: tuple[Choice | None, ...],
) -> Pack:
    origins = sorted(
        (getattr(e.dist, "name", "") or "", getattr(e.dist, "version", "") or "", e.value)
        for e in entry_points
    )
    first = entry_points[0]
    read = getattr(first.dist, "read_text", None)
    pack = Pack(name, *origins[0], load=first.load, read=read)
    names = (name, *(origin[0] for origin in origins))
    if reason := why_disabled(names, disabled):
        pack.status, pack.reason = "disabled", reason
    elif chosen is not None and not chosen.has(*names):
        pack.status, pack.reason = "disabled", f"not among the packs of {chosen.source}"
    elif len(entry_points) > 1:
        pack.claimants = tuple(dict.fromkeys(origin[0] for origin in origins))
        listed = ", ".join(f"{d} {v} ({value})" for d, v, value in origins)
        pack.status = "conflict"
        pack.reason = f"several distributions provide a pack named {name!r}: {listed}"
    elif problem := _made_for_another_core(first):
        pack.status, pack.reason = "incompatible", problem
    return pack


def _made_for_another_core(entry_point: EntryPoint) -> str:
    """Say why a pack was not made for this mfcore; ``""`` where it was.

    A pack states its range as every distribution does: by requiring ``mfcore>=1,<2``.
    """
    from mfcore import __version__

    for requirement in (entry_point.dist.requires if entry_point.dist else None) or []:
        requirement, _, marker = requirement.partition(";")
        if marker and re.search(r"\bextra\b", marker):
            continue  # asked for by an optional part of the distribution only
        match = _REQUIREMENT.match(requirement)
        if match and not version_in_range(__version__, match[1]):
            return f"it was made for mfcore {match[1].strip()}, and this is mfcore {__version__}"
    return ""


_REQUIREMENT = re.compile(r"\s*mfcore(?![\w.-])\s*(?:\[[^]]*\])?\s*\(?([^)]*)", re.IGNORECASE)
