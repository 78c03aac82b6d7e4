"""Each command imports only what it needs, so that it starts at once."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pandas as pd
import pytest

from fabric_nb import AmqBrokerConnector
from tests.broker.process import BrokerProcess
from tests.cli.test_commands import DOMAIN, command
from tests.cli.test_serve import JOIN, SERVE, notebook

HEAVY = {"pandas", "numpy", "pyarrow", "IPython", "nbformat", "nbclient", "jsonschema", "rich"}
NETWORK = {"asyncio", "ssl", "aiormq", "aio_pika", "yarl", "orjson", "fabric_nb.broker.server"}
COMMANDS = "broker serve services call map stream logs doctor publish completion"
_IMPORT = re.compile(r"^import time: .*\|\s+(\S+)$", re.MULTILINE)


async def run(uri: str, *arguments: str, **environment: str) -> tuple[str, set[str]]:
    """Run a command to its end; return its output and the modules that it has imported."""
    process = await start(uri, *arguments, **environment)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-2000:]
    return out.decode(), set(_IMPORT.findall(err.decode()))


async def start(uri: str, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
    (python, *line), inherited = command(uri, *arguments)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *(python, "-X", "importtime", *line),
        env={**inherited, **environment},
        stdout=pipe,
        stderr=pipe,
    )


@pytest.mark.parametrize(
    "line", ["--help", "--version", *(f"{name} --help" for name in COMMANDS.split())]
)
async def test_help(line: str) -> None:
    """Help and version are printed by the parser alone."""
    out, imported = await run("", *line.split())
    assert "fabric-nb" in out
    assert imported & (HEAVY | NETWORK) == set()


async def test_completion(tmp_path: Path) -> None:
    """Completion is computed by the parser alone."""
    line = "fabric-nb call --ti"
    _, imported = await run(
        "",
        _ARGCOMPLETE="1",
        _ARGCOMPLETE_STDOUT_FILENAME=str(tmp_path / "found"),
        COMP_LINE=line,
        COMP_POINT=str(len(line)),
    )
    assert (tmp_path / "found").read_text().strip() == "--timeout"
    assert "argcomplete" in imported
    assert imported & (HEAVY | NETWORK) == set()


@pytest.fixture
async def uri() -> AsyncIterator[str]:
    """Yield the URI of an embedded broker with a service."""
    functions = {"greet": lambda: "hello", "table": lambda: pd.DataFrame({"n": [1]})}
    with BrokerProcess() as broker:
        async with AmqBrokerConnector(
            broker.uri, DOMAIN, "app", "one", keep_alive_seconds=60, keep_alive_listen=True
        ) as connector:
            await connector.serve(functions, type="hello", id="h1")
            yield broker.uri


async def test_commands_without_dataframes(uri: str) -> None:
    """Calls, lists, messages and checks need no pandas; a call that returns a DataFrame does."""
    lines = (
        ("call", "h1.greet"),
        ("services", "--wait", "0.5"),
        ("services", "--wait", "0.5", "--json"),
        ("publish", "kind=A", "--data", '{"n": 1}'),
        ("doctor", "--wait", "0.5"),
    )
    for line in lines:
        out, imported = await run(uri, *line)
        assert imported & HEAVY == set(), line
        assert line[0] == "publish" or out
    out, imported = await run(uri, "call", "hello.h1.table")
    assert "pandas" in imported
    assert out.split() == ["n", "0", "1"]


async def test_serve(uri: str, tmp_path: Path) -> None:
    """`fabric-nb serve` reads the notebook and runs its kernel without nbformat and pandas."""
    process = await start(uri, "serve", notebook(tmp_path, JOIN, SERVE))
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert (await process.stdout.readline()).startswith(b"ready ")
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
    assert process.returncode == 0
    imported = set(_IMPORT.findall(err.decode()))
    assert "jupyter_client" in imported
    assert imported & HEAVY == set()
