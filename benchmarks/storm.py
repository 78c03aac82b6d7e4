"""What a storm of logs does to a notebook that shows them: the figures of issue 6, floods.

    python -m benchmarks.storm [--rate 50000] [--seconds 5] [--processes 2]
    python -m benchmarks.storm --logged --processes 1

Processes publish so many records a second, or as many as a private RabbitMQ takes, while a kernel
has `%fabric_logs` on show. With `--logged` they log them, and their `AmqpHandler` drops what cannot
be sent, and counts it. Said is how many a second the kernel took; judged are the longest time its
loop stood still, its memory, how often the view showed something new, and whether each record was
heard and either held or counted as dropped. Producers, broker and kernel share the machine.
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
from benchmarks.targets import Verdict
from benchmarks.telling import tell_verdicts
from fabric_nb.fabric.logs.feed import CAPACITY
from tests.notebook.notebooks import Notebook
from tests.support.cells import Cell
from tests.support.rabbitmq import RabbitMq
from tests.support.storm import Storm

MB = 1e6
PAUSE, WORK, MEMORY, PERIOD = 0.5, 0.25, 100.0, 2.0
"""Seconds that the loop may stand still; that it may compute at once, of the processor, which other
processes do not lengthen; MB more that the kernel may have; seconds between two states shown."""
LOOK = 0.05
WATCH = """
import asyncio, time
took = []
async def tick():
    while True:
        began, used = time.monotonic(), time.thread_time()
        await asyncio.sleep(0.01)
        took.append((time.monotonic() - began - 0.01, time.thread_time() - used))
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
class Seen:
    """What became of one storm; times are in seconds, memory in MB."""

    asked: int
    sent: int
    left_out: int
    made_rate: float
    heard: int
    held: int
    dropped: int
    taken_rate: float
    pause: float
    work: float
    memory: float
    states: int
    lasted: float


async def suffer(uri: str, records: int, rate: float, processes: int, *, logged: bool) -> Seen:
    """One storm over one notebook."""
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
            heard = await notebook.run("print(await watching)", timeout=600)
            memory = await _end(watched)
            taken, lasted = ast.literal_eval(heard.stdout)
            facts = await notebook.value(
                "l.changes, len(l.records), l.dropped, *map(max, zip(*took))"
            )
            changes, held, dropped, pause, work = ast.literal_eval(facts)
            return Seen(
                asked=records,
                sent=storm.sent,
                left_out=storm.dropped,
                made_rate=storm.rate,
                heard=changes,
                held=held,
                dropped=dropped,
                taken_rate=taken / lasted,
                pause=pause,
                work=work,
                memory=memory,
                states=_states(notebook, view),
                lasted=lasted,
            )


async def _watch(notebook: Notebook) -> float:
    """The most memory that the kernel gains, until cancelled."""
    process = psutil.Process(notebook.pid)
    before = most = process.memory_info().rss
    try:
        while True:
            await asyncio.sleep(LOOK)
            most = max(most, process.memory_info().rss)
    except asyncio.CancelledError:
        return float(most - before) / MB


async def _end(watched: asyncio.Task[float]) -> float:
    watched.cancel()
    return await watched


def _states(notebook: Notebook, view: Cell) -> int:
    """How many states of the view showed another newest record than the one before."""
    (display,) = view.displays
    shown = [
        re.findall(r"storm \d{9}", str(update.content["data"].get("text/plain", "")))[-1:]
        for update in notebook.updates(display.display_id or "")
    ]
    return sum(now != then for then, now in itertools.pairwise(shown))


def judge(seen: Seen) -> list[Verdict]:
    """What was found beside what is to be."""

    def verdict(what: str, found: float, limit: float, *, least: bool = False) -> Verdict:
        bound = "at least" if least else "at most"
        return Verdict(what, bound, limit, Spread.of([found]))

    return [
        verdict("records that were sent and not heard", seen.sent - seen.heard, 0),
        verdict("records neither sent nor counted", seen.asked - seen.sent - seen.left_out, 0),
        verdict("records neither held nor counted", seen.heard - seen.held - seen.dropped, 0),
        verdict("records held", seen.held, CAPACITY),
        verdict("longest pause of the loop, s", seen.pause, PAUSE),
        verdict("most of the processor that it took at once, s", seen.work, WORK),
        verdict("memory more than before, MB", seen.memory, MEMORY),
        verdict(
            "states of the view that were shown", seen.states, seen.lasted // PERIOD, least=True
        ),
    ]


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm")
    parser.add_argument("--rate", type=float, default=50_000, help="records a second, in all")
    parser.add_argument("--seconds", type=float, default=5, help="that it would last at this rate")
    parser.add_argument("--processes", type=int, default=2, help="that log")
    parser.add_argument("--logged", action="store_true", help="through the logging module")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    about: dict[str, Any] = machine.facts()
    each = int(options.rate * options.seconds) // options.processes
    with RabbitMq.start() as rabbitmq, rabbitmq.private_vhost() as vhost:
        uri = rabbitmq.uri_for(vhost=vhost)
        records = each * options.processes
        seen = asyncio.run(
            suffer(uri, records, options.rate, options.processes, logged=options.logged)
        )
    about["load_after"] = machine.load()
    print(
        f"{records:,} records from {options.processes} processes, asked for"
        f" {options.rate:,.0f}/s: made {seen.made_rate:,.0f}/s, {seen.left_out:,} left out by who"
        f" made them; taken by the kernel {seen.taken_rate:,.0f}/s over {seen.lasted:.1f} s,"
        f" {seen.dropped:,} of them dropped"
    )
    tell_verdicts(about, judge(seen), options.json)


if __name__ == "__main__":
    main()
