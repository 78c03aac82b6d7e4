"""Marks of an axis: positions and labels. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fabric_nb.notebook.plot.wall_clock import UTC_CLOCK, WallClock

_SECONDS = [
    *(factor * 10.0**power for power in range(-6, 0) for factor in (1, 2, 5)),
    *(1.0, 2.0, 5.0, 10.0, 15.0, 30.0),
    *(60.0 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(3600.0 * hours for hours in (1, 2, 3, 6, 12)),
    *(86400.0 * days for days in (1, 2, 7, 14)),
]
_DAY = 86400.0
_UNITS = (("day", _DAY), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
_MONTHS = (1, 3, 6, 12, 24, 60, 120, 300, 600, 1200)
_MONTH = 30.44 * 86400


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis.

    Attributes:
        position: position on the axis, from 0 to 1.
        text: label.
    """

    position: float
    text: str


def step_of(span: float, count: int) -> float:
    """Return the smallest round step, of which at most `count` fit into a span.

    Round steps are one, two or five times a power of ten.

    Example:
        >>> step_of(100, 6)
        20.0
    """
    least = span / max(1, count)
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def number_ticks(low: float, high: float, count: int) -> list[Tick]:
    """Return about `count` ticks at round numbers in a range.

    Example:
        >>> [tick.text for tick in number_ticks(0.0, 10_000.0, 4)]
        ['0', '5,000', '10,000']
    """
    span = high - low
    step = step_of(span, count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [
        Tick((n * step - low) / span, number_text(n * step, step)) for n in range(first, last + 1)
    ]


def number_text(value: float, step: float) -> str:
    """Format a number with the digits that a resolution of `step` needs."""
    if abs(value) >= 1e12 or step < 1e-9:
        return f"{value:.6g}"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}" if round(value, digits) else f"{0:.{digits}f}"


def time_step(span: float, count: int) -> float:
    """Return the smallest round step in seconds, of which about `count` fit into a span.

    Steps above a fortnight are rounded to days.

    Example:
        >>> time_step(3600, 4)
        900.0
    """
    least = span / max(1, count)
    fitting = next((step for step in _SECONDS if step >= least), None)
    return _DAY * math.ceil(least / _DAY) if fitting is None else fitting


def time_ticks(low: float, high: float, count: int, clock: WallClock = UTC_CLOCK) -> list[Tick]:
    """Return about `count` ticks at round local times in a range of Unix times.

    Example:
        >>> [tick.text for tick in time_ticks(0.0, 150.0, 4)]
        ['00:00', '00:01', '00:02']
    """
    least = (high - low) / max(1, count)
    step = next((step for step in _SECONDS if step >= least), None)
    if step is None:
        return _month_ticks(low, high, least, clock)
    offset = clock.offset(low)
    # Weeks begin on Mondays; 1970 began on a Thursday.
    begin = 4 * _DAY if step >= 7 * _DAY else 0
    first = math.ceil((low + offset - begin) / step)
    last = math.floor((high + offset - begin) / step)
    times = [n * step + begin - offset for n in range(first, last + 1)]
    if step >= _DAY:  # days begin at midnight, also after a change to daylight-saving time
        times = [clock.unix(time + offset) for time in times]
    return [
        Tick((time - low) / (high - low), time_text(time, step, clock))
        for time in times
        if low <= time <= high
    ]


def _month_ticks(low: float, high: float, least: float, clock: WallClock) -> list[Tick]:
    months = next((months for months in _MONTHS if months * _MONTH >= least), _MONTHS[-1])
    first = np.datetime64(int(low), "s").astype("M8[M]").astype(int)
    last = np.datetime64(int(high), "s").astype("M8[M]").astype(int)
    ticks = []
    for month in range(-(-first // months) * months, last + 1, months):
        time = clock.unix(int(np.datetime64(month, "M").astype("M8[s]").astype(int)))
        if low <= time <= high:
            name = str(np.datetime64(month, "M"))
            ticks.append(Tick((time - low) / (high - low), name[:4] if months >= 12 else name))
    return ticks


def time_text(seconds: float, step: float, clock: WallClock = UTC_CLOCK) -> str:
    """Format a Unix time as a local time with a resolution of `step` seconds."""
    whole = math.floor(seconds + 1e-9)
    time = clock.at(whole)
    if step >= _DAY:
        return f"{time:%b} {time.day}"
    if step >= 60:
        return f"{time:%H:%M}"
    digits = 0 if step >= 1 else max(1, -math.floor(math.log10(step) + 1e-9))
    fraction = f"{max(0.0, seconds - whole):.{digits}f}"[1:] if digits else ""
    return f"{time:%H:%M:%S}{fraction}"


def duration_text(seconds: float) -> str:
    """Return a duration in its largest whole unit.

    Example:
        >>> duration_text(60), duration_text(0.25), duration_text(90)
        ('1 min', '250 ms', '90 s')
    """
    for unit, size in _UNITS:
        count = round(seconds / size)
        if count >= 1 and abs(seconds / size - count) < 1e-6:
            return f"{count:,} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    return f"{seconds:g} s"


def days_text(low: float, high: float, clock: WallClock = UTC_CLOCK) -> str:
    """Return the date, or the first and the last date, of a range of Unix times."""
    first, last = (f"{clock.at(time):%Y-%m-%d}" for time in (low, high))
    return first if first == last else f"{first} to {last}"
