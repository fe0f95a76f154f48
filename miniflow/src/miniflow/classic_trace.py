"""What the flags ``DEBUG`` and ``T_DEBUG`` of the classic API print."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcore.graph import snake_case

if TYPE_CHECKING:
    from miniflow.classic_nodes import Node

_FLAG_PLACES = ("miniflow", "miniflow.classic")


class Trace:
    """Prints one sort or pass if its flag is set; does nothing otherwise.

    The flag counts if it is set in ``miniflow``, in ``miniflow.classic``, or among the
    globals of the code that called the sort or pass, as after ``from miniflow import *``.
    Nodes are called by their name, else by the caller's variable, else by kind and number.
    """

    def __init__(self, caller: FrameType, flag: str, nodes: Iterable[Node]) -> None:
        places = [vars(sys.modules[m]) for m in _FLAG_PLACES if m in sys.modules]
        self.on = any(place.get(flag) for place in (caller.f_globals, *places))
        self._names: dict[Node, str] = {}
        if not self.on:
            return
        variables: dict[int, str] = {}
        for name, value in (*caller.f_locals.items(), *caller.f_globals.items()):
            if not name.startswith("_"):
                variables.setdefault(id(value), name)
        counts: Counter[str] = Counter()
        known = {m for n in nodes for m in (n, *n.inbound_nodes, *n.outbound_nodes)}
        for node in sorted(known, key=lambda n: n._birth):
            kind = snake_case(type(node).__name__.lstrip("_"))
            counts[kind] += 1
            self._names[node] = node.name or variables.get(id(node), f"{kind}_{counts[kind]}")

    def sort_start(self, found: int, fed: int) -> None:
        """Print how many nodes are sorted."""
        if self.on:
            print(f"sort: {found} nodes, {fed} of them fed")

    def pop(self, node: Node) -> None:
        """Print that a node has nothing left to wait for."""
        if self.on:
            print(f"  pop {self._names[node]}")

    def remove_edge(self, source: Node, target: Node, remaining: int) -> None:
        """Print that a node waits for one input less."""
        if self.on:
            names = f"{self._names[source]} -> {self._names[target]}"
            print(f"    remove edge {names}, {remaining} left")

    def forward(self, node: Node) -> None:
        """Print a node's inputs by name, and its value."""
        if not self.on:
            return
        print(f"forward {self._names[node]}: {type(node).__name__}")
        for source in dict.fromkeys(node.inbound_nodes):
            _show(f"  {self._names[source]} = ", source.value)
        _show("  value = ", node.value)

    def backward(self, node: Node) -> None:
        """Print the gradients that a node received, their total, and those that it sent."""
        if not self.on:
            return
        print(f"backward {self._names[node]}: {type(node).__name__}")
        received = {n: n.gradients[node] for n in node.outbound_nodes if node in n.gradients}
        for consumer, gradient in received.items():
            _show(f"  from {self._names[consumer]}: ", gradient)
        if received:
            _show("  total: ", sum(np.asarray(gradient) for gradient in received.values()))
        for source in dict.fromkeys(node.inbound_nodes):
            if source in node.gradients:
                _show(f"  to {self._names[source]}: ", node.gradients[source])


def _show(label: str, value: Any) -> None:
    from mftrace.format import format_array

    print(label + format_array(value).replace("\n", "\n" + " " * len(label)))
