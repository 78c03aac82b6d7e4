"""A real RabbitMQ with TLS: accepted certificates, and the errors for others.

One node has a certificate for each server name that a client requests.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.errors import ConnectionLost, LoginRefused, ServiceLost, TlsFailed, UnknownService
from tests.support.certificates import Certificates, tls_options
from tests.support.fabric import Members, until
from tests.support.rabbitmq import RabbitMq

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of the tests."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def files(made: Certificates) -> dict[str, Path]:
    """Certificates of the broker, by server name."""
    return {
        "localhost": made.issue("localhost"),
        "renamed.test": made.issue("old-name.test"),
        "expired.test": made.issue("expired.test", days=-1),
        "early.test": made.issue("early.test", days=60, from_days=30),
        "self-signed.test": made.self_signed("self-signed.test"),
        "stranger.test": made.of_another_authority("stranger.test"),
        "members-only.test": made.issue("members-only.test"),
    }


@pytest.fixture(scope="module")
def broker(made: Certificates, files: dict[str, Path]) -> Iterator[RabbitMq]:
    """Node with TLS; as ``members-only.test`` it requires a certificate of the client."""
    options = tls_options(made.authority, files, {"members-only.test"})
    with RabbitMq.start(ssl_options=options) as node:
        yield node


def uri(broker: RabbitMq, host: str = "localhost", **query: object) -> str:
    options = "&".join(f"{name}={quote(str(value))}" for name, value in query.items())
    return f"amqps://{broker.user}:{broker.password}@{host}:{broker.tls_port}/%2F?{options}"


async def refused(uri: str) -> str:
    """Connect, which must fail; return the error, which is one sentence without the password."""
    tasks = asyncio.all_tasks()
    with pytest.raises(TlsFailed) as caught:
        await AmqBrokerConnector(uri, "d", "t", "i").open()
    await until(lambda: asyncio.all_tasks() == tasks)
    said = str(caught.value)
    assert "\n" not in said
    assert ":***@" in said
    assert "_ssl.c" not in said
    return said


async def eventually(work: Callable[[], Awaitable[object]]) -> object:
    """Return the result once it succeeds; the broker may close a new connection once more."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await work()
            except (ConnectionLost, ServiceLost, UnknownService):
                await asyncio.sleep(0.05)


# Good ones


async def test_the_system_s_authorities_are_trusted(broker, made, monkeypatch):
    """`amqps://` needs no option if the system trusts the broker's authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
    async with Members(uri(broker)) as members:
        fabric = await members.join("one")
        assert fabric.broker.startswith("RabbitMQ")


async def test_everything_works_over_tls(broker, made):
    """Calls, large messages and streams work, and a reconnect verifies the certificate again."""
    async with Members(uri(broker, cafile=made.authority)) as members:
        fabric = await members.join("one")
        await fabric.serve({"echo": lambda text: text})
        text = "x" * 2_000_000
        assert await fabric.call("app.one.echo", text=text, timeout=20) == text
        async with await fabric.stream() as stream:
            for n in range(200):
                fabric.publish_data({"n": n})
            await stream.wait(200, timeout=20)

        broker.close_connections("/")
        await until(lambda: fabric.member.connection.reconnects > 0, timeout=20)
        assert await eventually(lambda: fabric.call("app.one.echo", text="again")) == "again"


async def test_server_name_indication(broker, made):
    """`server_name_indication` is the name that the certificate must be for."""
    good = uri(broker, "127.0.0.1", cafile=made.authority, server_name_indication="localhost")
    async with Members(good) as members:
        await members.join("one")


async def test_trusted_self_signed_certificate(broker, files):
    """A self-signed certificate is accepted if it is given as `cafile`."""
    name = "self-signed.test"
    good = uri(broker, cafile=files[name], server_name_indication=name)
    async with Members(good) as members:
        await members.join("one")


async def test_client_certificate(broker, made):
    """If the broker requires a certificate of the client, `certfile` and `keyfile` provide it."""
    mine = made.issue("ann")
    for files in ({"certfile": mine}, {"certfile": mine, "keyfile": mine}):
        good = uri(
            broker, cafile=made.authority, server_name_indication="members-only.test", **files
        )
        async with Members(good) as members:
            await members.join("one")


async def test_verification_is_only_turned_off_explicitly(broker, caplog):
    """`no_verify_ssl=1` disables verification, with a warning; other values do not."""
    with caplog.at_level(logging.WARNING, "fabric_nb.fabric.amqp.tls"):
        async with Members(uri(broker, no_verify_ssl=1)) as members:
            await members.join("one")
    assert any("is not verified" in record.getMessage() for record in caplog.records)
    for no in ("0", "false", ""):
        assert "authority" in await refused(uri(broker, no_verify_ssl=no))


# Bad ones


async def test_unknown_authority_is_refused(broker):
    """Without `cafile` only the system's authorities are trusted, and the error has advice."""
    said = await refused(uri(broker))
    assert "of an authority that is not known to this system" in said
    assert "?cafile=/path/ca.pem" in said


async def test_wrong_host_is_refused(broker, made):
    """A certificate for another host name is refused; the error names the host."""
    said = await refused(uri(broker, "127.0.0.1", cafile=made.authority))
    assert "the certificate is not for '127.0.0.1'" in said
    assert "?server_name_indication=" in said


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("renamed.test", "the certificate is not for 'renamed.test'"),
        ("expired.test", "the certificate has expired"),
        ("early.test", "not valid yet: check this machine's clock"),
        ("self-signed.test", "the certificate is self-signed"),
        ("stranger.test", "of an authority that is not in "),
    ],
)
async def test_bad_certificate_is_refused(broker, made, name, reason):
    """An invalid certificate is refused; the error names the reason."""
    bad = uri(broker, cafile=made.authority, server_name_indication=name)
    assert reason in await refused(bad)


async def test_refused_client_certificate(broker, made):
    """If the broker refuses or lacks the client's certificate, the error tells it."""

    async def said(**files: Path) -> str:
        return await refused(
            uri(broker, cafile=made.authority, server_name_indication="members-only.test", **files)
        )

    # The broker's alert is lost when the connection goes first, so only the party is certain.
    assert "wants a certificate of yours: give ?certfile=" in await said()
    for bad in (made.of_another_authority("eve"), made.issue("old", days=-1)):
        assert "does not accept your certificate: check certfile" in await said(certfile=bad)


async def test_unusable_files(broker, made, tmp_path):
    """The error for a missing, invalid, encrypted or mismatched file names it."""
    mine, other = made.issue("ann"), made.issue("eve")
    missing, text = tmp_path / "missing.pem", tmp_path / "text.pem"
    text.write_text("no certificate")
    locked = made.issue("locked", password=b"s3cret")
    cases = [
        ({"cafile": missing}, f"cafile {missing} cannot be read: No such file"),
        ({"cafile": tmp_path}, f"cafile {tmp_path} cannot be read: Is a directory"),
        ({"cafile": text}, f"cafile {text} holds no certificate"),
        ({"certfile": text}, f"certfile {text}"),
        ({"certfile": mine, "keyfile": other}, f"the key in {other} is not that of {mine}"),
        ({"keyfile": mine}, "without certfile"),
        ({"certfile": locked}, f"the key in {locked} is encrypted"),
    ]
    for query, reason in cases:
        assert reason in await refused(uri(broker, **{"cafile": made.authority, **query}))


async def test_login_that_is_not_offered(broker, made):
    """The error for a login that the broker does not offer names those that it offers."""
    with pytest.raises(
        LoginRefused, match=r"does not offer the login auth=external; it offers .*plain"
    ):
        await AmqBrokerConnector(
            uri(broker, cafile=made.authority, auth="external"), "d", "t", "i"
        ).open()
