"""Timeline: events of what a member keeps, their lanes, and their pictures."""

from __future__ import annotations

import math
import random
import time
import xml.etree.ElementTree as ET
from datetime import timedelta
from typing import Any

import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.errors import InvalidArgument
from fabric_nb.fabric.logs.feed import LogFeed
from fabric_nb.fabric.rpc.history import CallRecord
from fabric_nb.fabric.timeline import sources
from fabric_nb.fabric.timeline.events import TimelineEvent, window_seconds
from fabric_nb.fabric.timeline.picture import (
    MAX_LABEL,
    MAX_LABELS,
    MAX_SERVICES,
    TONES,
    label_of,
    picture,
    tone_of,
)
from fabric_nb.fabric.timeline.timeline import Timeline
from fabric_nb.fabric.wire.keep_alives import Announcement, KeepAlive
from fabric_nb.fabric.wire.logs import LogRecord
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.fabric.wire.spans import Span
from tests.support.internals import add_log_feed

HOSTILE = "<script>\x00\u202e\ud800\nx"


@pytest.fixture
def fabric() -> AmqBrokerConnector:
    """Connector that is not open; its records are filled by the tests."""
    return AmqBrokerConnector("amqp://localhost", "d", "app", "me")


def call(fabric: AmqBrokerConnector, ago: float, **values: Any) -> None:
    """Record a call that began so many seconds ago."""
    given = {"direction": "made", "service": "d.app.calc", "method": "add", "ms": 5.0}
    fields = {**given, "outcome": "ok", **values}
    fabric.calls.add(CallRecord(time=time.time() - ago, **fields))


def feed(fabric: AmqBrokerConnector, **options: Any) -> LogFeed:
    """Return a log feed of a connector that is not open."""
    made = LogFeed(fabric.member.connection, "d", rejected=fabric.rejected, **options)
    add_log_feed(fabric, made)
    return made


def log(feed: LogFeed, ago: float, *, sent: float | None = None, **values: Any) -> None:
    """Receive a record that arrived so many seconds ago; `sent` is its sender's time."""
    arrived = time.time() - ago
    fields = {"level": "INFO", "message": "m", "service_type": "app", "service_id": "calc"}
    record = LogRecord(
        time=arrived if sent is None else sent, arrived=arrived, **{**fields, **values}
    )
    feed.dropped += len(feed.records) == feed.records.maxlen
    feed.records.append(record)
    feed.changes += 1


def kinds(timeline: Timeline) -> list[str]:
    return [event.kind for event in timeline.events]


# -- the length


@pytest.mark.parametrize(
    ("last", "seconds"),
    [
        ("5min", 300),
        (" 5 MIN ", 300),
        ("30s", 30),
        ("30", 30),
        ("1h", 3600),
        ("1.5h", 5400),
        ("2500ms", 2.5),
        ("7d", 604_800),
        (90, 90),
        (timedelta(minutes=2), 120),
    ],
)
def test_length(last: object, seconds: float) -> None:
    """The length of a timeline is text with a unit, a number of seconds, or a timedelta."""
    assert window_seconds(last) == seconds


@pytest.mark.parametrize(
    "last",
    [
        *("", "-5s", "5 fortnights", "nan", "1e9", "8d", "0.5s", "min", "9" * 500),
        *(0, -1, math.nan, math.inf, 10**400, True, None, [], object(), timedelta(0), 1j),
    ],
)
def test_bad_length(last: object) -> None:
    """Anything else is one sentence that says what to write."""
    with pytest.raises(InvalidArgument, match=r"^last=.{1,60} is no length of a timeline: write"):
        window_seconds(last)


# -- events


def test_calls(fabric: AmqBrokerConnector) -> None:
    """Calls made and served are events, in order of time; those that ended before are none."""
    call(fabric, 400)
    call(fabric, 10, direction="served", service="d.app.me", outcome="failed", error="E: no")
    call(fabric, 20, service="other.app.calc")
    call(fabric, 310, ms=30_000.0)
    timeline = fabric.timeline(last="5min")
    assert [event.lane for event in timeline.events] == ["app.calc", "other.app.calc", "app.me"]
    assert timeline.events[2].instance == fabric.instance
    assert kinds(timeline) == ["made", "made", "served"]
    frame = timeline.df
    assert list(frame.columns) == list(TimelineEvent._fields)
    assert str(frame.time.dtype) == "datetime64[ns, UTC]"
    assert frame.query("level == 'failed'").text.tolist() == ["E: no"]
    assert timeline.counts == ["3 calls", "1 failed"]
    assert timeline.notes == []


def test_nothing(fabric: AmqBrokerConnector) -> None:
    """A timeline without events says so, and its DataFrame has its columns."""
    timeline = fabric.timeline(30)
    assert len(timeline) == 0
    assert list(timeline.df.columns) == list(TimelineEvent._fields)
    assert "Nothing has happened" in timeline.text
    assert repr(timeline).endswith(": no events>")


def test_calls_that_are_not_kept(fabric: AmqBrokerConnector) -> None:
    """If the kept calls do not cover the time, a note says from when on they do."""
    for number in range(1100):
        call(fabric, 200 - number / 10)
    timeline = fabric.timeline("5min")
    assert len(timeline) == 1020  # the newest, and some older ones of the method
    assert [note[:12] for note in timeline.notes] == ["Calls before"]
    assert fabric.timeline("1min").notes == []


def test_traced_calls(fabric: AmqBrokerConnector) -> None:
    """Calls between other services are known from traces; the member's own are not doubled."""
    now = time.time()
    call(fabric, 5, call="c1")
    first = Span("t", "1", "", "client", "d.app.calc", "add", "d.app.me.i", now - 5, 50, call="c1")
    other = Span("t", "2", "1", "client", "d.app.disk", "write", "d.app.calc.i", now - 4.9, 20)
    span = Span("t", "3", "2", "server", "d.app.disk", "write", "d.app.disk.i9", now + 7200, 9)
    for each in (first, other, span):
        fabric.traces.add(each)
    timeline = fabric.timeline()
    assert kinds(timeline) == ["made", "traced"]
    traced = timeline.events[1]
    assert (traced.service, traced.instance, traced.method) == ("d.app.disk", "i9", "write")
    assert abs(traced.time - (now - 4.9)) < 0.05


def test_instances(fabric: AmqBrokerConnector) -> None:
    """Instances that come and leave are events."""
    name = ServiceName("d", "app", "calc")
    for leaving in (False, True):
        fabric.registry.receive(KeepAlive(name, Announcement(instance="i1"), leaving=leaving))
    timeline = fabric.timeline()
    assert [(event.lane, event.kind, event.instance) for event in timeline.events] == [
        ("instances", "came", "i1"),
        ("instances", "left", "i1"),
    ]
    assert label_of(timeline.events[0]) == "calc@i1 came"


def test_log_records(fabric: AmqBrokerConnector) -> None:
    """Records of all open feeds are events in a lane of their level, each once."""
    one, two = feed(fabric), feed(fabric)
    log(one, 400)
    for each in (one, two):
        log(each, 5, level="ERROR", message="down", sent=time.time() // 1 - 5)
    log(one, 3, level="NOTICE", severity="INFO")
    log(one, 2, level=HOSTILE)
    events = fabric.timeline().events
    assert [event.lane for event in events] == ["ERROR", "INFO", "other levels"]
    assert [tone_of(event) for event in events] == ["bad", "busy", "quiet"]
    assert events[1].level == "NOTICE"


@pytest.mark.parametrize("sent", [0.0, -1.0, 253_402_300_800.0, 9.2e9, 1e300, math.inf])
def test_log_records_with_absurd_times(fabric: AmqBrokerConnector, sent: float) -> None:
    """A record with a time that cannot be right stands at its arrival, and says so."""
    one = feed(fabric)
    log(one, 5, sent=sent, message="when?")
    log(one, 4, sent=time.time() - 14, message="late")
    log(one, 3, sent=time.time() + 60, message="early")
    timeline = fabric.timeline()
    late, absurd, early = timeline.events
    assert late.text == "late"
    assert absurd.text.startswith("(sent with the time ")
    assert absurd.text.endswith(") when?")
    assert early.text.endswith(") early")
    assert timeline.start < absurd.time < timeline.end
    assert [note[:32] for note in timeline.notes] == ["2 log records carry a time that "]


def test_a_flood_of_log_records(fabric: AmqBrokerConnector) -> None:
    """Of too many records the newest are events, and the others are counted; all else remains."""
    one = feed(fabric, max_records=50_000)
    call(fabric, 250)
    for number in range(60_000):
        log(one, 100 - number / 1000, message=str(number))
    timeline = fabric.timeline()
    assert len(timeline) == sources.MAX_EVENTS
    assert timeline.events[0].kind == "made"
    assert timeline.events[-1].text == "59999"
    assert timeline.notes[0] == "30,001 further log records in this time are not shown."
    assert timeline.notes[1].startswith("Log records before")


def test_hostile_texts(fabric: AmqBrokerConnector) -> None:
    """Names, levels and messages are text in every form, however they are written."""
    for _ in range(2):
        call(fabric, 5, service=HOSTILE, method=HOSTILE, error=HOSTILE * 1000, outcome="failed")
    log(feed(fabric), 3, level=HOSTILE, message=HOSTILE, service_id=HOSTILE, instance=HOSTILE)
    timeline = fabric.timeline()
    drawn = ET.fromstring(timeline.svg)
    assert not [each for each in drawn.iter() if "script" in str(each.tag)]
    assert "\x00" not in timeline.text
    assert "\u202e" not in timeline.text
    assert len(timeline.text.splitlines()) == 4
    timeline.svg.encode()
    assert len(timeline.df) == 3


# -- the picture


def test_lanes_in_their_order() -> None:
    """Services come first, then instances, streams, and log levels from the most important."""
    rows = [
        TimelineEvent(1, "INFO", "log"),
        TimelineEvent(1, "ERROR", "log"),
        TimelineEvent(1, "other levels", "log"),
        TimelineEvent(1, "kind=ORDER", "rows", ms=1000, number=7),
        TimelineEvent(1, "instances", "came"),
        TimelineEvent(1, "b", "made"),
        TimelineEvent(2, "a", "served"),
    ]
    lanes = picture(0, 10, rows, 100).lanes
    names = ["a", "b", "instances", "kind=ORDER", "ERROR", "INFO", "other levels"]
    assert [lane.name for lane in lanes] == names
    assert lanes[3].count == 7


def test_busiest_services_have_lanes() -> None:
    """Of many services the busiest have a lane each, and the others one together."""
    events = [TimelineEvent(1, f"s{n:02}", "made") for n in range(30) for _ in range(n + 1)]
    lanes = picture(0, 10, events, 100).lanes
    assert len(lanes) == MAX_SERVICES + 1
    assert [lanes[0].name, lanes[-1].name] == ["s10", "10 other services"]
    assert lanes[-1].count == sum(range(1, 11))


def test_marks() -> None:
    """Events in the same columns are one mark, with the worst tone and the number of all."""
    events = [
        TimelineEvent(1.0, "a", "made", "d.t.a", method="x", ms=1.0, level="failed", text="no"),
        TimelineEvent(1.01, "a", "made", "d.t.a", method="y", ms=1.0, level="ok"),
        TimelineEvent(2.0, "a", "made", "d.t.a", method="z", ms=3000.0, level="ok"),
        TimelineEvent(-1.0, "a", "made", "d.t.a", ms=2000.0, level="ok"),
    ]
    (lane,) = picture(0, 10, events, 100).lanes
    found = [(mark.first, mark.last, TONES[mark.tone], mark.number) for mark in lane.marks]
    assert found == [(0, 10, "busy", 1), (20, 50, "busy", 1), (10, 10, "bad", 2)]
    assert lane.marks[-1].label == "made a.x, 1.0 ms, failed: no"
    assert (lane.count, lane.bad) == (4, 1)


def test_bounded() -> None:
    """The marks of 20,000 events are computed in one pass, and the worst of them are named."""
    chance = random.Random(1)
    levels = ["ok"] * 9 + ["failed"]
    events = sorted(
        TimelineEvent(
            chance.uniform(0, 300),
            f"s{chance.randrange(40)}",
            "made",
            "d.t." + "s" * 300,
            ms=chance.expovariate(1 / 2000),
            level=chance.choice(levels),
        )
        for _ in range(20_000)
    )
    lanes = picture(0, 300, events, 1000).lanes
    marks = [mark for lane in lanes for mark in lane.marks]
    labels = [mark.label for mark in marks if mark.label]
    assert sum(mark.number for mark in marks) == 20_000
    assert 0 < len(labels) <= MAX_LABELS
    assert max(map(len, labels)) == MAX_LABEL
    assert all(0 <= mark.first <= mark.last < 1000 for mark in marks)


def test_events_of_a_range() -> None:
    """A range has the calls that took place in it, even in part, and rows that arrived in it."""
    events = [
        TimelineEvent(1.0, "a", "made", ms=500.0),
        TimelineEvent(1.2, "a", "made", ms=9000.0),
        TimelineEvent(2.0, "s", "rows", ms=1000.0, number=5),
        TimelineEvent(3.0, "s", "rows", ms=1000.0, number=7),
        TimelineEvent(5.0, "INFO", "log"),
    ]
    timeline = Timeline(sources.Collected(0, 10, events))
    assert timeline.between(2.6, 3.6) == [events[1], events[3]]
    assert timeline.between(5.0, 5.0) == [events[1], events[4]]
    assert timeline.between(0, 10) == events


def test_text(fabric: AmqBrokerConnector) -> None:
    """In text each lane is a line of bars, with an exclamation mark where something failed."""
    for ago in (250, 250, 50):
        call(fabric, ago)
    call(fabric, 100, outcome="failed")
    head, lane, axis = fabric.timeline().text.splitlines()
    assert head.endswith(" · 4 calls · 1 failed")
    name, bars = lane[:8], lane[25:75]
    assert name == "app.calc"
    assert (bars[8], bars[33], bars[41]) == ("█", "!", "▄")
    assert lane.endswith(" 4, 1 bad")
    assert len(axis) == 75
