"""The drawers ``mermaid``, ``markdown`` and ``dot``: a graph as text for other tools."""

from __future__ import annotations

from typing import ClassVar

import mfcore as mf
from mftrace.draw.diagram import Box, Diagram, diagram
from mftrace.draw.groups import Fold
from mftrace.draw.palette import KINDS, THEMES

_BRACKETS = {
    "input": ("[/", "/]"),
    "parameter": ("{{", "}}"),
    "constant": ("[", "]"),
    "operation": ("(", ")"),
    "block": ("[[", "]]"),
}
_SHAPES = {
    "input": "parallelogram",
    "parameter": "hexagon",
    "constant": "box",
    "operation": "box",
    "block": "box3d",
}


class MermaidDrawer:
    """Draws a graph as a flowchart for Mermaid."""

    name: ClassVar[str] = "mermaid"
    suffixes: ClassVar[tuple[str, ...]] = (".mmd", ".mermaid")

    def draw(self, graph: mf.Graph, run: mf.Run | None = None, *, fold: Fold = "auto") -> str:
        """Return the flowchart; the options are those of the drawer ``svg``."""
        return _mermaid(diagram(graph, run, fold=fold))


class MarkdownDrawer:
    """Draws a graph as Markdown that holds a flowchart, which many sites show as a picture."""

    name: ClassVar[str] = "markdown"
    suffixes: ClassVar[tuple[str, ...]] = (".md", ".markdown")

    def draw(self, graph: mf.Graph, run: mf.Run | None = None, *, fold: Fold = "auto") -> str:
        """Return the page; the options are those of the drawer ``svg``."""
        return f"```mermaid\n{_mermaid(diagram(graph, run, fold=fold))}```\n"


class DotDrawer:
    """Draws a graph in the DOT language of Graphviz."""

    name: ClassVar[str] = "dot"
    suffixes: ClassVar[tuple[str, ...]] = (".dot", ".gv")

    def draw(self, graph: mf.Graph, run: mf.Run | None = None, *, fold: Fold = "auto") -> str:
        """Return the text; the options are those of the drawer ``svg``."""
        return _dot(diagram(graph, run, fold=fold))


def _mermaid(drawn: Diagram) -> str:
    theme = THEMES["light"]
    lines = ["flowchart TD", f"    accTitle: {drawn.title}"]
    for number, (box, written) in enumerate(zip(drawn.boxes, _lines(drawn), strict=True)):
        left, right = _BRACKETS[box.kind]
        text = "<br/>".join(map(_mermaid_text, written))
        lines.append(f'    n{number}{left}"{text}"{right}:::{box.kind}')
    for link in drawn.links:
        label = "<br/>".join(map(_mermaid_text, drawn.boxes[link.source].label))
        arrow = f'-->|"{label}"|' if label else "-->"
        lines.append(f"    n{link.source} {arrow} n{link.target}")
    for kind in KINDS:
        if any(box.kind == kind for box in drawn.boxes):
            dashes = ",stroke-dasharray:4 3" if kind == "constant" else ""
            lines.append(
                f"    classDef {kind} fill:{theme.fills[kind]},stroke:{theme.borders[kind]},"
                f"color:{theme.text}{dashes}"
            )
    outputs = ",".join(f"n{number}" for number, box in enumerate(drawn.boxes) if box.output)
    lines += ["    classDef output stroke-width:3px", f"    class {outputs} output"]
    return "\n".join([*lines, ""])


def _lines(drawn: Diagram) -> list[tuple[str, ...]]:
    """Return what is written in each box: also what would be beside an edge, if none leaves it."""
    left = {link.source for link in drawn.links}
    return [
        (box.title, *box.lines, *(() if number in left else box.label))
        for number, box in enumerate(drawn.boxes)
    ]


def _mermaid_text(text: str) -> str:
    # All that could end a label or begin something in it: marks of strings, HTML, Markdown.
    return "".join(
        c if c.isalnum() or c in " _.,:;=()[]?/+-…→'" else f"#{ord(c)};" for c in text
    ).strip()


def _dot(drawn: Diagram) -> str:
    lines = [
        "digraph {",
        f"    label={_quoted(drawn.title)}",
        '    node [fontname="monospace", fontsize=11, style=filled]',
        '    edge [fontname="monospace", fontsize=10]',
    ]
    for number, (box, written) in enumerate(zip(drawn.boxes, _lines(drawn), strict=True)):
        lines.append(f"    n{number} [{_attributes(box, written)}]")
    for link in drawn.links:
        label = drawn.boxes[link.source].label
        text = f"label={_quoted(*label)}, " if label else ""
        lines.append(
            f"    n{link.source} -> n{link.target} [{text}tooltip={_quoted(link.tooltip)}]"
        )
    return "\n".join([*lines, "}", ""])


def _attributes(box: Box, lines: tuple[str, ...]) -> str:
    fill, border = THEMES["light"].fills[box.kind], THEMES["light"].borders[box.kind]
    attributes = [
        f"label={_quoted(*lines)}",
        f"shape={_SHAPES[box.kind]}",
        f'fillcolor="{fill}"',
        f'color="{border}"',
    ]
    if box.kind in ("operation", "constant"):
        style = "filled,rounded" if box.kind == "operation" else "filled,dashed"
        attributes.append(f'style="{style}"')
    if box.output:
        attributes.append("penwidth=2.5")
    attributes.append(f"tooltip={_quoted(*box.tooltip.splitlines())}")
    return ", ".join(attributes)


def _quoted(*lines: str) -> str:
    # Graphviz reads `&amp;` and the like in labels too.
    escaped = [
        line.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;") for line in lines
    ]
    return '"' + "\\n".join(escaped) + '"'
