"""In-flight calls and calls that wait for a worker."""

from __future__ import annotations

import asyncio

import pytest

from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.rpc.call_queue import CallQueue
from fabric_nb.fabric.rpc.in_flight import InFlightCall, InFlightCalls
from fabric_nb.fabric.wire.names import ServiceName

NAME = ServiceName("d", "t", "i")


def call(deadline: float = float("inf"), *, age: float = 0.0) -> InFlightCall:
    """Return a call that fails in `deadline` seconds, and began `age` seconds ago."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    return InFlightCall(loop.create_future(), NAME, "d.api.t.i::m", now - age, now + deadline)


async def test_calls_fail_at_their_deadlines() -> None:
    """Calls fail in the order of their deadlines, whichever was added first; others do not."""
    calls, ended = InFlightCalls(), []
    for name, seconds in {"late": 0.06, "never": 60.0, "early": 0.02, "past": -1.0}.items():
        each = call(seconds)
        each.reply.add_done_callback(lambda _, name=name: ended.append(name))
        calls.add(name, each)
    with pytest.raises(TimeoutError):
        await calls["late"].reply
    assert ended == ["past", "early", "late"]
    for name in ended[:2]:
        with pytest.raises(TimeoutError):
            await calls[name].reply
    assert not calls["never"].reply.done()
    calls.reset()
    assert not calls


async def test_a_call_that_has_ended_does_not_fail() -> None:
    """A reply that arrived before the deadline stays, also if the call was not removed yet."""
    calls, replied, expired = InFlightCalls(), call(0.01), call(0.02)
    calls.add("replied", replied)
    calls.add("expired", expired)
    replied.reply.set_result("reply")
    with pytest.raises(TimeoutError):
        await expired.reply
    assert await replied.reply == "reply"


async def test_old_calls_are_reported() -> None:
    """`on_old` is called while there are old calls, except for those that are being answered."""
    calls, old = InFlightCalls(), asyncio.Event()
    calls.on_old = old.set
    calls.add("stream", call(age=1.0))
    calls["stream"].begin_items()
    calls.add("expires", call(0.01))
    with pytest.raises(TimeoutError):
        await calls["expires"].reply
    assert not old.is_set()
    del calls["expires"]
    calls.add("old", call(age=1.0))
    await old.wait()
    calls.reset()


def delivery(number: int) -> Delivery:
    """Return a delivery with a number."""
    return Delivery(b"", tag=number)


async def test_calls_are_queued_in_order() -> None:
    """Workers receive the calls in order, and `join` waits until all are finished."""
    queue, received = CallQueue(), []

    async def work() -> None:
        while True:
            received.append((await queue.get()).tag)
            await asyncio.sleep(0)
            queue.task_done()

    workers = [asyncio.create_task(work()) for _ in range(3)]
    await asyncio.sleep(0)
    for number in range(10):
        queue.put(delivery(number))
    assert len(queue) == 10
    await queue.join()
    assert received == list(range(10))
    await queue.join()  # at once, because all are finished
    for worker in workers:
        worker.cancel()
    await asyncio.wait(workers)


async def test_no_call_is_lost_with_a_cancelled_worker() -> None:
    """If a worker is cancelled just when it was woken, another one receives the call."""
    queue = CallQueue()
    first, second = (asyncio.create_task(queue.get()) for _ in range(2))
    await asyncio.sleep(0)
    queue.put(delivery(1))
    first.cancel()
    assert (await second).tag == 1
    assert first.cancelled()
    third = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    third.cancel()  # while it waits
    await asyncio.wait([third])
    queue.put(delivery(2))
    assert queue.get_nowait().tag == 2
    with pytest.raises(IndexError):
        queue.get_nowait()


async def test_calls_ahead() -> None:
    """The calls ahead are those queued before it; calls of this member behind it are no such."""
    calls = InFlightCalls()
    for name in ("first", "second", "third"):
        calls.add(name, call())
    calls.count_behind()
    assert [one.behind for one in calls.values()] == [2, 1, 0]
    for queued, ahead in ((0, [None] * 3), (2, [None, 0, 1]), (5, [2, 3, 4])):
        for one in calls.values():
            one.count_ahead(queued)
        assert [one.ahead for one in calls.values()] == ahead
    calls.reset()
