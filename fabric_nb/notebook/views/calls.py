"""Table of the calls that this notebook made and served, newest at the bottom."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Hashable
from dataclasses import dataclass, field

from fabric_nb.fabric.discovery.services import Service
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.history import CallRecord
from fabric_nb.fabric.wire.names import ServicePattern
from fabric_nb.notebook.pages import Badge, Tone
from fabric_nb.notebook.table import Column, Detail, Form, Head, Select, TableModel, Value
from fabric_nb.notebook.views.base import TableView, unknown_action
from fabric_nb.notebook.views.call_contents import (
    again_form,
    contents_text,
    log_text,
    owner_facts,
    sizes,
)
from fabric_nb.notebook.views.connection import state_badge
from fabric_nb.notebook.views.form_call import call_from_form
from fabric_nb.notebook.views.newest import append_newest
from fabric_nb.notebook.views.saving import FILE, SAVE, save_form, save_result

MAX_ROWS = 2000
MAX_OPENED = 20
"""Calls whose contents are shown; of those opened before, the sizes remain."""
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
    """Completed calls; a row opens to arguments, result, traceback and output of its call.

    A form in it calls again.
    """

    fabric: FabricMember
    which: str = ALL
    """One of `CHOICES`."""
    max_rows: int = MAX_ROWS
    _processed: int = 0
    """Number of calls that `fill` has processed."""
    _processed_choice: str = ALL
    """Choice for which they were processed."""
    _opened: OrderedDict[int, None] = field(default_factory=OrderedDict)
    """Numbers of the calls whose rows were opened last."""
    _to_open: list[int] = field(default_factory=list)
    _openings: int = 0

    def version(self) -> Hashable:
        """Return the number of completed calls, the choice, and the number of opened rows."""
        return self.fabric.state, self.fabric.calls.changes, self.which, self._openings

    def model(self) -> TableModel:
        """Return an empty table of calls."""
        return TableModel("Calls", COLUMNS, max_rows=self.max_rows, follow=True)

    def fill(self, model: TableModel) -> None:
        """Add the calls completed since the last time."""
        calls = self.fabric.calls
        if self.which != self._processed_choice:
            model.clear()
            self._processed, self._processed_choice = 0, self.which
        records = calls.records
        new = calls.newer_than(self._processed)
        chosen = [(record.number, record) for record in new if self._is_chosen(record)]
        append_newest(model, chosen, self._row)
        self._fill_opened(model)
        if len(records) < calls.changes:
            kept = {record.number for record in records}
            for number in model.keys:
                if number not in kept:
                    model.remove(number)
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

    def act(self, name: str, value: object) -> Awaitable[str | None] | None:
        """Choose the calls that are shown, call again, or save the result of a call."""
        match name, value:
            case "which", str(which) if which in CHOICES:
                self.which = which
                return None
            case str(form), dict(texts) if form.startswith(SAVE):
                record = self.fabric.calls[int(form.removeprefix(SAVE))]
                return asyncio.to_thread(save_result, record, str(texts.get(FILE, "")))
            case call, dict(texts):
                return call_from_form(self.fabric, call, texts)
        raise unknown_action(name)

    def opened(self, key: Hashable) -> None:
        """Show the contents of a call."""
        if isinstance(key, int) and key not in self._opened:
            self._opened[key] = None
            self._to_open.append(key)
            self._openings += 1
            if len(self._opened) > MAX_OPENED:
                self._opened.popitem(last=False)

    def _fill_opened(self, model: TableModel) -> None:
        numbers, self._to_open = self._to_open, []
        for number in numbers:
            if number in model:
                model.put(number, *self._row(self.fabric.calls[number]))

    def _is_chosen(self, record: CallRecord) -> bool:
        if self.which == FAILED:
            return record.outcome != "ok"
        return self.which in (ALL, record.direction)

    def _row(self, record: CallRecord) -> tuple[list[Value], Detail]:
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
        return cells, self._detail(record)

    def _detail(self, record: CallRecord) -> Detail:
        output = f"Output:\n{record.output}" if record.output else ""
        if record.number not in self._opened:
            text = _sections(record.traceback or record.error, output, sizes(record))
            return Detail(text, live_only=not (record.traceback or record.error or output))
        service = self._service_of(record)
        facts = "" if record.outcome == "ok" else owner_facts(record, service)
        log = log_text(record, self.fabric.logs.records)
        # The error comes first, and the traceback last, which is long and ends with it.
        text = _sections(record.error, contents_text(record), facts, output, log, record.traceback)
        forms = (self._again_form(record, service), save_form(record))
        return Detail(text, [form for form in forms if form is not None])

    def _service_of(self, record: CallRecord) -> Service | None:
        domain, *rest = record.service.split(".")
        return self.fabric.rpc.known(ServicePattern(domain, *rest)) if len(rest) == 2 else None

    def _again_form(self, record: CallRecord, service: Service | None) -> Form | None:
        """Return a form that calls again; none for a call whose service was not found."""
        if record.service.count(".") != 2:
            return None
        signature = "" if service is None else service.methods.get(record.method, "")
        address = record.service.removeprefix(f"{self.fabric.domain}.")
        return again_form(record, address, signature)


def _sections(*texts: str) -> str:
    return "\n\n".join(filter(None, texts))
