"""RabbitMQ's `consumer_timeout`: the broker requeues deliveries not acknowledged in time."""

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

    from tests.conftest import StartPeer
    from tests.support.peers import Peer

LIMIT = 1.5
"""Seconds; about the minimum, because the node checks every half second."""


@pytest.fixture(scope="module")
def short_timeout_node() -> Iterator[RabbitMq]:
    """Start a node with a consumer timeout of `LIMIT`."""
    settings = {"consumer_timeout": int(LIMIT * 1000)}
    with RabbitMq.start(settings=settings, advanced="{channel_tick_interval, 500}") as node:
        yield node


@pytest.fixture
def short_timeout_uri(short_timeout_node: RabbitMq) -> Iterator[str]:
    with short_timeout_node.private_vhost() as vhost:
        yield short_timeout_node.uri_for(vhost=vhost)


@pytest.fixture
async def members(short_timeout_uri: str) -> AsyncIterator[Members]:
    async with Members(short_timeout_uri) as members:
        yield members


class Slow:
    """Counts its calls, each of which takes longer than the consumer timeout."""

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
    """Block this loop, like a cell, while another program publishes."""
    publisher = await asyncio.create_subprocess_exec(
        *_publishing(uri, rows), stdout=asyncio.subprocess.PIPE
    )
    assert publisher.stdout is not None
    await publisher.stdout.readline()  # printed once it is connected
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


async def test_stream_during_a_long_cell(
    short_timeout_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A plain stream receives each row once during a long cell, and the limit is logged."""
    caplog.set_level(logging.WARNING, "fabric_nb")
    connector = AmqBrokerConnector(short_timeout_uri, "d", "app", "one")
    async with connector, await connector.stream() as stream:
        await stall(short_timeout_uri, 3000)
        await stream.wait(3000, timeout=60)
        assert sorted(stream.df["n"]) == list(range(3000))
        assert await connector.publish_data({"n": 3000}) is None
        await stream.wait(3001, timeout=60)
        assert stream.rows == 3001
    warnings = [
        text for record in caplog.records if "consumer_timeout" in (text := record.getMessage())
    ]
    if rabbitmq_version() < [4, 3]:  # later versions have no timeout for classic queues
        assert len(warnings) == 1
        assert f"{LIMIT:g} s" in warnings[0]


@pytest.mark.skipif(
    rabbitmq_version() >= [4, 3], reason="RabbitMQ 4.3 has no timeout for classic queues"
)
async def test_paused_stream_outlasts_the_limit(members: Members) -> None:
    """A stream paused for longer than the timeout receives each row once."""
    member = await members.join("one")
    async with await member.stream(prefetch=10) as stream:
        for n in range(5):
            await member.publish_data({"n": n})
        await stream.wait(5, timeout=60)
        await stream.pause()
        for n in range(5, 40):
            await member.publish_data({"n": n})
        for _ in range(2):  # redelivered messages time out too
            generation = stream.consumer.channel.generation
            await until(lambda: stream.consumer.channel.generation > generation)  # noqa: B023
        await stream.resume()
        await stream.wait(40, timeout=60)
        await member.publish_data({"n": 40})
        await stream.wait(41, timeout=60)
        assert list(stream.df["n"]) == list(range(41))


@pytest.mark.parametrize("options", [{}, {"single_active": True}], ids=["clique", "single active"])
async def test_call_longer_than_the_limit(
    members: Members, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A call longer than the timeout is answered, and warned of by name; later calls run once."""
    caplog.set_level(logging.WARNING, "fabric_nb")
    gate = asyncio.Event()
    services = []
    for _ in range(2):
        member = await members.join("calc")
        services.append(Slow(gate))
        await member.serve(services[-1], **options)
    caller = await members.join("caller")
    asyncio.get_running_loop().call_later(3 * LIMIT, gate.set)
    assert await caller.call("calc.work", timeout=60) == "done"
    assert await caller.call("calc.quick", timeout=60) == "quick"
    began = sum(service.began for service in services)
    assert began <= 2  # the other member ran it too, before either knew the limit
    for _ in range(2):
        gate.clear()
        asyncio.get_running_loop().call_later(2 * LIMIT + 1, gate.set)
        assert await caller.call("calc.work", timeout=60) == "done"
    assert sum(service.began for service in services) <= began + 3
    warnings = [record.getMessage() for record in caplog.records if "calc.work" in record.message]
    if rabbitmq_version() < [4, 3]:
        assert 1 <= len(warnings) <= len(services)  # once for each instance
        assert f"longer than {LIMIT:g} s" in warnings[0]
        assert "before that" in warnings[0]


@pytest.mark.parametrize("ack", ["reply", "begin"])
async def test_call_that_blocks_its_instance(
    members: Members, start_peer: StartPeer, short_timeout_uri: str, ack: str
) -> None:
    """A function that blocks the loop for longer than the timeout runs once, from its second call.

    With `ack="begin"` the first one runs once, too.
    """
    peers = [await start_peer("fabric_calc", short_timeout_uri, ack=ack) for _ in range(2)]
    caller = await members.join("caller")
    began: list[int] = []

    async def count(peer: Peer) -> None:
        while True:
            await peer.event("block_began", timeout=600)
            began.append(peer.pid)

    async def free() -> None:
        """Return when all instances answer, also one that has run the call for nothing."""
        pids: set[int] = set()
        while len(pids) < len(peers):
            pids.add(await caller.call("calc.calc1.whoami", timeout=60, idempotent=True))

    counting = asyncio.gather(*map(count, peers))
    runs: list[int] = []
    for _ in range(2):
        began.clear()
        await caller.call("calc.calc1.block", seconds=LIMIT + 2.5, timeout=60)
        await free()
        runs.append(len(began))
    counting.cancel()
    if ack == "begin" or rabbitmq_version() >= [4, 3]:
        assert runs == [1, 1]
    else:
        assert runs == [2, 1]
        assert all("block has run for longer than" in peer.log for peer in peers)
        assert all("when they begin" in peer.log for peer in peers)


@pytest.mark.parametrize("threads", [True, False], ids=["in a thread", "on the loop"])
async def test_call_of_a_plain_function(members: Members, threads: bool) -> None:
    """A synchronous function longer than the timeout is answered."""
    caller = await members.join("caller", keep_alive_listen=True)
    ran = []

    def compute() -> int:
        ran.append(1)
        time.sleep(LIMIT + 2)  # computes
        return len(ran)

    member = await members.join("calc")
    await member.serve({"compute": compute}, threads=threads)
    assert await caller.call("calc.compute", timeout=60) == 1
    assert await caller.call("calc.compute", timeout=60) == 2


async def test_a_shared_queue_deleted_with_its_only_consumer(
    short_timeout_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A shared stream whose queue was deleted with its only consumer logs a warning."""
    caplog.set_level(logging.WARNING, "fabric_nb")
    connector = AmqBrokerConnector(short_timeout_uri, "d", "app", "one")
    async with connector, await connector.stream(name="shared", prefetch=10) as stream:
        await connector.publish_data({"n": 0})
        await stream.wait(1, timeout=60)
        await stream.pause()
        await connector.publish_data({"n": 1})
        if rabbitmq_version() < [4, 3]:
            await until(lambda: stream.remade == 1)
            assert "'shared' was deleted with its last consumer" in caplog.text
        await stream.resume()
        await stream.consumer.channel.ready()
        await connector.publish_data({"n": 2})
        await until(lambda: 2 in set(stream.df["n"]))


async def test_a_shared_queue_with_a_slow_consumer(
    members: Members, caplog: pytest.LogCaptureFixture
) -> None:
    """A shared stream with a slow or paused consumer receives each row once."""
    caplog.set_level(logging.WARNING, "fabric_nb")
    member = await members.join("one")
    member.member.consumer_connection.capabilities.consumer_timeout = LIMIT  # as if detected before
    async with await member.stream(name="behind", prefetch=10) as stream:
        reconnected = stream.consumer.channel.generation
        await stream.pause()
        for n in range(40):
            await member.publish_data({"n": n})
        await asyncio.sleep(3 * LIMIT + 1)  # there is no event for the absence of a requeue
        rows = []

        async def read() -> None:
            async for batch in stream.batches():
                rows.extend(row["n"] for row in batch)
                await asyncio.sleep(0.4)  # behind by 4 s

        async with asyncio.TaskGroup() as reading:
            reader = reading.create_task(read())
            await until(lambda: stream.readers)
            await stream.resume()
            await until(lambda: len(rows) == 40)
            reader.cancel()
        assert sorted(rows) == list(range(40))
        assert stream.remade == 0
        assert stream.consumer.channel.generation == reconnected
    assert "requeues" not in caplog.text


class Callback:
    """Processes messages for longer than the timeout."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.ended: list[int] = []
        self.go = asyncio.Event()

    async def __call__(self, message: Any) -> None:
        async with message.process():
            self.began.append(int(message.body))
            await self.go.wait()
            self.ended.append(int(message.body))


async def test_callbacks_longer_than_the_limit(
    members: Members, caplog: pytest.LogCaptureFixture
) -> None:
    """Callbacks of `subscribe_data` longer than the timeout complete, once.

    Before the limit is known, they continue although the broker has requeued their messages.
    """
    caplog.set_level(logging.WARNING, "fabric_nb")
    member, failed = await members.join("one"), failures.total
    first = Callback()
    await member.subscribe_data("slow", {}, first)
    for n in range(5):
        await member.publish_data(str(n).encode())
    await until(lambda: len(first.began) == 5)
    if rabbitmq_version() < [4, 3]:
        await until(lambda: "'slow' was deleted with its last consumer" in caplog.text)
    first.go.set()
    await until(lambda: sorted(first.ended) == list(range(5)))
    member.member.consumer_connection.capabilities.consumer_timeout = LIMIT
    second = Callback()
    await member.subscribe_data("slower", {"kind": "A"}, second)
    for n in range(5):
        await member.publish_data(str(n).encode(), {"kind": "A"})
    await asyncio.sleep(3 * LIMIT + 1)  # there is no event for the absence of a requeue
    second.go.set()
    await until(lambda: len(second.ended) == 5)
    await member.publish_data(b"5", {"kind": "A"})
    await until(lambda: second.ended[5:] == [5])
    assert sorted(second.began) == list(range(6))
    assert "'slower' went" not in caplog.text
    assert failures.total == failed
