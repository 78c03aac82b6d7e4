"""``fabric-nb services``: services and their statistics, as keep-alives are received."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence

from fabric_nb.cli.output import print_json, print_text
from fabric_nb.cli.terminal_lines import TerminalLines
from fabric_nb.errors import one_line
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.discovery.registry import ServiceRow
from fabric_nb.fabric.discovery.services import ServiceState
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

_COLUMNS: Sequence[str] = ("domain", "type", "id", "version", "instances", "state", "methods")
_STATISTICS_COLUMNS: Sequence[str] = (
    *("domain", "type", "id", "instances", "state"),
    *("calls_s", "errors_s", "p95_ms", "running", "waiting", "calls", "errors"),
)
_NUMBERS = frozenset(_STATISTICS_COLUMNS[5:])
_HEADINGS = {"calls_s": "calls/s", "errors_s": "errors/s", "p95_ms": "p95 ms"}


async def list_services(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Print services as they are heard; with ``--json`` all of them at the end."""
    if options.watch:
        return await _watch(fabric, options)
    table = _Table(_STATISTICS_COLUMNS if options.stats else _COLUMNS)
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
        print_text(STALE, file=sys.stderr)
    if options.json:
        print_json([row._asdict() for row in rows])
        return 0
    _print(table.changes(rows))
    if not rows:
        print_text(f"No service was found. {await _explanation(fabric, options)}".rstrip())
    if options.wait is None:
        print_text(_HINT, file=sys.stderr)
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
    table = _Table(_STATISTICS_COLUMNS if options.stats else _COLUMNS)
    screen = TerminalLines(sys.stdout)
    printed: dict[tuple[str, str, str], ServiceRow] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(options.wait):
            while True:
                rows = list(_rows(fabric, options))
                if options.json:
                    for row in rows:
                        name, content = row[:3], row._replace(last_seen=0.0)
                        if printed.get(name) != content:
                            printed[name] = content
                            print_json(row._asdict())
                elif screen.is_terminal:
                    notes = [STALE] if fabric.registry.stale else []
                    screen.draw([*table.lines(rows), *notes])
                else:
                    _print(table.changes(rows))
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


def _rows(fabric: AmqBrokerConnector, options: argparse.Namespace) -> Iterator[ServiceRow]:
    """Yield the rows of the services that the options select."""
    for service in fabric.registry.services(
        domain=options.domain, type=options.type, id=options.id, gone=options.gone
    ):
        yield fabric.registry.row(service)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print_text(line)


class _Table:
    """Text of rows in columns, which are as wide as in the rows so far."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._headings = [_HEADINGS.get(column, column) for column in columns]
        self._widths = [0] * len(columns)
        self._printed: dict[tuple[str, str, str], list[str]] = {}

    def lines(self, rows: Iterable[ServiceRow]) -> list[str]:
        """Return the lines of a table of these rows, with its heading."""
        return self._padded([self._headings, *map(self._cells, rows)])

    def changes(self, rows: Iterable[ServiceRow]) -> list[str]:
        """Return lines of rows that are new, or have changed since the last time.

        A service that becomes late, or present again, has not changed for that. The heading
        precedes the first rows.
        """
        changed = [] if self._printed else [self._headings]
        for row in rows:
            state = row.state if row.state == ServiceState.GONE else ServiceState.UP
            cells = self._cells(row._replace(state=state))
            if self._printed.get(row[:3]) != cells:
                self._printed[row[:3]] = cells
                changed.append(self._cells(row))
        return self._padded(changed) if self._printed else []

    def _cells(self, row: ServiceRow) -> list[str]:
        return [_text(getattr(row, column)) for column in self._columns]

    def _padded(self, lines: Sequence[Sequence[str]]) -> list[str]:
        for line in lines:
            self._widths = [
                max(width, len(cell)) for width, cell in zip(self._widths, line, strict=True)
            ]
        padded = []
        for line in lines:
            cells = zip(line, self._widths, self._columns, strict=True)
            texts = [
                cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
                for cell, width, column in cells
            ]
            padded.append("  ".join(texts).rstrip())
        return padded


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else one_line(str(value))
