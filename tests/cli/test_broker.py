"""Command `fabric-nb broker`, which runs, finds and stops the embedded broker."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.cli.output import BROKEN_PIPE


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment without a running embedded broker."""
    return {**os.environ, "FABRIC_NB_RUNTIME_DIR": str(tmp_path)}


async def command(
    environment: dict[str, str], *arguments: str, stdout: int = asyncio.subprocess.PIPE
) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fabric_nb.cli", "broker", *arguments,
        env=environment, stdout=stdout, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (out or b"").decode(), err.decode()


LEASE = """
from fabric_nb.broker.launch import ensure_broker
print(ensure_broker().pid, flush=True)
input()
"""


async def test_running_broker_is_found_and_stopped(environment: dict[str, str]) -> None:
    """`uri` prints the working URI of a notebook's broker; `stop` stops it at once."""
    assert await command(environment, "uri") == (1, "", "No embedded broker runs.\n")
    pipe = asyncio.subprocess.PIPE
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LEASE, env=environment, stdin=pipe, stdout=pipe
    )
    assert holder.stdout is not None
    assert (await holder.stdout.readline()).strip().isdigit()
    code, uri, _ = await command(environment, "uri")
    assert code == 0
    async with AmqBrokerConnector(uri.strip(), "d", "t", "one") as fabric:
        await fabric.serve({"twice": lambda x: 2 * x}, id="two")
        assert await fabric.call("d.t.two.twice", x=4) == 8
    reader, closed = os.pipe()
    os.close(reader)
    assert await command(environment, "uri", stdout=closed) == (BROKEN_PIPE, "", "")
    os.close(closed)
    assert await command(environment, "stop") == (0, "Stopped.\n", "")
    assert (await command(environment, "uri"))[0] == 1
    assert (await command(environment, "stop"))[0] == 1
    await holder.communicate(b"\n")


async def test_broker_in_the_foreground(environment: dict[str, str]) -> None:
    """In the foreground the broker accepts the given user and password."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fabric_nb.cli", "broker", "--user", "guest", "--password", "guest",
        env=environment, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert b"development" in await process.stdout.readline()
    address = (await process.stdout.readline()).decode().removeprefix("listening on ").strip()
    async with AmqBrokerConnector(f"amqp://guest:guest@{address}/", "d", "t", "one") as fabric:
        assert "embedded" in fabric.broker
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        assert await process.wait() == 0


@pytest.mark.parametrize("action", ["uri", "stop"])
async def test_unsafe_folder_is_reported_in_one_sentence(
    environment: dict[str, str], action: str
) -> None:
    """An unsafe runtime folder is refused with the reason, without a traceback."""
    Path(environment["FABRIC_NB_RUNTIME_DIR"]).chmod(0o777)  # noqa: ASYNC240 - one call
    code, out, err = await command(environment, action)
    assert (code, out) == (1, "")
    assert err.startswith("fabric-nb: the embedded broker cannot be looked for: others may write")
    assert err.count("\n") == 1
