"""The live chart, with a simulated front end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import orjson
import pandas as pd
import pytest

from fabric_nb.notebook.plot.source import Source
from fabric_nb.notebook.plot.widget import PlotWidget
from tests.support.streams import UnconnectedStream
from tests.unit.test_table_widget import HOSTILE, Page, page, soon

__all__ = ["page"]

START = pd.Timestamp("2026-11-25T12:00:00Z")


class Shown:
    """A chart of 1,000 s on display, and the pictures that its browser has received."""

    def __init__(self, page: Page) -> None:
        self.page = page
        stream = UnconnectedStream()
        at = START + pd.to_timedelta(np.arange(1000), unit="s")
        values = np.arange(1000.0)
        stream.add_columns({"at": at, "small": values / 100, "large": values})
        self.chart = PlotWidget(Source(stream, ["small", "large"], title="<b>&"))
        self.chart.show()

    def send(self, **content: Any) -> None:
        """Send a message of the chart's view."""
        self.page.send(self.chart, **content)

    def pictures(self) -> list[dict[str, Any]]:
        """Return the pictures that were sent."""
        return [
            dict(orjson.loads(buffers[0]))
            for _, data, buffers in self.page.messages
            if data.get("content", {}).get("type") == "picture"
        ]

    async def answer(self, **content: Any) -> dict[str, Any]:
        """Send a message, and return the picture that answers it."""
        before = len(self.pictures())
        self.send(**content)
        await soon(lambda: len(self.pictures()) > before)
        return self.pictures()[-1]


@pytest.fixture
async def shown(page: Page) -> AsyncIterator[Shown]:
    shown = Shown(page)
    yield shown
    shown.chart.close()


async def test_times_of_the_zone_of_the_browser(shown: Shown) -> None:
    """The browser names its zone, in which the axis is labelled."""
    picture = await shown.answer(type="hello", columns=500, hides=True, zone="Asia/Kolkata")
    assert (picture["x"]["label"], picture["x"]["zone"]) == ("at (IST), 2026-11-25", "Asia/Kolkata")
    assert picture["x"]["ticks"][0][1] == "17:30"


async def test_a_range_and_hidden_lines(shown: Shown) -> None:
    """The browser receives the picture of the range and lines that it chooses."""
    await shown.answer(type="hello", columns=500, hides=True)
    begin = START.timestamp() + 100
    picture = await shown.answer(type="view", range=[begin, begin + 60])
    assert picture["zoomed"]
    assert (picture["x"]["low"], picture["x"]["high"]) == (begin, begin + 60)
    assert picture["extent"] == [START.timestamp(), START.timestamp() + 999]
    assert picture["y"]["high"] > 150
    picture = await shown.answer(type="hide", names=["large", 5, None])
    assert [line.get("hidden", False) for line in picture["lines"]] == [False, True]
    assert picture["y"]["high"] < 2
    picture = await shown.answer(type="hide", names=["small", "large"])
    assert all(line["hidden"] for line in picture["lines"])
    picture = await shown.answer(type="view", range=None)
    assert not picture["zoomed"]
    assert "12:16:39" in shown.chart.forms()["text/html"], "the static copy has all"


ODD: list[Any] = [None, 5, "x", {}, [], [1], [2, 1], [1, 1], [None, 1], [1, 2, 3], ["1", "2"]]
ODD += [[float("nan"), 1.0], [1.0, float("inf")], [-1e301, 1], [True, HOSTILE]]


async def test_odd_messages_change_nothing(shown: Shown) -> None:
    """Messages of any content neither raise nor change what is shown."""
    await shown.answer(type="hello", columns=500, hides=True)
    before = shown.chart.encoded()
    for value in ODD[1:]:
        shown.send(type="view", range=value)
        shown.send(type="hide", names=value if not isinstance(value, list) else [value, 5])
        shown.send(type="hello", columns=500, hides=True, zone=value)
    assert shown.chart.encoded() == before


async def test_svg_document(shown: Shown) -> None:
    """`svg` returns a document with title, axes and lines, in which text is escaped."""
    drawing = ET.fromstring(shown.chart.svg())
    texts = [node.text for node in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "<b>&"
    assert any("(" in str(text) and "2026-11-25" in str(text) for text in texts)
    assert {"small", "large"} <= set(texts)
    assert len(list(drawing.iter("{http://www.w3.org/2000/svg}polyline"))) == 2
