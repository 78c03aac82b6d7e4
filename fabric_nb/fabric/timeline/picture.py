"""Lanes of a timeline, as marks in columns of pixels. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from fabric_nb.errors import one_line
from fabric_nb.fabric.timeline.events import EventKind, TimelineEvent
from fabric_nb.fabric.timeline.sources import OTHER_LEVELS
from fabric_nb.fabric.tracing.waterfall import duration
from fabric_nb.fabric.wire.logs import LEVELS

MAX_SERVICES = 20
"""Services with a lane; the calls of the others share one."""
MAX_LABELS = 2000
"""Marks that are named; the worst and newest are."""
MAX_LABEL = 120
"""Characters of the name of a mark."""

Group = Literal["calls", "instances", "streams", "logs"]
Tone = Literal["quiet", "good", "busy", "warn", "bad"]
GROUPS: tuple[Group, ...] = ("calls", "instances", "streams", "logs")
TONES: tuple[Tone, ...] = ("quiet", "good", "busy", "warn", "bad")
"""Tones of marks, from the least to the most important; those of badges."""

_GROUPS: dict[EventKind, Group] = {
    **dict.fromkeys(("made", "served", "traced"), "calls"),
    **dict.fromkeys(("came", "left", "gone", "back", "busy"), "instances"),
    "rows": "streams",
    "log": "logs",
}
_KINDS: dict[str, Tone] = {
    "made": "busy",
    "served": "good",
    "traced": "quiet",
    "came": "good",
    "back": "good",
    "left": "quiet",
    "gone": "bad",
    "busy": "warn",
    "rows": "busy",
}
_OUTCOMES: dict[str, Tone] = {"failed": "bad", "timeout": "warn", "cancelled": "quiet"}
_LEVELS: dict[str, Tone] = {
    "INFO": "busy",
    "WARNING": "warn",
    "ERROR": "bad",
    "CRITICAL": "bad",
}


def group_of(event: TimelineEvent) -> Group:
    """Return the group of lanes that an event belongs to."""
    return _GROUPS[event.kind]


def tone_of(event: TimelineEvent) -> Tone:
    """Return the tone of an event: its outcome or level, or else its kind."""
    if event.kind == "log":
        return _LEVELS.get(event.lane, "quiet")
    return _OUTCOMES.get(event.level) or _KINDS[event.kind]


def label_of(event: TimelineEvent) -> str:
    """Return an event as text.

    Example:
        >>> label_of(TimelineEvent(0.0, "", "made", "d.t.a", "", "add", 12.3, "failed", "no"))
        'made a.add, 12.3 ms, failed: no'
    """
    name = event.service.rpartition(".")[2]
    match group_of(event):
        case "calls":
            took = "" if event.ms is None else f", {duration(event.ms)}"
            outcome = "" if event.level == "ok" else f", {event.level}"
            text = f": {event.text}" if event.text else ""
            label = f"{event.kind} {name}.{event.method}{took}{outcome}{text}"
        case "instances":
            instance = f"@{event.instance[:8]}" if event.instance else ""
            label = f"{name}{instance} {event.kind}"
        case "streams":
            label = event.text
        case "logs":
            label = f"{event.level} {name}: {event.text}"
    return one_line(label[:MAX_LABEL])


class Mark(NamedTuple):
    """Events of one lane that take the same columns.

    Attributes:
        first: first column.
        last: last column.
        tone: index of the most important of their tones.
        number: number of events, or of rows.
        label: name of the most important event; empty if there are too many marks.
    """

    first: int
    last: int
    tone: int
    number: int
    label: str


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane.

    Attributes:
        name: name of the lane.
        group: group that it belongs to.
        count: number of events, or of rows.
        bad: number of failed or lost ones among them.
        marks: marks, those of the most important tones last.
        peak: number of the fullest mark.
    """

    name: str
    group: Group
    count: int
    bad: int
    marks: Sequence[Mark]
    peak: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A timeline in lanes.

    Attributes:
        start: left end, in epoch seconds.
        end: right end.
        columns: width in columns of pixels.
        lanes: lanes from top to bottom.
    """

    start: float
    end: float
    columns: int
    lanes: Sequence[Lane]


def picture(start: float, end: float, events: Sequence[TimelineEvent], columns: int) -> Picture:
    """Return the picture of some events, which are in order of time."""
    lanes: dict[tuple[Group, str], list[TimelineEvent]] = {}
    busiest = _busiest(events)
    for event in events:
        group = _GROUPS[event.kind]
        name = event.lane
        if group == "calls" and busiest is not None and name not in busiest:
            name = ""
        lanes.setdefault((group, name), []).append(event)
    labels = MAX_LABELS // max(1, len(lanes))  # of each lane, so that none takes those of others
    scale = columns / (end - start)
    others = 0 if busiest is None else len({each.lane for each in lanes.get(("calls", ""), ())})
    drawn = []
    for (group, name), found in sorted(lanes.items(), key=_order):
        marks = _marks(found, start, scale, columns, labels)
        drawn.append(
            Lane(
                name or f"{others:,} other services",
                group,
                sum(event.number for event in found),
                sum(tone_of(event) == "bad" for event in found),
                marks,
                max(mark.number for mark in marks),
            )
        )
    return Picture(start, end, columns, drawn)


def _busiest(events: Iterable[TimelineEvent]) -> set[str] | None:
    """Return the services with the most calls; None if each has a lane."""
    counts = Counter(event.lane for event in events if _GROUPS[event.kind] == "calls")
    if len(counts) <= MAX_SERVICES:
        return None
    return {name for name, _ in counts.most_common(MAX_SERVICES)}


def _order(item: tuple[tuple[Group, str], object]) -> tuple[int, int, str]:
    """Return the place of a lane: services by name, log levels from the most important."""
    group, name = item[0]
    place = int(not name)
    if group == "logs":
        place = 1 if name == OTHER_LEVELS else -LEVELS.index(name)
    return GROUPS.index(group), place, name


@dataclass(slots=True)
class _Place:
    """Events in the same columns: their number, and the most important one."""

    tone: int
    number: int
    event: TimelineEvent


def _marks(
    events: Sequence[TimelineEvent], start: float, scale: float, columns: int, labels: int
) -> list[Mark]:
    """Return the marks of a lane, of which the last `labels` are named."""
    places: dict[tuple[int, int], _Place] = {}
    limit = columns - 1
    for event in events:
        tone = TONES.index(tone_of(event))
        first = min(max(int((event.time - start) * scale), 0), limit)
        last = first if event.ms is None else min(int((event.end - start) * scale), limit)
        place = places.get((first, last))
        if place is None:
            places[first, last] = _Place(tone, event.number, event)
            continue
        place.number += event.number
        if tone >= place.tone:
            place.tone, place.event = tone, event
    ordered = sorted(places.items(), key=lambda item: (item[1].tone, item[0]))
    unnamed = len(ordered) - labels
    return [
        Mark(*span, place.tone, place.number, "" if number < unnamed else label_of(place.event))
        for number, (span, place) in enumerate(ordered)
    ]
