"""Arbitrary and damaged messages are read, or raise `MalformedMessage` and nothing else.

The bytes pass through the whole receiving path: they are split into frames and messages as if from
a socket, and each message is read by every reader. The exact messages of the wire contract are the
subject of `test_wire`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pamqp import encode

from fabric_nb.errors import MalformedMessage, RemoteError
from fabric_nb.fabric.amqp import frames
from fabric_nb.fabric.amqp.demultiplexer import FrameDemultiplexer
from fabric_nb.fabric.amqp.fast_channel import FastChannel
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.rpc import access as access_module
from fabric_nb.fabric.rpc.methods import read_description
from fabric_nb.fabric.rpc.proxy import remote_signature
from fabric_nb.fabric.wire import data_decoding, data_encoding
from fabric_nb.fabric.wire.calls import (
    Request,
    error_message,
    read_call,
    read_reply,
    result_message,
    running_instance,
    wanted_report,
)
from fabric_nb.fabric.wire.data_encoding import compress
from fabric_nb.fabric.wire.formats import TABLES_HEADER
from fabric_nb.fabric.wire.instances import pong_message, read_pong
from fabric_nb.fabric.wire.keep_alives import Announcement, keep_alive_message, read_keep_alive
from fabric_nb.fabric.wire.logs import LogRecord, log_message, read_log
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.fabric.wire.running_calls import read_cancelled, read_credit, wanted_credit
from fabric_nb.fabric.wire.statistics import CallCounts, Statistics
from fabric_nb.frames.buffer import FrameBuffer
from tests.support.decoding import read_rows

CHANNEL, TAG = 1, b"t"
NAME = ServiceName("my_project", "calc", "c1")


def read_all(delivery: Delivery) -> None:
    """Read a delivery as each kind of message; only `MalformedMessage` may be raised."""
    registry = Registry()

    def keep_alive() -> None:
        read = read_keep_alive(delivery)
        announcement = read.announcement or Announcement()
        assert keep_alive_message(read.name, announcement, read.statistics).body
        registry.receive(read)
        assert len(registry.df) <= 1
        repr(registry)

    def reply() -> None:
        running_instance(delivery)
        read = read_reply(delivery, "calc.c1.add")
        if delivery.type == "error":
            assert isinstance(read, RemoteError)
            assert isinstance(str(read), str)
            read._render_traceback_()
        else:
            read_description(read)

    def rows() -> None:
        batch = read_rows(delivery)
        read = data_decoding.rows_of(batch)
        assert all(isinstance(row, dict) for row in read)
        FrameBuffer().extend(read)

    def log() -> None:
        log_message(read_log(delivery, now=1.0))

    def call() -> None:
        assert isinstance(read_call(delivery), dict)
        wanted_credit(delivery)
        assert wanted_report(delivery) in ("", "instance", "progress")

    def about_calls() -> None:
        read_cancelled(delivery)
        status = read_pong(delivery)
        assert read_pong(Delivery(pong_message(status, None).body)) == status

    for read in (keep_alive, reply, rows, log, call, about_calls, lambda: read_credit(delivery)):
        with contextlib.suppress(MalformedMessage):
            read()
    identity = access_module.identify(delivery, verified=True)
    assert "\n" not in identity.service + identity.instance


# -- bytes from the socket


class Wire:
    """Receiving end of a connection with one channel and one consumer."""

    def __init__(self, on_delivery: Callable[[Delivery], object]) -> None:
        self.demultiplexer = FrameDemultiplexer(asyncio.get_running_loop())
        fast = FastChannel(CHANNEL, lambda _: None, frame_max=0)
        fast.consumers[TAG] = on_delivery
        fast.confirming = True
        self.demultiplexer.channels[CHANNEL] = fast

    def receive(self, received: bytes, cuts: list[int]) -> None:
        """Feed received bytes, split at these offsets."""
        at = 0
        for cut in [*sorted(cuts), len(received)]:
            self.demultiplexer.feed_data(received[at:cut])
            at = max(at, cut)


def delivered(body: bytes, header: bytes) -> bytes:
    """Return the frames of a delivery, with arbitrary bytes in place of its properties."""
    method = frames.DELIVER + bytes((len(TAG),)) + TAG + bytes(8) + b"\0" + b"\0\0"
    start = frames.frame(frames.METHOD, CHANNEL, method)
    head = struct.pack(">HHQ", 60, 0, len(body)) + header
    content = frames.frame(frames.BODY, CHANNEL, body) if body else b""
    return start + frames.frame(frames.HEADER, CHANNEL, head) + content


methods = st.sampled_from(
    [frames.DELIVER, frames.RETURN, frames.ACK, frames.NACK, frames.CLOSE, b"\0\x3c\0\x0b"]
)
any_frame = st.builds(
    frames.frame,
    st.sampled_from([frames.METHOD, frames.HEADER, frames.BODY, frames.HEARTBEAT, 77]),
    st.sampled_from([0, CHANNEL, CHANNEL, 9]),
    st.binary(max_size=40) | st.builds(bytes.__add__, methods, st.binary(max_size=40)),
)
some_delivery = st.builds(delivered, st.binary(max_size=30), st.binary(max_size=60))
streams = st.lists(any_frame | some_delivery | st.binary(max_size=12), max_size=8).map(b"".join)


async def deliveries_of(received: bytes, cuts: list[int]) -> list[Delivery]:
    """Return the deliveries to a consumer in some received bytes."""
    deliveries: list[Delivery] = []
    Wire(deliveries.append).receive(received, cuts)
    return deliveries


@given(streams)
@example(delivered(b"x", b"\0\0") * 2)
def test_what_arrives_together(received: bytes) -> None:
    """The deliveries are the same, whether their bytes arrive together or one by one."""
    logging.disable(logging.CRITICAL)
    try:
        together, one_by_one = (
            [
                (one.body, one.headers, one.type, one.tag, one.redelivered, one.origin)
                for one in asyncio.run(deliveries_of(received, cuts))
            ]
            for cuts in ([], list(range(len(received))))
        )
    finally:
        logging.disable(logging.NOTSET)
    assert together == one_by_one


@given(streams, st.lists(st.integers(0, 300), max_size=4))
@example(delivered(b"x", b"\xff\xff"), [])
@example(delivered(b"", b"\x20\0\xff\xff\xff\xff"), [3])
def test_any_bytes_from_the_socket(received: bytes, cuts: list[int]) -> None:
    """Arbitrary bytes, split anywhere, raise nothing, and their deliveries can be read."""
    logging.disable(logging.CRITICAL)  # frames out of order are logged with a traceback
    try:
        for delivery in asyncio.run(deliveries_of(received, cuts)):
            read_all(delivery)
    finally:
        logging.disable(logging.NOTSET)


# -- headers


def table(fields: bytes) -> bytes:
    """Return bytes as a field table of the right length."""
    return struct.pack(">I", len(fields)) + fields


NAMES = [
    "service_domain",
    "service_type",
    "service_id",
    "msg_type",
    "level_name",
    "line_number",
    "timestamp_in_ms",
    "x-fabric-caller",
    "x-fabric-stream",
    "x-fabric-report",
    "x-fabric-instance",
    "x-fabric-deadline",
    TABLES_HEADER,
]
kinds = st.sampled_from([bytes((kind,)) for kind in b"tbBsuIilLfdDSAxTFV?"])
any_field = st.builds(
    lambda name, kind, value: bytes((len(name),)) + name + kind + value,
    st.sampled_from([name.encode() for name in NAMES]) | st.binary(max_size=10),
    kinds,
    st.binary(max_size=12) | st.binary(max_size=12).map(lambda text: table(text)),
)
plain = st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text(max_size=12)
named = st.dictionaries(st.sampled_from(NAMES), plain, max_size=8)
header_tables = (
    st.lists(any_field, max_size=5).map(b"".join).map(table)
    | st.binary(max_size=40)
    | named.map(lambda headers: encode.field_table(headers))
    | named.map(
        lambda headers: encode.field_table(
            {**headers, "service_domain": "d", "service_type": "t", "service_id": "i"}
        )
    )
)


# -- bodies


def messages() -> Iterator[Message]:
    """Yield one valid message of each kind."""
    request = Request.of({"x": 1, "y": [None, "é"]})
    yield request.message(correlation_id="c", reply_to="q", seconds=1)
    yield result_message({"n": [1.5, "text", None]}, "c")
    yield error_message(ValueError("no", 1), "c")
    yield log_message(LogRecord(1.0, "INFO", "calc", "c1", "text", "logger", "file.py", 3))
    yield keep_alive_message(
        NAME,
        Announcement("1.0", "i1", 4.0, 2.0, {"f": "(x: int = 1)"}),
        Statistics(9.5, CallCounts(7, 2, 1, 12.5), {"f": CallCounts(7, 2, 1)}, more=1),
    )
    rows = [{"a": 1, "b": "x"}, {"a": 2.5, "b": None}]
    for form in ("json", "json-columns", "arrow"):
        for compression in (None, "gzip", "zstd"):
            yield data_encoding.data_message(rows, {}, NAME, form=form, compression=compression)  # type: ignore[arg-type]


GOOD = list(messages())
types = st.sampled_from(["call", "result", "error", "item", "end", "begin", None, "\udcff"])
content_types = st.sampled_from(
    [
        data_decoding.JSON,
        data_decoding.JSON_COLUMNS,
        data_decoding.ARROW,
        None,
        "",
        ";",
        "text/plain; charset=x",
    ]
)
encodings = st.sampled_from([None, "", "gzip", "x-gzip", "zstd", "GZIP", "br", "\udcff"])


@st.composite
def damaged(draw: st.DrawFn) -> Delivery:
    """Return a valid message with changed, removed or repeated bytes, or of another kind."""
    good = draw(st.sampled_from(GOOD))
    body = bytearray(good.body)
    chance = random.Random(draw(st.integers(0, 2**32)))
    for _ in range(draw(st.integers(0, 4))):
        at = chance.randrange(len(body) + 1)
        match chance.randrange(4):
            case 0:
                body[at : at + 1] = bytes((chance.randrange(256),))
            case 1:
                del body[at : at + chance.randrange(1, 9)]
            case 2:
                body[at:at] = body[at : at + 9]
            case _:
                body[at:at] = chance.choice([b"[" * 50, b"{", b'"', b"\\ud800", b"1e999", b"-"])
    keep_properties = draw(st.booleans())
    return Delivery(
        bytes(body),
        encode.field_table(dict(good.headers)) if keep_properties else draw(header_tables),
        good.content_type if keep_properties else draw(content_types),
        good.content_encoding if keep_properties else draw(encodings),
        good.type if keep_properties else draw(types),
        draw(st.none() | st.text(max_size=5)),
        draw(st.none() | st.text(max_size=5)),
    )


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(damaged())
def test_damaged_messages(delivery: Delivery) -> None:
    """A damaged message is read or malformed."""
    read_all(delivery)


KEYS = [
    "error",
    "type",
    "message",
    "args",
    "traceback",
    "instance",
    "version",
    "interval",
    "busy_since",
    "methods",
    "more_methods",
    "stats",
    "since",
    "all",
    "more",
    "signature",
    "doc",
    "at",
    "columns",
    "dtype",
    "label",
    "levels",
    "range",
    "series",
    "heading",
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(json_values, header_tables, types, content_types, encodings)
def test_any_json_with_any_properties(
    value: Any, headers: bytes, kind: str | None, content_type: str | None, encoding: str | None
) -> None:
    """Any JSON with any properties and headers is read or malformed."""
    body = json.dumps(value).encode()
    if encoding in ("gzip", "x-gzip", "GZIP"):
        body = gzip.compress(body)
    elif encoding == "zstd":
        body = compress(body, "zstd")
    read_all(Delivery(body, headers, content_type, encoding, kind))


@given(json_values, json_values)
def test_any_description_of_tables(value: Any, descriptor: Any) -> None:
    """A descriptor of tables that does not match is ignored."""
    headers = encode.field_table({TABLES_HEADER: json.dumps(descriptor)})
    read_all(Delivery(json.dumps(value).encode(), headers, type="result"))


@given(st.text(max_size=60) | st.text("(x:=1,*/)[]{}'\"lambda \n", max_size=60))
@example("(x=" + "(" * 500 + ")" * 500 + ")")
@example("(x: " + "-" * 3000 + "1)")
@example("(\0)")
def test_any_signature(text: str) -> None:
    """A signature sent by a peer is parsed, or replaced by one with arbitrary keywords."""
    assert str(remote_signature(text))


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_truncated_messages(cut: int) -> None:
    """Valid messages that are truncated are malformed, or shorter messages."""
    for good in GOOD:
        headers = encode.field_table(dict(good.headers))
        read_all(
            Delivery(good.body[:cut], headers, good.content_type, good.content_encoding, good.type)
        )


DEEP = b"[" * 1000 + b"]" * 1000


@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        b"[" * 1_000_000,
        b'{"error": ' + DEEP + b"}",
        b'{"error": {"type": ' + DEEP + b', "message": ' + DEEP + b', "args": ' + DEEP + b"}}",
        b'{"instance": ' + DEEP + b', "methods": ' + DEEP + b"}",
        b'"' + b"x" * 20_000_000 + b'"',
        b'{"x": "' + b"x" * 20_000_000 + b'"}',
        b"\x00" * 20_000_000,
    ],
    ids=["deep", "open", "error", "deep error", "deep additions", "string", "object", "zeros"],
)
@pytest.mark.parametrize("type_", ["result", "error"])
def test_huge_messages(body: bytes, type_: str) -> None:
    """A message of 20 MB, or of unlimited nesting, is read or malformed."""
    headers = {"service_domain": "d", "service_type": "t", "service_id": "i"}
    read_all(Delivery(body, encode.field_table(headers), type=type_))
