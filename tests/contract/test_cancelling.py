"""Calls whose callers stop waiting for them."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import TYPE_CHECKING, Any

import pytest

import fabric_nb
from fabric_nb.errors import CallTimeout
from tests.support.fabric import until, wait_for_service
from tests.support.peers import DOMAIN

if TYPE_CHECKING:
    from fabric_nb import AmqBrokerConnector
    from tests.support.fabric import Members


class Work:
    """Methods that last until they are cancelled, or until the gate opens."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.released = asyncio.Event()
        self.began: list[Any] = []
        self.cancelled: list[Any] = []
        self.ended: list[Any] = []

    async def coroutine(self, n: int = 0) -> str:
        self.began.append(n)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(n)
            raise
        return "never"

    async def stubborn(self) -> str:
        self.began.append("stubborn")
        with pytest.raises(asyncio.CancelledError):
            await asyncio.Event().wait()
        self.ended.append("stubborn")
        return "late"

    def in_thread(self) -> str:
        self.began.append("thread")
        self.gate.wait(60)
        self.ended.append("thread")
        return "late"

    async def train(self, n: int = 0) -> str:
        """Report progress, and work until it is released."""
        who = fabric_nb.caller()
        self.began.append(n)
        fabric_nb.progress(1, 2)
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled.append(n)
            raise
        self.ended.append((n, None if who is None else who.remaining))
        return "trained"

    async def quick(self, n: int) -> int:
        self.began.append(n)
        return n


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
async def server(members: Members, work: Work) -> AmqBrokerConnector:
    server = await members.join("server")
    await server.serve(
        {
            "coroutine": work.coroutine,
            "stubborn": work.stubborn,
            "train": work.train,
            "quick": work.quick,
        },
        prefetch=1,
    )
    return server


@pytest.fixture
async def caller(members: Members, server: AmqBrokerConnector) -> AmqBrokerConnector:
    caller = await members.join("caller")
    await wait_for_service(caller, "server", methods=4)
    return caller


async def cancel(task: asyncio.Future[Any]) -> None:
    """Cancel a task, and check that it raises what asyncio raises."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_task_cancels_its_call(server, caller, work):
    """A coroutine is cancelled with the task that has called it, and is counted."""
    calling = asyncio.create_task(caller.call("app.server.coroutine", n=1, timeout=60))
    await until(lambda: work.began)
    await cancel(calling)
    await until(lambda: work.cancelled == [1])
    stats = server.servers[0].stats["coroutine"]
    await until(lambda: stats.cancelled == 1)
    assert (stats.calls, stats.errors, stats.running) == (1, 0, 0)
    assert server.calls.df.outcome.tolist() == ["cancelled"]
    assert await caller.call("app.server.quick", n=5) == 5


async def test_a_timeout_cancels_the_call(server, caller, work):
    """A call whose time is over is cancelled."""
    with pytest.raises(CallTimeout):
        await caller.call("app.server.coroutine", n=1, timeout=0.3)
    await until(lambda: work.cancelled == [1])


async def test_a_waiting_call_is_not_begun(server, caller, work):
    """A call that is cancelled while it waits in its queue never begins."""
    first = asyncio.create_task(caller.call("app.server.coroutine", n=1, timeout=60))
    await until(lambda: work.began)
    waiting = [
        asyncio.create_task(caller.call("app.server.coroutine", n=n, timeout=60)) for n in (2, 3, 4)
    ]
    await until(lambda: caller.member.rpc.pending == 4)
    for task in waiting[:2]:
        await cancel(task)
    await cancel(first)
    await until(lambda: work.began == [1, 4])
    await cancel(waiting[2])
    await until(lambda: work.cancelled == [1, 4])
    assert server.servers[0].stats["coroutine"].cancelled == 4


async def test_a_call_that_is_cancelled_is_not_delivered_again(members, server, caller, work):
    """No other instance runs a cancelled call, even if the one that ran it is lost."""
    calling = asyncio.create_task(caller.call("app.server.stubborn", timeout=60))
    await until(lambda: work.began)
    other = Work()
    standby = await members.join("server")
    await standby.serve({"stubborn": other.stubborn, "quick": other.quick}, prefetch=1)
    await cancel(calling)
    await until(lambda: work.ended)
    await server.close()
    assert await caller.call("app.server.quick", n=1, timeout=60, idempotent=True) == 1
    assert other.began == [1]


async def test_a_thread_runs_on(members, caller, work):
    """A function in a thread cannot be stopped; its result is dropped, and the service goes on."""
    threaded = await members.join("threaded")
    await threaded.serve({"in_thread": work.in_thread, "quick": lambda n: n}, threads=True)
    calling = asyncio.create_task(caller.call("app.threaded.in_thread", timeout=60))
    await until(lambda: work.began)
    await cancel(calling)
    stats = threaded.servers[0].stats["in_thread"]
    assert await caller.call("app.threaded.quick", n=1) == 1
    assert stats.running == 1
    work.gate.set()
    await until(lambda: stats.cancelled == 1)
    assert not stats.running
    assert threaded.calls.df.outcome.tolist() == ["ok", "cancelled"]


async def test_a_nested_call_is_cancelled_too(members, server, caller, work):
    """A call that a served coroutine makes is cancelled with it."""

    async def outer() -> Any:
        return await between.call("app.server.coroutine", n=7, timeout=60)

    between = await members.join("between")
    await between.serve({"outer": outer})
    calling = asyncio.create_task(caller.call("app.between.outer", timeout=60))
    await until(lambda: work.began == [7])
    await cancel(calling)
    await until(lambda: work.cancelled == [7])


async def test_many_calls_are_cancelled(server, caller, work):
    """A thousand calls that are cancelled together leave nothing behind."""
    calls = [
        asyncio.create_task(caller.call("app.server.coroutine", n=n, timeout=60))
        for n in range(1000)
    ]
    await until(lambda: caller.member.rpc.pending == 1000)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    stats = server.servers[0].stats["coroutine"]
    await until(lambda: stats.cancelled == 1000)
    assert not stats.running
    assert len(work.began) <= 2
    assert await caller.call("app.server.quick", n=5) == 5


async def test_cancelling_is_only_for_the_call(server, caller, work):
    """The worker of a cancelled call runs the next ones, and their cancellation too."""
    for n in range(20):
        calling = asyncio.create_task(caller.call("app.server.coroutine", n=n, timeout=60))
        await until(lambda n=n: work.began[-1:] == [n])
        await cancel(calling)
    await until(lambda: work.cancelled == list(range(20)))


# -- calls that continue after their timeout


async def test_a_call_that_continues_after_its_timeout(server, caller, work):
    """With `cancel_on_timeout=False` it raises as ever, names the instance, and runs to its end."""
    instance = server.instance
    with pytest.raises(CallTimeout) as caught:
        await caller.call("app.server.train", n=1, timeout=0.5, cancel_on_timeout=False)
    assert str(caught.value) == (
        f"{DOMAIN}.app.server.train gave no answer within 0.5 s; the call continues on server"
        f" {instance}."
    )
    assert server.servers[0].stats["train"].running == 1
    work.released.set()
    await until(lambda: work.ended == [(1, math.inf)])
    assert await caller.call("app.server.quick", n=5) == 5
    stats = server.servers[0].stats["train"]
    assert (stats.calls, stats.cancelled) == (1, 0)
    assert not work.cancelled
    assert not caller.rejected.counts
    assert not server.rejected.counts


@pytest.mark.parametrize("timeout", [0.02, 0.3])
async def test_a_call_that_was_not_begun_at_its_timeout(server, caller, work, timeout):
    """A call that continues if it has begun is not begun later, in its queue or at its instance."""
    first = asyncio.create_task(caller.call("app.server.coroutine", n=1, timeout=60))
    await until(lambda: work.began)
    not_begun = "no instance of the service was free|the call continues if an instance has begun it"
    with pytest.raises(CallTimeout, match=not_begun):
        await caller.call("app.server.coroutine", n=2, timeout=timeout, cancel_on_timeout=False)
    await cancel(first)
    assert await caller.call("app.server.quick", n=5) == 5
    assert work.began == [1, 5]


async def test_a_call_at_its_instance_that_was_not_begun(server, caller, work):
    """A call that waits at one instance for its turn does not begin after its timeout."""
    one = f"app.server@{server.instance}"
    first = asyncio.create_task(caller.call(f"{one}.train", n=1, timeout=60))
    await until(lambda: work.began)
    with pytest.raises(CallTimeout, match="continues if an instance has begun it"):
        await caller.call(f"{one}.train", n=2, timeout=0.3, cancel_on_timeout=False)
    assert await caller.call(f"{one}.quick", n=5) == 5  # over the same queue
    work.released.set()
    assert await first == "trained"
    assert await caller.call(f"{one}.train", n=3) == "trained"
    assert work.began == [1, 5, 3]


async def test_a_continued_call_outlives_its_caller(members, server, work):
    """A call that continues is not cancelled when its caller has left."""
    gone = await members.join("gone")
    await wait_for_service(gone, "server", methods=4)
    awaited = gone.start("app.server.coroutine", n=2)
    handle = gone.start("app.server.train", n=1, timeout=0.5, cancel_on_timeout=False)
    with pytest.raises(CallTimeout, match="continues on server"):
        await handle
    assert not awaited.done()
    await gone.close()
    await until(lambda: work.cancelled)  # by the probe of all callers
    work.released.set()
    await until(lambda: work.ended)
    assert work.cancelled == [2]


async def test_a_continuing_call_is_cancelled_by_its_task(server, caller, work):
    """A call that may continue after its timeout is cancelled with its task all the same."""
    calling = asyncio.create_task(
        caller.call("app.server.train", n=1, timeout=60, cancel_on_timeout=False)
    )
    await until(lambda: work.began)
    await cancel(calling)
    await until(lambda: work.cancelled == [1])
    handle = caller.start("app.server.train", n=2, timeout=60, cancel_on_timeout=False)
    await until(lambda: work.began == [1, 2])
    assert await handle.stop(60) is True


async def test_rows_that_continue_after_their_timeout(server, caller, work):
    """The rows of a map with `cancel_on_timeout=False` fail at their timeout, and run on."""
    handle = caller.map(
        "app.server.train", n=[1], timeout=0.5, cancel_on_timeout=False, in_flight=1
    )
    (error,) = (await handle).error
    assert isinstance(error, CallTimeout)
    assert str(error).endswith(f"the call continues on server {server.instance}.")
    work.released.set()
    await until(lambda: work.ended == [(1, math.inf)])
    proxy = caller.service("app.server", timeout=0.5, cancel_on_timeout=False)
    work.released.clear()
    with pytest.raises(CallTimeout, match="the call continues on server"):
        await proxy.train(n=2)
    work.released.set()
    await until(lambda: len(work.ended) == 2)
    assert not work.cancelled


async def test_a_nested_call_of_one_that_continues(members, server, caller, work):
    """Nested calls of a call that continues have their own timeouts, also after its own."""

    async def outer() -> Any:
        began.set()
        await work.released.wait()
        return await between.call("app.server.quick", n=7, timeout=60)

    began = asyncio.Event()
    between = await members.join("between")
    await between.serve({"outer": outer})
    with pytest.raises(CallTimeout):
        await caller.call("app.between.outer", timeout=0.5, cancel_on_timeout=False)
    assert began.is_set()
    work.released.set()
    await until(lambda: work.began == [7])
