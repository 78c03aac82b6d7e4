"""TLS by configuration: what `%config FabricMagics` says reaches a real RabbitMQ that speaks it.

The node shows a certificate as ``localhost`` and another as ``members-only.test``, where it wants
one of the client as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.notebook.notebooks import Notebook, told
from tests.support.cells import Cell
from tests.support.certificates import Certificates, tls_options
from tests.support.peers import DOMAIN
from tests.support.rabbitmq import RabbitMq

MEMBERS_ONLY = "members-only.test"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificates that the tests make."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def broker(made: Certificates) -> Iterator[RabbitMq]:
    """The node."""
    shown = {name: made.issue(name) for name in ("localhost", MEMBERS_ONLY)}
    with RabbitMq.start(ssl_options=tls_options(made.authority, shown, {MEMBERS_ONLY})) as node:
        yield node


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(
    broker: RabbitMq, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Notebook]:
    """The notebook that the tests share; it never tells the broker's password."""
    async with await Notebook.start(tmp_path_factory.mktemp("kernel")) as notebook:
        yield notebook
        notebook.check_secret(broker.uri)


@pytest_asyncio.fixture(loop_scope="session")
async def notebook(shared: Notebook) -> Notebook:
    """The notebook, where nothing of TLS is configured."""
    await config(shared, cafile="", certfile="", keyfile="", server_name_indication="")
    return shared


async def connect(notebook: Notebook, broker: RabbitMq, host: str, query: str = "") -> Cell:
    """Connect over TLS, to a URI that says nothing of certificates but what the query does."""
    where = f"amqps://{broker.user}:{broker.password}@{host}:{broker.tls_port}/%2F{query}"
    return await notebook.execute(f"%fabric_connect {where} --domain {DOMAIN} --id secure")


async def works(notebook: Notebook) -> None:
    """The notebook serves and calls, over TLS."""
    await notebook.run("%%fabric_serve\ndef double(x):\n    return 2 * x")
    assert await notebook.value("%fabric_call secure.double x=21") == "42"
    assert await notebook.value("fabric.uri.startswith('amqps://')") == "True"
    await notebook.run("%fabric_disconnect")


async def config(notebook: Notebook, **settings: Path | str) -> None:
    """Configure the magics, as a cell does."""
    for name, value in settings.items():
        await notebook.run(f"%config FabricMagics.{name} = {str(value)!r}")


async def test_cafile_by_config(notebook: Notebook, broker: RabbitMq, made: Certificates) -> None:
    """`%config FabricMagics.cafile` is whom a notebook trusts; without it, only the system's."""
    refused = told(await connect(notebook, broker, "localhost"), "TlsFailed")
    assert "of an authority that is not known to this system" in refused
    await config(notebook, cafile=made.of_another_authority("localhost"))
    assert "of an authority that is not in " in told(
        await connect(notebook, broker, "localhost"), "TlsFailed"
    )
    await config(notebook, cafile=made.authority)
    assert (await connect(notebook, broker, "localhost")).status == "ok"
    await works(notebook)

    # What stands in the URI counts before what is configured.
    missing = told(await connect(notebook, broker, "localhost", "?cafile=/none.pem"), "TlsFailed")
    assert "cafile /none.pem cannot be read" in missing


async def test_client_certificate_by_config(
    notebook: Notebook, broker: RabbitMq, made: Certificates
) -> None:
    """So do `server_name_indication`, and `certfile` and `keyfile` with which a notebook comes."""
    await config(notebook, cafile=made.authority)
    wrong = told(await connect(notebook, broker, "127.0.0.1"), "TlsFailed")
    assert "the certificate is not for '127.0.0.1'" in wrong
    await config(notebook, server_name_indication=MEMBERS_ONLY)
    anonymous = told(await connect(notebook, broker, "127.0.0.1"), "TlsFailed")
    assert "wants a certificate of yours: give ?certfile=" in anonymous

    certificate, key = made.split(made.issue("ann"))
    await config(notebook, keyfile=key)
    assert "without certfile" in told(await connect(notebook, broker, "127.0.0.1"), "TlsFailed")
    await config(notebook, keyfile="", certfile=certificate)
    assert f"certfile {certificate}" in told(
        await connect(notebook, broker, "127.0.0.1"), "TlsFailed"
    )
    await config(notebook, keyfile=key)
    assert (await connect(notebook, broker, "127.0.0.1")).status == "ok"
    await works(notebook)
