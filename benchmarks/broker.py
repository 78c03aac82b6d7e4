"""Comparison of the embedded broker and RabbitMQ: `python -m benchmarks.broker`.

The client is a raw socket with precomputed frames in this process, so that the cost is that of
the broker in its process. One client (for calls one per side), messages of 120 bytes, no
persistence. The brokers alternate; the median of the rounds is shown.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pamqp import body, frame, header
from pamqp.commands import Basic, Confirm, Queue

from fabric_nb import AmqBrokerConnector
from fabric_nb.broker.launch import ensure_broker, stop_broker
from tests.broker.process import BrokerProcess
from tests.broker.rawclient import RawClient
from tests.support.rabbitmq import RabbitMq

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5
MESSAGES = 20_000
CALLS = 2_000
BATCH = 100
BODY = bytes(120)
QUEUE = "benchmark"


def _content(method: Any, **properties: Any) -> bytes:
    head = header.ContentHeader(0, len(BODY), Basic.Properties(**properties))
    return b"".join(frame.marshal(value, 1) for value in (method, head, body.ContentBody(BODY)))


def _delivery_size(queue: str, **properties: Any) -> int:
    return len(_content(Basic.Deliver("t", 1, False, "", queue), **properties))


def _prepare(client: RawClient, queue: str = QUEUE) -> None:
    client.open()
    client.call(1, Queue.Declare(queue=queue, auto_delete=True))


def _publish_all(client: RawClient) -> None:
    batch = _content(Basic.Publish(routing_key=QUEUE)) * BATCH
    for _ in range(MESSAGES // BATCH):
        client.send_bytes(batch)


def _delete(client: RawClient, queue: str = QUEUE) -> None:
    client.call(1, Queue.Delete(queue=queue))


def publish(uri: str, *, confirm: bool = False) -> float:
    """Return messages per second until the broker has queued them all."""
    with RawClient(uri) as client:
        _prepare(client)
        if confirm:
            client.call(1, Confirm.Select())
        started = time.perf_counter()
        _publish_all(client)
        client.send(1, Queue.Declare(queue=QUEUE, passive=True))
        while not isinstance(client.receive()[1], Queue.DeclareOk):
            pass
        duration = time.perf_counter() - started
        _delete(client)
    return MESSAGES / duration


def publish_confirmed(uri: str) -> float:
    """Return messages per second in confirm mode."""
    return publish(uri, confirm=True)


def consume(uri: str, *, ack: bool = False) -> float:
    """Return messages per second from a full queue."""
    with RawClient(uri) as client:
        _prepare(client)
        _publish_all(client)
        probe = Queue.Declare(queue=QUEUE, passive=True)
        while client.call(1, probe).message_count < MESSAGES:
            pass
        client.call(1, Basic.Qos(prefetch_count=2 * BATCH))
        size = _delivery_size(QUEUE)
        started = time.perf_counter()
        client.call(1, Basic.Consume(queue=QUEUE, consumer_tag="t", no_ack=not ack))
        acked = 0
        for number in range(BATCH, MESSAGES + 1, BATCH):
            client.receive_bytes(size * BATCH)
            if ack:
                client.send(1, Basic.Ack(number, multiple=True))
                acked = number
        duration = time.perf_counter() - started
        assert acked == (MESSAGES if ack else 0)
    return MESSAGES / duration


def consume_acked(uri: str) -> float:
    """Return messages per second with a prefetch of 200 and an acknowledgement per hundred."""
    return consume(uri, ack=True)


def call(uri: str) -> float:
    """Return sequential round trips per second: request and reply between two connections."""
    queues = {"request": f"{QUEUE}-requests", "reply": f"{QUEUE}-replies"}
    properties: dict[str, Any] = {
        "reply_to": queues["reply"],
        "correlation_id": "0123456789",
        "headers": {"From": queues["reply"]},
    }
    request, reply = (
        _content(Basic.Publish(routing_key=queue), **properties) for queue in queues.values()
    )
    request_size, reply_size = (_delivery_size(queue, **properties) for queue in queues.values())
    with RawClient(uri) as caller, RawClient(uri) as server:
        for client, queue in ((server, queues["request"]), (caller, queues["reply"])):
            _prepare(client, queue)
            client.call(1, Basic.Consume(queue=queue, consumer_tag="t", no_ack=True))
        started = time.perf_counter()
        for _ in range(CALLS):
            caller.send_bytes(request)
            server.receive_bytes(request_size)
            server.send_bytes(reply)
            caller.receive_bytes(reply_size)
        return CALLS / (time.perf_counter() - started)


KINDS: list[Callable[[str], float]] = [publish, publish_confirmed, consume, consume_acked, call]


async def first_call() -> float:
    """Return seconds from the start of the embedded broker to the reply of a first call."""
    began = time.perf_counter()
    async with AmqBrokerConnector(
        ensure_broker().uri, "bench", "t", "one", keep_alive_seconds=1, keep_alive_listen=True
    ) as fabric:
        await fabric.serve({"echo": lambda x: x})
        await fabric.call("one.echo", x=1)
        return time.perf_counter() - began


def print_first_calls() -> None:
    """Start an embedded broker several times, each time up to a first reply."""
    with TemporaryDirectory() as folder:
        os.environ["FABRIC_NB_RUNTIME_DIR"] = folder
        seconds = []
        for _ in range(ROUNDS):
            seconds.append(asyncio.run(first_call()))
            stop_broker()
    median, worst = statistics.median(seconds), max(seconds)
    print(f"start to first answered call, embedded: median {median:.2f} s, at most {worst:.2f} s")


def main() -> None:
    """Print a line per kind: the rates of both brokers, and their ratio."""
    with RabbitMq.start() as rabbitmq, BrokerProcess() as embedded:
        uris = {f"RabbitMQ {rabbitmq.version}": rabbitmq.uri, "embedded": embedded.uri}
        print(f"{'per second':<18}{''.join(f'{name:>18}' for name in uris)}{'ratio':>8}")
        for kind in KINDS:
            rates: dict[str, list[float]] = {name: [] for name in uris}
            for _ in range(ROUNDS):
                for name, uri in uris.items():
                    rates[name].append(kind(uri))
            reference, rate = (statistics.median(values) for values in rates.values())
            print(f"{kind.__name__:<18}{reference:>18,.0f}{rate:>18,.0f}{rate / reference:>8.2f}")
    print_first_calls()


if __name__ == "__main__":
    main()
