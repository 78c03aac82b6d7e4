"""What the magics do, on the command line: services, call, stream, logs, publish, doctor."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import pandas as pd

from fabric_nb.cli import connecting
from fabric_nb.cli.connecting import assignments, json_or_text
from fabric_nb.cli.output import print_json, print_record, say
from fabric_nb.errors import InvalidArgument
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.data.stream_options import StreamOptions
from fabric_nb.fabric.discovery.resolver import PATIENCE
from fabric_nb.fabric.doctor import LISTEN, Severity
from fabric_nb.fabric.wire.names import parse_call
from fabric_nb.notebook.options import read_options


def run(options: argparse.Namespace) -> int:
    """Run one of the commands that join a fabric; returns the exit code."""
    work = _WORK[options.command]
    return connecting.run(work, options, connects=work is not find_faults)


async def list_services(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Listen for a while, then print who is there."""
    await asyncio.sleep(PATIENCE if options.wait is None else options.wait)
    frame = fabric.registry.df
    if fabric.registry.deaf:
        say("The connection is lost: states are those that were known last.", file=sys.stderr)
    for column in ("domain", "type", "id"):
        if value := getattr(options, column):
            frame = frame[frame[column] == value]
    if not options.gone:
        frame = frame[frame["state"] != "gone"]
    if options.json:
        print_json(frame.to_dict(orient="records"))
    else:
        elsewhere = fabric.registry.elsewhere(options.domain) if options.domain else ""
        nobody = f"Nobody was heard. {elsewhere}".rstrip()
        say(frame.to_string(index=False) if len(frame) else nobody)
    return 0


async def call_method(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Call, and print the result."""
    pattern, method = parse_call(options.call, domain=fabric.domain)
    kwargs = assignments(options.keywords)
    if options.stream:
        if options.idempotent:
            raise InvalidArgument("--idempotent is not for --stream.")
        items = fabric.member.rpc.stream(pattern, method, kwargs, version=options.version)
        return await _print_items(items, options.count)
    if options.count is not None:
        raise InvalidArgument("--count is for --stream.")
    result = await fabric.call_service(
        pattern, method, kwargs, version=options.version, idempotent=options.idempotent
    )
    if isinstance(result, (pd.DataFrame, pd.Series)) and not options.json:
        say(result.to_string())
    else:
        print_json(_plain(result))
    return 0


async def _print_items(items: AsyncGenerator[Any, None], most: int | None) -> int:
    """Print each item of a stream as a line of JSON."""
    printed = 0
    async with aclosing(items):
        async for item in items:
            print_json(_plain(item))
            printed += 1
            if most is not None and printed >= most:
                break
    return 0


def _plain(value: Any) -> Any:
    """A value as JSON has it: a table as its records."""
    if isinstance(value, (pd.DataFrame, pd.Series)):
        return value.reset_index().to_dict(orient="records")
    return value


async def print_rows(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Print each row as a line of JSON."""
    left = options.count
    stream = await fabric.member.streams.open(
        assignments(options.headers), read_options(StreamOptions, options, paused=True)
    )
    async with stream:
        if options.record:
            await stream.record(options.record)
        # Runs once the reader below waits: what the broker has kept is not to pass it by.
        resuming = asyncio.create_task(stream.resume())
        hinting = _hint(fabric, stream.domain, lambda: bool(stream.rows))
        async for rows in stream.batches(left):
            for row in rows if left is None else rows[:left]:
                print_json(row)
            left = None if left is None else left - len(rows)
        await resuming
        hinting.cancel()
    return 0


def _hint(fabric: AmqBrokerConnector, domain: str, came: Callable[[], bool]) -> asyncio.Task[None]:
    """Name other domains on the standard error when nothing has come after a while."""

    async def hint() -> None:
        await asyncio.sleep(PATIENCE)
        if not came() and (elsewhere := fabric.registry.elsewhere(domain)):
            say(f"Nothing has come yet from {domain}. {elsewhere}", file=sys.stderr)

    return asyncio.create_task(hint())


async def print_logs(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Print each record as a line."""
    printed = 0
    async with await fabric.logs(level=options.level, service=options.service) as feed:
        hinting = _hint(fabric, feed.domain, lambda: bool(feed.changes))
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
        hinting.cancel()
    return 0


async def find_faults(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Print what was looked at; the exit code is 1 when there is an error among it."""
    diagnosis = await fabric.diagnose(
        seconds=LISTEN if options.wait is None else options.wait,
        timeout=options.timeout,
        subscriptions=options.subscriber,
    )
    if options.json:
        print_json(diagnosis.as_json())
    else:
        say(diagnosis)
    return 1 if diagnosis.worst is Severity.ERROR else 0


async def publish_message(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Publish, and wait until the broker has it."""
    text = sys.stdin.read() if options.data == "-" else options.data
    if not text.strip():
        raise InvalidArgument("There is no data: give --data, or '-' and standard input.")
    await fabric.publish_data(json_or_text(text), assignments(options.headers))
    return 0


_WORK: dict[str, connecting.Work] = {
    "services": list_services,
    "call": call_method,
    "stream": print_rows,
    "logs": print_logs,
    "doctor": find_faults,
    "publish": publish_message,
}
