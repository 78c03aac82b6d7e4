"""Options that commands share with the magics, on RabbitMQ; the commands run in this process."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aio_pika
import pandas as pd
import pytest

from fabric_nb import AmqBrokerConnector, AmqpHandler
from fabric_nb.cli.commands import call_method, list_services, print_logs, print_rows
from fabric_nb.cli.parser import command_parser
from fabric_nb.errors import FabricError, InvalidArgument
from tests.support.peers import DOMAIN, Peer
from tests.support.rabbitmq import RabbitMq

COMMANDS = {
    "services": list_services,
    "call": call_method,
    "stream": print_rows,
    "logs": print_logs,
}


async def run(fabric: AmqBrokerConnector, *line: str) -> None:
    """Run a command on an open connector."""
    options = command_parser().parse_args(line)
    async with asyncio.timeout(60):
        assert await COMMANDS[line[0]](fabric, options) == 0


def printed(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    """Return the lines of JSON printed since the last call."""
    out, err = capsys.readouterr()
    assert err == ""
    return [json.loads(line) for line in out.splitlines()]


async def bound(rabbitmq: RabbitMq, vhost: str, exchange: str, queues: int = 1) -> None:
    """Wait until this many queues are bound to an exchange."""
    async with asyncio.timeout(60):
        while True:
            bindings = await asyncio.to_thread(rabbitmq.list_bindings, vhost)
            if (
                len({each["destination"] for each in bindings if each["source"] == exchange})
                >= queues
            ):
                return
            await asyncio.sleep(0.05)


async def consumed(uri: str, rabbitmq: RabbitMq, vhost: str, exchange: str, by: int) -> None:
    """Wait until a number of consumers read the one queue that is bound to an exchange."""
    await bound(rabbitmq, vhost, exchange)
    bindings = await asyncio.to_thread(rabbitmq.list_bindings, vhost)
    (queue,) = {each["destination"] for each in bindings if each["source"] == exchange}
    async with asyncio.timeout(60), await aio_pika.connect(uri) as connection:
        channel = await connection.channel()
        while True:
            declared = await channel.declare_queue(queue, passive=True)
            if declared.declaration_result.consumer_count == by:
                return
            await asyncio.sleep(0.02)


@pytest.fixture
async def fabric(rabbitmq_uri: str) -> AsyncIterator[AmqBrokerConnector]:
    """Connector with the settings of a command."""
    async with AmqBrokerConnector(
        rabbitmq_uri, DOMAIN, "cli", "c", keep_alive_listen=True, timeout=40
    ) as connector:
        yield connector


async def test_services_of_all_domains_and_gone_ones(
    rabbitmq_uri: str, fabric: AmqBrokerConnector, capsys: pytest.CaptureFixture[str]
) -> None:
    """`services` lists all domains, or one; with `--gone` also services that are gone."""
    alive = {"keep_alive_seconds": 0.3}
    gone = asyncio.Event()

    async def on_keep_alive(_: object) -> None:
        gone.set()

    fabric.subscribe_service_keepalives("app", on_keep_alive, service_id="leaving")
    async with (
        AmqBrokerConnector(rabbitmq_uri, DOMAIN, "app", "home", **alive),
        AmqBrokerConnector(rabbitmq_uri, "abroad", "app", "staying", **alive),
    ):
        async with (
            AmqBrokerConnector(rabbitmq_uri, "abroad", "app", "leaving", **alive),
            asyncio.timeout(60),
        ):
            await gone.wait()
        await run(fabric, "services", "--json", "--wait", "0.7")
        (everywhere,) = printed(capsys)
        await run(fabric, "services", "--json", "--wait", "0", "--gone", "--domain", "abroad")
        (abroad,) = printed(capsys)
    names = {(each["domain"], each["id"]) for each in everywhere}
    assert {("abroad", "staying"), (DOMAIN, "home")} <= names
    assert ("abroad", "leaving") not in names
    states = {(each["domain"], each["id"]): each["state"] for each in abroad}
    assert states == {("abroad", "leaving"): "gone", ("abroad", "staying"): "up"}


async def test_idempotent_call_is_retried(
    rabbitmq_uri: str,
    fabric: AmqBrokerConnector,
    start_peer: Callable[..., Awaitable[Peer]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`call --idempotent` retries a call whose service died."""
    peer = await start_peer("fabric_calc", rabbitmq_uri, id="mortal")
    line = ("call", "--idempotent", "calc.mortal.slow", "seconds=1")
    calling = asyncio.create_task(run(fabric, *line))
    await peer.event("slow_began")
    peer.kill()
    successor = await start_peer("fabric_calc", rabbitmq_uri, id="mortal")
    await calling
    assert printed(capsys) == [successor.pid]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("call", "-i", "--stream", "a.b.c"), "--idempotent is not for --stream"),
        (("call", "--no-cancel", "--stream", "a.b.c"), "--no-cancel is not for --stream"),
        (("call", "--count", "1", "a.b.c"), "--count is for --stream"),
    ],
)
async def test_contradictory_options(
    fabric: AmqBrokerConnector, line: tuple[str, ...], message: str
) -> None:
    """Contradictory options are refused before the call is sent."""
    with pytest.raises(InvalidArgument, match=message):
        await run(fabric, *line)


@pytest.mark.parametrize("line", ["stream -n 0", "logs -n none", "call -n -1 a.b.c"])
def test_invalid_count(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid count is reported with the usage."""
    with pytest.raises(SystemExit):
        command_parser().parse_args(line.split())
    assert "is not a number from 1 upward" in capsys.readouterr().err


async def test_logs_are_filtered_and_counted(
    rabbitmq: RabbitMq,
    vhost: str,
    rabbitmq_uri: str,
    fabric: AmqBrokerConnector,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`logs` prints records of a service and level, and at most --count of those received."""

    async def log_all() -> None:
        for kind, levels in ("other", ["ERROR"]), ("app", ["INFO", "WARNING", "ERROR", "ERROR"]):
            async with AmqBrokerConnector(rabbitmq_uri, DOMAIN, kind, "one") as member:
                handler = AmqpHandler()
                await member.init_logging_handler(handler)
                for level in levels:
                    number = getattr(logging, level)
                    text = f"{level} of {kind}"
                    handler.emit(logging.LogRecord("l", number, __file__, 1, text, None, None))

    narrow = ("--service", "app.one", "--level", "WARNING", "--count", "1")
    readers = [
        asyncio.create_task(run(fabric, "logs", *options))
        for options in (narrow, ("--json", "-n", "3"))
    ]
    await bound(rabbitmq, vhost, f"{DOMAIN}.log.records", queues=2)
    # The loop is blocked meanwhile, so that all records are waiting when it resumes.
    logging_all = threading.Thread(target=lambda: asyncio.run(log_all()), daemon=True)
    logging_all.start()
    logging_all.join(30)
    await asyncio.gather(*readers)
    lines = capsys.readouterr().out.splitlines()
    (text,) = [line for line in lines if not line.startswith("{")]
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARNING  app\.one WARNING of app", text), text
    records = [json.loads(line) for line in lines if line.startswith("{")]
    assert [(each["service_type"], each["level"], each["message"]) for each in records] == [
        ("other", "ERROR", "ERROR of other"),
        ("app", "INFO", "INFO of app"),
        ("app", "WARNING", "WARNING of app"),
    ]


async def test_durable_stream(
    fabric: AmqBrokerConnector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`stream --durable` reads --count of the stored rows, records them, and leaves the rest."""
    record = tmp_path / "two.jsonl"
    durable = ("stream", "--name", "kept", "--durable", "kind=X")
    with pytest.raises(FabricError, match="needs a name"):
        await run(fabric, "stream", "--durable")
    await (await fabric.stream(kind="X", name="kept", durable=True)).close()
    await asyncio.gather(*(fabric.publish_data({"n": n}, {"kind": "X"}) for n in range(300)))
    await run(fabric, *durable, "--with-headers", "--arrival", "-n", "2", "--record", str(record))
    first, second = printed(capsys)
    assert (first["n"], second["n"]) == (0, 1)
    assert (first["header.kind"], first["header.service_id"]) == ("X", "c")
    age = pd.Timestamp.now("UTC") - pd.Timestamp(first["arrival"])
    assert 0 <= age.total_seconds() < 60
    assert len(record.read_text().splitlines()) == 1 + 2  # a header line, and the messages
    await run(fabric, *durable, "--count", "298")
    assert sorted(row["n"] for row in printed(capsys)) == list(range(2, 300))


async def test_stream_is_replayed(
    fabric: AmqBrokerConnector, capsys: pytest.CaptureFixture[str]
) -> None:
    """`stream --replay-from` starts at the first stored message, or at an offset."""
    await (await fabric.stream(name="log", replay_from="first")).close()
    for n in range(3):
        await fabric.publish_data({"n": n})
    for begin, expected in ("first", [0, 1, 2]), ("1", [1, 2]):
        line = ("stream", "--name", "log", "--replay-from", begin, "-n", str(len(expected)))
        await run(fabric, *line)
        assert [row["n"] for row in printed(capsys)] == expected


async def test_streams_share_a_name(
    rabbitmq: RabbitMq,
    rabbitmq_uri: str,
    vhost: str,
    fabric: AmqBrokerConnector,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Readers of `stream --name` share the messages."""
    line = ("stream", "--name", "shared", "-n", "2")
    readers = [asyncio.create_task(run(fabric, *line)) for _ in range(2)]
    await consumed(rabbitmq_uri, rabbitmq, vhost, fabric.data_exchange, by=2)
    for n in range(4):
        await fabric.publish_data({"n": n})
    await asyncio.gather(*readers)
    assert sorted(row["n"] for row in printed(capsys)) == [0, 1, 2, 3]
