"""Calls from a cell: with a progress line, as an item stream, or in the background."""

from __future__ import annotations

import asyncio
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from fabric_nb.errors import BadArgument, CallError
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.rpc.call_handle import CallHandle
from fabric_nb.fabric.rpc.current_call import caller
from fabric_nb.fabric.rpc.mapping import MapHandle
from fabric_nb.fabric.wire.names import ServicePattern
from fabric_nb.notebook.bridge import runs_in_cell, wait
from fabric_nb.notebook.capture import in_terminal
from fabric_nb.notebook.pages import Badge, Page, counted, glimpse
from fabric_nb.notebook.terminal_call import TerminalCall
from fabric_nb.notebook.views.live import Transient
from fabric_nb.notebook.views.running_call import (
    all_calls_page,
    call_page,
    cancelled_page,
    output_page,
)

OUTPUT_AFTER = 2.0
"""Seconds that a call runs before its output appears, unless it is asked for."""
_PROGRESS_PERIOD = 0.25
_ITEMS_PERIOD, _ITEMS_SHOWN = 0.25, 10


class CellCalls:
    """Calls from the cells of a notebook.

    Args:
        shell: shell of the notebook.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._handles: list[CallHandle] = []
        self._showing: set[asyncio.Task[None]] = set()

    async def call(
        self,
        member: FabricMember,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        after: ShownAfter,
        **options: Any,
    ) -> Any:
        """Call a method and return its result.

        Args:
            member: member that calls.
            pattern: the service.
            method: the method.
            kwargs: its arguments.
            after: seconds after which progress and output appear under the cell.
            options: options of `RpcClient.call`.
        """
        output = after.output >= 0
        handle = await self.start_call(member, pattern, method, kwargs, output=output, **options)
        return await with_progress(member, pattern, handle, after)

    async def start_call(
        self,
        member: FabricMember,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        **options: Any,
    ) -> CallHandle:
        """Call a method in the background; arguments as in `call`."""
        return self._keep(member.rpc.start(pattern, method, kwargs, **options))

    async def start(self, label: str, call: Coroutine[Any, Any, Any]) -> CallHandle:
        """Run a call in the background; `results` waits for it."""
        return self._keep(CallHandle(label, call))

    def _keep(self, handle: CallHandle) -> CallHandle:
        self._handles = [*self._unsettled(), handle]
        return handle

    def show_cancellation(self, handle: CallHandle) -> None:
        """Show in the running cell what becomes of a call that was cancelled by its handle.

        Calls of served functions, and of other threads, show nothing.
        """
        if caller() is not None:
            return
        if in_terminal():  # where a page cannot be updated
            wait(handle.stopped())
            Transient(cancelled_page(handle, handle.cancellation))
        elif runs_in_cell():
            task = asyncio.create_task(_show_cancellation(handle), name="cancellation of a call")
            self._showing.add(task)
            task.add_done_callback(self._showing.discard)

    def _unsettled(self) -> list[CallHandle]:
        return [handle for handle in self._handles if not handle.settled]

    def receive_items(
        self,
        member: FabricMember,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        limit: int | None,
        **options: Any,
    ) -> Coroutine[Any, Any, list[Any]]:
        """Return the items of an item stream, showing the newest while they arrive.

        Args:
            member: member that calls.
            pattern: the service.
            method: the method.
            kwargs: its arguments.
            limit: maximum number of items; None for all.
            options: options of `RpcClient.stream`.
        """
        items = member.rpc.stream(pattern, method, kwargs, **options)
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


@dataclass(frozen=True, slots=True)
class ShownAfter:
    """Seconds after which a call that is waited for is shown.

    Attributes:
        progress: until a progress line appears; negative for never.
        output: until its output appears; negative for never.
    """

    progress: float
    output: float

    @property
    def first(self) -> float | None:
        """The earlier one; None for never."""
        return min((after for after in (self.progress, self.output) if after >= 0), default=None)


class _Shown(ABC):
    """A call that is shown in its cell.

    Args:
        fabric: connection, for the state of the service.
        pattern: the service.
        handle: the call.
        after: seconds after which it is shown.
    """

    def __init__(
        self, fabric: FabricMember, pattern: ServicePattern, handle: CallHandle, after: ShownAfter
    ) -> None:
        self._fabric = fabric
        self._pattern = pattern
        self._handle = handle
        self._after = after

    @abstractmethod
    def refresh(self) -> None:
        """Show the call as it is now."""

    @abstractmethod
    def end(self, *, error_has_output: bool) -> None:
        """Leave the output of the call in the cell, unless it is shown with its error."""

    @property
    def _shows_progress(self) -> bool:
        return 0 <= self._after.progress <= self._handle.elapsed

    @property
    def _shows_output(self) -> bool:
        due = 0 <= self._after.output <= self._handle.elapsed
        return due and len(self._handle.report.lines) > 0

    def _page(self) -> Page:
        return call_page(self._fabric, self._pattern, self._handle, output=self._shows_output)


class _OnPage(_Shown):
    """A call on a page that is updated, and at its end has the output."""

    _shown: tuple[Page, Transient] | None = None

    def refresh(self) -> None:
        if self._shows_progress:
            self._show(self._page())
        elif self._shows_output:
            self._show(output_page(self._handle))

    def end(self, *, error_has_output: bool) -> None:
        if self._shows_output and not error_has_output:
            self._show(output_page(self._handle))
        elif self._shown is not None:
            self._shown[1].remove()

    def _show(self, page: Page) -> None:
        if self._shown is None:
            self._shown = page, Transient(page)
        elif page != self._shown[0]:
            self._shown[1].update(page)
            self._shown = page, self._shown[1]


class _InTerminal(_Shown):
    """A call in a terminal, or a file, where what was printed remains."""

    _announced = False

    @cached_property
    def _call(self) -> TerminalCall:
        terminal = sys.stderr if sys.stderr.isatty() else None
        return TerminalCall(self._handle, terminal, print)

    def refresh(self) -> None:
        if self._shows_output:
            self._call.print_output()
        if self._shows_progress and sys.stderr.isatty():
            self._call.draw()
        elif self._shows_progress and not self._announced:
            self._announced = True
            Transient(self._page())

    def end(self, *, error_has_output: bool) -> None:
        if self._shows_output and not error_has_output:
            self._call.print_output()
        self._call.end()


async def with_progress(
    fabric: FabricMember, pattern: ServicePattern, handle: CallHandle, after: ShownAfter
) -> Any:
    """Return the call's result, with its progress and output under the cell until then.

    Args:
        fabric: connection, for the state of the service.
        pattern: the service.
        handle: the call; it is cancelled if this coroutine is.
        after: seconds after which they appear.

    Raises:
        CancelledError: this coroutine was cancelled; its text is the outcome at the service.
    """
    look = _InTerminal if in_terminal() else _OnPage
    shown, has_output = look(fabric, pattern, handle, after), False
    try:
        done = await handle.ended(after.first)
        while not done:
            shown.refresh()
            done = await handle.ended(_PROGRESS_PERIOD)
        return await handle
    except asyncio.CancelledError:
        await handle.stop()
        raise asyncio.CancelledError(handle.cancellation) from None
    except CallError as error:
        has_output = bool(error.output)
        raise
    finally:
        shown.end(error_has_output=has_output)


async def _show_cancellation(handle: CallHandle) -> None:
    cancelling = Transient(cancelled_page(handle, "It is being stopped."))
    await handle.stopped()
    cancelling.update(cancelled_page(handle, handle.cancellation))


async def all_results(handles: Iterable[CallHandle | MapHandle]) -> list[Any]:
    """Return the results of several calls, with one progress bar until then.

    For a failed call the list contains its error.
    """
    pending = list(handles)
    bar: Transient | None = None
    try:
        while not all(handle.done() for handle in pending):
            await asyncio.sleep(_PROGRESS_PERIOD)
            page = all_calls_page(pending)
            if bar is None:
                bar = Transient(page)
            else:
                bar.update(page)
    finally:
        if bar is not None:
            bar.remove()
    # An interrupt ends this wait, and neither calls nor maps.
    ended = [asyncio.shield(handle) for handle in pending]
    return await asyncio.gather(*ended, return_exceptions=True)


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
