"""Registry of services, their states, and the resolver of names."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric_nb.errors import (
    AmbiguousService,
    CallTimeout,
    InvalidName,
    MethodNotFound,
    UnknownService,
    VersionMismatch,
)
from fabric_nb.fabric.amqp.translation import Unroutable
from fabric_nb.fabric.discovery import registry, resolver
from fabric_nb.fabric.discovery.clock import ReceptionClock
from fabric_nb.fabric.discovery.eviction import ESTABLISHED_AFTER
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.discovery.resolver import Resolver
from fabric_nb.fabric.discovery.services import QueueCounts, Service, ServiceState
from fabric_nb.fabric.wire.keep_alives import Announcement, KeepAlive
from fabric_nb.fabric.wire.names import ServiceName, ServicePattern
from fabric_nb.fabric.wire.statistics import MAX_COUNT, MAX_MS, CallCounts, Statistics

CALC = ServiceName("d", "calc", "c1")
UP, BUSY, LATE, GONE = ServiceState


class Clock:
    """Clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Receiver:
    """Registry with a clock, and functions that pass keep-alives to it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.registry = Registry(self.clock)

    def receive(
        self,
        name: ServiceName = CALC,
        instance: str | None = "i1",
        *,
        leaving: bool = False,
        statistics: Statistics | None = None,
        **announced: Any,
    ) -> Service | None:
        """Receive a keep-alive; of an amqp-fabric peer if there is no instance."""
        announcement = (
            None
            if instance is None
            else Announcement(**{"instance": instance, "interval": 5.0, **announced})
        )
        return self.registry.receive(
            KeepAlive(name, announcement, leaving=leaving, statistics=statistics)
        )

    def peer(self, interval: float, times: int, name: ServiceName = CALC) -> None:
        """Receive keep-alives of an amqp-fabric peer, the last of them now."""
        for time in range(times):
            self.clock.now += interval if time else 0
            self.receive(name, None)

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    def state(self, name: ServiceName = CALC) -> ServiceState:
        service = self.registry.get(name)
        assert service is not None
        return self.registry.state(service)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


# -- states


def test_known_after_one_keep_alive(receiver: Receiver) -> None:
    """A service is known, and up, after one keep-alive; so are its methods."""
    assert receiver.registry.get(CALC) is None
    receiver.receive(version="1.2", methods={"multiply": "(x, y)"})
    assert receiver.state() is UP
    [service] = receiver.registry.find("c1", domain="d")
    assert service.name == CALC
    assert service.methods == {"multiply": "(x, y)"}


@pytest.mark.parametrize(
    ("silence", "state"), [(0, UP), (8, UP), (9, LATE), (16, LATE), (17, GONE), (500, GONE)]
)
def test_late_and_gone_by_its_own_interval(
    receiver: Receiver, silence: float, state: object
) -> None:
    """A service is late after one missed keep-alive and gone after three, by its own interval."""
    receiver.receive(interval=5.0)
    slow = ServiceName("d", "calc", "slow")
    receiver.receive(slow, interval=50.0)
    receiver.wait(silence)
    assert receiver.state() is state
    assert receiver.state(slow) is (UP if silence < 80 else GONE)


def test_interval_of_a_peer_is_observed(receiver: Receiver) -> None:
    """The interval of an amqp-fabric peer, which announces none, is observed."""
    receiver.peer(interval=30, times=4)
    receiver.wait(45)
    assert receiver.state() is UP
    receiver.wait(10)
    assert receiver.state() is LATE
    receiver.wait(50)
    assert receiver.state() is GONE


def test_interval_of_a_peer_is_assumed_at_first(receiver: Receiver) -> None:
    """After one keep-alive of a peer, the assumed interval is five seconds."""
    receiver.peer(interval=0, times=1)
    receiver.wait(8)
    assert receiver.state() is UP
    receiver.wait(9)
    assert receiver.state() is GONE


def test_absence_of_a_peer_is_not_its_interval(receiver: Receiver) -> None:
    """A peer that was gone for an hour is late and gone as quickly as before."""
    receiver.peer(interval=5, times=5)
    receiver.wait(3600)
    assert receiver.state() is GONE
    receiver.peer(interval=5, times=3)
    assert receiver.state() is UP
    receiver.wait(17)
    assert receiver.state() is GONE


def test_peer_with_a_new_interval(receiver: Receiver) -> None:
    """A peer that returns with a longer interval is up between its keep-alives."""
    receiver.peer(interval=5, times=5)
    receiver.peer(interval=60, times=4)
    receiver.wait(59)
    assert receiver.state() is UP


def test_busy(receiver: Receiver) -> None:
    """An instance is busy while it announces that it is busy, and is not silent."""
    receiver.receive(busy_since=1.0)
    assert receiver.state() is BUSY
    receiver.wait(9)
    assert receiver.state() is LATE
    receiver.receive()
    assert receiver.state() is UP


def test_goodbye(receiver: Receiver) -> None:
    """After a goodbye a service is gone at once, and up again after its next keep-alive."""
    receiver.receive()
    receiver.receive(leaving=True)
    assert receiver.state() is GONE
    assert receiver.registry.services() == []
    assert [service.name for service in receiver.registry.services(gone=True)] == [CALC]
    receiver.receive()
    assert receiver.state() is UP


def test_goodbye_of_an_unknown_service(receiver: Receiver) -> None:
    """A goodbye of an unknown service or instance changes nothing."""
    receiver.receive(leaving=True)
    receiver.receive(ServiceName("d", "t", "i"), None, leaving=True)
    assert len(receiver.registry) == 0
    receiver.receive()
    receiver.receive(instance="other", leaving=True)
    assert receiver.state() is UP


# -- cliques


def test_clique_has_the_state_of_its_best_instance(receiver: Receiver) -> None:
    """A service has the state of its best instance."""
    receiver.receive(instance="a", busy_since=1.0)
    receiver.receive(instance="b")
    assert receiver.state() is UP
    receiver.receive(instance="b", leaving=True)
    assert receiver.state() is BUSY
    service = receiver.registry.get(CALC)
    assert service is not None
    assert [each.id for each in service.present(receiver.clock.now)] == ["a"]


def test_clique_of_mixed_versions(receiver: Receiver) -> None:
    """The versions of a clique are those of its present instances."""
    receiver.receive(instance="a", version="1.0")
    receiver.receive(instance="b", version="1.1")
    service = receiver.receive(instance="c", version="1.1")
    assert service is not None
    assert service.versions(receiver.clock.now) == ["1.0", "1.1"]
    receiver.receive(instance="a", leaving=True)
    assert service.versions(receiver.clock.now) == ["1.1"]
    receiver.wait(100)
    assert service.versions(receiver.clock.now) == ["1.0", "1.1"]


def test_instances_without_id_count_as_one(receiver: Receiver) -> None:
    """Instances of amqp-fabric, which have no id, count as one."""
    for _ in range(3):
        receiver.receive(instance=None)
    service = receiver.receive(instance="a", methods={"f": "()"})
    assert service is not None
    assert len(service.present(receiver.clock.now)) == 2
    assert service.methods == {"f": "()"}
    receiver.receive(instance="a", leaving=True)
    assert receiver.state() is UP


def test_methods_of_a_clique(receiver: Receiver) -> None:
    """The methods of a service are those that any of its instances announces."""
    receiver.receive(instance="a", methods={"f": "()", "g": "(x)"})
    service = receiver.receive(instance="b", methods={"g": "(x, y)"})
    assert service is not None
    assert service.methods == {"f": "()", "g": "(x, y)"}
    peer = receiver.receive(ServiceName("d", "t", "i"), None)
    assert peer is not None
    assert peer.methods == {}


# -- bounds


def test_long_gone_services_are_dropped(receiver: Receiver) -> None:
    """A service that has been gone for ten minutes is dropped."""
    receiver.receive()
    other = ServiceName("d", "calc", "other")
    receiver.wait(599)
    receiver.receive(other)
    assert receiver.registry.get(CALC) is not None
    receiver.wait(62)
    receiver.receive(other)
    assert receiver.registry.get(CALC) is None
    assert receiver.registry.get(other) is not None


def test_slow_services_are_not_dropped(receiver: Receiver) -> None:
    """A service that announces itself once an hour is not dropped in between."""
    receiver.receive(interval=3600.0)
    receiver.wait(3500)
    receiver.registry.drop_expired()
    assert receiver.state() is UP


def test_instances_that_left_make_room(receiver: Receiver) -> None:
    """A service that restarts often does not reach its maximum of instances."""
    for number in range(registry.MAX_INSTANCES + 50):
        receiver.receive(instance=f"i{number}")
        receiver.receive(instance=f"i{number}", leaving=True)
        receiver.wait(10)
    service = receiver.receive(instance="last")
    assert service is not None
    assert service.state(receiver.clock.now) is UP
    assert len(service.instances) < 100
    assert receiver.registry.dropped == 0


def test_number_of_services_is_bounded(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Services beyond the limit evict others and are counted; long gone ones are dropped."""
    monkeypatch.setattr(registry, "MAX_SERVICES", 3)
    for number in range(5):
        receiver.receive(ServiceName("d", "t", f"i{number}"))
    assert (len(receiver.registry), receiver.registry.dropped) == (3, 2)
    receiver.wait(1000)
    receiver.receive(ServiceName("d", "t", "new"))
    assert [service.name.id for service in receiver.registry.services(gone=True)] == ["new"]


def test_number_of_instances_is_bounded(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instances beyond the limit evict those that were seen once, and are counted."""
    monkeypatch.setattr(registry, "MAX_INSTANCES", 3)
    receiver.receive(instance="i0")
    receiver.wait(1)
    receiver.receive(instance="i0")
    for number in range(1, 6):
        receiver.receive(instance=f"i{number}")
    service = receiver.registry.get(CALC)
    assert service is not None
    assert set(service.instances) == {"i0", "i4", "i5"}
    assert receiver.registry.dropped == 3
    receiver.wait(1)
    for number in (0, 4, 5, 6):
        receiver.receive(instance=f"i{number}")
    assert set(service.instances) == {"i0", "i4", "i5"}


def ids(receiver: Receiver) -> set[str]:
    """Return the ids of all services in the registry."""
    return {each.name.id for each in receiver.registry.services(gone=True)}


def announce_once(receiver: Receiver, first: int, count: int, **announced: Any) -> None:
    """Receive keep-alives of many services, one of each."""
    for number in range(first, first + count):
        receiver.receive(ServiceName("d", "t", f"p{number}"), interval=3600.0, **announced)


def test_repeated_keep_alives_survive_a_flood_of_names(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a full registry a new service is added, and kept once it has announced itself often."""
    monkeypatch.setattr(registry, "MAX_SERVICES", 100)
    announce_once(receiver, 0, 300)
    honest = ServiceName("d", "shop", "honest")
    for _ in range(ESTABLISHED_AFTER):
        receiver.receive(honest)
        assert receiver.registry.find("honest", domain="d")
        announce_once(receiver, 1000, 9)  # fewer than the places on probation
        receiver.wait(4)
    announce_once(receiver, 2000, 1000)
    assert "honest" in ids(receiver)
    assert len(receiver.registry) == 100
    assert sorted(ids(receiver)) == [each.name.id for each in sorted_by_id(receiver)]


def sorted_by_id(receiver: Receiver) -> list[Service]:
    """Return all services, sorted by id."""
    return sorted(receiver.registry.services(gone=True), key=lambda each: each.name.id)


def test_services_that_replied_are_not_evicted(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own services, and services that have replied, are never evicted."""
    monkeypatch.setattr(registry, "MAX_SERVICES", 10)
    receiver.receive(ServiceName("d", "t", "answers"))
    receiver.registry.record_reply(ServiceName("d", "t", "answers"), "f")
    own = KeepAlive(ServiceName("d", "t", "own"), Announcement(instance="me", interval=5.0))
    receiver.registry.receive(own, own=True)
    for round_ in range(5):
        for number in range(50):
            receiver.receive(ServiceName("d", "t", f"p{number}"))
            receiver.receive(ServiceName("d", "t", f"q{round_}-{number}"))
        receiver.wait(2)
    assert {"answers", "own"} <= ids(receiver)
    assert len(receiver.registry) == 10
    service = receiver.registry.get(ServiceName("d", "t", "answers"))
    assert service is not None
    assert list(service.methods) == ["f"]


def test_new_service_among_established_names(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a registry full of established names a new service is added."""
    monkeypatch.setattr(registry, "MAX_SERVICES", 300)
    honest = ServiceName("d", "shop", "honest")
    for _ in range(ESTABLISHED_AFTER + 2):
        announce_once(receiver, 0, 300)
        receiver.wait(4)
    for _ in range(ESTABLISHED_AFTER):
        receiver.receive(honest)
        announce_once(receiver, 0, 300)
        assert receiver.registry.find("honest", domain="d")
        receiver.wait(4)
    assert len(receiver.registry) == 300


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.floats(0, 5)), max_size=200))
def test_counts_of_a_full_registry(
    steps: list[tuple[int, bool, float]],
) -> None:
    """The counts are right, however services come, leave and reply."""
    receiver = Receiver()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "MAX_SERVICES", 8)
        patch.setattr(registry, "MAX_ALL_INSTANCES", 12)
        patch.setattr(registry, "MAX_INSTANCES", 2)
        for number, leaving, seconds in steps:
            name = ServiceName("d", "t", f"s{number // 2}")
            calls = CallCounts(number, 0, 0)
            receiver.receive(
                name,
                f"i{number}",
                leaving=leaving,
                statistics=Statistics(1.0, calls, {"f": calls}, size=9) if number % 2 else None,
                methods={"f": "x" * number},
            )
            if seconds > 4.5:
                receiver.registry.record_reply(name, "g")
            receiver.wait(seconds)
        services = receiver.registry.services(gone=True)
        assert len(services) == len(receiver.registry) <= 8
        assert (
            receiver.registry.instance_count == sum(len(each.instances) for each in services) <= 12
        )
        assert receiver.registry.method_chars == sum(
            len(signature) + len(method)
            for each in services
            for instance in each.instances.values()
            if instance.announcement is not None
            for method, signature in instance.announcement.methods.items()
        ) + sum(
            instance.statistics.last.size
            for each in services
            for instance in each.instances.values()
            if instance.statistics is not None
        )
        assert receiver.registry.eviction.names == {each.name for each in services}


# -- statistics


def counted(since: float, calls: int, errors: int = 0, p95: float | None = None) -> Statistics:
    return Statistics(since, CallCounts(calls, errors, 1, p95))


def test_statistics_of_a_service(receiver: Receiver) -> None:
    """The registry has totals at once and rates after two keep-alives, summed over instances."""
    receiver.receive(instance="a", statistics=counted(100.0, 1000, 10, 8.0))
    receiver.receive(instance="b", statistics=counted(0.0, 0))
    receiver.receive(ServiceName("d", "old", "peer"), None)
    frame = receiver.registry.df.set_index("type")
    assert frame.loc["calc", "calls":].tolist()[:3] == [1000, 10, 2]
    assert frame.loc["calc", "p95_ms"] == 8.0
    assert frame.loc["calc", ["calls_s", "errors_s"]].isna().all()
    assert frame.loc["old", "calls":].isna().all()
    receiver.wait(4)
    receiver.receive(instance="a", statistics=counted(104.0, 1040, 11, 6.0))
    receiver.receive(instance="b", statistics=counted(4.0, 4, 0, 7.0))
    assert receiver.registry.df.iloc[0]["calls":"p95_ms"].tolist() == [1044, 11, 2, 11.0, 0.25, 7.0]
    receiver.receive(instance="a", leaving=True)
    assert receiver.registry.df.iloc[0]["calls":"p95_ms"].tolist() == [4, 0, 1, 1.0, 0.0, 7.0]


def test_statistics_are_no_revision(receiver: Receiver) -> None:
    """Keep-alives that differ in statistics only are no revision of the registry."""
    receiver.receive(statistics=counted(0.0, 0))
    before = receiver.registry.revision
    receiver.receive(statistics=counted(5.0, 100))
    assert receiver.registry.revision == before


def test_rate_does_not_depend_on_the_time_of_receipt(receiver: Receiver) -> None:
    """Keep-alives that were received late, and together, give the rate at their sender."""
    receiver.receive(statistics=counted(0.0, 0))
    receiver.wait(9)
    for since, calls in ((4.0, 40), (8.0, 80)):
        receiver.receive(statistics=counted(since, calls))
    assert receiver.registry.df.calls_s[0] == 10.0
    receiver.wait(4)  # a keep-alive was lost
    receiver.receive(statistics=counted(16.0, 160))
    assert receiver.registry.df.calls_s[0] == 10.0


def test_an_instance_that_counts_from_zero_again(receiver: Receiver) -> None:
    """Totals that are lower than before give no negative rate: the counting began again."""
    receiver.receive(statistics=counted(0.0, 1000))
    receiver.receive(statistics=counted(5.0, 2000))
    receiver.receive(statistics=counted(1.0, 10))
    assert receiver.registry.df.calls[0] == 10
    assert receiver.registry.df.calls_s.isna()[0]
    receiver.receive(statistics=counted(6.0, 20))
    assert receiver.registry.df.calls_s[0] == 2.0
    receiver.receive(statistics=None)  # it serves nothing any more
    assert receiver.registry.df.calls.isna()[0]


def test_history_of_a_service(receiver: Receiver) -> None:
    """The history has the mean rate of every five seconds of the last five minutes."""

    def rates() -> list[float]:
        service = receiver.registry.get(CALC)
        assert service is not None
        return [rate for rate in service.call_rates(receiver.registry.now) if not math.isnan(rate)]

    assert receiver.receive(interval=2.5, statistics=counted(0.0, 0)) is not None
    calls = 0
    for step in range(1, 5):
        receiver.wait(2.5)
        calls += 10 * step
        receiver.receive(interval=2.5, statistics=counted(2.5 * step, calls))
    assert rates() == [6.0, 14.0]
    receiver.wait(5)  # it is late
    assert receiver.state() is LATE
    assert rates() == [6.0, 14.0]
    for step in range(5, 200):
        receiver.receive(interval=2.5, statistics=counted(2.5 * step + 2.5, calls))
        receiver.wait(2.5)
    assert rates() == [0.0] * 60


def test_history_of_slow_instances(receiver: Receiver) -> None:
    """Between the keep-alives of an instance its rate continues, so that sums do not drop."""
    for seconds in range(0, 180, 10):
        for instance, phase in (("a", 0), ("b", 20), ("c", 40)):
            if seconds % 60 == phase:
                receiver.receive(
                    instance=instance, interval=60, statistics=counted(seconds, seconds * 2)
                )
        receiver.wait(10)
    service = receiver.registry.get(CALC)
    assert service is not None
    assert service.call_rates(receiver.registry.now)[-16:] == [6.0] * 16


steps = st.tuples(
    st.builds(
        Statistics,
        st.floats(0, 1e11),
        st.builds(CallCounts, *(st.integers(0, MAX_COUNT),) * 3, st.none() | st.floats(0, MAX_MS)),
    ),
    st.floats(0, 1000),
)


@given(st.lists(steps, max_size=20))
def test_rates_of_any_statistics(received: list[tuple[Statistics, float]]) -> None:
    """Any counts, also ones that jump, give rates from zero upward, and 60 points."""
    receiver = Receiver()
    for statistics, seconds in received:
        service = receiver.receive(statistics=statistics)
        assert service is not None
        calls = service.statistics(receiver.registry.now)
        assert calls is not None
        assert calls[:2] == statistics.total[:2]
        rates = [calls.calls_s, calls.errors_s, *service.call_rates(receiver.registry.now)]
        assert len(rates) == 62
        assert all(0 <= rate < math.inf for rate in rates if rate is not None and rate == rate)
        receiver.wait(seconds)


def test_methods_of_statistics_are_bounded(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit, statistics are kept without those by method, which are counted."""
    monkeypatch.setattr(registry, "MAX_METHOD_CHARS", 1000)
    counts = CallCounts(1, 0, 0)
    for instance in "abc":
        statistics = Statistics(1.0, counts, {"f": counts, "g": counts}, more=1, size=400)
        service = receiver.receive(instance=instance, statistics=statistics)
    assert service is not None
    kept = [each.statistics.last for each in service.instances.values() if each.statistics]
    assert [len(each.methods) for each in kept] == [2, 2, 0]
    assert [each.more for each in kept] == [1, 1, 3]


# -- queues of services on amqp-fabric


def test_queues_are_counted_in_turn(receiver: Receiver) -> None:
    """Queues are counted while that is wanted, of a few services at a time, each in its turn."""
    counted_: list[str] = []
    for number in range(10):
        receiver.receive(ServiceName("d", "old", f"s{number}"), None)
        receiver.receive(ServiceName("d", "new", f"s{number}"), "i")
    assert receiver.registry.uncounted(4, lambda _: False) == []
    receiver.registry.want_counts()
    for _ in range(4):
        services = receiver.registry.uncounted(4, lambda _: False)
        for service in services:
            receiver.registry.record_counts(service, None)
        counted_ += [str(service.name) for service in services]
    assert sorted(counted_) == [f"d.old.s{number}" for number in range(10)]
    receiver.wait(registry.WANTED + 1)
    for number in range(10):
        receiver.receive(ServiceName("d", "old", f"s{number}"), None)
    assert receiver.registry.uncounted(4, lambda _: False) == []
    receiver.registry.want_counts()
    assert receiver.registry.uncounted(4, lambda _: False) == []  # counted less than 30 s ago
    receiver.wait(registry.COUNT_PERIOD)
    receiver.registry.want_counts()
    for number in range(10):
        receiver.receive(ServiceName("d", "old", f"s{number}"), None)
    assert len(receiver.registry.uncounted(4, lambda _: False)) == 4
    assert receiver.registry.uncounted(4, lambda domain: domain == "d") == []


def test_instances_by_consumers(receiver: Receiver) -> None:
    """The consumers of a queue are the instances, as long as the count is valid."""
    service = receiver.receive(CALC, None)
    assert service is not None
    now = receiver.registry.now
    assert service.instance_count(now) == (1, True)
    before = receiver.registry.revision
    receiver.registry.record_counts(service, QueueCounts(consumers=3, waiting=2))
    assert receiver.registry.revision > before
    assert service.instance_count(now) == (3, False)
    receiver.receive(CALC, "named")  # one of them runs fabric_nb
    assert service.instance_count(now) == (3, False)
    row = receiver.registry.row(service)
    assert (row.instances, row.waiting) == (3, 2)
    before = receiver.registry.revision
    receiver.registry.record_counts(service, QueueCounts(consumers=3, waiting=7))
    assert receiver.registry.revision == before
    assert service.instance_count(now + 15) == (3, False)  # late
    assert service.instance_count(now + 60) == (0, False)  # gone
    receiver.registry.record_counts(service, None)
    assert service.instance_count(now) == (2, True)


# -- queries


def test_services_by_exact_names(receiver: Receiver) -> None:
    """Services are listed in order and filtered by exact names; gone ones on request only."""
    names = [
        ServiceName(d, t, i) for d in ("e", "dd", "d") for t in ("t", "tt") for i in ("i", "j")
    ]
    for name in names:
        receiver.receive(name)
    assert [service.name for service in receiver.registry.services()] == sorted(names)
    assert [s.name.fqn for s in receiver.registry.services(domain="d", type="t")] == [
        "d.t.i",
        "d.t.j",
    ]
    assert [s.name.fqn for s in receiver.registry.services(domain="d", id="i")] == [
        "d.t.i",
        "d.tt.i",
    ]
    assert [s.name.fqn for s in receiver.registry.find("t.i", domain="dd")] == ["dd.t.i"]
    assert receiver.registry.services(domain="proj") == []


def test_table(receiver: Receiver) -> None:
    """The registry is a DataFrame, also while it is empty."""
    assert list(receiver.registry.df.columns) == [
        "domain",
        "type",
        "id",
        "version",
        "instances",
        "state",
        "last_seen",
        "methods",
        "waiting",
        "calls",
        "errors",
        "running",
        "calls_s",
        "errors_s",
        "p95_ms",
    ]
    assert repr(receiver.registry) == "<Registry: no services>"
    receiver.receive(version="1.0", methods={"f": "()", "g": "()"})
    receiver.receive(instance="b", version="2.0")
    receiver.receive(ServiceName("a", "t", "i"), None)
    receiver.wait(6)
    receiver.receive(instance="b", version="2.0")
    frame = receiver.registry.df.loc[:, :"methods"]
    assert frame.to_numpy().tolist() == [
        ["a", "t", "i", "", 1, "up", 6.0, ""],
        ["d", "calc", "c1", "1.0, 2.0", 2, "up", 0.0, "f, g"],
    ]
    receiver.wait(13)
    assert repr(receiver.registry) == "<Registry: 1 late, 1 gone>"


def test_changes_are_counted(receiver: Receiver) -> None:
    """A counter grows with every keep-alive."""
    before = receiver.registry.changes
    receiver.receive()
    assert receiver.registry.changes > before


async def test_waiting_for_the_next_keep_alive(receiver: Receiver) -> None:
    """`changed` returns after the next keep-alive."""
    waiting = asyncio.create_task(receiver.registry.changed())
    await asyncio.sleep(0)
    assert not waiting.done()
    receiver.receive()
    await asyncio.wait_for(waiting, 60)


# -- discovery


def resolver_of(receiver: Receiver, *, listening: bool = True) -> Resolver:
    return Resolver(receiver.registry, listening=listening)


def pattern(text: str) -> ServicePattern:
    return ServicePattern.parse(text, domain="d")


async def test_full_name_needs_no_registry(receiver: Receiver) -> None:
    """A full name, or type and id, is resolved whether or not the service is known."""
    for listening in (True, False):
        assert (
            await resolver_of(receiver, listening=listening).resolve(pattern("d.calc.c1")) == CALC
        )
        assert await resolver_of(receiver, listening=listening).resolve(pattern("calc.c1")) == CALC


async def test_short_name(receiver: Receiver) -> None:
    """An id resolves to the present service that has it."""
    receiver.receive()
    receiver.receive(ServiceName("d", "old", "c1"))
    receiver.receive(ServiceName("d", "old", "c1"), leaving=True)
    receiver.receive(ServiceName("other", "calc", "c1"))
    assert await resolver_of(receiver).resolve(pattern("c1"), timeout=0) == CALC


async def test_short_name_right_after_opening(receiver: Receiver) -> None:
    """Right after opening, the resolver waits for a service that is not known yet."""
    resolving = asyncio.create_task(resolver_of(receiver).resolve(pattern("c1"), timeout=5))
    await asyncio.sleep(0)
    receiver.receive(ServiceName("d", "calc", "other"))
    await asyncio.sleep(0)
    receiver.receive()
    assert await asyncio.wait_for(resolving, 60) == CALC


async def test_unknown_later(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later, a service that is not known is an error at once."""
    monkeypatch.setattr(resolver, "DISCOVERY_TIME", 0)
    with pytest.raises(UnknownService):
        await asyncio.wait_for(resolver_of(receiver).resolve(pattern("c1")), 1)


async def unknown(receiver: Receiver, text: str) -> str:
    with pytest.raises(UnknownService) as caught:
        await resolver_of(receiver).resolve(pattern(text), timeout=0)
    assert caught.value.call == f"d.{text}"
    return str(caught.value)


async def test_wrong_domain_names_other_domains(receiver: Receiver) -> None:
    """If the domain only has services of the own type, the error names other domains."""
    own = ServiceName("d", "notebook", "task1")
    receiver.receive(own)
    receiver.receive(ServiceName("d", "notebook", "task2"))
    receiver.receive(ServiceName("shop", "t", "price"))
    shop = "Also on this broker: shop (1 service): `--domain shop`."
    resolver_ = Resolver(receiver.registry, listening=True, own=own)
    assert str(resolver_.unknown(pattern("calc"))).endswith(f"notebook.task2. {shop}")
    receiver.receive(ServiceName("d", "t", "other"))
    assert "shop" not in str(resolver_.unknown(pattern("calc")))
    assert str(resolver_.unknown(pattern("price"))).endswith(shop)


async def test_unknown_service_names_known_ones(receiver: Receiver) -> None:
    """The error for an unknown service names known ones."""
    assert (
        await unknown(receiver, "calk")
        == "No service d.calk is known: no service has announced itself in d yet."
    )
    receiver.receive(ServiceName("d", "t", "calc"))
    receiver.receive(ServiceName("e", "t", "calk"))
    assert await unknown(receiver, "calk") == "No service d.calk is known: did you mean calc?"
    assert await unknown(receiver, "xyz") == "No service d.xyz is known: in d there are t.calc."
    for number in range(20):
        receiver.receive(ServiceName("d", "t", f"n{number:02}"))
    assert (await unknown(receiver, "xyz")).endswith("t.n06 and 13 more.")


async def test_gone_service_has_its_last_keep_alive(receiver: Receiver) -> None:
    """The error for a service that is gone has the age of its last keep-alive."""
    receiver.receive()
    receiver.wait(100)
    assert await unknown(receiver, "c1") == "d.calc.c1 is gone; its last keep-alive was 100 s ago."


async def test_ambiguous_name(receiver: Receiver) -> None:
    """An id that several services have is an error with their names."""
    receiver.receive(ServiceName("d", "b", "c1"))
    receiver.receive(ServiceName("d", "a", "c1"))
    with pytest.raises(AmbiguousService, match=r"write type\.id") as caught:
        await resolver_of(receiver).resolve(pattern("c1"))
    assert caught.value.candidates == ("d.a.c1", "d.b.c1")
    assert "d.a.c1, d.b.c1" in str(caught.value)


async def test_short_name_without_listening(receiver: Receiver) -> None:
    """Without keep-alives a short name is an error that explains the full name."""
    with pytest.raises(UnknownService, match=r"must be written as domain\.type\.id"):
        await resolver_of(receiver, listening=False).resolve(pattern("c1"))


@pytest.mark.parametrize("version", [">=1.2", ">=1.2,<2", "==1.5", "~=1.4", ""])
async def test_version_that_matches(receiver: Receiver, version: str) -> None:
    """A service of the required version is resolved, also by its full name."""
    receiver.receive(version="1.5")
    assert (
        await resolver_of(receiver).resolve(pattern("calc.c1"), version=version, timeout=0) == CALC
    )


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        (["1.0"], "1.0"),
        (["1.5", "1.0"], "1.0"),
        (["3.0", "1.0"], "1.0, 3.0"),
        ([""], "unknown"),
        (["not a version"], "not a version"),
    ],
)
async def test_version_that_does_not_match(
    receiver: Receiver, versions: list[str], found: str
) -> None:
    """A service with an instance of another version is an error with that version."""
    for number, version in enumerate(versions):
        receiver.receive(instance=f"i{number}", version=version)
    with pytest.raises(VersionMismatch) as caught:
        await resolver_of(receiver).resolve(pattern("c1"), version=">=1.2,<2", timeout=0)
    assert str(caught.value) == f"The version of d.calc.c1 is {found}, but <2,>=1.2 is required."


async def test_version_of_a_peer(receiver: Receiver) -> None:
    """An amqp-fabric peer announces no version, and so meets no requirement."""
    receiver.receive(instance=None)
    with pytest.raises(VersionMismatch, match="is unknown, but"):
        await resolver_of(receiver).resolve(pattern("c1"), version=">=1", timeout=0)


@pytest.mark.parametrize("version", ["newest", "1.2", ">=", ">=1.2 <2"])
async def test_invalid_requirement(receiver: Receiver, version: str) -> None:
    """An invalid version requirement is refused with an example."""
    with pytest.raises(InvalidName, match=r"write for example '>=1\.2,<2'"):
        await resolver_of(receiver).resolve(pattern("c1"), version=version)


# -- unroutable calls

NO_QUEUE = Unroutable("no queue")
NO_EXCHANGE = Unroutable("no exchange", exchange_missing=True)


def test_unknown_method(receiver: Receiver) -> None:
    """The error for an unknown method of a present service has the close matches."""
    receiver.receive(methods={"multiply": "()", "divide": "()"})
    error = resolver_of(receiver).not_served(CALC, "multipl", NO_QUEUE)
    assert isinstance(error, MethodNotFound)
    assert str(error) == "d.calc.c1 has no method 'multipl': did you mean multiply?"
    assert (error.close_matches, error.call) == (("multiply",), "d.calc.c1.multipl")
    error = resolver_of(receiver).not_served(CALC, "xyz", NO_QUEUE)
    assert str(error) == "d.calc.c1 has no method 'xyz': it has multiply, divide."


def test_unknown_method_of_a_peer(receiver: Receiver) -> None:
    """The error for a peer that announces no methods names the missing one only."""
    receiver.receive(instance=None)
    error = resolver_of(receiver).not_served(CALC, "xyz", NO_QUEUE)
    assert isinstance(error, MethodNotFound)
    assert str(error) == "d.calc.c1 has no method 'xyz'."


def test_unknown_service_in_a_call(receiver: Receiver) -> None:
    """A service without an exchange is unknown."""
    error = resolver_of(receiver).not_served(CALC, "f", NO_EXCHANGE)
    assert isinstance(error, UnknownService)
    assert error.call == "d.calc.c1.f"
    assert "No service d.calc.c1 is known" in str(error)


@pytest.mark.parametrize(("listening", "why"), [(True, NO_QUEUE), (False, NO_EXCHANGE)])
def test_unknown_service_or_method(receiver: Receiver, listening: bool, why: Unroutable) -> None:
    """For a service without keep-alives the error leaves open what is missing."""
    error = resolver_of(receiver, listening=listening).not_served(CALC, "f", why)
    assert isinstance(error, UnknownService)
    assert (
        str(error) == "d.calc.c1.f is not served: d.calc.c1 is not running, or has no such method."
    )


@pytest.mark.parametrize("why", [NO_EXCHANGE, NO_QUEUE])
def test_service_that_has_just_left(receiver: Receiver, why: Unroutable) -> None:
    """The error for a service that has just left says so, although it still seems present."""
    receiver.receive(methods={"f": "()"})
    error = resolver_of(receiver).not_served(CALC, "f", why)
    assert isinstance(error, UnknownService)
    assert str(error) == "d.calc.c1 has just left: it is no longer served."
    receiver.wait(100)
    assert "is gone" in str(resolver_of(receiver).not_served(CALC, "f", why))


def test_methods_are_cached() -> None:
    """The methods of a service are the same object until they change."""
    receiver = Receiver()
    service = receiver.receive(methods={"f": "()"})
    assert service is not None
    before = service.methods
    receiver.clock.now += 1
    receiver.receive(methods={"f": "()"})
    assert service.methods is before
    receiver.receive(instance="i2", methods={"g": "()"})
    assert service.methods == {"f": "()", "g": "()"}
    receiver.receive(methods={"h": "()"})
    assert service.methods == {"h": "()", "g": "()"}
    seed = receiver.receive(ServiceName("d", "calc", "seed"), instance=None)
    assert seed is not None
    assert seed.methods == {}
    seed.record_reply("work")
    assert seed.methods == {"work": ""}
    with pytest.raises(TypeError):
        seed.methods["other"] = ""  # type: ignore[index]


# -- lost connections and blocked loops


def test_states_do_not_change_without_a_connection(receiver: Receiver) -> None:
    """States do not change while no keep-alives can be received, nor shortly afterwards."""
    receiver.receive()
    for age, state in ((3.0, UP), (6.0, LATE)):
        receiver.clock.now += age
        receiver.registry.connection_lost()
        receiver.clock.now += 3600
        assert receiver.state() is state
        assert receiver.registry.stale
        receiver.registry.connection_made()
        assert not receiver.registry.stale
        receiver.clock.now += 8.0  # in which it may reconnect too
        assert receiver.state() is state
    receiver.clock.now += 20
    assert receiver.state() is GONE
    receiver.receive()
    assert receiver.state() is UP


def test_repeated_outages(receiver: Receiver) -> None:
    """Repeated connection losses do not make a service `gone`."""
    receiver.receive()
    for _ in range(20):
        receiver.clock.now += 0.1
        receiver.registry.connection_lost()
        receiver.clock.now += 3600
        receiver.registry.connection_made()
        receiver.clock.now += 4.0
    assert receiver.state() is UP


def test_silence_of_the_connection(receiver: Receiver) -> None:
    """A silent connection counts as lost since its last byte."""
    receiver.receive()
    receiver.clock.now += 2
    silent_since = receiver.clock.now
    receiver.clock.now += 6
    receiver.registry.connection_lost(silent_since)
    receiver.registry.connection_lost()
    receiver.clock.now += 100
    receiver.registry.connection_made()
    receiver.clock.now += 8 + 6.4
    assert receiver.state() is UP  # 16.4 s of reception, of which 8 do not count
    assert receiver.registry.connected_for == pytest.approx(14.4)


def test_time_of_a_blocked_loop_does_not_count(receiver: Receiver) -> None:
    """A service is not late because the loop was blocked for a minute."""
    receiver.receive()
    receiver.registry.tick()
    receiver.clock.now += 60
    assert receiver.state() is UP
    receiver.registry.tick()
    assert receiver.state() is UP
    for _ in range(40):
        receiver.clock.now += 0.5
        receiver.registry.tick()
    assert receiver.state() is GONE


def test_no_service_is_dropped_without_a_connection(receiver: Receiver) -> None:
    """Services of before a long outage are still known after it."""
    receiver.receive()
    receiver.registry.connection_lost()
    receiver.clock.now += 5 * registry.DROPPED_AFTER
    receiver.registry.drop_expired()
    receiver.receive(ServiceName("d", "own", "me"))
    assert {each.name.id for each in receiver.registry.services()} == {"c1", "me"}


async def test_names_wait_for_the_connection(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is resolved after a reconnect, or fails at its timeout."""
    monkeypatch.setattr(resolver, "DISCOVERY_TIME", 0.05)
    resolver_ = Resolver(receiver.registry, listening=True)
    receiver.clock.now += 10
    receiver.registry.connection_lost()
    with pytest.raises(CallTimeout, match=r"within 0\.2 s, because the connection"):
        await resolver_.resolve(ServicePattern("d", None, "c1"), timeout=0.2)
    looking = asyncio.create_task(resolver_.resolve(ServicePattern("d", None, "c1"), timeout=10))
    await asyncio.sleep(0.2)
    assert not looking.done()
    receiver.registry.connection_made()
    receiver.receive()
    assert await looking == CALC
    receiver.clock.now += 10
    with pytest.raises(UnknownService, match=r"No service d\.c2"):
        await resolver_.resolve(ServicePattern("d", None, "c2"), timeout=10)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stop", "resume", "tick", "late stop", "wait"]), st.floats(0, 100)
        ),
        max_size=30,
    )
)
def test_reception_clock(steps: list[tuple[str, float]]) -> None:
    """The time grows by at most the elapsed time, and only goes back by a silence."""
    clock = Clock()
    reception = ReceptionClock(clock)
    shown = reception()
    for step, seconds in steps:
        clock.now += seconds
        began = clock.now
        match step:
            case "stop":
                reception.stop()
            case "late stop":
                reception.stop(clock.now - seconds / 2)
            case "resume":
                reception.resume()
            case "tick":
                reception.tick()
        back = seconds / 2 if step == "late stop" else 0.0
        assert shown - back - 1e-6 <= reception() <= shown + seconds + 1e-6
        assert clock.now == began
        shown = reception()
        if reception.stopped:
            clock.now += 7
            assert reception() == shown


def test_since_restarts_after_a_service_was_gone() -> None:
    """`since` is kept while a service is present or late, and set again after it was gone."""
    receiver = Receiver()
    service = receiver.receive()
    assert service is not None
    began = receiver.clock.now
    for seconds in (5, 10, 5):
        receiver.clock.now += seconds
        receiver.receive()
        assert service.since == began
    for away in (20, 0):
        receiver.clock.now += away
        if not away:
            receiver.receive(leaving=True)
            receiver.clock.now += 1
        receiver.receive()
        assert service.since == receiver.clock.now


def test_other_domains_are_named() -> None:
    """At most three other domains with services are named, the likeliest first."""
    receiver = Receiver()
    receiver.receive()
    assert receiver.registry.describe_other_domains("d") == ""
    receiver.receive(ServiceName("shop", "calc", "c1"))
    assert (
        receiver.registry.describe_other_domains("d")
        == "Also on this broker: shop (1 service): `--domain shop`."
    )
    for domain, ids in (("bank", "ab"), ("farm", "abc"), ("tiny", "z")):
        for id_ in ids:
            receiver.receive(ServiceName(domain, "t", id_))
    assert receiver.registry.describe_other_domains("d", "z") == (
        "Also on this broker: tiny (1 service): `--domain tiny`;"
        " farm (3 services): `--domain farm`;"
        " bank (2 services): `--domain bank`; 1 more domain: `%fabric_services`."
    )
    for id_ in "abc":
        receiver.receive(ServiceName("farm", "t", id_), leaving=True)
    assert "farm" not in receiver.registry.describe_other_domains("d")
    for number in range(1500):
        receiver.receive(ServiceName("flood", "t", f"s{number}"))
    assert receiver.registry.describe_other_domains("d", "z") == (
        "Also on this broker: tiny (1 service): `--domain tiny`;"
        " flood (499+ services): `--domain flood`; 3 more domains: `%fabric_services`."
    )


# -- silent services with an exchange


def test_silent_service_with_an_exchange_is_late(receiver: Receiver) -> None:
    """A silent service is checked once, and late for 30 s if its exchange exists, then gone."""
    receiver.receive()
    receiver.wait(10)
    assert receiver.registry.newly_silent(20) == []
    receiver.wait(2)
    (service,) = receiver.registry.newly_silent(20)
    assert receiver.registry.newly_silent(20) == []
    receiver.registry.confirm_exchange(service)
    for _ in range(17):
        assert receiver.state() is LATE
        receiver.wait(1)
    receiver.wait(2)
    assert receiver.state() is GONE
    receiver.receive()
    assert receiver.state() is UP
    receiver.wait(17)
    assert receiver.state() is GONE  # another silence


def test_instance_that_left_is_not_late(receiver: Receiver) -> None:
    """An instance that has left stays gone; with an instance that is up no check is made."""
    receiver.receive(instance="left")
    receiver.receive(instance="silent")
    receiver.receive(instance="left", leaving=True)
    receiver.wait(12)
    receiver.receive(instance="lively")
    assert receiver.registry.newly_silent(20) == []
    receiver.wait(12)
    (service,) = receiver.registry.newly_silent(20)
    receiver.registry.confirm_exchange(service)
    states = {key: each.state(receiver.clock.now) for key, each in service.instances.items()}
    assert states == {"left": GONE, "silent": LATE, "lively": LATE}
