"""Typed messages <-> what travels. Pure; every rule is one of the wire contract.

Reading never trusts: a message that does not have the shape of its kind raises
`MalformedMessage`, whatever it holds, and nothing in it is looked up, imported or evaluated.
"""

from __future__ import annotations

import time
import traceback as traceback_module
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from fabric_nb.errors import (
    InvalidName,
    MalformedMessage,
    NotSerializable,
    RemoteError,
    remote_error,
)
from fabric_nb.fabric import naming
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.codec import decode, encode
from fabric_nb.fabric.naming import ServiceName
from fabric_nb.fabric.tables import TABLES_HEADER

JSON = "application/json"
CALL, RESULT, ERROR = "call", "result", "error"
CALL_PRIORITY = 5
MAX_EXPIRATION = 2**32 - 1  # milliseconds; RabbitMQ refuses more

MAX_ANNOUNCEMENT = 4096
"""Bytes of a keep-alive's body; discovery must stay cheap for everybody."""
MAX_TRACEBACK = 16_384
MAX_DESCRIPTION_READ = 64 * 1024


# -- calls


def call_message(
    kwargs: Mapping[str, Any], *, correlation_id: str, reply_to: str, timeout: float | None
) -> Message:
    """A request; the broker gives it back when nobody takes it within `timeout` seconds.

    Raises:
        NotSerializable: a keyword's value cannot be JSON; the message names the keyword.
    """
    body, tables = _encode_keywords(kwargs)
    headers: dict[str, Any] = {"From": reply_to}
    if tables is not None:
        headers[TABLES_HEADER] = tables
    return Message(
        body,
        headers=headers,
        content_type=JSON,
        type=CALL,
        correlation_id=correlation_id,
        reply_to=reply_to,
        priority=CALL_PRIORITY,
        expiration=None if timeout is None else max(1, int(min(timeout * 1000, MAX_EXPIRATION))),
        timestamp=time.time(),
    )


def _encode_keywords(kwargs: Mapping[str, Any]) -> tuple[bytes, str | None]:
    try:
        return encode(kwargs, what="the arguments")
    except NotSerializable:
        for name, value in kwargs.items():  # again one by one, to name the one that fails
            encode(value, what=f"argument {name!r}")
        raise


def read_call(delivery: Delivery) -> dict[str, Any]:
    """The keyword arguments of a request."""
    kwargs = decode(delivery.body, delivery.headers.get(TABLES_HEADER))
    if not isinstance(kwargs, dict):
        raise MalformedMessage(
            f"A call's body must be a JSON object of keywords, not {type(kwargs).__name__}."
        )
    return kwargs


def result_message(value: object, correlation_id: str | None) -> Message:
    """The answer to a request that went well.

    Raises:
        NotSerializable: the value cannot be JSON.
    """
    body, tables = encode(value, what="the result")
    return _reply(RESULT, body, correlation_id, {} if tables is None else {TABLES_HEADER: tables})


def error_message(
    error: BaseException, correlation_id: str | None, *, traceback: str | None = None
) -> Message:
    """The answer to a request that failed.

    The traceback is ours alone: a peer takes type, message and arguments and ignores the rest.
    """
    cls = type(error)
    body = {
        "error": {
            "type": f"{cls.__module__}.{cls.__name__}",
            "message": _short_repr(error),
            "args": [_sendable(argument) for argument in error.args],
            "traceback": format_traceback(error) if traceback is None else traceback,
        }
    }
    return _reply(ERROR, encode(body)[0], correlation_id, {})


def _reply(kind: str, body: bytes, correlation_id: str | None, headers: dict[str, Any]) -> Message:
    return Message(
        body,
        headers=headers,
        content_type=JSON,
        type=kind,
        correlation_id=correlation_id,
        timestamp=time.time(),
    )


def _sendable(value: object) -> object:
    try:
        return decode(encode(value)[0])
    except NotSerializable:
        return _short_repr(value)


def _short_repr(value: object) -> str:
    try:
        return repr(value)[:10_000]
    except Exception as error:  # noqa: BLE001 - a broken repr must not hide the error it is in
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def format_traceback(error: BaseException) -> str:
    """The traceback as text, from the end when it is long."""
    text = "".join(traceback_module.format_exception(error))
    return text if len(text) <= MAX_TRACEBACK else "...\n" + text[-MAX_TRACEBACK:]


@dataclass(frozen=True, slots=True)
class Expired:
    """A request that came back because nobody took it in time."""


def read_reply(delivery: Delivery, call: str = "") -> Any | RemoteError | Expired:
    """What a reply says: the result, or the `RemoteError` to raise, or `Expired`."""
    match delivery.type:
        case "result":
            return decode(delivery.body, delivery.headers.get(TABLES_HEADER))
        case "error":
            return _read_error(decode(delivery.body), call)
        case "call":
            return Expired()
    raise MalformedMessage(f"A reply must be a result or an error, not {delivery.type!r}.")


def _read_error(body: Any, call: str) -> RemoteError:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        raise MalformedMessage("An error reply's body must hold the object 'error'.")
    args = error.get("args") or []
    return remote_error(
        _text(error.get("type"), 200) or "Exception",
        _text(error.get("message"), 10_000),
        args if isinstance(args, list) else [args],
        _text(error.get("traceback"), MAX_TRACEBACK),
        call,
    )


# -- keep-alives


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a fabric_nb member says of itself in its keep-alives; amqp-fabric says nothing.

    Attributes:
        instance: which member of the clique this is.
        interval: seconds between its keep-alives.
        busy_since: epoch seconds since when its loop has not run, None when it does.
        methods: signatures by method name, as in ``{"multiply": "(x, y)"}``.
        more_methods: how many methods did not fit into the message.
    """

    version: str = ""
    instance: str = ""
    interval: float | None = None
    busy_since: float | None = None
    methods: Mapping[str, str] = field(default_factory=dict)
    more_methods: int = 0


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """A sign of life, or the last one (`leaving`), or a question for one (`asking`)."""

    name: ServiceName
    said: Announcement | None = None
    leaving: bool = False
    asking: bool = False


def keep_alive_message(name: ServiceName, said: Announcement) -> Message:
    """The periodic sign of life, at most `MAX_ANNOUNCEMENT` bytes.

    Methods that do not fit are left out and counted.
    """
    return _presence(name, naming.KEEP_ALIVE, _encode_announcement(said))


def goodbye_message(name: ServiceName, said: Announcement) -> Message:
    """The last sign of life; of a message type that amqp-fabric does not listen to."""
    return _presence(name, naming.GOODBYE, orjson.dumps({"instance": said.instance}))


def keep_alive_request(name: ServiceName) -> Message:
    """Asks fabric_nb members to announce themselves; amqp-fabric does not listen to it."""
    return _presence(name, naming.KEEP_ALIVE_REQUEST, b"")


def _presence(name: ServiceName, kind: str, body: bytes) -> Message:
    headers = {
        naming.MSG_TYPE: kind,
        "service_domain": name.domain,
        "service_type": name.type,
        "service_id": name.id,
    }
    return Message(body, headers=headers, content_type=JSON if body else None)


def _encode_announcement(said: Announcement) -> bytes:
    version = said.version[:64].encode(errors="replace").decode()
    fixed = {"version": version, "instance": said.instance, "interval": said.interval}
    if said.busy_since is not None:
        fixed["busy_since"] = said.busy_since
    methods: dict[str, str] = {}
    room = MAX_ANNOUNCEMENT - len(orjson.dumps(fixed)) - 64
    for name, told in said.methods.items():
        signature = told.encode(errors="replace").decode()  # JSON has no lone surrogates
        room -= len(orjson.dumps({name: signature}))
        if room < 0:
            fixed["more_methods"] = len(said.methods) - len(methods)
            break
        methods[name] = signature
    return orjson.dumps({**fixed, "methods": methods})


def read_keep_alive(delivery: Delivery) -> KeepAlive:
    """A message of the discovery exchange, from a member of either kind."""
    headers = delivery.headers
    try:
        name = ServiceName(*(headers[f"service_{part}"] for part in ("domain", "type", "id")))
    except KeyError as error:
        raise MalformedMessage(f"A keep-alive must have the header {error}.") from None
    except InvalidName as error:
        raise MalformedMessage(f"A keep-alive names no service: {error}") from None
    kind = headers.get(naming.MSG_TYPE)
    if kind == naming.KEEP_ALIVE_REQUEST:
        return KeepAlive(name, asking=True)
    said = _read_announcement(delivery.body) if delivery.body else None
    return KeepAlive(name, said, leaving=kind == naming.GOODBYE)


def _read_announcement(body: bytes) -> Announcement | None:
    if len(body) > MAX_DESCRIPTION_READ:
        raise MalformedMessage(f"A keep-alive of {len(body)} bytes is too long to be read.")
    said = decode(body)
    if not isinstance(said, dict) or "instance" not in said:
        return None  # another library's extras: allowed, and not ours to judge
    methods = said.get("methods")
    return Announcement(
        version=_text(said.get("version"), 64),
        instance=_text(said.get("instance"), 64),
        interval=_number(said.get("interval"), low=0.05, high=3600.0),
        busy_since=_number(said.get("busy_since"), low=0.0, high=1e11),
        methods={
            name: _text(signature, 500)
            for name, signature in (methods.items() if isinstance(methods, dict) else ())
            if naming.is_method(name)
        },
        more_methods=int(_number(said.get("more_methods"), low=0, high=1e6) or 0),
    )


def _text(value: object, longest: int) -> str:
    return value[:longest] if isinstance(value, str) else ""


def _number(value: object, *, low: float, high: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if low <= value <= high else None


# -- logs


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A log record from somewhere on the fabric.

    amqp-fabric sends level, service and message; the rest is empty then, and `time` is that
    of arrival.

    Attributes:
        time: epoch seconds.
        level: the level's name, as in ``WARNING``.
        traceback: formatted, empty when there is none.
    """

    time: float
    level: str
    service_type: str
    service_id: str
    message: str
    logger: str = ""
    file: str = ""
    line: int | None = None
    traceback: str = ""
    instance: str = ""


def log_message(record: LogRecord) -> Message:
    """A log record as it travels: its text in the body, all else in headers."""
    headers: dict[str, Any] = {
        "service_id": record.service_id,
        "service_type": record.service_type,
        "level_name": record.level,
        "logger_name": record.logger,
        "timestamp_in_ms": round(record.time * 1000),  # AMQP clients cut floats to 32 bits
        "file_name": record.file,
        "line_number": record.line,
        "traceback": record.traceback,
        "instance_id": record.instance,
    }
    return Message(
        encode(record.message)[0],
        headers={name: value for name, value in headers.items() if value not in ("", None)},
        content_type=JSON,
    )


def read_log(delivery: Delivery, *, now: float) -> LogRecord:
    """A log record of either kind; `now` is its time when it carries none."""
    headers = delivery.headers
    message = decode(delivery.body)
    if not isinstance(message, str):
        raise MalformedMessage("A log record's body must be a JSON string.")
    line = _number(headers.get("line_number"), low=0, high=1e9)
    milliseconds = _number(headers.get("timestamp_in_ms"), low=0, high=1e14)
    return LogRecord(
        time=now if milliseconds is None else milliseconds / 1000,
        level=_text(headers.get("level_name"), 40) or "NOTSET",
        service_type=_text(headers.get("service_type"), 64),
        service_id=_text(headers.get("service_id"), 64),
        message=message[:MAX_TRACEBACK],
        logger=_text(headers.get("logger_name"), 200),
        file=_text(headers.get("file_name"), 500),
        line=None if line is None else int(line),
        traceback=_text(headers.get("traceback"), MAX_TRACEBACK),
        instance=_text(headers.get("instance_id"), 64),
    )
