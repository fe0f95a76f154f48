"""The page on drawing says what its programs print, and shows the picture that they draw."""

from __future__ import annotations

from pathlib import Path

import mfcore as mf

IMAGE = Path(__file__).parents[1] / "docs" / "images" / "boston.svg"


def test_the_page_says_what_its_programs_print_and_shows_what_they_draw(
    page_of_programs, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with mf.registry.using(mf.Registry()):  # the page registers a pack
        blocks = page_of_programs("docs/drawing.md")

    assert len(blocks) == 4
    for printed, said in blocks:
        assert printed == (said or "")
    assert (tmp_path / "boston.svg").read_text("utf-8") == IMAGE.read_text("utf-8")
