"""The caller's view of one call while it is queued and while it runs."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.core.values import clock
from fabric_nb.fabric.wire.calls import INSTANCE, running_instance
from fabric_nb.fabric.wire.reports import (
    OUTPUT_MESSAGE,
    PROGRESS_MESSAGE,
    OutputLine,
    Progress,
    read_output,
    read_progress,
)
from fabric_nb.fabric.wire.running_calls import BEGIN, BEGIN_AFTER, CANCELLED, PROBE, read_cancelled

MAX_LINES = 1000
"""Lines of output that are kept."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Silence of instances that have answered pings before: their event loops are blocked.

    Attributes:
        instances: their ids.
        since: time of the first ping that none of them has answered, in seconds of
            `time.monotonic`.
    """

    instances: frozenset[str]
    since: float

    def text(self, service: str) -> str:
        """Return it as a clause, with the short name of the service.

        Example::

            "pricing 7f3a90c1 has not answered for 8 s"
        """
        count, seconds = len(self.instances), clock(time.monotonic() - self.since)
        if count > 1:
            return f"{count} instances of {service} have not answered for {seconds}"
        return f"{service} {min(self.instances)} has not answered for {seconds}"


class CallReport:
    """Report of one call beside its result: instance, queue position, progress and output.

    Services on amqp-fabric report nothing.

    Args:
        level: what is asked for: `INSTANCE`, `PROGRESS` (and `INSTANCE`), or `OUTPUT` (and both).
        on_change: called after each change, on the loop of the connection.

    Attributes:
        sent: True once the request was sent.
        instance: instance that runs or has answered the call; empty if it is not known.
        began: time at which it began, in seconds of `time.monotonic`; None if it is queued.
        ahead: number of calls that are queued before it, at most; None if it is not known.
        progress: its latest progress.
        lines: lines of its output, the last `MAX_LINES`.
        omitted: number of further lines.
        silence: after a cancellation, silence of the instances one of which runs it, unless it is
            queued; None if that is not known.
        stopped: after a cancellation, whether the function was stopped or runs on; None if that is
            not known.
    """

    def __init__(
        self, level: str = INSTANCE, on_change: Callable[[], object] = lambda: None
    ) -> None:
        self.level = level
        self._listeners = [on_change]
        self._answered = asyncio.Event()
        self.reset()

    def reset(self) -> None:
        """Forget an earlier try of the call."""
        self.sent = False
        self.instance = ""
        self.began: float | None = None
        self.ahead: int | None = None
        self.progress: Progress | None = None
        self.lines: deque[OutputLine] = deque(maxlen=MAX_LINES)
        self.omitted = 0
        self.silence: Silence | None = None
        self.stopped: bool | None = None
        self._first_progress = self._last_progress = 0.0
        self._first_done = 0.0

    def listen(self, on_change: Callable[[], object]) -> None:
        """Call another function after each change."""
        self._listeners.append(on_change)

    def _on_change(self) -> None:
        for listener in self._listeners:
            listener()

    @property
    def running(self) -> float | None:
        """Seconds since the call has begun; None if it is queued, or that is not known."""
        return None if self.began is None else time.monotonic() - self.began

    @property
    def remaining(self) -> float | None:
        """Seconds until the work is done, at its rate so far; None if that is not known.

        The rate is measured anew where the text or the total of the progress changes.
        """
        progress = self.progress
        if progress is None or progress.total is None or progress.done <= self._first_done:
            return None
        seconds = (self._last_progress - self._first_progress) / (progress.done - self._first_done)
        since = time.monotonic() - self._last_progress
        return max(0.0, (progress.total - progress.done) * seconds - since)

    @property
    def is_blocking(self) -> bool:
        """True if a cancelled call runs on, as far as is known, and blocks its event loop."""
        if self.stopped is not None:
            return False
        return self.began is not None or (self.silence is not None and self.ahead is None)

    def where(self, service: str) -> str:
        """Return the instance with the short name of its service, as in `` on pricing 7f3a90c1``.

        It is empty if the instance is not known.
        """
        return f" on {f'{service} {self.instance}'.strip()}" if self.instance else ""

    def receive(self, delivery: Delivery) -> bool:
        """Accept a message about the call; return False for its reply.

        Raises:
            MalformedMessage: it cannot be read.
        """
        kind = delivery.type
        if kind == PROGRESS_MESSAGE:
            self._advance(read_progress(delivery))
        elif kind == OUTPUT_MESSAGE:
            output = read_output(delivery)
            surplus = len(self.lines) + len(output.lines) - MAX_LINES
            self.omitted = output.omitted + max(0, surplus)
            self.lines += output.lines
        elif kind == BEGIN:
            self.begin(running_instance(delivery), BEGIN_AFTER)
        elif kind == CANCELLED:
            self.stopped = read_cancelled(delivery)
            self._answered.set()
        else:
            return kind == PROBE
        self._on_change()
        return True

    def _advance(self, progress: Progress) -> None:
        last, self.progress = self.progress, progress
        self._last_progress = time.monotonic()
        if (
            last is None
            or (last.text, last.total) != (progress.text, progress.total)
            or progress.done < last.done
        ):
            self._first_progress, self._first_done = self._last_progress, progress.done

    def begin(self, instance: str, seconds: float) -> None:
        """Record that an instance has begun to run the call, `seconds` ago."""
        if self.began is None or instance != self.instance:
            self.instance, self.began, self.ahead = instance, time.monotonic() - seconds, None
            self._on_change()

    def count_ahead(self, calls: int | None) -> None:
        """Record that at most `calls` are queued before this one; None: it is not queued."""
        ahead = calls if calls is None or self.ahead is None else min(calls, self.ahead)
        if self.began is None and ahead != self.ahead:
            self.ahead = ahead
            self._on_change()

    async def wait_stopped(self, seconds: float) -> bool | None:
        """Wait at most `seconds` for the answer to a cancellation, and return `stopped`."""
        try:
            async with asyncio.timeout(seconds):
                await self._answered.wait()
        except TimeoutError:
            pass
        return self.stopped
