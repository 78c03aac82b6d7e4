"""Statistics of a service's instances and methods, as text. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from fabric_nb.fabric.discovery.services import Service
from fabric_nb.fabric.wire.statistics import CallCounts
from fabric_nb.notebook.pages import Cell, Table, counted, plain, table_text

MAX_INSTANCES = 20
MAX_METHODS = 30
NO_STATISTICS = (None,) * 6
"""Cells of a service or an instance that announces no statistics."""
INSTANCE_COLUMNS = (
    *("instance", "state", "version"),
    *("calls", "errors", "running", "calls/s", "errors/s", "p95 ms"),
)
METHOD_COLUMNS = ("method", "calls", "errors", "running", "p95 ms")


def statistics_text(service: Service, now: float) -> str:
    """Return a table of the present instances of a service, and one of its methods with calls."""
    present = service.present(now)
    rows: list[Sequence[Cell]] = []
    for each in present[:MAX_INSTANCES]:
        calls = NO_STATISTICS if each.statistics is None else each.statistics.calls
        name = plain(each.id, 40) or "unnamed"
        rows.append([name, str(each.state(now)), plain(each.version, 40), *map(_cell, calls)])
    parts = [_text(INSTANCE_COLUMNS, rows, text_columns=3)] if rows else []
    if (omitted := len(present) - MAX_INSTANCES) > 0:
        parts.append(f"… and {counted(omitted, 'more instance')}.")
    statistics = [each.statistics.last for each in present if each.statistics is not None]
    methods: dict[str, list[CallCounts]] = {}
    for last in statistics:
        for method, counts in last.methods.items():
            methods.setdefault(method, []).append(counts)
    totals = {method: CallCounts.sum(counts) for method, counts in methods.items()}
    ordered = sorted(totals, key=lambda method: (-totals[method].calls, method))
    if ordered:
        rows = [[method, *map(_cell, totals[method])] for method in ordered[:MAX_METHODS]]
        parts.append("\n" + _text(METHOD_COLUMNS, rows, text_columns=1))
    unnamed = max((last.more for last in statistics), default=0)
    if omitted := max(0, len(ordered) - MAX_METHODS) + unnamed:
        parts.append(f"… and {counted(omitted, 'more method')} with calls.")
    return "\n".join(parts)


def rate_text(rate: float | None) -> str:
    """Return a rate in few characters, as in ``0.2/s`` or ``1,250/s``; empty if there is none."""
    if not rate:
        return ""
    if rate < 0.05:
        return "<0.1/s"
    return f"{rate:,.1f}/s" if rate < 10 else f"{rate:,.0f}/s" if rate < 1e9 else f"{rate:.1e}/s"


def summary(service: Service, now: float) -> list[str]:
    """Return the statistics of a service, without its rate, in short lines.

    There are none if it has no calls.
    """
    calls, queues = service.statistics(now), service.queues(now)
    lines = []
    if queues is not None:
        lines.append(f"{counted(queues.waiting, 'call')} waiting")
    if calls is None or not (calls.calls or calls.running):
        return lines
    duration = "" if calls.p95_ms is None else f"p95 {calls.p95_ms:,.1f} ms · "
    return [
        f"{duration}{calls.running:,} running",
        f"{counted(calls.calls, 'call')} · {counted(calls.errors, 'error')}",
        *([f"{rate_text(calls.errors_s)} failing"] if calls.errors_s else []),
        *lines,
    ]


def _cell(value: float | None) -> Cell:
    return f"{value:,.2f}" if isinstance(value, float) else value


def _text(columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, text_columns: int) -> str:
    return table_text(Table(columns, rows, frozenset(columns[text_columns:])))
