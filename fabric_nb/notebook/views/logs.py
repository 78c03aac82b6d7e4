"""Remote logs, seen: newest at the bottom, as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import islice

from fabric_nb.fabric.logs import LEVELS, LogFeed
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.wire import LogRecord
from fabric_nb.notebook.pages import MAX_CELL, Badge, Tone
from fabric_nb.notebook.table import Button, Column, Head, Select, TableModel, Value
from fabric_nb.notebook.views.base import TableView
from fabric_nb.notebook.views.state import state_badge

MAX_ROWS = 1000
TONES: dict[str, Tone] = {
    "DEBUG": "quiet",
    "INFO": "busy",
    "WARNING": "warn",
    "ERROR": "bad",
    "CRITICAL": "bad",
}
ALL = "all"
COLUMNS = (
    Column("time", "time"),
    Column("level", "badge"),
    Column("service"),
    Column("logger"),
    Column("message"),
)


@dataclass(eq=False)
class LogView(TableView):
    """The log records of a feed; a record with a traceback or a long message opens."""

    fabric: FabricMember
    feed: LogFeed
    level: str = ALL
    """The least level that is shown."""
    paused: bool = False
    _taken: int = 0
    """How many records of the feed were looked at."""
    _taken_from: str = ALL
    """The least level when they were."""

    def version(self) -> Hashable:
        """How many records have come, and which are to be shown."""
        return self.fabric.state, self.feed.changes, self.feed.closed, self.level, self.paused

    def model(self) -> TableModel:
        """A table of records."""
        return TableModel("Logs", COLUMNS, max_rows=MAX_ROWS, follow=True)

    def fill(self, model: TableModel) -> None:
        """Add the records that have come since."""
        feed = self.feed
        if self.level != self._taken_from:
            model.clear()
            self._taken, self._taken_from = 0, self.level
        if not self.paused or not self._taken:
            self._take(model)
        fresh = feed.changes - self._taken
        model.head = Head(
            "Logs",
            [*([Badge("paused", "warn")] if self.paused else []), *self._states()],
            [*self._facts(), *([f"{fresh:,} new"] if fresh else [])],
            tools=[
                Button("pause", "Pause", self.paused),
                Select("level", "Level", [ALL, *LEVELS], self.level),
            ],
            empty="No record has come yet." if not feed.changes else "No record of that level.",
        )

    def _take(self, model: TableModel) -> None:
        records = self.feed.records
        first = self.feed.changes - len(records)
        begin = max(self._taken, first)
        fresh = [
            (number, record)
            for number, record in enumerate(islice(records, begin - first, None), begin)
            if self._shows(record)
        ]
        model.cut += max(0, len(fresh) - MAX_ROWS)
        for number, record in fresh[-MAX_ROWS:]:
            model.put(number, _row(record), _detail(record))
        self._taken = self.feed.changes

    def act(self, name: str, value: object) -> None:
        """Pause, go on, or choose the least level."""
        match name, value:
            case "pause", None:
                self.paused = not self.paused
            case "level", str(level) if level in (ALL, *LEVELS):
                self.level = level
            case _:
                raise LookupError(f"There is no {name!r} here.")

    def _shows(self, record: LogRecord) -> bool:
        if self.level == ALL:
            return True
        return record.level in LEVELS and LEVELS.index(record.level) >= LEVELS.index(self.level)

    def _states(self) -> list[Badge]:
        closed = [Badge("closed", "quiet")] if self.feed.closed else []
        return closed or state_badge(self.fabric)

    def _facts(self) -> list[str]:
        feed = self.feed
        levels = Counter(record.level for record in feed.records)
        what = [f"from {feed.service}"] if feed.service else []
        what += [f"{feed.level} and above"] if feed.level else []
        what += [f"{count:,} {level}" for level, count in sorted(levels.items())[:8]]
        return what + ([f"{feed.dropped:,} older dropped"] if feed.dropped else [])


def _row(record: LogRecord) -> list[Value]:
    return [
        record.time,
        Badge(record.level, TONES.get(record.level, "quiet")),
        f"{record.service_type}.{record.service_id}",
        record.logger,
        record.message,
    ]


def _detail(record: LogRecord) -> str:
    """What does not fit into the row."""
    long = len(record.message) > MAX_CELL or "\n" in record.message
    return "\n".join(
        [*([record.message] if long else []), *([record.traceback] if record.traceback else [])]
    )
