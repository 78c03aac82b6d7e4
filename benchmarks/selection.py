"""Time to filter and sort a million rows of a stream, and stalls of the event loop meanwhile.

    python -m benchmarks.selection [--rows 1000000] [--rounds 5]

The rows have a time, a text of few values, a text of its own for each row, an int and a float. A
selection runs in a thread, as for the table of a stream, while a loop of `sleep(0)` measures how
long it is kept from running. Without other load, the CPU time is the duration.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

import numpy as np
import pandas as pd

from benchmarks import machine
from benchmarks.figures import Spread
from benchmarks.report import print_verdicts
from benchmarks.targets import Verdict
from fabric_nb.fabric.core.tasks import in_thread
from fabric_nb.frames.buffer import FrameBuffer
from fabric_nb.frames.query import ColumnFilter, Query, select

FILTERS = {
    "a word in all columns": Query("tea"),
    "two words": Query("tea 77"),
    "digits that are rare": Query("123456"),
    "a range of numbers": Query(filters=[ColumnFilter("price", "> 120")]),
    "a range of times": Query(filters=[ColumnFilter("at", "00:05..00:10")]),
    "words in one column": Query(filters=[ColumnFilter("order", "o99")]),
}
SORTED = {
    "sorted by a number": Query(sort="price"),
    "sorted by a text of few values": Query(sort="sku"),
    "sorted by a text of its own in each row": Query(sort="order", descending=True),
}


def frame(rows: int) -> pd.DataFrame:
    """Return rows as a stream keeps them."""
    random = np.random.default_rng(1)
    skus = np.array(["tea", "coffee", "cocoa", "Green Tea", "milk"])
    buffer = FrameBuffer()
    buffer.extend_columns(
        {
            "at": np.datetime64("2026-11-30", "us") + np.arange(rows) * np.timedelta64(1, "ms"),
            "sku": skus[random.integers(0, 5, rows)].tolist(),
            "order": [f"o{n}" for n in random.permutation(rows)],
            "count": random.integers(0, 1000, rows),
            "price": random.normal(100, 20, rows),
        }
    )
    return buffer.df


async def measure(rows: pd.DataFrame, query: Query, rounds: int) -> tuple[Spread, Spread]:
    """Return the milliseconds of CPU time of a selection, and of the longest stall of the loop."""
    used, stalls = [], []
    for _ in range(rounds):
        before = time.process_time()
        selection = asyncio.create_task(in_thread(select, rows, query))
        longest, spun, last = 0.0, 0.0, time.perf_counter()
        while not selection.done():
            mine = time.thread_time()
            await asyncio.sleep(0.001)
            spun += time.thread_time() - mine
            now = time.perf_counter()
            longest, last = max(longest, now - last - 0.001), now
        await selection
        used.append(1000 * (time.process_time() - before - spun))
        stalls.append(1000 * longest)
    return Spread.of(used), Spread.of([statistics.median(stalls)])


async def main() -> None:
    """Print the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rows = frame(arguments.rows)
    verdicts, about = [], machine.facts()
    for name, query in (FILTERS | SORTED).items():
        used, stall = await measure(rows, query, arguments.rounds)
        if name in FILTERS:
            verdicts.append(Verdict(f"{name}: CPU time, ms", "at most", 300, used))
        else:
            print(f"{name}: {used.median:.0f} ms of CPU time")
        verdicts.append(Verdict(f"{name}: stall of the loop, ms", "at most", 50, stall))
    print_verdicts({**about, "load_after": machine.load()}, verdicts)


if __name__ == "__main__":
    asyncio.run(main())
