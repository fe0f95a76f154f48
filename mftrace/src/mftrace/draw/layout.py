"""Where the boxes of a graph go: layers from top to bottom, few crossings, short straight edges.

The method is Sugiyama's (Sugiyama, Tagawa and Toda 1981): layers by longest path, tightened;
an order within the layers by barycentres, then by swapping neighbours; coordinates last. An
edge that passes layers has a bend in each, and edges from one box share their bends, so that
they run together until they part. All of it is deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from mfcore.errors import DrawingError
from mftrace.draw.coordinates import assign
from mftrace.draw.ordering import reduce_crossings

GAP = 22.0
"""Least distance between neighbours in a layer."""

RISE = 40.0
"""Least distance between layers."""

ARRIVAL = 8.0
"""Length of the straight end of an edge, on which its arrow's head sits."""

MARGIN = 16.0
"""Distance from the boxes to the border."""

MOST_POINTS = 60_000
"""Boxes and bends that can be laid out in a time that people wait."""


@attrs.frozen
class Extent:
    """What a box needs on each side of its centre.

    The box itself reaches as far below as above; more below is what is written there.
    """

    left: float
    right: float
    above: float
    below: float


@attrs.frozen
class Stroke:
    """A vertical piece of an edge. A curve joins it to the next one."""

    x: float
    top: float
    bottom: float


@attrs.frozen
class Layout:
    """Where everything is.

    Attributes
    ----------
    width, height : float
        Size of the picture.
    centres : list of tuple of float
        For each box, where its centre is.
    ends : list of float
        For each box, how far down its layer reaches.
    edges : list of list of Stroke
        For each link, its pieces from top to bottom: out of the source, past each layer
        between, into the target.
    """

    width: float
    height: float
    centres: list[tuple[float, float]]
    ends: list[float]
    edges: list[list[Stroke]]


def lay_out(
    extents: Sequence[Extent],
    links: Sequence[tuple[int, int]],
    weights: Sequence[float],
    order: Sequence[int],
) -> Layout:
    """Lay out boxes.

    Parameters
    ----------
    extents : sequence of Extent
        Sizes of the boxes.
    links : sequence of tuple of int
        Source and target, by number of box; no pair twice, and no circle.
    weights : sequence of float
        For each link, how much it matters that it is straight.
    order : sequence of int
        The boxes in the order, left to right, that neighbours have where nothing else speaks.

    Raises
    ------
    DrawingError
        If there are too many of them.
    """
    if not extents:
        return Layout(2 * MARGIN, 2 * MARGIN, [], [], [])
    layer = _layers(len(extents), links)
    points = _Points(extents, links, weights, layer)
    rank = {box: place for place, box in enumerate(order)}
    for row in points.rows:
        row.sort(key=lambda point: (rank[points.box[point]], point))
    points.rows = reduce_crossings(points.rows, points.up, points.down)
    x = assign(points.rows, points.up, points.down, points.sides, GAP, points.chains())
    shift = MARGIN - min(x[p] - points.sides[p][0] for p in range(len(x)))
    x = [at + shift for at in x]
    width = MARGIN + max(x[p] + points.sides[p][1] for p in range(len(x)))
    bands, height = _bands(points, extents, x)
    centres = [(x[i], bands[layer[i]][1]) for i in range(len(extents))]
    edges = _routes(points, extents, links, layer, x, bands)
    return Layout(width, height, centres, [bands[layer[i]][2] for i in range(len(extents))], edges)


def _layers(count: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """Return each box's layer: below all its sources, and close to where it is needed."""
    sources: list[list[int]] = [[] for _ in range(count)]
    targets: list[list[int]] = [[] for _ in range(count)]
    for source, target in links:
        sources[target].append(source)
        targets[source].append(target)
    waiting = [len(reads) for reads in sources]
    sequence = [i for i in range(count) if not waiting[i]]
    layer = [0] * count
    for i in sequence:
        for j in targets[i]:
            layer[j] = max(layer[j], layer[i] + 1)
            waiting[j] -= 1
            if not waiting[j]:
                sequence.append(j)
    # A box with more edges below than above shortens them all by moving down.
    for _ in range(8):
        moved = False
        for i in reversed(sequence):
            if len(targets[i]) > len(sources[i]):
                lowest = min(layer[j] for j in targets[i]) - 1
                moved |= lowest > layer[i]
                layer[i] = max(lowest, layer[i])
        if not moved:
            break
    used = {old: new for new, old in enumerate(sorted(set(layer)))}
    return [used[i] for i in layer]


class _Points:
    """The boxes and, after them, the bends; all edges between points go from layer to layer.

    Attributes
    ----------
    box : list of int
        For each point the box that it is, or whose edges it bends.
    rows : list of list of int
        The points of each layer.
    up, down : list of list of tuple
        Neighbours above and below each point, each with the weight of the edge.
    sides : list of tuple of float
        What each point needs to the left and to the right.
    bends : dict
        The bend of a box's edges in a layer.
    """

    def __init__(
        self,
        extents: Sequence[Extent],
        links: Sequence[tuple[int, int]],
        weights: Sequence[float],
        layer: Sequence[int],
    ) -> None:
        count = len(extents)
        self.box = list(range(count))
        self.sides = [(extent.left, extent.right) for extent in extents]
        self.rows: list[list[int]] = [[] for _ in range(max(layer) + 1)]
        for i in range(count):
            self.rows[layer[i]].append(i)
        self.bends: dict[tuple[int, int], int] = {}
        joined: dict[tuple[int, int], float] = {}
        for (source, target), weight in zip(links, weights, strict=True):
            here = source
            for between in range(layer[source] + 1, layer[target]):
                there = self.bends.get((source, between))
                if there is None:
                    there = self.bends[source, between] = len(self.box)
                    if there >= MOST_POINTS:
                        raise DrawingError(
                            f"{count:,} boxes with edges past more than {MOST_POINTS:,} layers "
                            f"are too many to lay out: draw with fold=True, or as text "
                            f"(format='dot')"
                        )
                    self.box.append(source)
                    self.sides.append((2.0, 2.0))
                    self.rows[between].append(there)
                # Bends of long edges above each other count more than the ends of edges.
                weigh = weight * (2.0 if here == source else 8.0)
                joined[here, there] = max(joined.get((here, there), 0.0), weigh)
                here = there
            joined[here, target] = weight * (1.0 if here == source else 2.0)
        self.up: list[list[tuple[int, float]]] = [[] for _ in self.box]
        self.down: list[list[tuple[int, float]]] = [[] for _ in self.box]
        for (source, target), weight in joined.items():
            self.up[target].append((source, weight))
            self.down[source].append((target, weight))

    def chains(self) -> list[list[int]]:
        """Return the bends of each box's edges, from top to bottom."""
        chains: dict[int, list[int]] = {}
        for (source, _), bend in sorted(self.bends.items()):
            chains.setdefault(source, []).append(bend)
        return list(chains.values())


def _bands(
    points: _Points, extents: Sequence[Extent], x: Sequence[float]
) -> tuple[list[tuple[float, float, float]], float]:
    """Return top, centre line and bottom of each layer, and the height of the picture."""
    bands: list[tuple[float, float, float]] = []
    top = MARGIN
    for row in points.rows:
        boxes = [extents[p] for p in row if p < len(extents)]
        centre = top + max((box.above for box in boxes), default=0.0)
        bottom = centre + max((box.below for box in boxes), default=0.0)
        bands.append((top, centre, bottom))
        sideways = max((abs(x[p] - x[q]) for p in row for q, _ in points.down[p]), default=0.0)
        top = bottom + RISE + min(0.07 * sideways, 3 * RISE)
    return bands, bands[-1][2] + MARGIN


def _routes(
    points: _Points,
    extents: Sequence[Extent],
    links: Sequence[tuple[int, int]],
    layer: Sequence[int],
    x: Sequence[float],
    bands: Sequence[tuple[float, float, float]],
) -> list[list[Stroke]]:
    routes: list[list[Stroke]] = []
    arriving: dict[int, list[int]] = {}
    for number, (source, target) in enumerate(links):
        _, centre, bottom = bands[layer[source]]
        route = [Stroke(x[source], centre + extents[source].above, bottom)]
        for between in range(layer[source] + 1, layer[target]):
            top, _, bottom = bands[between]
            route.append(Stroke(x[points.bends[source, between]], top, bottom))
        routes.append(route)
        arriving.setdefault(target, []).append(number)
    for target, numbers in arriving.items():
        # From left to right as they come, so that they do not cross on arrival.
        numbers.sort(key=lambda number: (routes[number][-1].x, number))
        top, centre, _ = bands[layer[target]]
        extent = extents[target]
        half = min(extent.left, extent.right)
        step = min(18.0, 1.3 * half / len(numbers))
        for place, number in enumerate(numbers):
            port = x[target] + step * (place - (len(numbers) - 1) / 2)
            routes[number].append(Stroke(port, top - ARRIVAL, centre - extent.above))
    return routes
