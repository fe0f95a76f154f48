"""Explaining a gradient: the ledger of what each consumer of a node sent to it, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

import mfcore as mf
from mfcore.errors import GradientError
from mfcore.node import Constant, Node
from mfcore.plugins import Observer, Observers
from mfcore.run import Run, gradient_of_itself, read_only
from mfcore.values import float_dtype
from mftrace.application import Application, ApplicationError, inputs_of
from mftrace.derivative import Derivative, derivative, meaning
from mftrace.guard_report import Checks

SHOWN = 12
"""Nodes, and factors of a product, that are shown before the middle is folded."""

_MANY = 2000
"""Operations beyond which a backward is not read with what it was given, which takes longer."""


@attrs.frozen(eq=False)
class Contribution:
    """What one consumer sent to a node: one line of the ledger.

    Attributes
    ----------
    sender : str
        Name of the consumer; empty for the seed, from which the backward pass starts.
    field : str
        What the consumer calls the node, such as ``"W"``.
    derivative : Derivative
        How it was computed, in symbols.
    gradient : array
        What was sent, in the shape of the node.
    sum_of : tuple of int or None
        The shape that it was summed from, where the node was broadcast.
    axes : tuple of int
        The axes that were summed over.
    """

    sender: str
    field: str
    derivative: Derivative
    gradient: mf.Array
    sum_of: tuple[int, ...] | None = None
    axes: tuple[int, ...] = ()


@attrs.frozen(eq=False)
class Account:
    """The gradient of one node, and what it was made of.

    Attributes
    ----------
    name : str
        The node's name.
    operation : str
        The name of its operation, or of the kind of leaf that it is.
    inputs : tuple of (str, str)
        What it reads: names of fields and of nodes.
    meaning : str
        What the operation is, in the words of its docstring; empty for a leaf.
    site : tuple of str and int
        File and line where it was built.
    contributions : tuple of Contribution
        What was sent to it, in the order in which it was added up.
    gradient : array
        The sum.
    """

    name: str
    operation: str
    inputs: tuple[tuple[str, str], ...]
    meaning: str
    site: tuple[str, int]
    contributions: tuple[Contribution, ...]
    gradient: mf.Array

    @property
    def sums(self) -> list[mf.Array]:
        """The sum so far after each contribution; the last is the gradient."""
        total: Any = None
        sums = []
        for contribution in self.contributions:
            sent = contribution.gradient
            total = sent if total is None else total + sent
            sums.append(read_only(total))
        return sums


@attrs.frozen(eq=False)
class Ledger:
    """How a gradient came about, from the cost back to a node.

    As text, by ``print``, it is the chain rule and the account of each node on the way;
    notebooks show it as HTML.

    Attributes
    ----------
    of, node : str
        Names of the node that was differentiated, and of the one whose gradient it is.
    accounts : tuple of Account
        The nodes that the gradient passed, from ``of`` to ``node``; empty where none reaches.
    gradient : array
        The gradient of ``node``; zeros where none reaches it.
    reason : str
        Why no gradient reaches the node; empty where one does.
    note : str
        How the engine that ran may differ; empty for the reference engine.
    """

    of: str
    node: str
    accounts: tuple[Account, ...]
    gradient: mf.Array
    reason: str = ""
    note: str = ""

    @property
    def contributions(self) -> tuple[Contribution, ...]:
        """What the consumers of the node sent to it; their sum is the gradient."""
        return self.accounts[-1].contributions if self.accounts else ()

    def text(self, shown: int | None = SHOWN) -> str:
        """Return the ledger as text, folded in the middle beyond ``shown`` nodes."""
        from mftrace.ledger_text import ledger_text

        return ledger_text(self, shown)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        count = len(self.contributions)
        return f"<Ledger of d {self.of}/d {self.node}: {count} contributions>"

    def _repr_html_(self) -> str:
        """Return the ledger for notebooks."""
        from mftrace.ledger_html import ledger_html

        return ledger_html(self, SHOWN)


def explain(
    run: Run, node: Node | str, *, of: Node | str | None = None, grad: Any = None
) -> Ledger:
    """Return how a node's gradient came about: who sent what, and why.

    The backward pass is done again on the reference engine, whatever engine ran.

    Parameters
    ----------
    run : Run
        A run of a graph.
    node : Node or str
        A parameter, an input, or any other node of the graph; or its name.
    of : Node or str, optional
        The node to differentiate; by default that of ``run.gradients``.
    grad : array_like, optional
        Gradient of ``of`` itself; by default that of ``run.gradients``, 1 for a scalar.

    Returns
    -------
    Ledger
        ``print`` it, or let a notebook show it.

    Raises
    ------
    UnknownNodeError
        If the graph does not have a node.
    GradientError
        If the node is a constant, or ``of`` is no scalar and no ``grad`` is given.
    NotDifferentiableError
        If the gradient has to pass an operation without ``backward``.

    Examples
    --------
    >>> import mfcore as mf
    >>> x, y = mf.Input("x"), mf.Input("y")
    >>> run = mf.Session(x * y + x).run({x: 3.0, y: 4.0})
    >>> ledger = explain(run, x)
    >>> [(c.sender, float(c.gradient)) for c in ledger.contributions], float(ledger.gradient)
    ([('add_1', 1.0), ('mul_1', 4.0)], 5.0)
    """
    session = run.session
    graph = session.graph
    target = graph[node] if isinstance(node, str) else node
    position = graph.position(target)
    if isinstance(target, Constant):
        raise GradientError(
            f"{graph.describe(target)} is a constant; make it an Input or a Parameter to get "
            f"its gradient"
        )
    done = run.computed_gradients
    if of is None and done is not None:
        place = graph.position(done.of)
        seed = done.seed if grad is None else None
    else:
        place = session.output_position(graph[of] if isinstance(of, str) else of)
        seed = None
    if seed is None:
        seed = gradient_of_itself(graph, place, run[graph.nodes[place]], grad)
    listener = _Listener()
    session.program.backward_observed(
        run.memory, place, (position,), seed, Observers([Observer(listener, "explain")]), run
    )
    source = graph.nodes[place]
    accounts = tuple(_accounts(run, listener, source, target))
    if not accounts:
        value = run[target]
        zeros = np.zeros(value.shape, float_dtype(value.dtype))
        reason = _why_nothing(graph, listener, source, target)
        return Ledger(graph.name(source), graph.name(target), (), read_only(zeros), reason)
    return Ledger(
        graph.name(source),
        graph.name(target),
        accounts,
        accounts[-1].gradient,
        note=_note(run, target, source, accounts[-1].gradient),
    )


class _Listener:
    """Keeps what a backward pass tells, in order."""

    def __init__(self) -> None:
        self.totals: dict[Node, mf.Array] = {}
        self.sent: dict[Node, Mapping[str, mf.Array | None]] = {}
        self.seed: Any = None

    @mf.hookimpl
    def mf_backward_start(
        self, node: Node, received: Sequence[tuple[Node | None, mf.Array]], grad: mf.Array
    ) -> None:
        if not self.totals:
            self.seed = received[0][1]
        self.totals[node] = grad

    @mf.hookimpl
    def mf_backward_finish(self, node: Node, sent: Mapping[str, mf.Array | None]) -> None:
        self.sent[node] = sent


def _accounts(run: Run, heard: _Listener, source: Node, target: Node) -> Iterable[Account]:
    """Yield the accounts of all nodes that the gradient passed, if it reached the target."""
    if target not in heard.totals:
        return
    graph = run.session.graph
    received: dict[Node, list[Contribution]] = {node: [] for node in heard.totals}
    received[source].append(Contribution("", "", Derivative(), read_only(heard.seed)))
    for sender, sent in heard.sent.items():
        _note_sent(run, heard, sender, sent, received)
    useful = _leading_to(heard, target)
    for node, total in heard.totals.items():
        if node in useful:
            spec = node.__operation__
            names = spec.input_names(len(node.inputs)) if spec else ()
            yield Account(
                name=graph.name(node),
                operation=type(node).__name__,
                inputs=tuple(zip(names, map(graph.name, node.inputs), strict=True)),
                meaning=meaning(type(node)) if spec else "",
                site=node.site,
                contributions=tuple(received[node]),
                gradient=read_only(total),
            )


def _note_sent(
    run: Run,
    heard: _Listener,
    sender: Node,
    sent: Mapping[str, mf.Array | None],
    received: dict[Node, list[Contribution]],
) -> None:
    """Enter what one node sent to its inputs."""
    graph = run.session.graph
    many = len(heard.sent) > _MANY
    given, whole = (None, None) if many else _again(run, heard, sender, sent)
    for k, (field, gradient) in enumerate(sent.items()):
        node = sender.inputs[k]
        if gradient is None or node not in received:
            continue
        shape: tuple[int, ...] | None = None
        axes: tuple[int, ...] = ()
        raw = whole[k] if whole is not None else None
        if raw is not None and np.shape(raw) != np.shape(gradient):
            shape, axes = np.shape(raw), _summed(np.shape(raw), np.shape(gradient))
        how = derivative(type(sender), k, given)
        received[node].append(
            Contribution(graph.name(sender), field, how, read_only(gradient), shape, axes)
        )


def _again(
    run: Run, heard: _Listener, node: Node, sent: Mapping[str, mf.Array | None]
) -> tuple[dict[str, Any] | None, Sequence[Any] | None]:
    """Return what a node's ``backward`` got, and what it returned before anything was summed.

    ``None`` for both where that cannot be known without running the whole graph again.
    """
    spec = mf.spec_of(node)
    asks = {*spec.forward_asks, *spec.backward_asks}
    if not asks.isdisjoint({"rng", "training", "saved_of_result"}):
        return None, None
    application = Application(
        operation=type(node),
        node=run.session.graph.name(node),
        pack="",
        site=node.site,
        phase="backward",
        hyperparameters={name: getattr(node, name) for name in spec.hyperparameters},
        inputs=inputs_of(run, node),
        sources=(),
        checks=Checks(),
        grad=heard.totals[node],
        value=run[node],
        wanted=tuple(gradient is not None for gradient in sent.values()),
    )
    try:
        given = application.given_backward()
        if not spec.broadcasts:
            return given, None
        with np.errstate(all="ignore"):
            returned = spec.call_backward(given)
        return given, returned if isinstance(returned, (tuple, list)) else (returned,)
    except (ApplicationError, ArithmeticError, ValueError):
        return None, None


def _summed(shape: tuple[int, ...], to: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes over which a gradient was summed to a node's shape."""
    added = len(shape) - len(to)
    stretched = (added + a for a, n in enumerate(to) if n != shape[added + a])
    return (*range(added), *stretched)


def _leading_to(heard: _Listener, target: Node) -> set[Node]:
    """Return the nodes through which a gradient came to the target."""
    useful = {target}
    for node in reversed(heard.totals):  # from the target's end to the cost
        sent = heard.sent.get(node)
        if sent is not None and any(
            gradient is not None and source in useful
            for source, gradient in zip(node.inputs, sent.values(), strict=True)
        ):
            useful.add(node)
    return useful


def _why_nothing(graph: mf.Graph, heard: _Listener, source: Node, target: Node) -> str:
    """Say why no gradient reaches a node."""
    of, name = graph.name(source), graph.name(target)
    depends = {target}
    for node in graph:
        if not depends.isdisjoint(node.inputs):
            depends.add(node)
    if source not in depends:
        return f"{of} does not depend on {name}"
    stops = [
        f"{graph.name(node)} ({type(node).__name__}) passes none to {field}"
        for node, sent in heard.sent.items()
        for field, (input_, gradient) in zip(
            sent, zip(node.inputs, sent.values(), strict=True), strict=True
        )
        if gradient is None and input_ in depends
    ]
    shown = stops[:SHOWN] + ([f"{len(stops) - SHOWN} more"] if len(stops) > SHOWN else [])
    return f"{of} depends on {name}, but no gradient gets there: {'; '.join(shown)}"


def _note(run: Run, target: Node, source: Node, gradient: mf.Array) -> str:
    """Say which engine ran, and how far its gradient is from this one, where it has one."""
    if run.session.program.observable or run.engine == "reference":
        return ""
    done = run.computed_gradients
    text = f"{run.engine} ran it; this is the reference engine's account"
    if done is None or done.of is not source or target not in tuple(done):
        return f"{text}."
    theirs, ours = np.asarray(done[target]), np.asarray(gradient)
    if np.array_equal(theirs, ours, equal_nan=True):
        return f"{text}, of the same gradient to the last bit."
    with np.errstate(all="ignore"):
        difference = float(np.max(np.nan_to_num(np.abs(theirs - ours), nan=0.0, posinf=np.inf)))
    return f"{text}, of a gradient that differs by {difference:.3g} at most."
