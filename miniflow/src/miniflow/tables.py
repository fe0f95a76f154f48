"""Reading a table of numbers from a CSV file, with errors that say what to mend and where."""

from __future__ import annotations

import csv
import difflib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from mfcore.errors import DataError, listed

DELIMITERS = ",;\t"
MISSING = frozenset({"", "?", "-", ".", "na", "n/a", "#n/a", "null", "none"})
"""What counts as a missing value, in lower case; ``nan`` and ``inf`` are numbers."""


@attrs.frozen(eq=False)
class Table:
    """Named columns of numbers.

    Attributes
    ----------
    name : str
        What the table is called in messages.
    columns : tuple of str
        The columns' names, all different.
    values : (n, k) float64
        One row per line of data.
    lines : sequence of int
        The line of the file that each row stands in, from 1.
    """

    name: str
    columns: tuple[str, ...]
    values: NDArray[np.float64]
    lines: Sequence[int]

    def position(self, column: str) -> int:
        """Return the place of a column.

        Raises
        ------
        DataError
            If there is none of that name; the message suggests those that are close.
        """
        return position(column, self.columns, self.name)


def position(column: str, columns: Sequence[str], table: str) -> int:
    """Return the place of a column among ``columns``; see ``Table.position``."""
    if column in columns:
        return columns.index(column)
    folded = {name.casefold(): name for name in columns}
    close = [folded[name] for name in difflib.get_close_matches(column.casefold(), folded, n=3)]
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise DataError(
        f"{table} has no column {column!r}.{hint} Its columns are {listed(columns, 20)}."
    )


def read_table(path: str | Path, *, drop: Iterable[str] = ()) -> Table:
    """Read a CSV file: a line of column names, then lines of numbers.

    The delimiter is whichever of comma, semicolon and tab the first line holds most of.
    With semicolons, numbers may have a decimal comma. ``nan`` and ``inf`` are numbers; an
    empty cell is not.

    Parameters
    ----------
    path : str or Path
        A text file in UTF-8, with or without a byte-order mark.
    drop : iterable of str, optional
        Columns to leave out; they may hold anything.

    Raises
    ------
    DataError
        If the file cannot be read, or is no such table. The message names line and column.
    """
    name = str(path)
    text = _text(Path(path))
    rows = _rows(name, text)
    _, header = next(rows, (0, []))
    columns = _columns(name, header)
    delimiter = _delimiter(text)
    dropped = {position(column, columns, name) for column in drop}
    kept = [i for i in range(len(columns)) if i not in dropped]
    values, lines = [], []
    missing: list[str] = []
    for line, row in rows:
        if len(row) != len(columns):
            raise DataError(
                f"{name}, line {line}: {_count(len(row), 'value')} where the first line names "
                f"{_count(len(columns), 'column')}. Every line needs as many."
            )
        numbers = []
        for i in kept:
            cell = row[i].strip()
            if cell.casefold() in MISSING:
                missing.append(f"{columns[i]} in line {line}")
                numbers.append(np.nan)
            else:
                numbers.append(_number(cell, delimiter, f"{name}, line {line}", columns[i]))
        values.append(numbers)
        lines.append(line)
    if missing:
        raise DataError(
            f"{name} has {_count(len(missing), 'missing value')}: {listed(missing, 3)}. "
            f"Fill them in, or leave out those lines or columns (--drop COLUMN)."
        )
    array = np.array(values, dtype=np.float64).reshape(len(values), len(kept))
    return Table(name, tuple(columns[i] for i in kept), array, lines)


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is no text file in UTF-8 (byte {error.start}). If it is a spreadsheet, "
            f"save it as CSV in UTF-8."
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    if "\0" in text:
        raise DataError(f"{path} is no text file: it holds zero bytes.")
    if not text.strip():
        raise DataError(f"{path} is empty. A table starts with a line of column names.")
    return text


def _delimiter(text: str) -> str:
    first = text.lstrip().partition("\n")[0]
    return max(DELIMITERS, key=first.count)


def _rows(name: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of every line that is not blank."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=_delimiter(text), strict=True, skipinitialspace=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row) or len(row) > 1:
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{name}, line {reader.line_num} is no CSV: {error}.") from None


def _columns(name: str, header: Sequence[str]) -> list[str]:
    columns = [cell.strip() for cell in header]
    if "" in columns:
        raise DataError(
            f"{name}: column {columns.index('') + 1} has no name in the first line. Name it, "
            f"or remove it if it only numbers the rows."
        )
    if all(_is_number(column) for column in columns):
        raise DataError(
            f"{name} begins with numbers ({listed(columns, 4)}): the first line must name the "
            f"columns."
        )
    if twice := [column for column, count in Counter(columns).items() if count > 1]:
        raise DataError(f"{name} has several columns of the name {listed(twice, 20)}. Rename them.")
    return columns


def _number(cell: str, delimiter: str, where: str, column: str) -> float:
    if "_" not in cell:  # Python reads 1_000 as a number, people do not
        try:
            return float(cell)
        except ValueError:
            pass
        if delimiter == ";":
            try:
                return float(cell.replace(",", "."))
            except ValueError:
                pass
    shown = cell if len(cell) <= 30 else f"{cell[:27]}..."
    raise DataError(
        f"{where}: column {column!r} holds text, {shown!r}, and only numbers can be trained on. "
        f"Turn it into numbers, or leave the column out (--drop {column!r})."
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
