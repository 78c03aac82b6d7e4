"""What `Stream.plot` draws with in a notebook.

Made when the extension is loaded, which is to be quick, so widgets are imported by the first chart.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from IPython.display import display

from fabric_nb.fabric.core.tasks import failures
from fabric_nb.notebook.capture import current_parent, in_terminal

if TYPE_CHECKING:
    from fabric_nb.fabric.data.stream import Stream
    from fabric_nb.notebook.plot.chart import Chart
    from fabric_nb.notebook.plot.source import Window

log = logging.getLogger(__name__)

LOOK_PERIOD = 0.1
"""Seconds between two looks at what is new."""
MAX_LIVE = 20
"""Charts that are kept alive; the oldest are frozen when there are more."""


class Charts:
    """All live charts of a notebook, and the one task that looks for what is new."""

    def __init__(self) -> None:
        self._live: dict[Chart, object] = {}
        """Charts that are open, and what they have shown."""
        self._cells: dict[Chart, str | None] = {}
        self._task: asyncio.Task[None] | None = None

    def plot(
        self,
        stream: Stream,
        *,
        y: str | Sequence[str] | None,
        x: str | None,
        window: Window,
        title: str | None,
    ) -> Chart | None:
        """Draw a chart under the current cell and keep it alive; see `Stream.plot`.

        A terminal prints bars of now, and there is no chart.
        """
        from fabric_nb.notebook.plot.chart import Chart, request
        from fabric_nb.notebook.plot.source import Source
        from fabric_nb.notebook.plot.static import COLUMNS, static_forms

        if title is None:
            headers = (f"{name}={value}" for name, value in stream.headers.items())
            title = ", ".join(headers) or "all data"
        source = Source(stream, y, x, window, title)
        if in_terminal():
            display(static_forms(source.picture(COLUMNS)), raw=True)
            return None
        chart = Chart(stream, source)
        cell = current_parent().get("metadata", {}).get("cellId")
        self._end_those_of(cell, request())
        chart.show(request())
        self._live[chart], self._cells[chart] = chart.version, cell
        while len(self._live) > MAX_LIVE:
            self._drop(next(iter(self._live))).freeze()
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            # Of no cell, and so are the pictures that it sends.
            self._task = loop.create_task(self._run(), context=contextvars.Context())
        return chart

    def close(self) -> None:
        """Leave the last pictures, and end."""
        for chart in tuple(self._live):
            self._drop(chart).freeze()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _end_those_of(self, cell: str | None, request: object) -> None:
        """A cell that runs again has lost its charts."""
        for chart in tuple(self._live):
            if cell is not None and self._cells[chart] == cell and chart.shown_in != request:
                self._drop(chart).close()

    def _drop(self, chart: Chart) -> Chart:
        self._live.pop(chart, None)
        self._cells.pop(chart, None)
        return chart

    async def _run(self) -> None:
        while self._live:
            await asyncio.sleep(LOOK_PERIOD)
            for chart, shown in tuple(self._live.items()):
                try:
                    self._look(chart, shown)
                except Exception as error:
                    log.exception("A chart could not be drawn and ends")
                    failures.add("a chart", error)
                    self._drop(chart)

    def _look(self, chart: Chart, shown: object) -> None:
        if not chart.live:
            self._drop(chart)
        elif (version := chart.version) != shown:
            self._live[chart] = version
            chart.update()
