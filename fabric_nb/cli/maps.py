"""``fabric-nb map``: calls a method for each line of the standard input."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import stat
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

from fabric_nb.cli.connecting import assignments
from fabric_nb.cli.output import jsonable, print_error, print_json
from fabric_nb.errors import FabricError, InvalidArgument, MalformedMessage, one_line
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.core.values import error_text, shown
from fabric_nb.fabric.rpc.cancellation import cancellation_of_rows, wait_for_outcomes
from fabric_nb.fabric.rpc.map_calls import MapOptions
from fabric_nb.fabric.rpc.map_progress import ProgressMeter
from fabric_nb.fabric.rpc.map_rows import RowSource
from fabric_nb.fabric.rpc.map_streams import EndedRow, ended_rows
from fabric_nb.fabric.wire.codec import decode
from fabric_nb.fabric.wire.names import parse_call
from fabric_nb.notebook.options import read_options
from fabric_nb.notebook.terminal_line import PERIOD, TerminalLine, progress_text

MAX_AHEAD = 10_000
"""Lines that are read while the result of an earlier line is awaited, to print it first."""
MAX_ERRORS = 10
"""Errors of lines that are printed; the results have all of them."""
CHUNK = 65_536
"""Bytes of the standard input that are read at once."""


async def map_lines(fabric: AmqBrokerConnector, options: argparse.Namespace) -> int:
    """Call a method for each line of the standard input; the exit code is 1 if a call failed.

    A result is a line of JSON with the number of its line, the result or the error, the duration in
    milliseconds, and the instance that answered.
    """
    pattern, method = parse_call(options.call, domain=fabric.domain)
    constants, map_options = assignments(options.keywords), read_options(MapOptions, options)
    bar = TerminalLine(sys.stderr)
    if sys.stdout.isatty():  # the results are the progress
        bar.close()
    standard_input = sys.stdin.fileno()
    results = _Results(bar, ordered=not options.unordered, as_json=options.json)
    meter = ProgressMeter(None if bar.closed else _count_lines(standard_input))
    source = RowSource(_rows(standard_input, results), constants)
    rows = ended_rows(fabric.member.rpc, pattern, method, source, map_options, meter)
    drawing = asyncio.create_task(_draw(bar, options.call, meter))
    try:
        async with aclosing(rows):
            async for row in rows:
                results.add(row)
    except asyncio.CancelledError:
        await wait_for_outcomes(meter.cancelled)
        bar.clear()
        cancelled = cancellation_of_rows(meter.cancelled)
        interrupted = f"interrupted: {meter.progress.summary}. {cancelled}".rstrip()
        print_error(interrupted, as_json=options.json)
        raise
    finally:
        drawing.cancel()
        results.print_all()
        bar.draw(progress_text(options.call, meter.progress))
        bar.close()
    if meter.failed:
        failed = f"{meter.failed:,} of {meter.done:,} calls failed."
        print_error(failed, as_json=options.json)
    return 1 if meter.failed else 0


async def _draw(bar: TerminalLine, label: str, meter: ProgressMeter) -> None:
    while not bar.closed:
        bar.draw(progress_text(label, meter.progress))
        await asyncio.sleep(PERIOD)


class _Results:
    """Prints the results of lines.

    Args:
        bar: line of the terminal that is removed before an error is printed.
        ordered: print them in the order of the lines.
        as_json: print errors as JSON.
    """

    def __init__(self, bar: TerminalLine, *, ordered: bool, as_json: bool) -> None:
        self._bar = bar
        self._as_json = as_json
        self._ordered = ordered
        self._lines: dict[int, int] = {}
        """Numbers of the lines by the number of the row, which counts no blank lines."""
        self._ended: dict[int, dict[str, Any]] = {}
        """Results that wait for the result of an earlier row."""
        self._read = 0
        self._printed = 0
        self._errors = 0
        self._progressed = asyncio.Event()

    async def begin(self, line: int) -> None:
        """Add a row that was read from a line, once it is not too far ahead of the results."""
        while self._ordered and self._read - self._printed >= MAX_AHEAD:
            self._progressed.clear()
            await self._progressed.wait()
        self._lines[self._read] = line
        self._read += 1

    def add(self, row: EndedRow) -> None:
        """Add the result of a row, and print those that can be printed now."""
        line, error = self._lines.pop(row.number), row.error
        outcome = (
            {"result": jsonable(row.result)} if error is None else {"error": error_text(error)}
        )
        result = {"line": line, **outcome, "ms": round(row.ms, 3), "instance": row.instance}
        if error is not None:
            self._print_error(line, error)
        if not self._ordered:
            print_json(result)
            return
        self._ended[row.number] = result
        while (following := self._ended.pop(self._printed, None)) is not None:
            print_json(following)
            self._printed += 1
            self._progressed.set()

    def print_all(self) -> None:
        """Print the results that still wait for earlier ones, which have none."""
        for number in sorted(self._ended):
            print_json(self._ended.pop(number))

    def _print_error(self, line: int, error: Exception) -> None:
        self._errors += 1
        if self._errors > MAX_ERRORS:
            return
        self._bar.clear()
        if self._as_json:
            print_error(error, as_json=True, line=line)
        else:
            text = str(error) if isinstance(error, FabricError) else error_text(error)
            print_error(f"line {line:,}: {one_line(text)}")
        if self._errors == MAX_ERRORS:
            print_error("further errors are in the results.", as_json=self._as_json)


async def _rows(file: int, results: _Results) -> AsyncIterator[Any]:
    """Yield the row of each line that is not blank; an error for a line that is no JSON object."""
    number, rest = 0, b""
    while True:
        chunk = await _read(file)
        *lines, rest = (rest + chunk).split(b"\n")
        if not chunk:
            lines, rest = [*lines, rest], b""
        for line in lines:
            number += 1
            if line.strip():
                await results.begin(number)
                yield _row(line)
        if not chunk:
            return


def _row(line: bytes) -> Any:
    try:
        row = decode(line)
    except MalformedMessage:
        row = None
    if isinstance(row, dict):
        return row
    return InvalidArgument(
        f"{shown(line.decode(errors='replace').strip())} is not a JSON object of keywords."
    )


async def _read(file: int) -> bytes:
    """Read the next bytes; empty at the end.

    The thread is a daemon, because the end of the process does not wait for input.
    """
    loop = asyncio.get_running_loop()
    read: asyncio.Future[bytes] = loop.create_future()

    def deliver(data: bytes) -> None:
        if not read.done():
            read.set_result(data)

    def wait_for_input() -> None:
        data = os.read(file, CHUNK)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(partial(deliver, data))

    threading.Thread(target=wait_for_input, name="standard input", daemon=True).start()
    return await read


def _count_lines(file: int) -> int | None:
    """Return the number of lines that are left in a file; None if it is no regular file."""
    if not stat.S_ISREG(os.fstat(file).st_mode):
        return None
    offset, count, last = os.lseek(file, 0, os.SEEK_CUR), 0, b"\n"
    while chunk := os.pread(file, 2**20, offset):
        offset += len(chunk)
        count += chunk.count(b"\n")
        last = chunk[-1:]
    return count + (last != b"\n")
