"""Installed packs: entry points of a group, read from where installers leave them.

``importlib.metadata`` finds the same, but importing it takes longer than all else that a
look-up does, as it brings a parser of e-mail along. What is installed in an unusual way, as
an egg, in a zip file or by an importer of its own, is still left to it.

The files are those of the specifications "Recording installed projects" and "Entry points".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import cached_property
from importlib import import_module
from importlib.machinery import PathFinder
from operator import attrgetter
from typing import Any, Protocol

from mfcore.settings import normal


class EntryPoint(Protocol):
    """What the registry needs of an entry point; those of ``importlib.metadata`` have it."""

    @property
    def name(self) -> str:
        """Name of the pack."""

    @property
    def value(self) -> str:
        """What it stands for: ``module`` or ``module:object``."""

    @property
    def dist(self) -> Any:
        """Its distribution, with ``name``, ``version``, ``requires`` and ``read_text``."""

    def load(self) -> Any:
        """Import what it stands for."""


def entry_points(group: str) -> Iterable[EntryPoint]:
    """Return the entry points of a group, of every distribution on ``sys.path``.

    Of several versions of one distribution the first counts, as it does for ``import``.
    """
    try:
        return _found(group)
    except _Unusual:
        from importlib import metadata

        return metadata.entry_points(group=group)


class InstalledDistribution:
    """One installed distribution; its metadata is read when it is asked for."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    @cached_property
    def _metadata(self) -> dict[str, list[str]]:
        """The fields that are asked for; they end at the first empty line."""
        fields: dict[str, list[str]] = {"name": [], "version": [], "requires-dist": []}
        for line in _read(self._folder, "METADATA").splitlines():
            if not line:
                break
            key, _, value = line.partition(":")
            if (found := fields.get(key.lower())) is not None:
                found.append(value.strip())
        return fields

    @property
    def name(self) -> str:
        """Name of the distribution."""
        return "".join(self._metadata["name"][:1])

    @property
    def version(self) -> str:
        """Its version."""
        return "".join(self._metadata["version"][:1])

    @property
    def requires(self) -> list[str]:
        """What it requires."""
        return self._metadata["requires-dist"]

    def read_text(self, filename: str) -> str | None:
        """Return the text of a file of its metadata, ``None`` where there is none."""
        return _read(self._folder, filename) or None


class InstalledEntryPoint:
    """One entry point: a name, and the module or object that it stands for."""

    def __init__(self, name: str, value: str, dist: Any) -> None:
        self.name = name
        self.value = value
        self.dist = dist

    def load(self) -> Any:
        """Import the module, and return it or the object in it."""
        module, _, attribute = self.value.partition("[")[0].partition(":")
        found = import_module(module.strip())
        return attrgetter(attribute.strip())(found) if attribute else found


class _Unusual(Exception):
    """Something that only ``importlib.metadata`` knows to read."""


def _found(group: str) -> list[InstalledEntryPoint]:
    if any(hasattr(f, "find_distributions") and f is not PathFinder for f in sys.meta_path):
        raise _Unusual
    found: list[InstalledEntryPoint] = []
    seen: set[str] = set()
    for path in dict.fromkeys(sys.path):
        try:
            names = os.listdir(path or ".")
        except NotADirectoryError:
            raise _Unusual from None
        except OSError:
            continue
        for name in names:
            if not name.endswith((".dist-info", ".egg-info", ".egg")):
                continue
            stem, kind = os.path.splitext(name)
            distribution = normal(stem.partition("-")[0])
            if distribution in seen:
                continue
            seen.add(distribution)
            folder = os.path.join(path, name)
            if kind == ".egg":
                raise _Unusual
            lines = _group(folder, group)
            if lines and kind == ".egg-info":
                raise _Unusual
            dist = InstalledDistribution(folder)
            found += [InstalledEntryPoint(key, value, dist) for key, value in lines]
    return found


def _group(folder: str, group: str) -> list[tuple[str, str]]:
    """Return the lines ``name = value`` of one section of a distribution's entry points."""
    text = _read(folder, "entry_points.txt")
    if group not in text:
        return []
    lines, section = [], ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line.strip("[] ")
        elif section == group and "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            lines.append((name.strip(), value.strip()))
    return lines


def _read(folder: str, name: str) -> str:
    """Return the text of a file, nothing where there is none."""
    try:
        with open(f"{folder}/{name}", "rb", buffering=0) as file:
            return file.read().decode(errors="replace")
    except OSError:
        return ""
