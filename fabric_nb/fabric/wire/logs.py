"""Log records."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Final

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.core.values import valid
from fabric_nb.fabric.wire.codec import decode, encode
from fabric_nb.fabric.wire.formats import JSON
from fabric_nb.fabric.wire.json_reading import PIECE
from fabric_nb.fabric.wire.reading import MAX_TRACEBACK, number, shortened, text

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SEVERITY_HEADER: Final = "severity"
CALL_HEADER: Final = "call_id"

MAX_NAME, MAX_LEVEL, MAX_LOGGER, MAX_FILE = 64, 40, 200, 500
"""Characters of the other fields; with `MAX_TRACEBACK`, all fit into one AMQP frame."""
_MAX_LINE, _MAX_MILLISECONDS = 1e9, 9.2e12
"""Largest line number, and the latest time that every version of pandas can represent, in 2261."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """Log record of a service.

    amqp-fabric sends level, service and message; the other fields are empty then, and `time` is
    the time of arrival.

    Attributes:
        time: epoch seconds.
        level: name of the level, as in ``WARNING``.
        traceback: formatted traceback, empty if there is none.
        domain: domain from whose exchange it was received; not part of the message.
        severity: for a custom level, the standard level at or below it, if known.
        call: id of the served call in whose context it was logged, as in `CallRecord`.
        arrived: time of arrival, in epoch seconds; not part of the message.
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
    severity: str = ""
    call: str = ""
    arrived: float = field(default=0.0, compare=False)


def severity_of(number: int) -> str:
    """Return the standard level at or below a level's number; empty below DEBUG.

    Example:
        >>> severity_of(logging.WARNING + 5)
        'WARNING'
    """
    return next((name for name in reversed(LEVELS) if getattr(logging, name) <= number), "")


def log_message(record: LogRecord) -> Message:
    """Return the message of a log record: its text is the body, all other fields are headers.

    A field that is too long is shortened and marked; a lone surrogate, which UTF-8 cannot
    represent, is escaped.
    """
    line = number(record.line, low=0, high=_MAX_LINE)
    milliseconds = number(record.time * 1000, low=0, high=_MAX_MILLISECONDS)
    texts = {
        "service_id": (record.service_id, MAX_NAME),
        "service_type": (record.service_type, MAX_NAME),
        "level_name": (record.level, MAX_LEVEL),
        "logger_name": (record.logger, MAX_LOGGER),
        "file_name": (record.file, MAX_FILE),
        "traceback": (record.traceback, MAX_TRACEBACK),
        "instance_id": (record.instance, MAX_NAME),
        SEVERITY_HEADER: (record.severity, MAX_LEVEL),
        CALL_HEADER: (record.call, MAX_NAME),
    }
    headers: dict[str, Any] = {
        name: _text(value, longest) for name, (value, longest) in texts.items() if value
    }
    if milliseconds is not None:
        headers["timestamp_in_ms"] = round(milliseconds)  # AMQP clients truncate floats to 32 bits
    if line is not None:
        headers["line_number"] = int(line)
    body = encode(_text(record.message, MAX_TRACEBACK))[0]
    return Message(body, headers=headers, content_type=JSON)


def read_log(delivery: Delivery, *, now: float, domain: str = "") -> LogRecord:
    """Decode a log record of fabric_nb or amqp-fabric; `now` is its time if it has none."""
    headers = delivery.headers
    body = delivery.body
    message = decode(body) if len(body) <= PIECE or body.startswith(b'"') else None
    if not isinstance(message, str):
        raise MalformedMessage("A log record's body must be a JSON string.")
    line = number(headers.get("line_number"), low=0, high=_MAX_LINE)
    milliseconds = number(headers.get("timestamp_in_ms"), low=0, high=_MAX_MILLISECONDS)
    level = _text(headers.get("level_name"), MAX_LEVEL) or "NOTSET"
    severity = headers.get(SEVERITY_HEADER)
    return LogRecord(
        time=now if milliseconds is None else milliseconds / 1000,
        level=level,
        service_type=text(headers.get("service_type"), MAX_NAME),
        service_id=text(headers.get("service_id"), MAX_NAME),
        message=_text(message, MAX_TRACEBACK),
        logger=_text(headers.get("logger_name"), MAX_LOGGER),
        file=_text(headers.get("file_name"), MAX_FILE),
        line=None if line is None else int(line),
        traceback=_text(headers.get("traceback"), MAX_TRACEBACK),
        instance=text(headers.get("instance_id"), MAX_NAME),
        domain=domain,
        severity=str(severity) if level not in LEVELS and severity in LEVELS else "",
        call=_text(headers.get(CALL_HEADER), MAX_NAME),
        arrived=now,
    )


def _text(value: object, longest: int) -> str:
    """Return text as valid UTF-8 of limited length; empty for anything else."""
    return shortened(valid(value), longest) if isinstance(value, str) else ""
