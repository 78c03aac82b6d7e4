"""Companion thread: one for each loop, with one detector of a blocked loop."""

from __future__ import annotations

import asyncio
import threading
import time

from fabric_nb.fabric.core.companion import BUSY_AFTER, NAME, Companion


def companions() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == NAME]


async def test_users_share_one_thread() -> None:
    """Work of several users runs in one thread, which ends when the last has left."""
    before, loop = companions(), asyncio.get_running_loop()
    first, second = Companion.join(loop), Companion.join(loop)
    assert len(companions()) == len(before) + 1
    ran: asyncio.Queue[threading.Thread] = asyncio.Queue()

    async def work() -> None:
        loop.call_soon_threadsafe(ran.put_nowait, threading.current_thread())

    first.start(work())
    second.start(work())
    async with asyncio.timeout(60):
        assert await ran.get() is await ran.get()
    ended = threading.Event()
    first.leave(ended.set)
    assert ended.is_set(), "another user is left"
    assert len(companions()) == len(before) + 1
    ended = threading.Event()
    second.leave(ended.set)
    assert await asyncio.to_thread(ended.wait, 10)
    second.wait_for_end(10)
    assert companions() == before
    third = Companion.join(loop)
    assert len(companions()) == len(before) + 1, "it is started anew"
    third.leave()
    await asyncio.to_thread(third.wait_for_end, 10)


async def test_a_blocked_loop_is_busy() -> None:
    """The thread detects since when the watched loop is blocked, and when it runs again."""
    companion = Companion.join(asyncio.get_running_loop())
    since: list[float | None] = []
    seen = threading.Event()
    again = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def look() -> None:
        while (busy := companion.busy_since()) is None:  # noqa: ASYNC110 - it is asked, as users do
            await asyncio.sleep(0.05)
        since.append(busy)
        seen.set()
        while companion.busy_since() is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        loop.call_soon_threadsafe(again.set)

    began = time.time()
    companion.start(look())
    assert seen.wait(BUSY_AFTER + 10), "the loop stands still meanwhile"
    assert since[0] is not None
    assert began - 0.5 <= since[0] <= time.time()
    async with asyncio.timeout(60):
        await again.wait()
    companion.leave()
    await asyncio.to_thread(companion.wait_for_end, 10)
