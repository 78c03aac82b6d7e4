"""Charts for the tests, imported in the kernels of notebooks."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pandas as pd

from fabric_nb.notebook.plot.source import Source
from fabric_nb.notebook.plot.widget import PlotWidget
from tests.support.streams import UnconnectedStream

START = "2026-11-25T12:00:00Z"
SENSORS = np.array(["north", "south", "west"], dtype=object)
MARKUP = "<img src=x onerror=window.hacked=1>"


class Rows(UnconnectedStream):
    """A stream of prices and loads."""

    def add(self, count: int, every: str = "10ms") -> None:
        """Add rows with two waves and a sawtooth, with occasional outliers."""
        first = self.rows
        rng = np.random.default_rng(first)
        n = np.arange(first, first + count)
        wave = 40 * np.sin(n / 900) + 60 + rng.normal(0, 4, count)
        wave[rng.random(count) < 0.0005] += 60
        self.add_columns(
            {
                "at": pd.Timestamp(START) + n * pd.Timedelta(every),
                "price": wave,
                "offer": 30 * np.cos(n / 2000) + 90,
                "load": (n / 70 % 40).round(2),
                "sensor": SENSORS[rng.choice(3, count, p=[0.5, 0.3, 0.2])],
            }
        )


class TimedPlot(PlotWidget):
    """Chart that measures the CPU time of each picture.

    Attributes:
        sent: seconds of CPU time of each.
    """

    def __init__(self, source: Source) -> None:
        self.sent: list[float] = []
        super().__init__(source)

    def send_changes(self) -> None:
        start = time.thread_time()
        super().send_changes()
        self.sent.append(time.thread_time() - start)


def chart(count: int = 30_000, **options: object) -> TimedPlot:
    """Return a chart of five minutes of three columns."""
    rows = Rows()
    if count:
        rows.add(count)
    options = {"title": f"kind=TICKS, venue={MARKUP}", **options}
    widget = TimedPlot(Source(rows, **options))
    widget.rows = rows
    return widget


async def flow(widget: TimedPlot, seconds: float) -> tuple[float, int]:
    """Add a thousand rows ten times a second; return milliseconds per picture, and pictures."""
    widget.sent.clear()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        widget.rows.add(1000)
        widget.update()
        await asyncio.sleep(0.1)
    return 1000 * sum(widget.sent) / max(1, len(widget.sent)), len(widget.sent)
