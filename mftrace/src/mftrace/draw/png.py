"""The drawer ``png``: an image, drawn by matplotlib from the same layout as the SVG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, ClassVar

import mfcore as mf
from mfcore.errors import DrawingError
from mftrace.draw.diagram import diagram
from mftrace.draw.groups import Fold
from mftrace.draw.layout import Stroke
from mftrace.draw.palette import THEMES, Theme
from mftrace.draw.picture import STACKED, STUB, Picture, Placed, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 72.0
"""Units of the layout in an inch at scale 1, as many as matplotlib's points."""

LARGEST = 16_000
"""Pixels of a side beyond which an image is drawn smaller."""


class PngDrawer:
    """Draws a graph as PNG. Needs matplotlib: ``pip install mftrace[png]``."""

    name: ClassVar[str] = "png"
    suffixes: ClassVar[tuple[str, ...]] = (".png",)

    def draw(
        self,
        graph: mf.Graph,
        run: mf.Run | None = None,
        *,
        fold: Fold = "auto",
        scale: float = 2.0,
        theme: str = "light",
    ) -> bytes:
        """Return the image.

        Parameters
        ----------
        graph, run, fold
            As for the drawer ``svg``.
        scale : float
            Pixels for each unit of the layout, less where the image would be enormous.
        theme : str
            ``"light"`` or ``"dark"``.

        Raises
        ------
        DrawingError
            If an option is none of these, matplotlib is not installed, or the picture would
            be too large to lay out.
        """
        if theme not in THEMES:
            raise DrawingError(f"theme= is 'light' or 'dark', not {theme!r}")
        if not (isinstance(scale, (int, float)) and 0 < scale <= 10):
            raise DrawingError(f"scale= is a number above 0 and up to 10, not {scale!r}")
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise DrawingError(
                f"PNG needs matplotlib, and it cannot be imported ({error}): "
                f"`pip install mftrace[png]`, or draw SVG"
            ) from None
        drawn = picture(diagram(graph, run, fold=fold))
        scale = min(scale, LARGEST / drawn.width, LARGEST / drawn.height)
        figure = Figure(figsize=(drawn.width / POINTS, drawn.height / POINTS))
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_xlim(0, drawn.width)
        axes.set_ylim(drawn.height, 0)
        axes.axis("off")
        _draw(axes, drawn, THEMES[theme])
        file = io.BytesIO()
        about = {"Title": drawn.diagram.title, "Description": drawn.diagram.description}
        figure.savefig(
            file,
            format="png",
            dpi=POINTS * scale,
            facecolor=THEMES[theme].background,
            metadata={**{k: _latin(v) for k, v in about.items()}, "Software": None},
        )
        return file.getvalue()


def _latin(text: str) -> str:
    """Return a text in the characters that PNG's plain text may hold."""
    return text.encode("latin-1", "replace").decode("latin-1")


def _draw(axes: Axes, drawn: Picture, theme: Theme) -> None:
    for strokes in drawn.edges:
        _edge(axes, strokes, theme)
    sources = {link.source for link in drawn.diagram.links}
    for number, placed in enumerate(drawn.boxes):
        if placed.box.output and number not in sources:
            start = placed.y + placed.half_height
            _edge(axes, [Stroke(placed.x, start, start + STUB)], theme)
        _box(axes, placed, theme)


def _edge(axes: Axes, strokes: list[Stroke], theme: Theme) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path

    points: list[tuple[float, float]] = [(strokes[0].x, strokes[0].top)]
    codes: list[Any] = [Path.MOVETO]
    for stroke, after in zip(strokes, [*strokes[1:], None]):
        points.append((stroke.x, stroke.bottom - (0 if after else 5)))
        codes.append(Path.LINETO)
        if after is not None:
            middle = (stroke.bottom + after.top) / 2
            points += [(stroke.x, middle), (after.x, middle), (after.x, after.top)]
            codes += [Path.CURVE4] * 3
    line = Path(points, codes)
    axes.add_patch(PathPatch(line, fill=False, edgecolor=theme.edge, linewidth=1.3))
    x, y = strokes[-1].x, strokes[-1].bottom
    head = [(x, y), (x - 3.5, y - 7), (x + 3.5, y - 7)]
    axes.add_patch(Polygon(head, closed=True, facecolor=theme.edge, edgecolor="none"))


def _box(axes: Axes, placed: Placed, theme: Theme) -> None:
    from matplotlib.patches import Polygon

    box = placed.box
    for shift in (STACKED, 0) if box.count > 1 else (0,):
        axes.add_patch(
            Polygon(
                [(x + shift, y + shift) for x, y in placed.outline],
                closed=True,
                facecolor=theme.fills[box.kind],
                edgecolor=theme.borders[box.kind],
                linewidth=2.6 if box.output and not shift else 1.3,
                linestyle=(0, (4, 3)) if box.kind == "constant" else "-",
                joinstyle="round",
            )
        )
    # A name such as `$x$` is a name, not a formula to typeset.
    font: dict[str, Any] = {"family": "DejaVu Sans Mono", "parse_math": False}
    for number, (text, y, size) in enumerate(placed.text):
        axes.text(
            placed.x,
            y,
            text,
            fontsize=size,
            color=theme.faint if number else theme.text,
            weight="normal" if number else "bold",
            horizontalalignment="center",
            **font,
        )
    for text, x, y in placed.label:
        colour = theme.gradient if text.startswith(("grad ", "and from ")) else theme.faint
        axes.text(x, y, text, fontsize=placed.text[-1][2], color=colour, **font)
