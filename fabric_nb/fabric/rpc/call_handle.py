"""Handle of a call that runs in a task of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

from fabric_nb.errors import CallTimeout, render_briefly
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.core.values import clock
from fabric_nb.fabric.core.waiting import wait_for
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.rpc.cancellation import STOP_TIMEOUT, cancellation
from fabric_nb.fabric.wire.calls import INSTANCE
from fabric_nb.fabric.wire.reports import Progress


class CallHandle:
    """A call under way, or one that has ended; await it for its result.

    Example::

        call = fabric.start("reports.make", day="2026-11-24")
        call.progress                   # the latest that its function has reported
        result = await call             # in a notebook's plain code: call.result()
        await call.stop()

    Args:
        label: the call, as in ``reports.make``.
        call: coroutine that makes it.
        service: short name of the service.
        report: is filled in while the call is queued and runs.
        on_cancel: called with this handle after `cancel`.

    Attributes:
        label: the call, as in ``reports.make``.
        report: what is known of the call beside its result.
        settled: True if its result was requested, or the call was cancelled.
    """

    def __init__(
        self,
        label: str,
        call: Coroutine[Any, Any, Any],
        service: str = "",
        report: CallReport | None = None,
        *,
        on_cancel: Callable[[CallHandle], object] = lambda _: None,
    ) -> None:
        self.label = label
        self.report = CallReport() if report is None else report
        self.settled = False
        self._service = service
        self._on_cancel = on_cancel
        self._start = time.monotonic()
        self._duration: float | None = None
        self._task = asyncio.create_task(call, name=f"call of {label}")
        # Its error is raised where the result is requested, and nowhere else.
        self._task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._duration = time.monotonic() - self._start
        if not task.cancelled():
            task.exception()

    # -- result

    def done(self) -> bool:
        """Return whether the call has returned, failed or been cancelled."""
        return self._task.done()

    async def ended(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds for the end of the call; return whether it is done."""
        return bool((await asyncio.wait([self._task], timeout=timeout))[0])

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result and return it, or raise the error of the call; for a notebook.

        Raises:
            CallTimeout: no result within `timeout` seconds; the call continues.
            NotInNotebook: the call is not done, and this is a program, where only `await` waits.
        """
        if self.done():
            self.settled = True
            return self._task.result()
        __tracebackhide__ = True
        return wait_for(partial(self._result, timeout), f"result() of {self.label}", "handle")

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
        except asyncio.CancelledError as error:
            if not self._task.done():  # interrupted in a cell
                render_briefly(error, f"{self.label} continues; its handle's cancel() cancels it.")
            raise

    def __await__(self) -> Generator[Any, None, Any]:
        return self._result(None).__await__()

    # -- cancellation

    def cancel(self) -> bool:
        """Cancel the call, also at its service; return False if it is done already.

        A notebook shows what became of it; a program awaits `stop` for that.
        """
        if cancelled := self._cancel():
            self._on_cancel(self)
        return cancelled

    def _cancel(self) -> bool:
        self.settled = True
        return self._task.cancel()

    async def stop(self, timeout: float = STOP_TIMEOUT) -> bool | None:
        """Cancel the call, and return whether its function was stopped.

        Returns:
            True if it was stopped; False if it runs on in a thread, which cannot be stopped; None
            if that is not known after `timeout` seconds: plain functions on an event loop, and
            services on amqp-fabric, run every call to its end.
        """
        self._cancel()
        return await self.stopped(timeout)

    async def stopped(self, timeout: float = STOP_TIMEOUT) -> bool | None:
        """Wait for the outcome of a cancellation; see `stop`."""
        await asyncio.wait([self._task])
        report = self.report
        if not report.sent or report.level == INSTANCE or not self._task.cancelled():
            return report.stopped
        return await report.wait_stopped(timeout)

    @property
    def cancellation(self) -> str:
        """Outcome of a cancellation, as a sentence."""
        return cancellation(self.label, self._service, self.report)

    # -- state

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the call, until now or its end."""
        return time.monotonic() - self._start if self._duration is None else self._duration

    @property
    def progress(self) -> Progress | None:
        """The latest progress that its function has reported; None if there is none."""
        return self.report.progress

    @property
    def facts(self) -> list[str]:
        """Queue, instance, progress and time, as text.

        Example::

            ["training", "30 of 120", "25 %", "24 s left", "on pricing 7f3a90c1"]
            ["running on pricing 7f3a90c1 for 8 s"]
            ["waiting for a free instance, 12 calls ahead", "8 s"]
        """
        report, progress = self.report, self.report.progress
        if progress is not None:
            total = "" if progress.total is None else f" of {progress.total:,.12g}"
            fraction, left = progress.fraction, report.remaining
            facts = [
                progress.text,
                f"{progress.done:,.12g}{total}",
                "" if fraction is None else f"{fraction:.0%}".replace("%", " %"),
                f"for {clock(self.elapsed)}" if left is None else f"{clock(left)} left",
                self._where.strip(),
            ]
            return [fact for fact in facts if fact]
        if report.running is not None:
            return [f"running{self._where} for {clock(report.running)}"]
        return [*self._queue, clock(self.elapsed)]

    @property
    def _queue(self) -> list[str]:
        match self.report.ahead:
            case None:
                return []
            case 0:
                return ["waiting for a free instance"]
            case 1:
                return ["waiting for a free instance, 1 call ahead"]
            case ahead:
                return [f"waiting for a free instance, {ahead:,} calls ahead"]

    @property
    def _where(self) -> str:
        return self.report.where(self._service)

    def __repr__(self) -> str:
        state = "running"
        if self._task.cancelled():
            state = "cancelled"
        elif self._task.done():
            state = "failed" if self._task.exception() else "done"
        return f"<Call {self.label}: {state}, {self.elapsed:.1f} s>"
