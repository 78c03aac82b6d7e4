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
                "sensor": ["a"] * count,
            }
        )


def chart(count: int = 30_000, **options: object) -> PlotWidget:
    """Return a chart of five minutes of three columns."""
    rows = Rows()
    if count:
        rows.add(count)
    options = {"title": f"kind=TICKS, venue={MARKUP}", **options}
    widget = PlotWidget(Source(rows, **options))
    widget.rows = rows
    return widget


async def flow(widget: PlotWidget, seconds: float) -> tuple[float, int]:
    """Add a thousand rows ten times a second; return milliseconds per picture, and pictures."""
    sent: list[float] = []
    send = widget.send_changes

    def timed_send() -> None:
        start = time.thread_time()
        send()
        sent.append(time.thread_time() - start)

    widget._pacer._action = timed_send
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        widget.rows.add(1000)
        widget.update()
        await asyncio.sleep(0.1)
    return 1000 * sum(sent) / max(1, len(sent)), len(sent)
