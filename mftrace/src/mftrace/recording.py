"""What was recorded: passes, training steps and epochs, with arrays read when they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

from mftrace.blocks import Block, Layout, RecordedArray
from mftrace.errors import RecordingError
from mftrace.recorded_graph import RecordedGraph, RecordedNode


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
