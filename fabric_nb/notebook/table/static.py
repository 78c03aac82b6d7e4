"""Tables without a browser or a kernel: their last rows as HTML and as text. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from fabric_nb.notebook.pages import Badge, Cell, Code, Page, Table, saved
from fabric_nb.notebook.table.cells import Column, known_tone, shown
from fabric_nb.notebook.table.model import MAX_COLUMNS, TableModel
from fabric_nb.notebook.table.parts import MAX_PRINTED

SHOWN_ROWS = 50
SHOWN_DETAILS = 10
SUMMED_UP = 4
"""Cells that stand before a detail, so that it is seen what it is of."""

# Where the live table stands right above, this one hides. Where that cannot come up (the notebook
# was opened again with a new kernel, or exported), its place hides, and with it the error that
# JupyterLab would show there. By style sheet, as it must work without a kernel and without us;
# a widget's place is `.lm-Panel` in JupyterLab and `.jupyter-widgets` in an exported page.
STYLE = """<style>
.jp-OutputArea-child:has(.fabric-table)+.jp-OutputArea-child:has(.fabric-table-last),
.jp-OutputArea-child:has(>.lm-Panel.jp-OutputArea-output,>.jupyter-widgets)\
:not(:has(.fabric-table)):has(+.jp-OutputArea-child .fabric-table-last)
{display:none!important}
</style>"""


def static_forms(models: Sequence[TableModel], now: float) -> dict[str, str]:
    """The tables' last state as ``text/html`` and ``text/plain``.

    Args:
        models: what to show.
        now: the present, in seconds since 1970.
    """
    pages = [saved(last_page(model, now), now) for model in models]
    html = "".join(page.html() for page in pages)
    return {
        "text/html": f'{STYLE}<div class="fabric-table-last">{html}</div>',
        "text/plain": "\n\n".join(page.text() for page in pages),
    }


def last_page(model: TableModel, now: float) -> Page:
    """The table's first rows, or its last where the newest are at the bottom."""
    columns = model.columns[:MAX_COLUMNS]
    held = model.rows
    rows = held[-SHOWN_ROWS:] if model.follow else held[:SHOWN_ROWS]
    # zip ends with the columns that are shown.
    texts = [[shown(*pair, now) for pair in zip(row.cells, columns, strict=False)] for row in rows]
    details = [
        (_summary(cells, columns), row.detail.plain())
        for cells, row in zip(texts, rows, strict=True)
        if row.detail
    ]
    head, left_out = model.head, len(held) - len(rows) + model.cut
    more = [f"… and {left_out:,} {'older' if model.follow else 'more'} rows."] if left_out else []
    return Page(
        title=head.title,
        badges=[known_tone(badge) for badge in head.badges],
        facts=head.facts,
        chart=head.chart,
        tables=[
            Table(
                [column.label for column in columns],
                texts,
                frozenset(column.label for column in columns if column.kind == "number"),
            )
        ],
        printed=head.printed[-MAX_PRINTED:],
        notes=[*more, *head.notes] if held else [head.empty, *head.notes],
        folded=details[-SHOWN_DETAILS:] if model.follow else details[:SHOWN_DETAILS],
    )


def _summary(cells: Sequence[Cell], columns: Sequence[Column]) -> str:
    """What tells a row from others."""
    texts = [
        cell.text if isinstance(cell, (Badge, Code)) else str(cell or "")
        for cell, column in zip(cells, columns, strict=True)
        if column.kind not in ("number", "age")
    ]
    return "Details of " + " · ".join(text for text in texts[:SUMMED_UP] if text)
