"""Conditions on the values of a column, as they are written in a filter. Pure.

Numbers::

    > 5             above 5
    5..10           from 5 to 10, both included; 5.. and ..10 are open at one end
    >= 5 < 10       both conditions
    5, = 5, != 5    equal, or not; a fraction is compared at the digits that a table shows

Times, as a table shows them (in UTC, if the column has a zone)::

    2026-11-30              on this day; 2026-11 is in this month
    > 2026-11-30 12:30      after this minute
    12:00..12:59            from 12:00 to the end of 12:59, on any day
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

import numpy as np

from fabric_nb.errors import InvalidArgument
from fabric_nb.frames.time_conversion import Array

Operator = Literal["<", "<=", ">", ">=", "=", "!=", ".."]

NumberTest = Callable[[Array], Array]
"""Returns a mask of the numbers that fulfil the conditions; missing ones do not."""
TimeTest = Callable[[Array, int], Array]
"""Returns a mask of the times, given as integers of a unit of so many nanoseconds since 1970."""

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
"""Nanoseconds of a second, and of a day."""

_WORD = re.compile(r"<=|>=|!=|==|=|<|>|\.\.|(?:(?!\.\.)[^\s<>=!;])+|[!;]")
_OPERATORS: dict[str, Operator] = {
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
    "=": "=",
    "==": "=",
    "!=": "!=",
}
_NUMBER = re.compile(r"[-+]?(?:\d[\d,_]*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")
_DATE = re.compile(r"(\d{4})-(\d{1,2})(?:-(\d{1,2}))?")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?(Z|[+-]\d{2}:?\d{2})?")
_MAX_SHOWN = 40
"""Maximum characters of a filter that an error repeats."""


class _Comparison(NamedTuple):
    """One condition: an operator and its values; `low` or `high` is empty for an open range."""

    operator: Operator
    low: str
    high: str


def number_test(text: str) -> NumberTest:
    """Return a test for conditions on numbers.

    Raises:
        InvalidArgument: the text is none.
    """
    return _all([_number_comparison(each) for each in _comparisons(text, "number", "> 5 or 5..10")])


def time_test(text: str) -> TimeTest:
    """Return a test for conditions on times.

    Raises:
        InvalidArgument: the text is none.
    """
    example = "> 12:30 or 2026-11-30"
    tests = [_time_comparison(each) for each in _comparisons(text, "time", example)]

    def test(times: Array, unit: int) -> Array:
        mask: Array = times != np.iinfo(np.int64).min  # NaT
        for each in tests:
            mask &= each(times, unit)
        return mask

    return test


def _comparisons(text: str, noun: str, example: str) -> Sequence[_Comparison]:
    found = list(_parsed(text, noun, example))
    if not found:
        raise InvalidArgument(f"This filter is empty: write {example}.")
    return found


def _parsed(text: str, noun: str, example: str) -> Iterator[_Comparison]:
    words = _joined_times(_WORD.findall(text))
    while words:
        word = words.pop(0)
        if word in ("and", ",", ";"):
            continue
        if word in _OPERATORS:
            if not words or _is_sign(words[0]):
                raise InvalidArgument(f"A {noun} is missing after {word}: write {example}.")
            yield _Comparison(_OPERATORS[word], words.pop(0), "")
        elif words[:1] == [".."] or word == "..":
            low = "" if word == ".." else word
            if low:
                words.pop(0)
            high = words.pop(0) if words and not _is_sign(words[0]) else ""
            if not (low or high):
                raise InvalidArgument(f"A {noun} is missing beside ..: write {example}.")
            yield _Comparison("..", low, high)
        else:
            yield _Comparison("=", word, "")


def _is_sign(word: str) -> bool:
    return word in _OPERATORS or word in ("..", ",", ";", "and")


def _joined_times(words: list[str]) -> list[str]:
    """Join a date with the time of day that follows it."""
    joined: list[str] = []
    for word in words:
        if joined and _DATE.fullmatch(joined[-1]) and _CLOCK.fullmatch(word):
            joined[-1] += f" {word}"
        else:
            joined.append(word)
    return joined


def _all(tests: Sequence[NumberTest]) -> NumberTest:
    def test(values: Array) -> Array:
        mask = np.ones(len(values), dtype=bool)
        for each in tests:
            mask &= each(values)
        return mask

    return test


# -- numbers


def _number_comparison(comparison: _Comparison) -> NumberTest:
    low = _number(comparison.low) if comparison.low else -math.inf
    high = _number(comparison.high) if comparison.high else math.inf
    match comparison.operator:
        case "<":
            return lambda values: values < low
        case "<=":
            return lambda values: values <= low
        case ">":
            return lambda values: values > low
        case ">=":
            return lambda values: values >= low
        case "=":
            return lambda values: _shown_as(values, low)
        case "!=":
            return lambda values: ~_shown_as(values, low) & (values == values)
    return lambda values: (values >= low) & (values <= high)


def _number(text: str) -> float:
    """Return a number, as an int if it is one that int64 represents."""
    if not _NUMBER.fullmatch(text):
        raise InvalidArgument(f"{_quoted(text)} is no number: write > 5 or 5..10.")
    digits = text.replace(",", "").replace("_", "")
    try:
        whole = int(digits)
    except ValueError:
        return float(digits)
    return whole if abs(whole) < 2**63 else float(digits)


def _shown_as(values: Array, number: float) -> Array:
    """Return a mask of the values that a table shows like a number, with six digits."""
    if values.dtype.kind != "f" or number == 0 or not math.isfinite(number):
        equal: Array = values == number
        return equal
    digits = max(-300, math.floor(math.log10(abs(number))) - 5)
    tolerance = 0.5 if abs(number) >= 1e6 else 0.5 * 10.0**digits
    difference: Array = np.abs(values - number)
    near: Array = difference <= max(tolerance, abs(number) * 1e-15)
    return near


# -- times


def _time_comparison(comparison: _Comparison) -> TimeTest:
    low = _moment(comparison.low) if comparison.low else None
    high = _moment(comparison.high) if comparison.high else None
    if low and high and low.is_clock != high.is_clock:
        raise InvalidArgument(
            f"{_quoted(comparison.low)} and {_quoted(comparison.high)} are no range: write two"
            " times of day, or two dates."
        )
    first, last = low or _EARLIEST, high or _LATEST
    match comparison.operator:
        case "<":
            start, end = _EARLIEST.start, first.start
        case "<=":
            start, end = _EARLIEST.start, first.end
        case ">":
            start, end = first.end, _LATEST.end
        case ">=":
            start, end = first.start, _LATEST.end
        case "..":
            start, end = first.start, last.end
        case _:
            start, end = first.start, first.end

    def test(times: Array, unit: int) -> Array:
        values = times % (DAY // unit) if (low or last).is_clock else times
        within = (values >= _ceiled(start, unit)) & (values < _ceiled(end, unit))
        return ~within if comparison.operator == "!=" else within

    return test


class _Moment(NamedTuple):
    """A time as it is written: from `start` up to before `end`, in nanoseconds.

    Attributes:
        start: nanoseconds since 1970 in UTC, or of the day.
        end: the same.
        is_clock: True for a time of day.
    """

    start: int
    end: int
    is_clock: bool


_EARLIEST = _Moment(-(2**80), -(2**80), is_clock=False)
_LATEST = _Moment(2**80, 2**80, is_clock=False)


def _ceiled(nanoseconds: int, unit: int) -> int:
    """Return the number of units from which on a time is not before so many nanoseconds."""
    bounds = np.iinfo(np.int64)
    return max(int(bounds.min) + 1, min(int(bounds.max), -(-nanoseconds // unit)))


def _moment(text: str) -> _Moment:
    day, _, clock = text.replace("T", " ").partition(" ")
    try:
        if _CLOCK.fullmatch(day) and not clock:
            start, end, offset = _clock(day)
            if not offset:
                return _Moment(start, end, is_clock=True)
        elif found := _DATE.fullmatch(day):
            return _dated(found, clock)
    except ValueError:  # the 31st of February, or 25 o'clock
        pass
    raise InvalidArgument(
        f"{_quoted(text)} is no time: write 12:30, 2026-11-30 or 2026-11-30 12:30."
    )


def _dated(found: re.Match[str], clock: str) -> _Moment:
    year, month, day = int(found[1]), int(found[2]), int(found[3] or 1)
    first = datetime(year, month, day, tzinfo=UTC)
    midnight = (first - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    if clock:
        start, end, offset = _clock(clock)
        return _Moment(midnight + start - offset, midnight + end - offset, is_clock=False)
    if found[3]:
        return _Moment(midnight, midnight + DAY, is_clock=False)
    following = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return _Moment(midnight, midnight + (following - first).days * DAY, is_clock=False)


def _clock(text: str) -> tuple[int, int, int]:
    """Return start, end and offset from UTC of a time of day, in nanoseconds.

    Raises:
        ValueError: it is none.
    """
    found = _CLOCK.fullmatch(text)
    if found is None or int(found[1]) > 23 or int(found[2]) > 59 or int(found[3] or 0) > 59:
        raise ValueError(text)
    start = (int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3] or 0)) * SECOND
    fraction = found[4] or ""
    start += int(fraction.ljust(9, "0")) if fraction else 0
    length = 10 ** (9 - len(fraction)) if fraction else SECOND if found[3] else 60 * SECOND
    zone = (found[5] or "Z").replace(":", "")
    offset = 0 if zone == "Z" else int(zone[1:3]) * 3600 + int(zone[3:]) * 60
    return start, start + length, (-offset if zone[0] == "-" else offset) * SECOND


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…")
