"""Statistics of served calls: how they are counted, sent in keep-alives, and read."""

from __future__ import annotations

import json
import math
import threading
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.rpc.methods import MAX_DURATIONS, MethodStats
from fabric_nb.fabric.rpc.served_statistics import ServedStatistics
from fabric_nb.fabric.wire.keep_alives import (
    MAX_ANNOUNCEMENT,
    Announcement,
    KeepAlive,
    keep_alive_message,
    read_keep_alive,
)
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.fabric.wire.statistics import (
    MAX_COUNT,
    MAX_METHODS,
    CallCounts,
    Statistics,
    read_statistics,
)

CALC = ServiceName("d", "calc", "c1")
NO_CALLS = CallCounts(0, 0, 0)


class Clock:
    """Clock that a test sets."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def delivered(message: Message) -> Delivery:
    """Return a message as it is delivered."""
    return Delivery(body=message.body, headers=dict(message.headers))


def received(announcement: Announcement, statistics: Statistics | None) -> KeepAlive:
    """Return a keep-alive after it was sent and received."""
    return read_keep_alive(delivered(keep_alive_message(CALC, announcement, statistics)))


# -- counting


def test_counts_of_methods_and_of_all() -> None:
    """Calls and errors are totals; the percentile is that of the calls of the last minute."""
    clock = Clock()
    methods = {"idle": MethodStats(), "one": MethodStats(), "two": MethodStats()}
    statistics = ServedStatistics(lambda: methods, clock)
    assert statistics.read() == Statistics(0.0, NO_CALLS)
    methods["one"].record(0.5, None)
    for _ in range(3):
        methods["two"].record(0.25, ValueError())
    methods["two"].running = 2
    clock.now += 5
    first = statistics.read()
    assert first.since == 5
    assert first.total == (4, 3, 2, 500.0)
    assert list(first.methods.items()) == [("two", (3, 3, 2, 250.0)), ("one", (1, 0, 0, 500.0))]
    methods["one"].record(0.125, None)
    for seconds, percentile in ((0, 500.0), (30, 500.0), (29, 500.0), (1, 125.0), (30, None)):
        clock.now += seconds
        assert statistics.read().methods["one"] == (2, 0, 0, percentile), seconds
    assert statistics.read().total == (5, 3, 2, None)


def test_durations_since_a_rare_keep_alive() -> None:
    """Between keep-alives that are rarer than a minute, the percentile is that of all calls."""
    clock = Clock()
    methods = {"one": MethodStats()}
    statistics = ServedStatistics(lambda: methods, clock)
    statistics.read()
    methods["one"].record(0.5, None)
    clock.now += 600
    assert statistics.read().total.p95_ms == 500.0
    clock.now += 600
    assert statistics.read().total.p95_ms is None


def test_totals_never_decrease() -> None:
    """The calls of a method that is not served any more stay counted in all calls."""
    methods = {"one": MethodStats(), "two": MethodStats()}
    statistics = ServedStatistics(lambda: methods)
    for stats in methods.values():
        stats.record(0.1, ValueError())
    assert statistics.read().total[:2] == (2, 2)
    del methods["one"]
    assert statistics.read().total[:2] == (2, 2)
    methods["one"] = MethodStats()  # served again, and counted from zero
    methods["one"].record(0.1, None)
    assert statistics.read().total[:2] == (3, 2)
    assert statistics.read().methods["one"].calls == 1


def test_newest_durations_are_bounded() -> None:
    """The percentile is that of the newest thousand calls, however many have ended."""
    stats = MethodStats()
    statistics = ServedStatistics(lambda: {"one": stats})
    for seconds in (1.0, 0.001):
        for _ in range(MAX_DURATIONS):
            stats.record(seconds, None)
    assert statistics.read().total == (2 * MAX_DURATIONS, 0, 0, 1.0)


def test_reading_in_another_thread() -> None:
    """Statistics that are read in a thread are consistent while calls are counted."""
    stats = MethodStats()
    statistics = ServedStatistics(lambda: {"one": stats})
    seen: list[Statistics] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(statistics.read())

    reader = threading.Thread(target=read)
    reader.start()
    while len(seen) < 50:
        stats.record(0.1, ValueError())
    done.set()
    reader.join()
    totals = [each.total.calls for each in seen]
    assert totals == sorted(totals)
    assert all(each.total.errors <= each.total.calls for each in seen)
    assert statistics.read().total[:2] == (stats.calls, stats.calls)


# -- keep-alives

counts = st.builds(
    CallCounts,
    st.integers(0, MAX_COUNT),
    st.integers(0, MAX_COUNT),
    st.integers(0, MAX_COUNT),
    st.none() | st.floats(0, 1e9),
)
names = st.text("abcdefgh_", min_size=1, max_size=60).filter(str.isidentifier)
statistics = st.builds(
    Statistics,
    st.floats(0, 1e10),
    counts,
    st.dictionaries(names, counts, max_size=80),
    st.integers(0, 1000),
)
signatures = st.dictionaries(names, st.text(max_size=300), max_size=60)


@given(signatures, statistics)
def test_keep_alives_fit(methods: dict[str, str], sent: Statistics) -> None:
    """A keep-alive has at most 4 KiB; statistics of all calls are complete, others are counted."""
    announcement = Announcement("1.0", "i1", 4.0, 2.0, methods)
    message = keep_alive_message(CALC, announcement, sent)
    assert len(message.body) <= MAX_ANNOUNCEMENT
    keep_alive = read_keep_alive(delivered(message))
    read = keep_alive.statistics
    assert read is not None
    assert not keep_alive.flaw
    assert read.total[:3] == sent.total[:3]
    assert list(read.methods) == list(sent.methods)[: len(read.methods)]
    assert len(read.methods) + read.more == len(sent.methods) + sent.more
    announced = keep_alive.announcement
    assert announced is not None
    assert len(announced.methods) + announced.more_methods == len(methods)


def test_signatures_have_priority() -> None:
    """Statistics of many methods leave most of a keep-alive to signatures, if there are many."""
    every = {f"method_{n:02}": CallCounts(10**6, 0, 0, 12.5) for n in range(99)}
    methods = dict.fromkeys(every, "(order: int, currency: str = 'USD')")
    both = received(Announcement(methods=methods), Statistics(1.0, NO_CALLS, every))
    only = received(Announcement(methods=methods), Statistics(1.0, NO_CALLS))
    assert both.announcement is not None
    assert only.announcement is not None
    assert both.statistics is not None
    assert len(both.announcement.methods) >= 0.7 * len(only.announcement.methods)
    assert 20 <= len(both.statistics.methods) < len(every)
    alone = received(Announcement(), Statistics(1.0, NO_CALLS, every))
    assert alone.statistics is not None
    assert len(alone.statistics.methods) > 80


def test_body_without_statistics() -> None:
    """A member that serves nothing sends no statistics, and its keep-alive is as it was before."""
    keep_alive = received(Announcement("1.0", "i1", 4.0), None)
    assert keep_alive.statistics is None
    message = keep_alive_message(CALC, Announcement("1.0", "i1", 4.0))
    assert json.loads(message.body) == {
        "version": "1.0",
        "instance": "i1",
        "interval": 4.0,
        "methods": {},
    }


# -- reading

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)
hostile = st.fixed_dictionaries(
    {},
    optional={
        "since": anything,
        "all": anything | st.lists(anything, min_size=4, max_size=5),
        "methods": st.dictionaries(names, st.lists(anything, max_size=5), max_size=5) | anything,
        "more": anything,
    },
)


@given(hostile | anything)
@example({"since": 1, "all": [-1, 0, 0, 1]})
@example({"since": 1, "all": [10**400, 0, 0, 1]})
@example({"since": math.inf, "all": [1, 0, 0, None]})
@example({"since": 1, "all": [1, 0, 0, 1e300], "methods": {"f": [1, 0, 0, math.nan]}})
def test_hostile_statistics(content: Any) -> None:
    """Any content is read as finite counts from zero upward, or not at all."""
    read = read_statistics(content)
    if read is None:
        return
    assert 0 <= read.since < math.inf
    for calls, errors, running, p95 in (read.total, *read.methods.values()):
        assert {type(calls), type(errors), type(running)} == {int}
        assert min(calls, errors, running) >= 0
        assert max(calls, errors, running) <= MAX_COUNT
        assert p95 is None or 0 <= p95 < math.inf


def test_many_methods() -> None:
    """Of 100,000 methods in statistics, a bounded number is read and the others are counted."""
    methods = {f"f{n}": [1, 0, 0, None] for n in range(100_000)}
    read = read_statistics({"since": 1.0, "all": [1, 0, 0, None], "methods": methods})
    assert read is not None
    assert len(read.methods) == MAX_METHODS
    assert read.more == 100_000 - MAX_METHODS


def test_a_keep_alive_with_unreadable_statistics() -> None:
    """A keep-alive whose statistics cannot be read is received without them, and says so."""
    message = keep_alive_message(CALC, Announcement("1.0", "i1", 4.0))
    body = json.loads(message.body) | {"stats": {"all": "many"}}
    keep_alive = read_keep_alive(delivered(Message(json.dumps(body).encode(), message.headers)))
    assert keep_alive.announcement is not None
    assert keep_alive.announcement.version == "1.0"
    assert keep_alive.statistics is None
    assert "statistics" in keep_alive.flaw
