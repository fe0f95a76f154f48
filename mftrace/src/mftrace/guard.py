"""The tracer ``guard``: stops a run at the first node that gives NaN, inf or a value out of bounds.

What it found is a report, and may become a replay file, which shows the failure alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np

import mfcore as mf
from mfcore.errors import ExecutionError, StopRun, type_name
from mfcore.node import Constant
from mftrace.application import GENERATORS, UNKNOWN, Application, ApplicationError, inputs_of
from mftrace.errors import TracerOptionError
from mftrace.guard_report import Checks, GuardReport, array_report
from mftrace.replay_archive import ReplayError
from mftrace.replay_file import origin, provider, write_replay

REPLAY = "miniflow-replay.npz"
"""Where a replay file is written, in the current folder, if no other place is named."""


class GuardError(StopRun, ExecutionError):
    """A guard stopped a run. The message is its report.

    Attributes
    ----------
    report : GuardReport
        Which node it was, and what went in and came out.
    replay : pathlib.Path or None
        The replay file, if one was written.
    """

    def __init__(self, report: GuardReport, replay: Path | None = None) -> None:
        super().__init__(str(report))
        self.report = report
        self.replay = replay


class GuardTracer:
    """Stops a run at the first node whose value or gradient is bad, and says which and why.

    Parameters
    ----------
    nan, inf : bool, optional
        Whether NaN is bad, and whether positive and negative infinity are.
    low, high : float, optional
        The least and the greatest value that is good, in values and in gradients.
    forward, backward : bool, optional
        Whether to look at values, and whether to look at gradients.
    replay : bool or path, optional
        Where to write a replay file when the run is stopped; ``True`` stands for
        ``miniflow-replay.npz`` in the current folder. What is there is replaced. By default
        none is written.

    Raises
    ------
    TracerOptionError
        If an option is none of these.
    GuardError
        From the run, when it is stopped.

    Examples
    --------
    >>> import mfcore as mf
    >>> import numpy as np
    >>> x = mf.Input("x")
    >>> with np.errstate(all="ignore"), mf.tracing("guard"):
    ...     try:
    ...         run = mf.Session(np.log(x).sum()).run({x: [1.0, -1.0]})
    ...     except GuardError as error:
    ...         print(error.report.node, error.report.results[0])
    log_1 float64[2] min 0 max 0 mean 0; 1 of 2 bad (NaN: 1), first at [1]
    """

    name: ClassVar[str] = "guard"

    def __init__(
        self,
        *,
        nan: bool = True,
        inf: bool = True,
        low: float | None = None,
        high: float | None = None,
        forward: bool = True,
        backward: bool = True,
        replay: bool | str | os.PathLike[str] = False,
    ) -> None:
        for name, flag in {
            "nan": nan,
            "inf": inf,
            "forward": forward,
            "backward": backward,
        }.items():
            if not isinstance(flag, bool):
                raise TracerOptionError(f"{name} must be True or False, not {flag!r}")
        low, high = _bound("low", low), _bound("high", high)
        if low is not None and high is not None and low > high:
            raise TracerOptionError(f"no value is at least low={low:g} and at most high={high:g}")
        if not (nan or inf or low is not None or high is not None) or not (forward or backward):
            raise TracerOptionError("there is nothing to look for: all checks are switched off")
        self._checks = Checks(nan, inf, low, high)
        self._forward, self._backward = forward, backward
        self._path = _replay_path(replay)
        self._step: int | None = None
        self._drawing: tuple[mf.Run | None, dict[mf.Node, dict[str, Any]]] = None, {}

    @mf.hookimpl
    def mf_step_start(self, step: int) -> None:
        """Note the training step."""
        self._step = step

    @mf.hookimpl
    def mf_step_finish(self) -> None:
        """Forget the training step."""
        self._step = None

    @mf.hookimpl
    def mf_forward_start(self, run: mf.Run, node: mf.Node) -> None:
        """Keep the random state of operations that draw, to draw the same in a replay."""
        if self._path is None or "rng" not in mf.spec_of(node).forward_asks:
            return
        if self._drawing[0] is not run:
            self._drawing = run, {}
        bits = run.session.rng.bit_generator
        if type(bits).__name__ in GENERATORS:
            self._drawing[1][node] = dict(bits.state)

    @mf.hookimpl
    def mf_forward_finish(
        self, run: mf.Run, graph: mf.Graph, node: mf.Node, value: mf.Array
    ) -> None:
        """Look at a value; constants are what their author wanted."""
        if not self._forward or isinstance(node, Constant) or self._checks.passes(value):
            return
        if node.__operation__ is None:
            self._stop(self._report_of_leaf(graph, node, "forward", "value", value))
        application = self._application(run, graph, node, "forward")
        self._stop(application.report_of({"value": value}), run, node, application)

    @mf.hookimpl
    def mf_backward_start(
        self,
        graph: mf.Graph,
        node: mf.Node,
        received: Sequence[tuple[mf.Node | None, mf.Array]],
        grad: mf.Array,
    ) -> None:
        """Look at a sum of gradients; each of them was looked at before, except the seed."""
        if not self._backward or self._checks.passes(grad):
            return
        report = self._report_of_leaf(graph, node, "backward", "gradient", grad)
        sent = tuple(
            array_report("grad", graph.name(sender), gradient, self._checks)
            for sender, gradient in received
            if sender is not None
        )
        self._stop(attrs.evolve(report, inputs=sent))

    @mf.hookimpl
    def mf_backward_finish(
        self,
        run: mf.Run,
        graph: mf.Graph,
        node: mf.Node,
        grad: mf.Array,
        sent: Mapping[str, mf.Array | None],
    ) -> None:
        """Look at what an operation sent to its inputs."""
        if not self._backward:
            return
        if all(gradient is None or self._checks.passes(gradient) for gradient in sent.values()):
            return
        application = attrs.evolve(
            self._application(run, graph, node, "backward"),
            grad=grad,
            value=run[node],
            wanted=tuple(gradient is not None for gradient in sent.values()),
        )
        self._stop(application.report_of(sent), run, node, application)

    def _application(self, run: mf.Run, graph: mf.Graph, node: mf.Node, phase: str) -> Application:
        spec = mf.spec_of(node)
        return Application(
            operation=type(node),
            node=graph.name(node),
            pack=origin(type(node)),
            site=node.site,
            phase=phase,
            hyperparameters={name: getattr(node, name) for name in spec.hyperparameters},
            inputs=inputs_of(run, node),
            sources=tuple(graph.name(source) for source in node.inputs),
            checks=self._checks,
            step=self._step,
        )

    def _report_of_leaf(
        self, graph: mf.Graph, node: mf.Node, phase: str, name: str, array: mf.Array
    ) -> GuardReport:
        """Report on a value that no operation made, or on a sum of gradients."""
        return GuardReport(
            phase=phase,
            node=graph.name(node),
            operation=node.qualified_name(),
            pack=origin(type(node)),
            site=node.site,
            step=self._step,
            hyperparameters=(),
            inputs=(),
            results=(array_report(name, "", array, self._checks),),
        )

    def _stop(
        self,
        report: GuardReport,
        run: mf.Run | None = None,
        node: mf.Node | None = None,
        application: Application | None = None,
    ) -> None:
        self._step = None
        path = None
        if self._path is not None:
            try:
                if application is None or run is None or node is None:
                    raise ReplayError("no single operation made it")
                write_replay(self._path, self._replayable(run, node, application))
                path = self._path
                note = f"replay: miniflow replay {path}"
                if provider(application.operation) is None:
                    name = application.operation.__name__
                    note = f"replay: mftrace.replay({str(path)!r}, operation={name})"
            except (ReplayError, ApplicationError) as error:
                note = f"no replay file: {error}"
            report = attrs.evolve(report, notes=(*report.notes, note))
        raise GuardError(report, path)

    def _replayable(self, run: mf.Run, node: mf.Node, application: Application) -> Application:
        """Return an application with what the hooks do not tell, which fails again alone.

        Raises
        ------
        ReplayError
            If it does not.
        """
        asks = {*application.spec.forward_asks, *application.spec.backward_asks}
        state = self._drawing[1].get(node) if self._drawing[0] is run else None
        application = attrs.evolve(application, rng=state)
        if "saved_of_result" in asks:
            application = attrs.evolve(application, saved=self._saved_of_result(run, node))
        if "rng" in asks and state is None:
            raise ReplayError("what was drawn in that run is not known")
        # Whether the run was training is not told: it is what gives the same value again.
        value = run[node] if application.phase == "backward" else None
        for training in (True, False) if "training" in asks else (False,):
            candidate = attrs.evolve(application, training=training)
            if value is None or "training" not in asks or _same(candidate.forward()[0], value):
                if not self._keeps_saved(candidate):
                    if candidate.report().reproduced:
                        return candidate
                    continue
                candidate = attrs.evolve(candidate, saved=candidate.forward()[1])
                if candidate.report().reproduced:
                    return candidate
        raise ReplayError("run alone, the operation does not fail again")

    def _keeps_saved(self, application: Application) -> bool:
        return (
            application.phase == "backward"
            and application.spec.saves
            and application.saved is UNKNOWN
        )

    def _saved_of_result(self, run: mf.Run, node: mf.Node) -> Any:
        """Return what the forward of the operation that is the input ``result`` saved."""
        graph = run.session.graph
        result = node.inputs[mf.spec_of(node).inputs.index("result")]
        if result.__operation__ is None or not result.__operation__.saves:
            return None
        return self._application(run, graph, result, "forward").forward()[1]


def _same(one: mf.Array, other: mf.Array) -> bool:
    x, y = np.asarray(one), np.asarray(other)
    return x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()


def _bound(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        raise TracerOptionError(f"{name} must be a number, not {type_name(value)} {value!r}")
    bound = float(value)
    if np.isnan(bound):
        raise TracerOptionError(f"{name} must be a number, not NaN")
    return None if np.isinf(bound) else bound


def _replay_path(replay: Any) -> Path | None:
    if isinstance(replay, bool):
        return Path(REPLAY) if replay else None
    try:
        path = Path(replay)
    except TypeError:
        raise TracerOptionError(f"replay must be True or a path, not {replay!r}") from None
    if path.is_dir():
        raise TracerOptionError(f"replay={str(path)!r} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise TracerOptionError(f"replay={str(path)!r}: there is no folder {str(path.parent)!r}")
    return path
