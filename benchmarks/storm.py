"""A flood of log records to a notebook that shows them.

    python -m benchmarks.storm [--rate 50000] [--seconds 5] [--processes 2]
    python -m benchmarks.storm --logged --processes 1

Processes publish records at a rate, or as fast as a private RabbitMQ accepts them, while a kernel
shows `%fabric_logs`. With `--logged` they log the records, and their `AmqpHandler` drops and counts
those that cannot be sent. The output contains the records per second in the kernel; the verdicts
are on the longest stall of its loop, its memory, the number of updates of the view, and whether
each record was received and either kept or counted as dropped. Producers, broker and kernel share
the machine.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import itertools
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import machine
from benchmarks.figures import Spread
from benchmarks.report import print_verdicts
from benchmarks.targets import Verdict
from fabric_nb.fabric.logs.handler import CAPACITY
from tests.notebook.notebooks import Notebook
from tests.support.cells import Cell
from tests.support.rabbitmq import RabbitMq
from tests.support.storm import Storm

MB = 1e6
PAUSE, WORK, MEMORY, PERIOD = 0.5, 0.25, 100.0, 2.0
"""Limits: seconds of a stall of the loop; seconds of CPU time without a pause, which does not
depend on other processes; MB of memory growth; seconds between two updates of the view."""
SAMPLE_INTERVAL = 0.05
WATCH = """
import asyncio, time
pauses = []
async def tick():
    while True:
        began, used = time.monotonic(), time.thread_time()
        await asyncio.sleep(0.01)
        pauses.append((time.monotonic() - began - 0.01, time.thread_time() - used))
all_sent = asyncio.get_running_loop().create_future()
async def watch(feed):
    ticking = asyncio.create_task(tick())
    await feed.wait(1)
    began, first = time.monotonic(), feed.changes
    await feed.wait(await all_sent)
    ticking.cancel()
    return feed.changes - first, time.monotonic() - began
"""


@dataclass(slots=True)
class StormResult:
    """Result of one storm; times in seconds, memory in MB."""

    asked: int
    sent: int
    skipped: int
    produced_rate: float
    received: int
    kept: int
    dropped: int
    consumed_rate: float
    pause: float
    work: float
    memory: float
    states: int
    lasted: float


async def run_storm(
    uri: str, records: int, rate: float, processes: int, *, logged: bool
) -> StormResult:
    """Run one storm against one notebook."""
    with tempfile.TemporaryDirectory() as folder:
        async with await Notebook.start(Path(folder)) as notebook:
            await notebook.connect(uri, id="stormy")
            await notebook.run(WATCH)
            view = await notebook.run("l = %fabric_logs")
            await notebook.run("watching = asyncio.create_task(watch(l))")
            watched = asyncio.create_task(_watch(notebook))
            async with Storm.of(
                uri, records, rate=rate, processes=processes, logged=logged
            ) as storm:
                pass
            await notebook.run(f"all_sent.set_result({storm.sent})")
            cell = await notebook.run("print(await watching)", timeout=600)
            memory = await _end(watched)
            consumed, lasted = ast.literal_eval(cell.stdout)
            facts = await notebook.value(
                "l.changes, len(l.records), l.dropped, *map(max, zip(*pauses))"
            )
            changes, kept, dropped, pause, work = ast.literal_eval(facts)
            return StormResult(
                asked=records,
                sent=storm.sent,
                skipped=storm.dropped,
                produced_rate=storm.rate,
                received=changes,
                kept=kept,
                dropped=dropped,
                consumed_rate=consumed / lasted,
                pause=pause,
                work=work,
                memory=memory,
                states=_states(notebook, view),
                lasted=lasted,
            )


async def _watch(notebook: Notebook) -> float:
    """Return the maximum growth of the kernel's memory until cancelled."""
    process = psutil.Process(notebook.pid)
    before = most = process.memory_info().rss
    try:
        while True:
            await asyncio.sleep(SAMPLE_INTERVAL)
            most = max(most, process.memory_info().rss)
    except asyncio.CancelledError:
        return float(most - before) / MB


async def _end(watched: asyncio.Task[float]) -> float:
    watched.cancel()
    return await watched


def _states(notebook: Notebook, view: Cell) -> int:
    """Return the number of updates of the view with a different newest record."""
    (display,) = view.displays
    shown = [
        re.findall(r"storm \d{9}", str(update.content["data"].get("text/plain", "")))[-1:]
        for update in notebook.updates(display.display_id or "")
    ]
    return sum(now != then for then, now in itertools.pairwise(shown))


def judge(result: StormResult) -> list[Verdict]:
    """Compare a result with the targets."""

    def verdict(name: str, measured: float, limit: float, *, least: bool = False) -> Verdict:
        bound = "at least" if least else "at most"
        return Verdict(name, bound, limit, Spread.of([measured]))

    return [
        verdict("records sent but not received", result.sent - result.received, 0),
        verdict("records neither sent nor counted", result.asked - result.sent - result.skipped, 0),
        verdict(
            "records neither kept nor counted", result.received - result.kept - result.dropped, 0
        ),
        verdict("records kept", result.kept, CAPACITY),
        verdict("longest stall of the loop, s", result.pause, PAUSE),
        verdict("longest CPU time without a pause, s", result.work, WORK),
        verdict("memory growth, MB", result.memory, MEMORY),
        verdict("updates of the view", result.states, result.lasted // PERIOD, least=True),
    ]


def main() -> None:
    """Measure, and print the verdicts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm")
    parser.add_argument("--rate", type=float, default=50_000, help="records per second in total")
    parser.add_argument("--seconds", type=float, default=5, help="duration at this rate")
    parser.add_argument("--processes", type=int, default=2, help="number of logging processes")
    parser.add_argument("--logged", action="store_true", help="through the logging module")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    about: dict[str, Any] = machine.facts()
    per_process = int(options.rate * options.seconds) // options.processes
    with RabbitMq.start() as rabbitmq, rabbitmq.private_vhost() as vhost:
        uri = rabbitmq.uri_for(vhost=vhost)
        records = per_process * options.processes
        result = asyncio.run(
            run_storm(uri, records, options.rate, options.processes, logged=options.logged)
        )
    about["load_after"] = machine.load()
    print(
        f"{records:,} records from {options.processes} processes, requested"
        f" {options.rate:,.0f}/s: produced {result.produced_rate:,.0f}/s,"
        f" {result.skipped:,} skipped by their producers; consumed by the kernel"
        f" {result.consumed_rate:,.0f}/s over {result.lasted:.1f} s,"
        f" {result.dropped:,} of them dropped"
    )
    print_verdicts(about, judge(result), options.json)


if __name__ == "__main__":
    main()
