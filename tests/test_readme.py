"""The README's programs run as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_the_programs_of_the_readme_run_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    namespace: dict[str, object] = {"__name__": "readme"}

    for block in blocks:
        exec(compile(block, str(README), "exec"), namespace)

    printed = capsys.readouterr().out
    assert "-12 -4.0 3.0" in printed
    assert "[[9.]]" in printed
    assert "auto (3, 1)" in printed or "numpy (3, 1)" in printed or "numba (3, 1)" in printed
    assert len(blocks) == 6


def test_every_page_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8"))

    missing = [link for link in links if not (README.parent / link).exists()]

    assert links
    assert missing == []


def test_the_readme_links_to_every_page_of_the_docs() -> None:
    text = README.read_text(encoding="utf-8")
    pages = [*(README.parent / "docs").glob("*.md"), *(README.parent / "docs").glob("*.ipynb")]

    unnamed = [page.name for page in pages if f"](docs/{page.name})" not in text]

    assert pages
    assert unnamed == []
