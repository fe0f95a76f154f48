"""The tracer ``gradients``: norms, update ratios and dead units over training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import mfcore as mf
from mfcore.errors import MiniFlowWarning
from mftrace.errors import TracerOptionError
from mftrace.table import text_table

VANISHING = 1e-8
"""Root mean square of a gradient's elements below which it counts as vanishing."""

EXPLODING = 1e3
"""Root mean square of a gradient's elements above which it counts as exploding."""

PATIENCE = 10
"""Steps in a row after which vanishing and exploding are warned of."""


class GradientWarning(MiniFlowWarning):
    """Gradients vanish or explode, or units are dead."""


@attrs.frozen
class GradientRow:
    """How the training of one parameter went, over the steps that were heard.

    Attributes
    ----------
    name : str
        Of the parameter.
    steps : int
        How many steps.
    norm : float
        Euclidean norm of the gradient, the last.
    smallest, largest, mean : float
        Of all these norms; not finite ones are left out.
    ratio : float
        Median of the norm of an update divided by the norm of the parameter before it. About
        0.001 is a usual rate; much less learns slowly, much more is unsteady.
    not_finite : int
        Steps in which the gradient held NaN or an infinity.
    """

    name: str
    steps: int
    norm: float
    smallest: float
    largest: float
    mean: float
    ratio: float
    not_finite: int


class GradientsTracer:
    """Watches the gradient of each parameter, and units that no longer answer.

    A unit is dead where a ``ReLU`` gave 0 for every row of every batch of an epoch: nothing
    that it gets changes its output, so no gradient passes. Units are the last axis of a
    ``ReLU``'s output, of images (four axes) the second, the channels.

    Parameters
    ----------
    vanishing, exploding : float, optional
        Bounds for the root mean square of a gradient's elements, 1e-8 and 1e3: where it is
        below the one, or above the other or not finite, in ``patience`` steps in a row, a
        ``GradientWarning`` is given, once for each parameter.
    patience : int, optional
        How many steps in a row.
    every : int, optional
        Watch each n-th training step, beginning with the first; the others run unobserved.
    dead : str or sequence of str, optional
        Names of the operations whose outputs are watched for zeros.
    warn : bool, optional
        Whether to warn at all.

    Raises
    ------
    TracerOptionError
        If an option is none of these.

    Examples
    --------
    >>> import mfcore as mf
    >>> from mfoptim import SGD
    >>> x, w = mf.Input("x"), mf.Parameter(2.0, name="w")
    >>> session = mf.Session(x * w)
    >>> with mf.tracing("gradients") as gradients:
    ...     cost = session.step({x: 3.0}, SGD(learning_rate=0.1))
    >>> gradients.norms["w"], gradients.ratios["w"]
    (array([3.]), array([0.15]))
    """

    name: ClassVar[str] = "gradients"
    quiet: ClassVar[bool] = True
    """It prints nothing, so a progress bar may."""

    def __init__(
        self,
        *,
        vanishing: float = VANISHING,
        exploding: float = EXPLODING,
        patience: int = PATIENCE,
        every: int = 1,
        dead: str | Sequence[str] = ("ReLU",),
        warn: bool = True,
    ) -> None:
        for option, bound in (("vanishing", vanishing), ("exploding", exploding)):
            if not isinstance(bound, (int, float)) or not bound >= 0:
                raise TracerOptionError(f"{option} must be a number of at least 0, not {bound!r}")
        for option, count in (("patience", patience), ("every", every)):
            if type(count) is not int or count < 1:
                raise TracerOptionError(
                    f"{option} must be a whole number of at least 1, not {count!r}"
                )
        self._bounds = {"vanishes": float(vanishing), "explodes": float(exploding)}
        self._patience, self._every, self._warn = patience, every, bool(warn)
        self._watched = frozenset((dead,) if isinstance(dead, str) else dead)
        self._norms: dict[str, list[float]] = {}
        self._ratios: dict[str, list[float]] = {}
        self._steps: dict[str, list[int]] = {}
        self._streaks: dict[tuple[str, str], int] = {}
        self._gradients: dict[mf.Parameter, mf.Array] = {}
        self._before: dict[mf.Parameter, mf.Array] = {}
        self._alive: dict[str, NDArray[np.bool_]] = {}
        self._dead: dict[str, list[NDArray[np.intp]]] = {}
        self._in_step = False

    def wants_run(self, step: int | None) -> bool:
        """Whether to listen to a run, of the training step of that number or of none."""
        return step is not None and (step - 1) % self._every == 0

    # Hooks

    @mf.hookimpl
    def mf_run_start(self, session: mf.Session) -> None:
        """Notice whether this is part of a training step."""
        self._in_step = session.running_step is not None

    @mf.hookimpl
    def mf_forward_finish(self, graph: mf.Graph, node: mf.Node, value: mf.Array) -> None:
        """Remember parameters, and which units answered."""
        if not self._in_step:
            return
        if isinstance(node, mf.Parameter):
            self._before[node] = value
        elif type(node).__name__ in self._watched and np.ndim(value):
            name = graph.name(node)
            units = 1 if value.ndim == 4 else value.ndim - 1
            others = tuple(axis for axis in range(value.ndim) if axis != units)
            answered = (value != 0).any(axis=others)
            alive = self._alive.get(name)
            if alive is None or alive.shape != answered.shape:
                self._alive[name] = answered
            else:
                alive |= answered

    @mf.hookimpl
    def mf_backward_start(self, node: mf.Node, grad: mf.Array) -> None:
        """Remember the gradients of parameters."""
        if self._in_step and isinstance(node, mf.Parameter):
            self._gradients[node] = grad

    @mf.hookimpl
    def mf_step_finish(self, session: mf.Session, step: int) -> None:
        """Measure gradients and updates."""
        for node, gradient in self._gradients.items():
            before, name = self._before[node], session.graph.name(node)
            size, norm = _norm(before), _norm(gradient)
            update = _norm(session[node] - before)
            self._steps.setdefault(name, []).append(step)
            self._norms.setdefault(name, []).append(norm)
            self._ratios.setdefault(name, []).append(update / size if size else math.inf)
            if self._warn:
                self._judge(name, norm / math.sqrt(gradient.size or 1), step)
        self._gradients, self._before = {}, {}
        self._in_step = False

    @mf.hookimpl
    def mf_epoch_start(self) -> None:
        """Begin to look for units that do not answer all epoch long."""
        self._alive = {}

    @mf.hookimpl
    def mf_epoch_finish(self, epoch: int) -> None:
        """Count the units that were dead all epoch long."""
        for name, alive in self._alive.items():
            dead = np.flatnonzero(~alive)
            known = self._dead.setdefault(name, [])
            if self._warn and len(dead) and not any(len(units) for units in known):
                self._tell(
                    f"{len(dead)} of the {alive.size} units of {name} were 0 for every row of "
                    f"epoch {epoch}: they are dead, and no gradient passes them. A smaller "
                    f"learning rate or another start keeps units alive"
                )
            known.append(dead)
        self._alive = {}

    def _judge(self, name: str, level: float, step: int) -> None:
        found = {
            "vanishes": level < self._bounds["vanishes"],
            "explodes": level > self._bounds["explodes"] or not math.isfinite(level),
        }
        for kind, is_so in found.items():
            streak = self._streaks.get((name, kind), 0)
            if streak == self._patience:
                continue  # it was told
            streak = self._streaks[name, kind] = streak + 1 if is_so else 0
            if streak == self._patience:
                self._tell(
                    f"the gradient of {name} {kind}: the root mean square of its elements is "
                    f"{level:.3g} at step {step}, the {streak}. such step in a row (the bound "
                    f"is {self._bounds[kind]:.3g})"
                )

    def _tell(self, message: str) -> None:
        warnings.warn(message, GradientWarning, stacklevel=2)

    # Results

    @property
    def steps(self) -> Mapping[str, NDArray[np.int64]]:
        """Numbers of the steps that were heard, by the parameter's name."""
        return {name: np.array(steps, np.int64) for name, steps in self._steps.items()}

    @property
    def norms(self) -> Mapping[str, NDArray[np.float64]]:
        """Norm of the gradient in each of these steps, by the parameter's name."""
        return {name: np.array(norms) for name, norms in self._norms.items()}

    @property
    def ratios(self) -> Mapping[str, NDArray[np.float64]]:
        """Norm of the update divided by that of the parameter, by the parameter's name.

        It is infinite where the parameter was 0.
        """
        return {name: np.array(ratios) for name, ratios in self._ratios.items()}

    @property
    def dead(self) -> Mapping[str, Sequence[NDArray[np.intp]]]:
        """For each epoch the indices of the dead units, by the node's name."""
        return self._dead

    @property
    def rows(self) -> list[GradientRow]:
        """How the training of each parameter went."""
        found = []
        for name, norms in self.norms.items():
            finite = norms[np.isfinite(norms)]
            known = finite if finite.size else np.array([math.nan])
            ratios = self.ratios[name]
            ratios = ratios[np.isfinite(ratios)]
            found.append(
                GradientRow(
                    name=name,
                    steps=len(norms),
                    norm=float(norms[-1]),
                    smallest=float(known.min()),
                    largest=float(known.max()),
                    mean=float(known.mean()),
                    ratio=float(np.median(ratios)) if ratios.size else math.nan,
                    not_finite=len(norms) - len(finite),
                )
            )
        return found

    def table(self) -> str:
        """Return the rows as text, and below them the dead units of the last epoch."""
        titles = ["parameter", "steps", "norm", "smallest", "largest", "mean", "ratio", "NaN, inf"]
        cells = [
            [
                row.name,
                str(row.steps),
                *(f"{x:.3g}" for x in (row.norm, row.smallest, row.largest, row.mean)),
                f"{row.ratio:.2g}",
                str(row.not_finite),
            ]
            for row in self.rows
        ]
        text = text_table(titles, cells)
        for name, epochs in self._dead.items():
            if epochs and len(epochs[-1]):
                units = ", ".join(map(str, epochs[-1][:12].tolist()))
                more = f" and {len(epochs[-1]) - 12} more" if len(epochs[-1]) > 12 else ""
                text += f"\ndead units of {name} in the last epoch: {units}{more}"
        return text

    def __str__(self) -> str:
        return self.table()


def _norm(array: Any) -> float:
    flat = np.asarray(array, np.float64).reshape(-1)
    with np.errstate(all="ignore"):
        square = float(flat.dot(flat))
        if 1e-280 < square < 1e280 or not np.isfinite(flat).all():
            return math.sqrt(square) if square >= 0 else math.nan
        largest = float(np.abs(flat).max(initial=0.0))
        return largest * float(np.linalg.norm(flat / largest)) if largest else 0.0
