"""Table of the calls that this notebook made and served, newest at the bottom."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.history import CallRecord
from fabric_nb.notebook.pages import Badge, Tone
from fabric_nb.notebook.table import Column, Head, Select, TableModel, Value
from fabric_nb.notebook.views.base import TableView, unknown_action
from fabric_nb.notebook.views.connection import state_badge
from fabric_nb.notebook.views.newest import append_newest, records_after

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
    Column("call", "code", line=0),
)


@dataclass(eq=False)
class CallsView(TableView):
    """Completed calls; a row opens to the traceback and the output of its call."""

    fabric: FabricMember
    which: str = ALL
    """One of `CHOICES`."""
    _processed: int = 0
    """Number of calls that `fill` has processed."""
    _processed_choice: str = ALL
    """Choice for which they were processed."""

    def version(self) -> Hashable:
        """Return the number of completed calls and the choice."""
        return self.fabric.state, self.fabric.calls.changes, self.which

    def model(self) -> TableModel:
        """Return an empty table of calls."""
        return TableModel("Calls", COLUMNS, max_rows=MAX_ROWS, follow=True)

    def fill(self, model: TableModel) -> None:
        """Add the calls completed since the last time."""
        calls = self.fabric.calls
        if self.which != self._processed_choice:
            model.clear()
            self._processed, self._processed_choice = 0, self.which
        records = calls.records
        new = records_after(self._processed, records, calls.changes)
        chosen = ((number, record) for number, record in new if self._is_chosen(record))
        append_newest(model, chosen, self._row)
        self._processed = calls.changes
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
                *(f"{count:,} {label}" for label, count in counts.items() if count),
                *([f"{older:,} older dropped"] if older else []),
            ],
            ["%fabric_rerun runs the last failed call again."] if calls.failures else [],
            [Select("which", "Show", CHOICES, self.which)],
            empty="No matching call."
            if records
            else "No call was made or served yet: %fabric_call makes one.",
        )

    def act(self, name: str, value: object) -> None:
        """Choose the calls that are shown."""
        match name, value:
            case "which", str(which) if which in CHOICES:
                self.which = which
            case _:
                raise unknown_action(name)

    def _is_chosen(self, record: CallRecord) -> bool:
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
            record.call,
        ]
        output = f"Output:\n{record.output}" if record.output else ""
        return cells, "\n\n".join(filter(None, (record.traceback or record.error, output)))
