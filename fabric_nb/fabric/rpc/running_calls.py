"""Calls that a server runs."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fabric_nb.fabric.amqp.message import NO_ACK, Delivery
from fabric_nb.fabric.rpc.access import CallerIdentity
from fabric_nb.fabric.rpc.call_reporter import CallReporter
from fabric_nb.fabric.rpc.served_methods import ServedMethod, Worker
from fabric_nb.fabric.tracing.tracer import ActiveSpan
from fabric_nb.fabric.wire.calls import (
    call_id,
    continues_after_timeout,
    seconds_left,
    wanted_report,
)
from fabric_nb.fabric.wire.instances import MAX_LISTED, CallStatus

MAX_CANCELLED = 10_000
"""Remembered calls that were cancelled before they arrived."""

ANYONE = CallerIdentity()

CallKey = tuple[str | None, str | None]
"""Reply queue and correlation id."""


@dataclass(eq=False, slots=True)
class RunningCall:
    """A running call.

    Attributes:
        method: method that it calls.
        delivery: its request; the newest one, if the broker has delivered it again.
        worker: worker that runs it; None for an item stream, which has a task of its own.
        caller: its caller.
        report: what its caller wants to know; see `wanted_report`.
        reporter: sender of reports to its caller; None if it wants none.
        reports_progress: True if the function itself reports progress, and not only the calls that
            it makes.
        acknowledged: True once the broker does not deliver it again.
        cancelled: True once its caller does not want it any more.
        ended: True once its function has ended; what that has started may go on.
        since: start of the call, in seconds of `time.monotonic`.
        checked: time at which the server has last checked the call while its function ran,
            likewise.
        task: task to cancel with it; None while nothing can be cancelled, as a thread.
        thread: thread of the loop.
        span: its span; None if it is not sampled.
    """

    method: ServedMethod
    delivery: Delivery
    worker: Worker | None = None
    caller: CallerIdentity = ANYONE
    report: str = field(init=False)
    reporter: CallReporter | None = None
    reports_progress: bool = False
    acknowledged: bool = False
    cancelled: bool = False
    ended: bool = False
    since: float = field(default_factory=time.monotonic)
    checked: float = 0.0
    task: asyncio.Task[None] | None = None
    thread: int = field(default_factory=threading.get_ident)
    span: ActiveSpan | None = None
    _cancellation: threading.Event | None = None

    def __post_init__(self) -> None:
        self.report = wanted_report(self.delivery)
        self.acknowledged = self.delivery.generation == NO_ACK

    @property
    def id(self) -> str:
        """Id of the call in records and logs."""
        return call_id(self.delivery.correlation_id)

    @property
    def cancellation(self) -> threading.Event:
        """Event that is set once the call is cancelled, for threads."""
        if self._cancellation is None:
            self._cancellation = threading.Event()
            if self.cancelled:
                self._cancellation.set()
        return self._cancellation

    @property
    def remaining(self) -> float:
        """Seconds until it is cancelled by its timeout; the time in its queue is not subtracted.

        Infinity if its caller has no timeout, or lets it continue.
        """
        if self.continues:
            return math.inf
        return max(0.0, seconds_left(self.delivery) - (time.monotonic() - self.since))

    @property
    def continues(self) -> bool:
        """True if it continues when its caller does not wait any more."""
        return continues_after_timeout(self.delivery)

    @property
    def is_cancelling(self) -> bool:
        """True if the function has cancelled the task of its worker."""
        worker = self.worker
        return worker is not None and worker.task is not None and worker.task.cancelling() > 0

    @property
    def key(self) -> CallKey:
        """Reply queue and correlation id, which identify the call."""
        return self.delivery.reply_to, self.delivery.correlation_id

    def cancel(self) -> bool:
        """Cancel the call; return whether it stops, and does not run on in a thread."""
        if not self.cancelled and self.task is not None:
            self.task.cancel()
        self.cancelled = True
        if self._cancellation is not None:
            self._cancellation.set()
        return self.task is not None


class RunningCalls:
    """Running calls of one server, and those that were cancelled before they arrived."""

    def __init__(self) -> None:
        self._calls: set[RunningCall] = set()
        self._cancelled: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[RunningCall]:
        return iter(self._calls)

    def add(self, call: RunningCall) -> None:
        """Add a call that begins."""
        self._calls.add(call)

    def discard(self, call: RunningCall) -> None:
        """Remove a call that has ended."""
        self._calls.discard(call)

    def find(self, correlation_id: str | None) -> RunningCall | None:
        """Return the call with this correlation id."""
        calls = (call for call in self._calls if call.delivery.correlation_id == correlation_id)
        return next(calls, None)

    def statuses(self, reply_to: str, waiting: Iterable[Delivery]) -> dict[str, CallStatus]:
        """Return the status of each call whose reply goes to a queue, by correlation id.

        Args:
            reply_to: name of the queue.
            waiting: requests that wait for a worker.
        """
        now = time.monotonic()
        found: dict[str, CallStatus] = {}
        for call in self._calls:
            queue, correlation_id = call.key
            if queue == reply_to and correlation_id and len(found) < MAX_LISTED:
                found[correlation_id] = CallStatus(now - call.since, call.acknowledged)
        for request in waiting:
            if request.reply_to == reply_to and request.correlation_id and len(found) < MAX_LISTED:
                acknowledged = request.generation == NO_ACK
                found[request.correlation_id] = CallStatus(None, acknowledged=acknowledged)
        return found

    def refuse(self, correlation_id: str) -> None:
        """Remember a call that was cancelled and is not here, so that it does not begin."""
        self._cancelled[correlation_id] = None
        if len(self._cancelled) > MAX_CANCELLED:
            self._cancelled.popitem(last=False)

    def is_refused(self, correlation_id: str | None) -> bool:
        """Return whether a call was cancelled before it arrived."""
        return correlation_id in self._cancelled
