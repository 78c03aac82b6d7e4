"""Tables of the commands: aligned columns of text and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fabric_nb.cli.styles import Line, Styled
from fabric_nb.errors import one_line

_GAP, _NONE = Styled("  "), Styled("")


class Column(NamedTuple):
    """A column; the unit of its numbers is part of the heading, as in ``p95 ms``."""

    heading: str
    is_number: bool = False


class Table:
    """Lines of cells in columns, which are as wide as in all lines so far.

    Example::

        table = Table([Column("id"), Column("calls/s", is_number=True)])
        for line in table.lines([[Styled("c1"), Styled("12.50")]]):
            print_line(line)
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._widths = [len(column.heading) for column in columns]

    def lines(self, rows: Iterable[Sequence[Styled]], *, heading: bool = True) -> list[Line]:
        """Return the lines of some rows, after the heading."""
        cells = [[Styled(one_line(text), style) for text, style in row] for row in rows]
        for row in cells:
            for index, (text, _) in enumerate(row):
                self._widths[index] = max(self._widths[index], len(text))
        headings = [[Styled(column.heading, "bold") for column in self._columns]]
        return [self._padded(row) for row in [*(headings if heading else ()), *cells]]

    def _padded(self, row: Sequence[Styled]) -> list[Styled]:
        """Return a line of cells: spaces are not styled, and there are none at its end."""
        line: list[Styled] = []
        last = max((index for index, cell in enumerate(row) if cell.text), default=-1)
        for index, (cell, width, column) in enumerate(
            zip(row[: last + 1], self._widths, self._columns, strict=False)
        ):
            space = Styled(" " * (width - len(cell.text)))
            padded = (space, cell) if column.is_number else (cell, space if index < last else _NONE)
            line += [*((_GAP,) if index else ()), *padded]
        return [part for part in line if part.text]


def number(value: float | None, decimals: int = 2, *, sign: bool = False) -> str:
    """Return the text of a number, with separators of thousands; empty for None."""
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:+,.{decimals}f}" if sign else f"{value:,.{decimals}f}"
