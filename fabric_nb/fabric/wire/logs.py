"""Log records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.codec import decode, encode
from fabric_nb.fabric.wire.reading import JSON, MAX_TRACEBACK, number, text


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A log record from somewhere on the fabric.

    amqp-fabric sends level, service and message; the rest is empty then, and `time` is that
    of arrival.

    Attributes:
        time: epoch seconds.
        level: the level's name, as in ``WARNING``.
        traceback: formatted, empty when there is none.
        domain: of whose logs it came; it does not travel.
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
    domain: str = ""


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


def read_log(delivery: Delivery, *, now: float, domain: str = "") -> LogRecord:
    """A log record of either kind; `now` is its time when it carries none."""
    headers = delivery.headers
    message = decode(delivery.body)
    if not isinstance(message, str):
        raise MalformedMessage("A log record's body must be a JSON string.")
    line = number(headers.get("line_number"), low=0, high=1e9)
    milliseconds = number(headers.get("timestamp_in_ms"), low=0, high=1e14)
    return LogRecord(
        time=now if milliseconds is None else milliseconds / 1000,
        level=text(headers.get("level_name"), 40) or "NOTSET",
        service_type=text(headers.get("service_type"), 64),
        service_id=text(headers.get("service_id"), 64),
        message=message[:MAX_TRACEBACK],
        logger=text(headers.get("logger_name"), 200),
        file=text(headers.get("file_name"), 500),
        line=None if line is None else int(line),
        traceback=text(headers.get("traceback"), MAX_TRACEBACK),
        instance=text(headers.get("instance_id"), 64),
        domain=domain,
    )
