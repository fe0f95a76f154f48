"""The drawers ``mermaid``, ``markdown`` and ``dot``: text that names cannot break out of."""

from __future__ import annotations

import re

import drawn_graphs as graphs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mfcore as mf
import mfops_basic as ops
from mftrace.draw.text import DotDrawer, MarkdownDrawer, MermaidDrawer

pytestmark = pytest.mark.usefixtures("core_packs")

NAMES = [
    '"]; click n0 "javascript:alert(1)"',
    "a\\",
    'a\\"b',
    "end",
    "`**bold**`",
    "x --> y",
    "a\nb",
    "%%{init}%%",
    "#quot;",
]


def named(name):
    return mf.Graph(ops.Sin(mf.Input(name)))


@given(st.one_of(st.sampled_from(NAMES), st.text(min_size=1).filter(str.strip)))
def test_mermaid_keeps_any_name_inside_its_label(name):
    lines = MermaidDrawer().draw(named(name)).splitlines()

    assert lines[0] == "flowchart TD"
    assert re.fullmatch(r'    n0\[/"[^"`<>{}|&\\*]*<br/>input"/\]:::input', lines[2])
    assert lines[4] == "    n0 --> n1"
    assert [line.split()[0] for line in lines[5:]] == [*["classDef"] * 3, "class"]


@given(st.one_of(st.sampled_from(NAMES), st.text(min_size=1).filter(str.strip)))
def test_dot_keeps_any_name_inside_its_strings(name):
    text = DotDrawer().draw(named(name))
    bare = re.sub(r'"(?:[^"\\\n]|\\.)*"', "S", text)

    assert bare.splitlines() == [
        "digraph {",
        "    label=S",
        "    node [fontname=S, fontsize=11, style=filled]",
        "    edge [fontname=S, fontsize=10]",
        "    n0 [label=S, shape=parallelogram, fillcolor=S, color=S, tooltip=S]",
        "    n1 [label=S, shape=box, fillcolor=S, color=S, style=S, penwidth=2.5, tooltip=S]",
        "    n0 -> n1 [tooltip=S]",
        "}",
    ]


def test_markdown_is_mermaid_in_a_fence():
    graph = graphs.deep()

    assert MarkdownDrawer().draw(graph) == f"```mermaid\n{MermaidDrawer().draw(graph)}```\n"


@given(st.text("`~\n ", min_size=1).filter(str.strip))
def test_no_name_ends_the_fence(name):
    page = MarkdownDrawer().draw(named(name))

    assert [line for line in page.splitlines() if line.startswith("```")] == ["```mermaid", "```"]


@pytest.mark.parametrize("drawer", [MermaidDrawer, DotDrawer])
def test_boxes_and_links_are_those_of_the_folded_graph(drawer):
    text = drawer().draw(graphs.deep())
    whole = drawer().draw(graphs.deep(), fold=False)

    assert len(re.findall("^    n[0-9]+ -", text, re.MULTILINE)) == 6
    assert len(re.findall("^    n[0-9]+ -", whole, re.MULTILINE)) == 20 * 4 + 3 + 2
    assert "(Linear - ReLU)" in text
    assert "(Linear - ReLU)" not in whole


def test_edges_have_types_values_and_gradients():
    x, y = mf.Input("x"), mf.Input("y")
    run = mf.Session(ops.Mul(x, y), engine="reference").run({x: 2.0, y: 3.0})
    run.backward()

    assert '-->|"2  float64<br/>grad 3"| n2' in MermaidDrawer().draw(run.session.graph, run)
    assert 'label="2  float64\\ngrad 3"' in DotDrawer().draw(run.session.graph, run)


def test_an_output_has_its_value_in_its_box_and_stands_out():
    x = mf.Input("x")
    run = mf.Session(ops.Sin(x), engine="reference").run({x: 0.0})

    mermaid, dot = (d().draw(run.session.graph, run) for d in (MermaidDrawer, DotDrawer))

    assert 'n1("sin_1<br/>Sin(x)<br/>0  float64"):::operation' in mermaid
    assert mermaid.endswith("    classDef output stroke-width:3px\n    class n1 output\n")
    assert 'n1 [label="sin_1\\nSin(x)\\n0  float64", ' in dot


def test_ten_thousand_nodes_can_be_written_whole():
    text = DotDrawer().draw(graphs.chain(10_000), fold=False)

    assert text.count(" -> ") == 10_000
