"""What counts as a time, as datetime64 and back to how it was written; many at a time, and pure.

Three things may be times: text, datetime objects, and numbers if a unit is given for them. Whatever
has a zone, and each number since 1970, is held in UTC. A `Form` knows the way back, so that a
column which turns out not to be one of times after all has lost nothing.

What counts as text for a time is narrow, so that a part number does not become one: ``2024-05-31``,
or with a time of day ``2024-05-31T12:30:00``, after a ``T`` or one space, with up to nine digits of
a second and a zone of ``Z`` or ``+02:00``. Texts with a zone and texts without do not mix.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

Array: TypeAlias = npt.NDArray[Any]
Unit: TypeAlias = Literal["s", "ms", "us", "ns"]

NANOSECONDS: dict[Unit, int] = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}

TEXT = frozenset({str})
NUMBERS = frozenset({int, float})
_NUMBER_DTYPES = {int: np.int64, float: np.float64}
DATETIMES = frozenset({datetime, pd.Timestamp})

# More ways to write a time than this in one column is nothing that a clock sent.
MAX_FORMS = 255

# What is left of a time when each of its digits is written as 0, save those of the zone's offset.
_LAYOUT = re.compile(
    r"0000-00-00(?:([T ])00:00:00(?:\.(0{1,9}))?(Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?)?"
)
_ZEROS = str.maketrans("123456789", "000000000")

# Years of more than four digits cannot be written back; datetime64[ns] holds but a part of 1677.
_YEARS_US = (1, 9999)
_YEARS_NS = (1678, 2261)


class Form(Protocol):
    """How values were written before they became numbers; knows the way back."""

    def restored(self, values: Array) -> list[Any]:
        """The originals of values none of which is missing."""


@dataclass(frozen=True, slots=True)
class Times:
    """Values as times.

    Attributes:
        values: datetime64[us], or datetime64[ns] where that is needed; NaT for what is missing.
        zoned: Whether they are in UTC, rather than without a zone.
        forms: The ways in which they were written.
        codes: The place of each value in `forms`; None if there is one form only.
    """

    values: Array
    zoned: bool
    forms: tuple[Form, ...]
    codes: Array | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """A datetime object or a datetime64."""

    zoned: bool

    def restored(self, values: Array) -> list[pd.Timestamp]:
        """Timestamps: in UTC if they came with a zone."""
        return list(pd.DatetimeIndex(values).tz_localize("UTC" if self.zoned else None))


@dataclass(frozen=True, slots=True)
class Epoch:
    """A number of units since 1970.

    Attributes:
        number: What kind of number.
        unit: Nanoseconds in one unit.
    """

    number: type[int] | type[float]
    unit: int

    def restored(self, values: Array) -> list[int] | list[float]:
        """The numbers; floats exactly from April 1970 on, nearer to zero to the nanosecond."""
        whole, rest = np.divmod(values.astype("M8[ns]").view(np.int64), self.unit)
        numbers = whole if self.number is int else whole.astype(np.float64) + rest / self.unit
        restored: list[int] | list[float] = numbers.tolist()
        return restored


@dataclass(frozen=True, slots=True)
class Iso:
    """One way to write a time.

    Attributes:
        separator: Between date and time of day: ``T``, a space, or nothing for a date alone.
        digits: Of the second's fraction: 0 to 9.
        zone: ``Z``, an offset such as ``+02:00``, or nothing.
    """

    separator: str
    digits: int
    zone: str

    def restored(self, values: Array) -> list[str]:
        """The texts that were read as these values."""
        local_times = (values + self._offset).astype(values.dtype)
        local: list[str] = np.datetime_as_string(local_times).tolist()
        if not self.separator:
            return [text[:10] for text in local]
        end = 20 + self.digits if self.digits else 19
        return [f"{text[:10]}{self.separator}{text[11:end]}{self.zone}" for text in local]

    @property
    def unit(self) -> Literal["us", "ns"]:
        """The unit of the values: microseconds, if the digits allow."""
        return "ns" if self.digits > 6 else "us"

    def read(self, texts: Sequence[str]) -> Array | None:
        """The values of texts written in this way, None if one is not a time, such as month 13."""
        # Arithmetic on the digits, a whole column of them at a time: several times faster than
        # numpy's own reader, which also warns of zones.
        letters = np.frombuffer("".join(texts).encode("ascii"), dtype=np.uint8)
        figures = np.ascontiguousarray(letters.reshape(len(texts), -1).T) - np.uint8(ord("0"))

        def number(start: int, stop: int) -> Array:
            value: Array = figures[start].astype(np.int64)
            for figure in figures[start + 1 : stop]:
                value = value * 10 + figure
            return value

        year, month, day = number(0, 4), number(5, 7), number(8, 10)
        months = ((year - 1970) * 12 + month - 1).view("M8[M]")
        dates = months.astype("M8[D]") + (day - 1)
        first, last = _YEARS_NS if self.unit == "ns" else _YEARS_US
        valid = (first <= year) & (year <= last) & (month >= 1) & (month <= 12) & (day >= 1)
        valid &= dates.astype("M8[M]") == months  # no 31st of June
        values = dates.astype(f"M8[{self.unit}]")
        if self.separator:
            hour, minute, second = number(11, 13), number(14, 16), number(17, 19)
            valid &= (hour < 24) & (minute < 60) & (second < 60)
            values += (hour * 3600 + minute * 60 + second).view("m8[s]")
        if self.digits:
            places = 9 if self.unit == "ns" else 6
            fraction = number(20, 20 + self.digits) * 10 ** (places - self.digits)
            values += fraction.view(f"m8[{self.unit}]")
        values -= self._offset
        # The offset may have moved the first or the last day out of the range.
        valid &= (values >= _new_year(first)) & (values < _new_year(last + 1))
        return values if valid.all() else None

    @property
    def _offset(self) -> np.timedelta64:
        if self.zone in {"", "Z"}:
            return np.timedelta64(0, "m")
        minutes = int(self.zone[1:3]) * 60 + int(self.zone[4:6])
        return np.timedelta64(-minutes if self.zone[0] == "-" else minutes, "m")


# -- text ------------------------------------------------------------------------------------------


def looks_like_time(text: str) -> bool:
    """Whether a text has the layout of a time, though it may say the 31st of June."""
    layouts = _layouts([text])
    return bool(layouts and _forms(layouts))


def from_text(texts: Sequence[str | None]) -> Times | None:
    """Read texts as times; None unless each of them is one, or if only some have a zone.

    Example:
        >>> from_text(["2024-05-31T12:30:00+02:00", None]).values
        array(['2024-05-31T10:30:00.000000',                        'NaT'],
              dtype='datetime64[us]')
    """
    present = [text for text in texts if text is not None]
    if not present or not looks_like_time(present[0]):
        return None
    layouts = _layouts(present)
    forms = _forms(layouts) if layouts else None
    if layouts is None or forms is None:
        return None
    unit = "ns" if any(form.unit == "ns" for form in forms.values()) else "us"
    values = np.full(len(texts), "NaT", dtype=f"M8[{unit}]")
    codes = np.zeros(len(texts), dtype=np.uint8)
    filled = np.arange(len(texts))
    if len(present) < len(texts):
        filled = filled[[text is not None for text in texts]]
    for code, (layout, form) in enumerate(forms.items()):
        rows, written = filled, present
        if len(forms) > 1:
            places = [place for place, other in enumerate(layouts) if other == layout]
            rows, written = filled[places], [present[place] for place in places]
        read = form.read(written)
        converted = None if read is None else _converted(read, unit)
        if converted is None:
            return None
        values[rows], codes[rows] = converted, code
    zoned = any(form.zone for form in forms.values())
    return Times(values, zoned, tuple(forms.values()), codes if len(forms) > 1 else None)


def _layouts(texts: Sequence[str]) -> list[str] | None:
    """The layout of each text; None if one has a line break, which is in no time."""
    layouts = "\n".join(texts).translate(_ZEROS).split("\n")
    if len(layouts) != len(texts):
        return None
    distinct = set(layouts)
    offsets = {layout for layout in distinct if len(layout) > 10 and layout[-6] in "+-"}
    if not offsets:
        return layouts
    zones = [text[-6:] for text in texts]
    if len(distinct) == len(set(zones)) == 1:
        # One service in one season: no need to build each layout.
        return [layouts[0][:-6] + zones[0]] * len(texts)
    return [
        layout[:-6] + zone if layout in offsets else layout
        for layout, zone in zip(layouts, zones, strict=True)
    ]


def _forms(layouts: Sequence[str]) -> dict[str, Iso] | None:
    """The way to write a time of each distinct layout; None if they do not fit in one column."""
    forms: dict[str, Iso] = {}
    for layout in dict.fromkeys(layouts):
        match = _LAYOUT.fullmatch(layout)
        if match is None or len(forms) == MAX_FORMS:
            return None
        forms[layout] = Iso(match[1] or "", len(match[2] or ""), match[3] or "")
    zoned = {bool(form.zone) for form in forms.values()}
    return forms if len(zoned) == 1 else None


def _new_year(year: int) -> np.datetime64:
    return np.datetime64(year - 1970, "Y")


# -- numbers ---------------------------------------------------------------------------------------


def from_numbers(values: Sequence[int | float | None], unit: Unit) -> Times | None:
    """Numbers of units since 1970 as times; None if one is outside what datetime64[ns] can say."""
    times = np.full(len(values), "NaT", dtype="M8[ns]")
    codes = np.zeros(len(values), dtype=np.uint8)
    forms: list[Epoch] = []
    for number, dtype in _NUMBER_DTYPES.items():
        rows = [row for row, value in enumerate(values) if type(value) is number]
        if not rows:
            continue
        try:
            numbers = np.array([values[row] for row in rows], dtype=dtype)
        except OverflowError:
            return None
        part = _nanoseconds(numbers, NANOSECONDS[unit])
        if part is None:
            return None
        times[rows], codes[rows] = part, len(forms)
        forms.append(Epoch(number, NANOSECONDS[unit]))
    return Times(times, True, tuple(forms), codes if len(forms) > 1 else None)


def from_number_array(numbers: Array, unit: Unit) -> Times | None:
    """The same for an array of int64 or float64, where NaN is missing."""
    number = float if numbers.dtype.kind == "f" else int
    times = _nanoseconds(numbers, NANOSECONDS[unit])
    return None if times is None else Times(times, True, (Epoch(number, NANOSECONDS[unit]),))


def _nanoseconds(numbers: Array, unit: int) -> Array | None:
    gaps = np.isnan(numbers)
    is_float = numbers.dtype.kind == "f"
    whole = np.where(gaps, 0, np.floor(numbers)) if is_float else numbers
    # One less: as a float the limit may round up, past what an int64 holds.
    limit = np.iinfo(np.int64).max // unit - 1
    if ((whole >= limit) | (whole <= -limit)).any():
        return None
    result = whole.astype(np.int64) * unit
    if is_float:
        result += np.rint(np.where(gaps, 0, numbers - whole) * unit).astype(np.int64)
    times = result.view("M8[ns]")
    times[gaps] = np.datetime64("NaT", "ns")
    return times


# -- datetime objects ------------------------------------------------------------------------------


def from_datetimes(values: Sequence[datetime | None]) -> Times | None:
    """Datetimes and Timestamps as times; None if only some have a zone or one is out of range."""
    zones = {value.tzinfo is not None for value in values if value is not None}
    if len(zones) != 1:
        return None
    unit: Literal["us", "ns"] = (
        "ns" if any(getattr(value, "nanosecond", 0) for value in values) else "us"
    )
    zoned = zones.pop()
    try:
        if zoned and all(value is None or value.tzinfo is UTC for value in values):
            values = [value and value.replace(tzinfo=None) for value in values]
        elif zoned:
            values = [value and pd.Timestamp(value).tz_convert(None) for value in values]
        index = pd.DatetimeIndex(list(values), dtype=f"datetime64[{unit}]")
    except (ValueError, OverflowError):
        return None
    return Times(index.to_numpy(), zoned, (Moment(zoned),))


def from_datetime_array(array: Array, *, zoned: bool) -> Times | None:
    """A datetime64 array as times; None if microseconds cannot say it."""
    unit = "ns" if np.datetime_data(array.dtype)[0] == "ns" else "us"
    times = _converted(array, unit)
    return None if times is None else Times(times, zoned, (Moment(zoned),))


# -- together --------------------------------------------------------------------------------------


def from_mixed(values: Sequence[Any], unit: Unit | None) -> Times | None:
    """Text, datetimes and, with a unit, numbers in one column; None unless all are times alike."""
    parts = []
    for types in (TEXT, DATETIMES, NUMBERS):
        own = [value if type(value) in types else None for value in values]
        if all(value is None for value in own):
            continue
        if types is NUMBERS:
            part = from_numbers(own, unit) if unit else None
        else:
            part = from_text(own) if types is TEXT else from_datetimes(own)
        if part is None:
            return None
        parts.append(part)
    return _merged(parts)


def _merged(parts: Sequence[Times]) -> Times | None:
    """Readings of different rows as one."""
    forms = tuple(form for part in parts for form in part.forms)
    if len({part.zoned for part in parts}) > 1 or len(forms) > MAX_FORMS:
        return None
    unit = "ns" if any(part.values.dtype == "M8[ns]" for part in parts) else "us"
    merged = np.full(len(parts[0].values), "NaT", dtype=f"M8[{unit}]")
    codes = np.zeros(len(merged), dtype=np.uint8)
    for part in parts:
        values = _converted(part.values, unit)
        if values is None:
            return None
        rows = ~np.isnat(values)
        merged[rows] = values[rows]
        codes[rows] = forms.index(part.forms[0])
        if part.codes is not None:
            codes[rows] += part.codes[rows]
    return Times(merged, parts[0].zoned, forms, codes)


def in_nanoseconds(values: Array) -> Array | None:
    """Times as datetime64[ns]; None if one lies outside 1677 to 2262."""
    return _converted(values, "ns")


def _converted(values: Array, unit: str) -> Array | None:
    try:
        converted = values.astype(f"M8[{unit}]", copy=False)
    except OverflowError:  # from numpy 2.5 on
        return None
    # Before, what overflows wraps around, so the way back shows it.
    lost = (converted.astype(values.dtype) != values) & ~np.isnat(values)
    return None if lost.any() else converted


def moments(seconds: pd.Series[Any]) -> pd.Series[Any]:
    """Return seconds since 1970 as times in UTC and whole milliseconds.

    A float of today tells nine digits of a second, of which all but the first are noise.
    """
    whole = (seconds.astype("float64") * 1000).round().astype("int64").astype("datetime64[ms]")
    return whole.dt.tz_localize("UTC")
