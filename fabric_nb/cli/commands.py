"""Commands of a fabric: call, stream, logs, publish and doctor; others have their own modules."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from typing import Any

from fabric_nb.cli import connecting
from fabric_nb.cli.benchmarks import measure_method
from fabric_nb.cli.connecting import assignments, json_or_text
from fabric_nb.cli.maps import map_lines
from fabric_nb.cli.output import (
    is_error,
    jsonable,
    print_error,
    print_json,
    print_line,
    print_note,
    print_record,
    print_text,
)
from fabric_nb.cli.services import list_services
from fabric_nb.cli.styles import Styled
from fabric_nb.cli.tables import Column, Table, number
from fabric_nb.cli.top import show_top
from fabric_nb.errors import InvalidArgument, NoSubscriber
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.data.stream_options import StreamOptions
from fabric_nb.fabric.discovery.resolver import DISCOVERY_TIME
from fabric_nb.fabric.doctor.findings import Severity
from fabric_nb.fabric.doctor.target import LISTEN
from fabric_nb.fabric.rpc.call_handle import CallHandle
from fabric_nb.fabric.rpc.instances import PingedInstance
from fabric_nb.fabric.wire.names import ALL_INSTANCES, ServicePattern, parse_call
from fabric_nb.libraries import is_table
from fabric_nb.notebook.options import read_options
from fabric_nb.notebook.terminal_call import TerminalCall
from fabric_nb.notebook.terminal_line import PERIOD

PROGRESS_AFTER = 2.0
"""Seconds before the progress of a call is drawn."""


def run(options: argparse.Namespace) -> int:
    """Run one of these commands; return the exit code."""
    command = _COMMANDS[options.command]
    return connecting.run(command, options, connects=command is not diagnose)


async def call_method(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Call a method, and print the result."""
    pattern, method = parse_call(options.call, domain=fabric.domain)
    kwargs = assignments(options.keywords)
    if options.stream:
        if options.idempotent:
            raise InvalidArgument("--idempotent is not for --stream.")
        if not options.cancel_on_timeout:
            raise InvalidArgument("--no-cancel is not for --stream.")
        if options.output:
            raise InvalidArgument("--output is not for --stream.")
        items = fabric.member.rpc.stream(pattern, method, kwargs, version=options.version)
        return await _print_items(items, options.count)
    if options.count is not None:
        raise InvalidArgument("--count is for --stream.")
    handle = fabric.member.rpc.start(
        pattern,
        method,
        kwargs,
        output=options.output,
        version=options.version,
        idempotent=options.idempotent,
        cancel_on_timeout=options.cancel_on_timeout,
    )
    result = await _shown_result(handle, as_json=options.json)
    if is_table(result) and not options.json:
        print_text(result.to_string())
        return 0
    failed = pattern.instance == ALL_INSTANCES and any(map(is_error, result.values()))
    print_json(jsonable(result))
    return 1 if failed else 0


async def ping_instances(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Ping the instances of a service; the exit code is 1 if one of them has not answered."""
    pattern = ServicePattern.parse(options.service, domain=fabric.domain, instances=True)
    pinged = await fabric.member.instances.ping(pattern)
    if options.json:
        print_json([one._asdict() for one in pinged])
    else:
        for line in Table(_PING_COLUMNS).lines(map(_ping_cells, pinged)):
            print_line(line)
    return 1 if any(one.rtt_ms is None for one in pinged) else 0


_PING_COLUMNS = (
    Column("instance"),
    Column("host"),
    Column("pid", is_number=True),
    Column("version"),
    Column("rtt ms", is_number=True),
    Column("clock ms", is_number=True),
    Column("up", is_number=True),
)


def _ping_cells(one: PingedInstance) -> list[Styled]:
    if one.rtt_ms is None:
        return [Styled(one.instance), Styled("no answer", "red")]
    texts = (
        one.instance,
        one.host,
        "" if one.pid is None else str(one.pid),
        one.version,
        number(one.rtt_ms, 1),
        number(one.clock_ms, 1, sign=True),
        "" if one.up is None else str(timedelta(seconds=int(one.up))),
    )
    return [Styled(text) for text in texts]


async def _shown_result(handle: CallHandle, *, as_json: bool) -> Any:
    """Return the result of a call; its output and progress are on the standard error until then.

    Raises:
        CancelledError: the user has interrupted the command, and knows what became of the call.
    """
    terminal = sys.stderr if sys.stderr.isatty() else None
    shown = TerminalCall(handle, terminal, partial(print_text, file=sys.stderr))
    try:
        while not await handle.ended(PERIOD):
            shown.print_output()
            if handle.elapsed >= PROGRESS_AFTER:
                shown.draw()
        shown.print_output()
        return await handle
    except asyncio.CancelledError:
        shown.clear()
        await handle.stop()
        print_error(handle.cancellation, as_json=as_json)
        raise
    finally:
        shown.end()


async def _print_items(items: AsyncGenerator[Any, None], limit: int | None) -> int:
    """Print each item as a line of JSON."""
    printed = 0
    async with aclosing(items):
        async for item in items:
            print_json(jsonable(item))
            printed += 1
            if limit is not None and printed >= limit:
                break
    return 0


async def print_rows(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Print each row as a line of JSON."""
    left = options.count
    stream = await fabric.member.streams.open(
        assignments(options.headers), read_options(StreamOptions, options, paused=True)
    )
    async with stream:
        if options.record:
            await stream.record(options.record)
        # A task, because stored messages may arrive at once and the loop below must read them.
        resuming = asyncio.create_task(stream.resume())
        hint = _start_hint(fabric, stream.domain, lambda: bool(stream.rows), as_json=options.json)
        async for rows in stream.batches(left):
            for row in rows if left is None else rows[:left]:
                print_json(row)
            left = None if left is None else left - len(rows)
        await resuming
        hint.cancel()
    return 0


def _start_hint(
    fabric: AmqBrokerConnector, domain: str, has_received: Callable[[], bool], *, as_json: bool
) -> asyncio.Task[None]:
    """Print other domains on the standard error if nothing has been received after a while."""

    async def hint() -> None:
        await asyncio.sleep(DISCOVERY_TIME)
        if not has_received() and (others := fabric.registry.describe_other_domains(domain)):
            print_note(f"Nothing was received from {domain} yet. {others}", as_json=as_json)

    return asyncio.create_task(hint())


async def print_logs(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Print each log record as a line."""
    printed = 0
    async with await fabric.logs(level=options.level, service=options.service) as feed:
        hint = _start_hint(fabric, feed.domain, lambda: bool(feed.changes), as_json=options.json)
        while options.count is None or printed < options.count:
            await feed.wait(printed + 1)
            fresh = list(feed.records)[printed - feed.changes :]
            printed = feed.changes
            surplus = 0 if options.count is None else max(0, printed - options.count)
            for record in fresh[: len(fresh) - surplus]:
                if options.json:
                    print_json(record)
                else:
                    print_record(record)
        hint.cancel()
    return 0


async def diagnose(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Print the doctor's findings; the exit code is 1 if one of them is an error."""
    diagnosis = await fabric.diagnose(
        seconds=LISTEN if options.wait is None else options.wait,
        timeout=connecting.connect_timeout(options),
        subscriptions=options.subscriber,
    )
    if options.json:
        print_json(diagnosis.as_json())
    else:
        print_text(diagnosis)
    return 1 if diagnosis.worst is Severity.ERROR else 0


async def publish_message(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Publish a message, and wait until the broker has confirmed it."""
    text = sys.stdin.read() if options.data == "-" else options.data
    if not text.strip():
        raise InvalidArgument("There is no data: give --data, or '-' and standard input.")
    try:
        await fabric.publish_data(json_or_text(text), assignments(options.headers), mandatory=True)
    except NoSubscriber as unrouted:
        print_note(f"Published to no queue. {unrouted}", as_json=options.json)
        routed = False
    else:
        routed = True
    if options.json:
        print_json({"routed": routed})
    elif routed:
        print_text("Published to at least one queue.")
    return 0


_COMMANDS: dict[str, connecting.Command] = {
    "services": list_services,
    "top": show_top,
    "ping": ping_instances,
    "call": call_method,
    "map": map_lines,
    "bench": measure_method,
    "stream": print_rows,
    "logs": print_logs,
    "doctor": diagnose,
    "publish": publish_message,
}
