"""Waterfall of a trace: a row for each call and message, on a common time axis."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from fabric_nb.errors import one_line
from fabric_nb.fabric.core.values import error_text
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.traced_call import TracedCall
from fabric_nb.fabric.tracing.tree import Node
from fabric_nb.fabric.tracing.waterfall import duration, instance_of, label_of, notes
from fabric_nb.fabric.wire.logs import LogRecord
from fabric_nb.fabric.wire.spans import SpanOutcome
from fabric_nb.notebook.pages import Badge, TimeBar, Tone, counted, glimpse
from fabric_nb.notebook.table import Column, Head, TableModel, Value
from fabric_nb.notebook.views.base import TableView
from fabric_nb.notebook.views.connection import state_badge

MAX_ROWS = 20_000
FULL_DETAILS = 500
"""Rows of a trace that have their details from the beginning; in longer ones, those that failed,
and others once they are opened."""
MAX_LOGS = 50
"""Log records in the detail of a row."""
INDENT = "\u00a0" * 3
"""Before the name of a call, once for each level; other spaces are collapsed or wrapped."""
MAX_INDENT = 12
TONES: dict[SpanOutcome, Tone] = {
    "ok": "good",
    "failed": "bad",
    "timeout": "warn",
    "cancelled": "quiet",
}
COLUMNS = (
    Column("call"),
    Column("instance", "code", line=2),
    Column("time", "bar", line=0),
    Column("ms", "number", digits=1, line=2),
    Column("queued ms", "number", digits=1, line=0),
    Column("outcome", "badge", line=2),
    Column("note", line=0),
)


@dataclass(eq=False)
class TraceView(TableView):
    """A traced call; a row opens to sizes, log records and the traceback of its call."""

    fabric: FabricMember
    traced: TracedCall
    _opened: set[Hashable] = field(default_factory=set)

    def version(self) -> Hashable:
        """Return the number of spans that have arrived, and whether the call has ended."""
        trace = self.traced.trace
        return 0 if trace is None else trace.changes, self.traced.done, len(self._opened)

    def model(self) -> TableModel:
        """Return an empty waterfall."""
        return TableModel(self._head([]), COLUMNS, max_rows=MAX_ROWS)

    def fill(self, model: TableModel) -> None:
        """Show the spans that have arrived."""
        nodes = self.traced.nodes
        whole = max((node.end for node in nodes), default=0.0) or 1.0
        logs: dict[str, list[LogRecord]] = {}
        for record in self.fabric.logs.records if nodes else ():
            if record.call:
                logs.setdefault(record.call, []).append(record)
        brief = len(nodes) > FULL_DETAILS
        model.replace(
            (
                node.span.id,
                self._cells(node, whole),
                _sizes(node) or "…"
                if brief and not node.error and node.span.id not in self._opened
                else _detail(node, logs),
            )
            for node in nodes
        )
        model.head = self._head(nodes)

    def opened(self, key: Hashable) -> None:
        """Show the details of a row."""
        self._opened.add(key)

    def _head(self, nodes: list[Node]) -> Head:
        traced = self.traced
        failed = sum(bool(node.error) for node in nodes)
        state: tuple[str, Tone] = ("running", "busy")
        if traced.done:
            state = ("failed", "bad") if traced.error is not None else ("done", "good")
        services = {node.span.service for node in nodes}
        messages = sum(node.span.kind == "producer" for node in nodes)
        facts = [
            counted(len(nodes) - messages, "call"),
            *([counted(messages, "message")] if messages else []),
            counted(len(services), "service"),
            *([duration(max(node.end for node in nodes))] if nodes else []),
            *([f"result {glimpse(traced.result)}"] if traced.done and traced.error is None else []),
        ]
        dropped = 0 if traced.trace is None else traced.trace.dropped
        return Head(
            f"Trace of {traced.label}",
            [
                Badge(*state),
                *([Badge(f"{counted(failed, 'call')} failed", "bad")] if failed else []),
                *([] if traced.done else state_badge(self.fabric)),
            ],
            facts if nodes else [],
            [
                *([one_line(error_text(traced.error))] if traced.error is not None else []),
                *([f"{dropped:,} further spans are not kept."] if dropped else []),
            ],
            empty="The spans appear as the calls end.",
        )

    def _cells(self, node: Node, whole: float) -> list[Value]:
        span = node.span
        queued = node.queued
        tone: Tone = "bad" if node.error else "quiet"
        waiting = max(0.0, queued or 0.0) / whole
        outcome: SpanOutcome = span.outcome if node.server is None else node.server.outcome
        return [
            INDENT * min(node.depth, MAX_INDENT) + label_of(node),
            instance_of(node),
            TimeBar(node.start / whole, span.ms / whole, waiting, tone),
            span.ms,
            queued,
            Badge(outcome, TONES[outcome]),
            notes(node),
        ]


def _detail(node: Node, logs: dict[str, list[LogRecord]]) -> str:
    """Return the detail of a row: sizes, where it ran, log records and traceback."""
    span, server = node.span, node.server
    facts = [f"service {span.service}"]
    if server is not None:
        facts += [f"by {server.member}", f"ran for {duration(server.ms)}"]
    facts.append(f"called by {span.member}" if span.kind == "client" else f"of {span.member}")
    facts += filter(None, [_sizes(node)])
    if span.call:
        facts.append(f"call {span.call}")
    parts = ["\n".join(facts)]
    records = logs.get(span.call, []) if span.call else []
    if records:
        parts.append("\n".join(["Log records:", *_log_lines(records)]))
    traceback = (server.traceback if server is not None else "") or span.traceback
    parts += [traceback or node.error] if traceback or node.error else []
    return "\n\n".join(parts)


def _sizes(node: Node) -> str:
    span = node.span
    sizes = (("arguments", span.request), ("reply", span.reply))
    return "\n".join(f"{name} {size:,} bytes" for name, size in sizes if size is not None)


def _log_lines(records: Iterable[LogRecord]) -> list[str]:
    lines = [f"{record.level:8} {record.message}" for record in records]
    omitted = len(lines) - MAX_LOGS
    return [*lines[:MAX_LOGS], *([f"... and {omitted:,} more"] if omitted > 0 else [])]
