"""Soak test: all features under load, with a fault every 20 seconds, and message accounting.

    make soak                         # 30 minutes
    MINUTES=1 FAULT_EVERY=10 python -m benchmarks.soak

A private RabbitMQ is killed, paused and out of memory; connections are closed and queues deleted,
while connectors call, stream, publish and log. The program prints the messages sent, received and
lost, and exits with an error for losses that `docs/guarantees.md` does not allow, or for growth of
memory, tasks, threads, files, channels or queues.

Speed is not tested: load beyond the capacity of the machine is skipped, a connection
that is lost for lack of CPU time is an outage like any other, and the timeouts below only end a
hanging run.
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

from benchmarks.message_accounting import CONFIRMED, FAILED, PENDING, Flow, ResourceUsage
from fabric_nb import AmqpHandler
from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.data.stream import Stream
from tests.faults.traffic import Calls, at_rate, channels_of
from tests.support.fabric import Members, until
from tests.support.rabbitmq import RabbitMq

MINUTES = float(os.environ.get("MINUTES", "30"))
FAULT_EVERY, MIN_PAUSE = float(os.environ.get("FAULT_EVERY", "20")), 8.0
"""Seconds between two faults, and minimum pause between the end of one and the next."""
CALLS, MESSAGES, RECORDS = 50, 200, 20
"""Per second."""
MAX_ROWS = 20_000
NOTICED_AFTER = 1.0
RECOVERED_WITHIN = SETTLED_WITHIN = ARRIVES_WITHIN = FLAT_WITHIN = 180.0
"""Seconds before a hanging run ends, well beyond the minute that a message may be delayed."""
EXPECTED = {"answered", "ConnectionLost", "ServiceLost", "UnknownService", "CallTimeout"}


class Soak:
    """Connectors under load, and the faults."""

    def __init__(self, node: RabbitMq, vhost: str, members: Members) -> None:
        self._node = node
        self._vhost = vhost
        self._members = members
        statuses = bytearray()  # of the messages that both streams receive
        self.plain = Flow("plain stream", statuses=statuses)
        self.durable = Flow("durable stream", guaranteed=True, may_repeat=True, statuses=statuses)
        self.records = Flow("log records", may_repeat=True)
        self.flows = [self.plain, self.durable, self.records]
        self.handler = AmqpHandler()
        self._disconnected: set[int] = set()
        """Indices of connectors that are not connected."""

    async def open(self) -> None:
        """Open the connectors, streams and log feed."""
        names = ("server", "caller", "publisher", "reader")
        self.connectors = [await self._members.join(name) for name in names]
        server, caller, publisher, reader = self.connectors
        await server.serve({"double": lambda x: 2 * x}, prefetch=20)
        method = f"{server.fqn}.double"
        self.calls = [
            Calls(caller, method, CALLS, timeout=30),
            Calls(caller, method, CALLS, timeout=30, idempotent=True),
        ]
        plain = await reader.stream(max_rows=MAX_ROWS)
        self._durable_stream = await reader.stream(name="kept", durable=True, max_rows=MAX_ROWS)
        self._feed = await reader.logs()
        self._streams = [plain, self._durable_stream]
        self._publisher = publisher
        await publisher.init_logging_handler(self.handler)
        self._receivers = [
            asyncio.create_task(self._receive(plain, self.plain)),
            asyncio.create_task(self._receive(self._durable_stream, self.durable)),
            asyncio.create_task(self._receive_records()),
        ]
        for index, connector in enumerate(self.connectors):
            connector.on_state(lambda state, index=index: self._on_state(index, state))
        await caller.call(method, x=1)

    async def _receive(self, stream: Stream, flow: Flow) -> None:
        async for rows in stream.batches():
            for row in rows:
                flow.receive(row["n"])

    async def _receive_records(self) -> None:
        feed, received = self._feed, 0
        while not feed.closed:
            await feed.wait(received + 1)
            new = feed.changes - received
            received += new
            for record in itertools.islice(reversed(feed.records), new):
                self.records.receive(int(record.message))

    def _on_state(self, index: int, state: State) -> None:
        if state is State.CONNECTED:
            self._disconnected.discard(index)
        else:
            self._disconnected.add(index)
        for flow in self.flows:
            if self._disconnected:
                flow.begin_outage()
            else:
                flow.end_outage()

    def _publish(self) -> None:
        number, statuses = self.plain.total, self.plain.statuses
        statuses.append(PENDING)
        publishing = asyncio.ensure_future(self._publisher.publish_data({"n": number}))
        publishing.add_done_callback(
            lambda done: statuses.__setitem__(number, FAILED if done.exception() else CONFIRMED)
        )

    def _log(self) -> None:
        text = {"name": "soak", "msg": str(self.records.total), "levelname": "INFO"}
        self.records.statuses.append(CONFIRMED)  # or dropped: the handler counts both
        self.handler.handle(logging.makeLogRecord(text))

    @property
    def _unsent(self) -> int:
        return self.records.total - self.handler.sent - self.handler.dropped

    async def load(self, stop: asyncio.Event) -> None:
        """Call, publish and log until `stop` is set, and wait until all is settled or times out."""
        await asyncio.gather(
            *(calls.run(stop) for calls in self.calls),
            at_rate(MESSAGES, stop, self._publish),
            at_rate(RECORDS, stop, self._log),
        )
        with contextlib.suppress(AssertionError):  # reported by `violations`
            await until(
                lambda: PENDING not in self.plain.statuses and not self._unsent,
                timeout=SETTLED_WITHIN,
            )
        ends = time.monotonic() + ARRIVES_WITHIN
        while self.violations() and time.monotonic() < ends:  # noqa: ASYNC110 - no event
            await asyncio.sleep(1)  # late messages may still arrive

    # -- faults

    @property
    def faults(self) -> list[Callable[[], Awaitable[None]]]:
        """Faults, as functions that return when the fault is over."""
        return [self.killed, self.cut, self.stopped, self.full, self.deleted]

    async def killed(self) -> None:
        """Kill the broker and restart it."""
        await asyncio.to_thread(self._node.restart_node)

    async def cut(self) -> None:
        """Close all connections by the broker."""
        await asyncio.to_thread(self._node.close_connections, self._vhost)

    async def stopped(self) -> None:
        """Pause the broker for some seconds."""
        await asyncio.to_thread(self._node.pause)
        await asyncio.sleep(3)
        await asyncio.to_thread(self._node.resume)

    async def full(self) -> None:
        """Raise the broker's memory alarm for some seconds."""
        await asyncio.to_thread(self._node.set_memory_alarm, raised=True)
        await asyncio.sleep(3)
        await asyncio.to_thread(self._node.set_memory_alarm, raised=False)

    async def deleted(self) -> None:
        """Delete the queue of the served method, as an operator may."""
        queues = await asyncio.to_thread(self._node.list_queues, self._vhost)
        methods = [queue["name"] for queue in queues if queue["name"].endswith("::double")]
        for name in methods:
            await asyncio.to_thread(self._node.delete_queue, self._vhost, name)

    async def inject(self, fault: Callable[[], Awaitable[None]]) -> float:
        """Inject a fault, and return the seconds until full recovery."""
        began = time.monotonic()
        await fault()
        await asyncio.sleep(NOTICED_AFTER)
        for connector in self.connectors:
            await until(
                lambda connector=connector: connector.state is State.CONNECTED,
                timeout=RECOVERED_WITHIN,
            )
        answered = self.calls[0].outcomes["answered"]
        await until(lambda: self.calls[0].outcomes["answered"] > answered, timeout=RECOVERED_WITHIN)
        return time.monotonic() - began

    # -- accounting

    def violations(self) -> list[str]:
        """Return all violations so far."""
        problems = []
        for calls in self.calls:
            if calls.outcomes.total() != calls.started:
                problems.append(f"{calls.started - calls.outcomes.total()} calls have not ended")
            if set(calls.outcomes) - EXPECTED:
                problems.append(f"calls ended as {dict(calls.outcomes)}")
        if self._unsent:
            problems.append(f"{self._unsent} log records are neither sent nor dropped")
        self.records.dropped = self.handler.dropped
        return [*problems, *(text for flow in self.flows for text in flow.violations())]

    def account(self) -> str:
        """Return a summary of sent, received and lost messages."""
        lines = [
            f"calls: {self.calls[0].started:,} made: {_counted(self.calls[0])}",
            f"idempotent calls: {self.calls[1].started:,} made: {_counted(self.calls[1])}",
            *(f"{flow.name}: {flow.balance}" for flow in self.flows),
        ]
        return "\n".join(lines)

    async def usage(self) -> ResourceUsage:
        """Return the current usage of resources."""
        queues = await asyncio.to_thread(self._node.list_queues, self._vhost)
        gc.collect()
        # Without the threads of the loop's executor, which runs the faults.
        threads = [
            thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")
        ]
        return ResourceUsage(
            memory=psutil.Process().memory_info().rss / 1e6,
            tasks=len(asyncio.all_tasks()),
            threads=len(threads),
            files=len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - it does not block
            channels=sum(sum(channels_of(connector)) for connector in self.connectors),
            queues=len(queues),
        )

    async def settled_usage(self, idle: ResourceUsage) -> ResourceUsage:
        """Return the usage once no count exceeds that of `idle`, or after a timeout."""
        ends = time.monotonic() + FLAT_WITHIN
        usage = await self.usage()
        while usage.growth_since(idle) and time.monotonic() < ends:
            await asyncio.sleep(0.5)
            usage = await self.usage()
        return usage

    async def close(self) -> None:
        """Close the streams and the log feed."""
        await self._durable_stream.delete()
        for stream in self._streams:
            await stream.close()
        await self._feed.close()
        await asyncio.gather(*self._receivers)


def _counted(calls: Calls) -> str:
    return ", ".join(f"{count:,} {how}" for how, count in calls.outcomes.most_common())


async def soak(node: RabbitMq, vhost: str) -> list[str]:
    """Run the test, print its progress, and return the violations."""
    async with Members(node.uri_for(vhost=vhost)) as members:
        run = Soak(node, vhost, members)
        await run.open()
        idle, warm = await run.usage(), None
        stop = asyncio.Event()
        loading = asyncio.create_task(run.load(stop))
        ends = time.monotonic() + 60 * MINUTES
        pause = FAULT_EVERY
        for number, fault in enumerate(itertools.cycle(run.faults)):
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            # On a slow machine the run is extended until each fault was injected once.
            if loading.done() or (time.monotonic() > ends and number >= len(run.faults)):
                break
            duration = await run.inject(fault)
            pause = max(FAULT_EVERY - duration, MIN_PAUSE)
            usage = await run.usage()
            warm = warm or usage
            print(f"{fault.__name__:8} over after {duration:5.1f} s; {usage}", flush=True)
        stop.set()
        await loading
        after = await run.settled_usage(idle)
        print(f"\n{run.account()}\nidle:  {idle}\nwarm:  {warm}\nafter: {after}")
        problems = (
            run.violations() + after.growth_since(idle) + after.memory_growth_since(warm or idle)
        )
        await run.close()
        return problems


def main() -> None:
    """Start a broker, run the test, and exit with its violations."""
    for noisy in ("aiormq", "aio_pika", "fabric_nb"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    with RabbitMq.start() as node, node.private_vhost() as vhost:
        problems = asyncio.run(soak(node, vhost))
    sys.exit("\n".join(problems) or None)


if __name__ == "__main__":
    main()
