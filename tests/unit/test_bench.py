"""Options, counting and text of benchmarks, without calls."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from fabric_nb.errors import (
    CallTimeout,
    InvalidArgument,
    InvalidArgumentType,
    InvalidName,
    InvalidTimeout,
    RemoteError,
)
from fabric_nb.fabric.rpc.bench_meter import (
    MAX_INSTANCES,
    MAX_TYPES,
    OTHER_INSTANCES,
    OTHER_TYPES,
    BenchMeter,
)
from fabric_nb.fabric.rpc.bench_options import BenchOptions
from fabric_nb.fabric.rpc.bench_result import BenchResult, BenchState
from fabric_nb.fabric.wire.names import parse_call
from tests.support.pages import CONTROLS, HOSTILE


class Clock:
    """Clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def started(seconds: float | None = None) -> tuple[BenchMeter, Clock]:
    clock, cpu = Clock(), Clock()
    meter = BenchMeter(clock, cpu)
    meter.start(seconds)
    return meter, clock


def result_of(meter: BenchMeter, state: BenchState = "done", **more: Any) -> BenchResult:
    facts: dict[str, Any] = {"reason": "", "unsent": 0, "options": BenchOptions()}
    return BenchResult(
        label="shop.pricing.quote",
        state=state,
        started=0.0,
        elapsed=meter.elapsed,
        calls=meter.calls,
        latency=meter.latency,
        errors_by_type=meter.errors_by_type,
        by_instance=meter.by_instance,
        by_second=meter.by_second,
        cancelled=meter.cancelled,
        **{"cpu": meter.cpu, **facts, **more},
    )


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"in_flight": 0}, InvalidArgument, "in_flight is 0, and it is a whole number from 1"),
        ({"in_flight": -1}, InvalidArgument, "to 10,000"),
        ({"in_flight": 10_001}, InvalidArgument, "to 10,000"),
        ({"in_flight": 1.5}, InvalidArgument, "whole number"),
        ({"seconds": math.nan}, InvalidArgument, "seconds is nan"),
        ({"seconds": -1}, InvalidArgument, "greater than 0"),
        ({"seconds": 0}, InvalidArgument, "greater than 0"),
        ({"seconds": math.inf}, InvalidArgument, "at most 86,400"),
        ({"seconds": "10"}, InvalidArgumentType, "seconds is a str"),
        ({"seconds": True}, InvalidArgumentType, "seconds is a bool"),
        ({"seconds": 10**400}, InvalidArgument, "at most 86,400"),
        ({"calls": 0}, InvalidArgument, "calls is 0"),
        ({"calls": 10**12}, InvalidArgument, "to 1,000,000,000"),
        ({"rate": 0}, InvalidArgument, "rate is 0"),
        ({"rate": math.inf}, InvalidArgument, "rate is inf"),
        ({"warmup": -1}, InvalidArgument, "warmup is -1"),
        ({"warmup": math.nan}, InvalidArgument, "warmup is nan"),
        ({"warmup": 1, "calls": 5}, InvalidArgument, "leave it out"),
        ({"timeout": -1}, InvalidTimeout, "timeout is -1"),
    ],
)
def test_invalid_options(options: dict[str, Any], error: type[Exception], text: str) -> None:
    """An option that cannot be used is named in one sentence, with its bounds."""
    with pytest.raises(error, match=text):
        BenchOptions(**options)


def test_defaults() -> None:
    """Without a number of calls it takes ten seconds, after half a second of warm-up."""
    assert (BenchOptions().seconds, BenchOptions().warmup) == (10, 0.5)
    counted = BenchOptions(calls=100)
    assert (counted.seconds, counted.warmup) == (None, 0)
    assert BenchOptions(calls=100, seconds=2, warmup=0).seconds == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "for 10 s, 16 calls at a time"),
        ({"calls": 1000}, "1,001 times"),
        ({"rate": 50, "seconds": 3}, "50 times a second for 3 s"),
    ],
)
def test_unsafe_methods_are_refused(options: dict[str, Any], text: str) -> None:
    """A method is called repeatedly only if that is asked for; the error says how often."""
    pattern, method = parse_call("pricing.order", domain="d")
    with pytest.raises(InvalidArgument, match=f"pricing.order would be called {text}") as caught:
        BenchOptions(**options).check(pattern, method)
    assert "repeatable=True" in str(caught.value)
    assert "--yes" in str(caught.value)
    BenchOptions(**options, repeatable=True).check(pattern, method)
    BenchOptions(**options).check(*parse_call("pricing.health_check", domain="d"))
    with pytest.raises(InvalidName, match="leave out @\\*"):
        BenchOptions(**options).check(*parse_call("pricing@*.health_check", domain="d"))


def test_counting() -> None:
    """Calls are counted by second and instance; the latencies are those that succeeded."""
    meter, clock = started(3.0)
    for number in range(40):
        clock.now += 0.05
        meter.succeed(clock.now - 0.010, "a" if number % 4 else "b")
    clock.now += 1.0
    meter.fail(CallTimeout("no answer"), "")
    meter.stop()
    clock.now += 100
    meter.succeed(clock.now - 1, "a")
    assert (meter.calls, meter.elapsed) == (41, pytest.approx(3.0))
    result = result_of(meter)
    assert (result.rate, result.errors) == (pytest.approx(41 / 3), 1)
    assert result.p50_ms == result.p99_ms == pytest.approx(10.0, rel=1e-3)
    seconds = result.df
    assert list(seconds) == ["second", "calls", "errors", "rate", "p50_ms", "p95_ms", "max_ms"]
    assert seconds.calls.tolist() in ([19, 20, 2], [20, 20, 1])  # sums of floats
    assert seconds.errors.tolist() == [0, 0, 1]
    assert result.instances.set_index("instance").calls.to_dict() == {"a": 30, "b": 10, "": 1}


def test_the_last_second_is_part_of_one() -> None:
    """The rate of the last second is that of its length, and it is not a fraction of nothing."""
    meter, clock = started(1.5)
    clock.now += 1.2
    meter.succeed(clock.now, "")
    clock.now += 0.3001
    meter.succeed(clock.now, "")
    meter.stop()
    assert [(row.calls, round(row.rate)) for row in meter.by_second] == [(0, 0), (2, 4)]
    meter, clock = started(1.0)
    clock.now += 1.0004  # the timer of the end is late
    meter.succeed(clock.now, "")
    meter.stop()
    assert [row.calls for row in meter.by_second] == [1]


def test_seconds_without_calls() -> None:
    """Seconds without calls have rows, but not a year of them after a machine slept."""
    meter, clock = started()
    clock.now += 5.5
    meter.succeed(clock.now, "")
    assert [row.calls for row in meter.by_second] == [0] * 5
    clock.now += 3e7
    meter.succeed(clock.now, "")
    meter.stop()
    assert sum(row.calls for row in meter.by_second) == 2
    assert len(meter.by_second) < 20


def test_types_and_instances_are_bounded() -> None:
    """Names that services invent take bounded memory and are shown without control characters."""
    meter, _ = started()
    for number in range(500):
        meter.fail(RemoteError(f"{HOSTILE}{number}", HOSTILE * 50), f"{HOSTILE}{number}" * 100)
        meter.fail(RemoteError("builtins.KeyError", "'tea'"), f"i{number}")
    meter.stop()
    result = result_of(meter)
    assert len(result.errors_by_type) == MAX_TYPES + 1
    assert result.errors_by_type["RemoteError (KeyError)"].calls == 500
    assert result.errors_by_type[OTHER_TYPES].calls > 400
    assert len(result.by_instance) == MAX_INSTANCES + 1
    assert OTHER_INSTANCES in {one.instance for one in result.by_instance}
    assert result.errors == result.calls == 1000
    assert not set(repr(result)) & set(CONTROLS)
    assert len(repr(result)) < 20_000
    assert not set(json.dumps(result.as_json(), ensure_ascii=False)) & set(CONTROLS)


def test_text() -> None:
    """As text it has the figures, the histogram, errors, instances and notes."""
    meter, clock = started()
    for ms in (1, 1, 2, 4):
        clock.now += 0.25
        meter.succeed(clock.now - ms / 1000, "7f3a90c1")
    meter.fail(KeyError("tea"), "7f3a90c1")
    meter.cancelled = 3
    meter.stop()
    result = result_of(meter, "interrupted", cpu=0.97, unsent=1200)
    head, _, names, values, _, *lines = repr(result).splitlines()
    assert head == (
        "shop.pricing.quote · interrupted · 1 failed · 5.0 calls/s · 5 calls in 1.0 s"
        " · 16 in flight"
    )
    assert names.split() == ["min", "mean", "p50", "p90", "p95", "p99", "max"]
    assert values.split("  ")[0] == "1.00 ms"
    assert len([line for line in lines if "█" in line]) == 3
    assert "1 KeyError: 'tea'" in lines
    assert lines[-3].startswith("1,200 calls were due and not sent, because 16 were under way")
    assert lines[-2:] == [
        "3 calls were under way at the end and were cancelled.",
        "This process used 97% of a core: it may limit the rate itself.",
    ]


def test_nothing_succeeded() -> None:
    """Without a call that succeeded there are no latencies, as text, JSON and DataFrames."""
    meter, _ = started()
    meter.fail(KeyError("tea"), "")
    meter.stop()
    result = result_of(meter, "stopped", reason="It was stopped.")
    assert repr(result).splitlines()[-1] == "It was stopped."
    assert result.as_json()["latency_ms"] == dict.fromkeys(
        ("min", "mean", "p50", "p90", "p95", "p99", "max")
    )
    json.dumps(result.as_json(), allow_nan=False)
    assert result.instances.p50_ms.isna().all()
    assert result.live_facts[1] == "1 failed"
    empty, _ = started()
    assert repr(result_of(empty)).startswith("shop.pricing.quote · done · 0.0 calls/s")
    assert len(result_of(empty).df) == 0
