"""What the page shows of a recording, as plain data: graphs, frames, and losses."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import PureWindowsPath
from typing import Any

import attrs
import numpy as np

from mftrace.blocks import Layout, LayoutNode, RecordedArray
from mftrace.draw import words
from mftrace.errors import RecordingError
from mftrace.recorded_graph import RecordedGraph, RecordedOperation
from mftrace.recording import RecordedPass, Recording
from mftrace.report_arrays import encoded, encoded_size, json_number
from mftrace.report_graph import call_text, drawn_graph

CELLS = (4096, 1024, 256, 64)
"""Elements of an array that are shown at most; fewer where hardly a frame would fit."""

ENOUGH = 24
"""Frames that should fit, before arrays are shown with more elements."""

MOST_LOSSES = 20_000
"""Points of the loss curve that are kept."""

MOST_PASSES = 100
"""Passes of one run that are shown at most."""

LONGEST_FUNCTION = 2_000
"""Characters of a function up to which a formula is looked for in it."""

LONGEST_SOURCE = 20_000
"""Characters of an operation's source up to which it is shown."""


@attrs.define
class Frame:
    """One run: a forward pass, and the backward passes of it, or what was recorded of them.

    Attributes
    ----------
    key : str
        What the page's address calls it: the number of the training step, or else of the run.
    passes : list of RecordedPass
        All with one graph, in order.
    """

    key: str
    passes: list[RecordedPass]


def page_data(recording: Recording, limit: int) -> dict[str, Any]:
    """Return what the page shows.

    Parameters
    ----------
    recording : Recording
        A recording with at least one pass.
    limit : int
        Bytes that the arrays may take, about. Of more frames than fit, evenly chosen ones
        are shown, the first and the last among them.

    Raises
    ------
    RecordingError
        If there is no pass, or its arrays cannot be read.
    """
    frames = _frames(recording)
    if not frames:
        raise RecordingError("nothing can be shown: the recording has no pass")
    shown, cells = _fitting(frames, limit)
    layouts: dict[int, int] = {}
    graphs: dict[int, int] = {}
    layout_data: list[dict[str, Any]] = []
    graph_data: list[dict[str, Any]] = []
    types: dict[int, dict[int, str]] = {}
    for frame in frames:  # of all, so that every value's type is known
        for recorded in frame.passes:
            known = types.setdefault(recorded.graph.index, {})
            _add_types(recorded._layout, known)
    frame_data = []
    for frame in shown:
        for recorded in frame.passes:
            graph, layout = recorded.graph, recorded._layout
            if graph.index not in graphs:
                graphs[graph.index] = len(graphs)
                graph_data.append(_graph(graph, types[graph.index]))
            if layout.index not in layouts:
                layouts[layout.index] = len(layouts)
                layout_data.append(_layout(layout, graphs[graph.index]))
        frame_data.append(_frame(frame, graphs, layouts, cells))
    return {
        "graphs": graph_data,
        "layouts": layout_data,
        "frames": frame_data,
        "losses": _losses(recording),
        "notes": _notes(recording, frames, shown, cells),
    }


# Frames


def _frames(recording: Recording) -> list[Frame]:
    together: dict[tuple[int, int], list[RecordedPass]] = {}
    for recorded in recording.passes:
        if len(recorded):
            passes = together.setdefault((recorded.run, recorded.graph.index), [])
            if len(passes) < MOST_PASSES:
                passes.append(recorded)
    trained = any(passes[0].step is not None for passes in together.values())
    used: set[str] = set()
    frames = []
    for number, passes in enumerate(together.values(), start=1):
        step = passes[0].step
        key = str(step) if step is not None else f"run-{number}" if trained else str(number)
        again, first = 1, key
        while key in used:
            again += 1
            key = f"{first}-{again}"
        used.add(key)
        frames.append(Frame(key, passes))
    return frames


def _fitting(frames: Sequence[Frame], limit: int) -> tuple[list[Frame], int]:
    """Return the frames to show, and how many elements to show of an array."""
    for cells in CELLS:
        sizes = _sizes(frames, cells)
        if sum(sizes) <= limit:
            return list(frames), cells
        count = int(len(frames) * limit / sum(sizes))
        if count >= ENOUGH or cells == CELLS[-1]:
            break
    while True:
        count = max(count, min(2, len(frames)))
        places = np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int)).tolist()
        if count <= 2 or sum(sizes[i] for i in places) <= limit:
            return [frames[i] for i in places], cells
        count = count * 9 // 10


def _sizes(frames: Sequence[Frame], cells: int) -> list[int]:
    known: dict[int, int] = {}

    def size(recorded: RecordedPass) -> int:
        block = recorded._block
        if block.index not in known:
            stored = set(block.stored)
            known[block.index] = 80 + sum(
                encoded_size(slot.shape, cells, i in stored)
                for i, slot in enumerate(recorded._layout.slots)
            )
        return known[block.index]

    return [sum(map(size, frame.passes)) for frame in frames]


def _frame(
    frame: Frame, graphs: dict[int, int], layouts: dict[int, int], cells: int
) -> dict[str, Any]:
    first = frame.passes[0]
    return {
        "key": frame.key,
        "graph": graphs[first.graph.index],
        "step": first.step,
        "epoch": first.epoch,
        "passes": [
            {
                "layout": layouts[recorded._layout.index],
                "complete": recorded.complete,
                "arrays": [
                    encoded(RecordedArray(recorded._block, recorded._row, slot), cells)
                    for slot in range(len(recorded._layout.slots))
                ],
            }
            for recorded in frame.passes
        ],
    }


def _layout(layout: Layout, graph: int) -> dict[str, Any]:
    return {
        "graph": graph,
        "phase": layout.phase,
        "slots": [[list(slot.shape), str(slot.dtype)] for slot in layout.slots],
        "nodes": [
            {
                "node": about.position,
                "value": about.value,
                "received": [list(pair) for pair in about.received],
                "grad": about.grad,
                "sent": None if about.sent is None else _sent(layout, about),
            }
            for about in layout.nodes
        ],
    }


def _sent(layout: Layout, about: LayoutNode) -> list[list[Any]]:
    sent = (about.sent or ())[: len(layout.graph.nodes[about.position].inputs)]
    return [[words.clean(field), slot] for field, slot in sent]


def _add_types(layout: Layout, types: dict[int, str]) -> None:
    for about in layout.nodes:
        if about.value is not None and about.position not in types:
            slot = layout.slots[about.value]
            types[about.position] = words.type_text(slot.shape, slot.dtype)


# Graphs


def _graph(graph: RecordedGraph, types: dict[int, str]) -> dict[str, Any]:
    operations: dict[str, int] = {}
    described: list[dict[str, Any]] = []
    nodes = []
    for node in graph.nodes:
        name = node.operation.qualified_name
        if name not in operations:
            operations[name] = len(operations)
            described.append(_operation(node.operation))
        nodes.append(
            {
                "name": words.short(node.name, 500),
                "kind": node.kind,
                "operation": operations[name],
                "call": call_text(graph, node),
                "inputs": list(node.inputs),
                "fields": [words.clean(field) for field in node.fields],
                "hyperparameters": [
                    [words.clean(field), words.short(text, 200)]
                    for field, text in node.hyperparameters.items()
                ],
                "site": f"{words.clean(PureWindowsPath(node.file).name)}:{node.line}",
            }
        )
    return {
        "nodes": nodes,
        "operations": described,
        "outputs": list(graph.outputs),
        "drawing": drawn_graph(graph, types),
    }


def _operation(operation: RecordedOperation) -> dict[str, Any]:
    return {
        "name": words.clean(operation.name),
        "pack": words.clean(operation.pack),
        "summary": words.clean(operation.summary),
        "formula": formula(operation),
        "derivatives": derivatives(operation.backward),
        "forward": _shown_source(operation.forward),
        "backward": _shown_source(operation.backward),
    }


def formula(operation: RecordedOperation) -> str:
    """Return the formula of an operation: from its summary, or what its forward returns.

    ``""`` where neither is one formula.
    """
    found = re.search(r"``(.+?)``", operation.summary)
    # A formula calculates: a lone name, or a part of an array, is none.
    if found and re.search(r"\s[-+*/@<>=]|^-|\w\(", found[1]):
        return words.clean(found[1])
    returned = _returned(operation.forward)
    return "" if returned is None else _text(returned)


def derivatives(backward: str) -> list[str]:
    """Return what a backward function sends to each input, as formulas; none if it is longer."""
    returned = _returned(backward)
    if returned is None:
        return []
    parts = returned.elts if isinstance(returned, ast.Tuple) else [returned]
    return [_text(_where_wanted(part)) for part in parts]


def _where_wanted(expression: ast.expr) -> ast.expr:
    """Return what is sent where it is wanted: ``grad @ W.T if wanted.X else None``."""
    while isinstance(expression, ast.IfExp):
        test, taken, other = expression.test, expression.body, expression.orelse
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            test, taken, other = test.operand, other, taken
        if not _text(test).startswith("wanted."):
            break
        expression = taken
    return expression


def _text(expression: ast.expr) -> str:
    try:
        return words.short(ast.unparse(expression), 400)
    except RecursionError:
        return ""


def _returned(source: str) -> ast.expr | None:
    """Return the expression that a function of one statement returns. Nothing is executed."""
    if not source or len(source) > LONGEST_FUNCTION:
        return None
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef):
        return None
    statements = body[0].body
    if ast.get_docstring(body[0]) is not None:
        statements = statements[1:]
    if len(statements) == 1 and isinstance(statements[0], ast.Return):
        return statements[0].value
    return None


def _shown_source(source: str) -> str:
    if len(source) > LONGEST_SOURCE:
        return ""
    return "\n".join(words.clean(line) for line in source.split("\n"))


# Around it


def _losses(recording: Recording) -> dict[str, Any]:
    steps = recording.steps
    if len(steps) > MOST_LOSSES:
        places = np.linspace(0, len(steps) - 1, MOST_LOSSES).round().astype(int).tolist()
        steps = [steps[i] for i in places]
    return {
        "steps": [step.number for step in steps],
        "losses": [json_number(step.loss) for step in steps],
        "count": len(recording.steps),
    }


def _notes(
    recording: Recording, frames: Sequence[Frame], shown: Sequence[Frame], cells: int
) -> list[str]:
    """Return, in sentences, what of the recording is not shown."""
    notes = []
    if len(shown) < len(frames):
        notes.append(
            f"{len(shown):,} of {len(frames):,} recorded runs are shown, evenly chosen, "
            f"because all would be too much for one page."
        )
    if cells < CELLS[0]:
        notes.append(f"Of each array {cells} elements are shown at most.")
    if any(len(frame.passes) == MOST_PASSES for frame in shown):
        notes.append(f"Of one run {MOST_PASSES} passes are shown at most.")
    steps = recording.steps
    if bare := sum(not step.passes for step in steps):
        notes.append(f"Of {bare:,} of {len(steps):,} training steps only the loss was recorded.")
    if len(steps) > MOST_LOSSES:
        notes.append(f"The loss curve has {MOST_LOSSES:,} of {len(steps):,} points.")
    return notes
