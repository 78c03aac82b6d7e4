"""The wire contract: the exact messages that are sent, and the messages of peers that are read.

Arbitrary and damaged messages are the subject of `test_fuzz_wire`.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
import pickle
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import decode, encode

from fabric_nb.errors import MalformedMessage, NotSerializable, RemoteError, printable
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.wire import data_encoding
from fabric_nb.fabric.wire.calls import (
    CALL,
    Expired,
    Request,
    call_id,
    continues_after_timeout,
    error_message,
    format_traceback,
    name_instance,
    read_call,
    read_reply,
    reply_message,
    result_message,
    running_instance,
    wanted_report,
)
from fabric_nb.fabric.wire.formats import TABLES_HEADER
from fabric_nb.fabric.wire.instances import (
    CallStatus,
    InstanceStatus,
    pong_message,
    read_pong,
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
from tests.support.decoding import read_rows

NAME = ServiceName("my_project", "calc", "c1")
HEADERS = {"service_domain": "my_project", "service_type": "calc", "service_id": "c1"}


def arrived(
    body: bytes = b"", headers: dict[str, Any] | None = None, **properties: Any
) -> Delivery:
    """Return a delivery with these properties."""
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
    """Encode headers as pamqp does, and check that they are decoded equal."""
    raw = encode.field_table(headers)
    assert decode.field_table(raw)[1] == headers
    return raw


def delivered(message: Message) -> Delivery:
    """Return a message of this package as it is received."""
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
    """A request has the body, the headers and the properties of the contract."""
    before = time.time()
    message = Request.of({"x": 5, "text": "é"}).message(
        correlation_id="id-1",
        reply_to="amq.gen-1",
        seconds=2.5,
        caller="d.app.one.1234",
        user_id="ann",
    )
    assert message.timestamp is not None
    assert before <= message.timestamp <= time.time()
    assert dataclasses.replace(message, timestamp=None) == Message(
        '{"x":5,"text":"é"}'.encode(),
        headers={"From": "amq.gen-1", "x-fabric-caller": "d.app.one.1234"},
        content_type="application/json",
        type="call",
        correlation_id="id-1",
        reply_to="amq.gen-1",
        priority=5,
        expiration=2450,
        user_id="ann",
    )


@pytest.mark.parametrize(
    ("timeout", "expiration"),
    [(None, None), (30, 29_950), (0.1, 90), (0.0001, 1), (0, 1), (math.inf, 2**32 - 51)],
)
def test_expiration(timeout: float | None, expiration: int | None) -> None:
    """A request expires just before its timeout, in milliseconds that a broker accepts."""
    message = Request.of({}).message(correlation_id="c", reply_to="q", seconds=timeout)
    assert message.expiration == expiration


def test_request_with_a_table() -> None:
    """A table's descriptor is sent in a header that peers ignore; the body has plain records."""
    frame = pd.DataFrame({"a": [1, 2]})
    message = Request.of({"df": frame}).message(correlation_id="c", reply_to="q", seconds=None)
    assert json.loads(message.body) == {"df": [{"a": 1}, {"a": 2}]}
    assert set(message.headers) == {"From", TABLES_HEADER}
    pd.testing.assert_frame_equal(read_call(delivered(message))["df"], frame)


def test_instance_of_a_reply() -> None:
    """A request asks for the instance that answers, and the reply names it."""
    for report in ("instance", "progress", ""):
        request = Request.of({}).message(
            correlation_id="c", reply_to="q", seconds=None, report=report
        )
        assert request.headers.get("x-fabric-report", "") == report
        assert wanted_report(delivered(request)) == report
        for reply in (result_message(5, "c"), result_message(pd.DataFrame({"a": [1]}), "c")):
            tables = set(reply.headers)
            assert running_instance(delivered(reply)) == ""
            name_instance(reply, "4f2a")
            assert set(reply.headers) == tables | {"x-fabric-instance"}
            assert running_instance(delivered(reply)) == "4f2a"


def test_deadline_of_a_request() -> None:
    """A request says whether its expiration is a deadline for its beginning only."""
    for continues in (True, False):
        request = Request.of({}).message(
            correlation_id="c", reply_to="q", seconds=5, continues=continues
        )
        assert request.expiration == 4950
        assert request.headers.get("x-fabric-deadline") == ("begin" if continues else None)
        assert continues_after_timeout(delivered(request)) is continues


def test_status_of_an_instance() -> None:
    """A pong carries the methods of an instance, and the calls of the member that asks."""
    status = InstanceStatus(
        "4f2a", {"work": 2.5, "quick": None}, {"id": CallStatus(0.5, acknowledged=True)}
    )
    assert read_pong(delivered(pong_message(status, "p"))) == status
    with pytest.raises(MalformedMessage, match="JSON object"):
        read_pong(delivered(reply_message("pong", "p", b"[]")))


def test_argument_that_cannot_be_sent() -> None:
    """The error for an argument that cannot be sent names it."""
    with pytest.raises(NotSerializable, match=r"argument 'y'\[0\] is a set"):
        Request.of({"x": 1, "y": [{1}]})


def test_result() -> None:
    """A result has the form of the contract, and is decoded as the same value."""
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
    except BaseException as caught:  # noqa: BLE001 - returned with its traceback
        return caught


def test_error_reply() -> None:
    """The body of an error is the object of the contract, and a traceback that peers ignore."""
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
    """Any exception can be sent, and is decoded as a remote error of its type."""
    message = error_message(raised(error), "c")
    answer = read_reply(delivered(message), "a.b")
    assert isinstance(answer, RemoteError)
    assert answer.type == f"{type(error).__module__}.{type(error).__name__}"
    assert answer.call == "a.b"
    assert len(answer.remote_args) == len(error.args)
    assert len(answer.remote_traceback) <= MAX_TRACEBACK + 10


def test_arguments_of_an_exception_are_exact() -> None:
    """Numbers in an exception's arguments are sent exactly."""
    message = error_message(ValueError(2**70, 1.5, None, math.inf), "c")
    assert json.loads(message.body)["error"]["args"] == [2**70, 1.5, None, math.inf]


def error_by(act: Callable[[], object]) -> BaseException:
    """Return the exception that `act` raises."""
    try:
        act()
    except Exception as error:  # noqa: BLE001 - returned
        return error
    raise AssertionError("nothing was raised")


NOT_THERE = "/none/ü \udcff.txt"
OF_PYTHON: dict[str, tuple[Callable[[], object], dict[str, Any]]] = {
    "file": (
        lambda: open(NOT_THERE),  # noqa: SIM115, PTH123 - it does not exist
        {"errno": 2, "strerror": "No such file or directory", "filename": NOT_THERE},
    ),
    "path": (lambda: Path("/none/b").read_text(), {"errno": 2, "filename": "/none/b"}),
    "bytes path": (lambda: os.stat(b"/none/\xff"), {"filename": "/none/\udcff"}),  # noqa: PTH116
    "two files": (
        lambda: os.rename("/none/a", "/none/b"),  # noqa: PTH104 - as in older programs
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
    """The caller's error has the attributes of Python's built-in exceptions."""
    act, expected = OF_PYTHON[kind]
    raised_there = error_by(act)
    answer = read_reply(delivered(error_message(raised_there, "c")), "a.b")
    again = read_reply(delivered(error_message(answer, "c")), "d.e")
    for error in (answer, again, pickle.loads(pickle.dumps(answer))):
        assert isinstance(error, RemoteError)
        assert isinstance(error, type(raised_there))
        assert {name: getattr(error, name) for name in expected} == expected


def test_attributes_of_a_peers_errors() -> None:
    """For an amqp-fabric peer, which sends no attributes, some are derived from the arguments."""
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
def test_invalid_attributes_are_dropped(attributes: object) -> None:
    """Attributes that the error's type does not have, or of a wrong type, are dropped."""
    error = {"type": "OSError", "message": "m", "args": [], "attributes": attributes}
    answer = read_reply(arrived(json.dumps({"error": error}).encode(), type="error"), "a.b")
    assert isinstance(answer, OSError)
    assert isinstance(answer, RemoteError)
    assert (answer.errno, answer.strerror, answer.filename) == (None, None, None)
    assert (answer.call, answer.args, len(answer.chain)) == ("a.b", ("m",), 1)


def test_long_traceback_keeps_its_end() -> None:
    """The end of a long traceback is sent, and long lines are shortened to leave room for it."""
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
    """An error of an amqp-fabric peer, without a traceback, is decoded as a remote error."""
    body = {"error": {"type": "ValueError", "message": "ValueError('no')", "args": ["no"]}}
    answer = read_reply(arrived(json.dumps(body).encode(), type="error"), "c.m")
    assert isinstance(answer, RemoteError)
    assert isinstance(answer, ValueError)
    assert (answer.remote_args, answer.remote_traceback) == (("no",), "")
    assert str(answer) == "c.m: ValueError('no')"


def test_expired_request() -> None:
    """A request that the broker returned is decoded as `Expired`."""
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
    """A message that is not a reply is malformed."""
    with pytest.raises(MalformedMessage):
        read_reply(delivery)


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"null", b'"text"', b"nope", b'{"x":1'])
def test_malformed_requests(body: bytes) -> None:
    """A body that is not a JSON object of keywords is malformed."""
    with pytest.raises(MalformedMessage):
        read_call(arrived(body))


def test_request_with_a_table_in_place_of_its_keywords() -> None:
    """A descriptor that turns the keywords themselves into a table is malformed."""
    descriptor = json.dumps([{"at": [], "columns": [], "index": [], "range": [0, 1, None]}])
    with pytest.raises(MalformedMessage, match="JSON object of keywords"):
        read_call(arrived(b"[]", {TABLES_HEADER: descriptor}, type=CALL))


# -- keep-alives


def test_keep_alive() -> None:
    """A keep-alive has the headers of the contract, and extensions in its JSON body."""
    announcement = Announcement("1.2", "ab12", 5.0, None, {"multiply": "(x, y)"})
    message = keep_alive_message(NAME, announcement)
    assert dict(message.headers) == {"msg_type": "keep_alive", **HEADERS}
    assert json.loads(message.body) == {
        "version": "1.2",
        "instance": "ab12",
        "interval": 5.0,
        "methods": {"multiply": "(x, y)"},
    }
    assert read_keep_alive(delivered(message)) == KeepAlive(NAME, announcement)


def test_busy_keep_alive() -> None:
    """The keep-alive of a busy member has the time since when it is busy."""
    announcement = Announcement("", "ab12", 5.0, busy_since=1_700_000_000.5)
    assert (
        read_keep_alive(delivered(keep_alive_message(NAME, announcement))).announcement
        == announcement
    )


def test_goodbye_and_request() -> None:
    """Goodbyes and requests for keep-alives have message types that amqp-fabric ignores."""
    goodbye = goodbye_message(NAME, Announcement(instance="ab12"))
    assert dict(goodbye.headers) == {"msg_type": "goodbye", **HEADERS}
    sign = read_keep_alive(delivered(goodbye))
    assert (sign.leaving, sign.asking) == (True, False)
    assert sign.announcement is not None
    assert sign.announcement.instance == "ab12"
    request = keep_alive_request(NAME)
    assert (dict(request.headers), request.body) == (
        {"msg_type": "keep_alive_request", **HEADERS},
        b"",
    )
    assert read_keep_alive(delivered(request)) == KeepAlive(NAME, asking=True)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"5", b'"text"', b'{"version": "1"}'])
def test_keep_alive_of_a_peer(body: bytes) -> None:
    """A keep-alive without extensions, or with those of another library, is valid."""
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
    """A keep-alive that names no service, or is not JSON, is malformed."""
    with pytest.raises(MalformedMessage) as caught:
        read_keep_alive(arrived(body, headers))
    assert len(str(caught.value)) < 300


def test_invalid_values_in_a_keep_alive_are_dropped() -> None:
    """Values of a wrong type or size are dropped; all others are read."""
    body = {
        "instance": "x" * 1000,
        "version": ["1"],
        "interval": -1,
        "busy_since": True,
        "methods": {"good": "(x)", "bad name": "()", "odd": 5, "long": "x" * 9999},
        "more_methods": 1e99,
    }
    announcement = read_keep_alive(arrived(json.dumps(body).encode(), HEADERS)).announcement
    assert announcement == Announcement(
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
    """A keep-alive has at most 4096 bytes whatever the methods; omitted ones are counted."""
    announcement = Announcement(version, "0123abcd", 5.0, busy_since, methods)
    message = keep_alive_message(NAME, announcement)
    assert len(message.body) <= 4096
    sign = read_keep_alive(delivered(message))
    assert sign.announcement is not None
    assert len(sign.announcement.methods) + sign.announcement.more_methods == len(methods)
    if sum(len(name) + 6 * len(text) + 9 for name, text in methods.items()) < 3000:
        shown = {name: printable(text) for name, text in methods.items()}
        assert sign.announcement.methods == shown


def test_lone_surrogates_in_a_keep_alive() -> None:
    """A keep-alive is sent also if a name or signature contains a lone surrogate."""
    announcement = Announcement("1\ud800", "i", 5.0, None, {"f": "(x: '\udfff')", "g": "()"})
    received = read_keep_alive(delivered(keep_alive_message(NAME, announcement))).announcement
    assert received is not None
    assert (received.version, received.methods) == ("1?", {"f": "(x: '?')", "g": "()"})


# -- data


@pytest.mark.parametrize("data", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_bytes_are_published_unchanged(data: object) -> None:
    """Bytes are published unchanged, with the sender in the headers."""
    message = data_encoding.data_message(data, None, NAME)
    assert message == Message(b"\x00\xff", headers={"service_id": "c1", "service_type": "calc"})


def test_data_message() -> None:
    """Other data are published as JSON, and the caller's headers are not modified."""
    headers = {"msg_type": "ORDER", "service_id": "mine"}
    message = data_encoding.data_message({"total": 55}, headers, NAME)
    assert message.body == b'{"total":55}'
    assert message.content_type == "application/json"
    assert message.headers == {"msg_type": "ORDER", "service_id": "c1", "service_type": "calc"}
    assert headers == {"msg_type": "ORDER", "service_id": "mine"}


def test_table_as_data() -> None:
    """A published table is read as rows."""
    message = data_encoding.data_message(pd.DataFrame({"a": [1, 2]}), {}, NAME)
    assert list(read_rows(delivered(message))) == [{"a": 1}, {"a": 2}]


def test_rows() -> None:
    """An object is one row, a list of objects is several rows."""
    assert list(read_rows(arrived(b'{"a": 1}'))) == [{"a": 1}]
    assert list(read_rows(arrived(b'[{"a": 1}, {}]'))) == [{"a": 1}, {}]
    assert list(read_rows(arrived(b"[]"))) == []
    for body in (b"", b"1", b"null", b'"x"', b"[1]", b'[{"a": 1}, 5]', b"\xff"):
        with pytest.raises(MalformedMessage):
            read_rows(arrived(body))


def test_call_id() -> None:
    """The id of a call does not tell its correlation id, and is empty if that is."""
    assert call_id("d87f3a6b1c9e4f0a8b7c6d5e4f3a2b1c") == "d87f3a6b"
    short = call_id("12345678")
    assert len(short) == 8
    assert short not in ("12345678", call_id("12345679"))
    assert call_id(None) == call_id("") == ""
    assert call_id("\x1b" * 40).isprintable()


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
    call="5f1c09aa",
)


def test_log_record() -> None:
    """The text of a record is a JSON string, and its other fields are headers."""
    message = log_message(RECORD)
    assert json.loads(message.body) == RECORD.message
    assert message.headers["level_name"] == "WARNING"
    assert (message.headers["service_id"], message.headers["service_type"]) == ("c1", "calc")
    assert read_log(delivered(message), now=5.0) == RECORD


def test_log_record_of_a_peer() -> None:
    """A record of an amqp-fabric peer is read with its time of arrival."""
    headers = {"service_id": "c1", "service_type": "calc", "level_name": "INFO"}
    record = read_log(arrived(b'"text"', headers), now=5.0)
    assert record == LogRecord(5.0, "INFO", "calc", "c1", "text")


def test_log_record_with_invalid_headers() -> None:
    """Headers of a wrong type or size are dropped; a body that is not text is malformed."""
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
def test_long_log_fields_are_shortened(field: str, longest: int) -> None:
    """A field that is too long is shortened and marked, and is not shortened again."""
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
    """A record with any text becomes a message in valid UTF-8, and is read back equal."""
    record = LogRecord(1.0, text or "x", "app", "a", text, text, text, 1, text)
    message = log_message(record)
    message.body.decode()
    read = read_log(arrived(message.body, pamqp_table(dict(message.headers))), now=5.0)
    for field in ("message", "logger", "file", "traceback"):
        getattr(read, field).encode()
        if not any("\ud800" <= char <= "\udfff" for char in text):
            assert getattr(read, field) == text


@pytest.mark.parametrize("time_", [float("nan"), float("inf"), -1.0, 1e300])
def test_invalid_log_times_are_dropped(time_: float) -> None:
    """An invalid time is dropped, and the record is read with its time of arrival."""
    message = log_message(dataclasses.replace(RECORD, time=time_))
    assert read_log(delivered(message), now=5.0).time == 5.0
