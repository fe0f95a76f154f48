"""The tracer ``console``: prints what a graph does, node by node, as it happens."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Any, ClassVar

import mfcore as mf
from mfcore.errors import FilterError, listed, type_name
from mfcore.filters import PHASES, is_one_of, valid_phases, valid_steps
from mftrace.draw.words import defaults_of
from mftrace.errors import TracerOptionError
from mftrace.format import LIMIT, PRECISION, format_array
from mftrace.printer import (
    EPOCH,
    FAINT,
    HEADING,
    NODE,
    OPERATION,
    PASS,
    PLAIN,
    RESULT,
    STEP,
    Line,
    Printer,
    TextStream,
)

MOST_NAMES = 8
"""Of more nodes than this, in one line, the others are counted."""


class ConsoleTracer:
    """Prints the sort, the forward and backward passes and the training steps.

    Parameters
    ----------
    file : text stream, optional
        Where to print; by default whatever ``sys.stdout`` is at that moment.
    limit : int, optional
        Arrays of more elements than this are summarised.
    precision : int, optional
        Significant digits of numbers.
    phases : str or collection of str, optional
        Which of ``"sort"``, ``"forward"``, ``"backward"`` and ``"training"`` to show.
    nodes : str or collection of str, optional
        Names of the nodes to show, or patterns such as ``"linear_*"``; by default all.
    operations : str, class or collection of these, optional
        Show nodes of these classes only: ``"Linear"``, ``"mfops_nn.Linear"``, or a pattern.
    steps : int or container of int, optional
        The training steps to show, by the numbers that are printed, from 1; a single
        number stands for the first so many. Runs outside of training steps are not shown
        then. By default everything is.

    Raises
    ------
    TracerOptionError
        If an option is none of these.

    Examples
    --------
    >>> import mfcore as mf
    >>> x, y = mf.Input("x"), mf.Input("y")
    >>> session = mf.Session(x * y)
    >>> with mf.tracing("console"):
    ...     run = session.run({x: 3, y: 4})
    forward  to mul_1
      x  Input  3
      y  Input  4
    <BLANKLINE>
      mul_1 = Mul(x, y)
          x   3
          y   4
          ->  12
    """

    name: ClassVar[str] = "console"

    def __init__(
        self,
        *,
        file: TextStream | None = None,
        limit: int = LIMIT,
        precision: int = PRECISION,
        phases: str | Collection[str] = PHASES,
        nodes: str | Collection[str] | None = None,
        operations: str | type | Collection[str | type] | None = None,
        steps: int | Container[int] | None = None,
    ) -> None:
        if file is not None and not callable(getattr(file, "write", None)):
            raise TracerOptionError(
                f"file must be an open text file, such as sys.stderr, not {reprlib.repr(file)}"
            )
        self._limit = _whole_number("limit", limit, at_least=0)
        self._precision = _whole_number("precision", precision, at_least=1)
        try:
            self._phases = valid_phases(phases)
            self._steps = None if steps is None else valid_steps(steps)
        except FilterError as error:
            raise TracerOptionError(str(error)) from None
        self._patterns = None if nodes is None else _valid_patterns(nodes)
        self._operations = None if operations is None else _valid_operations(operations)
        self._printer = Printer(file)
        self._step: int | None = None  # the training step that runs, if one does
        self._unmatched = set(self._patterns or ())
        self._saw_graphs = False
        self._width = 0  # of the labels of the node whose backward runs
        self._leaf_widths = 0, 0  # of the names and kinds of leaves that stand in a column

    def close(self) -> None:
        """Name the patterns that fitted no node; called at the end of a ``tracing`` block."""
        self._printer.withdraw(EPOCH)
        if self._saw_graphs and self._unmatched:
            patterns = ", ".join(repr(pattern) for pattern in sorted(self._unmatched))
            self._printer.block([(f"no node of the traced graphs is named {patterns}", FAINT)])

    def wants_run(self, step: int | None) -> bool:
        """Whether anything of a run is shown, of a training step or of none."""
        if self._steps is not None and (step is None or step not in self._steps):
            return False
        return "forward" in self._phases or "backward" in self._phases

    # Sorting a graph

    @mf.hookimpl
    def mf_sort_start(self, graph: mf.Graph) -> None:
        """Announce the sort, with the nodes that can be taken at once."""
        self._note_names(graph)
        count = f"{len(graph)} node{'s' if len(graph) > 1 else ''}"
        ready = listed([graph.name(node) for node in graph if not node.inputs], MOST_NAMES)
        self._printer.announce(
            PASS,
            [("sort", HEADING), (f"  {count} up to {_outputs(graph)}", PLAIN)],
            [("  ready from the start: ", FAINT), (ready, PLAIN)],
        )

    @mf.hookimpl
    def mf_sort_visit(self, graph: mf.Graph, node: mf.Node, position: int) -> None:
        """Show the node that is taken off the queue, and where it was built."""
        if "sort" not in self._phases or not self._matches(graph, node):
            return
        digits = len(str(len(graph)))
        what = _description(graph, node)
        file, line = node.site
        gap = " " * max(36 - sum(len(text) for text, _ in what), 2)
        site = f"{gap}{PurePath(file).name}:{line}"
        self._printer.line([(f"  {position + 1:>{digits}}  ", FAINT), *what, (site, FAINT)])

    @mf.hookimpl
    def mf_sort_edge(
        self, graph: mf.Graph, source: mf.Node, target: mf.Node, remaining: int
    ) -> None:
        """Show the edge that is removed, and whether its end is ready now."""
        if "sort" not in self._phases or not self._matches(graph, source):
            return
        indent = " " * (len(str(len(graph))) + 8)
        edge = f"{graph.name(source)} -> {graph.name(target)}"
        left = f"{remaining} left, {graph.name(target)} waits"
        if not remaining:
            left = f"none left, {graph.name(target)} is ready"
        self._printer.line([(f"{indent}remove ", FAINT), (edge, PLAIN), (f": {left}", FAINT)])

    @mf.hookimpl
    def mf_sort_finish(self) -> None:
        """Forget the sort, should none of its nodes have been shown."""
        self._printer.withdraw(PASS)

    # Forward

    @mf.hookimpl
    def mf_run_start(self, phase: str, graph: mf.Graph) -> None:
        """Announce a forward pass; a backward pass is announced by its first node."""
        self._note_names(graph)
        if phase == "forward":
            self._align_leaves(graph, [node for node in graph if node.__operation__ is None])
        to = f"  to {_outputs(graph)}" if phase == "forward" else ""
        self._printer.announce(PASS, [(phase, HEADING), (to, PLAIN)])

    @mf.hookimpl
    def mf_forward_start(
        self, graph: mf.Graph, node: mf.Node, inputs: Mapping[str, mf.Array]
    ) -> None:
        """Show an operation and the values of its inputs."""
        if self._shows("forward", graph, node):
            self._printer.block([("  ", PLAIN), *_description(graph, node)])
            labels = _input_labels(graph, node)
            width = _longest([*labels, "->"])
            for label, value in zip(labels, inputs.values(), strict=True):
                self._row(label, width, value)

    @mf.hookimpl
    def mf_forward_finish(self, graph: mf.Graph, node: mf.Node, value: mf.Array) -> None:
        """Show an operation's result, or the value of a leaf."""
        if not self._shows("forward", graph, node):
            return
        if node.__operation__ is not None:
            width = _longest([*_input_labels(graph, node), "->"])
            self._row("->", width, value, style=RESULT)
        else:
            self._leaf(graph, node, value)

    @mf.hookimpl
    def mf_run_finish(self) -> None:
        """Forget the pass, should none of its nodes have been shown."""
        self._printer.withdraw(PASS)

    # Backward

    @mf.hookimpl
    def mf_backward_start(
        self,
        graph: mf.Graph,
        node: mf.Node,
        received: Sequence[tuple[mf.Node | None, mf.Array]],
        grad: mf.Array,
    ) -> None:
        """Show what each consumer sent to a node, and the total."""
        if any(sender is None for sender, _ in received):
            start = f"  from {graph.name(node)}"
            self._printer.announce(PASS, [("backward", HEADING), (start, PLAIN)])
        if not self._shows("backward", graph, node):
            return
        self._printer.block([("  ", PLAIN), *_description(graph, node)])
        senders = [None if sender is None else graph.name(sender) for sender, _ in received]
        width = self._width = _backward_width(graph, node, senders)
        for sender, (_, gradient) in zip(senders, received, strict=True):
            self._row(_received_from(sender), width, gradient)
        if len(received) > 1:
            self._row("total", width, grad, style=RESULT)
        else:
            self._row("total", width, "the same")

    @mf.hookimpl
    def mf_backward_finish(
        self, graph: mf.Graph, node: mf.Node, sent: Mapping[str, mf.Array | None]
    ) -> None:
        """Show what an operation sent to each of its inputs."""
        if self._shows("backward", graph, node):
            for label, gradient in zip(_input_labels(graph, node), sent.values(), strict=True):
                what = "nothing" if gradient is None else gradient
                self._row(f"sent to {label}", self._width, what)

    # Training

    @mf.hookimpl
    def mf_epoch_start(self, epoch: int) -> None:
        """Announce an epoch."""
        if "training" in self._phases:
            self._printer.announce(EPOCH, [(f"=== epoch {epoch} ===", HEADING)])

    @mf.hookimpl
    def mf_step_start(self, step: int) -> None:
        """Announce a training step."""
        self._step = step
        if "training" in self._phases:
            self._printer.announce(STEP, [(f"--- step {step} ---", HEADING)])

    @mf.hookimpl
    def mf_step_finish(self, session: mf.Session, step: int, loss: float) -> None:
        """Show the updated parameters and the loss, or the loss alone if nothing else is shown."""
        shown, self._step = self._in_shown_step(), None
        if "training" not in self._phases or not shown:
            self._printer.withdraw(STEP)
            return
        text = f"  loss {format_array(loss, precision=self._precision)}"
        line: Line = [(f"step {step}", HEADING), (text, RESULT)]
        if self._printer.withdraw(STEP):
            self._printer.line(line)
            return
        graph = session.graph
        parameters = [node for node in graph.parameters if self._matches(graph, node)]
        self._printer.announce(PASS, [("update", HEADING)])
        self._align_leaves(graph, parameters)
        for node in parameters:
            self._leaf(graph, node, session[node])
        self._printer.withdraw(PASS)
        self._printer.block(line)

    @mf.hookimpl
    def mf_epoch_finish(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Show what was measured in an epoch, if anything of the epoch was shown."""
        if "training" in self._phases and not self._printer.withdraw(EPOCH):
            numbers = ", ".join(
                f"{name.replace('_', ' ')} {format_array(value, precision=self._precision)}"
                for name, value in logs.items()
            )
            self._printer.block([(f"epoch {epoch}", HEADING), (f"  {numbers}", RESULT)])

    # What is shown, and how

    def _matches(self, graph: mf.Graph, node: mf.Node) -> bool:
        if self._operations is not None and not is_one_of(node, self._operations):
            return False
        if self._patterns is None:
            return True
        name = graph.name(node)
        return any(fnmatchcase(name, pattern) for pattern in self._patterns)

    def _note_names(self, graph: mf.Graph) -> None:
        """Find which patterns fit no node at all; those not shown for another reason count."""
        self._saw_graphs = True
        self._unmatched = {
            pattern
            for pattern in self._unmatched
            if not any(fnmatchcase(name, pattern) for name in graph.names[1])
        }

    def _in_shown_step(self) -> bool:
        return self._steps is None or (self._step is not None and self._step in self._steps)

    def _shows(self, phase: str, graph: mf.Graph, node: mf.Node) -> bool:
        return phase in self._phases and self._in_shown_step() and self._matches(graph, node)

    def _text(self, value: object) -> str:
        return format_array(value, limit=self._limit, precision=self._precision)

    def _row(self, label: str, width: int, value: object, *, style: str = PLAIN) -> None:
        """Print a labelled value of a block; a string is a remark that stands for one."""
        text, style = (value, FAINT) if isinstance(value, str) else (self._text(value), style)
        self._printer.labelled([(f"      {label:{width}}  ", FAINT)], text, style)

    def _align_leaves(self, graph: mf.Graph, leaves: Sequence[mf.Node]) -> None:
        """Find the widths that ``_leaf`` needs for those leaves that will be shown."""
        shown = [leaf for leaf in leaves if self._matches(graph, leaf)]
        names = _longest(graph.name(leaf) for leaf in shown)
        self._leaf_widths = names, _longest(type(leaf).__name__ for leaf in shown)

    def _leaf(self, graph: mf.Graph, node: mf.Node, value: object) -> None:
        """Print a leaf and its value on a line of its own."""
        names, kinds = self._leaf_widths
        head = [
            (f"  {graph.name(node):{names}}  ", NODE),
            (f"{type(node).__name__:{kinds}}  ", OPERATION),
        ]
        self._printer.labelled(head, self._text(value), PLAIN)


# Words for nodes


def _description(graph: mf.Graph, node: mf.Node) -> Line:
    """Return a node as the line that could have built it: ``linear_1 = Linear(X, W, b)``."""
    name, kind = graph.name(node), type(node).__name__
    if node.__operation__ is None:
        return [(name, NODE), ("  ", PLAIN), (kind, OPERATION)]
    arguments = [listed([graph.name(source) for source in node.inputs], MOST_NAMES)]
    operation: Any = type(node)
    for field, default in defaults_of(operation).items():
        value = getattr(node, field)
        if repr(value) != default:
            arguments.append(f"{field}={reprlib.repr(value)}")
    signature = f"({', '.join(filter(None, arguments))})"
    return [(name, NODE), (" = ", PLAIN), (kind, OPERATION), (signature, PLAIN)]


def _input_labels(graph: mf.Graph, node: mf.Node) -> list[str]:
    """Return, for each input, its node's name and, where it says more, the field's."""
    spec = mf.spec_of(node)
    names = [graph.name(source) for source in node.inputs]
    if spec.variadic and len(spec.inputs) == 1 and len(set(names)) == len(names):
        return names  # terms[0], terms[1] would tell nothing
    fields = spec.input_names(len(names))
    return [name if name == field else f"{name} ({field})" for name, field in zip(names, fields)]


def _received_from(sender: str | None) -> str:
    return "received as seed" if sender is None else f"received from {sender}"


def _backward_width(graph: mf.Graph, node: mf.Node, senders: Iterable[str | None]) -> int:
    labels = [_received_from(sender) for sender in senders]
    if node.__operation__ is not None:
        labels += [f"sent to {label}" for label in _input_labels(graph, node)]
    return _longest(labels)


def _longest(texts: Iterable[str]) -> int:
    return max(map(len, texts), default=0)


def _outputs(graph: mf.Graph) -> str:
    return listed([graph.name(node) for node in graph.outputs], MOST_NAMES)


# Options


def _whole_number(option: str, value: object, *, at_least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise TracerOptionError(
            f"{option} must be a whole number of at least {at_least}, not {value!r}"
        )
    return value


def _valid_patterns(nodes: object) -> tuple[str, ...]:
    patterns = _several(nodes)
    if wrong := [pattern for pattern in patterns if not isinstance(pattern, str)]:
        raise TracerOptionError(
            f"nodes must be names or patterns such as 'linear_*', not {type_name(wrong[0])} "
            f"{wrong[0]!r}"
        )
    return patterns


def _valid_operations(operations: object) -> tuple[Any, ...]:
    chosen = _several(operations)
    if wrong := [cls for cls in chosen if not isinstance(cls, (str, type))]:
        raise TracerOptionError(
            f"operations must be names such as 'Linear' or classes, not {type_name(wrong[0])} "
            f"{wrong[0]!r}"
        )
    return chosen


def _several(value: Any) -> tuple[Any, ...]:
    """Return the elements of a collection; all else, a string too, stands for itself."""
    is_collection = isinstance(value, Iterable) and not isinstance(value, (str, mf.Node))
    return tuple(value) if is_collection else (value,)
