"""Targets for calls, streams, frames and the start, and verdicts on them; no I/O.

`benchmarks.notebook` has the targets for a notebook that shows a stream for two minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks import calls, start, streams
from benchmarks.figures import Sample, Spread, cpu, rate, ratio
from benchmarks.frames import MEMORY_RATIO, REFRESH_GROWTH
from benchmarks.start import Run

Metric = Callable[[Sample], float]


@dataclass(slots=True)
class Results:
    """Samples of each suite; empty if it was skipped."""

    calls: Sequence[Sample] = ()
    cancelling: Sequence[float] = ()
    streams: Sequence[Sample] = ()
    frames: dict[str, Any] = field(default_factory=dict)
    start: Sequence[Run] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and its measurement, None if it was not measured."""

    name: str
    bound: Literal["at least", "at most"]
    limit: float
    measured: Spread | None

    @property
    def met(self) -> bool | None:
        """True if the median meets the target, None if it was not measured."""
        if self.measured is None:
            return None
        if self.bound == "at least":
            return self.measured.median >= self.limit
        return self.measured.median <= self.limit


def judge(results: Results) -> list[Verdict]:
    """Return each target with its figure: ratios within a round, the median over the rounds."""
    return [
        *_calls(results.calls),
        Verdict(
            "cancellation until a running coroutine has ended, s",
            "at most",
            0.05,
            Spread.of(results.cancelling),
        ),
        *_streams(results.streams),
        *_frames(results.frames),
        *_start(results.start),
    ]


def _calls(samples: Sequence[Sample]) -> list[Verdict]:
    sequential, *_, full = calls.IN_FLIGHT

    def of(kind: str, to: str, load: str, metric: Metric) -> Spread | None:
        return ratio(samples, kind, to, load, metric)

    bare, amqp_fabric = calls.REFERENCE, calls.AMQP_FABRIC
    verdicts = [
        Verdict(
            f"{sequential} calls/s, both ends fabric_nb, to bare aiormq",
            "at least",
            0.90,
            of(calls.FABRIC_NB, bare, sequential, rate),
        ),
        Verdict(
            f"{sequential} calls/s, both ends fabric_nb, to amqp091-go",
            "at least",
            0.75,
            of(calls.FABRIC_NB, calls.GO, sequential, rate),
        ),
        Verdict(
            f"{full} calls/s, {calls.FABRIC_NB_WIDE}, to {calls.GO_WIDE}",
            "at least",
            0.85,
            of(calls.FABRIC_NB_WIDE, calls.GO_WIDE, full, rate),
        ),
        Verdict(
            f"{full} rows/s of {calls.FABRIC_NB_MAP}, with its DataFrame, to a loop of calls",
            "at least",
            0.85,
            of(calls.FABRIC_NB_MAP, calls.FABRIC_NB_WIDE, full, rate),
        ),
        Verdict(
            f"{full} calls/s of {calls.FABRIC_NB_BENCH}, to a loop of calls",
            "at least",
            0.85,
            of(calls.FABRIC_NB_BENCH, calls.FABRIC_NB_WIDE, full, rate),
        ),
        Verdict(
            f"{full} calls/s, {calls.FABRIC_NB_REPORTS}, to calls without reports",
            "at least",
            0.85,
            of(calls.FABRIC_NB_REPORTS, calls.FABRIC_NB_WIDE, full, rate),
        ),
        Verdict(
            f"caller CPU per call, {sequential}, µs",
            "at most",
            130,
            Spread.of(map(cpu, _of(samples, calls.FABRIC_NB, sequential))),
        ),
    ]
    for kind in (calls.FABRIC_NB, calls.FABRIC_NB_WIDE):
        verdicts += [
            Verdict(
                f"{full} calls/s, {kind}, to bare aiormq",
                "at least",
                0.85,
                of(kind, bare, full, rate),
            ),
            Verdict(
                f"{full} calls/s, {kind}, to amqp-fabric",
                "at least",
                3.0,
                of(kind, amqp_fabric, full, rate),
            ),
            Verdict(
                f"caller CPU per call, {full}, {kind}, to bare aiormq",
                "at most",
                1.15,
                of(kind, bare, full, cpu),
            ),
        ]
    return [
        *verdicts,
        # With a prefetch of 1 each call waits for the acknowledgement of the one before, as in a
        # bare client that must not lose calls.
        Verdict(
            f"{full} calls/s, {calls.FABRIC_NB}, to bare aiormq that acknowledges, prefetch 1",
            "at least",
            0.85,
            of(calls.FABRIC_NB, calls.REFERENCE_PREFETCH_1, full, rate),
        ),
        Verdict(
            f"caller CPU per call, {full}, to an amqp-fabric service, to amqp-fabric's caller",
            "at most",
            0.55,
            of(calls.FABRIC_NB_TO_AMQP_FABRIC, amqp_fabric, full, cpu),
        ),
    ]


def _streams(samples: Sequence[Sample]) -> list[Verdict]:
    verdicts = []
    for load in (streams.DRAIN, streams.LIVE):
        for name, bound, limit, to, metric in (
            ("messages/s, to bare aiormq", "at least", 0.90, streams.REFERENCE, rate),
            ("CPU per message, to bare aiormq", "at most", 1.15, streams.REFERENCE, cpu),
            ("messages/s, to amqp-fabric's callback", "at least", 1.6, streams.AMQP_FABRIC, rate),
        ):
            measured = ratio(samples, streams.FABRIC_NB, to, load, metric)
            verdicts.append(Verdict(f"stream, {load}: {name}", bound, limit, measured))  # type: ignore[arg-type]
    verdicts += [
        Verdict(
            f"stream, {streams.DRAIN}: rows/s into a DataFrame, to amqp091-go into maps",
            "at least",
            1.0,
            ratio(samples, streams.FABRIC_NB, streams.GO, streams.DRAIN, rate),
        ),
        Verdict(
            f"stream, {streams.DRAIN}: CPU per row, µs",
            "at most",
            7,
            Spread.of(map(cpu, _of(samples, streams.FABRIC_NB, streams.DRAIN))),
        ),
    ]
    batches = [sample for sample in samples if sample.kind == streams.ARROW]
    to_rows, to_seed = (
        ratio(samples, streams.ARROW, kind, streams.DRAIN, rate)
        for kind in (streams.FABRIC_NB, streams.AMQP_FABRIC)
    )
    return [
        *verdicts,
        Verdict("Arrow batches, rows/s", "at least", 500_000, Spread.of(map(rate, batches))),
        Verdict("Arrow batches, rows/s, to one row per message", "at least", 100, to_rows),
        Verdict("Arrow batches, rows/s, to amqp-fabric's callback", "at least", 100, to_seed),
    ]


def _of(samples: Sequence[Sample], kind: str, load: str) -> list[Sample]:
    return [sample for sample in samples if sample.kind == kind and sample.load == load]


def _frames(figures: dict[str, Any]) -> list[Verdict]:
    growth = memory = None
    if figures:
        growth = figures["refresh_growth"]["FrameBuffer"]
        bytes_per_row = figures["bytes_per_row"]
        memory = bytes_per_row["FrameBuffer, median"] / bytes_per_row["DataFrame at once"]
    return [
        Verdict(
            "refresh after 1,000 new rows, maximum rows to 1e3 rows",
            "at most",
            REFRESH_GROWTH,
            None if growth is None else Spread.of([growth]),
        ),
        Verdict(
            "memory per row, to a DataFrame built at once",
            "at most",
            MEMORY_RATIO,
            None if memory is None else Spread.of([memory]),
        ),
    ]


def _start(runs: Sequence[Run]) -> list[Verdict]:
    def of(load: str, figure: Callable[[Run], float], kind: str = start.FABRIC_NB) -> list[float]:
        return [figure(run) for run in runs if (run.kind, run.load) == (kind, load)]

    def seconds(run: Run) -> float:
        return run.seconds

    def megabytes(run: Run) -> float:
        return run.megabytes

    verdicts = [
        Verdict(f"{load} of the connector, {unit}", "at most", limit, Spread.of(of(load, figure)))
        for load, unit, limit, figure in (
            (start.IMPORT, "s", 0.20, seconds),
            (start.IMPORT, "MB", 40, megabytes),
            (start.SERVICE, "MB", 40, megabytes),
        )
    ]
    for load, limit in (
        *((line, 0.12) for line in start.HELP),
        (start.CALL, 0.35),
        (start.ROW, 0.5),
        (start.SERVICES, 1.5),
    ):
        measured = Spread.of(of(load, seconds))
        verdicts.append(Verdict(f"fabric-nb {load}, s", "at most", limit, measured))
    kernel, served = of(start.SERVE, seconds, start.KERNEL), of(start.SERVE, seconds)
    beyond = [one - other for one, other in zip(served, kernel, strict=True)]
    name = f"fabric-nb {start.SERVE}, s beyond {start.KERNEL}"
    return [*verdicts, Verdict(name, "at most", 0.6, Spread.of(beyond))]
