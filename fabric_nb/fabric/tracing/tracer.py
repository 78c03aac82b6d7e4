"""Spans of this member: begun with a call or a message, and recorded when that ends.

    span = tracer.begin_call(None, "shop.pricing.main", "quote")   # None, unless it is sampled
    ...
    span.end("ok")

Nothing is recorded or sent for a call that is not sampled.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fabric_nb.fabric.tracing.publisher import SpanPublisher
from fabric_nb.fabric.tracing.traces import Traces
from fabric_nb.fabric.wire.spans import Span, SpanKind, SpanOutcome, sendable_texts
from fabric_nb.fabric.wire.trace_context import TRACEPARENT, TraceContext, new_trace, read_trace

if TYPE_CHECKING:
    from fabric_nb.fabric.tracing.otel import OtelSpan

Record = Callable[[Span, str], object]
"""Records an ended span for the member that collects it."""

OTEL_SDK = "opentelemetry.sdk.trace"
"""Module of OpenTelemetry that a program has imported if it has configured an SDK."""
_NOTHING: AbstractContextManager[None] = nullcontext()


class ActiveSpan:
    """A span that has begun.

    Attributes:
        context: its place in the trace.
        request: bytes of the arguments, or of the message.
        reply: bytes of the reply; None if there is none yet.
        call: id of the call.
    """

    __slots__ = (
        "_began",
        "_kind",
        "_member",
        "_method",
        "_otel",
        "_parent",
        "_record",
        "_service",
        "_start",
        "call",
        "context",
        "reply",
        "request",
    )

    def __init__(
        self,
        context: TraceContext,
        parent: str,
        kind: SpanKind,
        service: str,
        method: str,
        member: str,
        record: Record | None,
        otel: OtelSpan | None = None,
    ) -> None:
        self.context = context
        self.request: int | None = None
        self.reply: int | None = None
        self.call = ""
        self._parent = parent
        self._kind: SpanKind = kind
        self._service = service
        self._method = method
        self._member = member
        self._record = record
        self._otel = otel
        self._start = time.time()
        self._began = time.perf_counter()

    def headers(self) -> Mapping[str, Any]:
        """Return the headers of a request or a message that belongs to this span."""
        return self.context.headers()

    def attached(self) -> AbstractContextManager[None]:
        """Return a context manager in which OpenTelemetry's current span is this one."""
        return _NOTHING if self._otel is None else self._otel.attached()

    def begin(self, kind: SpanKind, service: str, method: str) -> ActiveSpan:
        """Begin a span within this one."""
        if self._record is None:  # only forwarded
            return ActiveSpan(self.context, "", kind, service, method, self._member, None)
        context = self.context.child()
        parent = self.context.span_id
        return ActiveSpan(context, parent, kind, service, method, self._member, self._record)

    def end(self, outcome: SpanOutcome = "ok", error: str = "", traceback: str = "") -> None:
        """End the span, and record it."""
        if self._otel is not None:
            self._otel.end(self, outcome, error, traceback)
        if self._record is None:
            return
        error, traceback = sendable_texts(error, traceback)
        span = Span(
            self.context.trace_id,
            self.context.span_id,
            self._parent,
            self._kind,
            self._service,
            self._method,
            self._member,
            self._start,
            (time.perf_counter() - self._began) * 1000,
            outcome,
            error,
            traceback,
            self.request,
            self.reply,
            self.call,
        )
        self._record(span, self.context.collector)


class LocalSpan(ActiveSpan):
    """A served call that is recorded with the calls that it makes, and kept if it is of interest.

    Nothing of it is sent.

    Args:
        service: full name of the service.
        method: called method.
        member: member that serves it.
        record: records the spans that are kept.
    """

    __slots__ = ("_keep", "_spans")

    def __init__(self, service: str, method: str, member: str, record: Record) -> None:
        self._keep = record
        self._spans: list[tuple[Span, str]] = []
        super().__init__(new_trace(member), "", "server", service, method, member, self._buffer)

    def headers(self) -> Mapping[str, Any]:
        """Return no headers."""
        return {}

    def begin(self, kind: SpanKind, service: str, method: str) -> ActiveSpan:
        """Begin a span within this one."""
        return _LocalChild(
            self.context.child(),
            self.context.span_id,
            kind,
            service,
            method,
            self._member,
            self._buffer,
        )

    def keep(self) -> None:
        """Record this span and those within it that have ended."""
        for span, collector in self._spans:
            self._keep(span, collector)

    def _buffer(self, span: Span, collector: str) -> None:
        if len(self._spans) < MAX_LOCAL:
            self._spans.append((span, collector))


class _LocalChild(ActiveSpan):
    __slots__ = ()

    def headers(self) -> Mapping[str, Any]:
        return {}


MAX_LOCAL = 1000
"""Spans of calls within one served call that are kept with it."""


class Tracer:
    """Begins the spans of one member.

    Args:
        member: full name and instance of the member.
        traces: traces that the member collects.
        publisher: publisher of the spans that other members collect.

    Attributes:
        member: full name and instance of the member.
    """

    def __init__(self, member: str, traces: Traces, publisher: SpanPublisher) -> None:
        self.member = member
        self._traces = traces
        self._publisher = publisher

    def _record(self, span: Span, collector: str) -> None:
        if collector == self.member:
            self._traces.add(span)
        else:
            self._publisher.add(span, collector)

    def begin_call(
        self, parent: ActiveSpan | None, service: str, method: str, *, nested: bool = False
    ) -> ActiveSpan | None:
        """Begin the span of a call that this member makes; None if the call is not sampled.

        Args:
            parent: span of the served call that makes it.
            service: full name of the called service.
            method: called method.
            nested: True if a served call makes it, whose caller has decided what is sampled.
        """
        if OTEL_SDK in sys.modules and (otel := _otel()) is not None:
            return self._begin_with(otel, parent, "client", service, method)
        if parent is not None:
            return parent.begin("client", service, method)
        share = self._traces.share
        if nested or not share or random.random() >= share:  # noqa: S311 - no secret
            return None
        return self.begin_trace(service, method)

    def begin_trace(self, service: str, method: str) -> ActiveSpan:
        """Begin the span of a call that is sampled in any case."""
        if OTEL_SDK in sys.modules and (otel := _otel()) is not None:
            span = self._begin_with(otel, None, "client", service, method, collected=True)
        else:
            context = new_trace(self.member)
            span = ActiveSpan(context, "", "client", service, method, self.member, self._record)
        self._traces.begin(span.context.trace_id)
        return span

    def begin_message(
        self, parent: ActiveSpan | None, service: str, kind: str
    ) -> ActiveSpan | None:
        """Begin the span of a published message; None if it is not sampled."""
        if OTEL_SDK in sys.modules and (otel := _otel()) is not None:
            return self._begin_with(otel, parent, "producer", service, kind)
        return None if parent is None else parent.begin("producer", service, kind)

    def begin_served(
        self, headers: Mapping[str, Any], service: str, method: str, *, local: bool = False
    ) -> ActiveSpan | None:
        """Begin the span of a call that this member serves; None if the call is not sampled.

        Args:
            headers: headers of the request.
            service: full name of the service.
            method: called method.
            local: True to record a call that is not sampled, as a `LocalSpan`.
        """
        context = read_trace(headers) if TRACEPARENT in headers else None
        if OTEL_SDK in sys.modules and (otel := _otel()) is not None:
            parent = None if context is None else self._served(context, service, method)
            return self._begin_with(otel, parent, "server", service, method)
        if context is not None and context.sampled and context.collector:
            return self._served(context, service, method).begin("server", service, method)
        if local:
            return LocalSpan(service, method, self.member, self._record)
        return None if context is None else self._served(context, service, method)

    def _served(self, context: TraceContext, service: str, method: str) -> ActiveSpan:
        """Return a span in place of the caller's; without a collector it is only forwarded."""
        record = self._record if context.sampled and context.collector else None
        return ActiveSpan(context, "", "server", service, method, self.member, record)

    def _begin_with(
        self,
        otel: type[OtelSpan],
        parent: ActiveSpan | None,
        kind: SpanKind,
        service: str,
        method: str,
        *,
        collected: bool = False,
    ) -> ActiveSpan:
        """Begin a span that OpenTelemetry records too, in its trace."""
        before = None if parent is None else parent.context
        span = otel.start(before, kind, service, method)
        collector = self.member if collected else "" if before is None else before.collector
        context = replace(span.context, collector=collector)
        record = self._record if collector and (context.sampled or collected) else None
        # Of those that fabric_nb has begun: others, between them, are not in its traces.
        parent_id = "" if before is None else before.span_id
        return ActiveSpan(context, parent_id, kind, service, method, self.member, record, span)


def _otel() -> type[OtelSpan] | None:
    from fabric_nb.fabric.tracing import otel

    return otel.OtelSpan if otel.is_configured() else None
