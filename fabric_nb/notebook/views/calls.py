"""Calls, seen: those that this notebook made and those that it served, newest at the bottom."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.history import CallRecord
from fabric_nb.notebook.pages import Badge, Tone
from fabric_nb.notebook.table import Column, Head, Select, TableModel, Value
from fabric_nb.notebook.views.base import TableView
from fabric_nb.notebook.views.newest import put_newest, since
from fabric_nb.notebook.views.state import state_badge

MAX_ROWS = 1000
TONES: dict[str, Tone] = {"ok": "good", "failed": "bad", "timeout": "warn", "cancelled": "quiet"}
ALL, FAILED = "all", "failed"
CHOICES = (ALL, "made", "served", FAILED)
COLUMNS = (
    Column("time", "time"),
    Column("direction"),
    Column("service", line=2),
    Column("method", "code"),
    Column("ms", "number", digits=1, line=2),
    Column("outcome", "badge"),
    Column("caller", line=0),
    Column("error", line=2),
)


@dataclass(eq=False)
class CallsView(TableView):
    """The calls that have ended; one that did not end well opens to its traceback."""

    fabric: FabricMember
    which: str = ALL
    """One of `CHOICES`."""
    _taken: int = 0
    """How many calls were looked at."""
    _taken_of: str = ALL
    """Which were chosen when they were."""

    def version(self) -> Hashable:
        """How many calls have ended, and which are to be shown."""
        return self.fabric.state, self.fabric.calls.changes, self.which

    def model(self) -> TableModel:
        """A table of calls."""
        return TableModel("Calls", COLUMNS, max_rows=MAX_ROWS, follow=True)

    def fill(self, model: TableModel) -> None:
        """Add the calls that have ended since."""
        calls = self.fabric.calls
        if self.which != self._taken_of:
            model.clear()
            self._taken, self._taken_of = 0, self.which
        records = calls.records
        fresh = since(records, calls.changes, self._taken)
        put_newest(model, (one for one in fresh if self._shows(one[1])), self._row)
        self._taken = calls.changes
        counts = {
            "made": sum(record.direction == "made" for record in records),
            "served": sum(record.direction == "served" for record in records),
            FAILED: sum(record.outcome != "ok" for record in records),
        }
        older = calls.changes - len(records)
        model.head = Head(
            "Calls",
            state_badge(self.fabric),
            [
                *(f"{count:,} {what}" for what, count in counts.items() if count),
                *([f"{older:,} older dropped"] if older else []),
            ],
            ["%fabric_rerun runs the last call that failed here again."] if calls.failures else [],
            [Select("which", "Show", CHOICES, self.which)],
            empty="No such call."
            if records
            else "No call was made or served yet: %fabric_call makes one.",
        )

    def act(self, name: str, value: object) -> None:
        """Choose which calls are shown."""
        match name, value:
            case "which", str(which) if which in CHOICES:
                self.which = which
            case _:
                raise LookupError(f"There is no {name!r} here.")

    def _shows(self, record: CallRecord) -> bool:
        if self.which == FAILED:
            return record.outcome != "ok"
        return self.which in (ALL, record.direction)

    def _row(self, record: CallRecord) -> tuple[list[Value], str]:
        cells: list[Value] = [
            record.time,
            record.direction,
            record.service.removeprefix(f"{self.fabric.domain}."),
            record.method,
            record.ms,
            Badge(record.outcome, TONES[record.outcome]),
            record.caller.removeprefix(f"{self.fabric.domain}."),
            record.error.partition("\n")[0],
        ]
        return cells, record.traceback or record.error
