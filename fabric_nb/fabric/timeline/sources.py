"""Events of a member's records. Nothing is recorded here.

The calls of the member, its services' instances and the rows of its streams carry times of this
machine. Log records and spans carry those of their senders, which may be wrong, or hostile.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import nlargest
from operator import attrgetter
from typing import TYPE_CHECKING

from fabric_nb.errors import one_line
from fabric_nb.fabric.core.values import shown
from fabric_nb.fabric.timeline.events import MAX_TEXT, TimelineEvent, clock_text
from fabric_nb.fabric.tracing.tree import tree
from fabric_nb.fabric.wire.logs import LEVELS, LogRecord

if TYPE_CHECKING:
    from fabric_nb.fabric.data.stream import Stream
    from fabric_nb.fabric.member import FabricMember
    from fabric_nb.fabric.tracing.traces import Trace

MAX_EVENTS = 20_000
"""Events of a timeline; of each source the newest are kept."""
MAX_INSTANCE_EVENTS, MAX_SPANS = 2000, 5000
"""Events of instances, and further calls of traces."""
MAX_STREAMS, BINS = 20, 60
"""Streams, and the events of each."""
AHEAD = 1.0
"""Seconds by which a record's time may be later than its arrival."""
INSTANCES = "instances"
OTHER_LEVELS = "other levels"
"""Lane of log records of levels that are not standard."""


@dataclass
class Collected:
    """Events of one time range.

    Attributes:
        start: begin of the range, in epoch seconds.
        end: its end.
        events: events in the order of time.
        omitted: number of events by source that were too many.
        moved: number of log records with times that cannot be right.
        kept_since: by source, the time before which events in the range are no longer known.
    """

    start: float
    end: float
    events: list[TimelineEvent] = field(default_factory=list)
    omitted: dict[str, int] = field(default_factory=dict)
    moved: int = 0
    kept_since: dict[str, float] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """Sentences on what is missing or was moved."""
        notes = [
            f"{count:,} further {source} in this time are not shown."
            for source, count in self.omitted.items()
        ]
        notes += [
            f"{source.capitalize()} before {clock_text(moment)} are not kept."
            for source, moment in self.kept_since.items()
        ]
        if self.moved:
            notes.append(
                f"{self.moved:,} log records carry a time that cannot be right, and stand at the"
                " time of their arrival."
            )
        return notes


def versions(member: FabricMember) -> tuple[int, ...]:
    """Return counters of which one grows with each event, except for those of silence."""
    return (
        member.calls.changes,
        member.registry.events.changes,
        member.traces.changes,
        member.logs.changes,
        sum(stream.changes for stream in member.streams.opened),
    )


def collect(member: FabricMember, start: float, end: float) -> Collected:
    """Return the events of a time range, at most `MAX_EVENTS`."""
    found = Collected(start, end)
    events = found.events
    events += _calls(member, found)
    events += _spans(member, found)
    events += _instances(member, found)
    events += _streams(member, found)
    events += _logs(member, found, MAX_EVENTS - len(events))
    events.sort(key=attrgetter("time"))
    return found


def _newest(
    found: Collected, source: str, events: Iterable[TimelineEvent], limit: int
) -> list[TimelineEvent]:
    """Return the newest events in the range, and count the others."""
    inside = [event for event in events if event.end >= found.start and event.time <= found.end]
    _omit(found, source, len(inside) - limit)
    return inside if len(inside) <= limit else nlargest(limit, inside, key=attrgetter("time"))


def _omit(found: Collected, source: str, count: int) -> None:
    if count > 0:
        found.omitted[source] = found.omitted.get(source, 0) + count


def _keeps(found: Collected, source: str, since: float) -> None:
    if found.start < since:
        found.kept_since[source] = min(since, found.end)


def _local(member: FabricMember, service: str) -> str:
    return one_line(service.removeprefix(f"{member.domain}."))[:MAX_TEXT] or "?"


# -- calls


def _calls(member: FabricMember, found: Collected) -> Iterator[TimelineEvent]:
    _keeps(found, "calls", member.calls.kept_since)
    for record in member.calls.records:
        event = TimelineEvent(
            record.time,
            _local(member, record.service),
            record.direction,
            one_line(record.service),
            member.instance if record.direction == "served" else "",
            one_line(record.method),
            record.ms,
            record.outcome,
            _text(record.error),
        )
        if event.end >= found.start:
            yield event


def _spans(member: FabricMember, found: Collected) -> list[TimelineEvent]:
    """Return the calls in traces that the member has neither made nor served itself."""
    traces = member.traces.all
    if not traces:
        return []
    known = {record.call for record in member.calls.records if record.call}
    events: list[TimelineEvent] = []
    for trace in reversed(traces):
        if len(events) <= MAX_SPANS and _is_recent(trace, found.start):
            events += _calls_of(trace, member, known)
    return _newest(found, "calls in traces", events, MAX_SPANS)


def _is_recent(trace: Trace, start: float) -> bool:
    """Return whether the call that a trace begins with ends after a time."""
    first = next(iter(trace.spans.values()), None)
    return first is not None and first.start + first.ms / 1000 >= start


def _calls_of(trace: Trace, member: FabricMember, known: set[str]) -> Iterator[TimelineEvent]:
    nodes = tree(trace.spans.values())
    if not nodes:
        return
    # The tree has made the times of all machines fit; the first call was recorded by this one.
    begin = nodes[0].span.start - nodes[0].start / 1000
    for node in nodes:
        span = node.span
        if span.kind == "producer" or (span.call and span.call in known):
            continue
        yield TimelineEvent(
            begin + node.start / 1000,
            _local(member, span.service),
            "traced",
            one_line(span.service),
            "" if node.server is None else one_line(node.server.instance),
            one_line(span.method),
            span.ms,
            span.outcome,
            _text(node.error),
        )


# -- instances


def _instances(member: FabricMember, found: Collected) -> list[TimelineEvent]:
    events = member.registry.instance_events()
    if member.registry.events.dropped and events:
        _keeps(found, "events of instances", next(iter(member.registry.events)).time)
    made = (
        TimelineEvent(each.time, INSTANCES, each.kind, each.service, one_line(each.instance))
        for each in events
        if each.time >= found.start
    )
    return _newest(found, "events of instances", made, MAX_INSTANCE_EVENTS)


# -- streams


def stream_label(stream: Stream) -> str:
    """Return the headers of a stream as text."""
    headers = ", ".join(f"{name}={shown(value)[1:-1]}" for name, value in stream.headers.items())
    return one_line(headers or "all data")[:MAX_TEXT]


def _streams(member: FabricMember, found: Collected) -> Iterator[TimelineEvent]:
    """Yield events of the rows that arrived in each part of the range.

    The parts are multiples of their length, so that they remain the same while time passes.
    """
    streams = sorted(member.streams.opened, key=stream_label)
    _omit(found, "streams", len(streams) - MAX_STREAMS)
    step = (found.end - found.start) / BINS
    first = math.floor(found.start / step)
    edges = [(first + number) * step for number in range(BINS + 2)]
    for stream in streams[:MAX_STREAMS]:
        label = stream_label(stream)
        for edge, rows in zip(edges, stream.arrived(edges), strict=False):
            if rows:
                text = f"{rows:,} row{'s'[: rows != 1]}, {rows / step:,.3g}/s"
                yield TimelineEvent(
                    edge, label, "rows", label, ms=step * 1000, text=text, number=rows
                )


# -- logs


def _logs(member: FabricMember, found: Collected, limit: int) -> list[TimelineEvent]:
    _keeps(found, "log records", member.logs.kept_since)
    records, omitted = member.logs.arrived_since(found.start, limit)
    _omit(found, "log records", omitted)
    events = (_log(record, found) for record in records)
    return _newest(found, "log records", events, limit)


def _log(record: LogRecord, found: Collected) -> TimelineEvent:
    moment, text = record.time, record.message
    if not record.arrived - (found.end - found.start) <= moment <= record.arrived + AHEAD:
        found.moved += 1
        text = f"(sent with the time {_written(moment)}) {text}"
        moment = record.arrived
    level = record.severity or record.level
    return TimelineEvent(
        min(moment, record.arrived),
        level if level in LEVELS else OTHER_LEVELS,
        "log",
        one_line(f"{record.domain}.{record.service_type}.{record.service_id}".strip(".")),
        one_line(record.instance),
        level=one_line(record.level),
        text=_text(text),
    )


def _written(moment: float) -> str:
    """Return a time of a peer as text, whatever it is."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
    except (OverflowError, ValueError, OSError):
        return f"{moment:.6g}"


def _text(text: str) -> str:
    return one_line(text[:MAX_TEXT])
