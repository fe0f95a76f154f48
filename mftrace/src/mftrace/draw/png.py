"""The drawer ``png``: an image, drawn by matplotlib from the same layout as the SVG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, ClassVar

import mfcore as mf
from mfcore.errors import DrawingError
from mftrace.draw.diagram import diagram
from mftrace.draw.groups import Fold
from mftrace.draw.layout import Stroke
from mftrace.draw.palette import SMALL, THEMES, Theme
from mftrace.draw.picture import STACKED, STUB, Picture, Placed, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 72.0
"""Units of the layout in an inch at scale 1, as many as matplotlib's points."""

MOST_PIXELS = 24_000_000
"""Size beyond which an image is drawn smaller."""


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
        scale = min(scale, (MOST_PIXELS / (drawn.width * drawn.height)) ** 0.5)
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
    from matplotlib.collections import PathCollection, PolyCollection
    from matplotlib.path import Path

    routes = list(drawn.edges)
    sources = {link.source for link in drawn.diagram.links}
    for number, placed in enumerate(drawn.boxes):
        if placed.box.output and number not in sources:
            start = placed.y + placed.half_height
            routes.append([Stroke(placed.x, start, start + STUB)])
    lines = [Path(*_curve(strokes)) for strokes in routes]
    ends = [(strokes[-1].x, strokes[-1].bottom) for strokes in routes]
    heads = [[(x, y), (x - 3.5, y - 7), (x + 3.5, y - 7)] for x, y in ends]
    # As collections they need not be measured one by one, which takes most of the time.
    axes.add_artist(PathCollection(lines, facecolors="none", edgecolors=theme.edge, linewidths=1.3))
    axes.add_artist(PolyCollection(heads, facecolors=theme.edge, edgecolors="none"))
    for placed in drawn.boxes:
        _box(axes, placed, theme)


def _curve(strokes: list[Stroke]) -> tuple[list[tuple[float, float]], list[Any]]:
    """Return strokes, each joined to the next by a curve, as matplotlib's points and codes."""
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
    return points, codes


def _box(axes: Axes, placed: Placed, theme: Theme) -> None:
    from matplotlib.patches import Polygon

    box = placed.box
    for shift in (STACKED, 0) if box.count > 1 else (0,):
        axes.add_artist(
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
    font: dict[str, Any] = {"family": ["DejaVu Sans Mono", "DejaVu Sans"], "parse_math": False}
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
        axes.text(x, y, text, fontsize=SMALL, color=colour, **font)
