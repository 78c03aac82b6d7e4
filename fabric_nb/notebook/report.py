"""Report of the current views as one HTML file, which needs no kernel and loads nothing."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fabric_nb.errors import ReportError
from fabric_nb.fabric.core.files import replacing
from fabric_nb.notebook.live.widget import LiveWidget
from fabric_nb.notebook.pages import STYLE, Page, saved
from fabric_nb.notebook.table.widget import TableWidget

SUFFIXES = (".html", ".htm")
"""Suffixes of a report's file."""

_HERE = Path(__file__).parent
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline' blob:"
)


@dataclass(frozen=True, slots=True)
class Section:
    """A view in a report.

    Attributes:
        forms: its static copy as HTML, which is shown until the script has run, or without one.
        state: complete state of a table, as JSON; None for a view that stays static.
    """

    forms: str
    state: str | None = None

    @classmethod
    def of(cls, widget: LiveWidget) -> Section:
        """Return the current state of a widget: tables can be sorted, and charts are SVG."""
        if isinstance(widget, TableWidget):
            widget.model.diff()  # the state has the rows up to the last difference
            return cls(widget.forms()["text/html"], widget.encoded())
        return cls(widget.forms()["text/html"])


def default_name(now: float) -> str:
    """Return the file name of a report that is given none, as in ``fabric-20261201-0930.html``."""
    return time.strftime("fabric-%Y%m%d-%H%M%S.html", time.localtime(now))


def report_html(title: str, head: Page, sections: Sequence[Section], now: float) -> str:
    """Return a report as an HTML document.

    Args:
        title: title of the document.
        head: page at the top, as the connection.
        sections: views below it, in order.
        now: current Unix time.
    """
    states = {
        f"view-{index}": section.state
        for index, section in enumerate(sections)
        if section.state is not None
    }
    data = {"esm": TableWidget.script, "states": states} if states else {"esm": "", "states": {}}
    views = [
        f'<section id="view-{index}">{section.forms.replace(STYLE, "")}</section>'
        for index, section in enumerate(sections)
    ]
    styles = (_HERE / "report.css").read_text("utf-8") + TableWidget.style_sheet
    script = (_HERE / "report.js").read_text("utf-8")
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title>",
            f"<style>{styles}</style>{STYLE}",
            "</head>\n<body>\n<main>",
            f"<header>{saved(head, now).html().replace(STYLE, '')}</header>",
            *views,
            "</main>",
            f'<script type="application/json" id="fabric-data">{_embedded(data)}</script>',
            f'<script type="module">{script}</script>',
            "</body>\n</html>\n",
        ]
    )


def write_report(path: Path, document: str) -> None:
    """Write a report, replacing an earlier one when it is complete.

    Raises:
        ReportError: it cannot be written.
    """
    try:
        with replacing(path) as draft:
            draft.write_text(document, "utf-8")
    except OSError as error:
        raise ReportError(
            f"The report cannot be written to {path}: {error.strerror or error}."
        ) from None


def _embedded(value: object) -> str:
    """Return JSON that cannot end the element that contains it."""
    return json.dumps(value).replace("<", "\\u003c")
