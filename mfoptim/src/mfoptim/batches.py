"""From data to the feeds of training steps: checks once, before training, then batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from mfcore import Array, Graph, Input
from mfcore.errors import DataError, NodeUseError, type_name
from mfcore.values import as_array

Sampling = Literal["shuffle", "resample"]

CHUNK_BYTES = 1 << 18
"""Rows are gathered for as many steps at once as fit here: fewer calls, still in the cache."""


def checked_data(graph: Graph, data: Any, what: str = "data") -> dict[Input, Array]:
    """Return the data as arrays by input node, in the order in which they are given.

    Parameters
    ----------
    graph : Graph
        What will be fed.
    data : mapping
        For every input of the graph, by node or by name, an array_like with a row for each
        example.
    what : str, optional
        What messages call the data.

    Raises
    ------
    DataError
        If the data are no mapping, an input is missing, unknown or given twice, an array
        is not numeric or has no rows, lengths differ, or an array does not fit what its
        input declares.
    """
    names = ", ".join(graph.name(node) for node in graph.inputs) or "none"
    if not isinstance(data, Mapping):
        raise DataError(
            f"{what} must be a mapping from inputs (or their names) to arrays, such as "
            f"{{X: X_, y: y_}}, not {type_name(data)}; the graph's inputs are {names}"
        )
    given: dict[Input, Any] = {}
    for key, value in data.items():
        node = graph.names[1].get(key) if isinstance(key, str) else key
        if not isinstance(node, Input) or node not in graph:
            raise DataError(f"{what}: {key!r} is no input of the graph; its inputs are {names}")
        if node in given:
            raise DataError(f"{what}: {graph.name(node)} is given twice, by node and by name")
        given[node] = value
    if missing := [graph.name(node) for node in graph.inputs if node not in given]:
        raise DataError(f"{what}: nothing is given for {', '.join(missing)}")
    arrays = {node: _array(node, value, graph, what) for node, value in given.items()}
    _check_lengths(graph, arrays, what)
    return arrays


def _array(node: Input, value: Any, graph: Graph, what: str) -> Array:
    where = f"{what} for {graph.describe(node)}"
    try:
        array = as_array(value, where)
    except NodeUseError as error:
        raise DataError(str(error)) from None
    if array.ndim == 0:
        raise DataError(
            f"{where} is the single number {array}, but fit feeds rows: give an array whose "
            f"first axis counts the examples"
        )
    cast = node.cast(array)
    if cast is None:
        raise DataError(
            f"{where} has dtype {array.dtype}, but the input declares {node.dtype}, and a "
            f"cast would lose information"
        )
    if node.shape is not None:
        declared, shape = node.shape, array.shape
        if len(declared) != len(shape) or any(
            want not in (None, have) for want, have in zip(declared[1:], shape[1:], strict=True)
        ):
            raise DataError(f"{where} has shape {shape}, but the input declares {declared}")
    return np.ascontiguousarray(cast)


def _check_lengths(graph: Graph, arrays: Mapping[Input, Array], what: str) -> None:
    lengths = {graph.name(node): len(array) for node, array in arrays.items()}
    if not lengths:
        raise DataError("the graph has no inputs, so there is nothing to draw batches from")
    listed = ", ".join(f"{name} {count}" for name, count in lengths.items())
    if len(set(lengths.values())) > 1:
        raise DataError(f"{what}: the inputs differ in their number of rows: {listed}")
    if 0 in lengths.values():
        raise DataError(f"{what}: there are no rows ({listed})")


def split(
    arrays: Mapping[Input, Array], share: float, rng: np.random.Generator
) -> tuple[dict[Input, Array], dict[Input, Array]]:
    """Return the rows to train on, in their order, and a random share of them held out.

    Raises
    ------
    DataError
        If one of both parts would be empty.
    """
    rows = len(next(iter(arrays.values())))
    held = round(rows * share)
    if not 0 < held < rows:
        raise DataError(
            f"validation_split={share} of {rows} rows leaves {rows - held} to train on and "
            f"{held} to validate with; both need at least one"
        )
    order = rng.permutation(rows)
    kept, out = np.sort(order[held:]), np.sort(order[:held])
    return (
        {node: array[kept] for node, array in arrays.items()},
        {node: array[out] for node, array in arrays.items()},
    )


@attrs.frozen
class Batches:
    """Arrays with equally many rows, and how to draw batches from them.

    Parameters
    ----------
    arrays : dict of Input to array
        As ``checked_data`` returns them.
    size : int
        Rows of a batch.
    sampling : {"shuffle", "resample"}
        Every row once an epoch in random order, the last batch perhaps smaller; or
        ``rows // size`` batches (at least one) drawn with replacement.
    """

    arrays: dict[Input, Array]
    size: int
    sampling: Sampling = "shuffle"

    @property
    def rows(self) -> int:
        """Number of rows of the data."""
        return len(next(iter(self.arrays.values())))

    @property
    def steps(self) -> int:
        """Number of batches of an epoch."""
        if self.sampling == "resample":
            return max(self.rows // self.size, 1)
        return -(-self.rows // self.size)

    def check_declared(self, graph: Graph) -> None:
        """Check the size of all batches against inputs that declare their number of rows.

        Raises
        ------
        DataError
            If a batch would not fit.
        """
        drawn = self.steps * self.size if self.sampling == "resample" else self.rows
        sizes = {min(self.size, drawn), drawn - (self.steps - 1) * self.size}
        for node in self.arrays:
            declared = node.shape[0] if node.shape else None
            if declared is not None and sizes != {declared}:
                listed = " and ".join(str(size) for size in sorted(sizes, reverse=True))
                raise DataError(
                    f"{graph.describe(node)} declares {declared} rows, but batches would have "
                    f"{listed}; declare None for the rows, or choose a batch_size that divides "
                    f"the {self.rows} rows"
                )

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[dict[Input, Array], int]]:
        """Draw an epoch: yields the feeds of each step and their number of rows."""
        return self._gathered(self._order(rng))

    def epoch_rows(self, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Draw the same epoch as rows: ``(steps, size)``, and what is left as ``(1, rest)``."""
        order = self._order(rng)
        whole = len(order) // self.size * self.size
        parts = [order[:whole].reshape(-1, self.size), order[whole:].reshape(1, -1)]
        return [part for part in parts if part.size]

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        if self.sampling == "resample":
            return rng.integers(0, self.rows, size=self.steps * self.size)
        return rng.permutation(self.rows)

    def in_order(self) -> Iterator[tuple[dict[Input, Array], int]]:
        """Yield every row once, in its order."""
        return self._sliced(self.arrays, self.rows)

    def _gathered(self, order: NDArray[np.int64]) -> Iterator[tuple[dict[Input, Array], int]]:
        row_bytes = sum(array[:1].nbytes for array in self.arrays.values())
        chunk = self.size * max(CHUNK_BYTES // max(row_bytes * self.size, 1), 1)
        for start in range(0, len(order), chunk):
            rows = order[start : start + chunk]
            # Fresh arrays for each chunk: whoever keeps a batch never sees it change.
            taken = {node: np.take(array, rows, axis=0) for node, array in self.arrays.items()}
            yield from self._sliced(taken, len(rows))

    def _sliced(
        self, arrays: Mapping[Input, Array], rows: int
    ) -> Iterator[tuple[dict[Input, Array], int]]:
        size, pairs = self.size, list(arrays.items())
        for start in range(0, rows, size):
            stop = min(start + size, rows)
            yield {node: array[start:stop] for node, array in pairs}, stop - start


def not_finite(name: str, array: Array, limit: int = 8) -> list[str]:
    """Return sentences that say where an array holds NaN or infinities, one for each column."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return []
    bad = ~np.isfinite(array)
    columns = bad.reshape(len(array), -1)
    found = np.flatnonzero(columns.any(axis=0))
    problems = []
    for column in found[:limit]:
        index = np.unravel_index(int(column), array.shape[1:])
        where = ", ".join(str(int(i)) for i in index)
        marks = array.reshape(len(array), -1)[:, column]
        nans, infinities = int(np.isnan(marks).sum()), int(np.isinf(marks).sum())
        counts = [f"{nans} NaN"] * bool(nans) + [f"{infinities} inf"] * bool(infinities)
        first = int(np.argmax(columns[:, column]))
        place = f"{name}, column {where}" if where else name
        problems.append(f"{place}: {' and '.join(counts)}, first in row {first}")
    if len(found) > limit:
        problems.append(f"{name}: {len(found) - limit} further columns hold NaN or inf")
    return problems
