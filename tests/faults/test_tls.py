"""TLS connections to a real RabbitMQ: verification and error messages.

One node has a different certificate per server name.
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
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return a factory of certificates."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def files(certificates: Certificates) -> dict[str, Path]:
    """Create the broker's certificates by server name."""
    return {
        "localhost": certificates.issue("localhost"),
        "renamed.test": certificates.issue("old-name.test"),
        "expired.test": certificates.issue("expired.test", days=-1),
        "early.test": certificates.issue("early.test", days=60, from_days=30),
        "self-signed.test": certificates.self_signed("self-signed.test"),
        "unknown-authority.test": certificates.of_another_authority("unknown-authority.test"),
        "members-only.test": certificates.issue("members-only.test"),
    }


@pytest.fixture(scope="module")
def broker(certificates: Certificates, files: dict[str, Path]) -> Iterator[RabbitMq]:
    """Start the node; ``members-only.test`` requires a client certificate."""
    options = tls_options(certificates.authority, files, {"members-only.test"})
    with RabbitMq.start(ssl_options=options) as node:
        yield node


def uri(broker: RabbitMq, host: str = "localhost", **query: object) -> str:
    options = "&".join(f"{name}={quote(str(value))}" for name, value in query.items())
    return f"amqps://{broker.user}:{broker.password}@{host}:{broker.tls_port}/%2F?{options}"


async def refused(uri: str) -> str:
    """Return the error of a connection attempt: one sentence without the password."""
    tasks = asyncio.all_tasks()
    with pytest.raises(TlsFailed) as caught:
        await AmqBrokerConnector(uri, "d", "t", "i").open()
    await until(lambda: asyncio.all_tasks() == tasks)
    text = str(caught.value)
    assert "\n" not in text
    assert ":***@" in text
    assert "_ssl.c" not in text
    return text


async def eventually(work: Callable[[], Awaitable[object]]) -> object:
    """Retry until it succeeds; the broker may close a new connection once more."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await work()
            except (ConnectionLost, ServiceLost, UnknownService):
                await asyncio.sleep(0.05)


# Accepted certificates


async def test_system_authorities_are_trusted(broker, certificates, monkeypatch):
    """`amqps://` needs no options if the system trusts the broker's authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    async with Members(uri(broker)) as members:
        fabric = await members.join("one")
        assert fabric.broker.startswith("RabbitMQ")


async def test_everything_works_over_tls(broker, certificates):
    """Calls, large messages and streams work, and reconnection verifies the broker again."""
    async with Members(uri(broker, cafile=certificates.authority)) as members:
        fabric = await members.join("one")
        await fabric.serve({"echo": lambda text: text})
        text = "x" * 2_000_000
        assert await fabric.call("app.one.echo", text=text, timeout=60) == text
        async with await fabric.stream() as stream:
            for n in range(200):
                fabric.publish_data({"n": n})
            await stream.wait(200, timeout=60)

        broker.close_connections("/")
        await until(lambda: fabric.member.connection.reconnects > 0)
        assert await eventually(lambda: fabric.call("app.one.echo", text="again")) == "again"


async def test_server_name_indication(broker, certificates):
    """`server_name_indication` sets the name that the certificate must contain."""
    good = uri(
        broker, "127.0.0.1", cafile=certificates.authority, server_name_indication="localhost"
    )
    async with Members(good) as members:
        await members.join("one")


async def test_known_self_signed_certificate(broker, files):
    """A self-signed certificate is accepted if it is given as `cafile`."""
    name = "self-signed.test"
    good = uri(broker, cafile=files[name], server_name_indication=name)
    async with Members(good) as members:
        await members.join("one")


async def test_client_certificate(broker, certificates):
    """`certfile` and `keyfile` set a client certificate, if the broker requires one."""
    certificate = certificates.issue("ann")
    for files in ({"certfile": certificate}, {"certfile": certificate, "keyfile": certificate}):
        good = uri(
            broker,
            cafile=certificates.authority,
            server_name_indication="members-only.test",
            **files,
        )
        async with Members(good) as members:
            await members.join("one")


async def test_verification_is_disabled_only_explicitly(broker, caplog):
    """`no_verify_ssl=1` disables verification with a warning; other values do not."""
    with caplog.at_level(logging.WARNING, "fabric_nb.fabric.amqp.tls"):
        async with Members(uri(broker, no_verify_ssl=1)) as members:
            await members.join("one")
    assert any("is not verified" in record.getMessage() for record in caplog.records)
    for value in ("0", "false", ""):
        assert "authority" in await refused(uri(broker, no_verify_ssl=value))


# Refused certificates


async def test_unknown_authority_is_refused(broker):
    """Without `cafile` only the system's authorities are trusted, and the error has a solution."""
    text = await refused(uri(broker))
    assert "of an authority that is not known to this system" in text
    assert "?cafile=/path/ca.pem" in text


async def test_wrong_host_is_refused(broker, certificates):
    """A certificate for another host is refused with an error that names the host."""
    text = await refused(uri(broker, "127.0.0.1", cafile=certificates.authority))
    assert "the certificate is not for '127.0.0.1'" in text
    assert "?server_name_indication=" in text


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("renamed.test", "the certificate is not for 'renamed.test'"),
        ("expired.test", "the certificate has expired"),
        ("early.test", "not valid yet: check this machine's clock"),
        ("self-signed.test", "the certificate is self-signed"),
        ("unknown-authority.test", "of an authority that is not in "),
    ],
)
async def test_invalid_certificate_is_refused(broker, certificates, name, reason):
    """An invalid certificate is refused with an error that contains the reason."""
    bad = uri(broker, cafile=certificates.authority, server_name_indication=name)
    assert reason in await refused(bad)


async def test_refused_client_certificate(broker, certificates):
    """A refused or missing client certificate is reported."""

    async def error(**files: Path) -> str:
        return await refused(
            uri(
                broker,
                cafile=certificates.authority,
                server_name_indication="members-only.test",
                **files,
            )
        )

    # The broker's alert is lost if the connection is closed first, so only its origin is certain.
    assert "wants a certificate of yours: give ?certfile=" in await error()
    for bad in (certificates.of_another_authority("eve"), certificates.issue("old", days=-1)):
        assert "does not accept your certificate: check certfile" in await error(certfile=bad)


async def test_unusable_file_is_named(broker, certificates, tmp_path):
    """Missing, invalid, encrypted or mismatched files are named in the error."""
    certificate, other = certificates.issue("ann"), certificates.issue("eve")
    missing, text = tmp_path / "missing.pem", tmp_path / "text.pem"
    text.write_text("no certificate")
    locked = certificates.issue("locked", password=b"s3cret")
    cases = [
        ({"cafile": missing}, f"cafile {missing} cannot be read: No such file"),
        ({"cafile": tmp_path}, f"cafile {tmp_path} cannot be read: Is a directory"),
        ({"cafile": text}, f"cafile {text} holds no certificate"),
        ({"certfile": text}, f"certfile {text}"),
        (
            {"certfile": certificate, "keyfile": other},
            f"the key in {other} is not that of {certificate}",
        ),
        ({"keyfile": certificate}, "without certfile"),
        ({"certfile": locked}, f"the key in {locked} is encrypted"),
    ]
    for query, reason in cases:
        assert reason in await refused(uri(broker, **{"cafile": certificates.authority, **query}))


async def test_login_mechanism_not_offered(broker, certificates):
    """The error of an unsupported login mechanism lists the supported ones."""
    with pytest.raises(
        LoginRefused, match=r"does not offer the login auth=external; it offers .*plain"
    ):
        await AmqBrokerConnector(
            uri(broker, cafile=certificates.authority, auth="external"), "d", "t", "i"
        ).open()
