"""The packs that a model file needs: which they are, and whether they are there."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from mfcore.errors import ModelFileError, PackVersionWarning
from mfcore.registry import Pack, current
from mfcore.safetensors import brief, parsed
from mfcore.versions import _release

PACKS = "miniflow.packs"
"""Where a file's metadata list them."""


def origin(pack: Pack) -> dict[str, str]:
    """Return what a file says of a pack."""
    return {"distribution": pack.distribution, "version": pack.version}


def needed_packs(metadata: Mapping[str, str], names: Iterable[Any]) -> dict[str, tuple[str, str]]:
    """Return distribution and version of the packs that the names of a file belong to."""
    listed = parsed(metadata.get(PACKS, "{}"), "its list of packs")
    used = {name.rpartition(".")[0] for name in names if isinstance(name, str)} | {"mfcore"}
    if not isinstance(listed, dict):
        raise ModelFileError("its list of packs is no object")
    packs = {}
    for name in sorted(used & listed.keys()):
        entry = listed[name]
        if not isinstance(entry, dict) or entry.keys() != {"distribution", "version"}:
            raise ModelFileError(f"the pack {brief(name)} must have a distribution and a version")
        distribution, version = entry["distribution"], entry["version"]
        if not _is_word(distribution) or not _is_word(version):
            raise ModelFileError(f"distribution and version of {brief(name)} are none")
        packs[name] = (distribution, version)
    return packs


def _is_word(value: Any) -> bool:
    """Whether a text may stand in a command: nothing in it but what names and versions have."""
    return (
        isinstance(value, str) and re.fullmatch(r"([\w][\w.+!-]{0,99})?", value, re.A) is not None
    )


def check_packs(needed: Mapping[str, tuple[str, str]]) -> None:
    """Raise for packs that are not there, and warn of those of another version."""
    there = {pack.name: pack for pack in current().packs()}
    missing = []
    for name, (distribution, version) in needed.items():
        pack = there.get(name)
        if pack is None:
            text = f"it needs the pack {name} {version}".rstrip() + ", which is not installed"
            missing.append(
                f"{text}: `pip install {distribution}=={version}`"
                if distribution and version
                else f"{text}; it was registered in code where the file was written"
            )
        elif not pack.enabled:
            missing.append(
                f"it needs the pack {name} {version}, which is {pack.status}: {pack.reason}"
            )
    if missing:
        raise ModelFileError("; ".join(missing))
    for name, (distribution, version) in needed.items():
        have = there[name].version
        if version and have and _release(version)[:2] != _release(have)[:2]:
            warnings.warn(
                f"the file was written with {name} {version}, and this is {have}: results may "
                f"differ. `pip install {distribution or name}=={version}` brings that version",
                PackVersionWarning,
                stacklevel=4,
            )
