"""Requests and replies."""

from __future__ import annotations

import time
import traceback as traceback_module
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fabric_nb.errors import (
    MalformedMessage,
    NotSerializable,
    RemoteError,
    attributes_of,
    remote_error,
)
from fabric_nb.fabric.amqp.frames import read_exchange
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.wire.chains import MAX_HOPS, hops_of, read_chain
from fabric_nb.fabric.wire.codec import decode, encode
from fabric_nb.fabric.wire.names import DEAD_LETTER_EXCHANGE, DEATH_HEADER
from fabric_nb.fabric.wire.reading import JSON, MAX_TRACEBACK, ending, shortened, text
from fabric_nb.fabric.wire.tables import TABLES_HEADER

CALL, RESULT, ERROR = "call", "result", "error"
STREAM_HEADER = "x-fabric-stream"
CALL_PRIORITY = 5
MAX_ARGUMENTS = 1024 * 1024
"""Bytes of an exception's arguments that are sent; of longer ones, the beginning of the `repr`."""
MAX_LINE = 2000
"""Characters of a line of a traceback: a long message leaves room for where it was raised."""
BRIEF = 4000
"""Characters of each part of an error that was too large for the broker."""
MAX_EXPIRATION = 2**32 - 1  # milliseconds; RabbitMQ refuses more


def call_message(
    kwargs: Mapping[str, Any],
    *,
    correlation_id: str,
    reply_to: str,
    timeout: float | None,
    credit: int = 0,
) -> Message:
    """A request; the broker gives it back when nobody takes it within `timeout` seconds.

    With `credit` it asks for the items of a generator as they come, so many to begin with.

    Raises:
        NotSerializable: a keyword's value cannot be JSON; the message names the keyword.
    """
    body, tables = _encode_keywords(kwargs)
    headers: dict[str, Any] = {"From": reply_to}
    if tables is not None:
        headers[TABLES_HEADER] = tables
    if credit:
        headers[STREAM_HEADER] = credit
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
    if delivery.type != CALL:
        raise MalformedMessage(f"A call must have the type 'call', not {delivery.type!r}.")
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
    return reply(RESULT, correlation_id, *encode(value, what="the result"))


def error_message(
    error: BaseException,
    correlation_id: str | None,
    *,
    traceback: str | None = None,
    brief: bool = False,
) -> Message:
    """The answer to a request that failed.

    With `brief` it has the beginning of the message, the end of the traceback, and short arguments
    only: for a broker that refuses the whole of it.

    Traceback and chain are ours alone: a peer takes type, message and arguments and ignores the
    rest. An error of another service that passes through keeps its type where that is one of
    Python's own. No other name is passed on, because a peer may look it up.
    """
    told: dict[str, object]
    if isinstance(error, RemoteError):
        name = error.type if error.is_builtin else f"{RemoteError.__module__}.RemoteError"
        args = _sendable_arguments(error.remote_args)
        told = {
            "type": name,
            "message": error.message,
            "args": [error.message] if args is None else args,
        }
    else:
        cls = type(error)
        name, args = f"{cls.__module__}.{cls.__name__}", _arguments(error)
        told = {"type": name, "message": _short_repr(error), "args": args}
    told["traceback"] = format_traceback(error) if traceback is None else traceback
    if attributes := attributes_of(error):
        told["attributes"] = attributes
    if hops := hops_of(error):
        told["chain"] = hops
    if brief:
        _shorten(told)
    return reply(ERROR, correlation_id, encode({"error": told})[0])


def _shorten(told: dict[str, Any]) -> None:
    """Reduce an error to what every broker takes, with its type and the names of its chain."""
    told["message"] = shortened(told["message"], BRIEF)
    told["traceback"] = ending(told["traceback"], BRIEF)
    if len(encode(told["args"])[0]) > BRIEF:
        told["args"] = [told["message"]]
    told.pop("attributes", None)
    for hop in told.get("chain", ()):
        hop["message"] = shortened(hop["message"], BRIEF // MAX_HOPS)
        hop["traceback"] = ""


def reply(kind: str, correlation_id: str | None, body: bytes, tables: str | None = None) -> Message:
    """A message to the caller, of any kind."""
    return Message(
        body,
        headers={} if tables is None else {TABLES_HEADER: tables},
        content_type=JSON,
        type=kind,
        correlation_id=correlation_id,
        timestamp=time.time(),
    )


def _arguments(error: BaseException) -> list[object]:
    # Past whatever a class of its own calls `args`.
    arguments: Sequence[object] = vars(BaseException)["args"].__get__(error)
    sendable = _sendable_arguments(arguments)
    return [_short_repr(error)] if sendable is None else sendable


def _sendable_arguments(arguments: Sequence[object]) -> list[object] | None:
    """Arguments as they travel; None if they are too long."""
    bodies = [_sendable(argument) for argument in arguments]
    if sum(map(len, bodies)) > MAX_ARGUMENTS:
        return None  # an error tells what is wrong; it does not carry data
    return [decode(body) for body in bodies]


def _sendable(value: object) -> bytes:
    try:
        return encode(value)[0]
    except BaseException:  # noqa: BLE001 - an argument must not hide the error it is in
        return encode(_short_repr(value))[0]


def _short_repr(value: object) -> str:
    try:
        return str.__str__(repr(value))[:10_000]
    except BaseException as error:  # noqa: BLE001 - nor must a broken repr
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def format_traceback(error: BaseException) -> str:
    """The traceback as text, at most `MAX_TRACEBACK` characters; the end of a long one."""
    try:
        whole = "".join(traceback_module.format_exception(error))
    except BaseException as broken:  # noqa: BLE001 - what an error holds may raise anything
        whole = f"{type(error).__name__}, whose traceback cannot be had: {type(broken).__name__}\n"
    return ending("\n".join(map(_short_line, whole.split("\n"))), MAX_TRACEBACK)


def _short_line(line: str) -> str:
    """The line, or both ends of a long one."""
    if len(line) <= MAX_LINE:
        return line
    end = line[-MAX_LINE // 2 :]
    return shortened(line[: -len(end)], MAX_LINE // 2) + end


def queue_of_death(delivery: Delivery) -> str:
    """The queue in which a request died that came back; empty when it did not come back.

    A broker adds to what it dead-letters the header ``x-death``, the latest death first.
    """
    if read_exchange(delivery.origin) != DEAD_LETTER_EXCHANGE:
        return ""
    deaths = delivery.headers.get(DEATH_HEADER)
    latest = deaths[0] if isinstance(deaths, list) and deaths else None
    return text(latest.get("queue"), 255) if isinstance(latest, dict) else ""


@dataclass(frozen=True, slots=True)
class Expired:
    """A request that came back because nobody took it in time."""


def read_reply(delivery: Delivery, call: str = "") -> Any | RemoteError | Expired:
    """What a reply says: the result or item, or the `RemoteError` to raise, or `Expired`."""
    match delivery.type:
        case "result" | "item":
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
