"""Calls that a server runs, and its messages about them.

A caller that asks for it learns that its call has begun. It can cancel a call, and ask every
instance which of its calls are there; see `docs/wire.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from fabric_nb.errors import FabricError
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.rpc.control_channel import ControlChannel
from fabric_nb.fabric.rpc.served_methods import ServedMethod, Worker
from fabric_nb.fabric.wire.calls import PROGRESS, wanted_report
from fabric_nb.fabric.wire.instances import MAX_LISTED, CallStatus
from fabric_nb.fabric.wire.running_calls import begin_message

BEGIN_AFTER = 0.1
"""Seconds after which the caller of a running call learns that it has begun."""
MAX_CANCELLED = 10_000
"""Remembered calls that were cancelled before they arrived."""

CallKey = tuple[str | None, str | None]
"""Reply queue and correlation id."""


@dataclass(eq=False, slots=True)
class RunningCall:
    """A running call.

    Attributes:
        method: method that it calls.
        delivery: its request; the newest one, if the broker has delivered it again.
        worker: worker that runs it; None for an item stream, which has a task of its own.
        report: what its caller wants to know; see `wanted_report`.
        acknowledged: True once the broker does not deliver it again.
        cancelled: True once its caller does not want it any more.
        since: start of the call, in seconds of `time.monotonic`.
        task: task to cancel with it; None while nothing can be cancelled, as a thread.
    """

    method: ServedMethod
    delivery: Delivery
    worker: Worker | None = None
    report: str = field(init=False)
    acknowledged: bool = False
    cancelled: bool = False
    since: float = field(default_factory=time.monotonic)
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.report = wanted_report(self.delivery)

    @property
    def is_cancelling(self) -> bool:
        """Whether the function that it runs has cancelled the task of its worker."""
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
        return self.task is not None


class RunningCalls:
    """Running calls of one server.

    Args:
        instance: id of the instance.
        control: channel for messages to the callers.
    """

    def __init__(self, instance: str, control: ControlChannel) -> None:
        self._instance = instance
        self._control = control
        self._calls: set[RunningCall] = set()
        self._to_begin: deque[RunningCall] = deque()
        """Calls whose callers are to learn that they have begun, oldest first."""
        self._timer: asyncio.TimerHandle | None = None
        self._cancelled: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[RunningCall]:
        return iter(self._calls)

    def add(self, call: RunningCall) -> None:
        """Add a call that begins."""
        self._calls.add(call)
        if call.report == PROGRESS:
            self._to_begin.append(call)
            if self._timer is None:
                self._begin_later(BEGIN_AFTER)

    def discard(self, call: RunningCall) -> None:
        """Remove a call that has ended."""
        self._calls.discard(call)

    def find(self, correlation_id: str | None) -> RunningCall | None:
        """Return the call with this correlation id."""
        calls = (call for call in self._calls if call.delivery.correlation_id == correlation_id)
        return next(calls, None)

    def statuses(self, reply_to: str) -> dict[str, CallStatus]:
        """Return the status of each call whose reply goes to a queue, by correlation id."""
        now = time.monotonic()
        found: dict[str, CallStatus] = {}
        for call in self._calls:
            queue, correlation_id = call.key
            if queue == reply_to and correlation_id and len(found) < MAX_LISTED:
                found[correlation_id] = CallStatus(now - call.since, call.acknowledged)
        return found

    # -- calls that are cancelled before they arrive

    def refuse(self, correlation_id: str) -> None:
        """Remember a call that was cancelled and is not here, so that it does not begin."""
        self._cancelled[correlation_id] = None
        if len(self._cancelled) > MAX_CANCELLED:
            self._cancelled.popitem(last=False)

    def is_refused(self, correlation_id: str | None) -> bool:
        """Return whether a call was cancelled before it arrived."""
        return correlation_id in self._cancelled

    # -- the beginning of calls

    def _begin_later(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._begin_due)

    def _begin_due(self) -> None:
        """Tell the callers of all calls that have run for `BEGIN_AFTER` seconds."""
        self._timer = None
        now, waiting = time.monotonic(), self._to_begin
        while waiting:
            call = waiting[0]
            if call in self._calls:
                if (left := BEGIN_AFTER - (now - call.since)) > 0:
                    self._begin_later(left)
                    return
                self._begin(call)
            waiting.popleft()

    def _begin(self, call: RunningCall) -> None:
        reply_to, correlation_id = call.key
        if reply_to and self._control.queue:
            message = begin_message(correlation_id, self._control.queue, self._instance)
            with contextlib.suppress(FabricError):  # the caller asks all instances later
                self._control.send(reply_to, message)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
