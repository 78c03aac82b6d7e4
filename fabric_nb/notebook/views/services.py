"""Services of a fabric as facts to show, shared by tables, cards and the panel. Pure.

    services = Services(fabric, Filter(type="calc"), limit=100)
    [(facts.name.id, facts.state, facts.count) for facts in services.select().services]

Each look renders the same facts: `views.registry` as a table, `views.card` as a page, `panel.tree`
as a tree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakKeyDictionary

from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.discovery.services import Service, ServiceState
from fabric_nb.fabric.discovery.statistics import CallStatistics
from fabric_nb.fabric.member import FabricMember
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.notebook.pages import Badge, Tone, counted

MANY, MANY_PERIOD = 500, 3.0
"""Number of services from which their ages are looked at less often, and seconds between that; an
arrival, a departure or a changed announcement is shown at once."""
SPARE = 100
"""Facts on dropped services that are kept."""
HIDDEN = "health_check"
"""Method that every service has; it is not listed."""
TONES: dict[ServiceState, Tone] = {
    ServiceState.UP: "good",
    ServiceState.BUSY: "busy",
    ServiceState.LATE: "warn",
    ServiceState.GONE: "bad",
}


def service_badge(state: ServiceState) -> Badge:
    """Return the badge for the state of a service or an instance."""
    return Badge(str(state), TONES[state])


@dataclass(frozen=True, slots=True)
class Filter:
    """Criteria for the services to show; None matches all.

    Attributes:
        gone: True to include services that are gone.
        own: False to exclude the services of this notebook.
    """

    domain: str | None = None
    type: str | None = None
    id: str | None = None
    gone: bool = False
    own: bool = True

    def matches(self, name: ServiceName) -> bool:
        """Return whether the name of a service has the domain, type and id."""
        return (
            self.domain in (None, name.domain)
            and self.type in (None, name.type)
            and self.id in (None, name.id)
        )


EVERY_PRESENT, EVERY = Filter(), Filter(gone=True)


@dataclass(frozen=True, slots=True)
class NotebookFacts:
    """Facts that only the notebook's own connection has, because they are not announced.

    Attributes:
        own: addresses of the notebook's services.
        replied: methods that have replied to its calls, by service that announces none.
    """

    own: Collection[ServiceName] = frozenset()
    replied: Mapping[ServiceName, Collection[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, fabric: FabricMember) -> NotebookFacts:
        """Return the facts of a notebook's connection."""
        return cls(
            frozenset([fabric.name, *(server.name for server in fabric.servers)]),
            {
                service.name: replied
                for service in fabric.registry.services(gone=True)
                if (replied := service.replied_methods)
            },
        )


@dataclass(frozen=True, slots=True, eq=False)
class Methods:
    """Methods of a service, without `HIDDEN`; the same object until they change.

    Attributes:
        announced: signatures by name, as announced.
        replied: methods that have replied to the notebook's calls.
        signatures: signatures by name; empty for methods that are known from replies only.
        unannounced: number of further methods, which did not fit into the announcement.
    """

    announced: Mapping[str, str]
    replied: Collection[str]
    signatures: Mapping[str, str]
    unannounced: int

    @classmethod
    def of(cls, service: Service, replied: Collection[str]) -> Methods:
        """Return the methods that a service announces, or those that have replied."""
        announced = service.methods
        announcements = [each.announcement for each in service.instances.values()]
        unannounced = [each.more_methods for each in announcements if each is not None]
        signatures = listed({**dict.fromkeys(replied, ""), **announced})
        return cls(announced, replied, signatures, max(unannounced, default=0))

    def more(self, shown: int) -> int:
        """Return the number of methods beyond the first `shown`."""
        return max(0, len(self.signatures) - shown) + self.unannounced


def listed(signatures: Mapping[str, str]) -> Mapping[str, str]:
    """Return the methods that are listed: all but `HIDDEN`."""
    return {name: text for name, text in signatures.items() if name != HIDDEN}


class InstanceFacts(NamedTuple):
    """An instance of a service; its id is empty for instances of amqp-fabric.

    Attributes:
        drains: callers may ask it to finish and leave.
    """

    id: str
    state: ServiceState
    version: str
    drains: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ServiceFacts:
    """A service; the same object until something other than times and statistics changes.

    Attributes:
        state: state of its best instance.
        instances: its instances, including those that are gone.
        count: number of present instances, with ``+`` if there may be more; see
            `Service.instance_count`.
        version: versions of the present instances, or of all if none is present.
        methods: its methods.
    """

    service: Service
    state: ServiceState
    instances: Sequence[InstanceFacts]
    count: str | int
    version: str
    methods: Methods

    @property
    def name(self) -> ServiceName:
        """Address."""
        return self.service.name

    @property
    def last_seen(self) -> float:
        """Time of the last keep-alive on the registry's clock."""
        return self.service.last_seen

    def statistics(self, now: float) -> CallStatistics | None:
        """Return the calls of its present instances; None if it announces none."""
        return self.service.statistics(now)


class Selection(NamedTuple):
    """Services that match a filter.

    Attributes:
        services: services within the limit: those of the notebook's domain, then others, by name.
            Beyond the limit, those that are gone are omitted first.
        more: number of services that were omitted.
        counts: number of services by state, including omitted ones.
        others: number of present services in the notebook's domain that are not its own.
        up: number of services in that domain that are up or busy, within the limit.
    """

    services: Sequence[ServiceFacts] = ()
    more: int = 0
    counts: Mapping[ServiceState, int] = Counter()
    others: int = 0
    up: int = 0


class Services:
    """Services that a member's registry contains, computed once for each `version`.

    Args:
        fabric: member whose registry is read.
        filter: criteria for the services to show.
        limit: maximum number of services to show.
        notebook: returns the facts of the notebook's connection, if `fabric` is another one.
    """

    def __init__(
        self,
        fabric: FabricMember,
        filter: Filter = EVERY_PRESENT,  # noqa: A002 - the field's word for it
        *,
        limit: int,
        notebook: Callable[[], NotebookFacts] | None = None,
    ) -> None:
        self.fabric = fabric
        self.filter = filter
        self._limit = limit
        self._notebook = notebook or (lambda: NotebookFacts.of(fabric))
        self._facts = _facts_of(fabric.registry)
        self._selection = Selection()
        self._selected_for: object = None

    def version(self) -> Hashable:
        """Return the registry's revision and the second, as states age."""
        registry = self.fabric.registry
        period = 1.0 if len(registry) < MANY else MANY_PERIOD
        return registry.revision, int(registry.now / period), self._unreadable

    def select(self) -> Selection:
        """Return the services to show; the same object until they may have changed."""
        notebook = self._notebook()
        version = self.version(), notebook
        if version != self._selected_for:
            self._selected_for = version
            self._selection = self._select(notebook)
        return self._selection

    def _select(self, notebook: NotebookFacts) -> Selection:
        registry, wanted, domain = self.fabric.registry, self.filter, self.fabric.domain
        registry.want_counts()
        facts, replied = self._facts, notebook.replied
        facts.update(registry, self.version())
        found = [
            pair
            for pair in facts.states
            if wanted.matches(pair[0].name) and (wanted.own or pair[0].name not in notebook.own)
        ]
        present = [pair for pair in found if pair[1] is not ServiceState.GONE]
        shown = found if wanted.gone else present
        shown = sorted(shown, key=lambda pair: pair[0].name.domain != domain)
        if len(shown) > self._limit:
            shown.sort(key=lambda pair: pair[1] is ServiceState.GONE)
        return Selection(
            [
                facts.of(service, state, replied.get(service.name, ()))
                for service, state in shown[: self._limit]
            ],
            max(0, len(shown) - self._limit),
            Counter(state for _, state in shown),
            sum(s.name.domain == domain and s.name not in notebook.own for s, _ in present),
            sum(
                state in (ServiceState.UP, ServiceState.BUSY) and service.name.domain == domain
                for service, state in shown[: self._limit]
            ),
        )

    def other_domains(self) -> str:
        """Return a sentence on other domains with services; empty if there are none."""
        return self.fabric.registry.describe_other_domains(self.fabric.domain)

    def notes(self) -> list[str]:
        """Return sentences on services that are not known, and on states that are out of date."""
        registry, notes = self.fabric.registry, []
        if registry.stale and self.select().counts:
            notes.append("Not connected, so no keep-alive is received: states are the last known.")
        if registry.dropped:
            notes.append(
                f"The registry is full ({len(registry):,} services):"
                f" {counted(registry.dropped, 'service')} dropped."
            )
        if self._unreadable:
            notes.append(f"{counted(self._unreadable, 'keep-alive')} could not be read.")
        return notes

    @property
    def _unreadable(self) -> int:
        return self.fabric.rejected.counts["keep-alive"]


class _FactsCache:
    """Facts on the services of a registry, computed once for all views and each version.

    Attributes:
        states: all services, in the order of their names, with their states.
    """

    def __init__(self) -> None:
        self.states: Sequence[tuple[Service, ServiceState]] = ()
        self._version: Hashable = None
        self._now = 0.0
        self._facts: dict[ServiceName, tuple[Hashable, ServiceFacts]] = {}

    def update(self, registry: Registry, version: Hashable) -> None:
        """Look at the registry again, unless its version is that of the last time."""
        if version == self._version:
            return
        self._version, self._now = version, (now := registry.now)
        self.states = [(one, one.state(now)) for one in registry.services(gone=True)]
        if len(self._facts) > 2 * len(registry) + SPARE:
            self._facts = {
                name: known for name, known in self._facts.items() if registry.get(name) is not None
            }

    def of(self, service: Service, state: ServiceState, replied: Collection[str]) -> ServiceFacts:
        """Return the facts on one of the services."""
        version, before = self._facts.get(service.name, (None, None))
        if (
            before is not None
            and version == self._version
            and before.service is service
            and before.methods.announced is service.methods
            and before.methods.replied == replied
        ):
            return before
        facts = _facts(service, state, self._now, replied, before)
        self._facts[service.name] = self._version, facts
        return facts


_caches: WeakKeyDictionary[Registry, _FactsCache] = WeakKeyDictionary()


def _facts_of(registry: Registry) -> _FactsCache:
    return _caches.setdefault(registry, _FactsCache())


def _facts(
    service: Service,
    state: ServiceState,
    now: float,
    replied: Collection[str],
    before: ServiceFacts | None,
) -> ServiceFacts:
    """Return the facts of a service; those from before if they are the same."""
    instances = [
        InstanceFacts(each.id, each.state(now), each.version, each.drains)
        for each in service.instances.values()
    ]
    count = _count(service, instances, now)
    methods = before.methods if before is not None and before.service is service else None
    if methods is None or methods.announced is not service.methods or methods.replied != replied:
        methods = Methods.of(service, replied)
    elif before is not None and (before.instances, before.count) == (instances, count):
        return before
    version = " + ".join(service.versions(now))
    return ServiceFacts(service, state, instances, count, version, methods)


def _count(service: Service, instances: Sequence[InstanceFacts], now: float) -> str | int:
    if not service.has_unnamed(now):
        return sum(each.state is not ServiceState.GONE for each in instances)
    count, more = service.instance_count(now)
    return f"{count}+" if more else count
