"""Cost of a refresh and of a row: FrameBuffer, plain pandas and, if installed, streamz.

    python benchmarks/frames.py [--rows 1000000] [--rounds 15] [--json FILE]

A refresh is 1,000 new rows of six mixed columns (time as ISO text, int, float, bool, two texts) and
a DataFrame of all rows. All designs and sizes alternate in each round, in random order, so
that load on the machine and cold caches affect them alike; the median is shown. Memory is that
allocated by Python, numpy and Arrow for the rows once the rows themselves are freed.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from fabric_nb.frames.buffer import FrameBuffer

Rows = list[dict[str, Any]]

NEW_ROWS = 1000
START = datetime(2024, 1, 1, tzinfo=UTC)
REFRESH_GROWTH = 1.5
"""Target: time of a refresh with the most rows, over that with the fewest."""
MEMORY_RATIO = 2.2
"""Target: memory of a row, over that in a DataFrame that was built at once."""


def make_rows(count: int, first: int = 0) -> Rows:
    return [
        {
            "at": (START + timedelta(milliseconds=n)).isoformat(timespec="milliseconds"),
            "count": n,
            "value": n / 8,
            "ok": n % 3 == 0,
            "sensor": f"sensor-{n % 50}",
            "note": f"note {n}",
        }
        for n in range(first, first + count)
    ]


class Design(Protocol):
    def refresh(self, rows: Rows) -> pd.DataFrame: ...


class Buffer:
    """FrameBuffer."""

    def __init__(self) -> None:
        self.buffer = FrameBuffer()

    def refresh(self, rows: Rows) -> pd.DataFrame:
        self.buffer.extend(rows)
        return self.buffer.df


class Rebuild:
    """A list of all rows, converted to a new DataFrame."""

    def __init__(self) -> None:
        self.rows: Rows = []

    def refresh(self, rows: Rows) -> pd.DataFrame:
        self.rows += rows
        return pd.DataFrame(self.rows)


class Concat:
    """Concatenation of the DataFrame of the new rows with that of the old ones."""

    def __init__(self) -> None:
        self.frame: pd.DataFrame | None = None

    def refresh(self, rows: Rows) -> pd.DataFrame:
        new = pd.DataFrame(rows)
        self.frame = new if self.frame is None else pd.concat([self.frame, new], ignore_index=True)
        return self.frame


class Streamz:
    """A stream of DataFrames, accumulated by streamz."""

    def __init__(self) -> None:
        from streamz import Stream  # type: ignore[import-not-found, unused-ignore]

        self.source = Stream()
        self.frame = pd.DataFrame()
        self.source.map(pd.DataFrame).accumulate(
            lambda old, new: pd.concat([old, new], ignore_index=True), start=self.frame
        ).sink(self._keep)

    def _keep(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def refresh(self, rows: Rows) -> pd.DataFrame:
        self.source.emit(rows)
        return self.frame


DESIGNS: dict[str, Callable[[], Design]] = {
    "FrameBuffer": Buffer,
    "pandas, rebuilt": Rebuild,
    "pd.concat": Concat,
}
if importlib.util.find_spec("streamz"):
    DESIGNS["streamz"] = Streamz


def measure_refresh(sizes: list[int], rounds: int) -> dict[str, dict[int, float]]:
    """Return the median milliseconds of a refresh, by design and number of rows."""
    rows = make_rows(max(sizes))
    designs: dict[tuple[str, int], Design] = {}
    for name, make in DESIGNS.items():
        for size in sizes:
            designs[name, size] = make()
            designs[name, size].refresh(rows[:size])
    gc.collect()
    gc.freeze()
    gc.disable()
    durations: dict[tuple[str, int], list[float]] = {key: [] for key in designs}
    for number in range(rounds):
        new = make_rows(NEW_ROWS, max(sizes) + number * NEW_ROWS)
        for key in random.sample(list(designs), len(designs)):
            start = time.perf_counter()
            designs[key].refresh(new)
            durations[key].append((time.perf_counter() - start) * 1000)
    gc.enable()
    gc.unfreeze()
    return {
        name: {size: statistics.median(durations[name, size]) for size in sizes} for name in DESIGNS
    }


def allocated() -> int:
    gc.collect()
    arrow = 0
    if importlib.util.find_spec("pyarrow"):
        import pyarrow as pa

        arrow = int(pa.total_allocated_bytes())
    traced, _ = tracemalloc.get_traced_memory()
    return traced + arrow


def allocated_by(make: Callable[[], object]) -> int:
    before = allocated()
    result = make()
    after = allocated()
    del result
    return after - before


def measure_memory(size: int) -> dict[str, float]:
    """Return bytes per row; for the buffer over its range of spare capacity."""

    def at_once() -> pd.DataFrame:
        return pd.DataFrame(make_rows(size))

    def with_times() -> pd.DataFrame:
        frame = at_once()
        return frame.assign(at=pd.to_datetime(frame["at"]).dt.as_unit("us"))

    def bytes_per_row(rows: int, max_rows: int | None = None) -> float:
        def buffer() -> FrameBuffer:
            buffer = FrameBuffer(max_rows=max_rows)
            for first in range(0, rows, NEW_ROWS):
                buffer.extend(make_rows(min(NEW_ROWS, rows - first), first))
                len(buffer)
            return buffer

        return allocated_by(buffer) / min(rows, max_rows or rows)

    tracemalloc.start()
    # Spare capacity depends on the fill of the arrays: sampled at six sizes over a growth by half.
    sweep = [
        bytes_per_row(int(size * 1.5**step) // 100 * 100) for step in np.arange(-1, 0.01, 1 / 6)
    ]
    result = {
        "DataFrame at once": allocated_by(at_once) / size,
        "DataFrame at once, times as datetime64": allocated_by(with_times) / size,
        "FrameBuffer, median": statistics.median(sweep),
        "FrameBuffer, most": max(sweep),
        "FrameBuffer, max_rows reached": bytes_per_row(size * 5 // 2, max_rows=size),
    }
    tracemalloc.stop()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="maximum number of rows")
    parser.add_argument("--rounds", type=int, default=15, help="refreshes of each design and size")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()

    sizes = [size for size in (1_000, 10_000, 100_000, 1_000_000) if size <= options.rows]
    refresh = measure_refresh(sizes, options.rounds)
    memory = measure_memory(min(options.rows, 100_000))

    print(f"Refresh after {NEW_ROWS} new rows, ms (median of {options.rounds}), by number of rows")
    print(f"{'':40}", *(f"{size:>10,}" for size in sizes), f"{'growth':>8}")
    growth = {}
    for name, by_size in refresh.items():
        growth[name] = by_size[sizes[-1]] / by_size[sizes[0]]
        print(f"{name:40}", *(f"{ms:10.2f}" for ms in by_size.values()), f"{growth[name]:8.2f}")
    print(f"Target: FrameBuffer's growth <= {REFRESH_GROWTH}\n")

    print("Memory per row of six mixed columns")
    reference = memory["DataFrame at once"]
    print(f"{'':40} {'bytes':>10} {'ratio':>10}")
    for name, size in memory.items():
        print(f"{name:40} {size:10.1f} {size / reference:10.2f}")
    print(f"Target: ratio <= {MEMORY_RATIO}")

    if options.json:
        figures = {"refresh_ms": refresh, "refresh_growth": growth, "bytes_per_row": memory}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
