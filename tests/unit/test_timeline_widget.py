"""The live timeline, with a simulated front end."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import orjson
import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.fabric.discovery import registry as registry_module
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.rpc.history import CallRecord
from fabric_nb.fabric.wire.keep_alives import Announcement, KeepAlive
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.notebook.timeline.live import LiveTimeline, length_text
from fabric_nb.notebook.timeline.widget import MAX_COLUMNS, TimelineWidget
from tests.unit.test_table_widget import HOSTILE, Page, page, soon

__all__ = ["page"]


class Clock:
    """Clock that a test sets."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Shown:
    """A timeline of 30 s on display, and what its browser has received."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.fabric = AmqBrokerConnector("amqp://localhost", "d", "app", "me")
        self.clock = Clock()
        self.add(10, "first")
        self.live = LiveTimeline(self.fabric.member, 30, self.clock)

    def add(self, ago: float, method: str, **values: Any) -> None:
        """Record a call that began so many seconds ago."""
        fields = {"direction": "made", "service": "d.app.calc", "ms": 5.0, "outcome": "ok"}
        moment = self.clock.now - ago
        self.fabric.calls.add(CallRecord(time=moment, method=method, **{**fields, **values}))

    def send(self, **content: Any) -> None:
        """Send a message of the lanes' view."""
        self.page.send(self.live.lanes, **content)

    def pictures(self) -> list[dict[str, Any]]:
        """Return the pictures that were sent."""
        sent = [
            orjson.loads(buffers[0])
            for _, data, buffers in self.page.messages
            if data.get("content", {}).get("type") == "picture"
        ]
        return [dict(each) for each in sent]

    def methods(self) -> list[str]:
        """Return the methods of the calls in the table."""
        return [row.cells[4] for row in self.live.table.model.rows]


@pytest.fixture
async def shown(page: Page) -> Any:
    shown = Shown(page)
    yield shown
    shown.live.close()


async def test_lanes_of_the_width_of_the_browser(shown: Shown) -> None:
    """The browser receives the lanes in its width, and again when that changes."""
    shown.send(type="hello", columns=500, hides=True)
    await soon(shown.pictures)
    (picture,) = shown.pictures()
    assert picture["columns"] == 500
    (lane,) = picture["lanes"]
    assert (lane["name"], lane["group"], lane["count"]) == ("app.calc", "calls", 1)
    ((first, last, tone, number, label),) = lane["marks"]
    assert 325 <= first <= last <= 340
    assert (tone, number, label) == (2, 1, "made calc.first, 5.0 ms")
    shown.send(type="resize", columns=10**9)
    await soon(lambda: len(shown.pictures()) == 2)
    assert shown.pictures()[1]["columns"] == MAX_COLUMNS


async def test_it_follows_the_time(shown: Shown) -> None:
    """New calls appear, and those that are too old for the range disappear."""
    shown.clock.now += 15
    shown.add(0, "second")
    shown.live.refresh()
    assert shown.methods() == ["first", "second"]
    shown.clock.now += 10
    shown.live.refresh()
    assert shown.methods() == ["second"]


async def test_a_selected_range_filters_and_pauses(shown: Shown) -> None:
    """While a range is selected, the table has its events, and neither it nor the lanes move."""
    shown.add(2, "second", outcome="failed")
    shown.clock.now += 2
    shown.live.refresh()
    shown.send(type="hello", columns=500, hides=True)
    await soon(shown.pictures)
    now = shown.clock.now
    shown.send(type="select", range=[now, now - 8])
    await soon(lambda: shown.methods() == ["second"])
    await soon(lambda: shown.pictures()[-1]["selection"] == [now - 8, now])
    assert shown.live.table.model.head.facts[1:] == ["1 call", "1 failed"]
    shown.clock.now += 100
    shown.live.refresh()
    assert shown.methods() == ["second"]
    shown.send(type="select", range=None)
    shown.live.refresh()
    assert shown.methods() == []


@pytest.mark.parametrize(
    "message",
    [
        {"type": "select", "range": [1]},
        {"type": "select", "range": ["a", "b"]},
        {"type": "select", "range": [math.nan, 1.0]},
        {"type": "select", "range": [-math.inf, math.inf]},
        {"type": "resize", "columns": "wide"},
        {"type": "other"},
        {},
    ],
)
async def test_unknown_messages(
    shown: Shown, message: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A message of another kind is logged, and changes nothing."""
    shown.send(**message)
    assert "sent an unknown message" in caplog.text
    assert shown.methods() == ["first"]


async def test_hostile_texts(shown: Shown) -> None:
    """Names and errors of others are sent as text without control characters."""
    shown.add(5, HOSTILE, service=HOSTILE, error=HOSTILE, outcome="failed")
    shown.clock.now += 2
    shown.live.refresh()
    shown.send(type="hello", columns=500, hides=True)
    await soon(shown.pictures)
    sent = orjson.dumps(shown.pictures()[0]).decode()
    assert "\\u202e" not in sent
    assert "\u202e" not in sent
    assert "<img src=x onerror=alert(1)>" in sent  # which the browser inserts as text


async def test_static_copy(shown: Shown) -> None:
    """The static copy has the picture, and the events as a table; its text has both as text."""
    forms = [data for data in shown.page.displays.values() if "text/html" in data]
    (form,) = forms
    assert "<svg" in form["text/html"]
    assert "first" in form["text/html"]
    assert "app.calc" in form["text/plain"]
    assert "first" in form["text/plain"]
    shown.live.freeze()
    assert not shown.live.live


async def test_nothing_to_show(page: Page) -> None:
    """A timeline without events says so, and sends nothing while nothing happens."""
    fabric = AmqBrokerConnector("amqp://localhost", "d", "app", "me")
    clock = Clock()
    live = LiveTimeline(fabric.member, 30, clock)
    (form,) = [data for data in page.displays.values() if "text/html" in data]
    assert "Nothing has happened" in form["text/plain"]
    assert "<svg" not in form["text/html"]
    live.refresh()
    changes = live.lanes.changes
    for _ in range(5):
        clock.now += 7
        live.refresh()
        await asyncio.sleep(0)
    assert live.lanes.changes == changes
    live.close()


async def test_silence_of_an_instance(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance that is silent for too long appears, although nothing is received."""
    fabric = AmqBrokerConnector("amqp://localhost", "d", "app", "me")
    clock = Clock()
    fabric.member.registry = fabric.registry = registry = Registry(clock)
    monkeypatch.setattr(registry_module.time, "time", clock)
    announcement = Announcement(instance="i1", interval=5.0)
    registry.receive(KeepAlive(ServiceName("d", "app", "calc"), announcement))
    live = LiveTimeline(fabric.member, 10, clock)
    kinds = []
    for _ in range(3):
        kinds.append([row.cells[1].text for row in live.table.model.rows])
        clock.now += 12
        live.refresh()
    assert kinds == [["came"], [], ["gone"]]
    live.close()


def test_length() -> None:
    """A length is written in its largest whole unit."""
    assert [length_text(seconds) for seconds in (30, 90, 120, 7200)] == [
        "30 s",
        "90 s",
        "2 min",
        "2 h",
    ]


def test_code_is_complete() -> None:
    """The code of the browser is one module, without imports."""
    assert "import " not in TimelineWidget.script.replace("// ", "")
    assert "class TimelineView" in TimelineWidget.script
