"""``fabric-nb serve``: runs a notebook as a service."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Coroutine, Mapping

from fabric_nb.cli.kernels import CellFailed, Kernel, KernelDied, start_kernel
from fabric_nb.cli.notebooks import Notebook, read_notebook
from fabric_nb.cli.output import (
    BROKEN_PIPE,
    ReaderGone,
    print_error,
    print_text,
    without_colours,
)
from fabric_nb.cli.uris import configured_uri
from fabric_nb.errors import FabricError
from fabric_nb.fabric.core.signals import on_signals

DISCONNECT_TIMEOUT = 10.0
"""Seconds that the kernel may take to disconnect, in addition to the grace of in-flight calls."""
_SERVED = (
    "', '.join(str(server.name) for server in fabric.servers) if 'fabric' in globals() else ''"
)
"""Expression that lists the services of the notebook, evaluated in its kernel."""


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C; return the exit code."""
    try:
        notebook = read_notebook(options.notebook)
        settings = {
            "AMQP_URL": configured_uri(options),
            "SERVICE_DOMAIN": options.domain,
            "SERVICE_TYPE": options.type,
            "SERVICE_ID": options.id,
        }
        environment = {**os.environ, **{name: value for name, value in settings.items() if value}}
        environment.setdefault("JPY_SESSION_NAME", str(options.notebook))
        asyncio.run(_serve(notebook, options, environment))
    except ReaderGone:
        return BROKEN_PIPE
    except FabricError as error:
        print_error(error)
    except CellFailed as error:
        print_error(f"a cell of {options.notebook} failed:\n{without_colours(str(error))}")
    except KernelDied as error:
        print_error(f"the kernel of {options.notebook} {error}.")
    else:
        return 0
    return 1


async def _serve(
    notebook: Notebook, options: argparse.Namespace, environment: Mapping[str, str]
) -> None:
    stopping = asyncio.Event()
    on_signals(stopping.set, signal.SIGTERM, signal.SIGINT)
    async with start_kernel(notebook.kernel, options.notebook.parent, environment) as kernel:
        if not await _completes(kernel.run(notebook.cells), stopping):
            return
        print_text(f"ready {options.notebook} {await _served(kernel)}".rstrip())
        await _completes(kernel.ended(), stopping)
        await _disconnect(kernel, options.grace)


async def _completes(work: Coroutine[object, object, None], stopping: asyncio.Event) -> bool:
    """Wait for work to end; cancel it and return False if `stopping` is set before."""
    working, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stopping.wait())
    await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if working.done():
        working.result()
        return True
    working.cancel()
    return False


async def _served(kernel: Kernel) -> str:
    """Return the names of the services of the notebook."""
    text = await kernel.evaluate(_SERVED, timeout=DISCONNECT_TIMEOUT)
    return "" if text is None else text.strip("'")


async def _disconnect(kernel: Kernel, grace: float) -> None:
    code = f"get_ipython().run_line_magic('fabric_disconnect', '--grace {max(grace, 0.01)}')"
    try:
        await kernel.execute(code, timeout=grace + DISCONNECT_TIMEOUT)
    except TimeoutError:
        print_error("the notebook did not disconnect in time")
