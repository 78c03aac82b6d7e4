"""Invocation of served functions, on the loop or in a thread, and the items of generators."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec

from fabric_nb.errors import NotSerializable
from fabric_nb.fabric.rpc.methods import Function, invoke

P = ParamSpec("P")

SLICE = 0.005
"""Seconds that a plain generator may block the loop, beyond one item, while it is collected."""
SLICE_ITEMS = 1000
MAX_ITEMS, MAX_SECONDS = 100_000, 3600.0
"""Items of a generator that one reply carries, and seconds that they may take."""
CLOSE_TIMEOUT = 1.0
"""Seconds that closing a generator waits for its running step."""

RunOutcome = tuple[Any, BaseException | None]
"""Result of a function, and any exception that it raised."""


_suspendable: Callable[..., Awaitable[RunOutcome]] | None = None


def allow_suspending() -> None:
    """Let plain functions on the loop `suspend`, as a notebook does; it takes time in each call."""
    global _suspendable
    from fabric_nb.fabric.rpc.greenlets import suspendable

    _suspendable = suspendable


def suspend_for(
    function: Callable[P, Coroutine[Any, Any, Any]], *args: P.args, **kwargs: P.kwargs
) -> bool:
    """Await a coroutine in a plain function, if it may `suspend`; return whether it may."""
    if _suspendable is None:
        return False
    from fabric_nb.fabric.rpc.greenlets import can_suspend, suspend

    if not can_suspend():
        return False
    suspend(function(*args, **kwargs))
    return True


def runs_in_thread(function: Function, *, threads: bool) -> bool:
    """Return whether `run` calls a function in a thread, which cannot be stopped."""
    return threads and not inspect.iscoroutinefunction(function)


async def run(function: Function, kwargs: Mapping[str, Any], *, threads: bool) -> RunOutcome:
    """Call a function, in a thread or on the loop."""
    if runs_in_thread(function, threads=threads):
        return await asyncio.to_thread(_call, function, kwargs)
    if _suspendable is not None:
        return await _suspendable(_call, function, kwargs)
    return _call(function, kwargs)


def _call(function: Function, kwargs: Mapping[str, Any]) -> RunOutcome:
    try:
        return invoke(function, kwargs), None
    except BaseException as error:  # noqa: BLE001 - it is returned to the caller
        return None, error


def uncancel() -> None:
    """Undo the cancellation of the current task by the function that it has run."""
    while (task := asyncio.current_task()) is not None and task.cancelling():
        task.uncancel()


async def ignore_cancellation(is_wanted: Callable[[], bool]) -> None:
    """Undo the cancellation of the current task, unless it is wanted.

    Args:
        is_wanted: returns whether the task is to be cancelled.
    """
    task = asyncio.current_task()
    if task is None or not task.cancelling() or is_wanted():
        return
    try:
        await asyncio.sleep(0)  # the cancellation is raised here
    except asyncio.CancelledError:
        if is_wanted():
            raise
    uncancel()


def settable(error: BaseException) -> BaseException:
    """Return the error, or a `RuntimeError` for one that a future does not accept."""
    if not isinstance(error, StopIteration):
        return error
    replaced = RuntimeError(f"the method raised {error!r}")
    replaced.__cause__ = error
    return replaced.with_traceback(error.__traceback__)


def is_generator(function: Function) -> bool:
    """Return whether a function is a generator function, plain or async."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


class Items:
    """Items of a generator, produced in steps that do not block the loop for long.

    Args:
        generator: a plain or async generator.
        threads: run a plain generator in threads, off the loop.
    """

    def __init__(
        self, generator: Generator[Any, Any, Any] | AsyncGenerator[Any, Any], *, threads: bool
    ) -> None:
        self._generator = generator
        self._threads = threads
        self._step: asyncio.Future[RunOutcome] | None = None

    async def take(self, most: int = 1) -> list[Any]:
        """Return up to `most` items, none after the end; raises what the generator raises."""
        if isinstance(self._generator, AsyncGenerator):
            try:
                return [await anext(self._generator)]
            except StopAsyncIteration:
                return []
        items: list[Any] = await self._run(partial(_take, self._generator, most))
        return items

    async def close(self) -> None:
        """Close the generator, which runs its ``finally`` blocks; raises what they raise.

        A thread cannot be stopped: a step that runs for long closes the generator afterwards.
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


async def collect(items: Items) -> list[Any]:
    """Return all items of a generator, for a caller that requested a single reply.

    Raises:
        NotSerializable: it produces more than one reply carries.
        BaseException: the exception of the generator.
    """
    found: list[Any] = []
    ends = time.monotonic() + MAX_SECONDS
    try:
        while batch := await items.take(SLICE_ITEMS):
            found += batch
            if len(found) > MAX_ITEMS or time.monotonic() > ends:
                raise NotSerializable(
                    f"the result is a generator with more than {len(found):,} items, and one reply"
                    " carries fewer: take them one by one (call_stream,"
                    " %fabric_call --stream), or let the method return a list."
                )
            await asyncio.sleep(0)
    finally:
        await items.close()
    return found


def without_own_frames(error: BaseException) -> BaseException:
    """Return the error without the leading frames of this package in its traceback."""
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__") in _OWN_MODULES:
        traceback = traceback.tb_next
    return error.with_traceback(traceback)


_OWN_MODULES = {
    __name__,
    "fabric_nb.fabric.rpc.methods",
    "fabric_nb.fabric.rpc.replies",
    "fabric_nb.fabric.rpc.call_runner",
    "fabric_nb.fabric.rpc.item_streams",
    "asyncio.threads",
    "concurrent.futures.thread",
}
