"""The wire contract: what exactly is sent, and that nothing that is received does harm."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import math
import os
import pickle
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import decode, encode

from fabric_nb.errors import MalformedMessage, NotSerializable, RemoteError, printable
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.wire import data_decoding, data_encoding
from fabric_nb.fabric.wire.calls import (
    CALL,
    Expired,
    call_message,
    error_message,
    format_traceback,
    read_call,
    read_reply,
    result_message,
)
from fabric_nb.fabric.wire.keep_alives import (
    Announcement,
    KeepAlive,
    goodbye_message,
    keep_alive_message,
    keep_alive_request,
    read_keep_alive,
)
from fabric_nb.fabric.wire.logs import LogRecord, log_message, read_log
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.fabric.wire.reading import MAX_TRACEBACK
from fabric_nb.fabric.wire.tables import TABLES_HEADER

NAME = ServiceName("my_project", "calc", "c1")
HEADERS = {"service_domain": "my_project", "service_type": "calc", "service_id": "c1"}


def arrived(
    body: bytes = b"", headers: dict[str, Any] | None = None, **properties: Any
) -> Delivery:
    """A message as it comes from the broker."""
    whole: dict[str, Any] = {
        "content_type": None,
        "content_encoding": None,
        "type": None,
        "correlation_id": None,
        "reply_to": None,
        "tag": 1,
        "redelivered": False,
        "generation": 1,
    }
    return Delivery(body=body, headers=headers or {}, **{**whole, **properties})


def pamqp_table(headers: dict[str, Any]) -> Any:
    """Headers as the bytes of a field table, which must hold them all."""
    raw = encode.field_table(headers)
    assert decode.field_table(raw)[1] == headers
    return raw


def delivered(message: Message) -> Delivery:
    """One of our own messages, as it arrives."""
    return arrived(
        message.body,
        dict(message.headers),
        type=message.type,
        content_type=message.content_type,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
    )


# -- calls


def test_request() -> None:
    """A request is, byte for byte and property for property, what the contract says."""
    before = time.time()
    message = call_message(
        {"x": 5, "text": "é"}, correlation_id="id-1", reply_to="amq.gen-1", timeout=2.5
    )
    assert message.timestamp is not None
    assert before <= message.timestamp <= time.time()
    assert dataclasses.replace(message, timestamp=None) == Message(
        '{"x":5,"text":"é"}'.encode(),
        headers={"From": "amq.gen-1"},
        content_type="application/json",
        type="call",
        correlation_id="id-1",
        reply_to="amq.gen-1",
        priority=5,
        expiration=2500,
    )


@pytest.mark.parametrize(
    ("timeout", "expiration"),
    [(None, None), (30, 30_000), (0.0001, 1), (0, 1), (1e9, 2**32 - 1), (math.inf, 2**32 - 1)],
)
def test_expiration(timeout: float | None, expiration: int | None) -> None:
    """A request expires after its timeout, in milliseconds that a broker takes."""
    message = call_message({}, correlation_id="c", reply_to="q", timeout=timeout)
    assert message.expiration == expiration


def test_request_with_a_table() -> None:
    """A table's description travels in a header that peers ignore; the body is plain records."""
    frame = pd.DataFrame({"a": [1, 2]})
    message = call_message({"df": frame}, correlation_id="c", reply_to="q", timeout=None)
    assert json.loads(message.body) == {"df": [{"a": 1}, {"a": 2}]}
    assert set(message.headers) == {"From", TABLES_HEADER}
    pd.testing.assert_frame_equal(read_call(delivered(message))["df"], frame)


def test_argument_that_cannot_be_sent() -> None:
    """An argument that cannot be sent is named."""
    with pytest.raises(NotSerializable, match=r"argument 'y'\[0\] is a set"):
        call_message({"x": 1, "y": [{1}]}, correlation_id="c", reply_to="q", timeout=None)


def test_result() -> None:
    """A result is what the contract says, and reads as the value that was given."""
    message = result_message({"n": None}, "id-1")
    assert dataclasses.replace(message, timestamp=None) == Message(
        b'{"n":null}', content_type="application/json", type="result", correlation_id="id-1"
    )
    assert read_reply(delivered(message)) == {"n": None}
    series = pd.Series([1.5], name="s")
    received: Any = read_reply(delivered(result_message(series, None)))
    pd.testing.assert_series_equal(received, series)


def raised(error: BaseException) -> BaseException:
    try:
        raise error  # noqa: TRY301
    except BaseException as caught:  # noqa: BLE001 - that is what is wanted
        return caught


def test_error_reply() -> None:
    """An error's body is the contract's object, and a traceback that peers ignore."""
    message = error_message(raised(ZeroDivisionError("division by zero", 2)), "id-1")
    assert (message.type, message.content_type) == ("error", "application/json")
    assert (message.correlation_id, dict(message.headers)) == ("id-1", {})
    error = json.loads(message.body)["error"]
    assert list(json.loads(message.body)) == ["error"]
    assert error.pop("traceback").splitlines()[0] == "Traceback (most recent call last):"
    assert error == {
        "type": "builtins.ZeroDivisionError",
        "message": "ZeroDivisionError('division by zero', 2)",
        "args": ["division by zero", 2],
    }


class BrokenRepr(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __str__(self) -> str:
        raise RuntimeError("no str")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        ValueError(b"bytes", {1}, object(), nested(5000)),
        ValueError(math.nan, 2**70, "\ud800"),
        ValueError("x" * 1_000_000),
        BrokenRepr("a"),
        ValueError(BrokenRepr("inner")),
        KeyError(("tuple", 1)),
        SystemExit(3),
        KeyboardInterrupt(),
        ExceptionGroup("several", [ValueError("one"), BrokenRepr("two")]),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        MalformedMessage("ours"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_exception_can_be_sent(error: BaseException) -> None:
    """Any exception can be sent and is read at the other end as a remote error of its type."""
    message = error_message(raised(error), "c")
    answer = read_reply(delivered(message), "a.b")
    assert isinstance(answer, RemoteError)
    assert answer.type == f"{type(error).__module__}.{type(error).__name__}"
    assert answer.call == "a.b"
    assert len(answer.remote_args) == len(error.args)
    assert len(answer.remote_traceback) <= MAX_TRACEBACK + 10


def test_arguments_of_an_exception_are_exact() -> None:
    """Numbers among an exception's arguments arrive as they were."""
    message = error_message(ValueError(2**70, 1.5, None, math.inf), "c")
    assert json.loads(message.body)["error"]["args"] == [2**70, 1.5, None, math.inf]


def error_by(act: Callable[[], object]) -> BaseException:
    """What Python itself raises."""
    try:
        act()
    except Exception as error:  # noqa: BLE001 - it is what is asked for
        return error
    raise AssertionError("nothing was raised")


NOT_THERE = "/none/ü \udcff.txt"
OF_PYTHON: dict[str, tuple[Callable[[], object], dict[str, Any]]] = {
    "file": (
        lambda: open(NOT_THERE),  # noqa: SIM115, PTH123 - it is not there
        {"errno": 2, "strerror": "No such file or directory", "filename": NOT_THERE},
    ),
    "path": (lambda: Path("/none/b").read_text(), {"errno": 2, "filename": "/none/b"}),
    "bytes path": (lambda: os.stat(b"/none/\xff"), {"filename": "/none/\udcff"}),  # noqa: PTH116
    "two files": (
        lambda: os.rename("/none/a", "/none/b"),  # noqa: PTH104 - as old programs have it
        {"errno": 2, "filename": "/none/a", "filename2": "/none/b"},
    ),
    "folder": (lambda: open("/"), {"errno": 21, "filename": "/"}),  # noqa: SIM115, PTH123
    "socket": (lambda: socket.create_connection(("127.0.0.1", 1)), {"errno": 111}),
    "import": (lambda: importlib.import_module("none_such"), {"name": "none_such"}),
    "name": (lambda: eval("nowhere"), {"name": "nowhere"}),
    "attribute": (lambda: object().nowhere, {"name": "nowhere"}),  # type: ignore[attr-defined]
    "syntax": (lambda: compile("x = (", "cell.py", "exec"), {"filename": "cell.py", "lineno": 1}),
    "text": (
        lambda: b"a\xff".decode(),
        {"encoding": "utf-8", "start": 1, "end": 2, "reason": "invalid start byte"},
    ),
}


@pytest.mark.parametrize("kind", OF_PYTHON)
def test_attributes_of_pythons_own_errors(kind: str) -> None:
    """What Python's own exceptions have beside their arguments is there at the caller."""
    act, expected = OF_PYTHON[kind]
    raised_there = error_by(act)
    answer = read_reply(delivered(error_message(raised_there, "c")), "a.b")
    again = read_reply(delivered(error_message(answer, "c")), "d.e")
    for error in (answer, again, pickle.loads(pickle.dumps(answer))):
        assert isinstance(error, RemoteError)
        assert isinstance(error, type(raised_there))
        assert {name: getattr(error, name) for name in expected} == expected


def test_attributes_of_a_peers_errors() -> None:
    """Of an amqp-fabric peer, which sends no attributes, the arguments tell some of them."""
    error = {"type": "PermissionError", "message": "...", "args": [13, "Permission denied"]}
    answer = read_reply(arrived(json.dumps({"error": error}).encode(), type="error"))
    assert isinstance(answer, PermissionError)
    assert (answer.errno, answer.strerror, answer.filename) == (13, "Permission denied", None)


@pytest.mark.parametrize(
    "attributes",
    [
        5,
        [],
        {"errno": "2", "filename": 5, "__class__": "x", "args": [1], "call": "x", "chain": []},
        {"errno": 2**31, "strerror": ["x"]},
        {"errno": True, "filename": None},
    ],
    ids=repr,
)
def test_attributes_that_no_error_has(attributes: object) -> None:
    """What a hostile peer calls attributes is left out where its type has none of that kind."""
    error = {"type": "OSError", "message": "m", "args": [], "attributes": attributes}
    answer = read_reply(arrived(json.dumps({"error": error}).encode(), type="error"), "a.b")
    assert isinstance(answer, OSError)
    assert isinstance(answer, RemoteError)
    assert (answer.errno, answer.strerror, answer.filename) == (None, None, None)
    assert (answer.call, answer.args, len(answer.chain)) == ("a.b", ("m",), 1)


def test_long_traceback_keeps_its_end() -> None:
    """Of a long traceback the end is sent, where the error is; long lines leave room for it."""
    text = format_traceback(ValueError("start" + "x" * 50_000 + "end"))
    assert text.startswith("ValueError: startxxx")
    assert text.endswith("xxxend\n")
    assert len(text) < 3000
    text = format_traceback(ValueError("start" + "x\n" * 25_000 + "end"))
    assert text.startswith("[")
    assert " more characters] …\n" in text[:50]
    assert text.endswith("end\n")
    assert len(text) <= MAX_TRACEBACK


def test_peer_errors_are_read() -> None:
    """The error of an amqp-fabric peer, without a traceback, is a remote error."""
    body = {"error": {"type": "ValueError", "message": "ValueError('no')", "args": ["no"]}}
    answer = read_reply(arrived(json.dumps(body).encode(), type="error"), "c.m")
    assert isinstance(answer, RemoteError)
    assert isinstance(answer, ValueError)
    assert (answer.remote_args, answer.remote_traceback) == (("no",), "")
    assert str(answer) == "c.m: ValueError('no')"


def test_expired_request() -> None:
    """A request that comes back is told apart from an answer."""
    assert read_reply(arrived(b"{}", type="call")) == Expired()


@pytest.mark.parametrize(
    "delivery",
    [
        arrived(b"{}"),
        arrived(b"{}", type="RESULT"),
        arrived(b"", type="result"),
        arrived(b"\xff", type="result"),
        arrived(b"[]", type="error"),
        arrived(b"{}", type="error"),
        arrived(b'{"error": "text"}', type="error"),
        arrived(b"", type="error"),
    ],
    ids=lambda delivery: f"{delivery.type} {delivery.body!r}",
)
def test_malformed_replies(delivery: Delivery) -> None:
    """What is no reply is malformed."""
    with pytest.raises(MalformedMessage):
        read_reply(delivery)


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"null", b'"text"', b"nope", b'{"x":1'])
def test_malformed_requests(body: bytes) -> None:
    """What is no JSON object of keywords is malformed."""
    with pytest.raises(MalformedMessage):
        read_call(arrived(body))


def test_request_whose_table_is_no_object() -> None:
    """A description that turns the keywords themselves into a table makes no call of it."""
    told = json.dumps([{"at": [], "columns": [], "index": [], "range": [0, 1, None]}])
    with pytest.raises(MalformedMessage, match="JSON object of keywords"):
        read_call(arrived(b"[]", {TABLES_HEADER: told}, type=CALL))


# -- keep-alives


def test_keep_alive() -> None:
    """A keep-alive carries the contract's headers, and what we add in its JSON body."""
    said = Announcement("1.2", "ab12", 5.0, None, {"multiply": "(x, y)"})
    message = keep_alive_message(NAME, said)
    assert dict(message.headers) == {"msg_type": "keep_alive", **HEADERS}
    assert json.loads(message.body) == {
        "version": "1.2",
        "instance": "ab12",
        "interval": 5.0,
        "methods": {"multiply": "(x, y)"},
    }
    assert read_keep_alive(delivered(message)) == KeepAlive(NAME, said)


def test_busy_keep_alive() -> None:
    """A busy member says since when."""
    said = Announcement("", "ab12", 5.0, busy_since=1_700_000_000.5)
    assert read_keep_alive(delivered(keep_alive_message(NAME, said))).said == said


def test_goodbye_and_request() -> None:
    """Farewells and questions are of message types that amqp-fabric does not listen to."""
    goodbye = goodbye_message(NAME, Announcement(instance="ab12"))
    assert dict(goodbye.headers) == {"msg_type": "goodbye", **HEADERS}
    sign = read_keep_alive(delivered(goodbye))
    assert (sign.leaving, sign.asking) == (True, False)
    assert sign.said is not None
    assert sign.said.instance == "ab12"
    request = keep_alive_request(NAME)
    assert (dict(request.headers), request.body) == (
        {"msg_type": "keep_alive_request", **HEADERS},
        b"",
    )
    assert read_keep_alive(delivered(request)) == KeepAlive(NAME, asking=True)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"5", b'"text"', b'{"version": "1"}'])
def test_keep_alive_of_a_peer(body: bytes) -> None:
    """A keep-alive without our additions, or with somebody else's, is a sign of life too."""
    sign = read_keep_alive(arrived(body, {"msg_type": "keep_alive", **HEADERS}))
    assert sign == KeepAlive(NAME, None)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"", {"service_domain": "d", "service_type": "t"}),
        (b"", {**HEADERS, "service_id": "a b"}),
        (b"", {**HEADERS, "service_id": 5}),
        (b"", {**HEADERS, "service_type": ["x"] * 1000}),
        (b"nope", HEADERS),
        (b" " * 70_000, HEADERS),
    ],
    ids=range(7),
)
def test_malformed_keep_alives(body: bytes, headers: dict[str, Any]) -> None:
    """A keep-alive that names no service, or is no JSON, is malformed."""
    with pytest.raises(MalformedMessage) as caught:
        read_keep_alive(arrived(body, headers))
    assert len(str(caught.value)) < 300


def test_nonsense_in_a_keep_alive_is_left_out() -> None:
    """Additions of a wrong type or size are left out; the rest is read."""
    body = {
        "instance": "x" * 1000,
        "version": ["1"],
        "interval": -1,
        "busy_since": True,
        "methods": {"good": "(x)", "bad name": "()", "odd": 5, "long": "x" * 9999},
        "more_methods": 1e99,
    }
    said = read_keep_alive(arrived(json.dumps(body).encode(), HEADERS)).said
    assert said == Announcement(
        instance="x" * 64, methods={"good": "(x)", "odd": "", "long": "x" * 500}
    )


signatures = st.text(max_size=300) | st.integers(0, 300).map(lambda n: "(" + "é\0" * (n // 2) + ")")


@given(
    st.dictionaries(st.from_regex(r"[a-z_]{1,40}", fullmatch=True), signatures, max_size=40),
    st.text(st.characters(), max_size=100),
    st.none() | st.floats(0, 1e10),
)
def test_keep_alives_stay_small(
    methods: dict[str, str], version: str, busy_since: float | None
) -> None:
    """A keep-alive stays under 4096 bytes whatever the methods; those left out are counted."""
    said = Announcement(version, "0123abcd", 5.0, busy_since, methods)
    message = keep_alive_message(NAME, said)
    assert len(message.body) <= 4096
    sign = read_keep_alive(delivered(message))
    assert sign.said is not None
    assert len(sign.said.methods) + sign.said.more_methods == len(methods)
    if sum(len(name) + 6 * len(text) + 9 for name, text in methods.items()) < 3000:
        shown = {name: printable(text) for name, text in methods.items()}
        assert sign.said.methods == shown


def test_lone_surrogates_do_not_silence_a_member() -> None:
    """A name or signature that is no proper text does not keep a keep-alive from being sent."""
    said = Announcement("1\ud800", "i", 5.0, None, {"f": "(x: '\udfff')", "g": "()"})
    received = read_keep_alive(delivered(keep_alive_message(NAME, said))).said
    assert received is not None
    assert (received.version, received.methods) == ("1?", {"f": "(x: '?')", "g": "()"})


# -- data


@pytest.mark.parametrize("data", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_bytes_go_as_they_are(data: object) -> None:
    """Bytes are published untouched, with the sender in the headers."""
    message = data_encoding.data_message(data, None, NAME)
    assert message == Message(b"\x00\xff", headers={"service_id": "c1", "service_type": "calc"})


def test_data_message() -> None:
    """Anything else goes as JSON, and the caller's headers are not touched."""
    headers = {"msg_type": "ORDER", "service_id": "mine"}
    message = data_encoding.data_message({"total": 55}, headers, NAME)
    assert message.body == b'{"total":55}'
    assert message.content_type == "application/json"
    assert message.headers == {"msg_type": "ORDER", "service_id": "c1", "service_type": "calc"}
    assert headers == {"msg_type": "ORDER", "service_id": "mine"}


def test_table_as_data() -> None:
    """A published table is rows to whoever reads it."""
    message = data_encoding.data_message(pd.DataFrame({"a": [1, 2]}), {}, NAME)
    assert list(data_decoding.read_rows(delivered(message))) == [{"a": 1}, {"a": 2}]


def test_rows() -> None:
    """An object is one row, a list of them several."""
    assert list(data_decoding.read_rows(arrived(b'{"a": 1}'))) == [{"a": 1}]
    assert list(data_decoding.read_rows(arrived(b'[{"a": 1}, {}]'))) == [{"a": 1}, {}]
    assert list(data_decoding.read_rows(arrived(b"[]"))) == []
    for body in (b"", b"1", b"null", b'"x"', b"[1]", b'[{"a": 1}, 5]', b"\xff"):
        with pytest.raises(MalformedMessage):
            data_decoding.read_rows(arrived(body))


# -- logs

RECORD = LogRecord(
    time=1_700_000_000.5,
    level="WARNING",
    service_type="calc",
    service_id="c1",
    message="Zahl über 100: \x1b[31m",
    logger="app.calc",
    file="calc.py",
    line=12,
    traceback="Traceback ...",
    instance="ab12",
)


def test_log_record() -> None:
    """A record's text is a JSON string for every reader; the rest stands in headers."""
    message = log_message(RECORD)
    assert json.loads(message.body) == RECORD.message
    assert message.headers["level_name"] == "WARNING"
    assert (message.headers["service_id"], message.headers["service_type"]) == ("c1", "calc")
    assert read_log(delivered(message), now=5.0) == RECORD


def test_log_record_of_a_peer() -> None:
    """A record of an amqp-fabric peer is read, with the time of its arrival."""
    headers = {"service_id": "c1", "service_type": "calc", "level_name": "INFO"}
    record = read_log(arrived(b'"text"', headers), now=5.0)
    assert record == LogRecord(5.0, "INFO", "calc", "c1", "text")


def test_log_record_with_nonsense() -> None:
    """Headers of a wrong type or size are left out, and only text is a record."""
    headers = {"created": "now", "line_number": -5, "level_name": 3, "service_id": "x" * 999}
    record = read_log(arrived(b'"text"', headers), now=5.0)
    assert record == LogRecord(5.0, "NOTSET", "", "x" * 64, "text")
    for body in (b"", b"text", b"{}", b"5"):
        with pytest.raises(MalformedMessage):
            read_log(arrived(body), now=5.0)


@pytest.mark.parametrize(
    ("field", "longest"),
    [("message", 16_384), ("traceback", 16_384), ("logger", 200), ("file", 500), ("level", 40)],
)
def test_log_fields_that_are_too_long_say_so(field: str, longest: int) -> None:
    """A field that is too long is shortened, says so, and stays as it is at every further hop."""
    sent = dataclasses.replace(RECORD, **{field: "a" * 300_000})
    message = log_message(sent)
    assert sum(len(str(value).encode()) for value in message.headers.values()) < 100_000
    read = read_log(delivered(message), now=5.0)
    text = getattr(read, field)
    assert len(text) <= longest
    assert text.startswith("aaa")
    assert "more char" in text
    assert read_log(delivered(log_message(read)), now=5.0) == read


@given(st.text(st.characters(), max_size=60))
@example("latin-1 \udce9")
@example("\0")
def test_log_fields_of_any_text_can_be_sent(text: str) -> None:
    """A record of any text becomes a message that is valid UTF-8, and reads the same afterwards."""
    record = LogRecord(1.0, text or "x", "app", "a", text, text, text, 1, text)
    message = log_message(record)
    message.body.decode()
    read = read_log(arrived(message.body, pamqp_table(dict(message.headers))), now=5.0)
    for field in ("message", "logger", "file", "traceback"):
        getattr(read, field).encode()
        if not any("\ud800" <= char <= "\udfff" for char in text):
            assert getattr(read, field) == text


@pytest.mark.parametrize("weird", [float("nan"), float("inf"), -1.0, 1e300])
def test_log_times_that_are_none(weird: float) -> None:
    """A time that cannot be is left out, and the record is read with that of its arrival."""
    message = log_message(dataclasses.replace(RECORD, time=weird))
    assert read_log(delivered(message), now=5.0).time == 5.0


# -- whatever may come

amqp_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.binary(max_size=10)
    | st.just(Decimal("1.5"))
    | st.just(datetime(2024, 1, 1, tzinfo=UTC)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
header_names = st.sampled_from(
    [*HEADERS, "msg_type", "level_name", "created", "line_number", "traceback", TABLES_HEADER]
)
some_headers = st.dictionaries(header_names | st.text(max_size=5), amqp_values, max_size=6)
good_headers = some_headers.map(lambda extra: {**extra, **HEADERS})
fields = st.sampled_from(
    [
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
        "f",
    ]
)
json_bodies = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=5),
    max_leaves=10,
)
bodies = (
    st.binary(max_size=40)
    | st.text(st.characters(), max_size=20).map(lambda text: text.encode(errors="surrogatepass"))
    | json_bodies.map(lambda value: json.dumps(value).encode())
    | json_bodies.map(lambda value: json.dumps({"error": value}).encode())
    | json_bodies.map(lambda value: json.dumps({"instance": "i", "methods": value}).encode())
)
deliveries = st.builds(
    arrived,
    bodies,
    some_headers | good_headers,
    type=st.sampled_from(["call", "result", "error", None]) | st.text(max_size=5),
    correlation_id=st.none() | st.text(max_size=5),
)
READERS: dict[str, Callable[[Delivery], Any]] = {
    "call": read_call,
    "reply": read_reply,
    "keep-alive": read_keep_alive,
    "rows": data_decoding.read_rows,
    "log": lambda delivery: read_log(delivery, now=1.0),
}


@given(deliveries)
def test_any_message_is_read_or_malformed(delivery: Delivery) -> None:
    """Any bytes with any headers are a message of their kind or malformed, and nothing else."""
    for kind, reader in READERS.items():
        with contextlib.suppress(MalformedMessage):
            check(kind, reader(delivery), delivery)


def check(kind: str, read: Any, delivery: Delivery) -> None:
    """What was read is a message of its kind, and can be used as one."""
    match kind:
        case "call":
            assert isinstance(read, dict)
        case "keep-alive":
            assert isinstance(read, KeepAlive)
            assert keep_alive_message(read.name, read.said or Announcement()).body
        case "rows":
            assert all(isinstance(row, dict) for row in read)
        case "log":
            assert isinstance(read, LogRecord)
            assert log_message(read)
        case "reply" if delivery.type == "error":
            assert isinstance(read, RemoteError)
            assert isinstance(str(read), str)


DEEP = b"[" * 1000 + b"]" * 1000


@pytest.mark.parametrize("kind", READERS)
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
def test_huge_messages(kind: str, body: bytes, type_: str) -> None:
    """A message of 20 MB, or of endless nesting, is read or malformed like any other."""
    with contextlib.suppress(MalformedMessage):
        READERS[kind](arrived(body, dict(HEADERS), type=type_))
