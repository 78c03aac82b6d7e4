"""`fabric-nb serve`: a notebook as a service."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from fabric_nb import AmqBrokerConnector
from tests.cli.test_commands import DOMAIN, start

JOIN = f"%load_ext fabric_nb\n%fabric_connect --domain {DOMAIN}"
SERVE = """%%fabric_serve --type an --id svc --version 1.0
import asyncio, os

def pid():
    return os.getpid()

async def slow(seconds):
    await asyncio.sleep(seconds)
    return "done"
"""

Serve = Callable[..., Awaitable[asyncio.subprocess.Process]]


def notebook(folder: Path, *cells: str) -> str:
    """Write a notebook with these cells, and return its path."""
    path = folder / "service.ipynb"
    told = [
        {
            "cell_type": "code",
            "id": f"c{number}",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "source": source,
        }
        for number, source in enumerate(cells)
    ]
    path.write_text(json.dumps({"cells": told, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return str(path)


@pytest.fixture
async def serve(rabbitmq_uri: str) -> AsyncIterator[Serve]:
    """Starts `fabric-nb serve`, and ends what a failed test has left."""
    started = []

    async def begin(*arguments: str) -> asyncio.subprocess.Process:
        started.append(await start(rabbitmq_uri, "serve", *arguments))
        return started[-1]

    yield begin
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ready(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode()


async def test_a_notebook_serves_until_sigterm(
    serve: Serve, rabbitmq_uri: str, tmp_path: Path
) -> None:
    """It says when it is ready and what it serves; SIGTERM lets a running call end, then 0."""
    process = await serve(notebook(tmp_path, JOIN, SERVE), "--grace", "20")
    line = await ready(process)
    assert line.startswith("ready ")
    assert f"{DOMAIN}.an.svc" in line
    async with AmqBrokerConnector(rabbitmq_uri, DOMAIN, "test", "t") as fabric:
        await fabric.call("an.svc.pid")
        running = asyncio.create_task(fabric.call("an.svc.slow", seconds=3))
        await asyncio.sleep(0.5)  # the call is on its way; there is no event for its start
        process.send_signal(signal.SIGTERM)
        assert await running == "done"
    async with asyncio.timeout(30):
        assert await process.wait() == 0


async def test_several_are_a_clique(serve: Serve, rabbitmq_uri: str, tmp_path: Path) -> None:
    """Run twice, the same notebook is a service with two members that share the calls.

    To the second one two nodes of a cluster are named, of which the first is not there. The one
    that is told to end takes no more calls while its last one runs.
    """
    path = notebook(tmp_path, JOIN, SERVE)
    nodes = rabbitmq_uri.replace("@", "@127.0.0.1:1,")
    members = [await serve(path), await serve(path, "--uri", nodes)]
    for process in members:
        await ready(process)
    async with AmqBrokerConnector(rabbitmq_uri, DOMAIN, "test", "t") as fabric:
        pids = {await fabric.call("an.svc.pid") for _ in range(8)}
        assert len(pids) == 2
        running = [asyncio.create_task(fabric.call("an.svc.slow", seconds=4)) for _ in range(2)]
        await asyncio.sleep(0.5)  # each has taken one; there is no event for their start
        members[0].send_signal(signal.SIGTERM)
        await asyncio.sleep(1)  # it hears of it, which nobody is told
        (left,) = {await fabric.call("an.svc.pid") for _ in range(8)}
        assert left in pids
        assert not any(call.done() for call in running)
        assert await asyncio.gather(*running) == ["done", "done"]


async def test_the_options_name_it(serve: Serve, rabbitmq_uri: str, tmp_path: Path) -> None:
    """`--uri`, `--domain`, `--type` and `--id` count for a notebook that names none itself."""
    cells = "%load_ext fabric_nb\n%fabric_connect", "%%fabric_serve\ndef ping(): return 'pong'"
    named = ("--domain", "elsewhere", "--type", "an", "--id", "svc2")
    process = await serve(notebook(tmp_path, *cells), "--uri", rabbitmq_uri, *named)
    assert "elsewhere.an.svc2" in await ready(process)
    async with AmqBrokerConnector(rabbitmq_uri, "elsewhere", "test", "t") as fabric:
        assert await fabric.call("an.svc2.ping") == "pong"


async def test_a_failing_cell_ends_it(serve: Serve, tmp_path: Path) -> None:
    """A cell that raises ends it with 1 and the cell's traceback on stderr."""
    process = await serve(notebook(tmp_path, JOIN, "1 / 0", SERVE))
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 1
    assert b"ZeroDivisionError" in err
    assert out == b""


async def test_a_kernel_that_dies_ends_it(serve: Serve, rabbitmq_uri: str, tmp_path: Path) -> None:
    """When its kernel is killed it ends with 1, so that a supervisor starts it anew."""
    process = await serve(notebook(tmp_path, JOIN, SERVE))
    await ready(process)
    async with AmqBrokerConnector(rabbitmq_uri, DOMAIN, "test", "t") as fabric:
        kernel = await fabric.call("an.svc.pid")
    import os

    os.kill(kernel, signal.SIGKILL)
    async with asyncio.timeout(30):
        _, err = await process.communicate()
    assert process.returncode == 1
    assert b"died" in err


async def test_a_file_that_is_no_notebook_is_said(serve: Serve, tmp_path: Path) -> None:
    """What cannot be read is told in a sentence."""
    (tmp_path / "x.ipynb").write_text("no")
    process = await serve(str(tmp_path / "x.ipynb"))
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"cannot be read" in err
