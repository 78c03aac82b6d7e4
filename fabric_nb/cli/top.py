"""``fabric-nb top``: services sorted by their calls, live in a terminal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from fabric_nb.cli.parser import SORTS
from fabric_nb.cli.services import STALE, STATE_STYLES
from fabric_nb.errors import InvalidArgument, UnusableLibrary, one_line
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.discovery.registry import ServiceRow
from fabric_nb.fabric.discovery.services import ServiceState
from fabric_nb.notebook.pages import Spark

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.table import Table

PERIOD = 1.0
"""Seconds between two updates."""
_KEYS = {sort[0]: sort for sort in SORTS}
_QUIT = ("q", "\x03", "\x1b")
_HELP = "   ".join([*(f"{key} {sort}" for key, sort in _KEYS.items()), "q quit"])


class Line(NamedTuple):
    """A service, as it is shown."""

    row: ServiceRow
    rates: Sequence[float]


async def show_top(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Show services until ``q`` or Ctrl-C.

    Raises:
        InvalidArgument: the standard output is no terminal.
        UnusableLibrary: rich is not installed.
    """
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise InvalidArgument(
            "top needs a terminal: elsewhere write fabric-nb services --stats --watch."
        )
    try:
        from rich.console import Console
        from rich.live import Live
    except ModuleNotFoundError:
        raise UnusableLibrary(
            "top needs rich, which is not installed: pip install 'fabric-nb[terminal]'."
        ) from None

    console = Console()
    pressed: asyncio.Queue[str] = asyncio.Queue()
    sort = options.sort
    with (
        _keys(pressed.put_nowait),
        Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
    ):
        while True:
            lines = sorted_lines(_lines(fabric, options), sort)
            live.update(_screen(console, fabric, lines, sort), refresh=True)
            try:
                async with asyncio.timeout(PERIOD):
                    key = await pressed.get()
            except TimeoutError:
                continue
            if key in _QUIT:
                return 0
            sort = _KEYS.get(key, sort)


def _lines(fabric: AmqBrokerConnector, options: argparse.Namespace) -> Iterator[Line]:
    registry = fabric.registry
    for service in registry.services(domain=options.domain, type=options.type, id=options.id):
        yield Line(registry.row(service), service.call_rates(registry.now))


def sorted_lines(lines: Iterator[Line], sort: str) -> list[Line]:
    """Return services in the order of a column, highest first; those without a figure last."""

    def key(line: Line) -> tuple[float, tuple[str, ...]]:
        figures = {
            "calls": line.row.calls_s,
            "errors": line.row.errors_s,
            "p95": line.row.p95_ms,
            "name": 0.0,
        }
        figure = figures[sort]
        return (math.inf if figure is None else -figure), line.row[:3]

    return sorted(lines, key=key)


def _screen(
    console: Console, fabric: AmqBrokerConnector, lines: Sequence[Line], sort: str
) -> Group:
    """Return what the terminal shows: as many services as fit, from the first one."""
    from rich.console import Group
    from rich.text import Text

    fit = max(1, console.size.height - 5)
    states = [line.row.state for line in lines]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ServiceState if states.count(s))
    total = sum(line.row.calls_s or 0.0 for line in lines)
    head = Text.assemble(
        ("fabric-nb top", "bold"),
        f"  {time.strftime('%H:%M:%S')}  {counts or 'no services yet'}  {total:,.1f} calls/s",
        no_wrap=True,
        overflow="ellipsis",
    )
    more = f"… and {len(lines) - fit:,} more   " if len(lines) > fit else ""
    notes = [Text(STALE, "yellow")] if fabric.registry.stale else []
    foot = Text(f"{more}{_HELP}", "dim", no_wrap=True, overflow="ellipsis")
    width = console.size.width
    return Group(head, *notes, _table(lines[:fit], sort, fabric.domain, width), foot)


def _table(lines: Sequence[Line], sort: str, domain: str, width: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold reverse", expand=True)
    columns = [column for column in _COLUMNS if width >= column.from_width]
    for column in columns:
        mark = " ▼" if column.sort == sort else ""
        table.add_column(
            f"{column.heading}{mark}",
            justify=column.justify,
            no_wrap=True,
            ratio=1 if column.heading == "service" else None,
        )
    for line in lines:
        texts = {
            heading: Text(one_line(text), style, overflow="ellipsis")
            for heading, text, style in _cells(line, domain)
        }
        table.add_row(*(texts[column.heading] for column in columns))
    return table


class _Column(NamedTuple):
    """A column, which is shown in terminals of a width and more."""

    heading: str
    justify: Literal["left", "right"] = "right"
    from_width: int = 0
    sort: str = ""


_COLUMNS = (
    _Column("service", "left"),
    _Column("inst", from_width=56),
    _Column("state", "left", 44),
    _Column("calls/s", sort="calls"),
    _Column("err/s", from_width=38, sort="errors"),
    _Column("p95 ms", from_width=52, sort="p95"),
    _Column("run", from_width=62),
    _Column("last 5 min", "left", 78),
)


def _cells(line: Line, domain: str) -> Iterator[tuple[str, str, str]]:
    """Yield heading, text and style of each cell of a service."""
    row = line.row
    local = f"{row.type}.{row.id}"
    yield "service", local if row.domain == domain else f"{row.domain}.{local}", ""
    yield "inst", str(row.instances), ""
    yield "state", row.state, STATE_STYLES[row.state]
    yield "calls/s", _number(row.calls_s), ""
    yield "err/s", _number(row.errors_s), "red" if row.errors_s else ""
    yield "p95 ms", _number(row.p95_ms), ""
    yield "run", "" if row.running is None else f"{row.running:,}", ""
    yield "last 5 min", Spark(line.rates).bars, "cyan"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


@contextlib.contextmanager
def _keys(on_key: Callable[[str], object]) -> Iterator[None]:
    """Call `on_key` with each key that is pressed, without waiting for the end of a line.

    Not on Windows, where Ctrl-C leaves.
    """
    if sys.platform != "win32":
        import termios
        import tty

        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
        loop = asyncio.get_running_loop()

        def read() -> None:
            pressed = os.read(descriptor, 64).decode(errors="ignore")
            for key in pressed or "q":  # the terminal is gone
                on_key(key)

        try:
            tty.setcbreak(descriptor)
            loop.add_reader(descriptor, read)
            yield
        finally:
            loop.remove_reader(descriptor)
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
    else:
        yield
