"""Data streams: messages of one row each, queued at the broker (drain) or published live.

And batches: messages of a thousand rows in Arrow, as rows per second.
"""

from __future__ import annotations

import asyncio

from benchmarks import peers
from benchmarks.figures import Sample
from benchmarks.harness import Progress, Worker, rounds, workers
from benchmarks.payloads import Source

REFERENCE = "aiormq"
FABRIC_NB = "fabric_nb"
AMQP_FABRIC = "amqp_fabric"
GO = "amqp091-go"
DRAIN, LIVE = "drain", "live"
ARROW = "fabric_nb, Arrow batches"
BATCH_ROWS = 1000

KINDS = (FABRIC_NB, REFERENCE, GO, "librabbitmq", AMQP_FABRIC, "aio_pika", "faststream")
"""The peers, in the order of measurement; librabbitmq decodes nothing."""

_OPTIONAL = {"faststream"}
_DRAINED = {"msg_type": "DRAIN"}


async def measure(
    uri: str, *, count: int, messages: int, batches: int, progress: Progress
) -> list[Sample]:
    """Measure every consumer `count` times, draining messages and receiving them live."""
    samples: list[Sample] = []
    async with workers(uri, progress) as group:
        producer = await group.start("producer", "produce")
        consumers: dict[str, Worker] = {}
        for peer in KINDS:
            if missing := peers.missing(peer):
                progress(f"left out: {missing}")
                continue
            start = group.start_if_it_runs if peer in _OPTIONAL else group.start
            consumer = await start(peer, "consume")
            if consumer is not None:
                consumers[peer] = consumer
        for round_number in rounds(count, progress, "streams"):
            round_samples = await _drain(producer, consumers, round_number, messages)
            round_samples += await _live(producer, consumers, round_number, messages)
            round_samples.append(
                await _batches(producer, consumers[FABRIC_NB], round_number, batches)
            )
            samples += round_samples if round_number else []
    return samples


async def _drain(
    producer: Worker, consumers: dict[str, Worker], round_number: int, messages: int
) -> list[Sample]:
    """Measure consumers whose queues are filled; each message is published once for all."""
    sources = {peer: Source(f"drain.{peer}", _DRAINED) for peer in consumers}
    for source in sources.values():
        await producer.request("declare", source=source.as_json())
    await producer.request("publish", headers=_DRAINED, count=messages)
    samples = []
    for peer, consumer in consumers.items():
        await consumer.request("connect", source=sources[peer].as_json())
        await consumer.request("settle")
        measured = await consumer.request("receive", count=messages)
        samples.append(_sample(peer, DRAIN, round_number, measured))
    return samples


async def _live(
    producer: Worker, consumers: dict[str, Worker], round_number: int, messages: int
) -> list[Sample]:
    """Measure consumers while messages are published at the speed of the broker."""
    samples = []
    for peer, consumer in consumers.items():
        source = Source(f"live.{peer}", {"msg_type": f"LIVE_{peer}"})
        await producer.request("declare", source=source.as_json())
        await consumer.request("connect", source=source.as_json())
        await consumer.request("settle")
        measured, _ = await asyncio.gather(
            consumer.request("receive", count=messages),
            producer.request("publish", headers=source.headers, count=messages),
        )
        samples.append(_sample(peer, LIVE, round_number, measured))
    return samples


async def _batches(producer: Worker, consumer: Worker, round_number: int, batches: int) -> Sample:
    """Measure a consumer of queued batches, in rows."""
    source, rows = Source("batches", {"msg_type": "BATCHES"}), batches * BATCH_ROWS
    await producer.request("declare", source=source.as_json())
    await producer.request("publish batches", headers=source.headers, count=rows, rows=BATCH_ROWS)
    await consumer.request("connect", source=source.as_json())
    await consumer.request("settle")
    return _sample(ARROW, DRAIN, round_number, await consumer.request("receive", count=rows))


def _sample(peer: str, load: str, round_number: int, measured: dict[str, float]) -> Sample:
    return Sample(
        kind=peer,
        load=load,
        round=round_number,
        rate=measured["count"] / measured["seconds"],
        cpu_us=measured["cpu_us"] / measured["count"],
    )
