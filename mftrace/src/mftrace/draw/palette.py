"""Colours and measures that SVG and PNG share."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

TITLE, SMALL = 13.0, 11.0
"""Font sizes."""

ADVANCE = 0.602
"""Width of a character of a monospaced font, of which all text is, for a size of 1."""

LEADING = 1.36
"""Height of a line of text, for a size of 1."""


@attrs.frozen
class Theme:
    """The colours of one theme: of text, lines, and by kind of box its fill and its border."""

    background: str
    text: str
    faint: str
    gradient: str
    edge: str
    fills: Mapping[str, str]
    borders: Mapping[str, str]


KINDS = ("input", "parameter", "constant", "operation", "block")

THEMES: Mapping[str, Theme] = {
    "light": Theme(
        background="#ffffff",
        text="#1b1f24",
        faint="#4d5761",
        gradient="#a0204a",
        edge="#6b7681",
        fills=dict(zip(KINDS, ("#ddf0ff", "#ffefd0", "#eef0f3", "#e3f6e8", "#f1e6ff"))),
        borders=dict(zip(KINDS, ("#0a62bf", "#946300", "#68727d", "#1a7a37", "#7a48d0"))),
    ),
    "dark": Theme(
        background="#0d1117",
        text="#e6edf3",
        faint="#a3adb8",
        gradient="#ff8fab",
        edge="#8a949e",
        fills=dict(zip(KINDS, ("#0b2b4b", "#3a2b0a", "#20262d", "#0f2f1a", "#2b1f47"))),
        borders=dict(zip(KINDS, ("#58a6ff", "#d9a536", "#8f99a3", "#45c05c", "#bd93ff"))),
    ),
}
