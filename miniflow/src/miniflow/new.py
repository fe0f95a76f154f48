"""What ``miniflow new`` does: a distribution for a pack of one's own, made from a template.

The template is in the folder ``template``; cookiecutter, of the extra ``new``, fills it in.
"""

from __future__ import annotations

import keyword
import re
import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import mfcore as mf
from mfcore.errors import MiniFlowError

LICENCES = ("MIT", "Apache-2.0", "BSD-3-Clause")
"""The licences that a new pack may have, by their SPDX identifiers."""

TEMPLATE = Path(__file__).parent / "template"


class NewPackError(MiniFlowError, ValueError):
    """A pack cannot be made as it was asked for; nothing was written."""


def new_pack(
    name: str, *, licence: str = "MIT", author: str | None = None, into: Path | str = "."
) -> Path:
    """Make a distribution for a new pack: one operation, one optimizer, tests, and the rest.

    Parameters
    ----------
    name : str
        Name of the pack and of its package, such as ``mfops_mine``: small letters, digits and
        ``_``. The distribution has the same name with ``-``.
    licence : str, optional
        One of ``LICENCES``.
    author : str, optional
        Who has the copyright, by default "The NAME developers".
    into : Path or str, optional
        The folder to make the folder NAME in.

    Returns
    -------
    Path
        The folder of the distribution.

    Raises
    ------
    NewPackError
        If the name is no package's name or is taken, the folder holds something, or cookiecutter
        is not installed.
    """
    if licence not in LICENCES:
        raise NewPackError(f"{licence!r} is none of the licences {', '.join(LICENCES)}")
    author = f"The {name} developers" if author is None else author.strip()
    if not author or not author.isprintable():
        raise NewPackError(f"{author!r} is no name of an author")
    _check_name(name)
    folder = _free_folder(Path(into), name)
    try:
        from cookiecutter.generate import generate_files  # type: ignore[import-untyped]
    except ImportError as error:
        raise NewPackError(
            "a new pack is made with cookiecutter, which is not installed: "
            "pip install 'miniflow-suite[new]'"
        ) from error
    values = {
        "name": name,
        "distribution": name.replace("_", "-"),
        "licence": licence,
        "author": author,
        "year": str(datetime.now(UTC).year),
    }
    try:
        generate_files(
            TEMPLATE,
            {"cookiecutter": values},
            output_dir=folder.parent,
            overwrite_if_exists=True,  # an empty folder is fine, any other was refused
            accept_hooks=False,
        )
    except OSError as error:
        raise NewPackError(f"{folder} cannot be written: {error}") from error
    return folder


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise NewPackError(
            f"{name!r} is no name for a pack: it names a Python package, so give small letters, "
            f"digits and single underscores, such as mfops_mine"
        )
    registry = mf.registry.current()
    for pack in registry.packs():
        taken = {label.lower().replace("-", "_") for label in (pack.name, pack.distribution)}
        if name in taken:
            raise NewPackError(
                f"a pack {pack.name} is installed ({pack.origin}): choose a new name"
            )
    # Without an origin it is a plain folder, perhaps the very one that is to be filled.
    spec = None if name in sys.stdlib_module_names else find_spec(name)
    if name in sys.stdlib_module_names or (spec is not None and spec.origin is not None):
        raise NewPackError(f"Python has a module {name} already: choose a new name")


def _free_folder(into: Path, name: str) -> Path:
    if not into.is_dir():
        raise NewPackError(f"there is no folder {into}")
    folder = into / name
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise NewPackError(f"{folder} exists and is no folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise NewPackError(f"{folder} exists and is not empty")
    return folder
