"""The tracer ``record``: an event stream, in memory or in a file, with the arrays beside it."""

from __future__ import annotations

import inspect
import json
import math
import os
import re
import reprlib
import secrets
import textwrap
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from operator import is_, itemgetter
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

import mfcore as mf
from mfcore.errors import type_name
from mftrace.errors import RecordingError, TracerOptionError
from mftrace.reading import DTYPES, SCHEMA, Assembly, MemoryArrays, arrays_path, npy_header, read
from mftrace.recording import Recording
from mftrace.summary import SIZE, summarise

Array: TypeAlias = NDArray[Any]
Kept: TypeAlias = Literal["all", "summary", "none"]
KEPT = ("all", "summary", "none")

ROWS = 256
"""Passes after which what is pending is written."""

PENDING = 8 * 2**20
"""Bytes of arrays after which what is pending is written; a 16th of the limit if that is less."""

LINE, MEMBERS = 170, 2000
"""Bytes, at most, of the line about a pass, and of what a block is called in both files."""

WHOLE_SHARE = 0.8
"""Share of the size limit that whole arrays may fill; summaries go on up to the limit."""

KNOWN_RUNS = 8
"""Runs that a later backward pass can still be told to belong to."""


class RecordTracer:
    """Records passes, training steps and epochs, for ``mftrace.read`` to read.

    Parameters
    ----------
    path : str or path, optional
        The file of events, by custom ``run.jsonl``; the arrays go to ``run.npz`` beside it.
        Files of these names are overwritten. Without a path all is kept in memory.
    arrays : {"all", "summary", "none"}, optional
        Keep whole arrays, a summary of them (arrays smaller than a summary are kept whole),
        or their shapes and dtypes alone.
    limit : int or str, optional
        Bytes to keep at most, such as ``"50MB"``. Whole arrays fill 80% of it; after that
        they are summarised, and at the limit only losses and what epochs measured go on.
    every : int, optional
        Of the training steps record passes of each n-th, beginning with the first; the
        others run unobserved. All losses are recorded.

    Raises
    ------
    TracerOptionError
        If an option is none of these.
    RecordingError
        If the files cannot be written.

    Examples
    --------
    >>> import mfcore as mf
    >>> x = mf.Input("x")
    >>> session = mf.Session(x * 2.0)
    >>> with mf.tracing("record") as record:
    ...     run = session.run({x: 3.0})
    >>> float(record.recording.passes[0]["mul_1"].value.array)
    6.0
    """

    name: ClassVar[str] = "record"
    quiet: ClassVar[bool] = True
    """It prints nothing, so a progress bar may."""

    def __init__(
        self,
        *,
        path: str | os.PathLike[str] | None = None,
        arrays: Kept = "all",
        limit: int | str = "50MB",
        every: int = 1,
    ) -> None:
        if arrays not in KEPT:
            raise TracerOptionError(f"arrays must be one of {', '.join(KEPT)}, not {arrays!r}")
        if type(every) is not int or every < 1:
            raise TracerOptionError(f"every must be a whole number of at least 1, not {every!r}")
        self._arrays: Kept = arrays
        self._every = every
        self._limit = size_in_bytes(limit)
        self._most_pending = min(PENDING, self._limit // 16)
        self._sink: _Sink = _MemorySink() if path is None else _FileSink(_checked_path(path))
        self._started = perf_counter()
        self._graphs: dict[mf.Graph, int] = {}
        self._plans: dict[tuple[Any, ...], list[_Plan]] = {}
        self._last: dict[tuple[mf.Graph, str], _Plan] = {}
        self._layouts: list[_Pending] = []
        self._queue: list[dict[str, Any]] = []
        self._pending_bytes = 0
        self._blocks = self._events = self._dropped = 0
        self._full = False
        self._runs: OrderedDict[mf.Run, int] = OrderedDict()
        self._run_count = 0
        self._epoch: int | None = None
        self._about: dict[str, Any] | None = None  # the pass that runs
        self._graph: mf.Graph | None = None
        self._phase = ""
        self._told: list[Any] = []
        self._flat: list[Any] = [None]

    @property
    def recording(self) -> Recording:
        """What was recorded; of a file only when it is closed.

        Raises
        ------
        RecordingError
            If the file is still being written.
        """
        if not self._sink.closed:
            self._end_pass(complete=False)
            self._flush()
        return self._sink.recording()

    def close(self) -> None:
        """Write what is pending, and the last line; called at the end of a ``tracing`` block."""
        if not self._sink.closed:
            try:
                self._end_pass(complete=False)
                self._flush()
                self._sink.line({"event": "end", "events": self._events, "dropped": self._dropped})
            finally:
                self._sink.close()

    def wants_run(self, step: int | None) -> bool:
        """Whether to listen to a run, of the training step of that number or of none."""
        return not self._full and (step is None or (step - 1) % self._every == 0)

    # Passes

    @mf.hookimpl
    def mf_run_start(self, session: mf.Session, run: mf.Run, phase: str, graph: mf.Graph) -> None:
        """Begin a pass."""
        self._end_pass(complete=False)  # of a pass that raised, no end is told
        number = self._runs.get(run)
        if number is None:
            number = self._runs[run] = self._run_count
            self._run_count += 1
            if len(self._runs) > KNOWN_RUNS:
                self._runs.popitem(last=False)
        self._graph, self._phase = graph, phase
        step = session.running_step
        self._about = {
            "event": "pass",
            "run": number,
            "step": step,
            "epoch": self._epoch,
            "training": step is not None,
            "seconds": round(perf_counter() - self._started, 6),
        }

    @mf.hookimpl
    def mf_forward_finish(self, node: mf.Node, value: Array) -> None:
        """Keep a node's value."""
        self._told.append(node)
        self._flat.append(value)

    @mf.hookimpl
    def mf_backward_start(
        self, node: mf.Node, received: Sequence[tuple[mf.Node | None, Array]], grad: Array
    ) -> None:
        """Keep what a node received."""
        told, flat = self._told, self._flat
        told.append(len(received))
        for sender, gradient in received:
            told.append(sender)
            flat.append(gradient)
        told.append(node)
        flat.append(grad)

    @mf.hookimpl
    def mf_backward_finish(self, node: mf.Node, sent: Mapping[str, Array | None]) -> None:
        """Keep what a node sent."""
        self._told += ("sent", node)
        self._flat += sent.values()

    @mf.hookimpl
    def mf_run_finish(self) -> None:
        """End the pass."""
        self._end_pass(complete=True)

    def _end_pass(self, *, complete: bool) -> None:
        about, self._about = self._about, None
        graph = self._graph
        if about is None or graph is None:
            return
        about["complete"] = complete
        told, flat = self._told, self._flat
        self._told, self._flat = [], [None]
        plan = self._last.get((graph, self._phase))
        if plan is None or told != plan.told or not plan.fits(flat):
            plan = self._last[graph, self._phase] = self._plan(graph, told, flat)
        values = plan.values(flat)
        shapes = [value.shape for value in values]
        dtypes = [value.dtype for value in values]
        pending = plan.last
        if pending is None or shapes != pending.shapes or dtypes != pending.dtypes:
            key = (*shapes, *dtypes)
            pending = plan.layouts.get(key)
            if pending is None:
                pending = plan.layouts[key] = self._new_layout(graph, plan, values)
            plan.last = pending
        about["pending"] = pending
        about["row"] = len(pending.rows)
        pending.rows.append(() if self._arrays == "none" else values)
        self._pending_bytes += pending.nbytes
        self._queue.append(about)
        if len(self._queue) > 3 * ROWS or self._pending_bytes > self._most_pending:
            self._flush()

    def _plan(self, graph: mf.Graph, told: list[Any], flat: list[Any]) -> _Plan:
        plans = self._plans.setdefault((graph, self._phase, *told), [])
        for plan in plans:
            if plan.fits(flat):
                return plan
        plans.append(_Plan(graph, self._phase, told, flat))
        return plans[-1]

    def _new_layout(self, graph: mf.Graph, plan: _Plan, values: list[Any]) -> _Pending:
        if graph not in self._graphs:
            self._graphs[graph] = len(self._graphs)
            self._sink.line(described_graph(graph))
        self._sink.line(
            {
                "event": "layout",
                "graph": self._graphs[graph],
                "phase": plan.phase,
                "slots": [[list(value.shape), _portable(value.dtype).str] for value in values],
                "nodes": plan.nodes,
            }
        )
        pending = _Pending(len(self._layouts), values)
        self._layouts.append(pending)
        return pending

    # Training

    @mf.hookimpl
    def mf_epoch_start(self, epoch: int) -> None:
        """Remember which epoch it is."""
        self._epoch = epoch

    @mf.hookimpl
    def mf_step_finish(self, step: int, loss: float) -> None:
        """Keep the loss of a step."""
        self._queue.append(
            {"event": "step", "step": step, "loss": _json_number(loss), "epoch": self._epoch}
        )
        if len(self._queue) > 3 * ROWS:
            self._flush()

    @mf.hookimpl
    def mf_epoch_finish(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Keep what was measured in an epoch."""
        numbers = {name: _json_number(value) for name, value in logs.items()}
        self._queue.append({"event": "epoch", "epoch": epoch, "logs": numbers})
        self._epoch = None

    # Writing

    def _flush(self) -> None:
        """Write what is pending: the arrays in blocks, then the events that refer to them."""
        for pending in self._layouts:
            if pending.rows:
                self._write_block(pending)
        queue, self._queue, self._pending_bytes = self._queue, [], 0
        for line in queue:
            pending = line.pop("pending", None)
            if pending is not None:
                if pending.block is None:
                    self._dropped += 1
                    continue
                line["block"] = pending.block
            self._events += 1
            self._sink.line(line)

    def _write_block(self, pending: _Pending) -> None:
        rows, pending.rows = pending.rows, []
        left = self._limit - self._sink.size
        stored, summarised = pending.chosen(self._arrays, len(rows), left, self._limit)
        needed = len(rows) * (LINE + pending.bytes_of(stored, summarised)) + MEMBERS
        pending.block = None
        if needed > left:
            self._full = True
            return
        for dtype, slots in pending.by_dtype(stored).items():
            columns = [_column(rows, slot) for slot in slots]
            table = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
            self._sink.add(f"{self._blocks}_{dtype.str[1:]}", table.astype(dtype, copy=False))
        if summarised:
            parts = [summarise(_column(rows, slot)) for slot in summarised]
            statistics = np.stack([part[0] for part in parts], axis=1)
            histograms = np.stack([part[1] for part in parts], axis=1)
            self._sink.add(f"{self._blocks}_statistics", statistics.astype("<f8", copy=False))
            self._sink.add(f"{self._blocks}_histograms", histograms.astype("<u4", copy=False))
        self._sink.line(
            {
                "event": "block",
                "layout": pending.layout,
                "rows": len(rows),
                "stored": stored,
                "summarised": summarised,
            }
        )
        pending.block = self._blocks
        self._blocks += 1


def _column(rows: list[Any], slot: int) -> Array:
    """Return one array of each row, flat, as rows."""
    arrays = [row[slot] for row in rows]
    joined = np.concatenate(arrays) if arrays[0].ndim else np.array(arrays)
    return joined.reshape(len(rows), -1)


def _portable(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype as it is recorded; what has no place in a file becomes float64."""
    return DTYPES.get(dtype.newbyteorder("<").str, np.dtype("<f8"))


class _Pending:
    """A layout, and the passes of it that are not yet written."""

    def __init__(self, layout: int, values: list[Any]) -> None:
        self.layout = layout
        self.rows: list[Any] = []
        self.block: int | None = None
        self.shapes = [value.shape for value in values]
        self.dtypes = [value.dtype for value in values]
        self._dtypes = [_portable(dtype) for dtype in self.dtypes]
        self._sizes: list[int] = [
            math.prod(shape) * dtype.itemsize
            for shape, dtype in zip(self.shapes, self._dtypes, strict=True)
        ]
        self.nbytes = sum(self._sizes)
        every = range(len(values))
        self._all = list(every)
        self._small = [slot for slot in every if self._sizes[slot] <= SIZE]
        self._large = [slot for slot in every if self._sizes[slot] > SIZE]

    def chosen(
        self, kept: Kept, rows: int, left: float, limit: float
    ) -> tuple[list[int], list[int]]:
        """Return which arrays to store, and which to summarise."""
        if kept == "none":
            return [], []
        if kept == "all" and rows * self.nbytes <= left - (1 - WHOLE_SHARE) * limit:
            return self._all, []
        return self._small, self._large

    def bytes_of(self, stored: list[int], summarised: list[int]) -> int:
        """Return the bytes that a pass takes."""
        whole: int = sum([self._sizes[slot] for slot in stored])
        return whole + SIZE * len(summarised)

    def by_dtype(self, stored: list[int]) -> dict[np.dtype[Any], list[int]]:
        """Return the slots of each dtype."""
        found: dict[np.dtype[Any], list[int]] = {}
        for slot in stored:
            found.setdefault(self._dtypes[slot], []).append(slot)
        return found


# What passes have in common


class _Plan:
    """How what is told of a pass, in its order, becomes arrays, each of them kept once.

    Most of what is told of a backward pass is told twice: what a node sends is what another
    receives, and often its total. Which of all these are one array is the same in every pass
    with the same nodes; that it is, is checked each time.
    """

    def __init__(self, graph: mf.Graph, phase: str, told: list[Any], flat: list[Any]) -> None:
        self.phase = phase
        self.told = told
        self.layouts: dict[Any, _Pending] = {}
        self.last: _Pending | None = None
        first: dict[int, int] = {}
        same = [first.setdefault(id(value), i) for i, value in enumerate(flat)]
        self._same = itemgetter(0, *same)
        # The first of all stands for what is not there.
        self._taken = [i for i, j in enumerate(same) if i == j and i]
        self._take = itemgetter(*self._taken, 0, 0)
        slots = {i: slot for slot, i in enumerate(self._taken)}
        places = iter([slots.get(i) for i in same[1:]])
        describe = _forward_nodes if phase == "forward" else _backward_nodes
        self.nodes = describe(graph, told, places)
        self._fed = frozenset(
            node["value"]
            for node in self.nodes
            if phase == "forward" and isinstance(graph.nodes[node["node"]], mf.Input)
        )

    def fits(self, flat: list[Any]) -> bool:
        """Whether in this pass, too, the same of what was told are one array."""
        return all(map(is_, flat, self._same(flat)[1:]))

    def values(self, flat: list[Any]) -> list[Any]:
        """Return each array once."""
        values = list(self._take(flat)[:-2])
        # The run's own arrays stay as they are; what was fed, and views of it, are the user's.
        for slot in self._fed:
            values[slot] = np.array(values[slot])[()]
        return [
            value if type(value) is np.float64 or value.base is None else np.array(value)
            for value in values
        ]


def _forward_nodes(
    graph: mf.Graph, told: list[Any], places: Iterator[int | None]
) -> list[dict[str, Any]]:
    return [{"node": graph.position(node), "value": next(places)} for node in told]


def _backward_nodes(
    graph: mf.Graph, told: list[Any], places: Iterator[int | None]
) -> list[dict[str, Any]]:
    nodes: dict[int, dict[str, Any]] = {}

    def entry(node: mf.Node) -> dict[str, Any]:
        position = graph.position(node)
        new = {"node": position, "received": [], "grad": None, "sent": None}
        return nodes.setdefault(position, new)

    rest = iter(told)
    for word in rest:
        if word == "sent":
            node = next(rest)
            names = mf.spec_of(node).input_names(len(node.inputs))
            entry(node)["sent"] = [[name, next(places)] for name in names]
        else:
            senders = [next(rest) for _ in range(word)]
            received = [
                [None if sender is None else graph.position(sender), next(places)]
                for sender in senders
            ]
            entry(next(rest)).update(received=received, grad=next(places))
    return list(nodes.values())


# Graphs


def described_graph(graph: mf.Graph) -> dict[str, Any]:
    """Return a graph as the line that tells of it."""
    operations: dict[str, dict[str, str]] = {}
    nodes = []
    for node, sources in zip(graph.nodes, graph.sources, strict=True):
        spec, cls = node.__operation__, type(node)
        qualified_name = cls.qualified_name()
        if qualified_name not in operations:
            operations[qualified_name] = {
                "summary": (inspect.getdoc(cls) or "").partition("\n")[0],
                "forward": "" if spec is None else _source(spec.forward),
                "backward": "" if spec is None else _source(spec.backward),
            }
        file, line = node.site
        nodes.append(
            {
                "name": graph.name(node),
                "kind": "operation" if spec else _kind(node),
                "operation": qualified_name,
                "inputs": list(sources),
                "fields": list(spec.input_names(len(sources))) if spec else [],
                "hyperparameters": {
                    name: reprlib.repr(getattr(node, name))
                    for name in (spec.hyperparameters if spec else ())
                },
                "site": [file, line],
            }
        )
    outputs = [graph.position(node) for node in graph.outputs]
    return {"event": "graph", "nodes": nodes, "outputs": outputs, "operations": operations}


def _kind(leaf: mf.Node) -> str:
    if isinstance(leaf, mf.Parameter):
        return "parameter"
    return "constant" if isinstance(leaf, mf.Constant) else "input"


def _source(function: Any) -> str:
    """Return the source text of a function, as far as Python knows it."""
    try:
        return textwrap.dedent(inspect.getsource(function)).rstrip() if function else ""
    except (OSError, TypeError):
        return ""


# Where it goes


class _Sink(Protocol):
    """Where a recording goes; ``size`` is the bytes that went there."""

    size: int
    closed: bool

    def line(self, line: dict[str, Any]) -> None:
        """Take an event."""

    def add(self, name: str, array: Array) -> None:
        """Take an array."""

    def close(self) -> None:
        """Take no more."""

    def recording(self) -> Recording:
        """Return all that was taken."""


class _MemorySink:
    def __init__(self) -> None:
        self.size = 0
        self.closed = False
        self._arrays = MemoryArrays()
        self._assembly = Assembly(self._arrays)

    def line(self, line: dict[str, Any]) -> None:
        self._assembly.add(line)

    def add(self, name: str, array: Array) -> None:
        self.size += array.nbytes
        self._arrays.add(name, array)

    def close(self) -> None:
        self.closed = True

    def recording(self) -> Recording:
        return self._assembly.recording()


def _line_text(line: dict[str, Any]) -> str:
    """Return a line as JSON; the two that are written most are put together by hand."""
    event = line["event"]
    if event == "pass":
        step, epoch = line["step"], line["epoch"]
        return (
            f'{{"event":"pass","block":{line["block"]},"row":{line["row"]},"run":{line["run"]},'
            f'"step":{"null" if step is None else step},'
            f'"epoch":{"null" if epoch is None else epoch},'
            f'"training":{"true" if line["training"] else "false"},'
            f'"complete":{"true" if line["complete"] else "false"},'
            f'"seconds":{line["seconds"]!r}}}\n'
        )
    if event == "step" and type(line["loss"]) is float:
        epoch = line["epoch"]
        return (
            f'{{"event":"step","step":{line["step"]},"loss":{line["loss"]!r},'
            f'"epoch":{"null" if epoch is None else epoch}}}\n'
        )
    return _ENCODE(line) + "\n"


_ENCODE = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class _FileSink:
    def __init__(self, path: Path) -> None:
        self.closed = False
        self._path = path
        identity = secrets.token_hex(16)
        try:
            self._text = path.open("w", encoding="utf-8", newline="\n")
            try:
                self._archive = zipfile.ZipFile(arrays_path(path), "w", zipfile.ZIP_STORED)
            except OSError:
                self._text.close()
                path.unlink()
                raise
        except OSError as error:
            raise RecordingError(f"{path} cannot be written: {error.strerror or error}") from None
        self._archive.comment = identity.encode("ascii")
        self.size = 0
        self.line({"event": "recording", "schema": SCHEMA, "id": identity})

    def line(self, line: dict[str, Any]) -> None:
        text = _line_text(line)
        self.size += len(text)
        self._text.write(text)

    def add(self, name: str, array: Array) -> None:
        data = npy_header(array.shape, array.dtype) + array.tobytes()
        self.size += len(data) + 160  # and what a zip file says of a member, twice
        self._archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data)

    def close(self) -> None:
        self.closed = True
        try:
            self._archive.close()
        finally:
            self._text.close()

    def recording(self) -> Recording:
        if not self.closed:
            raise RecordingError(
                f"{self._path} is still being written: leave the `with` block, or close the "
                f"tracer, before reading it"
            )
        return read(self._path)


# Options


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def size_in_bytes(size: object) -> int:
    """Return a size such as ``"50MB"`` as a number of bytes.

    Raises
    ------
    TracerOptionError
        If it is no size.
    """
    if isinstance(size, int) and not isinstance(size, bool) and size >= 0:
        return size
    if isinstance(size, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMG]?)B?\s*", size, re.IGNORECASE)
        if match:
            return int(float(match[1]) * _UNITS[match[2].upper()])
    raise TracerOptionError(f"a size is a number of bytes, or text such as '50MB', not {size!r}")


def _checked_path(path: Any) -> Path:
    try:
        file = Path(path)
    except TypeError:
        raise TracerOptionError(f"path must be the path of a file, not {type_name(path)}") from None
    if file.suffix == ".npz" or not file.name:
        raise TracerOptionError(f"path must be the file of events, such as run.jsonl, not {path}")
    return file


def _json_number(value: Any) -> float | str:
    number = float(value)
    return number if math.isfinite(number) else str(number)
