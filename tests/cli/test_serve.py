"""Command `fabric-nb serve`, which runs a notebook as a service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.errors import CallError
from tests.cli.test_commands import DOMAIN, start
from tests.support.fabric import until, wait_for_service

JOIN = f"%load_ext fabric_nb\n%fabric_connect --domain {DOMAIN}"
SERVE = """%%fabric_serve --type an --id svc --version 1.0
import asyncio, os, pathlib

def pid():
    return os.getpid()

async def wait(folder):
    pathlib.Path(folder, f"began-{os.getpid()}").touch()
    while not pathlib.Path(folder, "go").exists():
        await asyncio.sleep(0.05)
    return "done"
"""

Serve = Callable[..., Awaitable[asyncio.subprocess.Process]]


def code(
    source: str | list[str], *, tags: Sequence[str] = (), cell_type: str = "code"
) -> dict[str, object]:
    """Return a cell of a notebook."""
    return {
        "cell_type": cell_type,
        "metadata": {"tags": tags} if tags else {},
        "outputs": [],
        "execution_count": None,
        "source": source,
    }


def notebook(folder: Path, *cells: str | dict[str, object]) -> str:
    """Write a notebook with these cells, and return its path."""
    path = folder / "service.ipynb"
    each = [code(cell) if isinstance(cell, str) else cell for cell in cells]
    path.write_text(json.dumps({"cells": each, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    return str(path)


@pytest.fixture
async def serve(rabbitmq_uri: str) -> AsyncIterator[Serve]:
    """Yield a function that runs `fabric-nb serve`; kill its processes at the end."""
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


async def test_notebook_serves_until_sigterm(
    serve: Serve, rabbitmq_uri: str, tmp_path: Path
) -> None:
    """It prints `ready` and its services; after SIGTERM calls end, and it exits with 0."""
    process = await serve(notebook(tmp_path, JOIN, SERVE), "--grace", "20")
    line = await ready(process)
    assert line.startswith("ready ")
    assert f"{DOMAIN}.an.svc" in line
    async with AmqBrokerConnector(rabbitmq_uri, DOMAIN, "test", "t") as fabric:
        await fabric.call("an.svc.pid")
        running = asyncio.create_task(fabric.call("an.svc.wait", folder=str(tmp_path), timeout=60))
        await until(lambda: list(tmp_path.glob("began-*")))
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(CallError):
            while True:  # until it accepts no further calls; one may be lost with its queue
                await fabric.call("an.svc.pid", timeout=60)
        assert not running.done()
        (tmp_path / "go").touch()
        assert await running == "done"
    async with asyncio.timeout(60):
        assert await process.wait() == 0


async def test_several_processes_are_a_clique(
    serve: Serve, rabbitmq_uri: str, tmp_path: Path
) -> None:
    """Two processes of a notebook are two instances of a service, which share the calls.

    The second has a URI with two nodes, of which the first is not reachable. The instance that
    receives SIGTERM accepts no further calls while its last one runs.
    """
    path = notebook(tmp_path, JOIN, SERVE)
    nodes = rabbitmq_uri.replace("@", "@127.0.0.1:1,")
    members = [await serve(path), await serve(path, "--uri", nodes)]
    for process in members:
        await ready(process)
    async with AmqBrokerConnector(rabbitmq_uri, DOMAIN, "test", "t") as fabric:
        pids = {await fabric.call("an.svc.pid") for _ in range(8)}
        assert len(pids) == 2
        running = [
            asyncio.create_task(fabric.call("an.svc.wait", folder=str(tmp_path), timeout=60))
            for _ in range(2)
        ]
        await until(lambda: len(list(tmp_path.glob("began-*"))) == 2)
        members[0].send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            while len(remaining := {await fabric.call("an.svc.pid") for _ in range(8)}) == 2:
                pass
        assert remaining < pids
        assert not any(call.done() for call in running)
        (tmp_path / "go").touch()
        assert await asyncio.gather(*running) == ["done", "done"]


async def test_options_name_the_service(serve: Serve, rabbitmq_uri: str, tmp_path: Path) -> None:
    """`--uri`, `--domain`, `--type` and `--id` are defaults for the notebook."""
    cells = "%load_ext fabric_nb\n%fabric_connect", "%%fabric_serve\ndef ping(): return 'pong'"
    named = ("--domain", "elsewhere", "--type", "an", "--id", "svc2")
    process = await serve(notebook(tmp_path, *cells), "--uri", rabbitmq_uri, *named)
    assert "elsewhere.an.svc2" in await ready(process)
    async with AmqBrokerConnector(rabbitmq_uri, "elsewhere", "test", "t") as fabric:
        assert await fabric.call("an.svc2.ping") == "pong"


async def test_failing_cell(serve: Serve, tmp_path: Path) -> None:
    """If a cell raises, it prints the traceback on stderr and exits with 1."""
    process = await serve(notebook(tmp_path, JOIN, "1 / 0", SERVE))
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 1
    assert b"ZeroDivisionError" in err
    assert out == b""


async def test_dying_kernel(serve: Serve, rabbitmq_uri: str, tmp_path: Path) -> None:
    """If the kernel is killed, it exits with 1, so that a supervisor restarts it."""
    process = await serve(notebook(tmp_path, JOIN, SERVE))
    await ready(process)
    async with AmqBrokerConnector(rabbitmq_uri, DOMAIN, "test", "t") as fabric:
        kernel = await fabric.call("an.svc.pid")
    import os

    os.kill(kernel, signal.SIGKILL)
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert process.returncode == 1
    assert b"died" in err


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("no", "cannot be read: Expecting value"),
        ("[]", "cannot be read: it is not a notebook."),
        ('{"nbformat": 4, "metadata": {}, "cells": [1]}', "it is not a notebook."),
        (
            '{"nbformat": 4, "metadata": {}, "cells": [{"cell_type": "code"}]}',
            "it is not a notebook.",
        ),
        ('{"nbformat": 3, "worksheets": []}', "it has notebook format 3, not 4; convert it with"),
        (
            '{"nbformat": 4, "metadata": {"kernelspec": {"name": "absent"}}, "cells": []}',
            "There is no kernel 'absent' here",
        ),
    ],
)
async def test_invalid_notebook_file(
    serve: Serve, tmp_path: Path, content: str, reason: str
) -> None:
    """A file that is not a notebook is reported in a sentence."""
    (tmp_path / "x.ipynb").write_text(content)
    process = await serve(str(tmp_path / "x.ipynb"))
    _, err = await process.communicate()
    assert process.returncode == 1
    assert reason in err.decode()
    assert len(err.splitlines()) == 1


async def test_tags_of_cells(serve: Serve, tmp_path: Path) -> None:
    """Cells may be skipped, or may raise, as their tags say; text and empty cells are not run."""
    path = notebook(
        tmp_path,
        code("1 / 0", tags=["skip-execution"]),
        JOIN,
        code("1 / 0", tags=["raises-exception"]),
        " ",
        code("# Text", cell_type="markdown"),
        code(SERVE.splitlines(keepends=True)),
    )
    assert f"{DOMAIN}.an.svc" in await ready(await serve(path))


async def test_stopping_while_a_cell_runs(serve: Serve, rabbitmq_uri: str, tmp_path: Path) -> None:
    """After SIGTERM during a cell it ends at once, with 0."""
    process = await serve(notebook(tmp_path, JOIN, SERVE, "import time; time.sleep(300)"))
    async with AmqBrokerConnector(
        rabbitmq_uri, DOMAIN, "test", "t", keep_alive_listen=True, timeout=60
    ) as fabric:
        await wait_for_service(fabric, "an.svc", timeout=60)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        assert await process.wait() == 0
