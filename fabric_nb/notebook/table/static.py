"""Static copies of tables, as HTML and as text. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from fabric_nb.notebook.graph.picture import graph_svg
from fabric_nb.notebook.pages import Badge, Cell, Code, Page, Table, counted, saved
from fabric_nb.notebook.table.cells import Column, shown, with_valid_tone
from fabric_nb.notebook.table.model import MAX_COLUMNS, SAVED_ROWS, TableModel
from fabric_nb.notebook.table.parts import MAX_PRINTED

SHOWN_DETAILS = 10
MAX_SIZE = 36_000
"""Maximum number of characters of a table, as HTML and as text together."""
SUMMARY_CELLS = 4
"""Number of cells in the summary of a detail."""

# The static copy is hidden if the live table is displayed in the output before it. If the live
# table cannot be displayed (the notebook was reopened with a new kernel, or exported), its output
# is hidden, with the error that JupyterLab would show there. By CSS, because it must work without
# a kernel and without this package; a widget's output contains `.lm-Panel` in JupyterLab and
# `.jupyter-widgets` in an exported page.
STYLE = """<style>
.jp-OutputArea-child:has(.fabric-table)+.jp-OutputArea-child:has(.fabric-table-last),
.jp-OutputArea-child:has(>.lm-Panel.jp-OutputArea-output,>.jupyter-widgets)\
:not(:has(.fabric-table)):has(+.jp-OutputArea-child .fabric-table-last)
{display:none!important}
</style>"""


def static_forms(models: Sequence[TableModel], now: float) -> dict[str, str]:
    """Return the tables as ``text/html`` and ``text/plain``.

    Args:
        models: the tables.
        now: current Unix time.
    """
    pages = [saved(_page_of_size(model, now), now) for model in models]
    html = "".join(page.html() for page in pages)
    return {
        "text/html": f'{STYLE}<div class="fabric-table-last">{html}</div>',
        "text/plain": "\n\n".join(page.text() for page in pages),
    }


def _page_of_size(model: TableModel, now: float) -> Page:
    """Return a page with as many details and rows as fit into `MAX_SIZE`."""
    rows, details = SAVED_ROWS, SHOWN_DETAILS
    while True:
        page = static_page(model, now, rows, details)
        if len(page.html()) + len(page.text()) <= MAX_SIZE or rows == 1:
            return page
        details, rows = details // 2, rows if details else rows // 2


def static_page(
    model: TableModel, now: float, shown_rows: int = SAVED_ROWS, shown_details: int = SHOWN_DETAILS
) -> Page:
    """Return the table's first rows, or its last if it follows the newest row."""
    columns = model.columns[:MAX_COLUMNS]
    every = model.rows
    rows = every[-shown_rows:] if model.follow else every[:shown_rows]
    # Not strict, because a row also has the cells of columns that are not shown.
    texts = [[shown(*pair, now) for pair in zip(row.cells, columns, strict=False)] for row in rows]
    details = [
        (_summary(cells, columns), row.detail.plain())
        for cells, row in zip(texts, rows, strict=True)
        if row.detail and not row.detail.live_only
    ]
    head, omitted = model.head, len(every) - len(rows) + model.cut
    more = counted(omitted, "older row" if model.follow else "more row")
    return Page(
        title=head.title,
        badges=[with_valid_tone(badge) for badge in head.badges],
        facts=head.facts,
        chart=head.chart,
        progress=head.progress,
        drawing=graph_svg(head.graph) if head.graph is not None else "",
        tables=[
            Table(
                [column.label for column in columns],
                texts,
                frozenset(column.label for column in columns if column.kind == "number"),
            )
        ],
        printed=head.printed[-MAX_PRINTED:],
        notes=[
            *([f"… and {more}."] if omitted else []),
            *([head.empty] if head.empty and not every else []),
            *head.notes,
        ],
        folded=details[max(0, len(details) - shown_details) :]
        if model.follow
        else details[:shown_details],
    )


def _summary(cells: Sequence[Cell], columns: Sequence[Column]) -> str:
    """Return the first cells of a row, which identify it."""
    texts = [
        cell.text if isinstance(cell, (Badge, Code)) else str(cell or "")
        for cell, column in zip(cells, columns, strict=True)
        if column.kind not in ("number", "age", "spark", "bar")
    ]
    return "Details of " + " · ".join(text.strip() for text in texts[:SUMMARY_CELLS] if text)
