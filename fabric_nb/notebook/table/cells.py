"""Cell values, encoded for the browser and rendered as text for static copies. Pure.

Both give the same text, so that a saved notebook shows the same as the browser did. All text is
truncated and stripped of control characters here; the browser inserts it as text, never as markup.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal

from fabric_nb.notebook.pages import Badge, Cell, Code, Spark, TimeBar, plain

Kind = Literal["text", "number", "code", "badge", "time", "age", "spark", "bar"]
Value = str | int | float | Badge | Spark | TimeBar | None
"""Value of a cell. A `str` is shown unchanged in any kind of column."""
Wire = str | int | float | None | list[str] | list[str | float] | list[int | str]

TONES = frozenset({"good", "busy", "warn", "bad", "quiet"})
LARGEST_EXACT = 2**53
"""Largest integer that is exact in a browser; larger ones are sent as text."""
ZERO, MAX_HEIGHT, GAP = ord("0"), 63, ord(" ")
"""Character of the height 0 of a sparkline, greatest height, and character of a gap."""
DAY = 86_400
YEAR_10000 = 253_402_128_000


@dataclass(frozen=True, slots=True)
class Column:
    """A column and its format.

    `Column("mean ms", "number", digits=1)` shows 1234.56 as ``1,234.6``.

    Attributes:
        label: column header.
        kind: ``text``; ``number`` (right-aligned); ``code`` (code font); ``badge`` (a `Badge`);
            ``time`` (Unix time in seconds, shown as local clock time); ``age`` (Unix time in
            seconds, shown as the time elapsed since, which the browser keeps counting); ``spark``
            (a `Spark`, shown as a small line); ``bar`` (a `TimeBar` on a common axis).
        line: line of the row, 1 or 2, in which a narrow table shows the column; 0 hides it. Only
            tables with a second line have a narrow layout.
        digits: decimals of a number. By default integers have none and other numbers have six
            significant digits.
    """

    label: str
    kind: Kind = "text"
    digits: int | None = None
    line: Literal[0, 1, 2] = 1


def encode(value: Value, column: Column) -> Wire:
    """Encode a value for the browser.

    It is a text, None, a number, ``[text, tone]`` of a badge, or ``[highest value, heights]`` of a
    sparkline, with a character for each height: from ``0`` (0) to ``o`` (63), or a space for a gap;
    or ``[start, begin, end, tone]`` of a bar, in thousandths.

    Numbers are rounded as they are shown, so that changes that are not visible are not sent.
    """
    # Most frequent types first, because this runs for every changed cell.
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, float):
        return _rounded(value, column) if math.isfinite(value) else str(float(value))
    if value is None:
        return None
    if isinstance(value, Badge):
        return [plain(value.text), with_valid_tone(value).tone]
    if isinstance(value, Spark):
        return _encoded_spark(value, column)
    if isinstance(value, TimeBar):
        return [*value.steps, "bad" if value.tone == "bad" else "quiet"]
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value) if abs(value) <= LARGEST_EXACT else _whole(value)
    return plain(str(value))


def shown(value: Value, column: Column, now: float) -> Cell:
    """Return the value as a cell of a static table; `now` is Unix time."""
    if isinstance(value, Badge):
        return with_valid_tone(value)
    if isinstance(value, (Spark, TimeBar)):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        text = _number(value, column, now)
    else:
        text = "" if value is None else str(value)
    return Code(text) if column.kind == "code" else text


def _encoded_spark(spark: Spark, column: Column) -> list[str | float] | None:
    peak = spark.peak
    if peak is None:
        return None
    scale = MAX_HEIGHT / (peak or 1.0)
    heights = bytes(
        ZERO + int(value * scale) if math.isfinite(value) else GAP for value in spark.values
    )
    return [_rounded(peak, column), heights.decode()]


def with_valid_tone(badge: Badge) -> Badge:
    """Return the badge with a valid tone, because the tone becomes part of the markup."""
    return badge if badge.tone in TONES else Badge(badge.text, "quiet")


def _number(value: float, column: Column, now: float) -> str:
    if isinstance(value, int) and abs(value) > LARGEST_EXACT:
        return _whole(value)
    if not math.isfinite(value):
        return str(float(value))
    match column.kind:
        case "time":
            return clock(value, now)
        case "age":
            return ago(now - value)
    size = abs(value)
    if size >= 1e16 or (column.digits is None and 0 < size < 1e-4):
        return f"{value:.5e}".replace("e-0", "e-")
    if column.digits is not None:
        return f"{value:,.{column.digits}f}"
    return f"{value:,.0f}" if isinstance(value, int) or size >= 1e6 else f"{value:,.6g}"


def _rounded(value: float, column: Column) -> float:
    if column.digits is not None:
        return round(float(value), column.digits)
    if column.kind in ("time", "age"):
        return round(float(value), 3)
    return float(f"{value:.0f}" if 1e6 <= abs(value) < 1e16 else f"{value:.6g}")


def _whole(value: int) -> str:
    # Python refuses to convert integers with thousands of digits.
    return f"{value:,}" if value.bit_length() < 400 else f"about 2^{value.bit_length() - 1}"


def clock(moment: float, now: float) -> str:
    """Return the local time, as in ``13:05:09``, with the date if that is not today.

    Numbers beyond the year 9999, which peers may send, are shown as numbers.
    """
    if not 0 <= moment < YEAR_10000:
        return f"{moment:.5e}".replace("e-0", "e-").replace("e+0", "e+")
    then, today = time.localtime(moment), time.localtime(now)
    return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%Y-%m-%d %H:%M:%S", then)


def ago(seconds: float) -> str:
    """Format an age: ``now``, ``5 s ago``, ``3 min ago``, ``2 h ago``, ``4 d ago``."""
    if seconds < 1:
        return "now"
    if seconds < 120:
        return f"{int(seconds)} s ago"
    if seconds < 7200:
        return f"{int(seconds / 60)} min ago"
    return f"{int(seconds / 3600)} h ago" if seconds < 2 * DAY else f"{int(seconds / DAY):,} d ago"
