"""A broker that requeues what is not acknowledged in time (RabbitMQ's `consumer_timeout`)."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import TYPE_CHECKING

import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.fabric.core.tasks import failures
from tests.support.fabric import Members, until
from tests.support.rabbitmq import RabbitMq
from tests.support.rabbitmq_supervisor import rabbitmq_version

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import Any

LIMIT = 1.5
"""Seconds; RabbitMQ takes no shorter one seriously, and looks every half second."""


@pytest.fixture(scope="module")
def impatient() -> Iterator[RabbitMq]:
    """Node that requeues after `LIMIT` seconds what is not acknowledged."""
    settings = {"consumer_timeout": int(LIMIT * 1000)}
    with RabbitMq.start(settings=settings, advanced="{channel_tick_interval, 500}") as node:
        yield node


@pytest.fixture
def impatient_uri(impatient: RabbitMq) -> Iterator[str]:
    with impatient.private_vhost() as vhost:
        yield impatient.uri_for(vhost=vhost)


@pytest.fixture
async def members(impatient_uri: str) -> AsyncIterator[Members]:
    async with Members(impatient_uri) as members:
        yield members


class Slow:
    """Service that counts its calls, each of which takes longer than the limit."""

    def __init__(self, gate: asyncio.Event) -> None:
        self.gate = gate
        self.began = 0

    async def work(self) -> str:
        self.began += 1
        await self.gate.wait()
        return "done"

    async def quick(self) -> str:
        return "quick"


async def stall(uri: str, rows: int) -> None:
    """Block this loop, as a cell does, until another program has published and waited."""
    publisher = await asyncio.create_subprocess_exec(
        *_publishing(uri, rows), stdout=asyncio.subprocess.PIPE
    )
    assert publisher.stdout is not None
    await publisher.stdout.readline()  # it is connected
    time.sleep(LIMIT + 3)  # noqa: ASYNC251 - the loop stands still, as during a cell
    await publisher.wait()


def _publishing(uri: str, rows: int) -> list[str]:
    code = (
        "import asyncio, sys\n"
        "from fabric_nb import AmqBrokerConnector\n"
        "async def main():\n"
        f"    async with AmqBrokerConnector({uri!r}, 'd', 'app', 'other') as other:\n"
        "        print('ready', flush=True)\n"
        f"        await asyncio.gather(*(other.publish_data({{'n': n}}) for n in range({rows})))\n"
        "asyncio.run(main())\n"
    )
    return [sys.executable, "-c", code]


async def test_stream_of_a_busy_cell(impatient_uri: str, caplog: pytest.LogCaptureFixture) -> None:
    """A plain stream has each row once, however long a cell computes, and the limit is logged."""
    caplog.set_level(logging.WARNING, "fabric_nb")
    connector = AmqBrokerConnector(impatient_uri, "d", "app", "one")
    async with connector, await connector.stream() as stream:
        await stall(impatient_uri, 3000)
        await stream.wait(3000, timeout=20)
        assert sorted(stream.df["n"]) == list(range(3000))
        assert await connector.publish_data({"n": 3000}) is None
        await stream.wait(3001, timeout=20)
        assert stream.rows == 3001
    warned = [one.getMessage() for one in caplog.records if "consumer_timeout" in one.getMessage()]
    if rabbitmq_version() < [4, 3]:  # later ones let classic queues wait
        assert len(warned) == 1
        assert f"{LIMIT:g} s" in warned[0]


async def test_paused_stream_outlasts_the_limit(members: Members) -> None:
    """A stream that is paused for longer than the limit has each row once."""
    one = await members.join("one")
    async with await one.stream(prefetch=10) as stream:
        for n in range(5):
            await one.publish_data({"n": n})
        await stream.wait(5, timeout=10)
        await stream.pause()
        for n in range(5, 40):
            await one.publish_data({"n": n})
        for _ in range(2):  # also what is delivered again is taken back
            generation = stream._consumer.channel.generation
            await until(lambda: stream._consumer.channel.generation > generation, timeout=20)  # noqa: B023
        await stream.resume()
        await stream.wait(40, timeout=10)
        await one.publish_data({"n": 40})
        await stream.wait(41, timeout=10)
        assert list(stream.df["n"]) == list(range(41))


@pytest.mark.parametrize("options", [{}, {"single_active": True}], ids=["clique", "single active"])
async def test_call_that_is_longer_than_the_limit(
    members: Members, options: dict[str, Any]
) -> None:
    """A call that takes longer than the limit is answered; later ones are run once."""
    gate = asyncio.Event()
    services = []
    for _ in range(2):
        member = await members.join("calc")
        services.append(Slow(gate))
        await member.serve(services[-1], **options)
    caller = await members.join("caller")
    asyncio.get_running_loop().call_later(3 * LIMIT, gate.set)
    assert await caller.call("calc.work", timeout=20) == "done"
    assert await caller.call("calc.quick", timeout=5) == "quick"
    began = sum(service.began for service in services)
    assert began <= 2  # the other member began it too, before either knew the limit
    for _ in range(2):
        gate.clear()
        asyncio.get_running_loop().call_later(2 * LIMIT + 1, gate.set)
        assert await caller.call("calc.work", timeout=20) == "done"
    assert sum(service.began for service in services) <= began + 3


@pytest.mark.parametrize("threads", [True, False], ids=["in a thread", "on the loop"])
async def test_call_of_a_plain_function(members: Members, threads: bool) -> None:
    """A plain function that computes for longer than the limit answers its caller."""
    caller = await members.join("caller", keep_alive_listen=True)
    ran = []

    def compute() -> int:
        ran.append(1)
        time.sleep(LIMIT + 2)  # computes
        return len(ran)

    member = await members.join("calc")
    await member.serve({"compute": compute}, threads=threads)
    assert await caller.call("calc.compute", timeout=20) == 1
    assert await caller.call("calc.compute", timeout=20) == 2


async def test_a_shared_queue_deleted_with_its_only_consumer(
    impatient_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A shared stream whose queue is deleted with its only consumer reports it."""
    caplog.set_level(logging.WARNING, "fabric_nb")
    connector = AmqBrokerConnector(impatient_uri, "d", "app", "one")
    async with connector, await connector.stream(name="shared", prefetch=10) as stream:
        await connector.publish_data({"n": 0})
        await stream.wait(1, timeout=10)
        await stream.pause()
        await connector.publish_data({"n": 1})
        if rabbitmq_version() < [4, 3]:
            await until(lambda: stream.remade == 1, timeout=20)
            assert "'shared' went with its last consumer" in caplog.text
        await stream.resume()
        await stream._consumer.channel.ready()
        await connector.publish_data({"n": 2})
        await until(lambda: 2 in set(stream.df["n"]))


async def test_a_shared_queue_with_a_slow_reader(
    members: Members, caplog: pytest.LogCaptureFixture
) -> None:
    """A shared stream that is read slower than the limit, or paused, has each row once."""
    caplog.set_level(logging.WARNING, "fabric_nb")
    one = await members.join("one")
    one.member.consumer_connection.capabilities.consumer_timeout = LIMIT  # as met before
    async with await one.stream(name="behind", prefetch=10) as stream:
        reconnected = stream._consumer.channel.generation
        await stream.pause()
        for n in range(40):
            await one.publish_data({"n": n})
        await asyncio.sleep(3 * LIMIT + 1)  # what would not come is not an event
        rows = []

        async def read() -> None:
            async for batch in stream.batches():
                rows.extend(row["n"] for row in batch)
                await asyncio.sleep(0.4)  # behind by 4 s

        async with asyncio.TaskGroup() as reading:
            reader = reading.create_task(read())
            await until(lambda: stream._batches)
            await stream.resume()
            await until(lambda: len(rows) == 40, timeout=40)
            reader.cancel()
        assert sorted(rows) == list(range(40))
        assert stream.remade == 0
        assert stream._consumer.channel.generation == reconnected
    assert "requeues" not in caplog.text


class Callback:
    """Callback that takes longer than the limit for each message."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.ended: list[int] = []
        self.go = asyncio.Event()

    async def __call__(self, message: Any) -> None:
        async with message.process():
            self.began.append(int(message.body))
            await self.go.wait()
            self.ended.append(int(message.body))


async def test_callbacks_that_are_longer_than_the_limit(
    members: Members, caplog: pytest.LogCaptureFixture
) -> None:
    """Callbacks of `subscribe_data` that take longer than the limit run to their end, once.

    Before the limit is known, they continue although the broker has requeued their messages.
    """
    caplog.set_level(logging.WARNING, "fabric_nb")
    one, failed = await members.join("one"), failures.total
    first = Callback()
    await one.subscribe_data("slow", {}, first)
    for n in range(5):
        await one.publish_data(str(n).encode())
    await until(lambda: len(first.began) == 5)
    if rabbitmq_version() < [4, 3]:
        await until(lambda: "'slow' went with its last consumer" in caplog.text, timeout=20)
    first.go.set()
    await until(lambda: sorted(first.ended) == list(range(5)))
    one.member.consumer_connection.capabilities.consumer_timeout = LIMIT
    second = Callback()
    await one.subscribe_data("slower", {"kind": "A"}, second)
    for n in range(5):
        await one.publish_data(str(n).encode(), {"kind": "A"})
    await asyncio.sleep(3 * LIMIT + 1)  # what would not come is not an event
    second.go.set()
    await until(lambda: len(second.ended) == 5)
    await one.publish_data(b"5", {"kind": "A"})
    await until(lambda: second.ended[5:] == [5])
    assert sorted(second.began) == list(range(6))
    assert "'slower' went" not in caplog.text
    assert failures.total == failed
