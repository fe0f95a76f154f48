"""The arrays of recorded passes: which there are, and where they are kept, in blocks."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

from mftrace.recorded_graph import RecordedGraph
from mftrace.summary import BINS, STATISTICS, Summary, read_summary, summary_of

Array: TypeAlias = NDArray[Any]


@attrs.frozen
class Slot:
    """The shape and dtype of one array of a pass."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return self.size * self.dtype.itemsize


@attrs.frozen
class LayoutNode:
    """What one node gives in every pass of a layout: slots of its arrays.

    Attributes
    ----------
    position : int
        The node.
    value : int or None
        Forward: its value.
    received : tuple of (int or None, int)
        Backward: each consumer, ``None`` for the seed, with what it sent.
    grad : int or None
        Backward: the total.
    sent : tuple of (str, int or None), optional
        Backward: what each input got, by field; ``None`` altogether for leaves.
    """

    position: int
    value: int | None = None
    received: tuple[tuple[int | None, int], ...] = ()
    grad: int | None = None
    sent: tuple[tuple[str, int | None], ...] | None = None


@attrs.frozen(eq=False)
class Layout:
    """What passes of one kind have in common: the nodes in order, and the arrays they give."""

    index: int
    graph: RecordedGraph
    phase: str
    slots: tuple[Slot, ...]
    nodes: tuple[LayoutNode, ...]


class Arrays(Protocol):
    """Where a recording's arrays are: in memory or in a file."""

    def member(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], /) -> Array:
        """Return an array of this shape and dtype.

        Raises
        ------
        RecordingError
            If there is none.
        """


@attrs.define(eq=False)
class Block:
    """The arrays of many passes of one layout, kept together.

    Stored arrays of one dtype lie side by side, a row for each pass; of all others there is
    a row of statistics and a histogram for each.
    """

    index: int
    layout: Layout
    rows: int
    stored: tuple[int, ...]
    summarised: tuple[int, ...]
    arrays: Arrays = attrs.field(repr=False)
    _columns: dict[int, tuple[np.dtype[Any], int]] = attrs.field(init=False, repr=False)
    _widths: dict[np.dtype[Any], int] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._columns, self._widths = {}, {}
        for i in self.stored:
            slot = self.layout.slots[i]
            start = self._widths.get(slot.dtype, 0)
            self._columns[i] = slot.dtype, start
            self._widths[slot.dtype] = start + slot.size

    def members(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Return name, shape and dtype of every array that the block is made of."""
        found: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
            f"{self.index}_{dtype.str[1:]}": ((self.rows, width), dtype)
            for dtype, width in self._widths.items()
        }
        if count := len(self.summarised):
            found[f"{self.index}_statistics"] = (
                (self.rows, count, STATISTICS),
                np.dtype("<f8"),
            )
            found[f"{self.index}_histograms"] = ((self.rows, count, BINS), np.dtype("<u4"))
        return found

    def _member(self, suffix: str) -> Array:
        name = f"{self.index}_{suffix}"
        return self.arrays.member(name, *self.members()[name])

    def array(self, row: int, slot: int) -> Array | None:
        """Return an array, read-only; ``None`` where it was not stored."""
        if slot not in self._columns:
            return None
        dtype, start = self._columns[slot]
        about = self.layout.slots[slot]
        found = self._member(dtype.str[1:])[row, start : start + about.size].reshape(about.shape)
        found.flags.writeable = False
        return found

    def summary(self, row: int, slot: int) -> Summary | None:
        """Return what an array was like; ``None`` where nothing of it was kept."""
        if slot in self._columns:
            return summary_of(self.array(row, slot))
        if slot not in self.summarised:
            return None
        k = self.summarised.index(slot)
        return read_summary(self._member("statistics")[row, k], self._member("histograms")[row, k])


@attrs.frozen(eq=False)
class RecordedArray:
    """An array of a recorded pass: always its shape and dtype, and what was kept of it."""

    _block: Block = attrs.field(repr=False)
    _row: int = attrs.field(repr=False)
    slot: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self._block.layout.slots[self.slot].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its dtype."""
        return self._block.layout.slots[self.slot].dtype

    @property
    def stored(self) -> bool:
        """Whether the array itself was kept."""
        return self.slot in self._block.stored

    @property
    def array(self) -> Array | None:
        """The array, read-only; ``None`` where only a summary of it was kept, or nothing.

        Raises
        ------
        RecordingError
            If the file with the arrays does not hold it as it should.
        """
        return self._block.array(self._row, self.slot)

    @property
    def summary(self) -> Summary | None:
        """What it was like, of whatever was kept; ``None`` where nothing was kept.

        Raises
        ------
        RecordingError
            If the file with the arrays does not hold it as it should.
        """
        return self._block.summary(self._row, self.slot)
