"""What a run computed, as a picture shows it: values, and what went back along each edge."""

from __future__ import annotations

from typing import Any

import mfcore as mf
from mfcore.plugins import Observer, Observers
from mftrace.draw import words


class Results:
    """The values of a run, and its gradients if it computed any; nothing without a run.

    Gradients are those of the run's last ``backward``, for the nodes that it was asked for
    and all between. A run keeps their sums only: that backward pass is gone through once
    more, unheard by tracers, to see what each edge carried.
    """

    def __init__(self, graph: mf.Graph, run: mf.Run | None) -> None:
        self._graph = graph
        self._run = run
        self._sent: dict[int, list[tuple[int, Any]]] = {}
        self._total: dict[int, Any] = {}
        if run is not None and run.computed_gradients is not None:
            self._watch(run, run.computed_gradients)

    def __bool__(self) -> bool:
        return self._run is not None

    def _watch(self, run: mf.Run, gradients: mf.Gradients) -> None:
        watcher = _Watcher(self._graph, self._sent, self._total)
        of = self._graph.position(gradients.of)
        wrt = [self._graph.position(node) for node in gradients]
        observers = Observers([Observer(watcher, "of a drawing")])
        run.session.program.backward_observed(run.memory, of, wrt, gradients.seed, observers, run)

    def value(self, position: int) -> Any:
        """Return a node's value; ``None`` without a run."""
        return None if self._run is None else self._run[self._graph.nodes[position]]

    def gradient(self, position: int) -> Any:
        """Return a node's gradient, ``None`` where none was computed."""
        return self._total.get(position)

    def label(self, position: int) -> list[str]:
        """Return the lines beside the edges that leave a node."""
        node = self._graph.nodes[position]
        value = self.value(position)
        lines = [words.declared_type(node)] if value is None else words.value_lines(value)
        total = self._total.get(position)
        sent = self._sent.get(position, [])
        if len(sent) > 1:
            for reader, gradient in sent[:3]:
                name = words.short(self._graph.name(self._graph.nodes[reader]), 16)
                lines.append(f"grad from {name} {words.gradient_text(gradient)}")
            if len(sent) > 3:
                lines.append(f"and from {len(sent) - 3} more")
            lines.append(f"grad total {words.gradient_text(total)}")
        elif total is not None:
            lines.append(f"grad {words.gradient_text(total)}")
        return [words.short(line, 2 * words.LABEL) for line in lines if line]


class _Watcher:
    """Notes what each node received."""

    def __init__(
        self, graph: mf.Graph, sent: dict[int, list[tuple[int, Any]]], total: dict[int, Any]
    ) -> None:
        self._graph, self._sent, self._total = graph, sent, total

    @mf.hookimpl
    def mf_backward_start(
        self, node: mf.Node, received: tuple[tuple[mf.Node | None, Any], ...], grad: Any
    ) -> None:
        """Note what a node received, from whom, and the sum."""
        position = self._graph.position(node)
        self._total[position] = grad
        self._sent[position] = [
            (self._graph.position(sender), gradient)
            for sender, gradient in received
            if sender is not None
        ]
