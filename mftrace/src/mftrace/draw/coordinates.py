"""Horizontal positions: each point as near to its neighbours as order and distances allow.

One layer at a time that is a weighted least-squares problem in which positions must not
decrease once the distances between them are taken off: isotonic regression, solved exactly
by pooling adjacent violators (Ayer, Brunk, Ewing, Reid and Silverman 1955). Sweeps down, up
and over both sides bring the layers together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from mftrace.draw.ordering import Neighbours, Rows

_LOOSE = 1e-3
"""Weight of staying where one is, for points without neighbours on the side looked at."""


def assign(
    rows: Rows, up: Neighbours, down: Neighbours, sides: Sequence[tuple[float, float]], gap: float
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
