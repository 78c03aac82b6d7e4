"""OpenTelemetry: spans of calls and messages in the program's own traces.

Used if the program has configured an SDK. Names and attributes are those of the semantic
conventions for messaging spans: https://opentelemetry.io/docs/specs/semconv/messaging/.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind as OtelKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fabric_nb._version import __version__
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.fabric.wire.spans import SpanKind, SpanOutcome
from fabric_nb.fabric.wire.trace_context import TraceContext, read_trace

if TYPE_CHECKING:
    from fabric_nb.fabric.tracing.tracer import ActiveSpan

_PROPAGATOR = TraceContextTextMapPropagator()
_KINDS: dict[SpanKind, tuple[OtelKind, str, str]] = {
    "client": (OtelKind.CLIENT, "call", "send"),
    "server": (OtelKind.SERVER, "process", "process"),
    "producer": (OtelKind.PRODUCER, "publish", "send"),
}
"""Kind, operation name and operation type of each kind of span."""


def is_configured() -> bool:
    """Return whether the program has configured an SDK."""
    return not isinstance(
        trace.get_tracer_provider(), (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
    )


class OtelSpan:
    """A span that OpenTelemetry records.

    Attributes:
        context: its place in the trace.
    """

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
        context = read_trace(carrier)
        own = span.get_span_context()
        self.context = context or TraceContext(
            trace.format_trace_id(own.trace_id), trace.format_span_id(own.span_id), sampled=False
        )

    @classmethod
    def start(
        cls, parent: TraceContext | None, kind: SpanKind, service: str, method: str
    ) -> OtelSpan:
        """Start a span.

        Args:
            parent: context that it belongs to, from a message or a served call; None: that which
                is current in the program.
            kind: kind of the span.
            service: full name of the called service, or of the one that publishes.
            method: called method, or ``msg_type`` of the message.
        """
        current = otel_context.get_current()
        enclosing = trace.get_current_span(current).get_span_context()
        within = parent is None or (
            # The current span may be one that the served function has begun itself.
            enclosing.is_valid
            and kind != "server"
            and trace.format_trace_id(enclosing.trace_id) == parent.trace_id
        )
        if not within and parent is not None:
            current = _PROPAGATOR.extract(replace(parent, collector="").headers(), current)
        otel_kind, operation, operation_type = _KINDS[kind]
        destination = _destination(service, kind)
        attributes = {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": operation,
            "messaging.operation.type": operation_type,
            "messaging.destination.name": destination,
        }
        if kind != "producer":
            attributes |= {"rpc.system": "fabric", "rpc.service": service, "rpc.method": method}
        target = destination if kind == "producer" else f"{service}.{method}"
        tracer = trace.get_tracer("fabric_nb", __version__)
        span = tracer.start_span(f"{operation} {target}", current, otel_kind, attributes)
        return cls(span)

    @contextmanager
    def _current(self) -> Iterator[None]:
        token = otel_context.attach(trace.set_span_in_context(self._span))
        try:
            yield
        finally:
            otel_context.detach(token)

    def attached(self) -> Any:
        """Return a context manager in which this span is the current one."""
        return self._current()

    def end(self, active: ActiveSpan, outcome: SpanOutcome, error: str, traceback: str) -> None:
        """End the span.

        Args:
            active: the span, for its sizes and the id of its call.
            outcome: outcome of the call.
            error: type and text of its exception, if it failed.
            traceback: traceback of the service.
        """
        span = self._span
        if active.call:
            span.set_attribute("messaging.message.conversation_id", active.call)
        if active.request is not None:
            span.set_attribute("messaging.message.body.size", active.request)
        if outcome != "ok":
            span.set_attribute("error.type", error.partition("(")[0].partition(":")[0] or outcome)
            span.set_status(trace.StatusCode.ERROR, error or outcome)
            if traceback:
                span.add_event(
                    "exception",
                    {"exception.message": error, "exception.stacktrace": traceback},
                )
        span.end()


def _destination(service: str, kind: SpanKind) -> str:
    """Return the exchange that the request or the message was published to."""
    domain, _, local = service.partition(".")
    if kind == "producer":
        return f"{domain}.data"
    type_, _, id_ = local.partition(".")
    return ServiceName(domain, type_, id_).api_exchange
