"""The live table of services, made from the keep-alives that are heard."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from operator import attrgetter
from types import MappingProxyType

import pandas as pd

from fabric_nb.fabric.discovery.clock import HearingClock
from fabric_nb.fabric.discovery.eviction import Places
from fabric_nb.fabric.wire.keep_alives import Announcement, KeepAlive
from fabric_nb.fabric.wire.names import ServiceName, ServicePattern

ASSUMED_INTERVAL = 5.0
"""Seconds; of members that do not tell their interval, until they were observed for so long."""
_OBSERVED_FOR = 30.0
"""Seconds; the longest gap of the last two such spans is what such members keep."""
LATE_AFTER, GONE_AFTER = 1.6, 3.2
"""In intervals: one missed keep-alive is late, three are gone."""
SLACK = 0.5
ASKED_AFTER = 2.2
"""In intervals of silence: when the broker is asked whether the service's exchange is there."""
RECONNECTED_AFTER = 8.0
"""Seconds within which others are back after an outage: amqp-fabric tries again every five."""
HELD_FOR = 30.0
"""Seconds of silence for which a service is late, and not gone, when its exchange is there: its
loop may be blocked, and its calls wait for it."""
FORGOTTEN_AFTER, FORGET_EVERY = 600.0, 60.0
LOOK_AGAIN_EVERY = 1.0
"""Seconds between two searches for room in a registry that is full."""
MAX_SERVICES = 10_000
MAX_INSTANCES, MAX_ALL_INSTANCES = 1_000, 20_000
"""Members of one service, and of all together."""
MAX_TOLD = 20_000_000
"""Characters that are kept of what all members tell of their methods."""
MAX_ANSWERED = 200
MAX_ELSEWHERE = 3
"""Other domains that are named where a service is looked for in vain."""
MAX_LOOKED_AT = 500
"""Services whose state is looked at for that; of ten thousand it would take a tenth of a second."""


class ServiceState(StrEnum):
    """How a service, or a member of it, is doing; from best to worst."""

    UP = "up"
    BUSY = "busy"
    LATE = "late"
    GONE = "gone"


_ORDER = list(ServiceState)
_HERE = (ServiceState.UP, ServiceState.BUSY)


@dataclass(slots=True)
class Instance:
    """One member of a clique. amqp-fabric members do not tell which they are, and share ``""``.

    `last_seen` is on the registry's clock.
    """

    id: str
    said: Announcement | None
    last_seen: float
    left: bool = False
    _excused_from: float = float("-inf")
    _excused: float = 0.0  # seconds of the same silence, before
    _held: bool = False
    _first_seen: float = field(init=False)
    _span_began: float = field(init=False)
    _longest_gap: float = 0.0
    _longest_gap_before: float = 0.0

    def __post_init__(self) -> None:
        self._first_seen = self._span_began = self.last_seen

    def heard(self, said: Announcement | None, now: float) -> None:
        """Another keep-alive; the silence of a member that was away is not its interval."""
        if self._known_gap and self.state(now) is ServiceState.GONE:
            self._first_seen = self._span_began = now
            self._longest_gap = self._longest_gap_before = 0.0
        elif not self.left:
            if now - self._span_began > _OBSERVED_FOR:
                self._span_began = now
                self._longest_gap_before, self._longest_gap = self._longest_gap, 0.0
            self._longest_gap = max(self._longest_gap, now - self.last_seen)
        self.said, self.last_seen, self.left = said, now, False
        self._held = False

    @property
    def heard_once(self) -> bool:
        """True while it was heard no second time."""
        return self.last_seen == self._first_seen

    @property
    def interval(self) -> float:
        """Seconds between its keep-alives: as told, or as observed.

        Members of amqp-fabric speak under one name, so that a gap between two of them says
        little; the longest of many is the interval of each.
        """
        if self.said is not None and self.said.interval is not None:
            return self.said.interval
        observed = self.last_seen - self._first_seen
        return max(self._known_gap, 0.0 if observed >= ASSUMED_INTERVAL else ASSUMED_INTERVAL)

    @property
    def _known_gap(self) -> float:
        return max(self._longest_gap, self._longest_gap_before)

    @property
    def _gone_after(self) -> float:
        expiry = self.interval * GONE_AFTER + SLACK
        return max(expiry, HELD_FOR) if self._held else expiry

    def hold(self) -> None:
        """Its service's exchange is there, so that it may be there too, until it is heard again."""
        self._held = True

    def questionable(self, now: float) -> bool:
        """Return whether it is about to be gone for its silence alone."""
        return not self.left and self.interval * ASKED_AFTER < self.silence(now) < HELD_FOR

    def excuse(self, now: float) -> None:
        """Do not count its next interval, and not the time in which it may still reconnect."""
        self._excused = self._excused_until(now)
        self._excused_from = now

    def _excused_until(self, now: float) -> float:
        if self._excused_from < self.last_seen:
            return 0.0
        return self._excused + min(now - self._excused_from, max(self.interval, RECONNECTED_AFTER))

    def silence(self, now: float) -> float:
        """Seconds for which it could have been heard, and was not."""
        return max(0.0, now - self.last_seen - self._excused_until(now))

    def state(self, now: float) -> ServiceState:
        """How it is doing at `now`."""
        silence = self.silence(now)
        if self.left or silence > self._gone_after:
            return ServiceState.GONE
        if silence > self.interval * LATE_AFTER + SLACK:
            return ServiceState.LATE
        if self.said is not None and self.said.busy_since is not None:
            return ServiceState.BUSY
        return ServiceState.UP


@dataclass(slots=True)
class Service:
    """A service as the registry knows it.

    Attributes:
        since: when it was first heard, or heard again after it was gone, on the registry's clock.
        asked_about: when it was last heard before the broker was asked whether it is there.
    """

    name: ServiceName
    since: float = 0.0
    instances: dict[str, Instance] = field(default_factory=dict)
    _answered: dict[str, str] = field(default_factory=dict)
    asked_about: float = float("-inf")
    _methods: Mapping[str, str] | None = None
    """As its members tell; None when that is to be found anew."""

    def state(self, now: float) -> ServiceState:
        """The state of its best member."""
        best = ServiceState.GONE
        for instance in self.instances.values():
            if (state := instance.state(now)) is ServiceState.UP:
                return state
            if state is not best and _ORDER.index(state) < _ORDER.index(best):
                best = state
        return best

    def present(self, now: float) -> list[Instance]:
        """The members that are not gone."""
        return [one for one in self.instances.values() if one.state(now) is not ServiceState.GONE]

    def versions(self, now: float) -> list[str]:
        """The versions of its present members, of all when none is present."""
        return versions_of(self.present(now) or self.instances.values())

    def answered(self, method: str) -> None:
        """A method has answered a call, so it is there, whether or not the service tells it."""
        if method not in self._answered and len(self._answered) < MAX_ANSWERED:
            self._answered[method] = ""
            self._methods = None

    def told_anew(self) -> None:
        """A member tells something else than before."""
        self._methods = None

    @property
    def methods(self) -> Mapping[str, str]:
        """Signatures by method name, as its members told; the same object until they change.

        amqp-fabric tells nothing: then the methods that have answered, with empty signatures.
        """
        if self._methods is None:
            told: dict[str, str] = {}
            for instance in self.instances.values():
                if instance.said is not None:
                    told.update(instance.said.methods)
            self._methods = MappingProxyType(told or dict(self._answered))
        return self._methods

    @property
    def last_seen(self) -> float:
        """When any of its members was last heard, on the registry's clock."""
        return max((one.last_seen for one in self.instances.values()), default=0.0)


class Registry:
    """The services that were heard, and how they are doing.

    Example::

        fabric.registry.df                       # a row for each service
        fabric.registry.find("calc.c1")          # what a short name means
        [service.name.fqn for service in fabric.registry.services()]

    Its clock stands still while no keep-alive can arrive, because there is no connection or the
    loop does not run, so that all states stay as they were last known.

    Args:
        clock: monotonic seconds; replaced in tests.

    Attributes:
        changes: goes up with every keep-alive.
        roster: goes up when an instance comes, leaves or announces something else, and when
            the connection is lost or made.
        dropped: services and members that were given up for others or not taken, because there
            was no room.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = HearingClock(clock)
        self._hears_since = self._clock()
        self._services: dict[ServiceName, Service] = {}
        self._order: list[Service] = []
        self._places = Places()
        self._members = 0
        self._told = 0
        self._heard = asyncio.Event()
        self._forget_at = self._clock() + FORGET_EVERY
        self._look_again_at = 0.0
        self.changes = 0
        self.roster = 0
        self.dropped = 0

    # -- whether anybody can be heard

    @property
    def deaf(self) -> bool:
        """True while there is no connection over which anybody could be heard."""
        return self._clock.deaf

    @property
    def hears_for(self) -> float:
        """Seconds for which others could be heard since the connection was made."""
        return 0.0 if self.deaf else self._clock() - self._hears_since

    def stop_hearing(self, since: float | None = None) -> None:
        """The connection is lost, or silent since that moment of `time.monotonic`."""
        if not self.deaf:
            self._clock.stop(since)
            self._change()

    def hear_again(self) -> None:
        """There is a connection."""
        if self.deaf:
            self._clock.go()
            now = self._clock()
            for service in self._services.values():
                for instance in service.instances.values():
                    instance.excuse(now)
        self._hears_since = self._clock()
        self._change()

    def pulse(self) -> None:
        """The loop runs; see `HearingClock.pulse`."""
        self._clock.pulse()

    def _change(self) -> None:
        self.roster += 1
        self._wake()

    def _wake(self) -> None:
        self._heard.set()
        self._heard = asyncio.Event()

    # -- in

    def heard(self, sign: KeepAlive, *, own: bool = False) -> Service | None:
        """Take in a keep-alive, or the last one of a member that leaves.

        A service of this process's `own` keeps its place.
        """
        now = self._clock()
        if now >= self._forget_at:
            self.forget(now)
        service = self._services.get(sign.name)
        if service is None:
            if sign.leaving or not self._room(now):
                return None
            service = self._services[sign.name] = Service(sign.name, now)
            insort(self._order, service, key=attrgetter("name"))
        elif not sign.leaving and service.state(now) is ServiceState.GONE:
            service.since = now
        self._take(service, sign, now)
        if not sign.leaving:
            self._places.heard(sign.name, now)
        if own:
            self._places.keep(sign.name)
        self.changes += 1
        self._wake()
        return service

    def answered(self, name: ServiceName, method: str) -> None:
        """A service has answered a call: it is there, has that method, and keeps its place."""
        if (service := self._services.get(name)) is not None:
            service.answered(method)
            self._places.keep(name)

    def _take(self, service: Service, sign: KeepAlive, now: float) -> None:
        key = sign.announcement.instance if sign.announcement is not None else ""
        instance = service.instances.get(key)
        if sign.leaving:
            if instance is not None and not instance.left:
                instance.left = True
                self.roster += 1
        elif instance is not None:
            said = self._affordable(sign.announcement, instance.said)
            if said != instance.said:
                service.told_anew()
                self.roster += 1
            elif instance.state(now) is ServiceState.GONE:
                self.roster += 1
            instance.heard(said, now)
        elif self._has_place(service):
            service.instances[key] = Instance(key, self._affordable(sign.announcement, None), now)
            self._members += 1
            self.roster += 1
            service.told_anew()
        else:
            self.dropped += 1

    def _has_place(self, service: Service) -> bool:
        """Return whether one more instance fits; one that was heard only once is evicted for it."""
        if self._members >= MAX_ALL_INSTANCES:
            return False
        if len(service.instances) < MAX_INSTANCES:
            return True
        once = next((key for key, one in service.instances.items() if one.heard_once), None)
        if once is None:
            return False
        self.dropped += 1
        self._members -= 1
        self._told -= _size(service.instances.pop(once).said)
        return True

    def _affordable(
        self, said: Announcement | None, before: Announcement | None
    ) -> Announcement | None:
        """What a member tells, without its methods when all have told too much together."""
        self._told -= _size(before)
        size = _size(said)
        if said is not None and self._told + size > MAX_TOLD:
            return replace(said, methods={}, more_methods=said.more_methods + len(said.methods))
        self._told += size
        return said

    def _room(self, now: float) -> bool:
        """Whether there is room for one more service and its first member."""
        if self._full and now >= self._look_again_at:
            self._look_again_at = now + LOOK_AGAIN_EVERY
            self.forget(now)
        while self._full:
            self.dropped += 1
            if not self._evict(now):
                return False
        return True

    def _evict(self, now: float) -> bool:
        """Give up the service that has proven itself least; False: there is none."""
        name = self._places.give_up(
            MAX_SERVICES, lambda name: self._services[name].state(now) in _HERE
        )
        if name is None:
            return False
        service = self._services.pop(name)
        self._members -= len(service.instances)
        self._told -= sum(_size(one.said) for one in service.instances.values())
        del self._order[bisect_left(self._order, name, key=attrgetter("name"))]
        self.roster += 1
        return True

    @property
    def _full(self) -> bool:
        return len(self._services) >= MAX_SERVICES or self._members >= MAX_ALL_INSTANCES

    def forget(self, now: float | None = None) -> None:
        """Drop services and members that have been gone for ten minutes."""
        now = self._clock() if now is None else now
        self._forget_at = now + FORGET_EVERY
        for name, service in list(self._services.items()):
            for key, instance in list(service.instances.items()):
                if now - instance.last_seen > max(FORGOTTEN_AFTER, instance.interval * GONE_AFTER):
                    del service.instances[key]
                    self._members -= 1
                    self._told -= _size(instance.said)
                    self.roster += 1
                    service.told_anew()
            if not service.instances:
                del self._services[name]
                self._places.drop(name)
        self._order = [service for service in self._order if service.instances]

    # -- out

    @property
    def now(self) -> float:
        """Time on the registry's clock, which stands still while no keep-alive can arrive."""
        return self._clock()

    def get(self, name: ServiceName) -> Service | None:
        """The service of that address, present or gone; None when it was never heard."""
        return self._services.get(name)

    def services(
        self,
        *,
        domain: str | None = None,
        type: str | None = None,  # noqa: A002 - the field's word for it
        id: str | None = None,  # noqa: A002
        gone: bool = False,
    ) -> list[Service]:
        """Services in order of their names; those that are gone only when asked for."""
        found = self._order
        if (domain, type, id) != (None, None, None):
            found = [
                one
                for one in found
                if domain in (None, one.name.domain)
                and type in (None, one.name.type)
                and id in (None, one.name.id)
            ]
        return list(found) if gone else self._present(found)

    def find(
        self, pattern: str | ServicePattern, *, domain: str = "", gone: bool = False
    ) -> list[Service]:
        """The services that a name can mean: those that are present, and with `gone` all."""
        if isinstance(pattern, str):
            pattern = ServicePattern.parse(pattern, domain=domain)
        found = [one for one in self._order if pattern.matches(one.name)]
        return found if gone else self._present(found)

    def elsewhere(self, domain: str, like: str = "") -> str:
        """Return a sentence on the other domains in which services are present, else nothing.

        Args:
            domain: the one that is looked at.
            like: an id; domains that have it come first, then those with the most services.
        """
        heard: dict[str, list[Service]] = {}
        liked: set[str] = set()
        for one in self._order:
            heard.setdefault(one.name.domain, []).append(one)
            if one.name.id == like:
                liked.add(one.name.domain)
        heard.pop(domain, None)
        names = sorted(heard, key=lambda one: (one not in liked, -len(heard[one]), one))
        shown: list[str] = []
        left = MAX_LOOKED_AT
        while names and left > 0 and len(shown) < MAX_ELSEWHERE:
            name = names.pop(0)
            looked_at = heard[name][:left]
            left -= len(looked_at)
            if count := len(self._present(looked_at)):
                more = "+" if len(looked_at) < len(heard[name]) else ""
                services = "service" if count == 1 and not more else "services"
                shown.append(f"{name} ({count:,}{more} {services}): `--domain {name}`")
        if not shown:
            return ""
        if names:
            shown.append(f"{len(names)} more domain{'s'[: len(names) > 1]}: `%fabric_services`")
        return f"Also on this broker: {'; '.join(shown)}."

    def _present(self, services: list[Service]) -> list[Service]:
        now = self._clock()
        return [one for one in services if one.state(now) is not ServiceState.GONE]

    def state(self, service: Service) -> ServiceState:
        """How a service is doing now."""
        return service.state(self._clock())

    def silent(self, most: int) -> list[Service]:
        """Return the first services without a recent keep-alive, each once for every silence."""
        now = self._clock()
        found: list[Service] = []
        for service in self._order:
            if len(found) >= most:
                break
            if service.asked_about == (last_seen := service.last_seen):
                continue
            members = [one for one in service.instances.values() if not one.left]
            late = all(one.silence(now) > LATE_AFTER * one.interval for one in members)
            if late and any(one.questionable(now) for one in members):
                service.asked_about = last_seen
                found.append(service)
        return found

    def hold(self, service: Service) -> None:
        """The exchange of a silent service is there: it is late, and not gone yet."""
        now = self._clock()
        for instance in service.instances.values():
            if not instance.left and instance.silence(now) < HELD_FOR:
                instance.hold()
        self.roster += 1

    async def changed(self) -> None:
        """Wait until a keep-alive is heard, or the connection is lost or made."""
        await self._heard.wait()

    @property
    def df(self) -> pd.DataFrame:
        """The registry as a DataFrame, a row for each service, gone ones included.

        Columns: domain, type, id, version (several joined by commas), instances (present
        members that can be told apart), state, last_seen (seconds ago), methods.
        """
        return pd.DataFrame(
            list(self._rows()),
            columns=[
                "domain",
                "type",
                "id",
                "version",
                "instances",
                "state",
                "last_seen",
                "methods",
            ],
        )

    def _rows(self) -> Iterator[tuple[object, ...]]:
        now = self._clock()
        for service in self.services(gone=True):
            name = service.name
            yield (
                name.domain,
                name.type,
                name.id,
                ", ".join(service.versions(now)),
                len(service.present(now)),
                str(service.state(now)),
                round(now - service.last_seen, 1),
                ", ".join(service.methods),
            )

    def __len__(self) -> int:
        return len(self._services)

    def __repr__(self) -> str:
        states = [str(self.state(service)) for service in self._services.values()]
        counts = ", ".join(f"{states.count(s)} {s}" for s in ServiceState if states.count(s))
        return f"<Registry: {counts or 'nobody heard yet'}>"


def versions_of(members: Iterable[Instance]) -> list[str]:
    """The versions that they tell, each once."""
    return sorted({one.said.version for one in members if one.said and one.said.version})


def _size(said: Announcement | None) -> int:
    if said is None:
        return 0
    return sum(len(name) + len(signature) for name, signature in said.methods.items())
