"""Feeds: from what a user gives for the inputs of a graph to arrays that fit them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from mfcore.engine import Memory
from mfcore.errors import (
    FeedDtypeError,
    FeedError,
    FeedShapeError,
    MissingFeedError,
    NodeUseError,
    UnknownFeedError,
    listed,
    type_name,
)
from mfcore.graph import Graph
from mfcore.node import Array, Input, Node, Parameter, describe
from mfcore.values import as_array

Feeds = Mapping[Any, Any]
"""Values of inputs for one run, by input node or by its name."""


class Feeding:
    """Puts what is fed to the inputs of a graph into the places of a list.

    Parameters
    ----------
    graph : Graph
        Whose inputs are fed.
    places : iterable of int
        For each input, in the graph's order, where its value goes.
    """

    __slots__ = ("_alike", "_feeding", "_places", "graph")

    def __init__(self, graph: Graph, places: Iterable[int]) -> None:
        self.graph = graph
        self._places = dict(zip(graph.inputs, places, strict=True))
        self._feeding = [
            (node, place, node.shape is None and node.dtype is None)
            for node, place in self._places.items()
        ]

        self._alike: list[tuple[Input, tuple[int, ...], Any]] = []

    def remember(self, arrays: Sequence[Any]) -> None:
        """Take these arrays, in the graph's order, as an example for ``alike``."""
        self._alike = [
            (node, array.shape, array.dtype)
            for node, array in zip(self._places, arrays, strict=True)
        ]

    def alike(self, feeds: Feeds) -> list[Any] | None:
        """Return the feeds in the graph's order if they are arrays like the remembered ones.

        The quick way, for steps in a row: what was checked once for these shapes and dtypes
        need not be checked again. ``None`` leaves it to the other ways.
        """
        inputs = []
        try:
            for node, shape, dtype in self._alike:
                value = feeds[node]
                if type(value) is not ndarray or value.dtype is not dtype or value.shape != shape:
                    return None
                inputs.append(value)
        except (KeyError, TypeError, IndexError):
            return None
        return inputs if len(feeds) == len(inputs) else None

    def __call__(self, memory: Memory, feeds: Feeds) -> None:
        """Put the feeds into their places.

        Raises
        ------
        FeedError
            If a feed is missing, unknown, or of the wrong shape or dtype.
        """
        try:
            for node, place, free in self._feeding:
                value = feeds[node]
                if not free or type(value) is not ndarray or value.dtype.kind not in "fiub":
                    value = self._fitted(node, value)
                memory[place] = value
        except (KeyError, TypeError, IndexError):
            self._by_name(memory, feeds)
            return
        if len(feeds) != len(self._feeding):
            self._by_name(memory, feeds)

    def rows(self, memory: Memory, data: Feeds) -> None:
        """Put arrays of rows, of which batches are made, into their places.

        Raises
        ------
        FeedError
            If one is missing, unknown, no array of rows, of the wrong shape or dtype, or of
            another length than the others.
        """
        for node, value in self._named(data).items():
            memory[self._places[node]] = array = self._array(node, value)
            if array.ndim == 0 or not (
                node.shape is None or shape_fits(array.shape, (None, *node.shape[1:]))
            ):
                raise FeedShapeError(
                    f"{self._feed_of(node)} has shape {array.shape}; expected are rows, "
                    f"{'of any shape' if node.shape is None else node.shape}"
                )
        lengths = {self.graph.name(node): len(memory[p]) for node, p in self._places.items()}
        if len(set(lengths.values())) > 1:
            raise FeedShapeError(f"the inputs differ in their number of rows: {lengths}")

    def _by_name(self, memory: Memory, feeds: Feeds) -> None:
        """The careful way to feed: resolves names, and finds the error where there is one."""
        for node, value in self._named(feeds).items():
            memory[self._places[node]] = self._fitted(node, value)

    def _named(self, feeds: Feeds) -> dict[Input, Any]:
        """Return what is fed by input, all of them and no others."""
        graph = self.graph
        if not isinstance(feeds, Mapping):
            raise FeedError(
                f"feeds are a mapping from inputs, or their names, to values, "
                f"not {type_name(feeds)}"
            )
        by_node: dict[Input, Any] = {}
        for key, value in feeds.items():
            if isinstance(key, str):
                if key not in graph.names[1]:
                    raise UnknownFeedError(
                        f"{key!r} was fed, but the graph has no input of that name; it has "
                        f"{listed([graph.name(n) for n in graph.inputs]) or 'no inputs'}"
                    )
                key = graph[key]
            if not isinstance(key, Node):
                raise UnknownFeedError(f"feeds are given by input node or name, not by {key!r}")
            if key not in graph:
                raise UnknownFeedError(
                    f"{describe(key)} was fed, but it is not part of the graph; the graph's "
                    f"inputs are {listed([graph.name(n) for n in graph.inputs]) or 'none'}"
                )
            if not isinstance(key, Input):
                hint = (
                    "set a parameter with `session[parameter] = value`"
                    if isinstance(key, Parameter)
                    else "only inputs can be fed"
                )
                raise UnknownFeedError(f"{graph.describe(key)} is no input: {hint}")
            if key in by_node:
                raise UnknownFeedError(f"{graph.describe(key)} was fed twice, by node and by name")
            by_node[key] = value
        if missing := [node for node in graph.inputs if node not in by_node]:
            raise MissingFeedError(
                "no value was fed for " + ", ".join(graph.describe(n) for n in missing[:12])
            )
        return by_node

    def _fitted(self, node: Input, value: Any) -> Array:
        """Return a fed value as an array that fits its input, or raise."""
        array = self._array(node, value)
        if node.shape is not None and not shape_fits(array.shape, node.shape):
            raise FeedShapeError(
                f"{self._feed_of(node)} has shape {array.shape}, "
                f"but the input declares {node.shape}"
            )
        return array[()] if array.ndim == 0 else array

    def _array(self, node: Input, value: Any) -> Array:
        """Return a fed value as an array of a dtype that fits its input, or raise."""
        if isinstance(value, Node):
            raise FeedDtypeError(f"{self._feed_of(node)} is a node: feed arrays")
        try:
            array = as_array(value, "it")
        except NodeUseError as error:
            raise FeedDtypeError(f"{self._feed_of(node)} cannot be used: {error}") from None
        cast = node.cast(array)
        if cast is None:
            raise FeedDtypeError(
                f"{self._feed_of(node)} has dtype {array.dtype}, but the input declares "
                f"{node.dtype}, and a cast would lose information"
            )
        return cast

    def _feed_of(self, node: Node) -> str:
        return f"the value fed to {self.graph.describe(node)}"


def shape_fits(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    """Whether a shape is one that an input declares."""
    return len(shape) == len(declared) and all(
        want is None or have == want for have, want in zip(shape, declared, strict=True)
    )


def checked_rows(rows: Any, count: int) -> Array:
    """Return which rows of data with ``count`` of them make up the batch of each step.

    Raises
    ------
    FeedShapeError, IndexError
        If they are no integers of shape ``(steps, n)``, or out of range.
    """
    array = np.asarray(rows)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise FeedShapeError(
            f"rows are integers of shape (steps, rows of a batch), not {array.dtype} of shape "
            f"{array.shape}"
        )
    if array.size and not (array.min() >= 0 and array.max() < count):
        raise IndexError(f"rows from {array.min()} to {array.max()} of data with {count} rows")
    return np.ascontiguousarray(array, dtype=np.intp)


def example_of(node: Any, given: Any) -> Array:
    """Return an array of a shape, or the array itself, without memory of its own."""
    if isinstance(given, (np.ndarray, np.generic)):
        return np.asarray(given)
    dtype = node.dtype if isinstance(node, Node) and node.dtype is not None else np.float64
    return np.broadcast_to(np.zeros((), dtype), given)
