"""Registry, and announcements of members."""

from __future__ import annotations

import asyncio
import contextlib
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
    """Return a member that listens, but is not announced."""
    return await members.join("listener", type="client", keep_alive_seconds=False)


@pytest.fixture
async def announcements(raw):
    """Return a function for the next message of the discovery exchange."""
    exchange = await raw.declare_exchange("msc.discovery", "headers", durable=True)
    queue = await raw.declare_queue(exclusive=True)
    await queue.bind(exchange)
    received = asyncio.Queue()
    await queue.consume(received.put, no_ack=True)

    async def next_message(**headers):
        async with asyncio.timeout(60):
            while True:
                message = await received.get()
                if headers.items() <= message.headers.items():
                    return message

    return next_message


@pytest.fixture
def announce(raw):
    """Return a function that publishes a keep-alive."""

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
        each.name for each in listener.registry.services(gone=True) if each.name.id == pattern[2]
    )
    return listener.registry.state(listener.registry.get(name))


# -- listening


async def test_known_after_one_keep_alive(listener, announce):
    """A service is known after one keep-alive of any sender."""
    await announce("app.hand")
    service = await wait_for_service(listener, "hand")
    assert service.name.fqn == f"{DOMAIN}.app.hand"
    assert listener.list_services() == [{"domain": DOMAIN, "type": "app", "id": "hand"}]
    row = listener.registry.df.iloc[0]
    assert (row.domain, row.type, row.id) == (DOMAIN, "app", "hand")
    assert (row.state, row.instances, row.version, row.methods) == ("up", 1, "", "")


async def test_version_and_methods(members, listener):
    """A fabric_nb member announces its version and the signatures of its methods."""
    member = await members.join("one", service_version="1.2")
    await member.serve({"multiply": lambda x, y=2: x * y}, version="1.3", id="two")
    service = await wait_for_service(listener, "two", methods=2)
    assert service.methods == {"multiply": "(x, y=2)", "health_check": "() -> bool"}
    assert service.versions(listener.registry.now) == ["1.3"]
    assert (await wait_for_service(listener, "one")).versions(listener.registry.now) == ["1.2"]


@pytest.mark.parametrize("listens", [True, False])
async def test_keep_alives_are_requested_when_opening(members, listens):
    """A new member requests keep-alives, so it knows the others despite their long interval.

    Members that listen to no keep-alives answer too.
    """
    await members.join("old", keep_alive_seconds=600, keep_alive_listen=listens)
    newcomer = await members.join("new", keep_alive_seconds=600)
    await wait_for_service(newcomer, "old")


async def test_late_and_gone_by_its_own_interval(listener, announce):
    """A service is late and then gone by the interval that it announces itself."""
    await announce("app.quick", {"instance": "q", "interval": 0.1})
    await announce("app.slow", {"instance": "s", "interval": 60})
    await wait_for_service(listener, "slow")
    start = time.monotonic()
    await wait_for_service(listener, "quick")
    await until(lambda: state_of(listener, "app.quick") is ServiceState.LATE)
    assert time.monotonic() - start >= 0.5
    await until(lambda: state_of(listener, "app.quick") is ServiceState.GONE)
    assert state_of(listener, "app.slow") is ServiceState.UP
    assert [service["id"] for service in listener.list_services()] == ["slow"]
    assert list(listener.registry.df["state"]) == ["gone", "up"]


async def test_services_that_replied_are_pinned(members, listener):
    """A service that has replied to a call, or sent items, is never evicted."""

    def items():
        yield 1

    for name in ("called", "streamed"):
        server = await members.join(name)
        await server.serve({"one": lambda: 1, "items": items})
        await wait_for_service(listener, name, methods=3)
    assert await listener.call("called.one") == 1
    assert [item async for item in listener.call_stream("streamed.items")] == [1]
    assert {name.id for name in listener.registry.eviction.pinned} == {"called", "streamed"}


async def test_interval_is_observed(listener, announce):
    """The interval of a peer that announces none is observed."""
    clock = [1000.0]
    listener.registry.clock = ReceptionClock(lambda: clock[0])
    for changes in range(1, 6):
        await announce("app.hand")
        await until(lambda changes=changes: listener.registry.changes == changes)
        clock[0] += 12
    for seconds, state in ((4, ServiceState.UP), (8, ServiceState.LATE), (24, ServiceState.GONE)):
        clock[0] += seconds
        assert state_of(listener, "app.hand") is state


async def test_goodbye_takes_effect_at_once(members, listener):
    """A member that closes is gone at once, long before its silence would show."""
    member = await members.join("leaver", keep_alive_seconds=60)
    await wait_for_service(listener, "leaver")
    await member.close()
    await until(lambda: state_of(listener, "app.leaver") is ServiceState.GONE)


async def test_member_that_returns(members, listener):
    """A service that left and returned is up again."""
    for _ in range(2):
        member = await members.join("leaver", keep_alive_seconds=60)
        await wait_for_service(listener, "leaver")
        await member.close()
        await until(lambda: state_of(listener, "app.leaver") is ServiceState.GONE)


async def test_list_services_matches_exactly(listener, announce):
    """`list_services` matches whole names: `proj` does not match `project2`."""
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
    """`discovery_cache_ttl` limits how long a service is listed, as in amqp-fabric."""
    listener = await members.join(
        "ttl", type="client", keep_alive_seconds=False, discovery_cache_ttl=0.3
    )
    await announce("app.hand", {"instance": "x", "interval": 60})
    await until(lambda: listener.list_services())
    await until(lambda: not listener.list_services())


async def test_mixed_versions_are_shown(members, listener):
    """A clique is one row, with the number of its instances and all their versions."""
    await members.join("pair", service_version="1.0")
    await members.join("pair", service_version="2.0")
    await wait_for_service(listener, "pair", instances=2)
    row = listener.registry.df.iloc[0]
    assert row.instances == 2
    assert row.version == "1.0, 2.0"


async def test_keep_alive_callbacks(members, announce):
    """Callbacks receive the headers of keep-alives that match domain, type and id."""
    connector = members.connector("listener", type="client", keep_alive_seconds=False)
    received = {name: [] for name in ("all", "type", "id", "domain", "failing")}

    def into(name):
        async def callback(headers):
            received[name].append((headers["service_domain"], headers["service_id"]))
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
        await until(lambda: len(received["all"]) == 3)
    assert received["type"] == [(DOMAIN, "two")]
    assert received["id"] == [(DOMAIN, "one")]
    assert received["domain"] == [("elsewhere", "three")]
    assert len(received["failing"]) == 3

    silent = members.connector("silent", keep_alive_listen=False)
    with pytest.raises(AssertionError, match="keep_alive_listen"):
        silent.subscribe_service_keepalives("s", into("all"))


# -- announcing


async def test_announcements_are_repeated(members, announcements):
    """A member announces itself at once and then periodically, with amqp-fabric's headers."""
    await members.join("one", service_version="1.2")
    start = time.monotonic()
    for _ in range(4):
        message = await announcements(msg_type="keep_alive", service_id="one")
    assert time.monotonic() - start >= 2 * KEEP_ALIVE
    assert message.headers == {
        "msg_type": "keep_alive",
        "service_domain": DOMAIN,
        "service_type": "app",
        "service_id": "one",
    }
    announcement = json.loads(message.body)
    assert announcement["version"] == "1.2"
    assert announcement["interval"] == KEEP_ALIVE


async def test_announcement_of_many_methods_stays_small(members, listener, announcements):
    """With many methods a keep-alive stays under 4 KiB, and has the number of omitted ones."""

    def method(x: dict[str, list[tuple[int, str]]], y: str = 'ü"\\') -> dict[str, float]:
        return {}

    member = await members.join("many", service_version="ü" * 100)
    await member.serve({f"method_{n}": method for n in range(150)})
    service = await wait_for_service(listener, "many", methods=5)
    message = await announcements(msg_type="keep_alive", service_id="many")
    while not json.loads(message.body)["methods"]:
        message = await announcements(msg_type="keep_alive", service_id="many")
    assert len(message.body) < MAX_ANNOUNCEMENT == 4096
    announcement = json.loads(message.body)
    assert announcement["more_methods"] + len(announcement["methods"]) == 151
    assert max(each.announcement.more_methods for each in service.instances.values()) > 0
    assert (
        await listener.call("many.method_149", x={}) == {}
    )  # served, whether or not it is announced
    await listener.service("many").load()


async def test_statistics_are_announced(members, announcements):
    """Keep-alives of a service have its calls; those of a member that serves nothing have none."""
    member = await members.join("calm")
    await member.serve({"double": lambda x: 2 * x}, id="busy")
    caller = await members.join("caller")
    for x in (1, 2, None):
        with contextlib.suppress(TypeError):
            await caller.call("busy.double", x=x)
    statistics = {}
    while statistics.get("all", [0])[0] < 3:
        message = await announcements(msg_type="keep_alive", service_id="busy")
        statistics = json.loads(message.body)["stats"]
    assert statistics["all"][:3] == [3, 1, 0]
    assert list(statistics["methods"]) == ["double"]
    assert statistics["methods"]["double"][:3] == [3, 1, 0]
    message = await announcements(msg_type="keep_alive", service_id="calm")
    assert "stats" not in json.loads(message.body)


async def test_hostile_statistics(listener, announce):
    """Statistics that cannot be read are counted as rejected; the service is known without them.

    Counts that are possible are shown as they are.
    """
    impossible = ({"since": 1, "all": [-1, 0, 0, None]}, {"since": "x"}, [], "9" * 10_000)
    for number, stats in enumerate(impossible):
        body = {"instance": "i", "interval": 60, "version": "1", "stats": stats}
        await announce(f"app.bad{number}", body)
    stats = {"since": 5, "all": [2**53, 2**53, 7, 1e300], "methods": {"f": [1], "no name": [1]}}
    await announce("app.huge", {"instance": "i", "interval": 60, "stats": stats})
    await wait_for_service(listener, "huge")
    frame = listener.registry.df.set_index("id")
    assert listener.rejected.counts == {"keep-alive": len(impossible)}
    assert set(frame.loc["bad0":"bad3", "version"]) == {"1"}
    assert frame.loc["bad0":"bad3", "calls"].isna().all()
    assert frame.loc["huge", ["calls", "errors", "running"]].tolist() == [2**53, 2**53, 7]
    assert frame.loc[["huge"], "p95_ms":].isna().all(axis=None)
    await announce("app.huge", {"instance": "i", "interval": 60, "stats": {**stats, "since": 1}})
    await until(lambda: listener.registry.changes == len(impossible) + 2)
    assert frame.loc[["huge"], ["calls_s", "errors_s"]].isna().all(axis=None)


async def count_until(listener, **counts):
    """Have queues counted until a row of the registry has these values."""

    def row():
        return listener.registry.df.set_index("id").loc["hand"]

    await until(lambda: (row()[list(counts)] == list(counts.values())).all(), found=row)


@pytest.fixture
async def held(raw):
    """Return a queue of a service on amqp-fabric with two consumers, which accept a call each."""
    queue = await raw.declare_queue(f"{DOMAIN}.api.app.hand::health_check", auto_delete=True)
    await raw.set_qos(1)
    for _ in range(2):
        await queue.consume(asyncio.Queue().put)
    return queue


async def test_instances_are_consumers(listener, announce, raw, held):
    """Instances without an id are counted by the consumers of their queues, with waiting calls."""
    for _ in range(5):
        await raw.default_exchange.publish(aio_pika.Message(b""), held.name)
    await announce("app.hand")
    await wait_for_service(listener, "hand")
    await count_until(listener, instances=2, waiting=3)
    service = listener.registry.find("hand", domain=DOMAIN)[0]
    assert service.instance_count(listener.registry.now) == (2, False)


async def test_instances_that_cannot_be_counted(listener, announce, broker_uri):
    """If the broker refuses to count consumers, the number of instances is a minimum."""
    async with await aio_pika.connect(broker_uri) as other:
        channel = await other.channel()
        # The broker refuses to tell another connection of an exclusive queue.
        await channel.declare_queue(f"{DOMAIN}.api.app.hand::health_check", exclusive=True)
        await announce("app.hand")
        await announce("app.none", domain="elsewhere")  # without a queue
        services = [
            await wait_for_service(listener, name) for name in ("hand", "elsewhere.app.none")
        ]
        listener.registry.want_counts()
        await until(lambda: all(service.counted > 0 for service in services))
        for service in services:
            assert service.instance_count(listener.registry.now) == (1, True)
        assert listener.registry.df.waiting.isna().all()


class OtherLoop:
    """Member on a loop of its own, in a thread, which can be blocked."""

    def __init__(self, connector):
        self._connector = connector
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    async def __aenter__(self):
        self._thread.start()
        await self.run(self._connector.open())
        return self

    async def __aexit__(self, *_):
        await self.run(self._connector.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    def block(self, until_set):
        self._loop.call_soon_threadsafe(until_set.wait, 20)

    async def run(self, work):
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


async def test_keep_alives_from_a_thread(members, listener):
    """With `presence="thread"` a member with a blocked loop is announced as busy."""
    connector = members.connector("cell", presence="thread", keep_alive_listen=False)
    release = threading.Event()
    async with OtherLoop(connector) as other:
        service = await wait_for_service(listener, "cell")
        await until(lambda: listener.registry.state(service) is ServiceState.UP)
        other.block(release)
        try:
            await until(lambda: listener.registry.state(service) is ServiceState.BUSY)
            (instance,) = service.present(listener.registry.now)
            assert time.time() - instance.announcement.busy_since < 10
            for _ in range(3):
                await listener.registry.changed()
            assert listener.registry.state(service) is ServiceState.BUSY
        finally:
            release.set()
        await until(lambda: listener.registry.state(service) is ServiceState.UP)
    await until(lambda: listener.registry.state(service) is ServiceState.GONE)
    assert "fabric companion" not in {thread.name for thread in threading.enumerate()}


async def test_statistics_of_a_blocked_loop(members, listener):
    """A call that blocks the loop of its instance is shown as running meanwhile."""
    connector = members.connector("cell", presence="thread", keep_alive_listen=False)
    release = threading.Event()

    def block():
        return release.wait(20)

    def row():
        return listener.registry.df.set_index("id").loc["cell"]

    async with OtherLoop(connector) as other:
        await other.run(connector.serve({"block": block}))
        await wait_for_service(listener, "cell", methods=2)
        call = asyncio.create_task(listener.call("cell.block"))
        try:
            await until(lambda: row().state == "busy" and row().running == 1, found=row)
            assert row().calls == 0
        finally:
            release.set()
        assert await call
        await until(lambda: row().running == 0 and row().calls == 1, found=row)
        await until(lambda: row().calls_s == 0, found=row)


async def test_keep_alives_from_a_blocked_loop(members, listener):
    """Without the thread a member with a blocked loop is late."""
    connector = members.connector("cell", keep_alive_listen=False, keep_alive_seconds=0.1)
    release = threading.Event()
    async with OtherLoop(connector) as other:
        service = await wait_for_service(listener, "cell")
        other.block(release)
        try:
            await until(lambda: listener.registry.state(service) is ServiceState.LATE)
        finally:
            release.set()
        await until(lambda: listener.registry.state(service) is ServiceState.UP)


async def test_a_paused_observer_receives_no_keep_alives(members, listener) -> None:
    """The panel's connection begins with the services of the notebook, and receives on demand."""
    calc = await members.join("calc", type="app")
    await calc.serve({"double": lambda x: 2 * x})
    known = listener.member.registry
    service = await wait_for_service(listener, "app.calc")
    known.record_reply(service.name, "double")
    async with listener.member.observer() as observer:
        assert observer.listener.paused
        observer.registry.copy_from(known)
        copied = observer.registry.get(service.name)
        assert copied is not None
        assert copied is not service
        assert copied.methods == service.methods
        assert known.state(service) is observer.registry.state(copied) is ServiceState.UP
        changes = observer.registry.changes
        await members.join("new", type="app")
        await wait_for_service(listener, "app.new")
        assert (observer.registry.changes, observer.registry.find("app.new", domain=DOMAIN)) == (
            changes,
            [],
        )
        await observer.listener.resume()
        await until(lambda: observer.registry.find("app.new", domain=DOMAIN))
        assert not observer.registry.stale
        await observer.listener.pause()
        changes = observer.registry.changes
        await members.join("newest", type="app")
        await wait_for_service(listener, "app.newest")
        assert observer.registry.changes == changes
        assert observer.registry.find("app.new", domain=DOMAIN)
