"""What notebooks show of nodes, graphs, runs and sessions. All text is escaped here."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcore.drawing import drawn_inline
from mfcore.node import Constant, Node, Parameter, dtype_of, shape_of

if TYPE_CHECKING:
    from mfcore.graph import Graph
    from mfcore.run import Gradients, Run
    from mfcore.session import Session

ROWS = 50
"""Rows of a table that are shown; how many more there are is said below."""

SMALL = 12
"""Arrays of more elements are told by their range and mean."""

_CELL = 'style="text-align:left;vertical-align:top"'


# The pieces: whatever they are given is text, and is escaped


def panel(title: str, *parts: str) -> str:
    """Return parts, each of them HTML, below a title."""
    return (
        f'<div class="miniflow-panel"><p><strong>{escape(title)}</strong></p>{"".join(parts)}</div>'
    )


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return labels and texts as a table of two columns; empty texts are left out."""
    body = "".join(
        f'<tr><th scope="row" {_CELL}>{escape(label)}</th><td {_CELL}>{_text(text)}</td></tr>'
        for label, text in rows
        if text
    )
    return f"<table><tbody>{body}</tbody></table>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], count: int) -> str:
    """Return at most ``ROWS`` of ``count`` rows of texts as a table; nothing if there are none."""
    if not count:
        return ""
    shown = [row for row, _ in zip(rows, range(ROWS))]
    head = "".join(f'<th scope="col" {_CELL}>{escape(column)}</th>' for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td {_CELL}>{_text(text)}</td>' for text in row)}</tr>" for row in shown
    )
    left_out = count - len(shown)
    more = f"<p>and {left_out} more</p>" if left_out else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _text(text: str) -> str:
    if "\n" in text:
        return f'<pre style="margin:0;text-align:left">{escape(text)}</pre>'
    return escape(text)


# What the texts say


def value_text(value: Any) -> str:
    """Return a small array in full, of a large one the range and mean of its finite elements."""
    array = np.asarray(value)
    if array.size <= SMALL or array.dtype.kind not in "biuf":
        return np.array2string(array, precision=6, threshold=SMALL, edgeitems=2)
    finite = array[np.isfinite(array)]
    bad = array.size - finite.size
    found = []
    if finite.size:
        low, high = finite.min(), finite.max()
        with np.errstate(all="ignore"):  # the sum may overflow
            found.append(f"min {low:.6g}, max {high:.6g}, mean {finite.mean():.6g}")
    if bad:
        found.append(f"{bad} not finite")
    return ", ".join(found)


def _shape_text(shape: Sequence[int | None] | None) -> str:
    if shape is None:
        return "any"
    sizes = ["any" if axis is None else str(axis) for axis in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _type_text(value: Any) -> str:
    return f"{np.asarray(value).dtype}{list(np.shape(value))}"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _site_text(node: Node) -> str:
    file, line = node.site
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    # What IPython calls the code of a cell, whose file only it knows: ("Cell", "In[3]").
    name_of = getattr(getattr(shell, "compile", None), "format_code_name", lambda _file: None)
    found = name_of(file)
    return f"{file}:{line}" if found is None else f"{' '.join(found)}, line {line}"


def _hyperparameter_text(value: Any) -> str:
    text = value_text(value) if isinstance(value, (np.ndarray, np.generic)) else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _call_text(graph: Graph, node: Node) -> str:
    """Return what a node is: ``Linear(X, W, b)``, for a leaf its kind."""
    if not node.inputs:
        return type(node).__name__
    read = [graph.name(source) for source in node.inputs[:SMALL]]
    more = ", ..." if len(node.inputs) > SMALL else ""
    return f"{type(node).__name__}({', '.join(read)}{more})"


# The objects


def node_html(node: Node) -> str:
    """Return a node: what it is, what is known of it, what it reads, where it was built."""
    spec = node.__operation__
    pack, _, kind = node.qualified_name().rpartition(".")
    title = f"{node.name} = {kind}" if node.name else kind
    rows = [("name", node.name or "given by each graph"), ("operation", kind), ("pack", pack)]
    if spec is not None:
        summary = (type(node).__doc__ or "").partition("\n\n")[0].replace("``", "")
        rows.insert(2, ("meaning", " ".join(summary.split())))
    dtype = dtype_of(node)
    rows.append(("shape", _shape_text(shape_of(node))))
    rows.append(("dtype", "any" if dtype is None else str(dtype)))
    if isinstance(node, (Parameter, Constant)):
        label = "initial value" if isinstance(node, Parameter) else "value"
        rows.append((label, value_text(node.value)))
    if spec is not None:
        rows += [(name, _hyperparameter_text(getattr(node, name))) for name in spec.hyperparameters]
        fields = spec.input_names(len(node.inputs))
        read = [
            f"{field}: {source.name or 'a'} {type(source).__name__}".strip()
            for field, source in zip(fields[:SMALL], node.inputs)
        ]
        if len(node.inputs) > SMALL:
            read.append(f"and {len(node.inputs) - SMALL} more")
        rows.append(("inputs", "\n".join(read)))
    rows.append(("built at", _site_text(node)))
    return panel(title, facts(rows))


def graph_html(graph: Graph) -> str:
    """Return a graph as a table of its nodes in order, for where no pack draws it."""
    rows = (
        (
            str(number),
            graph.name(node),
            _call_text(graph, node),
            _shape_text(shape_of(node)),
            "" if dtype_of(node) is None else str(dtype_of(node)),
        )
        for number, node in enumerate(graph, start=1)
    )
    outputs = ", ".join(graph.name(node) for node in graph.outputs[:SMALL])
    return panel(
        f"Graph of {_plural(len(graph), 'node')}, up to {outputs}",
        table(("", "node", "operation", "shape", "dtype"), rows, len(graph)),
    )


def run_html(run: Run) -> str:
    """Return a run: the values of the outputs, the engine, and the picture of the graph."""
    graph, engine = run.session.graph, run.engine
    outputs = (
        (graph.name(node), _call_text(graph, node), _type_text(run[node]), value_text(run[node]))
        for node in graph.outputs
    )
    done = run.computed_gradients
    known = [] if done is None else [graph.name(node) for node in list(done)[:SMALL]]
    more = [] if done is None or len(done) <= SMALL else [f"{len(done) - SMALL} more"]
    rows = [
        ("engine", f"{engine}: {engine.reason}" if engine.reason else str(engine)),
        ("gradients of", "" if done is None else graph.name(done.of)),
        ("with respect to", ", ".join(known + more)),
    ]
    picture = drawn_inline(graph, run)
    return panel(
        f"Run of {_plural(len(graph), 'node')}",
        table(("output", "operation", "type", "value"), outputs, len(graph.outputs)),
        facts(rows),
        "" if picture is None else f"<details open><summary>graph</summary>{picture}</details>",
    )


def gradients_html(gradients: Gradients, graph: Graph) -> str:
    """Return the gradients that were computed: their shapes, norms and values."""
    rows = (
        (
            graph.name(node),
            _type_text(gradient),
            f"{np.linalg.norm(np.asarray(gradient, np.float64).ravel()):.6g}",
            value_text(gradient),
        )
        for node, gradient in gradients.items()
    )
    return panel(
        f"Gradients of {graph.name(gradients.of)}",
        table(("with respect to", "type", "Euclidean norm", "gradient"), rows, len(gradients)),
    )


def session_html(session: Session) -> str:
    """Return a session: its engine, its inputs, its parameters as they are now."""
    graph, engine = session.graph, session.trains_on
    inputs = [
        f"{graph.name(node)}: {_shape_text(node.shape)}"
        + ("" if node.dtype is None else f" {node.dtype}")
        for node in graph.inputs[:SMALL]
    ]
    if len(graph.inputs) > SMALL:
        inputs.append(f"and {len(graph.inputs) - SMALL} more")
    parameters = (
        (graph.name(node), _type_text(session[node]), value_text(session[node]))
        for node in graph.parameters
    )
    count = sum(node.value.size for node in graph.parameters)
    rows = [
        ("engine", session.engine.name),
        ("trains on", f"{engine}: {engine.reason}" if engine.reason else str(engine)),
        ("graph", f"{_plural(len(graph), 'node')}, up to {graph.name(graph.outputs[0])}"),
        ("inputs", "\n".join(inputs)),
        ("training steps done", str(session.steps)),
        ("trained numbers", str(count)),
        ("tracers", ", ".join(type(tracer).__name__ for tracer in session.tracers)),
    ]
    return panel(
        "Session",
        facts(rows),
        table(("parameter", "type", "value"), parameters, len(graph.parameters)),
    )
