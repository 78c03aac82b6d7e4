"""``fabric-nb services``: services and their statistics, as keep-alives are received."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fabric_nb.cli.output import print_json, print_line, print_note, print_text
from fabric_nb.cli.styles import Line, Style, Styled
from fabric_nb.cli.tables import Column, Table, number
from fabric_nb.cli.terminal_lines import TerminalLines
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.discovery.registry import ServiceRow
from fabric_nb.fabric.discovery.services import Service, ServiceState
from fabric_nb.fabric.wire.names import ServiceName

WAIT = 1.0
"""Seconds to listen, because members of fabric_nb announce themselves on request, within half a
second."""
STATISTICS_WAIT = 2.0
"""Seconds to listen for statistics, in which members are asked twice: a rate is a difference."""
SETTLING = 0.1
"""Seconds in which keep-alives of further instances are awaited before a row is printed."""
PERIOD = 1.0
"""Seconds between two updates of statistics that are watched."""
STALE = "The connection is lost: the states are the last known."
_HINT = (
    "Services on amqp-fabric announce themselves every few seconds: --wait 6 lists them as well."
)

STATE_STYLES: dict[str, Style] = {
    ServiceState.UP: "green",
    ServiceState.BUSY: "blue",
    ServiceState.LATE: "yellow",
    ServiceState.GONE: "red",
}

_COLUMNS: dict[str, Column] = {
    "domain": Column("domain"),
    "type": Column("type"),
    "id": Column("id"),
    "version": Column("version"),
    "instances": Column("instances", is_number=True),
    "state": Column("state"),
    "methods": Column("methods"),
}
_STATISTICS_COLUMNS: dict[str, Column] = {
    "domain": Column("domain"),
    "type": Column("type"),
    "id": Column("id"),
    "instances": Column("instances", is_number=True),
    "state": Column("state"),
    "calls_s": Column("calls/s", is_number=True),
    "errors_s": Column("errors/s", is_number=True),
    "p95_ms": Column("p95 ms", is_number=True),
    "running": Column("running", is_number=True),
    "waiting": Column("waiting", is_number=True),
    "calls": Column("calls", is_number=True),
    "errors": Column("errors", is_number=True),
}


async def list_services(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Print services as they are heard; with ``--json`` all of them at the end."""
    if options.watch:
        return await _watch(fabric, options)
    table = _ServiceTable(options)
    if options.stats:
        await _listen_twice(fabric, STATISTICS_WAIT if options.wait is None else options.wait)
    else:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT if options.wait is None else options.wait):
                while True:
                    if not options.json:
                        _print(table.changes(_rows(fabric, options)))
                    await fabric.registry.changed()
                    await asyncio.sleep(SETTLING)
    rows = list(_rows(fabric, options))
    if fabric.registry.stale:
        print_note(STALE, as_json=options.json)
    if options.json:
        print_json([_json(fabric, service) for service in _services(fabric, options)])
        return 0
    _print(table.changes(rows))
    if not rows:
        print_text(f"No service was found. {await _explanation(fabric, options)}".rstrip())
    if options.wait is None:
        print_note(_HINT)
    return 0


async def _listen_twice(fabric: AmqBrokerConnector, seconds: float) -> None:
    """Listen, and request keep-alives in the middle, for a second keep-alive of each member."""
    await asyncio.sleep(seconds / 2)
    await fabric.member.listener.request_keep_alives()
    await asyncio.sleep(seconds / 2)


async def _watch(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Show services until interrupted, or for ``--wait`` seconds.

    A terminal shows the current table. Elsewhere rows are printed that have changed.
    """
    table = _ServiceTable(options)
    screen = TerminalLines(sys.stdout)
    printed: dict[ServiceName, dict[str, Any]] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(options.wait):
            while True:
                if options.json:
                    for service in _services(fabric, options):
                        row = _json(fabric, service)
                        content = {**row, "last_seen": 0.0}
                        if printed.get(service.name) != content:
                            printed[service.name] = content
                            print_json(row)
                elif screen.is_terminal:
                    notes = [STALE] if fabric.registry.stale else []
                    screen.draw([*table.lines(_rows(fabric, options)), *notes])
                else:
                    _print(table.changes(_rows(fabric, options)))
                # Not at each keep-alive, because a large fabric has hundreds a second.
                await asyncio.sleep(PERIOD)
    return 0


async def _explanation(fabric: AmqBrokerConnector, options: argparse.Namespace) -> str:
    """Return a sentence for a user who has expected a service; empty if there is none."""
    if options.domain and options.type and options.id:
        name = ServiceName(options.domain, options.type, options.id)
        async with fabric.member.connection.channel() as channel:
            if await channel.topology.has_exchange(name.api_exchange, default=False):
                return f"The broker has the exchange of {name}, but no keep-alive was received."
    return fabric.registry.describe_other_domains(options.domain) if options.domain else ""


def _services(fabric: AmqBrokerConnector, options: argparse.Namespace) -> Iterator[Service]:
    """Yield the services that the options select."""
    yield from fabric.registry.services(
        domain=options.domain, type=options.type, id=options.id, gone=options.gone
    )


def _rows(fabric: AmqBrokerConnector, options: argparse.Namespace) -> Iterator[ServiceRow]:
    """Yield the rows of the services that the options select."""
    yield from map(fabric.registry.row, _services(fabric, options))


def _print(lines: Iterable[Line]) -> None:
    for line in lines:
        print_line(line)


class _ServiceTable:
    """Lines of services, with those printed so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._columns = _STATISTICS_COLUMNS if options.stats else _COLUMNS
        self._table = Table(list(self._columns.values()))
        self._printed: dict[tuple[str, str, str], Sequence[Styled]] = {}

    def lines(self, rows: Iterable[ServiceRow]) -> list[Line]:
        """Return the lines of these rows, after the heading."""
        return self._table.lines(map(self._cells, rows))

    def changes(self, rows: Iterable[ServiceRow]) -> list[Line]:
        """Return lines of rows that are new, or have changed since the last time.

        A service that becomes late, or present again, has not changed for that. The heading
        precedes the first rows.
        """
        is_first, changed = not self._printed, []
        for row in rows:
            state = row.state if row.state == ServiceState.GONE else ServiceState.UP
            cells = self._cells(row._replace(state=state))
            if self._printed.get(row[:3]) != cells:
                self._printed[row[:3]] = cells
                changed.append(self._cells(row))
        return self._table.lines(changed, heading=is_first) if changed else []

    def _cells(self, row: ServiceRow) -> list[Styled]:
        return [_cell(name, getattr(row, name)) for name in self._columns]


def _cell(column: str, value: str | float | None) -> Styled:
    if column == "state":
        return Styled(str(value), STATE_STYLES[str(value)])
    text = value if isinstance(value, str) else number(value)
    return Styled(text, "red" if column in ("errors", "errors_s") and value else "")


def _json(fabric: AmqBrokerConnector, service: Service) -> dict[str, Any]:
    """Return a service for JSON, with an object for each method."""
    methods = [{"name": name, "signature": text} for name, text in service.methods.items()]
    return {**fabric.registry.row(service)._asdict(), "methods": methods}
