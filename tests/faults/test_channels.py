"""Channels: rejected messages, heartbeats, abandoned calls, slow brokers and TLS."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from contextlib import asynccontextmanager

import aio_pika
import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.errors import BrokerRefused, UnknownService
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Message
from tests.support.fabric import until
from tests.support.peers import DOMAIN


async def test_full_queue_rejects_messages(rabbitmq_uri):
    """Publishing to a full queue that rejects messages raises `BrokerRefused`."""
    arguments = {"x-max-length": 2, "x-overflow": "reject-publish"}

    async def set_up(channel):
        await channel.topology.declare_queue("full", durable=True, arguments=arguments)

    async with (
        Connection(rabbitmq_uri, name="full") as connection,
        connection.channel(set_up, confirms=True) as channel,
    ):
        outcomes = await asyncio.gather(
            *(channel.publish("", "full", Message(b"x")) for _ in range(5)), return_exceptions=True
        )
        assert [item for item in outcomes if item is None] == [None, None]
        assert sum(isinstance(item, BrokerRefused) for item in outcomes) == 3
        assert channel.generation == 1


async def test_a_running_call_outlives_its_exchange(members, rabbitmq_uri):
    """A running call is answered although its exchange was deleted and later calls fail."""
    go, running = asyncio.Event(), asyncio.Event()

    async def slow():
        running.set()
        await go.wait()
        return "done"

    server, client = await members.join("server"), await members.join("client")
    serving = await server.serve({"slow": slow})
    call = asyncio.create_task(client.call("app.server.slow", timeout=60))
    await running.wait()
    async with await aio_pika.connect(rabbitmq_uri) as raw:
        channel = await raw.channel()
        await channel.exchange_delete(serving.name.api_exchange)
    with pytest.raises(UnknownService):
        await client.call(f"{DOMAIN}.app.server.slow", timeout=5)
    go.set()
    assert await call == "done"
    assert client.member.rpc.pending == 0


async def test_heartbeats_idle_and_flooded(members, rabbitmq_uri):
    """With a short heartbeat, a connection stays open when idle and when only receiving."""
    uri = f"{rabbitmq_uri}?heartbeat=1"
    idle = await members.join("idle", uri=uri, keep_alive_listen=False)
    flooded = await members.join("flooded", uri=uri, keep_alive_listen=False)
    publisher = await members.join("publisher")
    stream = await flooded.stream()
    loop = asyncio.get_running_loop()
    ends = loop.time() + 8  # aiormq closes after three missed heartbeats
    while loop.time() < ends:
        for n in range(50):
            publisher.publish_data({"n": n})
        await asyncio.sleep(0.05)
    await stream.wait(1000, timeout=60)
    assert (idle.member.connection.reconnects, flooded.member.connection.reconnects) == (0, 0)
    await idle.publish_data({"n": -1})


async def test_abandoned_calls_leave_no_state(members):
    """Cancelled and timed out calls leave no entry, and their late replies are ignored."""
    go = asyncio.Event()

    async def work(n):
        await go.wait()
        return n

    server, client = await members.join("server"), await members.join("client")
    await server.serve({"work": work}, prefetch=50)
    calls = [asyncio.create_task(client.call("app.server.work", n=n)) for n in range(20)]
    late = [asyncio.create_task(client.call("app.server.work", n=n, timeout=0.2)) for n in range(9)]
    await until(lambda: client.member.rpc.pending == 29)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, *late, return_exceptions=True)
    assert client.member.rpc.pending == 0
    go.set()
    assert await client.call("app.server.work", n=1) == 1
    for channel in client.member.connection.channels:
        assert channel.is_open
        await until(lambda channel=channel: not channel.outstanding)


async def test_a_broker_that_does_not_read_blocks_publishers(rabbitmq_uri):
    """While the broker does not read, publishers wait, and memory does not grow."""
    host, _, port = rabbitmq_uri.rpartition("@")[2].partition("/")[0].partition(":")
    async with relay(host, int(port)) as (uri_port, relayed):
        uri = rabbitmq_uri.replace(f"{host}:{port}", f"127.0.0.1:{uri_port}")
        async with (
            Connection(uri, name="blocked") as connection,
            connection.channel() as channel,
        ):
            await channel.topology.declare_queue("far", exclusive=True)
            relayed.flows.clear()
            message = Message(b"x" * 100_000)
            sent = 0

            async def publish():
                nonlocal sent
                for _ in range(1000):
                    await channel.publish("", "far", message)
                    sent += 1

            publishing = asyncio.create_task(publish())
            await until(lambda: relayed.blocked)
            before = -1
            async with asyncio.timeout(60):
                while before < sent:  # until all buffers on the way are full
                    before = sent
                    await asyncio.sleep(0.3)
            assert sent < 1000
            assert connection.buffered < 1_000_000
            relayed.flows.set()
            await asyncio.wait_for(publishing, 60)


# -- TLS


@pytest.fixture
def certificate(tmp_path):
    """Create a self-signed certificate for 127.0.0.1, and return the files of it and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1"
        " -addext subjectAltName=IP:127.0.0.1 -out cert.pem -keyout key.pem".split(),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    return files


class Relayed:
    """State of a relay; clearing `flows` blocks the direction to the broker."""

    def __init__(self):
        self.flows = asyncio.Event()
        self.flows.set()
        self.blocked = False


@asynccontextmanager
async def relay(host, port, context=None):
    """Relay bytes to the broker, with TLS for clients if a context is given."""
    relayed = Relayed()
    tasks = set()

    async def pump(reader, writer, flows=None):
        try:
            while data := await reader.read(65536):
                if flows is not None and not flows.is_set():
                    relayed.blocked = True
                    await flows.wait()
                writer.write(data)
                await writer.drain()
        except (ConnectionError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        far_reader, far_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(pump(reader, far_writer, relayed.flows), pump(far_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context, limit=65536)
    try:
        yield server.sockets[0].getsockname()[1], relayed
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_tls(rabbitmq_uri, certificate):
    """Calls, rows, and bodies of many TLS records work over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    address = rabbitmq_uri.rpartition("@")[2].partition("/")[0]
    host, _, port = address.partition(":")
    async with relay(host, int(port), context) as (tls_port, _):
        uri = rabbitmq_uri.replace("amqp://", "amqps://").replace(address, f"127.0.0.1:{tls_port}")
        uri = f"{uri}?cafile={certificate[0]}"
        async with AmqBrokerConnector(uri, DOMAIN, "app", "tls") as fabric:
            await fabric.serve({"double": lambda x: x + x}, prefetch=10)
            numbers = await asyncio.gather(
                *(fabric.call(f"{DOMAIN}.app.tls.double", x=n) for n in range(50))
            )
            assert numbers == [2 * n for n in range(50)]
            text = "0123456789" * 100_000
            assert await fabric.call(f"{DOMAIN}.app.tls.double", x=text, timeout=60) == text + text
            async with await fabric.stream() as stream:
                for n in range(500):
                    fabric.publish_data({"n": n})
                await stream.wait(500, timeout=60)
                assert list(stream.df["n"]) == list(range(500))
