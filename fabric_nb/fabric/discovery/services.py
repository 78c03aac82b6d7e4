"""Services and their instances, as known from keep-alives. Pure.

All times are on the clock of the registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from fabric_nb.fabric.discovery.statistics import (
    AnnouncedStatistics,
    CallStatistics,
    total_points,
)
from fabric_nb.fabric.wire.keep_alives import Announcement
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.fabric.wire.statistics import Statistics

ASSUMED_INTERVAL = 5.0
"""Seconds; interval of an instance that announces none, until it was observed for this long."""
OBSERVATION_TIME = 30.0
"""Seconds; the longest gap in the last two periods of this length is the observed interval."""
LATE_AFTER, GONE_AFTER = 1.6, 3.2
"""Intervals of silence: one missed keep-alive is late, three are gone."""
SLACK = 0.5
"""Seconds of silence in addition."""
CHECK_AFTER = 2.2
"""Intervals of silence after which the exchange of the service is looked up at the broker."""
RECONNECT_TIME = 8.0
"""Seconds that other members may take to reconnect after an outage; amqp-fabric retries every
five."""
CONFIRMED_SILENCE = 30.0
"""Seconds of silence for which a service is late, not gone, if its exchange exists: its loop may be
blocked, and calls wait in its queues."""
COUNTED = 300.0
"""Seconds for which the counts of a service's queues are valid."""
MAX_REPLIED_METHODS = 200
"""Maximum number of methods of a service that are recorded because they have replied."""


class ServiceState(StrEnum):
    """State of a service or instance, from best to worst."""

    UP = "up"
    BUSY = "busy"
    LATE = "late"
    GONE = "gone"


_ORDER = list(ServiceState)


@dataclass(slots=True)
class Instance:
    """Instance of a service. Those of amqp-fabric have no id, and share the key ``""``.

    Attributes:
        id: id of the instance within its clique.
        announcement: its last announcement; None for amqp-fabric.
        last_seen: time of its last keep-alive.
        has_left: True if it has sent a goodbye.
        statistics: statistics of its calls; None if it serves none, and for amqp-fabric.
    """

    id: str
    announcement: Announcement | None
    last_seen: float
    has_left: bool = False
    statistics: AnnouncedStatistics | None = None
    _grace_start: float = float("-inf")
    _earlier_grace: float = 0.0  # seconds in the same silence
    _exchange_exists: bool = False
    _first_seen: float = field(init=False)
    _period_start: float = field(init=False)
    _longest_gap: float = 0.0
    _previous_longest_gap: float = 0.0

    def __post_init__(self) -> None:
        self._first_seen = self._period_start = self.last_seen

    def copy(self) -> Instance:
        """Return a copy."""
        new = copy(self)
        new.statistics = self.statistics and self.statistics.copy()
        return new

    def record_keep_alive(self, announcement: Announcement | None, now: float) -> None:
        """Record another keep-alive."""
        if self._observed_gap and self.state(now) is ServiceState.GONE:
            # The time that it was gone is not its interval.
            self._first_seen = self._period_start = now
            self._longest_gap = self._previous_longest_gap = 0.0
        elif not self.has_left:
            if now - self._period_start > OBSERVATION_TIME:
                self._period_start = now
                self._previous_longest_gap, self._longest_gap = self._longest_gap, 0.0
            self._longest_gap = max(self._longest_gap, now - self.last_seen)
        self.announcement, self.last_seen, self.has_left = announcement, now, False
        self._exchange_exists = False

    def record_statistics(self, statistics: Statistics | None, now: float) -> None:
        """Record the statistics in a keep-alive; None: it has none."""
        if statistics is None:
            self.statistics = None
        elif self.statistics is None:
            self.statistics = AnnouncedStatistics.first(statistics, now)
        else:
            self.statistics.receive(statistics, now)

    @property
    def seen_once(self) -> bool:
        """True until its second keep-alive."""
        return self.last_seen == self._first_seen

    @property
    def is_busy(self) -> bool:
        """True if it has announced that its event loop is blocked."""
        return self.announcement is not None and self.announcement.busy_since is not None

    @property
    def drains(self) -> bool:
        """True if callers may ask the instance to finish and leave."""
        return self.announcement is not None and self.announcement.drains

    @property
    def version(self) -> str:
        """Announced version; empty if none is announced."""
        return self.announcement.version if self.announcement is not None else ""

    @property
    def interval(self) -> float:
        """Seconds between its keep-alives, announced or observed.

        Instances of amqp-fabric share one name, so a single gap between two keep-alives says
        little. The longest of many gaps is the interval of each.
        """
        if self.announcement is not None and self.announcement.interval is not None:
            return self.announcement.interval
        observed_for = self.last_seen - self._first_seen
        return max(
            self._observed_gap, 0.0 if observed_for >= ASSUMED_INTERVAL else ASSUMED_INTERVAL
        )

    @property
    def _observed_gap(self) -> float:
        return max(self._longest_gap, self._previous_longest_gap)

    @property
    def _gone_after(self) -> float:
        expiry = self.interval * GONE_AFTER + SLACK
        return max(expiry, CONFIRMED_SILENCE) if self._exchange_exists else expiry

    def confirm_exchange(self) -> None:
        """Record that the exchange of the service exists, until the next keep-alive."""
        self._exchange_exists = True

    def is_nearly_gone(self, now: float) -> bool:
        """Return whether silence alone will soon make it gone."""
        return (
            not self.has_left
            and self.interval * CHECK_AFTER < self.silence(now) < CONFIRMED_SILENCE
        )

    def grant_grace(self, now: float) -> None:
        """Do not count the next interval as silence, nor the time of a reconnect."""
        self._earlier_grace = self._grace(now)
        self._grace_start = now

    def _grace(self, now: float) -> float:
        """Return the seconds since the last keep-alive that are not silence."""
        if self._grace_start < self.last_seen:
            return 0.0
        granted = max(self.interval, RECONNECT_TIME)
        return self._earlier_grace + min(now - self._grace_start, granted)

    def silence(self, now: float) -> float:
        """Return the seconds in which a keep-alive could have been received, but was not."""
        return max(0.0, now - self.last_seen - self._grace(now))

    @property
    def gone_at(self) -> float:
        """Time from which on silence alone makes it gone, without a further keep-alive."""
        until = self.last_seen + self._gone_after
        if self._grace_start < self.last_seen:
            return until
        until += self._earlier_grace
        return until if until < self._grace_start else until + max(self.interval, RECONNECT_TIME)

    def state(self, now: float) -> ServiceState:
        """Return its state."""
        late_after = self.interval * LATE_AFTER + SLACK
        if not self.has_left and now - self.last_seen <= late_after:  # of which silence is a part
            return ServiceState.BUSY if self.is_busy else ServiceState.UP
        silence = self.silence(now)
        if self.has_left or silence > self._gone_after:
            return ServiceState.GONE
        if silence > late_after:
            return ServiceState.LATE
        if self.is_busy:
            return ServiceState.BUSY
        return ServiceState.UP


class QueueCounts(NamedTuple):
    """Counts of the queues of a service's methods.

    Attributes:
        consumers: number of consumers of the queue with the most, one for each instance.
        waiting: number of messages that wait in all of them, to be delivered to an instance.
        time: time of the count.
    """

    consumers: int = 0
    waiting: int = 0
    time: float = float("-inf")

    def plus(self, messages: int, consumers: int) -> QueueCounts:
        """Return the counts with those of another queue."""
        return self._replace(
            consumers=max(self.consumers, consumers), waiting=self.waiting + messages
        )


@dataclass(slots=True)
class Service:
    """Service in the registry.

    Attributes:
        since: time of its first keep-alive, or of the first after it was gone.
        instances: instances by id, including those that are gone.
        checked_silence: `last_seen` of the silence in which its exchange was looked up last.
        counted: time at which its queues were counted last, or that was refused.
    """

    name: ServiceName
    since: float = 0.0
    instances: dict[str, Instance] = field(default_factory=dict)
    _replied_methods: dict[str, str] = field(default_factory=dict)
    checked_silence: float = float("-inf")
    counted: float = float("-inf")
    _queues: QueueCounts | None = None
    _methods: Mapping[str, str] | None = None  # cached

    def copy(self) -> Service:
        """Return a copy, with copies of its instances."""
        new = copy(self)
        new.instances = {key: each.copy() for key, each in list(self.instances.items())}
        new._replied_methods = self._replied_methods.copy()  # noqa: SLF001 - of the same class
        return new

    def state(self, now: float) -> ServiceState:
        """Return the state of its best instance."""
        best = ServiceState.GONE
        for instance in self.instances.values():
            if (state := instance.state(now)) is ServiceState.UP:
                return state
            if state is not best and _ORDER.index(state) < _ORDER.index(best):
                best = state
        return best

    def present(self, now: float) -> list[Instance]:
        """Return the instances that are not gone."""
        return [
            instance
            for instance in self.instances.values()
            if instance.state(now) is not ServiceState.GONE
        ]

    def has_unnamed(self, now: float) -> bool:
        """Return whether instances without an id are present, which run amqp-fabric."""
        unnamed = self.instances.get("")
        return unnamed is not None and unnamed.state(now) is not ServiceState.GONE

    def queues(self, now: float) -> QueueCounts | None:
        """Return the counts of its queues; None if they are not known, or older than `COUNTED`."""
        if self._queues is None or now - self._queues.time > COUNTED or not self.has_unnamed(now):
            return None
        return self._queues

    def record_counts(self, counts: QueueCounts | None, now: float) -> bool:
        """Record counts, or that there are none; return whether the number of instances changes."""
        before, self._queues = self._queues, counts and counts._replace(time=now)
        self.counted = now
        return (before and before.consumers) != (counts and counts.consumers)

    def instance_count(self, now: float) -> tuple[int, bool]:
        """Return the number of present instances, and whether there may be more.

        There may if some run amqp-fabric, which sends no ids, and if their queues are not counted.
        """
        present = len(self.present(now))
        if not self.has_unnamed(now):
            return present, False
        queues = self.queues(now)
        if queues is None or not queues.consumers:
            return present, True
        return max(present, queues.consumers), False

    def versions(self, now: float) -> list[str]:
        """Return the versions of its present instances, or of all if none is present."""
        return versions_of(self.present(now) or self.instances.values())

    def statistics(self, now: float) -> CallStatistics | None:
        """Return the calls of its present instances together; None if none is known."""
        return CallStatistics.sum(
            [
                each.statistics.calls
                for each in self.instances.values()
                if each.statistics is not None and each.state(now) is not ServiceState.GONE
            ]
        )

    def call_rates(self, now: float) -> Sequence[float]:
        """Return the calls per second in the last five minutes, of its present instances together.

        They are empty if no instance has statistics; see `RateHistory.points`.
        """
        histories = []
        for each in self.present(now):
            if each.statistics is not None:
                # Of a late instance, the rate since its last keep-alive is unknown.
                late = each.state(now) is ServiceState.LATE
                current = None if late else each.statistics.calls.calls_s
                histories.append(each.statistics.history.points(now, current))
        return total_points(histories) if histories else ()

    def record_reply(self, method: str) -> None:
        """Record that a method has replied to a call: it exists, even if it is not announced.

        Built-in methods, whose names begin with an underscore, are not listed.
        """
        if method in self._replied_methods or method.startswith("_"):
            return
        if len(self._replied_methods) < MAX_REPLIED_METHODS:
            self._replied_methods[method] = ""
            self._methods = None

    def invalidate_methods(self) -> None:
        """Discard the cached methods, because an announcement has changed."""
        self._methods = None

    @property
    def methods(self) -> Mapping[str, str]:
        """Announced signatures by method name; the same object until they change.

        amqp-fabric announces none. Then they are the methods that have replied, with empty
        signatures.
        """
        if self._methods is None:
            announced: dict[str, str] = {}
            for instance in self.instances.values():
                if instance.announcement is not None:
                    announced.update(instance.announcement.methods)
            self._methods = MappingProxyType(announced or dict(self._replied_methods))
        return self._methods

    @property
    def replied_methods(self) -> tuple[str, ...]:
        """Methods that have replied to calls; empty if methods are announced."""
        replied = self._replied_methods
        return tuple(replied) if replied and self.methods.keys() == replied.keys() else ()

    @property
    def last_seen(self) -> float:
        """Time of the last keep-alive of any instance."""
        return max((instance.last_seen for instance in self.instances.values()), default=0.0)

    def is_silent(self, now: float) -> bool:
        """Return whether all its instances are late, and one of them is nearly gone."""
        instances = [each for each in self.instances.values() if not each.has_left]
        for each in instances:
            late_after = LATE_AFTER * each.interval
            if now - each.last_seen <= late_after or each.silence(now) <= late_after:
                return False
        return any(each.is_nearly_gone(now) for each in instances)

    def confirm_exchange(self, now: float) -> None:
        """Keep its silent instances late for a while, because its exchange exists."""
        for instance in self.instances.values():
            if not instance.has_left and instance.silence(now) < CONFIRMED_SILENCE:
                instance.confirm_exchange()


def versions_of(instances: Iterable[Instance]) -> list[str]:
    """Return the announced versions, sorted, each once."""
    return sorted({instance.version for instance in instances if instance.version})
