"""The tracer ``record``: an event stream, in memory or in a file, with the arrays beside it."""

from __future__ import annotations

import math
import os
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import numpy as np

import mfcore as mf
from mfcore.errors import type_name
from mftrace.blocks import Array
from mftrace.errors import TracerOptionError
from mftrace.record_files import FileSink, MemorySink, Sink
from mftrace.record_passes import KEPT, Kept, Pending, Plan, described_graph, portable
from mftrace.recording import Recording
from mftrace.summary import summarise

ROWS = 256
"""Passes after which what is pending is written."""

PENDING = 8 * 2**20
"""Bytes of arrays after which what is pending is written; a 16th of the limit if that is less."""

LINE, MEMBERS = 170, 2000
"""Bytes, at most, of the line about a pass, and of what a block is called in both files."""

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
        self._sink: Sink = MemorySink() if path is None else FileSink(_checked_path(path))
        self._started = perf_counter()
        self._graphs: dict[mf.Graph, int] = {}
        self._plans: dict[tuple[Any, ...], list[Plan]] = {}
        self._last: dict[tuple[mf.Graph, str], Plan] = {}
        self._layouts: list[Pending] = []
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

    def _plan(self, graph: mf.Graph, told: list[Any], flat: list[Any]) -> Plan:
        plans = self._plans.setdefault((graph, self._phase, *told), [])
        for plan in plans:
            if plan.fits(flat):
                return plan
        plans.append(Plan(graph, self._phase, told, flat))
        return plans[-1]

    def _new_layout(self, graph: mf.Graph, plan: Plan, values: list[Any]) -> Pending:
        if graph not in self._graphs:
            self._graphs[graph] = len(self._graphs)
            self._sink.line(described_graph(graph))
        self._sink.line(
            {
                "event": "layout",
                "graph": self._graphs[graph],
                "phase": plan.phase,
                "slots": [[list(value.shape), portable(value.dtype).str] for value in values],
                "nodes": plan.nodes,
            }
        )
        pending = Pending(len(self._layouts), values)
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

    def _write_block(self, pending: Pending) -> None:
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
