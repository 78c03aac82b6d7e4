"""The doctor: each problem that it checks for, on real brokers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.errors import printable
from fabric_nb.fabric.doctor.broker import broker_support
from fabric_nb.fabric.doctor.findings import Diagnosis, Finding, Severity
from tests.broker.process import QUOTED_PASSWORD, USER, BrokerProcess
from tests.faults.test_permissions import permissions
from tests.support.certificates import Certificates
from tests.support.fabric import Members, until, wait_for_service
from tests.support.peers import DOMAIN
from tests.support.rabbitmq_supervisor import transient_queues_denied

if TYPE_CHECKING:
    from fabric_nb.fabric.core.tasks import Failures
    from tests.conftest import StartPeer
from tests.support.rabbitmq import RabbitMq

WAIT = 0.3
"""Seconds: fabric_nb members answer at once."""
OK, WARNING, ERROR = Severity.OK, Severity.WARNING, Severity.ERROR


def of(diagnosis: Diagnosis, check: str) -> Finding:
    """Return the finding of a check; one with a problem must have advice."""
    (found,) = [one for one in diagnosis if one.check == check]
    assert bool(found.advice) or found.severity in (OK, Severity.UNKNOWN), found
    return found


def stranger(uri: str, id: str = "stranger", **options: Any) -> AmqBrokerConnector:  # noqa: A002
    """Return a member that is not connected."""
    return AmqBrokerConnector(uri, DOMAIN, "app", id, **options)


async def checked(uri: str, **options: Any) -> Diagnosis:
    """Return the diagnosis of a member that is not connected."""
    return await stranger(uri, **options).diagnose(seconds=WAIT)


@pytest.fixture
def embedded() -> Iterator[BrokerProcess]:
    """Embedded broker of the test."""
    with BrokerProcess() as broker:
        yield broker


# -- nothing is wrong


async def test_nothing_wrong(members: Members) -> None:
    """Without problems all findings are ok, connected or not, and other members notice nothing."""
    member, other = await members.join("one"), await members.join("other")
    await other.serve({"f": lambda: 1})
    stream, logs = await other.stream(), await other.logs()
    await wait_for_service(member, "other", methods=1)
    for diagnosis in (await member.diagnose(seconds=WAIT), await checked(members.uri)):
        problems = [one.check for one in diagnosis if one.severity is not OK]
        assert problems == (["transient queues"] if transient_queues_denied() else [])
        assert "on fabric_nb" in of(diagnosis, "peers").found
        assert "ms" in of(diagnosis, "broker").found
        assert of(diagnosis, "libraries").found == "The versions of all libraries are supported."
        assert of(diagnosis, "product").found
    assert (stream.messages, logs.changes, other.rejected.total) == (0, 0, 0)
    assert not other.registry.find("stranger", domain=DOMAIN)


@pytest.mark.parametrize(
    ("product", "severity", "text"),
    [
        ("RabbitMQ 3.10.8", OK, "RabbitMQ 3.10.8 is supported."),
        ("RabbitMQ 4.3.0+beta", OK, "RabbitMQ 4.3.0+beta is supported."),
        ("fabric_nb embedded broker 1", OK, "fabric_nb embedded broker 1, for development."),
        ("RabbitMQ 3.9.29", WARNING, "RabbitMQ 3.9.29 is not supported: RabbitMQ 3.10 and later"),
        ("LavinMQ 2.1", WARNING, "LavinMQ 2.1 is not supported: RabbitMQ 3.10 and later are."),
        ("", WARNING, "A broker of an unknown product is not supported: RabbitMQ 3.10 and later"),
    ],
)
def test_supported_brokers(product: str, severity: Severity, text: str) -> None:
    """A broker that is not supported is named, with those that are."""
    finding = broker_support(product)
    assert (finding.severity, bool(finding.advice)) == (severity, severity is WARNING)
    assert finding.found.startswith(text)


async def test_limits_of_the_broker(members: Members) -> None:
    """The known limits of the broker are findings, and so is that they are not known."""
    member = await members.join("one")
    diagnosis = await member.diagnose(seconds=WAIT)
    assert "4,096 bytes were accepted" in of(diagnosis, "message size").found
    assert "Not known yet" in of(diagnosis, "consumer timeout").found
    member.member.connection.capabilities.consumer_timeout = 3.0
    member.member.connection.capabilities.max_message_size = 1_000_000
    diagnosis = await member.diagnose(seconds=WAIT)
    assert "up to 1,000,000 bytes" in of(diagnosis, "message size").found
    found = of(diagnosis, "consumer timeout")
    assert found.severity is WARNING
    assert "within 3 s" in found.found


async def test_failed_background_work(members: Members, failures: Failures) -> None:
    """An error in background work, which no caller receives, is a finding."""
    member = await members.join("one")

    async def fail(_: object) -> None:
        raise LookupError("no \x1b[31msuch thing")

    member.subscribe_service_keepalives("mine", fail)
    await until(lambda: failures.total)
    found = of(await member.diagnose(seconds=WAIT), "background work")
    assert found.severity is WARNING
    assert "keep-alive callback" in found.found
    assert "LookupError: no \ufffd[31msuch thing" in found.found
    assert member.failures.last[-1].error.startswith("LookupError")


async def test_it_leaves_nothing_behind(rabbitmq: RabbitMq, vhost: str, rabbitmq_uri: str) -> None:
    """The doctor leaves no exchange, queue, binding or connection behind."""

    def there() -> tuple[object, ...]:
        return (
            sorted(queue["name"] for queue in rabbitmq.list_queues(vhost)),
            sorted(exchange["name"] for exchange in rabbitmq.list_exchanges(vhost)),
            sorted((one["source"], one["destination"]) for one in rabbitmq.list_bindings(vhost)),
            len(rabbitmq.list_connections(vhost)),
        )

    async def as_before(before: tuple[object, ...]) -> None:
        async with asyncio.timeout(60):  # the broker forgets a closed connection some time later
            while await asyncio.to_thread(there) != before:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.05)

    before = await asyncio.to_thread(there)
    assert before == ([], [], [], 0)
    assert (await checked(rabbitmq_uri)).worst is not ERROR
    await as_before(before)
    async with Members(rabbitmq_uri) as members:
        member = await members.join("one")
        await member.serve({"f": lambda: 1})
        before = await asyncio.to_thread(there)
        assert (await member.diagnose(seconds=WAIT)).count(OK) > 15
        await as_before(before)


# -- the broker


@pytest.mark.parametrize(
    ("login", "place", "check", "text"),
    [
        (f"{USER}:wr0ng", "", "login", "password is wrong"),
        (f"{USER}:{QUOTED_PASSWORD}", "nowhere", "login", "no virtual host 'nowhere'"),
    ],
)
async def test_refused_logins(
    embedded: BrokerProcess, login: str, place: str, check: str, text: str
) -> None:
    """A wrong password or virtual host is a finding with advice, without the password."""
    diagnosis = await checked(f"amqp://{login}@127.0.0.1:{embedded.port}/{place}")
    assert of(diagnosis, check).severity is ERROR
    assert text in of(diagnosis, check).found
    for shown in (str(diagnosis), repr(diagnosis), repr(diagnosis.as_json()), repr(diagnosis.df)):
        assert "wr0ng" not in shown
        assert QUOTED_PASSWORD not in shown


async def test_broker_that_is_not_available() -> None:
    """Without a broker, TLS and heartbeat are checked nevertheless."""
    uri = "amqp://ann:s3cret@192.0.2.1:5672/?heartbeat=5"  # for documentation (RFC 5737)
    diagnosis = await stranger(uri).diagnose(seconds=WAIT, timeout=0.3)
    assert of(diagnosis, "broker").severity is ERROR
    assert "in the clear" in of(diagnosis, "tls").found
    assert of(diagnosis, "tls").severity is WARNING
    assert "more than 10 s" in of(diagnosis, "heartbeat").found
    assert of(diagnosis, "heartbeat").severity is WARNING
    assert "s3cret" not in str(diagnosis)


async def test_heartbeat_that_is_off() -> None:
    """Without heartbeats, the finding warns that an idle connection may be dropped."""
    diagnosis = await stranger("amqp://127.0.0.1:1/", heartbeat=0).diagnose(timeout=1)
    assert of(diagnosis, "heartbeat").severity is WARNING
    assert of(diagnosis, "tls").severity is OK  # it is this machine


async def test_broker_that_stops_answering(embedded: BrokerProcess) -> None:
    """If the broker stops answering, the checks end in time, with the earlier findings."""
    async with relay(embedded.port, silent_at=b"msc.discovery") as port:
        uri = f"amqp://{USER}:{QUOTED_PASSWORD}@127.0.0.1:{port}/"
        diagnosis = await stranger(uri).diagnose(seconds=0.1, timeout=3)
    first, *_, last = diagnosis
    assert (first.check, first.severity) == ("broker", OK)
    assert (last.check, last.severity) == ("broker", ERROR)
    assert "stopped answering" in last.found


async def test_blocked_broker(rabbitmq: RabbitMq, rabbitmq_uri: str) -> None:
    """A broker that is low on memory is reported with its reason."""
    await asyncio.to_thread(rabbitmq.set_memory_alarm, raised=True)
    try:
        diagnosis = await stranger(rabbitmq_uri).diagnose(seconds=0.1, timeout=3)
    finally:
        await asyncio.to_thread(rabbitmq.set_memory_alarm, raised=False)
    assert of(diagnosis, "alarm").severity is ERROR
    assert "low on memory" in of(diagnosis, "alarm").found


async def test_broker_that_refuses_transient_queues() -> None:
    """If transient queues are refused, the finding says that amqp-fabric cannot run."""
    with BrokerProcess("--deny", "transient_nonexcl_queues") as broker:
        diagnosis = await checked(broker.uri)
    refused = of(diagnosis, "transient queues")
    assert refused.severity is WARNING
    assert "amqp-fabric cannot run" in refused.found
    assert "rabbitmq.conf" in refused.advice
    assert of(diagnosis, "serve").severity is OK
    assert diagnosis.worst is WARNING


@asynccontextmanager
async def relay(
    port: int, *, tls: ssl.SSLContext | None = None, silent_at: bytes | None = None
) -> AsyncIterator[int]:
    """Yield a port that forwards to another one, over TLS or until a condition, then nowhere."""
    silent = asyncio.Event()
    connections: list[asyncio.Task[None]] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if silent_at is not None and silent_at in data:
                silent.set()
            if not silent.is_set():
                writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        connections.append(asyncio.ensure_future(pass_on(there, writer)))
        connections.append(asyncio.ensure_future(pass_on(reader, back)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


@pytest.mark.parametrize(
    ("days", "options", "severity", "text"),
    [
        (30, "cafile={authority}", OK, "for 30 days"),
        (3, "cafile={authority}", WARNING, "for 3 days only"),
        (30, "no_verify_ssl=1", WARNING, "not verified"),
        (-1, "cafile={authority}", ERROR, "has expired"),
        (30, "", ERROR, "authority"),
    ],
)
async def test_tls(
    embedded: BrokerProcess,
    tmp_path: Path,
    days: int,
    options: str,
    severity: Severity,
    text: str,
) -> None:
    """The finding has the validity of the certificate, and why it is not verified or accepted."""
    certificates = Certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.issue("localhost", days=days))
    async with relay(embedded.port, tls=context) as port:
        query = options.format(authority=certificates.authority)
        uri = f"amqps://{USER}:{QUOTED_PASSWORD}@localhost:{port}/?{query}"
        diagnosis = await checked(uri)
    (found,) = [one for one in diagnosis if one.check == "tls" and one.severity is severity]
    assert text in found.found
    assert found.advice or severity is OK
    assert QUOTED_PASSWORD not in str(diagnosis)


async def test_certificates_of_all_nodes(embedded: BrokerProcess, tmp_path: Path) -> None:
    """The certificate of each node is checked, and a node that cannot be used is reported."""
    certificates = Certificates(tmp_path)
    soon, later, expired = (ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) for _ in range(3))
    for context, days in ((soon, 3), (later, 30), (expired, -1)):
        context.load_cert_chain(certificates.issue("localhost", days=days))
    async with (
        relay(embedded.port, tls=later) as one,
        relay(embedded.port, tls=soon) as other,
        relay(embedded.port, tls=expired) as third,
    ):
        hosts = ",".join(f"localhost:{port}" for port in (one, other, third))
        uri = f"amqps://{USER}:{QUOTED_PASSWORD}@{hosts}/?cafile={certificates.authority}"
        diagnosis = await checked(uri)
    findings = [one for one in diagnosis if one.check == "tls"]
    assert [one.severity for one in findings] == [OK, WARNING, WARNING]
    for found, port, text in zip(
        findings, (one, other, third), ("30 days", "3 days only", "has expired"), strict=True
    ):
        assert f"localhost:{port}" in found.found
        assert text in found.found
    assert QUOTED_PASSWORD not in str(diagnosis)


async def test_silent_nodes(embedded: BrokerProcess, tmp_path: Path) -> None:
    """Silent nodes cost one timeout together, and the checks are completed."""
    certificates = Certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.issue("localhost"))
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(5)]
        ports = [one.getsockname()[1] for one in silent]
        async with relay(embedded.port, tls=context) as port:
            hosts = ",".join(f"localhost:{one}" for one in (port, *ports))
            uri = f"amqps://{USER}:{QUOTED_PASSWORD}@{hosts}/?cafile={certificates.authority}"
            diagnosis = await stranger(uri).diagnose(seconds=WAIT, timeout=5)
    findings = [one for one in diagnosis if one.check == "tls"]
    assert [one.severity for one in findings] == [OK, *5 * [WARNING]]
    assert all("gave no answer within 5 s" in one.found for one in findings[1:])
    assert "could not be completed" not in str(diagnosis)


# -- permissions

ALL = ["call", "serve", "receive keep-alives", "send keep-alives"]
ALL += ["receive data", "publish data", "receive logs", "send logs"]


@pytest.mark.parametrize(
    ("role", "lacking"),
    [
        ("caller", {"serve", "receive data", "publish data", "receive logs", "send logs"}),
        ("watcher", {"call", "serve", "send keep-alives", "publish data", "send logs"}),
        ("server", {"receive data", "publish data", "receive logs", "send logs"}),
        ("no permissions", set(ALL)),
    ],
)
async def test_permissions(
    rabbitmq: RabbitMq, vhost: str, rabbitmq_uri: str, role: str, lacking: set[str]
) -> None:
    """The permission for each operation of a member is checked."""
    async with Members(rabbitmq_uri) as members:
        owner = await members.join("boss")
        await owner.publish_data({"n": 0})
        await (await owner.logs()).close()
        patterns = dict.fromkeys(("configure", "write", "read"), "^$")
        patterns = patterns if role == "no permissions" else permissions(role)
        uri = rabbitmq.add_user(f"user-{vhost}", "secret", vhost=vhost, **patterns)
        diagnosis = await checked(uri)
    assert {check for check in ALL if of(diagnosis, check).severity is not OK} == lacking
    assert diagnosis.worst is (ERROR if role == "no permissions" else WARNING)
    for check in lacking:
        assert "user" in of(diagnosis, check).found.lower(), of(diagnosis, check)
    assert "secret" not in str(diagnosis)


async def test_exchanges_that_are_missing_or_of_another_kind(
    rabbitmq: RabbitMq, vhost: str, rabbitmq_uri: str
) -> None:
    """Missing exchanges, and one of another type, are named."""
    async with await aio_pika.connect(rabbitmq_uri) as connection:
        channel = await connection.channel()
        await channel.declare_exchange(f"{DOMAIN}.data", "topic", durable=True)
        uri = rabbitmq.add_user(f"user-{vhost}", "secret", vhost=vhost, **permissions("server"))
        missing = of(await checked(uri), "receive keep-alives")
        assert missing.severity is ERROR
        assert "'msc.discovery' is not there" in missing.found
        assert "operator make it" in missing.advice
        wrong = of(await checked(rabbitmq_uri), "publish data")
        assert wrong.severity is WARNING
        assert "not a durable headers exchange" in wrong.found


# -- the others; whatever the broker


@pytest.fixture
async def there(embedded: BrokerProcess) -> AsyncIterator[Members]:
    """Connectors that are closed after the test."""
    async with Members(embedded.uri) as members:
        yield members


AHEAD = "import time\n_time = time.time\ntime.time = lambda: _time() + 90\n"


async def test_clocks_that_differ_and_seldom_keep_alives(
    there: Members, start_peer: StartPeer, tmp_path: Path
) -> None:
    """Members of either library with different clocks, or rare keep-alives, are named."""
    (tmp_path / "sitecustomize.py").write_text(AHEAD)
    env = {"PYTHONPATH": str(tmp_path)}
    await asyncio.gather(
        start_peer("calc_service", there.uri, id="theirs", env=env, keep_alive=0.2),
        start_peer("fabric_calc", there.uri, id="ours", env=env, keep_alive=6),
    )
    member = stranger(there.uri, keep_alive_seconds=5)
    diagnosis = await member.diagnose(seconds=1)
    clocks = of(diagnosis, "clocks")
    assert clocks.severity is WARNING
    for peer in ("calc.theirs", "calc.ours"):
        assert any(f"{peer} is {seconds} s ahead" in clocks.found for seconds in (89, 90, 91))
    seldom = of(diagnosis, "keep-alives")
    assert seldom.severity is WARNING
    assert "this member (every 5 s), calc.ours (every 6 s)" in seldom.found
    assert of(diagnosis, "peers").found.startswith("2 members")


async def test_a_name_and_versions_that_are_mixed(there: Members) -> None:
    """Two notebooks with one address, and instances of one service in two versions, are named."""
    one = await there.join("twin", service_version="1.0")
    await there.join("twin", service_version="2.0")
    await wait_for_service(one, "twin", instances=2)
    diagnosis = await one.diagnose(seconds=WAIT)
    assert of(diagnosis, "name").severity is WARNING
    assert "--id" in of(diagnosis, "name").advice
    assert of(diagnosis, "versions").severity is WARNING
    assert "app.twin (1.0, 2.0)" in of(diagnosis, "versions").found


async def test_subscribers_that_share_a_name(there: Members) -> None:
    """Two subscribers of one name are reported while they share the messages."""
    one, other = await there.join("one"), await there.join("other")

    async def take(message: aio_pika.IncomingMessage) -> None:
        await message.ack()

    streams = [await member.stream(name="orders") for member in (one, other)]
    await one.subscribe_data("alone", {"kind": "X"}, take)
    alone, shared = shared_names(await one.diagnose(seconds=WAIT))
    assert "2 subscribers share the name 'orders'" in shared.found
    assert (shared.severity, alone.severity) == (WARNING, OK)
    outside = await stranger(there.uri).diagnose(seconds=WAIT, subscriptions=["orders", "none"])
    assert [name.severity for name in shared_names(outside)] == [OK, WARNING]
    await streams[1].close()
    assert all(name.severity is OK for name in shared_names(await one.diagnose(seconds=WAIT)))


def shared_names(diagnosis: Diagnosis) -> list[Finding]:
    """Return the findings about subscribers, by name."""
    found = [one for one in diagnosis if one.check == "subscriber"]
    return sorted(found, key=lambda one: one.found.partition("'")[2])


async def test_messages_that_cannot_be_read(there: Members) -> None:
    """Rejected messages are reported with the reason, without control characters."""
    one = await there.join("one")
    headers = {"msg_type": "keep_alive", "service_domain": DOMAIN, "service_id": "\x1b[2J"}
    bad = aio_pika.Message(b"", headers={**headers, "service_type": "t"})
    # Of the year 9999, and not on fabric_nb.
    headers = {**headers, "service_type": "t", "service_id": "far"}
    far = aio_pika.Message(b"", headers=headers, timestamp=253_402_300_799)
    async with await aio_pika.connect(there.uri) as connection:
        exchange = await (await connection.channel()).get_exchange("msc.discovery")
        await exchange.publish(bad, "")
        await until(lambda: one.rejected.total)
        looking = asyncio.create_task(stranger(there.uri).diagnose(seconds=0.6))
        while not looking.done():
            for message in (bad, far):
                await exchange.publish(message, "")
            await asyncio.sleep(0.1)
    for diagnosis in (await one.diagnose(seconds=WAIT), await looking):
        unreadable = of(diagnosis, "unreadable messages")
        assert unreadable.severity is WARNING
        assert "keep-alive" in unreadable.found
        assert unreadable.found == printable(unreadable.found)
    assert "t.far is" in of(await looking, "clocks").found


async def test_another_domain(there: Members) -> None:
    """If there are members only in another domain, it is named."""
    await there.join("one", domain="elsewhere")
    diagnosis = await checked(there.uri)
    assert of(diagnosis, "peers").severity is WARNING
    assert of(diagnosis, "peers").found.endswith("but in elsewhere.")
    assert "--domain" in of(diagnosis, "peers").advice
