"""Running what is served: plain functions on the loop or in a thread, and what generators give."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from functools import partial
from types import TracebackType
from typing import Any

from fabric_nb.errors import NotSerializable
from fabric_nb.fabric.rpc.greenlets import suspendable
from fabric_nb.fabric.rpc.methods import Function, invoke

SLICE = 0.005
"""Seconds that a plain generator may hold the loop, beyond one item, while it is made a list."""
SLICE_ITEMS = 1000
MAX_LISTED = 100_000
MAX_LISTED_SECONDS = 3600.0
CLOSE_TIMEOUT = 1.0

Ran = tuple[Any, BaseException | None]
"""What a function returned, or raised, whatever it raised."""


async def run(function: Function, kwargs: Mapping[str, Any], *, threads: bool) -> Ran:
    """Call a function, in a thread or on the loop, where a plain one may `suspend`."""
    if threads and not inspect.iscoroutinefunction(function):
        return await asyncio.to_thread(_call, function, kwargs)
    return await suspendable(_call, function, kwargs)


def _call(function: Function, kwargs: Mapping[str, Any]) -> Ran:
    try:
        return invoke(function, kwargs), None
    except BaseException as error:  # noqa: BLE001 - it is the caller's to know, not the loop's
        return None, error


def uncancel() -> None:
    """What ran has cancelled the task that it ran in, which has more to do."""
    while (task := asyncio.current_task()) is not None and task.cancelling():
        task.uncancel()


async def forget_cancellation(is_wanted: Callable[[], bool]) -> None:
    """Stay, although what ran has cancelled the task that it ran in.

    Args:
        is_wanted: tells whether the task is to be cancelled; then it is.
    """
    task = asyncio.current_task()
    if task is None or not task.cancelling() or is_wanted():
        return
    try:
        await asyncio.sleep(0)  # it is raised where next is waited
    except asyncio.CancelledError:
        if is_wanted():
            raise
    uncancel()


def holdable(error: BaseException) -> BaseException:
    """Return the error, or what stands for it if a future cannot hold it: its caller would hang."""
    if not isinstance(error, StopIteration):
        return error
    replaced = RuntimeError(f"the method raised {error!r}")
    replaced.__cause__ = error
    return replaced.with_traceback(error.__traceback__)


def is_generator(function: Function) -> bool:
    """Whether a function gives items, plain or async."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


class Items:
    """What a generator gives, a few at a time, so that it holds up nobody.

    Args:
        generator: plain or async.
        threads: whether a plain one runs in threads, off the loop.
    """

    def __init__(
        self, generator: Generator[Any, Any, Any] | AsyncGenerator[Any, Any], *, threads: bool
    ) -> None:
        self._generator = generator
        self._threads = threads
        self._step: asyncio.Future[Ran] | None = None

    async def take(self, most: int = 1) -> list[Any]:
        """At least one item, or none when it has ended; raises what the generator raises."""
        if isinstance(self._generator, AsyncGenerator):
            try:
                return [await anext(self._generator)]
            except StopAsyncIteration:
                return []
        items: list[Any] = await self._run(partial(_take, self._generator, most))
        return items

    async def close(self) -> None:
        """Leave the generator, whose ``finally`` blocks are run; raises what they raise.

        A thread cannot be stopped: one that goes on for long closes the generator afterwards.
        """
        if isinstance(self._generator, AsyncGenerator):
            await self._generator.aclose()
            return
        close = self._generator.close
        if self._step is not None and not self._step.done():
            ended, _ = await asyncio.wait([self._step], timeout=CLOSE_TIMEOUT)
            if not ended:
                self._step.add_done_callback(lambda _: close())
                return
        await self._run(close)

    async def _run(self, function: Function) -> Any:
        running = run(function, {}, threads=self._threads)
        if self._threads:
            self._step = asyncio.ensure_future(running)
            result, error = await asyncio.shield(self._step)
        else:
            result, error = await running
        if error is not None:
            raise error
        return result


def _take(generator: Generator[Any, Any, Any], most: int) -> list[Any]:
    items = []
    ends = time.monotonic() + SLICE
    for item in generator:
        items.append(item)
        if len(items) >= most or time.monotonic() >= ends:
            break
    return items


async def listed(items: Items) -> list[Any]:
    """All that a generator gives, for a caller that wants one reply.

    Raises:
        NotSerializable: it goes on and on; whatever the generator raises.
    """
    found: list[Any] = []
    ends = time.monotonic() + MAX_LISTED_SECONDS
    try:
        while taken := await items.take(SLICE_ITEMS):
            found += taken
            if len(found) > MAX_LISTED or time.monotonic() > ends:
                raise NotSerializable(
                    f"the result is a generator that has given {len(found):,} items and goes on,"
                    " which is more than one reply carries: take them one by one (call_stream,"
                    " %fabric_call --stream), or let the method return a list."
                )
            await asyncio.sleep(0)
    finally:
        await items.close()
    return found


def without_us(error: BaseException) -> BaseException:
    """The error with the frames of this package taken off the start of its traceback."""
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__") in _OURS:
        traceback = traceback.tb_next
    return error.with_traceback(traceback)


_OURS = {
    __name__,
    "fabric_nb.fabric.rpc.methods",
    "fabric_nb.fabric.rpc.server",
    "fabric_nb.fabric.rpc.item_streams",
    "asyncio.threads",
    "concurrent.futures.thread",
}
