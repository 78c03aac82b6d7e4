"""Plain functions that wait for coroutines of the loop that they run on."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import Any

import pytest

from fabric_nb.fabric.rpc.greenlets import can_suspend, suspend, suspendable


async def test_results_of_awaited_coroutines() -> None:
    """A plain function can wait any number of times, and gets each result."""

    def plain(first: int, *, second: int) -> int:
        return suspend(asyncio.sleep(0, first)) + suspend(asyncio.sleep(0.001, second))

    assert await suspendable(plain, 2, second=3) == 5
    assert await suspendable(lambda: 7) == 7


async def test_functions_end_in_any_order() -> None:
    """Functions end in any order: one waits for another that was started earlier."""
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


async def test_errors_in_both_directions() -> None:
    """An error of a coroutine is raised in the function, and its own error at the caller."""

    async def fail() -> None:
        raise LookupError("remote")

    def plain() -> str:
        with pytest.raises(LookupError, match="remote"):
            suspend(fail())
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await suspendable(plain)


async def test_cancellation_reaches_the_function() -> None:
    """Cancelling the task raises in the function where it waits, so that it can clean up."""
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


async def test_task_and_context_are_the_callers() -> None:
    """Context variables and the current task are those of the caller, also after a wait."""
    where: contextvars.ContextVar[str] = contextvars.ContextVar("where")
    where.set("here")

    def plain() -> list[Any]:
        before = where.get(), asyncio.current_task()
        suspend(asyncio.sleep(0))
        return [before, (where.get(), asyncio.current_task())]

    expected = ("here", asyncio.current_task())
    assert await suspendable(plain) == [expected, expected]


async def test_waiting_elsewhere_is_an_error() -> None:
    """Waiting is an error in code that was not called in this way."""
    assert not can_suspend()
    waiting = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="suspendable"):
        suspend(waiting)
    waiting.close()

    async def asynchronous() -> bool:
        return can_suspend()

    assert await (await suspendable(asynchronous)) is False


async def test_cleanup_at_the_end_of_the_loop() -> None:
    """When a waiting function is closed at the end of the loop, its cleanup runs."""
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


async def test_no_references_after_the_end() -> None:
    """Arguments, results and errors are not referenced after the caller has dropped them."""

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


async def test_many_concurrent_functions() -> None:
    """Many functions can wait concurrently, repeatedly."""

    def plain(n: int) -> int:
        return suspend(asyncio.sleep(0, n)) + suspend(asyncio.sleep(0, n))

    for _ in range(3):
        assert await asyncio.gather(*(suspendable(plain, n) for n in range(200))) == [
            2 * n for n in range(200)
        ]
