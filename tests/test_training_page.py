"""The programs of the page on training run, in order."""

from __future__ import annotations


def test_the_programs_of_the_page_on_training_run(page_of_programs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    blocks = page_of_programs("docs/training.md")

    assert len(blocks) == 9
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
