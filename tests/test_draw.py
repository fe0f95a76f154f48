"""``Graph.draw``: which drawer, what is returned, and files written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

import mfcore as mf
import mftrace.pack
from mfcore import drawing
from mfcore.errors import AmbiguousNameError, DrawingError, DrawingFileError, MiniFlowError
from mfcore.registry import Registry


class Plugin:
    def __init__(self, *drawers):
        self.drawers = drawers

    @mf.hookimpl
    def mf_drawers(self):
        return self.drawers


class Ink:
    """Draws nothing but what it was given."""

    name = "ink"
    suffixes = (".ink", ".svg")

    def draw(self, graph, run=None, **options):
        return f"{len(graph)} {run is not None} {options}"


class Bytes:
    name = "bytes"
    suffixes = (".bin",)

    def draw(self, graph, run=None):
        return b"\x00\xff"


@pytest.fixture
def inks():
    registry = Registry(autoload=False)
    registry.register(Plugin(Ink, Bytes), "inks")
    with mf.registry.using(registry):
        yield registry


@pytest.fixture
def graph():
    return mf.Graph(mf.Input("x"))


# Which drawer


def test_the_suffix_chooses_the_drawer_whatever_its_case(inks, graph, tmp_path):
    graph.draw(tmp_path / "a.ink")
    graph.draw(str(tmp_path / "b.BIN"))

    assert (tmp_path / "a.ink").read_text() == "1 False {}"
    assert (tmp_path / "b.BIN").read_bytes() == b"\x00\xff"


def test_a_format_goes_before_the_suffix_and_may_be_qualified(inks, graph, tmp_path):
    assert graph.draw(tmp_path / "a.bin", format="ink") is None
    assert graph.draw(tmp_path / "a", format="inks.bytes") is None

    assert (tmp_path / "a.bin").read_text() == "1 False {}"
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"


def test_without_a_path_the_picture_is_returned(inks, graph):
    assert graph.draw(format="ink") == "1 False {}"
    assert graph.draw(format="bytes") == b"\x00\xff"


def test_the_run_and_options_reach_the_drawer(inks, graph):
    run = mf.Session(graph, engine="reference").run({"x": 1.0})

    assert graph.draw(format="ink", run=run, width=3) == "1 True {'width': 3}"


def test_an_unknown_suffix_lists_those_that_are_known(inks, graph):
    with pytest.raises(DrawingError) as raised:
        graph.draw("net.gif")

    assert "'net.gif': no drawer for files that end in '.gif'" in str(raised.value)
    assert "bytes (.bin), ink (.ink, .svg)" in str(raised.value)
    assert not Path("net.gif").exists()


def test_an_unknown_format_lists_those_that_are_known(inks, graph):
    with pytest.raises(DrawingError, match=r"drawer 'inc'; did you mean ink\?(.|\n)*ink \(\.ink"):
        graph.draw(format="inc")


def test_neither_path_nor_format_is_an_error(inks, graph):
    with pytest.raises(DrawingError, match=r"where to draw .* or give format=.*ink"):
        graph.draw()


def test_a_suffix_of_two_drawers_asks_for_a_format(inks, graph, tmp_path):
    inks.register(mftrace.pack, "mftrace")

    with pytest.raises(AmbiguousNameError, match=r"format=: inks\.ink, mftrace\.svg"):
        graph.draw(tmp_path / "net.svg")
    graph.draw(tmp_path / "net.svg", format="svg")

    assert (tmp_path / "net.svg").read_text("utf-8").startswith("<svg")


def test_without_any_drawer_the_error_says_which_pack_to_install(graph):
    with mf.registry.using(Registry(autoload=False)):
        with pytest.raises(DrawingError, match="`pip install mftrace`"):
            graph.draw("net.svg")
        assert graph._repr_svg_() is None


def test_a_quarantined_drawer_is_told(graph):
    class Broken:
        @mf.hookimpl
        def mf_drawers(self):
            raise OSError("no ink")

    class EntryPoint:
        name, value, dist = "broken", "broken.pack", None

        def load(self):
            return Broken()

    registry = Registry(
        autoload=True, disabled=(), strict=False, entry_points=lambda: [EntryPoint()]
    )
    with mf.registry.using(registry), pytest.raises(DrawingError, match="no ink"):
        graph.draw("net.svg")


def test_a_run_of_another_graph_is_an_error(inks, graph):
    other = mf.Session(mf.Input("y"), engine="reference").run({"y": 1.0})

    for run in (other, "a run"):
        with pytest.raises(DrawingError, match="run= must be a run of the graph that is drawn"):
            graph.draw(format="ink", run=run)


# Notebooks


def test_a_notebook_shows_a_graph_and_a_run(graph):
    with mf.registry.using(Registry(autoload=False)) as registry:
        registry.register(mftrace.pack, "mftrace")
        run = mf.Session(graph, engine="reference").run({"x": 7.5})

        assert graph._repr_svg_() == graph.draw(format="svg")
        assert run._repr_svg_() == graph.draw(format="svg", run=run)
        assert "7.5" in run._repr_svg_()
        assert "7.5" not in graph._repr_svg_()


def test_a_notebook_shows_a_graph_as_text_where_several_packs_draw_svg(graph, inks):
    class Other(Ink):
        name = "svg"

    inks.register(mftrace.pack, "mftrace")
    inks.register(Plugin(Other), "others")

    assert graph._repr_svg_() is None


# Files


def test_a_failing_drawer_leaves_the_old_file(inks, graph, tmp_path):
    target = tmp_path / "a.bin"
    target.write_text("old")

    with pytest.raises(TypeError):
        graph.draw(target, colour="red")

    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("fails", ["replace", "fdopen"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(
    inks, graph, tmp_path, monkeypatch, fails
):
    target = tmp_path / "a.ink"
    target.write_text("old")

    def full(*args):
        if fails == "fdopen":
            os.close(args[0])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(drawing.os, fails, full)
    with pytest.raises(DrawingFileError, match="a.ink': No space left on device"):
        graph.draw(target)

    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.ink"]


def test_a_missing_folder_is_named(inks, graph, tmp_path):
    with pytest.raises(DrawingFileError, match=r"cannot write .*a\.ink.*create the folder .*none"):
        graph.draw(tmp_path / "none" / "a.ink")


def test_a_folder_in_its_place_is_an_error(inks, graph, tmp_path):
    (tmp_path / "a.ink").mkdir()

    with pytest.raises(DrawingFileError, match=r"a\.ink': Is a directory") as raised:
        graph.draw(tmp_path / "a.ink")

    assert isinstance(raised.value, OSError)
    assert isinstance(raised.value, MiniFlowError)
    assert os.listdir(tmp_path) == ["a.ink"]


def test_the_file_gets_the_permissions_that_it_had_or_that_new_files_get(inks, graph, tmp_path):
    kept, new, plain = (tmp_path / name for name in ("kept.ink", "new.ink", "plain"))
    kept.write_text("old")
    kept.chmod(0o600)
    plain.write_text("")

    graph.draw(kept)
    graph.draw(new)

    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert new.stat().st_mode == plain.stat().st_mode


def test_a_link_stays_a_link(inks, graph, tmp_path):
    (tmp_path / "there.ink").write_text("old")
    (tmp_path / "link.ink").symlink_to("there.ink")

    graph.draw(tmp_path / "link.ink")

    assert (tmp_path / "link.ink").is_symlink()
    assert (tmp_path / "there.ink").read_text() == "1 False {}"


# What a run lets a drawer know


def test_a_run_tells_whether_it_computed_gradients_and_of_what(core_packs):
    x = mf.Input("x")
    y = x * x
    run = mf.Session(y, engine="reference").run({x: [1.0, 2.0]})

    before = run.computed_gradients
    gradients = run.backward(grad=[1.0, 10.0])

    assert before is None
    assert run.computed_gradients is gradients
    assert gradients.of is y
    np.testing.assert_array_equal(gradients.seed, [1.0, 10.0])


def test_the_seed_of_a_scalar_is_one(core_packs):
    x = mf.Input("x")
    gradients = mf.Session((x * x).sum(), engine="reference").run({x: [1.0, 2.0]}).gradients

    assert gradients.seed == 1
