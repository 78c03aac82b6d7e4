"""Fixtures that all tests share: brokers, peers of the real amqp-fabric, Jupyter kernels.

A test that takes `broker_uri` runs once over each of `BROKERS`, or over RabbitMQ only if it is
marked with `any_broker`; one that needs RabbitMQ itself takes `rabbitmq` with `vhost`, or
`rabbitmq_uri`. Each test has a virtual host of its own.

`pytest -n 6` distributes the tests over processes, as `tests.support.distribution` describes.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from fabric_nb.fabric.core import tasks
from tests.broker.process import ForkedBroker
from tests.support import distribution
from tests.support import failures as failed_tests
from tests.support.kernels import Kernel
from tests.support.peers import Peer
from tests.support.rabbitmq import RabbitMq, RabbitMqError
from tests.support.results import Results

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
    from contextlib import AbstractContextManager

    from xdist.scheduler import LoadScopeScheduling
    from xdist.workermanage import WorkerController

    from fabric_nb.fabric.core.tasks import Failures

    StartPeer = Callable[..., Awaitable[Peer]]
    StartKernel = Callable[..., Awaitable[Kernel]]


# jsonschema, which nbformat imports, builds a grammar with it, which takes a second in each worker,
# and does without it where it is not installed.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

# How long an example takes says nothing on a machine that does other work too.
settings.register_profile(
    "busy", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy")


@pytest.fixture(autouse=True)
def failures() -> Iterator[Failures]:
    """The failures of background work, which are of the whole process, counted from zero."""
    tasks.failures.clear()
    yield tasks.failures
    tasks.failures.clear()


# Brokers


@contextmanager
def _rabbitmq_vhost(request: pytest.FixtureRequest) -> Iterator[str]:
    rabbitmq: RabbitMq = request.getfixturevalue("rabbitmq")
    with rabbitmq.empty_vhost() as uri:
        yield uri


@contextmanager
def _embedded(request: pytest.FixtureRequest) -> Iterator[str]:
    with ForkedBroker() as broker:
        yield broker.uri


BROKERS: dict[str, Callable[[pytest.FixtureRequest], AbstractContextManager[str]]] = {
    "rabbitmq": _rabbitmq_vhost,
    "embedded": _embedded,
}
"""The brokers that behaviour is tested over: each opens an empty broker for one test."""

_RUNS = pytest.StashKey[Counter[str]]()
_NOTES = pytest.StashKey[dict[str, str]]()
_WITNESSES = pytest.StashKey[list[Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options for the brokers to test over, and for a file of results."""
    parser.addoption("--broker", choices=BROKERS, help="test behaviour over this broker only")
    parser.addoption("--results", type=Path, help="write numbers and versions to this file")


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the account of the brokers, and let programs of tests be interrupted.

    A test run in the background of a shell ignores interrupts, and so would they.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(failed_tests)
    config.stash[_RUNS] = Counter()
    config.stash[_NOTES] = {}
    config.addinivalue_line("markers", "any_broker: no broker affects the result, so one suffices")
    config.addinivalue_line("markers", "every_broker: of a test in a module of `any_broker`")
    config.addinivalue_line("markers", "random_order(disabled): of pytest-random-order")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests of behaviour over each broker, or over RabbitMQ if no broker affects it."""
    if "broker_uri" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker
        one_suffices = marker("any_broker") and not marker("every_broker")
        brokers = ["rabbitmq"] if one_suffices else list(BROKERS)
        if chosen := metafunc.config.getoption("--broker"):
            brokers = [broker for broker in brokers if broker == chosen]
        metafunc.parametrize("broker_uri", brokers, indirect=True)


# Collection


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Exclude the tests themselves, which live as long as the process, from garbage collection."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


# With pytest-xdist


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests in the order of their distribution."""
    distribution.sort(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Distribute groups of tests that share processes."""
    return distribution.scheduler(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Make every report sendable to the controller."""
    return distribution.sendable((yield))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the account of a worker's brokers to the controller."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["brokers"] = (dict(config.stash[_RUNS]), config.stash[_NOTES])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    """Add the account of a worker's brokers."""
    if hasattr(node, "workeroutput"):  # not if it crashed
        runs, notes = node.workeroutput["brokers"]
        node.config.stash[_RUNS].update(runs)
        node.config.stash[_NOTES].update(notes)


@pytest.fixture(scope="session")
def rabbitmq(pytestconfig: pytest.Config) -> Iterator[RabbitMq]:
    """A private RabbitMQ node, started when the first test asks for it."""
    notes = pytestconfig.stash[_NOTES]
    try:
        node = RabbitMq.start()
    except RabbitMqError as error:
        notes["rabbitmq"] = f"DID NOT RUN: {error}"
        raise
    with node:
        notes["rabbitmq"] = f"RabbitMQ {node.version}, started in {node.start_seconds:.1f} s"
        yield node


@pytest.fixture
def broker_uri(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an empty broker of this test's own, for each kind of broker."""
    with BROKERS[request.param](request) as uri:
        request.config.stash[_RUNS][request.param] += 1
        yield uri


@pytest.fixture
def vhost(rabbitmq: RabbitMq, pytestconfig: pytest.Config) -> Iterator[str]:
    """The name of an empty virtual host of this test's own on the private RabbitMQ."""
    with rabbitmq.private_vhost() as name:
        pytestconfig.stash[_RUNS]["rabbitmq"] += 1
        yield name


@pytest.fixture
def rabbitmq_uri(rabbitmq: RabbitMq, vhost: str) -> str:
    """The address of `vhost`, for tests that need RabbitMQ itself."""
    return rabbitmq.uri_for(vhost=vhost)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say over which brokers the tests ran."""
    runs, notes = config.stash[_RUNS], config.stash[_NOTES]
    for broker in dict.fromkeys([*BROKERS, *notes]):
        if broker in notes or runs[broker]:
            note = f" ({notes[broker]})" if broker in notes else ""
            terminalreporter.write_line(f"broker {broker}: {runs[broker]} tests{note}")
    if file := config.getoption("--results"):
        Results.of(terminalreporter.stats).write(file)


# Processes


@pytest.fixture
async def start_peer(request: pytest.FixtureRequest) -> AsyncIterator[StartPeer]:
    """Start peers, as `Peer.start` does, that end with the test."""
    async with AsyncExitStack() as ending:

        async def start(script: str, uri: str, **options: Any) -> Peer:
            peer = await Peer.start(script, uri, **options)
            _witness(request, await ending.enter_async_context(peer))
            return peer

        yield start


@pytest.fixture
async def start_kernel(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[StartKernel]:
    """Start kernels, as `Kernel.start` does, that end with the test."""
    async with AsyncExitStack() as ending:

        async def start(env: Mapping[str, str] | None = None, folder: Path | None = None) -> Kernel:
            kernel = await Kernel.start(folder or tmp_path_factory.mktemp("kernel"), env)
            _witness(request, await ending.enter_async_context(kernel))
            return kernel

        yield start


@pytest.fixture
async def kernel(start_kernel: StartKernel) -> Kernel:
    """A Jupyter kernel on this interpreter, with no settings but IPython's own."""
    return await start_kernel()


# After a failure


def _witness(request: pytest.FixtureRequest, process: Peer | Kernel) -> None:
    request.node.stash.setdefault(_WITNESSES, []).append(process)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the logs of a failed test's processes to its report, and note that it has failed."""
    report = yield
    if report.failed:
        item.stash[failed_tests.FAILED] = True
        for process in item.stash.get(_WITNESSES, []):
            if log := process.log:
                report.sections.append((f"Log of {process.name}", log))
    return report
