"""Spans of the calls that a server runs."""

from __future__ import annotations

import sys

from fabric_nb.fabric.core.values import error_text
from fabric_nb.fabric.rpc.history import Outcome
from fabric_nb.fabric.rpc.running_calls import RunningCall
from fabric_nb.fabric.tracing.tracer import OTEL_SDK, LocalSpan, Tracer
from fabric_nb.fabric.wire.trace_context import TRACEPARENT


class ServedSpans:
    """Begins and ends the spans of served calls that are sampled, or kept because they are slow.

    Args:
        tracer: tracer of the member.
        service: full name of the service.

    Attributes:
        slow: seconds from which a call is kept; None: only sampled calls have a span.
    """

    def __init__(self, tracer: Tracer, service: str) -> None:
        self._tracer = tracer
        self._service = service
        self.slow: float | None = None

    def begin(self, running: RunningCall) -> None:
        """Begin the span of a call, if it has one."""
        headers = running.delivery.headers
        if self.slow is None and TRACEPARENT not in headers and OTEL_SDK not in sys.modules:
            return
        method = running.method.name
        span = self._tracer.begin_served(
            headers, self._service, method, local=self.slow is not None
        )
        if span is not None:
            span.request, span.call = len(running.delivery.body), running.id
        running.span = span

    def end(
        self,
        running: RunningCall,
        seconds: float,
        error: BaseException | None,
        traceback: str,
        outcome: Outcome | None,
    ) -> None:
        """End the span of a call."""
        if (span := running.span) is None:
            return
        text = "" if error is None else error_text(error)
        span.end(outcome or ("ok" if error is None else "failed"), text, traceback)
        slow = self.slow
        if isinstance(span, LocalSpan) and (
            error is not None or (slow is not None and seconds >= slow)
        ):
            span.keep()
