"""Queues without a broker, on a simulated clock."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from pamqp import commands, header

from fabric_nb.broker.arguments import queue_policy
from fabric_nb.broker.memory import MemoryAccount, MemoryPool
from fabric_nb.broker.messages import ContentHeader, Message
from fabric_nb.broker.queues import Queue, QueuedMessage

if TYPE_CHECKING:
    from collections.abc import Callable


class TestClock:
    """A simulated clock."""

    __test__ = False

    def __init__(self) -> None:
        self.now = 0.0
        self._numbers = itertools.count()
        self._timers: list[tuple[float, int, TestTimer]] = []

    @property
    def timers(self) -> int:
        return sum(not timer.cancelled for _, _, timer in self._timers)

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object], /) -> TestTimer:
        timer = TestTimer(callback)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            self.now, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                timer.callback()
        self.now = end


@dataclass
class TestTimer:
    __test__ = False

    callback: Callable[[], object]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class TestConsumer:
    """A consumer that is ready until it has received `capacity` messages."""

    __test__ = False

    capacity: int = 1_000_000
    priority: int = 0
    exclusive: bool = False
    received: list[QueuedMessage] = field(default_factory=list)

    def is_ready(self) -> bool:
        return len(self.received) < self.capacity

    def deliver(self, queued: QueuedMessage) -> None:
        self.received.append(queued)

    def cancelled_by_server(self) -> None:
        self.capacity = -1

    @property
    def bodies(self) -> list[bytes]:
        return [queued.message.body for queued in self.received]


class QueueSetup:
    """A queue with its collaborators."""

    def __init__(self, **arguments: Any) -> None:
        self.clock = TestClock()
        self.pool = MemoryPool(1_000_000)
        self.account = MemoryAccount(self.pool, lambda: None)
        self.dead_lettered: list[tuple[bytes, str]] = []
        named = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
        self.queue = Queue(
            "q",
            queue_policy(named, "queue 'q'"),
            self.clock,
            lambda _, message, reason: self.dead_lettered.append((message.body, reason)),
        )

    def publish(self, body: bytes, **properties: Any) -> bool:
        encoded = header.ContentHeader(
            0, len(body), commands.Basic.Properties(**properties)
        ).marshal()
        message = Message("", "q", b"\0\1q", ContentHeader(encoded), body, self.account)
        return self.queue.publish(message)

    def drain(self) -> list[bytes]:
        bodies = []
        while (queued := self.queue.get()) is not None:
            bodies.append(queued.message.body)
            self.queue.settle([queued])
        return bodies


def test_messages_are_delivered_in_order() -> None:
    """Messages are first in, first out."""
    setup = QueueSetup()
    for number in range(5):
        setup.publish(b"%d" % number)
    assert setup.drain() == [b"0", b"1", b"2", b"3", b"4"]


def test_requeued_messages_return_to_their_positions() -> None:
    """Messages requeued in any order return to their positions, marked as redelivered."""
    setup = QueueSetup()
    for number in range(6):
        setup.publish(b"%d" % number)
    popped = [setup.queue.get() for _ in range(5)]
    setup.queue.requeue([popped[3], popped[1]])  # type: ignore[list-item]
    setup.queue.requeue([popped[2]])  # type: ignore[list-item]
    again = [setup.queue.get() for _ in range(4)]
    assert [queued and (queued.message.body, queued.redelivered) for queued in again] == [
        (b"1", True),
        (b"2", True),
        (b"3", True),
        (b"5", False),
    ]


def test_higher_priorities_are_delivered_first() -> None:
    """Priorities beyond the maximum count as the highest; within one, order is kept."""
    setup = QueueSetup(max_priority=3)
    for body, priority in ((b"a", 0), (b"b", 2), (b"c", 9), (b"d", 3), (b"e", 2)):
        setup.publish(body, priority=priority)
    first = setup.queue.get()
    setup.queue.requeue([first])  # type: ignore[list-item]
    assert setup.drain() == [b"c", b"d", b"b", b"e", b"a"]


def test_consumers_are_served_round_robin_by_priority() -> None:
    """A consumer of lower priority receives a message only if no higher one is ready."""
    setup = QueueSetup()
    first, second, low = TestConsumer(2), TestConsumer(2), TestConsumer(priority=-1)
    for consumer in (low, first, second):
        setup.queue.add_consumer(consumer)
    for number in range(6):
        setup.publish(b"%d" % number)
    assert (first.bodies, second.bodies, low.bodies) == ([b"0", b"2"], [b"1", b"3"], [b"4", b"5"])


def test_a_single_active_consumer_receives_all_until_it_is_removed() -> None:
    """Others receive nothing while it is busy; then the one of the highest priority is active."""
    setup = QueueSetup(single_active_consumer=True)
    first, low, high = TestConsumer(1), TestConsumer(priority=-1), TestConsumer(1, priority=1)
    for consumer in (first, low, high):
        setup.queue.add_consumer(consumer)
    for number in range(3):
        setup.publish(b"%d" % number)
    assert (first.bodies, low.bodies, high.bodies) == ([b"0"], [], [])
    setup.queue.remove_consumer(first)
    assert (low.bodies, high.bodies) == ([], [b"1"])
    setup.queue.remove_consumer(high)
    assert low.bodies == [b"2"]


def test_messages_expire_at_their_time() -> None:
    """The shorter of the queue's and the message's time to live applies."""
    setup = QueueSetup(message_ttl=1000)
    setup.publish(b"long", expiration="5000")
    setup.publish(b"short", expiration="500")
    setup.clock.advance(0.999)
    # As in RabbitMQ, messages expire at the head only: the short one stays behind the long one.
    assert setup.dead_lettered == []
    setup.clock.advance(0.001)
    assert setup.dead_lettered == [(b"long", "expired"), (b"short", "expired")]
    assert setup.queue.message_count == 0


def test_a_time_to_live_of_zero_requires_a_ready_consumer() -> None:
    """A time to live of 0 means "now or never"."""
    setup = QueueSetup()
    setup.publish(b"never", expiration="0")
    assert setup.queue.message_count == 0
    consumer = TestConsumer(1)
    setup.queue.add_consumer(consumer)
    setup.publish(b"now", expiration="0")
    assert consumer.bodies == [b"now"]
    assert setup.dead_lettered == [(b"never", "expired")]


def test_expired_messages_are_not_delivered() -> None:
    """Neither Basic.Get nor a new consumer receives it, even before its timer fires."""
    setup = QueueSetup()
    setup.publish(b"old", expiration="100")
    setup.publish(b"new")
    setup.clock.now = 0.2
    assert setup.drain() == [b"new"]
    setup.publish(b"old", expiration="100")
    setup.clock.now = 0.4
    consumer = TestConsumer()
    setup.queue.add_consumer(consumer)
    setup.queue.dispatch()
    assert consumer.bodies == []


def test_no_timer_is_set_unless_a_message_can_expire() -> None:
    """An idle queue uses no CPU time."""
    setup = QueueSetup(message_ttl=1000)
    setup.queue.add_consumer(TestConsumer())
    setup.publish(b"gone at once")
    assert setup.clock.timers == 0
    without_ttl = QueueSetup()
    without_ttl.publish(b"waits for ever")
    assert without_ttl.clock.timers == 0


@pytest.mark.parametrize(
    ("limits", "remaining", "dead_lettered"),
    [
        ({"max_length": 2}, [b"cc", b"dd"], [(b"a", "maxlen"), (b"bb", "maxlen")]),
        ({"max_length_bytes": 4}, [b"cc", b"dd"], [(b"a", "maxlen"), (b"bb", "maxlen")]),
        ({"max_length": 0}, [], [(body, "maxlen") for body in (b"a", b"bb", b"cc", b"dd")]),
        ({"max_length": 2, "overflow": "reject-publish"}, [b"a", b"bb"], []),
        (
            {"max_length": 2, "overflow": "reject-publish-dlx"},
            [b"a", b"bb"],
            [(b"cc", "maxlen"), (b"dd", "maxlen")],
        ),
    ],
)
def test_a_full_queue_drops_its_head_or_rejects_by_policy(
    limits: dict[str, Any], remaining: list[bytes], dead_lettered: list[tuple[bytes, str]]
) -> None:
    """Lengths count ready messages; the publisher of a rejected message is notified."""
    setup = QueueSetup(**limits)
    accepted = [setup.publish(body) for body in (b"a", b"bb", b"cc", b"dd")]
    assert accepted == [True, True, *[limits.get("overflow") is None] * 2]
    assert setup.drain() == remaining
    assert setup.dead_lettered == dead_lettered


def test_a_full_queue_accepts_requeued_messages() -> None:
    """A queue that rejects publishes accepts requeued messages beyond its length."""
    setup = QueueSetup(max_length=1, overflow="reject-publish")
    setup.publish(b"a")
    queued = setup.queue.get()
    assert setup.publish(b"b")
    setup.queue.requeue([queued])  # type: ignore[list-item]
    assert setup.drain() == [b"a", b"b"]


def test_memory_is_accounted_until_the_last_queue_releases_a_message() -> None:
    """Dropped, rejected, expired, purged, deleted or settled messages are not accounted."""
    setup = QueueSetup(max_length=3)
    for number in range(5):
        setup.publish(b"x" * 100, expiration="1000" if number == 2 else None)
    assert setup.pool.used == setup.account.outstanding > 300
    queued = setup.queue.get()
    assert queued is not None
    setup.queue.reject([queued])
    queued = setup.queue.get()
    assert queued is not None
    setup.queue.settle([queued])
    setup.queue.purge()
    setup.publish(b"y")
    unacked = setup.queue.get()
    setup.publish(b"z")
    setup.queue.delete()
    setup.queue.requeue([unacked])  # type: ignore[list-item]
    assert setup.pool.used == setup.account.outstanding == 0


def test_a_publisher_is_blocked_while_its_outstanding_bytes_exceed_free_memory() -> None:
    """One flood uses half of the memory; a publisher with few outstanding bytes is not blocked."""
    pool = MemoryPool(1000)
    resumed: list[str] = []
    flood = MemoryAccount(pool, lambda: resumed.append("flood"))
    quiet = MemoryAccount(pool, lambda: resumed.append("quiet"))
    flood.charge(500)
    assert not flood.must_wait()
    flood.charge(1)
    assert flood.must_wait()
    quiet.charge(10)
    assert not quiet.must_wait()
    flood.refund(50)
    assert resumed == []
    flood.refund(60)
    assert resumed == ["flood"]
    assert not flood.must_wait()
