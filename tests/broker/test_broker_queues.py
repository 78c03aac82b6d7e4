"""Queues without a broker, on a clock that the test turns."""

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
    """A clock that stands still until it is turned."""

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

    def turn(self, seconds: float) -> None:
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
class Taker:
    """A consumer that takes so many messages and then no more."""

    capacity: int = 1_000_000
    priority: int = 0
    exclusive: bool = False
    taken: list[QueuedMessage] = field(default_factory=list)

    def is_ready(self) -> bool:
        return len(self.taken) < self.capacity

    def deliver(self, queued: QueuedMessage) -> None:
        self.taken.append(queued)

    def cancelled_by_server(self) -> None:
        self.capacity = -1

    @property
    def bodies(self) -> list[bytes]:
        return [queued.message.body for queued in self.taken]


class Scene:
    """A queue with what is around it."""

    def __init__(self, **arguments: Any) -> None:
        self.clock = TestClock()
        self.pool = MemoryPool(1_000_000)
        self.account = MemoryAccount(self.pool, lambda: None)
        self.dead: list[tuple[bytes, str]] = []
        named = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
        self.queue = Queue(
            "q",
            queue_policy(named, "queue 'q'"),
            self.clock,
            lambda _, message, reason: self.dead.append((message.body, reason)),
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


def test_messages_leave_in_the_order_they_came() -> None:
    """First in, first out."""
    scene = Scene()
    for number in range(5):
        scene.publish(b"%d" % number)
    assert scene.drain() == [b"0", b"1", b"2", b"3", b"4"]


def test_requeued_messages_return_to_their_places() -> None:
    """Whatever is given back, in whatever order, stands where it stood, marked as redelivered."""
    scene = Scene()
    for number in range(6):
        scene.publish(b"%d" % number)
    taken = [scene.queue.get() for _ in range(5)]
    scene.queue.requeue([taken[3], taken[1]])  # type: ignore[list-item]
    scene.queue.requeue([taken[2]])  # type: ignore[list-item]
    again = [scene.queue.get() for _ in range(4)]
    assert [queued and (queued.message.body, queued.redelivered) for queued in again] == [
        (b"1", True),
        (b"2", True),
        (b"3", True),
        (b"5", False),
    ]


def test_higher_priorities_leave_first_and_too_high_ones_count_as_the_highest() -> None:
    """Within a priority the order of arrival holds, also after a requeue."""
    scene = Scene(max_priority=3)
    for body, priority in ((b"a", 0), (b"b", 2), (b"c", 9), (b"d", 3), (b"e", 2)):
        scene.publish(body, priority=priority)
    first = scene.queue.get()
    scene.queue.requeue([first])  # type: ignore[list-item]
    assert scene.drain() == [b"c", b"d", b"b", b"e", b"a"]


def test_consumers_take_turns_and_priorities_come_first() -> None:
    """Equals share evenly; one of lower priority gets what the higher ones cannot take."""
    scene = Scene()
    one, two, low = Taker(2), Taker(2), Taker(priority=-1)
    for taker in (low, one, two):
        scene.queue.add_consumer(taker)
    for number in range(6):
        scene.publish(b"%d" % number)
    assert (one.bodies, two.bodies, low.bodies) == ([b"0", b"2"], [b"1", b"3"], [b"4", b"5"])


def test_a_single_active_consumer_gets_all_until_it_goes() -> None:
    """Not while it is only busy; then the one of the highest priority takes over."""
    scene = Scene(single_active_consumer=True)
    first, low, high = Taker(1), Taker(priority=-1), Taker(1, priority=1)
    for taker in (first, low, high):
        scene.queue.add_consumer(taker)
    for number in range(3):
        scene.publish(b"%d" % number)
    assert (first.bodies, low.bodies, high.bodies) == ([b"0"], [], [])
    scene.queue.remove_consumer(first)
    assert (low.bodies, high.bodies) == ([], [b"1"])
    scene.queue.remove_consumer(high)
    assert low.bodies == [b"2"]


def test_messages_expire_at_their_time_and_no_earlier() -> None:
    """The shorter of the queue's and the message's time to live counts."""
    scene = Scene(message_ttl=1000)
    scene.publish(b"long", expiration="5000")
    scene.publish(b"short", expiration="500")
    scene.clock.turn(0.999)
    # As in RabbitMQ, a message dies at the head: the short one waits behind the long one.
    assert scene.dead == []
    scene.clock.turn(0.001)
    assert scene.dead == [(b"long", "expired"), (b"short", "expired")]
    assert scene.queue.message_count == 0


def test_a_message_with_no_time_to_live_reaches_a_consumer_that_is_ready() -> None:
    """A time to live of 0 means now or never."""
    scene = Scene()
    scene.publish(b"never", expiration="0")
    assert scene.queue.message_count == 0
    taker = Taker(1)
    scene.queue.add_consumer(taker)
    scene.publish(b"now", expiration="0")
    assert taker.bodies == [b"now"]
    assert scene.dead == [(b"never", "expired")]


def test_an_expired_message_is_never_handed_out() -> None:
    """Not to a get, not to a new consumer, even if its timer has not rung yet."""
    scene = Scene()
    scene.publish(b"old", expiration="100")
    scene.publish(b"new")
    scene.clock.now = 0.2
    assert scene.drain() == [b"new"]
    scene.publish(b"old", expiration="100")
    scene.clock.now = 0.4
    taker = Taker()
    scene.queue.add_consumer(taker)
    scene.queue.dispatch()
    assert taker.bodies == []


def test_no_alarm_is_set_while_nothing_can_expire() -> None:
    """An idle queue costs no processor time."""
    scene = Scene(message_ttl=1000)
    scene.queue.add_consumer(Taker())
    scene.publish(b"gone at once")
    assert scene.clock.timers == 0
    plain = Scene()
    plain.publish(b"waits for ever")
    assert plain.clock.timers == 0


@pytest.mark.parametrize(
    ("limits", "left", "dead"),
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
def test_a_full_queue_drops_its_head_or_rejects_as_it_was_told(
    limits: dict[str, Any], left: list[bytes], dead: list[tuple[bytes, str]]
) -> None:
    """Lengths count waiting messages; the rejected publisher is told."""
    scene = Scene(**limits)
    taken = [scene.publish(body) for body in (b"a", b"bb", b"cc", b"dd")]
    assert taken == [True, True, *[limits.get("overflow") is None] * 2]
    assert scene.drain() == left
    assert scene.dead == dead


def test_what_comes_back_to_a_full_queue_is_not_refused() -> None:
    """A queue that rejects publishes takes requeued messages beyond its length."""
    scene = Scene(max_length=1, overflow="reject-publish")
    scene.publish(b"a")
    taken = scene.queue.get()
    assert scene.publish(b"b")
    scene.queue.requeue([taken])  # type: ignore[list-item]
    assert scene.drain() == [b"a", b"b"]


def test_memory_is_accounted_until_the_last_queue_lets_a_message_go() -> None:
    """Dropped, rejected, expired, purged, deleted or settled: nothing stays accounted."""
    scene = Scene(max_length=3)
    for number in range(5):
        scene.publish(b"x" * 100, expiration="1000" if number == 2 else None)
    assert scene.pool.used == scene.account.outstanding > 300
    taken = scene.queue.get()
    assert taken is not None
    scene.queue.reject([taken])
    taken = scene.queue.get()
    assert taken is not None
    scene.queue.settle([taken])
    scene.queue.purge()
    scene.publish(b"y")
    unsettled = scene.queue.get()
    scene.publish(b"z")
    scene.queue.delete()
    scene.queue.requeue([unsettled])  # type: ignore[list-item]
    assert scene.pool.used == scene.account.outstanding == 0


def test_a_publisher_waits_while_it_has_more_outstanding_than_is_free() -> None:
    """One flood takes half of the memory; one with little outstanding is never stopped."""
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
