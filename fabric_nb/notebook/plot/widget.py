"""The live chart under a cell: sends a picture of what is there, as wide as the browser says.

As a table does, a chart stands in two outputs: the live one, and its last picture as HTML and text,
which is what a saved or exported notebook shows; see `table.showing`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from pathlib import Path
from typing import Any

import anywidget
import orjson
import traitlets

from fabric_nb.notebook.pages import plain
from fabric_nb.notebook.plot.source import Source
from fabric_nb.notebook.plot.static import COLUMNS, static_forms
from fabric_nb.notebook.table.pace import Pacer
from fabric_nb.notebook.table.showing import Showing, budget

log = logging.getLogger(__name__)

PERIOD = 0.1
"""Seconds between two pictures, at least."""
SHARE = 0.1
"""Of the loop's time that drawing may take; where it takes more, it is done less often."""
WIDEST = 4000

_HERE = Path(__file__).parent


class _LastPicture(Showing):
    def __init__(self, chart: PlotWidget) -> None:
        self._chart = chart
        drawn: Any = chart  # which is no table, but alike in all that is asked of it
        super().__init__((drawn,))

    def forms(self) -> dict[str, str]:
        return static_forms(self._chart.source.picture(COLUMNS))


class Changes:
    """What `Showing` asks of a model: a number that grows with each change."""

    changes = 0


class PlotWidget(anywidget.AnyWidget):
    """A chart on display.

    chart = PlotWidget(Source(stream, "price"))
    chart.show()                       # under the running cell
    chart.update()                     # at most ten times a second, however often it is called
    chart.freeze()                     # the last picture stays, as HTML

    To be made and used in the thread of the notebook's event loop.

    Args:
        source: what draws the pictures.
    """

    _esm = (_HERE / "plot.js").read_text("utf-8")
    _css = (_HERE / "plot.css").read_text("utf-8")
    # Goes along when the widget is opened, or when a page that was loaded anew asks for all state.
    _whole = traitlets.Unicode().tag(sync=True, to_json=lambda _, chart: chart.encoded())

    def __init__(self, source: Source) -> None:
        self.source = source
        self.model = Changes()
        self._columns = COLUMNS
        self._pacer = Pacer(self._send_picture, PERIOD)
        self._attached = False
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        super().__init__()
        self.showing: Showing = _LastPicture(self)
        self.shown_in: object = None
        self.on_msg(self._on_message)

    def __repr__(self) -> str:
        return f"<Chart {plain(self.source.title)!r}>"

    @property
    def live(self) -> bool:
        """Whether the chart is open; False once it was closed or frozen."""
        return getattr(self, "comm", None) is not None

    # -- showing

    def show(self, cell: object = None) -> None:
        """Display the chart, with its last picture, under the running cell."""
        self.shown_in = cell
        self.showing.show()

    def update(self) -> None:
        """Show what has come, when the pace allows."""
        self.model.changes += 1
        self._pacer.request()
        self.showing.changed()

    def freeze(self) -> None:
        """Put the last picture in place of the live chart, and close it."""
        self.showing.freeze()

    def close(self) -> None:
        """End the chart: it vanishes from the page, and nothing is sent any more."""
        if not self.live:
            return
        self._pacer.close()
        self.layout.close()  # a widget of its own, which would stay
        super().close()
        self.__dict__.pop("_repr_mimebundle_", None)  # the static forms can still be shown

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        live = self.showing.view() if self.live else {}
        return {**live, **self.showing.forms()}, {}

    # -- sending

    def encoded(self) -> str:
        """The picture of now, as JSON."""
        return orjson.dumps(self.source.picture(self._columns).encoded()).decode()

    def save(self) -> None:
        """Keep the picture where a headless run stores it: in the widget's state."""
        if self.live and not self._attached:
            contextvars.Context().run(self.send_state, "_whole")

    def _send_picture(self) -> None:
        if not (self._attached and self.live):
            return
        began = time.perf_counter()
        encoded = self.encoded().encode()
        contextvars.Context().run(self.send, {"type": "picture"}, [encoded])
        spent = time.perf_counter() - began
        self._pacer.period = max(PERIOD, budget.spend(len(encoded)), spent / SHARE)

    # -- what comes from the browser

    def _on_message(self, _: object, content: dict[str, Any], __: object) -> None:
        if threading.get_ident() == self._thread:
            self._take(content)
        else:  # a front end may send through a subshell, which is another thread
            self._loop.call_soon_threadsafe(self._take, content)

    def _take(self, content: dict[str, Any]) -> None:
        match content:
            case {"type": "hello", "columns": int(columns), "hides": bool(hides)}:
                self._attached = True
                self.showing.attached(hides=hides)
                self._resize(columns)
            case {"type": "resize", "columns": int(columns)}:
                self._resize(columns)
            case _:
                log.warning("A chart's view sent what is not understood: %.200r", content)

    def _resize(self, columns: int) -> None:
        self._columns = min(WIDEST, max(10, columns))
        self._pacer.request()
