"""The registry and discovery: who is there, how they are doing, and which one a name means."""

from __future__ import annotations

import asyncio
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
from fabric_nb.fabric.discovery.clock import HearingClock
from fabric_nb.fabric.discovery.eviction import PROVEN_AFTER
from fabric_nb.fabric.discovery.registry import Registry, Service, ServiceState
from fabric_nb.fabric.discovery.resolver import Resolver
from fabric_nb.fabric.wire.keep_alives import Announcement, KeepAlive
from fabric_nb.fabric.wire.names import ServiceName, ServicePattern

CALC = ServiceName("d", "calc", "c1")
UP, BUSY, LATE, GONE = ServiceState


class Clock:
    """Time that only a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class House:
    """A registry with a clock, and who announces themselves to it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.registry = Registry(self.clock)

    def hear(
        self,
        name: ServiceName = CALC,
        instance: str | None = "i1",
        *,
        leaving: bool = False,
        **said: Any,
    ) -> Service | None:
        """A keep-alive; of an amqp-fabric peer when there is no instance."""
        told = (
            None
            if instance is None
            else Announcement(**{"instance": instance, "interval": 5.0, **said})
        )
        return self.registry.heard(KeepAlive(name, told, leaving=leaving))

    def peer(self, interval: float, times: int, name: ServiceName = CALC) -> None:
        """Keep-alives of an amqp-fabric peer, the last of them now."""
        for time in range(times):
            self.clock.now += interval if time else 0
            self.hear(name, None)

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    def state(self, name: ServiceName = CALC) -> ServiceState:
        service = self.registry.get(name)
        assert service is not None
        return self.registry.state(service)


@pytest.fixture
def house() -> House:
    return House()


# -- states


def test_known_after_one_keep_alive(house: House) -> None:
    """A service is known, and up, after one keep-alive; so are its methods."""
    assert house.registry.get(CALC) is None
    house.hear(version="1.2", methods={"multiply": "(x, y)"})
    assert house.state() is UP
    [service] = house.registry.find("c1", domain="d")
    assert service.name == CALC
    assert service.methods == {"multiply": "(x, y)"}


@pytest.mark.parametrize(
    ("silence", "state"), [(0, UP), (8, UP), (9, LATE), (16, LATE), (17, GONE), (500, GONE)]
)
def test_late_and_gone_by_its_own_interval(house: House, silence: float, state: object) -> None:
    """A service is late after one missed keep-alive and gone after three, by its own interval."""
    house.hear(interval=5.0)
    slow = ServiceName("d", "calc", "slow")
    house.hear(slow, interval=50.0)
    house.wait(silence)
    assert house.state() is state
    assert house.state(slow) is (UP if silence < 80 else GONE)


def test_interval_of_a_peer_is_observed(house: House) -> None:
    """The interval of an amqp-fabric peer, which does not tell it, is learned from its signs."""
    house.peer(interval=30, times=4)
    house.wait(45)
    assert house.state() is UP
    house.wait(10)
    assert house.state() is LATE
    house.wait(50)
    assert house.state() is GONE


def test_interval_of_a_peer_is_assumed_at_first(house: House) -> None:
    """A peer that was heard once is taken to announce itself every five seconds."""
    house.peer(interval=0, times=1)
    house.wait(8)
    assert house.state() is UP
    house.wait(9)
    assert house.state() is GONE


def test_absence_of_a_peer_is_not_its_interval(house: House) -> None:
    """A peer that was away for an hour is late and gone as quickly as before."""
    house.peer(interval=5, times=5)
    house.wait(3600)
    assert house.state() is GONE
    house.peer(interval=5, times=3)
    assert house.state() is UP
    house.wait(17)
    assert house.state() is GONE


def test_peer_with_a_new_interval(house: House) -> None:
    """A peer that comes back with a longer interval is up between its signs."""
    house.peer(interval=5, times=5)
    house.peer(interval=60, times=4)
    house.wait(59)
    assert house.state() is UP


def test_busy(house: House) -> None:
    """A member that says it is busy is busy, until it says otherwise or falls silent."""
    house.hear(busy_since=1.0)
    assert house.state() is BUSY
    house.wait(9)
    assert house.state() is LATE
    house.hear()
    assert house.state() is UP


def test_goodbye(house: House) -> None:
    """A member that says goodbye is gone at once, and up again when it comes back."""
    house.hear()
    house.hear(leaving=True)
    assert house.state() is GONE
    assert house.registry.services() == []
    assert [service.name for service in house.registry.services(gone=True)] == [CALC]
    house.hear()
    assert house.state() is UP


def test_goodbye_of_a_stranger(house: House) -> None:
    """A goodbye of somebody who was never heard makes no service."""
    house.hear(leaving=True)
    house.hear(ServiceName("d", "t", "i"), None, leaving=True)
    assert len(house.registry) == 0
    house.hear()
    house.hear(instance="other", leaving=True)
    assert house.state() is UP


# -- cliques


def test_clique_is_as_well_as_its_best_member(house: House) -> None:
    """A service with several members is in the state of the best of them."""
    house.hear(instance="a", busy_since=1.0)
    house.hear(instance="b")
    assert house.state() is UP
    house.hear(instance="b", leaving=True)
    assert house.state() is BUSY
    service = house.registry.get(CALC)
    assert service is not None
    assert [one.id for one in service.present(house.clock.now)] == ["a"]


def test_clique_of_mixed_versions(house: House) -> None:
    """The versions of a clique are those of its present members."""
    house.hear(instance="a", version="1.0")
    house.hear(instance="b", version="1.1")
    service = house.hear(instance="c", version="1.1")
    assert service is not None
    assert service.versions(house.clock.now) == ["1.0", "1.1"]
    house.hear(instance="a", leaving=True)
    assert service.versions(house.clock.now) == ["1.1"]
    house.wait(100)
    assert service.versions(house.clock.now) == ["1.0", "1.1"]


def test_anonymous_members_share_one_place(house: House) -> None:
    """Members of amqp-fabric cannot be told apart: they are one, beside those of ours."""
    for _ in range(3):
        house.hear(instance=None)
    service = house.hear(instance="a", methods={"f": "()"})
    assert service is not None
    assert len(service.present(house.clock.now)) == 2
    assert service.methods == {"f": "()"}
    house.hear(instance="a", leaving=True)
    assert house.state() is UP


def test_methods_of_a_clique(house: House) -> None:
    """The methods of a service are those that any of its members told."""
    house.hear(instance="a", methods={"f": "()", "g": "(x)"})
    service = house.hear(instance="b", methods={"g": "(x, y)"})
    assert service is not None
    assert service.methods == {"f": "()", "g": "(x, y)"}
    peer = house.hear(ServiceName("d", "t", "i"), None)
    assert peer is not None
    assert peer.methods == {}


# -- bounds


def test_long_gone_services_are_forgotten(house: House) -> None:
    """A service that has been gone for ten minutes is forgotten."""
    house.hear()
    other = ServiceName("d", "calc", "other")
    house.wait(599)
    house.hear(other)
    assert house.registry.get(CALC) is not None
    house.wait(62)
    house.hear(other)
    assert house.registry.get(CALC) is None
    assert house.registry.get(other) is not None


def test_slow_services_are_not_forgotten(house: House) -> None:
    """A service that announces itself once an hour is not forgotten in between."""
    house.hear(interval=3600.0)
    house.wait(3500)
    house.registry.forget()
    assert house.state() is UP


def test_members_that_left_make_room(house: House) -> None:
    """A service that restarts again and again does not use up its places for members."""
    for number in range(registry.MAX_INSTANCES + 50):
        house.hear(instance=f"i{number}")
        house.hear(instance=f"i{number}", leaving=True)
        house.wait(10)
    service = house.hear(instance="last")
    assert service is not None
    assert service.state(house.clock.now) is UP
    assert len(service.instances) < 100
    assert house.registry.dropped == 0


def test_number_of_services_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Services beyond the bound are counted and push out others; who is long gone makes room."""
    monkeypatch.setattr(registry, "MAX_SERVICES", 3)
    for number in range(5):
        house.hear(ServiceName("d", "t", f"i{number}"))
    assert (len(house.registry), house.registry.dropped) == (3, 2)
    house.wait(1000)
    house.hear(ServiceName("d", "t", "new"))
    assert [service.name.id for service in house.registry.services(gone=True)] == ["new"]


def test_number_of_members_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of members beyond the bound, those stay that were heard more than once; all are counted."""
    monkeypatch.setattr(registry, "MAX_INSTANCES", 3)
    house.hear(instance="i0")
    house.wait(1)
    house.hear(instance="i0")
    for number in range(1, 6):
        house.hear(instance=f"i{number}")
    service = house.registry.get(CALC)
    assert service is not None
    assert set(service.instances) == {"i0", "i4", "i5"}
    assert house.registry.dropped == 3
    house.wait(1)
    for number in (0, 4, 5, 6):
        house.hear(instance=f"i{number}")
    assert set(service.instances) == {"i0", "i4", "i5"}


def ids(house: House) -> set[str]:
    """The ids of all services that the registry holds."""
    return {one.name.id for one in house.registry.services(gone=True)}


def phantoms(house: House, first: int, count: int, **said: Any) -> None:
    """Somebody announces services that are not there, each once."""
    for number in range(first, first + count):
        house.hear(ServiceName("d", "t", f"p{number}"), interval=3600.0, **said)


def test_phantoms_do_not_keep_a_newcomer_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that is full of names finds a newcomer, and keeps who is heard again and again."""
    monkeypatch.setattr(registry, "MAX_SERVICES", 100)
    phantoms(house, 0, 300)
    honest = ServiceName("d", "shop", "honest")
    for _ in range(PROVEN_AFTER):
        house.hear(honest)
        assert house.registry.find("honest", domain="d")
        phantoms(house, 1000, 9)  # fewer than the places for those on trial
        house.wait(4)
    phantoms(house, 2000, 1000)
    assert "honest" in ids(house)
    assert len(house.registry) == 100
    assert sorted(ids(house)) == [one.name.id for one in sorted_by_id(house)]


def sorted_by_id(house: House) -> list[Service]:
    """All services, in the order of their ids."""
    return sorted(house.registry.services(gone=True), key=lambda one: one.name.id)


def test_who_has_answered_stays(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that has answered a call, and one's own, stay whatever others announce."""
    monkeypatch.setattr(registry, "MAX_SERVICES", 10)
    house.hear(ServiceName("d", "t", "answers"))
    house.registry.answered(ServiceName("d", "t", "answers"), "f")
    own = KeepAlive(ServiceName("d", "t", "own"), Announcement(instance="me", interval=5.0))
    house.registry.heard(own, own=True)
    for round_ in range(5):
        for number in range(50):
            house.hear(ServiceName("d", "t", f"p{number}"))
            house.hear(ServiceName("d", "t", f"q{round_}-{number}"))
        house.wait(2)
    assert {"answers", "own"} <= ids(house)
    assert len(house.registry) == 10
    service = house.registry.get(ServiceName("d", "t", "answers"))
    assert service is not None
    assert list(service.methods) == ["f"]


def test_phantoms_that_repeat_themselves_leave_places(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all places are taken by names that are heard again and again, a newcomer is heard."""
    monkeypatch.setattr(registry, "MAX_SERVICES", 300)
    honest = ServiceName("d", "shop", "honest")
    for _ in range(PROVEN_AFTER + 2):
        phantoms(house, 0, 300)
        house.wait(4)
    for _ in range(PROVEN_AFTER):
        house.hear(honest)
        phantoms(house, 0, 300)
        assert house.registry.find("honest", domain="d")
        house.wait(4)
    assert len(house.registry) == 300


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.floats(0, 5)), max_size=200))
def test_the_account_of_a_full_registry_is_right(
    steps: list[tuple[int, bool, float]],
) -> None:
    """However services come, leave and answer, what is counted is what is there."""
    house = House()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "MAX_SERVICES", 8)
        patch.setattr(registry, "MAX_ALL_INSTANCES", 12)
        patch.setattr(registry, "MAX_INSTANCES", 2)
        for number, leaving, seconds in steps:
            name = ServiceName("d", "t", f"s{number // 2}")
            house.hear(name, f"i{number}", leaving=leaving, methods={"f": "x" * number})
            if seconds > 4.5:
                house.registry.answered(name, "g")
            house.wait(seconds)
        held = house.registry.services(gone=True)
        assert len(held) == len(house.registry) <= 8
        assert house.registry._members == sum(len(one.instances) for one in held) <= 12
        assert house.registry._told == sum(
            len(signature) + len(method)
            for one in held
            for instance in one.instances.values()
            if instance.said is not None
            for method, signature in instance.said.methods.items()
        )
        assert house.registry._places.names == {one.name for one in held}


# -- looking


def test_services_by_exact_names(house: House) -> None:
    """Services are listed in order and filtered by exact names; gone ones only when asked for."""
    names = [
        ServiceName(d, t, i) for d in ("e", "dd", "d") for t in ("t", "tt") for i in ("i", "j")
    ]
    for name in names:
        house.hear(name)
    assert [service.name for service in house.registry.services()] == sorted(names)
    assert [s.name.fqn for s in house.registry.services(domain="d", type="t")] == ["d.t.i", "d.t.j"]
    assert [s.name.fqn for s in house.registry.services(domain="d", id="i")] == ["d.t.i", "d.tt.i"]
    assert [s.name.fqn for s in house.registry.find("t.i", domain="dd")] == ["dd.t.i"]
    assert house.registry.services(domain="proj") == []


def test_table(house: House) -> None:
    """The registry is a table at any time, an empty one too."""
    assert list(house.registry.df.columns) == [
        "domain",
        "type",
        "id",
        "version",
        "instances",
        "state",
        "last_seen",
        "methods",
    ]
    assert repr(house.registry) == "<Registry: nobody heard yet>"
    house.hear(version="1.0", methods={"f": "()", "g": "()"})
    house.hear(instance="b", version="2.0")
    house.hear(ServiceName("a", "t", "i"), None)
    house.wait(6)
    house.hear(instance="b", version="2.0")
    assert house.registry.df.to_numpy().tolist() == [
        ["a", "t", "i", "", 1, "up", 6.0, ""],
        ["d", "calc", "c1", "1.0, 2.0", 2, "up", 0.0, "f, g"],
    ]
    house.wait(13)
    assert repr(house.registry) == "<Registry: 1 late, 1 gone>"


def test_changes_are_counted(house: House) -> None:
    """A view can see that something came by looking at a counter."""
    before = house.registry.changes
    house.hear()
    assert house.registry.changes > before


async def test_waiting_for_the_next_sign(house: House) -> None:
    """One can wait for the next keep-alive."""
    waiting = asyncio.create_task(house.registry.changed())
    await asyncio.sleep(0)
    assert not waiting.done()
    house.hear()
    await asyncio.wait_for(waiting, 1)


# -- discovery


def found(house: House, *, listening: bool = True) -> Resolver:
    return Resolver(house.registry, listening=listening)


def pattern(text: str) -> ServicePattern:
    return ServicePattern.parse(text, domain="d")


async def test_full_name_needs_no_registry(house: House) -> None:
    """A full name, or type and id, is taken as it is, heard or not."""
    for listening in (True, False):
        assert await found(house, listening=listening).resolve(pattern("d.calc.c1")) == CALC
        assert await found(house, listening=listening).resolve(pattern("calc.c1")) == CALC


async def test_short_name(house: House) -> None:
    """An id means the present service that has it."""
    house.hear()
    house.hear(ServiceName("d", "old", "c1"))
    house.hear(ServiceName("d", "old", "c1"), leaving=True)
    house.hear(ServiceName("other", "calc", "c1"))
    assert await found(house).resolve(pattern("c1"), timeout=0) == CALC


async def test_short_name_right_after_opening(house: House) -> None:
    """Right after opening, a service that is not known yet is waited for."""
    resolving = asyncio.create_task(found(house).resolve(pattern("c1"), timeout=5))
    await asyncio.sleep(0)
    house.hear(ServiceName("d", "calc", "other"))
    await asyncio.sleep(0)
    house.hear()
    assert await asyncio.wait_for(resolving, 1) == CALC


async def test_unknown_later(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later on, a service that is not known is told at once."""
    monkeypatch.setattr(resolver, "PATIENCE", 0)
    with pytest.raises(UnknownService):
        await asyncio.wait_for(found(house).resolve(pattern("c1")), 1)


async def unknown(house: House, text: str) -> str:
    with pytest.raises(UnknownService) as caught:
        await found(house).resolve(pattern(text), timeout=0)
    assert caught.value.call == f"d.{text}"
    return str(caught.value)


async def test_a_wrong_domain_is_said(house: House) -> None:
    """Where nobody but our like is in the domain, or the id is in another, the others are named."""
    own = ServiceName("d", "notebook", "task1")
    house.hear(own)
    house.hear(ServiceName("d", "notebook", "task2"))
    house.hear(ServiceName("shop", "t", "price"))
    shop = "Also on this broker: shop (1 service): `--domain shop`."
    finder = Resolver(house.registry, listening=True, own=own)
    assert str(finder.unknown(pattern("calc"))).endswith(f"notebook.task2. {shop}")
    house.hear(ServiceName("d", "t", "other"))
    assert "shop" not in str(finder.unknown(pattern("calc")))
    assert str(finder.unknown(pattern("price"))).endswith(shop)


async def test_unknown_service_says_what_is_there(house: House) -> None:
    """The error for an unknown service says what is there instead."""
    assert await unknown(house, "calk") == "No service d.calk is known: nobody was heard in d yet."
    house.hear(ServiceName("d", "t", "calc"))
    house.hear(ServiceName("e", "t", "calk"))
    assert await unknown(house, "calk") == "No service d.calk is known: did you mean calc?"
    assert await unknown(house, "xyz") == "No service d.xyz is known: in d there are t.calc."
    for number in range(20):
        house.hear(ServiceName("d", "t", f"n{number:02}"))
    assert (await unknown(house, "xyz")).endswith("t.n06 and 13 more.")


async def test_gone_service_says_since_when(house: House) -> None:
    """The error for a service that is gone says when it was last heard."""
    house.hear()
    house.wait(100)
    assert await unknown(house, "c1") == "d.calc.c1 is gone; it was last heard 100 s ago."


async def test_ambiguous_name(house: House) -> None:
    """An id that several services have is refused with their names."""
    house.hear(ServiceName("d", "b", "c1"))
    house.hear(ServiceName("d", "a", "c1"))
    with pytest.raises(AmbiguousService, match=r"write type\.id") as caught:
        await found(house).resolve(pattern("c1"))
    assert caught.value.candidates == ("d.a.c1", "d.b.c1")
    assert "d.a.c1, d.b.c1" in str(caught.value)


async def test_short_name_without_listening(house: House) -> None:
    """Without keep-alives a short name is refused with how to write it."""
    with pytest.raises(UnknownService, match=r"must be written as domain\.type\.id"):
        await found(house, listening=False).resolve(pattern("c1"))


@pytest.mark.parametrize("version", [">=1.2", ">=1.2,<2", "==1.5", "~=1.4", ""])
async def test_version_that_is_there(house: House, version: str) -> None:
    """A service in the required version is found, by its full name too."""
    house.hear(version="1.5")
    assert await found(house).resolve(pattern("calc.c1"), version=version, timeout=0) == CALC


@pytest.mark.parametrize(
    ("versions", "there"),
    [
        (["1.0"], "1.0"),
        (["1.5", "1.0"], "1.0"),
        (["3.0", "1.0"], "1.0, 3.0"),
        ([""], "an untold version"),
        (["not a version"], "not a version"),
    ],
)
async def test_version_that_is_not_there(house: House, versions: list[str], there: str) -> None:
    """A service of which any member has another version is refused with what is there."""
    for number, version in enumerate(versions):
        house.hear(instance=f"i{number}", version=version)
    with pytest.raises(VersionMismatch) as caught:
        await found(house).resolve(pattern("c1"), version=">=1.2,<2", timeout=0)
    assert str(caught.value) == f"d.calc.c1 is there in {there}, and <2,>=1.2 is required."


async def test_version_of_a_peer(house: House) -> None:
    """An amqp-fabric peer tells no version and so meets no requirement."""
    house.hear(instance=None)
    with pytest.raises(VersionMismatch, match="an untold version"):
        await found(house).resolve(pattern("c1"), version=">=1", timeout=0)


@pytest.mark.parametrize("version", ["newest", "1.2", ">=", ">=1.2 <2"])
async def test_bad_requirement(house: House, version: str) -> None:
    """A version requirement that is none is refused with an example."""
    with pytest.raises(InvalidName, match=r"write for example '>=1\.2,<2'"):
        await found(house).resolve(pattern("c1"), version=version)


# -- calls that nobody took

NOT_THERE = Unroutable("no queue")
NO_EXCHANGE = Unroutable("no exchange", exchange_missing=True)


def test_method_that_is_not_there(house: House) -> None:
    """A method that a present service does not have is told with the close matches."""
    house.hear(methods={"multiply": "()", "divide": "()"})
    error = found(house).not_served(CALC, "multipl", NOT_THERE)
    assert isinstance(error, MethodNotFound)
    assert str(error) == "d.calc.c1 has no method 'multipl': did you mean multiply?"
    assert (error.close_matches, error.call) == (("multiply",), "d.calc.c1.multipl")
    error = found(house).not_served(CALC, "xyz", NOT_THERE)
    assert str(error) == "d.calc.c1 has no method 'xyz': it has multiply, divide."


def test_method_of_a_peer_that_is_not_there(house: House) -> None:
    """Of a peer that tells no methods, only the missing one is named."""
    house.hear(instance=None)
    error = found(house).not_served(CALC, "xyz", NOT_THERE)
    assert isinstance(error, MethodNotFound)
    assert str(error) == "d.calc.c1 has no method 'xyz'."


def test_service_that_is_not_there(house: House) -> None:
    """A service that nobody serves is unknown, not a service without the method."""
    error = found(house).not_served(CALC, "f", NO_EXCHANGE)
    assert isinstance(error, UnknownService)
    assert error.call == "d.calc.c1.f"
    assert "No service d.calc.c1 is known" in str(error)


@pytest.mark.parametrize(("listening", "why"), [(True, NOT_THERE), (False, NO_EXCHANGE)])
def test_service_that_was_never_heard(house: House, listening: bool, why: Unroutable) -> None:
    """Of a service that was never heard it is not claimed which of the two is missing."""
    error = found(house, listening=listening).not_served(CALC, "f", why)
    assert isinstance(error, UnknownService)
    assert str(error) == "Nobody serves d.calc.c1.f: d.calc.c1 is not there, or has no such method."


@pytest.mark.parametrize("why", [NO_EXCHANGE, NOT_THERE])
def test_service_that_has_just_left(house: House, why: Unroutable) -> None:
    """A service that still looks present and has left is told as such."""
    house.hear(methods={"f": "()"})
    error = found(house).not_served(CALC, "f", why)
    assert isinstance(error, UnknownService)
    assert str(error) == "d.calc.c1 has just left: nobody serves it any more."
    house.wait(100)
    assert "is gone" in str(found(house).not_served(CALC, "f", why))


def test_methods_stay_the_same_object_until_they_change() -> None:
    """What a service offers is put together once, so that many services cost little to show."""
    house = House()
    service = house.hear(methods={"f": "()"})
    assert service is not None
    before = service.methods
    house.clock.now += 1
    house.hear(methods={"f": "()"})
    assert service.methods is before
    house.hear(instance="i2", methods={"g": "()"})
    assert service.methods == {"f": "()", "g": "()"}
    house.hear(methods={"h": "()"})
    assert service.methods == {"h": "()", "g": "()"}
    seed = house.hear(ServiceName("d", "calc", "seed"), instance=None)
    assert seed is not None
    assert seed.methods == {}
    seed.answered("work")
    assert seed.methods == {"work": ""}
    with pytest.raises(TypeError):
        seed.methods["other"] = ""  # type: ignore[index]


# -- our own deafness is not the absence of others


def test_states_stand_still_without_a_connection(house: House) -> None:
    """States do not change while no keep-alives can be received, nor shortly afterwards."""
    house.hear()
    for age, state in ((3.0, UP), (6.0, LATE)):
        house.clock.now += age
        house.registry.stop_hearing()
        house.clock.now += 3600
        assert house.state() is state
        assert house.registry.deaf
        house.registry.hear_again()
        assert not house.registry.deaf
        house.clock.now += 8.0  # in which it too comes back
        assert house.state() is state
    house.clock.now += 20
    assert house.state() is GONE
    house.hear()
    assert house.state() is UP


def test_an_outage_that_follows_another_excuses_no_less(house: House) -> None:
    """Repeated connection losses do not make a service `gone`."""
    house.hear()
    for _ in range(20):
        house.clock.now += 0.1
        house.registry.stop_hearing()
        house.clock.now += 3600
        house.registry.hear_again()
        house.clock.now += 4.0
    assert house.state() is UP


def test_silence_of_the_connection_counts_from_its_beginning(house: House) -> None:
    """A connection that turns out to be dead has been so since it was last heard."""
    house.hear()
    house.clock.now += 2
    silent_since = house.clock.now
    house.clock.now += 6
    house.registry.stop_hearing(silent_since)
    house.registry.stop_hearing()
    house.clock.now += 100
    house.registry.hear_again()
    house.clock.now += 8 + 6.4
    assert house.state() is UP  # 16.4 s of hearing, of which 8 do not count
    assert house.registry.hears_for == pytest.approx(14.4)


def test_a_loop_that_stands_still_hears_nobody(house: House) -> None:
    """A loop that is blocked for a minute makes nobody late; one that runs does."""
    house.hear()
    house.registry.pulse()
    house.clock.now += 60
    assert house.state() is UP
    house.registry.pulse()
    assert house.state() is UP
    for _ in range(40):
        house.clock.now += 0.5
        house.registry.pulse()
    assert house.state() is GONE


def test_nobody_is_forgotten_without_a_connection(house: House) -> None:
    """Who was there before an outage of hours is there after it."""
    house.hear()
    house.registry.stop_hearing()
    house.clock.now += 5 * registry.FORGOTTEN_AFTER
    house.registry.forget()
    house.hear(ServiceName("d", "own", "me"))
    assert {one.name.id for one in house.registry.services()} == {"c1", "me"}


async def test_names_wait_for_the_connection(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that cannot be looked up for want of a connection is looked up when it is back."""
    monkeypatch.setattr(resolver, "PATIENCE", 0.05)
    finder = Resolver(house.registry, listening=True)
    house.clock.now += 10
    house.registry.stop_hearing()
    with pytest.raises(CallTimeout, match=r"within 0\.2 s, because the connection"):
        await finder.resolve(ServicePattern("d", None, "c1"), timeout=0.2)
    looking = asyncio.create_task(finder.resolve(ServicePattern("d", None, "c1"), timeout=10))
    await asyncio.sleep(0.2)
    assert not looking.done()
    house.registry.hear_again()
    house.hear()
    assert await looking == CALC
    house.clock.now += 10
    with pytest.raises(UnknownService, match=r"No service d\.c2"):
        await finder.resolve(ServicePattern("d", None, "c2"), timeout=10)


@given(
    st.lists(
        st.tuples(st.sampled_from(["stop", "go", "pulse", "late stop", "look"]), st.floats(0, 100)),
        max_size=30,
    )
)
def test_the_clock_never_runs_ahead(steps: list[tuple[str, float]]) -> None:
    """Whatever happens, the time grows by at most what has passed, and goes back by a silence."""
    clock = Clock()
    hearing = HearingClock(clock)
    shown = hearing()
    for step, seconds in steps:
        clock.now += seconds
        began = clock.now
        match step:
            case "stop":
                hearing.stop()
            case "late stop":
                hearing.stop(clock.now - seconds / 2)
            case "go":
                hearing.go()
            case "pulse":
                hearing.pulse()
        back = seconds / 2 if step == "late stop" else 0.0
        assert shown - back - 1e-6 <= hearing() <= shown + seconds + 1e-6
        assert clock.now == began
        shown = hearing()
        if hearing.deaf:
            clock.now += 7
            assert hearing() == shown


def test_a_service_that_comes_back_is_heard_anew() -> None:
    """`since` is kept while a service is there, late or not, and begins again after it was gone."""
    house = House()
    service = house.hear()
    assert service is not None
    began = house.clock.now
    for seconds in (5, 10, 5):
        house.clock.now += seconds
        house.hear()
        assert service.since == began
    for away in (20, 0):
        house.clock.now += away
        if not away:
            house.hear(leaving=True)
            house.clock.now += 1
        house.hear()
        assert service.since == house.clock.now


def test_other_domains_are_named() -> None:
    """Domains with services are named, the likeliest first, and no more than three."""
    house = House()
    house.hear()
    assert house.registry.elsewhere("d") == ""
    house.hear(ServiceName("shop", "calc", "c1"))
    assert (
        house.registry.elsewhere("d") == "Also on this broker: shop (1 service): `--domain shop`."
    )
    for domain, ids in (("bank", "ab"), ("farm", "abc"), ("tiny", "z")):
        for one in ids:
            house.hear(ServiceName(domain, "t", one))
    assert house.registry.elsewhere("d", "z") == (
        "Also on this broker: tiny (1 service): `--domain tiny`;"
        " farm (3 services): `--domain farm`;"
        " bank (2 services): `--domain bank`; 1 more domain: `%fabric_services`."
    )
    for one in "abc":
        house.hear(ServiceName("farm", "t", one), leaving=True)
    assert "farm" not in house.registry.elsewhere("d")
    for number in range(1500):
        house.hear(ServiceName("flood", "t", f"s{number}"))
    assert house.registry.elsewhere("d", "z") == (
        "Also on this broker: tiny (1 service): `--domain tiny`;"
        " flood (499+ services): `--domain flood`; 3 more domains: `%fabric_services`."
    )


# -- who is silent and there


def test_a_service_whose_exchange_is_there_is_late(house: House) -> None:
    """A silent service is asked for once, and late for 30 s when it is there; then it is gone."""
    house.hear()
    house.wait(10)
    assert house.registry.silent(20) == []
    house.wait(2)
    (service,) = house.registry.silent(20)
    assert house.registry.silent(20) == []
    house.registry.hold(service)
    for _ in range(17):
        assert house.state() is LATE
        house.wait(1)
    house.wait(2)
    assert house.state() is GONE
    house.hear()
    assert house.state() is UP
    house.wait(17)
    assert house.state() is GONE  # another silence


def test_whoever_said_goodbye_is_not_held(house: House) -> None:
    """A member that has left is gone, and one of several that is silent while others are not."""
    house.hear(instance="left")
    house.hear(instance="silent")
    house.hear(instance="left", leaving=True)
    house.wait(12)
    house.hear(instance="lively")
    assert house.registry.silent(20) == []
    house.wait(12)
    (service,) = house.registry.silent(20)
    house.registry.hold(service)
    states = {key: one.state(house.clock.now) for key, one in service.instances.items()}
    assert states == {"left": GONE, "silent": LATE, "lively": LATE}
