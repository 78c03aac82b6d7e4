"""Services of the real amqp-fabric package in processes, controlled by lines of JSON.

Where the tests' RabbitMQ refuses the queues of amqp-fabric, they run on fabric_nb; tests of what
only amqp-fabric does are marked with `needs_amqp_fabric`.

The scripts are in `tests/peers/services`; the docstring of each lists its commands.

    async with await Peer.start("calc_service", uri, domain="my_project", id="calc1") as calc:
        ...
        calc.kill()
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.processes import pause
from tests.support.rabbitmq_supervisor import TRANSIENT_QUEUES_DENIED, transient_queues_denied

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

SERVICES = Path(__file__).parent.parent / "peers" / "services"
DOMAIN = "my_project"
_LINE_LIMIT = 64 * 2**20

needs_amqp_fabric = pytest.mark.skipif(transient_queues_denied(), reason=TRANSIENT_QUEUES_DENIED)


class PeerError(Exception):
    """Error reply of a peer: the `type`, `message` and `args` of its error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error['type']}: {error['message']}")
        self.type: str = error["type"]
        self.message: str = error["message"]
        self.arguments: list[Any] = error["args"]


class PeerGone(RuntimeError):
    """The process ended or did not start; the message contains its standard error."""


class Peer:
    """A running peer script, created by `start`; an async context manager that ends it."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, stderr: Any) -> None:
        self.name = name
        self._process = process
        self._stderr = stderr
        self._numbers = itertools.count()
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._events: dict[str, asyncio.Queue[dict[str, Any]]] = defaultdict(asyncio.Queue)
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls,
        script: str,
        uri: str,
        *,
        domain: str = DOMAIN,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        **options: Any,
    ) -> Self:
        """Run a script and wait until it is ready.

        Options become the script's arguments: `keep_alive=1` is `--keep-alive 1`, and other values
        than strings and numbers are passed as JSON.
        """
        arguments = [f"{SERVICES / script}.py", "--uri", uri, "--domain", domain]
        for name, value in options.items():
            text = value if isinstance(value, str) else json.dumps(value)
            arguments += [f"--{name.replace('_', '-')}", text]
        library = {"PEERS_ON": "fabric_nb"} if transient_queues_denied() else {}
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env=os.environ | library | (env or {}),
            limit=_LINE_LIMIT,
        )
        peer = cls(f"{script} {options.get('id', '')}".strip(), process, stderr)
        try:
            await peer.event("ready", timeout=timeout)
        except BaseException:
            await peer.end(grace=0)
            raise
        return peer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    @property
    def is_running(self) -> bool:
        """True if the process is running."""
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """Text on standard error so far."""
        if isinstance(self._stderr, str):
            return self._stderr
        self._stderr.seek(0)
        return str(self._stderr.read().decode(errors="replace"))

    # Commands and events

    async def ask(self, do: str, *, timeout: float = 60, **arguments: Any) -> Any:
        """Send a command and return its result; raise `PeerError` for an error."""
        number = next(self._numbers)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        request = {"id": number, "do": do, **arguments}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        answer = await self._wait(reply, timeout, f"reply to `{do}`")
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer["result"]

    async def call(self, target: str, method: str, *, timeout: float = 60, **kwargs: Any) -> Any:
        """Make a `caller` call `method` of the service of type `calc` with the id `target`."""
        return await self.ask("call", timeout=timeout, target=target, method=method, kwargs=kwargs)

    async def event(self, name: str, *, timeout: float = 60) -> dict[str, Any]:
        """Return the next event of this name, including earlier ones."""
        getting = asyncio.ensure_future(self._events[name].get())
        return await self._wait(getting, timeout, f"send `{name}`")

    # Process

    def kill(self) -> None:
        """Kill the process (SIGKILL), like a crash."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """Pause the process (SIGSTOP)."""
        if self._process.returncode is None:
            pause(self.pid)

    def resume(self) -> None:
        """Resume a paused process (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Request a graceful exit (SIGTERM); `exited` waits for it."""
        self._signal(signal.SIGTERM)

    async def exited(self, timeout: float = 60) -> int:
        """Wait for the process to end and return its exit code."""
        return await asyncio.wait_for(self._process.wait(), timeout)

    async def end(self, grace: float = 5) -> None:
        """End the process gracefully by closing its input; kill it after the grace period."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), grace)
        except TimeoutError:
            self.kill()
            await self._process.wait()
        await self._reading
        if not isinstance(self._stderr, str):
            file, self._stderr = self._stderr, self.log
            file.close()

    # Internals

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            event = json.loads(line)
            name = event.pop("event")
            if name == "reply":
                self._replies.pop(event.pop("id")).set_result(event)
            else:
                self._events[name].put_nowait(event)

    async def _wait(
        self, future: asyncio.Future[dict[str, Any]], timeout: float, action: str
    ) -> dict[str, Any]:
        """Wait for the future, the end of the process, or a timeout."""
        either: set[asyncio.Future[Any]] = {future, self._reading}
        await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        future.cancel()
        outcome = "ended before it could" if self._reading.done() else f"did not in {timeout:g} s"
        raise PeerGone(f"{self.name} {outcome} {action}\n{self.log}")
