"""Marks of an axis: positions and labels. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

_SECONDS = [
    *(factor * 10.0**power for power in range(-6, 0) for factor in (1, 2, 5)),
    *(1.0, 2.0, 5.0, 10.0, 15.0, 30.0),
    *(60.0 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(3600.0 * hours for hours in (1, 2, 3, 6, 12)),
    *(86400.0 * days for days in (1, 2, 7, 14)),
]
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


def time_ticks(low: float, high: float, count: int) -> list[Tick]:
    """Return about `count` ticks at round times in a range of Unix times.

    Example:
        >>> [tick.text for tick in time_ticks(0.0, 150.0, 4)]
        ['00:00', '00:01', '00:02']
    """
    least = (high - low) / max(1, count)
    step = next((step for step in _SECONDS if step >= least), None)
    if step is None:
        return _month_ticks(low, high, least)
    # Weeks begin on Mondays; 1970 began on a Thursday.
    offset = 4 * 86400 if step >= 7 * 86400 else 0
    first, last = math.ceil((low - offset) / step), math.floor((high - offset) / step)
    times = [n * step + offset for n in range(first, last + 1)]
    return [Tick((time - low) / (high - low), time_text(time, step)) for time in times]


def _month_ticks(low: float, high: float, least: float) -> list[Tick]:
    months = next((months for months in _MONTHS if months * _MONTH >= least), _MONTHS[-1])
    first = np.datetime64(int(low), "s").astype("M8[M]").astype(int)
    last = np.datetime64(int(high), "s").astype("M8[M]").astype(int)
    ticks = []
    for month in range(-(-first // months) * months, last + 1, months):
        time = np.datetime64(month, "M").astype("M8[s]").astype(int)
        if low <= time <= high:
            name = str(np.datetime64(month, "M"))
            ticks.append(Tick((time - low) / (high - low), name[:4] if months >= 12 else name))
    return ticks


def time_text(seconds: float, step: float) -> str:
    """Format a Unix time with a resolution of `step` seconds."""
    whole = math.floor(seconds + 1e-9)
    time = datetime.fromtimestamp(whole, UTC)
    if step >= 86400:
        return f"{time:%b} {time.day}"
    if step >= 60:
        return f"{time:%H:%M}"
    digits = 0 if step >= 1 else max(1, -math.floor(math.log10(step) + 1e-9))
    fraction = f"{max(0.0, seconds - whole):.{digits}f}"[1:] if digits else ""
    return f"{time:%H:%M:%S}{fraction}"


def days_text(low: float, high: float) -> str:
    """Return the date, or the first and the last date, of a range of Unix times."""
    first, last = (f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d}" for time in (low, high))
    return first if first == last else f"{first} to {last}"
