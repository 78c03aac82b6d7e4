"""Arrival times of rows: exact to the millisecond, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

from fabric_nb.fabric.data.arrivals import Arrivals


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def seconds(arrivals: Arrivals, rows: int) -> list[float]:
    return (arrivals.newest(rows).astype(np.int64) / 1e6).tolist()


def test_times_of_rows(clock: Clock) -> None:
    """Each of the newest rows has its arrival time, also rows that arrived together."""
    arrivals = Arrivals(clock)
    for rows in (2, 1, 3):
        arrivals.add(rows)
        clock.now += 1
    assert seconds(arrivals, 6) == [1000, 1000, 1001, 1002, 1002, 1002]
    assert seconds(arrivals, 4) == [1001, 1002, 1002, 1002]
    assert seconds(arrivals, 2) == [1002, 1002]
    assert seconds(arrivals, 0) == []


def test_without_rows() -> None:
    """Without rows there are no times, and the rate is 0."""
    assert np.isnat(Arrivals().newest(2)).all()
    assert Arrivals().rate(5) == 0


def test_rate(clock: Clock) -> None:
    """The rate is that of the last seconds, and drops to 0."""
    arrivals = Arrivals(clock)
    for _ in range(100):
        arrivals.add(10)
        clock.now += 0.1
    assert arrivals.rate(5.0) == pytest.approx(100, rel=0.03)
    clock.now += 3
    assert arrivals.rate(5.0) == pytest.approx(40, rel=0.06)
    clock.now += 10
    assert arrivals.rate(5.0) == 0


def test_memory_is_bounded(clock: Clock) -> None:
    """Times of dropped rows are dropped, and a million rows of one time take one entry."""
    arrivals = Arrivals(clock)
    for _ in range(100_000):
        arrivals.add(1)
        clock.now += 0.01
        if arrivals.runs % 1000 == 0:
            arrivals.keep(5000)
    assert arrivals.runs < 20_000
    assert seconds(arrivals, 5000)[0] == pytest.approx(clock.now - 50, abs=0.02)
    before = arrivals.runs
    for _ in range(1000):
        arrivals.add(1000)
    assert arrivals.runs == before + 1


def test_clock_that_is_set_back(clock: Clock) -> None:
    """When the clock is set back, earlier rows keep their times."""
    arrivals = Arrivals(clock)
    arrivals.add(1)
    clock.now -= 100
    arrivals.add(1)
    assert seconds(arrivals, 2) == [1000, 900]
