"""Local times of a zone: conversion from and to Unix times, and the zone's name. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a local time, of any zone
_OFFSET = re.compile(r"([+-]\d\d)(\d\d)?\Z")
_EARLIEST, _LATEST = -62_000_000_000, 253_000_000_000
"""Unix times that are dates in each zone, from the year 5 to the year 9987."""


@dataclass(frozen=True, slots=True)
class WallClock:
    """Local times of a zone.

    Attributes:
        zone: the zone; None for that of this machine.
        named: False for times whose zone is unknown, which are shown as they are.
    """

    zone: tzinfo | None = None
    named: bool = True

    def at(self, seconds: float) -> datetime:
        """Return the local time at a Unix time, to the second."""
        whole = min(_LATEST, max(_EARLIEST, seconds // 1))
        return datetime.fromtimestamp(whole, UTC).astimezone(self.zone)

    def offset(self, seconds: float) -> float:
        """Return the seconds by which the local time is ahead of UTC at a Unix time."""
        return (self.at(seconds).utcoffset() or timedelta()).total_seconds()

    def unix(self, local: float) -> float:
        """Return the Unix time of a local time, which is given in seconds since 1970."""
        return (_EPOCH + timedelta(seconds=local)).replace(tzinfo=self.zone).timestamp()

    def name(self, low: float, high: float) -> str:
        """Return the abbreviation of the zone, or both if it changes; empty for no zone.

        Example:
            >>> WallClock(ZoneInfo("Europe/Berlin")).name(1.76e9, 1.77e9)
            'CEST, CET'
        """
        if not self.named:
            return ""
        names = [self.at(moment).tzname() or "" for moment in (low, high)]
        return ", ".join(dict.fromkeys(_OFFSET.sub(_offset_text, name) for name in names))

    @property
    def key(self) -> str:
        """IANA name of the zone, as in ``Europe/Berlin``; empty for that of this machine."""
        return "UTC" if self.zone is UTC else getattr(self.zone, "key", "")


UTC_CLOCK = WallClock(UTC)
NO_ZONE = WallClock(UTC, named=False)
"""Clock of times without a zone."""


def clock_of(key: str) -> WallClock:
    """Return the clock of a zone with an IANA name; that of this machine if it is unknown."""
    try:
        return WallClock(ZoneInfo(key))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return WallClock()


def _offset_text(found: re.Match[str]) -> str:
    """Return the name of a zone that has none, as in ``UTC+05:30``."""
    return f"UTC{found[1]}:{found[2] or '00'}"
