"""Worker processes and measurement rounds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Self

from benchmarks import peers

REPLY_TIMEOUT = 300.0
START_TIMEOUT = 60.0
END_TIMEOUT = 20.0

Progress = Callable[[str], None]


class WorkerFailed(RuntimeError):
    """A worker ended, or did not reply; its output is on standard error."""


class Worker:
    """A process of one peer in one role; see `benchmarks.worker`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process

    @classmethod
    async def start(cls, peer: str, role: str, uri: str, **setup: Any) -> Self:
        """Start a worker and return when it is connected.

        The URI, which may hold a password, goes through its standard input.
        """
        process = await asyncio.create_subprocess_exec(
            *peers.command(peer),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches only the parent, which ends its workers
        )
        worker = cls(f"{peer} ({role})", process)
        try:
            worker._send({"peer": peer, "role": role, "uri": uri, **setup})
            await worker._reply(START_TIMEOUT)
        except BaseException:
            await worker.end()
            raise
        return worker

    async def request(self, command: str, **arguments: Any) -> Any:
        """Send a command and return the reply."""
        self._send({"command": command, **arguments})
        return await self._reply(REPLY_TIMEOUT)

    def _send(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def _reply(self, timeout: float) -> Any:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise WorkerFailed(f"{self.name} gave no answer in {timeout:g} s") from None
        if not line:
            raise WorkerFailed(f"{self.name} ended")
        return json.loads(line)

    async def end(self) -> None:
        """End the worker by closing its input; kill it after a timeout."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(END_TIMEOUT):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class Workers:
    """The workers of a suite."""

    def __init__(self, uri: str, progress: Progress) -> None:
        self._uri = uri
        self._progress = progress
        self.all: list[Worker] = []

    async def start(self, peer: str, role: str, **setup: Any) -> Worker:
        """Start a worker."""
        worker = await Worker.start(peer, role, self._uri, **setup)
        self.all.append(worker)
        return worker

    async def start_if_it_runs(self, peer: str, role: str, **setup: Any) -> Worker | None:
        """Start a worker of an optional peer; if it fails, report that and return None."""
        try:
            return await self.start(peer, role, **setup)
        except WorkerFailed as error:
            self._progress(f"left out: {error} before it was ready")
            return None

    async def settle(self, *workers: Worker) -> None:
        """Make these workers collect garbage before a measurement."""
        for worker in workers:
            await worker.request("settle")


@asynccontextmanager
async def workers(uri: str, progress: Progress) -> AsyncIterator[Workers]:
    """Yield workers that are ended with the block."""
    started = Workers(uri, progress)
    try:
        yield started
    finally:
        await asyncio.gather(*(worker.end() for worker in started.all))


def rounds(count: int, progress: Progress, suite: str) -> Iterable[int]:
    """Yield the numbers of the rounds from 0; round 0 is the warm-up."""
    for number in range(count + 1):
        progress(f"{suite}: round {number} of {count}" if number else f"{suite}: warming up")
        yield number
