"""Aggregation of samples: medians over the rounds, and ratios within each; no I/O."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one kind under one load.

    Attributes:
        load: For example ``64 in flight`` or ``drain``.
        rate: Calls or messages per second.
        cpu_us: CPU time per call of the caller, or per message of the consumer, in microseconds.
        server_cpu_us: CPU time per call of the server, in microseconds.
    """

    kind: str
    load: str
    round: int
    rate: float
    cpu_us: float
    server_cpu_us: float | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, minimum and maximum over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """Return the spread of some values; None if there are none."""
        values = list(values)
        if not values:
            return None
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Figures:
    """Aggregate of one kind under one load; the ratios are to the reference kind."""

    kind: str
    load: str
    rate: Spread
    rate_ratio: Spread | None
    cpu_us: Spread
    cpu_ratio: Spread | None
    server_cpu_us: Spread | None


def rate(sample: Sample) -> float:
    return sample.rate


def cpu(sample: Sample) -> float:
    return sample.cpu_us


def ratio(
    samples: Sequence[Sample],
    kind: str,
    reference: str,
    load: str,
    metric: Callable[[Sample], float],
) -> Spread | None:
    """Return the ratio of one kind to another, per round; None if one was skipped."""
    kind_samples, reference_samples = (
        _by_round(samples, kind, load),
        _by_round(samples, reference, load),
    )
    return Spread.of(
        metric(kind_samples[number]) / metric(reference_samples[number])
        for number in kind_samples
        if number in reference_samples
    )


def summarise(samples: Sequence[Sample], reference: str) -> list[Figures]:
    """Return the figures of each kind under each load, in the order of the samples."""
    figures = []
    for load, kind in dict.fromkeys((sample.load, sample.kind) for sample in samples):
        own_samples = _by_round(samples, kind, load).values()
        rates, cpus = Spread.of(map(rate, own_samples)), Spread.of(map(cpu, own_samples))
        assert rates is not None
        assert cpus is not None
        figures.append(
            Figures(
                kind=kind,
                load=load,
                rate=rates,
                rate_ratio=ratio(samples, kind, reference, load, rate),
                cpu_us=cpus,
                cpu_ratio=ratio(samples, kind, reference, load, cpu),
                server_cpu_us=Spread.of(
                    sample.server_cpu_us
                    for sample in own_samples
                    if sample.server_cpu_us is not None
                ),
            )
        )
    return figures


def _by_round(samples: Sequence[Sample], kind: str, load: str) -> Mapping[int, Sample]:
    return {
        sample.round: sample for sample in samples if sample.kind == kind and sample.load == load
    }
