"""The manifest of packs that are not installed: described as they are in their source tree.

The program ``python -m mfcore.source_manifest`` reads what there is to know of a distribution
as JSON and prints the manifest; ``mfcore.hatch`` runs it while a wheel is built.
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import attrs

from mfcore import manifest
from mfcore.errors import DefinitionError, PackError
from mfcore.installed import InstalledEntryPoint
from mfcore.registry import Registry


@attrs.frozen
class SourceTree:
    """A distribution as its project describes it.

    Attributes
    ----------
    name, version, requires : str, str, list of str
        As in its metadata.
    root : str
        The folder of the project.
    folders : list of str
        Where in it modules are imported from.
    packs : dict
        By name of a pack: its module, as its entry point says.
    """

    name: str
    version: str
    requires: list[str]
    root: str
    folders: list[str]
    packs: dict[str, str]


def write(tree: SourceTree) -> str:
    """Import the packs of a source tree, and return the text of their manifest.

    Its folders are put on ``sys.path``, and stay there.

    Raises
    ------
    PackError
        If there is no pack, or one of them cannot be loaded; the message has its traceback.
    DefinitionError
        If a pack provides what cannot be imported by its module and name.
    """
    if not tree.packs:
        raise PackError(f"{tree.name} has no entry point in the group mfcore, so it is no pack")
    sys.path[:0] = tree.folders
    registry = Registry(
        autoload=True,
        packs=tree.packs,
        disabled=(),
        strict=False,
        entry_points=lambda: [InstalledEntryPoint(*pack, tree) for pack in tree.packs.items()],
    )
    found = {pack.name: pack for pack in registry.load()}
    for name, value in tree.packs.items():
        pack = found[name]
        if pack.status != "loaded":
            raise PackError(f"{pack.traceback}pack {name} is {pack.status}: {pack.reason}")
        file = getattr(sys.modules[value.partition(":")[0].strip()], "__file__", None)
        if file is None or not Path(file).resolve().is_relative_to(Path(tree.root).resolve()):
            raise PackError(
                f"pack {name} was imported from {file}, which is not in the source tree "
                f"({tree.root}); its modules were looked for in {', '.join(tree.folders)}"
            )
    return manifest.write(*(found[name] for name in tree.packs))


def main() -> int:
    """Read a distribution from the standard input, and print its manifest."""
    import warnings

    warnings.simplefilter("ignore")  # what fails is told with its traceback
    given: dict[str, Any] = json.load(sys.stdin)
    try:
        with redirect_stdout(sys.stderr):
            text = write(SourceTree(**given))
    except (PackError, DefinitionError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
