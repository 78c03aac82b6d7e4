"""Backend of `Stream.plot` in a notebook.

Widgets are imported with the first chart, so that loading the extension is fast.
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

PERIOD = 0.1
"""Seconds between two polls for changes."""
MAX_LIVE = 20
"""Maximum number of live charts; the oldest is frozen when there are more."""


class Charts:
    """All live charts of a notebook, and the task that refreshes them."""

    def __init__(self) -> None:
        self._live: dict[Chart, object] = {}
        """Version that each open chart has rendered."""
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
        """Display a live chart under the running cell; see `Stream.plot`.

        A terminal prints bars of the current values, and None is returned.
        """
        from fabric_nb.notebook.plot.chart import Chart, execution
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
        self._close_replaced(cell, execution())
        chart.show(execution())
        self._live[chart], self._cells[chart] = chart.version, cell
        while len(self._live) > MAX_LIVE:
            self._drop(next(iter(self._live))).freeze()
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            # In an empty context, so that its messages are attributed to no cell.
            self._task = loop.create_task(self._run(), context=contextvars.Context())
        return chart

    def close(self) -> None:
        """Freeze all charts and stop."""
        for chart in tuple(self._live):
            self._drop(chart).freeze()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _close_replaced(self, cell: str | None, execution: object) -> None:
        """Close the charts of earlier executions of a cell."""
        for chart in tuple(self._live):
            if cell is not None and self._cells[chart] == cell and chart.shown_in != execution:
                self._drop(chart).close()

    def _drop(self, chart: Chart) -> Chart:
        self._live.pop(chart, None)
        self._cells.pop(chart, None)
        return chart

    async def _run(self) -> None:
        while self._live:
            await asyncio.sleep(PERIOD)
            for chart, shown in tuple(self._live.items()):
                try:
                    self._refresh(chart, shown)
                except Exception as error:
                    log.exception("A chart failed to refresh and is closed")
                    failures.add("a chart", error)
                    self._drop(chart)

    def _refresh(self, chart: Chart, shown: object) -> None:
        if not chart.live:
            self._drop(chart)
        elif (version := chart.version) != shown:
            self._live[chart] = version
            chart.update()
