"""The drawer ``svg``: a vector image that browsers, notebooks and editors show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape as _escaped
from typing import ClassVar

import mfcore as mf
from mftrace.draw.diagram import Link, diagram
from mftrace.draw.groups import Fold
from mftrace.draw.layout import Stroke
from mftrace.draw.palette import KINDS, SMALL, THEMES, Theme
from mftrace.draw.picture import STACKED, STUB, Picture, Placed, picture

FONTS = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace"

HEAD = 7.0
"""Length of an arrow's head."""


class SvgDrawer:
    """Draws a graph as SVG: one text, no script, nothing to load, in the colours of the reader.

    The pointer on a box shows what else there is to say of it.

    Examples
    --------
    >>> import mfcore as mf
    >>> x, y = mf.Input("x"), mf.Input("y")
    >>> SvgDrawer().draw(mf.Graph(x * y))[:4]
    '<svg'
    """

    name: ClassVar[str] = "svg"
    suffixes: ClassVar[tuple[str, ...]] = (".svg",)

    def draw(self, graph: mf.Graph, run: mf.Run | None = None, *, fold: Fold = "auto") -> str:
        """Return the picture.

        Parameters
        ----------
        graph : Graph
            What to draw.
        run : Run, optional
            A run of it, to show values, and gradients if it computed any.
        fold : bool or "auto"
            Whether one box may stand for many nodes: ``True``, ``False``, or only in graphs
            that would give a large picture.

        Raises
        ------
        DrawingError
            If ``fold`` is no such thing, or the picture would be too large to lay out.
        """
        return "".join(_svg(picture(diagram(graph, run, fold=fold))))


def _svg(drawn: Picture) -> Iterator[str]:
    about = drawn.diagram
    size = f"{_number(drawn.width)} {_number(drawn.height)}"
    width, height = size.split()
    light = THEMES["light"]
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="miniflow" role="img" '
        f"aria-label={quoteattr(f'{about.title}. {about.description}')} "
        f'viewBox="0 0 {size}" width="{width}" height="{height}" '
        f"font-family={quoteattr(FONTS)} "
        f'font-size="{_number(SMALL)}" text-anchor="middle">\n'
        f"<title>{escape(about.title)}</title>\n<desc>{escape(about.description)}</desc>\n"
        f"<style>{STYLE}</style>\n"
        f'<rect class="background" width="{width}" height="{height}" fill="{light.background}"/>\n'
        f'<g class="edges" fill="none" stroke="{light.edge}" stroke-width="1.3">\n'
    )
    for link, strokes in zip(about.links, drawn.edges, strict=True):
        yield _edge(link, strokes)
    sources = {link.source for link in about.links}
    for number, placed in enumerate(drawn.boxes):
        if placed.box.output and number not in sources:
            start = placed.y + placed.half_height
            stroke = Stroke(placed.x, start, start + STUB)
            yield f'<path d="{_path([stroke])}"/>{_head(stroke)}\n'
    yield "</g>\n"
    for placed in drawn.boxes:
        yield _box(placed)
    yield "</svg>\n"


def _edge(link: Link, strokes: list[Stroke]) -> str:
    return (
        f"<g><title>{escape(link.tooltip)}</title>"
        f'<path d="{_path(strokes)}"/>{_head(strokes[-1])}</g>\n'
    )


def _path(strokes: list[Stroke]) -> str:
    """Return strokes, each joined to the next by a curve, as the data of a path."""
    first, last = strokes[0], strokes[-1]
    pieces = [f"M{_number(first.x)} {_number(first.top)}"]
    for stroke, after in zip(strokes, [*strokes[1:], None]):
        end = stroke.bottom - (HEAD - 1 if stroke is last else 0)
        pieces.append(f"V{_number(end)}")
        if after is not None:
            middle = _number((stroke.bottom + after.top) / 2)
            pieces.append(
                f"C{_number(stroke.x)} {middle} {_number(after.x)} {middle} "
                f"{_number(after.x)} {_number(after.top)}"
            )
    return "".join(pieces)


def _head(stroke: Stroke) -> str:
    x, y = stroke.x, stroke.bottom
    return (
        f'<path class="head" fill="{THEMES["light"].edge}" stroke="none" d="M{_number(x)} '
        f'{_number(y)}l{_number(-HEAD / 2)} {_number(-HEAD)}h{_number(HEAD)}z"/>'
    )


def _box(placed: Placed) -> str:
    box, light = placed.box, THEMES["light"]
    kind = box.kind
    parts = [
        f'<g class="{kind}"><title>{escape(box.tooltip)}</title>',
    ]
    outline = placed.outline
    colours = f'fill="{light.fills[kind]}" stroke="{light.borders[kind]}"'
    if box.count > 1:
        moved = [(x + STACKED, y + STACKED) for x, y in outline]
        parts.append(f'<path class="shape" {colours} d="{_shape(moved)}"/>')
    width = ' stroke-width="2.6"' if box.output else ""
    dashes = ' stroke-dasharray="4 3"' if kind == "constant" else ""
    parts.append(f'<path class="shape" {colours}{width}{dashes} d="{_shape(outline)}"/>')
    for number, (text, y, size) in enumerate(placed.text):
        style = f'class="small" fill="{light.faint}"' if number else f'fill="{light.text}"'
        bold = "" if number else f' font-size="{_number(size)}" font-weight="600"'
        parts.append(_text(text, placed.x, y, f"{style}{bold}"))
    for text, x, y in placed.label:
        of_gradient = text.startswith(("grad ", "and from "))
        style, colour = ("gradient", light.gradient) if of_gradient else ("small", light.faint)
        parts.append(_text(text, x, y, f'class="{style}" fill="{colour}" text-anchor="start"'))
    return "".join([*parts, "</g>\n"])


def _text(text: str, x: float, y: float, attributes: str) -> str:
    # Columns of numbers are aligned by spaces, which XML would run together.
    text = re.sub(" {2,}|^ ", lambda found: "\N{NO-BREAK SPACE}" * len(found[0]), text)
    return f'<text x="{_number(x)}" y="{_number(y)}" {attributes}>{escape(text)}</text>'


def _shape(outline: list[tuple[float, float]]) -> str:
    corners = [f"{_number(x)} {_number(y)}" for x, y in outline]
    return f"M{'L'.join(corners)}z"


def _number(value: float) -> str:
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _style() -> str:
    """Return the style sheet: two sets of variables, and what is coloured by them."""
    light, dark = (_variables(THEMES[name]) for name in ("light", "dark"))
    rules = [
        f".miniflow{{{light}}}",
        f"@media (prefers-color-scheme:dark){{.miniflow{{{dark}}}}}",
        ".miniflow .background{fill:var(--background)}",
        ".miniflow .edges{stroke:var(--edge)}",
        ".miniflow .edges .head{fill:var(--edge)}",
        ".miniflow .edges g:hover{stroke:var(--text);stroke-width:2.2}",
        ".miniflow .edges g:hover .head{fill:var(--text)}",
        ".miniflow .shape{stroke-linejoin:round}",
        ".miniflow text{fill:var(--text)}",
        ".miniflow text.small{fill:var(--faint)}",
        ".miniflow text.gradient{fill:var(--gradient)}",
    ]
    rules += [
        f".miniflow .{kind} .shape{{fill:var(--{kind});stroke:var(--{kind}-border)}}"
        for kind in KINDS
    ]
    return "".join(rules)


def _variables(theme: Theme) -> str:
    values = {
        "background": theme.background,
        "text": theme.text,
        "faint": theme.faint,
        "gradient": theme.gradient,
        "edge": theme.edge,
    }
    for kind in KINDS:
        values[kind] = theme.fills[kind]
        values[f"{kind}-border"] = theme.borders[kind]
    return ";".join(f"--{name}:{value}" for name, value in values.items())


STYLE = _style()


def escape(text: str) -> str:
    """Return text as the content of an element."""
    return _escaped(text, quote=False)


def quoteattr(text: str) -> str:
    """Return text as the value of an attribute, quoted."""
    return '"' + escape(text).replace('"', "&quot;") + '"'
