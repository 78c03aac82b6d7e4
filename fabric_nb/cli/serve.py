"""``fabric-nb serve``: a notebook as a service, run by an operator's tools."""

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

from fabric_nb.cli.connecting import given_uri
from fabric_nb.cli.output import complain, say, uncoloured
from fabric_nb.errors import FabricError
from fabric_nb.fabric.core.signals import on_signals

START_TIMEOUT = 60
LEAVE_TIMEOUT = 10.0
"""Seconds that the kernel has to leave, beyond the grace of running calls."""
_SERVED = (
    "', '.join(str(server.name) for server in fabric.servers) if 'fabric' in globals() else ''"
)


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop; returns the exit code."""
    try:
        notebook = nbformat.read(options.notebook, as_version=4)
    except (OSError, ValueError) as error:
        complain(f"{options.notebook} cannot be read: {error}")
        return 1
    try:
        uri = given_uri(options)
    except FabricError as error:
        complain(error)
        return 1
    given = {
        "AMQP_URL": uri,
        "SERVICE_DOMAIN": options.domain,
        "SERVICE_TYPE": options.type,
        "SERVICE_ID": options.id,
    }
    environment = {**os.environ, **{name: value for name, value in given.items() if value}}
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
    told = asyncio.ensure_future(stopping.wait())
    running = asyncio.ensure_future(_run_cells(client))
    await asyncio.wait([told, running], return_when=asyncio.FIRST_COMPLETED)
    if not running.done():  # told to stop before it was ready
        running.cancel()
        return 0
    try:
        running.result()
    except CellExecutionError as error:
        complain(f"a cell of {options.notebook} failed:\n{uncoloured(str(error))}")
        return 1
    except DeadKernelError:
        return _died(options)
    say(f"ready {options.notebook} {await _served(client)}".rstrip())
    if not await _until(client, stopping):
        return _died(options)
    await _leave(client, options.grace)
    return 0


def _died(options: argparse.Namespace) -> int:
    complain(f"the kernel of {options.notebook} died.")
    return 1


async def _run_cells(client: NotebookClient) -> None:
    for index, cell in enumerate(client.nb.cells):
        await client.async_execute_cell(cell, index)


async def _served(client: NotebookClient) -> str:
    """What the notebook serves, by its own word."""
    reply = await _ask(client, "", {"served": _SERVED}, timeout=LEAVE_TIMEOUT)
    told = reply["content"]["user_expressions"]["served"]
    return str(told["data"]["text/plain"]).strip("'") if told["status"] == "ok" else ""


async def _until(client: NotebookClient, stopping: asyncio.Event) -> bool:
    """Wait to be told to stop; False when the kernel ended before."""
    while not stopping.is_set():
        if not await cast(AsyncKernelManager, client.km).is_alive():
            return False
        try:
            async with asyncio.timeout(1.0):
                await stopping.wait()
        except TimeoutError:
            continue
    return True


async def _leave(client: NotebookClient, grace: float) -> None:
    code = f"get_ipython().run_line_magic('fabric_disconnect', '--grace {max(grace, 0.01)}')"
    try:
        await _ask(client, code, {}, timeout=grace + LEAVE_TIMEOUT)
    except TimeoutError:
        complain("the notebook did not leave in time")


async def _ask(
    client: NotebookClient, code: str, expressions: dict[str, str], *, timeout: float
) -> dict[str, Any]:
    channels = cast(AsyncKernelClient, client.kc)
    request = channels.execute(code, silent=True, user_expressions=expressions)
    async with asyncio.timeout(timeout):
        while True:
            reply: dict[str, Any] = await channels.get_shell_msg(timeout=timeout)
            if reply["parent_header"].get("msg_id") == request:
                return reply
