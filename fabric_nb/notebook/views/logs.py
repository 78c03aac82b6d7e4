"""Remote logs, seen: newest at the bottom, as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

from fabric_nb.fabric.logs.feed import LogFeed
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.wire.logs import LEVELS, LogRecord
from fabric_nb.notebook.pages import MAX_CELL, Badge, Tone
from fabric_nb.notebook.table import Button, Column, Head, Select, TableModel, Value
from fabric_nb.notebook.views.base import TableView
from fabric_nb.notebook.views.newest import put_newest, since
from fabric_nb.notebook.views.state import look_at_others, nothing_yet, state_badge

MAX_ROWS = 1000
NOTHING = "No record has come yet. Services send theirs with init_logging_handler."
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
    Column("logger", line=0),
    Column("message", line=2),
)


@dataclass(eq=False)
class LogView(TableView):
    """The log records of a feed; a record with a traceback or a long message opens."""

    fabric: FabricMember
    feed: LogFeed
    level: str = ALL
    """The least level that is shown."""
    paused: bool = False
    domain: str = ""
    """Whose records it shows, to name other domains while there is none."""
    _taken: int = 0
    """How many records of the feed were looked at."""
    _taken_from: str = ALL
    """The least level when they were."""

    def version(self) -> Hashable:
        """How many records have come, and which are to be shown."""
        feed = self.feed
        others = 0 if feed.changes else look_at_others(self.fabric, self.domain)
        shown = self.level, self.paused
        return self.fabric.state, feed.changes, feed.rejected, feed.closed, *shown, others

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
            came = since(feed.records, feed.changes, self._taken)
            put_newest(model, (one for one in came if self._shows(one[1])), _row)
            self._taken = feed.changes
        fresh = feed.changes - self._taken
        model.head = Head(
            "Logs",
            [*([Badge("paused", "warn")] if self.paused else []), *self._states()],
            [*self._facts(), *([f"{fresh:,} new"] if fresh else [])],
            tools=[
                Button("pause", "Pause", self.paused),
                Select("level", "Level", [ALL, *LEVELS], self.level),
            ],
            empty="No record of that level."
            if feed.changes
            else nothing_yet(NOTHING, self.fabric, self.domain),
        )

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
        level = record.severity or record.level
        return level in LEVELS and LEVELS.index(level) >= LEVELS.index(self.level)

    def _states(self) -> list[Badge]:
        closed = [Badge("closed", "quiet")] if self.feed.closed else []
        return closed or state_badge(self.fabric)

    def _facts(self) -> list[str]:
        feed = self.feed
        levels = Counter(record.level for record in feed.records)
        what = [f"from {feed.service}"] if feed.service else []
        what += [f"{feed.level} and above"] if feed.level else []
        what += [f"{count:,} {level}" for level, count in sorted(levels.items())[:8]]
        what += [f"{feed.dropped:,} older dropped"] if feed.dropped else []
        return what + ([f"{feed.rejected:,} unreadable"] if feed.rejected else [])


def _row(record: LogRecord) -> tuple[list[Value], str]:
    cells: list[Value] = [
        record.time,
        Badge(record.level, TONES.get(record.level, "quiet")),
        f"{record.service_type}.{record.service_id}",
        record.logger,
        record.message,
    ]
    # What does not fit into the row opens under it.
    long = len(record.message) > MAX_CELL or "\n" in record.message
    parts = [record.message if long else "", record.traceback]
    return cells, "\n".join(part for part in parts if part)
