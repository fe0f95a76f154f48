"""The pages on engines and lowering say what their programs print."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(("page", "count"), [("docs/engines.md", 8), ("docs/lowering.md", 9)])
def test_a_page_says_what_its_programs_print(page_of_programs, page, count):
    blocks = page_of_programs(page)

    assert len(blocks) == count
    for printed, said in blocks:
        assert printed == said
