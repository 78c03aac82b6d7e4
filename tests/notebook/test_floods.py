"""Floods of messages from a peer: views stay responsive and small, and note what they omit."""

from __future__ import annotations

import ast
import json
import re
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import aio_pika
import psutil
import pytest
import pytest_asyncio

from fabric_nb.fabric.discovery.registry import MAX_SERVICES
from fabric_nb.fabric.logs.handler import CAPACITY
from tests.faults.hostile import MARKUP, Hostile, Reply
from tests.notebook.notebooks import Notebook
from tests.support.cells import Cell
from tests.support.peers import DOMAIN
from tests.support.storm import Storm

if TYPE_CHECKING:
    from tests.support.rabbitmq import RabbitMq

YEAR_9999 = 253_402_300_799
SHOWN = 20
"""Rows in the static copy of a view."""
SMALL = 150_000
"""Maximum characters of a static copy."""
STORM, STORM_RATE = 30_000, 50_000
"""Number of records, and their rate per second if the machine is fast enough."""
STORM_BYTES = 100_000_000
"""Maximum seconds for a kernel to retain the last 10,000 records and show the last 1,000."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def place(rabbitmq: RabbitMq) -> AsyncIterator[str]:
    """URI of a separate virtual host."""
    with rabbitmq.private_vhost() as vhost:
        yield rabbitmq.uri_for(vhost=vhost)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def notebook(place: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Notebook]:
    """Notebook connected to that virtual host."""
    async with await Notebook.start(tmp_path_factory.mktemp("kernel")) as notebook:
        await notebook.connect(place, id="floods")
        yield notebook
        assert "Traceback" not in notebook.log


@pytest_asyncio.fixture(loop_scope="session")
async def hostile(place: str, notebook: Notebook) -> AsyncIterator[Hostile]:
    """Hostile peer on that virtual host."""
    async with Hostile.on(place) as hostile:
        yield hostile


def last(cell: Cell) -> str:
    """Return the text of a cell's static copy, after checking that it is small and inert."""
    (display,) = cell.displays
    assert len(display.text) < SMALL
    assert len(display.html) < SMALL
    assert "<img" not in display.html
    return display.text


async def open_row(notebook: Notebook, cell: Cell, text: str) -> None:
    """Open the row with a text, as a click does."""
    opening = next(
        message
        for message in cell.messages
        if message.type == "comm_open" and "_whole" in message.content["data"].get("state", {})
    )
    whole = json.loads(opening.content["data"]["state"]["_whole"])
    row = next(id_ for id_, cells, _ in whole["add"] if text in cells)
    message = {"method": "custom", "content": {"type": "open", "row": row}}
    await notebook.send_comm(opening.content["comm_id"], message).wait()


async def test_descriptions_of_megabytes(notebook: Notebook, hostile: Hostile) -> None:
    """Ten megabytes of docs, and thousands of methods, are truncated in the detail of a row."""
    doc = MARKUP * (10_000_000 // len(MARKUP))
    description = {"m0": {"signature": "(x)", "doc": doc}}
    description |= {f"m{n}": {"signature": f"(x={n})", "doc": "d" * 100} for n in range(1, 50_000)}
    described = json.dumps({"methods": description}).encode()
    assert len(described) > 10_000_000
    await hostile.serve({"_describe": lambda _: Reply(described)})
    await hostile.announce(b'{"instance": "x", "methods": "' + b"y" * 10_000_000 + b'"}')
    await hostile.announce(methods={f"m{n}": f"(x={n})" for n in range(1000)})
    await notebook.run(
        "while not fabric.registry.find('app.evil'): await fabric.registry.changed()"
    )
    cell = await notebook.run("%fabric_services --type app")
    await open_row(notebook, cell, "evil")
    await cell.until(lambda cell: "… and 970 more, not shown." in last(cell))
    assert "<script>" in last(cell)
    assert "1 keep-alive could not be read." in last(cell)


async def test_flood_of_services(notebook: Notebook, hostile: Hostile) -> None:
    """The registry and its view are bounded, with notes on what is omitted."""
    beyond = 1_000
    await flood(hostile, [f"s{n}" for n in range(MAX_SERVICES + beyond)])
    cell = await notebook.run("%fabric")
    full = f"The registry is full ({MAX_SERVICES:,} services)"
    await cell.until(lambda cell: full in last(cell), 60)
    assert f"… and {MAX_SERVICES - SHOWN:,} more rows." in last(cell)
    assert f"{MAX_SERVICES:,} up" in last(cell)
    # Many more, without the broker, which would make no difference.
    await notebook.run(
        "from fabric_nb.fabric.wire.names import ServiceName\n"
        "from fabric_nb.fabric.wire.keep_alives import KeepAlive\n"
        "for n in range(50_000):\n"
        "    fabric.registry.receive(KeepAlive(ServiceName('d', 'more', f's{n}'), None))",
        timeout=60,
    )
    assert await notebook.value("len(fabric.registry), len(fabric.registry.df)") == (
        f"({MAX_SERVICES}, {MAX_SERVICES})"
    )
    assert int(await notebook.value("fabric.registry.dropped")) > 50_000
    await cell.until(lambda cell: " services dropped." in last(cell))


async def test_flood_of_keep_alives(notebook: Notebook, hostile: Hostile) -> None:
    """Thousands of keep-alives of a service are all received, and cause few updates of the view."""
    cell = await notebook.run("%fabric_services --type app\nbefore = fabric.registry.changes")
    (display,) = cell.displays
    assert display.display_id is not None
    seen, began = len(notebook.updates(display.display_id)), time.monotonic()
    await flood(hostile, ["evil"] * 3_000)
    await notebook.run(
        "while fabric.registry.changes < before + 3000: await fabric.registry.changed()"
    )
    took = time.monotonic() - began
    assert len(notebook.updates(display.display_id)) - seen <= took / 0.2 + 2
    assert "evil" in last(cell)


async def test_clocks_of_the_year_9999(notebook: Notebook, hostile: Hostile) -> None:
    """Invalid times in keep-alives, logs and data break no view and no DataFrame."""
    cells = [
        await notebook.run(code)
        for code in ("%fabric_services --type app", "l = %fabric_logs", "s = %fabric_stream")
    ]
    await hostile.announce(busy_since=YEAR_9999, interval=YEAR_9999)
    for moment in (YEAR_9999 * 1000, -1, 10**30, "never", 2**62):
        await hostile.log(
            f"at {moment}", timestamp_in_ms=str(moment) if moment == 10**30 else moment
        )
        await hostile.data(json.dumps({"time": moment, "at": "9999-12-31T23:59:59Z"}).encode())
    services, logs, stream = cells
    await logs.until(lambda cell: f"at {2**62}" in last(cell))
    await stream.until(lambda cell: "5 rows" in last(cell))
    assert "evil" in last(services)
    assert await notebook.value("len(l.df), len(s.df), len(fabric.registry.df) > 0") == (
        "(5, 5, True)"
    )


async def test_log_storm(
    notebook: Notebook, hostile: Hostile, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a flood of logs the view stays responsive and small, with the number of omitted ones."""
    cell = await notebook.run("l = %fabric_logs")
    (display,) = cell.displays
    assert display.display_id is not None
    process = psutil.Process(notebook.pid)
    before = most = process.memory_info().rss

    end, seen = f"storm {STORM - 1:09d}", list[str]()
    async with Storm.of(place, STORM, rate=STORM_RATE) as storm:
        while end not in last(cell):
            now = last(cell)
            await cell.until(lambda cell, now=now: last(cell) != now)
            seen += re.findall(r"storm \d{9}", last(cell))[-1:]
            assert int(await notebook.value("len(l.df)")) <= CAPACITY  # cells run meanwhile
            most = max(most, process.memory_info().rss)
    assert storm.sent == STORM
    assert await notebook.value("l.changes, l.dropped, len(l.df), l.rejected") == (
        f"({STORM}, {STORM - CAPACITY}, {CAPACITY}, 0)"
    )
    await cell.until(lambda cell: f"{STORM - CAPACITY:,} older dropped" in last(cell))
    assert f"… and {STORM - SHOWN:,} older rows." in last(cell)
    assert len(set(seen)) > 1
    assert seen == sorted(seen)
    assert most - before < STORM_BYTES
    with capsys.disabled():
        grown = (most - before) / 1e6
        print(
            f"\n{STORM:,} records at {storm.rate:,.0f}/s, {grown:.0f} MB more, {len(seen)} states"
        )
    await notebook.run("%fabric_stop l")


async def test_logs_do_not_feed_themselves(notebook: Notebook, hostile: Hostile) -> None:
    """With all loggers shown, a record of a served function is shown once, without a loop."""
    await notebook.run(
        "import logging\n"
        "from fabric_nb import AmqpHandler\n"
        "handler = AmqpHandler()\n"
        "await fabric.init_logging_handler(handler)\n"
        "logging.getLogger().addHandler(handler)\n"
        "level = logging.getLogger().level\n"
        "logging.getLogger().setLevel(logging.DEBUG)"
    )
    await notebook.run(
        "%%fabric_serve\ndef shout(n):\n    logging.getLogger('mine').info('shouted %d.', n)"
    )
    cell = await notebook.run("l = %fabric_logs")
    await notebook.run("for n in range(10): await fabric.call('floods.shout', n=n)")
    try:
        counts = []
        for n in range(5):  # each is sent after the view has shown all earlier records
            await hostile.log(f"sign {n}.")
            await cell.until(lambda cell, n=n: f"sign {n}." in last(cell))
            counts.append(int(await notebook.value("l.changes")))
        messages = ast.literal_eval(await notebook.value("[r.message for r in l.records]"))
        mine = [f"shouted {n}." for n in range(10)]
        assert [message for message in messages if "shouted" in message] == mine
        assert all(last(cell).count(message) == 1 for message in mine)
        assert counts == list(range(counts[0], counts[0] + 5)), messages[-20:]
    finally:
        await notebook.run(
            "logging.getLogger().removeHandler(handler)\n"
            "logging.getLogger().setLevel(level)\n%fabric_stop l"
        )


async def flood(hostile: Hostile, ids: list[str]) -> None:
    """Send a keep-alive of each service, as fast as possible."""
    channel = await hostile.connection.channel(publisher_confirms=False)
    exchange = await channel.get_exchange("msc.discovery")
    body = json.dumps({"instance": "x", "interval": 600, "methods": {"do": f"(x={MARKUP!r})"}})
    for id_ in ids:
        headers = {"msg_type": "keep_alive", "service_domain": DOMAIN, "service_type": "app"}
        message = aio_pika.Message(body.encode(), headers={**headers, "service_id": id_})
        await exchange.publish(message, "")
    await channel.close()
