"""What was recorded: graphs, passes, training steps and epochs, with arrays read when needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

from mftrace.errors import RecordingError
from mftrace.summary import BINS, STATISTICS, Summary, read_summary, summary_of

Array: TypeAlias = NDArray[Any]


# Graphs


@attrs.frozen
class RecordedOperation:
    """An operation that a recorded graph uses.

    Attributes
    ----------
    name : str
        The class's name, ``Linear``.
    pack : str
        Who provides it, ``mfops_nn``.
    summary : str
        The first line of its documentation.
    forward, backward : str
        The source text of its functions, ``""`` where it is not known.
    """

    name: str
    pack: str
    summary: str
    forward: str
    backward: str

    @property
    def qualified_name(self) -> str:
        """``mfops_nn.Linear``."""
        return f"{self.pack}.{self.name}"


@attrs.frozen(eq=False)
class RecordedNode:
    """A node of a recorded graph.

    Attributes
    ----------
    position : int
        Its place in the graph's order, from 0.
    name : str
        Its name in the graph; any text at all.
    kind : str
        ``"input"``, ``"parameter"``, ``"constant"`` or ``"operation"``.
    operation : RecordedOperation
        What it applies; of a leaf, the leaf's class with empty texts.
    inputs : tuple of int
        Positions of the nodes that it reads, in order.
    fields : tuple of str
        The operation's names for these inputs.
    hyperparameters : dict of str to str
        Python's way to write each value, shortened.
    file, line : str, int
        Where it was built.
    """

    position: int
    name: str
    kind: str
    operation: RecordedOperation
    inputs: tuple[int, ...]
    fields: tuple[str, ...]
    hyperparameters: Mapping[str, str]
    file: str
    line: int


@attrs.frozen(eq=False)
class RecordedGraph:
    """A recorded graph.

    Attributes
    ----------
    index : int
        Its place among the recording's graphs.
    nodes : tuple of RecordedNode
        In topological order.
    outputs : tuple of int
        Positions of its outputs.
    """

    index: int
    nodes: tuple[RecordedNode, ...]
    outputs: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, name: str) -> RecordedNode:
        """Return the node of a name.

        Raises
        ------
        KeyError
            If there is none.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f"the recorded graph has no node {name!r}")


# Arrays


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


# Passes


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


@attrs.frozen(eq=False)
class NodeForward:
    """A node's forward: its value."""

    node: RecordedNode
    value: RecordedArray
    phase: str = "forward"


@attrs.frozen(eq=False)
class NodeBackward:
    """A node's backward.

    Attributes
    ----------
    received : tuple of (RecordedNode or None, RecordedArray)
        What each consumer sent, in the order in which it was added up; ``None`` stands for
        the seed of the output.
    grad : RecordedArray or None
        The total; ``None`` if the node's start was not heard of.
    sent : dict of str to RecordedArray or None, optional
        What each input got, by the operation's name for it, ``None`` for nothing. ``None``
        altogether for leaves, and for operations that had nobody to send to.
    """

    node: RecordedNode
    received: tuple[tuple[RecordedNode | None, RecordedArray], ...]
    grad: RecordedArray | None
    sent: Mapping[str, RecordedArray | None] | None
    phase: str = "backward"


NodeEvent: TypeAlias = NodeForward | NodeBackward


@attrs.frozen(eq=False)
class RecordedPass:
    """One forward or backward pass through a graph.

    Attributes
    ----------
    index : int
        Its place among all passes of the recording.
    run : int
        A number for each run, from 0: a backward pass has that of its forward pass.
    step : int or None
        The training step that it was part of, if it was.
    epoch : int or None
        The epoch that it was part of, if it was.
    training : bool
        Whether operations were told that this is training.
    complete : bool
        Whether it came to its end.
    seconds : float
        When it began, since the start of the recording.
    """

    index: int
    run: int
    step: int | None
    epoch: int | None
    training: bool
    complete: bool
    seconds: float
    _layout: Layout = attrs.field(repr=False)
    _block: Block = attrs.field(repr=False)
    _row: int = attrs.field(repr=False)

    @property
    def phase(self) -> str:
        """``"forward"`` or ``"backward"``."""
        return self._layout.phase

    @property
    def graph(self) -> RecordedGraph:
        """The graph."""
        return self._layout.graph

    def __len__(self) -> int:
        return len(self._layout.nodes)

    @property
    def events(self) -> tuple[NodeEvent, ...]:
        """What each node did, in the order in which it happened."""
        nodes = self.graph.nodes

        def array(slot: int) -> RecordedArray:
            return RecordedArray(self._block, self._row, slot)

        found: list[NodeEvent] = []
        for about in self._layout.nodes:
            node = nodes[about.position]
            if about.value is not None:
                found.append(NodeForward(node, array(about.value)))
                continue
            sent = None
            if about.sent is not None:
                sent = {name: None if i is None else array(i) for name, i in about.sent}
            received = tuple(
                (None if sender is None else nodes[sender], array(slot))
                for sender, slot in about.received
            )
            grad = None if about.grad is None else array(about.grad)
            found.append(NodeBackward(node, received, grad, sent))
        return tuple(found)

    def __getitem__(self, name: str) -> NodeEvent:
        """Return what the node of a name did.

        Raises
        ------
        KeyError
            If the graph has no such node, or it was not recorded.
        """
        wanted = self.graph[name]
        for event in self.events:
            if event.node is wanted:
                return event
        raise KeyError(f"nothing was recorded of the node {name!r} in this pass")


@attrs.frozen(eq=False)
class RecordedStep:
    """A training step.

    Attributes
    ----------
    number : int
        Counted from 1 by its session.
    loss : float
        Before the update.
    epoch : int or None
        Of ``fit``, if it was part of one.
    passes : tuple of RecordedPass
        Its forward and backward passes; empty where the step was not recorded in detail.
    """

    number: int
    loss: float
    epoch: int | None
    passes: tuple[RecordedPass, ...]


@attrs.frozen(eq=False)
class RecordedEpoch:
    """An epoch of ``fit``, with what was measured: ``loss``, ``seconds`` and others."""

    number: int
    logs: Mapping[str, float]


Event: TypeAlias = RecordedPass | RecordedStep | RecordedEpoch


@attrs.frozen(eq=False, repr=False)
class Recording:
    """What was recorded. ``mftrace.read(path)`` returns one, ``tracer.recording`` another.

    Attributes
    ----------
    graphs : tuple of RecordedGraph
        In the order in which they were first run.
    events : tuple of RecordedPass, RecordedStep or RecordedEpoch
        In the order in which they ended.
    dropped : int
        Passes of which nothing was kept, because the size limit was reached.
    """

    graphs: tuple[RecordedGraph, ...]
    events: tuple[Event, ...]
    dropped: int = 0

    def __repr__(self) -> str:
        return (
            f"<Recording of {len(self.graphs)} graphs, {len(self.passes)} passes, "
            f"{len(self.steps)} steps, {len(self.epochs)} epochs>"
        )

    def _repr_html_(self) -> str:
        """Return the recording for notebooks."""
        from mftrace.recording_html import recording_html

        return recording_html(self)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    @property
    def graph(self) -> RecordedGraph:
        """The only graph, or the first.

        Raises
        ------
        RecordingError
            If no run was recorded.
        """
        if not self.graphs:
            raise RecordingError("no run was recorded, so there is no graph")
        return self.graphs[0]

    @property
    def passes(self) -> Sequence[RecordedPass]:
        """All passes."""
        return [event for event in self.events if isinstance(event, RecordedPass)]

    @property
    def steps(self) -> Sequence[RecordedStep]:
        """All training steps."""
        return [event for event in self.events if isinstance(event, RecordedStep)]

    @property
    def epochs(self) -> Sequence[RecordedEpoch]:
        """All epochs."""
        return [event for event in self.events if isinstance(event, RecordedEpoch)]

    @property
    def losses(self) -> NDArray[np.float64]:
        """``(steps,)`` float64: the loss of each training step."""
        return np.array([step.loss for step in self.steps], np.float64)
