"""The page on model files says what its programs print, and names every kind of value."""

from __future__ import annotations

import re
from pathlib import Path

from mfcore.json_values import Decoder


def test_the_page_on_files_says_what_its_programs_print(page_of_programs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = page_of_programs("docs/files.md")

    assert len(blocks) == 7
    for printed, said in blocks:
        assert printed == said


def test_the_page_on_files_names_every_kind_of_value():
    page = (Path(__file__).parents[1] / "docs/files.md").read_text(encoding="utf-8")

    kinds = re.findall(r'^\| `\{"(\w+)": .*?\}` \|', page, re.MULTILINE)

    assert set(kinds) == set(Decoder()._kinds)
