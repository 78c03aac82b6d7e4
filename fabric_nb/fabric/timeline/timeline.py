"""Timeline of a member at one moment."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fabric_nb.fabric.timeline.drawing import COLUMNS, timeline_svg, timeline_text
from fabric_nb.fabric.timeline.events import TimelineEvent, clock_text
from fabric_nb.fabric.timeline.picture import GROUPS, Picture, group_of, picture
from fabric_nb.fabric.timeline.sources import Collected, collect
from fabric_nb.libraries import importing

if TYPE_CHECKING:
    import pandas as pd

    from fabric_nb.fabric.member import FabricMember

NOTHING = (
    "Nothing has happened in this time: no calls, no instances that came or went, no rows of open"
    " streams, no log records of open feeds."
)


class Timeline:
    """Events of one time range: calls, instances, streams and logs that a member has recorded.

    Example::

        timeline = fabric.timeline(last="5min")
        timeline.df.groupby(["lane", "kind"]).number.sum()
        Path("timeline.svg").write_text(timeline.svg)

    It does not change; a cell whose value it is shows its picture. There are at most 20,000 events;
    `notes` says what is missing.

    Attributes:
        start: begin of the range, in epoch seconds.
        end: its end.
        events: events in the order of time.
        notes: sentences on what is missing, or does not stand where its sender has put it.
    """

    def __init__(self, collected: Collected) -> None:
        self.start, self.end = collected.start, collected.end
        self.events: Sequence[TimelineEvent] = collected.events
        self.notes: Sequence[str] = collected.notes

    @classmethod
    def of(cls, member: FabricMember, seconds: float, end: float | None = None) -> Timeline:
        """Return the timeline of a member for the last `seconds` before `end`, or before now."""
        end = time.time() if end is None else end
        return cls(collect(member, end - seconds, end))

    def between(self, start: float, end: float) -> list[TimelineEvent]:
        """Return the events that have taken place between two times, also if only in part.

        Of rows of streams those are meant whose middle is in the range, because they are counted
        together.
        """
        return [
            event
            for event in self.events
            if event.time <= end
            and event.end >= start
            and (event.kind != "rows" or start <= (event.time + event.end) / 2 <= end)
        ]

    def picture(self, columns: int) -> Picture:
        """Return the lanes, with a width in columns of pixels."""
        return picture(self.start, self.end, self.events, columns)

    @property
    def title(self) -> str:
        """Its range as text."""
        return f"Timeline, {clock_text(self.start)} to {clock_text(self.end)}"

    @property
    def df(self) -> pd.DataFrame:
        """The events as a DataFrame, a row for each; `time` is UTC.

        Columns are those of `TimelineEvent`.
        """
        with importing("pandas"):
            import pandas as pd

            from fabric_nb.frames.time_conversion import utc_times
        frame = pd.DataFrame(self.events, columns=list(TimelineEvent._fields))
        numbers = {"time": "float64", "ms": "float64", "number": "int64"}
        texts = {name: "str" for name in frame.columns if name not in numbers}
        frame = frame.astype({**texts, **numbers})
        frame["time"] = utc_times(frame["time"]).dt.as_unit("ns")
        return frame

    @property
    def svg(self) -> str:
        """The picture as SVG."""
        return timeline_svg(self.picture(COLUMNS), " · ".join([self.title, *self.counts]))

    @property
    def text(self) -> str:
        """The picture as lines of text."""
        head = " · ".join([self.title, *self.counts])
        body = timeline_text(self.picture(COLUMNS)) if self.events else NOTHING
        return "\n".join([head, body, *self.notes])

    @property
    def counts(self) -> list[str]:
        """Numbers of events by kind, as texts."""
        return counted_events(self.events)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        drawing = {"image/svg+xml": self.svg} if self.events else {}
        return {**drawing, "text/plain": self.text}

    def __len__(self) -> int:
        return len(self.events)

    def __repr__(self) -> str:
        return f"<{self.title}: {', '.join(self.counts) or 'no events'}>"


_SINGULAR = ("call", "event of instances", "row", "log record")
_PLURAL = ("calls", "events of instances", "rows", "log records")


def counted_events(events: Sequence[TimelineEvent]) -> list[str]:
    """Return the numbers of events by group, and of failed calls, as texts."""
    counts: Counter[str] = Counter()
    for event in events:
        counts[group_of(event)] += event.number
    texts = [
        f"{counts[group]:,} {one if counts[group] == 1 else many}"
        for group, one, many in zip(GROUPS, _SINGULAR, _PLURAL, strict=True)
        if counts[group]
    ]
    failed = sum(
        event.level in ("failed", "timeout") for event in events if group_of(event) == "calls"
    )
    return [*texts, *([f"{failed:,} failed"] if failed else [])]
