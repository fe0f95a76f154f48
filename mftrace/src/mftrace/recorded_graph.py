"""The graphs of a recording: what their nodes were, without the operations themselves."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class RecordedOperation:
    """An operation that a recorded graph uses.

    Attributes
    ----------
    name : str
        The class's name, ``Linear``.
    pack : str
        Who provides it, ``mfops_nn``.
    summary : str
        The first line of its documentation.
    forward, backward : str
        The source text of its functions, ``""`` where it is not known.
    """

    name: str
    pack: str
    summary: str
    forward: str
    backward: str

    @property
    def qualified_name(self) -> str:
        """``mfops_nn.Linear``."""
        return f"{self.pack}.{self.name}"


@attrs.frozen(eq=False)
class RecordedNode:
    """A node of a recorded graph.

    Attributes
    ----------
    position : int
        Its place in the graph's order, from 0.
    name : str
        Its name in the graph; any text at all.
    kind : str
        ``"input"``, ``"parameter"``, ``"constant"`` or ``"operation"``.
    operation : RecordedOperation
        What it applies; of a leaf, the leaf's class with empty texts.
    inputs : tuple of int
        Positions of the nodes that it reads, in order.
    fields : tuple of str
        The operation's names for these inputs.
    hyperparameters : dict of str to str
        Python's way to write each value, shortened.
    file, line : str, int
        Where it was built.
    """

    position: int
    name: str
    kind: str
    operation: RecordedOperation
    inputs: tuple[int, ...]
    fields: tuple[str, ...]
    hyperparameters: Mapping[str, str]
    file: str
    line: int


@attrs.frozen(eq=False)
class RecordedGraph:
    """A recorded graph.

    Attributes
    ----------
    index : int
        Its place among the recording's graphs.
    nodes : tuple of RecordedNode
        In topological order.
    outputs : tuple of int
        Positions of its outputs.
    """

    index: int
    nodes: tuple[RecordedNode, ...]
    outputs: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, name: str) -> RecordedNode:
        """Return the node of a name.

        Raises
        ------
        KeyError
            If there is none.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f"the recorded graph has no node {name!r}")
