"""Reading a recording: lines become graphs, passes, steps and epochs, and nothing is trusted.

Whatever a file holds, reading it gives a recording or a ``RecordingError`` that names the file
and the line. Nothing is unpickled, evaluated or unpacked; what is read is never larger than the
file that it is read from.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Never

import numpy as np

from mftrace.blocks import Block, Layout, LayoutNode, Slot
from mftrace.errors import RecordingError
from mftrace.recorded_graph import RecordedGraph, RecordedNode, RecordedOperation
from mftrace.recording import Event, RecordedEpoch, RecordedPass, RecordedStep, Recording
from mftrace.recording_arrays import FileArrays, MemoryArrays, arrays_path

SCHEMA = 1
"""The version of the format that this module reads and ``record`` writes."""

LONGEST_LINE = 64 * 2**20
"""Bytes of a line beyond which a file is refused."""

MOST_LINES = 10_000_000
"""Lines beyond which a file is refused."""

MOST_AXES = 64
"""Axes that a NumPy array can have."""

KINDS = ("input", "parameter", "constant", "operation")
PHASES = ("forward", "backward")


def read(path: str | os.PathLike[str]) -> Recording:
    """Read a recording that the tracer ``record`` wrote.

    Parameters
    ----------
    path : str or path
        The file of events, such as ``run.jsonl``. The arrays are in ``run.npz`` beside it,
        and are read when they are looked at.

    Returns
    -------
    Recording
        All that was recorded.

    Raises
    ------
    RecordingError
        If a file is missing, was cut off or changed, is not a recording, or was written by a
        later version.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            header, lines = _lines(path, file)
            arrays = FileArrays(arrays_path(path), header)
            assembly = Assembly(arrays)
            for number, line in lines:
                try:
                    assembly.add(line)
                except _Wrong as error:
                    raise RecordingError(f"{path}, line {number}: {error}") from None
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror or error}") from None
    if not assembly.ended:
        raise RecordingError(
            f"{path} was cut off: it has no last line. Close the tracer, or leave its `with` "
            f"block, before reading"
        )
    return assembly.recording()


class _Wrong(Exception):
    """What is wrong with a line."""


# Lines


def _lines(
    path: Path, file: Iterable[bytes]
) -> tuple[dict[str, Any], Iterable[tuple[int, dict[str, Any]]]]:
    """Return the first line, checked, and the others with their numbers."""
    numbered = _parsed(path, file)
    try:
        number, header = next(iter(numbered))
    except StopIteration:
        raise RecordingError(f"{path} is empty: it is no recording") from None
    if header.get("event") != "recording":
        raise RecordingError(f"{path}, line {number}: this is no recording of MiniFlow's")
    schema = header.get("schema")
    if type(schema) is not int or schema < 1:
        raise RecordingError(f"{path}, line {number}: the schema must be a number")
    if schema > SCHEMA:
        raise RecordingError(
            f"{path}, line {number}: it was written in schema {schema} by a later version of "
            f"mftrace; this one reads up to {SCHEMA}. Update mftrace"
        )
    if type(header.get("id")) is not str:
        raise RecordingError(f"{path}, line {number}: the recording's id is missing")
    return header, numbered


def _parsed(path: Path, file: Any) -> Iterable[tuple[int, dict[str, Any]]]:
    number = 0
    while text := file.readline(LONGEST_LINE + 1):
        number += 1
        where = f"{path}, line {number}"
        if len(text) > LONGEST_LINE:
            raise RecordingError(f"{where}: longer than {LONGEST_LINE} bytes")
        if number > MOST_LINES:
            raise RecordingError(f"{where}: more than {MOST_LINES} lines")
        if not text.endswith(b"\n"):
            raise RecordingError(f"{where}: the file was cut off in the middle of a line")
        try:
            line = json.loads(text.decode("utf-8"), parse_constant=_refused)
        except (ValueError, RecursionError) as error:
            raise RecordingError(f"{where}: not JSON ({error})") from None
        if type(line) is not dict:
            raise RecordingError(f"{where}: must be a JSON object")
        yield number, line


def _refused(constant: str) -> Never:
    raise ValueError(f"{constant} is not JSON")


# From lines to what they mean


class Assembly:
    """Puts a recording together, line by line."""

    def __init__(self, arrays: MemoryArrays | FileArrays) -> None:
        self.ended = False
        self._arrays = arrays
        self._graphs: list[RecordedGraph] = []
        self._layouts: list[Layout] = []
        self._blocks: list[Block] = []
        self._events: list[Event] = []
        self._passes = 0
        self._unclaimed: list[RecordedPass] = []
        self._dropped = 0
        self._known: dict[str, Callable[[dict[str, Any]], None]] = {
            "graph": self._graph,
            "layout": self._layout,
            "block": self._block,
            "pass": self._pass,
            "step": self._step,
            "epoch": self._epoch,
            "end": self._end,
        }

    def recording(self) -> Recording:
        """Return what was put together so far."""
        return Recording(tuple(self._graphs), tuple(self._events), self._dropped)

    def add(self, line: dict[str, Any]) -> None:
        """Add a line.

        Raises
        ------
        _Wrong
            If it says what no recording says.
        """
        if self.ended:
            raise _Wrong("there must be no line after the last one")
        event = line.get("event")
        read_line = self._known.get(event) if type(event) is str else None
        if read_line is None:
            raise _Wrong(f"there is no event {_short(event)}")
        read_line(line)

    def _graph(self, line: dict[str, Any]) -> None:
        operations = {
            name: _operation(name, _dict(about, f"operation {_short(name)}"))
            for name, about in _dict(line.get("operations"), "operations").items()
        }
        nodes: list[RecordedNode] = []
        for position, node in enumerate(_list(line.get("nodes"), "nodes")):
            nodes.append(_node(position, _dict(node, "a node"), operations))
        if not nodes:
            raise _Wrong("a graph has at least one node")
        outputs = _places(line.get("outputs"), "outputs", len(nodes))
        self._graphs.append(RecordedGraph(len(self._graphs), tuple(nodes), outputs))

    def _layout(self, line: dict[str, Any]) -> None:
        graph = self._graphs[_whole(line.get("graph"), "graph", len(self._graphs))]
        phase = _one_of(line.get("phase"), "phase", PHASES)
        slots = tuple(_slot(slot) for slot in _list(line.get("slots"), "slots"))
        forward = phase == "forward"
        nodes = tuple(
            _layout_node(_dict(node, "a node"), forward, len(graph), len(slots))
            for node in _list(line.get("nodes"), "nodes")
        )
        self._layouts.append(Layout(len(self._layouts), graph, phase, slots, nodes))

    def _block(self, line: dict[str, Any]) -> None:
        layout = self._layouts[_whole(line.get("layout"), "layout", len(self._layouts))]
        rows = _whole(line.get("rows"), "rows", MOST_LINES)
        count = len(layout.slots)
        stored = _places(line.get("stored"), "stored", count)
        summarised = _places(line.get("summarised"), "summarised", count)
        if len({*stored, *summarised}) < len(stored) + len(summarised):
            raise _Wrong("an array is kept twice")
        block = Block(len(self._blocks), layout, rows, stored, summarised, self._arrays)
        for name, (shape, dtype) in block.members().items():
            try:
                self._arrays.check(name, shape, dtype)
            except RecordingError as error:
                raise _Wrong(str(error)) from None
        self._blocks.append(block)

    def _pass(self, line: dict[str, Any]) -> None:
        block = self._blocks[_whole(line.get("block"), "block", len(self._blocks))]
        found = RecordedPass(
            index=self._passes,
            run=_whole(line.get("run"), "run", MOST_LINES),
            step=_optional(line.get("step"), "step"),
            epoch=_optional(line.get("epoch"), "epoch"),
            training=_flag(line.get("training"), "training"),
            complete=_flag(line.get("complete", True), "complete"),
            seconds=_number(line.get("seconds"), "seconds"),
            layout=block.layout,
            block=block,
            row=_whole(line.get("row"), "row", block.rows),
        )
        self._passes += 1
        self._events.append(found)
        self._unclaimed.append(found)

    def _step(self, line: dict[str, Any]) -> None:
        number = _whole(line.get("step"), "step")
        loss, epoch = _number(line.get("loss"), "loss"), _optional(line.get("epoch"), "epoch")
        passes = tuple(p for p in self._unclaimed if p.step == number)
        self._unclaimed.clear()
        self._events.append(RecordedStep(number, loss, epoch, passes))

    def _epoch(self, line: dict[str, Any]) -> None:
        logs = _dict(line.get("logs"), "logs")
        numbers = {name: _number(value, f"logs of {_short(name)}") for name, value in logs.items()}
        self._events.append(RecordedEpoch(_whole(line.get("epoch"), "epoch"), numbers))

    def _end(self, line: dict[str, Any]) -> None:
        self._dropped = _whole(line.get("dropped"), "dropped")
        if _whole(line.get("events"), "events") != len(self._events):
            raise _Wrong(f"lines were added or lost: {len(self._events)} events are there")
        self.ended = True


def _operation(qualified_name: str, about: dict[str, Any]) -> RecordedOperation:
    pack, _, name = qualified_name.rpartition(".")
    texts = [_text(about.get(key), key) for key in ("summary", "forward", "backward")]
    return RecordedOperation(name, pack, *texts)


def _node(
    position: int, node: dict[str, Any], operations: dict[str, RecordedOperation]
) -> RecordedNode:
    kind = _one_of(node.get("kind"), "kind", KINDS)
    operation = operations.get(_text(node.get("operation"), "operation"))
    if operation is None:
        raise _Wrong(f"there is no operation {_short(node.get('operation'))}")
    inputs = _places(node.get("inputs"), "inputs", position)
    if bool(inputs) and kind != "operation":
        raise _Wrong(f"node {position} is a leaf and has inputs")
    fields = tuple(_text(field, "a field") for field in _list(node.get("fields"), "fields"))
    if len(fields) != len(inputs):
        raise _Wrong(f"node {position} has {len(inputs)} inputs and {len(fields)} fields")
    values = _dict(node.get("hyperparameters"), "hyperparameters")
    site = _list(node.get("site"), "site")
    if len(site) != 2:
        raise _Wrong("site must be a file and a line")
    return RecordedNode(
        position,
        _text(node.get("name"), "name"),
        kind,
        operation,
        inputs,
        fields,
        {name: _text(value, name) for name, value in values.items()},
        _text(site[0], "file"),
        _whole(site[1], "line"),
    )


def _slot(slot: Any) -> Slot:
    if type(slot) is not list or len(slot) != 2:
        raise _Wrong("a slot must be a shape and a dtype")
    shape = tuple(_whole(length, "an axis", 2**62) for length in _list(slot[0], "shape"))
    text = _text(slot[1], "dtype")
    size = math.prod(shape)
    if len(shape) > MOST_AXES or size > 2**48:
        raise _Wrong(f"no array has the shape {_short(shape)}")
    if text not in DTYPES:
        raise _Wrong(f"there is no dtype {_short(text)}")
    return Slot(shape, DTYPES[text], size)


DTYPES = {
    dtype.str: dtype
    for character in "?bBhHiIqQefdFD"
    for dtype in (np.dtype(character).newbyteorder("<"),)
}
"""The dtypes that are recorded, little-endian, by NumPy's name for them."""


def _layout_node(node: dict[str, Any], forward: bool, nodes: int, slots: int) -> LayoutNode:
    position = _whole(node.get("node"), "node", nodes)
    if forward:
        return LayoutNode(position, value=_whole(node.get("value"), "value", slots))
    received = tuple(
        (_optional(sender, "sender", nodes), _whole(slot, "slot", slots))
        for sender, slot in _pairs(node.get("received"), "received")
    )
    sent = node.get("sent")
    return LayoutNode(
        position,
        received=received,
        grad=_optional(node.get("grad"), "grad", slots),
        sent=None
        if sent is None
        else tuple(
            (_text(name, "a field"), _optional(slot, "slot", slots))
            for name, slot in _pairs(sent, "sent")
        ),
    )


# What a value must be


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _whole(value: Any, what: str, below: int = 2**63) -> int:
    if type(value) is not int or not 0 <= value < below:
        if below == 2**63:
            raise _Wrong(f"{what} must be a whole number, not {_short(value)}")
        raise _Wrong(f"{what} must be a whole number below {below}, not {_short(value)}")
    return value


def _optional(value: Any, what: str, below: int = 2**63) -> int | None:
    return None if value is None else _whole(value, what, below)


def _number(value: Any, what: str) -> float:
    if value in ("nan", "inf", "-inf") and type(value) is str:
        return float(value)
    if type(value) not in (int, float):
        raise _Wrong(f"{what} must be a number, not {_short(value)}")
    try:
        return float(value)
    except OverflowError:
        raise _Wrong(f"{what} is too large: {_short(value)}") from None


def _flag(value: Any, what: str) -> bool:
    if type(value) is not bool:
        raise _Wrong(f"{what} must be true or false, not {_short(value)}")
    return value


def _text(value: Any, what: str) -> str:
    if type(value) is not str:
        raise _Wrong(f"{what} must be text, not {_short(value)}")
    return value


def _one_of(value: Any, what: str, choices: tuple[str, ...]) -> str:
    if type(value) is not str or value not in choices:
        raise _Wrong(f"{what} must be one of {', '.join(choices)}, not {_short(value)}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if type(value) is not list:
        raise _Wrong(f"{what} must be a list, not {_short(value)}")
    return value


def _dict(value: Any, what: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise _Wrong(f"{what} must be an object, not {_short(value)}")
    return value


def _pairs(value: Any, what: str) -> list[list[Any]]:
    pairs = _list(value, what)
    if any(type(pair) is not list or len(pair) != 2 for pair in pairs):
        raise _Wrong(f"{what} must be a list of pairs")
    return pairs


def _places(value: Any, what: str, below: int) -> tuple[int, ...]:
    return tuple(_whole(place, what, below) for place in _list(value, what))
