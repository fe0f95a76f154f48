"""The commands that mend packs: what to install, or to leave out, where one does not work."""

from __future__ import annotations

import json
import re
import shlex
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mfcore.registry import Pack
from mfcore.settings import normal

PIP = "python -m pip"


def mends(pack: Pack) -> tuple[str, ...]:
    """Return what mends a pack that is not loaded, commands of which one is enough.

    Where no command does, it is told in words.
    """
    leave_out = f'add "{pack.name}" to disabled in [tool.miniflow] of pyproject.toml'
    if not pack.distribution:
        return ()
    if len(pack.claimants) > 1:
        return tuple(f"{PIP} uninstall {name}" for name in pack.claimants)
    if pack.status == "conflict":
        return (f"{PIP} uninstall {pack.distribution}",)
    if pack.status == "incompatible":
        return (*installations(pack, with_core=True), leave_out)
    missing = pack.lacks.partition(".")[0]
    own = missing == re.split(r"[.:]", pack.entry_point)[0]
    if missing and not own and (lacking := _requirements(pack.distribution, missing)):
        return (" ".join([PIP, "install", *(f'"{each}"' for each in lacking)]), leave_out)
    return (*installations(pack, again=own), leave_out)


def installations(pack: Pack, *, again: bool = False, with_core: bool = False) -> tuple[str, ...]:
    """Return what installs a pack as it should be, from where it came.

    Parameters
    ----------
    pack : Pack
        The pack.
    again : bool, optional
        Whether the version that is installed would do, if it were all there.
    with_core : bool, optional
        Whether another version of mfcore would do as well.
    """
    if source := _source(pack.distribution, pack.read_metadata("direct_url.json")):
        # The same version is installed anew from a folder, but not from elsewhere.
        force = "" if "://" not in source else "--force-reinstall "
        command = f"{PIP} install {force}{source}"
        return (command if again else f"correct it where it comes from, then {command}",)
    how = "--force-reinstall" if again else "--upgrade"
    also = " mfcore" if with_core and not _source("mfcore", _core_origin()) else ""
    return (f"{PIP} install {how} {pack.distribution}{also}",)


def _core_origin() -> str | None:
    from importlib import metadata

    try:
        return metadata.distribution("mfcore").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None


def _source(distribution: str, origin: str | None) -> str:
    """Return where a distribution was installed from, as pip takes it; ``""`` for an index.

    What was never published must not be looked for in an index, where its name may be taken.

    Parameters
    ----------
    distribution : str
        Its name.
    origin : str or None
        The text of its ``direct_url.json``, if it has one.
    """
    if origin is None:
        return ""
    try:
        given = json.loads(origin)
        url = given["url"]
        if not isinstance(url, str):
            return ""
        if "vcs_info" in given:
            vcs = given["vcs_info"]
            revision = vcs.get("requested_revision") or vcs["commit_id"]
            return shlex.quote(f"{distribution} @ {vcs['vcs']}+{url}@{revision}")
        if "dir_info" not in given:
            return shlex.quote(f"{distribution} @ {url}")
        folder = shlex.quote(url2pathname(urlsplit(url).path))
        return f"--editable {folder}" if given["dir_info"].get("editable") else folder
    except (ValueError, TypeError, KeyError, AttributeError):
        return ""


def _requirements(distribution: str, module: str) -> list[str]:
    """Return what a distribution requires and lacks, where a missing module could be of it.

    Only what the distribution itself names is worth an install command: anybody may have
    published something else under the name of a module.
    """
    from importlib import metadata

    try:
        required = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []
    lacking = []
    for requirement in required:
        wanted, _, marker = requirement.partition(";")
        name = re.match(r"[\w.-]*", wanted)
        assert name is not None
        if normal(name[0]) == normal(module):
            return [wanted.strip()]
        if not marker and not _is_installed(name[0]):
            lacking.append(wanted.strip())
    return lacking


def _is_installed(distribution: str) -> bool:
    from importlib import metadata

    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
