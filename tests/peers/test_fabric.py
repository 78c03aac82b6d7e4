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

# Registry


async def test_amqp_fabric_lists_us(members, start_peer, rabbitmq_uri):
    """A listener on amqp-fabric lists our service, and hears keep-alives like its own."""
    listener = await start_peer("listener", rabbitmq_uri)
    member = await members.join("ours", service_version="1.2")
    await member.serve({"work": lambda: 1}, id="served")
    ids = set()
    while ids != {"ours", "served"}:
        alive = await listener.event("alive")
        ids.add(alive["headers"]["service_id"])
        assert set(alive["headers"]) == {"msg_type", "service_domain", "service_type", "service_id"}
        assert alive["headers"]["msg_type"] == "keep_alive"
    listed = await listener.ask("services", domain=DOMAIN, type="app")
    assert {service["id"] for service in listed} == {"ours", "served"}


async def test_our_goodbye_is_nothing_to_amqp_fabric(members, start_peer, rabbitmq_uri):
    """When we leave, a listener on amqp-fabric lets us expire, and hears no more of us."""
    listener = await start_peer("listener", rabbitmq_uri, ttl=0.5)
    member = await members.join("ours")
    await listener.event("alive")
    assert await listener.ask("services")
    await member.close()
    async with asyncio.timeout(5):
        while await listener.ask("services"):  # noqa: ASYNC110 - it expires without a word
            await asyncio.sleep(0.05)
    assert listener.log.count("ERROR") == 0
    assert "Traceback" not in listener.log


async def test_we_list_amqp_fabric(members, start_peer, rabbitmq_uri):
    """A service on amqp-fabric stands in our registry, and is late and gone when it is killed."""
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


async def test_we_are_listed_behind_amqp_fabric(members, start_peer, rabbitmq_uri):
    """Beside services on amqp-fabric we list ourselves where amqp-fabric would: behind them."""
    await start_peer("calc_service", rabbitmq_uri, keep_alive=0.4)
    fabric = await members.join("a", keep_alive_seconds=2)
    await until(lambda: len(fabric.list_services()) == 2)
    assert [one["id"] for one in fabric.list_services()] == ["calc1", "a"]


# Data


async def test_amqp_fabric_hears_our_data(members, start_peer, rabbitmq_uri):
    """A subscriber on amqp-fabric gets what we publish, by its headers."""
    subscriber = await start_peer("data_subscriber", rabbitmq_uri, headers={"kind": "A"})
    member = await members.join("ours")
    await member.publish_data({"n": 1}, {"kind": "B"})
    await member.publish_data({"n": 2, "s": "ü"}, {"kind": "A", "unit": "V"})
    await member.publish_data(b"plain", {"kind": "A"})
    heard = await subscriber.event("data")
    assert json.loads(heard["body"]) == {"n": 2, "s": "ü"}
    assert heard["headers"] == {
        "kind": "A",
        "unit": "V",
        "service_id": "ours",
        "service_type": "app",
    }
    assert (await subscriber.event("data"))["body"] == "plain"


async def test_we_hear_data_of_amqp_fabric(members, start_peer, rabbitmq_uri):
    """What amqp-fabric publishes becomes rows of our stream and messages of our subscribers."""
    member = await members.join("ours")
    got = []

    async def callback(message):
        async with message.process():
            got.append((json.loads(message.body), message.headers["service_id"]))

    await member.subscribe_data("sub", {"kind": "A"}, callback)
    async with await member.stream(kind="A") as stream:
        publisher = await start_peer("data_publisher", rabbitmq_uri)
        await publisher.ask("publish", headers={"kind": "B"}, data={"n": 0})
        await publisher.ask("publish_rows", headers={"kind": "A"}, count=1000)
        await stream.wait(1000, timeout=20)
        assert list(stream.df["n"]) == list(range(1000))
        assert stream.df["name"][7] == "row 7"
    await until(lambda: len(got) == 1000)
    assert got[3] == ({"n": 3, "value": 1.5, "name": "row 3"}, "publisher")


async def test_subscribers_of_both_kinds_share(members, start_peer, rabbitmq_uri):
    """A subscriber of ours and one on amqp-fabric with one name share the messages."""
    theirs = await start_peer("data_subscriber", rabbitmq_uri, queue="shared")
    member = await members.join("ours")
    async with await member.stream(name="shared") as stream:
        for n in range(20):
            await member.publish_data({"n": n})
        theirs_got: list[int] = []

        async def take() -> None:
            while True:
                theirs_got.append(json.loads((await theirs.event("data", timeout=60))["body"])["n"])

        taking = asyncio.create_task(take())
        await until(lambda: stream.rows + len(theirs_got) >= 20)
        taking.cancel()
        assert sorted([*stream.df["n"], *theirs_got]) == list(range(20))
        assert stream.rows


async def test_amqp_fabric_sees_our_values(members, start_peer, rabbitmq_uri):
    """A peer reads what we publish as JSON: all fields, the index, and what is missing."""

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
    theirs = await start_peer("data_subscriber", rabbitmq_uri, headers='{"score": 7}')
    member = await members.join("ours")
    for data, form, expected in published:
        await member.publish_data(data, {"score": np.int64(7)}, format=form)
        heard_there = await theirs.event("data")
        assert json.loads(heard_there["body"]) == expected
        assert heard_there["headers"]["score"] == 7


async def test_floats_in_headers_of_both_kinds(members, start_peer, rabbitmq_uri):
    """Our filter for a float hears amqp-fabric's and ours; its own hears those of 32 bits.

    amqp-fabric cuts the floats of its headers and filters to 32 bits. A header of 64 bits is none
    that such a filter can meet, and its own 0.1 arrives as what is left of it.
    """
    member = await members.join("ours")
    publisher = await start_peer("data_publisher", rabbitmq_uri)
    theirs = await start_peer("data_subscriber", rabbitmq_uri, headers='{"score": 0.5}')
    for score in (0.1, 0.5):
        async with await member.stream(score=score, with_headers=["score"]) as stream:
            await publisher.ask("publish", headers={"score": score}, data={"n": 1})
            await member.publish_data({"n": 2}, {"score": score})
            await stream.wait(2, timeout=10)
            by_sender = dict(zip(stream.df["n"], stream.df["header.score"], strict=True))
            assert by_sender[2] == score
            assert by_sender[1] == pytest.approx(score, rel=1e-7)
    heard = [(await theirs.event("data"))["headers"]["score"] for _ in range(2)]
    assert heard == [0.5, 0.5]


# Logs


async def test_amqp_fabric_reads_our_logs(members, start_peer, rabbitmq_uri):
    """A reader of amqp-fabric's logs gets ours: a JSON text, with the headers it filters by."""
    reader = await start_peer("log_subscriber", rabbitmq_uri, headers={"level_name": "WARNING"})
    member = await members.join("ours")
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
    heard = await reader.event("log")
    assert heard["message"] == "disk is full"
    expected = {"service_id": "ours", "service_type": "app", "level_name": "WARNING"}
    assert expected.items() <= heard["headers"].items()


async def test_we_read_logs_of_amqp_fabric(members, start_peer, rabbitmq_uri):
    """Our feed reads the records of amqp-fabric services, by level and service."""
    member = await members.join("ours")
    logger = await start_peer("log_publisher", rabbitmq_uri)
    async with await member.logs(level="WARNING", service="logger") as feed:
        await logger.ask("log", level="INFO", message="all is well")
        await logger.ask("log", level="ERROR", message="disk is full")
        await feed.wait(1, timeout=10)
    (record,) = feed.records
    assert (record.message, record.level) == ("disk is full", "ERROR")
    assert (record.service_type, record.service_id) == ("peer", "logger")
