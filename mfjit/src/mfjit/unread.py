"""Operations that cannot be read: their functions, to be called as they are on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mfcore.operation import OperationSpec


class _OperationCall:
    """An operation's function as a function of arrays in a row."""

    which = ""

    def __init__(self, spec: OperationSpec) -> None:
        self.spec = spec
        self.names: list[tuple[str, int | None]] = []
        self.fixed: dict[str, Any] = {}

    @property
    def __name__(self) -> str:
        return f"{self.which} of {self.spec.name}"

    def given(self, arrays: Sequence[Any]) -> dict[str, Any]:
        """Return arrays, and what else there is, by the names that a function asks for."""
        given = dict(self.fixed)
        groups: dict[str, list[Any]] = {}
        for (name, count), array in zip(self.names, arrays, strict=True):
            if count is None:
                given[name] = array
            else:
                groups.setdefault(name, []).append(array)
        given.update({name: tuple(group) for name, group in groups.items()})
        return given


class ForwardCall(_OperationCall):
    """The ``forward`` of an operation: gives its value alone."""

    which = "forward"

    def __call__(self, *arrays: Any) -> Any:
        """Call it on arrays in a row."""
        result = self.spec.call_forward(self.given(arrays))
        return result[0] if self.spec.saves else result


class BackwardCall(_OperationCall):
    """The ``backward`` of an operation: gives the gradients that are wanted and there are."""

    which = "backward"

    def __init__(self, spec: OperationSpec, wanted: tuple[bool, ...]) -> None:
        super().__init__(spec)
        self.wanted = wanted
        self.there: list[bool] = []

    def __call__(self, *arrays: Any) -> Any:
        """Call it on arrays in a row."""
        given = self.given(arrays)
        if self.spec.saves:
            given["value"], given["saved"] = self.spec.call_forward(given)
        returned = self.spec.call_backward(given)
        gradients = returned if isinstance(returned, (tuple, list)) else (returned,)
        there = [
            wanted and gradient is not None
            for wanted, gradient in zip(self.wanted, gradients, strict=True)
        ]
        if self.there and there != self.there:
            raise TypeError("backward returned gradients for other inputs than before")
        self.there = there
        kept = tuple([g for g, keep in zip(gradients, there, strict=True) if keep])
        return kept if len(kept) != 1 else kept[0]
