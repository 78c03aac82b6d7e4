"""Pages in a terminal: rendered by rich if it is installed, else as plain text.

Front ends that show HTML, files and pipes are not affected.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fabric_nb.errors import one_line
from fabric_nb.notebook.capture import in_terminal
from fabric_nb.notebook.pages import Badge, Cell, Code, Page, Table, Tone, cell_text, plain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as RichTable
    from rich.text import Text

STYLES: dict[Tone, str] = {
    "good": "bold green",
    "busy": "bold blue",
    "warn": "bold yellow",
    "bad": "bold red",
    "quiet": "dim",
}


def forms(page: Page) -> dict[str, str]:
    """Return the page for `display(..., raw=True)` in this front end."""
    return {"text/plain": terminal_text([page])} if in_terminal() else page.mimebundle()


def terminal_text(pages: Sequence[Page]) -> str:
    """Return pages below each other, formatted for the terminal."""
    if sys.stdout.isatty():
        try:
            return rich_text(pages, shutil.get_terminal_size().columns)
        except ModuleNotFoundError:  # rich is optional
            pass
    return "\n\n".join(page.text() for page in pages)


def rich_text(pages: Sequence[Page], width: int) -> str:
    """Return pages with rich's tables, and the colours that the terminal supports.

    Raises:
        ModuleNotFoundError: rich is not installed.
    """
    from rich.console import Console, Group
    from rich.text import Text

    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width)
    for number, page in enumerate(pages):
        console.print(Group(*([Text()] if number else []), *_parts(page)))
    return file.getvalue().removesuffix("\n")


def _parts(page: Page) -> list[RenderableType]:
    # Only `Text`, never `str`, because rich would read brackets in remote text as markup.
    from rich.text import Text

    head = [Text(_one_line(page.title), "bold")]
    head += [_badge(badge) for badge in page.badges]
    head += [Text(_one_line(fact), "dim") for fact in page.facts]
    parts: list[RenderableType] = [Text(" · ").join(head)]
    parts += [Text(page.bars.text)] if page.bars is not None else []
    parts += [Text(page.chart.text)] if page.chart is not None else []
    parts += [_table(table) for table in page.tables if table.rows]
    parts += [Text(plain(page.printed, None))] if page.printed else []
    parts += [Text(_one_line(note), "dim") for note in page.notes]
    for summary, text in page.folded:
        parts += [Text(_one_line(summary), "bold"), Text(plain(text, None))]
    return parts


def _table(table: Table) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in table.columns:
        shown.add_column(
            Text(_one_line(name)),
            justify="right" if name in table.numeric else "left",
            overflow="fold",
        )
    for row in table.rows:
        shown.add_row(*map(_cell, row))
    return shown


def _cell(cell: Cell) -> Text:
    from rich.text import Text

    match cell:
        case Badge():
            return _badge(cell)
        case Code():
            return Text(_one_line(cell.text), "cyan")
    return Text(_one_line(cell_text(cell)))


def _badge(badge: Badge) -> Text:
    from rich.text import Text

    return Text(_one_line(badge.text), STYLES[badge.tone])


def _one_line(text: str) -> str:
    return one_line(plain(text))
