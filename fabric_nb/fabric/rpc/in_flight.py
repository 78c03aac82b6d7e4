"""In-flight calls, with one timer for all of them."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from fabric_nb.fabric.rpc.call_report import CallReport, Silence
from fabric_nb.fabric.wire.instances import CallStatus
from fabric_nb.fabric.wire.names import ServiceName

OLD = 0.25
"""Seconds after which a call counts as old; most calls are answered sooner."""
RESOLUTION = 0.002
"""Minimum seconds between two checks of all calls."""


@dataclass(eq=False, slots=True)
class InFlightCall:
    """A call that was sent, or is about to be.

    Attributes:
        reply: its reply, or the error that ends it.
        service: the service that it is sent to.
        key: routing key of the request: the queue of its method, or the key of one instance.
        since: time at which it was sent, in seconds of the loop's clock.
        deadline: time at which it fails, likewise.
        continues: True if it is not cancelled at the deadline.
        answering: True once an instance has begun to answer it, with an item stream.
        report: what its caller has asked to know of it.
        instance: instance that is known to have it.
        behind: number of calls of this member that were sent later, with the same key.
        ahead: number of calls that are queued before it, at most; None if it is not queued, or that
            is not known.
        silence: silence of the instances that may have it; None if another one may have it, or that
            is not known.
        acknowledged: True if only that instance can answer it.
        missing_since: time since which no instance has it, and its queue neither.
        no_exchange_since: time since which the exchange of the service is missing.
    """

    reply: asyncio.Future[Any]
    service: ServiceName
    key: str
    since: float
    deadline: float = math.inf
    report: CallReport | None = None
    continues: bool = False
    answering: bool = False
    instance: str = ""
    behind: int = 0
    ahead: int | None = None
    silence: Silence | None = None
    acknowledged: bool = False
    missing_since: float | None = None
    no_exchange_since: float | None = None

    def fail(self, error: BaseException | None) -> None:
        """End it with an error, unless it has ended; None is no error."""
        if error is not None and not self.reply.done():
            self.reply.set_exception(error)

    def may_be_in(self, queue: str) -> bool:
        """Return whether its request may have been routed to a queue."""
        return queue in (self.key, self.service.leader_queue)

    def locate(self, instance: str, status: CallStatus) -> None:
        """Record that an instance has it."""
        self.instance, self.acknowledged = instance, status.acknowledged
        self.missing_since = self.no_exchange_since = None
        self.ahead = self.silence = None
        if self.report is not None and status.seconds is not None:
            self.report.begin(instance, status.seconds)

    def count_ahead(self, queued: int) -> None:
        """Record the number of calls in its queue.

        If it is one of them, so are those behind it. Later calls of other members are counted as
        ahead of it, so that the first numbers are the best.
        """
        self.ahead = queued - 1 - self.behind if queued > self.behind else None
        if self.report is not None:
            self.report.count_ahead(self.ahead)

    @property
    def continuation(self) -> str:
        """End of the error of its timeout, at which it is not cancelled."""
        if not self.continues:
            return ""
        if self.report is None or self.report.began is None:
            return "; the call continues if an instance has begun it, which is not known"
        return f"; the call continues{self.report.where(self.service.id)}"

    def begin_items(self) -> None:
        """Record that an instance has begun to answer it with items."""
        self.answering = True


class InFlightCalls(dict[str, InFlightCall]):
    """In-flight calls by correlation id, which fail at their deadlines.

    A timer for each call would be started and cancelled with it, and most calls end long before
    their deadline.

    Attributes:
        on_old: called again and again while there are old calls.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_old: Callable[[], object] = lambda: None
        self._timer: asyncio.TimerHandle | None = None
        self._next_check = math.inf

    def reset(self) -> None:
        """Forget all calls, with the timer of their loop."""
        self.clear()
        self._stop()

    def add(self, correlation_id: str, call: InFlightCall) -> None:
        """Add a call, which is to be removed with its end."""
        self[correlation_id] = call
        if call.deadline < self._next_check or self._timer is None:
            self._check_at(min(call.deadline, call.since + OLD))

    def count_behind(self) -> None:
        """Count the calls behind each call."""
        behind: Counter[str] = Counter()
        for call in reversed(self.values()):
            call.behind = behind[call.key]
            behind[call.key] += 1

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._next_check = None, math.inf

    def _check_at(self, when: float) -> None:
        self._stop()
        self._next_check = when
        self._timer = asyncio.get_running_loop().call_at(when, self._check)

    def _check(self) -> None:
        self._stop()
        now = asyncio.get_running_loop().time()
        next_check, due = now + OLD, []
        for call in self.values():
            if call.deadline <= now:
                due.append(call)
            else:
                next_check = min(next_check, call.deadline)
        for call in sorted(due, key=attrgetter("deadline")):
            call.fail(TimeoutError())
        if self:
            self._check_at(max(next_check, now + RESOLUTION))
        if any(now - call.since >= OLD and not call.answering for call in self.values()):
            self.on_old()
