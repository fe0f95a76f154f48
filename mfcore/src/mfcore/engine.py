"""What an engine is: it makes a graph ready to run, and runs it. ``reference.py`` is one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from mfcore.graph import Graph
from mfcore.node import Array

if TYPE_CHECKING:
    from mfcore.plugins import Observers
    from mfcore.run import Run

Memory: TypeAlias = list[Any]
"""What one run knows: the values of its nodes, and whatever else its program keeps there."""


class Engine(ABC):
    """What executes a graph. A pack provides one by the hook ``mf_engines``."""

    name: ClassVar[str]

    @abstractmethod
    def compile(self, graph: Graph) -> Program:
        """Return a program that runs the graph for one session. What a run knows is not in it."""


class Program(ABC):
    """A graph made ready to run."""

    graph: Graph

    @abstractmethod
    def new_memory(self, rng: np.random.Generator | None, training: bool) -> Memory:
        """Return the memory of one run. The first ``len(graph)`` slots are the nodes' values."""

    @abstractmethod
    def forward(self, memory: Memory) -> None:
        """Compute the value of every operation, leaves being filled in."""

    @abstractmethod
    def backward(self, memory: Memory, of: int, wrt: Iterable[int], seed: Array) -> Memory:
        """Compute gradients of node ``of``; return a memory from which ``gradients`` reads them."""

    @abstractmethod
    def gradients(self, memory: Memory, positions: Iterable[int]) -> list[Array | None]:
        """Return the gradients that a backward pass left for nodes; ``None`` if none reached it."""

    @abstractmethod
    def forward_observed(self, memory: Memory, observers: Observers, run: Run) -> None:
        """As ``forward``, telling observers about every node."""

    @abstractmethod
    def backward_observed(
        self,
        memory: Memory,
        of: int,
        wrt: Iterable[int],
        seed: Array,
        observers: Observers,
        run: Run,
    ) -> Memory:
        """As ``backward``, telling observers about every node."""
