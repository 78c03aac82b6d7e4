"""Traces: spans of a call over all services on its way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest

from fabric_nb.errors import InvalidArgument, RemoteError, UnknownService
from fabric_nb.fabric.tracing import traces as traces_module
from fabric_nb.fabric.wire.names import span_exchange
from tests.support.fabric import next_message, until, wait_for_service
from tests.support.peers import DOMAIN

if TYPE_CHECKING:
    from fabric_nb import AmqBrokerConnector
    from tests.support.fabric import Members

pytestmark = pytest.mark.any_broker  # these are of fabric_nb itself, unless marked otherwise


async def shop(members: Members, **options: Any) -> list[AmqBrokerConnector]:
    """Serve `shop`, which calls `price` and `stock`, which calls `disk` and publishes."""
    front, price, stock, disk = [
        await members.join(name) for name in ("shop", "price", "stock", "disk")
    ]

    async def order(sku: str) -> float:
        amount = await front.call("app.price.quote", sku=sku)
        await front.call("app.stock.reserve", sku=sku)
        return float(amount)

    async def reserve(sku: str) -> None:
        await stock.call("app.disk.write", sku=sku)
        await stock.publish_data({"sku": sku}, {"msg_type": "RESERVED"})
        if sku == "none":
            raise ValueError("sold out")

    await front.serve({"order": order}, **options)
    await price.serve({"quote": lambda sku: len(sku) * 1.5})
    await stock.serve({"reserve": reserve})
    await disk.serve({"write": lambda sku: None})
    return [front, price, stock, disk]


@pytest.fixture
async def caller(members: Members) -> AmqBrokerConnector:
    caller = await members.join("caller")
    await shop(members)
    for name in ("shop", "price", "stock", "disk"):
        await wait_for_service(caller, name, methods=2)
    return caller


def calls(traced: Any) -> list[tuple[int, str, str]]:
    """Return depth, kind and name of each row of the waterfall."""
    return [
        (node.depth, node.span.kind, f"{node.span.service.rpartition('.')[2]}.{node.span.method}")
        for node in traced.nodes
    ]


WATERFALL = [
    (0, "client", "shop.order"),
    (1, "client", "price.quote"),
    (1, "client", "stock.reserve"),
    (2, "client", "disk.write"),
    (2, "producer", "stock.RESERVED"),
]


@pytest.mark.every_broker
async def test_a_trace_over_services(caller):
    """A traced call has a span for each call and message that it causes, in their order."""
    traced = await caller.trace("shop.order", sku="tea")
    assert traced.result == 4.5
    assert calls(traced) == WATERFALL
    assert all(node.server for node in traced.nodes if node.span.kind == "client")
    first, *rest = traced.nodes
    assert all(0 <= node.start <= node.end <= first.end + 1 for node in rest)
    assert first.server.request == first.span.request > 0
    assert first.span.reply == len("4.5")
    assert (traced.df.outcome == "ok").all()
    served = caller.traces.df.query("kind == 'server'")
    assert sorted(served.method) == ["order", "quote", "reserve", "write"]
    assert [line.split()[0] for line in traced.text.splitlines()] == [row[2] for row in WATERFALL]
    assert traced.svg.count("<rect") == 10
    again = await caller.trace("shop.order", sku="tea")
    assert len(again.trace) == 9
    assert len(caller.traces) == 2


async def test_a_trace_of_a_call_that_fails(caller):
    """A call that fails has its waterfall too, with error and traceback where it was raised."""
    traced = await caller.trace("shop.order", sku="none")
    with pytest.raises(RemoteError, match="sold out"):
        _ = traced.result
    reserve = next(node for node in traced.nodes if node.span.method == "reserve")
    assert "sold out" in reserve.server.error
    assert "ValueError" in reserve.server.traceback
    assert [node.span.method for node in traced.nodes if not node.error] == [
        "quote",
        "write",
        "RESERVED",
    ]
    unknown = await caller.trace(f"{DOMAIN}.app.nothing.there")
    assert isinstance(unknown.error, UnknownService)


async def test_calls_that_are_not_sampled_send_nothing(members, caller, raw):
    """Without a trace no span is sent, and requests have the headers that they had before."""
    exchange = await raw.declare_exchange(span_exchange(DOMAIN), "headers", durable=True)
    spans = await raw.declare_queue(exclusive=True)
    await spans.bind(exchange, arguments={"x-match": "all"})
    requests = await raw.declare_queue(exclusive=True)
    await requests.bind(f"{DOMAIN}.api.app.shop", f"{DOMAIN}.api.app.shop::order")
    assert await caller.call("shop.order", sku="tea") == 4.5
    request = await next_message(requests)
    assert set(request.headers) == {"From", "x-fabric-caller"}
    await caller.trace("shop.order", sku="tea")
    assert {"traceparent", "tracestate"} < set((await next_message(requests)).headers)
    message = await next_message(spans)
    assert message.headers["collector"] == f"{caller.fqn}.{caller.instance}"


async def test_sampling(caller):
    """A share of the calls is sampled, and their nested calls with them; others are not."""
    caller.traces.sample = 1.0
    await caller.call("shop.order", sku="tea")
    await until(lambda: len(caller.traces) == 1)
    # The first trace begins to listen, so that spans of other members may be missed.
    await caller.call("shop.order", sku="tea")
    await until(lambda: [len(trace) for trace in caller.traces.all][1:] == [9])
    caller.traces.sample = 0
    await caller.call("shop.order", sku="tea")
    assert len(caller.traces) == 2
    for share in (-0.1, 1.1, float("nan"), "1", True):
        with pytest.raises(InvalidArgument, match="write a number from 0 to 1"):
            caller.traces.sample = share


async def test_slow_and_failed_calls_are_kept(members):
    """With `trace_slow` a service keeps its slow and failed calls, and sends nothing for that."""
    front, *_ = await shop(members, trace_slow=30)
    caller = await members.join("caller")
    await wait_for_service(caller, "shop", methods=2)
    await caller.call("shop.order", sku="tea")
    with pytest.raises(RemoteError):
        await caller.call("shop.order", sku="none")
    (trace,) = front.traces.all
    kinds = sorted((span.kind, span.method) for span in trace.spans.values())
    assert kinds == [("client", "quote"), ("client", "reserve"), ("server", "order")]
    assert "sold out" in next(iter(trace.df.query("method == 'order'").error))


async def test_streams_and_single_instances(members, caller):
    """Items of a generator, and calls of one instance, are part of a trace."""
    rows = await members.join("rows")

    async def every(n: int) -> Any:
        for k in range(n):
            yield k

    async def collect() -> list[int]:
        return [row async for row in rows.call_stream("app.rows.every", n=3)]

    await rows.serve({"every": every, "collect": collect})
    await wait_for_service(caller, "rows", methods=3)
    traced = await caller.trace(f"rows@{rows.instance[:6]}.collect")
    assert traced.result == [0, 1, 2]
    assert calls(traced) == [(0, "client", "rows.collect"), (1, "client", "rows.every")]
    assert all(node.server for node in traced.nodes)


async def test_spans_that_nobody_asked_for(members, caller, raw, monkeypatch):
    """A flood of spans, of any form, is bounded and counted, and harms no trace."""
    monkeypatch.setattr(traces_module, "MAX_TRACE_SPANS", 50)
    traced = await caller.trace("shop.order", sku="tea")
    exchange = await raw.get_exchange(span_exchange(DOMAIN), ensure=False)
    headers = {"collector": f"{caller.fqn}.{caller.instance}"}
    own = traced.trace.id
    span = '{"trace": "%s", "id": "%016x", "kind": "client", "start": 1, "ms": 1}'
    bodies = [
        "null",
        "[1, [], {}]",
        "[" * 5000,
        '[{"trace": 5}]',
        f"[{','.join(span % ('f' * 32, n) for n in range(500))}]",
        f"[{','.join(span % (own, n) for n in range(1, 500))}]",
    ]
    for body in bodies:
        await exchange.publish(aio_pika.Message(body.encode(), headers=headers), "")
    await until(lambda: traced.trace.dropped)
    assert len(traced.trace) == 50
    assert caller.rejected.counts["span"] == 2
    assert caller.traces.dropped >= 500 + traced.trace.dropped
    assert len(caller.traces) == 1
    monkeypatch.undo()
    assert calls(await caller.trace("shop.order", sku="tea")) == WATERFALL


async def test_many_traces_are_bounded(caller, monkeypatch):
    """The oldest traces are dropped, so that sampling costs a bounded memory."""
    monkeypatch.setattr(traces_module, "MAX_TRACES", 3)
    found = [await caller.trace("price.quote", sku="x" * n) for n in range(5)]
    assert [trace.id for trace in caller.traces.all] == [one.trace.id for one in found[2:]]
    assert found[0].result == 0.0
    assert len(found[0].df) == 2


async def test_traces_while_services_leave(members, caller):
    """A call whose service left has its caller's span, and says that the service's is missing."""
    gone = await members.join("gone")
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        await asyncio.Event().wait()

    await gone.serve({"work": work})
    await wait_for_service(caller, "gone", methods=2)
    tracing = asyncio.create_task(caller.trace("gone.work", timeout=600))
    await began.wait()
    await gone.close()
    traced = await tracing
    assert traced.error is not None
    (node,) = traced.nodes
    assert node.server is None or node.server.outcome != "ok"
    assert "ServiceLost" in node.error
