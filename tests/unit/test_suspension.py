"""Plain functions that wait for the loop they run on."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import Any

import pytest

from fabric_nb.fabric.rpc.greenlets import can_suspend, suspend, suspendable


async def test_a_plain_function_gets_what_it_waits_for() -> None:
    """A plain function may wait any number of times, and gets each result."""

    def plain(first: int, *, second: int) -> int:
        return suspend(asyncio.sleep(0, first)) + suspend(asyncio.sleep(0.001, second))

    assert await suspendable(plain, 2, second=3) == 5
    assert await suspendable(lambda: 7) == 7


async def test_functions_end_in_any_order() -> None:
    """What began earlier may end earlier: a function waits for one that began before it."""
    first, second = asyncio.Event(), asyncio.Event()
    ended: list[str] = []

    def early() -> None:
        suspend(first.wait())
        ended.append("early")
        second.set()

    def late() -> None:
        first.set()
        suspend(second.wait())
        ended.append("late")

    await asyncio.gather(suspendable(early), suspendable(late))
    assert ended == ["early", "late"]


async def test_errors_go_both_ways() -> None:
    """What is waited for raises where the function waits, and what the function raises is told."""

    async def fail() -> None:
        raise LookupError("remote")

    def plain() -> str:
        with pytest.raises(LookupError, match="remote"):
            suspend(fail())
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await suspendable(plain)


async def test_cancellation_reaches_the_function() -> None:
    """A function whose task is cancelled is cancelled where it waits, and cleans up."""
    cleaned: list[bool] = []
    waiting = asyncio.Event()

    def plain() -> None:
        try:
            waiting.set()
            suspend(asyncio.Event().wait())
        finally:
            cleaned.append(can_suspend())
            suspend(asyncio.sleep(0))

    task = asyncio.create_task(suspendable(plain))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == [True]


async def test_the_function_is_in_the_task_and_context_that_await_it() -> None:
    """Context variables and the current task are those of the caller, also after a wait."""
    where: contextvars.ContextVar[str] = contextvars.ContextVar("where")
    where.set("here")

    def plain() -> list[Any]:
        before = where.get(), asyncio.current_task()
        suspend(asyncio.sleep(0))
        return [before, (where.get(), asyncio.current_task())]

    expected = ("here", asyncio.current_task())
    assert await suspendable(plain) == [expected, expected]


async def test_where_it_cannot_wait_it_says_so() -> None:
    """Code that nobody called in this way is told that it cannot wait in this way."""
    assert not can_suspend()
    waiting = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="suspendable"):
        suspend(waiting)
    waiting.close()

    async def asynchronous() -> bool:
        return can_suspend()

    assert await (await suspendable(asynchronous)) is False


async def test_a_function_that_was_given_up_leaves_nothing() -> None:
    """When the loop's end closes what waits, the function's own cleaning up is run."""
    cleaned: list[bool] = []

    def plain() -> None:
        try:
            suspend(asyncio.Event().wait())
        finally:
            cleaned.append(True)

    waiting = suspendable(plain)
    waiting.send(None)
    waiting.close()
    assert cleaned == [True]


async def test_nothing_is_held_after_the_end() -> None:
    """What a function was given, returned or raised is not held once its caller let it go."""

    class Large:
        pass

    def plain(given: Large, *, fail: bool) -> Large:
        suspend(asyncio.sleep(0))
        if fail:
            raise LookupError(given)
        return given

    async def use() -> weakref.ref[Large]:
        large = Large()
        assert await suspendable(plain, large, fail=False) is large
        with pytest.raises(LookupError):
            await suspendable(plain, large, fail=True)
        return weakref.ref(large)

    left = await use()
    gc.collect()
    assert left() is None


async def test_many_at_once() -> None:
    """Any number of functions may wait at once, again and again."""

    def plain(n: int) -> int:
        return suspend(asyncio.sleep(0, n)) + suspend(asyncio.sleep(0, n))

    for _ in range(3):
        assert await asyncio.gather(*(suspendable(plain, n) for n in range(200))) == [
            2 * n for n in range(200)
        ]
