"""`fabric-nb map`: a method is called for each line of the standard input."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fabric_nb import AmqBrokerConnector, Server
from fabric_nb.cli import maps
from fabric_nb.cli.output import BROKEN_PIPE
from tests.cli.test_commands import DOMAIN, command, run, start
from tests.support.fabric import until
from tests.support.peers import Peer
from tests.unit.test_terminal_gate import ALL, harmless

PRICES = {"beer": 2.5, "wine": 7.0, "milk": 1.25}


class Pricing:
    """Functions of ``shop.pricing``."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.received: list[int] = []
        self.changed = asyncio.Event()
        self.server: Server | None = None

    def quote(self, sku: str, amount: int = 1, country: str = "DE") -> dict[str, object]:
        return {"total": PRICES[sku] * amount, "country": country}

    async def wait(self, n: int) -> int:
        """Return n; 0 and 1000 wait until the gate is open."""
        self.received.append(n)
        self.changed.set()
        if n in (0, 1000):
            await self.gate.wait()
        return n

    def fail(self, text: str) -> None:
        raise ValueError(text)

    def table(self, n: int) -> pd.DataFrame:
        return pd.DataFrame({"n": [n]}, index=["a"])


@pytest.fixture
async def pricing(rabbitmq_uri: str) -> AsyncIterator[Pricing]:
    """Return the functions, and serve them, 100 calls of each at the same time."""
    pricing = Pricing()
    async with AmqBrokerConnector(
        rabbitmq_uri, DOMAIN, "test", "t", keep_alive_seconds=0.5
    ) as fabric:
        pricing.server = await fabric.serve(pricing, type="shop", id="pricing", prefetch=100)
        yield pricing


@pytest.fixture
def server(pricing: Pricing) -> Server:
    """Server of the functions."""
    assert pricing.server is not None
    return pricing.server


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def results(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.usefixtures("pricing")
async def test_each_line_is_a_call(rabbitmq_uri: str) -> None:
    """A line of JSON is printed for each line, in their order, with constants from the command."""
    rows = [{"sku": "beer", "amount": 2}, {"sku": "wine", "country": "FR"}, {"sku": "milk"}]
    done = await run(rabbitmq_uri, "map", "pricing.quote", "country=AT", given=lines(rows))
    assert (done.code, done.err) == (0, "")
    found = results(done.out)
    assert [list(each) for each in found] == [["line", "result", "ms", "instance"]] * 3
    assert [each["line"] for each in found] == [1, 2, 3]
    assert [each["result"] for each in found] == [
        {"total": 5.0, "country": "AT"},
        {"total": 7.0, "country": "FR"},
        {"total": 1.25, "country": "AT"},
    ]
    assert all(each["ms"] > 0 for each in found)
    assert re.fullmatch(r"[0-9a-f]{8}", found[0]["instance"])
    none = await run(rabbitmq_uri, "map", "pricing.quote")
    assert (none.code, none.out, none.err) == (0, "", "")


@pytest.mark.usefixtures("pricing")
async def test_results_that_are_tables(rabbitmq_uri: str) -> None:
    """A DataFrame is printed as its records, with its index, as by `fabric-nb call`."""
    done = await run(rabbitmq_uri, "map", "pricing.table", given='{"n": 5}\n')
    assert results(done.out)[0]["result"] == [{"index": "a", "n": 5}]


@pytest.mark.usefixtures("pricing")
async def test_lines_that_fail(rabbitmq_uri: str) -> None:
    """A failed line stops nothing: its error is printed with its number, and the exit code is 1."""
    given = (
        '{"sku": "beer"}\n'
        "\n"  # blank lines are no rows
        '{"sku": "rum"}\r\n'
        "sku=beer\n"
        "[1, 2]\n"
        '{"sku": "beer", "size": 3}\n'
        '{"amount": NaN, "sku": "beer"}\n'
        '{"sku": "milk"}'  # without a newline
    )
    done = await run(rabbitmq_uri, "map", "pricing.quote", given=given)
    assert done.code == 1
    found = results(done.out)
    assert [each["line"] for each in found] == [1, 3, 4, 5, 6, 7, 8]
    assert ["result" in each for each in found] == [True, False, False, False, False, True, True]
    errors = {each["line"]: each["error"] for each in found if "error" in each}
    assert errors[3] == "RemoteKeyError: my_project.shop.pricing.quote: KeyError('rum')"
    assert errors[4] == "InvalidArgument: 'sku=beer' is not a JSON object of keywords."
    assert errors[5] == "InvalidArgument: '[1, 2]' is not a JSON object of keywords."
    assert errors[6].startswith("RemoteTypeError: ")
    *printed, summary = done.err.splitlines()
    assert sorted(printed)[:3] == [
        "fabric-nb: line 3: my_project.shop.pricing.quote: KeyError('rum')",
        "fabric-nb: line 4: 'sku=beer' is not a JSON object of keywords.",
        "fabric-nb: line 5: '[1, 2]' is not a JSON object of keywords.",
    ]
    assert len(printed) == 4
    assert summary == "fabric-nb: 4 of 7 calls failed."


@pytest.mark.usefixtures("pricing")
async def test_many_errors_are_printed_in_part(rabbitmq_uri: str) -> None:
    """The first errors are printed, and all of them are in the results."""
    done = await run(rabbitmq_uri, "map", "pricing.quote", given=lines([{"sku": "rum"}] * 50))
    assert len(results(done.out)) == 50
    *printed, more, summary = done.err.splitlines()
    assert len(printed) == maps.MAX_ERRORS
    assert more == "fabric-nb: further errors are in the results."
    assert summary == "fabric-nb: 50 of 50 calls failed."


@pytest.mark.usefixtures("pricing")
async def test_the_first_error_can_stop_it(rabbitmq_uri: str) -> None:
    """With `--on-error raise` no more lines are called after one has failed."""
    rows = [{"sku": "beer"}, {"sku": "rum"}, *[{"sku": "beer"}] * 500]
    line = ("map", "pricing.quote", "--on-error", "raise", "--in-flight", "1")
    done = await run(rabbitmq_uri, *line, given=lines(rows))
    assert done.code == 1
    assert [each["line"] for each in results(done.out)] == [1, 2]
    assert done.err.splitlines()[0].startswith("fabric-nb: line 2: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pricings.quote"], "pricings"),
        (["pricing.quotes"], "did you mean quote"),
        (["pricing.quote", "country"], "name=value"),
        (["pricing.quote", "--retries", "2"], "--idempotent"),
        (["pricing.quote", "--version", ">=2"], ">=2"),
    ],
)
@pytest.mark.usefixtures("pricing")
async def test_errors_are_one_sentence(
    rabbitmq_uri: str, arguments: list[str], message: str
) -> None:
    """A command that cannot be run prints one sentence."""
    done = await run(rabbitmq_uri, "map", *arguments, "-t", "2", given='{"sku": "beer"}\n')
    assert (done.code, done.out) == (1, "")
    assert message in done.err
    assert len(done.err.splitlines()) == 1


async def test_results_are_printed_as_they_arrive(rabbitmq_uri: str, pricing: Pricing) -> None:
    """Lines are called while the input is open; with `--unordered` a slow one delays no other."""
    process = await start(rabbitmq_uri, "map", "pricing.wait", "--unordered")
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(60):
        for n in (1, 0, 2):
            process.stdin.write(b'{"n": %d}\n' % n)
            await process.stdin.drain()
            if n:
                assert json.loads(await process.stdout.readline())["result"] == n
        process.stdin.close()
        pricing.gate.set()
        assert json.loads(await process.stdout.readline())["line"] == 2
        assert await process.wait() == 0


async def test_a_slow_line_keeps_its_place(rabbitmq_uri: str, pricing: Pricing) -> None:
    """Results wait for those of earlier lines."""
    process = await start(rabbitmq_uri, "map", "pricing.wait", "--in-flight", "4")
    assert process.stdin is not None
    process.stdin.write(lines([{"n": n} for n in range(100)]).encode())
    process.stdin.close()
    async with asyncio.timeout(60):
        while len(pricing.received) < 100:
            pricing.changed.clear()
            await pricing.changed.wait()
        pricing.gate.set()
        out, _ = await process.communicate()
    assert [each["result"] for each in results(out.decode())] == list(range(100))


async def test_interrupt(rabbitmq_uri: str, pricing: Pricing) -> None:
    """Ctrl-C prints what is done, says what is not, and ends with the code 130."""
    process = await start(rabbitmq_uri, "map", "pricing.wait", "--in-flight", "2", "-i")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(lines([{"n": n} for n in (1, 2, 0, 3, 4, 1000)]).encode())
    await process.stdin.drain()  # and it stays open
    async with asyncio.timeout(60):
        printed = [await process.stdout.readline() for _ in range(2)]
        while 1000 not in pricing.received:  # the reply of the row before has arrived
            pricing.changed.clear()
            await pricing.changed.wait()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    lines_done = [each["line"] for each in results(b"".join([*printed, out]).decode())]
    assert lines_done == [1, 2, 4, 5]
    assert err.decode() == (
        "fabric-nb: interrupted: 4 rows are done. The 2 rows under way were stopped.\n"
    )
    assert process.returncode == 130


async def test_a_pipe_that_is_closed(rabbitmq_uri: str, pricing: Pricing, server: Server) -> None:
    """`fabric-nb map ... | head -1` ends with head, without a word, and cancels the calls."""
    given, rows = os.pipe()
    out, end = os.pipe()
    process = await start(
        rabbitmq_uri, "map", "pricing.wait", "--in-flight", "2", stdin=given, stdout=end
    )
    os.close(given)
    os.close(end)
    os.write(rows, lines([{"n": n} for n in (1, 0, 1000)]).encode())  # and it stays open
    async with asyncio.timeout(60):
        assert json.loads(await asyncio.to_thread(os.read, out, 1000))["line"] == 1
        while not {0, 1000} <= set(pricing.received):
            pricing.changed.clear()
            await pricing.changed.wait()
        os.close(out)
        _, err = await process.communicate()
    os.close(rows)
    assert (process.returncode, err) == (BROKEN_PIPE, b"")
    await until(lambda: server.stats["wait"].cancelled == 2)


@pytest.mark.parametrize("redirected", [True, False])
async def test_bar_on_a_terminal(
    rabbitmq_uri: str, pricing: Pricing, tmp_path: Path, redirected: bool
) -> None:
    """On a terminal a bar is drawn beside the errors, if the results go elsewhere."""
    pricing.gate.set()
    given = tmp_path / "rows.jsonl"
    given.write_text(lines([{"n": n} for n in range(20)]) + "wrong\n")
    line, environment = command(rabbitmq_uri, "map", "pricing.wait")
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (50, 120))
    with given.open("rb") as file:
        process = await asyncio.create_subprocess_exec(
            *line,
            env={**environment, "TERM": "xterm"},
            stdin=file,
            stdout=asyncio.subprocess.PIPE if redirected else end,
            stderr=end,
        )
    os.close(end)
    reading = asyncio.create_task(asyncio.to_thread(_read_all, terminal))
    async with asyncio.timeout(60):
        await process.communicate()
        drawn = (await reading).decode()
    os.close(terminal)
    assert process.returncode == 1
    assert "line 21: 'wrong' is not a JSON object" in drawn
    bar = f"pricing.wait  {'█' * 24}  21 of 21 rows · 1 failed · "
    assert (bar in drawn) == redirected


def _read_all(terminal: int) -> bytes:
    read = b""
    try:
        while some := os.read(terminal, 65536):
            read += some
    except OSError:  # the other end is closed
        pass
    return read


@pytest.mark.usefixtures("pricing")
async def test_remote_text_is_sanitized(rabbitmq_uri: str) -> None:
    """Errors of a service, and lines, are printed without characters that control a terminal."""
    text = ALL.encode(errors="surrogatepass").decode(errors="replace")
    given = f"{json.dumps({'text': text})}\n{text}\n"
    done = await run(rabbitmq_uri, "map", "pricing.fail", given=given)
    assert done.code == 1
    assert harmless(done.err)
    assert done.out.isascii()


async def test_a_service_of_amqp_fabric(
    rabbitmq_uri: str, start_peer: Callable[..., Awaitable[Peer]]
) -> None:
    """Services of amqp-fabric are called in the same way, and their instances are not known."""
    await start_peer("calc_service", rabbitmq_uri, keep_alive=0.3)
    rows = [{"x": 6, "y": y} for y in (1, 0, 2)]
    done = await run(rabbitmq_uri, "map", "calc1.divide", given=lines(rows))
    found = results(done.out)
    assert [each.get("result") for each in found] == [6.0, None, 3.0]
    assert found[1]["error"].startswith("RemoteZeroDivisionError: ")
    assert {each["instance"] for each in found} == {""}
