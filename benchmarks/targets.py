"""What issue 4 asks for, and whether it is reached. Pure.

Not here: the two minutes with a view shown, which `benchmarks.notebook` runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks import calls, streams
from benchmarks.figures import Sample, Spread, cpu, rate, ratio
from benchmarks.frames import MEMORY_RATIO, REFRESH_GROWTH

Of = Callable[[Sample], float]


@dataclass(slots=True)
class Results:
    """What was measured; empty where a suite was left out."""

    calls: Sequence[Sample] = ()
    streams: Sequence[Sample] = ()
    frames: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and what was found; `found` is None when it was not measured."""

    what: str
    bound: Literal["at least", "at most"]
    limit: float
    found: Spread | None

    @property
    def met(self) -> bool | None:
        """Whether the median reaches it."""
        if self.found is None:
            return None
        if self.bound == "at least":
            return self.found.median >= self.limit
        return self.found.median <= self.limit


def judge(results: Results) -> list[Verdict]:
    """Each target with its figure: ratios within a round, the median over the rounds."""
    return [*_calls(results.calls), *_streams(results.streams), *_frames(results.frames)]


def _calls(samples: Sequence[Sample]) -> list[Verdict]:
    sequential, *_, full = calls.IN_FLIGHT

    def of(kind: str, to: str, load: str, what: Of) -> Spread | None:
        return ratio(samples, kind, to, load, what)

    bare, seed = calls.REFERENCE, calls.SEED
    verdicts = [
        Verdict(
            f"{sequential} calls/s, both ends fabric_nb, to bare aiormq",
            "at least",
            0.90,
            of(calls.OURS, bare, sequential, rate),
        )
    ]
    for kind in (calls.OURS, calls.OURS_WIDE):
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
                of(kind, seed, full, rate),
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
        # With a prefetch of 1 each call waits for the broker to hear of the one before: so does
        # the bare client, when it must not lose one.
        Verdict(
            f"{full} calls/s, {calls.OURS}, to bare aiormq that acknowledges, prefetch 1",
            "at least",
            0.85,
            of(calls.OURS, calls.REFERENCE_NARROW, full, rate),
        ),
        Verdict(
            f"caller CPU per call, {full}, to an amqp-fabric service, to amqp-fabric's caller",
            "at most",
            0.55,
            of(calls.OURS_TO_SEED, seed, full, cpu),
        ),
    ]


def _streams(samples: Sequence[Sample]) -> list[Verdict]:
    verdicts = []
    for load in (streams.DRAIN, streams.LIVE):
        for what, bound, limit, to, of in (
            ("messages/s, to bare aiormq", "at least", 0.90, streams.REFERENCE, rate),
            ("CPU per message, to bare aiormq", "at most", 1.15, streams.REFERENCE, cpu),
            ("messages/s, to amqp-fabric's callback", "at least", 1.6, streams.SEED, rate),
        ):
            found = ratio(samples, streams.OURS, to, load, of)
            verdicts.append(Verdict(f"stream, {load}: {what}", bound, limit, found))  # type: ignore[arg-type]
    batches = [sample for sample in samples if sample.kind == streams.ARROW]
    to_rows, to_seed = (
        ratio(samples, streams.ARROW, other, streams.DRAIN, rate)
        for other in (streams.OURS, streams.SEED)
    )
    return [
        *verdicts,
        Verdict("Arrow batches, rows/s", "at least", 500_000, Spread.of(map(rate, batches))),
        Verdict("Arrow batches, rows/s, to one row per message", "at least", 100, to_rows),
        Verdict("Arrow batches, rows/s, to amqp-fabric's callback", "at least", 100, to_seed),
    ]


def _frames(found: dict[str, Any]) -> list[Verdict]:
    growth = memory = None
    if found:
        growth = found["refresh_growth"]["FrameBuffer"]
        held = found["bytes_per_row"]
        memory = held["FrameBuffer, median"] / held["DataFrame at once"]
    return [
        Verdict(
            "refresh after 1,000 new rows, most rows held to 1e3 held",
            "at most",
            REFRESH_GROWTH,
            None if growth is None else Spread.of([growth]),
        ),
        Verdict(
            "memory per held row, to a DataFrame made at once",
            "at most",
            MEMORY_RATIO,
            None if memory is None else Spread.of([memory]),
        ),
    ]
