"""Programs that run on either library, after the tests and examples of amqp-fabric.

Each program uses the API of amqp-fabric, and is run with its connector and with that of fabric_nb.
The peers of the services are plain aio-pika, as in amqp-fabric's tests.
"""

from __future__ import annotations

import asyncio
import logging

import aio_pika
import amqp_fabric.amq_broker_connector
import amqp_fabric.logging_amqp_handler
import pytest
from aio_pika.exceptions import MessageProcessError
from aio_pika.patterns.rpc import JsonRPCError
from amqp_fabric.amq_broker_connector import CustomJsonRPC

import fabric_nb
from tests.support.fabric import until

LIBRARIES = {
    "amqp-fabric": (
        amqp_fabric.amq_broker_connector.AmqBrokerConnector,
        amqp_fabric.logging_amqp_handler.AmqpHandler,
    ),
    "fabric_nb": (fabric_nb.AmqBrokerConnector, fabric_nb.AmqpHandler),
}
DOMAIN = "shop"
ALIVE = 0.5
"""Seconds between two keep-alives."""
LISTED = 10 * ALIVE
"""Seconds without a keep-alive after which a service is not listed; long for a busy machine."""


class Api(fabric_nb.AbstractServiceApi):
    """API of the service."""

    class Refused(Exception):
        """Error class that a client cannot import."""

    def multiply(self, x, y):
        return x * y

    async def slow(self, x):
        await asyncio.sleep(0)
        return x

    def refuse(self):
        raise Api.Refused("not today")

    def _hidden(self):
        raise AssertionError("a name that begins with _ is not served")


@pytest.fixture(params=LIBRARIES)
async def join(request, rabbitmq_uri):
    """Return a function that opens connectors of one library, closed after the test."""
    connector_class, _ = LIBRARIES[request.param]
    connectors = []

    async def join(type, id, api=None, **options):  # noqa: A002
        connector = connector_class(
            amqp_uri=rabbitmq_uri,
            service_domain=DOMAIN,
            service_type=type,
            service_id=id,
            **options,
        )
        await connector.open(timeout=60)
        connectors.append(connector)
        if api is not None:
            await connector.rpc_register(api)
        return connector

    join.handler = LIBRARIES[request.param][1]
    yield join
    for connector in connectors:
        await connector.close()


@pytest.fixture
async def rpc(rabbitmq_uri):
    """Return a function that opens amqp-fabric's JSON-RPC client on an exchange."""
    async with await aio_pika.connect(rabbitmq_uri) as connection:

        async def open_client(exchange):
            channel = await connection.channel()
            return await CustomJsonRPC.create(channel, exchange=exchange, auto_delete=True)

        yield open_client


async def test_names(join):
    """A connector has its name, the parts of it, and its data exchange."""
    service = await join("calc", "one")
    assert (service.domain, service.service_type, service.service_id) == (DOMAIN, "calc", "one")
    assert (service.fqn, service.data_exchange) == ("shop.calc.one", "shop.data")


async def test_calls_of_a_json_rpc_client(join, rpc):
    """Results, an unknown method, wrong arguments and the service's own error reach the caller."""
    await join("calc", "one", Api())
    client = await rpc("shop.api.calc.one")
    assert [await client.proxy.multiply(x=100, y=n) for n in range(20)] == [
        100 * n for n in range(20)
    ]
    assert await client.call("slow", kwargs={"x": "ü"}) == "ü"
    for method in ("missing", "_hidden"):
        with pytest.raises(MessageProcessError):
            await client.call(method, kwargs={})
    with pytest.raises(TypeError):
        await client.proxy.multiply(c=100)
    with pytest.raises(JsonRPCError) as error:
        await client.proxy.refuse()
    assert error.value.args[1]["error"]["type"] == f"{__name__}.Refused"


async def test_proxy(join):
    """`rpc_proxy` takes domain, id and type in this order, and is called with keywords."""
    await join("calc", "one", Api())
    client = await join("app", "client")
    proxy = await client.rpc_proxy(DOMAIN, "one", "calc")
    assert await proxy.health_check()
    assert await proxy.multiply(x=5, y=7) == 35


async def test_order_of_listed_services(join):
    """Services are listed in the order of their first keep-alives, by either library."""
    client = await join(
        "app",
        "client",
        keep_alive_seconds=ALIVE,
        keep_alive_listen=True,
        discovery_cache_ttl=LISTED,
    )
    own = asyncio.Semaphore(0)

    async def on_keep_alive(headers):
        own.release()

    client.subscribe_service_keepalives("me", on_keep_alive, service_type="app")
    for _ in range(2):  # fabric_nb receives its own at once, amqp-fabric after an interval
        await own.acquire()
    await join("zebra", "z", Api(), keep_alive_seconds=ALIVE)
    zebra = {"domain": DOMAIN, "type": "zebra", "id": "z"}
    itself = {"domain": DOMAIN, "type": "app", "id": "client"}
    await until(lambda: len(client.list_services()) == 2)
    assert client.list_services() == [itself, zebra]
    assert client.list_services(service_domain=DOMAIN) == [itself, zebra]
    assert client.list_services(service_type="zebra") == [zebra]

    await own.acquire()  # a later keep-alive does not move it
    aardvark = await join("aardvark", "a", Api(), keep_alive_seconds=ALIVE)
    last = {"domain": DOMAIN, "type": "aardvark", "id": "a"}
    await until(lambda: len(client.list_services()) == 3)
    assert client.list_services() == [itself, zebra, last]
    await aardvark.close()
    aardvark.close = lambda: asyncio.sleep(0)  # it is closed once
    await until(lambda: client.list_services() == [itself, zebra])


async def test_nothing_is_listed_without_listening(join):
    """A connector that does not listen lists nothing, and cannot subscribe to keep-alives."""
    client = await join("app", "client", keep_alive_seconds=ALIVE)
    assert client.list_services() == []
    with pytest.raises(AssertionError):
        client.subscribe_service_keepalives("me", print)


async def test_keep_alive_callback(join):
    """A callback receives the headers of each keep-alive of its service type."""
    client = await join("app", "client", keep_alive_seconds=ALIVE, keep_alive_listen=True)
    got = []

    async def on_keep_alive(headers):
        got.append(headers)

    client.subscribe_service_keepalives("me", on_keep_alive, service_type="calc")
    await join("calc", "one", Api(), keep_alive_seconds=ALIVE)
    await until(lambda: len(got) >= 2)
    expected = {
        "msg_type": "keep_alive",
        "service_domain": DOMAIN,
        "service_id": "one",
        "service_type": "calc",
    }
    assert [dict(headers) for headers in got] == [expected] * len(got)


async def test_data_by_headers(join):
    """Bytes are delivered to subscribers with matching headers only, awaited or not."""
    publisher, subscriber = await join("shop", "till"), await join("app", "accountant")
    got = asyncio.Queue()

    async def process_data(message):
        async with message.process():
            got.put_nowait((message.body, dict(message.headers)))

    await subscriber.subscribe_data(
        subscriber_name="accountant",
        headers={"msg_type": "CUSTOMER_TRANSACTIONS", "service_id": "till"},
        callback=process_data,
    )
    for kind, currency in (("OTHER", "USD"), ("CUSTOMER_TRANSACTIONS", "EUR")):
        publisher.publish_data(b"{}", headers={"msg_type": kind, "currency": currency})
    body, headers = await asyncio.wait_for(got.get(), 60)
    assert body == b"{}"
    assert headers == {
        "msg_type": "CUSTOMER_TRANSACTIONS",
        "currency": "EUR",
        "service_id": "till",
        "service_type": "shop",
    }
    assert got.empty()


async def test_log_records_are_published(join, rabbitmq_uri):
    """The logging handler publishes records to the exchange of the domain."""
    service = await join("calc", "one")
    handler = join.handler()
    handler.setLevel(logging.INFO)
    await service.init_logging_handler(handler)
    log = logging.getLogger("tests.drop_in")
    log.setLevel(logging.DEBUG)
    async with await aio_pika.connect(rabbitmq_uri) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind("shop.log.records")
        log.addHandler(handler)
        try:
            log.debug("too quiet")
            log.info("hi there")
            async with asyncio.timeout(60), queue.iterator() as messages:
                async for message in messages:
                    await message.ack()
                    break
        finally:
            log.removeHandler(handler)
    assert message.body == b'"hi there"'
    assert message.headers["level_name"] == "INFO"


async def test_calls_of_a_closed_instance(join, rpc):
    """Calls of an instance that is closed are redelivered to the next one."""
    began = asyncio.Queue()

    class Clique:
        async def work(self, value):
            began.put_nowait(value)
            await asyncio.sleep(0.2)
            return value

    first = await join("calc", "pair", Clique())
    await join("calc", "pair", Clique())
    client = await rpc("shop.api.calc.pair")
    calls = [asyncio.create_task(client.proxy.work(value=n)) for n in range(6)]
    await began.get()
    await first.close()
    first.close = lambda: asyncio.sleep(0)  # it is closed once
    async with asyncio.timeout(60):
        assert await asyncio.gather(*calls) == list(range(6))
