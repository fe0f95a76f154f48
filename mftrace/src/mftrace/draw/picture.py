"""A diagram with a place for everything: what SVG and PNG draw, each in its own way."""

from __future__ import annotations

import attrs

from mftrace.draw.diagram import Box, Diagram
from mftrace.draw.layout import Extent, Stroke, lay_out
from mftrace.draw.palette import ADVANCE, LEADING, SMALL, TITLE
from mftrace.draw.words import columns

PADDING = 12.0
"""Between a box's border and its text, to the left and right."""

INSET = 8.0
"""The same above and below."""

STUB = 16.0
"""How far the arrow out of the graph goes below an output."""

STACKED = 4.0
"""How far the second sheet shows behind a box that stands for many nodes."""

SLANT = 9.0
"""How far the sides of an input lean, and the corners of a parameter are cut."""


@attrs.frozen
class Placed:
    """A box with its place: centre, half its width, half its height, and where its label is."""

    box: Box
    x: float
    y: float
    half_width: float
    half_height: float
    bottom: float

    @property
    def outline(self) -> list[tuple[float, float]]:
        """The corners; an input is a parallelogram, a parameter a hexagon, all else a rectangle."""
        left, right = self.x - self.half_width, self.x + self.half_width
        top, bottom = self.y - self.half_height, self.y + self.half_height
        if self.box.kind == "input":
            return [
                (left + SLANT / 2, top),
                (right + SLANT / 2, top),
                (right - SLANT / 2, bottom),
                (left - SLANT / 2, bottom),
            ]
        if self.box.kind == "parameter":
            return [
                (left, top),
                (right, top),
                (right + SLANT, self.y),
                (right, bottom),
                (left, bottom),
                (left - SLANT, self.y),
            ]
        return [(left, top), (right, top), (right, bottom), (left, bottom)]

    @property
    def text(self) -> list[tuple[str, float, float]]:
        """The lines in the box: text, baseline and font size."""
        y = self.y - self.half_height + INSET
        placed = []
        for number, line in enumerate([self.box.title, *self.box.lines]):
            size = SMALL if number else TITLE
            placed.append((line, y + size, size))
            y += size * LEADING
        return placed

    @property
    def label(self) -> list[tuple[str, float, float]]:
        """The lines beside the edges that leave it: text, left end and baseline."""
        top = self.y + self.half_height + 3 + STACKED * (self.box.count > 1)
        return [
            (line, self.x + 7, top + SMALL + number * SMALL * LEADING)
            for number, line in enumerate(self.box.label)
        ]


@attrs.frozen
class Picture:
    """All boxes and edges with their places, and the size of the whole."""

    diagram: Diagram
    width: float
    height: float
    boxes: list[Placed]
    edges: list[list[Stroke]]


def picture(diagram: Diagram) -> Picture:
    """Return a diagram laid out.

    Raises
    ------
    DrawingError
        If it has too many boxes and edges.
    """
    sizes = [_size(box) for box in diagram.boxes]
    leaving = [False] * len(sizes)
    for link in diagram.links:
        leaving[link.source] = True
    extents = []
    for box, (half_width, half_height), leaves in zip(diagram.boxes, sizes, leaving, strict=True):
        label = 9 + ADVANCE * SMALL * max(map(columns, box.label), default=0)
        below = half_height + 5 + STACKED * (box.count > 1) + LEADING * SMALL * len(box.label)
        if box.output and not leaves:
            below = max(below, half_height + STUB)
        lean = {"input": SLANT / 2, "parameter": SLANT}.get(box.kind, 0.0)
        side = half_width + lean + STACKED * (box.count > 1)
        extents.append(Extent(side, max(side, label), half_height, below))
    leaf = ("input", "parameter", "constant")
    weights = [1.0 if diagram.boxes[link.source].kind in leaf else 4.0 for link in diagram.links]
    links = [(link.source, link.target) for link in diagram.links]
    layout = lay_out(extents, links, weights, diagram.order)
    boxes = [
        Placed(box, x, y, *size, bottom)
        for box, (x, y), size, bottom in zip(
            diagram.boxes, layout.centres, sizes, layout.ends, strict=True
        )
    ]
    return Picture(diagram, layout.width, layout.height, boxes, layout.edges)


def _size(box: Box) -> tuple[float, float]:
    """Return half the width and half the height of a box."""
    width = TITLE * ADVANCE * 1.02 * columns(box.title)
    width = max([width, *(SMALL * ADVANCE * columns(line) for line in box.lines)])
    height = LEADING * (TITLE + SMALL * len(box.lines)) - (LEADING - 1) * SMALL
    return max(width / 2 + PADDING, 26.0), height / 2 + INSET
