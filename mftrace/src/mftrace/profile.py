"""The tracer ``profile``: where time and memory go, as a table and as a Chrome trace file."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import Any, ClassVar, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

import mfcore as mf
from mftrace.errors import RecordingError, TracerOptionError
from mftrace.table import text_table

By = Literal["node", "operation", "phase"]
BYS = ("node", "operation", "phase")

LIMIT = 1_000_000
"""Events that are kept for the trace file; the table counts all of them."""

LARGE = 4000
"""Nodes of a graph beyond which inclusive times are not computed."""

STEP, EPOCH, FORWARD, BACKWARD = "step", "epoch", "forward", "backward"


@attrs.define
class ProfileRow:
    """What one node, operation or phase took.

    Attributes
    ----------
    name : str
        Of the node, the operation or the phase.
    phase : str
        ``"forward"``, ``"backward"``, ``"step"`` or ``"epoch"``.
    calls : int
        How often.
    own : float
        Seconds in it alone.
    inclusive : float
        Seconds in it and in all that it had to wait for. Forward these are the nodes that it
        depends on, backward those that its gradient came through; of a phase, a step or an
        epoch it is the time from start to end. NaN for nodes of graphs of more than 4000.
    bytes : int
        Of the arrays that it made, in all calls: values forward, what was sent backward.
    """

    name: str
    phase: str
    calls: int = 0
    own: float = 0.0
    inclusive: float = 0.0
    bytes: int = 0


class ProfileTracer:
    """Measures time and memory of each node, forward and backward.

    Runs are observed node by node, on the reference engine: its times are measured, without
    those that tracers take. What an engine that compiles makes of the graph is measured by
    ``Session.compile(...).profile(...)``.

    Parameters
    ----------
    path : str or path, optional
        Where to save, at the end of the block, a trace file for ``chrome://tracing`` or
        Perfetto; by custom ``trace.json``.
    limit : int, optional
        Events that the file may hold; later ones are counted, not kept.

    Raises
    ------
    TracerOptionError
        If an option is none of these.

    Examples
    --------
    >>> import mfcore as mf
    >>> x = mf.Input("x")
    >>> session = mf.Session(x * 2.0)
    >>> with mf.tracing("profile") as profile:
    ...     run = session.run({x: 3.0})
    >>> [(row.name, row.calls) for row in profile.rows("operation")]
    [('mfops_basic.Mul', 1)]
    """

    name: ClassVar[str] = "profile"
    quiet: ClassVar[bool] = True
    """It prints nothing, so a progress bar may."""

    def __init__(self, *, path: str | os.PathLike[str] | None = None, limit: int = LIMIT) -> None:
        if type(limit) is not int or limit < 0:
            raise TracerOptionError(f"limit must be a number of events, not {limit!r}")
        self._path = None if path is None else Path(path)
        self._limit = limit
        self._began = perf_counter_ns()
        self._thread = threading.get_native_id()
        # Calls, nanoseconds and bytes of each node, by phase and graph.
        self._totals: dict[tuple[str, mf.Graph], dict[mf.Node, list[Any]]] = {}
        self._current: dict[mf.Node, list[Any]] = {}
        self._keeps = path is not None
        self._whole: dict[str, list[int]] = {}  # calls, inclusive and inner nanoseconds
        self._spans: list[tuple[int, int, Any]] = []
        self._open: list[list[Any]] = []
        self._at = self._inner = 0
        self._graph: mf.Graph | None = None
        if self._path is not None:
            self._check_writable()

    # Hooks. The clock is read last at a start and first at an end: what this costs itself is
    # left out.

    @mf.hookimpl
    def mf_forward_start(self) -> None:
        """Start the clock."""
        self._at = perf_counter_ns()

    @mf.hookimpl
    def mf_forward_finish(self, node: mf.Node, value: mf.Array) -> None:
        """Stop the clock: an operation's forward."""
        now = perf_counter_ns()
        if node.__operation__ is not None:
            self._add(node, now, value.nbytes)

    @mf.hookimpl
    def mf_backward_start(self) -> None:
        """Start the clock."""
        self._at = perf_counter_ns()

    @mf.hookimpl
    def mf_backward_finish(self, node: mf.Node, sent: Mapping[str, mf.Array | None]) -> None:
        """Stop the clock: an operation's backward."""
        now = perf_counter_ns()
        made = 0
        for gradient in sent.values():
            if gradient is not None:
                made += gradient.nbytes
        self._add(node, now, made)

    def _add(self, node: mf.Node, now: int, made: int) -> None:
        totals = self._current.get(node)
        if totals is None:
            totals = self._current[node] = [0, 0, 0, (self._graph, node)]
        took = now - self._at
        totals[0] += 1
        totals[1] += took
        totals[2] += made
        self._inner += took
        if self._keeps:
            self._spans.append((self._at, took, totals[3]))

    @mf.hookimpl
    def mf_run_start(self, phase: str, graph: mf.Graph) -> None:
        """Start a pass."""
        self._graph = graph
        self._current = self._totals.setdefault((phase, graph), {})
        self._start(phase)
        self._inner = 0

    @mf.hookimpl
    def mf_run_finish(self, phase: str) -> None:
        """End a pass."""
        if self._open:
            self._open[-1][2] += self._inner
        self._finish(phase)

    @mf.hookimpl
    def mf_step_start(self, step: int) -> None:
        """Start a training step."""
        self._start(STEP, step)

    @mf.hookimpl
    def mf_step_finish(self) -> None:
        """End a training step."""
        self._finish(STEP)

    @mf.hookimpl
    def mf_epoch_start(self, epoch: int) -> None:
        """Start an epoch."""
        self._start(EPOCH, epoch)

    @mf.hookimpl
    def mf_epoch_finish(self) -> None:
        """End an epoch."""
        self._finish(EPOCH)

    def _start(self, what: str, number: int | None = None) -> None:
        self._open.append([what, number, 0, perf_counter_ns()])

    def _finish(self, what: str) -> None:
        now = perf_counter_ns()
        while self._open:
            opened, number, inner, began = self._open.pop()
            if opened == what:
                break  # what was opened later raised, and has no end
        else:
            return
        took = now - began
        totals = self._whole.setdefault(what, [0, 0, 0])
        totals[0] += 1
        totals[1] += took
        totals[2] += inner
        if self._open:
            self._open[-1][2] += took
        if self._keeps:
            self._spans.append((began, took, (what, number)))
            self._keeps = len(self._spans) < self._limit

    # Results

    def rows(self, by: By = "node") -> list[ProfileRow]:
        """Return what each node, operation or phase took, that with the most time of its own first.

        Parameters
        ----------
        by : {"node", "operation", "phase"}, optional
            What a row stands for; phases are told apart from steps and epochs around them.

        Raises
        ------
        TracerOptionError
            If ``by`` is something else.
        """
        if by not in BYS:
            raise TracerOptionError(f"by must be one of {', '.join(BYS)}, not {by!r}")
        rows = self._whole_rows() if by == "phase" else self._node_rows(by)
        return sorted(rows, key=lambda row: row.own, reverse=True)

    def _whole_rows(self) -> list[ProfileRow]:
        made = dict.fromkeys(self._whole, 0)
        for (phase, _), nodes in self._totals.items():
            if phase in made:
                made[phase] += sum(totals[2] for totals in nodes.values())
        return [
            ProfileRow(what, what, calls, (took - inner) / 1e9, took / 1e9, made[what])
            for what, (calls, took, inner) in self._whole.items()
        ]

    def _node_rows(self, by: By) -> list[ProfileRow]:
        rows: dict[tuple[str, str], ProfileRow] = {}
        members: dict[tuple[str, str], dict[mf.Graph, list[int]]] = {}
        seconds: dict[tuple[str, mf.Graph], NDArray[np.float64]] = {}
        for (phase, graph), nodes in self._totals.items():
            own = seconds[phase, graph] = np.zeros(len(graph))
            for node, (calls, took, made, _) in nodes.items():
                name = graph.name(node) if by == "node" else node.qualified_name()
                row = rows.setdefault((name, phase), ProfileRow(name, phase))
                row.calls += calls
                row.own += took / 1e9
                row.bytes += made
                position = graph.position(node)
                members.setdefault((name, phase), {}).setdefault(graph, []).append(position)
                own[position] = took / 1e9
        depends = {graph: _dependencies(graph) for _, graph in seconds}
        for (name, phase), graphs in members.items():
            for graph, positions in graphs.items():
                among = depends[graph]
                if among is None:
                    rows[name, phase].inclusive = np.nan
                    continue
                within = among[positions] if phase == FORWARD else among[:, positions].T
                rows[name, phase].inclusive += float(
                    seconds[phase, graph][within.any(axis=0)].sum()
                )
        return list(rows.values())

    def table(self, by: By = "node", *, limit: int | None = 30) -> str:
        """Return the rows as text.

        Parameters
        ----------
        by : {"node", "operation", "phase"}, optional
            What a row stands for.
        limit : int, optional
            How many rows to show, the longest first; ``None`` shows all.
        """
        rows = self.rows(by)
        total = sum(row.own for row in rows) or 1.0
        shown = rows if limit is None else rows[:limit]
        cells = [
            [
                row.name,
                row.phase,
                str(row.calls),
                f"{row.own * 1e3:.3f}",
                f"{row.inclusive * 1e3:.3f}",
                f"{row.own / row.calls * 1e6:.1f}",
                f"{row.own / total:.1%}",
                f"{row.bytes / row.calls:,.0f}",
            ]
            for row in shown
        ]
        titles = [by, "phase", "calls", "own ms", "inclusive ms", "us/call", "own", "bytes/call"]
        if by == "phase":
            titles, cells = [by, *titles[2:]], [[cell[0], *cell[2:]] for cell in cells]
        text = text_table(titles, cells, left=1 if by == "phase" else 2)
        if len(rows) > len(shown):
            text += f"\nand {len(rows) - len(shown)} more"
        return text

    def __str__(self) -> str:
        return self.table()

    # The trace file

    def close(self) -> None:
        """Save the trace file, if one is wanted; called at the end of a ``tracing`` block."""
        if self._path is not None:
            self.save(self._path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save a trace file, in the Trace Event Format of Chrome.

        The tracer keeps single events only where it was given a path.

        Raises
        ------
        RecordingError
            If the file cannot be written.
        """
        path = Path(path)
        beside = path.with_name(path.name + ".part")
        try:
            with beside.open("w", encoding="utf-8") as file:
                file.write('{"displayTimeUnit":"ns","traceEvents":[\n')
                file.write(",\n".join(self._events()))
                file.write("\n]}\n")
            beside.replace(path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise RecordingError(f"{path} cannot be written: {error.strerror or error}") from None

    def _events(self) -> Iterator[str]:
        about = {"pid": os.getpid(), "tid": self._thread}
        named = {"name": "process_name", "ph": "M", **about, "args": {"name": "MiniFlow"}}
        yield json.dumps(named)
        nodes = sum(totals[0] for group in self._totals.values() for totals in group.values())
        dropped = nodes + sum(totals[0] for totals in self._whole.values()) - self._limit
        if dropped > 0:
            left = {"name": "dropped", "ph": "M", **about, "args": {"events": dropped}}
            yield json.dumps(left)
        texts: dict[Any, str] = {}
        for began, took, what in self._spans[: self._limit]:
            text = texts.get(what)
            if text is None:
                text = texts[what] = json.dumps({"ph": "X", **about, **_named(*what)})[:-1]
            yield f'{text},"ts":{(began - self._began) / 1e3!r},"dur":{took / 1e3!r}}}'

    def _check_writable(self) -> None:
        assert self._path is not None
        if self._path.is_dir() or not self._path.absolute().parent.is_dir():
            raise RecordingError(f"{self._path} cannot be written: no such folder, or it is one")


def _dependencies(graph: mf.Graph) -> NDArray[np.bool_] | None:
    """Return for each node which nodes it depends on, itself too; ``None`` for large graphs."""
    count = len(graph)
    if count > LARGE:
        return None
    depends = np.eye(count, dtype=bool)
    for i, sources in enumerate(graph.sources):
        for source in sources:
            depends[i] |= depends[source]
    return depends


def _named(kind: str | mf.Graph, number: Any) -> dict[str, Any]:
    """Return what a span is called: a node of a graph, or a pass, a step or an epoch."""
    if isinstance(kind, mf.Graph):
        file, line = number.site
        args = {"operation": number.qualified_name(), "built at": f"{file}:{line}"}
        return {"name": kind.name(number), "cat": "node", "args": args}
    name = kind if number is None else f"{kind} {number}"
    return {"name": name, "cat": kind, "args": {}}
