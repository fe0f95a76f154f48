"""Parameters in a row: all of one dtype are one flat array, each a part of it.

An optimizer's update is then a few instructions over one long array, however many parameters
there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from mfcore import Array, Graph, Node
from mfjit.builder import Builder
from mfjit.ir import Shape, Value


@attrs.frozen
class Part:
    """Where one parameter is: which flat array, from where, and in what shape."""

    flat: int
    start: int
    size: int
    shape: Shape

    def emit(self, b: Builder, flat: Value) -> Value:
        """Emit the parameter as a part of its flat array."""
        return b.reshape(b.slice(flat, ((self.start, self.start + self.size, 1),)), self.shape)

    def view(self, flat: Array) -> Array:
        """Return the parameter as a view of its flat array, or of one like it."""
        return flat[self.start : self.start + self.size].reshape(self.shape)


class FlatParameters:
    """The plan of which parameter is where.

    Parameters
    ----------
    graph : Graph
        Its parameters, in order, are planned.
    still : set of Node, optional
        Parameters that no gradient reaches: kept in flat arrays of their own, so that an
        update leaves them as they are.
    """

    def __init__(self, graph: Graph, still: frozenset[Node] = frozenset()) -> None:
        self.parts: list[Part] = []
        self.flats: list[tuple[np.dtype[Any], bool]] = []
        self.sizes: list[int] = []
        for node in graph.parameters:
            key = (node.value.dtype, node not in still)
            if key not in self.flats:
                self.flats.append(key)
                self.sizes.append(0)
            flat = self.flats.index(key)
            size, shape = node.value.size, node.value.shape
            self.parts.append(Part(flat, self.sizes[flat], size, shape))
            self.sizes[flat] += size

    @property
    def trained(self) -> list[int]:
        """Which flat arrays an update changes."""
        return [i for i, (_, trained) in enumerate(self.flats) if trained]

    def members(self, flat: int) -> list[int]:
        """Return which parameters, by position, are in a flat array; in its order."""
        return [i for i, part in enumerate(self.parts) if part.flat == flat]

    def leaves(self, b: Builder) -> list[Value]:
        """Emit the flat arrays."""
        return [
            b.leaf("parameter", (size,), dtype, "parameters")
            for (dtype, _), size in zip(self.flats, self.sizes, strict=True)
        ]

    def values(self, b: Builder, leaves: Sequence[Value]) -> list[Value]:
        """Emit every parameter as a part of its flat array."""
        return [part.emit(b, leaves[part.flat]) for part in self.parts]

    def gathered(self, values: Sequence[Array]) -> list[Array]:
        """Return new flat arrays that hold the given values."""
        flats = [
            np.empty(size, dtype) for (dtype, _), size in zip(self.flats, self.sizes, strict=True)
        ]
        for view, value in zip(self.views(flats), values, strict=True):
            view[...] = value
        return flats

    def views(self, flats: Sequence[Array]) -> list[Array]:
        """Return every parameter as a view of its flat array."""
        return [part.view(flats[part.flat]) for part in self.parts]
