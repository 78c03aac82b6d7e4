"""What a refresh and a held row cost: FrameBuffer against plain pandas and, if installed, streamz.

    python benchmarks/frames.py [--rows 1000000] [--rounds 15] [--json FILE]

A refresh is 1,000 new rows of six mixed columns (time as ISO text, int, float, bool, two texts) and
a DataFrame of all rows. All designs and sizes take turns in each round, in an order of chance, so
that a busy machine and a cold cache disturb them alike; the median is shown. Memory is what Python,
numpy and Arrow have allocated for the rows once the rows themselves are gone.
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

from fabric_nb.frames import FrameBuffer

Rows = list[dict[str, Any]]

NEW_ROWS = 1000
START = datetime(2024, 1, 1, tzinfo=UTC)
# What issue 4 asks for.
REFRESH_GROWTH = 1.5
MEMORY_RATIO = 2.2


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
    """Ours."""

    def __init__(self) -> None:
        self.buffer = FrameBuffer()

    def refresh(self, rows: Rows) -> pd.DataFrame:
        self.buffer.extend(rows)
        return self.buffer.df


class Rebuild:
    """A list of all rows, made into a DataFrame anew."""

    def __init__(self) -> None:
        self.rows: Rows = []

    def refresh(self, rows: Rows) -> pd.DataFrame:
        self.rows += rows
        return pd.DataFrame(self.rows)


class Concat:
    """The DataFrame of the new rows behind that of the old ones."""

    def __init__(self) -> None:
        self.frame: pd.DataFrame | None = None

    def refresh(self, rows: Rows) -> pd.DataFrame:
        new = pd.DataFrame(rows)
        self.frame = new if self.frame is None else pd.concat([self.frame, new], ignore_index=True)
        return self.frame


class Streamz:
    """A stream of DataFrames, gathered by streamz's own accumulation."""

    def __init__(self) -> None:
        from streamz import Stream  # type: ignore[import-not-found, unused-ignore]

        self.source = Stream()
        self.frame = pd.DataFrame()
        self.source.map(pd.DataFrame).accumulate(
            lambda held, new: pd.concat([held, new], ignore_index=True), start=self.frame
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
    """Median milliseconds of a refresh, by design and rows held."""
    rows = make_rows(max(sizes))
    held: dict[tuple[str, int], Design] = {}
    for name, make in DESIGNS.items():
        for size in sizes:
            held[name, size] = make()
            held[name, size].refresh(rows[:size])
    gc.collect()
    gc.freeze()
    gc.disable()
    taken: dict[tuple[str, int], list[float]] = {key: [] for key in held}
    for each in range(rounds):
        new = make_rows(NEW_ROWS, max(sizes) + each * NEW_ROWS)
        for key in random.sample(list(held), len(held)):
            start = time.perf_counter()
            held[key].refresh(new)
            taken[key].append((time.perf_counter() - start) * 1000)
    gc.enable()
    gc.unfreeze()
    return {
        name: {size: statistics.median(taken[name, size]) for size in sizes} for name in DESIGNS
    }


def allocated() -> int:
    gc.collect()
    arrow = 0
    if importlib.util.find_spec("pyarrow"):
        import pyarrow as pa

        arrow = int(pa.total_allocated_bytes())
    traced, _ = tracemalloc.get_traced_memory()
    return traced + arrow


def kept_by(make: Callable[[], object]) -> int:
    before = allocated()
    kept = make()
    after = allocated()
    del kept
    return after - before


def measure_memory(size: int) -> dict[str, float]:
    """Bytes per held row; that of the buffer where it is fullest and where it has most room."""

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

        return kept_by(buffer) / min(rows, max_rows or rows)

    tracemalloc.start()
    # Room depends on how far the arrays are filled: a growth by half is sampled in six places.
    sweep = [
        bytes_per_row(int(size * 1.5**step) // 100 * 100) for step in np.arange(-1, 0.01, 1 / 6)
    ]
    result = {
        "DataFrame at once": kept_by(at_once) / size,
        "DataFrame at once, times as datetime64": kept_by(with_times) / size,
        "FrameBuffer, median": statistics.median(sweep),
        "FrameBuffer, most": max(sweep),
        "FrameBuffer, max_rows reached": bytes_per_row(size * 5 // 2, max_rows=size),
    }
    tracemalloc.stop()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="the most rows held")
    parser.add_argument("--rounds", type=int, default=15, help="refreshes of each design and size")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()

    sizes = [size for size in (1_000, 10_000, 100_000, 1_000_000) if size <= options.rows]
    refresh = measure_refresh(sizes, options.rounds)
    memory = measure_memory(min(options.rows, 100_000))

    print(f"Refresh after {NEW_ROWS} new rows, ms (median of {options.rounds}), by rows held")
    print(f"{'':40}", *(f"{size:>10,}" for size in sizes), f"{'growth':>8}")
    growth = {}
    for name, by_size in refresh.items():
        growth[name] = by_size[sizes[-1]] / by_size[sizes[0]]
        print(f"{name:40}", *(f"{ms:10.2f}" for ms in by_size.values()), f"{growth[name]:8.2f}")
    print(f"To reach: FrameBuffer's growth <= {REFRESH_GROWTH}\n")

    print("Memory per held row of six mixed columns")
    reference = memory["DataFrame at once"]
    print(f"{'':40} {'bytes':>10} {'ratio':>10}")
    for name, size in memory.items():
        print(f"{name:40} {size:10.1f} {size / reference:10.2f}")
    print(f"To reach: ratio <= {MEMORY_RATIO}")

    if options.json:
        figures = {"refresh_ms": refresh, "refresh_growth": growth, "bytes_per_row": memory}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
