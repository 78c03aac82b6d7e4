"""The call that runs in the current context, as its served function sees it."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sized
from contextvars import ContextVar
from dataclasses import replace
from itertools import count
from typing import Generic, TypeVar, cast

from fabric_nb.errors import InvalidArgument
from fabric_nb.fabric.core.context import served_call
from fabric_nb.fabric.core.timeouts import finite_limit
from fabric_nb.fabric.core.values import shown
from fabric_nb.fabric.rpc.access import CallerIdentity
from fabric_nb.fabric.rpc.invocation import suspend_for
from fabric_nb.fabric.rpc.running_calls import RunningCall
from fabric_nb.fabric.wire.reports import Progress

T = TypeVar("T")

current_call = cast("ContextVar[RunningCall | None]", served_call)


def caller() -> CallerIdentity | None:
    """Return the caller of the running call; None outside of a served function.

    Only `user` is verified, by the broker: any caller can claim any service's name.

    Example::

        def transfer(amount: float) -> str:
            who = fabric_nb.caller()
            if who is None or who.user not in {"billing", "ann"}:
                raise PermissionError("ask billing")

        def compute(rows: int) -> float:
            while not fabric_nb.caller().cancelled:
                ...
    """
    call = current_call.get()
    return None if call is None else replace(call.caller, call=call)


def enclosing_call() -> RunningCall | None:
    """Return the call whose function is running; None after its end, and outside of one."""
    call = current_call.get()
    return None if call is None or call.ended else call


def progress(done: float, total: float | None = None, text: str = "") -> None:
    """Report the progress of the running call to its caller.

    A caller that asks for it receives at most ten reports a second, the latest one in any case.
    Nothing happens outside of a served function. It may be called from any thread and task that the
    function has started.

    Example::

        def train(epochs: int) -> float:
            for epoch in range(epochs):
                fabric_nb.progress(epoch, epochs, "training")
                ...

    Args:
        done: amount of work that is done, in any unit.
        total: the whole amount, if it is known.
        text: name of the work, up to 200 characters.

    Raises:
        InvalidArgument: `done` or `total` is no number from 0.
        asyncio.CancelledError: the caller has cancelled the call; so the function ends.
    """
    call = current_call.get()
    if call is None:
        return
    check_cancelled(call)
    if call.reporter is not None:
        for name, value in (("done", done), ("total", total)):
            if value is not None and not 0 <= value < math.inf:
                raise InvalidArgument(
                    f"{name}={shown(value)} is no progress: write a number from 0."
                )
        call.reports_progress = True
        call.reporter.progress(
            Progress(float(done), None if total is None else float(total), str(text))
        )


class _Tracked(Generic[T]):
    """Iterable that reports how many of its items were taken."""

    def __init__(
        self, items: Iterable[T] | AsyncIterable[T], text: str, total: float | None
    ) -> None:
        self._items = items
        self._text = text
        self._total = len(items) if total is None and isinstance(items, Sized) else total

    def __iter__(self) -> Iterator[T]:
        reports = self._reports()
        next(reports)
        for item in self._items:  # type: ignore[union-attr]
            yield item
            next(reports)

    async def __aiter__(self) -> AsyncIterator[T]:
        reports = self._reports()
        next(reports)
        async for item in self._items:  # type: ignore[union-attr]
            yield item
            next(reports)

    def _reports(self) -> Iterator[None]:
        """Report that no item was taken, then one more with each step."""
        for done in count():
            progress(done, self._total, self._text)
            yield


def track(
    items: Iterable[T] | AsyncIterable[T], text: str = "", total: float | None = None
) -> _Tracked[T]:
    """Iterate over items and report `progress` to the caller of the running call.

    Example::

        def train(rows: list[dict]) -> float:
            for row in fabric_nb.track(rows, "training"):
                ...

    Args:
        items: an iterable, or an async one for ``async for``.
        text: name of the work, up to 200 characters.
        total: number of items; left out: ``len(items)``, if they have a length.

    Raises:
        asyncio.CancelledError: the caller has cancelled the call; so the loop ends.
    """
    return _Tracked(items, text, total)


def sleep(seconds: float) -> None:
    """Sleep in a served plain function, until the caller cancels the call.

    In a thread it ends at once with a cancellation. On the loop of a notebook other calls are
    served meanwhile.

    Raises:
        asyncio.CancelledError: the caller has cancelled the call; so the function ends.
        InvalidTimeout: `seconds` is negative, infinite or not a number.
    """
    limit = finite_limit(seconds, "seconds")
    call = current_call.get()
    if suspend_for(asyncio.sleep, limit):
        return
    if call is None or threading.get_ident() == call.thread:
        time.sleep(limit)
    else:
        call.cancellation.wait(limit)
    if call is not None:
        check_cancelled(call)


def check_cancelled(call: RunningCall) -> None:
    """Raise `asyncio.CancelledError` if a call was cancelled, unless its task will raise it."""
    if call.cancelled:
        raise asyncio.CancelledError("The caller has cancelled the call.")
