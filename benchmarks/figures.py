"""From samples to figures: medians over the rounds, and ratios within each. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One kind under one load, measured once.

    Attributes:
        load: as in ``64 in flight`` or ``drain``.
        rate: calls or messages a second.
        cpu_us: microseconds of CPU of a call's caller or of a message's consumer.
        server_cpu_us: the same of a call's server.
    """

    kind: str
    load: str
    round: int
    rate: float
    cpu_us: float
    server_cpu_us: float | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the rounds: its median, its minimum and its maximum."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """The spread of some values; None when there are none."""
        values = list(values)
        if not values:
            return None
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Figures:
    """One kind under one load, over all rounds; the ratios are to the reference kind."""

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
    of: Callable[[Sample], float],
) -> Spread | None:
    """The ratio of one kind to another, taken in each round; None where one was left out."""
    ours, theirs = _by_round(samples, kind, load), _by_round(samples, reference, load)
    return Spread.of(of(ours[each]) / of(theirs[each]) for each in ours if each in theirs)


def summarise(samples: Sequence[Sample], reference: str) -> list[Figures]:
    """The figures of each kind under each load, in the order of the samples."""
    figures = []
    for load, kind in dict.fromkeys((sample.load, sample.kind) for sample in samples):
        own = _by_round(samples, kind, load).values()
        rates, cpus = Spread.of(map(rate, own)), Spread.of(map(cpu, own))
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
                    sample.server_cpu_us for sample in own if sample.server_cpu_us is not None
                ),
            )
        )
    return figures


def _by_round(samples: Sequence[Sample], kind: str, load: str) -> Mapping[int, Sample]:
    return {
        sample.round: sample for sample in samples if sample.kind == kind and sample.load == load
    }
