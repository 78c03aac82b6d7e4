"""Values as cells: encoded for the browser, and as text where there is none. Pure.

Both ways give the same text, so that a saved notebook shows what was seen. Text is cut and freed
of control characters here, whatever it came from; the browser only ever sets it as text.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal

from fabric_nb.notebook.pages import Badge, Cell, Code, plain

Kind = Literal["text", "number", "code", "badge", "time", "age"]
Value = str | int | float | Badge | None
"""What may stand in a cell. In any kind of column a `str` stands as it is."""
Wire = str | int | float | None | list[str]

TONES = frozenset({"good", "busy", "warn", "bad", "quiet"})
LARGEST_EXACT = 2**53
"""Whole numbers above this are not exact in a browser, so they travel as text."""
DAY = 86_400
END_OF_TIME = 253_402_128_000


@dataclass(frozen=True, slots=True)
class Column:
    """A column and how its values look.

    `Column("mean ms", "number", digits=1)` shows 1234.56 as ``1,234.6``.

    Attributes:
        label: what stands above it.
        kind: ``text``; ``number`` (to the right); ``code`` (the code font); ``badge`` (a `Badge`);
            ``time``, a moment in seconds since 1970, shown as local clock time; ``age``, such a
            moment shown as how long ago that is, counting up by itself.
        line: where the table is narrow, the line of the row on which the column stands, 1 or 2;
            0 leaves it out. Only tables that have a second line become narrow.
        digits: decimals of a number. By default whole numbers are whole and others have six
            significant digits.
    """

    label: str
    kind: Kind = "text"
    digits: int | None = None
    line: Literal[0, 1, 2] = 1


def encode(value: Value, column: Column) -> Wire:
    """A value for the browser: text or None, a number, or ``[text, tone]`` of a badge.

    Numbers are rounded as they are shown, so what looks the same is not sent again.
    """
    # The usual first: this runs for every cell that changes.
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, float):
        return _rounded(value, column) if math.isfinite(value) else str(float(value))
    if value is None:
        return None
    if isinstance(value, Badge):
        return [plain(value.text), known_tone(value).tone]
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value) if abs(value) <= LARGEST_EXACT else _whole(value)
    return plain(str(value))


def shown(value: Value, column: Column, now: float) -> Cell:
    """A value as it stands in a table without a browser, `now` in seconds since 1970."""
    if isinstance(value, Badge):
        return known_tone(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        text = _number(value, column, now)
    else:
        text = "" if value is None else str(value)
    return Code(text) if column.kind == "code" else text


def known_tone(badge: Badge) -> Badge:
    """The badge, in a tone that there is: it becomes part of the page's markup."""
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
    # Python refuses to write out thousands of digits, and nobody would read them.
    return f"{value:,}" if value.bit_length() < 400 else f"about 2^{value.bit_length() - 1}"


def clock(moment: float, now: float) -> str:
    """Local time of day, with the date when that is not today: ``13:05:09``.

    Peers may send any number; one that is no moment until the year 9999 is shown as a number.
    """
    if not 0 <= moment < END_OF_TIME:
        return f"{moment:.5e}".replace("e-0", "e-").replace("e+0", "e+")
    then, today = time.localtime(moment), time.localtime(now)
    return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%Y-%m-%d %H:%M:%S", then)


def ago(seconds: float) -> str:
    """How long ago: ``now``, ``5 s ago``, ``3 min ago``, ``2 h ago``, ``4 d ago``."""
    if seconds < 1:
        return "now"
    if seconds < 120:
        return f"{int(seconds)} s ago"
    if seconds < 7200:
        return f"{int(seconds / 60)} min ago"
    return f"{int(seconds / 3600)} h ago" if seconds < 2 * DAY else f"{int(seconds / DAY):,} d ago"
