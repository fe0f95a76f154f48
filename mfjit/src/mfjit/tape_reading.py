"""Graphs of scalars, read: which template of a few instructions each node is.

Operations are read once for each way in which they are applied (class, hyperparameters,
kinds of inputs), not once for each node, so that a graph of a million nodes costs a handful of
readings.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

from mfcore import Graph, Node
from mfcore.node import Constant
from mfcore.operation import spec_of
from mfjit.errors import CannotLower
from mfjit.tape_templates import FIRST_CONSTANT, FLOAT, TRUTH, Dtype, Template, read_template

Integers: TypeAlias = NDArray[np.signedinteger[Any]]

MOST_ROUNDS = 64
"""How often truth values may turn out to make more truth values."""


@attrs.frozen(eq=False)
class Scalars:
    """A graph of scalars, read.

    Attributes
    ----------
    dtype : dtype
        Of all its numbers.
    edges, starts : array of int
        The inputs of node ``i`` are ``edges[starts[i]:starts[i + 1]]``.
    templates : list of Template
        What there is.
    template : (n,) array of int
        Which of them each node is; -1 for leaves.
    leaves : array of int
        Positions of the inputs, then of the parameters, then of the constants.
    """

    dtype: Dtype
    edges: Integers
    starts: Integers
    templates: list[Template]
    template: Integers
    leaves: Integers


def read_scalars(graph: Graph, dtype: Dtype) -> Scalars:
    """Read a graph whose inputs and parameters are single floats of one dtype.

    Raises
    ------
    CannotLower
        If an operation does to single numbers what is not a few elementwise instructions.
    """
    return _Reading(graph, dtype).result()


class _Reading:
    """The reading of a graph: ways of application found, and read, until nothing changes."""

    def __init__(self, graph: Graph, dtype: Dtype) -> None:
        self.graph = graph
        self.dtype = dtype
        count = len(graph)
        arity = np.fromiter(map(len, graph.sources), np.int64, count)
        starts = np.concatenate([[0], np.cumsum(arity)])
        self.starts: Integers = starts.astype(np.int32)
        self.edges: Integers = np.fromiter(
            chain.from_iterable(graph.sources), np.int32, int(starts[-1])
        )
        self.kinds = np.zeros(count, np.int32)
        self.template: Integers = np.full(count, -1, np.int32)
        self.templates: list[Template] = []
        self._numbers: dict[Any, int] = {}
        self._failures: dict[int, tuple[int, Exception]] = {}

    def result(self) -> Scalars:
        self._read_constants()
        applications = self._applications()
        for _ in range(MOST_ROUNDS):
            before = self.kinds.copy()
            for number, (arity, positions) in enumerate(applications):
                self._read_application(number, arity, positions)
            if np.array_equal(before, self.kinds):
                break
        else:
            raise CannotLower("kinds of values depend on each other in too many steps")
        for failed, (position, error) in self._failures.items():
            if np.any(self.template == failed):
                described = self.graph.describe(self.graph.nodes[position])
                raise CannotLower(f"{described} cannot run on a tape: {error}") from error
        graph = self.graph
        leaves = [graph.position(node) for node in (*graph.inputs, *graph.parameters)]
        leaves += np.flatnonzero(self.kinds >= FIRST_CONSTANT).tolist()
        return Scalars(
            self.dtype,
            self.edges,
            self.starts,
            self.templates,
            self.template,
            np.array(leaves, np.int32),
        )

    def _read_constants(self) -> None:
        known: dict[Any, int] = {}
        for position, node in enumerate(self.graph.nodes):
            if isinstance(node, Constant):
                if np.ndim(node.value):
                    raise CannotLower(f"{self.graph.describe(node)} is no scalar")
                kind = _constant_kind(node.value)
                self.kinds[position] = known.setdefault(kind, FIRST_CONSTANT + len(known))

    def _applications(self) -> list[tuple[int, Integers]]:
        """Group the operations: number of inputs, and positions, of what is applied alike."""
        nodes = self.graph.nodes
        classes: dict[type[Node], int] = {
            cls: i for i, cls in enumerate(dict.fromkeys(map(type, nodes)))
        }
        number = np.fromiter(map(classes.__getitem__, map(type, nodes)), np.int64, len(nodes))
        given = np.zeros(len(nodes), np.int64)
        for cls, i in classes.items():
            spec = cls.__operation__
            if spec is None:
                continue
            asked = {"rng", "training"} & {*spec.forward_asks, *spec.backward_asks}
            if asked:
                raise CannotLower(f"{spec.name} asks for {', '.join(sorted(asked))}")
            if spec.hyperparameters:
                positions = np.flatnonzero(number == i)
                given[positions] = _numbered([nodes[k] for k in positions.tolist()])
        # One number for class, hyperparameters and number of inputs.
        arity = np.diff(self.starts)
        number = number * (given.max(initial=0) + 1) + given
        number = number * (arity.max(initial=0) + 1) + arity
        _, first, which = np.unique(number, return_index=True, return_inverse=True)
        order = np.argsort(which, kind="stable")
        bounds = np.searchsorted(which[order], np.arange(len(first) + 1))
        return [
            (int(arity[k]), order[bounds[i] : bounds[i + 1]])
            for i, k in enumerate(first.tolist())
            if nodes[k].__operation__ is not None
        ]

    def _read_application(self, number: int, arity: int, positions: Integers) -> None:
        kinds = self.kinds[self.edges[self.starts[positions][:, None] + np.arange(arity)]]
        if not kinds.any():
            rows, which = kinds[:1], np.zeros(len(positions), np.int64)
        else:
            rows, which = np.unique(kinds, axis=0, return_inverse=True)
            which = which.reshape(-1)
        for i, row in enumerate(rows.tolist()):
            members = positions[which == i] if len(rows) > 1 else positions
            if FLOAT in row or max(row) < FIRST_CONSTANT:
                self._assign((number, *row), row, members)
                continue
            for position in members.tolist():  # of nothing but constants: by their values
                constants = [
                    repr(node.value)
                    for node in self._inputs(position)
                    if isinstance(node, Constant)
                ]
                self._assign((number, *row, *constants), row, np.array([position]))

    def _assign(self, key: Any, row: list[int], members: Integers) -> None:
        if key not in self._numbers:
            self._numbers[key] = len(self.templates)
            position = int(members[0])
            try:
                template = read_template(
                    self.graph.nodes[position], self._inputs(position), row, self.dtype
                )
            except Exception as error:
                self._failures[len(self.templates)] = position, error
                template = Template((), (), (), truth=False, differentiable=False)
            self.templates.append(template)
        found = self._numbers[key]
        self.template[members] = found
        self.kinds[members] = TRUTH if self.templates[found].truth else FLOAT

    def _inputs(self, position: int) -> list[Node]:
        return [self.graph.nodes[i] for i in self.graph.sources[position]]


def _constant_kind(value: Any) -> Any:
    return type(value) if isinstance(value, (bool, int, float)) else np.asarray(value).dtype


def _numbered(nodes: Sequence[Node]) -> list[int]:
    """Number nodes of a class by their hyperparameters."""
    names = spec_of(nodes[0]).hyperparameters
    known: dict[Any, int] = {}
    numbers = []
    for node in nodes:
        values = [getattr(node, name) for name in names]
        key = (*values, *map(type, values))  # 2 and 2.0 are equal, but not alike
        try:
            numbers.append(known.setdefault(key, len(known)))
        except TypeError as error:
            raise CannotLower(f"hyperparameters cannot be compared: {error}") from error
    return numbers


def scalar_dtype(graph: Graph) -> Dtype | None:
    """Return the dtype of a graph's parameters and declared inputs; float64 if none says.

    ``None`` where they are no single floats of one dtype.
    """
    dtypes: set[Dtype] = set()
    for parameter in graph.parameters:
        if parameter.value.shape:
            return None
        dtypes.add(parameter.value.dtype)
    for leaf in graph.inputs:
        if leaf.shape:
            return None
        if leaf.dtype is not None:
            dtypes.add(leaf.dtype)
    if len(dtypes) > 1 or not (graph.parameters or graph.inputs):
        return None
    dtype = dtypes.pop() if dtypes else np.dtype(np.float64)
    return dtype if dtype in (np.float32, np.float64) else None
