"""Calls from a cell: with a progress line, as an item stream, or in the background."""

from __future__ import annotations

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from fabric_nb.errors import BadArgument, CallTimeout
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.mapping import MapHandle
from fabric_nb.fabric.wire.names import ServicePattern
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.pages import Badge, Page, counted, glimpse
from fabric_nb.notebook.views.connection import state_badge
from fabric_nb.notebook.views.live import Transient
from fabric_nb.notebook.views.services import service_badge

_PROGRESS_PERIOD = 0.5
_ITEMS_PERIOD, _ITEMS_SHOWN = 0.25, 10


class CallHandle:
    """A call in the background.

    Example::

        report = %fabric_call -a reports.make day="2026-11-24"
        report.done()
        report.result(timeout=60)       # or: await report
    """

    def __init__(self, label: str, task: asyncio.Task[Any]) -> None:
        self.label = label
        self.settled = False
        """True if its result was requested, or the call was cancelled."""
        self._task = task
        self._start = time.monotonic()
        self._duration: float | None = None
        # Its error is raised where the result is requested, and nowhere else.
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._duration = time.monotonic() - self._start
        if not task.cancelled():
            task.exception()

    def done(self) -> bool:
        """Return whether the call has returned, failed or been cancelled."""
        return self._task.done()

    def cancel(self) -> bool:
        """Cancel the call; return False if it is done already."""
        self.settled = True
        return self._task.cancel()

    async def ended(self, timeout: float | None) -> bool:
        """Wait at most `timeout` seconds for the end of the call; return whether it is done."""
        return bool((await asyncio.wait([self._task], timeout=timeout))[0])

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result and return it, or raise the error of the call.

        Raises:
            CallTimeout: no result within `timeout` seconds; the call continues.
        """
        return wait(self._result(timeout))

    async def _result(self, timeout: float | None) -> Any:
        self.settled = True
        try:
            async with asyncio.timeout(time_limit(timeout)):
                return await asyncio.shield(self._task)
        except TimeoutError:
            if self._task.done():
                return self._task.result()  # it has just finished, or raised the error itself
            raise CallTimeout(
                f"No result of {self.label} within {timeout:g} s; the call continues.",
                call=self.label,
                seconds=timeout or 0.0,
            ) from None

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the call, until now or its end."""
        return time.monotonic() - self._start if self._duration is None else self._duration

    def __await__(self) -> Generator[Any, None, Any]:
        return self._result(None).__await__()

    def __repr__(self) -> str:
        state = "running"
        if self._task.cancelled():
            state = "cancelled"
        elif self._task.done():
            state = "failed" if self._task.exception() else "done"
        return f"<Call {self.label}: {state}, {self.elapsed:.1f} s>"


class CellCalls:
    """Calls from the cells of a notebook.

    Args:
        shell: shell of the notebook.
        member: returns the member that calls.
    """

    def __init__(self, shell: InteractiveShell, member: Callable[[], FabricMember]) -> None:
        self._shell = shell
        self._member = member
        self._handles: list[CallHandle] = []

    async def call(
        self,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        progress_after: float,
        **options: Any,
    ) -> Any:
        """Call a method and return its result.

        Args:
            pattern: the service.
            method: the method.
            kwargs: its arguments.
            progress_after: seconds before a progress line appears; negative for never.
            options: options of `RpcClient.call`.
        """
        handle = await self.start_call(pattern, method, kwargs, **options)
        return await with_progress(self._member(), pattern, handle, progress_after)

    async def start_call(
        self, pattern: ServicePattern, method: str, kwargs: Mapping[str, Any], **options: Any
    ) -> CallHandle:
        """Call a method in the background; arguments as in `call`."""
        call = self._member().rpc.call(pattern, method, kwargs, **options)
        return await self.start(f"{pattern}.{method}", call)

    async def start(self, label: str, call: Coroutine[Any, Any, Any]) -> CallHandle:
        """Run a call in the background; `results` waits for it."""
        handle = CallHandle(label, asyncio.create_task(call))
        self._handles = [*self._unsettled(), handle]
        return handle

    def _unsettled(self) -> list[CallHandle]:
        return [handle for handle in self._handles if not handle.settled]

    def receive_items(
        self,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        limit: int | None,
        **options: Any,
    ) -> Coroutine[Any, Any, list[Any]]:
        """Return the items of an item stream, showing the newest while they arrive.

        Args:
            pattern: the service.
            method: the method.
            kwargs: its arguments.
            limit: maximum number of items; None for all.
            options: options of `RpcClient.stream`.
        """
        items = self._member().rpc.stream(pattern, method, kwargs, **options)
        return all_items(items, f"{pattern}.{method}", limit)

    async def results(self, variables: Sequence[str] = ()) -> list[Any]:
        """Return the results of calls in the background.

        The error of a single variable's call is raised; of several, errors are in the list.

        Args:
            variables: variables with the handles; all calls whose result was not requested yet
                if empty.

        Raises:
            BadArgument: a variable does not hold a call.
        """
        handles = [self._shell.user_ns.get(name) for name in variables]
        for name, value in zip(variables, handles, strict=True):
            if not isinstance(value, (CallHandle, MapHandle)):
                raise BadArgument(f"{name} is no call that was started with -a.")
        results = await all_results(handles or self._unsettled())
        if len(variables) == 1 and isinstance(results[0], BaseException):
            raise results[0]
        return results


async def with_progress(
    fabric: FabricMember, pattern: ServicePattern, handle: CallHandle, after: float
) -> Any:
    """Return the call's result, with a progress line until then.

    Args:
        fabric: connection, for the state of the service.
        pattern: the service.
        handle: the call; it is cancelled if this coroutine is.
        after: seconds before the progress line appears; negative for never.
    """
    line: Transient | None = None
    try:
        done = await handle.ended(None if after < 0 else after)
        while not done:
            page = waiting_page(fabric, pattern, handle)
            if line is None:
                line = Transient(page)
            else:
                line.update(page)
            done = await handle.ended(_PROGRESS_PERIOD)
        return await handle
    except asyncio.CancelledError:
        handle.cancel()
        raise
    finally:
        if line is not None:
            line.remove()


def waiting_page(fabric: FabricMember, pattern: ServicePattern, handle: CallHandle) -> Page:
    """Return a page with the call, its elapsed time, and the state of the service."""
    badges = [Badge("not announced yet", "warn")]
    found = fabric.registry.find(pattern) or fabric.registry.find(pattern, gone=True)
    if len(found) == 1:
        state = service_badge(fabric.registry.state(found[0]))
        badges = [Badge(f"{found[0].name.id} is {state.text}", state.tone)]
    badges += state_badge(fabric)
    return Page(
        title=f"Waiting for {handle.label}", badges=badges, facts=[f"{handle.elapsed:.0f} s"]
    )


async def all_results(handles: Iterable[CallHandle | MapHandle]) -> list[Any]:
    """Return the results of several calls, with one progress bar until then.

    For a failed call the list contains its error.
    """
    pending = list(handles)
    bar: Transient | None = None
    try:
        while not all(handle.done() for handle in pending):
            await asyncio.sleep(_PROGRESS_PERIOD)
            done = sum(handle.done() for handle in pending)
            page = Page(
                title=f"{done} of {len(pending)} calls",
                facts=[f"{max(handle.elapsed for handle in pending):.0f} s"],
                progress=done / len(pending),
            )
            if bar is None:
                bar = Transient(page)
            else:
                bar.update(page)
    finally:
        if bar is not None:
            bar.remove()
    return await asyncio.gather(*pending, return_exceptions=True)


async def all_items(items: AsyncGenerator[Any, None], label: str, limit: int | None) -> list[Any]:
    """Return the items of an item stream, showing the newest while they arrive.

    Args:
        items: the item stream; it is closed at the end.
        label: title of the output.
        limit: maximum number of items to receive; None for all.
    """
    received: list[Any] = []
    start = time.monotonic()

    def page(*badges: Badge) -> Page:
        shown = [glimpse(item) for item in received[-_ITEMS_SHOWN:]] if not badges else []
        facts = [counted(len(received), "item"), f"{time.monotonic() - start:.1f} s"]
        return Page(title=label, badges=badges, facts=facts, printed="\n".join(shown))

    async def update() -> None:
        while True:
            await asyncio.sleep(_ITEMS_PERIOD)
            output.update(page())

    output, outcome = Transient(page()), Badge("incomplete", "bad")
    updating = asyncio.create_task(update())
    try:
        async with aclosing(items):
            async for item in items:
                received.append(item)
                if len(received) == limit:
                    break
        outcome = Badge("all" if limit is None else "limited", "good")
    finally:
        updating.cancel()
        output.update(page(outcome))
    return received
