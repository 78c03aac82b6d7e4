"""``fabric-nb services``: services as their keep-alives are received."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Iterator

from fabric_nb.cli.output import print_json, print_text
from fabric_nb.errors import one_line
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.discovery.registry import ServiceRow
from fabric_nb.fabric.discovery.services import ServiceState
from fabric_nb.fabric.wire.names import ServiceName

WAIT = 1.0
"""Seconds to listen, because members of fabric_nb announce themselves on request, within half a
second."""
SETTLING = 0.1
"""Seconds in which keep-alives of further instances are awaited before a row is printed."""
_HINT = (
    "Services on amqp-fabric announce themselves every few seconds: --wait 6 lists them as well."
)
_COLUMNS = ("domain", "type", "id", "version", "instances", "state", "methods")


async def list_services(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Print services as they are heard; with ``--json`` all of them at the end."""
    table = _Table()
    try:
        async with asyncio.timeout(WAIT if options.wait is None else options.wait):
            while True:
                if not options.json:
                    table.print_changes(_rows(fabric, options))
                await fabric.registry.changed()
                await asyncio.sleep(SETTLING)
    except TimeoutError:
        pass
    rows = list(_rows(fabric, options))
    if fabric.registry.stale:
        print_text("The connection is lost: the states are the last known.", file=sys.stderr)
    if options.json:
        print_json([row._asdict() for row in rows])
        return 0
    table.print_changes(rows)
    if not rows:
        print_text(f"No service was found. {await _explanation(fabric, options)}".rstrip())
    if options.wait is None:
        print_text(_HINT, file=sys.stderr)
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


class _Table:
    """Text of rows in columns, which are as wide as in the first rows."""

    def __init__(self) -> None:
        self._widths: list[int] = []
        self._printed: dict[tuple[str, str, str], tuple[object, ...]] = {}

    def print_changes(self, rows: Iterable[ServiceRow]) -> None:
        """Print rows that are new, or have changed since they were printed.

        A service that becomes late, or present again, is not printed for that.
        """
        changed = []
        for row in rows:
            name = (row.domain, row.type, row.id)
            state = row.state if row.state == ServiceState.GONE else ServiceState.UP
            content = tuple(getattr(row._replace(state=state), column) for column in _COLUMNS)
            if self._printed.get(name) != content:
                self._printed[name] = content
                changed.append([one_line(str(getattr(row, column))) for column in _COLUMNS])
        if changed and not self._widths:
            heading = list(_COLUMNS)
            self._widths = [max(map(len, column)) for column in zip(heading, *changed, strict=True)]
            changed.insert(0, heading)
        for cells in changed:
            padded = (cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True))
            print_text("  ".join(padded).rstrip())
