"""The permissions of `docs/security.md` on a real RabbitMQ."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused
from yarl import URL

from fabric_nb import AmqBrokerConnector, AmqpHandler
from fabric_nb.errors import BrokerRefused, LoginRefused, ServiceLost
from fabric_nb.fabric.amqp.credentials import BrokerUri
from fabric_nb.notebook.connect.finder import BrokerFinder
from tests.support.fabric import Members, until, wait_for_service
from tests.support.peers import DOMAIN, needs_amqp_fabric
from tests.support.rabbitmq_supervisor import rabbitmq_version

if TYPE_CHECKING:
    from tests.support.rabbitmq import RabbitMq

OTHER = "other_project"
PASSWORD = "secret"
DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"


def permissions(role: str) -> dict[str, str]:
    """Return the three patterns of a role in the document."""
    command = f"rabbitmqctl set_permissions -p / {role} "
    (line,) = (text for text in DOCUMENT.read_text().splitlines() if command in text)
    patterns = re.findall(r"'([^']*)'", line)
    return dict(zip(("configure", "write", "read"), patterns, strict=True))


@pytest.fixture
async def owner(members: Members) -> AmqBrokerConnector:
    """Open a member with all permissions that serves, publishes and logs in both domains."""
    for domain in (OTHER, DOMAIN):
        owner = await members.join("boss", domain=domain)
        await owner.serve({"add": lambda x, y: x + y})
        await owner.publish_data({"n": 0})
        await (await owner.logs()).close()
    return owner


@pytest.fixture
async def join(
    members: Members, owner: AmqBrokerConnector, rabbitmq: RabbitMq, vhost: str
) -> Callable[[str], Awaitable[AmqBrokerConnector]]:
    """Return a function that opens a member with the permissions of a role."""

    async def join(role: str) -> AmqBrokerConnector:
        uri = rabbitmq.add_user(f"user-{vhost}", PASSWORD, vhost=vhost, **permissions(role))
        fabric = await members.join("me", uri=uri)
        await wait_for_service(fabric, "boss", methods=1)
        return fabric

    return join


async def assert_refused(work: Awaitable[Any], name: str) -> None:
    """Check for an error of one sentence that names the resource and the missing permission."""
    with pytest.raises(BrokerRefused) as caught:
        await work
    text = str(caught.value)
    assert "\n" not in text
    assert PASSWORD not in text
    assert f"'{name}" in text
    assert "permission" in text or "may not make it" in text
    assert caught.value.code == 403


async def assert_serving_refused(fabric: AmqBrokerConnector, domain: str = DOMAIN) -> None:
    """Check that it may serve neither a new service nor in an existing clique."""
    await assert_refused(fabric.serve({"mine": lambda: 1}), f"{domain}.api.app.me")
    await assert_refused(fabric.serve({"add": lambda x, y: 0}, id="boss"), f"{domain}.api.app.boss")


async def assert_deleting_refused(fabric: AmqBrokerConnector, domain: str = DOMAIN) -> None:
    """Check that it may not delete exchanges."""
    uri = URL(fabric.member.connection.masked_uri).with_password(PASSWORD)
    async with await aio_pika.connect(uri) as connection:
        for exchange in ("msc.discovery", f"{domain}.data", f"{domain}.api.app.boss"):
            channel = await connection.channel()
            with pytest.raises(ChannelAccessRefused):
                await channel.exchange_delete(exchange)


async def test_permissions_of_a_caller(join, owner):
    """A caller may only call the services of one domain."""
    fabric = await join("caller")
    await wait_for_service(owner, "me")
    assert await fabric.call("boss.add", x=1, y=2) == 3
    await assert_refused(fabric.call(f"{OTHER}.app.boss.add", x=1, y=2), f"{OTHER}.api.app.boss")
    await assert_serving_refused(fabric)
    await assert_deleting_refused(fabric)
    await assert_refused(fabric.publish_data({"n": 1}), f"{DOMAIN}.data")
    await assert_refused(fabric.stream(), f"{DOMAIN}.data")
    await assert_refused(fabric.logs(), f"{DOMAIN}.log.records")
    assert await fabric.call("boss.add", x=1, y=2) == 3


@needs_amqp_fabric
async def test_counting_instances_needs_a_permission(join, start_peer, rabbitmq_uri):
    """Instances on amqp-fabric are counted by every caller, or on newer brokers by none."""
    await asyncio.gather(
        *(start_peer("calc_service", rabbitmq_uri, keep_alive=0.3) for _ in range(2))
    )
    fabric = await join("caller")
    service = await wait_for_service(fabric, "calc1")
    fabric.registry.want_counts()
    await until(lambda: service.counted > 0)
    count = service.instance_count(fabric.registry.now)
    assert count == ((2, False) if rabbitmq_version() < [4, 2, 6] else (1, True))
    assert await fabric.call("calc1.multiply", x=2, y=3) == 6


async def test_item_streams_need_a_permission(members, owner, rabbitmq, vhost):
    """Item streams need write permission on the default exchange, as documented."""

    def items():
        yield from range(300)

    await owner.servers[0].replace({"items": items})
    call, every = f"{DOMAIN}.app.boss.items", list(range(300))

    async def join(name: str, more: str = "") -> AmqBrokerConnector:
        allowed = permissions("caller")
        allowed["write"] += more
        uri = rabbitmq.add_user(f"{name}-{vhost}", PASSWORD, vhost=vhost, **allowed)
        return await members.join(name, uri=uri)

    without = await join("without")
    assert await without.call(call, timeout=60) == every
    with pytest.raises(BrokerRefused, match=r"amq\.default"):
        assert [item async for item in without.call_stream(call, timeout=60)]
    having = await join("having", r"|^amq\.default$")
    assert [item async for item in having.call_stream(call, timeout=60)] == every


async def test_permissions_of_a_watcher(join, owner, rabbitmq, vhost, caplog):
    """A watcher may only read services, data and logs of one domain."""
    fabric = await join("watcher")
    async with await fabric.stream() as stream, await fabric.logs():
        await owner.publish_data({"n": 1})
        await stream.wait(1, timeout=60)
    await assert_refused(fabric.stream(domain=OTHER), f"{OTHER}.data")
    await assert_refused(fabric.logs(domain=OTHER), f"{OTHER}.log.records")
    await assert_refused(fabric.call("boss.add", x=1, y=2), f"{DOMAIN}.api.app.boss")
    await assert_serving_refused(fabric)
    await assert_deleting_refused(fabric)
    await assert_refused(fabric.publish_data({"n": 1}), f"{DOMAIN}.data")

    # It may not announce itself either, which is logged once and not retried.
    await until(lambda: "This service cannot be announced" in caplog.text)
    assert not owner.registry.find("me", domain=DOMAIN)
    seen, changes = rabbitmq.log.count("msc.discovery"), fabric.registry.changes
    await until(lambda: fabric.registry.changes > changes + 5)
    assert rabbitmq.log.count("msc.discovery") == seen


async def test_may_serve_in_one_domain(join, owner):
    """A server may serve and call in one domain only."""
    fabric = await join("server")
    await fabric.serve({"twice": lambda x: 2 * x})
    await wait_for_service(owner, "me", methods=1)
    assert await owner.call("me.twice", x=4) == 8
    assert await fabric.call("boss.add", x=1, y=2) == 3
    await assert_refused(fabric.call(f"{OTHER}.app.boss.add", x=1, y=2), f"{OTHER}.api.app.boss")
    await assert_refused(fabric.publish_data({"n": 1}), f"{DOMAIN}.data")
    await assert_refused(fabric.logs(), f"{DOMAIN}.log.records")

    uri = fabric.member.target().uri
    async with AmqBrokerConnector(uri, OTHER, "app", "me", keep_alive_listen=True) as elsewhere:
        await assert_serving_refused(elsewhere, OTHER)
        await assert_deleting_refused(elsewhere, OTHER)


async def test_announcing_needs_no_permission_to_receive(owner, rabbitmq, vhost):
    """A member that does not listen announces itself without the permission to receive."""
    rights = permissions("caller")
    rights["read"] = rights["read"].replace(r"|msc\.discovery", "")
    assert "discovery" not in rights["read"]
    uri = rabbitmq.add_user(f"user-{vhost}", PASSWORD, vhost=vhost, **rights)
    async with AmqBrokerConnector(uri, DOMAIN, "app", "announcer", keep_alive_seconds=0.3):
        await wait_for_service(owner, "announcer")


async def test_missing_exchange_without_permission_to_declare_it(rabbitmq, vhost):
    """Without permission to declare a missing exchange, the error says who can."""
    uri = rabbitmq.add_user(f"user-{vhost}", PASSWORD, vhost=vhost, **permissions("watcher"))
    fabric = AmqBrokerConnector(uri, DOMAIN, "app", "me", keep_alive_listen=True)
    await assert_refused(fabric.open(), "msc.discovery")
    async with AmqBrokerConnector(rabbitmq.uri_for(vhost=vhost), DOMAIN, "app", "boss"):
        pass
    async with fabric:  # exchanges are durable and need to be declared once
        pass


async def test_logging_without_permission(join, owner, rabbitmq, caplog):
    """Log records that the broker refuses are counted as dropped, with one warning."""
    fabric = await join("watcher")
    handler = AmqpHandler()
    await fabric.init_logging_handler(handler)
    feed = await owner.logs()

    async def log(count):
        for n in range(count):
            handler.handle(logging.makeLogRecord({"msg": str(n), "levelname": "INFO"}))
        await handler.flushed(timeout=60)
        # RabbitMQ writes its log a moment later: a later refusal is in it after the earlier ones.
        mark = f"mark{handler.dropped}"
        with pytest.raises(BrokerRefused):
            await fabric.stream(domain=mark)
        await until(lambda: mark in rabbitmq.log)
        return rabbitmq.log.count(f"{DOMAIN}.log.records")

    refused = await log(700)
    assert (handler.sent, handler.dropped) == (0, 700)
    assert await log(10) == refused
    assert (handler.sent, handler.dropped) == (0, 710)
    assert caplog.text.count("Log records cannot be published") == 1
    assert not feed.records


async def test_lost_service_with_minimal_permissions(
    members: Members, join: Callable[[str], Awaitable[AmqBrokerConnector]]
) -> None:
    """A caller with minimal permissions detects a service that stops during the call."""
    worker, began = await members.join("worker"), asyncio.Event()

    async def work() -> None:
        began.set()
        await asyncio.Event().wait()

    await worker.serve({"work": work})
    fabric = await join("caller")
    await wait_for_service(fabric, "worker", methods=1)
    calling = asyncio.ensure_future(fabric.call("worker.work", timeout=60))
    await began.wait()
    await worker.close()
    with pytest.raises(ServiceLost):
        await calling


async def test_traces_without_permission(members, join, owner, caplog):
    """A service that may not publish spans warns once, and serves traced calls as others."""
    server = await join("server")
    await server.serve({"twice": lambda x: 2 * x})
    await wait_for_service(owner, "me", methods=2)
    for x in range(3):
        traced = await owner.trace("me.twice", x=x)
        assert traced.result == 2 * x
        (node,) = traced.nodes
        assert node.server is None
    warnings = [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and "Spans" in record.getMessage()
    ]
    assert len(warnings) == 1
    assert f"{DOMAIN}.spans" in warnings[0]
    assert server.state is owner.state
    await assert_refused(server.trace("boss.add", x=1, y=2), f"{DOMAIN}.spans")
    assert await server.call("boss.add", x=1, y=2) == 3
    server.traces.sample = 1.0
    assert await server.call("boss.add", x=1, y=2) == 3
    await until(lambda: server.traces.sample == 0)
    assert await server.call("boss.add", x=1, y=2) == 3


async def test_the_form_of_a_viewer(join, rabbitmq, vhost):
    """The form that connects lists the domains for a caller, and tells others what they lack."""
    await join("caller")
    user = f"user-{vhost}"
    finder = BrokerFinder(lambda uri, password: [BrokerUri(str(URL(uri).with_password(password)))])
    entered = {"uri": rabbitmq.uri_for(user, PASSWORD, vhost), "password": PASSWORD}
    found = await finder.answer("domains", entered)
    assert {name for name, _ in found["domains"]} >= {DOMAIN, OTHER}
    assert PASSWORD not in str(found)
    rabbitmq.add_user(user, PASSWORD, vhost=vhost, configure="^$", write="^$", read="^$")
    with pytest.raises(BrokerRefused, match=f"user '{user}' lacks permission"):
        await finder.answer("domains", entered)
    with pytest.raises(LoginRefused) as caught:
        await finder.answer("domains", entered | {"password": "mistyped"})
    assert "mistyped" not in str(caught.value)
