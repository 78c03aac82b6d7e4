"""Everything at once for long, with a fault every 20 seconds, and each message accounted for.

    make soak                         # 30 minutes
    MINUTES=2 python -m benchmarks.soak

A private RabbitMQ is killed, stopped, out of memory; connections are closed and queues deleted,
while members call, stream, publish and log. It ends with what was sent, received and lost, and with
an error when something was lost that `docs/guarantees.md` does not allow for, or when memory,
tasks, threads, files, channels or queues have grown.

No speed is asked of the machine: what it cannot do at the rates below is left out, a connection
that is lost for want of time is an outage as any other, and the limits of time below only end a run
that hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable

import psutil

from benchmarks.message_accounting import CONFIRMED, FAILED, UNSETTLED, Flow, Used
from fabric_nb import AmqpHandler
from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.data.stream import Stream
from tests.faults.traffic import Calls, at_rate, channels_of
from tests.support.fabric import Members, until
from tests.support.rabbitmq import RabbitMq

MINUTES = float(os.environ.get("MINUTES", "30"))
FAULT_EVERY, CALM = 20.0, 8.0
"""Seconds; at least so many are between the end of one and the next."""
CALLS, MESSAGES, RECORDS = 50, 200, 20
"""A second."""
KEPT_ROWS = 20_000
NOTICED_AFTER = 1.0
RECOVERED_WITHIN = SETTLED_WITHIN = ARRIVES_WITHIN = FLAT_WITHIN = 180.0
"""Seconds; ends of a run that hangs, far beyond the minute that a message is waited for."""
EXPECTED = {"answered", "ConnectionLost", "ServiceLost", "UnknownService", "CallTimeout"}


class Soak:
    """Members with all that they can do, and the faults that come over them."""

    def __init__(self, node: RabbitMq, vhost: str, members: Members) -> None:
        self._node = node
        self._vhost = vhost
        self._members = members
        fates = bytearray()  # of the messages that both streams hear
        self.plain = Flow("plain stream", fates=fates)
        self.durable = Flow("durable stream", kept=True, repeats=True, fates=fates)
        self.records = Flow("log records", repeats=True)
        self.flows = [self.plain, self.durable, self.records]
        self.handler = AmqpHandler()
        self._away: set[int] = set()
        """Who has not all connections that are used, by the place in `everybody`."""

    async def open(self) -> None:
        """Open everything."""
        names = ("server", "caller", "publisher", "reader")
        self.everybody = [await self._members.join(name) for name in names]
        server, caller, publisher, reader = self.everybody
        await server.serve({"double": lambda x: 2 * x}, prefetch=20)
        method = f"{server.fqn}.double"
        self.calls = [
            Calls(caller, method, CALLS, timeout=30),
            Calls(caller, method, CALLS, timeout=30, idempotent=True),
        ]
        plain = await reader.stream(max_rows=KEPT_ROWS)
        self._kept = await reader.stream(name="kept", durable=True, max_rows=KEPT_ROWS)
        self._feed = await reader.logs()
        self._streams = [plain, self._kept]
        self._publisher = publisher
        await publisher.init_logging_handler(self.handler)
        self._hearing = [
            asyncio.create_task(self._hear(plain, self.plain)),
            asyncio.create_task(self._hear(self._kept, self.durable)),
            asyncio.create_task(self._hear_records()),
        ]
        for place, one in enumerate(self.everybody):
            one.on_state(lambda state, place=place: self._on_state(place, state))
        await caller.call(method, x=1)

    async def _hear(self, stream: Stream, flow: Flow) -> None:
        async for rows in stream.batches():
            for row in rows:
                flow.hear(row["n"])

    async def _hear_records(self) -> None:
        feed, heard = self._feed, 0
        while not feed.closed:
            await feed.wait(heard + 1)
            new = feed.changes - heard
            heard += new
            for record in itertools.islice(reversed(feed.records), new):
                self.records.hear(int(record.message))

    def _on_state(self, place: int, state: State) -> None:
        if state is State.CONNECTED:
            self._away.discard(place)
        else:
            self._away.add(place)
        for flow in self.flows:
            if self._away:
                flow.begin_outage()
            else:
                flow.end_outage()

    def _publish(self) -> None:
        number, fates = self.plain.made, self.plain.fates
        fates.append(UNSETTLED)
        taken = asyncio.ensure_future(self._publisher.publish_data({"n": number}))
        taken.add_done_callback(
            lambda done: fates.__setitem__(number, FAILED if done.exception() else CONFIRMED)
        )

    def _log(self) -> None:
        text = {"name": "soak", "msg": str(self.records.made), "levelname": "INFO"}
        self.records.fates.append(CONFIRMED)  # or dropped: the handler knows of them together
        self.handler.handle(logging.makeLogRecord(text))

    @property
    def _unsent(self) -> int:
        return self.records.made - self.handler.sent - self.handler.dropped

    async def load(self, stop: asyncio.Event) -> None:
        """Call, publish and log until told to stop, and until each has ended or time is over."""
        await asyncio.gather(
            *(calls.run(stop) for calls in self.calls),
            at_rate(MESSAGES, stop, self._publish),
            at_rate(RECORDS, stop, self._log),
        )
        with contextlib.suppress(AssertionError):  # then there are complaints
            await until(
                lambda: UNSETTLED not in self.plain.fates and not self._unsent,
                timeout=SETTLED_WITHIN,
            )
        ends = time.monotonic() + ARRIVES_WITHIN
        while self.complaints() and time.monotonic() < ends:  # noqa: ASYNC110 - no event
            await asyncio.sleep(1)  # what was sent last may still come

    # -- faults

    @property
    def faults(self) -> list[Callable[[], Awaitable[None]]]:
        """What can go wrong, each as something that ends when it is over."""
        return [self.killed, self.cut, self.stopped, self.full, self.deleted]

    async def killed(self) -> None:
        """The broker is killed and started again."""
        await asyncio.to_thread(self._node.restart_node)

    async def cut(self) -> None:
        """The broker closes all connections."""
        await asyncio.to_thread(self._node.close_connections, self._vhost)

    async def stopped(self) -> None:
        """The broker stands still for some seconds."""
        await asyncio.to_thread(self._node.pause)
        await asyncio.sleep(3)
        await asyncio.to_thread(self._node.resume)

    async def full(self) -> None:
        """The broker is out of memory for some seconds."""
        await asyncio.to_thread(self._node.set_memory_alarm, raised=True)
        await asyncio.sleep(3)
        await asyncio.to_thread(self._node.set_memory_alarm, raised=False)

    async def deleted(self) -> None:
        """An operator deletes the queue of the method that is called."""
        queues = await asyncio.to_thread(self._node.list_queues, self._vhost)
        methods = [one["name"] for one in queues if one["name"].endswith("::double")]
        for name in methods:
            await asyncio.to_thread(self._node.delete_queue, self._vhost, name)

    async def suffer(self, fault: Callable[[], Awaitable[None]]) -> float:
        """Let it happen, and return after how many seconds all is as before."""
        began = time.monotonic()
        await fault()
        await asyncio.sleep(NOTICED_AFTER)
        for one in self.everybody:
            await until(lambda one=one: one.state is State.CONNECTED, timeout=RECOVERED_WITHIN)
        answered = self.calls[0].ended["answered"]
        await until(lambda: self.calls[0].ended["answered"] > answered, timeout=RECOVERED_WITHIN)
        return time.monotonic() - began

    # -- the account

    def complaints(self) -> list[str]:
        """What should not be."""
        wrong = []
        for calls in self.calls:
            if calls.ended.total() != calls.made:
                wrong.append(f"{calls.made - calls.ended.total()} calls have not ended")
            if set(calls.ended) - EXPECTED:
                wrong.append(f"calls ended as {dict(calls.ended)}")
        if self._unsent:
            wrong.append(f"{self._unsent} log records are neither sent nor dropped")
        self.records.dropped = self.handler.dropped
        return [*wrong, *(text for flow in self.flows for text in flow.complaints())]

    def account(self) -> str:
        """Sent, received and lost, in words."""
        lines = [
            f"calls: {self.calls[0].made:,} made: {_counted(self.calls[0])}",
            f"idempotent calls: {self.calls[1].made:,} made: {_counted(self.calls[1])}",
            *(f"{flow.name}: {flow.balance}" for flow in self.flows),
        ]
        return "\n".join(lines)

    async def used(self) -> Used:
        """What is used now."""
        queues = await asyncio.to_thread(self._node.list_queues, self._vhost)
        gc.collect()
        # The loop's own executor, which runs the faults, keeps its threads.
        threads = [one for one in threading.enumerate() if not one.name.startswith("asyncio_")]
        return Used(
            memory=psutil.Process().memory_info().rss / 1e6,
            tasks=len(asyncio.all_tasks()),
            threads=len(threads),
            files=len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - it does not block
            channels=sum(sum(channels_of(one)) for one in self.everybody),
            queues=len(queues),
        )

    async def flat(self, idle: Used) -> Used:
        """What is used when nothing is more than it was, or when time is over."""
        ends = time.monotonic() + FLAT_WITHIN
        used = await self.used()
        while used.more_than(idle) and time.monotonic() < ends:
            await asyncio.sleep(0.5)
            used = await self.used()
        return used

    async def close(self) -> None:
        """End the streams and the feed."""
        await self._kept.delete()
        for stream in self._streams:
            await stream.close()
        await self._feed.close()
        await asyncio.gather(*self._hearing)


def _counted(calls: Calls) -> str:
    return ", ".join(f"{count:,} {how}" for how, count in calls.ended.most_common())


async def soak(node: RabbitMq, vhost: str) -> list[str]:
    """Run it, print what happens, and return what was wrong."""
    async with Members(node.uri_for(vhost=vhost)) as members:
        run = Soak(node, vhost, members)
        await run.open()
        idle, warm = await run.used(), None
        stop = asyncio.Event()
        loading = asyncio.create_task(run.load(stop))
        ends = time.monotonic() + 60 * MINUTES
        pause = FAULT_EVERY
        for number, fault in enumerate(itertools.cycle(run.faults)):
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            # On a slow machine it takes longer, rather than leave out a fault.
            if loading.done() or (time.monotonic() > ends and number >= len(run.faults)):
                break
            took = await run.suffer(fault)
            pause = max(FAULT_EVERY - took, CALM)
            used = await run.used()
            warm = warm or used
            print(f"{fault.__name__:8} over after {took:5.1f} s; {used}", flush=True)
        stop.set()
        await loading
        after = await run.flat(idle)
        print(f"\n{run.account()}\nidle:  {idle}\nwarm:  {warm}\nafter: {after}")
        wrong = run.complaints() + after.more_than(idle) + after.grown_from(warm or idle)
        await run.close()
        return wrong


def main() -> None:
    """Start a broker, soak, and say how it went."""
    for noisy in ("aiormq", "aio_pika", "fabric_nb"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    with RabbitMq.start() as node, node.private_vhost() as vhost:
        wrong = asyncio.run(soak(node, vhost))
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main()
