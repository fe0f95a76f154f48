"""Text tables: columns aligned, numbers to the right."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return rows below titles.

    Parameters
    ----------
    titles : sequence of str
        One for each column.
    rows : sequence of sequence of str
        The cells.
    left : int, optional
        How many columns, from the first, are words and stand to the left.

    Examples
    --------
    >>> print(text_table(["node", "us"], [["linear_1", "1.5"], ["b", "12.0"]]))
    node        us
    linear_1   1.5
    b         12.0
    """
    lines = [titles, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
