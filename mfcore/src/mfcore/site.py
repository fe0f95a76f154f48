"""Where a node was built: the nearest line of code outside of the core and of NumPy."""

from __future__ import annotations

import os
from types import CodeType

import numpy as np


class _Internal(dict[str, bool]):
    """By file: whether it stands between the user's line and the node that it builds."""

    files = (
        os.path.dirname(__file__) + os.sep,
        os.path.dirname(np.__file__) + os.sep,
        "<attrs generated",
    )

    def __missing__(self, file: str) -> bool:
        self[file] = found = file.startswith(self.files)
        return found


internal = _Internal()

instructions: dict[int, int] = {}
"""One integer for all nodes that were built at the same place of some code: it saves room."""


def line_of(code: CodeType, instruction: int) -> tuple[str, int]:
    """Return file and line number of an instruction, an offset in bytes, of some code."""
    for start, stop, line in code.co_lines():
        if line is not None and start <= instruction < stop:
            return code.co_filename, line
    return code.co_filename, code.co_firstlineno
