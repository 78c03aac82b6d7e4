"""Registry, data and logs between fabric_nb and amqp-fabric, in both directions."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fabric_nb import AmqpHandler
from fabric_nb.fabric.discovery.services import ServiceState
from tests.support.fabric import until, wait_for_service
from tests.support.peers import DOMAIN

# -- registry


async def test_listed_by_amqp_fabric(members, start_peer, rabbitmq_uri):
    """A listener on amqp-fabric lists fabric_nb services, and receives their keep-alives."""
    listener = await start_peer("listener", rabbitmq_uri)
    member = await members.join("nb", service_version="1.2")
    await member.serve({"work": lambda: 1}, id="served")
    ids = set()
    while ids != {"nb", "served"}:
        alive = await listener.event("alive")
        ids.add(alive["headers"]["service_id"])
        assert set(alive["headers"]) == {"msg_type", "service_domain", "service_type", "service_id"}
        assert alive["headers"]["msg_type"] == "keep_alive"
    listed = await listener.ask("services", domain=DOMAIN, type="app")
    assert {service["id"] for service in listed} == {"nb", "served"}


async def test_goodbye_is_ignored_by_amqp_fabric(members, start_peer, rabbitmq_uri):
    """When a member leaves, its entry at amqp-fabric expires, without a further keep-alive."""
    listener = await start_peer("listener", rabbitmq_uri, ttl=0.5)
    member = await members.join("nb")
    await listener.event("alive")
    assert await listener.ask("services")
    await member.close()
    async with asyncio.timeout(60):
        while await listener.ask("services"):  # noqa: ASYNC110 - it expires without a word
            await asyncio.sleep(0.05)
    assert listener.log.count("ERROR") == 0
    assert "Traceback" not in listener.log


async def test_amqp_fabric_in_the_registry(members, start_peer, rabbitmq_uri):
    """A service on amqp-fabric is in the registry, and late and gone after it is killed."""
    fabric = await members.join("me")
    calc = await start_peer("calc_service", rabbitmq_uri, keep_alive=0.2)
    service = await wait_for_service(fabric, "calc1")
    listed = {"domain": DOMAIN, "type": "calc", "id": "calc1"}
    assert listed in fabric.list_services()
    row = fabric.registry.df.set_index("id").loc["calc1"]
    assert (row.state, row.version) == ("up", "")
    calc.kill()
    await calc.exited()
    now = fabric.registry.now
    assert service.state(now + 60) is ServiceState.GONE


async def test_own_service_is_listed_last(members, start_peer, rabbitmq_uri):
    """The own service is listed behind those on amqp-fabric, as by amqp-fabric."""
    await start_peer("calc_service", rabbitmq_uri, keep_alive=0.4)
    fabric = await members.join("a", keep_alive_seconds=2)
    await until(lambda: len(fabric.list_services()) == 2)
    assert [one["id"] for one in fabric.list_services()] == ["calc1", "a"]


# -- data


async def test_data_for_amqp_fabric(members, start_peer, rabbitmq_uri):
    """A subscriber on amqp-fabric receives published data by their headers."""
    subscriber = await start_peer("data_subscriber", rabbitmq_uri, headers={"kind": "A"})
    member = await members.join("nb")
    await member.publish_data({"n": 1}, {"kind": "B"})
    await member.publish_data({"n": 2, "s": "ü"}, {"kind": "A", "unit": "V"})
    await member.publish_data(b"plain", {"kind": "A"})
    received = await subscriber.event("data")
    assert json.loads(received["body"]) == {"n": 2, "s": "ü"}
    assert received["headers"] == {
        "kind": "A",
        "unit": "V",
        "service_id": "nb",
        "service_type": "app",
    }
    assert (await subscriber.event("data"))["body"] == "plain"


async def test_data_of_amqp_fabric(members, start_peer, rabbitmq_uri):
    """Data published by amqp-fabric are rows of a stream, and messages of subscribers."""
    member = await members.join("nb")
    got = []

    async def callback(message):
        async with message.process():
            got.append((json.loads(message.body), message.headers["service_id"]))

    await member.subscribe_data("sub", {"kind": "A"}, callback)
    async with await member.stream(kind="A") as stream:
        publisher = await start_peer("data_publisher", rabbitmq_uri)
        await publisher.ask("publish", headers={"kind": "B"}, data={"n": 0})
        await publisher.ask("publish_rows", headers={"kind": "A"}, count=1000)
        await stream.wait(1000, timeout=60)
        assert list(stream.df["n"]) == list(range(1000))
        assert stream.df["name"][7] == "row 7"
    await until(lambda: len(got) == 1000)
    assert got[3] == ({"n": 3, "value": 1.5, "name": "row 3"}, "publisher")


async def test_subscribers_of_both_libraries_share(members, start_peer, rabbitmq_uri):
    """Subscribers of one name on both libraries share the messages."""
    peer = await start_peer("data_subscriber", rabbitmq_uri, queue="shared")
    member = await members.join("nb")
    async with await member.stream(name="shared") as stream:
        for n in range(20):
            await member.publish_data({"n": n})
        peer_received: list[int] = []

        async def take() -> None:
            while True:
                peer_received.append(
                    json.loads((await peer.event("data", timeout=60))["body"])["n"]
                )

        taking = asyncio.create_task(take())
        await until(lambda: stream.rows + len(peer_received) >= 20)
        taking.cancel()
        assert sorted([*stream.df["n"], *peer_received]) == list(range(20))
        assert stream.rows


async def test_values_for_amqp_fabric(members, start_peer, rabbitmq_uri):
    """A peer reads published rows as JSON, with all fields, the index, and missing values."""

    @dataclasses.dataclass
    class Order:
        _id: int
        total: float
        state: str = dataclasses.field(init=False, default="new")

    frame = pd.DataFrame(
        {
            "id": [1, 2, 3],
            "size": pd.Categorical(["L", "S", None], categories=["S", "L"], ordered=True),
            "n": pd.array([2**53 + 1, None, 1], dtype="Int64"),
        }
    ).set_index("id")
    rows = [
        {"id": 1, "size": "L", "n": 2**53 + 1},
        {"id": 2, "size": "S", "n": None},
        {"id": 3, "size": None, "n": 1},
    ]
    published = [
        (Order(5, math.inf), None, {"_id": 5, "total": math.inf, "state": "new"}),
        (frame, None, rows),
        (frame, "json", rows),
        ({"a": 1, "b": "x"}, "json", [{"a": 1, "b": "x"}]),
        ({"a": [1, 2], "b": ["x", "y"]}, "json", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
        (pa.table({"a": [1, None]}), "json", [{"a": 1}, {"a": None}]),
        (frame["n"], None, [{"id": row["id"], "n": row["n"]} for row in rows]),
    ]
    peer = await start_peer("data_subscriber", rabbitmq_uri, headers='{"score": 7}')
    member = await members.join("nb")
    for data, form, expected in published:
        await member.publish_data(data, {"score": np.int64(7)}, format=form)
        event = await peer.event("data")
        assert json.loads(event["body"]) == expected
        assert event["headers"]["score"] == 7


async def test_floats_in_headers_of_both_libraries(members, start_peer, rabbitmq_uri):
    """A float filter matches floats of both libraries; that of amqp-fabric only those of 32 bits.

    amqp-fabric encodes the floats of its headers and filters in 32 bits. Such a filter cannot
    match a header of 64 bits, and a header of 0.1 arrives as the nearest 32-bit float.
    """
    member = await members.join("nb")
    publisher = await start_peer("data_publisher", rabbitmq_uri)
    peer = await start_peer("data_subscriber", rabbitmq_uri, headers='{"score": 0.5}')
    for score in (0.1, 0.5):
        async with await member.stream(score=score, with_headers=["score"]) as stream:
            await publisher.ask("publish", headers={"score": score}, data={"n": 1})
            await member.publish_data({"n": 2}, {"score": score})
            await stream.wait(2, timeout=60)
            by_sender = dict(zip(stream.df["n"], stream.df["header.score"], strict=True))
            assert by_sender[2] == score
            assert by_sender[1] == pytest.approx(score, rel=1e-7)
    received = [(await peer.event("data"))["headers"]["score"] for _ in range(2)]
    assert received == [0.5, 0.5]


# -- logs


async def test_logs_for_amqp_fabric(members, start_peer, rabbitmq_uri):
    """A log reader for amqp-fabric receives records: a JSON text, with headers to filter by."""
    reader = await start_peer("log_subscriber", rabbitmq_uri, headers={"level_name": "WARNING"})
    member = await members.join("nb")
    handler = AmqpHandler()
    await member.init_logging_handler(handler)
    log = logging.getLogger("peers.logs")
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    try:
        log.info("all is well")
        log.warning("disk is %s", "full")
    finally:
        log.removeHandler(handler)
    received = await reader.event("log")
    assert received["message"] == "disk is full"
    expected = {"service_id": "nb", "service_type": "app", "level_name": "WARNING"}
    assert expected.items() <= received["headers"].items()


async def test_logs_of_amqp_fabric(members, start_peer, rabbitmq_uri):
    """A feed receives the records of amqp-fabric services, by level and service."""
    member = await members.join("nb")
    logger = await start_peer("log_publisher", rabbitmq_uri)
    async with await member.logs(level="WARNING", service="logger") as feed:
        await logger.ask("log", level="INFO", message="all is well")
        await logger.ask("log", level="ERROR", message="disk is full")
        await feed.wait(1, timeout=60)
    (record,) = feed.records
    assert (record.message, record.level) == ("disk is full", "ERROR")
    assert (record.service_type, record.service_id) == ("peer", "logger")
