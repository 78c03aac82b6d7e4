"""Process of one peer in one role, controlled by lines of JSON from `harness.Worker`.

The first line is its setup, `{"peer": …, "role": …, "uri": …}`. Each further line is a command
and has a reply of one line. The reading thread handles `usage` and `settle`, so that they do not
depend on the main thread of a server.
"""

from __future__ import annotations

import _thread
import asyncio
import gc
import json
import os
import queue
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from benchmarks import peers
from benchmarks.payloads import REQUEST, Source, check_rows
from benchmarks.producer import produce

Command = dict[str, Any]


def cpu_us() -> float:
    """Return the CPU time of this process, user and system, in microseconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (used.ru_utime + used.ru_stime) * 1e6


def settle() -> None:
    """Collect garbage, and exclude the remaining objects from later collections.

    So a measurement includes neither the size of imported libraries nor garbage of an earlier
    measurement. During a measurement collection continues as usual.
    """
    gc.collect()
    gc.freeze()


class Measurement:
    """Measures wall and CPU time from its construction to `done`."""

    def __init__(self) -> None:
        self._cpu = cpu_us()
        self._began = time.perf_counter()

    def done(self, count: int) -> Command:
        """Return the measurement of `count` operations."""
        seconds = time.perf_counter() - self._began
        return {"count": count, "seconds": seconds, "cpu_us": cpu_us() - self._cpu}


class Commands:
    """Commands from standard input, read by a thread; the worker ends with the input."""

    def __init__(self) -> None:
        self.setup: Command = json.loads(sys.stdin.buffer.readline())
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        # `_thread`, because eventlet patches `threading` while this thread runs.
        _thread.start_new_thread(self._read, ())

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            command = json.loads(line)
            match command["command"]:
                case "usage":
                    reply(cpu_us())
                case "settle":
                    settle()
                    reply(None)
                case _:
                    self._commands.put(command)
        self._commands.put(None)

    def get(self) -> Command | None:
        """Wait for the next command; return None at the end."""
        return self._commands.get()

    @property
    def ended(self) -> bool:
        """True after the end of the input, for a server, which receives no other commands."""
        return not self._commands.empty()

    async def handle_all(self, handle: Callable[[Command], Awaitable[object]]) -> None:
        """Reply to each command with the result of `handle`."""
        reply("ready")
        while (command := await asyncio.to_thread(self.get)) is not None:
            reply(await handle(command))


def reply(value: object) -> None:
    os.write(1, json.dumps(value).encode() + b"\n")


async def load(echo: Callable[[], Awaitable[Any]], in_flight: int, seconds: float) -> int:
    """Keep calls in flight for some seconds, check every reply, and return their number."""
    calls = 0
    ends = time.perf_counter() + seconds

    async def call_repeatedly() -> None:
        nonlocal calls
        while time.perf_counter() < ends:
            assert await echo() == REQUEST
            calls += 1

    await asyncio.gather(*(call_repeatedly() for _ in range(in_flight)))
    return calls


async def run(commands: Commands) -> None:
    """Run a peer on asyncio in the role of `commands.setup`."""
    setup = commands.setup
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        match setup["role"]:
            case "serve":
                peer = peers.load(setup["peer"])
                await enter(peer.serve(setup["uri"], setup["service"], setup["prefetch"]))
                await commands.handle_all(_no_command)
            case "call" | "call with reports" | "cancel" | "map" | "bench" as role:
                function, run_role = _CALLERS[role]
                calls = getattr(peers.load(setup["peer"]), function)
                await run_role(commands, await enter(calls(setup["uri"], setup["service"])))
            case "consume":
                await run_consumer(commands, peers.load(setup["peer"]).consume)
            case "produce":
                producer = await enter(produce(setup["uri"]))

                async def on_command(command: Command) -> None:
                    match command["command"]:
                        case "declare":
                            await producer.declare(Source(**command["source"]))
                        case "publish":
                            await producer.publish(command["headers"], command["count"])
                        case "publish batches":
                            await producer.publish_batches(
                                command["headers"], command["count"], command["rows"]
                            )

                await commands.handle_all(on_command)


async def _no_command(command: Command) -> None:
    raise ValueError(f"A server does nothing on command: {command}")


async def run_caller(commands: Commands, echo: Callable[[], Awaitable[Any]]) -> None:
    async def on_command(command: Command) -> Command:
        measurement = Measurement()
        return measurement.done(await load(echo, command["in_flight"], command["seconds"]))

    await commands.handle_all(on_command)


async def run_canceller(commands: Commands, cancel: Callable[[], Awaitable[float]]) -> None:
    """Cancel calls one after the other, and return the seconds that each took to end."""

    async def on_command(command: Command) -> Command:
        return {"seconds": [await cancel() for _ in range(command["count"])]}

    await commands.handle_all(on_command)


async def run_mapper(
    commands: Commands, map_rows: Callable[[Iterator[Any], int], Awaitable[list[Any]]]
) -> None:
    """Map rows that are made until the time is over, and check every result."""

    def rows(seconds: float) -> Iterator[Any]:
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            yield REQUEST

    async def on_command(command: Command) -> Command:
        measurement = Measurement()
        results = await map_rows(rows(command["seconds"]), command["in_flight"])
        measured = measurement.done(len(results))
        assert all(result == REQUEST for result in results)
        return measured

    await commands.handle_all(on_command)


async def run_bench(commands: Commands, measure: Callable[[int, float], Awaitable[int]]) -> None:
    """Measure calls for some seconds, none of which may fail."""

    async def on_command(command: Command) -> Command:
        measurement = Measurement()
        return measurement.done(await measure(command["in_flight"], command["seconds"]))

    await commands.handle_all(on_command)


async def run_consumer(
    commands: Commands, consume: Callable[[str, Source], AbstractAsyncContextManager[Any]]
) -> None:
    """Connect on `connect`; on `receive` subscribe, receive rows, check them and disconnect."""
    async with AsyncExitStack() as stack:
        receive: Callable[[int], Awaitable[Any]] | None = None

        async def on_command(command: Command) -> Command | None:
            nonlocal receive
            if command["command"] == "connect":
                source = Source(**command["source"])
                receive = await stack.enter_async_context(consume(commands.setup["uri"], source))
                return None
            assert receive is not None
            measurement = Measurement()
            rows = await receive(command["count"])
            measured = measurement.done(command["count"])
            check_rows(rows, command["count"])
            await stack.aclose()
            return measured

        await commands.handle_all(on_command)


_CALLERS: Mapping[str, tuple[str, Callable[[Commands, Any], Awaitable[None]]]] = {
    "call": ("call", run_caller),
    "call with reports": ("call_with_reports", run_caller),
    "cancel": ("cancel", run_canceller),
    "map": ("map_rows", run_mapper),
    "bench": ("bench", run_bench),
}
"""Function of a peer, and what is done with what it yields, by role."""


def run_blocking(commands: Commands) -> None:
    """Run nameko, whose server uses eventlet and whose caller blocks."""
    setup = commands.setup
    peer = peers.load(setup["peer"])
    if setup["role"] == "serve":
        with peer.serve(setup["uri"], setup["service"], setup["prefetch"]):
            reply("ready")
            while not commands.ended:
                time.sleep(0.05)  # patched by eventlet, so that the service runs
        return
    with peer.call(setup["uri"], setup["service"]) as make_calls:
        reply("ready")
        while (command := commands.get()) is not None:
            measurement = Measurement()
            reply(measurement.done(make_calls(command["in_flight"], command["seconds"])))


def main() -> None:
    commands = Commands()
    if commands.setup["peer"] == "nameko":
        run_blocking(commands)
    else:
        asyncio.run(run(commands))


if __name__ == "__main__":
    main()
