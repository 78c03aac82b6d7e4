"""Headers and filters: equal values, exact matches, and refusal of unusable ones."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import math
import struct
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from pamqp import body, commands

from fabric_nb.errors import NotSerializable, RecordingError, RemoteError, UnusableHeader
from fabric_nb.fabric.amqp import frames
from fabric_nb.fabric.data.recording import HEADER_PREFIX
from tests.broker.rawclient import RawClient
from tests.support.fabric import Members, next_message, wait_for_service
from tests.support.rabbitmq import RabbitMq

VALUES = [
    0.1,
    0.5,
    -0.0,
    1e300,
    5e-324,
    1 / 3,
    0,
    1,
    True,
    False,
    None,
    -1,
    127,
    128,
    -129,
    65_535,
    2**31,
    2**32,
    2**63 - 1,
    -(2**63),
    "",
    "text ü \N{SNOWMAN} \0",
    "x" * 100_000,
    b"\x00\xff",
    dt.datetime(2024, 5, 31, 12, 30, tzinfo=dt.UTC),
    dt.datetime(2024, 5, 31, 12, 30, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
    Decimal("3.14"),
    [],
    [1, [0.1, "a", None]],
    {},
    {"a": {"b": [0.1, {"c": True}]}},
    np.int64(5),
    np.float64(0.1),
    np.str_("a"),
]


@pytest.fixture
async def publisher(members):
    """Member that publishes."""
    return await members.join("publisher", type="source")


@pytest.fixture
async def subscriber(members):
    """Member that subscribes."""
    return await members.join("subscriber", type="sink")


async def test_headers_arrive_equal(publisher, subscriber, raw):
    """Each header arrives equal, at a stream and at any other client."""
    queue = await raw.declare_queue(exclusive=True)
    await queue.bind(publisher.data_exchange)
    name = "n" * 128
    async with await subscriber.stream(with_headers=[name]) as stream:
        for value in VALUES:
            await publisher.publish_data({"n": 1}, {name: value, "": "empty"})
        await stream.wait(len(VALUES), timeout=60)
        rows = stream.df[HEADER_PREFIX + name].tolist()
    for value, row in zip(VALUES, rows, strict=True):
        header = (await next_message(queue)).headers[name]
        assert header == value
        assert isinstance(header, bool) == isinstance(value, bool)
        assert row == value or (value is None and row is None)


async def test_a_filter_matches_its_header_and_no_other(publisher, subscriber):
    """A filter matches the messages with the same header, in type and value."""
    # Any header meets None, and RabbitMQ takes an empty list for an empty table.
    distinct = [value for value in VALUES if value is not None and repr(value) != "{}"]
    streams = [await subscriber.stream({"h": value, "k": 1}) for value in distinct]
    for number, value in enumerate(distinct):
        await publisher.publish_data({"number": number}, {"h": value, "k": 1})
    await publisher.publish_data({"number": -1}, {"h": "another", "k": 1})
    for number, (value, stream) in enumerate(zip(distinct, streams, strict=True)):
        await stream.wait(1, timeout=60)
        received = set(stream.df["number"])
        assert number in received, value
        assert [distinct[other] for other in received if distinct[other] != value] == [], value
        await stream.close()


@pytest.mark.parametrize("value", [0.1, 0.5, 1e300, -2.0])
async def test_a_filter_matches_floats_of_other_libraries(publisher, subscriber, broker_uri, value):
    """A filter with a float matches it as each library encodes it: in 64 bits, or in 32."""
    written = [b"d" + struct.pack(">d", value)]
    if value < 1e38:
        written.append(b"f" + struct.pack(">f", value))
    async with await subscriber.stream(score=value, level=5) as stream:
        for way in written:
            publish_raw(broker_uri, publisher.data_exchange, b"\x05levelb\x05\x05score" + way)
        await publisher.publish_data({"n": 1}, {"score": value * 1.001, "level": 5})
        await publisher.publish_data({"n": 2}, {"score": value, "level": 5})
        await stream.wait(len(written) + 1, timeout=60)
        assert list(stream.df["n"]) == [0] * len(written) + [2]


def publish_raw(uri, exchange, fields):
    """Publish a row whose headers are these bytes; return when it is confirmed."""
    table = len(fields).to_bytes(4) + fields
    head = b"\x00\x3c\x00\x00" + (8).to_bytes(8) + b"\x20\x00" + table
    with RawClient(uri) as client:
        client.open().call(1, commands.Confirm.Select())
        client.send(1, commands.Basic.Publish(0, exchange, ""))
        client.send_bytes(frames.frame(frames.HEADER, 1, head))
        client.send(1, body.ContentBody(b'{"n": 0}'))
        assert isinstance(client.receive()[1], commands.Basic.Ack)


REFUSED = [
    {"score": math.nan},
    {"score": [math.inf]},
    {"n": 2**63},
    {"at": dt.datetime(2024, 5, 31)},  # noqa: DTZ001 - it is the point
    {"at": dt.datetime(2024, 5, 31, 0, 0, 0, 5, tzinfo=dt.UTC)},
    {"x" * 200: 1},
    {"x": "\udc80"},
    {"CC": "USD"},
    {"BCC": ["key"]},
    {"x": object()},
    {"x": "x" * 200_000},
    {f"x{n}": n for n in range(50_000)},
]


@pytest.mark.any_broker
@pytest.mark.parametrize("headers", REFUSED, ids=range(len(REFUSED)))
async def test_unusable_headers_are_refused_at_the_sender(
    members, publisher, subscriber, headers, tmp_path
):
    """Unusable headers are refused at once, without an effect on other work."""
    await subscriber.serve({"slow": lambda: asyncio.sleep(0.5, "done")})
    caller = await members.join("caller", type="client")
    connected = [
        connection
        for member in (publisher, subscriber, caller)
        for connection in (member.member.connection, member.member.consumer_connection)
    ]
    reconnects = [connection.reconnects for connection in connected]
    async with await subscriber.stream() as stream:
        call = asyncio.create_task(caller.call("sink.subscriber.slow", timeout=60))
        with pytest.raises(UnusableHeader):
            publisher.publish_data({"n": 1}, headers)  # the future is not awaited
        with pytest.raises(ValueError, match=r"\.$"):
            await subscriber.stream(headers)
        with pytest.raises(NotSerializable):
            await subscriber.subscribe_data("sub", headers, print)
        with pytest.raises((UnusableHeader, RecordingError)):
            await publisher.replay(tmp_path / "none.jsonl", headers=headers)
        await publisher.publish_data({"n": 2})
        await stream.wait(1, timeout=60)
        assert list(stream.df["n"]) == [2]
        assert await call == "done"
    assert [connection.reconnects for connection in connected] == reconnects
    assert publisher.publisher.failed == 0


async def test_headers_are_checked_at_once(publisher, caplog):
    """Unusable headers are refused at once, also while the broker is away, and are not logged."""
    with caplog.at_level(logging.WARNING):
        for bad in ({"score": math.nan}, {"x": 1j}):
            with pytest.raises(UnusableHeader, match="header '"):
                publisher.publish_data(b"", bad)
    assert not caplog.records


@pytest.fixture(scope="module")
def small_frames():
    """RabbitMQ with a small maximum of the frame size."""
    with RabbitMq.start(settings={"frame_max": 8192}) as node:
        yield node.uri


async def test_headers_longer_than_the_frames_of_a_broker(small_frames):
    """Headers that do not fit into a frame of the broker are refused, or reported in the reply."""
    wide = pd.DataFrame({f"column {n}": [n] for n in range(300)})
    async with Members(small_frames) as members:
        server = await members.join("server")
        caller = await members.join("caller", type="client")
        serving = await server.serve({"wide": lambda: wide, "columns": lambda x: x.shape[1]})
        await wait_for_service(caller, "server", methods=2)
        connections = server.member.connection, caller.member.connection
        reconnects = [connection.reconnects for connection in connections]
        with pytest.raises(RemoteError, match=r"The headers take .* bytes, and this broker takes"):
            await caller.call("server.wide", timeout=60)
        with pytest.raises(UnusableHeader, match="The headers take"):
            await caller.call("server.columns", x=wide, timeout=60)
        with pytest.raises(UnusableHeader, match="The headers take"):
            await caller.publish_data({"n": 1}, {"text": "x" * 10_000})
        assert await caller.call("server.columns", x=wide.iloc[:, :9], timeout=60) == 9
        assert serving.stats["wide"].running == 0
        assert [connection.reconnects for connection in connections] == reconnects
