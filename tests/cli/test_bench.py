"""`fabric-nb bench`: a method is measured, and its figures are printed."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import termios
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from fabric_nb import AmqBrokerConnector
from tests.cli.test_commands import DOMAIN, command, run, start
from tests.support.peers import Peer
from tests.unit.test_terminal_gate import ALL, harmless


class Shop:
    """Functions of ``shop.main``."""

    def __init__(self) -> None:
        self.calls = 0
        self.changed = asyncio.Event()
        self.gate = asyncio.Event()

    def quote(self, sku: str, amount: int = 1) -> dict[str, object]:
        self.calls += 1
        return {"sku": sku, "amount": amount}

    async def wait(self, free: int) -> None:
        """Wait until the gate is open; the first `free` calls do not wait."""
        self.calls += 1
        self.changed.set()
        if self.calls > free:
            await self.gate.wait()

    def fail(self) -> None:
        self.calls += 1
        if self.calls > 1:
            raise ValueError(ALL.encode(errors="replace").decode())

    async def called(self, times: int) -> None:
        """Wait for calls of `wait`."""
        async with asyncio.timeout(60):
            while self.calls < times:
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def shop(rabbitmq_uri: str) -> AsyncIterator[Shop]:
    """Serve them, 100 calls of each at the same time."""
    shop = Shop()
    async with AmqBrokerConnector(
        rabbitmq_uri, DOMAIN, "test", "t", keep_alive_seconds=0.5
    ) as fabric:
        await fabric.serve(shop, type="shop", id="main", prefetch=100)
        yield shop


async def test_figures_as_text(rabbitmq_uri: str, shop: Shop) -> None:
    """It prints rate, latencies, a histogram and the instances."""
    arguments = ("main.quote", "sku=tea", "amount=2", "--calls", "50", "--in-flight", "4", "--yes")
    done = await run(rabbitmq_uri, "bench", *arguments)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith(f"{DOMAIN}.shop.main.quote · done · ")
    assert "50 calls in" in lines[0]
    assert lines[2].split() == ["min", "mean", "p50", "p90", "p95", "p99", "max"]
    assert any("█" in line for line in lines)
    assert shop.calls == 51


async def test_figures_as_json(rabbitmq_uri: str, shop: Shop) -> None:
    """With `--json` it prints one object for other programs."""
    arguments = ("main.quote", "sku=tea", "--seconds", "0.3", "--warmup", "0.1", "-y", "--json")
    done = await run(rabbitmq_uri, "bench", *arguments)
    assert (done.code, done.err) == (0, "")
    result = json.loads(done.out)
    assert (result["state"], result["errors"]) == ("done", {})
    assert 0 < result["calls"] < shop.calls
    assert result["latency_ms"]["p50"] > 0
    assert sum(one["calls"] for one in result["histogram"]) == result["calls"]
    assert sum(one["calls"] for one in result["instances"]) == result["calls"]


async def test_calls_that_fail(rabbitmq_uri: str, shop: Shop) -> None:
    """The exit code is 1 if a call failed, and texts of the service control no terminal."""
    done = await run(rabbitmq_uri, "bench", "main.fail", "--calls", "5", "--yes")
    assert (done.code, done.err) == (1, "")
    assert "5 RemoteError (ValueError)" in done.out
    assert harmless(done.out)
    assert shop.calls == 6


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("main.quote", "sku=a"), 1, "would be called for 10 s"),
        (("main.quote", "sku=a", "-y", "--in-flight", "0"), 2, "not a number from 1 upward"),
        (("main.quote", "sku=a", "-y", "--seconds", "nan"), 2, "not a time in seconds"),
        (("main.quote", "sku=a", "-y", "--rate", "x"), 2, "not a number per second"),
        (("main.quote", "-y"), 1, "sku"),
        (("main.quotes", "-y"), 1, "has no method"),
        (("nothing.quote", "-y"), 1, "No service"),
        (("main.quote", "sku", "-y"), 1, "not of the form name=value"),
    ],
)
@pytest.mark.usefixtures("shop")
async def test_what_cannot_be_measured(
    rabbitmq_uri: str, arguments: tuple[str, ...], code: int, text: str
) -> None:
    """A method that cannot be measured is an error of one sentence, without figures."""
    done = await run(rabbitmq_uri, "bench", *arguments)
    assert (done.code, done.out) == (code, "")
    assert text in done.err


@pytest.mark.parametrize("as_json", [True, False])
async def test_interrupt(rabbitmq_uri: str, shop: Shop, as_json: bool) -> None:
    """Ctrl-C prints the figures so far, and ends with the code 130."""
    options = ("--in-flight", "2", "--seconds", "600", "--warmup", "0", "-y")
    more = ("--json",) if as_json else ()
    process = await start(rabbitmq_uri, "bench", "main.wait", "free=20", *options, *more)
    await shop.called(22)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")
    if as_json:
        result = json.loads(out)
        assert (result["state"], result["calls"], result["cancelled"]) == ("interrupted", 19, 2)
    else:
        assert "interrupted" in out.decode()
        assert "2 calls were under way at the end and were cancelled." in out.decode()


async def test_line_of_a_terminal(rabbitmq_uri: str, shop: Shop) -> None:
    """A terminal shows the figures while it is under way, and afterwards only the result."""
    line, environment = command(
        rabbitmq_uri, "bench", "main.wait", "free=20", "--calls", "30", "-y"
    )
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (50, 160))
    process = await asyncio.create_subprocess_exec(
        *line,
        env={**environment, "TERM": "xterm"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=end,
    )
    os.close(end)
    drawn = b""
    async with asyncio.timeout(60):
        while "19 calls in" not in drawn.decode(errors="ignore"):
            drawn += await asyncio.to_thread(os.read, terminal, 65536)
        shop.gate.set()
        out, _ = await process.communicate()
    os.close(terminal)
    assert process.returncode == 0
    assert "30 calls in" in out.decode()
    assert f"{DOMAIN}.shop.main.wait  " in drawn.decode(errors="ignore")


async def test_a_service_of_amqp_fabric(
    rabbitmq_uri: str, start_peer: Callable[..., Awaitable[Peer]]
) -> None:
    """Services of amqp-fabric are measured in the same way; their instances are not known."""
    await start_peer("calc_service", rabbitmq_uri, keep_alive=0.3)
    arguments = ("calc1.divide", "x=6", "y=2", "--calls", "40", "--yes", "--json")
    done = await run(rabbitmq_uri, "bench", *arguments)
    assert done.code == 0
    instances = json.loads(done.out)["instances"]
    assert [(one["instance"], one["calls"]) for one in instances] == [("", 40)]
