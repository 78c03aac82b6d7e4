"""Opening and closing of a connector, its arguments, and the errors of connecting."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from urllib.parse import urlsplit, urlunsplit

import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.errors import (
    BrokerUnavailable,
    InvalidName,
    InvalidUri,
    LoginRefused,
    NotConnected,
    TlsFailed,
    VirtualHostRefused,
)
from fabric_nb.fabric.amqp.connection import State
from tests.support.fabric import LoopTime, until, wait_for_service
from tests.support.peers import DOMAIN
from tests.support.rabbitmq_supervisor import free_port

# Life


async def test_open_and_close(members):
    """A connector is connected from `open` to `close`, and its state tells it."""
    connector = members.connector("c1")
    states = []
    connector.on_state(states.append)
    assert connector.state is State.CLOSED

    assert await connector.open(timeout=60) is connector
    assert connector.state is State.CONNECTED
    assert connector.broker

    await connector.close()
    assert connector.state is State.CLOSED
    assert states == [State.CONNECTED, State.CLOSED]
    await connector.close()  # harmless


async def test_async_with(members):
    """`async with` opens the connector and closes it, also if the block raises."""
    async with members.connector("c1") as connector:
        assert connector.state is State.CONNECTED
    assert connector.state is State.CLOSED

    async def fail(connector):
        async with connector:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail(connector)
    assert connector.state is State.CLOSED


async def test_open_again_after_close(members):
    """A closed connector can be opened again."""
    connector = members.connector("c1")
    await connector.open()
    await connector.serve({"one": lambda: 1})
    assert await connector.call("c1.one") == 1
    await connector.close()

    await connector.open()
    try:
        await connector.serve({"two": lambda: 2})
        assert await connector.call("c1.two") == 2
        await connector.publish_data({"n": 1})
        other = await members.join("c2")
        await wait_for_service(other, "c1", methods=2)
        assert await other.call("c1.two") == 2
    finally:
        await connector.close()


async def test_closed_connector_refuses(members):
    """Every operation of a connector that is not open raises `NotConnected`."""
    connector = members.connector("c1")
    for _ in range(2):
        with pytest.raises(NotConnected):
            connector.publish_data(b"", {})
        with pytest.raises(NotConnected):
            await connector.call(f"{DOMAIN}.app.c1.anything")
        with pytest.raises(NotConnected):
            await connector.serve({})
        with pytest.raises(NotConnected):
            await connector.stream()
        with pytest.raises(NotConnected):
            await connector.logs()
        await connector.open()
        await connector.close()


async def test_constructor_accepts_arguments_of_amqp_fabric(broker_uri):
    """The arguments of amqp-fabric have the same meaning, by position and by name."""
    by_position = AmqBrokerConnector(broker_uri, "d", "t", "i", 5, True, 7, "my.discovery")
    by_name = AmqBrokerConnector(
        amqp_uri=broker_uri,
        service_domain="d",
        service_type="t",
        service_id="i",
        keep_alive_seconds=False,
        keep_alive_listen=False,
        discovery_cache_ttl=5,
        discovery_exchange="my.discovery",
    )
    for connector in (by_position, by_name):
        assert connector.domain == "d"
        assert connector.service_type == "t"
        assert connector.service_id == "i"
        assert connector.fqn == "d.t.i"
        assert connector.data_exchange == "d.data"
        async with connector:
            await connector.publish_data(b"{}", {})
    async with by_position, by_name:
        await wait_for_service(by_position, "i")
        assert by_position.list_services() == [{"domain": "d", "type": "t", "id": "i"}]
        assert by_name.list_services() == []


async def test_discovery_exchange_separates_fabrics(members):
    """Members receive only keep-alives on their own discovery exchange."""
    near = await members.join("near", discovery_exchange="near.discovery")
    await members.join("far", discovery_exchange="far.discovery")
    friend = await members.join("friend", discovery_exchange="near.discovery")
    await wait_for_service(near, "friend")
    await wait_for_service(friend, "near")
    ids = {service["id"] for service in near.list_services()}
    assert ids == {"near", "friend"}


async def test_names_from_the_environment(broker_uri, monkeypatch):
    """Data and discovery exchanges can be set by the environment, as in amqp-fabric."""
    monkeypatch.setenv("DATA_EXCHANGE_NAME", "facts")
    monkeypatch.setenv("DISCOVERY_EXCHANGE_NAME", "who.is.there")
    connector = AmqBrokerConnector(broker_uri, "d", "t", "i", keep_alive_seconds=1)
    assert connector.data_exchange == "d.facts"
    async with connector:
        assert connector.member.listener.exchange == "who.is.there"


async def test_keep_alive_is_optional(members):
    """A connector without `keep_alive_seconds` is not announced."""
    listener = await members.join("listener")
    await members.join("silent", keep_alive_seconds=False)
    await members.join("loud")
    await wait_for_service(listener, "loud")
    assert not listener.registry.find("silent", domain=DOMAIN)


async def test_repr_and_uri_hide_the_password(members, broker_uri):
    """Neither the URI of a connector nor its repr shows the password."""
    password = urlsplit(broker_uri).password
    connector = await members.join("c1")
    assert password
    assert password not in repr(connector) + connector.uri
    assert "***" in connector.uri


# Bad input: one sentence, the masked URI, the right error, in time


@contextlib.contextmanager
def fails(error):
    """Expect `error`, in one sentence without the password."""
    with pytest.raises(error) as caught:
        yield caught
    message = str(caught.value)
    assert "\n" not in message
    assert "s3cret" not in message
    assert type(caught.value) is error
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def refused(uri, error, timeout=5.0):
    """Open a connector with an address that does not work; return the error's text.

    It is raised within the timeout and a second.
    """
    tasks = asyncio.all_tasks()
    with fails(error) as caught, LoopTime() as took:
        await AmqBrokerConnector(uri, "d", "t", "i", keep_alive_seconds=1).open(timeout=timeout)
    assert took.seconds < timeout + 1
    await until(lambda: asyncio.all_tasks() == tasks)
    return str(caught.value)


def changed(uri, *, user=None, password=None, port=None, path=None, scheme=None):
    parts = urlsplit(uri)
    user, password = user or parts.username, password or parts.password
    return urlunsplit(
        (
            scheme or parts.scheme,
            f"{user}:{password}@{parts.hostname}:{port or parts.port}",
            parts.path if path is None else path,
            "",
            "",
        )
    )


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("", "AMQP URI is needed"),
        (None, "AMQP URI is needed"),
        ("localhost", "no scheme"),
        ("http://u:s3cret@localhost/", "not AMQP"),
        ("amqp://u:s3cret@localhost:notaport/", "not a URI"),
        ("amqp://u:s3cret@localhost:99999/", "not a URI"),
        ("amqp:///", "names no host"),
    ],
)
def test_wrong_uri(uri, says):
    """An invalid URI is refused by the constructor."""
    with fails(InvalidUri) as caught:
        AmqBrokerConnector(uri, "d", "t", "i")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("domain", ""),
        ("domain", "a.b"),
        ("type", "ü"),
        ("type", "x" * 64),
        ("id", "a b"),
        ("id", "a\n"),
        ("id", None),
        ("id", 7),
    ],
)
def test_invalid_names(part, name):
    """A bad name is refused with which part it is and what is allowed; as an AttributeError."""
    names = {"domain": "d", "type": "t", "id": "i"} | {part: name}
    with pytest.raises(InvalidName, match=f"service {part}: use 1 to 63 letters") as caught:
        AmqBrokerConnector("amqp://localhost/", *names.values())
    assert isinstance(caught.value, AttributeError)


async def test_refused_login(broker_uri):
    """A wrong password is a `LoginRefused` that names the user."""
    text = await refused(changed(broker_uri, user="ann", password="s3cret"), LoginRefused)
    assert "'ann'" in text
    assert "ann:***@" in text


async def test_missing_vhost(broker_uri):
    """The error for a missing virtual host names it."""
    text = await refused(changed(broker_uri, path="/nowhere"), VirtualHostRefused)
    assert "'nowhere'" in text
    assert ":***@" in text


async def test_broker_away():
    """The error for a port without a listener names it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        text = await refused(f"amqp://u:s3cret@127.0.0.1:{port}/", BrokerUnavailable)
    assert f"nothing listens on 127.0.0.1:{port}" in text
    assert "amqp://u:***@" in text


async def test_unknown_host():
    """The error for a host that cannot be resolved names it."""
    text = await refused("amqp://u:s3cret@no-such-host.invalid/", BrokerUnavailable)
    assert "'no-such-host.invalid' is not known" in text


async def test_host_that_never_answers():
    """A host that accepts the connection and never responds is given up within the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        uri = f"amqp://u:s3cret@127.0.0.1:{port}/"
        text = await refused(uri, BrokerUnavailable, timeout=0.5)
    assert "no answer within 0.5 s" in text


async def test_tls_against_a_plain_port(broker_uri):
    """The error for TLS against a plain port has advice."""
    uri = changed(broker_uri, scheme="amqps", password="s3cret")
    text = await refused(uri, TlsFailed)
    assert "does not speak TLS" in text
    assert "amqps://" in text


@pytest.mark.parametrize(
    "greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AMQP\x03\x01\x00\x00"]
)
async def test_not_a_broker(greeting):
    """A port with another protocol, such as TLS for plain AMQP, is reported."""

    async def answer(reader, writer):
        await reader.read(8)
        writer.write(greeting)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        text = await refused(f"amqp://u:s3cret@127.0.0.1:{port}/", BrokerUnavailable)
    assert "AMQP" in text
    assert f"127.0.0.1:{port}" in text


async def test_wrong_cafile(broker_uri, tmp_path):
    """A missing or invalid CA file is an error in one sentence."""
    uri = changed(broker_uri, scheme="amqps", password="s3cret")
    not_pem = tmp_path / "ca.pem"
    not_pem.write_text("no certificate")
    for file in (tmp_path / "missing.pem", not_pem):
        text = ""
        try:
            async with AmqBrokerConnector(f"{uri}?cafile={file}", "d", "t", "i"):
                pass
        except BrokerUnavailable as error:
            text = str(error)
        assert text
        assert "s3cret" not in text


async def test_connection_fails_before_keep_alives(broker_uri, monkeypatch):
    """A connector that fails while it is opened is closed and leaves no task behind."""
    tasks = asyncio.all_tasks()
    connector = AmqBrokerConnector(broker_uri, "d", "t", "i", keep_alive_seconds=1)

    async def fail():
        raise ssl.SSLError("later")

    monkeypatch.setattr(connector.publisher, "open", fail)
    with pytest.raises(ssl.SSLError):
        await connector.open()
    assert connector.state is State.CLOSED
    await until(lambda: asyncio.all_tasks() == tasks)


# Several nodes


async def test_nodes_are_tried_in_turn(members, broker_uri):
    """The first available of several nodes is used, given as a list or in one URI."""
    login, _, place = broker_uri.rpartition("@")
    dead = f"127.0.0.1:{free_port()}"
    for uris in (f"{login}@{dead},{place}", [f"{login}@{dead}/", broker_uri]):
        fabric = await members.join("one", uri=uris)
        await fabric.serve({"double": lambda x: 2 * x})
        assert await fabric.call("app.one.double", x=2) == 4
        assert place.partition("/")[0] in fabric.uri  # the node in use
        assert dead not in fabric.uri
        assert login.rpartition(":")[2] not in f"{fabric.uri} {fabric!r}"
        await fabric.close()


async def test_no_node_is_available():
    """If no node can be reached, the error names each with its reason, and no password."""
    ports = [free_port(), free_port()]
    uri = f"amqp://ann:s3cret@127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}/"
    with pytest.raises(BrokerUnavailable) as caught:
        await AmqBrokerConnector(uri, DOMAIN, "app", "one").open(timeout=5)
    text = str(caught.value)
    assert text.startswith("None of 2 brokers: ")
    assert [text.count(f"nothing listens on 127.0.0.1:{port}") for port in ports] == [1, 1]
    assert "s3cret" not in text
