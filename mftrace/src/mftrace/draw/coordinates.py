"""Horizontal positions: each point as near to its neighbours as order and distances allow.

One layer at a time that is a weighted least-squares problem in which positions must not
decrease once the distances between them are taken off: isotonic regression, solved exactly
by pooling adjacent violators (Ayer, Brunk, Ewing, Reid and Silverman 1955). Sweeps down, up
and over both sides bring the layers together; at last the bends of each long edge are put
exactly above each other as far down as there is room.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from mftrace.draw.ordering import Neighbours, Rows

_LOOSE = 1e-3
"""Weight of staying where one is, for points without neighbours on the side looked at."""


def assign(
    rows: Rows,
    up: Neighbours,
    down: Neighbours,
    sides: Sequence[tuple[float, float]],
    gap: float,
    chains: Sequence[Sequence[int]] = (),
) -> list[float]:
    """Return the points' positions.

    Parameters
    ----------
    rows : list of list of int
        The points of each layer, from left to right.
    up, down : sequence of sequence of tuple
        For each point, its neighbours above and below, each with the weight of the edge.
    sides : sequence of tuple of float
        What each point needs to the left and to the right of its position.
    gap : float
        Distance between what neighbours in a layer need.
    chains : sequence of sequence of int, optional
        Points, one in each of several layers, that had best be above each other.
    """
    x = [0.0] * len(sides)
    distances = []
    for row in rows:
        steps = [sides[p][1] + gap + sides[q][0] for p, q in pairwise(row)]
        distances.append(list(accumulate(steps, initial=0.0)))
        for point, distance in zip(row, distances[-1], strict=True):
            x[point] = distance - distances[-1][-1] / 2
    both = [[*above, *below] for above, below in zip(up, down, strict=True)]
    sweeps = [down, up] * 3 + [both] * 6
    if len(sides) > 5_000:
        sweeps = [down, up, both, both]
    for number, neighbours in enumerate(sweeps):
        downwards = neighbours is up or (neighbours is both and number % 2 == 1)
        for i in range(len(rows)) if downwards else reversed(range(len(rows))):
            _place(rows[i], distances[i], neighbours, x)
    _straighten(rows, distances, chains, x)
    return x


def _place(
    row: Sequence[int], distances: Sequence[float], neighbours: Neighbours, x: list[float]
) -> None:
    wanted, weights = [], []
    for point in row:
        weight = sum(w for _, w in neighbours[point])
        if weight:
            wanted.append(sum(w * x[other] for other, w in neighbours[point]) / weight)
            weights.append(weight)
        else:
            wanted.append(x[point])
            weights.append(_LOOSE)
    for point, position in zip(row, separated(wanted, weights, distances), strict=True):
        x[point] = position


def separated(
    wanted: Sequence[float], weights: Sequence[float], distances: Sequence[float]
) -> list[float]:
    """Return positions nearest to those wanted that keep their distances.

    Parameters
    ----------
    wanted, weights : sequence of float
        Where each point should be, and how much it matters.
    distances : sequence of float
        Of each point from the first, at least; not decreasing.

    Returns
    -------
    list of float
        Positions ``x`` with ``x[i + 1] - x[i] >= distances[i + 1] - distances[i]`` that make
        ``sum(weights * (x - wanted) ** 2)`` smallest.
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight and number of pooled points
    for at, weight, distance in zip(wanted, weights, distances, strict=True):
        mean, number = at - distance, 1
        while blocks and blocks[-1][0] >= mean:
            other, heavy, many = blocks.pop()
            mean = (mean * weight + other * heavy) / (weight + heavy)
            weight += heavy
            number += many
        blocks.append((mean, weight, number))
    pooled = [mean for mean, _, number in blocks for _ in range(number)]
    return [mean + distance for mean, distance in zip(pooled, distances, strict=True)]


def _straighten(
    rows: Rows,
    distances: Sequence[Sequence[float]],
    chains: Sequence[Sequence[int]],
    x: list[float],
) -> None:
    place = {point: (i, k) for i, row in enumerate(rows) for k, point in enumerate(row)}

    def room(point: int) -> tuple[float, float]:
        i, k = place[point]
        row, distance = rows[i], distances[i]
        least, most = float("-inf"), float("inf")
        if k:
            least = x[row[k - 1]] + distance[k] - distance[k - 1]
        if k + 1 < len(row):
            most = x[row[k + 1]] - distance[k + 1] + distance[k]
        return least, most

    for chain in chains:
        start = 0
        while start < len(chain):
            least, most = room(chain[start])
            stop = start + 1
            while stop < len(chain):
                below = room(chain[stop])
                if max(least, below[0]) > min(most, below[1]):
                    break
                least, most = max(least, below[0]), min(most, below[1])
                stop += 1
            piece = chain[start:stop]
            at = sum(x[point] for point in piece) / len(piece)
            for point in piece:
                x[point] = max(min(at, most), least)
            start = stop
