"""Calls from a cell: waited for with a sign of life, taken item by item, or left running."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import aclosing
from typing import Any

from fabric_nb.errors import CallTimeout
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.wire.names import ServicePattern
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.pages import Badge, Page, glimpse
from fabric_nb.notebook.views.live import Transient
from fabric_nb.notebook.views.registry import TONES
from fabric_nb.notebook.views.state import state_badge

_PROGRESS_EVERY = 0.5
_ITEMS_EVERY, _ITEMS_SHOWN = 0.25, 10


class CallHandle:
    """A call that runs while the notebook goes on.

    Example::

        report = %fabric_call -a reports.make day="2026-11-24"
        report.done()
        report.result(timeout=60)       # or: await report
    """

    def __init__(self, label: str, task: asyncio.Task[Any]) -> None:
        self.label = label
        self.settled = False
        """Whether its result was asked for, or it was given up."""
        self._task = task
        self._began = time.monotonic()
        self._took: float | None = None
        # What it raises is told to whoever asks for the result, and to nobody else.
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._took = time.monotonic() - self._began
        if not task.cancelled():
            task.exception()

    def done(self) -> bool:
        """Whether it has ended, in whichever way."""
        return self._task.done()

    def cancel(self) -> bool:
        """Give up waiting for the answer; False when it has already come."""
        self.settled = True
        return self._task.cancel()

    async def ended(self, timeout: float | None) -> bool:
        """Wait until it has ended, for `timeout` seconds at most; whether it has."""
        return bool((await asyncio.wait([self._task], timeout=timeout))[0])

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result and return it, or raise what the call raised.

        Raises:
            CallTimeout: it has not ended within `timeout` seconds; it goes on.
        """
        return wait(self._result(timeout))

    async def _result(self, timeout: float | None) -> Any:
        self.settled = True
        try:
            async with asyncio.timeout(time_limit(timeout)):
                return await asyncio.shield(self._task)
        except TimeoutError:
            if self._task.done():
                return self._task.result()  # it has just ended, or the timeout is its own
            raise CallTimeout(
                f"{self.label} has not ended within {timeout:g} s; it goes on.",
                call=self.label,
                seconds=timeout or 0.0,
            ) from None

    @property
    def elapsed(self) -> float:
        """Seconds since it began, or that it took."""
        return time.monotonic() - self._began if self._took is None else self._took

    def __await__(self) -> Generator[Any, None, Any]:
        return self._result(None).__await__()

    def __repr__(self) -> str:
        state = "running"
        if self._task.cancelled():
            state = "cancelled"
        elif self._task.done():
            state = "failed" if self._task.exception() else "done"
        return f"<Call {self.label}: {state}, {self.elapsed:.1f} s>"


async def with_sign_of_life(
    fabric: FabricMember, pattern: ServicePattern, handle: CallHandle, after: float
) -> Any:
    """The call's result; after a while a line says what is awaited, and goes with the answer.

    Args:
        fabric: knows how the service is doing.
        pattern: the service.
        handle: the call, which is cancelled with this.
        after: seconds before there is a line; negative: never.
    """
    sign: Transient | None = None
    try:
        done = await handle.ended(None if after < 0 else after)
        while not done:
            page = waiting_page(fabric, pattern, handle)
            if sign is None:
                sign = Transient(page)
            else:
                sign.update(page)
            done = await handle.ended(_PROGRESS_EVERY)
        return await handle
    except asyncio.CancelledError:
        handle.cancel()
        raise
    finally:
        if sign is not None:
            sign.remove()


def waiting_page(fabric: FabricMember, pattern: ServicePattern, handle: CallHandle) -> Page:
    """What is awaited, for how long, and how the service is doing."""
    badges = [Badge("not announced yet", "warn")]
    found = fabric.registry.find(pattern) or fabric.registry.find(pattern, gone=True)
    if len(found) == 1:
        state = fabric.registry.state(found[0])
        badges = [Badge(f"{found[0].name.id} is {state}", TONES[state])]
    badges += state_badge(fabric)
    return Page(
        title=f"Waiting for {handle.label}", badges=badges, facts=[f"{handle.elapsed:.0f} s"]
    )


async def all_results(handles: Iterable[CallHandle]) -> list[Any]:
    """The results of several calls, with one line of progress for all of them.

    In place of a result that cannot be had stands the error.
    """
    waiting = list(handles)
    sign: Transient | None = None
    try:
        while not all(handle.done() for handle in waiting):
            await asyncio.sleep(_PROGRESS_EVERY)
            ended = sum(handle.done() for handle in waiting)
            page = Page(
                title=f"{ended} of {len(waiting)} calls",
                facts=[f"{max(handle.elapsed for handle in waiting):.0f} s"],
                progress=ended / len(waiting),
            )
            if sign is None:
                sign = Transient(page)
            else:
                sign.update(page)
    finally:
        if sign is not None:
            sign.remove()
    return await asyncio.gather(*waiting, return_exceptions=True)


async def all_items(items: AsyncGenerator[Any, None], label: str, most: int | None) -> list[Any]:
    """The items of a stream; the last of them are shown as they come, and then how many came.

    Args:
        items: the stream, which is closed with this.
        label: what it is.
        most: take so many and no more; None: all.
    """
    taken: list[Any] = []
    began = time.monotonic()

    def page(*badges: Badge) -> Page:
        shown = [glimpse(item) for item in taken[-_ITEMS_SHOWN:]] if not badges else []
        facts = [f"{len(taken):,} items", f"{time.monotonic() - began:.1f} s"]
        return Page(title=label, badges=badges, facts=facts, printed="\n".join(shown))

    async def show() -> None:
        while True:
            await asyncio.sleep(_ITEMS_EVERY)
            sign.update(page())

    sign, how = Transient(page()), Badge("broken off", "bad")
    showing = asyncio.create_task(show())
    try:
        async with aclosing(items):
            async for item in items:
                taken.append(item)
                if len(taken) == most:
                    break
        how = Badge("all" if most is None else "taken", "good")
    finally:
        showing.cancel()
        sign.update(page(how))
    return taken
