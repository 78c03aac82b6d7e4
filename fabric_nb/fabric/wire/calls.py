"""Requests and replies."""

from __future__ import annotations

import hashlib
import math
import time
import traceback as traceback_module
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fabric_nb.errors import (
    MalformedMessage,
    NotSerializable,
    RemoteError,
    attributes_of,
    printable,
    remote_error,
)
from fabric_nb.fabric.amqp.fields import FieldTable, checked
from fabric_nb.fabric.amqp.frames import read_exchange
from fabric_nb.fabric.amqp.message import Delivery, Headers, Message
from fabric_nb.fabric.wire.chains import MAX_HOPS, hops_of, read_chain
from fabric_nb.fabric.wire.codec import decode, encode
from fabric_nb.fabric.wire.formats import JSON, TABLES_HEADER
from fabric_nb.fabric.wire.names import DEAD_LETTER_EXCHANGE, DEATH_HEADER, is_method
from fabric_nb.fabric.wire.reading import MAX_TRACEBACK, ending, shortened, text

CALL, RESULT, ITEM, ERROR = "call", "result", "item", "error"
STREAM_HEADER = "x-fabric-stream"
CALL_PRIORITY = 5
MAX_ARGUMENTS = 1024 * 1024
"""Bytes of an exception's arguments that are sent; longer ones are replaced by their `repr`."""
MAX_LINE = 2000
"""Characters of a line of a traceback, so that a long message leaves room for the frames."""
BRIEF = 4000
"""Characters of each part of an error that was too large for the broker."""
CALLER_HEADER = "x-fabric-caller"
"""Of a request: the caller's full name and instance, joined by a dot."""
REPORT_HEADER = "x-fabric-report"
INSTANCE, PROGRESS, OUTPUT = "instance", "progress", "output"
"""Of a request: what the caller wants to know of the call. Each includes those before it."""
METHOD_HEADER = "x-fabric-method"
"""Of a request to one instance: the method, as the routing key is that of the instance."""
DEADLINE_HEADER, TO_BEGIN = "x-fabric-deadline", "begin"
"""Of a request that continues after its timeout if it has begun: `expiration` is only for that."""
INSTANCE_HEADER = "x-fabric-instance"
"""Of a message about a call whose request asks for it: the instance that runs the call."""
ID_LENGTH, LONG_ID = 8, 32
"""Characters of the id of a call, and of a correlation id of which they are the beginning."""
MAX_EXPIRATION = 2**32 - 1
"""Milliseconds; RabbitMQ refuses more."""
_MARGIN = 50.0
"""Milliseconds by which a request expires before its caller gives up."""


@dataclass(frozen=True, slots=True)
class Request:
    """Encoded arguments of a call, of which a message is made when it is sent.

    Attributes:
        body: the arguments as JSON.
        tables: descriptor of the tables among them.
    """

    body: bytes
    tables: str | None

    @classmethod
    def of(cls, kwargs: Mapping[str, Any]) -> Request:
        """Encode the arguments of a call.

        Raises:
            NotSerializable: a keyword's value cannot be JSON; the message names the keyword.
        """
        return cls(*_encode_keywords(kwargs))

    def message(
        self,
        *,
        correlation_id: str,
        reply_to: str,
        seconds: float | None,
        caller: str = "",
        user_id: str | None = None,
        credit: int = 0,
        report: str = "",
        method: str = "",
        continues: bool = False,
        trace: Headers | None = None,
    ) -> Message:
        """Return the message of the call.

        Args:
            correlation_id: id that the reply carries.
            reply_to: queue of the reply, and of the request itself if it expires.
            seconds: seconds that the caller waits; then the broker returns the request.
            caller: full name and instance of the caller.
            user_id: user that the broker is to verify.
            credit: initial credit of an item stream; 0: a single reply.
            report: what the caller wants to know of the call: nothing, `INSTANCE`, `PROGRESS`
                or `OUTPUT`.
            method: the method, if the request is sent to one instance.
            continues: it continues when `seconds` are over, if it has begun.
            trace: headers of its place in a trace, if it is sampled.
        """
        headers: Headers = _request_headers(reply_to, caller, report)
        if self.tables is not None:
            headers = {**headers, TABLES_HEADER: self.tables}
        if credit:
            headers = {**headers, STREAM_HEADER: credit}
        if method:
            headers = {**headers, METHOD_HEADER: method}
        if continues:
            headers = {**headers, DEADLINE_HEADER: TO_BEGIN}
        if trace:
            headers = {**headers, **trace}
        return Message(
            self.body,
            headers=headers,
            content_type=JSON,
            type=CALL,
            correlation_id=correlation_id,
            reply_to=reply_to,
            priority=CALL_PRIORITY,
            expiration=None if seconds is None else expiration_of(seconds),
            timestamp=time.time(),
            user_id=user_id,
        )


@lru_cache(maxsize=64)
def _request_headers(reply_to: str, caller: str, report: str) -> FieldTable:
    """Return the headers that all requests of a caller have."""
    headers = {"From": reply_to}
    if caller:
        headers[CALLER_HEADER] = caller
    if report:
        headers[REPORT_HEADER] = report
    return checked(headers)


def wanted_report(request: Delivery) -> str:
    """Return what the caller wants to know of its call; empty for nothing."""
    wanted = request.headers.get(REPORT_HEADER)
    return wanted if wanted in (INSTANCE, PROGRESS, OUTPUT) else ""


def continues_after_timeout(request: Delivery) -> bool:
    """Return whether a call continues when its caller's timeout is over, once it has begun."""
    return request.headers.get(DEADLINE_HEADER) == TO_BEGIN


def called_method(request: Delivery) -> str:
    """Return the method of a request that was sent to one instance; empty if it names none."""
    method: Any = request.headers.get(METHOD_HEADER)
    return str(method) if is_method(method) else ""


def name_instance(message: Message, instance: str) -> Message:
    """Add the instance to a message about a call whose request asks for it."""
    named = _instance_headers(instance)
    message.headers = {**message.headers, **named} if message.headers else named
    return message


@lru_cache(maxsize=64)
def _instance_headers(instance: str) -> FieldTable:
    return checked({INSTANCE_HEADER: instance})


def running_instance(message: Delivery) -> str:
    """Return the instance that sent a message about a call; empty if it is not named."""
    return printable(text(message.headers.get(INSTANCE_HEADER), 64))


def call_id(correlation_id: str | None) -> str:
    """Return the id of a call in records and logs; who knows it cannot cancel the call.

    It is the beginning of a long correlation id, of which enough is left to be unknown, and a hash
    of a short one.
    """
    if not correlation_id:
        return ""
    if len(correlation_id) >= LONG_ID:
        return printable(correlation_id[:ID_LENGTH])
    return hashlib.blake2s(correlation_id.encode(), digest_size=ID_LENGTH // 2).hexdigest()


def seconds_left(request: Delivery) -> float:
    """Return the seconds that the caller of a request waits; infinity if it has no limit.

    Time for which the request was queued is not subtracted, because a broker does not tell it.
    """
    try:
        return int(request.expiration or "") / 1000
    except ValueError:
        return math.inf


@lru_cache(maxsize=64)
def expiration_of(seconds: float) -> int:
    """Return the expiration of a request, in milliseconds, for a caller that waits `seconds`.

    It is a little shorter, so that no instance receives a request whose caller has just given up.
    """
    milliseconds = min(seconds * 1000, float(MAX_EXPIRATION))
    return max(1, int(milliseconds - min(_MARGIN, milliseconds / 10)))


def _encode_keywords(kwargs: Mapping[str, Any]) -> tuple[bytes, str | None]:
    try:
        return encode(kwargs, label="the arguments")
    except NotSerializable:
        for name, value in kwargs.items():  # again one by one, to name the one that failed
            encode(value, label=f"argument {name!r}")
        raise


def read_call(delivery: Delivery) -> dict[str, Any]:
    """Return the keyword arguments of a request."""
    if delivery.type != CALL:
        raise MalformedMessage(f"A call must have the type 'call', not {delivery.type!r}.")
    kwargs = decode(delivery.body, delivery.headers.get(TABLES_HEADER))
    if not isinstance(kwargs, dict):
        raise MalformedMessage(
            f"A call's body must be a JSON object of keywords, not {type(kwargs).__name__}."
        )
    return kwargs


def result_message(value: object, correlation_id: str | None) -> Message:
    """Return the reply to a request that succeeded.

    Raises:
        NotSerializable: the value cannot be JSON.
    """
    return reply_message(RESULT, correlation_id, *encode(value, label="the result"))


def error_message(
    error: BaseException,
    correlation_id: str | None,
    *,
    traceback: str | None = None,
    brief: bool = False,
) -> Message:
    """Return the reply to a request that failed.

    With `brief` it has only the beginning of the message, the end of the traceback, and short
    arguments: for a broker that refuses the complete error.

    Traceback, attributes and chain are extensions of fabric_nb: an amqp-fabric peer reads type,
    message and arguments and ignores the rest. An error of another service that is forwarded keeps
    its type if that is one of Python's built-in types. No other name is forwarded, because a peer
    may look it up.
    """
    content: dict[str, object]
    if isinstance(error, RemoteError):
        name = error.type if error.is_builtin else f"{RemoteError.__module__}.RemoteError"
        args = _sendable_arguments(error.remote_args)
        content = {
            "type": name,
            "message": error.message,
            "args": [error.message] if args is None else args,
        }
    else:
        cls = type(error)
        name, args = f"{cls.__module__}.{cls.__name__}", _arguments(error)
        content = {"type": name, "message": _short_repr(error), "args": args}
    content["traceback"] = format_traceback(error) if traceback is None else traceback
    if attributes := attributes_of(error):
        content["attributes"] = attributes
    if hops := hops_of(error):
        content["chain"] = hops
    if brief:
        _shorten(content)
    return reply_message(ERROR, correlation_id, encode({"error": content})[0])


def _shorten(content: dict[str, Any]) -> None:
    """Reduce an error to a size that every broker accepts; keep its type and its chain's names."""
    content["message"] = shortened(content["message"], BRIEF)
    content["traceback"] = ending(content["traceback"], BRIEF)
    if len(encode(content["args"])[0]) > BRIEF:
        content["args"] = [content["message"]]
    content.pop("attributes", None)
    for hop in content.get("chain", ()):
        hop["message"] = shortened(hop["message"], BRIEF // MAX_HOPS)
        hop["traceback"] = ""


def reply_message(
    kind: str,
    correlation_id: str | None,
    body: bytes,
    tables: str | None = None,
    *,
    reply_to: str | None = None,
) -> Message:
    """Return a message of any kind about a call, with `correlation_id` as the call's id."""
    return Message(
        body,
        headers={} if tables is None else {TABLES_HEADER: tables},
        content_type=JSON,
        type=kind,
        correlation_id=correlation_id,
        reply_to=reply_to,
        timestamp=time.time(),
    )


def _arguments(error: BaseException) -> list[object]:
    # Independent of a subclass that redefines `args`.
    arguments: Sequence[object] = vars(BaseException)["args"].__get__(error)
    sendable = _sendable_arguments(arguments)
    return [_short_repr(error)] if sendable is None else sendable


def _sendable_arguments(arguments: Sequence[object]) -> list[object] | None:
    """Return arguments as JSON values; None if they are too long."""
    bodies = [_sendable(argument) for argument in arguments]
    if sum(map(len, bodies)) > MAX_ARGUMENTS:
        return None  # an error is not meant to transport data
    return [decode(body) for body in bodies]


def _sendable(value: object) -> bytes:
    try:
        return encode(value)[0]
    except BaseException:  # noqa: BLE001 - an argument must not hide its error
        return encode(_short_repr(value))[0]


def _short_repr(value: object) -> str:
    try:
        return str.__str__(repr(value))[:10_000]
    except BaseException as error:  # noqa: BLE001 - nor must a broken repr
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def format_traceback(error: BaseException) -> str:
    """Return the traceback as text, or the last `MAX_TRACEBACK` characters of a longer one."""
    try:
        whole = "".join(traceback_module.format_exception(error))
    except BaseException as broken:  # noqa: BLE001 - formatting an error's contents may raise
        whole = f"{type(error).__name__}, whose traceback cannot be had: {type(broken).__name__}\n"
    return ending("\n".join(map(_short_line, whole.split("\n"))), MAX_TRACEBACK)


def _short_line(line: str) -> str:
    """Return the line, or both ends of a long one."""
    if len(line) <= MAX_LINE:
        return line
    end = line[-MAX_LINE // 2 :]
    return shortened(line[: -len(end)], MAX_LINE // 2) + end


def dead_lettered_from(delivery: Delivery) -> str:
    """Return the queue from which a message was dead-lettered; empty if it was not.

    A broker adds the header ``x-death`` to dead-lettered messages, with the latest entry first.
    """
    if read_exchange(delivery.origin) != DEAD_LETTER_EXCHANGE:
        return ""
    deaths = delivery.headers.get(DEATH_HEADER)
    latest = deaths[0] if isinstance(deaths, list) and deaths else None
    return text(latest.get("queue"), 255) if isinstance(latest, dict) else ""


@dataclass(frozen=True, slots=True)
class Expired:
    """A request that the broker returned because no instance received it in time."""


def read_reply(delivery: Delivery, call: str = "") -> Any | RemoteError | Expired:
    """Return the result or item in a reply, the `RemoteError` to raise, or `Expired`."""
    kind = delivery.type
    if kind in (RESULT, ITEM):
        return decode(delivery.body, delivery.headers.get(TABLES_HEADER))
    if kind == ERROR:
        return _read_error(decode(delivery.body), call)
    if kind == CALL:
        return Expired()
    raise MalformedMessage(f"A reply must be a result or an error, not {kind!r}.")


def _read_error(body: Any, call: str) -> RemoteError:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        raise MalformedMessage("An error reply's body must hold the object 'error'.")
    error, hops = read_chain(error)
    args = error.get("args") or []
    return remote_error(
        text(error.get("type"), 200) or "Exception",
        text(error.get("message"), 10_000),
        args if isinstance(args, list) else [args],
        text(error.get("traceback"), MAX_TRACEBACK),
        call,
        hops,
        attributes if isinstance(attributes := error.get("attributes"), dict) else None,
    )
