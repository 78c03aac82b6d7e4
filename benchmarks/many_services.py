"""A thousand services of ten methods: what Tab takes among them, and what hearing them costs.

Parts of `benchmarks.notebook`. The services are keep-alives, at the pace of so many members.
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
from tests.notebook.notebooks import Notebook
from tests.support.peers import DOMAIN

SERVICES, METHODS = 1_000, 10
INTERVAL = 4.0
"""Seconds between keep-alives, as a connector has it by default."""
STEP = 0.1
SAID = Announcement(
    version="1.2.3",
    instance="0123abcd",
    interval=INTERVAL,
    methods={f"method_{n}": "(order: int, currency: str = 'USD')" for n in range(METHODS)},
)
LINES = (
    "%fabric_call ",
    "%fabric_call s5",
    "%fabric_call app.s500.",
    "%fabric_call s500.method_1 ",
)
"""Where Tab is pressed: all that can be called, and ever less."""
TABS = 15
MB = 1e6


@asynccontextmanager
async def crowd(uri: str) -> AsyncIterator[None]:
    """All of them speak, evenly, until this ends."""
    async with Connection(uri, name="crowd") as connection, connection.channel() as channel:
        speaking = asyncio.create_task(_speak(channel))
        try:
            yield
        finally:
            speaking.cancel()


async def _speak(channel: Channel) -> None:
    names = [ServiceName(DOMAIN, "app", f"s{n}") for n in range(SERVICES)]
    said, began = 0, time.monotonic()
    while True:
        due = int((time.monotonic() - began) / INTERVAL * SERVICES)
        for number in range(said, due):
            message = keep_alive_message(names[number % SERVICES], SAID)
            await channel.publish(discovery_exchange(), "", message)
        said = due
        await asyncio.sleep(STEP)


@asynccontextmanager
async def _notebook(uri: str) -> AsyncIterator[Notebook]:
    with tempfile.TemporaryDirectory() as folder:
        async with await Notebook.start(Path(folder)) as notebook:
            await notebook.run(f"%config FabricMagics.keep_alive_seconds = {INTERVAL}")
            await notebook.connect(uri, id="crowded")
            yield notebook


async def _heard(notebook: Notebook) -> None:
    await notebook.run(
        f"while len(fabric.registry) < {SERVICES}: await fabric.registry.changed()", timeout=60
    )


# -- Tab


async def measure_tab(uri: str) -> list[Verdict]:
    """How long a kernel is busy with a Tab, by its own messages, while all of them speak."""
    verdicts = []
    async with _notebook(uri) as notebook, crowd(uri):
        await _heard(notebook)
        process = psutil.Process(notebook.pid)
        for line in LINES:
            await _tab(notebook, line)  # the first imports what completes
            used = _cpu(process)
            taken = [1000 * await _tab(notebook, line) for _ in range(TABS)]
            each = 1000 * (_cpu(process) - used) / TABS
            print(f"{line!r} and Tab: {each:.1f} ms of the processor each")
            what = f"Tab after {line!r}, {SERVICES:,} services, ms in the kernel"
            verdicts.append(Verdict(what, "at most", 20, Spread.of(taken)))
    return verdicts


async def _tab(notebook: Notebook, line: str) -> float:
    begins = len(notebook.messages)
    offered = await notebook.complete(line)

    def states() -> dict[str, float]:
        seen = [message for message in notebook.messages[begins:] if message.type == "status"]
        return {message.content["execution_state"]: message.time for message in seen}

    await notebook.until(lambda: {"busy", "idle"} <= states().keys())
    if not offered.matches:
        raise AssertionError(f"Tab offered nothing after {line!r}.")
    return states()["idle"] - states()["busy"]


# -- the registry


async def measure_registry(uri: str, seconds: float) -> list[Verdict]:
    """What hearing them adds to a kernel: memory, and share of a core."""
    async with _notebook(uri) as notebook:
        await notebook.run("import asyncio, gc")
        idle = await _share(notebook, seconds)
        await notebook.run("gc.collect()")
        before = _resident(notebook)
        async with crowd(uri):
            await _heard(notebook)
            alone = await _share(notebook, seconds)
            grown = _resident(notebook) - before
            await notebook.run("%fabric_services")
            shown = await _share(notebook, seconds)
    print(
        f"{SERVICES:,} services, {SERVICES / INTERVAL:g} keep-alives/s: {idle:.1%} of a core before"
        f" them, {alone:.1%} with them, {shown:.1%} with the view; {before:.0f} MB before,"
        f" {grown:.1f} MB more"
    )
    what = f"registry of {SERVICES:,} services of {METHODS} methods"
    return [
        Verdict(f"{what}: memory, MB", "at most", 50, Spread.of([grown])),
        Verdict(f"{what}: % of a core", "at most", 5, Spread.of([100 * (alone - idle)])),
    ]


async def _share(notebook: Notebook, seconds: float) -> float:
    """The share of a core that the kernel uses when it is left alone."""
    process = psutil.Process(notebook.pid)
    used, began = _cpu(process), time.monotonic()
    await asyncio.sleep(seconds)
    return (_cpu(process) - used) / (time.monotonic() - began)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _resident(notebook: Notebook) -> float:
    return float(psutil.Process(notebook.pid).memory_info().rss) / MB
