"""Table of the events of a timeline, newest at the bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

from fabric_nb.fabric.timeline.events import TimelineEvent
from fabric_nb.fabric.timeline.picture import group_of, tone_of
from fabric_nb.fabric.timeline.timeline import Timeline, counted_events
from fabric_nb.notebook.pages import Badge
from fabric_nb.notebook.table import Column, Head, TableModel, Value
from fabric_nb.notebook.table.cells import clock
from fabric_nb.notebook.views.base import TableView

MAX_ROWS = 1000
SHORT = 10.0
"""Seconds below which a range is written with fractions."""
COLUMNS = (
    Column("time", "time"),
    Column("event", "badge"),
    Column("service", line=2),
    Column("instance", "code", line=0),
    Column("method", "code"),
    Column("ms", "number", digits=1, line=2),
    Column("outcome", line=2),
    Column("text", line=0),
)


@dataclass(eq=False)
class EventsView(TableView):
    """Events of a timeline, or of a range of it; rows of streams are only counted.

    Attributes:
        timeline: returns the timeline.
        domain: domain that is omitted in the names of services.
        selected: begin and end of the range, in epoch seconds; None: all.
    """

    timeline: Callable[[], Timeline]
    domain: str = ""
    selected: tuple[float, float] | None = None

    def version(self) -> Hashable:
        """Return the timeline and the range."""
        return self.timeline(), self.selected

    def model(self) -> TableModel:
        """Return an empty table of events."""
        return TableModel("Events", COLUMNS, max_rows=MAX_ROWS, follow=True)

    def fill(self, model: TableModel) -> None:
        """Show the newest events."""
        timeline = self.timeline()
        events = timeline.between(*(self.selected or (timeline.start, timeline.end)))
        listed = [event for event in events if group_of(event) != "streams"]
        older = len(listed) - MAX_ROWS
        model.replace(self._rows(listed[-MAX_ROWS:]), more=max(0, older))
        within = []
        if self.selected is not None:
            within = [_range_text(*self.selected)]
        model.head = Head(
            "Events",
            facts=[*within, *counted_events(events)],
            empty="No event in this range." if self.selected else "No event yet.",
        )

    def _rows(self, events: Sequence[TimelineEvent]) -> Iterator[tuple[Hashable, list[Value], str]]:
        """Yield the rows; the keys of equal events differ by a number."""
        seen: Counter[TimelineEvent] = Counter()
        for event in events:
            seen[event] += 1
            is_log = event.kind == "log"
            yield (
                (event, seen[event]),
                [
                    event.time,
                    Badge(event.level if is_log else event.kind, tone_of(event)),
                    event.service.removeprefix(f"{self.domain}."),
                    event.instance,
                    event.method,
                    event.ms,
                    "" if is_log else event.level,
                    event.text,
                ],
                "",
            )


def _range_text(start: float, end: float) -> str:
    """Return a range of time as local times, with fractions if it is short."""
    texts = []
    for moment in (start, end):
        fraction = f"{moment % 1:.2f}"[1:] if end - start < SHORT else ""
        texts.append(clock(moment, end) + fraction)
    return " to ".join(texts)
