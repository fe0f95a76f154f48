"""The drawer ``svg``: well-formed, escaped, told apart by more than colour, the same every time."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import drawn_graphs as graphs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mfcore as mf
import mfops_basic as ops
from mfcore.errors import DrawingError
from mfops_nn import MSE, Linear, Sigmoid
from mftrace.draw import words
from mftrace.draw.diagram import diagram
from mftrace.draw.palette import ADVANCE, KINDS, SMALL, THEMES, TITLE
from mftrace.draw.picture import picture
from mftrace.draw.svg import SvgDrawer
from mftrace.draw.text import DotDrawer, MermaidDrawer
from mftrace.draw.words import columns

pytestmark = pytest.mark.usefixtures("core_packs")

GOLDEN = Path(__file__).parent / "golden"
SVG = "{http://www.w3.org/2000/svg}"

PROGRAMS = {
    "one_layer": """
import mfcore as mf
from mfops_nn import MSE, Linear, Sigmoid

X, y = mf.Input("X", shape=(None, 2)), mf.Input("y")
W1, b1 = mf.Parameter([[2.0], [3.0]], "W1"), mf.Parameter([-3.0], "b1")
session = mf.Session(MSE(y, Sigmoid(Linear(X, W1, b1))), engine="reference")
""",
    "fan_out": """
import mfcore as mf
from mfops_basic import Add, Mul

x, y, z = mf.Input("x"), mf.Input("y"), mf.Input("z")
session = mf.Session(Add(Mul(x, y), Mul(x, z), 1.5), engine="reference")
run = session.run({x: 2.0, y: 3.0, z: 4.0})
run.backward(wrt=[x])
""",
}


DRAWERS = {"svg": SvgDrawer, "mmd": MermaidDrawer, "dot": DotDrawer}


def drawn(name, suffix):
    namespace = {"__name__": "example"}
    exec(compile(PROGRAMS[name], "/somewhere/example.py", "exec"), namespace)
    graph = namespace["session"].graph
    return DRAWERS[suffix]().draw(graph, namespace.get("run"))


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("suffix", DRAWERS)
def test_draws_exactly_the_golden_picture(name, suffix):
    golden = (GOLDEN / f"draw_{name}.{suffix}").read_text(encoding="utf-8")

    assert drawn(name, suffix) == golden


def svg(graph, run=None, **options):
    return SvgDrawer().draw(
        graph if isinstance(graph, mf.Graph) else mf.Graph(graph), run, **options
    )


def parsed(graph, run=None, **options):
    return ET.fromstring(svg(graph, run, **options))


def texts(root):
    return [element.text for element in root.iter(f"{SVG}text")]


def tooltips(root):
    return [
        element.find(f"{SVG}title").text
        for element in root.iter(f"{SVG}g")
        if element.find(f"{SVG}title") is not None
    ]


def network():
    X, y = mf.Input("X", shape=(None, 3)), mf.Input("y")
    W, b = mf.Parameter(np.ones((3, 1)), "W"), mf.Parameter(np.zeros(1), "b")
    return mf.Graph(MSE(y, Sigmoid(Linear(X, W, b)) * 2.0))


def test_is_well_formed_xml_with_a_size_and_a_description_for_who_cannot_see_it():
    root = parsed(network())

    assert root.tag == f"{SVG}svg"
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == "Graph of 9 nodes"
    description = root.find(f"{SVG}desc").text
    assert "2 inputs, 2 parameters, 1 constant, 4 operations" in description
    assert "to mse_1" in description
    assert root.get("aria-label") == f"Graph of 9 nodes. {description}"


def test_needs_nothing_from_elsewhere_and_runs_nothing():
    text = svg(network())

    assert re.findall(r"\w+://[^\"']+", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"<script|href|url\(|@import|<image|\bon\w+=", text)


def test_says_in_words_what_each_box_is():
    shown = texts(parsed(network()))

    assert [shown.count(kind) for kind in ("input", "parameter")] == [2, 2]
    assert {"constant 2.0", "Linear(X, W, b)", "X @ W + b", "Mul(sigmoid_1, constant_1)"} <= set(
        shown
    )


def test_kinds_have_shapes_of_their_own():
    placed = picture(diagram(network())).boxes
    corners = {}
    for box in placed:
        outline = box.outline
        straight = outline[0][0] == outline[-1][0]
        corners[box.box.kind] = (len(outline), straight)

    assert corners["input"] == (4, False)
    assert corners["parameter"] == (6, False)
    assert corners["operation"] == corners["constant"] == (4, True)
    assert svg(network()).count("stroke-dasharray") == 1  # the constant's


def test_the_output_has_a_thick_border_and_an_arrow_out():
    root = parsed(network())

    assert svg(network()).count('stroke-width="2.6"') == 1
    assert len(root.findall(f".//{SVG}path[@class='head']")) == 8 + 1


def test_shapes_known_before_a_run_stand_beside_the_edges():
    shown = texts(parsed(network()))

    assert {"[?, 3]", "float64[3, 1]", "float64[1]", "float64[?, 1]"} <= set(shown)


def test_a_run_shows_types_small_values_and_gradients():
    graph = network()
    run = mf.Session(graph, engine="reference").run({"X": np.ones((9, 3)), "y": [1.0] * 9})

    before = texts(parsed(graph, run))
    run.backward()
    after = texts(parsed(graph, run))

    assert {"float64[9, 3]", "float64[9, 1]", "[0]", "constant"} <= set(before)
    assert any(re.fullmatch(r"0\.\d+\N{NO-BREAK SPACE}{2}float64", word) for word in before)
    assert not any(word.startswith("grad") for word in before)
    assert any(re.fullmatch(r"grad norm 0\.\d+", word) for word in after)
    assert any(re.fullmatch(r"grad \[0\.\d+\]", word) for word in after)


def test_each_edge_s_gradient_is_told_where_a_node_has_several_readers():
    x, y = mf.Input("x"), mf.Input("y")
    run = mf.Session(ops.Add(ops.Mul(x, y), x), engine="reference").run({x: 2.0, y: 3.0})
    run.backward(wrt=[x])

    shown = texts(parsed(run.session.graph, run))
    start = shown.index("grad from add_1 1")

    assert shown[start : start + 3] == ["grad from add_1 1", "grad from mul_1 3", "grad total 4"]


def test_drawing_gradients_tells_no_tracer_and_changes_nothing():
    graph = network()
    run = mf.Session(graph, engine="reference").run({"X": np.ones((9, 3)), "y": [1.0] * 9})
    gradients = run.backward()
    kept = {node: array.copy() for node, array in gradients.items()}
    heard = []

    class Spy:
        @mf.hookimpl
        def mf_backward_start(self, node):
            heard.append(node)

    with mf.tracing(Spy()):
        svg(graph, run)

    assert heard == []
    assert run.computed_gradients is gradients
    for node, array in kept.items():
        np.testing.assert_array_equal(gradients[node], array)


def test_a_tooltip_says_all_there_is_to_say_of_a_node():
    X = mf.Input("X", shape=(None, 3))
    W, b = mf.Parameter(np.ones((3, 2)), "W"), mf.Parameter(np.zeros(2), "b")
    graph = mf.Graph(Linear(X, W, b))
    run = mf.Session(graph, engine="reference").run({X: np.ones((9, 3))})
    (about,) = (text for text in tooltips(parsed(graph, run)) if text.startswith("linear_1"))

    lines = about.splitlines()
    assert lines[:6] == [
        "linear_1", "operation Linear of the pack mfops_nn",
        "  X = X", "  W = W", "  b = b", "float64[?, 2]",
    ]  # fmt: skip
    assert lines[6] == "value float64[9, 2] min 3 max 3 mean 3"
    assert re.fullmatch(r"built at test_draw_svg\.py:\d+", lines[7])


def test_a_tooltip_of_an_edge_names_the_field_that_it_feeds():
    about = tooltips(parsed(network()))

    assert "W → linear_1 (W)" in about
    assert "sigmoid_1 → mul_1 (factors[0])" in about


HOSTILE = [
    "<script>alert(1)</script>",
    "</text></svg><script>alert(1)</script>",
    "a & b",
    "\"quoted\" 'twice'",
    "]]>",
    "&lt;",
    "\x00\x1b[31m\u202egnp.exe",
    "$x^2$",
    "日本語",
    "e\u0301",
    "x" * 500,
    "a\nb",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_is_shown_as_text(name):
    x = mf.Input(name)
    text = svg(ops.Sin(x))
    root = ET.fromstring(text)

    assert "<script" not in text
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        *("svg", "title", "desc", "style", "rect", "g", "path", "text"),
    }
    shown = texts(root)[0].replace("\N{NO-BREAK SPACE}", " ")
    if name.isprintable() and len(name) <= words.NAME:
        assert shown == name


@given(st.text(min_size=1).filter(str.strip))
def test_any_text_is_a_name_that_gives_well_formed_xml(name):
    text = svg(ops.Sin(mf.Input(name)))

    assert ET.fromstring(text) is not None
    assert not re.search("[\x00-\x08\x0b-\x1f]", text)


def test_text_fits_in_its_box():
    for graph in (
        network(),
        graphs.deep(),
        graphs.recurrent(),
        mf.Graph(ops.Sin(mf.Input("日" * 50))),
    ):
        for placed in picture(diagram(graph)).boxes:
            for text, y, size in placed.text:
                assert size in (TITLE, SMALL)
                assert columns(text) * ADVANCE * size <= 2 * placed.half_width
                assert placed.y - placed.half_height < y - size * 0.7
                assert y < placed.y + placed.half_height


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_text_and_lines_stand_out_as_the_accessibility_guidelines_ask(theme):
    # WCAG 2.2: 4.5 for text (1.4.3), 3 for what is needed to understand graphics (1.4.11).
    for fill in [theme.background, *theme.fills.values()]:
        assert contrast(theme.text, fill) >= 4.5
        assert contrast(theme.faint, fill) >= 4.5
    assert contrast(theme.gradient, theme.background) >= 4.5
    for line in [theme.edge, *theme.borders.values()]:
        assert contrast(line, theme.background) >= 3
    assert set(theme.fills) == set(theme.borders) == set(KINDS)


def test_follows_the_reader_s_preference_for_light_or_dark():
    text = svg(network())

    light, dark = text.split("@media (prefers-color-scheme:dark)")
    for name in ("text", "input", "parameter-border"):
        assert f"--{name}:" in light
        assert f"--{name}:" in dark
        assert f"var(--{name})" in text
    assert THEMES["dark"].background in dark


def test_its_style_touches_nothing_else_on_a_page():
    style = parsed(network()).find(f"{SVG}style").text
    rules = re.findall(r"([^{}]+)\{", style.replace("@media (prefers-color-scheme:dark){", ""))

    assert rules
    assert all(rule.startswith(".miniflow") for rule in rules)
    assert " id=" not in svg(network())


DRAWS = """
import mfcore as mf, mfops_basic as ops
import mftrace.draw.svg
x = mf.Input("x")
nodes = [ops.Sin(x), ops.Cos(x), ops.Exp(x)]
for i in range(40):
    nodes.append(ops.Add(nodes[i], nodes[(7 * i) % len(nodes)]))
print(mftrace.draw.svg.SvgDrawer().draw(mf.Graph(nodes), fold=True))
"""


def test_the_same_graph_gives_the_same_bytes_in_every_process(fresh_python):
    assert fresh_python(DRAWS, PYTHONHASHSEED="1") == fresh_python(DRAWS, PYTHONHASHSEED="2")


def test_a_repetition_looks_like_a_stack():
    root = parsed(graphs.deep())
    (block,) = root.findall(f".//{SVG}g[@class='block']")

    assert len(block.findall(f"{SVG}path")) == 2
    assert "40 operations, 40 parameters" in texts(root)


def test_options_that_it_does_not_know_are_errors():
    with pytest.raises(TypeError, match="colour"):
        svg(network(), colour="red")
    with pytest.raises(DrawingError, match="fold="):
        svg(network(), fold="maybe")
