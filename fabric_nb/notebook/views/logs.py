"""Table of remote log records, newest at the bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from fabric_nb.fabric.logs.feed import LogFeed
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.wire.logs import LEVELS, LogRecord
from fabric_nb.notebook.pages import MAX_CELL, Badge, Tone
from fabric_nb.notebook.table import Button, Column, Head, Select, TableModel, Value
from fabric_nb.notebook.views.base import TableView, unknown_action
from fabric_nb.notebook.views.connection import check_interval, state_badge, with_other_domains
from fabric_nb.notebook.views.newest import append_newest, records_after

MAX_ROWS = 1000
NO_RECORDS = "No log record received yet. Services send theirs with init_logging_handler."
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
    Column("call", "code", line=0),
)


@dataclass(eq=False)
class LogView(TableView):
    """Log records of a feed; a row with a traceback or a long message can be opened."""

    fabric: FabricMember
    feed: LogFeed
    level: str = ALL
    """Minimum level that is shown."""
    paused: bool = False
    domain: str = ""
    """Domain of the feed; while no record arrives, other domains with services are suggested."""
    elsewhere: Callable[[], str] | None = None
    """Returns the sentence on other domains; by default it is that of the member's registry."""
    _processed: int = 0
    """Number of records that `fill` has processed."""
    _processed_level: str = ALL
    """Minimum level for which they were processed."""

    def version(self) -> Hashable:
        """Return the number of received records and the choices."""
        feed = self.feed
        suggested: Hashable = None
        if not feed.changes:
            default = check_interval(self.fabric, self.domain)
            suggested = default if self.elsewhere is None else self.elsewhere()
        choices = self.level, self.paused
        return self.fabric.state, feed.changes, feed.rejected, feed.closed, *choices, suggested

    def model(self) -> TableModel:
        """Return an empty table of records."""
        return TableModel("Logs", COLUMNS, max_rows=MAX_ROWS, follow=True)

    def fill(self, model: TableModel) -> None:
        """Add the records received since the last time."""
        feed = self.feed
        if self.level != self._processed_level:
            model.clear()
            self._processed, self._processed_level = 0, self.level
        if not self.paused or not self._processed:
            new = records_after(self._processed, feed.records, feed.changes)
            chosen = ((number, record) for number, record in new if self._is_chosen(record))
            append_newest(model, chosen, _row)
            self._processed = feed.changes
        unseen = feed.changes - self._processed
        model.head = Head(
            "Logs",
            [*([Badge("paused", "warn")] if self.paused else []), *self._badges()],
            [*self._facts(), *([f"{unseen:,} new"] if unseen else [])],
            tools=[
                Button("pause", "Pause", self.paused),
                Select("level", "Level", [ALL, *LEVELS], self.level),
            ],
            empty="No record of this level." if feed.changes else self._nothing_yet(),
        )

    def _nothing_yet(self) -> str:
        if self.elsewhere is not None:
            return f"{NO_RECORDS} {self.elsewhere()}".rstrip()
        return with_other_domains(NO_RECORDS, self.fabric, self.domain)

    def act(self, name: str, value: object) -> None:
        """Pause, resume, or choose the minimum level."""
        match name, value:
            case "pause", None:
                self.paused = not self.paused
            case "level", str(level) if level in (ALL, *LEVELS):
                self.level = level
            case _:
                raise unknown_action(name)

    def _is_chosen(self, record: LogRecord) -> bool:
        if self.level == ALL:
            return True
        level = record.severity or record.level
        return level in LEVELS and LEVELS.index(level) >= LEVELS.index(self.level)

    def _badges(self) -> list[Badge]:
        closed = [Badge("closed", "quiet")] if self.feed.closed else []
        return closed or state_badge(self.fabric)

    def _facts(self) -> list[str]:
        feed = self.feed
        levels = Counter(record.level for record in feed.records)
        facts = [f"from {feed.service}"] if feed.service else []
        facts += [f"{feed.level} and above"] if feed.level else []
        facts += [f"{count:,} {level}" for level, count in sorted(levels.items())[:8]]
        facts += [f"{feed.dropped:,} older dropped"] if feed.dropped else []
        return facts + ([f"{feed.rejected:,} unreadable"] if feed.rejected else [])


def _row(record: LogRecord) -> tuple[list[Value], str]:
    cells: list[Value] = [
        record.time,
        Badge(record.level, TONES.get(record.level, "quiet")),
        f"{record.service_type}.{record.service_id}",
        record.logger,
        record.message,
        record.call,
    ]
    fits = len(record.message) <= MAX_CELL and "\n" not in record.message
    parts = ["" if fits else record.message, record.traceback]
    return cells, "\n".join(part for part in parts if part)
