"""Trace context, spans and the tree of a trace, without a broker."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.tracing.traces import spans_frame
from fabric_nb.fabric.tracing.tree import MAX_DEPTH, tree
from fabric_nb.fabric.tracing.waterfall import MAX_ROWS, waterfall_svg, waterfall_text
from fabric_nb.fabric.wire.spans import MAX_SPANS, Span, read_spans, spans_message
from fabric_nb.fabric.wire.trace_context import TraceContext, new_trace, read_trace

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
MEMBER = "d.t.s.7f3a90c1"


def span(
    number: int,
    parent: int | None = None,
    kind: str = "client",
    *,
    start: float = 0.0,
    ms: float = 10.0,
    **fields: Any,
) -> Span:
    before = "" if parent is None else f"{parent:016x}"
    named = {"service": "d.t.s", "method": f"m{number}", "member": MEMBER, **fields}
    return Span(TRACE, f"{number:016x}", before, kind, start=1.7e9 + start, ms=ms, **named)


def shape(spans: list[Span]) -> list[tuple[str, int]]:
    return [(node.span.method, node.depth) for node in tree(spans)]


# Context


@pytest.mark.parametrize("sampled", [True, False])
def test_context_arrives_equal(sampled: bool) -> None:
    """A context is read as it was sent, with the entries of other tracers."""
    for context in (
        new_trace(MEMBER),
        TraceContext(TRACE, PARENT, sampled, "", "vendor=1,other=a:b"),
        TraceContext(TRACE, PARENT, sampled, MEMBER, "vendor=1"),
    ):
        assert read_trace(context.headers()) == context
        child = context.child()
        assert child.span_id != context.span_id
        assert child.trace_id == context.trace_id


@pytest.mark.parametrize(
    "parent",
    [
        None,
        5,
        "",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-0g",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"ff-{TRACE}-{PARENT}-01",
        f"01-{TRACE}-{PARENT}-01x",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT}-01\n",
    ],
)
def test_invalid_contexts(parent: object) -> None:
    """Anything that W3C Trace Context calls invalid begins no trace (section 3.2)."""
    assert read_trace({"traceparent": parent, "tracestate": f"fabric={MEMBER}"}) is None


def test_contexts_of_others() -> None:
    """Later versions are read, other state is forwarded in bounds, a collector is a member."""
    assert read_trace({"traceparent": f"01-{TRACE}-{PARENT}-01-more"}) is not None
    for state in ("fabric=", "fabric=a.b", "fabric=a b.c.d.e", 7, "fabric=" + "a" * 500, "=,=,,"):
        context = read_trace({"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": state})
        assert context is not None
        assert (context.collector, context.state) == ("", "")
    long = ",".join(f"k{n}={'v' * 50}" for n in range(100))
    context = read_trace({"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": long})
    assert context is not None
    assert 0 < len(context.state) <= 512


# Spans


def test_spans_arrive_equal() -> None:
    """Spans are read as they were sent, and as many as are sent at once fit into one frame."""
    whole = span(
        1,
        outcome="failed",
        error="ValueError: ü",
        traceback="Traceback",
        request=5,
        reply=0,
        call="c",
    )
    sent = [whole, span(2, 1, "server"), span(3, 2, "producer", method="TICK x")]
    message = spans_message(sent, MEMBER)
    assert read_spans(Delivery(message.body)) == sent
    assert len(spans_message([span(n) for n in range(MAX_SPANS)], MEMBER).body) < 128_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        name: JSON | st.sampled_from([TRACE, PARENT, "client", 1e300, -1, 2**64, "\u202e\x1b[2J"])
        for name in Span.__dataclass_fields__
    },
)


@given(st.lists(FIELDS, max_size=5))
def test_hostile_spans(content: list[Any]) -> None:
    """Whatever is sent as spans becomes a waterfall and a table, in bounds and harmless."""
    import json

    base = {"trace": TRACE, "id": PARENT, "kind": "server", "start": 1, "ms": 1}
    body = json.dumps([{**base, **fields} for fields in content]).encode()
    spans = read_spans(Delivery(body))
    nodes = tree(spans)
    text = waterfall_text("x", nodes)
    assert not {"\x1b", "\u202e"} & set(text)
    assert len(waterfall_svg("x", nodes)) < 20_000
    assert len(spans_frame(spans)) == len(spans)


@pytest.mark.parametrize("body", [b"", b"{}", b"5", b"[" + b"{}," * 2000 + b"{}]", b"[" * 100_000])
def test_messages_that_are_no_spans(body: bytes) -> None:
    """A message without a list of at most 1,000 spans is refused."""
    with pytest.raises(MalformedMessage):
        read_spans(Delivery(body))


# Tree


def test_calls_are_joined_with_their_services() -> None:
    """A call and its service's span are one row, and nested calls are below it."""
    spans = [
        span(1, ms=100),
        span(2, 1, "server", start=0.01, ms=80),
        span(3, 2, start=0.05, ms=10),
        span(4, 3, "server", start=0.052, ms=5, outcome="failed", error="ValueError"),
        span(5, 2, start=0.02, ms=10),
    ]
    random.Random(7).shuffle(spans)
    nodes = tree(spans)
    assert shape(spans) == [("m1", 0), ("m5", 1), ("m3", 1)]
    assert [round(node.start) for node in nodes] == [0, 20, 50]
    assert nodes[0].queued == pytest.approx(10, abs=0.01)
    assert nodes[1].queued is None
    assert (nodes[2].error, nodes[2].span.error) == ("ValueError", "")


def test_clocks_that_differ() -> None:
    """A service whose clock is an hour ahead stands within its call, and so does all below it."""
    hour = 3600.0
    spans = [
        span(1, ms=100),
        span(2, 1, "server", start=hour + 0.03, ms=60),
        span(3, 2, start=hour + 0.04, ms=20),
        span(4, 3, "server", start=hour - 7200 + 0.045, ms=10),
        span(5, 4, start=hour - 7200 + 0.046, ms=1),
    ]
    nodes = tree(spans)
    assert [node.depth for node in nodes] == [0, 1, 2]
    for outer, inner in pairwise(nodes):
        assert outer.start <= inner.start
        assert inner.end <= outer.end
    assert nodes[0].clock == pytest.approx(3_600_010, abs=1)
    assert nodes[0].queued is None
    assert "its clock is 3,600.0 s ahead" in waterfall_text("x", nodes)


def test_incomplete_and_circular_spans() -> None:
    """Children without parents, parents of themselves and circles are shown once each."""
    spans = [
        span(1, 99),
        span(2, 2),
        span(3, 4),
        span(4, 3),
        span(5, 4),
        span(6, 6, "server"),
        span(7, 8, "server"),
        span(8, 7, "server"),
    ]
    nodes = tree(spans)
    assert sorted(node.span.method for node in nodes) == [f"m{n}" for n in range(1, 9)]
    assert sum(node.orphan for node in nodes) >= 4
    assert tree([]) == []


@given(
    st.lists(
        st.tuples(
            st.integers(1, 12),
            st.integers(1, 12) | st.none(),
            st.sampled_from(["client", "server", "producer"]),
            st.floats(-1e10, 1e10),
            st.floats(0, 1e12),
        ),
        max_size=30,
    )
)
def test_any_spans_have_a_place(
    found: list[tuple[int, int | None, str, float, float]],
) -> None:
    """Each span is shown exactly once, as a row or as the service's part of one."""
    spans = {
        number: span(number, parent, kind, start=start, ms=ms)
        for number, parent, kind, start, ms in found
    }
    nodes = tree(spans.values())
    shown = [node.span for node in nodes] + [node.server for node in nodes if node.server]
    assert sorted(one.id for one in shown) == sorted(one.id for one in spans.values())
    waterfall_text("x", nodes)
    waterfall_svg("x", nodes)


def test_a_trace_of_many_spans() -> None:
    """Deep and wide traces have a tree; text and picture end with the number of the rest."""
    deep = [span(0), *(span(n, n - 1, start=n / 1e6) for n in range(1, 10_000))]
    assert max(node.depth for node in tree(deep)) == MAX_DEPTH
    wide = [span(0), *(span(n, 0, start=n / 1e6) for n in range(1, 10_000))]
    nodes = tree(wide)
    assert [node.span.method for node in nodes[:3]] == ["m0", "m1", "m2"]
    assert waterfall_text("x", nodes).endswith(f"and {10_000 - MAX_ROWS:,} more spans")
    assert f"and {10_000 - MAX_ROWS:,} more spans" in waterfall_svg("x", nodes)
