"""Malformed messages are counted and kept, without an effect on other work."""

from __future__ import annotations

import asyncio
import json
import logging

import aio_pika
import pytest

from fabric_nb.errors import MalformedMessage, RemoteError
from tests.support.fabric import next_message, until, wait_for_service
from tests.support.peers import DOMAIN

pytestmark = pytest.mark.any_broker  # it carries bytes

HUGE = 20_000_000
NOT_JSON = {
    "empty": b"",
    "not JSON": b"{not json",
    "not text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "half": b'{"a": ',
    "huge": b"x" * HUGE,
}


@pytest.fixture
async def fabric(members):
    """Member that serves, listens, streams and reads logs."""
    member = await members.join("one")
    await member.serve({"add": lambda x, y: x + y})
    await wait_for_service(member, "one", methods=2)
    return member


@pytest.fixture
def send(raw):
    """Return a function that publishes any message."""

    async def publish(exchange, key="", body=b"", headers=None, **properties):
        message = aio_pika.Message(body, headers=headers, **properties)
        target = await raw.get_exchange(exchange) if exchange else raw.default_exchange
        await target.publish(message, key)

    return publish


async def works(fabric):
    """Check that all features still work."""
    assert await fabric.call("one.add", x=1, y=2, timeout=60) == 3
    version = fabric.registry.changes
    await until(lambda: fabric.registry.changes > version)
    async with await fabric.stream(check=1) as stream:
        await fabric.publish_data({"n": 1}, {"check": 1})
        await stream.wait(1, timeout=60)


@pytest.mark.parametrize(
    "body",
    [*NOT_JSON.values(), b"[1, 2]", b"7", b"null"],
    ids=[*NOT_JSON, "list", "number", "null"],
)
async def test_malformed_calls(fabric, send, raw, body):
    """A call that is not a JSON object is answered with an error, and further calls are served."""
    replies = await raw.declare_queue(exclusive=True)
    key = fabric.name.method_queue("add")
    properties = {"reply_to": replies.name, "correlation_id": "c1", "type": "call"}
    await send(fabric.name.api_exchange, key, body, **properties)
    await until(lambda: fabric.rejected.counts["call"] == 1)
    reply = await next_message(replies)
    assert reply.type == "error"
    assert reply.correlation_id == "c1"
    assert json.loads(reply.body)["error"]["type"].endswith("MalformedMessage")
    await works(fabric)


async def test_call_without_properties(fabric, send):
    """A call without reply address, id or headers is run, and no reply is sent."""
    runs = []
    await fabric.serve({"work": lambda **kwargs: runs.append(kwargs)}, id="two")
    await send(f"{DOMAIN}.api.app.two", f"{DOMAIN}.api.app.two::work", b'{"x": 1}', type="call")
    await until(lambda: runs == [{"x": 1}])
    await works(fabric)


@pytest.mark.parametrize(
    ("type", "body"),
    [
        ("result", b"{not json"),
        pytest.param("result", b"x" * HUGE, id="result-huge"),
        ("error", b"{}"),
        ("error", b'{"error": 5}'),
        ("error", b"{not json"),
        ("nonsense", b"1"),
        (None, b"1"),
    ],
    ids=str,
)
async def test_malformed_reply(fabric, raw, send, type, body):  # noqa: A002
    """A malformed reply is an error of its call only."""
    exchange = await raw.declare_exchange(f"{DOMAIN}.api.app.bad", "direct", auto_delete=True)
    queue = await raw.declare_queue(f"{DOMAIN}.api.app.bad::do", durable=True, auto_delete=True)
    await queue.bind(exchange, queue.name)

    async def answer(message):
        properties = {"type": type, "correlation_id": message.correlation_id}
        await send("", message.reply_to, body, **properties)

    await queue.consume(answer, no_ack=True)
    with pytest.raises(MalformedMessage, match="sent a reply that cannot be read"):
        await fabric.call("app.bad.do", timeout=60)
    assert fabric.rejected.counts["reply"] == 1
    await works(fabric)


async def test_incomplete_error_replies(fabric, raw, send):
    """An error reply with missing or invalid fields is still a `RemoteError`."""
    exchange = await raw.declare_exchange(f"{DOMAIN}.api.app.odd", "direct", auto_delete=True)
    queue = await raw.declare_queue(f"{DOMAIN}.api.app.odd::do", durable=True, auto_delete=True)
    await queue.bind(exchange, queue.name)
    errors = [{}, {"type": 5, "message": [1], "args": "x"}, {"type": "UnicodeDecodeError"}]

    async def answer(message):
        body = json.dumps({"error": errors[json.loads(message.body)["n"]]}).encode()
        await send("", message.reply_to, body, type="error", correlation_id=message.correlation_id)

    await queue.consume(answer, no_ack=True)
    for n in range(len(errors)):
        with pytest.raises(RemoteError) as caught:
            await fabric.call("app.odd.do", n=n, timeout=60)
        assert str(caught.value)


async def test_unexpected_replies(fabric, send, raw):
    """A reply to no call, or without an id, is ignored."""
    name = f"{DOMAIN}.api.app.odd"
    exchange = await raw.declare_exchange(name, "direct", auto_delete=True)
    queue = await raw.declare_queue(f"{name}::do", durable=True, auto_delete=True)
    await queue.bind(exchange, queue.name)

    async def answer(message):
        for correlation_id in ("unknown", "", None, message.correlation_id):
            body = b"2" if correlation_id == message.correlation_id else b"1"
            await send("", message.reply_to, body, type="result", correlation_id=correlation_id)

    await queue.consume(answer, no_ack=True)
    assert await fabric.call("app.odd.do", timeout=60) == 2
    await works(fabric)
    assert fabric.rejected.total == 0


GOOD = {
    "msg_type": "keep_alive",
    "service_domain": DOMAIN,
    "service_type": "app",
    "service_id": "x",
}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{not json", GOOD),
        pytest.param(b"x" * HUGE, GOOD, id="huge"),
        (b"\xff\xfe", GOOD),
        (b"", {"msg_type": "keep_alive"}),
        (b"", {**GOOD, "service_id": ""}),
        (b"", {**GOOD, "service_id": "a.b"}),
        (b"", {**GOOD, "service_type": 7}),
        (b"", {**GOOD, "service_domain": {"a": 1}}),
        (b"", {**GOOD, "service_id": "x" * 1000}),
    ],
    ids=["not JSON", "huge", "not text", "missing", "empty", "dot", "number", "table", "long"],
)
async def test_malformed_keep_alive(fabric, send, body, headers):
    """A malformed keep-alive adds no service, and the others are received."""
    await send("msc.discovery", "", body, headers)
    await until(lambda: fabric.rejected.counts["keep-alive"] == 1)
    assert [service.name.id for service in fabric.registry.services(gone=True)] == ["one"]
    await works(fabric)


@pytest.mark.parametrize(
    "content",
    [
        7,
        [],
        {"instance": 7, "version": [], "interval": "x", "methods": 7},
        {"instance": "i", "interval": -1, "busy_since": "x", "methods": {"a.b": "()", "ok": 7}},
        {"instance": "i", "interval": 1e300, "methods": {"__import__('os')": "(x)"}},
        {"other": "library"},
    ],
    ids=str,
)
async def test_keep_alives_with_unknown_fields(fabric, send, content):
    """Unknown fields of a keep-alive are ignored; the service is known."""
    await send("msc.discovery", "", json.dumps(content).encode(), GOOD)
    service = await wait_for_service(fabric, "x")
    assert set(service.methods) <= {"ok"}
    assert len(fabric.registry.df) == 2
    assert fabric.rejected.total == 0


@pytest.mark.parametrize(
    "body",
    [*NOT_JSON.values(), b"7", b'"text"', b"[1]", b'[{"a": 1}, 2]'],
    ids=[*NOT_JSON, "number", "text", "list", "mixed"],
)
async def test_malformed_data(fabric, send, body):
    """Malformed data add no row and are counted by their stream; further data are rows."""
    async with await fabric.stream() as stream:
        await send(fabric.data_exchange, "", body)
        await fabric.publish_data({"n": 1})
        await stream.wait(1, timeout=60)
        assert stream.rejected == 1
        assert stream.rows == 1
        assert fabric.rejected.counts["data"] == 1
        # Acknowledged, so that it is not delivered again.
        await until(lambda: stream.consumer.unacknowledged == 0)


async def test_huge_data(fabric):
    """A valid message of 20 MB is a row."""
    async with await fabric.stream() as stream:
        await fabric.publish_data({"text": "x" * HUGE})
        await stream.wait(1, timeout=60)
        assert len(stream.df["text"][0]) == HUGE


@pytest.mark.parametrize(
    "body", [*NOT_JSON.values(), b"7", b"{}"], ids=[*NOT_JSON, "number", "object"]
)
async def test_malformed_log(fabric, send, body):
    """A malformed log record is counted, and further ones are read."""
    async with await fabric.logs() as feed:
        exchange = f"{DOMAIN}.log.records"
        await send(exchange, "", body, {"level_name": "INFO"})
        odd = {"level_name": 5, "service_id": ["x"], "line_number": "x", "created": -1}
        await send(exchange, "", b'"fine"', odd)
        await send(exchange, "", json.dumps("x" * 1_000_000).encode())
        await feed.wait(2, timeout=60)
        assert [record.message[:4] for record in feed.records] == ["fine", "xxxx"]
        assert len(feed.records[1].message) < 20_000
        assert len(feed.df) == 2
        assert fabric.rejected.counts["log"] == 1


async def test_kept_messages(fabric, send):
    """The last hundred are kept, truncated to 10 kB, with kind, reason, headers and whole size."""
    async with await fabric.stream() as stream:
        await send(fabric.data_exchange, "", b"y" * 50_000, {"n": -1})
        for n in range(105):
            await send(fabric.data_exchange, "", b"x" * n, {"n": n})
        await until(lambda: stream.rejected == 106)
    assert fabric.rejected.total == 106
    assert len(fabric.rejected.last) == 100
    last = fabric.rejected.last[-1]
    assert (last.kind, last.size, last.headers["n"]) == ("data", 104, 104)
    assert "not JSON" in last.reason
    async with await fabric.stream() as stream:
        await send(fabric.data_exchange, "", b"y" * 50_000)
        await until(lambda: stream.rejected)
    assert (fabric.rejected.last[-1].size, len(fabric.rejected.last[-1].body)) == (50_000, 10_000)


async def test_rejected_messages_are_logged_once_a_minute(fabric, send, caplog):
    """Many rejected messages are one line in the log."""
    with caplog.at_level(logging.WARNING, "fabric_nb.fabric.amqp.rejected"):
        async with await fabric.stream() as stream:
            for _ in range(20):
                await send(fabric.data_exchange, "", b"x")
            await until(lambda: stream.rejected == 20)
    assert len([r for r in caplog.records if r.name == "fabric_nb.fabric.amqp.rejected"]) == 1
    await asyncio.sleep(0)
