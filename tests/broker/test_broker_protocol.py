"""Handshake, protocol errors and closing, frame by frame."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest
from pamqp import body, frame, header, heartbeat
from pamqp.commands import Basic, Channel, Confirm, Connection, Exchange, Queue, Tx

from tests.broker.rawclient import PROTOCOL_HEADER, Closed, RawClient

if TYPE_CHECKING:
    from tests.broker.process import BrokerProcess


def raw_frame(kind: int, channel: int, payload: bytes, end: bytes = b"\xce") -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


def content(payload: bytes) -> bytes:
    """Return an unroutable Basic.Publish with this content header."""
    return raw_frame(1, 1, b"\x00\x3c\x00\x28\0\0\0\0\0") + raw_frame(2, 1, payload)


def nested_table(depth: int) -> bytes:
    value = b"V"
    for _ in range(depth):
        entry = b"\x01k" + value
        value = b"F" + struct.pack(">I", len(entry)) + entry
    return value[1:]


# Handshake


@pytest.mark.parametrize("opening", [b"AMQP\x01\x01\x00\x0a", b"AMQP\0\0\x09\0", b"GET / HT"])
def test_other_protocols_receive_the_supported_header(
    broker: BrokerProcess, opening: bytes
) -> None:
    """The broker sends its protocol header, and closes the connection."""
    with RawClient(broker.uri) as client:
        client.send_bytes(opening)
        assert client.receive_bytes(8) == PROTOCOL_HEADER
        with pytest.raises(Closed):
            client.receive()


def test_the_server_properties_contain_capabilities_and_purpose(broker: BrokerProcess) -> None:
    """They contain the capabilities, and the note that the broker is for development."""
    with RawClient(broker.uri) as client:
        start = client.start()
        properties = start.server_properties
        assert properties
        capabilities: Any = properties["capabilities"]
        assert {"publisher_confirms", "basic.nack", "connection.blocked"} <= set(capabilities)
        assert "development" in str(properties["information"])
        assert start.mechanisms == "PLAIN AMQPLAIN"


@pytest.mark.parametrize("response", ["\0tester\0wrong", "\0who\0p@ss/word", "tester", "", "\0\0"])
@pytest.mark.parametrize("notified", [True, False])
def test_wrong_credentials_are_refused(
    broker: BrokerProcess, response: str, notified: bool
) -> None:
    """Clients with the capability receive 403; others see the end of the stream."""
    with RawClient(broker.uri) as client:
        client.start()
        client.send(0, client.start_ok({"authentication_failure_close": notified}, response))
        frames = client.until_closed() if not notified else [client.receive()[1]]
        assert [(value.name, value.reply_code) for value in frames] == (
            [("Connection.Close", 403)] if notified else []
        )


def test_amqplain_opens_a_connection(broker: BrokerProcess) -> None:
    """AMQPLAIN is an older mechanism of RabbitMQ's clients."""
    table = b"\x05LOGINS\0\0\0\x06tester\x08PASSWORDS\0\0\0\x09p@ss/word"
    with RawClient(broker.uri) as client:
        client.start()
        tune = client.call(0, Connection.StartOk({}, "AMQPLAIN", table.decode()))
        assert isinstance(tune, Connection.Tune)


@pytest.mark.parametrize(
    ("tune", "vhost", "code"),
    [
        (Connection.TuneOk(10, 131_072, 0), "nowhere", 530),
        (Connection.TuneOk(10, 100, 0), "/", 530),
        (Connection.TuneOk(10, 131_073, 0), "/", 530),
        (Connection.TuneOk(4000, 131_072, 0), "/", 530),
    ],
)
def test_excessive_limits_and_unknown_virtual_hosts_are_refused(
    broker: BrokerProcess, tune: Connection.TuneOk, vhost: str, code: int
) -> None:
    """The error is 530."""
    with RawClient(broker.uri) as client:
        client.start()
        client.call(0, client.start_ok())
        client.send(0, tune, Connection.Open(vhost))
        assert client.receive()[1].reply_code == code


def test_unexpected_methods_during_the_handshake_are_refused(
    broker: BrokerProcess,
) -> None:
    """The error is 503, on channel 0 and on others."""
    for channel, method in ((0, Connection.Open("/")), (1, Channel.Open())):
        with RawClient(broker.uri) as client:
            client.start()
            assert client.call(channel, method).reply_code == 503


def test_close_is_confirmed(client: RawClient) -> None:
    """The end of the stream follows CloseOk."""
    assert isinstance(client.call(0, Connection.Close(200, "bye", 0, 0)), Connection.CloseOk)
    assert client.until_closed() == []


# Protocol errors


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (raw_frame(1, 1, b"\x00\x14\x00\x14\x01", b"\0"), 501),
        (raw_frame(7, 1, b"what"), 501),
        (raw_frame(8, 0, b"what"), 501),
        (raw_frame(8, 1, b""), 505),
        (struct.pack(">BHI", 3, 1, 131_065), 501),
        (raw_frame(1, 1, b"\x00\x32\x00\x0a\0\0\xffab"), 501),
        (raw_frame(1, 1, b"\x00\x14\x00\x14\x01\x01"), 501),
        (raw_frame(1, 1, b"\x00\x3c\x00\xff"), 540),
        (raw_frame(1, 1, b"\x00"), 540),
        (raw_frame(3, 1, b"what"), 505),
        (raw_frame(3, 0, b"what"), 505),
        (raw_frame(2, 1, b"\x00\x3c\0\0" + bytes(10)), 505),
        (content(b"\x00\x32\0\0" + bytes(10)), 505),
        (content(b"\x00\x3c\0"), 501),
        (content(b"\x00\x3c\0\0" + bytes(8) + b"\x80\0\x20ab"), 501),
        (content(b"\x00\x3c\0\0" + bytes(8) + b"\0\1\0\0"), 501),
        (content(b"\x00\x3c\0\0" + bytes(8) + b"\x20\0\0\0\0\x03\x01a?"), 501),
        (content(b"\x00\x3c\0\0" + bytes(8) + b"\x20\0" + nested_table(2000)), 501),
        (frame.marshal(Basic.Publish(), 1) + frame.marshal(Queue.Declare(), 1), 505),
        (
            frame.marshal(Basic.Publish(), 1)
            + frame.marshal(header.ContentHeader(0, 2, Basic.Properties()), 1)
            + frame.marshal(body.ContentBody(b"too much"), 1),
            505,
        ),
        (frame.marshal(Queue.Declare(), 0), 504),
        (frame.marshal(Queue.Declare(), 9), 504),
        (frame.marshal(Channel.Open(), 1), 504),
        (frame.marshal(Connection.Open("/"), 1), 503),
        (frame.marshal(Queue.DeclareOk("q", 0, 0), 1), 503),
        (frame.marshal(Basic.Qos(prefetch_size=1), 1), 540),
        (frame.marshal(Basic.Recover(requeue=False), 1), 540),
        (
            frame.marshal(Basic.Publish(immediate=True), 1)
            + frame.marshal(header.ContentHeader(0, 0, Basic.Properties()), 1),
            540,
        ),
        (frame.marshal(Exchange.Declare(exchange="e", exchange_type="odd"), 1), 503),
    ],
)
def test_a_protocol_error_closes_only_the_connection_of_its_client(
    broker: BrokerProcess, client: RawClient, data: bytes, code: int
) -> None:
    """The reply code is that of the specification or of RabbitMQ."""
    with RawClient(broker.uri).open() as offender:
        offender.send_bytes(data)
        _, answer = offender.receive()
        assert (answer.name, answer.reply_code) == ("Connection.Close", code)
        offender.send(0, Connection.CloseOk())
        assert offender.until_closed() == []
    assert isinstance(client.call(1, Basic.Qos()), Basic.QosOk)


@pytest.mark.parametrize(
    ("method", "code"),
    [
        (Queue.Declare(queue="nowhere", passive=True), 404),
        (Queue.Declare(queue="", passive=True), 404),
        (Queue.Declare(queue="amq.mine"), 403),
        (Queue.Declare(queue="q", exclusive=True, arguments={"x-message-ttl": -1}), 406),
        (Queue.Declare(queue="q", exclusive=True, arguments={"x-message-ttl": "1"}), 406),
        (Queue.Declare(queue="q", exclusive=True, arguments={"x-max-priority": 256}), 406),
        (Queue.Declare(queue="q", exclusive=True, arguments={"x-overflow": "what"}), 406),
        (Queue.Declare(queue="q", exclusive=True, arguments={"x-queue-type": "quorum"}), 406),
        (
            Queue.Declare(queue="q", exclusive=True, arguments={"x-dead-letter-routing-key": "k"}),
            406,
        ),
        (Queue.Bind(queue="nowhere", exchange="amq.direct", routing_key="k"), 404),
        (Queue.Purge(queue="nowhere"), 404),
        (Exchange.Declare(exchange="", exchange_type="direct"), 403),
        (Exchange.Declare(exchange="amq.mine", exchange_type="direct"), 403),
        (Exchange.Declare(exchange="nowhere", passive=True), 404),
        (Exchange.Declare(exchange="amq.direct", exchange_type="fanout", durable=True), 406),
        (Exchange.Delete(exchange="amq.direct"), 403),
        (Exchange.Bind(destination="", source="amq.direct", routing_key="k"), 403),
        (Exchange.Bind(destination="amq.direct", source="nowhere", routing_key="k"), 404),
        (Basic.Consume(queue="nowhere"), 404),
        (Basic.Consume(queue="amq.rabbitmq.reply-to"), 406),
        (Basic.Get(queue="nowhere"), 404),
        (Basic.Ack(1), 406),
        (Basic.Nack(1, multiple=True), 406),
        (Basic.Reject(1), 406),
        (Tx.Commit(), 406),
        (Tx.Rollback(), 406),
    ],
)
def test_a_soft_error_closes_only_the_channel(client: RawClient, method: Any, code: int) -> None:
    """The channel can be reopened, and other channels are not affected."""
    answer = client.call(1, method)
    assert (answer.name, answer.reply_code) == ("Channel.Close", code)
    assert (answer.class_id << 16 | answer.method_id) == method.index
    # Frames sent before CloseOk are ignored.
    client.send(1, Queue.Declare(queue="lost"), Channel.CloseOk())
    client.open_channel(1)
    assert isinstance(client.call(2, Basic.Qos()), Basic.QosOk)
    assert client.call(2, Queue.Declare(queue="lost", passive=True)).reply_code == 404


def test_a_duplicate_consumer_tag_closes_the_connection(client: RawClient, name: str) -> None:
    """As in RabbitMQ, the error is 530."""
    client.call(1, Queue.Declare(queue=name, exclusive=True))
    client.call(1, Basic.Consume(queue=name, consumer_tag="t"))
    assert client.call(1, Basic.Consume(queue=name, consumer_tag="t")).reply_code == 530


def test_channel_max_is_enforced(broker: BrokerProcess) -> None:
    """The limit is the negotiated one."""
    with RawClient(broker.uri) as client:
        client.start()
        client.call(0, client.start_ok())
        client.send(0, Connection.TuneOk(2, 131_072, 0), Connection.Open("/"))
        client.receive()
        client.open_channel(1)
        client.open_channel(300)
        assert client.call(2, Channel.Open()).reply_code == 530


def test_confirm_and_transaction_exclude_each_other(client: RawClient) -> None:
    """A channel has one of the two modes."""
    client.call(1, Confirm.Select())
    assert client.call(1, Tx.Select()).reply_code == 406
    client.call(2, Tx.Select())
    assert client.call(2, Confirm.Select()).reply_code == 406


# Frames


@pytest.mark.parametrize("size", [0, 1, 4088, 4089, 10_000])
def test_bodies_are_split_by_the_negotiated_frame_size(
    broker: BrokerProcess, client: RawClient, name: str, size: int
) -> None:
    """A body received in large frames is delivered in small ones, unchanged."""
    data = bytes(index % 251 for index in range(size))
    with RawClient(broker.uri).open(frame_max=4096) as small:
        small.call(1, Queue.Declare(queue=name, auto_delete=True))
        small.call(1, Basic.Consume(queue=name, consumer_tag="t"))
        client.publish(1, name, data, content_type="x", headers={"a": {"b": [1, None]}})
        message = small.receive_message()
        assert message.body == data
        assert message.properties.headers == {"a": {"b": [1, None]}}


def test_frames_may_arrive_byte_by_byte(client: RawClient) -> None:
    """The boundaries of received data are arbitrary."""
    for byte in frame.marshal(Queue.Declare(queue="", exclusive=True), 1):
        client.send_bytes(bytes((byte,)))
    assert isinstance(client.receive()[1], Queue.DeclareOk)


# Heartbeats


def test_the_broker_sends_heartbeats(broker: BrokerProcess) -> None:
    """An idle client receives a heartbeat about once per negotiated interval."""
    with RawClient(broker.uri).open(heartbeat=1) as client:
        client.socket.settimeout(60)
        assert client.receive_bytes(8) == heartbeat.Heartbeat().marshal()


def test_a_client_without_heartbeats_is_disconnected(broker: BrokerProcess, name: str) -> None:
    """It is disconnected after about two intervals, and its deliveries are requeued."""
    with (
        RawClient(broker.uri).open() as watcher,
        RawClient(broker.uri).open(heartbeat=1) as silent,
    ):
        watcher.call(1, Queue.Declare(queue=name, auto_delete=True))
        silent.call(1, Basic.Consume(queue=name, consumer_tag="t"))
        watcher.publish(1, name, b"once")
        silent.receive_message()
        watcher.call(1, Basic.Consume(queue=name, consumer_tag="t"))
        again = watcher.receive_message()
        assert again.body == b"once"
        assert again.method.redelivered
        assert silent.until_closed() == []


def test_no_local_is_ignored(client: RawClient, name: str) -> None:
    """As in RabbitMQ, a consumer with no-local also receives messages of its own connection."""
    client.call(1, Queue.Declare(queue=name, exclusive=True))
    started = client.call(1, Basic.Consume(queue=name, consumer_tag="t", no_local=True))
    assert started.name == "Basic.ConsumeOk"
    client.publish(1, name, b"mine")
    assert client.receive_message().body == b"mine"


NUMBERS = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("layout", ["f", "d"])
@pytest.mark.parametrize("nested", [False, True])
def test_non_finite_numbers_close_the_connection(
    broker_uri: str, number: float, layout: str, nested: bool
) -> None:
    """RabbitMQ cannot decode NaN or an infinity in a table, and neither broker accepts them."""
    value = layout.encode() + struct.pack(f">{layout}", number)
    if nested:
        value = b"A" + struct.pack(">I", len(value)) + value
    table = struct.pack(">I", len(value) + 2) + b"\x01k" + value
    with RawClient(broker_uri) as client:
        client.open()
        client.send_bytes(content(b"\x00\x3c\0\0" + bytes(8) + b"\x20\0" + table))
        _, closed = client.receive()
        assert isinstance(closed, Connection.Close)
        assert closed.reply_code == 541
    with RawClient(broker_uri) as client:
        client.open()
        queue = client.call(1, Queue.Declare(exclusive=True)).queue.encode()
        names = bytes((len(queue),)) + queue + b"\x0bamq.headers" + b"\0"
        client.send_bytes(raw_frame(1, 1, b"\x00\x32\x00\x14\0\0" + names + b"\0" + table))
        try:
            _, answer = client.receive()
        except (Closed, ConnectionResetError):  # RabbitMQ sends no frame
            return
        assert isinstance(answer, Connection.Close)
