"""Lines in colour on a terminal, as plain text elsewhere; headings only above what follows."""

from __future__ import annotations

import sys
from typing import Any, Protocol, TypeAlias

Line: TypeAlias = list[tuple[str, str]]
"""Pieces of text, each with its style in rich's words; terminals show it, files do not."""

HEADING, NODE, OPERATION, RESULT, FAINT, PLAIN = (
    *("bold magenta", "bold cyan", "green", "bold", "dim", ""),
)
EPOCH, STEP, PASS = range(3)  # the levels of headings


class TextStream(Protocol):
    """What the tracer writes to: an open text file, ``io.StringIO()``, ``sys.stderr``."""

    def write(self, text: str, /) -> object:
        """Write some text."""


class Printer:
    """Writes lines: in colour on a terminal if rich is there, else as plain text."""

    def __init__(self, file: TextStream | None) -> None:
        self._file = file
        self._announced: dict[int, list[Line]] = {}
        self._began = False
        self._below_heading = False
        self._rich: tuple[object, Any] = (None, None)

    def announce(self, level: int, *heading: Line) -> None:
        """Keep a heading until something is printed below it; forget those that it follows."""
        self._announced = {k: lines for k, lines in self._announced.items() if k < level}
        self._announced[level] = list(heading)

    def withdraw(self, level: int) -> bool:
        """Forget the headings of a level and below; return whether its own was still kept."""
        kept = level in self._announced
        self._announced = {k: lines for k, lines in self._announced.items() if k < level}
        return kept

    def block(self, line: Line) -> None:
        """Print the first line of a block, set off from the block before."""
        self._print_headings()
        if self._began and not self._below_heading:
            self._write([])
        self._write(line)
        self._below_heading = False

    def line(self, line: Line) -> None:
        """Print a line below the one before."""
        self._print_headings()
        self._write(line)
        self._below_heading = False

    def labelled(self, label: Line, text: str, style: str) -> None:
        """Print a label and a text beside it, all lines of which stay beside it."""
        indent = " " * sum(len(part) for part, _ in label)
        self.line([*label, (text.replace("\n", f"\n{indent}"), style)])

    def _print_headings(self) -> None:
        announced, self._announced = self._announced, {}
        for level in sorted(announced):
            if self._began:
                self._write([])
            for line in announced[level]:
                self._write(line)
            self._below_heading = True

    def _write(self, line: Line) -> None:
        stream = sys.stdout if self._file is None else self._file
        self._began = True
        if console := self._console(stream):
            from rich.text import Text

            console.print(Text.assemble(*line), soft_wrap=True)
            return
        text = "".join(part for part, _ in line).rstrip() + "\n"
        try:
            stream.write(text)
        except UnicodeEncodeError as error:
            # A node may have a name that the stream cannot spell.
            stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))

    def _console(self, stream: TextStream) -> Any:
        """Return rich's console for a terminal; ``None`` for all else, or without rich."""
        if self._rich[0] is not stream:
            console = None
            is_terminal = getattr(stream, "isatty", None)
            if is_terminal is not None and is_terminal():
                try:
                    from rich.console import Console
                except ImportError:
                    pass
                else:
                    console = Console(file=stream, highlight=False)  # type: ignore[arg-type]
            self._rich = (stream, console)
        return self._rich[1]
