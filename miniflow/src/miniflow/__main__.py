"""``python -m miniflow`` is the command ``miniflow``."""

from __future__ import annotations

from miniflow.cli import main

main(prog_name="miniflow")
