"""Fixtures: real kernels on a fabric with services on amqp-fabric.

The package shares one broker, one `calc1` and one caller on amqp-fabric; each module has its own
kernel, connected as ``notebook.{module}``. All run in one event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from fabric_nb import AmqBrokerConnector
from tests.notebook.notebooks import Notebook
from tests.support.kernels import Kernel
from tests.support.peers import DOMAIN, Peer
from tests.support.rabbitmq import RabbitMq

if TYPE_CHECKING:
    from tests.notebook.notebooks import StartNotebook, StartPeer


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark of slow tests."""
    config.addinivalue_line("markers", "slow: takes more than twenty seconds")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of this package in one event loop, so that they can share processes."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


# Package scope


@pytest.fixture(scope="package")
def place(rabbitmq: RabbitMq) -> Iterator[str]:
    """Virtual host of the package."""
    with rabbitmq.private_vhost() as vhost:
        yield vhost


@pytest.fixture(scope="package")
def uri(rabbitmq: RabbitMq, place: str) -> str:
    """URI of the broker."""
    return rabbitmq.uri_for(vhost=place)


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def calc(uri: str) -> AsyncIterator[Peer]:
    """Service `calc.calc1`, on amqp-fabric."""
    async with await Peer.start("calc_service", uri, keep_alive=0.5) as peer:
        yield peer


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def caller(uri: str) -> AsyncIterator[Peer]:
    """Caller, on amqp-fabric."""
    async with await Peer.start("caller", uri) as peer:
        yield peer


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def watcher(uri: str) -> AsyncIterator[AmqBrokerConnector]:
    """Connector in the process of the tests, which observes notebooks."""
    async with AmqBrokerConnector(
        uri, DOMAIN, "test", "watcher", keep_alive_seconds=0.5, keep_alive_listen=True
    ) as fabric:
        yield fabric


# Module scope


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def notebook(
    request: pytest.FixtureRequest,
    uri: str,
    calc: Peer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Notebook]:
    """Start a connected notebook, `notebook.{module}`, with two keep-alives a second."""
    folder = tmp_path_factory.mktemp("kernel")
    async with await Notebook.start(folder) as notebook:
        await notebook.connect(uri, id=request.module.__name__.rpartition(".test_")[2])
        yield notebook
        notebook.check_secret(uri)


# Function scope


@pytest_asyncio.fixture(loop_scope="session")
async def start_notebook(
    tmp_path_factory: pytest.TempPathFactory, uri: str
) -> AsyncIterator[StartNotebook]:
    """Return a function that starts notebooks, and check that none outputs the password."""
    async with AsyncExitStack() as ending:

        async def start(
            env: Mapping[str, str] | None = None, folder: Path | None = None, **options: Any
        ) -> Notebook:
            notebook = await Notebook.start(
                folder or tmp_path_factory.mktemp("kernel"), env, **options
            )
            await ending.enter_async_context(notebook)
            ending.callback(notebook.check_secret, uri)
            return notebook

        yield start


@pytest_asyncio.fixture(loop_scope="session")
async def start_peer() -> AsyncIterator[StartPeer]:
    """Return a function that starts peers for one test, like `Peer.start`."""
    async with AsyncExitStack() as ending:

        async def start(script: str, uri: str, **options: Any) -> Peer:
            return await ending.enter_async_context(await Peer.start(script, uri, **options))

        yield start


@pytest.fixture
def kernel() -> Kernel:
    """Disabled, because these tests use `notebook`."""
    raise AssertionError("use `notebook` or `start_notebook`")
