"""Widget for a live chart: sends pictures of the width that the browser requests."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import orjson

from fabric_nb.notebook.live.code import joined_script
from fabric_nb.notebook.live.widget import PERIOD, LiveWidget
from fabric_nb.notebook.pages import TOKENS, plain
from fabric_nb.notebook.plot.picture import Picture
from fabric_nb.notebook.plot.selection import Range
from fabric_nb.notebook.plot.source import Source
from fabric_nb.notebook.plot.static import COLUMNS, static_forms, svg_document
from fabric_nb.notebook.plot.wall_clock import clock_of

log = logging.getLogger(__name__)

MAX_LOAD = 0.1
"""Maximum fraction of the event loop's time for computing pictures; it limits their rate."""
MAX_COLUMNS = 4000
MAX_X = 1e300
"""Bound of a range that is chosen in the browser."""

_HERE = Path(__file__).parent


class PlotWidget(LiveWidget):
    """A live chart.

    chart = PlotWidget(Source(stream, "price"))
    chart.show()                       # under the running cell
    chart.update()                     # sends at most ten times a second
    chart.freeze()                     # replaced by a static copy

    See `LiveWidget`.

    Args:
        source: computes the pictures.
    """

    script = joined_script(_HERE / "plot.js")
    style_sheet = TOKENS + (_HERE / "plot.css").read_text("utf-8")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.shown_in: object = None
        self._changes = 0
        self._columns = COLUMNS
        self._view: Range | None = None
        self._hidden: frozenset[str] = frozenset()
        super().__init__()

    def __repr__(self) -> str:
        return f"<Chart {plain(self.source.title)!r}>"

    @property
    def changes(self) -> int:
        """Number of calls of `update`."""
        return self._changes

    def picture(
        self, columns: int, view: Range | None = None, hidden: Collection[str] = ()
    ) -> Picture:
        """Return the current picture; see `Source.picture`."""
        return self.source.picture(columns, view, hidden)

    def forms(self) -> dict[str, str]:
        """Return the static copy as HTML and text."""
        return static_forms(self.picture(COLUMNS))

    def svg(self) -> str:
        """Return the chart as an SVG document.

        Example::

            Path("orders.svg").write_text(chart.svg())
        """
        return svg_document(self.picture(COLUMNS))

    def show(self, execution: object = None) -> None:
        """Display the chart and its static copy under the running cell."""
        self.shown_in = execution
        super().show()

    def update(self) -> None:
        """Schedule an update within the rate limits."""
        self._changes += 1
        super().update()

    # -- sending

    def encoded(self) -> str:
        """Return the current picture of the range and lines chosen in the browser, as JSON."""
        picture = self.picture(self._columns, self._view, self._hidden)
        return orjson.dumps(picture.encoded()).decode()

    def send_changes(self) -> None:
        """Send the current picture."""
        if not self.attached:
            return
        start = time.perf_counter()
        encoded = self.encoded().encode()
        duration = time.perf_counter() - start
        self.send_buffer("picture", encoded, period=max(PERIOD, duration / MAX_LOAD))

    # -- receiving

    def on_message(self, content: dict[str, Any]) -> None:
        """Handle a ``hello``, a new width, a range of x, or the lines to hide."""
        match content:
            case {"type": "hello", "columns": int(columns), "hides": bool(hides)}:
                if isinstance(zone := content.get("zone"), str):
                    self.source.clock = clock_of(zone)
                self.attach(hides=hides)
                self._resize(columns)
            case {"type": "resize", "columns": int(columns)}:
                self._resize(columns)
            case {"type": "view", "range": None}:
                self._look_at(None)
            case {
                "type": "view",
                "range": [int() | float() as low, int() | float() as high],
            } if -MAX_X < low < high < MAX_X:
                self._look_at((float(low), float(high)))
            case {"type": "hide", "names": [*names]}:
                self._hidden = frozenset(name for name in names if isinstance(name, str))
                self._pacer.request()
            case _:
                log.warning("A chart's view sent an unknown message: %.200r", content)

    def _resize(self, columns: int) -> None:
        self._columns = min(MAX_COLUMNS, max(10, columns))
        self._pacer.request()

    def _look_at(self, view: Range | None) -> None:
        self._view = view
        self._pacer.request()
