"""The live chart under a cell: sends a picture of what is there, as wide as the browser says.

As a table does, a chart stands in two outputs: the live one, and its last picture as HTML and text,
which is what a saved or exported notebook shows; see `live.showing`.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import orjson

from fabric_nb.notebook.live.code import TOKENS, joined_script
from fabric_nb.notebook.live.widget import PERIOD, LiveWidget
from fabric_nb.notebook.pages import plain
from fabric_nb.notebook.plot.picture import Picture
from fabric_nb.notebook.plot.source import Source
from fabric_nb.notebook.plot.static import COLUMNS, static_forms

log = logging.getLogger(__name__)

SHARE = 0.1
"""Of the loop's time that drawing may on_message; where it takes more, it is done less often."""
WIDEST = 4000

_HERE = Path(__file__).parent


class PlotWidget(LiveWidget):
    """A chart on display.

    chart = PlotWidget(Source(stream, "price"))
    chart.show()                       # under the running cell
    chart.update()                     # at most ten times a second, however often it is called
    chart.freeze()                     # the last picture stays, as HTML

    See `LiveWidget` for what it shares with tables.

    Args:
        source: what draws the pictures.
    """

    script = joined_script(_HERE / "plot.js")
    style_sheet = TOKENS + (_HERE / "plot.css").read_text("utf-8")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.shown_in: object = None
        self._changes = 0
        self._columns = COLUMNS
        super().__init__()

    def __repr__(self) -> str:
        return f"<Chart {plain(self.source.title)!r}>"

    @property
    def changes(self) -> int:
        """How often it was said that there is something new."""
        return self._changes

    def picture(self, columns: int) -> Picture:
        """The chart of now, so many columns of pixels wide."""
        return self.source.picture(columns)

    def forms(self) -> dict[str, str]:
        """The last picture as HTML and text."""
        return static_forms(self.picture(COLUMNS))

    def show(self, cell: object = None) -> None:
        """Display the chart, with its last picture, under the running cell."""
        self.shown_in = cell
        super().show()

    def update(self) -> None:
        """Show what has come, when the pace allows."""
        self._changes += 1
        super().update()

    # -- sending

    def encoded(self) -> str:
        """The picture of now, as JSON."""
        return orjson.dumps(self.picture(self._columns).encoded()).decode()

    def send_changes(self) -> None:
        """Send the picture of now."""
        if not self.attached:
            return
        began = time.perf_counter()
        encoded = self.encoded().encode()
        spent = time.perf_counter() - began
        self.send_buffer("picture", encoded, period=max(PERIOD, spent / SHARE))

    # -- what comes from the browser

    def on_message(self, content: dict[str, Any]) -> None:
        """Take a view's greeting, or how wide it is."""
        match content:
            case {"type": "hello", "columns": int(columns), "hides": bool(hides)}:
                self.attach(hides=hides)
                self._resize(columns)
            case {"type": "resize", "columns": int(columns)}:
                self._resize(columns)
            case _:
                log.warning("A chart's view sent what is not understood: %.200r", content)

    def _resize(self, columns: int) -> None:
        self._columns = min(WIDEST, max(10, columns))
        self._pacer.request()
