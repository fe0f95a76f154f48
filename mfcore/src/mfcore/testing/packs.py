"""The checks of all that a pack provides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from mfcore import registry
from mfcore.manifest import PLACES
from mfcore.settings import normal
from mfcore.testing.conformance import Examination, raised
from mfcore.testing.outcome import Report

KINDS = ("operation", "optimizer")
"""What of a pack is checked, beside its manifest."""


@attrs.frozen
class PackCheck:
    """The checks of one operation or optimizer of a pack, or of its manifest: called, they run."""

    name: str
    provided: Any = attrs.field(repr=False)
    kind: str = "operation"

    def examination(self, engines: Iterable[str] | None = None) -> Examination:
        """Return the checks, to be run one at a time."""
        if self.kind == "operation":
            return Examination.of_operation(self.provided, name=self.name, engines=engines)
        if self.kind == "manifest":
            return Examination.of_manifest(self.provided)
        return Examination.of_optimizer(self.provided, name=self.name, engines=engines)

    def examine(self, engines: Iterable[str] | None = None) -> Report:
        """Return what the checks found."""
        return self.examination(engines).report()

    def __call__(self) -> Report:
        """Run the checks; raise ``CheckError`` if one fails."""
        return raised(self.examine())

    def __str__(self) -> str:
        return self.name


def pack_checks(*names: str) -> list[PackCheck]:
    """Return the checks of all operations, optimizers and manifests of installed packs.

    One line checks a whole pack: ``@pytest.mark.parametrize("check", pack_checks("mfops_mine"),
    ids=str)`` over a test that calls ``check()``.

    Parameters
    ----------
    *names : str
        Packs or their distributions, as ``miniflow packs`` shows them, or single operations
        and optimizers by qualified name. Without any: all that is installed.

    Raises
    ------
    LookupError
        If there is nothing to check by one of the names.
    """
    known = registry.current()
    found = [PackCheck(name, cls, kind) for kind in KINDS for name, cls in known.all(kind).items()]
    loaded = [pack for pack in known.load() if pack.status == "loaded"]
    providing = {_pack_of(check) for check in found}
    found += [
        PackCheck(pack.name, pack, "manifest")
        for pack in loaded
        # One that provides nothing else to check is worth a line only if it has a manifest.
        if pack.name in providing or any(map(pack.read_metadata, PLACES))
    ]
    if not names:
        return found
    pack_of = {normal(pack.distribution): pack.name for pack in known.packs() if pack.distribution}
    chosen: dict[str, PackCheck] = {}
    for name in names:
        packs = (name, pack_of.get(normal(name)))
        fits = [check for check in found if check.name == name or _pack_of(check) in packs]
        if not fits:
            raise LookupError(
                f"{name!r} provides no operation and no optimizer, so there is nothing to check; "
                f"packs that do: {_packs_of(c for c in found if c.kind in KINDS)}{_problems()}"
            )
        chosen |= {check.name: check for check in fits}
    return list(chosen.values())


def operation_checks(pack: str) -> list[PackCheck]:
    """Return the checks of all operations of an installed pack, for ``pytest.mark.parametrize``.

    Parameters
    ----------
    pack : str
        The pack's name, as ``miniflow packs`` shows it.

    Raises
    ------
    LookupError
        If there is no such pack, or it provides no operation: nothing would be checked.
    """
    return _checks_of(pack, "operation")


def optimizer_checks(pack: str) -> list[PackCheck]:
    """Return the checks of all optimizers of an installed pack; see ``operation_checks``."""
    return _checks_of(pack, "optimizer")


def _checks_of(pack: str, kind: str) -> list[PackCheck]:
    known = [check for check in pack_checks() if check.kind == kind]
    found = [check for check in known if _pack_of(check) == pack]
    if not found:
        raise LookupError(
            f"no loaded pack {pack!r} provides any {kind}; those that do are "
            f"{_packs_of(known)}{_problems()}"
        )
    return found


def _packs_of(checks: Iterable[PackCheck]) -> str:
    return ", ".join(sorted({_pack_of(check) for check in checks})) or "none"


def _pack_of(check: PackCheck) -> str:
    return check.name.rpartition(".")[0] or check.name


def _problems() -> str:
    problems = registry.current().problems()
    return f"\n{problems}" if problems else ""
