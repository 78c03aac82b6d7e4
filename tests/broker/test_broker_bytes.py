"""Comparison of every frame of the embedded broker with RabbitMQ's, byte by byte.

A session is recorded on both: steps of bytes to the broker, and a number of frames from it. All
bytes must be equal, including reserved fields, flags and the order of properties, except for
`PLACEHOLDERS` and the texts of `PARSERS`. Cases in which RabbitMQ closes the connection without a
frame are not compared: unknown methods, malformed properties, a failed handshake.
"""

from __future__ import annotations

import re
import struct
import time
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
from pamqp import body, commands, frame, header
from pamqp.commands import Basic, Channel, Confirm, Connection, Exchange, Queue, Tx

from fabric_nb.broker.field_table import join_table, split_table
from fabric_nb.broker.framing import HEARTBEAT
from tests.broker.process import PASSWORD, USER, BrokerProcess
from tests.broker.rawclient import PROTOCOL_HEADER, RawClient
from tests.support.rabbitmq_supervisor import (
    TRANSIENT_QUEUES_DENIED,
    rabbitmq_version,
    transient_queues_denied,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.rabbitmq import RabbitMq

pytestmark = pytest.mark.skipif(transient_queues_denied(), reason=TRANSIENT_QUEUES_DENIED)

Frame = tuple[int, int, bytes]
Step = tuple[bytes, int]
"""Bytes to the broker, and the number of frames in reply."""

CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}
PLACEHOLDERS = (
    (rb"amq\.gen-[\w-]{22}", b"generated queue name"),
    (rb"amq\.ctag-[\w-]{22}", b"generated consumer tag"),
    (rb".amq\.rabbitmq\.reply-to\.[\w=+/.-]+", b"direct reply-to address"),
    (rb"\x04timeT.{8}", b"time of a death"),
    (rb"\b(byte|signedint)\b", b"width of a whole number"),
)
"""Placeholders for values that differ between runs; see `_start` for the server properties."""


def method(value: Any, channel: int = 1) -> bytes:
    return frame.marshal(value, channel)


def raw(kind: int, channel: int, payload: bytes, end: bytes = b"\xce") -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


def content_header(size: int, channel: int = 1, **properties: Any) -> bytes:
    value = header.ContentHeader(0, size, Basic.Properties(**properties))
    return frame.marshal(value, channel)


def publish(
    key: str, data: bytes = b"", exchange: str = "", mandatory: bool = False, **properties: Any
) -> bytes:
    parts = [data[start : start + 100_000] for start in range(0, len(data), 100_000)]
    return b"".join(
        [
            method(Basic.Publish(0, exchange, key, mandatory)),
            content_header(len(data), **properties),
            *(frame.marshal(body.ContentBody(part), 1) for part in parts),
        ]
    )


def steps(*values: Any) -> list[Step]:
    """Return steps after opening a channel; a method, or bytes, alone expects one frame."""
    result: list[Step] = [(method(Channel.Open()), 1)]
    for step in values:
        data, count = step if isinstance(step, tuple) else (step, 1)
        result.append((data if isinstance(data, bytes) else method(data), count))
    return result


def queue(name: str, **arguments: Any) -> Queue.Declare:
    return Queue.Declare(queue=name, exclusive=True, arguments=arguments)


def dead_letters(source: str, **arguments: Any) -> list[Any]:
    """Declare two queues, of which the first dead-letters to the second, which is consumed."""
    arguments |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    consume = Basic.Consume(queue="dead", consumer_tag="d", no_ack=True)
    return [queue("dead"), queue(source, **arguments), consume]


PROPERTIES: dict[str, Any] = {
    "content_type": "x/y",
    "content_encoding": "z",
    "headers": {"a": 1, "b": 0.5, "c": "x", "d": True, "e": None, "f": [1, "y"], "g": {"h": 1}},
    "delivery_mode": 2,
    "priority": 3,
    "correlation_id": "c",
    "reply_to": "r",
    "expiration": "60000",
    "message_id": "m",
    "timestamp": datetime(2020, 1, 1, tzinfo=UTC),
    "message_type": "t",
    "user_id": USER,
    "app_id": "a",
}

SESSIONS: dict[str, list[Step]] = {
    "queues": steps(
        queue("q"),
        queue(""),
        Queue.Declare(queue="q", passive=True),
        Queue.Bind(0, "q", "amq.headers", "k", False, {"x-match": "all", "a": 1}),
        Queue.Unbind(0, "q", "amq.headers", "k", {"x-match": "all", "a": 1}),
        Queue.Unbind(0, "gone", "amq.headers", "k"),
        Confirm.Select(),
        publish("q", b"1"),
        publish("q", b"2"),
        queue("q"),
        Queue.Purge(queue="q"),
        publish("q", b"3"),
        Queue.Delete(queue="q"),
        Queue.Delete(queue="q"),
    ),
    "exchanges": steps(
        Exchange.Declare(exchange="bytes-a", exchange_type="topic", auto_delete=True),
        Exchange.Declare(exchange="bytes-b", exchange_type="fanout", durable=True),
        Exchange.Declare(exchange="bytes-b", passive=True),
        Exchange.Bind(0, "bytes-b", "bytes-a", "k.#"),
        Exchange.Unbind(0, "bytes-b", "bytes-a", "k.#"),
        Exchange.Delete(exchange="bytes-b"),
        Exchange.Delete(exchange="bytes-b"),
    ),
    "deliveries": steps(
        queue("q"),
        Confirm.Select(),
        publish("q", b"hello", **PROPERTIES),
        publish("q", b""),
        publish("q", b"x" * 300_000),
        Basic.Qos(prefetch_count=2),
        (Basic.Consume(queue="q", consumer_tag="tag"), 1 + 3 + 2),
        (Basic.Ack(1), 2 + 3),
        (Basic.Recover(requeue=True), 1 + 2 + 5),
        Basic.Cancel("tag"),
        Basic.Cancel("unknown"),
        (Basic.Nack(0, True, True), 0),
        (Basic.Get(queue="q"), 2),
        (method(Basic.Reject(6, False)) + method(Basic.Get(queue="q", no_ack=True)), 5),
        Basic.Get(queue="q"),
        Basic.Consume(queue="q", no_ack=True),
    ),
    "count behind what has expired": steps(
        queue("q"),
        Confirm.Select(),
        publish("q", b"a"),
        publish("q", b"b", expiration="0"),
        (Basic.Get(queue="q"), 3),
    ),
    "returns": steps(
        (publish("nowhere", b"back", mandatory=True, **PROPERTIES), 3),
        (publish("nowhere", mandatory=True), 2),
        (publish("k", exchange="amq.direct", mandatory=True), 2),
        Confirm.Select(),
        (publish("nowhere", b"back", mandatory=True), 4),
    ),
    "refused by a full queue": steps(
        queue("q", **{"x-max-length": 1, "x-overflow": "reject-publish"}),
        Confirm.Select(),
        publish("q", b"1"),
        publish("q", b"2"),
    ),
    "consumer whose queue goes": steps(
        queue("q"), Basic.Consume(queue="q", consumer_tag="t"), (Queue.Delete(queue="q"), 2)
    ),
    "copies": steps(
        *map(queue, ("a", "b", "c")),
        Confirm.Select(),
        publish("a", b"x", headers={"CC": ["b"], "BCC": ["c"], "z": 1}),
        *((Basic.Get(queue=name, no_ack=True), 3) for name in ("a", "b", "c")),
        (publish("no", b"x", mandatory=True, headers={"CC": ["no"], "BCC": ["no"]}), 4),
        publish("a", headers={"CC": "b"}),
    ),
    "direct reply": steps(
        Basic.Consume(queue="amq.rabbitmq.reply-to", no_ack=True, consumer_tag="r"),
        Queue.Declare(queue="amq.rabbitmq.reply-to", passive=True),
        queue("q"),
        (publish("q", b"ask", reply_to="amq.rabbitmq.reply-to"), 0),
        (Basic.Consume(queue="q", consumer_tag="s", no_ack=True), 4),
    ),
    "transactions": steps(Tx.Select(), Tx.Commit(), Tx.Rollback()),
    "channels": steps(
        Channel.Flow(True),
        (raw(1, 1, b"\x00\x3c\x00\x64\x01"), 0),
        Channel.Close(200, "", 0, 0),
        Channel.Open(),
        method(Channel.Open(), 7),
    ),
    "end": [
        (method(Connection.UpdateSecret("x", "y"), 0), 1),
        (method(Connection.Close(200, "bye", 0, 0), 0), 1),
    ],
    "dead: refused": steps(
        *dead_letters("q"),
        (publish("q", b"x", headers={"a": 1, "CC": ["no"]}, expiration="60000"), 0),
        (Basic.Consume(queue="q", consumer_tag="c"), 4),
        (Basic.Reject(1, False), 3),
    ),
    "dead: expired": steps(
        *dead_letters("q"), (publish("q", b"x", expiration="1", content_type="t"), 3)
    ),
    "dead: too many": steps(*dead_letters("q", **{"x-max-length": 0}), (publish("q", b"x"), 3)),
}
"""Sessions of conforming clients."""

OF_RABBITMQ_3 = {name for name in SESSIONS if name.startswith("dead")}
"""RabbitMQ 4 adds `x-last-death-*`."""
OF_RABBITMQ_4_2 = {"x-queue-mode=what"}
"""Later versions ignore it."""


CONSUME = Basic.Consume(queue="q", consumer_tag="t")
PUBLISH_ONLY = method(Basic.Publish(0, "", "k"))
BAD_ARGUMENTS: list[tuple[str, Any]] = [
    ("x-message-ttl", "text"),
    ("x-message-ttl", -1),
    ("x-expires", 0),
    ("x-max-priority", 300),
    ("x-overflow", "what"),
    ("x-dead-letter-exchange", 3),
    ("x-dead-letter-routing-key", "k"),
    ("x-single-active-consumer", 1),
    ("x-queue-type", "what"),
    ("x-queue-mode", "what"),
]
REFUSALS: dict[str, list[Step]] = {
    "flow": steps(Channel.Flow(False)),
    "recover": steps(Basic.Recover(requeue=False)),
    "no queue": steps(Queue.Declare(queue="no", passive=True)),
    "no queue of this channel": steps(queue("q"), Queue.Declare(queue="", passive=True)),
    "no queue to consume": steps(Basic.Consume(queue="no")),
    "no queue declared": steps(Basic.Consume(queue="")),
    "no queue to bind": steps(Queue.Bind(0, "no", "amq.direct", "k")),
    "no exchange": steps(Exchange.Declare(exchange="no", passive=True)),
    "no exchange to publish to": steps(publish("k", b"x", exchange="no")),
    "no exchange to bind": steps(queue("q"), Queue.Bind(0, "q", "no", "k")),
    "neither to bind": steps(Queue.Bind(0, "no", "nor", "k")),
    "neither exchange": steps(Exchange.Bind(0, "no", "nor", "k")),
    "not the same queue": steps(
        queue("q"), Queue.Declare(queue="q", exclusive=True, auto_delete=True)
    ),
    "not the same arguments": steps(queue("q"), queue("q", **{"x-max-length": 3})),
    **{f"{name}={value}": steps(queue("q", **{name: value})) for name, value in BAD_ARGUMENTS},
    "not the same exchange": steps(
        Exchange.Declare(exchange="amq.direct", exchange_type="fanout", durable=True)
    ),
    "not the same alternate": steps(
        Exchange.Declare(
            exchange="amq.direct",
            exchange_type="direct",
            durable=True,
            arguments={"alternate-exchange": "x"},
        )
    ),
    "alternate that is no name": steps(
        Exchange.Declare(exchange="x", exchange_type="direct", arguments={"alternate-exchange": 3})
    ),
    "reserved exchange": steps(Exchange.Declare(exchange="amq.no", exchange_type="fanout")),
    "reserved queue": steps(Queue.Declare(queue="amq.no")),
    "default exchange": steps(Exchange.Declare(exchange="", exchange_type="direct")),
    "default exchange to bind": steps(queue("q"), Queue.Bind(0, "q", "", "k")),
    "system exchange": steps(Exchange.Delete(exchange="amq.direct")),
    "internal exchange": steps(
        Exchange.Declare(exchange="bytes-i", exchange_type="fanout", internal=True),
        (publish("k", exchange="bytes-i") + method(Channel.CloseOk()), 1),
        Channel.Open(),
        Exchange.Delete(exchange="bytes-i"),
    ),
    "exclusive consumer": steps(
        queue("q"),
        Basic.Consume(queue="q", consumer_tag="t", exclusive=True),
        Basic.Consume(queue="q", consumer_tag="u"),
    ),
    "exclusive and single active": steps(
        queue("q", **{"x-single-active-consumer": True}),
        Basic.Consume(queue="q", consumer_tag="t", exclusive=True),
    ),
    "same tag": steps(queue("q"), CONSUME, CONSUME),
    "priority": steps(queue("q"), Basic.Consume(queue="q", arguments={"x-priority": "high"})),
    "immediate": steps(method(Basic.Publish(0, "", "k", False, True)) + content_header(0)),
    "prefetch size": steps(Basic.Qos(prefetch_size=5)),
    "confirms in a transaction": steps(Tx.Select(), Confirm.Select()),
    "transaction with confirms": steps(Confirm.Select(), Tx.Select()),
    "commit": steps(Tx.Commit()),
    "rollback": steps(Tx.Rollback()),
    "ack": steps(Basic.Ack(7)),
    "nack": steps(Basic.Nack(7)),
    "reject": steps(Basic.Reject(7)),
    "user": steps(publish("k", user_id="other")),
    **{
        f"expiration {text!r}": steps(publish("k", expiration=text))
        for text in ("abc", "-1", "12a", " 1", "1.5", "9" * 15)
    },
    "reply without consumer": steps(publish("k", reply_to="amq.rabbitmq.reply-to")),
    "reply with acks": steps(Basic.Consume(queue="amq.rabbitmq.reply-to")),
    "in use": steps(queue("q"), CONSUME, Queue.Delete(queue="q", if_unused=True)),
    "not empty": steps(
        queue("q"), Confirm.Select(), publish("q"), Queue.Delete(queue="q", if_empty=True)
    ),
    "x-match": steps(queue("q"), Queue.Bind(0, "q", "amq.headers", "", False, {"x-match": "what"})),
    "second open": steps(Channel.Open()),
    "channel that is not open": [(method(queue("q"), 5), 1)],
    "answer of a server": steps(Queue.DeclareOk("q", 0, 0)),
    "connection's method": steps(Connection.Open("/")),
    "second connection": [(method(Connection.Open("/"), 0), 1)],
    "channel's method": [(method(Channel.Open(), 0), 1)],
    "too many channels": [
        (b"".join(method(Channel.Open(), number) for number in range(1, 11)), 10),
        (method(Channel.Open(), 11), 1),
    ],
    "method in content": steps(PUBLISH_ONLY + method(Basic.Qos())),
    "method in body": steps(PUBLISH_ONLY + content_header(2) + method(Basic.Qos())),
    "header in body": steps(PUBLISH_ONLY + content_header(2) + content_header(2)),
    "body for header": steps(PUBLISH_ONLY + frame.marshal(body.ContentBody(b"x"), 1)),
    "header alone": steps(content_header(0)),
    "body alone": steps(frame.marshal(body.ContentBody(b"x"), 1)),
    "weight": steps(PUBLISH_ONLY + raw(2, 1, struct.pack(">HHQH", 60, 1, 0, 0))),
    "class": steps(PUBLISH_ONLY + raw(2, 1, struct.pack(">HHQH", 50, 0, 0, 0))),
}
"""Errors of clients; RabbitMQ's texts are compared."""

PARSERS: dict[str, list[Step]] = {
    "kind of frame": steps(raw(7, 1, b"x")),
    "end of frame": steps(raw(1, 1, b"\x00\x14\x00\x14\x01", b"\0")),
    "length of frame": steps(struct.pack(">BHI", 3, 1, 200_000)),
    "length of text": steps(raw(1, 1, b"\x00\x32\x00\x0a\0\0\xffab")),
    "heartbeat with content": [(raw(8, 0, b"x"), 1)],
    "heartbeat on a channel": steps((raw(8, 1, b""), 0), Basic.Qos()),
}
"""Malformed bytes: code, class and method are compared, but not Erlang's texts."""

SENT_BY_CLIENTS = {
    *(Connection.StartOk, Connection.SecureOk, Connection.TuneOk, Connection.Open),
    *(Connection.UpdateSecret, Channel.Open, Exchange.Declare, Exchange.Delete, Exchange.Bind),
    *(Exchange.Unbind, Queue.Declare, Queue.Bind, Queue.Purge, Queue.Delete, Queue.Unbind),
    *(Basic.Qos, Basic.Consume, Basic.Publish, Basic.Get, Basic.Reject, Basic.RecoverAsync),
    *(Basic.Recover, Confirm.Select, Tx.Select, Tx.Commit, Tx.Rollback),
}
NEVER_SENT = {Connection.Secure, Channel.Flow}
"""Methods that neither broker sends: mechanisms have one step, and TCP replaces Channel.Flow."""


def record(uri: str, session: Iterable[Step]) -> list[list[Frame]]:
    """Run a session, and return all frames from the broker by step."""
    with RawClient(uri) as client:
        opening: list[Step] = [
            (PROTOCOL_HEADER, 1),
            (method(client.start_ok(CAPABILITIES), 0), 1),
            (
                method(Connection.TuneOk(10, 131_072, 0), 0) + method(Connection.Open("/"), 0),
                1,
            ),
        ]
        return [_play(client, step) for step in [*opening, *session]]


def _play(client: RawClient, step: Step) -> list[Frame]:
    data, count = step
    client.send_bytes(data)
    frames: list[Frame] = []
    while len(frames) < count:
        kind, channel, size = struct.unpack(">BHI", client.receive_bytes(7))
        payload = client.receive_bytes(size + 1)[:-1]
        if kind != HEARTBEAT:  # the embedded broker probes a client while it is not read
            frames.append((kind, channel, payload))
    return frames


def comparable(recorded: list[list[Frame]]) -> list[list[Frame]]:
    """Return the frames of each step in the order of each channel.

    RabbitMQ runs a process per channel, so that the order between channels is undefined.
    """
    return [
        sorted((_comparable(*value) for value in step), key=lambda value: value[1])
        for step in recorded
    ]


def _comparable(kind: int, channel: int, payload: bytes) -> Frame:
    if payload.startswith(b"\x00\x0a\x00\x0a"):
        payload = _start(payload)
    if kind == 1 and payload[:4] in {b"\x00\x14\x00\x28", b"\x00\x0a\x00\x32"}:
        payload = payload[:6] + payload[7:]  # the length of the text, which placeholders change
    for pattern, placeholder in PLACEHOLDERS:
        payload = re.sub(pattern, placeholder, payload, flags=re.DOTALL)
    return kind, channel, payload


def _start(payload: bytes) -> bytes:
    """Return Connection.Start without names and versions, and with sorted mechanisms.

    RabbitMQ lists mechanisms in any order, and since version 4 with ANONYMOUS.
    """
    end = 10 + int.from_bytes(payload[6:10])
    fields = split_table(payload[6:end])
    properties = {name: b"S" if value[:1] == b"S" else value for name, value in fields.items()}
    stop = end + 4 + int.from_bytes(payload[end : end + 4])
    mechanisms = sorted({*payload[end + 4 : stop].split()} - {b"ANONYMOUS"})
    return payload[:6] + join_table(properties) + b" ".join(mechanisms) + payload[stop:]


def _reference(rabbitmq: RabbitMq) -> str:
    """Return the URI of RabbitMQ's default virtual host, for the embedded broker's user.

    Before that, wait until the exclusive queues of earlier sessions are deleted.
    """
    while rabbitmq.list_queues():
        time.sleep(0.05)  # there is no event
    return rabbitmq.add_user(USER, PASSWORD)


@pytest.mark.parametrize("name", SESSIONS)
def test_frames_equal_rabbitmqs(rabbitmq: RabbitMq, broker: BrokerProcess, name: str) -> None:
    """A client of RabbitMQ receives the same bytes from the embedded broker."""
    if name in OF_RABBITMQ_3 and not rabbitmq.version.startswith("3."):
        pytest.skip(f"RabbitMQ {rabbitmq.version} adds headers to dead letters")
    expected = record(_reference(rabbitmq), SESSIONS[name])
    assert comparable(record(broker.uri, SESSIONS[name])) == comparable(expected)


@pytest.mark.parametrize("name", REFUSALS)
def test_errors_equal_rabbitmqs(rabbitmq: RabbitMq, broker: BrokerProcess, name: str) -> None:
    """An error has the same code, text and method."""
    if name in OF_RABBITMQ_4_2 and rabbitmq_version() >= [4, 3]:
        pytest.skip(f"RabbitMQ {rabbitmq.version} ignores this argument")
    expected = record(_reference(rabbitmq), REFUSALS[name])
    assert comparable(record(broker.uri, REFUSALS[name])) == comparable(expected)


@pytest.mark.parametrize("name", PARSERS)
def test_malformed_bytes_have_the_same_close_code(
    rabbitmq: RabbitMq, broker: BrokerProcess, name: str
) -> None:
    """The code and method are the same; the text may differ."""

    def close(uri: str) -> tuple[int, int, int]:
        kind, channel, payload = record(uri, PARSERS[name])[-1][-1]
        _, _, value = frame.unmarshal(raw(kind, channel, payload))
        assert isinstance(value, Connection.Close)
        return value.reply_code, value.class_id, value.method_id

    assert close(broker.uri) == close(_reference(rabbitmq))


def test_a_refused_login_equals_rabbitmqs(rabbitmq: RabbitMq, broker: BrokerProcess) -> None:
    """The refusal is the same except for the reference to a log file."""

    def refusal(uri: str) -> bytes:
        with RawClient(uri) as client:
            client.start()
            step = method(client.start_ok(CAPABILITIES, "\0tester\0wrong"), 0), 1
            ((_, _, payload),) = _play(client, step)
            return payload[:6] + payload[7:].replace(b". For details see the broker logfile.", b"")

    assert refusal(broker.uri) == refusal(_reference(rabbitmq))


def test_memory_alarm_and_shutdown_equal_rabbitmqs(rabbitmq: RabbitMq) -> None:
    """A publisher receives Blocked and Unblocked, and the reason of a shutdown."""
    blocked = (method(Channel.Open()) + publish("k"), 2)
    nothing = (b"", 1)
    with RawClient(_reference(rabbitmq)) as client:
        client.open(channels=0, capabilities=CAPABILITIES)
        rabbitmq.set_memory_alarm(raised=True)
        try:
            expected = [_play(client, blocked)]
        finally:
            rabbitmq.set_memory_alarm(raised=False)
        expected.append(_play(client, nothing))
    with (
        BrokerProcess("--memory-limit", "1") as small,
        RawClient(small.uri) as client,
        RawClient(small.uri) as second,
    ):
        client.open(capabilities=CAPABILITIES)
        client.call(1, Queue.Declare(queue="q"))
        assert _play(client, (publish("q", b"x" * 1000) * 500, 1)) == expected[0][:1]
        second.open()
        second.call(1, Queue.Purge(queue="q"))
        assert _play(client, nothing) == expected[1]
        small.terminate()
        close = client.receive()[1]
        assert (close.reply_code, close.class_id, close.method_id) == (320, 0, 0)
        assert close.reply_text == (
            "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
        )


def test_the_sessions_cover_every_method(broker: BrokerProcess) -> None:
    """The sessions contain every method that a server may send."""
    seen = {Connection.Blocked, Connection.Unblocked}  # in the test of memory alarms
    for session in [*SESSIONS.values(), *REFUSALS.values()]:
        for kind, _, payload in chain.from_iterable(record(broker.uri, session)):
            if kind == 1:
                seen.add(commands.INDEX_MAPPING[int.from_bytes(payload[:4])])
    assert seen == set(commands.INDEX_MAPPING.values()) - SENT_BY_CLIENTS - NEVER_SENT
