"""``fabric-nb serve``: runs a notebook as a service."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from typing import Any, cast

import nbformat
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager, start_new_async_kernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from fabric_nb.cli.connecting import configured_uri
from fabric_nb.cli.output import print_error, print_text, without_colours
from fabric_nb.errors import FabricError
from fabric_nb.fabric.core.signals import on_signals

START_TIMEOUT = 60
"""Seconds that starting the kernel may take."""
DISCONNECT_TIMEOUT = 10.0
"""Seconds that the kernel may take to disconnect, in addition to the grace of in-flight calls."""
_SERVED = (
    "', '.join(str(server.name) for server in fabric.servers) if 'fabric' in globals() else ''"
)
"""Expression that lists the services of the notebook, evaluated in its kernel."""


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C; return the exit code."""
    try:
        notebook = nbformat.read(options.notebook, as_version=4)
    except (OSError, ValueError) as error:
        print_error(f"{options.notebook} cannot be read: {error}")
        return 1
    try:
        uri = configured_uri(options)
    except FabricError as error:
        print_error(error)
        return 1
    settings = {
        "AMQP_URL": uri,
        "SERVICE_DOMAIN": options.domain,
        "SERVICE_TYPE": options.type,
        "SERVICE_ID": options.id,
    }
    environment = {**os.environ, **{name: value for name, value in settings.items() if value}}
    environment.setdefault("JPY_SESSION_NAME", str(options.notebook))
    return asyncio.run(_serve(notebook, options, environment))


async def _serve(
    notebook: nbformat.NotebookNode, options: argparse.Namespace, environment: dict[str, str]
) -> int:
    stopping = asyncio.Event()
    on_signals(stopping.set, signal.SIGTERM, signal.SIGINT)
    manager, channels = await start_new_async_kernel(
        START_TIMEOUT,
        notebook.metadata.get("kernelspec", {}).get("name", "python3"),
        env=environment,
        cwd=str(options.notebook.parent),
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    client = NotebookClient(notebook, km=manager, timeout=None)
    client.kc = channels
    try:
        return await _serve_in(client, options, stopping)
    finally:
        channels.stop_channels()
        await manager.shutdown_kernel(now=True)


async def _serve_in(
    client: NotebookClient, options: argparse.Namespace, stopping: asyncio.Event
) -> int:
    stopped = asyncio.ensure_future(stopping.wait())
    running = asyncio.ensure_future(_run_cells(client))
    await asyncio.wait([stopped, running], return_when=asyncio.FIRST_COMPLETED)
    if not running.done():  # stopped before all cells have run
        running.cancel()
        return 0
    try:
        running.result()
    except CellExecutionError as error:
        print_error(f"a cell of {options.notebook} failed:\n{without_colours(str(error))}")
        return 1
    except DeadKernelError:
        return _report_death(options)
    print_text(f"ready {options.notebook} {await _served(client)}".rstrip())
    if not await _wait_for_stop(client, stopping):
        return _report_death(options)
    await _disconnect(client, options.grace)
    return 0


def _report_death(options: argparse.Namespace) -> int:
    print_error(f"the kernel of {options.notebook} died.")
    return 1


async def _run_cells(client: NotebookClient) -> None:
    for index, cell in enumerate(client.nb.cells):
        await client.async_execute_cell(cell, index)


async def _served(client: NotebookClient) -> str:
    """Return the names of the services of the notebook."""
    reply = await _execute(client, "", {"served": _SERVED}, timeout=DISCONNECT_TIMEOUT)
    result = reply["content"]["user_expressions"]["served"]
    return str(result["data"]["text/plain"]).strip("'") if result["status"] == "ok" else ""


async def _wait_for_stop(client: NotebookClient, stopping: asyncio.Event) -> bool:
    """Wait for the signal to stop; return False if the kernel died before."""
    while not stopping.is_set():
        if not await cast(AsyncKernelManager, client.km).is_alive():
            return False
        try:
            async with asyncio.timeout(1.0):
                await stopping.wait()
        except TimeoutError:
            continue
    return True


async def _disconnect(client: NotebookClient, grace: float) -> None:
    code = f"get_ipython().run_line_magic('fabric_disconnect', '--grace {max(grace, 0.01)}')"
    try:
        await _execute(client, code, {}, timeout=grace + DISCONNECT_TIMEOUT)
    except TimeoutError:
        print_error("the notebook did not disconnect in time")


async def _execute(
    client: NotebookClient, code: str, expressions: dict[str, str], *, timeout: float
) -> dict[str, Any]:
    """Execute code silently, evaluate expressions, and return the kernel's reply."""
    channels = cast(AsyncKernelClient, client.kc)
    request = channels.execute(code, silent=True, user_expressions=expressions)
    async with asyncio.timeout(timeout):
        while True:
            reply: dict[str, Any] = await channels.get_shell_msg(timeout=timeout)
            if reply["parent_header"].get("msg_id") == request:
                return reply
