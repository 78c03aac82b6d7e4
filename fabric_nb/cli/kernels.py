"""Kernel that runs the cells of a notebook, without a front end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.paths import jupyter_path

from fabric_nb.cli.notebooks import CodeCell
from fabric_nb.errors import InvalidArgument

START_TIMEOUT = 60.0
"""Seconds that starting the kernel may take."""
LONGEST_PREFIX = 95
"""Bytes of the path of a Unix socket without its number; macOS allows 103 in all."""
CHECK_EVERY = 0.5
"""Seconds between two checks that the kernel's process is running."""


class CellFailed(Exception):
    """A cell has raised; the message is its traceback."""


class KernelDied(Exception):
    """The process of the kernel has ended, or the kernel did not start in time."""


class Kernel:
    """A running kernel, of which only replies are read; created by `start_kernel`."""

    def __init__(self, manager: AsyncKernelManager, client: AsyncKernelClient) -> None:
        self._manager = manager
        self._client = client

    async def run(self, cells: Iterable[CodeCell]) -> None:
        """Run cells, as soon as the kernel has started.

        Raises:
            CellFailed: a cell has raised that may not.
            KernelDied: the kernel has ended, or did not start in time.
        """
        try:
            await self._reply(self._client.kernel_info(), START_TIMEOUT)
        except TimeoutError:
            raise KernelDied(f"did not start within {START_TIMEOUT:g} s") from None
        for cell in cells:
            reply = await self._reply(
                self._client.execute(cell.source, allow_stdin=False, stop_on_error=False)
            )
            if reply["status"] != "ok" and not cell.may_fail:
                raise CellFailed("\n".join(reply.get("traceback", ())))

    async def evaluate(self, expression: str, *, timeout: float) -> str | None:
        """Return the `repr` of an expression's value; None if it has raised.

        Raises:
            TimeoutError: there is no reply within `timeout` seconds.
            KernelDied: the kernel has ended.
        """
        request = self._client.execute("", silent=True, user_expressions={"value": expression})
        value = (await self._reply(request, timeout))["user_expressions"]["value"]
        return str(value["data"]["text/plain"]) if value["status"] == "ok" else None

    async def execute(self, code: str, *, timeout: float) -> None:
        """Run code without output; errors in it are ignored.

        Raises:
            TimeoutError: there is no reply within `timeout` seconds.
            KernelDied: the kernel has ended.
        """
        await self._reply(self._client.execute(code, silent=True), timeout)

    async def ended(self) -> None:
        """Wait until the process of the kernel has ended.

        Raises:
            KernelDied: it has.
        """
        while await self._manager.is_alive():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(CHECK_EVERY)
        raise KernelDied("died")

    async def _reply(self, request: str, timeout: float | None = None) -> dict[str, Any]:
        """Return the content of the reply to a request."""
        reading = asyncio.ensure_future(self._read_until(request))
        ended = asyncio.ensure_future(self.ended())
        try:
            async with asyncio.timeout(timeout):
                await asyncio.wait([reading, ended], return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                ended.result()  # raises
            return reading.result()
        finally:
            reading.cancel()
            ended.cancel()

    async def _read_until(self, request: str) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = await self._client.get_shell_msg()
            if message["parent_header"].get("msg_id") == request:
                content: dict[str, Any] = message["content"]
                return content


@asynccontextmanager
async def start_kernel(
    name: str, folder: Path, environment: Mapping[str, str]
) -> AsyncIterator[Kernel]:
    """Start a kernel's process, which is killed at the end.

    Args:
        name: name of its specification.
        folder: working directory.
        environment: environment variables.

    Raises:
        InvalidArgument: there is no kernel of that name.
    """
    # Without IPython's own folder, which has had no kernels since 2015 and costs IPython's import.
    specifications = KernelSpecManager(kernel_dirs=jupyter_path("kernels"))
    manager = AsyncKernelManager(kernel_name=name, kernel_spec_manager=specifications)
    with TemporaryDirectory(prefix="fabric_nb-", ignore_cleanup_errors=True) as sockets:
        # A TCP port that is free when it is chosen may be taken before the kernel listens on it.
        prefix = str(Path(sockets, "kernel"))
        if os.name == "posix" and len(os.fsencode(prefix)) <= LONGEST_PREFIX:
            manager.transport, manager.ip = "ipc", prefix
        try:
            await manager.start_kernel(
                env=environment, cwd=str(folder), extra_arguments=["--IPKernelApp.log_level=ERROR"]
            )
        except NoSuchKernel:
            raise InvalidArgument(
                f"There is no kernel {name!r} here: "
                "jupyter kernelspec list shows those that are there."
            ) from None
        client: AsyncKernelClient = manager.client()
        client.start_channels(iopub=False, stdin=False, hb=False, control=False)
        try:
            yield Kernel(manager, client)
        finally:
            client.stop_channels()
            await manager.shutdown_kernel(now=True)
