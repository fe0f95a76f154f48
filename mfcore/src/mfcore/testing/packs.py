"""The checks of all that a pack provides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from mfcore import registry
from mfcore.settings import normal
from mfcore.testing.conformance import Examination, raised
from mfcore.testing.outcome import Report

KINDS = ("operation", "optimizer")
"""What of a pack is checked."""


@attrs.frozen
class PackCheck:
    """The checks of one operation or optimizer of a pack: called, they run."""

    name: str
    provided: Any = attrs.field(repr=False)
    kind: str = "operation"

    def examination(self, engines: Iterable[str] | None = None) -> Examination:
        """Return the checks, to be run one at a time."""
        if self.kind == "operation":
            return Examination.of_operation(self.provided, name=self.name, engines=engines)
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
    """Return the checks of all operations and optimizers of packs that are installed.

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
    if not names:
        return found
    pack_of = {normal(pack.distribution): pack.name for pack in known.packs() if pack.distribution}
    chosen: dict[str, PackCheck] = {}
    for name in names:
        packs = (name, pack_of.get(normal(name)))
        fits = [c for c in found if c.name == name or c.name.rpartition(".")[0] in packs]
        if not fits:
            raise LookupError(
                f"{name!r} provides no operation and no optimizer, so there is nothing to check; "
                f"packs that do: {_packs_of(found)}{_problems()}"
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
    found = [check for check in known if check.name.rpartition(".")[0] == pack]
    if not found:
        raise LookupError(
            f"no loaded pack {pack!r} provides any {kind}; those that do are "
            f"{_packs_of(known)}{_problems()}"
        )
    return found


def _packs_of(checks: Iterable[PackCheck]) -> str:
    return ", ".join(sorted({check.name.rpartition(".")[0] for check in checks})) or "none"


def _problems() -> str:
    problems = registry.current().problems()
    return f"\n{problems}" if problems else ""
