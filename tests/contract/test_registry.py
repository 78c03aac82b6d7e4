"""The registry: who is there, how they are doing, and how one announces oneself."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import aio_pika
import pytest

from fabric_nb.fabric.discovery.clock import ReceptionClock
from fabric_nb.fabric.discovery.services import ServiceState
from fabric_nb.fabric.wire.keep_alives import MAX_ANNOUNCEMENT
from tests.support.fabric import KEEP_ALIVE, until, wait_for_service
from tests.support.peers import DOMAIN


@pytest.fixture
async def listener(members):
    """A member that listens and is not announced itself."""
    return await members.join("listener", type="client", keep_alive_seconds=False)


@pytest.fixture
async def announcements(raw):
    """What travels on the discovery exchange, message by message."""
    exchange = await raw.declare_exchange("msc.discovery", "headers", durable=True)
    queue = await raw.declare_queue(exclusive=True)
    await queue.bind(exchange)
    got = asyncio.Queue()
    await queue.consume(got.put, no_ack=True)

    async def next_message(**headers):
        async with asyncio.timeout(5):
            while True:
                message = await got.get()
                if headers.items() <= message.headers.items():
                    return message

    return next_message


@pytest.fixture
def announce(raw):
    """Send a keep-alive by hand, as any peer might."""

    async def send(service="app.hand", body=b"", domain=DOMAIN, **headers):
        type, _, id = service.partition(".")  # noqa: A001
        message = aio_pika.Message(
            body if isinstance(body, bytes) else json.dumps(body).encode(),
            headers={
                "msg_type": "keep_alive",
                "service_domain": domain,
                "service_type": type,
                "service_id": id,
                **headers,
            },
        )
        exchange = await raw.declare_exchange("msc.discovery", "headers", durable=True)
        await exchange.publish(message, "")

    return send


def state_of(listener, service):
    pattern = service.partition(".")
    name = next(
        one.name for one in listener.registry.services(gone=True) if one.name.id == pattern[2]
    )
    return listener.registry.state(listener.registry.get(name))


# Hearing


async def test_known_after_one_keep_alive(listener, announce):
    """One keep-alive makes a service known, whoever sent it."""
    await announce("app.hand")
    service = await wait_for_service(listener, "hand")
    assert service.name.fqn == f"{DOMAIN}.app.hand"
    assert listener.list_services() == [{"domain": DOMAIN, "type": "app", "id": "hand"}]
    row = listener.registry.df.iloc[0]
    assert (row.domain, row.type, row.id) == (DOMAIN, "app", "hand")
    assert (row.state, row.instances, row.version, row.methods) == ("up", 1, "", "")


async def test_member_tells_version_and_methods(members, listener):
    """A fabric_nb member is known with its version and its methods' signatures."""
    member = await members.join("one", service_version="1.2")
    await member.serve({"multiply": lambda x, y=2: x * y}, version="1.3", id="two")
    service = await wait_for_service(listener, "two", methods=2)
    assert service.methods == {"multiply": "(x, y=2)", "health_check": "() -> bool"}
    assert service.versions(listener.registry.now) == ["1.3"]
    assert (await wait_for_service(listener, "one")).versions(listener.registry.now) == ["1.2"]


async def test_newcomer_is_told_at_once(members):
    """Who comes later asks around, and knows the others at once, however seldom they announce."""
    await members.join("old", keep_alive_seconds=60)
    newcomer = await members.join("new", keep_alive_seconds=60)
    await wait_for_service(newcomer, "old", timeout=3)


async def test_late_and_gone_by_its_own_interval(listener, announce):
    """A service is late and then gone by the interval it told, not by that of others."""
    await announce("app.quick", {"instance": "q", "interval": 0.1})
    await announce("app.slow", {"instance": "s", "interval": 60})
    await wait_for_service(listener, "slow")
    began = time.monotonic()
    await wait_for_service(listener, "quick")
    assert state_of(listener, "app.quick") is ServiceState.UP
    await until(lambda: state_of(listener, "app.quick") is ServiceState.LATE, timeout=3)
    assert time.monotonic() - began >= 0.5
    await until(lambda: state_of(listener, "app.quick") is ServiceState.GONE, timeout=3)
    assert state_of(listener, "app.slow") is ServiceState.UP
    assert [one["id"] for one in listener.list_services()] == ["slow"]
    assert list(listener.registry.df["state"]) == ["gone", "up"]


async def test_who_has_answered_keeps_its_place(members, listener):
    """A service that has answered a call, or given items, is not given up for others."""

    def items():
        yield 1

    for name in ("called", "streamed"):
        server = await members.join(name)
        await server.serve({"one": lambda: 1, "items": items})
        await wait_for_service(listener, name, methods=3)
    assert await listener.call("called.one") == 1
    assert [item async for item in listener.call_stream("streamed.items")] == [1]
    assert {name.id for name in listener.registry._eviction.pinned} == {"called", "streamed"}


async def test_interval_is_observed_where_it_is_not_told(listener, announce):
    """A peer that tells no interval is judged by the one it keeps."""
    clock = [1000.0]
    listener.registry._clock = ReceptionClock(lambda: clock[0])
    for changes in range(1, 6):
        await announce("app.hand")
        await until(lambda changes=changes: listener.registry.changes == changes)
        clock[0] += 12
    for more, state in ((4, ServiceState.UP), (8, ServiceState.LATE), (24, ServiceState.GONE)):
        clock[0] += more
        assert state_of(listener, "app.hand") is state


async def test_goodbye_is_known_at_once(members, listener):
    """A member that closes is gone at once, long before it would be missed."""
    member = await members.join("leaver", keep_alive_seconds=60)
    await wait_for_service(listener, "leaver")
    await member.close()
    await until(lambda: state_of(listener, "app.leaver") is ServiceState.GONE, timeout=2)


async def test_member_that_comes_back(members, listener):
    """A service that left and came back is up again."""
    for _ in range(2):
        member = await members.join("leaver", keep_alive_seconds=60)
        await wait_for_service(listener, "leaver")
        await member.close()
        await until(lambda: state_of(listener, "app.leaver") is ServiceState.GONE, timeout=2)


async def test_list_services_matches_exactly(listener, announce):
    """`list_services` matches whole names: proj does not list project2."""
    for domain in ("proj", "project2"):
        for service in ("calc.one", "calc2.two"):
            await announce(service, domain=domain)
    await until(lambda: len(listener.list_services()) == 4)
    assert listener.list_services("proj", "calc") == [
        {"domain": "proj", "type": "calc", "id": "one"}
    ]
    assert len(listener.list_services(service_domain="proj")) == 2
    assert len(listener.list_services(service_type="calc2")) == 2
    assert listener.list_services("pro") == []


async def test_discovery_cache_ttl(members, announce):
    """`discovery_cache_ttl` says how long a service stays listed, as in amqp-fabric."""
    listener = await members.join(
        "ttl", type="client", keep_alive_seconds=False, discovery_cache_ttl=0.3
    )
    await announce("app.hand", {"instance": "x", "interval": 60})
    await until(lambda: listener.list_services())
    await until(lambda: not listener.list_services(), timeout=2)


async def test_mixed_versions_are_shown(members, listener):
    """A clique is one row, with the number of its members and all their versions."""
    await members.join("pair", service_version="1.0")
    await members.join("pair", service_version="2.0")
    await wait_for_service(listener, "pair", instances=2)
    row = listener.registry.df.iloc[0]
    assert row.instances == 2
    assert row.version == "1.0, 2.0"


async def test_keep_alive_callbacks(members, announce):
    """Callbacks get the headers of the keep-alives that match, by domain, type and id."""
    connector = members.connector("listener", type="client", keep_alive_seconds=False)
    got = {name: [] for name in ("all", "type", "id", "domain", "failing")}

    def into(name):
        async def callback(headers):
            got[name].append((headers["service_domain"], headers["service_id"]))
            if name == "failing":
                raise ValueError("callback failed")

        return callback

    connector.subscribe_service_keepalives("s", into("failing"))
    connector.subscribe_service_keepalives("s", into("all"))
    connector.subscribe_service_keepalives("s", into("type"), service_type="other")
    connector.subscribe_service_keepalives("s", into("id"), service_id="one")
    connector.subscribe_service_keepalives("s", into("domain"), service_domain="elsewhere")
    async with connector:
        await announce("app.one")
        await announce("other.two")
        await announce("app.three", domain="elsewhere")
        await until(lambda: len(got["all"]) == 3)
    assert got["type"] == [(DOMAIN, "two")]
    assert got["id"] == [(DOMAIN, "one")]
    assert got["domain"] == [("elsewhere", "three")]
    assert len(got["failing"]) == 3

    deaf = members.connector("deaf", keep_alive_listen=False)
    with pytest.raises(AssertionError, match="keep_alive_listen"):
        deaf.subscribe_service_keepalives("s", into("all"))


# Announcing


async def test_announcements_go_on(members, announcements):
    """A member announces itself at once and then at its interval, with amqp-fabric's headers."""
    await members.join("one", service_version="1.2")
    began = time.monotonic()
    for _ in range(4):
        message = await announcements(msg_type="keep_alive", service_id="one")
    assert time.monotonic() - began >= 2 * KEEP_ALIVE
    assert message.headers == {
        "msg_type": "keep_alive",
        "service_domain": DOMAIN,
        "service_type": "app",
        "service_id": "one",
    }
    said = json.loads(message.body)
    assert said["version"] == "1.2"
    assert said["interval"] == KEEP_ALIVE


async def test_announcement_of_many_methods_stays_small(members, listener, announcements):
    """However many methods there are, a keep-alive stays under 4 KiB and tells what is left out."""

    def method(x: dict[str, list[tuple[int, str]]], y: str = 'ü"\\') -> dict[str, float]:
        return {}

    member = await members.join("many", service_version="ü" * 100)
    await member.serve({f"method_{n}": method for n in range(150)})
    service = await wait_for_service(listener, "many", methods=5)
    message = await announcements(msg_type="keep_alive", service_id="many")
    while not json.loads(message.body)["methods"]:
        message = await announcements(msg_type="keep_alive", service_id="many")
    assert len(message.body) < MAX_ANNOUNCEMENT == 4096
    said = json.loads(message.body)
    assert said["more_methods"] + len(said["methods"]) == 151
    assert max(one.announcement.more_methods for one in service.instances.values()) > 0
    assert await listener.call("many.method_149", x={}) == {}  # told or not, it is served
    await listener.service("many").load()


class OtherLoop:
    """A member on a loop of its own, in a thread, which can be blocked."""

    def __init__(self, connector):
        self._connector = connector
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    async def __aenter__(self):
        self._thread.start()
        await self._run(self._connector.open())
        return self

    async def __aexit__(self, *_):
        await self._run(self._connector.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    def block(self, until_set):
        self._loop.call_soon_threadsafe(until_set.wait, 20)

    async def _run(self, work):
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


async def test_presence_from_a_thread(members, listener):
    """With `presence="thread"` a member whose loop is blocked stays there, and says it is busy."""
    connector = members.connector("cell", presence="thread", keep_alive_listen=False)
    release = threading.Event()
    async with OtherLoop(connector) as other:
        service = await wait_for_service(listener, "cell")
        assert listener.registry.state(service) is ServiceState.UP
        other.block(release)
        try:
            await until(lambda: listener.registry.state(service) is ServiceState.BUSY, timeout=6)
            (instance,) = service.present(listener.registry.now)
            assert time.time() - instance.announcement.busy_since < 10
            for _ in range(3):
                await listener.registry.changed()
            assert listener.registry.state(service) is ServiceState.BUSY
        finally:
            release.set()
        await until(lambda: listener.registry.state(service) is ServiceState.UP, timeout=5)
    await until(lambda: listener.registry.state(service) is ServiceState.GONE, timeout=2)
    assert "fabric companion" not in {thread.name for thread in threading.enumerate()}


async def test_presence_on_a_blocked_loop_is_late(members, listener):
    """Without the thread, a blocked loop is silent, and the member looks late."""
    connector = members.connector("cell", keep_alive_listen=False, keep_alive_seconds=0.1)
    release = threading.Event()
    async with OtherLoop(connector) as other:
        service = await wait_for_service(listener, "cell")
        other.block(release)
        try:
            await until(lambda: listener.registry.state(service) is ServiceState.LATE, timeout=5)
        finally:
            release.set()
        await until(lambda: listener.registry.state(service) is ServiceState.UP, timeout=5)
