"""Events of a timeline, and its length. Pure."""

from __future__ import annotations

import math
import re
import time
from datetime import timedelta
from typing import Literal, NamedTuple

from fabric_nb.errors import InvalidArgument
from fabric_nb.fabric.core.values import shown

EventKind = Literal[
    "made", "served", "traced", "came", "left", "gone", "back", "busy", "rows", "log"
]
"""Kind of an event: a call that the member has made or served, or a further one of its traces; what
became of an instance; rows of a stream that arrived one after the other; a log record."""

MIN_SECONDS, MAX_SECONDS = 1.0, 7 * 86_400.0
"""Shortest and longest timeline."""
MAX_TEXT = 200
"""Characters of the text of an event."""

_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_LENGTH = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]+)?\s*")


class TimelineEvent(NamedTuple):
    """TimelineEvent of a timeline.

    Attributes:
        time: its begin, in epoch seconds.
        lane: lane of the picture that it belongs to.
        kind: its kind.
        service: full name of its service; of a stream its headers.
        instance: instance of the service; empty if it is not known.
        method: called method.
        ms: duration in milliseconds; None if it has none.
        level: outcome of a call, level of a log record.
        text: error of a call, message of a log record.
        number: number of rows; 1 for any other event.
    """

    time: float
    lane: str
    kind: EventKind
    service: str = ""
    instance: str = ""
    method: str = ""
    ms: float | None = None
    level: str = ""
    text: str = ""
    number: int = 1

    @property
    def end(self) -> float:
        """Its end, in epoch seconds."""
        return self.time if self.ms is None else self.time + self.ms / 1000


def window_seconds(last: object) -> float:
    """Return the length of a timeline in seconds.

    Args:
        last: number of seconds, `timedelta`, or text such as ``"5min"``, ``"30s"``, ``"1h"``.

    Raises:
        InvalidArgument: it is none of these, or not between a second and a week.

    Example:
        >>> window_seconds("5min"), window_seconds("1.5 h"), window_seconds(30)
        (300.0, 5400.0, 30.0)
    """
    seconds = math.nan
    if isinstance(last, timedelta):
        seconds = last.total_seconds()
    elif isinstance(last, str):
        if (found := _LENGTH.fullmatch(last.lower())) is not None:
            number, unit = found.groups()
            seconds = float(number) * _UNITS.get(unit or "s", math.nan)
    elif not isinstance(last, bool):
        try:
            seconds = float(last)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            seconds = math.nan
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise InvalidArgument(
            f"last={shown(last)} is no length of a timeline: write '30s', '5min', '1h' or a number"
            " of seconds, from a second to a week."
        )
    return seconds


def clock_text(moment: float) -> str:
    """Return the local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(moment))
