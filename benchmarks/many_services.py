"""A thousand services of ten methods: latency of Tab, and cost of discovery.

Parts of `benchmarks.notebook`. The services are keep-alives, at the rate of real ones, with the
statistics of busy ones.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from benchmarks.figures import Spread
from benchmarks.targets import Verdict
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.wire.keep_alives import Announcement, keep_alive_message
from fabric_nb.fabric.wire.names import ServiceName, discovery_exchange
from fabric_nb.fabric.wire.statistics import CallCounts, Statistics
from tests.notebook.notebooks import Notebook
from tests.support.peers import DOMAIN

SERVICES, METHODS = 1_000, 10
INTERVAL = 5.0
"""Seconds between keep-alives, as amqp-fabric's documentation proposes."""
STEP = 0.1
ANNOUNCEMENT = Announcement(
    version="1.2.3",
    instance="0123abcd",
    interval=INTERVAL,
    methods={f"method_{n}": "(order: int, currency: str = 'USD')" for n in range(METHODS)},
)
RATE = 100.0
"""Calls per second that each service announces."""
LINES = (
    "%fabric_call ",
    "%fabric_call s5",
    "%fabric_call app.s500.",
    "%fabric_call s500.method_1 ",
)
"""Lines completed by Tab, from all methods to ever fewer."""
TABS = 15
MB = 1e6


@asynccontextmanager
async def announced_services(uri: str) -> AsyncIterator[None]:
    """Announce all services, evenly, during the block."""
    async with Connection(uri, name="crowd") as connection, connection.channel() as channel:
        announcing = asyncio.create_task(_announce(channel))
        try:
            yield
        finally:
            announcing.cancel()


async def _announce(channel: Channel) -> None:
    names = [ServiceName(DOMAIN, "app", f"s{n}") for n in range(SERVICES)]
    sent, began = 0, time.monotonic()
    while True:
        due = int((time.monotonic() - began) / INTERVAL * SERVICES)
        for number in range(sent, due):
            message = keep_alive_message(
                names[number % SERVICES], ANNOUNCEMENT, _statistics(number)
            )
            await channel.publish(discovery_exchange(), "", message)
        sent = due
        await asyncio.sleep(STEP)


def _statistics(number: int) -> Statistics:
    """Return the statistics in a keep-alive; those of a service change each time."""
    since = number / SERVICES * INTERVAL
    calls = CallCounts(int(since * RATE), number // 100, number % 7, 12.5 + number % 13)
    methods = {f"method_{n}": calls._replace(calls=calls.calls // METHODS) for n in range(METHODS)}
    return Statistics(since, calls, methods)


@asynccontextmanager
async def _notebook(uri: str) -> AsyncIterator[Notebook]:
    with tempfile.TemporaryDirectory() as folder:
        async with await Notebook.start(Path(folder)) as notebook:
            await notebook.run(f"%config FabricMagics.keep_alive_seconds = {INTERVAL}")
            await notebook.connect(uri, id="crowded")
            yield notebook


async def _wait_until_discovered(notebook: Notebook) -> None:
    await notebook.run(
        f"while len(fabric.registry) < {SERVICES}: await fabric.registry.changed()", timeout=60
    )


# -- Tab


async def measure_tab(uri: str) -> list[Verdict]:
    """Measure how long a kernel is busy with a Tab, by its status messages."""
    verdicts = []
    async with _notebook(uri) as notebook, announced_services(uri):
        await _wait_until_discovered(notebook)
        process = psutil.Process(notebook.pid)
        for line in LINES:
            await _tab(notebook, line)  # the first one imports the completer
            used = _cpu(process)
            durations = [1000 * await _tab(notebook, line) for _ in range(TABS)]
            cpu_ms = 1000 * (_cpu(process) - used) / TABS
            print(f"{line!r} and Tab: {cpu_ms:.1f} ms of CPU time each")
            name = f"Tab after {line!r}, {SERVICES:,} services, ms in the kernel"
            verdicts.append(Verdict(name, "at most", 20, Spread.of(durations)))
    return verdicts


async def _tab(notebook: Notebook, line: str) -> float:
    begins = len(notebook.messages)
    completion = await notebook.complete(line)

    def states() -> dict[str, float]:
        seen = [message for message in notebook.messages[begins:] if message.type == "status"]
        return {message.content["execution_state"]: message.time for message in seen}

    await notebook.until(lambda: {"busy", "idle"} <= states().keys())
    if not completion.matches:
        raise AssertionError(f"Tab completion nothing after {line!r}.")
    return states()["idle"] - states()["busy"]


# -- registry


async def measure_registry(uri: str, seconds: float) -> list[Verdict]:
    """Measure memory and CPU usage of a kernel that discovers the services."""
    async with _notebook(uri) as notebook:
        await notebook.run("import asyncio, gc")
        idle = await _cpu_share(notebook, seconds)
        await notebook.run("gc.collect()")
        before = _resident(notebook)
        async with announced_services(uri):
            await _wait_until_discovered(notebook)
            with_services = await _cpu_share(notebook, seconds)
            growth = _resident(notebook) - before
            with_view = {}
            for view in ("%fabric_services", "%fabric_services --stats"):
                await notebook.run(view)
                with_view[view] = await _cpu_share(notebook, seconds)
                await notebook.run("from IPython.display import clear_output; clear_output()")
    print(
        f"{SERVICES:,} services, {SERVICES / INTERVAL:g} keep-alives/s: {idle:.1%} of a core"
        f" before, {with_services:.1%} with them,"
        f" {', '.join(f'{share:.1%} with {view}' for view, share in with_view.items())};"
        f" {before:.0f} MB before, {growth:.1f} MB more"
    )
    name = f"registry of {SERVICES:,} services of {METHODS} methods with statistics"
    return [
        Verdict(f"{name}: memory, MB", "at most", 50, Spread.of([growth])),
        Verdict(f"{name}: % of a core", "at most", 5, Spread.of([100 * (with_services - idle)])),
    ]


async def _cpu_share(notebook: Notebook, seconds: float) -> float:
    """Return the share of a core that an idle kernel uses."""
    process = psutil.Process(notebook.pid)
    used, began = _cpu(process), time.monotonic()
    await asyncio.sleep(seconds)
    return (_cpu(process) - used) / (time.monotonic() - began)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _resident(notebook: Notebook) -> float:
    return float(psutil.Process(notebook.pid).memory_info().rss) / MB
