"""Spans of traces, and the messages in which services publish them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fabric_nb.errors import MalformedMessage, printable
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.core.values import valid
from fabric_nb.fabric.wire.codec import decode, encode
from fabric_nb.fabric.wire.formats import JSON
from fabric_nb.fabric.wire.names import is_method
from fabric_nb.fabric.wire.reading import ending, number, text

SpanKind = Literal["client", "server", "producer"]
"""Kind of a span: a call as its caller sees it, as its service does, or a published message."""
SpanOutcome = Literal["ok", "failed", "timeout", "cancelled"]

COLLECTOR_HEADER = "collector"
"""Of a message with spans: the member that collects them."""
MAX_SPANS = 100
"""Spans of one message that is sent; all of their texts fit into one AMQP frame."""
MAX_SPANS_READ = 1000
MAX_BODY_READ = 4 * 1024 * 1024
MAX_ERROR, MAX_TRACE_TEXT = 500, 4000
"""Characters of the error and of the traceback of a span."""
_TRACE_ID, _SPAN_ID = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{16}")
_MAX_TIME, _MAX_MS, _MAX_BYTES = 1e11, 1e12, 1e15
_OUTCOMES, _KINDS = get_args(SpanOutcome), get_args(SpanKind)


@dataclass(frozen=True, slots=True)
class Span:
    """One call or published message in a trace, as one member has seen it.

    Attributes:
        trace: id of the trace.
        id: id of the span.
        parent: id of the span that it belongs to; empty for the first one.
        kind: ``client`` and ``server`` are the two ends of a call.
        service: full name of the called service, or of the one that published.
        method: called method; for a message its ``msg_type``.
        member: full name and instance of the member that recorded it.
        start: start, in epoch seconds by the clock of that member.
        ms: duration in milliseconds.
        outcome: outcome, as in `CallRecord`.
        error: type and text of the exception; empty if there was none.
        traceback: end of its traceback, from the service only.
        request: bytes of the arguments, or of the message.
        reply: bytes of the reply; None if there was none.
        call: id of the call, as in `CallRecord`.
    """

    trace: str
    id: str
    parent: str
    kind: SpanKind
    service: str
    method: str
    member: str
    start: float
    ms: float
    outcome: SpanOutcome = "ok"
    error: str = ""
    traceback: str = ""
    request: int | None = None
    reply: int | None = None
    call: str = ""

    @property
    def instance(self) -> str:
        """Id of the instance that recorded it."""
        return self.member.rpartition(".")[2]


_FIELDS = tuple(Span.__dataclass_fields__)


def spans_message(spans: Sequence[Span], collector: str) -> Message:
    """Return a message with spans for the member that collects them."""
    content = [
        {name: value for name in _FIELDS if (value := getattr(span, name)) not in (None, "")}
        for span in spans
    ]
    return Message(
        encode(content)[0],
        headers={COLLECTOR_HEADER: collector},
        content_type=JSON,
        type="spans",
        timestamp=time.time(),
    )


def sendable_texts(error: str, traceback: str) -> tuple[str, str]:
    """Return the error and the traceback of a span as they are sent."""
    return valid(error)[:MAX_ERROR], ending(valid(traceback), MAX_TRACE_TEXT)


def read_spans(delivery: Delivery) -> list[Span]:
    """Return the spans in a message; those of another form are left out.

    Raises:
        MalformedMessage: it is no list, or too long.
    """
    content = decode(delivery.body) if len(delivery.body) <= MAX_BODY_READ else None
    if not isinstance(content, list) or len(content) > MAX_SPANS_READ:
        raise MalformedMessage("Spans must be a JSON list of at most 1,000 objects, within 4 MiB.")
    return list(_read(content))


def _read(content: list[Any]) -> Iterator[Span]:
    for entry in content:
        if not isinstance(entry, dict):
            continue
        trace, span, parent = (text(entry.get(name), 40) for name in ("trace", "id", "parent"))
        start = number(entry.get("start"), low=0, high=_MAX_TIME)
        ms = number(entry.get("ms"), low=0, high=_MAX_MS)
        kind: Any = entry.get("kind")
        outcome: Any = entry.get("outcome", "ok")
        known = kind in _KINDS and outcome in _OUTCOMES and start is not None and ms is not None
        if not (known and _TRACE_ID.fullmatch(trace) and _SPAN_ID.fullmatch(span)):
            continue
        method = text(entry.get("method"), 200)
        yield Span(
            trace=trace,
            id=span,
            parent=parent if _SPAN_ID.fullmatch(parent) else "",
            kind=kind,
            service=printable(text(entry.get("service"), 200)),
            method=method if is_method(method) else printable(method),
            member=printable(text(entry.get("member"), 300)),
            start=start or 0.0,
            ms=ms or 0.0,
            outcome=outcome,
            error=printable(text(entry.get("error"), MAX_ERROR)),
            traceback=printable(text(entry.get("traceback"), MAX_TRACE_TEXT)),
            request=_bytes(entry.get("request")),
            reply=_bytes(entry.get("reply")),
            call=printable(text(entry.get("call"), 64)),
        )


def _bytes(value: object) -> int | None:
    size = number(value, low=0, high=_MAX_BYTES)
    return None if size is None else int(size)
