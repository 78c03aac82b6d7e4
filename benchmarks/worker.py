"""A process of one peer in one role, told by lines of JSON what to do: `harness.Worker` runs it.

The first line says what it is, `{"peer": …, "role": …, "uri": …}`. Each further one is a command
and is answered by one line. `usage` and `settle` are answered by the thread that reads, so that a
server hears them too, whatever its main thread does.
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
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from benchmarks import peers
from benchmarks.payloads import REQUEST, Feed, check_rows
from benchmarks.producer import produce

Command = dict[str, Any]


def cpu_us() -> float:
    """Microseconds of CPU, user and system, that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (used.ru_utime + used.ru_stime) * 1e6


def settle() -> None:
    """Collect garbage and leave what remains out of later collections.

    So no peer pays in a window for the size of the libraries it has imported, nor for the window
    before. Within a window collection goes on as usual.
    """
    gc.collect()
    gc.freeze()


class Window:
    """Measures what runs between its making and `done`."""

    def __init__(self) -> None:
        self._cpu = cpu_us()
        self._began = time.perf_counter()

    def done(self, count: int) -> Command:
        """What it took to do something `count` times."""
        seconds = time.perf_counter() - self._began
        return {"count": count, "seconds": seconds, "cpu_us": cpu_us() - self._cpu}


class Commands:
    """The commands from standard input, read by a thread; its end is the end of the worker."""

    def __init__(self) -> None:
        self.setup: Command = json.loads(sys.stdin.buffer.readline())
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        # Below `threading`, which eventlet patches while this thread runs.
        _thread.start_new_thread(self._read, ())

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            command = json.loads(line)
            match command["do"]:
                case "usage":
                    answer(cpu_us())
                case "settle":
                    settle()
                    answer(None)
                case _:
                    self._commands.put(command)
        self._commands.put(None)

    def get(self) -> Command | None:
        """Wait for the next command; None at the end."""
        return self._commands.get()

    @property
    def ended(self) -> bool:
        """Whether there will be no more; for a server, which gets no commands."""
        return not self._commands.empty()

    async def each(self, handle: Callable[[Command], Awaitable[object]]) -> None:
        """Answer each command with what `handle` returns."""
        answer("ready")
        while (command := await asyncio.to_thread(self.get)) is not None:
            answer(await handle(command))


def answer(value: object) -> None:
    os.write(1, json.dumps(value).encode() + b"\n")


async def load(echo: Callable[[], Awaitable[Any]], in_flight: int, seconds: float) -> int:
    """Keep so many calls in flight for so long, check every reply, and return how many."""
    calls = 0
    ends = time.perf_counter() + seconds

    async def one_after_another() -> None:
        nonlocal calls
        while time.perf_counter() < ends:
            assert await echo() == REQUEST
            calls += 1

    await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
    return calls


async def run(commands: Commands) -> None:
    """Be what `commands.setup` says, for a peer on asyncio."""
    setup = commands.setup
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        match setup["role"]:
            case "serve":
                peer = peers.load(setup["peer"])
                await enter(peer.serve(setup["uri"], setup["service"], setup["prefetch"]))
                await commands.each(_no_command)
            case "call":
                peer = peers.load(setup["peer"])
                await run_caller(commands, await enter(peer.call(setup["uri"], setup["service"])))
            case "consume":
                await run_consumer(commands, peers.load(setup["peer"]).consume)
            case "produce":
                producer = await enter(produce(setup["uri"]))

                async def on_command(command: Command) -> None:
                    match command["do"]:
                        case "declare":
                            await producer.declare(Feed(**command["feed"]))
                        case "publish":
                            await producer.publish(command["headers"], command["count"])
                        case "publish batches":
                            await producer.publish_batches(
                                command["headers"], command["count"], command["rows"]
                            )

                await commands.each(on_command)


async def _no_command(command: Command) -> None:
    raise ValueError(f"A server does nothing on command: {command}")


async def run_caller(commands: Commands, echo: Callable[[], Awaitable[Any]]) -> None:
    async def on_command(command: Command) -> Command:
        window = Window()
        return window.done(await load(echo, command["in_flight"], command["seconds"]))

    await commands.each(on_command)


async def run_consumer(
    commands: Commands, consume: Callable[[str, Feed], AbstractAsyncContextManager[Any]]
) -> None:
    """Connect on `connect`, and on `take` subscribe, take the rows, check them and disconnect."""
    async with AsyncExitStack() as stack:
        take: Callable[[int], Awaitable[Any]] | None = None

        async def on_command(command: Command) -> Command | None:
            nonlocal take
            if command["do"] == "connect":
                feed = Feed(**command["feed"])
                take = await stack.enter_async_context(consume(commands.setup["uri"], feed))
                return None
            assert take is not None
            window = Window()
            rows = await take(command["count"])
            measured = window.done(command["count"])
            check_rows(rows, command["count"])
            await stack.aclose()
            return measured

        await commands.each(on_command)


def run_blocking(commands: Commands) -> None:
    """The same for nameko, which serves on eventlet and whose caller blocks."""
    setup = commands.setup
    peer = peers.load(setup["peer"])
    if setup["role"] == "serve":
        with peer.serve(setup["uri"], setup["service"], setup["prefetch"]):
            answer("ready")
            while not commands.ended:
                time.sleep(0.05)  # eventlet's, which lets the service run
        return
    with peer.call(setup["uri"], setup["service"]) as calls_of_a_window:
        answer("ready")
        while (command := commands.get()) is not None:
            window = Window()
            answer(window.done(calls_of_a_window(command["in_flight"], command["seconds"])))


def main() -> None:
    commands = Commands()
    if commands.setup["peer"] == "nameko":
        run_blocking(commands)
    else:
        asyncio.run(run(commands))


if __name__ == "__main__":
    main()
