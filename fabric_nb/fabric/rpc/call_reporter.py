"""Reports of one running call to its caller: its beginning, progress and output."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from fabric_nb.fabric.amqp.message import Message
from fabric_nb.fabric.wire.calls import OUTPUT
from fabric_nb.fabric.wire.reports import (
    MAX_LINE,
    Output,
    OutputLine,
    Progress,
    output_message,
    progress_message,
)
from fabric_nb.fabric.wire.running_calls import BEGIN_AFTER

REPORT_EVERY = 0.1
"""Minimum seconds between two reports of one call."""
MAX_LINES = 1000
"""Lines of output that one call sends."""
MAX_WAITING = 200
"""Lines of output that wait for the next report; later ones are omitted."""


class CallReporter:
    """Sends the reports of one call, at most ten a second, from any thread.

    The function may block the loop: what it reports on the loop's own thread is written at once.

    Args:
        level: what the caller wants to know; see `wanted_report`.
        correlation_id: id of the call.
        begin: returns the message that the call has begun; None if it cannot be sent.
        send: sends a message to the caller, with `at_once` without waiting for the loop.

    Attributes:
        is_closed: True once the call has ended.
    """

    def __init__(
        self,
        level: str,
        correlation_id: str | None,
        begin: Callable[[], Message],
        send: Callable[[Message, bool], None],
    ) -> None:
        self.wants_output = level == OUTPUT
        self.is_closed = False
        self._correlation_id = correlation_id
        self._begin: Callable[[], Message] | None = begin
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._next = monotonic() + BEGIN_AFTER
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(BEGIN_AFTER, self._on_timer)
        self._scheduled = False
        self._progress: Progress | None = None
        self._lines: deque[OutputLine] = deque()
        self._parts: dict[str, str] = {}
        self._sent_lines = self._omitted = 0

    # -- from any thread

    def progress(self, progress: Progress) -> None:
        """Report a progress, in place of an earlier one that was not sent yet."""
        self._progress = progress
        self._changed()

    def write(self, stream: str, text: str) -> None:
        """Report text that the function has printed."""
        if self.is_closed or not self.wants_output:
            return
        *lines, rest = (self._parts.get(stream, "") + text).split("\n")
        self._parts[stream] = _overwritten(rest)[: MAX_LINE + 1]
        for line in lines:
            self._add(stream, _overwritten(line.removesuffix("\r")))
        if lines:
            self._changed()

    def _add(self, stream: str, line: str) -> None:
        if self._sent_lines + len(self._lines) >= MAX_LINES or len(self._lines) >= MAX_WAITING:
            self._omitted += 1
        else:
            self._lines.append(OutputLine(stream, line))

    def _changed(self) -> None:
        if threading.get_ident() == self._thread:
            self._report(at_once=True)
        elif not self._scheduled and not self.is_closed:
            self._scheduled = True
            self._loop.call_soon_threadsafe(self._report)

    # -- on the loop

    def begin(self) -> None:
        """Report the beginning at once, because the function may block the loop."""
        self._report_beginning(at_once=True)

    def finish(self) -> None:
        """Send the output that is left, and nothing more."""
        if self.is_closed:
            return
        for stream, rest in self._parts.items():
            if rest:
                self._add(stream, rest.removesuffix("\r"))
        if self._lines or self._omitted:
            self._send_output(at_once=False)
        self.close()

    def close(self) -> None:
        """Send nothing more."""
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _report(self, *, at_once: bool = False) -> None:
        self._scheduled = False
        if self.is_closed:
            return
        if (left := self._next - monotonic()) > 0:
            if self._timer is None:
                self._timer = self._loop.call_later(left, self._on_timer)
            return
        self._next = monotonic() + REPORT_EVERY
        self._report_beginning(at_once=at_once)
        if self._progress is not None:
            progress, self._progress = self._progress, None
            self._send(progress_message(progress, self._correlation_id), at_once)
        if self._lines:
            self._send_output(at_once=at_once)

    def _report_beginning(self, *, at_once: bool) -> None:
        if self._begin is not None:
            begin, self._begin = self._begin, None
            self._send(begin(), at_once)

    def _send_output(self, *, at_once: bool) -> None:
        lines, self._lines = tuple(self._lines), deque()
        self._sent_lines += len(lines)
        self._send(output_message(Output(lines, self._omitted), self._correlation_id), at_once)

    def _on_timer(self) -> None:
        self._timer = None
        self._report()


def _overwritten(line: str) -> str:
    """Return the end of a line that is written again and again, as a bar of tqdm."""
    return line[line.rfind("\r", 0, -1) + 1 :]
