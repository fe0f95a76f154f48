"""The order of the points within each layer, such that few edges cross.

Barycentre sweeps (Sugiyama, Tagawa and Toda 1981) down and up, then swaps of neighbours
(Gansner, Koutsofios, North and Vo 1993). Crossings are counted as inversions.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import TypeAlias

Rows: TypeAlias = list[list[int]]
Neighbours: TypeAlias = Sequence[Sequence[tuple[int, float]]]

MOST_FOR_SWAPS = 2_500
"""Points of graphs beyond which neighbours are not swapped one by one."""


def reduce_crossings(rows: Rows, up: Neighbours, down: Neighbours) -> Rows:
    """Return the layers in an order with fewer crossings, never with more.

    Parameters
    ----------
    rows : list of list of int
        The points of each layer, from left to right.
    up, down : sequence of sequence of tuple
        For each point, its neighbours in the layer above and below, each with a weight.
    """
    count = sum(map(len, rows))
    place = [0.0] * (max(map(max, rows)) + 1)
    rows = [list(row) for row in rows]
    _number(rows, place)
    best, fewest = [list(row) for row in rows], crossings(rows, down, place)
    for sweep in range(24 if count <= MOST_FOR_SWAPS else 8):
        if not fewest:
            break
        if sweep % 2:
            _sweep(rows, up, place)
        else:
            _sweep(rows[::-1], down, place)
        if count <= MOST_FOR_SWAPS:
            _swap(rows, up, down, place)
        found = crossings(rows, down, place)
        if found < fewest:
            best, fewest = [list(row) for row in rows], found
    return best


def crossings(rows: Rows, down: Neighbours, place: Sequence[float]) -> int:
    """Count the pairs of edges that cross."""
    total = 0
    for row in rows:
        seen: list[float] = []
        for point in row:
            ends = sorted(place[neighbour] for neighbour, _ in down[point])
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _number(rows: Rows, place: list[float]) -> None:
    for row in rows:
        for i, point in enumerate(row):
            place[point] = i


def _sweep(rows: Rows, neighbours: Neighbours, place: list[float]) -> None:
    """Sort each layer but the first by the mean place of neighbours in the layer before.

    Points without such neighbours stay where they are.
    """
    for row in rows[1:]:
        means = {
            point: sum(place[other] for other, _ in neighbours[point]) / len(neighbours[point])
            for point in row
            if neighbours[point]
        }
        ordered = iter(sorted(means, key=means.__getitem__))  # stable: ties stay as they are
        row[:] = [next(ordered) if point in means else point for point in row]
        for i, point in enumerate(row):
            place[point] = i


def _swap(rows: Rows, up: Neighbours, down: Neighbours, place: list[float]) -> None:
    """Swap neighbours for as long as that removes crossings."""
    for _ in range(4):
        better = False
        for row in rows:
            for i in range(len(row) - 1):
                left, right = row[i], row[i + 1]
                if _gain(left, right, up, place) + _gain(left, right, down, place) > 0:
                    row[i], row[i + 1] = right, left
                    place[left], place[right] = i + 1, i
                    better = True
        if not better:
            return


def _gain(left: int, right: int, neighbours: Neighbours, place: Sequence[float]) -> int:
    """Return how many crossings with one other layer a swap of two neighbours removes."""
    gain = 0
    for other, _ in neighbours[left]:
        for another, _ in neighbours[right]:
            gain += (place[other] > place[another]) - (place[other] < place[another])
    return gain
