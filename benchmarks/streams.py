"""Data streams: messages of one row each, waiting at the broker (drain) or as they come (live).

And batches: as many messages as drained, each of a thousand rows in Arrow, as rows a second.
"""

from __future__ import annotations

import asyncio

from benchmarks import peers
from benchmarks.figures import Sample
from benchmarks.harness import Say, Worker, rounds, workers
from benchmarks.payloads import Feed

REFERENCE = "aiormq"
OURS = "fabric_nb"
SEED = "amqp_fabric"
DRAIN, LIVE = "drain", "live"
ARROW = "fabric_nb, Arrow batches"
BATCH_ROWS = 1000

KINDS = (OURS, REFERENCE, SEED, "aio_pika", "faststream")
"""The peers, in the order in which they take turns."""

_OPTIONAL = {"faststream"}
_DRAINED = {"msg_type": "DRAIN"}


async def measure(uri: str, *, count: int, messages: int, batches: int, say: Say) -> list[Sample]:
    """Measure every consumer `count` times, draining that many messages and taking them live."""
    samples: list[Sample] = []
    async with workers(uri, say) as group:
        producer = await group.start("producer", "produce")
        consumers: dict[str, Worker] = {}
        for peer in KINDS:
            if not peers.installed(peer):
                say(f"left out: {peer} is not installed")
                continue
            start = group.start_if_it_runs if peer in _OPTIONAL else group.start
            consumer = await start(peer, "consume")
            if consumer is not None:
                consumers[peer] = consumer
        for each in rounds(count, say, "streams"):
            found = await _drain(producer, consumers, each, messages)
            found += await _live(producer, consumers, each, messages)
            found.append(await _batches(producer, consumers[OURS], each, batches))
            samples += found if each else []
    return samples


async def _drain(
    producer: Worker, consumers: dict[str, Worker], each: int, messages: int
) -> list[Sample]:
    """Each message is published once and waits in the queues of all consumers."""
    feeds = {peer: Feed(f"drain.{peer}", _DRAINED) for peer in consumers}
    for feed in feeds.values():
        await producer.ask("declare", feed=feed.as_json())
    await producer.ask("publish", headers=_DRAINED, count=messages)
    samples = []
    for peer, consumer in consumers.items():
        await consumer.ask("connect", feed=feeds[peer].as_json())
        await consumer.ask("settle")
        measured = await consumer.ask("take", count=messages)
        samples.append(_sample(peer, DRAIN, each, measured))
    return samples


async def _live(
    producer: Worker, consumers: dict[str, Worker], each: int, messages: int
) -> list[Sample]:
    """Messages are published while they are consumed, as fast as the broker takes them."""
    samples = []
    for peer, consumer in consumers.items():
        feed = Feed(f"live.{peer}", {"msg_type": f"LIVE_{peer}"})
        await producer.ask("declare", feed=feed.as_json())
        await consumer.ask("connect", feed=feed.as_json())
        await consumer.ask("settle")
        measured, _ = await asyncio.gather(
            consumer.ask("take", count=messages),
            producer.ask("publish", headers=feed.headers, count=messages),
        )
        samples.append(_sample(peer, LIVE, each, measured))
    return samples


async def _batches(producer: Worker, consumer: Worker, each: int, batches: int) -> Sample:
    """Batches wait in the queue; beside the others' rows, these are rows too."""
    feed, rows = Feed("batches", {"msg_type": "BATCHES"}), batches * BATCH_ROWS
    await producer.ask("declare", feed=feed.as_json())
    await producer.ask("publish batches", headers=feed.headers, count=rows, rows=BATCH_ROWS)
    await consumer.ask("connect", feed=feed.as_json())
    await consumer.ask("settle")
    return _sample(ARROW, DRAIN, each, await consumer.ask("take", count=rows))


def _sample(peer: str, load: str, each: int, measured: dict[str, float]) -> Sample:
    return Sample(
        kind=peer,
        load=load,
        round=each,
        rate=measured["count"] / measured["seconds"],
        cpu_us=measured["cpu_us"] / measured["count"],
    )
