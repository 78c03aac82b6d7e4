"""Histogram of latencies: percentiles within a fixed relative error, in bounded memory."""

from __future__ import annotations

import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric_nb.fabric.rpc.latency_histogram import (
    LONGEST,
    RELATIVE_ERROR,
    SHORTEST,
    LatencyHistogram,
)

DURATIONS = st.lists(st.floats(SHORTEST, LONGEST), min_size=1, max_size=300)


def histogram_of(durations: list[float]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for seconds in durations:
        histogram.add(seconds)
    return histogram


@given(DURATIONS, st.floats(0, 100))
def test_percentiles_are_within_the_relative_error(durations: list[float], percent: float) -> None:
    """A percentile is the duration of that rank, within 0.1 %."""
    ranked = sorted(durations)
    exact = ranked[max(1, math.ceil(len(ranked) * percent / 100 - 1e-9)) - 1]
    found = histogram_of(durations).percentile(percent)
    assert found == pytest.approx(exact, rel=RELATIVE_ERROR)
    assert ranked[0] <= found <= ranked[-1]


@given(DURATIONS)
def test_minimum_mean_and_maximum_are_exact(durations: list[float]) -> None:
    """Minimum, maximum and mean are those of the durations themselves."""
    histogram = histogram_of(durations)
    assert (histogram.min, histogram.max) == (min(durations), max(durations))
    assert histogram.mean == pytest.approx(sum(durations) / len(durations))
    assert histogram.count == len(durations)


@given(DURATIONS, st.integers(1, 40))
def test_bins_contain_all_durations(durations: list[float], maximum: int) -> None:
    """Bins reach from the shortest to the longest duration, touch each other and contain all."""
    bins = histogram_of(durations).log_bins(maximum)
    assert 1 <= len(bins) <= maximum
    assert sum(one.number for one in bins) == len(durations)
    assert bins[0].low == pytest.approx(min(durations))
    assert bins[-1].high == pytest.approx(max(durations))
    assert [one.high for one in bins[:-1]] == [one.low for one in bins[1:]]


@pytest.mark.parametrize("seconds", [0.0, 1e-12, 1e300, math.inf])
def test_durations_beyond_the_bounds(seconds: float) -> None:
    """Durations that cannot be told apart are counted, and still have their place."""
    histogram = histogram_of([seconds, 0.001, 0.001])
    assert histogram.count == 3
    assert histogram.percentile(50) == pytest.approx(0.001, rel=RELATIVE_ERROR)
    assert sum(one.number for one in histogram.log_bins(10)) == 3
    assert seconds in (histogram.min, histogram.max)


def test_no_durations() -> None:
    """Without durations all figures are NaN, and there are no bins."""
    empty = LatencyHistogram()
    assert all(map(math.isnan, [empty.min, empty.mean, empty.max, *empty.percentiles([1, 99])]))
    assert empty.log_bins(10) == []


def test_memory_is_bounded() -> None:
    """The number of durations does not change the memory that a histogram needs at most."""
    ratio = (LONGEST / SHORTEST) ** (1 / 200_000)
    tracemalloc.start()
    try:
        histogram = LatencyHistogram()
        for number in range(200_000):
            histogram.add(SHORTEST * ratio**number)
        assert tracemalloc.get_traced_memory()[0] < 3_000_000
    finally:
        tracemalloc.stop()
    assert histogram.count == 200_000


def test_a_copy_is_independent() -> None:
    """A copy keeps its durations while more are added to the original."""
    histogram = histogram_of([0.5])
    copied = histogram.copy()
    histogram.add(2.0)
    assert (copied.count, copied.max, copied.percentile(100)) == (1, 0.5, 0.5)
