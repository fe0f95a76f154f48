"""Memory for results, used again once nobody refers to the result any more."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from mfjit.memory import ALIGNMENT
from mfjit.operands import Array, View


class _Lent(np.ndarray[Any, Any]):
    """Memory that results lie in.

    NumPy lets a view refer to the array that owns the memory, not to the view it was made of,
    unless the owner's type is another. As it is here, all views of a result keep that very
    result alive, and a weak reference to it tells whether anybody can still see the memory.
    """


class Pool:
    """Arrays that one result is computed in, in turn.

    Parameters
    ----------
    nbytes : int
        Size of the result.
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self._entries: list[tuple[Array, Callable[[], Array | None]]] = []

    def free(self) -> Array:
        """Return memory that no result of an earlier run lies in any more."""
        for i, (memory, result) in enumerate(self._entries):
            if result() is None:
                if i:
                    self._entries.insert(0, self._entries.pop(i))
                return memory
        memory = _memory(self.nbytes)
        self._entries.insert(0, (memory, _nobody))
        return memory

    def lend(self, view: View) -> Array:
        """Return a view of the memory that ``free`` returned last, as a result."""
        memory, _ = self._entries[0]
        result = view.of(memory)
        self._entries[0] = memory, weakref.ref(result)
        return result


def _memory(nbytes: int) -> Array:
    room = np.ndarray.__new__(_Lent, (nbytes + ALIGNMENT,), np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + nbytes]


def _nobody() -> None:
    """Stand for a reference to a result that is gone."""
