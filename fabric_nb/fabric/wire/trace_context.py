"""Trace context of requests and messages: the headers of W3C Trace Context. Pure.

https://www.w3.org/TR/trace-context/, level 1. The entry ``fabric`` of ``tracestate`` names the
member that collects the spans of the trace: full name and instance, joined by a dot.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
_COLLECTOR = "fabric"
"""Key of the member that collects the spans, in `TRACESTATE`."""
_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_MEMBER = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,64}){3}")
_SAMPLED = 1
_MAX_STATE = 512
"""Characters of `TRACESTATE` that are forwarded (section 3.3.1.5 of the recommendation)."""


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Place of a call or a message in a trace.

    Attributes:
        trace_id: id of the trace, 32 hexadecimal digits.
        span_id: id of the span that what carries this context belongs to, 16 digits.
        sampled: True if spans of the trace are recorded.
        collector: member that collects the spans; empty if none of fabric_nb does.
        state: entries of ``tracestate`` of other tracers, which are forwarded.
    """

    trace_id: str
    span_id: str
    sampled: bool = True
    collector: str = ""
    state: str = ""

    def child(self) -> TraceContext:
        """Return the context of a new span within this one."""
        return replace(self, span_id=os.urandom(8).hex())

    def headers(self) -> dict[str, str]:
        """Return the headers of a message with this context."""
        flags = "01" if self.sampled else "00"
        headers = {TRACEPARENT: f"00-{self.trace_id}-{self.span_id}-{flags}"}
        own = f"{_COLLECTOR}={self.collector}" if self.collector else ""
        if state := ",".join(filter(None, (own, self.state))):
            headers[TRACESTATE] = state
        return headers


def new_trace(collector: str) -> TraceContext:
    """Return the context of the first span of a new trace."""
    return TraceContext(os.urandom(16).hex(), os.urandom(8).hex(), collector=collector)


def read_trace(headers: Mapping[str, Any]) -> TraceContext | None:
    """Return the context in the headers of a message; None if there is none that can be read.

    Example:
        >>> parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        >>> read_trace({"traceparent": parent}).span_id
        '00f067aa0ba902b7'
    """
    parent = headers.get(TRACEPARENT)
    match = _PARENT.match(parent) if isinstance(parent, str) else None
    if match is None:
        return None
    rest = match.string[match.end() :]
    if rest and (match.string.startswith("00") or not rest.startswith("-")):
        return None  # a later version may append fields
    trace_id, span_id, flags = match.groups()
    if not (trace_id.strip("0") and span_id.strip("0")):
        return None
    collector, state = _read_state(headers.get(TRACESTATE))
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED), collector, state)


def _read_state(state: object) -> tuple[str, str]:
    """Return the collector, and the entries of other tracers."""
    collector, others, left = "", [], _MAX_STATE
    for entry in state.split(",") if isinstance(state, str) else ():
        key, _, value = entry.strip().partition("=")
        if key == _COLLECTOR:
            collector = value if _MEMBER.fullmatch(value) else ""
        elif value and entry.isascii() and entry.isprintable() and len(entry) < left:
            left -= len(entry) + 1
            others.append(entry.strip())
    return collector, ",".join(others)
