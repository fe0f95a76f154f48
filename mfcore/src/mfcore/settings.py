"""Settings: which installed packs are used, as the environment and the project's file say.

Each of the settings is taken from the first place that says anything about it: code (arguments
of ``Registry``), then the environment, then the table ``[tool.miniflow]`` of the nearest
``pyproject.toml`` that has one, from the working directory upwards. The file is read at the
first look-up, and ``tomllib`` imported only for a file that mentions MiniFlow.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

import attrs

from mfcore.errors import SettingsError, type_name

FILE = "pyproject.toml"
"""The name of the project's file."""

TABLE = "tool.miniflow"
"""Its table that is read."""

KEYS = ("packs", "disabled")
"""The keys of that table: lists of names of packs or distributions."""


@attrs.frozen
class Choice:
    """Names of packs or distributions, and where they were given.

    Attributes
    ----------
    names : tuple of str
        As they were given.
    source : str
        Where: ``"code"``, the name of an environment variable, or a key of a file.
    every : bool
        Whether it stands for all packs.
    """

    names: tuple[str, ...]
    source: str
    every: bool = False
    _normal: frozenset[str] = attrs.field(init=False, repr=False, eq=False)

    @_normal.default
    def _of_names(self) -> frozenset[str]:
        return frozenset(map(normal, self.names))

    def has(self, *names: str) -> bool:
        """Whether any of the names is among them, however it is spelled."""
        return self.every or not self._normal.isdisjoint(map(normal, names))


def from_code(names: Iterable[str] | None) -> Choice | None:
    """Return the choice that an argument stands for; ``None`` where there is none."""
    return None if names is None else Choice(_listed(names), "code")


def from_environment(variable: str, *, empty_is_all: bool = False) -> Choice | None:
    """Return the choice that an environment variable stands for: names between commas.

    ``None`` where it is not set. One that is set and empty is a choice too, of no pack or of
    all: so a project's file can be overruled without naming every pack.
    """
    text = os.environ.get(variable)
    if text is None:
        return None
    names = _listed(text.split(","))
    return Choice(names, variable, every=empty_is_all and not names)


def from_project(start: str | os.PathLike[str] | None = None) -> dict[str, Choice]:
    """Return the choices of the project's file, by key (of ``KEYS``); none without a file.

    Parameters
    ----------
    start : path, optional
        The folder to look in first, before its parents; by default the working directory.

    Raises
    ------
    SettingsError
        If the file cannot be read, or says something that it cannot say. The message names
        the file and the key.
    """
    try:
        folder = os.path.abspath(os.getcwd() if start is None else start)
    except FileNotFoundError:  # the working directory was removed
        return {}
    while True:
        file = os.path.join(folder, FILE)
        table = _table(file)
        if table is not None:
            return _choices(file, table)
        folder, below = os.path.dirname(folder), folder
        if folder == below:
            return {}


def normal(name: str) -> str:
    """Return a name of a pack or distribution in the spelling that they are compared in."""
    return _SEPARATORS.sub("_", name.strip()).lower()


_SEPARATORS = re.compile("[-_.]+")


def _listed(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.strip() for name in names if name.strip())


def _table(file: str) -> Any:
    """Return what a file has in the place of the table; ``None`` where it has nothing there."""
    try:
        with open(file, "rb") as opened:
            content = opened.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from None
    if b"miniflow" not in content:
        return None
    import tomllib

    try:
        found: Any = tomllib.loads(content.decode())
    except ValueError as error:  # both of bad TOML and of bytes that are no text
        raise SettingsError(f"{file} is no TOML: {error}") from None
    for key in TABLE.split("."):
        if not isinstance(found, dict) or key not in found:
            return None
        found = found[key]
    return found


def _choices(file: str, table: Any) -> dict[str, Choice]:
    if not isinstance(table, dict):
        raise SettingsError(f"{file}: {TABLE} must be a table, and is {type_name(table)}")
    choices = {}
    for key, value in table.items():
        where = f"{file}: {TABLE}.{key}"
        if key not in KEYS:
            raise SettingsError(f"{where} is no setting; there are {' and '.join(KEYS)}")
        if not isinstance(value, list):
            raise SettingsError(
                f"{where} must be a list of names of packs, and is {type_name(value)}"
            )
        for place, name in enumerate(value):
            if not isinstance(name, str) or not name.strip():
                raise SettingsError(f"{where}[{place}] must be the name of a pack, and is {name!r}")
        choices[key] = Choice(_listed(value), f"{TABLE}.{key} of {file}")
    return choices
