"""TLS settings of `%config FabricMagics`, with a real RabbitMQ.

The node has a certificate for ``localhost`` and another one for ``members-only.test``, where it
requires a client certificate.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.notebook.notebooks import Notebook, error_text
from tests.support.cells import Cell
from tests.support.certificates import Certificates, tls_options
from tests.support.peers import DOMAIN
from tests.support.rabbitmq import RabbitMq

MEMBERS_ONLY = "members-only.test"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for the tests."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def broker(made: Certificates) -> Iterator[RabbitMq]:
    """Node with TLS."""
    shown = {name: made.issue(name) for name in ("localhost", MEMBERS_ONLY)}
    with RabbitMq.start(ssl_options=tls_options(made.authority, shown, {MEMBERS_ONLY})) as node:
        yield node


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(
    broker: RabbitMq, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Notebook]:
    """Notebook shared by the tests; checked for the broker's password at the end."""
    async with await Notebook.start(tmp_path_factory.mktemp("kernel")) as notebook:
        yield notebook
        notebook.check_secret(broker.uri)


@pytest_asyncio.fixture(loop_scope="session")
async def notebook(shared: Notebook) -> Notebook:
    """Notebook without TLS settings."""
    await config(shared, cafile="", certfile="", keyfile="", server_name_indication="")
    return shared


async def connect(notebook: Notebook, broker: RabbitMq, host: str, query: str = "") -> Cell:
    """Connect over TLS; only the query of the URI has TLS options."""
    where = f"amqps://{broker.user}:{broker.password}@{host}:{broker.tls_port}/%2F{query}"
    return await notebook.execute(f"%fabric_connect {where} --domain {DOMAIN} --id secure")


async def works(notebook: Notebook) -> None:
    """Check that serving and calling work over TLS."""
    await notebook.run("%%fabric_serve\ndef double(x):\n    return 2 * x")
    assert await notebook.value("%fabric_call secure.double x=21") == "42"
    assert await notebook.value("fabric.uri.startswith('amqps://')") == "True"
    await notebook.run("%fabric_disconnect")


async def config(notebook: Notebook, **settings: Path | str) -> None:
    """Configure the magics in a cell."""
    for name, value in settings.items():
        await notebook.run(f"%config FabricMagics.{name} = {str(value)!r}")


async def test_cafile_by_config(notebook: Notebook, broker: RabbitMq, made: Certificates) -> None:
    """`%config FabricMagics.cafile` replaces the system's trusted certificates."""
    refused = error_text(await connect(notebook, broker, "localhost"), "TlsFailed")
    assert "of an authority that is not known to this system" in refused
    await config(notebook, cafile=made.of_another_authority("localhost"))
    assert "of an authority that is not in " in error_text(
        await connect(notebook, broker, "localhost"), "TlsFailed"
    )
    await config(notebook, cafile=made.authority)
    assert (await connect(notebook, broker, "localhost")).status == "ok"
    await works(notebook)

    # The URI takes precedence over settings.
    missing = error_text(
        await connect(notebook, broker, "localhost", "?cafile=/none.pem"), "TlsFailed"
    )
    assert "cafile /none.pem cannot be read" in missing


async def test_client_certificate_by_config(
    notebook: Notebook, broker: RabbitMq, made: Certificates
) -> None:
    """`server_name_indication`, `certfile` and `keyfile` can be configured too."""
    await config(notebook, cafile=made.authority)
    wrong = error_text(await connect(notebook, broker, "127.0.0.1"), "TlsFailed")
    assert "the certificate is not for '127.0.0.1'" in wrong
    await config(notebook, server_name_indication=MEMBERS_ONLY)
    anonymous = error_text(await connect(notebook, broker, "127.0.0.1"), "TlsFailed")
    assert "wants a certificate of yours: give ?certfile=" in anonymous

    certificate, key = made.split(made.issue("ann"))
    await config(notebook, keyfile=key)
    assert "without certfile" in error_text(
        await connect(notebook, broker, "127.0.0.1"), "TlsFailed"
    )
    await config(notebook, keyfile="", certfile=certificate)
    assert f"certfile {certificate}" in error_text(
        await connect(notebook, broker, "127.0.0.1"), "TlsFailed"
    )
    await config(notebook, keyfile=key)
    assert (await connect(notebook, broker, "127.0.0.1")).status == "ok"
    await works(notebook)
