"""Keep-alives and calls of a notebook whose cell computes.

    python -m benchmarks.busy [--seconds 120] [--only sleep,loop,pandas] [--presence loop]

A cell sleeps, loops in Python, or computes in pandas, each in a fresh kernel with the default
settings and on a private RabbitMQ, while a peer listens and calls. Calls with a long timeout are to
be answered after the cell, in order; calls with a short timeout are to time out at their caller
and not to run, including the first of all calls, which the kernel has received when it expires.
With `--presence loop` a busy notebook sends no keep-alives, so they are not judged.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.figures import Spread
from benchmarks.report import print_verdicts
from benchmarks.targets import Verdict
from fabric_nb import AmqBrokerConnector
from fabric_nb.errors import CallTimeout
from fabric_nb.fabric.discovery.announcer import Presence
from tests.notebook.notebooks import Notebook
from tests.support.fabric import wait_for_service
from tests.support.peers import DOMAIN
from tests.support.rabbitmq import RabbitMq

INTERVAL = 4.0
"""Seconds between keep-alives, a notebook's default."""
SHORT_TIMEOUT = 2.0
CALLS = 10
"""Calls of each kind, spread over the duration of the cell."""

UNTIL = "end = time.monotonic() + {seconds}\nwhile time.monotonic() < end:\n    "
CELLS = {
    "sleep": "time.sleep({seconds})",
    "loop": f"{UNTIL}pass",
    "pandas": f"{UNTIL}frame.sort_values('x').groupby('key').x.agg(['mean', 'std'])",
}
FRAME = """
import numpy as np, pandas as pd, time
keys = np.random.randint(0, 10_000, 2_000_000)
frame = pd.DataFrame({"key": keys, "x": np.random.rand(len(keys))})
"""
SERVED = """%%fabric_serve --id busy
ran = []
def take(n):
    ran.append(n)
    return n
"""


@dataclass(slots=True)
class CellResult:
    """Result of one cell; times in seconds."""

    duration: float
    keep_alives: int
    longest_gap: float
    connections_lost: int
    answered: list[int]
    timed_out: list[int]
    ran: list[int]

    @property
    def in_order(self) -> int:
        """Number of calls answered in time, or 0 if they were not executed in order."""
        in_time = [n for n in self.ran if n in self.answered]
        return len(self.answered) if in_time == sorted(in_time) == self.answered else 0

    @property
    def stale(self) -> int:
        """Number of calls that were executed although their callers had timed out."""
        return len(set(self.timed_out) & set(self.ran))


class Calls:
    """Makes calls while the cell computes; those with even numbers have a short timeout."""

    def __init__(self, peer: AmqBrokerConnector) -> None:
        self.answered: list[int] = []
        self.timed_out: list[int] = []
        self._peer = peer

    async def make(self, seconds: float) -> None:
        """Make all calls during the first half of `seconds`, and wait for their outcomes."""
        async with asyncio.TaskGroup() as calls:
            for n in range(2 * CALLS):
                calls.create_task(self._call(n, seconds + 60 if n % 2 else SHORT_TIMEOUT))
                await asyncio.sleep(seconds / 2 / CALLS / 2)

    async def _call(self, n: int, timeout: float) -> None:
        try:
            # By its full name, which does not require discovery.
            call = f"{DOMAIN}.notebook.busy.take"
            self.answered.append(await self._peer.call(call, n=n, timeout=timeout))
        except CallTimeout:
            self.timed_out.append(n)


async def compute(kind: str, seconds: float, presence: Presence, rabbitmq: RabbitMq) -> CellResult:
    """Run one kind of cell, and record keep-alives and calls meanwhile."""
    with rabbitmq.private_vhost() as vhost, tempfile.TemporaryDirectory() as folder:
        uri = rabbitmq.uri_for(vhost=vhost)
        async with (
            AmqBrokerConnector(uri, DOMAIN, "bench", "peer", keep_alive_listen=True) as peer,
            await Notebook.start(Path(folder)) as notebook,
        ):
            await notebook.run(f"%config FabricMagics.keep_alive_seconds = {INTERVAL}")
            await notebook.run(f"%config FabricMagics.presence = {presence!r}")
            await notebook.connect(uri, id="busy")
            await notebook.run(SERVED)
            await notebook.run(FRAME)
            await wait_for_service(peer, "busy", methods=1)
            moments: list[float] = []

            async def record_time(_: object) -> None:
                moments.append(time.monotonic())

            peer.subscribe_service_keepalives("bench", record_time, service_id="busy")
            before = await asyncio.to_thread(_connections, rabbitmq, vhost)
            cell = notebook.execute_no_wait(
                f"print('on')\n{CELLS[kind].format(seconds=seconds)}\nprint('off')"
            )
            await cell.until(lambda cell: "on" in cell.stdout)
            began = time.monotonic()
            calls = Calls(peer)
            calling = asyncio.create_task(calls.make(seconds))
            await cell.until(lambda cell: "off" in cell.stdout, seconds + 60)
            ended = time.monotonic()
            await calling
            after = await asyncio.to_thread(_connections, rabbitmq, vhost)
            ran = json.loads(await notebook.value("ran"))
        times = [began, *(at for at in moments if began < at < ended), ended]
        return CellResult(
            duration=ended - began,
            keep_alives=len(times) - 2,
            longest_gap=max(later - earlier for earlier, later in itertools.pairwise(times)),
            connections_lost=len(before - after),
            answered=calls.answered,
            timed_out=calls.timed_out,
            ran=ran,
        )


def _connections(rabbitmq: RabbitMq, vhost: str) -> set[str]:
    return {connection["name"] for connection in rabbitmq.list_connections(vhost)}


def judge(kind: str, presence: Presence, result: CellResult) -> list[Verdict]:
    """Compare a result with the targets."""

    def verdict(name: str, measured: float, limit: float, *, least: bool = False) -> Verdict:
        bound = "at least" if least else "at most"
        return Verdict(f"{kind}: {name}", bound, limit, Spread.of([measured]))

    keep_alive_gap = verdict("longest gap between keep-alives, s", result.longest_gap, 2 * INTERVAL)
    return [
        *([keep_alive_gap] if presence == "thread" else []),
        verdict("connections lost", result.connections_lost, 0),
        verdict("calls with a long timeout answered, in order", result.in_order, CALLS, least=True),
        verdict("calls with a short timeout timed out", len(result.timed_out), CALLS, least=True),
        verdict("of these executed anyway", result.stale, 0),
    ]


async def measure(kinds: list[str], seconds: float, presence: Presence) -> list[Verdict]:
    """Measure each kind of cell in turn."""
    verdicts = []
    with RabbitMq.start() as rabbitmq:
        for kind in kinds:
            result = await compute(kind, seconds, presence, rabbitmq)
            print(
                f"{kind}: {result.duration:.1f} s, {result.keep_alives} keep-alives received",
                flush=True,
            )
            verdicts += judge(kind, presence, result)
    return verdicts


def main() -> None:
    """Measure, and print the verdicts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.busy")
    parser.add_argument("--seconds", type=float, default=120, help="duration of each cell")
    parser.add_argument("--only", default=",".join(CELLS), help="kinds, separated by commas")
    parser.add_argument(
        "--presence", choices=["thread", "loop"], default="thread", help="what sends keep-alives"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    kinds = options.only.split(",")
    if unknown := set(kinds) - set(CELLS):
        parser.error(f"there is no kind {', '.join(sorted(unknown))}; there are {', '.join(CELLS)}")
    about: dict[str, Any] = machine.facts()
    verdicts = asyncio.run(measure(kinds, options.seconds, options.presence))
    about["load_after"] = machine.load()
    print_verdicts(about, verdicts, options.json)


if __name__ == "__main__":
    main()
