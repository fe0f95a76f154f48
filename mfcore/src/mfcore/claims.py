"""Which operation a NumPy function on nodes stands for, as packs declare it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs

from mfcore.errors import AmbiguousNameError

if TYPE_CHECKING:
    from mfcore.discovery import Pack
    from mfcore.node import Node


@attrs.frozen
class _Claim:
    """What a manifest or a loaded pack says: that an operation stands for a function."""

    pack: Pack
    operation: str


@attrs.frozen
class _Several:
    providers: list[str]


class Claims:
    """The operations declared for NumPy functions, settled function by function as each is used.

    Parameters
    ----------
    claims : iterable of tuple
        What packs claim: the function, the pack and the operation's name.
    provided : callable
        Returns the operation that a pack provides under a name, ``None`` for nothing.
    """

    def __init__(
        self,
        claims: Iterable[tuple[Any, Pack, str]],
        provided: Callable[[Pack, str], Any],
    ) -> None:
        self._provided = provided
        self._found: dict[Any, Any] = {}
        for function, pack, operation in claims:
            self._found.setdefault(function, []).append(_Claim(pack, operation))

    def operation_for(self, function: Callable[..., Any]) -> type[Node] | None:
        """Return the one operation that all claims on a function are of, ``None`` without any.

        Raises
        ------
        AmbiguousNameError
            If they are of several.
        """
        found = self._found.get(function)
        if isinstance(found, list):
            found = self._found[function] = self._settled(function, found)
        if isinstance(found, _Several):
            raise AmbiguousNameError(
                f"{getattr(function, '__name__', function)} on nodes is declared by several "
                f"operations: {', '.join(found.providers)}. Disable all but one of their packs"
            )
        operation: type[Node] | None = found
        return operation

    def _settled(self, function: Any, claims: list[_Claim]) -> Any:
        by = {
            f"{claim.pack.name}.{claim.operation}": self._provided(claim.pack, claim.operation)
            for claim in claims
        }
        # What a manifest says may be out of date.
        true = {
            qualified: operation
            for qualified, operation in by.items()
            if operation is not None and function in operation.__operation__.declared
        }
        classes = set(true.values())
        if len(classes) > 1:
            return _Several(sorted(true))
        return classes.pop() if classes else None
