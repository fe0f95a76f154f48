"""A tracer that counts: which operation ran how often, forward and backward."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from mfcore import Node, hookimpl


class Tally:
    """Counts calls of every operation; ``--trace tally`` or ``mf.tracing("tally")``.

    Attributes
    ----------
    forward, backward : Counter
        Calls by the operation's name.
    steps : int
        Training steps.

    Examples
    --------
    >>> import mfcore as mf
    >>> from mfops_extra import Swish
    >>> x = mf.Input("x")
    >>> with mf.tracing("tally") as tally:
    ...     run = mf.Session(Swish(Swish(x))).run({x: 1.0})
    >>> tally.forward["Swish"], tally.backward["Swish"]
    (2, 0)
    """

    name: ClassVar[str] = "tally"
    quiet: ClassVar[bool] = True
    """It prints nothing by itself, so a progress bar may."""

    def __init__(self) -> None:
        self.forward: Counter[str] = Counter()
        self.backward: Counter[str] = Counter()
        self.steps = 0

    @hookimpl
    def mf_forward_start(self, node: Node) -> None:
        """Count a call of an operation's forward; leaves have none."""
        self.forward[type(node).__name__] += 1

    @hookimpl
    def mf_backward_finish(self, node: Node) -> None:
        """Count a call of an operation's backward."""
        self.backward[type(node).__name__] += 1

    @hookimpl
    def mf_step_finish(self) -> None:
        """Count a training step."""
        self.steps += 1

    def table(self) -> str:
        """Return the counts as text; ``miniflow train --trace tally`` prints it at the end."""
        width = max(map(len, [*self.forward, "operation"]))
        lines = [f"{'operation':{width}}  {'forward':>8}  {'backward':>8}"]
        for name, count in sorted(self.forward.items()):
            lines.append(f"{name:{width}}  {count:8}  {self.backward[name]:8}")
        return "\n".join([*lines, f"training steps: {self.steps}"])
