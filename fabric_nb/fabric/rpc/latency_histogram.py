"""Histogram of durations with a fixed relative error, in memory of a fixed size.

Pure. As in an HDR histogram, each power of two is divided into equal bins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

RELATIVE_ERROR = 0.001
"""Relative error of a percentile, at most; minimum, maximum and mean are exact."""
SHORTEST, LONGEST = 1e-6, 1e6
"""Seconds below and above which durations are not told apart."""
_BINS = 1024
"""Bins of two successive powers of two; half of it for each."""


class Bin(NamedTuple):
    """Number of durations in an interval of seconds."""

    low: float
    high: float
    number: int


class LatencyHistogram:
    """Durations in seconds: their number, percentiles, minimum, mean and maximum.

    Example:
        >>> histogram = LatencyHistogram()
        >>> for ms in range(1, 101):
        ...     histogram.add(ms / 1000)
        >>> histogram.count, histogram.max, round(histogram.percentile(95), 3)
        (100, 0.1, 0.095)

    Attributes:
        count: number of durations.
        total: their sum.
        min: the shortest one; NaN if there is none.
        max: the longest one; NaN if there is none.
    """

    __slots__ = ("_bins", "count", "max", "min", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.min = self.max = math.nan
        self._bins: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Add a duration."""
        self.count += 1
        self.total += seconds
        if not self.min <= seconds:  # also the first one
            self.min = seconds
        if not self.max >= seconds:
            self.max = seconds
        mantissa, exponent = math.frexp(min(max(seconds, SHORTEST), LONGEST))
        key = exponent * _BINS + int(mantissa * _BINS)
        self._bins[key] = self._bins.get(key, 0) + 1

    def copy(self) -> LatencyHistogram:
        """Return a copy."""
        copied = LatencyHistogram()
        copied.count, copied.total = self.count, self.total
        copied.min, copied.max = self.min, self.max
        copied._bins = self._bins.copy()
        return copied

    @property
    def mean(self) -> float:
        """Mean duration; NaN if there is none."""
        return self.total / self.count if self.count else math.nan

    def percentile(self, percent: float) -> float:
        """Return the duration that `percent` of them do not exceed; NaN if there is none."""
        return self.percentiles([percent])[0]

    def percentiles(self, percents: Sequence[float]) -> list[float]:
        """Return several percentiles, which are given in ascending order."""
        found: list[float] = []
        reached = 0
        for key in sorted(self._bins):
            reached += self._bins[key]
            while len(found) < len(percents) and reached >= self._rank(percents[len(found)]):
                found.append(min(max(_middle(key), self.min), self.max))
        return found or [math.nan] * len(percents)

    def _rank(self, percent: float) -> int:
        return max(1, math.ceil(self.count * percent / 100 - 1e-9))  # 99.9 % of 1000 is the 999th

    def log_bins(self, maximum: int) -> list[Bin]:
        """Return at most `maximum` bins of equal ratio from the shortest to the longest duration.

        Durations that differ by less than the resolution of the histogram are in one bin.
        """
        if not self.count:
            return []
        low, high = max(self.min, SHORTEST), min(max(self.max, SHORTEST), LONGEST)
        span = math.log(high / low)
        number = max(1, min(maximum, int(span / (8 * RELATIVE_ERROR))))
        counts = [0] * number
        for key, count in self._bins.items():
            place = math.log(_middle(key) / low) / span * number if span else 0.0
            counts[min(max(int(place), 0), number - 1)] += count
        edges = [low * math.exp(span * place / number) for place in range(number)] + [high]
        return [Bin(*ends, count) for ends, count in zip(pairwise(edges), counts, strict=True)]


def _middle(key: int) -> float:
    """Return the middle of a bin, in seconds."""
    exponent, mantissa = divmod(key, _BINS)
    return math.ldexp((mantissa + 0.5) / _BINS, exponent)
