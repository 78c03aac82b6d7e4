"""Options of a benchmark, and methods that are known to be safe. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fabric_nb.errors import InvalidArgument, InvalidArgumentType, InvalidName
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.core.values import shown, unboxed, whole
from fabric_nb.fabric.wire.names import ALL_INSTANCES, ServicePattern

DEFAULT_IN_FLIGHT, MAX_IN_FLIGHT = 16, 10_000
DEFAULT_SECONDS, MAX_SECONDS = 10.0, 86_400.0
DEFAULT_WARMUP = 0.5
MAX_CALLS, MAX_RATE = 1_000_000_000, 1_000_000.0
SAFE_METHODS = frozenset({"health_check"})
"""Methods that are measured without `repeatable`; every service has them, and they do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """Options of a benchmark.

    Attributes:
        in_flight: calls under way at the same time, up to 10,000; with `rate`, at most.
        seconds: duration, up to a day, in which calls that end are counted; None: 10 seconds, or
            without limit if there are `calls`.
        calls: number of calls, after which it ends; None: no limit.
        rate: calls that are due per second. Their latencies count from the time at which they are
            due, so that a call which waits for earlier ones counts as slow. None: each call begins
            when one before it has ended.
        warmup: seconds before, in which calls that end are not counted; None: half a second, or
            none if there are `calls`.
        timeout: seconds for each call; None: the connector's timeout, infinity: no limit.
        version: version that the service must have, as in ``>=1.2,<2``.
        repeatable: the method may be called thousands of times; `health_check` always may.

    Raises:
        InvalidArgument: an option has an invalid value.
        InvalidTimeout: `timeout` is negative, NaN or not a number.
    """

    in_flight: int = DEFAULT_IN_FLIGHT
    seconds: float | None = None
    calls: int | None = None
    rate: float | None = None
    warmup: float | None = None
    timeout: float | None = None
    version: str | None = None
    repeatable: bool = False

    def __post_init__(self) -> None:
        in_flight = whole(self.in_flight, "in_flight", low=1, high=MAX_IN_FLIGHT)
        self._set("in_flight", in_flight)
        if self.calls is not None:
            self._set("calls", whole(self.calls, "calls", low=1, high=MAX_CALLS))
        if self.calls is None and self.seconds is None:
            self._set("seconds", DEFAULT_SECONDS)
        if self.seconds is not None:
            self._set("seconds", _number(self.seconds, "seconds", high=MAX_SECONDS))
        if self.rate is not None:
            self._set("rate", _number(self.rate, "rate", high=MAX_RATE))
        if self.warmup is None:
            self._set("warmup", 0.0 if self.calls is not None else DEFAULT_WARMUP)
        elif unboxed(self.warmup) == 0:
            self._set("warmup", 0.0)
        else:
            if self.calls is not None:
                raise InvalidArgument(
                    f"warmup={shown(self.warmup)[1:-1]} would add calls to calls={self.calls}:"
                    " leave it out, or give seconds in place of calls."
                )
            self._set("warmup", _number(self.warmup, "warmup", high=MAX_SECONDS))
        time_limit(self.timeout)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def check(self, pattern: ServicePattern, method: str) -> None:
        """Refuse a method that is not known to be safe, and a name that means several instances.

        Raises:
            InvalidArgument: the method is not `repeatable`.
            InvalidName: the name means all instances.
        """
        if pattern.instance == ALL_INSTANCES:
            raise InvalidName(
                f"{pattern}.{method} calls all instances, and a benchmark measures one call at a"
                " time: leave out @* to measure all of them together, or write the id of one."
            )
        if not (self.repeatable or method in SAFE_METHODS):
            raise InvalidArgument(
                f"{pattern}.{method} would be called {self._amount}, with all its effects: if it"
                " may be, write repeatable=True, or --yes in a magic or command."
            )

    @property
    def _amount(self) -> str:
        if self.calls is not None:
            return f"{self.calls + 1:,} times"
        seconds = f"for {self.seconds:g} s, {self.in_flight:,} calls at a time"
        return seconds if self.rate is None else f"{self.rate:,g} times a second {seconds}"


def _number(value: Any, label: str, *, high: float) -> float:
    """Return a number greater than 0.

    Raises:
        InvalidArgumentType: it is no number.
        InvalidArgument: it is out of bounds, or NaN.
    """
    plain = unboxed(value)
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        raise InvalidArgumentType(f"{label} is a {type(value).__name__}, and it is a number.")
    if not 0 < plain <= high:
        raise InvalidArgument(
            f"{label} is {shown(value)[1:-1]}, and it is a number greater than 0, at most"
            f" {high:,g}."
        )
    return float(plain)
