"""Live table of services, from their keep-alives."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from fabric_nb.fabric.discovery.clock import ReceptionClock
from fabric_nb.fabric.discovery.eviction import EvictionPolicy
from fabric_nb.fabric.discovery.instance_events import (
    InstanceEvent,
    InstanceEventKind,
    InstanceEvents,
)
from fabric_nb.fabric.discovery.services import (
    GONE_AFTER,
    Instance,
    QueueCounts,
    Service,
    ServiceState,
)
from fabric_nb.fabric.wire.keep_alives import Announcement, KeepAlive
from fabric_nb.fabric.wire.names import ServiceName, ServicePattern
from fabric_nb.fabric.wire.statistics import Statistics
from fabric_nb.libraries import importing

if TYPE_CHECKING:
    import pandas as pd

DROPPED_AFTER, DROP_PERIOD = 600.0, 60.0
"""Seconds after which an instance that is gone is dropped, and seconds between two searches."""
MAKE_ROOM_PERIOD = 1.0
"""Seconds between two such searches while the registry is full."""
MAX_SERVICES = 10_000
MAX_INSTANCES, MAX_ALL_INSTANCES = 1_000, 20_000
"""Maximum number of instances of one service, and of all together."""
MAX_METHOD_CHARS = 20_000_000
"""Maximum number of characters in the announced methods of all instances together."""
MAX_DOMAINS_NAMED = 3
"""Maximum number of other domains that an error names."""
MAX_STATES_COMPUTED = 500
"""Maximum number of services whose states are computed for that; for all it would take 0.1 s."""

WANTED = 10.0
"""Seconds for which queues are counted after a view has asked for it."""
COUNT_PERIOD = 30.0
"""Seconds between two counts of the queues of one service."""
_UP = (ServiceState.UP, ServiceState.BUSY)


class ServiceRow(NamedTuple):
    """Row of a service in `Registry.df`, where the columns are described."""

    domain: str
    type: str
    id: str
    version: str
    instances: int
    state: str
    last_seen: float
    methods: str
    waiting: int | None = None
    calls: int | None = None
    errors: int | None = None
    running: int | None = None
    calls_s: float | None = None
    errors_s: float | None = None
    p95_ms: float | None = None


_NULLABLE = dict.fromkeys(("calls", "errors", "running", "waiting"), "Int64") | dict.fromkeys(
    ("calls_s", "errors_s", "p95_ms"), "float64"
)
"""Types of columns that are empty for services without statistics."""


class Registry:
    """Services that have announced themselves, and their states.

    Example::

        fabric.registry.df                       # a row for each service
        fabric.registry.find("calc.c1")          # the services that match a short name
        [service.name.fqn for service in fabric.registry.services()]

    Its clock stops while no keep-alive can be received, because there is no connection or the loop
    is blocked. So all states stay as they were last known.

    Args:
        clock: monotonic seconds; replaced in tests.

    Attributes:
        changes: number of keep-alives received.
        revision: number that grows when an instance comes, leaves or changes its announcement,
            and when the connection is lost or made.
        instance_count: number of instances of all services.
        method_chars: number of characters in the announced methods of all instances, and in their
            statistics.
        eviction: order in which names are evicted when the registry is full; some never are.
        clock: clock of all states.
        on_reply: called with the name of a service and a method that has replied to a call; None:
            nothing is called.
        events: instances that have come, gone, or become busy; see `instance_events`.
        dropped: number of services and instances that were dropped, or not added, because the
            registry was full.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = ReceptionClock(clock)
        self._connected_at = self.clock()
        self.on_reply: Callable[[ServiceName, str], object] | None = None
        self._services: dict[ServiceName, Service] = {}
        self._order: list[Service] = []
        self.eviction = EvictionPolicy()
        self.events = InstanceEvents()
        self.instance_count = 0
        self.method_chars = 0
        self._changed = asyncio.Event()
        self._counts_wanted_until = float("-inf")
        self._next_counted = 0
        self._drop_at = self.clock() + DROP_PERIOD
        self._make_room_at = 0.0
        self.changes = 0
        self.revision = 0
        self.dropped = 0

    # -- the connection

    @property
    def stale(self) -> bool:
        """True while there is no connection, so that all states are the last known."""
        return self.clock.stopped

    @property
    def connected_for(self) -> float:
        """Seconds in which keep-alives could be received since the connection was made."""
        return 0.0 if self.stale else self.clock() - self._connected_at

    def connection_lost(self, since: float | None = None) -> None:
        """Stop the clock, now or as of the time of `time.monotonic` since when nothing arrived."""
        if not self.stale:
            self.clock.stop(since)
            self._connection_changed()

    def connection_made(self) -> None:
        """Resume the clock, and give other members time to reconnect."""
        if self.stale:
            self.clock.resume()
            now = self.clock()
            for service in self._services.values():
                for instance in service.instances.values():
                    instance.grant_grace(now)
        self._connected_at = self.clock()
        self._connection_changed()

    def tick(self) -> None:
        """Record that the loop is not blocked; see `ReceptionClock.tick`."""
        self.clock.tick()

    def _connection_changed(self) -> None:
        self.revision += 1
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # -- keep-alives

    def receive(self, keep_alive: KeepAlive, *, own: bool = False) -> Service | None:
        """Record a keep-alive or goodbye; return the service, or None if it is not added.

        An `own` service of this process is never evicted.
        """
        now = self.clock()
        if now >= self._drop_at:
            self.drop_expired(now)
        name = keep_alive.name
        service = self._services.get(name)
        if service is None:
            if keep_alive.leaving or not self._make_room(now):
                return None
            service = self._services[name] = Service(name, now)
            insort(self._order, service, key=attrgetter("name"))
        elif not keep_alive.leaving and service.state(now) is ServiceState.GONE:
            service.since = now
        self._record(service, keep_alive, now, own=own)
        if not keep_alive.leaving:
            self.eviction.record_keep_alive(name, now)
        if own:
            self.eviction.pin(name)
        self.changes += 1
        self._notify()
        return service

    def record_reply(self, name: ServiceName, method: str) -> None:
        """Record that a service has replied to a call: it has the method, and is never evicted."""
        if (service := self._services.get(name)) is not None:
            service.record_reply(method)
            self.eviction.pin(name)
        if self.on_reply is not None:
            self.on_reply(name, method)

    def copy_from(self, other: Registry) -> None:
        """Replace all services, and the clock, by copies of those of another registry.

        That one may belong to another thread: what it receives meanwhile is copied or not. The
        copied services are on probation; see `EvictionPolicy`.
        """
        self.clock = other.clock.copy()
        self._order = [service.copy() for service in list(other._order)]
        self._services = {service.name: service for service in self._order}
        self.eviction = EvictionPolicy()
        now = self.clock()
        for name in self._services:
            self.eviction.record_keep_alive(name, now)
        instances = [one for service in self._order for one in service.instances.values()]
        self.instance_count = len(instances)
        self.method_chars = sum(map(_instance_chars, instances))
        self.dropped = other.dropped
        self.revision += 1
        self._notify()

    def _record(self, service: Service, keep_alive: KeepAlive, now: float, *, own: bool) -> None:
        key = keep_alive.announcement.instance if keep_alive.announcement is not None else ""
        instance = service.instances.get(key)
        if keep_alive.leaving:
            if instance is not None and not instance.has_left:
                self._add_silence(service, instance, now)
                self._add_event("left", service, instance)
                instance.has_left = True
                self.revision += 1
        elif instance is not None:
            announcement = keep_alive.announcement
            gone = instance.state(now) is ServiceState.GONE
            if gone or announcement != instance.announcement:
                self._record_change(service, instance, announcement, now, gone=gone)
            else:
                instance.record_keep_alive(announcement, now)
        elif self._make_room_for_instance(service):
            announcement = self._within_limit(keep_alive.announcement, None)
            instance = service.instances[key] = Instance(key, announcement, now)
            self.instance_count += 1
            self.revision += 1
            self._add_event("came", service, instance)
            if instance.is_busy:
                self._add_event("busy", service, instance)
            service.invalidate_methods()
        else:
            self.dropped += 1
        if not (keep_alive.leaving or own):  # its statistics arrive with the sent keep-alives
            self._record_statistics(service.instances.get(key), keep_alive.statistics, now)

    def _record_change(
        self,
        service: Service,
        instance: Instance,
        announcement: Announcement | None,
        now: float,
        *,
        gone: bool,
    ) -> None:
        """Record the keep-alive of an instance that was gone, or announces something else."""
        if announcement != instance.announcement:
            announcement = self._within_limit(announcement, instance.announcement)
        if announcement != instance.announcement:
            service.invalidate_methods()
        elif not gone:  # its methods were omitted before, too
            instance.record_keep_alive(announcement, now)
            return
        self.revision += 1
        self._add_silence(service, instance, now)
        was_busy = instance.is_busy and not gone
        instance.record_keep_alive(announcement, now)
        if gone or (was_busy and not instance.is_busy):
            self._add_event("back", service, instance)
        if instance.is_busy and not was_busy:
            self._add_event("busy", service, instance)

    def _add_event(
        self, kind: InstanceEventKind, service: Service, instance: Instance, seconds: float = 0.0
    ) -> None:
        """Record an event that took place `seconds` ago."""
        moment = time.time() - seconds
        self.events.add(InstanceEvent(moment, kind, service.name.fqn, instance.id))

    def _add_silence(self, service: Service, instance: Instance, now: float) -> None:
        """Record that an instance was gone, before the record of what has ended its silence."""
        if not instance.has_left and instance.gone_at < now:
            seconds = self.clock.seconds_since(instance.gone_at)
            self._add_event("gone", service, instance, seconds)

    def instance_events(self) -> list[InstanceEvent]:
        """Return the instances that have come, gone or become busy, in the order of their times.

        Silence has no keep-alive that could record it, so that of instances that are silent now is
        computed here.
        """
        now, epoch = self.clock(), time.time()
        found = list(self.events)
        for service in self._order:
            for instance in service.instances.values():
                if not instance.has_left and instance.gone_at < now:
                    moment = epoch - self.clock.seconds_since(instance.gone_at)
                    found.append(InstanceEvent(moment, "gone", service.name.fqn, instance.id))
        return sorted(found, key=attrgetter("time"))

    def _record_statistics(
        self, instance: Instance | None, statistics: Statistics | None, now: float
    ) -> None:
        """Record statistics, without those of methods if all together are too long."""
        if instance is None:
            return
        self.method_chars -= _statistics_chars(instance)
        if statistics is not None and self.method_chars + statistics.size > MAX_METHOD_CHARS:
            omitted = statistics.more + len(statistics.methods)
            statistics = replace(statistics, methods={}, more=omitted, size=0)
        instance.record_statistics(statistics, now)
        self.method_chars += _statistics_chars(instance)

    def _make_room_for_instance(self, service: Service) -> bool:
        """Return whether one more instance fits; one that was seen once is evicted for it."""
        if self.instance_count >= MAX_ALL_INSTANCES:
            return False
        if len(service.instances) < MAX_INSTANCES:
            return True
        evicted = next((key for key, each in service.instances.items() if each.seen_once), None)
        if evicted is None:
            return False
        self.dropped += 1
        self.instance_count -= 1
        self.method_chars -= _instance_chars(service.instances.pop(evicted))
        return True

    def _within_limit(
        self, announcement: Announcement | None, previous: Announcement | None
    ) -> Announcement | None:
        """Return an announcement, without its methods if all together are too long."""
        self.method_chars -= _method_chars(previous)
        chars = _method_chars(announcement)
        if announcement is not None and self.method_chars + chars > MAX_METHOD_CHARS:
            omitted = announcement.more_methods + len(announcement.methods)
            return replace(announcement, methods={}, more_methods=omitted)
        self.method_chars += chars
        return announcement

    def _make_room(self, now: float) -> bool:
        """Return whether one more service fits; others are dropped or evicted for it."""
        if self._full and now >= self._make_room_at:
            self._make_room_at = now + MAKE_ROOM_PERIOD
            self.drop_expired(now)
        while self._full:
            self.dropped += 1
            if not self._evict(now):
                return False
        return True

    def _evict(self, now: float) -> bool:
        """Evict a service; return False if all are pinned."""
        name = self.eviction.evict(
            MAX_SERVICES, lambda name: self._services[name].state(now) in _UP
        )
        if name is None:
            return False
        instances = self._services.pop(name).instances
        self.instance_count -= len(instances)
        self.method_chars -= sum(map(_instance_chars, instances.values()))
        del self._order[bisect_left(self._order, name, key=attrgetter("name"))]
        self.revision += 1
        return True

    @property
    def _full(self) -> bool:
        return len(self._services) >= MAX_SERVICES or self.instance_count >= MAX_ALL_INSTANCES

    def drop_expired(self, now: float | None = None) -> None:
        """Drop services and instances that have been gone for ten minutes."""
        now = self.clock() if now is None else now
        self._drop_at = now + DROP_PERIOD
        for name, service in list(self._services.items()):
            for key, instance in list(service.instances.items()):
                if now - instance.last_seen > max(DROPPED_AFTER, instance.interval * GONE_AFTER):
                    self._add_silence(service, instance, now)
                    del service.instances[key]
                    self.instance_count -= 1
                    self.method_chars -= _instance_chars(instance)
                    self.revision += 1
                    service.invalidate_methods()
            if not service.instances:
                del self._services[name]
                self.eviction.remove(name)
        self._order = [service for service in self._order if service.instances]

    # -- silent services

    def newly_silent(self, limit: int) -> list[Service]:
        """Return services without recent keep-alives, each once for every silence."""
        now = self.clock()
        found: list[Service] = []
        for service in self._order:
            if len(found) >= limit:
                break
            last_seen = service.last_seen
            if service.checked_silence != last_seen and service.is_silent(now):
                service.checked_silence = last_seen
                found.append(service)
        return found

    def confirm_exchange(self, service: Service) -> None:
        """Keep a silent service late for a while, because its exchange exists at the broker."""
        service.confirm_exchange(self.clock())
        self.revision += 1

    # -- queues of services on amqp-fabric

    def want_counts(self) -> None:
        """Have the queues of services on amqp-fabric counted for the next `WANTED` seconds.

        Their consumers are their instances. The first counts are known after a second.
        """
        self._counts_wanted_until = self.clock() + WANTED

    def uncounted(self, limit: int, is_refused: Callable[[str], bool]) -> list[Service]:
        """Return services whose queues are to be counted now, in turn.

        Args:
            limit: maximum number of services.
            is_refused: returns whether the services of a domain cannot be counted.
        """
        now = self.clock()
        if self.stale or now > self._counts_wanted_until:
            return []
        found: list[Service] = []
        count = len(self._order)
        first = self._next_counted
        for position in range(first, first + count):
            service = self._order[position % count]
            if (
                "" in service.instances
                and now - service.counted >= COUNT_PERIOD
                and service.has_unnamed(now)
                and not is_refused(service.name.domain)
            ):
                found.append(service)
                if len(found) == limit:
                    self._next_counted = (position + 1) % count
                    break
        return found

    def record_counts(self, service: Service, counts: QueueCounts | None) -> None:
        """Record the counts of a service's queues; None: they are not known."""
        if service.record_counts(counts, self.clock()):
            self.revision += 1

    # -- queries

    @property
    def now(self) -> float:
        """Time on the registry's clock, which stops while no keep-alive can be received."""
        return self.clock()

    def get(self, name: ServiceName) -> Service | None:
        """Return the service of this address, present or gone; None if it is unknown."""
        return self._services.get(name)

    def services(
        self,
        *,
        domain: str | None = None,
        type: str | None = None,  # noqa: A002 - the field's word for it
        id: str | None = None,  # noqa: A002
        gone: bool = False,
    ) -> list[Service]:
        """Return services in the order of their names; with `gone` also those that are gone."""
        found = self._order
        if (domain, type, id) != (None, None, None):
            found = [
                service
                for service in found
                if domain in (None, service.name.domain)
                and type in (None, service.name.type)
                and id in (None, service.name.id)
            ]
        return list(found) if gone else self._present(found)

    def find(
        self, pattern: str | ServicePattern, *, domain: str = "", gone: bool = False
    ) -> list[Service]:
        """Return the services that a name matches; with `gone` also those that are gone."""
        if isinstance(pattern, str):
            pattern = ServicePattern.parse(pattern, domain=domain)
        found = [service for service in self._order if pattern.matches(service.name)]
        return found if gone else self._present(found)

    def describe_other_domains(self, domain: str, like: str = "") -> str:
        """Return a sentence on other domains with present services; empty if there are none.

        Args:
            domain: domain that is not named.
            like: id of a service; domains that have it come first, then those with the most
                services.
        """
        services: dict[str, list[Service]] = {}
        preferred: set[str] = set()
        for service in self._order:
            services.setdefault(service.name.domain, []).append(service)
            if service.name.id == like:
                preferred.add(service.name.domain)
        services.pop(domain, None)
        names = sorted(
            services, key=lambda name: (name not in preferred, -len(services[name]), name)
        )
        shown: list[str] = []
        budget = MAX_STATES_COMPUTED
        while names and budget > 0 and len(shown) < MAX_DOMAINS_NAMED:
            name = names.pop(0)
            examined = services[name][:budget]
            budget -= len(examined)
            if count := len(self._present(examined)):
                more = "+" if len(examined) < len(services[name]) else ""
                noun = "service" if count == 1 and not more else "services"
                shown.append(f"{name} ({count:,}{more} {noun}): `--domain {name}`")
        if not shown:
            return ""
        if names:
            shown.append(f"{len(names)} more domain{'s'[: len(names) > 1]}: `%fabric_services`")
        return f"Also on this broker: {'; '.join(shown)}."

    def _present(self, services: list[Service]) -> list[Service]:
        now = self.clock()
        return [service for service in services if service.state(now) is not ServiceState.GONE]

    def state(self, service: Service) -> ServiceState:
        """Return the current state of a service."""
        return service.state(self.clock())

    async def changed(self) -> None:
        """Wait until a keep-alive is received, or the connection is lost or made."""
        await self._changed.wait()

    @property
    def df(self) -> pd.DataFrame:
        """The registry as a DataFrame, a row for each service, gone ones included.

        Columns: domain, type, id, version (several joined by commas), instances (present ones, as
        far as they can be told apart or counted; see `want_counts`), state, last_seen (seconds
        ago), methods. Of the calls that present instances have served: calls and errors (totals
        since each began to serve), running, calls_s and errors_s (per second, between the last two
        keep-alives), p95_ms (95th percentile of the durations of the last minute with calls, in
        milliseconds; of several instances the highest). They are missing for services that announce
        none, as those on amqp-fabric. Only for these there is waiting, the number of calls in their
        queues, as far as these are known.
        """
        with importing("pandas"):
            import pandas as pd
        rows = [self.row(service) for service in self.services(gone=True)]
        return pd.DataFrame(rows, columns=list(ServiceRow._fields)).astype(_NULLABLE)

    def row(self, service: Service) -> ServiceRow:
        """Return the row of a service in `df`."""
        self.want_counts()
        now = self.clock()
        queues = service.queues(now)
        return ServiceRow(
            service.name.domain,
            service.name.type,
            service.name.id,
            ", ".join(service.versions(now)),
            service.instance_count(now)[0],
            str(service.state(now)),
            round(now - service.last_seen, 1),
            ", ".join(service.methods),
            None if queues is None else queues.waiting,
            *(service.statistics(now) or ()),
        )

    def __len__(self) -> int:
        return len(self._services)

    def __repr__(self) -> str:
        states = [str(self.state(service)) for service in self._services.values()]
        counts = ", ".join(
            f"{states.count(state)} {state}" for state in ServiceState if states.count(state)
        )
        return f"<Registry: {counts or 'no services'}>"


def _instance_chars(instance: Instance) -> int:
    return _method_chars(instance.announcement) + _statistics_chars(instance)


def _statistics_chars(instance: Instance) -> int:
    return 0 if instance.statistics is None else instance.statistics.last.size


def _method_chars(announcement: Announcement | None) -> int:
    if announcement is None:
        return 0
    return sum(len(name) + len(signature) for name, signature in announcement.methods.items())
