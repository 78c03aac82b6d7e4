"""Jupyter kernels, controlled like by a notebook front end.

    async with await Kernel.start(folder, env={"AMQP_URL": uri}) as kernel:
        cell = await kernel.execute("1 + 1")
        assert cell.text == "2"

The `outputs` of a `Cell` include, like in a notebook, later output of background tasks, and updates
of its displays by other cells.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import zmq
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets.config import Config

from tests.support.cells import Cell, Message, plain
from tests.support.forks import ForkedProgram

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import BinaryIO, Self

T = TypeVar("T")
START_TIMEOUT = 60.0
# Environment variables of the user that must not affect tests.
_CLEARED = (
    "AMQP_URL",
    "SERVICE_DOMAIN",
    "SERVICE_TYPE",
    "SERVICE_ID",
    "DATA_EXCHANGE_NAME",
    "DISCOVERY_EXCHANGE_NAME",
    "PYTHONWARNINGS",
)


class KernelTimeout(TimeoutError):
    """A condition on a kernel did not become true; the message contains what was received."""


class KernelDied(RuntimeError):
    """The kernel's process ended or was restarted during a wait."""


@dataclass(frozen=True)
class Completion:
    """Completions by the kernel, to replace `code[start:end]`."""

    matches: list[str]
    start: int
    end: int


_SOCKETS = tempfile.TemporaryDirectory(prefix="kernels-")
_NUMBERS = count()


def unix_sockets() -> Config:
    """Return settings for a kernel on Unix sockets.

    A TCP port that is free when it is chosen may be taken before the kernel listens on it.
    """
    prefix = f"{_SOCKETS.name}/{next(_NUMBERS)}"
    return Config({"KernelManager": {"transport": "ipc", "ip": prefix}})


class _ThisPython(KernelSpecManager):
    """Provides one kernel: the interpreter that runs the tests."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        provisioner = {"kernel_provisioner": {"provisioner_name": FORKED}}
        return KernelSpec(
            argv=argv, display_name=kernel_name, language="python", metadata=provisioner
        )


class ForkedProvisioner(LocalProvisioner):
    """Starts kernels as forks of a process that has imported ipykernel."""

    async def launch_kernel(self, cmd: list[str], **options: Any) -> dict[str, Any]:
        """Start the module and its arguments that follow `python -m` in a command."""
        _python, _option, module, *arguments = cmd
        self.process = ForkedProgram(
            module, arguments, env=options["env"], cwd=options["cwd"], log=options["stdout"].name
        )
        self.pid = self.pgid = self.process.pid
        return dict(self.connection_info)


FORKED = "forked-provisioner"
_provisioners = KernelProvisionerFactory.instance().provisioners
_provisioners[FORKED] = EntryPoint(FORKED, f"{__name__}:ForkedProvisioner", "")


class Kernel:
    """A running kernel, created by `start`; an async context manager that ends it."""

    def __init__(self, manager: AsyncKernelManager, log: BinaryIO) -> None:
        self.name = "kernel"
        self.messages: list[Message] = []
        """All messages published by the kernel, in order."""
        self.replies: dict[str, dict[str, Any]] = {}
        """Contents of the replies, by id of the request."""
        self.generation = 1
        """Number of processes so far: one more after each restart."""
        self._log = log
        self._manager = manager
        self._changed = asyncio.Event()
        self._client = manager.client()
        self._client.start_channels(hb=False)
        self._answers: dict[str, list[str]] = {}
        self._reading = [
            asyncio.create_task(self._read(self._client.iopub_channel, self._publish)),
            asyncio.create_task(self._read(self._client.shell_channel, self._reply)),
            asyncio.create_task(self._read(self._client.stdin_channel, self._answer)),
        ]

    @classmethod
    async def start(cls, folder: Path, env: Mapping[str, str] | None = None) -> Self:
        """Start a kernel with separate settings in a folder, and wait until it is ready."""
        manager = AsyncKernelManager(
            config=unix_sockets(),
            kernel_spec_manager=_ThisPython(),
            connection_file=str(folder / "kernel.json"),
            shutdown_wait_time=60.0,  # a busy machine needs more than its five seconds
        )
        # The manager reuses the file at each restart, so the log stays open.
        log = (folder / "kernel.log").open("ab")
        try:
            await manager.start_kernel(
                env=_environment(folder) | dict(env or {}), cwd=str(folder), stdout=log, stderr=log
            )
        except BaseException:
            log.close()
            raise
        kernel = cls(manager, log)
        try:
            await kernel._wait_until_ready()
        except BaseException:
            await kernel.shutdown(now=True)
            raise
        return kernel

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shutdown(now=True)

    @property
    def pid(self) -> int:
        """Process id."""
        process = self._manager.provisioner
        assert isinstance(process, LocalProvisioner)
        assert process.pid is not None
        return process.pid

    @property
    def connection_file(self) -> str:
        """File with the addresses of its sockets."""
        return str(self._manager.connection_file)

    @property
    def log(self) -> str:
        """Output of the process outside of cells."""
        return Path(self._log.name).read_text(errors="replace")

    # Requests

    def execute_no_wait(
        self,
        code: str,
        *,
        store_history: bool = True,
        cell_id: str | None = None,
        answers: Sequence[str] = (),
        stop_on_error: bool = True,
    ) -> Cell:
        """Queue a cell; several at once behave like Run All.

        Args:
            code: Code of the cell.
            store_history: Whether the cell is added to the history.
            cell_id: Id of the cell in the notebook; the same id means a rerun.
            answers: Replies to input requests; without any, input is not allowed.
            stop_on_error: Whether an error aborts the cells that the kernel has already received.
        """
        id = self.send(  # noqa: A001
            "execute_request",
            metadata={} if cell_id is None else {"cellId": cell_id},
            code=code,
            silent=False,
            store_history=store_history,
            user_expressions={},
            allow_stdin=bool(answers),
            stop_on_error=stop_on_error,
        )
        self._answers[id] = list(answers)
        return Cell(self, id, code)

    async def execute(self, code: str, timeout: float = 60) -> Cell:
        """Run a cell and wait until it is done, with any outcome."""
        # ipykernel 6 also aborts requests that arrive some milliseconds after an error.
        return await self.execute_no_wait(code, stop_on_error=False).wait(timeout)

    async def run(self, code: str, timeout: float = 60, *, cell_id: str | None = None) -> Cell:
        """Run a cell that must succeed."""
        cell = await self.execute_no_wait(code, cell_id=cell_id).wait(timeout)
        assert cell.status == "ok", cell.error.traceback if cell.error else cell
        return cell

    def send_comm(self, comm_id: str, data: dict[str, Any]) -> Cell:
        """Send a widget message, like a click in the front end; it is done when handled."""
        id = self.send("comm_msg", comm_id=comm_id, data=data)  # noqa: A001
        return Cell(self, id, f"comm_msg {data}", replies=False)

    async def complete(self, code: str, cursor: int | None = None) -> Completion:
        """Return completions at the cursor (by default the end), like the Tab key."""
        position = len(code) if cursor is None else cursor
        reply = await self.request("complete_request", code=code, cursor_pos=position)
        return Completion(reply["matches"], reply["cursor_start"], reply["cursor_end"])

    async def inspect(self, code: str, cursor: int | None = None) -> str:
        """Return the help at the cursor as plain text, like Shift-Tab."""
        position = len(code) if cursor is None else cursor
        reply = await self.request(
            "inspect_request", code=code, cursor_pos=position, detail_level=0
        )
        return plain(reply["data"].get("text/plain", ""))

    def send(self, type: str, metadata: dict[str, Any] | None = None, **content: Any) -> str:  # noqa: A002
        """Send a request and return its id."""
        channel = self._client.shell_channel
        message = self._client.session.msg(type, content, metadata=metadata)
        channel.send(message)
        # Sending bypasses the asyncio socket that a task reads from, and can consume the
        # notification of a received message; reading the socket's events triggers it again.
        channel.socket.get(zmq.EVENTS)
        return str(message["header"]["msg_id"])

    async def request(self, type: str, **content: Any) -> dict[str, Any]:  # noqa: A002
        """Send a request and return the content of its reply."""
        id = self.send(type, **content)  # noqa: A001
        reply = await self.until(lambda: self.replies.get(id), about=f"{type} {content}")
        assert reply is not None
        return reply

    # The process

    async def interrupt(self) -> None:
        """Interrupt the running cell, like the stop button."""
        await self._manager.interrupt_kernel()

    async def restart(self) -> None:
        """Restart gracefully, like the restart button, and wait until it is ready."""
        self.generation += 1
        self._notify()
        await self._manager.restart_kernel()
        await self._wait_until_ready()

    async def shutdown(self, *, now: bool = False) -> None:
        """End the kernel, gracefully or immediately; no effect if it has ended."""
        await self._manager.shutdown_kernel(now=now)
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        self._client.stop_channels()
        self._log.close()

    def kill(self) -> None:
        """Kill the process (SIGKILL), like a crash."""
        os.kill(self.pid, signal.SIGKILL)

    async def exited(self, timeout: float = 60) -> None:
        """Wait for the process to end."""
        async with asyncio.timeout(timeout):
            while await self._manager.is_alive():  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0.02)

    # Waiting

    async def until(
        self,
        condition: Callable[[], T],
        timeout: float = 60,
        *,
        about: object = None,
        generation: int | None = None,
    ) -> T:
        """Wait until a condition is true, checked after every message, and return its value."""
        generation = generation or self.generation
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                seen = about or f"last messages: {self.messages[-20:]}"
                raise KernelTimeout(f"not within {timeout:g} s: {seen}\n{self.log}")
            try:
                await asyncio.wait_for(self._changed.wait(), min(remaining, 0.5))
            except TimeoutError:
                if not await self._manager.is_alive():
                    raise KernelDied(f"the kernel died: {about}\n{self.log}") from None
            if generation != self.generation:
                raise KernelDied(f"the kernel was restarted: {about}")
        return value

    def updates(self, display_id: str) -> list[Message]:
        """Return the messages to a display, in order."""
        return [m for m in self.messages if m.display_id == display_id]

    # Internals

    async def _wait_until_ready(self) -> None:
        """Repeat a request until it is complete, because the first messages may be missed."""
        requests: list[Cell] = []
        async with asyncio.timeout(START_TIMEOUT):
            while not any(cell.done for cell in requests):
                requests.append(Cell(self, self.send("kernel_info_request"), "kernel_info"))
                with contextlib.suppress(KernelTimeout):
                    await self.until(lambda: any(cell.done for cell in requests), 0.2)

    async def _read(self, channel: Any, handle: Callable[[str, dict[str, Any]], None]) -> None:
        while True:
            message = await channel.get_msg()
            handle(message["parent_header"].get("msg_id", ""), message)
            self._notify()

    def _publish(self, parent_id: str, message: dict[str, Any]) -> None:
        self.messages.append(
            Message(
                message["header"]["msg_type"],
                parent_id,
                message["content"],
                message["metadata"],
                message["buffers"],
                message["header"]["date"].timestamp(),
            )
        )

    def _reply(self, parent_id: str, message: dict[str, Any]) -> None:
        self.replies[parent_id] = message["content"]

    def _answer(self, parent_id: str, message: dict[str, Any]) -> None:
        if answers := self._answers.get(parent_id):
            self._client.input(answers.pop(0))
            self._client.stdin_channel.socket.get(zmq.EVENTS)

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _environment(folder: Path) -> dict[str, str]:
    environment = {
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "FABRIC_NB_STATE_DIR": str(folder / "state"),
    }
    return {k: v for k, v in os.environ.items() if k not in _CLEARED} | environment
