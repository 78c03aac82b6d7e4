"""Fuzzing: the broker stays up, closes connections with a reason, and its memory is bounded."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest
from pamqp import body, commands, frame, header
from pamqp.commands import Basic, Channel, Connection, Exchange, Queue, Tx

from tests.broker.process import BrokerProcess
from tests.broker.rawclient import Closed, RawClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CASES = 400
MEGABYTE = 1024 * 1024

_TABLE = {"x-message-ttl": 1, "n": None, "l": [1, {"a": True}], "s": "text", "x-match": "any"}

VALID: list[Any] = [
    Queue.Declare(queue="", exclusive=True, arguments={"x-max-length": 5}),
    Queue.Bind(queue="", exchange="amq.headers", arguments=_TABLE),
    Exchange.Declare(exchange="fuzz", exchange_type="topic", auto_delete=True, arguments=_TABLE),
    Exchange.Bind(destination="amq.fanout", source="amq.topic", routing_key="fuzz.#"),
    Basic.Qos(prefetch_count=2),
    Basic.Consume(queue="", arguments={"x-priority": 2}),
    Basic.Publish(exchange="amq.headers", routing_key="a", mandatory=True),
    header.ContentHeader(0, 4, Basic.Properties(headers=_TABLE, expiration="10", reply_to="r")),
    body.ContentBody(b"body"),
    Basic.Ack(1, multiple=True),
    Basic.Get(queue=""),
    Basic.Nack(1),
    Tx.Select(),
    Tx.Commit(),
    Channel.Flow(True),
    Channel.Close(200, "", 0, 0),
    Channel.Open(),
    Connection.UpdateSecret("s", "r"),
]


def _flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(len(changed))] = rng.choice(
            [0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)]
        )
    return bytes(changed)


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def _stuffed(rng: random.Random, data: bytes) -> bytes:
    position = rng.randrange(len(data))
    return data[:position] + rng.randbytes(rng.randint(1, 40)) + data[position:]


def _shuffled(rng: random.Random, data: bytes) -> bytes:
    frames = [frame.marshal(value, 1) for value in VALID]
    rng.shuffle(frames)
    return b"".join(frames)


def _wrong_payload(rng: random.Random, data: bytes) -> bytes:
    """Return a well-formed frame with a known method and random arguments."""
    index = rng.choice([*commands.INDEX_MAPPING])
    payload = struct.pack(">I", index) + rng.randbytes(rng.randrange(60))
    kind, channel = rng.choice([1, 1, 1, 2, 3, 8, 4]), rng.choice([0, 1, 1, 2, 65535])
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def _wrong_header(rng: random.Random, data: bytes) -> bytes:
    """Return a content header whose flags do not match its properties."""
    payload = struct.pack(">HHQH", 60, 0, rng.choice([0, 4, 2**63]), rng.randrange(65536))
    payload += rng.randbytes(rng.randrange(60))
    return (
        frame.marshal(Basic.Publish(routing_key="a"), 1)
        + struct.pack(">BHI", 2, 1, len(payload))
        + payload
        + b"\xce"
    )


MUTATIONS: list[Callable[[random.Random, bytes], bytes]] = [
    _flipped,
    _flipped,
    _cut,
    _stuffed,
    _shuffled,
    _wrong_payload,
    _wrong_payload,
    _wrong_header,
]


@pytest.fixture(scope="module")
def target() -> Iterator[BrokerProcess]:
    """Start a broker; it must exit without errors in its log."""
    with BrokerProcess() as process:
        yield process
        assert process.stop() == (0, "")


def _send_invalid(client: RawClient, data: bytes) -> list[Any]:
    """Send invalid bytes and Connection.Close, and return all replies."""
    with contextlib.suppress(OSError):
        client.send_bytes(data)
        client.send(0, Connection.CloseOk(), Connection.Close(200, "", 0, 0))
        # So that the broker does not wait for the rest of a frame.
        client.socket.shutdown(socket.SHUT_WR)
    answers = []
    with contextlib.suppress(Closed, ConnectionError):
        while True:
            answers.append(client.receive()[1])
    return answers


@pytest.mark.parametrize("seed", range(4))
def test_malformed_frames_do_not_affect_other_clients(target: BrokerProcess, seed: int) -> None:
    """Invalid bytes cause no internal error and no growth, and other clients are served."""
    rng = random.Random(seed)
    valid = b"".join(frame.marshal(value, 1) for value in VALID)
    with RawClient(target.uri).open() as bystander:
        before = 0
        for number in range(CASES // 4):
            with RawClient(target.uri).open() as client:
                answers = _send_invalid(client, rng.choice(MUTATIONS)(rng, valid))
            assert 541 not in [getattr(answer, "reply_code", 0) for answer in answers]
            assert isinstance(bystander.call(1, Basic.Qos()), Basic.QosOk)
            if number == CASES // 8:
                before = target.resident_bytes
    assert target.resident_bytes < before + 4 * MEGABYTE


def test_malformed_bytes_during_the_handshake_do_not_affect_other_clients(
    target: BrokerProcess,
) -> None:
    """Invalid bytes may replace the protocol header or any handshake method."""
    rng = random.Random(0)
    opening = b"AMQP\x00\x00\x09\x01"
    for _ in range(CASES // 4):
        with RawClient(target.uri) as client:
            first = frame.marshal(client.start_ok(), 0) + frame.marshal(Connection.TuneOk(), 0)
            _send_invalid(client, rng.choice([b"", opening]) + _flipped(rng, opening + first))
    with RawClient(target.uri).open() as client:
        assert isinstance(client.call(1, Basic.Qos()), Basic.QosOk)
