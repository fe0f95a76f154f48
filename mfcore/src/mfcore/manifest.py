"""Manifests: what a pack provides, said in a file, so that looking it up imports only what is used.

A distribution may carry a file ``miniflow.json`` among its metadata, made when it is built by
``miniflow manifest``. The registry goes by it only where it is of the installed version;
whatever it does not say, or says wrongly, is looked for in the pack itself. ``verify``
compares it with the pack.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import attrs

from mfcore.discovery import KINDS
from mfcore.errors import DefinitionError

if TYPE_CHECKING:
    from mfcore.discovery import Pack

FILE = "miniflow.json"
"""The name of the file."""

PLACES = (f"extra_metadata/{FILE}", FILE)
"""Where it may be in the folder of a distribution's metadata; builders have their own ways."""

FORMAT = 1
"""The version of the format, raised when older readers would misread it."""


@attrs.frozen
class Manifest:
    """What one pack provides.

    Attributes
    ----------
    provides : dict
        By kind (a key of ``KINDS``): ``module:qualname`` by name.
    functions : dict
        By operation: the NumPy functions declared for it, each as ``module:qualname``.
    listens : bool
        Whether the pack implements run hooks: then it is loaded whole with the first look-up
        that is not of a qualified name, as a pack without manifest is.
    """

    provides: Mapping[str, Mapping[str, str]]
    functions: Mapping[str, tuple[str, ...]]
    listens: bool

    def resolve(self, kind: str, name: str) -> Any:
        """Import what a name stands for, and nothing else.

        Raises
        ------
        Exception
            Whatever importing it raises; ``AttributeError`` if it is not in its module.
        """
        module, _, qualname = self.provides[kind][name].partition(":")
        return attrgetter(qualname)(import_module(module))

    def declared(self) -> Iterator[tuple[Any, str]]:
        """Yield the functions of modules that are imported, each with its operation's name."""
        for name, references in self.functions.items():
            for reference in references:
                function = _imported(reference)
                if function is not None:
                    yield function, name


OF_THE_CORE = Manifest(
    {
        **{kind: {} for kind in KINDS},
        "engine": {"reference": "mfcore.reference:ReferenceEngine"},
    },
    {},
    listens=False,
)
"""What the core itself provides, which is always there."""


def read(pack: Pack) -> Manifest | None:
    """Return a pack's manifest; ``None`` where it has none that can be used."""
    try:
        return _read(pack)
    except ValueError:
        return None


def describe(pack: Pack) -> Manifest:
    """Return the manifest of a loaded pack, made from what it provides.

    Raises
    ------
    DefinitionError
        If a class cannot be imported by its module and qualified name, or a function that is
        declared for an operation cannot.
    """
    provides: dict[str, dict[str, str]] = {}
    for kind in KINDS:
        provides[kind] = {}
        for name, cls in sorted(pack.provides.get(kind, {}).items()):
            reference = f"{cls.__module__}:{cls.__qualname__}"
            if _imported(reference) is not cls:
                raise DefinitionError(f"{kind} {name} of pack {pack.name} is not {reference}")
            provides[kind][name] = reference
    functions = {
        name: tuple(_reference(function) for function in cls.__operation__.declared)
        for name, cls in sorted(pack.provides.get("operation", {}).items())
        if cls.__operation__.declared
    }
    return Manifest(provides, functions, pack.listens)


def write(*packs: Pack) -> str:
    """Return the text of the file for the loaded packs of one distribution; see ``describe``."""
    import json

    content = {
        "format": FORMAT,
        "version": packs[0].version,
        "packs": {pack.name: _as_json(describe(pack)) for pack in packs},
    }
    return json.dumps(content, indent=2) + "\n"


def _as_json(described: Manifest) -> dict[str, Any]:
    return {
        **{kind: named for kind, named in described.provides.items() if named},
        "functions": described.functions,
        "listens": described.listens,
    }


def verify(pack: Pack) -> list[str]:
    """Compare a loaded pack with the manifest that its distribution carries.

    Returns
    -------
    list of str
        What the manifest says wrongly or leaves out; nothing where it is right, and where
        there is none.
    """
    try:
        said = _read(pack)
    except ValueError as error:
        return [f"the manifest of pack {pack.name} is not used: {error}"]
    if said is None:
        return []
    try:
        true = describe(pack)
    except DefinitionError as error:
        return [f"the manifest of pack {pack.name} cannot be right: {error}"]
    differences = [
        _difference(f"{kind} {name}", said.provides[kind].get(name), true.provides[kind].get(name))
        for kind in true.provides
        for name in sorted({*said.provides[kind], *true.provides[kind]})
    ]
    differences += [
        _difference(
            f"the functions of {name}",
            ", ".join(sorted(said.functions.get(name, ()))) or None,
            ", ".join(sorted(true.functions.get(name, ()))) or None,
        )
        for name in sorted({*said.functions, *true.functions})
    ]
    differences.append(_difference("whether it listens", str(said.listens), str(true.listens)))
    return [f"the manifest of pack {pack.name}: {line}" for line in differences if line]


def _difference(what: str, said: str | None, true: str | None) -> str:
    if said == true:
        return ""
    if said is None:
        return f"{what} is left out ({true})"
    return f"{what} is said to be {said}, and " + (f"is {true}" if true else "the pack has none")


def _read(pack: Pack) -> Manifest | None:
    """Return a pack's manifest, ``None`` without one; raise ``ValueError`` for a useless one."""
    text = next(filter(None, map(pack.read_metadata, PLACES)), None)
    if text is None or _editable(pack):
        return None
    import json

    content = _mapping(json.loads(text), "the file")
    if content.get("format") != FORMAT:
        raise ValueError(f"it is of format {content.get('format')!r}, not {FORMAT}")
    if content.get("version") != pack.version:
        raise ValueError(f"it is of version {content.get('version')!r}, not {pack.version}")
    packs = _mapping(content.get("packs"), "packs")
    if pack.name not in packs:
        raise ValueError(f"it does not name the pack {pack.name}")
    said = _mapping(packs[pack.name], pack.name)
    provides = {kind: _mapping(said.get(kind, {}), kind) for kind in KINDS}
    functions = _mapping(said.get("functions", {}), "functions")
    if not all(isinstance(given, list) for given in functions.values()):
        raise ValueError("functions must be lists")
    for references in (*map(dict.values, provides.values()), *functions.values()):
        if not all(isinstance(each, str) and all(each.partition(":")) for each in references):
            raise ValueError("what is provided must be given as module:qualname")
    if not isinstance(said.get("listens"), bool):
        raise ValueError("it does not say whether the pack listens")
    return Manifest(
        provides, {name: tuple(given) for name, given in functions.items()}, said["listens"]
    )


def _editable(pack: Pack) -> bool:
    """Whether a pack is installed from sources that can change: a manifest would be out of date."""
    text = pack.read_metadata("direct_url.json")
    if text is None:
        return False
    import json

    try:
        return bool(json.loads(text)["dir_info"]["editable"])
    except (ValueError, KeyError, TypeError):
        return False


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be an object")
    return value


def _imported(reference: str) -> Any:
    """Return what ``module:qualname`` stands for; ``None`` where it is not there already."""
    module, _, qualname = reference.partition(":")
    try:
        return attrgetter(qualname)(sys.modules[module])
    except (KeyError, AttributeError):
        return None


def _reference(function: Callable[..., Any]) -> str:
    """Return ``module:qualname`` of a function that operations are declared for."""
    name = getattr(function, "__name__", "")
    owner = getattr(function, "__self__", None)
    method = f"{getattr(owner, '__name__', '')}.{name}"  # np.add.reduce is a method of np.add
    module = getattr(function, "__module__", None) or "numpy"
    for reference in (f"{module}:{name}", f"operator:{name}", f"numpy:{name}", f"numpy:{method}"):
        if name and _imported(reference) == function:
            return reference
    raise DefinitionError(f"{function!r} cannot be found by its module and name")
