"""Result of a benchmark: rate, latencies and errors, as values, text and DataFrames. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fabric_nb.errors import one_line
from fabric_nb.fabric.rpc.latency_histogram import Bin, LatencyHistogram
from fabric_nb.libraries import importing

if TYPE_CHECKING:
    import pandas as pd

    from fabric_nb.fabric.rpc.bench_options import BenchOptions

BenchState = Literal["running", "done", "interrupted", "stopped"]
"""State of a benchmark: under way, ended in time, interrupted, or ended early by its errors."""
PERCENTILES = (50.0, 90.0, 95.0, 99.0)
BINS = 12
"""Bins of the histogram that is shown."""
BUSY = 0.9
"""Share of a core from which the calling process itself may limit the rate."""
SHOWN = 8
"""Instances, and types of errors, that are shown; the DataFrame has all instances."""
_BAR = 40
"""Characters of the longest bar of the histogram."""


class ErrorCount(NamedTuple):
    """Errors of one type.

    Attributes:
        calls: number of calls that failed with it.
        example: text of the first one.
    """

    calls: int
    example: str


class SecondOfCalls(NamedTuple):
    """Calls that ended in one second of a benchmark.

    Attributes:
        second: number of the second, from 0.
        calls: calls that ended, `errors` among them.
        rate: calls per second; the last second may be shorter than others.
        p50_ms: median latency in milliseconds; NaN without a call that succeeded.
        p95_ms: 95th percentile.
        max_ms: longest latency.
    """

    second: int
    calls: int
    errors: int
    rate: float
    p50_ms: float
    p95_ms: float
    max_ms: float


class InstanceCalls(NamedTuple):
    """Calls that one instance answered.

    Attributes:
        instance: id of the instance; ``""`` for calls without a reply, and for services on
            amqp-fabric, which do not name their instances.
        calls: calls that ended, `errors` among them.
        rate: calls per second.
        p50_ms: median latency in milliseconds; NaN without a call that succeeded.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        max_ms: longest latency.
    """

    instance: str
    calls: int
    errors: int
    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BenchResult:
    """Result of a benchmark, or of one that is under way.

    Latencies are those of the calls that succeeded: from the call to its result, or with a fixed
    rate from the time at which the call was due. Percentiles are within 0.1 %; minimum, mean and
    maximum are exact.

    Attributes:
        label: service and method, as in ``shop.pricing.quote``.
        options: options of the benchmark.
        state: ``running``, ``done``, ``interrupted``, or ``stopped`` because all calls failed.
        reason: sentence that says why it was stopped; empty otherwise.
        started: time at which the counting began, in epoch seconds.
        elapsed: seconds of counting.
        calls: calls that ended in this time, errors among them.
        latency: latencies of the calls that succeeded, in seconds.
        errors_by_type: errors by the name of their type.
        by_instance: calls by the instance that answered them.
        by_second: calls by the second in which they ended.
        cancelled: calls that were under way at the end, and were cancelled.
        unsent: calls of a fixed rate that were due and not sent, because too many were under way.
        cpu: share of a core that this process used.
    """

    label: str
    options: BenchOptions
    state: BenchState
    reason: str
    started: float
    elapsed: float
    calls: int
    latency: LatencyHistogram
    errors_by_type: Mapping[str, ErrorCount]
    by_instance: Sequence[InstanceCalls]
    by_second: Sequence[SecondOfCalls]
    cancelled: int
    unsent: int
    cpu: float

    @property
    def rate(self) -> float:
        """Calls per second that ended, errors among them."""
        return self.calls / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def errors(self) -> int:
        """Number of calls that failed."""
        return sum(error.calls for error in self.errors_by_type.values())

    @property
    def min_ms(self) -> float:
        """Shortest latency in milliseconds; NaN if no call succeeded, as for the others."""
        return self.latency.min * 1000

    @property
    def mean_ms(self) -> float:
        """Mean latency in milliseconds."""
        return self.latency.mean * 1000

    @property
    def p50_ms(self) -> float:
        """Median latency in milliseconds."""
        return self.percentile(50)

    @property
    def p90_ms(self) -> float:
        """90th percentile of the latencies in milliseconds."""
        return self.percentile(90)

    @property
    def p95_ms(self) -> float:
        """95th percentile of the latencies in milliseconds."""
        return self.percentile(95)

    @property
    def p99_ms(self) -> float:
        """99th percentile of the latencies in milliseconds."""
        return self.percentile(99)

    @property
    def max_ms(self) -> float:
        """Longest latency in milliseconds."""
        return self.latency.max * 1000

    def percentile(self, percent: float) -> float:
        """Return the latency in milliseconds that `percent` of the calls did not exceed."""
        return self.latency.percentile(percent) * 1000

    @property
    def histogram(self) -> list[Bin]:
        """Intervals of equal ratio with the number of latencies in each, in seconds."""
        return self.latency.log_bins(BINS)

    # -- DataFrames and JSON

    @property
    def df(self) -> pd.DataFrame:
        """A row for each second, with the columns of `SecondOfCalls`."""
        return _frame(SecondOfCalls, self.by_second)

    @property
    def instances(self) -> pd.DataFrame:
        """A row for each instance, with the columns of `InstanceCalls`."""
        return _frame(InstanceCalls, self.by_instance)

    def as_json(self) -> dict[str, Any]:
        """Return the result for JSON; values that are not known are null."""
        return {
            "call": self.label,
            "state": self.state,
            "reason": self.reason,
            "in_flight": self.options.in_flight,
            "target_rate": self.options.rate,
            "started": self.started,
            "elapsed": self.elapsed,
            "calls": self.calls,
            "rate": self.rate,
            "latency_ms": {name: _known(value) for name, value in self.latencies.items()},
            "errors": {name: error._asdict() for name, error in self.errors_by_type.items()},
            "cancelled": self.cancelled,
            "unsent": self.unsent,
            "cpu": self.cpu,
            "instances": [_known_values(one) for one in self.by_instance],
            "seconds": [_known_values(one) for one in self.by_second],
            "histogram": [
                {"low_ms": low * 1000, "high_ms": high * 1000, "calls": number}
                for low, high, number in self.histogram
            ],
        }

    # -- text

    @property
    def latencies(self) -> dict[str, float]:
        """Minimum, mean, percentiles and maximum by name, in milliseconds."""
        percentiles = self.latency.percentiles(PERCENTILES)
        named = zip(PERCENTILES, percentiles, strict=True)
        return {
            "min": self.min_ms,
            "mean": self.mean_ms,
            **{f"p{percent:g}": seconds * 1000 for percent, seconds in named},
            "max": self.max_ms,
        }

    @property
    def facts(self) -> list[str]:
        """Rate, calls, and how they were made, as text."""
        options = self.options
        pace = f"{options.in_flight:,} in flight"
        if options.rate is not None:
            pace = f"{options.rate:,g} due/s, at most {pace}"
        return [
            f"{self.rate:,.1f} calls/s",
            f"{self.calls:,} calls in {self.elapsed:,.1f} s",
            pace,
        ]

    @property
    def live_facts(self) -> list[str]:
        """Figures while it is under way, as text."""
        latencies = self.latencies if self.latency.count else {}
        errors = self.errors
        return [
            f"{self.rate:,.1f} calls/s",
            *(f"{name} {ms_text(latencies[name])}" for name in ("p50", "p95", "p99") if latencies),
            *([f"{errors:,} failed"] if errors else []),
            f"{self.calls:,} calls in {self.elapsed:,.1f} s",
        ]

    @property
    def fraction(self) -> float:
        """Part of its time, or of its calls, that is over, from 0 to 1."""
        options = self.options
        parts = [self.calls / options.calls] if options.calls is not None else []
        parts += [self.elapsed / options.seconds] if options.seconds is not None else []
        return min(1.0, max(parts))

    @property
    def notes(self) -> list[str]:
        """Sentences on what limits the figures."""
        notes = [self.reason] if self.reason else []
        if self.unsent:
            notes.append(
                f"{self.unsent:,} calls were due and not sent, because {self.options.in_flight:,}"
                " were under way: the service did not keep up with the rate."
            )
        if self.cancelled:
            notes.append(f"{self.cancelled:,} calls were under way at the end and were cancelled.")
        if self.cpu >= BUSY:
            notes.append(
                f"This process used {self.cpu:.0%} of a core: it may limit the rate itself."
            )
        return notes

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        failed = [f"{self.errors:,} failed"] if self.errors else []
        yield one_line(" · ".join([self.label, self.state, *failed, *self.facts]))
        if self.latency.count:
            latencies = {name: ms_text(ms) for name, ms in self.latencies.items()}
            yield ""
            yield from _columns([list(latencies), list(latencies.values())])
            yield ""
            yield from histogram_lines(self.histogram)
        if self.errors_by_type:
            yield ""
            for name, error in shown_errors(self.errors_by_type):
                yield one_line(f"{error.calls:,} {name}: {error.example}")
        if any(one.instance for one in self.by_instance):
            yield ""
            yield from _columns([INSTANCE_HEAD, *map(instance_cells, self.by_instance[:SHOWN])])
            if (more := len(self.by_instance) - SHOWN) > 0:
                yield f"{more:,} more instances"
        if notes := self.notes:
            yield ""
            yield from map(one_line, notes)


INSTANCE_HEAD = ["instance", "calls", "errors", "calls/s", "p50", "p95", "p99", "max"]


def instance_cells(one: InstanceCalls) -> list[str]:
    """Return the calls of an instance as text, for columns with the names `INSTANCE_HEAD`."""
    latencies = (one.p50_ms, one.p95_ms, one.p99_ms, one.max_ms)
    counts = (f"{one.calls:,}", f"{one.errors:,}", f"{one.rate:,.1f}")
    return [one.instance, *counts, *map(ms_text, latencies)]


def shown_errors(errors: Mapping[str, ErrorCount]) -> list[tuple[str, ErrorCount]]:
    """Return the most frequent errors, the most frequent one first."""
    return sorted(errors.items(), key=lambda item: -item[1].calls)[:SHOWN]


def ms_text(ms: float) -> str:
    """Return milliseconds as text with three digits.

    Example:
        >>> ms_text(0.6123), ms_text(12.345), ms_text(12345.6), ms_text(float("nan"))
        ('0.612 ms', '12.3 ms', '12,346 ms', '')
    """
    if math.isnan(ms):
        return ""
    digits = max(0, 2 - math.floor(math.log10(ms))) if ms >= 0.001 else 3
    return f"{ms:,.{digits}f} ms"


def histogram_lines(bins: Sequence[Bin]) -> list[str]:
    r"""Return a histogram as lines of text, with a bar for each interval.

    Example:
        >>> print(*histogram_lines([Bin(0.001, 0.002, 10), Bin(0.002, 0.004, 5)]), sep="\n")
        1.00 ms to 2.00 ms  ████████████████████████████████████████ 10
        2.00 ms to 4.00 ms  ████████████████████ 5
    """
    most = max((one.number for one in bins), default=0)
    lows, highs = ([ms_text(1000 * one[end]) for one in bins] for end in (0, 1))
    wide_low, wide_high = max(map(len, lows)), max(map(len, highs))
    return [
        f"{low:>{wide_low}} to {high:>{wide_high}}  {'█' * math.ceil(_BAR * one.number / most)}"
        f" {one.number:,}"
        for low, high, one in zip(lows, highs, bins, strict=True)
    ]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of text as lines, the first column aligned to the left."""
    table = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])],
        ).rstrip()
        for row in table
    ]


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _known_values(row: SecondOfCalls | InstanceCalls) -> dict[str, Any]:
    return {name: _known(value) for name, value in row._asdict().items()}


def _frame(kind: type[SecondOfCalls | InstanceCalls], rows: Sequence[Any]) -> pd.DataFrame:
    with importing("pandas"):
        import pandas as pd
    frame = pd.DataFrame(list(rows), columns=list(kind._fields))
    types = {"instance": "str", **dict.fromkeys(("second", "calls", "errors"), "int64")}
    return frame.astype({name: types.get(name, "float64") for name in kind._fields})
