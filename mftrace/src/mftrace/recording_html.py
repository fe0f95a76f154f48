"""A recording as HTML, for notebooks: what it holds, and the graphs. All text is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfcore.html import facts, panel, table

if TYPE_CHECKING:
    from mftrace.recorded_graph import RecordedGraph
    from mftrace.recording import Recording

_OUTPUTS = 12
"""Outputs of a graph that are named."""


def recording_html(recording: Recording) -> str:
    """Return a recording for notebooks."""
    losses = recording.losses
    rows = [
        ("passes", str(len(recording.passes))),
        ("passes dropped at the size limit", str(recording.dropped) if recording.dropped else ""),
        ("training steps", str(len(losses))),
        ("loss", f"{losses[0]:.6g} to {losses[-1]:.6g}" if len(losses) else ""),
        ("epochs", str(len(recording.epochs))),
    ]
    graphs = (
        (str(graph.index), str(len(graph)), _outputs(graph), _operations(graph))
        for graph in recording.graphs
    )
    return panel(
        "Recording",
        facts(rows),
        table(("graph", "nodes", "outputs", "operations"), graphs, len(recording.graphs)),
    )


def _outputs(graph: RecordedGraph) -> str:
    names = [graph.nodes[place].name for place in graph.outputs[:_OUTPUTS]]
    more = len(graph.outputs) - len(names)
    return ", ".join([*names, f"{more} more"] if more else names)


def _operations(graph: RecordedGraph) -> str:
    names = sorted({node.operation.name for node in graph.nodes if node.kind == "operation"})
    more = len(names) - _OUTPUTS
    return ", ".join([*names[:_OUTPUTS], f"{more} more"] if more > 0 else names)
