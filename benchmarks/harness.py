"""Worker processes and rounds."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Self

ANSWER_TIMEOUT = 300.0
START_TIMEOUT = 60.0
END_TIMEOUT = 20.0

Say = Callable[[str], None]


class WorkerFailed(RuntimeError):
    """A worker ended, or did not answer; what it had to say is on standard error."""


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
            sys.executable,
            "-m",
            "benchmarks.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its workers
        )
        worker = cls(f"{peer} ({role})", process)
        try:
            worker._send({"peer": peer, "role": role, "uri": uri, **setup})
            await worker._answer(START_TIMEOUT)
        except BaseException:
            await worker.end()
            raise
        return worker

    async def ask(self, do: str, **arguments: Any) -> Any:
        """Give a command and return the answer."""
        self._send({"do": do, **arguments})
        return await self._answer(ANSWER_TIMEOUT)

    def _send(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def _answer(self, timeout: float) -> Any:
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
        """End it in order by closing its input; kill it when that takes too long."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(END_TIMEOUT):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class Workers:
    """All the workers of a suite, which end with it."""

    def __init__(self, uri: str, say: Say) -> None:
        self._uri = uri
        self._say = say
        self.all: list[Worker] = []

    async def start(self, peer: str, role: str, **setup: Any) -> Worker:
        """Start a worker."""
        worker = await Worker.start(peer, role, self._uri, **setup)
        self.all.append(worker)
        return worker

    async def start_if_it_runs(self, peer: str, role: str, **setup: Any) -> Worker | None:
        """Start a worker of a peer that may not run here; then say so and return None."""
        try:
            return await self.start(peer, role, **setup)
        except WorkerFailed as error:
            self._say(f"left out: {error} before it was ready")
            return None

    async def settle(self, *workers: Worker) -> None:
        """Let these workers collect their garbage before a window."""
        for worker in workers:
            await worker.ask("settle")


@asynccontextmanager
async def workers(uri: str, say: Say) -> AsyncIterator[Workers]:
    """Workers that are ended together."""
    started = Workers(uri, say)
    try:
        yield started
    finally:
        await asyncio.gather(*(worker.end() for worker in started.all))


def rounds(count: int, say: Say, what: str) -> Iterable[int]:
    """Number the rounds from 0; round 0 warms everything up and is not kept."""
    for each in range(count + 1):
        say(f"{what}: round {each} of {count}" if each else f"{what}: warming up")
        yield each
