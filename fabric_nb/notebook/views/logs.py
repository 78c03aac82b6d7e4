"""Remote logs, seen: the last lines, newest at the bottom."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import islice

from fabric_nb.fabric.logs import LogFeed
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.wire import LogRecord
from fabric_nb.notebook.pages import Badge, Cell, Page, Table, Tone
from fabric_nb.notebook.views.state import state_badge

LINES = 20
TONES: dict[str, Tone] = {
    "DEBUG": "quiet",
    "INFO": "busy",
    "WARNING": "warn",
    "ERROR": "bad",
    "CRITICAL": "bad",
}


@dataclass(eq=False)
class LogView:
    """The log records of a feed."""

    fabric: FabricMember
    feed: LogFeed

    def version(self) -> Hashable:
        """How many records have come."""
        return self.fabric.state, self.feed.changes

    def page(self) -> Page:
        """The last records, and the traceback of the last that has one."""
        feed = self.feed
        records = list(islice(reversed(feed.records), LINES))[::-1]
        levels = Counter(record.level for record in feed.records)
        facts = [f"{count:,} {level}" for level, count in sorted(levels.items())[:8]]
        if feed.dropped:
            facts.append(f"{feed.dropped:,} older dropped")
        what = [f"from {feed.service}"] if feed.service else []
        what += [f"{feed.level} and above"] if feed.level else []
        with_traceback = [record for record in records if record.traceback]
        return Page(
            title="Logs",
            badges=state_badge(self.fabric),
            facts=[*what, *facts],
            tables=[_table(records)],
            notes=[] if records else ["No record has come yet."],
            folded=[
                (f"Traceback of: {record.message}", record.traceback)
                for record in with_traceback[-1:]
            ],
        )


def _table(records: list[LogRecord]) -> Table:
    rows: list[list[Cell]] = [
        [
            time.strftime("%H:%M:%S", time.localtime(record.time)),
            Badge(record.level, TONES.get(record.level, "quiet")),
            f"{record.service_type}.{record.service_id}",
            record.logger,
            record.message,
        ]
        for record in records
    ]
    return Table(["time", "level", "service", "logger", "message"], rows)
