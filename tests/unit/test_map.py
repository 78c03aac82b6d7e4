"""Rows, results and progress of a map, without calls."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from fabric_nb.fabric.rpc import map_progress
from fabric_nb.fabric.rpc.map_progress import RATE_WINDOW, MapProgress
from fabric_nb.fabric.rpc.map_results import MapResults
from fabric_nb.fabric.rpc.map_rows import RowQueue, row_source


class Clock:
    """Clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def results_of(total: int | None, *, spread: bool = True) -> tuple[MapResults, Clock]:
    clock = Clock()
    return MapResults(total, None, spread=spread, clock=clock), clock


def test_progress() -> None:
    """The rate is that of the last ten seconds while a map runs, and of all its time afterwards."""
    results, clock = results_of(100)
    results.meter.start_clock()
    assert results.meter.progress == MapProgress(0, 0, 100, 0.0, None, 0.0, {})
    for number in range(40):
        clock.now += 1.0 if number < 20 else 0.5
        results.begin(number)
        results.succeed(number, number, clock.now - 0.25, "i" if number % 2 else "")
    progress = results.meter.progress
    assert progress.rate == pytest.approx(2.0, rel=0.1)
    assert progress.remaining == pytest.approx(30, rel=0.1)
    assert progress.elapsed == 30
    assert progress.instances == {"i": 20, "": 20}
    results.meter.stop_clock()
    clock.now += 1000
    assert results.meter.progress.elapsed == 30
    assert results.meter.progress.rate == pytest.approx(40 / 30)
    # What it did before a pause does not count for the rate after it.
    results.meter.start_clock()
    clock.now += RATE_WINDOW
    assert results.meter.progress.rate == 0


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (MapProgress(0, 0, None, 0.0, None, 0.2, {}), "0 rows · 0.0 rows/s · 0 s"),
        (
            MapProgress(1200, 3, 5000, 35.25, 107.8, 34.0, {"b": 200, "": 3, "a": 997}),
            "1,200 of 5,000 rows · 3 failed · 35.2 rows/s · 1:48 min left · a: 997 · b: 200",
        ),
        (
            MapProgress(9, 0, 9, 0.001, 0.0, 9000.0, {f"i{n}": 1 for n in range(10)}),
            "9 of 9 rows · 0.0 rows/s · 2:30 h · i0: 1 · i1: 1 · i2: 1 · 7 more instances: 7",
        ),
    ],
)
def test_progress_as_text(
    progress: MapProgress, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of a progress has its counts, the rate, the time left and the instances."""
    monkeypatch.setattr(map_progress, "MAX_INSTANCES", 3)
    assert str(progress) == text


def test_failures_are_forgotten() -> None:
    """Rows that are called again are missing until they have ended."""
    results, clock = results_of(3)
    for number in range(3):
        results.begin(number)
    results.succeed(0, {"a": 1}, clock.now, "x")
    results.fail(1, ValueError("no"), clock.now, "x")
    results.fail(2, ValueError("no"), clock.now, "")
    assert results.frame(only_failed=True).index.tolist() == [1, 2]
    results.forget_failures()
    assert (results.meter.progress.done, results.meter.progress.failed) == (1, 0)
    assert results.meter.progress.instances == {"x": 1}
    assert results.frame().index.tolist() == [0]
    results.succeed(2, {"a": 2}, clock.now, "y")
    assert results.frame().index.tolist() == [0, 2]
    assert results.frame().a.tolist() == [1, 2]


def test_a_text_that_looks_like_a_time_stays_text() -> None:
    """Results are shown as they were received."""
    results, clock = results_of(1)
    results.begin(0)
    results.succeed(0, {"day": "2026-11-30"}, clock.now, "")
    assert results.frame().day.tolist() == ["2026-11-30"]


def test_rows_without_columns() -> None:
    """A DataFrame without columns has a row without keywords for each of its labels."""
    source = row_source(pd.DataFrame(index=["a", "b"]), {"x": 1})
    assert list(source.rows) == [{}, {}]  # type: ignore[arg-type]
    assert source.total == 2


def test_numbers_of_a_dataframe_are_numbers_of_python() -> None:
    """A DataFrame's row has the values that a call with them would have."""
    frame = pd.DataFrame({"n": [1], "f": [0.5], "b": [True], "at": [pd.Timestamp(0)]})
    (row,) = row_source(frame, {}).rows  # type: ignore[misc]
    assert [type(value) for value in row.values()] == [int, float, bool, pd.Timestamp]


async def taken(queue: RowQueue) -> list[Any]:
    """Return the rows that are left, with their numbers."""
    rows = []
    while (row := await queue.take()) is not None:
        rows.append(tuple(row))
    return rows


async def test_rows_that_are_put_back_come_first() -> None:
    """A row that was put back keeps its number, and is handed out before new ones."""
    queue = RowQueue(["a", "b", "c"])
    first = await queue.take()
    assert first is not None
    queue.put_back([first])
    assert await taken(queue) == [(0, "a"), (1, "b"), (2, "c")]
    assert (queue.taken, queue.exhausted, queue.missing) == (3, True, False)


async def test_a_stopped_queue() -> None:
    """A queue that was stopped hands out nothing until it is restarted; the first reason counts."""
    queue, first = RowQueue(["a"]), ValueError("first")
    queue.stop(first)
    queue.stop(ValueError("second"))
    assert await queue.take() is None
    assert queue.stopped is first
    assert queue.missing
    queue.restart()
    assert await taken(queue) == [(0, "a")]
