"""Brokers that refuse transient queues, as RabbitMQ 4.3 does by default."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from aio_pika.abc import AbstractChannel

from fabric_nb import AmqBrokerConnector
from tests.broker.process import BrokerProcess
from tests.support.fabric import until
from tests.support.rabbitmq import RabbitMq
from tests.support.rabbitmq_supervisor import (
    DENY_TRANSIENT_QUEUES,
    rabbitmq_version,
    transient_queues_denied,
)


@pytest.fixture(scope="module")
def strict_node() -> Iterator[RabbitMq]:
    """Node that refuses transient queues, as RabbitMQ 4.3 does by default."""
    with RabbitMq.start(
        settings=dict([DENY_TRANSIENT_QUEUES.split(" = ")]) if CAN_REFUSE else {}
    ) as node:
        yield node


CAN_REFUSE = rabbitmq_version() >= [3, 12]
"""True if the installed RabbitMQ has this setting."""


@pytest.fixture(params=["embedded", *(["rabbitmq"] if CAN_REFUSE else [])])
def strict_uri(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "embedded":
        with BrokerProcess("--deny", "transient_nonexcl_queues") as broker:
            yield broker.uri
    else:
        node: RabbitMq = request.getfixturevalue("strict_node")
        with node.private_vhost() as vhost:
            yield node.uri_for(vhost=vhost)


def connector(uri: str, service_id: str) -> AmqBrokerConnector:
    return AmqBrokerConnector(
        uri, "d", "t", service_id, keep_alive_seconds=0.5, keep_alive_listen=True
    )


class Api:
    def increment(self, x: int) -> int:
        return x + 1


async def test_calls_and_streams_work_where_transient_queues_are_refused(
    strict_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All of fabric_nb works without transient queues, with one warning."""
    caplog.set_level(logging.WARNING, "fabric_nb")
    async with connector(strict_uri, "a") as server, connector(strict_uri, "b") as client:
        await server.rpc_register(Api())
        assert await client.call("a.increment", x=1) == 2
        assert server.transient_queues_refused
        await server.serve({"twice": lambda x: 2 * x}, id="c")
        assert await client.call("c.twice", x=4) == 8
        stream = await client.stream(name="shared", kind="X")
        await server.publish_data({"n": 1}, {"kind": "X"})
        await stream.wait(1, timeout=60)
    warnings = [record for record in caplog.records if "transient_nonexcl_queues" in record.message]
    own = [record for record in warnings if record.name.startswith("fabric_nb")]
    assert len(own) == 2  # one of each member


async def test_each_further_member_shares_the_durable_queues(strict_uri: str) -> None:
    """Members of a clique, leaders and streams share durable queues."""
    async with (
        connector(strict_uri, "a") as first,
        connector(strict_uri, "a") as second,
        connector(strict_uri, "b") as client,
    ):
        served = []
        for number, member in enumerate((first, second)):
            await member.serve({"who": lambda number=number: number}, id="shared")
            served.append(member)
            await member.serve({"who": lambda: "leader"}, id="led", single_active=True)
        assert {await client.call("shared.who") for _ in range(8)} == {0, 1}
        assert await client.call("led.who") == "leader"
        streams = [await member.stream(name="shared", kind="X") for member in (first, second)]
        for n in range(8):
            await client.publish_data({"n": n}, {"kind": "X"})
        await until(lambda: sum(stream.rows for stream in streams) == 8)
        assert all(stream.rows for stream in streams)


transient_allowed = pytest.mark.skipif(
    transient_queues_denied(), reason="this RabbitMQ refuses transient queues"
)


@pytest.mark.parametrize(
    "durable",
    [
        pytest.param(True, id="durable"),
        pytest.param(False, id="transient", marks=transient_allowed),
    ],
)
async def test_an_existing_queue_is_used(
    broker_uri: str, raw: AbstractChannel, durable: bool
) -> None:
    """A service uses existing method queues, durable or not."""
    queue = await raw.declare_queue(
        "d.api.t.a::increment",
        durable=durable,
        auto_delete=True,
        arguments={"x-dead-letter-exchange": "rpc.dlx"},
    )
    async with connector(broker_uri, "a") as first, connector(broker_uri, "a") as second:
        first.member.connection.capabilities.transient_queues_refused = (
            not durable
        )  # as another queue taught
        await first.serve({"increment": lambda x: x + 1}, id="a")
        await second.serve({"more": lambda: 2}, id="a")
        await second.servers[0].replace({"more": lambda: 2, "increment": lambda x: x + 1})
        assert await first.call("a.increment", x=1) == 2
        assert (await raw.get_queue(queue.name)).declaration_result.consumer_count == 2


async def test_a_service_starts_after_it_and_the_broker_died(
    strict_node: RabbitMq, caplog: pytest.LogCaptureFixture
) -> None:
    """Durable queues that survived the broker and the service are used again."""
    with strict_node.private_vhost() as vhost:
        uri = strict_node.uri_for(vhost=vhost)
        first = connector(uri, "a")
        await first.open()
        first.member.connection.capabilities.transient_queues_refused = True
        await first.rpc_register(Api())
        await asyncio.to_thread(strict_node.kill)
        await first.close()
        await asyncio.to_thread(strict_node.restart_node)
        async with connector(uri, "a") as second, connector(uri, "a") as third:
            await second.rpc_register(Api())
            await third.rpc_register(Api())
            assert await third.call("a.increment", x=1) == 2
    assert "are lost" not in caplog.text  # nothing is said of queues that it never had before


@transient_allowed
async def test_queues_stay_as_in_the_contract_where_they_are_permitted(
    rabbitmq: Any, vhost: str, rabbitmq_uri: str
) -> None:
    """If transient queues are permitted, method queues are declared as by amqp-fabric."""
    async with connector(rabbitmq_uri, "a") as server:
        await server.rpc_register(Api())
        queues = {queue["name"]: queue for queue in rabbitmq.list_queues(vhost)}
        queue = queues["d.api.t.a::increment"]
        assert (queue["durable"], queue["auto_delete"], queue["exclusive"]) == (False, True, False)
        arguments = {**queue["arguments"], "x-queue-type": "classic"}  # shown by RabbitMQ 4
        assert arguments == {"x-dead-letter-exchange": "rpc.dlx", "x-queue-type": "classic"}
        own = [one for name, one in queues.items() if "::" not in name]
        assert own
        assert all(one["exclusive"] for one in own)
    assert not server.transient_queues_refused
