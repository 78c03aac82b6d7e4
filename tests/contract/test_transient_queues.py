"""Brokers that refuse transient queues, as RabbitMQ 4.3 does by default."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from fabric_nb import AmqBrokerConnector
from tests.broker.process import BrokerProcess


@pytest.fixture
def strict_uri() -> Iterator[str]:
    with BrokerProcess("--deny", "transient_nonexcl_queues") as broker:
        yield broker.uri


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
    """Where transient queues are refused all of fabric_nb works, and it is said once."""
    caplog.set_level(logging.WARNING, "fabric_nb")
    async with connector(strict_uri, "a") as server, connector(strict_uri, "b") as client:
        await server.rpc_register(Api())
        assert await client.call("a.increment", x=1) == 2
        assert server.transient_queues_refused
        await server.serve({"twice": lambda x: 2 * x}, id="c")
        assert await client.call("c.twice", x=4) == 8
        stream = await client.stream(name="shared", kind="X")
        await server.publish_data({"n": 1}, {"kind": "X"})
        await stream.wait(1, timeout=5)
    told = [record for record in caplog.records if "transient_nonexcl_queues" in record.message]
    assert len([record for record in told if record.name.startswith("fabric_nb")]) == 2  # one each


async def test_queues_stay_as_in_the_contract_where_they_are_permitted(
    rabbitmq: Any, vhost: str, rabbitmq_uri: str
) -> None:
    """Where they are permitted, method queues are as an amqp-fabric member declares them."""
    async with connector(rabbitmq_uri, "a") as server:
        await server.rpc_register(Api())
        queues = {queue["name"]: queue for queue in rabbitmq.list_queues(vhost)}
        queue = queues["d.api.t.a::increment"]
        assert (queue["durable"], queue["auto_delete"], queue["exclusive"]) == (False, True, False)
        assert queue["arguments"] == {"x-dead-letter-exchange": "rpc.dlx"}
        own = [one for name, one in queues.items() if "::" not in name]
        assert own
        assert all(one["exclusive"] for one in own)
    assert not server.transient_queues_refused
