"""The drawer ``png``: an image from the same layout, by matplotlib where it is installed."""

from __future__ import annotations

import io
import sys

import drawn_graphs as graphs
import numpy as np
import pytest

import mfcore as mf
import mfops_basic as ops
from mfcore.errors import DrawingError
from mftrace.draw import png
from mftrace.draw.diagram import diagram
from mftrace.draw.palette import THEMES
from mftrace.draw.picture import picture
from mftrace.draw.png import PngDrawer

image = pytest.importorskip("matplotlib.image")
pytestmark = pytest.mark.usefixtures("core_packs")


def pixels(graph, **options):
    data = PngDrawer().draw(graph, **options)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return image.imread(io.BytesIO(data))[..., :3]


def colour(text):
    return np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def share(drawn, text):
    return (np.abs(drawn - colour(text)).max(axis=-1) < 0.01).mean()


@pytest.mark.parametrize("theme", THEMES)
def test_has_the_colours_of_its_theme_where_they_belong(theme):
    graph = mf.Graph(ops.Add(mf.Input("x"), mf.Parameter(1.0, "w"), 2.0))
    drawn, colours = pixels(graph, theme=theme, scale=1), THEMES[theme]

    assert share(drawn, colours.background) > 0.3
    assert drawn[0, 0] - colour(colours.background) == pytest.approx(0, abs=0.01)
    for kind in ("input", "parameter", "constant", "operation"):
        assert share(drawn, colours.fills[kind]) > 0.01
    assert share(drawn, colours.fills["block"]) == 0


@pytest.mark.parametrize("scale", [0.5, 1, 3.0])
def test_is_as_large_as_the_layout_times_the_scale(scale):
    graph = graphs.deep()
    expected = picture(diagram(graph))

    height, width, _ = pixels(graph, scale=scale).shape

    assert width == pytest.approx(expected.width * scale, abs=1)
    assert height == pytest.approx(expected.height * scale, abs=1)


def test_boxes_are_where_the_layout_puts_them():
    graph = mf.Graph(ops.Sin(mf.Input("x")))
    drawn = pixels(graph, scale=1)

    for box in picture(diagram(graph)).boxes:
        inside = drawn[int(box.y), int(box.x - box.half_width + 8)]
        np.testing.assert_allclose(inside, colour(THEMES["light"].fills[box.box.kind]), atol=0.01)


def test_an_enormous_picture_is_drawn_smaller(monkeypatch):
    monkeypatch.setattr(png, "MOST_PIXELS", 10_000)

    height, width, _ = pixels(graphs.deep()).shape

    assert 8_000 < height * width < 11_000


def test_the_same_graph_gives_the_same_bytes():
    graph = graphs.deep()

    assert PngDrawer().draw(graph) == PngDrawer().draw(graph)


def test_a_formula_s_dollars_are_a_name_and_values_are_drawn():
    x = mf.Input(r"$\frac{a}{$")
    run = mf.Session(ops.Sin(x), engine="reference").run({x: 2.0})
    run.backward()

    drawn = PngDrawer().draw(run.session.graph, run)

    assert drawn != PngDrawer().draw(run.session.graph)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"theme": "sepia"}, "theme= is 'light' or 'dark', not 'sepia'"),
        ({"scale": 0}, "scale= is a number above 0"),
        ({"scale": float("nan")}, "scale= is a number above 0"),
        ({"scale": "2"}, "scale= is a number above 0"),
        ({"fold": "?"}, "fold= is"),
    ],
)
def test_an_option_that_it_cannot_use_is_an_error(options, message):
    with pytest.raises(DrawingError, match=message):
        PngDrawer().draw(graphs.chain(2), **options)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    with pytest.raises(DrawingError, match=r"pip install mftrace\[png\]"):
        PngDrawer().draw(graphs.chain(2))
