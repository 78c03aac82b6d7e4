"""Everything at once for long, with a fault every 20 seconds, and each message accounted for.

    make soak                         # 30 minutes
    MINUTES=2 python -m benchmarks.soak

A private RabbitMQ is killed, stopped, out of memory; connections are closed and queues deleted,
while members call, stream, publish and log. It ends with what was sent, received and lost, and with
an error when something was lost that `docs/guarantees.md` does not allow for, or when memory, tasks
or handles have grown.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from fabric_nb import AmqBrokerConnector, AmqpHandler
from fabric_nb.fabric.amqp import State
from fabric_nb.fabric.streams import Stream
from tests.faults.traffic import Calls, at_rate
from tests.support.fabric import Members, until
from tests.support.rabbitmq import RabbitMq

MINUTES = float(os.environ.get("MINUTES", "30"))
FAULT_EVERY = 20.0
CALLS, MESSAGES, RECORDS = 50, 200, 20
"""A second."""
KEPT_ROWS = 20_000
NOTICED_AFTER = 1.0
RECOVERED_WITHIN = 60.0
ARRIVES_WITHIN = 5.0
SETTLED_WITHIN = 90.0
"""Seconds; more than a message is waited for."""
MAY_GROW, GROWTH = 30.0, 1.1
"""MB, and by this factor; numbers of messages are kept here until the end."""
EXPECTED = {"answered", "ConnectionLost", "ServiceLost", "UnknownService", "CallTimeout"}


@dataclass
class Ledger:
    """What became of each message: a byte for each kind of end, by the message's number."""

    confirmed: bytearray = field(default_factory=bytearray)
    failed: bytearray = field(default_factory=bytearray)
    plain: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)

    @property
    def made(self) -> int:
        """How many there are."""
        return len(self.confirmed)

    @property
    def settled(self) -> int:
        """How many are known to be taken or not."""
        return sum(self.confirmed) + sum(self.failed)

    def publish(self, publisher: AmqBrokerConnector) -> None:
        """Publish the next number."""
        number = self.made
        for column in (self.confirmed, self.failed, self.plain, self.durable):
            column.append(0)
        taken = asyncio.ensure_future(publisher.publish_data({"n": number}))
        taken.add_done_callback(
            lambda done: (self.failed if done.exception() else self.confirmed).__setitem__(
                number, 1
            )
        )

    async def hear(self, stream: Stream, column: bytearray) -> None:
        """Count what comes to a stream, until it is closed."""
        async for rows in stream.batches():
            for row in rows:
                column[row["n"]] = min(column[row["n"]] + 1, 255)


class Soak:
    """Members with all that they can do, and the faults that come over them."""

    def __init__(self, node: RabbitMq, vhost: str, members: Members) -> None:
        self._node = node
        self._vhost = vhost
        self._members = members
        self.ledger = Ledger()
        self.windows: list[range] = []
        """Numbers of messages that were under way during a fault."""
        self.logged = 0
        self.handler = AmqpHandler()

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
        self.plain = await reader.stream(max_rows=KEPT_ROWS)
        self.durable = await reader.stream(name="kept", durable=True, max_rows=KEPT_ROWS)
        self.feed = await reader.logs()
        self.publisher = publisher
        await publisher.init_logging_handler(self.handler)
        self._hearing = [
            asyncio.create_task(self.ledger.hear(self.plain, self.ledger.plain)),
            asyncio.create_task(self.ledger.hear(self.durable, self.ledger.durable)),
        ]
        await caller.call(method, x=1)

    def _log(self) -> None:
        self.logged += 1
        text = {"name": "soak", "msg": str(self.logged), "levelname": "INFO"}
        self.handler.handle(logging.makeLogRecord(text))

    async def load(self, stop: asyncio.Event) -> None:
        """Call, publish and log until told to stop, and until each has ended."""
        await asyncio.gather(
            *(calls.run(stop) for calls in self.calls),
            at_rate(MESSAGES, stop, lambda: self.ledger.publish(self.publisher)),
            at_rate(RECORDS, stop, self._log),
        )
        await until(lambda: self.ledger.settled == self.ledger.made, timeout=SETTLED_WITHIN)
        await until(
            lambda: self.handler.sent + self.handler.dropped == self.logged, timeout=SETTLED_WITHIN
        )

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
        """An operator deletes the queue of the plain stream, or whatever stands in its place."""
        queues = await asyncio.to_thread(self._node.list_queues, self._vhost)
        methods = [one["name"] for one in queues if one["name"].endswith("::double")]
        for name in methods:
            await asyncio.to_thread(self._node.delete_queue, self._vhost, name)

    async def suffer(self, fault: Callable[[], Awaitable[None]]) -> float:
        """Let it happen, and return after how many seconds all is as before."""
        began, first = time.monotonic(), self._first_unheard()
        await fault()
        await asyncio.sleep(NOTICED_AFTER)
        for one in self.everybody:
            await until(lambda one=one: one.state is State.CONNECTED, timeout=RECOVERED_WITHIN)
        answered = self.calls[0].ended["answered"]
        await until(lambda: self.calls[0].ended["answered"] > answered, timeout=RECOVERED_WITHIN)
        self.windows.append(range(first, self.ledger.made))
        return time.monotonic() - began

    def _first_unheard(self) -> int:
        heard = self.ledger.plain
        number = len(heard)
        while number and not heard[number - 1]:
            number -= 1
        return number

    # -- the account

    def complaints(self) -> list[str]:
        """What should not be."""
        ledger = self.ledger
        wrong = []
        for calls in self.calls:
            if calls.ended.total() != calls.made:
                wrong.append(f"{calls.made - calls.ended.total()} calls have not ended")
            if set(calls.ended) - EXPECTED:
                wrong.append(f"calls ended as {dict(calls.ended)}")
        lost = [n for n, c in enumerate(ledger.confirmed) if c and not ledger.durable[n]]
        if lost:
            wrong.append(f"the durable stream lost {len(lost)} confirmed messages: {lost[:5]} ...")
        twice = sum(count > 1 for count in ledger.plain)
        if twice:
            wrong.append(f"the plain stream had {twice} messages twice")
        allowed = {n for window in self.windows for n in window}
        missing = [
            n
            for n, c in enumerate(ledger.confirmed)
            if c and not ledger.plain[n] and n not in allowed
        ]
        if missing:
            wrong.append(f"the plain stream missed {len(missing)} without a fault: {missing[:5]}")
        return wrong

    def account(self) -> str:
        """Sent, received and lost, in words."""
        ledger = self.ledger
        heard = sum(map(bool, ledger.plain))
        kept = sum(map(bool, ledger.durable))
        confirmed, failed = sum(ledger.confirmed), sum(ledger.failed)
        twice = sum(count > 1 for count in ledger.durable)
        sent, dropped = self.handler.sent, self.handler.dropped
        lines = [
            f"calls      {self.calls[0].made:>9,} made: {_counted(self.calls[0])}",
            f"idempotent {self.calls[1].made:>9,} made: {_counted(self.calls[1])}",
            f"messages   {ledger.made:>9,} made: {confirmed:,} confirmed, {failed:,} failed",
            f"plain      {heard:>9,} received, {ledger.made - heard:,} not, all during a fault",
            f"durable    {kept:>9,} received, {twice:,} of them twice",
            f"records    {self.logged:>9,} made: {sent:,} sent, {dropped:,} dropped",
            f"feed       {self.feed.changes:>9,} records heard",
        ]
        return "\n".join(lines)

    async def close(self) -> None:
        """End the streams."""
        await self.durable.delete()
        await self.plain.close()
        await asyncio.gather(*self._hearing)


def _counted(calls: Calls) -> str:
    return ", ".join(f"{count:,} {how}" for how, count in calls.ended.most_common())


@dataclass(frozen=True)
class Used:
    """What the process has."""

    memory: float
    tasks: int
    files: int

    @classmethod
    def now(cls) -> Used:
        """What it has now."""
        gc.collect()
        memory = psutil.Process().memory_info().rss / 1e6
        files = len(list(Path("/proc/self/fd").iterdir()))
        return cls(memory, len(asyncio.all_tasks()), files)

    def __str__(self) -> str:
        return f"{self.memory:.0f} MB, {self.tasks} tasks, {self.files} files"


async def soak(node: RabbitMq, vhost: str) -> list[str]:
    """Run it, print what happens, and return what was wrong."""
    async with Members(node.uri_for(vhost=vhost)) as members:
        run = Soak(node, vhost, members)
        await run.open()
        idle, warm = Used.now(), None
        stop = asyncio.Event()
        loading = asyncio.create_task(run.load(stop))
        ends = time.monotonic() + 60 * MINUTES
        for fault in itertools.cycle(run.faults):
            await asyncio.sleep(FAULT_EVERY * random.uniform(0.8, 1.2))
            if time.monotonic() > ends or loading.done():
                break
            took = await run.suffer(fault)
            warm = warm or Used.now()
            print(f"{fault.__name__:8} over after {took:5.1f} s; {Used.now()}", flush=True)
        stop.set()
        await loading
        await asyncio.sleep(ARRIVES_WITHIN)
        after = Used.now()
        await until(lambda: len(asyncio.all_tasks()) <= idle.tasks, timeout=10)
        print(f"\n{run.account()}\nidle {idle}; warm {warm}; after {Used.now()}")
        wrong = run.complaints()
        if warm is not None and after.memory > warm.memory * GROWTH + MAY_GROW:
            wrong.append(f"memory grew from {warm.memory:.0f} to {after.memory:.0f} MB")
        if after.files > idle.files:
            wrong.append(f"files grew from {idle.files} to {after.files}")
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
