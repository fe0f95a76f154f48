"""The packs that a model file needs: which they are, and whether they are there."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import attrs

from mfcore.errors import ModelFileError, PackVersionWarning, type_name
from mfcore.registry import Pack, current
from mfcore.safetensors import brief, parsed
from mfcore.versions import _release

PACKS = "miniflow.packs"
"""Where a file's metadata list them."""


def origin(pack: Pack) -> dict[str, str]:
    """Return what a file says of a pack."""
    return {"distribution": pack.distribution, "version": pack.version}


_LONGEST_NAME = 200


@attrs.frozen
class NeededPack:
    """What a file says of a pack that it needs, and the names that it uses of it."""

    distribution: str
    version: str
    names: tuple[str, ...]


def needed_packs(metadata: Mapping[str, str], names: Iterable[str]) -> dict[str, NeededPack]:
    """Return the packs that the qualified names in a file belong to, and the core."""
    listed = parsed(metadata.get(PACKS, "{}"), "its list of packs")
    if not isinstance(listed, dict):
        raise ModelFileError("its list of packs is no object")
    used: dict[str, set[str]] = {"mfcore": set()}
    for qualified in names:
        pack, _, name = qualified.rpartition(".")
        used.setdefault(pack, set()).add(name)
    packs = {}
    for pack in sorted(used.keys() & listed.keys()):
        if len(pack) > _LONGEST_NAME:
            raise ModelFileError(f"there is no pack {brief(pack)}")
        entry = listed[pack]
        if not isinstance(entry, dict) or entry.keys() != {"distribution", "version"}:
            raise ModelFileError(f"the pack {brief(pack)} must have a distribution and a version")
        distribution, version = entry["distribution"], entry["version"]
        if not _is_word(distribution) or not _is_word(version):
            raise ModelFileError(f"distribution and version of {brief(pack)} are none")
        packs[pack] = NeededPack(distribution, version, tuple(sorted(used[pack])))
    return packs


def _is_word(value: Any) -> bool:
    """Whether a text may stand in a command: nothing in it but what names and versions have."""
    return (
        isinstance(value, str) and re.fullmatch(r"([\w][\w.+!-]{0,99})?", value, re.A) is not None
    )


Migration: TypeAlias = Callable[[str, Mapping[str, Any]], Any]
"""Returns present name and hyperparameters for those of another version, or ``None``."""


def check_packs(needed: Mapping[str, NeededPack]) -> dict[str, Migration]:
    """Raise for packs that are not there, and let those of another version have their say.

    Returns
    -------
    dict
        By pack: what takes over names and hyperparameters of the version that wrote the file.
    """
    there = {pack.name: pack for pack in current().packs()}
    missing = []
    for name, wanted in needed.items():
        pack = there.get(name)
        if pack is None:
            text = (
                f"it needs the pack {name} {wanted.version}".rstrip() + ", which is not installed"
            )
            missing.append(
                f"{text}: `pip install {wanted.distribution}=={wanted.version}`"
                if wanted.distribution and wanted.version
                else f"{text}; it was registered in code where the file was written"
            )
        elif not pack.enabled:
            missing.append(
                f"it needs the pack {name} {wanted.version}, which is {pack.status}: {pack.reason}"
            )
    if missing:
        raise ModelFileError("; ".join(missing))
    migrations: dict[str, Migration] = {}
    for name, wanted in needed.items():
        have = there[name].version
        if wanted.version and have and wanted.version != have:
            if (hook := current().hook_of(name, "mf_file_migration")) is not None:
                migrations[name] = _migration(hook, wanted.version)
            said = _said_of(name, wanted, have)
            if said:
                warnings.warn(
                    f"the file was written with {name} {wanted.version}, and this is {have}: "
                    f"{said}",
                    PackVersionWarning,
                    stacklevel=4,
                )
    return migrations


def _migration(hook: Callable[..., Any], saved: str) -> Migration:
    return lambda name, hyperparameters: hook(
        saved=saved, name=name, hyperparameters=hyperparameters
    )


def _said_of(name: str, wanted: NeededPack, have: str) -> str:
    """Return what there is to say of another version: by the pack's own rule, if it has one."""
    rule = current().hook_of(name, "mf_file_compatibility")
    if rule is None:
        return _said_by_default(name, wanted, have)
    try:
        said = rule(saved=wanted.version, installed=have, names=wanted.names)
        if said is not None and not isinstance(said, str):
            raise TypeError(f"it returned {type_name(said)}, not a text or None")
    except ModelFileError as error:
        raise ModelFileError(
            f"{name} {have} does not take what {name} {wanted.version} wrote: {error}"
        ) from error
    except Exception as error:
        fault = f"its rule for files failed ({type_name(error)}: {error})"
        said = _said_by_default(name, wanted, have)
        return f"{fault}; {said}" if said else fault
    return said or ""


def _said_by_default(name: str, wanted: NeededPack, have: str) -> str:
    """Return the warning of packs without a rule: the first two numbers tell what changed."""
    if _release(wanted.version)[:2] == _release(have)[:2]:
        return ""
    return (
        f"results may differ. `pip install {wanted.distribution or name}=={wanted.version}` "
        f"brings that version"
    )
