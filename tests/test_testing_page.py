"""The page on testing a pack: its programs print what it says, and it names every check."""

from __future__ import annotations

import re
from pathlib import Path

from mfcore.testing import OPERATION_CHECKS, OPTIMIZER_CHECKS

PAGE = "docs/testing-a-pack.md"


def test_the_page_says_what_its_programs_print(page_of_programs):
    blocks = page_of_programs(PAGE)

    assert len(blocks) == 8
    for printed, said in blocks:
        assert printed.replace("docs.", "__main__.") == (said or "")


def test_the_page_names_every_check():
    page = (Path(__file__).parents[1] / PAGE).read_text()
    section = page.partition("## What is checked")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    named = set(re.findall(r"`(.*?)`", " ".join(rows)))

    assert named == {"samples", "engine ...", *OPERATION_CHECKS, *OPTIMIZER_CHECKS}
